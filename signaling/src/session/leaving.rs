//! The ways in which a session ends, with the reason that the client and the other participants are told.

use std::time::Instant;

use livekit_protocol as proto;
use livekit_protocol::DisconnectReason;
use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_response::Message;
use sfu_protocol::{Command, EndReason, LeaveReason, ParticipantSid};

use super::timers::Timer;
use super::{Output, Phase, Session};

/// WebSocket close code after a leave message. Clients resume after any other code, or a close without one.
pub(super) const CLOSE_NORMAL: u16 = 1000;
/// WebSocket close code of a client that leaves the page. The server uses it to simulate a failure.
pub(super) const CLOSE_GOING_AWAY: u16 = 1001;

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndCause {
    /// The session left the room, for this reason.
    Left(LeaveReason),
    /// The media plane ended the participant.
    Media(EndReason),
    /// The primary transport did not connect in time.
    ConnectTimeout,
    /// The session could not continue, for example because of a contained panic or an inbox overflow.
    Broken,
}

impl Session {
    /// The client leaves. It expects no reply.
    pub(super) fn on_client_leave(&mut self, leave: &proto::LeaveRequest) {
        let reason = leave.reason();
        let told = matches!(
            reason,
            DisconnectReason::UserUnavailable | DisconnectReason::UserRejected | DisconnectReason::AgentError
        );
        if told {
            // The media plane has no such reason, so a last announcement carries it to the other participants.
            self.own.change().disconnect_reason = reason as i32;
            self.announce();
            self.updates.clear();
        }
        self.leave_room(LeaveReason::ClientInitiated);
        self.finish(EndCause::Left(LeaveReason::ClientInitiated));
    }

    /// The server ends the session.
    pub(super) fn on_end(&mut self, reason: LeaveReason) {
        let (why, action) = match reason {
            LeaveReason::ClientInitiated => (DisconnectReason::ClientInitiated, Action::Disconnect),
            LeaveReason::SignalClosed => (DisconnectReason::SignalClose, Action::Reconnect),
            LeaveReason::DuplicateIdentity => (DisconnectReason::DuplicateIdentity, Action::Disconnect),
            LeaveReason::Removed => (DisconnectReason::ParticipantRemoved, Action::Disconnect),
            LeaveReason::RoomClosed => (DisconnectReason::RoomDeleted, Action::Disconnect),
            // Another process takes over the call, or this one after its restart.
            LeaveReason::ServerShutdown => (DisconnectReason::ServerShutdown, Action::Reconnect),
            LeaveReason::MediaFailure => (DisconnectReason::MediaFailure, Action::Reconnect),
        };
        self.send_leave(why, action);
        self.leave_room(reason);
        self.finish(EndCause::Left(reason));
    }

    /// The media plane has ended the participant and has removed it already.
    pub(super) fn on_media_ended(&mut self, reason: EndReason) {
        let (why, action) = match reason {
            EndReason::DuplicateIdentity => (DisconnectReason::DuplicateIdentity, Action::Disconnect),
            EndReason::IceTimeout | EndReason::DtlsFailed if !self.own.is_active() => {
                (DisconnectReason::JoinFailure, Action::Disconnect)
            }
            EndReason::IceTimeout | EndReason::DtlsFailed | EndReason::ConsentExpired => {
                (DisconnectReason::ConnectionTimeout, Action::Reconnect)
            }
            EndReason::TransportClosed
            | EndReason::Panicked
            | EndReason::DataBacklog
            | EndReason::DataTooLong => (DisconnectReason::MediaFailure, Action::Reconnect),
            EndReason::NodeFull => (DisconnectReason::JoinFailure, Action::Disconnect),
        };
        self.send_leave(why, action);
        self.finish(EndCause::Media(reason));
    }

    /// The session is inconsistent. The client reconnects with a new session and loses nothing but time.
    pub(super) fn on_broken(&mut self) {
        self.send_leave(DisconnectReason::StateMismatch, Action::Reconnect);
        self.leave_room(LeaveReason::MediaFailure);
        self.finish(EndCause::Broken);
    }

    pub(super) fn on_connect_timeout(&mut self) {
        if self.own.is_active() {
            return;
        }
        self.send_leave(DisconnectReason::JoinFailure, Action::Disconnect);
        self.leave_room(LeaveReason::MediaFailure);
        self.finish(EndCause::ConnectTimeout);
    }

    /// The socket is lost. If media was connected, the participant stays until its client has had time to come back,
    /// in this session or in a new one that replaces it. Otherwise it leaves at once.
    pub(super) fn on_signal_lost(&mut self, now: Instant, leaving: bool) {
        match self.phase {
            Phase::Joined if self.own.is_active() => {
                self.phase = Phase::Lingering;
                self.updates.clear();
                let limits = &self.config.limits;
                let comes_back = self.config.server.resume && !leaving;
                let wait = if comes_back { limits.resume } else { limits.linger };
                self.timers.set(Timer::Linger, now + wait);
                self.timers.stop(Timer::RefreshToken);
                self.timers.stop(Timer::RoomCounts);
                self.timers.stop(Timer::Answer);
            }
            Phase::Joining | Phase::Joined => self.on_linger_over(),
            Phase::Lingering | Phase::Ended => {}
        }
    }

    pub(super) fn on_linger_over(&mut self) {
        self.leave_room(LeaveReason::SignalClosed);
        self.finish(EndCause::Left(LeaveReason::SignalClosed));
    }

    pub(super) fn send_leave(&mut self, reason: DisconnectReason, action: Action) {
        self.signal(Message::Leave(leave_request(reason, action)));
    }

    pub(super) fn leave_room(&mut self, reason: LeaveReason) {
        self.command(Command::Leave { participant: self.config.sid.clone(), reason });
    }

    pub(super) fn finish(&mut self, cause: EndCause) {
        self.updates.clear();
        if self.phase == Phase::Joined {
            self.out.push_back(Output::CloseSocket { code: CLOSE_NORMAL });
        }
        self.phase = Phase::Ended;
        self.timers.clear();
        self.out.push_back(Output::Ended(cause));
    }
}

/// Outputs used instead of those of a session whose code has panicked.
pub(super) fn emergency(participant: &ParticipantSid) -> [Output; 4] {
    let leave = leave_request(DisconnectReason::StateMismatch, Action::Reconnect);
    let response = proto::SignalResponse { message: Some(Message::Leave(leave)) };
    [
        Output::Signal(Box::new(response)),
        Output::Sfu(Command::Leave { participant: participant.clone(), reason: LeaveReason::MediaFailure }),
        Output::CloseSocket { code: CLOSE_NORMAL },
        Output::Ended(EndCause::Broken),
    ]
}

/// A leave message for clients of every protocol number. Older clients know only `can_reconnect`.
pub(super) fn leave_request(reason: DisconnectReason, action: Action) -> proto::LeaveRequest {
    proto::LeaveRequest {
        can_reconnect: action != Action::Disconnect,
        reason: reason as i32,
        action: action as i32,
        regions: None,
    }
}

/// The reason that the other participants are told when somebody left.
pub(super) fn disconnect_reason(reason: LeaveReason) -> DisconnectReason {
    match reason {
        LeaveReason::ClientInitiated => DisconnectReason::ClientInitiated,
        LeaveReason::SignalClosed => DisconnectReason::SignalClose,
        LeaveReason::DuplicateIdentity => DisconnectReason::DuplicateIdentity,
        LeaveReason::Removed => DisconnectReason::ParticipantRemoved,
        LeaveReason::RoomClosed => DisconnectReason::RoomClosed,
        LeaveReason::ServerShutdown => DisconnectReason::ServerShutdown,
        LeaveReason::MediaFailure => DisconnectReason::MediaFailure,
    }
}
