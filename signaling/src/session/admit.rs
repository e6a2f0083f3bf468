//! Giving a participant its place before its WebSocket is answered, so that failures stay HTTP statuses and the
//! first message is ready.

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

/// How many peer connections the client uses. The form of the join request decides, not the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalMode {
    /// One for both directions.
    Single,
    /// One to publish, one to receive.
    Dual,
}

/// What a client asks for when it joins.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinParameters {
    /// One peer connection or two.
    pub mode: SignalMode,
    /// What the client says of itself.
    pub client: proto::ClientInfo,
    /// Subscribe to everything that is published.
    pub auto_subscribe: bool,
    /// The client will say how large its tiles are.
    pub adaptive_stream: bool,
    /// None of its pictures may be paused.
    pub never_pause: bool,
    /// Replaces the token's metadata if the token lets it; empty: does not.
    pub metadata: String,
    /// Added to the token's attributes if the token lets it.
    pub attributes: BTreeMap<String, String>,
    /// Tracks that it will publish at once.
    pub add_tracks: Vec<proto::AddTrackRequest>,
    /// Its first offer.
    pub offer: Option<proto::SessionDescription>,
    /// It wants to go on with an earlier session.
    pub resume: Option<Resume>,
    /// What it has of that.
    pub sync_state: Option<proto::SyncState>,
}

/// A client's wish to go on with its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// Which.
    pub participant: ParticipantSid,
    /// Why it lost it.
    pub reason: proto::ReconnectReason,
}

/// Who a client is and what it may do, from its token.
#[derive(Clone)]
pub struct Grants {
    /// The room that the token is for.
    pub room: String,
    /// Who comes, and what it may do.
    pub participant: ParticipantDescription,
    /// How the room is to be if it is opened by this join.
    pub room_config: Option<proto::RoomConfiguration>,
    /// Makes fresh tokens with the same grants.
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

/// Makes fresh tokens for one session: the grants of the token it joined with, and claims that may have changed.
pub trait TokenIssuer: Send + Sync {
    /// A token, or `None` if none can be made (the client then keeps the one it has).
    fn issue(&self, claims: &RefreshClaims, unix_s: u64) -> Option<String>;
}

/// Why a participant may not come in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct AdmitError {
    /// The HTTP status that tells it.
    pub status: StatusCode,
    /// In plain words.
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

/// What all sessions of a process have in common.
#[derive(Debug, Clone)]
pub struct RoomsConfig {
    /// The server as clients see it.
    pub server: ServerDescription,
    /// Bounds of a session.
    pub limits: SessionLimits,
    /// Bounds of a socket.
    pub socket: SocketLimits,
    /// A join opens the room if there is none of that name.
    pub auto_create: bool,
    /// What a room is opened with, unless a token says otherwise.
    pub room: RoomSettings,
    /// How long the media plane may take to give a participant its place. Clients wait 5 s for the first message.
    pub join_timeout: Duration,
    /// Between two looks for rooms that are to close.
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

/// The rooms, as far as this process has sessions in them. Cheap to clone.
#[derive(Clone)]
pub struct Rooms(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) config: RoomsConfig,
    server: Arc<ServerDescription>,
    limits: Arc<SessionLimits>,
    pub(super) directory: Arc<dyn Directory>,
    pub(super) link: Arc<dyn Link>,
    pub(super) stats: SessionStats,
    /// The ways into the sessions that run.
    pub(super) doors: DashMap<ParticipantSid, Doors>,
    /// Nobody comes in any more.
    pub(super) closing: AtomicBool,
    no_place: NoPlace,
    pub(super) open: watch::Sender<usize>,
}

impl fmt::Debug for Rooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rooms").field("open", &*self.0.open.borrow()).finish_non_exhaustive()
    }
}

/// A participant that has its place, or a client that is to be told to start anew. Dropping it gives the place back.
#[derive(Debug)]
pub struct Admitted(pub(super) Admission);

#[derive(Debug)]
pub(super) enum Admission {
    /// Ready for its socket.
    Session(Box<Driver>),
    /// It goes on with a session that runs.
    Resume(Box<Resumption>),
    /// It asked for a session that cannot be resumed.
    StartAnew(Rooms),
}

impl Rooms {
    /// Rooms of `directory`, whose media goes over `link`.
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

    /// What has happened to the sessions so far.
    pub fn stats(&self) -> &SessionStats {
        &self.0.stats
    }

    /// Gives the participant its place in the media plane and prepares its first messages.
    ///
    /// # Errors
    /// When it may not come in or cannot be taken: an HTTP status and its text.
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

    /// Finds the session that a client wants to go on with. Whether the session is still there when its socket is,
    /// the socket finds out.
    fn resume(&self, resume: &Resume, parameters: JoinParameters, grants: &Grants) -> Admission {
        // Older clients do not say which session was theirs.
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

    /// The media plane has no place for a participant.
    fn no_place(&self, text: &str) -> AdmitError {
        let refusal = unavailable(text);
        self.0.no_place.note(Instant::now(), refusal.clone());
        refusal
    }

    /// Whether [`Rooms::admit`] would let the client in, as far as that can be told without taking a place.
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

    /// The session of that identity in that room, if it is in this process.
    pub fn find(&self, room: &str, identity: &str) -> Option<ParticipantSid> {
        let mut doors = self.0.doors.iter();
        doors.find(|doors| doors.room == room && doors.identity == identity).map(|doors| doors.key().clone())
    }

    /// Ends a session; its client is told why. False if there is none of that sid in this process.
    pub fn end(&self, participant: &ParticipantSid, reason: LeaveReason) -> bool {
        // One reason is enough: if another waits already, the session ends by that.
        let doors = self.0.doors.get(participant);
        doors.is_some_and(|doors| doors.end.try_send(reason).is_ok() || !doors.end.is_closed())
    }

    /// Changes what a participant may do. False if there is none of that sid in this process, or if it has not
    /// carried out several earlier changes yet.
    pub fn set_permission(
        &self,
        participant: &ParticipantSid,
        permission: proto::ParticipantPermission,
    ) -> bool {
        let order = Order::SetPermission(Box::new(permission));
        self.0.doors.get(participant).is_some_and(|doors| doors.orders.try_send(order).is_ok())
    }

    /// Tells every session that the server goes, lets nobody else in, and returns when all have ended, or after
    /// `wait`; false if some had not by then.
    pub async fn shutdown(&self, wait: Duration) -> bool {
        self.0.closing.store(true, Ordering::SeqCst);
        for doors in &self.0.doors {
            // A session that is ending already has its reason.
            let _full = doors.end.try_send(LeaveReason::ServerShutdown);
        }
        let mut open = self.0.open.subscribe();
        let all_gone = open.wait_for(|open| *open == 0);
        // Whoever is left after that has a socket that does not move.
        tokio::time::timeout(wait, all_gone).await.is_ok_and(|waited| waited.is_ok())
    }

    /// Closes rooms that have been empty long enough. To be run for as long as the process lives.
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

    /// Checks sizes and merges what the client says of itself with what its token says.
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

/// From this protocol number on the receiving connection of the two may be the primary one.
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

/// Whether a client can go on as it asks. The receiving connection of the two is ours to restart, which the media
/// plane cannot do: if that failed, or the network changed, only a new session helps.
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

/// A room's own bounds of the delay to play at; 0 stands for none in both.
fn playout_delay(min_ms: u32, max_ms: u32) -> Option<PlayoutDelay> {
    (min_ms > 0 || max_ms > 0).then_some(PlayoutDelay { min_ms, max_ms })
}
