//! A participant's place in a room, which is released when its session is over for any reason.

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::extract::ws::WebSocket;
use livekit_protocol as proto;
use sfu_protocol::{Command, ConnectionMode, Event, LeaveReason, ParticipantSid, RoomSid};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::super::{Resumed, Rooms, SessionConfig, SessionStats};

/// Channels into a running session, and the data by which it is found.
#[derive(Debug)]
pub(crate) struct Doors {
    /// Ends the session. A channel of its own, so that it never waits behind other orders.
    pub(crate) end: mpsc::Sender<LeaveReason>,
    pub(crate) orders: mpsc::Sender<Order>,
    /// Identity of the participant.
    pub(crate) identity: String,
    pub(crate) room: String,
    pub(crate) mode: ConnectionMode,
}

/// A request to a session from outside its task.
#[derive(Debug)]
pub(crate) enum Order {
    /// New permissions of the participant.
    SetPermission(Box<proto::ParticipantPermission>),
    /// The client resumes on a new socket.
    Resume(Box<Takeover>),
}

/// A client's new socket, for the session that the client resumes.
pub(crate) struct Takeover {
    pub(super) socket: WebSocket,
    pub(super) resumed: Resumed,
    /// Dropped when the session no longer uses the socket; that ends the wait of the task that brought it.
    pub(super) kept: oneshot::Sender<Infallible>,
}

impl fmt::Debug for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Takeover").field("resumed", &self.resumed).finish_non_exhaustive()
    }
}

/// Most orders that may wait for a session.
const ORDERS: usize = 8;

/// A participant's place in a room. Dropping it closes the inbox and removes the participant from the media plane and
/// from the directory.
pub(crate) struct Seat {
    rooms: Rooms,
    room: RoomSid,
    name: String,
    pub(crate) participant: ParticipantSid,
    pub(super) inbox: mpsc::Receiver<Event>,
    pub(super) end: mpsc::Receiver<LeaveReason>,
    pub(super) orders: mpsc::Receiver<Order>,
    /// Whether the media plane has removed the participant, or has been told to.
    pub(super) left: bool,
}

impl Seat {
    /// Opens the session's inbox. The participant is in the directory already.
    pub(crate) fn take(rooms: Rooms, config: &SessionConfig) -> Self {
        let (room, participant) = (&config.room, config.sid.clone());
        let inbox = rooms.0.link.open(&room.sid, &participant);
        let ((end_sender, end), (order_sender, orders)) = (mpsc::channel(1), mpsc::channel(ORDERS));
        rooms.0.doors.insert(
            participant.clone(),
            Doors {
                end: end_sender,
                orders: order_sender,
                identity: config.participant.identity.clone(),
                room: room.name.clone(),
                mode: config.mode,
            },
        );
        rooms.0.open.send_modify(|open| *open = open.saturating_add(1));
        SessionStats::add(&rooms.0.stats.open);
        if rooms.0.closing.load(Ordering::SeqCst) {
            // The shutdown may have run before this session was listed. If it did see the session, a second reason
            // does no harm.
            rooms.end(&participant, LeaveReason::ServerShutdown);
        }
        Self {
            room: room.sid.clone(),
            name: room.name.clone(),
            participant,
            inbox,
            end,
            orders,
            left: false,
            rooms,
        }
    }

    pub(super) fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    pub(super) fn stats(&self) -> &SessionStats {
        &self.rooms.0.stats
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let rooms = self.rooms.clone();
        rooms.0.link.close(&self.room, &self.participant);
        rooms.0.doors.remove(&self.participant);
        rooms.0.stats.open.fetch_sub(1, Ordering::Relaxed);
        let (room, name, participant) = (self.room.clone(), self.name.clone(), self.participant.clone());
        let leave = (!self.left)
            .then(|| Command::Leave { participant: participant.clone(), reason: LeaveReason::SignalClosed });
        let give_back = async move {
            if let Some(leave) = leave {
                // A media plane that is gone has no place to release.
                let _gone = rooms.0.link.send(leave).await;
            }
            rooms.0.directory.leave(Instant::now(), &room, &name, &participant).await;
            rooms.0.open.send_modify(|open| *open = open.saturating_sub(1));
        };
        // Without a runtime the process is ending, and its rooms with it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(give_back);
        }
    }
}
