//! A participant's place: what is given back when its session is over, however that comes about.

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

/// The ways into a session from outside.
#[derive(Debug)]
pub(crate) struct Doors {
    /// Ends it. Apart from the others, so that it is never behind them.
    pub(crate) end: mpsc::Sender<LeaveReason>,
    pub(crate) orders: mpsc::Sender<Order>,
    /// Whose session it is, in which room and with how many connections.
    pub(crate) identity: String,
    pub(crate) room: String,
    pub(crate) mode: ConnectionMode,
}

/// Something that somebody else wants of a session.
#[derive(Debug)]
pub(crate) enum Order {
    /// New rights.
    SetPermission(Box<proto::ParticipantPermission>),
    /// The client goes on with a new socket.
    Resume(Box<Takeover>),
}

/// A client's new socket.
pub(crate) struct Takeover {
    pub(super) socket: WebSocket,
    pub(super) resumed: Resumed,
    /// Dropped when the socket is let go.
    pub(super) kept: oneshot::Sender<Infallible>,
}

impl fmt::Debug for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Takeover").field("resumed", &self.resumed).finish_non_exhaustive()
    }
}

/// Orders that may wait for a session.
const ORDERS: usize = 8;

/// A place in a room.
pub(crate) struct Seat {
    rooms: Rooms,
    room: RoomSid,
    name: String,
    pub(crate) participant: ParticipantSid,
    pub(super) inbox: mpsc::Receiver<Event>,
    pub(super) end: mpsc::Receiver<LeaveReason>,
    pub(super) orders: mpsc::Receiver<Order>,
    /// The media plane has no such participant any more, or has been told so.
    pub(super) left: bool,
}

impl Seat {
    /// Opens the inbox. The directory has the participant already.
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
            // The shutdown may have looked before we were there. If it saw us, one reason is enough.
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
                // A media plane that is gone has no place to give back.
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
