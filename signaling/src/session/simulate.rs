//! Scenarios that a client may ask the server to simulate, for test suites.

use std::time::{Duration, Instant};

use livekit_protocol as proto;
use livekit_protocol::DisconnectReason;
use livekit_protocol::leave_request::Action;
use livekit_protocol::request_response::Reason;
use livekit_protocol::signal_response::Message;
use proto::simulate_scenario::Scenario;
use sfu_protocol::LeaveReason;

use super::timers::Timer;
use super::{Discard, EndCause, Output, Session, leaving};

/// Longest simulated speaker update.
const LONGEST_SPEECH: Duration = Duration::from_secs(60);

/// At which point the next resume is cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignalDrop {
    /// Before any message is sent.
    AtOnce,
    /// After all messages are sent.
    AfterMessages,
}

impl Session {
    pub(super) fn on_simulate(&mut self, now: Instant, simulate: &proto::SimulateScenario) {
        match simulate.scenario {
            Some(Scenario::SpeakerUpdate(seconds)) => {
                let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(LONGEST_SPEECH);
                self.play_speaker(true);
                self.timers.set(Timer::PlayedSpeaker, now + seconds);
            }
            Some(Scenario::NodeFailure(_) | Scenario::Migration(_)) => self.vanish(),
            Some(Scenario::ServerLeave(_)) => {
                self.send_leave(DisconnectReason::ServerShutdown, Action::Disconnect);
                self.leave_room(LeaveReason::ClientInitiated);
                self.finish(EndCause::Left(LeaveReason::ClientInitiated));
            }
            Some(Scenario::LeaveRequestFullReconnect(_)) => {
                self.send_leave(DisconnectReason::ClientInitiated, Action::Reconnect);
                self.leave_room(LeaveReason::ClientInitiated);
                self.finish(EndCause::Left(LeaveReason::ClientInitiated));
            }
            Some(Scenario::DisconnectSignalOnResume(_)) => {
                self.signal_drop = Some(SignalDrop::AfterMessages);
            }
            Some(Scenario::DisconnectSignalOnResumeNoMessages(_)) => {
                self.signal_drop = Some(SignalDrop::AtOnce);
            }
            Some(Scenario::SwitchCandidateProtocol(_)) => self.cannot_play("ICE over TCP or TLS"),
            Some(Scenario::SubscriberBandwidth(_)) => {
                self.cannot_play("a limit of the subscriber's bandwidth");
            }
            None => self.discard(Discard::UnsupportedRequest),
        }
    }

    /// Reports this participant as speaking (`active`) or silent.
    pub(super) fn play_speaker(&mut self, active: bool) {
        let sid = self.config.sid.to_string();
        let speakers = vec![proto::SpeakerInfo { sid, level: if active { 0.75 } else { 0.0 }, active }];
        self.signal(Message::SpeakersChanged(proto::SpeakersChanged { speakers }));
    }

    /// Simulates the death of the process: sends no leave message, and leaves no session to resume.
    fn vanish(&mut self) {
        self.leave_room(LeaveReason::MediaFailure);
        self.out.push_back(Output::CloseSocket { code: leaving::CLOSE_GOING_AWAY });
        self.finish(EndCause::Left(LeaveReason::MediaFailure));
    }

    fn cannot_play(&mut self, what: &str) {
        let text = format!("simulate: {what} is not supported by this server");
        self.refuse(Discard::UnsupportedRequest, Reason::UnsupportedType, text, None);
    }
}
