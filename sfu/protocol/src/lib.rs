//! What the signaling service and the SFU say to each other.
//!
//! A [`Command`] travels from a signaling session to the shard that holds the participant, an [`Event`]
//! travels back. Both are plain data (serde), so the same contract runs over an in-process channel and over
//! NATS. There is no logic in this crate.
//!
//! The SFU never reads a token and never interprets participant information: what people see of each other
//! ([`RosterEntry::info`]) is an opaque blob to it. The signaling service never touches a packet.

mod command;
mod event;
mod ids;
pub mod inspect;

pub use command::{
    AddTrack, BackupPolicy, ClientTraits, Command, ConnectionMode, DataKind, Join, Layer, LayerQuality,
    LeaveReason, MediaKind, Permissions, PlayoutDelay, SimulcastLayer, Target, TrackDemand, TrackPart,
};
pub use event::{
    CodecDemand, ConnectionQuality, EndReason, Event, NegotiationError, ParticipantQuality,
    PublicationFailure, PublishedTrack, RosterChange, RosterEntry, Speaker, SubscriptionFailure,
};
pub use ids::{ParticipantSid, RoomSid, TrackSid};
