//! Link to the media plane.

pub mod direct;

use futures_util::future::BoxFuture;
use sfu_protocol::{Command, Event, ParticipantSid, RoomSid};
use tokio::sync::mpsc;

pub use direct::{CommandSink, Direct};

/// The media plane has stopped and accepts no more commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the media plane does not take commands any more")]
pub struct LinkClosed;

/// Sends commands to the media plane and delivers its events to sessions.
///
/// Neither may be lost. If the media plane is slow, the sender of a command waits. The sender of an event never waits:
/// a session that does not keep up loses its inbox (`recv` returns `None`) and ends, without effect on other sessions.
pub trait Link: Send + Sync {
    /// Opens the inbox of a session. It receives the events for `participant` and those for the whole `room`.
    fn open(&self, room: &RoomSid, participant: &ParticipantSid) -> mpsc::Receiver<Event>;

    /// Closes the inbox of a session.
    fn close(&self, room: &RoomSid, participant: &ParticipantSid);

    /// Sends a command. Commands are delivered in the order of these calls.
    fn send(&self, command: Command) -> BoxFuture<'_, Result<(), LinkClosed>>;
}
