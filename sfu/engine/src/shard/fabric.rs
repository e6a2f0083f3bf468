//! Messages between the shards of one process. A room's home shard keeps its authoritative roster and is the one place
//! that orders announcements of tracks. Media, demand and user data go directly between the shards concerned.

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
    /// A published audio packet, the first one after the origin had withheld the track because others were louder.
    SoundBegins(Arc<MediaPacket>),
    /// A publisher's sender report, for a shard with subscribers of its track.
    SenderClock {
        /// Track that the report is about.
        track: TrackId,
        /// Encoding that the report is about.
        layer: Layer,
        /// Sender report: a capture time and the RTP timestamp that belongs to it.
        report: SenderClock,
    },
    /// To the origin of a track: the highest layer that another shard's subscribers want.
    Demand {
        /// Track that is wanted.
        track: TrackId,
        /// Shard whose subscribers want the track.
        from: ShardId,
        /// The highest layer wanted; `None` if nothing is.
        highest: Option<Layer>,
    },
    /// To the origin of a track: a subscriber needs a key frame.
    KeyFrame {
        /// Track that needs the key frame.
        track: TrackId,
        /// Layer that needs the key frame.
        layer: Layer,
    },
    /// To the origin of a track: its first subscriber on the sending shard that is not a hidden participant has begun.
    FirstSubscriber {
        /// Track that has a subscriber now.
        track: TrackId,
    },
    /// A user message, to every shard with members of the room.
    Data(Arc<UserData>),
    /// To the origin of reliable user messages: another shard has taken some of them and gives their credit back. Sent
    /// every 64 KiB, not for every message.
    DataTaken {
        /// Shard that took the messages.
        from: ShardId,
        /// Bytes taken, as `UserData::cost` counts.
        bytes: usize,
    },
    /// To the shard of a sender of reliable user messages: the backlog level of its receivers on another shard has
    /// changed.
    DataLevel {
        /// Participant that sends the user messages.
        sender: ParticipantSid,
        /// Shard of the receivers.
        from: ShardId,
        /// Combined level of all receivers on that shard.
        level: BacklogLevel,
    },
    /// To shards that received reliable user messages from a participant: that participant has left.
    DataEnded {
        /// Participant that has left.
        sender: ParticipantSid,
    },
    /// A message between a room's replicas and its home shard.
    Room {
        /// Room that the message is about.
        room: RoomSid,
        /// Change to the replica or to the roster.
        message: RoomMessage,
    },
}

/// Messages between a room's home shard ("home") and its replicas.
#[derive(Debug, Clone)]
pub enum RoomMessage {
    /// To home: the sending shard has members of the room now. Answered by `Replica`.
    Attach {
        /// Shard that now has members.
        from: ShardId,
    },
    /// To home: the sending shard has no members of the room any more.
    Detach {
        /// Shard that no longer has members.
        from: ShardId,
    },
    /// From home: all tracks of the room, for a shard that has just attached.
    Replica {
        /// All tracks, each with the shard on which it originates.
        tracks: Vec<(TrackFacts, ShardId)>,
    },
    /// From home to every attached shard: the list of shards with members has changed.
    Shards {
        /// All shards with members, the receiving one included.
        shards: Vec<u16>,
    },
    /// To home: a participant enters. Answered by `Entered`.
    Enter {
        /// Shard of the participant's peers.
        from: ShardId,
        /// Participant that enters.
        participant: ParticipantSid,
        /// Identity of the participant, unique in the room.
        identity: String,
        /// Whether the participant is hidden from others.
        hidden: bool,
        /// Encoded information that other participants get; opaque here.
        info: Bytes,
    },
    /// From home: a participant is in the roster. Home itself reports the join to the participant's session, so that no
    /// roster change can overtake the roster.
    Entered {
        /// Participant that has entered.
        participant: ParticipantSid,
    },
    /// To home: a participant's information changed.
    Update {
        /// Participant whose information changed.
        participant: ParticipantSid,
        /// Encoded information that other participants get; opaque here.
        info: Bytes,
    },
    /// To home: a participant left.
    Exit {
        /// Participant that left.
        participant: ParticipantSid,
        /// Reason reported to the other participants.
        reason: LeaveReason,
    },
    /// From home: a newer session of the same identity has replaced a participant.
    Superseded {
        /// Participant that has to be ended.
        participant: ParticipantSid,
    },
    /// From home to every attached shard: a participant entered that has yet to learn the others' connection quality.
    Newcomer,
    /// To home: how loud a participant speaks. Sent at most ten times a second while it speaks, and once when it stops.
    Voice {
        /// Participant that speaks.
        participant: ParticipantSid,
        /// Audio level, linear, above 0 and up to 1; `None` when the participant has stopped speaking.
        level: Option<f32>,
    },
    /// From home to attached shards: the dominant speaker, who speaks or spoke last. Sent on attachment and on change.
    Dominant {
        /// Participant whose video gets bandwidth first; `None` if there is no dominant speaker.
        participant: Option<ParticipantSid>,
    },
    /// To home, and from home to every attached shard: a track is new or has changed.
    Track {
        /// Facts of the track as they are now.
        facts: TrackFacts,
        /// Shard on which the track originates.
        origin: ShardId,
    },
    /// To home, and from home to every attached shard: a track is gone.
    TrackGone {
        /// Track that is gone.
        track: TrackSid,
    },
}

/// Drop rule for a message when the receiving shard's mailbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FabricClass {
    /// The message is dropped and counted. What receivers need of it they request again.
    Media,
    /// User data. A lossy message is dropped and counted, because only its senders limit how much of it there is. A
    /// reliable message is kept by the sending shard, which tries again; the credit between two shards bounds how much
    /// that can be. User data neither takes mailbox space from control messages nor waits for them.
    Data {
        /// Size that the message counts as, in bytes.
        bytes: usize,
        /// Whether the message may be dropped.
        lossy: bool,
    },
    /// The message is never dropped: the sending shard keeps it and tries again.
    Control,
}

impl FabricMessage {
    /// The drop rule for this message.
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
