//! Session tests: messages and events in, messages and commands out. Time is virtual.

mod backup;
mod ending;
mod hostile;
mod joining;
mod limits;
mod measured;
mod negotiating;
mod older_clients;
mod others;
mod permission;
mod publishing;
mod resuming;
mod simulating;
mod subscribing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use livekit_protocol as proto;
use livekit_protocol::request_response::Reason;
use livekit_protocol::signal_request::Message as Ask;
use livekit_protocol::signal_response::Message as Say;
use sfu_protocol::{
    Command, ConnectionMode, Event, LeaveReason, MediaKind, ParticipantSid, PublishedTrack, RoomSid,
    RosterChange, RosterEntry, Target, TrackSid,
};

use super::*;

const DUAL: ConnectionMode = ConnectionMode::Dual { subscriber_primary: true };
const DUAL_PUBLISHER: ConnectionMode = ConnectionMode::Dual { subscriber_primary: false };

/// Panics on a certain request, so that the socket tests can check how a panic is contained.
pub(super) fn panic_if_asked(ask: &Ask) {
    use proto::simulate_scenario::Scenario::SpeakerUpdate;
    if let Ask::Simulate(proto::SimulateScenario { scenario: Some(SpeakerUpdate(666)) }) = ask {
        panic!("as asked");
    }
}

fn me() -> ParticipantSid {
    ParticipantSid::new("PA_me")
}

fn room() -> RoomSid {
    RoomSid::new("RM_hall")
}

fn config(mode: ConnectionMode) -> SessionConfig {
    SessionConfig {
        server: Arc::default(),
        limits: Arc::default(),
        room: RoomDescription {
            sid: room(),
            name: "hall".into(),
            created_ms: 1_700_000_000_000,
            metadata: "about the hall".into(),
            sif_trailer: Bytes::from_static(b"trailer"),
            empty_timeout_s: 300,
            departure_timeout_s: 20,
            max_participants: 0,
            playout_delay: None,
        },
        sid: me(),
        participant: ParticipantDescription {
            identity: "me".into(),
            name: "Me".into(),
            metadata: "my metadata".into(),
            attributes: BTreeMap::from([("colour".into(), "red".into())]),
            kind: proto::participant_info::Kind::Standard,
            kind_details: vec![],
            permission: proto::ParticipantPermission {
                can_subscribe: true,
                can_publish: true,
                can_publish_data: true,
                ..Default::default()
            },
        },
        client: proto::ClientInfo { protocol: 17, client_protocol: 2, ..Default::default() },
        mode,
        auto_subscribe: true,
        adaptive_stream: false,
        never_pause: false,
        add_tracks: vec![],
        offer: None,
        unnoticed: Duration::from_secs(21),
        clock: WallClock { origin: Instant::now(), unix_ms: 1_800_000_000_000 },
        seed: 7,
    }
}

/// A session and its virtual time.
struct Rig {
    session: Session,
    now: Instant,
}

impl Rig {
    fn new(config: SessionConfig) -> Self {
        let now = config.clock.origin;
        Self { session: Session::new(now, config), now }
    }

    /// A session that has joined; its outputs so far are drained.
    fn joined(config: SessionConfig) -> Self {
        Self::joined_among(config, vec![])
    }

    fn joined_among(config: SessionConfig, roster: Vec<RosterEntry>) -> Self {
        let mut rig = Self::new(config);
        rig.sfu(Event::Joined { participant: me(), roster });
        rig
    }

    /// A session that has joined and is connected; its outputs so far are drained.
    fn active(config: SessionConfig) -> Self {
        let mut rig = Self::joined(config);
        let target = rig.session.primary();
        rig.sfu(Event::TransportConnected { participant: me(), target });
        rig
    }

    fn feed(&mut self, input: Input) -> Got {
        self.session.handle(self.now, input);
        self.drain()
    }

    fn ask(&mut self, ask: Ask) -> Got {
        self.feed(Input::Signal(Box::new(proto::SignalRequest { message: Some(ask) })))
    }

    fn sfu(&mut self, event: Event) -> Got {
        self.feed(Input::Sfu(event))
    }

    fn present(&mut self, info: &proto::ParticipantInfo) -> Got {
        self.sfu(Event::Roster { room: room(), change: RosterChange::Present(entry(info)) })
    }

    fn gone(&mut self, info: &proto::ParticipantInfo, reason: LeaveReason) -> Got {
        let RosterEntry { participant, info } = entry(info);
        self.sfu(Event::Roster { room: room(), change: RosterChange::Gone { participant, info, reason } })
    }

    /// Advances the virtual time and fires every timer on the way.
    fn pass(&mut self, time: Duration) -> Got {
        let end = self.now + time;
        let mut got = Got::default();
        while let Some(due) = self.session.poll_timeout().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.session.handle(self.now, Input::Timeout);
            got.append(self.drain());
        }
        self.now = end;
        got
    }

    fn drain(&mut self) -> Got {
        let mut got = Got::default();
        while let Some(output) = self.session.poll() {
            got.all.push(output);
        }
        got
    }

    /// Adds a track and lets its media arrive; returns its sid.
    fn publish(&mut self, cid: &str, kind: proto::TrackType, source: proto::TrackSource) -> TrackSid {
        let got = self.ask(Ask::AddTrack(add_track(cid, kind, source)));
        let sid = TrackSid::new(got.published()[0].1.sid.as_str());
        self.media(&sid, cid);
        sid
    }

    fn media(&mut self, sid: &TrackSid, cid: &str) -> Got {
        let video = sid.as_str().starts_with("TR_V");
        let track = PublishedTrack {
            track: sid.clone(),
            kind: if video { MediaKind::Video } else { MediaKind::Audio },
            mid: "7".into(),
            sdp_cid: cid.into(),
            mime_type: if video { "video/vp8" } else { "audio/opus" }.into(),
            rids: if video { vec!["q".into(), "h".into(), "f".into()] } else { vec![] },
        };
        self.sfu(Event::TrackPublished { participant: me(), track })
    }
}

/// Outputs of a session for one input.
#[derive(Debug, Default, PartialEq)]
struct Got {
    all: Vec<Output>,
}

impl Got {
    fn append(&mut self, other: Got) {
        self.all.extend(other.all);
    }

    fn says(&self) -> Vec<&Say> {
        self.all
            .iter()
            .filter_map(|output| match output {
                Output::Signal(response) => response.message.as_ref(),
                _ => None,
            })
            .collect()
    }

    fn commands(&self) -> Vec<&Command> {
        self.all
            .iter()
            .filter_map(|o| if let Output::Sfu(command) = o { Some(command) } else { None })
            .collect()
    }

    fn discards(&self) -> Vec<Discard> {
        self.all
            .iter()
            .filter_map(|o| if let Output::Discarded(reason) = o { Some(*reason) } else { None })
            .collect()
    }

    fn ended(&self) -> Option<EndCause> {
        match self.all.last() {
            Some(Output::Ended(cause)) => Some(*cause),
            _ => None,
        }
    }

    fn refresh(&self) -> Option<&RefreshClaims> {
        self.all
            .iter()
            .find_map(|o| if let Output::RefreshToken(claims) = o { Some(&**claims) } else { None })
    }

    fn join(&self) -> &proto::JoinResponse {
        let Some(Say::Join(join)) = self.says().first().copied() else { panic!("no join in {self:?}") };
        join
    }

    fn published(&self) -> Vec<(&str, &proto::TrackInfo)> {
        self.says()
            .into_iter()
            .filter_map(|say| match say {
                Say::TrackPublished(published) => {
                    Some((published.cid.as_str(), published.track.as_ref().expect("has a track")))
                }
                _ => None,
            })
            .collect()
    }

    /// All participants in participant updates.
    fn updates(&self) -> Vec<&proto::ParticipantInfo> {
        self.says()
            .into_iter()
            .flat_map(|say| if let Say::Update(update) = say { &update.participants[..] } else { &[] })
            .collect()
    }

    fn refusals(&self) -> Vec<(Reason, &str)> {
        self.says()
            .into_iter()
            .filter_map(|say| match say {
                Say::RequestResponse(response) => Some((response.reason(), response.message.as_str())),
                _ => None,
            })
            .collect()
    }

    /// This participant's information as announced to others.
    fn announced(&self) -> Vec<info::Described> {
        let commands = self.commands().into_iter();
        commands
            .filter_map(|command| match command {
                Command::Announce { info, .. } => Some(info::decode(info).expect("decodes")),
                _ => None,
            })
            .collect()
    }

    fn leave(&self) -> Option<&proto::LeaveRequest> {
        self.says().into_iter().find_map(|say| if let Say::Leave(leave) = say { Some(leave) } else { None })
    }
}

fn entry(info: &proto::ParticipantInfo) -> RosterEntry {
    RosterEntry { participant: ParticipantSid::new(info.sid.as_str()), info: info::encode(info, None) }
}

/// Another participant, with camera and microphone if `tracks`.
fn somebody(name: &str, version: u32, tracks: bool) -> proto::ParticipantInfo {
    let track = |sid: String, kind: proto::TrackType| proto::TrackInfo {
        sid,
        r#type: kind as i32,
        ..Default::default()
    };
    let tracks = if tracks {
        vec![
            track(format!("TR_AM{name}"), proto::TrackType::Audio),
            track(format!("TR_VC{name}"), proto::TrackType::Video),
        ]
    } else {
        vec![]
    };
    proto::ParticipantInfo {
        sid: format!("PA_{name}"),
        identity: name.into(),
        state: proto::participant_info::State::Active as i32,
        is_publisher: !tracks.is_empty(),
        tracks,
        version,
        ..Default::default()
    }
}

fn add_track(cid: &str, kind: proto::TrackType, source: proto::TrackSource) -> proto::AddTrackRequest {
    proto::AddTrackRequest {
        cid: cid.into(),
        name: "a track".into(),
        r#type: kind as i32,
        source: source as i32,
        ..Default::default()
    }
}

fn camera(cid: &str) -> proto::AddTrackRequest {
    let layer = |quality: proto::VideoQuality, width, height| proto::VideoLayer {
        quality: quality as i32,
        width,
        height,
        ..Default::default()
    };
    let layers = vec![
        layer(proto::VideoQuality::High, 1280, 720),
        layer(proto::VideoQuality::Low, 320, 180),
        layer(proto::VideoQuality::Medium, 640, 360),
    ];
    proto::AddTrackRequest {
        width: 1280,
        height: 720,
        layers: layers.clone(),
        simulcast_codecs: vec![proto::SimulcastCodec {
            codec: "vp8".into(),
            cid: cid.into(),
            layers,
            video_layer_mode: 0,
        }],
        ..add_track(cid, proto::TrackType::Video, proto::TrackSource::Camera)
    }
}

fn offer(id: u32) -> proto::SessionDescription {
    proto::SessionDescription { r#type: "offer".into(), sdp: "v=0".into(), id, ..Default::default() }
}

fn answer(id: u32) -> proto::SessionDescription {
    proto::SessionDescription { r#type: "answer".into(), ..offer(id) }
}

fn subscribed(got: &Got) -> Vec<(&str, &str)> {
    let commands = got.commands().into_iter();
    commands
        .filter_map(|command| match command {
            Command::Subscribe { track, publisher, .. } => Some((track.as_str(), publisher.as_str())),
            _ => None,
        })
        .collect()
}

fn unsubscribed(got: &Got) -> Vec<&str> {
    let commands = got.commands().into_iter();
    commands
        .filter_map(|command| {
            if let Command::Unsubscribe { track, .. } = command { Some(track.as_str()) } else { None }
        })
        .collect()
}
