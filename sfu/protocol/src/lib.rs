//! Messages between the signaling service and the SFU.
//!
//! A signaling session sends a [`Command`] to the shard that holds the participant; the shard sends an [`Event`] back.
//! Both are plain data (serde), so the same contract can run over an in-process channel or over NATS. This crate has no
//! logic.
//!
//! The SFU never reads a token and never interprets participant information: [`RosterEntry::info`], which participants
//! see of each other, is opaque bytes to it. The signaling service never handles a packet.

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
