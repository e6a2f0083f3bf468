//! Handles: indices into a shard's tables, which modules pass to each other instead of references.

/// Index of a room in its shard's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomIndex(pub usize);

/// Index of a peer in its shard's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerIndex(pub usize);

/// Index of a participant in its shard's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParticipantIndex(pub usize);

/// Position of a track in this shard's replica of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TrackHandle {
    /// Room of the track.
    pub room: RoomIndex,
    /// Index of the track in the room's table of tracks.
    pub track: usize,
}
