//! The way to the media plane.

pub mod direct;

use futures_util::future::BoxFuture;
use sfu_protocol::{Command, Event, ParticipantSid, RoomSid};
use tokio::sync::mpsc;

pub use direct::{CommandSink, Direct};

/// The media plane is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the media plane does not take commands any more")]
pub struct LinkClosed;

/// Carries commands to the media plane and its events back to sessions.
///
/// Neither may be lost on the way. Commands make their sender wait. Events must not: a session that does not take
/// them as fast as they come loses its inbox (`recv` gives `None`) and ends; nobody else notices.
pub trait Link: Send + Sync {
    /// Opens the inbox of a session: events of `participant`, and those of `room` as a whole.
    fn open(&self, room: &RoomSid, participant: &ParticipantSid) -> mpsc::Receiver<Event>;

    /// Closes it.
    fn close(&self, room: &RoomSid, participant: &ParticipantSid);

    /// Hands over a command, in order with those before it.
    fn send(&self, command: Command) -> BoxFuture<'_, Result<(), LinkClosed>>;
}
