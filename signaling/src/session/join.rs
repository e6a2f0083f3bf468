//! Joining: the command to the media plane, and the join response to the client.

use std::time::Instant;

use livekit_protocol as proto;
use livekit_protocol::signal_response::Message;
use sfu_protocol::{Command, ConnectionMode, Join, Permissions, RosterEntry};

use super::roster::Counts;
use super::timers::Timer;
use super::{Phase, Session, client_traits, info};

/// Interval between a client's pings, and how long the client waits for a pong before it gives up, in seconds. Native
/// clients fail if these are zero.
const PING_INTERVAL_S: i32 = 5;
const PING_TIMEOUT_S: i32 = 15;

impl Session {
    /// The command that adds the participant to the media plane.
    pub(super) fn join_command(&self) -> Command {
        let permission = &self.own.info().permission.clone().unwrap_or_default();
        Command::Join(Box::new(Join {
            room: self.config.room.sid.clone(),
            participant: self.config.sid.clone(),
            identity: self.config.participant.identity.clone(),
            hidden: permission.hidden,
            permissions: media_permissions(permission),
            mode: self.config.mode,
            client: client_traits(&self.config.client),
            never_pause: self.config.never_pause,
            info: info::encode(self.own.info(), None),
        }))
    }

    /// The media plane has added the participant: sends the join response, then handles what came with the join
    /// request.
    pub(super) fn on_joined(&mut self, now: Instant, roster: Vec<RosterEntry>) {
        if self.phase != Phase::Joining {
            return;
        }
        self.phase = Phase::Joined;
        self.fill_roster(roster);
        let response = self.join_response();
        self.signal(Message::Join(response));
        self.own.set_state(proto::participant_info::State::Joined);
        self.timers.set(Timer::Announce, now + self.config.limits.announce_delay);
        self.timers.set(Timer::Connect, now + self.config.limits.connect);
        self.refresh_token(now);
        for request in std::mem::take(&mut self.config.add_tracks) {
            self.on_add_track(request);
        }
        self.reconcile_all();
        if let Some(offer) = self.config.offer.take() {
            self.on_offer(offer);
        }
    }

    fn join_response(&mut self) -> proto::JoinResponse {
        let room = self.room_now();
        let server = &self.config.server;
        let permission = self.own.info().permission.clone().unwrap_or_default();
        proto::JoinResponse {
            room: Some(room),
            participant: Some(self.own.info().clone()),
            other_participants: self.roster.infos().collect(),
            server_version: server.version.clone(),
            ice_servers: server.ice_servers.clone(),
            subscriber_primary: matches!(self.config.mode, ConnectionMode::Dual { subscriber_primary: true }),
            alternative_url: String::new(),
            client_configuration: Some(server.client_configuration()),
            server_region: server.region.clone(),
            ping_timeout: PING_TIMEOUT_S,
            ping_interval: PING_INTERVAL_S,
            server_info: Some(server.to_proto()),
            sif_trailer: self.config.room.sif_trailer.to_vec(),
            enabled_publish_codecs: self.enabled_codecs(),
            fast_publish: permission.can_publish,
        }
    }

    fn enabled_codecs(&self) -> Vec<proto::Codec> {
        let codecs = self.config.server.publish_codecs.iter();
        codecs.map(|codec| proto::Codec { mime: codec.name.to_owned(), fmtp_line: String::new() }).collect()
    }

    /// Current description of the room, with counts from the roster. The counts are recorded as told to the client.
    pub(super) fn room_now(&mut self) -> proto::Room {
        let counts = self.count_room();
        self.roster.told_counts = counts;
        let room = &self.config.room;
        proto::Room {
            sid: room.sid.to_string(),
            name: room.name.clone(),
            empty_timeout: room.empty_timeout_s,
            departure_timeout: room.departure_timeout_s,
            max_participants: room.max_participants,
            creation_time: room.created_ms / 1000,
            creation_time_ms: room.created_ms,
            enabled_codecs: self.enabled_codecs(),
            metadata: room.metadata.clone(),
            num_participants: counts.participants,
            num_publishers: counts.publishers,
            ..Default::default()
        }
    }

    /// Reports the room's counts to the client if they differ from the last report.
    pub(super) fn report_room_counts(&mut self) {
        if self.count_room() != self.roster.told_counts {
            let room = self.room_now();
            self.signal(Message::RoomUpdate(proto::RoomUpdate { room: Some(room) }));
        }
    }

    /// Current counts of the room, without hidden participants, agents and recorders; the latter two only follow
    /// others.
    pub(super) fn count_room(&self) -> Counts {
        let own = self.own.info();
        let shown = !own.permission.as_ref().is_some_and(|permission| permission.hidden);
        let mut counts = self.roster.counts();
        counts.add(shown && is_counted_kind(own.kind()), own.is_publisher);
        counts
    }
}

/// Whether participants of this kind count towards the room's size and keep it open.
pub(super) fn is_counted_kind(kind: proto::participant_info::Kind) -> bool {
    use proto::participant_info::Kind;
    !matches!(kind, Kind::Agent | Kind::Egress)
}

/// Permissions in the media plane's terms.
pub(super) fn media_permissions(permission: &proto::ParticipantPermission) -> Permissions {
    Permissions {
        publish: permission.can_publish,
        subscribe: permission.can_subscribe,
        publish_data: permission.can_publish_data,
    }
}
