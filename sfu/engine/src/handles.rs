//! Handles: places in a shard's tables. They are what modules pass to each other in place of references.

/// A room's place on its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomIndex(pub usize);

/// A peer's place on its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerIndex(pub usize);

/// A participant's place on its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParticipantIndex(pub usize);

/// A track's place in a room's replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TrackHandle {
    /// The room.
    pub room: RoomIndex,
    /// Its place among the room's tracks.
    pub track: usize,
}
