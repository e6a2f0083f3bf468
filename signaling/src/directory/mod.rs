//! Which rooms there are: their sids, settings, and when they close. The members of a call are the media plane's
//! truth; the directory only counts them to know when a room has been empty long enough.

pub mod memory;

use std::time::Instant;

use futures_util::future::BoxFuture;
use sfu_protocol::{ParticipantSid, PlayoutDelay, RoomSid};

use crate::session::RoomDescription;

pub use memory::MemoryDirectory;

/// What a room is opened with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSettings {
    /// Seconds that it waits for its first participant.
    pub empty_timeout_s: u32,
    /// Seconds that it stays after its last participant.
    pub departure_timeout_s: u32,
    /// Most participants, 0 any.
    pub max_participants: u32,
    /// What receivers of pictures are told of the delay to play at.
    pub playout_delay: Option<PlayoutDelay>,
    /// The app's own text about it.
    pub metadata: String,
}

impl Default for RoomSettings {
    fn default() -> Self {
        Self {
            empty_timeout_s: 300,
            departure_timeout_s: 20,
            max_participants: 0,
            playout_delay: None,
            metadata: String::new(),
        }
    }
}

/// Somebody who enters a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrant {
    /// The session's sid.
    pub participant: ParticipantSid,
    /// Who; several sessions of one identity count once.
    pub identity: String,
    /// Counts towards the room's size and keeps it open; agents and recorders do not.
    pub counted: bool,
}

/// Why a room cannot be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// There is none of that name, and none is to be opened.
    #[error("requested room does not exist")]
    NoSuchRoom,
    /// It has as many participants as it may have.
    #[error("the room is full")]
    RoomFull,
    /// The directory does not answer.
    #[error("the directory of rooms does not answer")]
    Unavailable,
}

/// A room that has closed, and who was still in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedRoom {
    /// The room.
    pub room: RoomDescription,
    /// Those who do not keep a room open.
    pub left: Vec<ParticipantSid>,
}

/// The rooms that there are.
pub trait Directory: Send + Sync {
    /// Enters the room of that name, and opens it first with `create` if there is none.
    fn enter<'a>(
        &'a self,
        now: Instant,
        name: &'a str,
        entrant: Entrant,
        create: Option<RoomSettings>,
    ) -> BoxFuture<'a, Result<RoomDescription, DirectoryError>>;

    /// Whether [`enter`](Directory::enter) would let somebody in who opens a room that is not there if `create`.
    fn admits<'a>(
        &'a self,
        now: Instant,
        name: &'a str,
        entrant: &'a Entrant,
        create: bool,
    ) -> BoxFuture<'a, Result<(), DirectoryError>>;

    /// Takes back an [`enter`](Directory::enter). Unknown names and participants are ignored.
    fn leave<'a>(
        &'a self,
        now: Instant,
        room: &'a RoomSid,
        name: &'a str,
        participant: &'a ParticipantSid,
    ) -> BoxFuture<'a, ()>;

    /// The room of that name, if it is open.
    fn find<'a>(&'a self, now: Instant, name: &'a str) -> BoxFuture<'a, Option<RoomDescription>>;

    /// Closes what has been empty long enough.
    fn sweep(&self, now: Instant) -> BoxFuture<'_, Vec<ClosedRoom>>;
}
