//! One participant's signaling session.
//!
//! [`Session`] is a state machine without I/O: messages of the client and events of the media plane go in
//! ([`Session::handle`]), messages to the client and commands to the media plane come out ([`Session::poll`]), the
//! time is passed in. It knows its own participant and what the roster of record says of the others; there is no
//! room state shared between sessions.
//!
//! The way through it: [`join`] writes the first message, [`publish`] keeps the participant's own tracks,
//! [`roster`] and [`subscribe`] everybody else's, [`negotiate`] carries descriptions, [`own`] describes the
//! participant to others, [`resume`] goes on after a lost connection, [`leaving`] ends. [`admit`] opens a session
//! before the WebSocket is answered, [`socket`] runs it on one.

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

/// What a session takes.
#[derive(Debug, Clone)]
pub enum Input {
    /// A message of the client.
    Signal(Box<proto::SignalRequest>),
    /// A frame of the client that is no message; says what is wrong with it.
    Malformed(String),
    /// An event of the media plane, of this participant or of its room.
    Sfu(Event),
    /// The moment of [`Session::poll_timeout`] has come.
    Timeout,
    /// The signal connection is gone.
    SignalLost {
        /// The client said with its close that it is going away (a page left), so it hardly comes back.
        leaving: bool,
    },
    /// The client has a new signal connection and goes on.
    Resumed(Box<Resumed>),
    /// The participant may do something else from now on.
    SetPermission(Box<proto::ParticipantPermission>),
    /// The session is to end: moderation, the room closing, the process ending.
    End(LeaveReason),
    /// The session cannot go on, although its client could: start anew.
    Broken,
}

/// What a session gives. In this order, each must be carried out before the next.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// A message to the client.
    Signal(Box<proto::SignalResponse>),
    /// A command to the media plane.
    Sfu(Command),
    /// Make a fresh access token with these claims and send it to the client.
    RefreshToken(Box<RefreshClaims>),
    /// Something that was put in had no effect, and why.
    Discarded(Discard),
    /// Write what is queued, then close the socket with this code.
    CloseSocket {
        /// The WebSocket close code.
        code: u16,
    },
    /// Nothing comes after this.
    Ended(EndCause),
}

/// What has changed of an access token's claims since it was issued.
#[derive(Debug, Clone, PartialEq)]
pub struct RefreshClaims {
    /// The participant's name.
    pub name: String,
    /// Its metadata.
    pub metadata: String,
    /// Its attributes.
    pub attributes: std::collections::BTreeMap<String, String>,
    /// Its rights.
    pub permission: proto::ParticipantPermission,
}

/// Why something that was put in had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Discard {
    /// After the end.
    AfterEnd,
    /// A request before the join response.
    EarlyRequest,
    /// A request without a member that we know.
    UnknownRequest,
    /// A request whose time has not come (tier 2) and that has no answer.
    UnsupportedRequest,
    /// A frame that is no message, or a message with a field that makes no sense; the client was told.
    Malformed,
    /// A request that the participant may not make, or beyond a limit; the client was told.
    Refused,
    /// An answer in single mode, where we never offer.
    UnexpectedAnswer,
    /// A setting or wish for a track that is not known, beyond what is remembered of those.
    UnknownTrack,
    /// A change of the roster before `Joined`; the roster in that covers it.
    EarlyEvent,
    /// An event about a track that is not ours, or no more.
    StaleTrackEvent,
    /// Information about somebody that is older than what is known.
    StaleRoster,
    /// Information about somebody that cannot be decoded.
    BadRosterInfo,
}

/// Events that may wait for `Joined`. Until it has come nothing was asked for, so there is an offer at most, and what was
/// measured of others.
const EARLY_EVENTS: usize = 256;

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits for its place in the media plane; nothing is written.
    Joining,
    /// The join response is written.
    Joined,
    /// The signal connection is lost; nothing is written any more.
    Lingering,
    /// Over.
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
    /// The client asked for its next resume to be cut short.
    signal_drop: Option<SignalDrop>,
    /// When the client last said anything.
    heard: Instant,
    /// Events that have overtaken `Joined`, in order. Other shards than the room's home send some, too.
    early: Vec<Event>,
    /// Changes of participants not yet written; they go before whatever is written next.
    updates: Vec<proto::ParticipantInfo>,
    out: VecDeque<Output>,
}

impl Session {
    /// Begins a session: its first output is the `Join` command.
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

    /// Takes one input. Afterwards [`Session::poll`] is to be called until it gives nothing more.
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

    /// Gives the next output.
    pub fn poll(&mut self) -> Option<Output> {
        if self.out.is_empty() {
            self.flush_updates();
        }
        self.out.pop_front()
    }

    /// When [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Whether the join response has been given.
    pub fn is_joined(&self) -> bool {
        self.phase == Phase::Joined
    }

    /// Whether it is over.
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

    /// The shard of the participant may be another than the one that answers its entry, and be quicker.
    fn on_early_event(&mut self, event: Event) {
        match event {
            // All of these come from where `Joined` comes from: they were before it.
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

    /// The transport by whose state clients judge whether they are connected.
    fn primary(&self) -> Target {
        match self.config.mode {
            ConnectionMode::Dual { subscriber_primary: true } => Target::Subscriber,
            ConnectionMode::Single | ConnectionMode::Dual { subscriber_primary: false } => Target::Publisher,
        }
    }

    fn refresh_token(&mut self, now: Instant) {
        // Not at once again, whatever the configuration says.
        let pause = self.config.limits.token_refresh.max(std::time::Duration::from_secs(1));
        self.timers.set(Timer::RefreshToken, now + pause);
        let claims = self.own.refresh_claims();
        self.out.push_back(Output::RefreshToken(Box::new(claims)));
    }

    /// Queues a message to the client, behind the participant updates that wait.
    fn signal(&mut self, message: Message) {
        if self.phase != Phase::Joined {
            return;
        }
        self.flush_updates();
        let response = proto::SignalResponse { message: Some(message) };
        self.out.push_back(Output::Signal(Box::new(response)));
    }

    /// Queues a participant update; several between two other messages become one.
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
