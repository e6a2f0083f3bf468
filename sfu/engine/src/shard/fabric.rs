//! What shards of one process say to each other. A room's home shard keeps its roster of record and is the
//! one place that orders announcements of tracks; media, demand and user data go straight between the shards
//! concerned.

use std::sync::Arc;

use bytes::Bytes;
use sfu_protocol::{DataKind, Layer, LeaveReason, ParticipantSid, RoomSid, TrackSid};

use super::backlog::BacklogLevel;
use super::io::ShardId;
use crate::media_packet::{MediaPacket, TrackId};
use crate::room::TrackFacts;
use crate::room::data::UserData;
use crate::units::SenderClock;

/// One message between shards.
#[derive(Debug, Clone)]
pub enum FabricMessage {
    /// A published packet, for a shard with subscribers of its track.
    Media(Arc<MediaPacket>),
    /// A published packet of sound, the first after its track was kept back where it originates.
    SoundBegins(Arc<MediaPacket>),
    /// A publisher's sender report, for a shard with subscribers of its track.
    SenderClock {
        /// Track that the report is about.
        track: TrackId,
        /// Encoding that the report is about.
        layer: Layer,
        /// Sender report: a time of capture and the RTP timestamp that it has.
        report: SenderClock,
    },
    /// To the origin of a track: what is wanted of it there.
    Demand {
        /// Track that is wanted.
        track: TrackId,
        /// Shard whose subscribers want it.
        from: ShardId,
        /// The highest layer wanted, `None` for nothing.
        highest: Option<Layer>,
    },
    /// To the origin of a track: a subscriber needs a key frame.
    KeyFrame {
        /// Track that needs the key frame.
        track: TrackId,
        /// Layer that needs the key frame.
        layer: Layer,
    },
    /// To the origin of a track: its first visible subscriber is bound.
    FirstSubscriber {
        /// Track that is received now.
        track: TrackId,
    },
    /// A user message, to every shard with members of the room.
    Data(Arc<UserData>),
    /// To the origin of reliable user messages: so much of them was taken. Not told for each.
    DataTaken {
        /// Shard whose receivers took it.
        from: ShardId,
        /// What was taken, in bytes as [`UserData::cost`] counts.
        bytes: usize,
    },
    /// To the shard of a sender of user messages: how receivers elsewhere keep up with it, when that has changed.
    DataLevel {
        /// The sender.
        sender: ParticipantSid,
        /// Where the receivers are.
        from: ShardId,
        /// Level of the receivers there, taken together.
        level: BacklogLevel,
    },
    /// To shards that received user messages of a participant: it has gone.
    DataEnded {
        /// The sender.
        sender: ParticipantSid,
    },
    /// Everything that concerns one room's replicas and its home.
    Room {
        /// Room that the message is about.
        room: RoomSid,
        /// The message.
        message: RoomMessage,
    },
}

/// What a room's home shard and its replicas say to each other.
#[derive(Debug, Clone)]
pub enum RoomMessage {
    /// To home: members are here now. Answered by `Replica`.
    Attach {
        /// Shard that has members.
        from: ShardId,
    },
    /// To home: no members are here any more.
    Detach {
        /// Shard that has none any more.
        from: ShardId,
    },
    /// From home: all tracks, for a shard that has just attached.
    Replica {
        /// With the shard that each originates on.
        tracks: Vec<(TrackFacts, ShardId)>,
    },
    /// From home: which shards have members.
    Shards {
        /// All of them.
        shards: Vec<u16>,
    },
    /// To home: a participant enters. Answered by `Entered`.
    Enter {
        /// Shard that its peers are on.
        from: ShardId,
        /// Participant that enters.
        participant: ParticipantSid,
        /// Unique in the room.
        identity: String,
        /// Not shown to others.
        hidden: bool,
        /// What others see.
        info: Bytes,
    },
    /// From home: a participant is in. Its session is told by home itself, so that no change of the roster
    /// can overtake the roster.
    Entered {
        /// Participant that is in.
        participant: ParticipantSid,
    },
    /// To home: a participant's information changed.
    Update {
        /// Participant whose information changed.
        participant: ParticipantSid,
        /// What others see.
        info: Bytes,
    },
    /// To home: a participant went.
    Exit {
        /// Participant that went.
        participant: ParticipantSid,
        /// Reason that the others are told.
        reason: LeaveReason,
    },
    /// From home: a newer session of the same identity took the place of this one.
    Superseded {
        /// Who has to go.
        participant: ParticipantSid,
    },
    /// From home to every attached shard: somebody came, who is to hear how well others are connected.
    Newcomer,
    /// To home: how loud a participant speaks, at most ten times a second while it does, and once when that ends.
    Voice {
        /// Participant that speaks.
        participant: ParticipantSid,
        /// Above 0 to 1, linear; `None`: not at all.
        level: Option<f32>,
    },
    /// From home to every attached shard: who speaks, or spoke last, and so matters most.
    Dominant {
        /// Participant whose pictures are made room for; `None`: nobody.
        participant: Option<ParticipantSid>,
    },
    /// To home, and from home to every attached shard: a track, new or changed.
    Track {
        /// What it is now.
        facts: TrackFacts,
        /// Where it originates.
        origin: ShardId,
    },
    /// To home, and from home to every attached shard: a track is gone.
    TrackGone {
        /// Track that is gone.
        track: TrackSid,
    },
}

/// What becomes of a message for which another shard's mailbox has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FabricClass {
    /// It is dropped and counted: what is needed of it is asked for again.
    Media,
    /// If it is lossy it is dropped and counted: how much there is of it is up to those who send it. If not, its sender
    /// keeps it and tries again; the credit between two shards bounds how much that is. It takes no room from control,
    /// and waits for none.
    Data {
        /// What it counts as, in bytes.
        bytes: usize,
        /// It may be dropped.
        lossy: bool,
    },
    /// It is never dropped; its sender keeps it and tries again.
    Control,
}

impl FabricMessage {
    /// What becomes of it if there is no room.
    pub fn class(&self) -> FabricClass {
        match self {
            Self::Media(_) | Self::SoundBegins(_) | Self::SenderClock { .. } | Self::KeyFrame { .. } => {
                FabricClass::Media
            }
            Self::Data(data) => FabricClass::Data { bytes: data.cost(), lossy: data.kind == DataKind::Lossy },
            _ => FabricClass::Control,
        }
    }
}
