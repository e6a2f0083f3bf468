//! Tests of simulated scenarios.

use super::*;
use proto::DisconnectReason;
use proto::leave_request::Action;
use proto::simulate_scenario::Scenario;

fn simulate(rig: &mut Rig, scenario: Scenario) -> Got {
    rig.ask(Ask::Simulate(proto::SimulateScenario { scenario: Some(scenario) }))
}

fn spoken(got: &Got) -> Vec<bool> {
    let says = got.says().into_iter();
    says.filter_map(|say| match say {
        Say::SpeakersChanged(changed) => {
            assert_eq!(changed.speakers[0].sid, "PA_me");
            Some(changed.speakers[0].active)
        }
        _ => None,
    })
    .collect()
}

fn close_code(got: &Got) -> Option<u16> {
    got.all
        .iter()
        .find_map(|output| if let Output::CloseSocket { code } = output { Some(*code) } else { None })
}

#[test]
fn a_speech_has_a_beginning_and_an_end() {
    for (seconds, lasts) in [(2, 2), (-5, 0), (i32::MAX, 60)] {
        let mut rig = Rig::active(config(ConnectionMode::Single));
        let mut got = simulate(&mut rig, Scenario::SpeakerUpdate(seconds));
        if lasts > 0 {
            assert_eq!(spoken(&got), [true]);
            let before = rig.pass(Duration::from_millis(lasts * 1000 - 1));
            assert!(spoken(&before).is_empty(), "{seconds}");
            got.append(rig.pass(Duration::from_millis(1)));
        }
        assert_eq!(spoken(&got), [true, false], "{seconds}");
    }
}

#[test]
fn ends_are_played_with_what_the_client_is_to_do_next() {
    for (scenario, leave, code) in [
        (Scenario::NodeFailure(true), None, 1001),
        (Scenario::Migration(true), None, 1001),
        (Scenario::ServerLeave(true), Some((DisconnectReason::ServerShutdown, Action::Disconnect)), 1000),
        (
            Scenario::LeaveRequestFullReconnect(true),
            Some((DisconnectReason::ClientInitiated, Action::Reconnect)),
            1000,
        ),
    ] {
        let mut rig = Rig::active(config(ConnectionMode::Single));
        let got = simulate(&mut rig, scenario);
        assert_eq!(got.leave().map(|leave| (leave.reason(), leave.action())), leave, "{scenario:?}");
        assert!(matches!(got.commands()[..], [Command::Leave { .. }]), "{scenario:?}");
        assert_eq!(close_code(&got), Some(code), "{scenario:?}");
        assert!(got.ended().is_some());
    }
}

#[test]
fn the_next_resume_alone_is_cut_short() {
    for (scenario, said) in [
        (Scenario::DisconnectSignalOnResume(true), true),
        (Scenario::DisconnectSignalOnResumeNoMessages(true), false),
    ] {
        let mut rig = Rig::active(config(ConnectionMode::Single));
        assert_eq!(simulate(&mut rig, scenario), Got::default());
        let resumed = Resumed { client: proto::ClientInfo::default(), offer: None, sync_state: None };
        let resume = || Input::Resumed(Box::new(resumed.clone()));
        rig.feed(Input::SignalLost { leaving: false });
        let got = rig.feed(resume());
        assert_eq!((got.says().len() >= 3, got.says().is_empty()), (said, !said));
        assert!(matches!(got.all.last(), Some(Output::CloseSocket { code: 1001 })), "{got:?}");
        assert_eq!(rig.feed(Input::SignalLost { leaving: false }), Got::default(), "as it knows");
        let got = rig.feed(resume());
        assert!(got.says().len() >= 3 && close_code(&got).is_none(), "{got:?}");
    }
}

#[test]
fn what_cannot_be_played_is_said() {
    for scenario in [Scenario::SwitchCandidateProtocol(1), Scenario::SubscriberBandwidth(100_000)] {
        let mut rig = Rig::active(config(ConnectionMode::Single));
        let got = simulate(&mut rig, scenario);
        assert_eq!(got.refusals()[0].0, Reason::UnsupportedType);
        assert_eq!(got.discards(), [Discard::UnsupportedRequest]);
        assert_eq!(got.ended(), None);
    }
}
