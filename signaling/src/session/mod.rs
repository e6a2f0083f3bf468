//! One participant's signaling session.
//!
//! [`Session`] is a state machine without I/O. [`Session::handle`] takes messages of the client, events of the media
//! plane and the current time. [`Session::poll`] returns messages to the client and commands to the media plane. A
//! session knows its own participant and what the authoritative roster reports about the others; sessions share no room
//! state.
//!
//! Where to look: `join` sends the first message. `publish` manages the participant's own tracks, `roster` the
//! other participants, `subscribe` the tracks of others that the client receives. `negotiate` relays SDP. `own`
//! describes the participant to others. `resume` continues a session after its connection was lost. `leaving`
//! ends a session. [`admit`] opens a session before the WebSocket upgrade is answered, and [`socket`] runs the
//! session on that WebSocket.

pub mod admit;
mod backup;
mod config;
mod dynacast;
mod info;
mod join;
mod leaving;
mod measured;
mod negotiate;
mod no_place;
mod own;
mod permission;
mod publish;
mod request;
mod resume;
mod roster;
mod simulate;
pub mod socket;
mod stats;
mod subscribe;
mod timers;
mod track;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Instant;

use livekit_protocol as proto;
use livekit_protocol::signal_response::Message;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use sfu_protocol::{Command, ConnectionMode, Event, LeaveReason, Target};

pub use admit::{
    AdmitError, Admitted, Grants, JoinParameters, Resume, Rooms, RoomsConfig, SignalMode, TokenIssuer,
};
pub use config::{
    ParticipantDescription, PublishCodec, RoomDescription, ServerDescription, SessionConfig, SessionLimits,
    WallClock, client_traits,
};
pub use leaving::EndCause;
pub use resume::Resumed;
pub use socket::SocketLimits;
pub use stats::SessionStats;
pub(crate) use track::random_word;

use dynacast::Dynacast;
use measured::Measured;
use own::Own;
use publish::OwnTracks;
use resume::Missed;
use roster::Roster;
use simulate::SignalDrop;
use subscribe::Subscriptions;
use timers::{Timer, Timers};

/// Inputs of a [`Session`].
#[derive(Debug, Clone)]
pub enum Input {
    /// A request from the client.
    Signal(Box<proto::SignalRequest>),
    /// A frame from the client that is not a valid message, with a description of the error.
    Malformed(String),
    /// An event of the media plane about this participant or its room.
    Sfu(Event),
    /// The time returned by [`Session::poll_timeout`] has come.
    Timeout,
    /// The signal connection is lost.
    SignalLost {
        /// The client's close said that it is going away (the page was left), so it is unlikely to come back.
        leaving: bool,
    },
    /// The client has a new signal connection and continues the session.
    Resumed(Box<Resumed>),
    /// New permissions of the participant; they replace the previous ones at once.
    SetPermission(Box<proto::ParticipantPermission>),
    /// A request to end the session: moderation, the room was closed, or the process is ending.
    End(LeaveReason),
    /// The session can no longer continue. It ends, and the client is told to start a new one.
    Broken,
}

/// Outputs of a [`Session`]. The caller carries them out in order, each before the next.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// A message to the client.
    Signal(Box<proto::SignalResponse>),
    /// A command to the media plane.
    Sfu(Command),
    /// Issue a fresh access token with these claims and send it to the client.
    RefreshToken(Box<RefreshClaims>),
    /// An input had no effect, for this reason.
    Discarded(Discard),
    /// Write everything that is queued, then close the socket with this code.
    CloseSocket {
        /// WebSocket close code (RFC 6455, section 7.4).
        code: u16,
    },
    /// The session has ended. This is the last output.
    Ended(EndCause),
}

/// Claims that may have changed since the client's access token was issued.
#[derive(Debug, Clone, PartialEq)]
pub struct RefreshClaims {
    /// Display name of the participant.
    pub name: String,
    /// Application-defined metadata of the participant.
    pub metadata: String,
    /// Application-defined attributes of the participant.
    pub attributes: std::collections::BTreeMap<String, String>,
    /// Permissions of the participant.
    pub permission: proto::ParticipantPermission,
}

/// Why an input had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Discard {
    /// The input came after the end of the session, or a request came while the signal connection was lost.
    AfterEnd,
    /// The request came before the join response.
    EarlyRequest,
    /// The request has no member that this server knows.
    UnknownRequest,
    /// The request belongs to a feature that is not supported yet (tier 2). Only some of these requests get a
    /// response.
    UnsupportedRequest,
    /// The frame was not a message, or a field of the message was invalid. The client was told.
    Malformed,
    /// The participant may not make this request, or it exceeds a limit. The client was told, except about a backup
    /// codec that was named in an accepted request.
    Refused,
    /// The client sent an answer in single mode, where the server never offers.
    UnexpectedAnswer,
    /// A subscription or track setting for an unknown track that the session does not wait for, or cannot wait for
    /// because of [`SessionLimits::track_wishes`].
    UnknownTrack,
    /// A roster change came before `Joined`, whose roster already includes it.
    EarlyEvent,
    /// An event about a track that is not, or no longer, one of this session's published or subscribed tracks.
    StaleTrackEvent,
    /// Information about another participant that is older than what the session already has.
    StaleRoster,
    /// Information about another participant that cannot be decoded, or that carries the wrong sid.
    BadRosterInfo,
}

/// Most events that are buffered until `Joined`. Nothing was requested before that, so they are at most one offer and
/// measurements of other participants.
const EARLY_EVENTS: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waiting for `Joined` from the media plane; nothing is sent to the client.
    Joining,
    /// The join response is sent.
    Joined,
    /// The signal connection is lost; nothing is sent to the client.
    Lingering,
    Ended,
}

/// One participant's signaling session.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    phase: Phase,
    own: Own,
    tracks: OwnTracks,
    roster: Roster,
    subscriptions: Subscriptions,
    measured: Measured,
    dynacast: Dynacast,
    timers: Timers,
    rng: SmallRng,
    missed: Missed,
    /// Set when the client asked, for a test, that its next resume be cut short.
    signal_drop: Option<SignalDrop>,
    /// When the last request of the client arrived.
    heard: Instant,
    /// Events that arrived before `Joined`, in order of arrival. Some of them come from other shards than the room's
    /// home shard.
    early: Vec<Event>,
    /// Participant updates not yet sent; they are flushed before any other message.
    updates: Vec<proto::ParticipantInfo>,
    out: VecDeque<Output>,
}

impl Session {
    /// Starts a session. Its first output is the `Join` command.
    pub fn new(now: Instant, config: SessionConfig) -> Self {
        let own = Own::new(&config, config.clock.unix_ms(now));
        let mut session = Self {
            phase: Phase::Joining,
            own,
            tracks: OwnTracks::default(),
            roster: Roster::default(),
            subscriptions: Subscriptions::new(config.auto_subscribe, config.adaptive_stream),
            measured: Measured::default(),
            dynacast: Dynacast::default(),
            timers: Timers::default(),
            rng: SmallRng::seed_from_u64(config.seed),
            missed: Missed::default(),
            signal_drop: None,
            heard: now,
            early: Vec::new(),
            updates: Vec::new(),
            out: VecDeque::new(),
            config,
        };
        let join = session.join_command();
        session.command(join);
        session
    }

    /// Handles one input. Afterwards call [`Session::poll`] until it returns `None`.
    pub fn handle(&mut self, now: Instant, input: Input) {
        if self.phase == Phase::Ended {
            return self.discard(Discard::AfterEnd);
        }
        match input {
            Input::Signal(request) => {
                self.heard = now;
                self.on_request(now, *request);
            }
            Input::Malformed(error) => self.on_malformed(error),
            Input::Sfu(event) => self.on_event(now, event),
            Input::Timeout => {}
            Input::SignalLost { leaving } => self.on_signal_lost(now, leaving),
            Input::Resumed(resumed) => self.on_resumed(now, *resumed),
            Input::SetPermission(permission) => self.on_permission(now, *permission),
            Input::End(reason) => self.on_end(reason),
            Input::Broken => self.on_broken(),
        }
        while let Some(timer) = self.timers.expire(now) {
            self.on_timer(now, timer);
        }
        self.tell_measured();
    }

    /// Next output, or `None` when there is nothing to do until the next input.
    pub fn poll(&mut self) -> Option<Output> {
        if self.out.is_empty() {
            self.flush_updates();
        }
        self.out.pop_front()
    }

    /// When [`Input::Timeout`] is due; `None` while no timer is set.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Whether the join response has been sent and the signal connection is up.
    pub fn is_joined(&self) -> bool {
        self.phase == Phase::Joined
    }

    /// Whether the session has ended.
    pub fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    fn on_event(&mut self, now: Instant, event: Event) {
        if self.phase == Phase::Joining && !matches!(event, Event::Joined { .. } | Event::Ended { .. }) {
            return self.on_early_event(event);
        }
        self.forget_arrived(now);
        match event {
            Event::Joined { roster, .. } => {
                self.on_joined(now, roster);
                for event in std::mem::take(&mut self.early) {
                    self.on_event(now, event);
                }
            }
            Event::Roster { change, .. } => self.on_roster(now, change),
            Event::Answer { id, sdp, mid_to_track, .. } => self.on_answer_made(id, sdp, mid_to_track),
            Event::Offer { id, sdp, mid_to_track, .. } => self.on_offer_made(now, id, sdp, mid_to_track),
            Event::NegotiationFailed { target, id, error, .. } => {
                self.on_negotiation_failed(now, target, id, &error);
            }
            Event::MediaSectionsRequired { audios, videos, .. } => {
                let need = proto::MediaSectionsRequirement { num_audios: audios, num_videos: videos };
                self.signal(Message::MediaSectionsRequirement(need));
            }
            Event::TransportConnected { target, .. } => self.on_connected(target),
            Event::TrackPublished { track, .. } => self.on_track_published(now, &track),
            Event::TrackUnpublished { track, .. } => self.on_track_unpublished(now, &track),
            Event::PublicationFailed { track, reason, .. } => self.on_publication_failed(now, &track, reason),
            Event::TrackSubscribed { track, .. } => self.on_track_subscribed(&track),
            Event::SubscriptionFailed { track, reason, .. } => self.on_subscription_failed(&track, reason),
            Event::Speakers { speakers, .. } => self.measured.on_speakers(speakers),
            Event::ConnectionQuality { changes, .. } => self.on_qualities(now, changes),
            Event::StreamState { track, paused, .. } => self.on_stream_state(&track, paused),
            Event::SubscribedQuality { track, codecs, .. } => self.on_subscribed_quality(now, track, codecs),
            Event::Ended { reason, .. } => self.on_media_ended(reason),
        }
    }

    /// Buffers an event that came before `Joined`. The participant's own shard may differ from the home shard that
    /// answers the join, and may be faster.
    fn on_early_event(&mut self, event: Event) {
        match event {
            // Roster changes and `Joined` come from the same shard, so this change precedes `Joined`.
            Event::Roster { .. } => self.discard(Discard::EarlyEvent),
            _ if self.early.len() >= EARLY_EVENTS => self.on_broken(),
            event => self.early.push(event),
        }
    }

    fn on_timer(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Announce => self.announce(),
            Timer::RefreshToken => self.refresh_token(now),
            Timer::RoomCounts => self.report_room_counts(),
            Timer::Connect => self.on_connect_timeout(),
            Timer::Linger => self.on_linger_over(),
            Timer::Departures => self.on_departures_due(now),
            Timer::UnknownTracks => self.on_unknown_tracks_due(now),
            Timer::LessWanted => self.on_less_wanted_due(now),
            Timer::Unheeded => self.on_unheeded_due(now),
            Timer::Answer => self.on_answer_due(now),
            Timer::PlayedSpeaker => self.play_speaker(false),
        }
    }

    fn on_connected(&mut self, target: Target) {
        if target != self.primary() || self.own.is_active() {
            return;
        }
        self.timers.stop(Timer::Connect);
        self.own.set_state(proto::participant_info::State::Active);
        self.announce();
        if !self.takes_media_at_once() {
            self.reconcile_all();
        }
    }

    /// The transport whose state tells clients whether they are connected.
    fn primary(&self) -> Target {
        match self.config.mode {
            ConnectionMode::Dual { subscriber_primary: true } => Target::Subscriber,
            ConnectionMode::Single | ConnectionMode::Dual { subscriber_primary: false } => Target::Publisher,
        }
    }

    fn refresh_token(&mut self, now: Instant) {
        // At least one second apart, whatever the configuration says.
        let pause = self.config.limits.token_refresh.max(std::time::Duration::from_secs(1));
        self.timers.set(Timer::RefreshToken, now + pause);
        let claims = self.own.refresh_claims();
        self.out.push_back(Output::RefreshToken(Box::new(claims)));
    }

    /// Queues a message to the client, behind the pending participant updates.
    fn signal(&mut self, message: Message) {
        if self.phase != Phase::Joined {
            return;
        }
        self.flush_updates();
        let response = proto::SignalResponse { message: Some(message) };
        self.out.push_back(Output::Signal(Box::new(response)));
    }

    /// Queues a participant update. Updates that no other message separates are sent as one message.
    fn update(&mut self, info: proto::ParticipantInfo) {
        if self.phase != Phase::Joined {
            return;
        }
        match self.updates.iter_mut().find(|waiting| waiting.sid == info.sid) {
            Some(waiting) => *waiting = info,
            None => self.updates.push(info),
        }
    }

    fn flush_updates(&mut self) {
        if self.updates.is_empty() {
            return;
        }
        let participants = std::mem::take(&mut self.updates);
        let message = Some(Message::Update(proto::ParticipantUpdate { participants }));
        self.out.push_back(Output::Signal(Box::new(proto::SignalResponse { message })));
    }

    fn command(&mut self, command: Command) {
        self.out.push_back(Output::Sfu(command));
    }

    fn discard(&mut self, reason: Discard) {
        self.out.push_back(Output::Discarded(reason));
    }
}
