use super::*;
use proto::DisconnectReason;
use proto::participant_info::State;

#[test]
fn changes_are_passed_on_and_old_ones_are_not() {
    let mut rig = Rig::joined(config(ConnectionMode::Single));
    let known = somebody("a", 5, false);
    assert_eq!(rig.present(&known).updates(), [&known]);
    let mut older = somebody("a", 4, false);
    older.name = "Old".into();
    assert_eq!(rig.present(&older).all, [Output::Discarded(Discard::StaleRoster)]);
    assert!(rig.present(&somebody("a", 6, false)).all.is_empty(), "a version alone is no news");
    let mut named = somebody("a", 7, false);
    named.name = "A".into();
    assert_eq!(rig.present(&named).updates(), [&named]);
}

#[test]
fn several_changes_before_the_next_message_become_one() {
    let mut rig = Rig::joined(config(ConnectionMode::Single));
    for (name, version) in [("a", 1), ("b", 1), ("a", 2)] {
        let mut info = somebody(name, version, false);
        info.name = format!("{version}");
        let change = RosterChange::Present(entry(&info));
        rig.session.handle(rig.now, Input::Sfu(Event::Roster { room: room(), change }));
    }
    let got = rig.drain();
    let [Say::Update(update)] = got.says()[..] else { panic!("{got:?}") };
    let seen: Vec<_> = update.participants.iter().map(|info| (info.sid.as_str(), info.version)).collect();
    assert_eq!(seen, [("PA_a", 2), ("PA_b", 1)]);
}

#[test]
fn a_participant_comes_before_the_description_with_its_media() {
    let mut rig = Rig::joined(config(ConnectionMode::Single));
    let change = RosterChange::Present(entry(&somebody("a", 1, true)));
    rig.session.handle(rig.now, Input::Sfu(Event::Roster { room: room(), change }));
    let answer = Event::Answer { participant: me(), id: 1, sdp: "v=0".into(), mid_to_track: BTreeMap::new() };
    rig.session.handle(rig.now, Input::Sfu(answer));
    let got = rig.drain();
    assert!(matches!(got.says()[..], [Say::Update(_), Say::Answer(_)]), "{got:?}");
}

#[test]
fn who_goes_is_shown_as_gone_with_the_reason() {
    let cases = [
        (LeaveReason::ClientInitiated, DisconnectReason::ClientInitiated),
        (LeaveReason::SignalClosed, DisconnectReason::SignalClose),
        (LeaveReason::Removed, DisconnectReason::ParticipantRemoved),
        (LeaveReason::RoomClosed, DisconnectReason::RoomClosed),
        (LeaveReason::ServerShutdown, DisconnectReason::ServerShutdown),
        (LeaveReason::MediaFailure, DisconnectReason::MediaFailure),
    ];
    for (reason, told) in cases {
        let mut rig = Rig::joined(config(ConnectionMode::Single));
        let info = somebody("a", 5, true);
        rig.present(&info);
        let got = rig.gone(&info, reason);
        let [last] = got.updates()[..] else { panic!("{got:?}") };
        assert_eq!((last.state(), last.disconnect_reason()), (State::Disconnected, told));
        assert_eq!((last.identity.as_str(), last.version > 5, last.tracks.len()), ("a", true, 0));
        assert!(rig.gone(&info, reason).all.is_empty(), "once");
    }
    // A participant's last announcement may give a reason that the media plane does not know.
    let mut rig = Rig::joined(config(ConnectionMode::Single));
    let mut info = somebody("a", 5, false);
    rig.present(&info);
    info.version = 6;
    info.disconnect_reason = DisconnectReason::UserRejected as i32;
    let got = rig.gone(&info, LeaveReason::ClientInitiated);
    assert_eq!(got.updates()[0].disconnect_reason(), DisconnectReason::UserRejected);
    assert_eq!(got.updates()[0].version, 7);
}

fn replacement() -> proto::ParticipantInfo {
    proto::ParticipantInfo { sid: "PA_a2".into(), ..somebody("a", 1, true) }
}

#[test]
fn a_new_session_of_somebody_replaces_the_old_one_in_either_order() {
    let old = somebody("a", 9, true);
    for gone_first in [true, false] {
        let mut rig = Rig::active(config(ConnectionMode::Single));
        rig.present(&old);
        let mut got = Got::default();
        if gone_first {
            got.append(rig.gone(&old, LeaveReason::DuplicateIdentity));
        }
        got.append(rig.present(&replacement()));
        if !gone_first {
            got.append(rig.gone(&old, LeaveReason::DuplicateIdentity));
        }
        got.append(rig.pass(Duration::from_secs(3)));
        let seen: Vec<_> = got.updates().iter().map(|info| (info.sid.as_str(), info.state())).collect();
        assert_eq!(seen, [("PA_a2", State::Active)], "gone first: {gone_first}");
        assert_eq!(unsubscribed(&got), ["TR_AMa", "TR_VCa"]);
        assert_eq!(subscribed(&got), [("TR_AMa", "PA_a2"), ("TR_VCa", "PA_a2")]);
    }
}

#[test]
fn older_clients_see_the_old_session_go_first() {
    let old = somebody("a", 9, true);
    for gone_first in [true, false] {
        let mut config = config(ConnectionMode::Single);
        config.client.protocol = 11;
        let mut rig = Rig::active(config);
        rig.present(&old);
        let mut got = Got::default();
        if gone_first {
            got.append(rig.gone(&old, LeaveReason::DuplicateIdentity));
        }
        got.append(rig.present(&replacement()));
        if !gone_first {
            got.append(rig.gone(&old, LeaveReason::DuplicateIdentity));
        }
        let seen: Vec<_> = got.updates().iter().map(|info| (info.sid.as_str(), info.state())).collect();
        assert_eq!(seen, [("PA_a", State::Disconnected), ("PA_a2", State::Active)]);
    }
}

#[test]
fn somebody_replaced_by_a_session_that_cannot_be_seen_goes_after_a_moment() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    let old = somebody("a", 9, false);
    rig.present(&old);
    assert!(rig.gone(&old, LeaveReason::DuplicateIdentity).updates().is_empty());
    let got = rig.pass(Duration::from_secs(1));
    assert_eq!(got.updates()[0].state(), State::Disconnected);
    assert_eq!(got.updates()[0].disconnect_reason(), DisconnectReason::DuplicateIdentity);
}

#[test]
fn our_own_entry_and_damaged_ones_are_left_out() {
    let mut rig = Rig::joined(config(ConnectionMode::Single));
    let own = proto::ParticipantInfo { sid: "PA_me".into(), version: 99, ..somebody("me", 9, true) };
    assert!(rig.present(&own).all.is_empty());
    assert!(rig.gone(&own, LeaveReason::DuplicateIdentity).all.is_empty());
    let damaged =
        RosterEntry { participant: ParticipantSid::new("PA_x"), info: Bytes::from_static(&[0xff, 0xff]) };
    let got = rig.sfu(Event::Roster { room: room(), change: RosterChange::Present(damaged) });
    assert_eq!(got.all, [Output::Discarded(Discard::BadRosterInfo)]);
    let misnamed = RosterEntry {
        participant: ParticipantSid::new("PA_x"),
        info: info::encode(&somebody("y", 1, true), None),
    };
    let got = rig.sfu(Event::Roster { room: room(), change: RosterChange::Present(misnamed) });
    assert_eq!(got.all, [Output::Discarded(Discard::BadRosterInfo)]);
}
