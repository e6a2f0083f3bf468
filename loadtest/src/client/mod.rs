//! A lightweight client: ICE, DTLS and SRTP by `str0m`, a socket of its own, and counting instead of decoding.

pub mod publish;
pub mod receive;
pub mod signal;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol::{
    AddTrackRequest, ConnectionSettings, JoinRequest, SessionDescription, TrackSource, TrackType,
    signal_request, signal_response,
};
use serde::Deserialize;
use str0m::change::{SdpAnswer, SdpApi, SdpPendingOffer};
use str0m::media::{Direction, MediaKind};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc};
use tokio::sync::mpsc::UnboundedSender;

use crate::error::LoadError;
use crate::socket::{ReceiveBuffers, Socket};
use publish::{Content, Publisher, Stream};
use receive::{Received, is_media};

/// Task of a client in the call.
#[derive(Debug, Clone)]
pub enum Role {
    /// Publishes one video stream.
    Publish(Stream),
    /// Publishes a camera and a microphone.
    Call {
        /// VP8 key frame that the camera sends repeatedly.
        frame: Arc<[u8]>,
        /// Video frames per second.
        fps: u32,
    },
    /// Subscribes to everything.
    Subscribe {
        /// Number of receiving video sections in the first offer.
        sections: usize,
        /// Whether the client sends receiver feedback, as browsers do. If so, it decrypts everything.
        reports: bool,
    },
    /// Joins, but neither publishes nor subscribes.
    Idle,
}

/// Progress of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The signaling connection is being set up.
    Joining,
    /// The server answered the join request.
    Joined,
    /// ICE and DTLS are connected.
    Connected,
}

/// One client of a load test.
pub struct Client {
    name: String,
    socket: Socket,
    rtc: Rtc,
    state: State,
    pending: Option<SdpPendingOffer>,
    offers: u32,
    signal: Option<UnboundedSender<signal_request::Message>>,
    received: Received,
    /// Number of media packets that are passed to the WebRTC stack; later packets are only counted.
    decrypts: u64,
    publishers: Vec<Publisher>,
    deadline: Instant,
    outbox: Run,
}

impl Client {
    /// Creates a client, and the request with which it joins.
    ///
    /// # Errors
    /// The socket cannot be bound, or the WebRTC stack rejects its configuration.
    pub fn new(name: String, role: &Role, now: Instant) -> Result<(Self, JoinRequest), LoadError> {
        let socket = Socket::bind()?;
        let mut rtc = Rtc::builder()
            .clear_codecs()
            .enable_vp8(true)
            .enable_opus(true, false)
            .set_rtp_mode(true)
            .build(now);
        let transport = |what: String| LoadError::Transport { who: name.clone(), what };
        let candidate =
            Candidate::host(socket.local(), "udp").map_err(|error| transport(error.to_string()))?;
        rtc.add_local_candidate(candidate);
        let mut changes = rtc.sdp_api();
        let mut publishers = Vec::new();
        let mut publish = |changes: &mut SdpApi<'_>, kind, track: &str, content| {
            let track = Some(track.to_owned());
            let mid = changes.add_media(kind, Direction::SendOnly, track.clone(), track, None);
            publishers.push(Publisher::new(content, mid));
        };
        let mut requests = Vec::new();
        match role {
            Role::Publish(stream) => {
                publish(&mut changes, MediaKind::Video, CAMERA, Content::Load(*stream));
                requests.push(add_track(TrackSource::Camera));
            }
            Role::Call { frame, fps } => {
                let picture = Content::Picture { frame: Arc::clone(frame), fps: *fps };
                publish(&mut changes, MediaKind::Video, CAMERA, picture);
                publish(&mut changes, MediaKind::Audio, MICROPHONE, Content::Silence);
                requests.extend([TrackSource::Camera, TrackSource::Microphone].map(add_track));
            }
            Role::Subscribe { sections, .. } => {
                for _ in 0..*sections {
                    changes.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
                }
            }
            Role::Idle => {}
        }
        changes.add_channel("_reliable".to_owned());
        let (offer, pending) = changes.apply().ok_or_else(|| transport("nothing to offer".to_owned()))?;
        let reports = matches!(role, Role::Subscribe { reports: true, .. });
        let offer = offer.to_sdp_string();
        let offer = if reports { offer } else { without_reports(&offer) };
        let join = JoinRequest {
            client_info: Some(signal::client_info()),
            connection_settings: Some(ConnectionSettings {
                auto_subscribe: matches!(role, Role::Subscribe { .. }),
                ..ConnectionSettings::default()
            }),
            add_track_requests: requests,
            publisher_offer: Some(description(offer, 1)),
            ..JoinRequest::default()
        };
        let client = Self {
            name,
            socket,
            rtc,
            state: State::Joining,
            pending: Some(pending),
            offers: 1,
            signal: None,
            received: Received::default(),
            decrypts: if reports { u64::MAX } else { SAMPLE },
            publishers,
            deadline: now,
            outbox: Run::default(),
        };
        Ok((client, join))
    }

    /// Sets the channel to which the client sends its signaling requests.
    pub fn signaled_by(&mut self, signal: UnboundedSender<signal_request::Message>) {
        self.signal = Some(signal);
    }

    /// Participant identity, which also names the client in errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The client's UDP socket.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Current progress of the connection.
    pub fn state(&self) -> State {
        self.state
    }

    /// Counters of the media received so far.
    pub fn received(&self) -> Received {
        self.received
    }

    /// Packets published so far.
    pub fn published(&self) -> u64 {
        self.publishers.iter().map(Publisher::packets).sum()
    }

    /// Begins to send; no effect on a client that does not publish.
    pub fn start(&mut self, now: Instant) {
        self.publishers.iter_mut().for_each(|publisher| publisher.start(now));
    }

    /// Time at which [`wake`](Self::wake) must be called next.
    pub fn deadline(&self) -> Instant {
        let frames = self.publishers.iter().filter_map(Publisher::next_frame);
        frames.fold(self.deadline, Instant::min)
    }

    /// Handles a signaling message from the server.
    ///
    /// # Errors
    /// The WebRTC stack rejects the answer, or the server tells the client to leave.
    pub fn hear(&mut self, message: signal_response::Message, now: Instant) -> Result<(), LoadError> {
        match message {
            signal_response::Message::Join(_) => self.state = self.state.max(State::Joined),
            signal_response::Message::Answer(answer) => self.answered(&answer)?,
            signal_response::Message::Trickle(trickle) => self.trickled(&trickle.candidate_init)?,
            signal_response::Message::MediaSectionsRequirement(wanted) => {
                self.offer_more(wanted.num_videos.max(1))?;
            }
            signal_response::Message::Leave(leave) => {
                let what = format!("told to leave: {:?}", leave.reason());
                return Err(LoadError::Signaling { who: self.name.clone(), what });
            }
            _ => {}
        }
        self.wake(now)
    }

    /// Reads all datagrams in the socket's queue. A client without receiver feedback decrypts only the first [`SAMPLE`]
    /// media packets and counts the rest.
    ///
    /// # Errors
    /// The socket or the WebRTC stack fails.
    pub fn receive(&mut self, buffers: &mut ReceiveBuffers, now: Instant) -> Result<(), LoadError> {
        let Self { socket, rtc, received, name, decrypts, .. } = self;
        let local = socket.local();
        let mut deadline = None;
        let (mut events, mut outbox) = (Vec::new(), std::mem::take(&mut self.outbox));
        let mut failure = None;
        socket.receive(buffers, |source, datagram| {
            if is_media(datagram) && received.count(datagram.len(), now) >= *decrypts {
                return;
            }
            let Ok(input) = Receive::new(Protocol::Udp, source, local, datagram) else { return };
            let outcome = rtc
                .handle_input(Input::Receive(now, input))
                .map_err(|error| error.to_string())
                .and_then(|()| drain(rtc, socket, &mut outbox, &mut events));
            match outcome {
                Ok(next) => deadline = Some(next),
                Err(what) => failure = Some(LoadError::Transport { who: name.clone(), what }),
            }
        })?;
        self.outbox = outbox;
        self.deadline = deadline.unwrap_or(self.deadline);
        for event in events {
            self.happened(&event);
        }
        failure.map_or(Ok(()), Err)
    }

    /// Handles timers and sends the frames that are due.
    ///
    /// # Errors
    /// The socket or the WebRTC stack fails.
    pub fn wake(&mut self, now: Instant) -> Result<(), LoadError> {
        self.rtc.handle_input(Input::Timeout(now)).map_err(|error| self.broken(&error.to_string()))?;
        self.pump()?;
        for number in 0..self.publishers.len() {
            while self.publishers.get(number).and_then(Publisher::next_frame).is_some_and(|due| due <= now) {
                let mut place = 0;
                while let Some(publisher) = self.publishers.get_mut(number) {
                    let before = publisher.packets();
                    let more = publisher.write(&mut self.rtc, place, now);
                    let written = publisher.packets() > before;
                    self.rtc
                        .handle_input(Input::Timeout(now))
                        .map_err(|error| self.broken(&error.to_string()))?;
                    self.pump()?;
                    place += 1;
                    if !written {
                        // The codec is not negotiated yet. The next call tries again.
                        return self.outbox.flush(&self.socket);
                    }
                    if !more {
                        break;
                    }
                }
            }
        }
        self.outbox.flush(&self.socket)
    }

    fn pump(&mut self) -> Result<(), LoadError> {
        let mut events = Vec::new();
        let outcome = drain(&mut self.rtc, &self.socket, &mut self.outbox, &mut events);
        self.deadline = outcome.map_err(|what| self.broken(&what))?;
        for event in events {
            self.happened(&event);
        }
        Ok(())
    }

    fn happened(&mut self, event: &Event) {
        match event {
            Event::Connected => self.state = State::Connected,
            Event::RtpPacket(_) => self.received.decrypted += 1,
            Event::KeyframeRequest(_) => {
                self.publishers.iter_mut().for_each(Publisher::want_key_frame);
            }
            _ => {}
        }
    }

    fn answered(&mut self, answer: &SessionDescription) -> Result<(), LoadError> {
        if answer.id != self.offers {
            return Ok(());
        }
        let Some(pending) = self.pending.take() else { return Ok(()) };
        let parsed =
            SdpAnswer::from_sdp_string(&answer.sdp).map_err(|error| self.broken(&error.to_string()))?;
        let outcome = self.rtc.sdp_api().accept_answer(pending, parsed);
        outcome.map_err(|error| self.broken(&format!("{error} in the answer\n{}", answer.sdp)))
    }

    fn trickled(&mut self, init: &str) -> Result<(), LoadError> {
        let init: CandidateInit =
            serde_json::from_str(init).map_err(|error| self.broken(&error.to_string()))?;
        // An unparsable candidate is ignored: an end-of-candidates mark, or a kind that this stack does not know.
        if let Ok(candidate) = Candidate::from_sdp_string(&init.candidate) {
            self.rtc.add_remote_candidate(candidate);
        }
        Ok(())
    }

    fn offer_more(&mut self, videos: u32) -> Result<(), LoadError> {
        if self.pending.is_some() {
            return Ok(());
        }
        let mut changes = self.rtc.sdp_api();
        for _ in 0..videos {
            changes.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        }
        let Some((offer, pending)) = changes.apply() else { return Ok(()) };
        self.offers += 1;
        self.pending = Some(pending);
        let offer = offer.to_sdp_string();
        let offer = if self.decrypts == u64::MAX { offer } else { without_reports(&offer) };
        let offer = description(offer, self.offers);
        if let Some(signal) = &self.signal {
            // If the connection is closed, its task reports that.
            let _ = signal.send(signal_request::Message::Offer(offer));
        }
        Ok(())
    }

    fn broken(&self, what: &str) -> LoadError {
        LoadError::Transport { who: self.name.clone(), what: what.to_owned() }
    }
}

/// Sends or collects all pending output of the WebRTC stack. Returns the time of the stack's next timeout.
fn drain(
    rtc: &mut Rtc,
    socket: &Socket,
    outbox: &mut Run,
    events: &mut Vec<Event>,
) -> Result<Instant, String> {
    loop {
        match rtc.poll_output().map_err(|error| error.to_string())? {
            Output::Timeout(deadline) => return Ok(deadline.min(Instant::now() + LONGEST_SLEEP)),
            Output::Transmit(transmit) => outbox
                .add(socket, transmit.destination, &transmit.contents)
                .map_err(|error| error.to_string())?,
            Output::Event(event) => events.push(event),
        }
    }
}

/// Datagrams of equal length for one destination, collected for one GSO send. A publisher's frame makes one run.
#[derive(Debug, Default)]
struct Run {
    destination: Option<SocketAddr>,
    segment: usize,
    contents: Vec<u8>,
}

impl Run {
    fn add(&mut self, socket: &Socket, destination: SocketAddr, datagram: &[u8]) -> Result<(), LoadError> {
        let fits = self.destination == Some(destination)
            && self.segment == datagram.len()
            && self.contents.len() + datagram.len() <= MAX_RUN;
        if !fits {
            self.flush(socket)?;
            self.destination = Some(destination);
            self.segment = datagram.len();
        }
        self.contents.extend_from_slice(datagram);
        // Datagrams other than media are sent at once.
        if is_media(datagram) { Ok(()) } else { self.flush(socket) }
    }

    fn flush(&mut self, socket: &Socket) -> Result<(), LoadError> {
        if let Some(destination) = self.destination.take() {
            socket.send(destination, &self.contents, self.segment)?;
            self.contents.clear();
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct CandidateInit {
    candidate: String,
}

fn add_track(source: TrackSource) -> AddTrackRequest {
    let is_camera = source == TrackSource::Camera;
    AddTrackRequest {
        cid: if is_camera { CAMERA } else { MICROPHONE }.to_owned(),
        name: if is_camera { "camera" } else { "microphone" }.to_owned(),
        r#type: if is_camera { TrackType::Video } else { TrackType::Audio } as i32,
        source: source as i32,
        width: if is_camera { 1280 } else { 0 },
        height: if is_camera { 720 } else { 0 },
        disable_red: true,
        ..AddTrackRequest::default()
    }
}

fn description(sdp: String, id: u32) -> SessionDescription {
    SessionDescription { r#type: "offer".to_owned(), sdp, id, ..SessionDescription::default() }
}

/// Client-side ids of the published tracks.
const CAMERA: &str = "loadtest-camera";
const MICROPHONE: &str = "loadtest-microphone";
/// Media packets that each client decrypts, so that a run in which the server sends garbage is detected.
pub const SAMPLE: u64 = 100;
/// Maximum bytes of one GSO send.
const MAX_RUN: usize = 60_000;
/// Longest time between two timeouts passed to the WebRTC stack.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// Removes transport-wide feedback and REMB (receiver-side bandwidth estimates) from an offer. A client that passes
/// only a sample of the packets to its stack cannot send correct feedback.
fn without_reports(offer: &str) -> String {
    let reports = |line: &&str| {
        let names = ["transport-wide-cc", "transport-cc", "goog-remb"];
        !names.iter().any(|name| line.contains(name))
    };
    offer.lines().filter(reports).map(|line| format!("{line}\r\n")).collect()
}
