//! Admits a participant before its WebSocket upgrade is answered, so that a failure can be reported as an HTTP status
//! and the first message is ready when the socket opens.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use dashmap::DashMap;
use livekit_protocol as proto;
use rand::Rng;
use sfu_protocol::{ConnectionMode, EndReason, LeaveReason, ParticipantSid, PlayoutDelay};
use tokio::sync::watch;

use super::no_place::NoPlace;
use super::socket::{Doors, Driver, Order, Resumption, SocketLimits};
use super::{
    EndCause, ParticipantDescription, RefreshClaims, Resumed, ServerDescription, Session, SessionConfig,
    SessionLimits, SessionStats, WallClock, track,
};
use crate::directory::{Directory, DirectoryError, Entrant, RoomSettings};
use crate::nodes::Link;

/// How many peer connections the client uses. The form of the join request decides this, not the request path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalMode {
    /// One peer connection for both directions.
    Single,
    /// One peer connection to publish and one to receive.
    Dual,
}

/// Parameters of a join request.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinParameters {
    /// Whether the client uses one peer connection or two.
    pub mode: SignalMode,
    /// The client's description of itself.
    pub client: proto::ClientInfo,
    /// Subscribe to every published track unless the client says otherwise.
    pub auto_subscribe: bool,
    /// The client will report the size of its video tiles.
    pub adaptive_stream: bool,
    /// No video that the client receives may be paused for lack of bandwidth.
    pub never_pause: bool,
    /// Replaces the token's metadata if the token permits it; empty if the token's metadata is to be used.
    pub metadata: String,
    /// Attributes merged into the token's attributes if the token permits it; those with an empty value are ignored.
    pub attributes: BTreeMap<String, String>,
    /// Tracks that the client will publish at once.
    pub add_tracks: Vec<proto::AddTrackRequest>,
    /// First SDP offer of the client, if it came with the request.
    pub offer: Option<proto::SessionDescription>,
    /// Present if the client wants to resume an earlier session.
    pub resume: Option<Resume>,
    /// The client's state in the session that it wants to resume, if it came with the request.
    pub sync_state: Option<proto::SyncState>,
}

/// A client's request to resume an earlier session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// Sid of the session's participant; empty if the client does not say.
    pub participant: ParticipantSid,
    /// Why the client lost its connection.
    pub reason: proto::ReconnectReason,
}

/// Identity and permissions of a client, from its token.
#[derive(Clone)]
pub struct Grants {
    /// Name of the room that the token is for.
    pub room: String,
    /// The participant and its permissions.
    pub participant: ParticipantDescription,
    /// Settings of the room if this join opens it.
    pub room_config: Option<proto::RoomConfiguration>,
    /// Issues fresh tokens with the same grants.
    pub issuer: Arc<dyn TokenIssuer>,
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grants")
            .field("room", &self.room)
            .field("identity", &self.participant.identity)
            .finish()
    }
}

/// Issues fresh tokens for one session. A token has the grants of the one that the session joined with, and claims
/// that may have changed.
pub trait TokenIssuer: Send + Sync {
    /// A fresh token, issued at `unix_s` seconds since 1970; `None` if it cannot be made, in which case the client
    /// keeps its current token.
    fn issue(&self, claims: &RefreshClaims, unix_s: u64) -> Option<String>;
}

/// Why a participant was not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct AdmitError {
    /// HTTP status of the response.
    pub status: StatusCode,
    /// Explanation for the client, in plain words.
    pub text: String,
}

impl AdmitError {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }
}

impl From<DirectoryError> for AdmitError {
    fn from(error: DirectoryError) -> Self {
        let status = match error {
            DirectoryError::NoSuchRoom => StatusCode::NOT_FOUND,
            DirectoryError::RoomFull => StatusCode::TOO_MANY_REQUESTS,
            DirectoryError::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

/// Configuration shared by all sessions of a process.
#[derive(Debug, Clone)]
pub struct RoomsConfig {
    /// Description of the server for clients.
    pub server: ServerDescription,
    /// Limits of a session.
    pub limits: SessionLimits,
    /// Limits of a WebSocket.
    pub socket: SocketLimits,
    /// Whether a join opens the room if no room of that name exists.
    pub auto_create: bool,
    /// Settings of a new room, unless a token says otherwise.
    pub room: RoomSettings,
    /// How long the media plane may take to answer a join. Clients wait 5 s for the first message.
    pub join_timeout: Duration,
    /// Interval between checks for rooms that are to be closed.
    pub sweep: Duration,
}

impl Default for RoomsConfig {
    fn default() -> Self {
        Self {
            server: ServerDescription::default(),
            limits: SessionLimits::default(),
            socket: SocketLimits::default(),
            auto_create: true,
            room: RoomSettings::default(),
            join_timeout: Duration::from_secs(4),
            sweep: Duration::from_secs(1),
        }
    }
}

/// The sessions of this process and what they share. Cheap to clone.
#[derive(Clone)]
pub struct Rooms(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) config: RoomsConfig,
    server: Arc<ServerDescription>,
    limits: Arc<SessionLimits>,
    pub(super) directory: Arc<dyn Directory>,
    pub(super) link: Arc<dyn Link>,
    pub(super) stats: SessionStats,
    /// Channels into the running sessions.
    pub(super) doors: DashMap<ParticipantSid, Doors>,
    /// Set when the process shuts down; nobody is admitted any more.
    pub(super) closing: AtomicBool,
    no_place: NoPlace,
    pub(super) open: watch::Sender<usize>,
}

impl fmt::Debug for Rooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rooms").field("open", &*self.0.open.borrow()).finish_non_exhaustive()
    }
}

/// An admitted participant, or a client that is to be told to start a new session. Dropping it releases the
/// participant's place.
#[derive(Debug)]
pub struct Admitted(pub(super) Admission);

#[derive(Debug)]
pub(super) enum Admission {
    /// A new session, ready for its socket.
    Session(Box<Driver>),
    /// A client that resumes a running session.
    Resume(Box<Resumption>),
    /// A client that asked for a session that cannot be resumed.
    StartAnew(Rooms),
}

impl Rooms {
    /// Sessions in rooms of `directory`, whose media is controlled over `link`.
    pub fn new(config: RoomsConfig, directory: Arc<dyn Directory>, link: Arc<dyn Link>) -> Self {
        Self(Arc::new(Shared {
            server: Arc::new(config.server.clone()),
            limits: Arc::new(config.limits.clone()),
            config,
            directory,
            link,
            stats: SessionStats::default(),
            doors: DashMap::new(),
            closing: AtomicBool::new(false),
            no_place: NoPlace::default(),
            open: watch::Sender::new(0),
        }))
    }

    /// Counters of the sessions of this process.
    pub fn stats(&self) -> &SessionStats {
        &self.0.stats
    }

    /// Admits the participant to the media plane and prepares its first messages. A request to resume only looks up
    /// the session.
    ///
    /// # Errors
    /// If the participant may not join, or the server cannot take it. The error has an HTTP status and a text.
    pub async fn admit(&self, parameters: JoinParameters, grants: Grants) -> Result<Admitted, AdmitError> {
        let admitted = self.try_admit(parameters, grants).await;
        if admitted.is_err() {
            SessionStats::add(&self.0.stats.refused);
        }
        admitted
    }

    async fn try_admit(
        &self,
        mut parameters: JoinParameters,
        grants: Grants,
    ) -> Result<Admitted, AdmitError> {
        let participant = self.check_join(&parameters, &grants)?;
        if let Some(resume) = parameters.resume.take() {
            return Ok(Admitted(self.resume(&resume, parameters, &grants)));
        }
        let now = Instant::now();
        let sid = ParticipantSid::new(format!(
            "{}{}",
            ParticipantSid::PREFIX,
            track::random_word(&mut rand::rng())
        ));
        let entrant = entrant(sid.clone(), &participant);
        let create = self.0.config.auto_create.then(|| self.room_settings(grants.room_config.as_ref()));
        let room = self.0.directory.enter(now, &grants.room, entrant, create).await?;
        let mode = connection_mode(&parameters, &participant.permission);
        let config = SessionConfig {
            server: Arc::clone(&self.0.server),
            limits: Arc::clone(&self.0.limits),
            room,
            sid,
            participant,
            mode,
            auto_subscribe: parameters.auto_subscribe,
            adaptive_stream: parameters.adaptive_stream,
            never_pause: parameters.never_pause,
            add_tracks: std::mem::take(&mut parameters.add_tracks),
            offer: parameters.offer.take(),
            client: parameters.client,
            unnoticed: self.0.config.socket.unnoticed(),
            clock: WallClock { origin: now, unix_ms: unix_ms() },
            seed: rand::rng().random(),
        };
        self.open_session(now, config, grants.issuer).await
    }

    /// Finds the session that a client wants to resume. Whether the session still exists when the socket opens is
    /// checked then.
    fn resume(&self, resume: &Resume, parameters: JoinParameters, grants: &Grants) -> Admission {
        // Older clients do not name their session.
        let by_identity = || self.find(&grants.room, &grants.participant.identity);
        let said = Some(resume.participant.clone()).filter(|sid| !sid.as_str().is_empty());
        let doors = said.or_else(by_identity).and_then(|sid| self.0.doors.get(&sid));
        let orders = doors.filter(|doors| {
            let theirs = doors.identity == grants.participant.identity && doors.room == grants.room;
            theirs && self.0.config.server.resume && can_resume(resume, &parameters, doors.mode)
        });
        let Some(orders) = orders.map(|doors| doors.orders.clone()) else {
            SessionStats::add(&self.0.stats.resumes_refused);
            return Admission::StartAnew(self.clone());
        };
        let JoinParameters { client, offer, sync_state, .. } = parameters;
        let resumed = Resumed { client, offer, sync_state };
        Admission::Resume(Box::new(Resumption { rooms: self.clone(), orders, resumed }))
    }

    async fn open_session(
        &self,
        now: Instant,
        config: SessionConfig,
        issuer: Arc<dyn TokenIssuer>,
    ) -> Result<Admitted, AdmitError> {
        let seat = super::socket::Seat::take(self.clone(), &config);
        let room = config.room.sid.clone();
        let mut driver = Box::new(Driver::new(Session::new(now, config), seat, issuer));
        match tokio::time::timeout(self.0.config.join_timeout, driver.until_joined()).await {
            Ok(None) => {
                SessionStats::add(&self.0.stats.joined);
                tracing::debug!(room = %room, "session joined");
                self.0.no_place.clear();
                Ok(Admitted(Admission::Session(driver)))
            }
            Ok(Some(EndCause::Media(EndReason::NodeFull))) => {
                Err(self.no_place("this server has no room for another participant"))
            }
            Ok(Some(EndCause::Media(EndReason::DuplicateIdentity))) => {
                Err(AdmitError::new(StatusCode::CONFLICT, "another session of this identity came in"))
            }
            Ok(Some(EndCause::Left(LeaveReason::ServerShutdown))) => Err(unavailable("the server is ending")),
            Ok(Some(_)) => Err(unavailable("the media plane refused the participant")),
            Err(_) => Err(self.no_place("the media plane did not answer in time")),
        }
    }

    /// Records that the media plane could not take a participant, and returns the error for the client.
    fn no_place(&self, text: &str) -> AdmitError {
        let refusal = unavailable(text);
        self.0.no_place.note(Instant::now(), refusal.clone());
        refusal
    }

    /// Whether [`Rooms::admit`] would admit the client, as far as that can be told without joining.
    ///
    /// # Errors
    /// As [`Rooms::admit`].
    pub async fn check(&self, parameters: &JoinParameters, grants: &Grants) -> Result<(), AdmitError> {
        let participant = self.check_join(parameters, grants)?;
        if parameters.resume.is_some() {
            return Ok(());
        }
        let entrant = entrant(ParticipantSid::new(ParticipantSid::PREFIX), &participant);
        let create = self.0.config.auto_create;
        self.0.directory.admits(Instant::now(), &grants.room, &entrant, create).await?;
        self.0.no_place.lately(Instant::now()).map_or(Ok(()), Err)
    }

    /// Sid of the session with that identity in that room, if it is in this process.
    pub fn find(&self, room: &str, identity: &str) -> Option<ParticipantSid> {
        let mut doors = self.0.doors.iter();
        doors.find(|doors| doors.room == room && doors.identity == identity).map(|doors| doors.key().clone())
    }

    /// Ends a session and tells its client why. Returns false if this process has no session of that sid.
    pub fn end(&self, participant: &ParticipantSid, reason: LeaveReason) -> bool {
        // One reason is enough: if another is pending already, the session ends with that one.
        let doors = self.0.doors.get(participant);
        doors.is_some_and(|doors| doors.end.try_send(reason).is_ok() || !doors.end.is_closed())
    }

    /// Changes a participant's permissions. Returns false if this process has no session of that sid, or if too many
    /// earlier orders to the session are pending.
    pub fn set_permission(
        &self,
        participant: &ParticipantSid,
        permission: proto::ParticipantPermission,
    ) -> bool {
        let order = Order::SetPermission(Box::new(permission));
        self.0.doors.get(participant).is_some_and(|doors| doors.orders.try_send(order).is_ok())
    }

    /// Tells every session that the server is shutting down, and admits nobody else. Returns true when all sessions
    /// have ended, or false if some have not after `wait`.
    pub async fn shutdown(&self, wait: Duration) -> bool {
        self.0.closing.store(true, Ordering::SeqCst);
        for doors in &self.0.doors {
            // A session that is ending already has its reason.
            let _full = doors.end.try_send(LeaveReason::ServerShutdown);
        }
        let mut open = self.0.open.subscribe();
        let all_gone = open.wait_for(|open| *open == 0);
        // A session that remains after that has a socket that makes no progress.
        tokio::time::timeout(wait, all_gone).await.is_ok_and(|waited| waited.is_ok())
    }

    /// Closes rooms that have been empty for long enough. Never returns; run it for as long as the process lives.
    pub async fn keep_house(&self) {
        let mut ticks = tokio::time::interval(self.0.config.sweep);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for closed in self.0.directory.sweep(Instant::now()).await {
                for participant in closed.left {
                    self.end(&participant, LeaveReason::RoomClosed);
                }
            }
        }
    }

    fn room_settings(&self, from_token: Option<&proto::RoomConfiguration>) -> RoomSettings {
        let defaults = &self.0.config.room;
        let Some(token) = from_token else { return defaults.clone() };
        let or = |value: u32, default: u32| if value == 0 { default } else { value };
        RoomSettings {
            empty_timeout_s: or(token.empty_timeout, defaults.empty_timeout_s),
            departure_timeout_s: or(token.departure_timeout, defaults.departure_timeout_s),
            max_participants: or(token.max_participants, defaults.max_participants),
            playout_delay: playout_delay(token.min_playout_delay, token.max_playout_delay)
                .or(defaults.playout_delay),
            metadata: if token.metadata.is_empty() {
                defaults.metadata.clone()
            } else {
                token.metadata.clone()
            },
        }
    }

    /// Checks the sizes in a join request, and merges the client's own metadata and attributes with those of its
    /// token.
    fn check_join(
        &self,
        parameters: &JoinParameters,
        grants: &Grants,
    ) -> Result<ParticipantDescription, AdmitError> {
        if self.0.closing.load(Ordering::SeqCst) {
            return Err(unavailable("the server is ending"));
        }
        let mut who = grants.participant.clone();
        if who.permission.can_update_metadata {
            if !parameters.metadata.is_empty() {
                who.metadata.clone_from(&parameters.metadata);
            }
            let given = parameters.attributes.iter().filter(|(_, value)| !value.is_empty());
            who.attributes.extend(given.map(|(key, value)| (key.clone(), value.clone())));
        }
        let limits = &self.0.limits;
        let empty = [("identity", &who.identity), ("room", &grants.room)];
        if let Some((field, _)) = empty.into_iter().find(|(_, value)| value.is_empty()) {
            return Err(AdmitError::new(StatusCode::BAD_REQUEST, format!("`{field}` is empty")));
        }
        let room_metadata = grants.room_config.as_ref().map_or(0, |room| room.metadata.len());
        let sizes = [
            ("identity", who.identity.len(), limits.name),
            ("room", grants.room.len(), limits.name),
            ("name", who.name.len(), limits.name),
            ("metadata", who.metadata.len(), limits.metadata),
            ("attributes", SessionLimits::attribute_bytes(&who.attributes), limits.attributes),
            ("roomConfig.metadata", room_metadata, limits.metadata),
        ];
        if let Some((field, size, limit)) = sizes.into_iter().find(|(_, size, limit)| size > limit) {
            let text = format!("`{field}` is {size} bytes long, at most {limit} are accepted");
            return Err(AdmitError::new(StatusCode::BAD_REQUEST, text));
        }
        Ok(who)
    }
}

fn unavailable(text: &str) -> AdmitError {
    AdmitError::new(StatusCode::SERVICE_UNAVAILABLE, text)
}

fn entrant(participant: ParticipantSid, who: &ParticipantDescription) -> Entrant {
    let counted = super::join::is_counted_kind(who.kind);
    Entrant { participant, identity: who.identity.clone(), counted }
}

/// From this protocol number on, the receiving connection of a client with two may be the primary one.
const PROTOCOL_SUBSCRIBER_PRIMARY: i32 = 3;

fn connection_mode(parameters: &JoinParameters, permission: &proto::ParticipantPermission) -> ConnectionMode {
    match parameters.mode {
        SignalMode::Single => ConnectionMode::Single,
        SignalMode::Dual => ConnectionMode::Dual {
            subscriber_primary: parameters.client.protocol >= PROTOCOL_SUBSCRIBER_PRIMARY
                && permission.can_subscribe,
        },
    }
}

/// Whether a client can resume as it asks. A client with two peer connections needs a new session if its receiving
/// connection failed or its network changed: the server would have to restart that connection, which the media plane
/// cannot do.
pub(super) fn can_resume(resume: &Resume, parameters: &JoinParameters, mode: ConnectionMode) -> bool {
    use proto::ReconnectReason::{RrSubscriberFailed, RrSwitchCandidate};
    match mode {
        ConnectionMode::Single => parameters.mode == SignalMode::Single,
        ConnectionMode::Dual { .. } => {
            parameters.mode == SignalMode::Dual
                && !matches!(resume.reason, RrSubscriberFailed | RrSwitchCandidate)
        }
    }
}

fn unix_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

/// A room's own playout delay limits. 0 in both means none.
fn playout_delay(min_ms: u32, max_ms: u32) -> Option<PlayoutDelay> {
    (min_ms > 0 || max_ms > 0).then_some(PlayoutDelay { min_ms, max_ms })
}
