use super::*;
use proto::DisconnectReason;
use proto::leave_request::Action;
use sfu_protocol::EndReason;

fn left(reason: LeaveReason) -> Command {
    Command::Leave { participant: me(), reason }
}

fn closed(got: &Got) -> bool {
    let [.., Output::CloseSocket { code: 1000 }, Output::Ended(_)] = &got.all[..] else { return false };
    true
}

#[test]
fn a_client_that_leaves_is_gone_without_a_reply() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    let leave =
        proto::LeaveRequest { reason: DisconnectReason::ClientInitiated as i32, ..Default::default() };
    let got = rig.ask(Ask::Leave(leave));
    assert_eq!(got.commands(), [&left(LeaveReason::ClientInitiated)]);
    assert!(got.says().is_empty() && closed(&got));
    assert_eq!(got.ended(), Some(EndCause::Left(LeaveReason::ClientInitiated)));
    assert_eq!(rig.session.poll_timeout(), None);
    assert_eq!(rig.ask(Ask::Ping(1)).all, [Output::Discarded(Discard::AfterEnd)]);
}

#[test]
fn reasons_that_others_act_on_are_announced_before_leaving() {
    for reason in
        [DisconnectReason::UserUnavailable, DisconnectReason::UserRejected, DisconnectReason::AgentError]
    {
        let mut rig = Rig::active(config(ConnectionMode::Single));
        let leave = proto::LeaveRequest { reason: reason as i32, ..Default::default() };
        let got = rig.ask(Ask::Leave(leave));
        assert_eq!(got.announced()[0].info.disconnect_reason(), reason);
        assert_eq!(got.commands().last(), Some(&&left(LeaveReason::ClientInitiated)));
        assert!(got.says().is_empty());
    }
}

#[test]
fn the_media_plane_s_end_is_told_with_what_to_do_next() {
    let cases = [
        (EndReason::DuplicateIdentity, true, DisconnectReason::DuplicateIdentity, Action::Disconnect),
        (EndReason::IceTimeout, false, DisconnectReason::JoinFailure, Action::Disconnect),
        (EndReason::DtlsFailed, false, DisconnectReason::JoinFailure, Action::Disconnect),
        (EndReason::IceTimeout, true, DisconnectReason::ConnectionTimeout, Action::Reconnect),
        (EndReason::ConsentExpired, true, DisconnectReason::ConnectionTimeout, Action::Reconnect),
        (EndReason::TransportClosed, true, DisconnectReason::MediaFailure, Action::Reconnect),
        (EndReason::Panicked, true, DisconnectReason::MediaFailure, Action::Reconnect),
        (EndReason::DataBacklog, true, DisconnectReason::MediaFailure, Action::Reconnect),
        (EndReason::DataTooLong, true, DisconnectReason::MediaFailure, Action::Reconnect),
        (EndReason::NodeFull, false, DisconnectReason::JoinFailure, Action::Disconnect),
    ];
    for (reason, active, told, action) in cases {
        let config = config(ConnectionMode::Single);
        let mut rig = if active { Rig::active(config) } else { Rig::joined(config) };
        let got = rig.sfu(Event::Ended { participant: me(), reason });
        let leave = got.leave().unwrap();
        assert_eq!((leave.reason(), leave.action()), (told, action), "{reason:?}");
        assert_eq!(leave.can_reconnect, action != Action::Disconnect);
        assert!(got.commands().is_empty(), "it is gone there already");
        assert_eq!(got.ended(), Some(EndCause::Media(reason)));
        assert!(closed(&got));
    }
}

#[test]
fn an_end_before_the_join_response_says_nothing() {
    let mut rig = Rig::new(config(ConnectionMode::Single));
    rig.drain();
    let got = rig.sfu(Event::Ended { participant: me(), reason: EndReason::NodeFull });
    assert_eq!(got.all, [Output::Ended(EndCause::Media(EndReason::NodeFull))]);
}

#[test]
fn decisions_from_outside_end_it() {
    let cases = [
        (LeaveReason::Removed, DisconnectReason::ParticipantRemoved, Action::Disconnect),
        (LeaveReason::RoomClosed, DisconnectReason::RoomDeleted, Action::Disconnect),
        (LeaveReason::ServerShutdown, DisconnectReason::ServerShutdown, Action::Reconnect),
    ];
    for (reason, told, action) in cases {
        let mut rig = Rig::active(config(DUAL));
        let got = rig.feed(Input::End(reason));
        let leave = got.leave().unwrap();
        assert_eq!((leave.reason(), leave.action()), (told, action));
        assert_eq!(got.commands(), [&left(reason)]);
        assert!(closed(&got));
    }
    let mut rig = Rig::active(config(DUAL));
    let got = rig.feed(Input::Broken);
    let leave = got.leave().unwrap();
    assert_eq!((leave.reason(), leave.action()), (DisconnectReason::StateMismatch, Action::Reconnect));
    assert_eq!(got.ended(), Some(EndCause::Broken));
}

#[test]
fn who_does_not_connect_in_a_minute_has_failed_to_join() {
    let mut rig = Rig::joined(config(ConnectionMode::Single));
    assert_eq!(rig.pass(Duration::from_secs(59)).ended(), None);
    let got = rig.pass(Duration::from_secs(1));
    assert_eq!(got.leave().unwrap().reason(), DisconnectReason::JoinFailure);
    assert_eq!(got.commands(), [&left(LeaveReason::MediaFailure)]);
    assert_eq!(got.ended(), Some(EndCause::ConnectTimeout));
    let mut rig = Rig::active(config(ConnectionMode::Single));
    assert_eq!(rig.pass(Duration::from_secs(3600)).ended(), None);
}

#[test]
fn a_lost_signal_leaves_time_for_the_next_session() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    assert!(rig.feed(Input::SignalLost { leaving: true }).all.is_empty());
    // There is no client to send messages to, but subscriptions continue.
    let got = rig.present(&somebody("a", 1, true));
    assert!(got.says().is_empty());
    assert_eq!(subscribed(&got).len(), 2);
    assert_eq!(rig.pass(Duration::from_millis(2999)).all, []);
    let got = rig.pass(Duration::from_millis(1));
    assert_eq!(got.commands(), [&left(LeaveReason::SignalClosed)]);
    assert_eq!(got.ended(), Some(EndCause::Left(LeaveReason::SignalClosed)));

    let mut rig = Rig::active(config(ConnectionMode::Single));
    rig.feed(Input::SignalLost { leaving: false });
    let got = rig.sfu(Event::Ended { participant: me(), reason: EndReason::DuplicateIdentity });
    assert_eq!(got.all, [Output::Ended(EndCause::Media(EndReason::DuplicateIdentity))]);
}

#[test]
fn a_lost_signal_before_media_ends_at_once() {
    let mut rig = Rig::joined(config(ConnectionMode::Single));
    let got = rig.feed(Input::SignalLost { leaving: false });
    assert_eq!(got.commands(), [&left(LeaveReason::SignalClosed)]);
    assert_eq!(got.ended(), Some(EndCause::Left(LeaveReason::SignalClosed)));
}
