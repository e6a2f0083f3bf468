//! Directory of rooms: their sids, their settings and when they close. The media plane has the authoritative list of a
//! room's members; the directory only counts members, to enforce the size limit and to know how long a room has been
//! empty.

pub mod memory;

use std::time::Instant;

use futures_util::future::BoxFuture;
use sfu_protocol::{ParticipantSid, PlayoutDelay, RoomSid};

use crate::session::RoomDescription;

pub use memory::MemoryDirectory;

/// Settings of a room at its opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSettings {
    /// Seconds that a new room stays open if no participant joins.
    pub empty_timeout_s: u32,
    /// Seconds that the room stays open after its last participant left.
    pub departure_timeout_s: u32,
    /// Maximum number of participants; 0 means unlimited.
    pub max_participants: u32,
    /// Playout delay that is sent to receivers of video; absent for none.
    pub playout_delay: Option<PlayoutDelay>,
    /// Metadata of the room: any text of the app.
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

/// Participant that enters a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrant {
    /// Sid of the participant's session.
    pub participant: ParticipantSid,
    /// Identity of the participant. Several sessions of one identity count once.
    pub identity: String,
    /// Whether the participant counts towards the room's size and keeps the room open. Agents and recorders do not.
    pub counted: bool,
}

/// Reason why a room cannot be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// No room of that name exists, and none is to be opened.
    #[error("requested room does not exist")]
    NoSuchRoom,
    /// The room has reached its maximum number of participants.
    #[error("the room is full")]
    RoomFull,
    /// The directory does not respond.
    #[error("the directory of rooms does not answer")]
    Unavailable,
}

/// Room that was closed by a sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedRoom {
    /// Description of the room.
    pub room: RoomDescription,
    /// Members that were still in the room; none of them counts.
    pub left: Vec<ParticipantSid>,
}

/// Directory of all open rooms.
pub trait Directory: Send + Sync {
    /// Enters the room called `name`. If no such room exists, it is opened with the settings in `create`; without
    /// `create` that is an error.
    fn enter<'a>(
        &'a self,
        now: Instant,
        name: &'a str,
        entrant: Entrant,
        create: Option<RoomSettings>,
    ) -> BoxFuture<'a, Result<RoomDescription, DirectoryError>>;

    /// Checks whether [`enter`](Directory::enter) would succeed, without entering. `create` says whether a missing room
    /// would be opened.
    fn admits<'a>(
        &'a self,
        now: Instant,
        name: &'a str,
        entrant: &'a Entrant,
        create: bool,
    ) -> BoxFuture<'a, Result<(), DirectoryError>>;

    /// Removes a participant from a room. Unknown rooms and participants are ignored.
    fn leave<'a>(
        &'a self,
        now: Instant,
        room: &'a RoomSid,
        name: &'a str,
        participant: &'a ParticipantSid,
    ) -> BoxFuture<'a, ()>;

    /// Finds the open room called `name`.
    fn find<'a>(&'a self, now: Instant, name: &'a str) -> BoxFuture<'a, Option<RoomDescription>>;

    /// Closes the rooms whose timeout has passed since they became empty, and returns them.
    fn sweep(&self, now: Instant) -> BoxFuture<'_, Vec<ClosedRoom>>;
}
