use super::*;
use sfu_protocol::{LayerQuality, SubscriptionFailure, TrackDemand};

fn wish(tracks: &[&str], subscribe: bool) -> Ask {
    Ask::Subscription(proto::UpdateSubscription {
        track_sids: tracks.iter().map(|sid| (*sid).into()).collect(),
        subscribe,
        participant_tracks: vec![],
    })
}

fn setting(tracks: &[&str]) -> proto::UpdateTrackSettings {
    proto::UpdateTrackSettings {
        track_sids: tracks.iter().map(|sid| (*sid).into()).collect(),
        quality: proto::VideoQuality::High as i32,
        ..Default::default()
    }
}

/// A participant that lets only those in `grants` subscribe.
fn guarded(version: u32, grants: Vec<proto::TrackPermission>) -> Event {
    let info = somebody("a", version, true);
    let permission = proto::SubscriptionPermission { all_participants: false, track_permissions: grants };
    let entry = RosterEntry {
        participant: ParticipantSid::new("PA_a"),
        info: info::encode(&info, Some(&permission)),
    };
    Event::Roster { room: room(), change: RosterChange::Present(entry) }
}

#[test]
fn everything_is_subscribed_to_as_it_comes_and_given_up_as_it_goes() {
    let mut rig = Rig::new(config(ConnectionMode::Single));
    rig.drain();
    let got = rig.sfu(Event::Joined { participant: me(), roster: vec![entry(&somebody("a", 1, true))] });
    assert_eq!(subscribed(&got), [("TR_AMa", "PA_a"), ("TR_VCa", "PA_a")]);
    assert!(rig.present(&somebody("b", 1, false)).commands().is_empty());
    let got = rig.present(&somebody("b", 2, true));
    assert!(matches!(got.all[0], Output::Sfu(Command::Subscribe { .. })));
    assert_eq!(subscribed(&got), [("TR_AMb", "PA_b"), ("TR_VCb", "PA_b")]);
    assert_eq!(got.updates()[0].tracks.len(), 2);
    assert!(rig.present(&somebody("b", 3, true)).commands().is_empty(), "nothing new");
    let mut less = somebody("b", 4, true);
    less.tracks.remove(0);
    assert_eq!(unsubscribed(&rig.present(&less)), ["TR_AMb"]);
    assert_eq!(unsubscribed(&rig.gone(&less, LeaveReason::ClientInitiated)), ["TR_VCb"]);
}

#[test]
fn without_auto_subscribe_only_wishes_count() {
    let mut config = config(ConnectionMode::Single);
    config.auto_subscribe = false;
    let mut rig = Rig::joined_among(config, vec![entry(&somebody("a", 1, true))]);
    assert_eq!(subscribed(&rig.ask(wish(&["TR_VCa"], true))), [("TR_VCa", "PA_a")]);
    assert!(rig.ask(wish(&["TR_VCa"], true)).all.is_empty());
    assert_eq!(unsubscribed(&rig.ask(wish(&["TR_VCa"], false))), ["TR_VCa"]);
    let by_participant = Ask::Subscription(proto::UpdateSubscription {
        track_sids: vec![],
        subscribe: true,
        participant_tracks: vec![proto::ParticipantTracks {
            participant_sid: "PA_a".into(),
            track_sids: vec!["TR_AMa".into()],
        }],
    });
    assert_eq!(subscribed(&rig.ask(by_participant)), [("TR_AMa", "PA_a")]);
}

#[test]
fn a_choice_against_a_track_outlives_its_changes() {
    let roster = vec![entry(&somebody("a", 1, true))];
    let mut rig = Rig::joined_among(config(ConnectionMode::Single), roster);
    assert_eq!(unsubscribed(&rig.ask(wish(&["TR_VCa"], false))), ["TR_VCa"]);
    let mut muted = somebody("a", 2, true);
    muted.tracks[1].muted = true;
    assert!(rig.present(&muted).commands().is_empty());
    assert_eq!(subscribed(&rig.ask(wish(&["TR_VCa"], true))), [("TR_VCa", "PA_a")]);
}

#[test]
fn who_may_not_subscribe_gets_nothing() {
    let mut config = config(ConnectionMode::Single);
    config.participant.permission.can_subscribe = false;
    let mut rig = Rig::joined_among(config, vec![entry(&somebody("a", 1, true))]);
    assert!(rig.present(&somebody("b", 1, true)).commands().is_empty());
    assert!(rig.ask(wish(&["TR_VCa"], true)).commands().is_empty());
}

#[test]
fn a_wish_may_be_ahead_of_its_track() {
    let mut config = config(ConnectionMode::Single);
    config.auto_subscribe = false;
    let mut rig = Rig::joined(config.clone());
    assert!(rig.ask(wish(&["TR_VCa"], true)).all.is_empty());
    assert_eq!(subscribed(&rig.present(&somebody("a", 1, true))), [("TR_VCa", "PA_a")]);

    let mut rig = Rig::active(config);
    rig.ask(wish(&["TR_never"], true));
    rig.now += Duration::from_secs(30);
    rig.ask(wish(&["TR_later"], true));
    let failed = |sid: &str| {
        let err = proto::SubscriptionError::SeTrackNotfound as i32;
        Say::SubscriptionResponse(proto::SubscriptionResponse { track_sid: sid.into(), err })
    };
    assert!(rig.pass(Duration::from_secs(29)).says().is_empty());
    assert_eq!(rig.pass(Duration::from_secs(1)).says(), [&failed("TR_never")]);
    assert_eq!(rig.pass(Duration::from_secs(30)).says(), [&failed("TR_later")]);
    assert_eq!(rig.ask(wish(&["TR_never"], false)).discards(), [Discard::UnknownTrack]);
}

#[test]
fn wishes_are_bounded() {
    let mut rig = Rig::joined(config(ConnectionMode::Single));
    let names: Vec<String> = (0..1100).map(|n| format!("TR_{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let got = rig.ask(wish(&names, true));
    assert_eq!(got.says().len(), 1100 - 1024);
    let many = vec!["TR_x"; 5000];
    let long = "x".repeat(65);
    for ask in [
        wish(&many, true),
        wish(&[&long], true),
        Ask::TrackSetting(setting(&many)),
        Ask::TrackSetting(setting(&[&long])),
    ] {
        let got = rig.ask(ask);
        assert_eq!(got.refusals()[0].0, Reason::LimitExceeded);
        assert!(got.commands().is_empty());
    }
}

#[test]
fn sizes_become_demand() {
    let roster = || vec![entry(&somebody("a", 1, true))];
    for (adaptive, first) in [(false, LayerQuality::High), (true, LayerQuality::Low)] {
        let mut config = config(ConnectionMode::Single);
        config.adaptive_stream = adaptive;
        let mut rig = Rig::new(config);
        rig.drain();
        let got = rig.sfu(Event::Joined { participant: me(), roster: roster() });
        let demands: Vec<_> = got
            .commands()
            .into_iter()
            .filter_map(|command| match command {
                Command::Subscribe { kind, demand, .. } => Some((*kind, demand.enabled, demand.quality)),
                _ => None,
            })
            .collect();
        let expected = [(MediaKind::Audio, true, LayerQuality::High), (MediaKind::Video, true, first)];
        assert_eq!(demands, expected);
    }
    let mut rig = Rig::joined_among(config(ConnectionMode::Single), roster());
    let sized = proto::UpdateTrackSettings {
        width: 320,
        height: 180,
        fps: 15,
        priority: 1,
        ..setting(&["TR_VCa", "TR_AMa"])
    };
    let got = rig.ask(Ask::TrackSetting(sized.clone()));
    let demand = TrackDemand {
        enabled: true,
        quality: LayerQuality::High,
        width: 320,
        height: 180,
        fps: 15,
        priority: 1,
    };
    let set =
        |track: &str, demand| Command::SetDemand { participant: me(), track: TrackSid::new(track), demand };
    let sound = TrackDemand { priority: 1, ..TrackDemand::default() };
    assert_eq!(got.commands(), [&set("TR_VCa", demand), &set("TR_AMa", sound)]);
    assert!(rig.ask(Ask::TrackSetting(sized)).all.is_empty(), "no change, no command");
    let hidden = proto::UpdateTrackSettings { disabled: true, ..setting(&["TR_VCa"]) };
    let got = rig.ask(Ask::TrackSetting(hidden));
    assert!(matches!(
        got.commands()[..],
        [Command::SetDemand { demand: TrackDemand { enabled: false, .. }, .. }]
    ));
    let off = proto::UpdateTrackSettings { quality: proto::VideoQuality::Off as i32, ..setting(&["TR_AMa"]) };
    let got = rig.ask(Ask::TrackSetting(off));
    assert!(matches!(
        got.commands()[..],
        [Command::SetDemand { demand: TrackDemand { enabled: false, .. }, .. }]
    ));
    assert_eq!(rig.ask(Ask::TrackSetting(setting(&["TR_x"]))).discards(), [Discard::UnknownTrack]);
    // A later subscription starts with the last setting.
    rig.ask(wish(&["TR_VCa"], false));
    let got = rig.ask(wish(&["TR_VCa"], true));
    assert!(matches!(
        got.commands()[..],
        [Command::Subscribe { demand: TrackDemand { enabled: false, .. }, .. }]
    ));
}

#[test]
fn publishers_decide_who_may_subscribe() {
    let to_me = |all_tracks, tracks: &[&str]| proto::TrackPermission {
        participant_identity: "me".into(),
        all_tracks,
        track_sids: tracks.iter().map(|sid| (*sid).into()).collect(),
        ..Default::default()
    };
    let by_sid =
        proto::TrackPermission { participant_sid: "PA_me".into(), all_tracks: true, ..Default::default() };
    let to_other = proto::TrackPermission {
        participant_identity: "other".into(),
        all_tracks: true,
        ..Default::default()
    };
    let cases: [(Vec<_>, &[&str]); 5] = [
        (vec![], &[]),
        (vec![to_other.clone()], &[]),
        (vec![to_other, to_me(false, &["TR_AMa"])], &["TR_AMa"]),
        (vec![to_me(true, &[])], &["TR_AMa", "TR_VCa"]),
        (vec![by_sid], &["TR_AMa", "TR_VCa"]),
    ];
    for (grants, expected) in cases {
        let mut rig = Rig::joined(config(ConnectionMode::Single));
        let got = rig.sfu(guarded(1, grants));
        let tracks: Vec<_> = subscribed(&got).into_iter().map(|(track, _)| track).collect();
        assert_eq!(tracks, expected);
        let denied: Vec<_> = got
            .says()
            .into_iter()
            .filter_map(|say| match say {
                Say::SubscriptionPermissionUpdate(update) => {
                    Some((update.track_sid.as_str(), update.allowed))
                }
                _ => None,
            })
            .collect();
        assert!(denied.iter().all(|(track, allowed)| !allowed && !expected.contains(track)));
        assert_eq!(denied.len() + expected.len(), 2);
        assert!(matches!(got.says()[0], Say::Update(_)), "first the participant, then what it allows");
    }
    // Permission is revoked and granted again.
    let mut rig = Rig::joined(config(ConnectionMode::Single));
    rig.sfu(guarded(1, vec![to_me(true, &[])]));
    let got = rig.sfu(guarded(2, vec![]));
    assert_eq!(unsubscribed(&got), ["TR_AMa", "TR_VCa"]);
    assert_eq!(got.says().len(), 2, "nothing else of the participant has changed: {got:?}");
    let got = rig.sfu(guarded(3, vec![to_me(true, &[])]));
    assert_eq!(subscribed(&got).len(), 2);
    assert!(got.says().iter().all(|say| matches!(say, Say::SubscriptionPermissionUpdate(u) if u.allowed)));
    // Recorders may receive everything.
    let mut config = config(ConnectionMode::Single);
    #[expect(deprecated, reason = "tokens still mark recorders so")]
    {
        config.participant.permission.recorder = true;
    }
    assert_eq!(subscribed(&Rig::joined(config).sfu(guarded(1, vec![]))).len(), 2);
}

#[test]
fn our_own_guard_is_announced_once() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    let open = proto::SubscriptionPermission { all_participants: true, track_permissions: vec![] };
    assert!(rig.ask(Ask::SubscriptionPermission(open)).all.is_empty(), "everybody may: that is how it is");
    let closed = proto::SubscriptionPermission::default();
    let got = rig.ask(Ask::SubscriptionPermission(closed.clone()));
    assert_eq!(got.announced()[0].permission, Some(closed.clone()));
    assert!(rig.ask(Ask::SubscriptionPermission(closed)).all.is_empty());
    let grant = proto::TrackPermission { participant_identity: "i".repeat(33_000), ..Default::default() };
    let huge = proto::SubscriptionPermission { all_participants: false, track_permissions: vec![grant] };
    assert_eq!(rig.ask(Ask::SubscriptionPermission(huge)).refusals()[0].0, Reason::LimitExceeded);
}

#[test]
fn what_cannot_be_carried_out_is_told_once_and_may_be_asked_for_again() {
    let reason = SubscriptionFailure::CodecUnsupported;
    let error = proto::SubscriptionError::SeCodecUnsupported;
    let roster = vec![entry(&somebody("a", 1, true))];
    let mut rig = Rig::joined_among(config(ConnectionMode::Single), roster);
    let track = TrackSid::new("TR_VCa");
    let got = rig.sfu(Event::SubscriptionFailed { participant: me(), track: track.clone(), reason });
    let told = proto::SubscriptionResponse { track_sid: "TR_VCa".into(), err: error as i32 };
    assert_eq!(got.says(), [&Say::SubscriptionResponse(told)]);
    let mut changed = somebody("a", 2, true);
    changed.name = "A".into();
    assert!(rig.present(&changed).commands().is_empty(), "not tried again by itself");
    assert_eq!(subscribed(&rig.ask(wish(&["TR_VCa"], true))), [("TR_VCa", "PA_a")]);
    let unknown = TrackSid::new("TR_x");
    let got = rig.sfu(Event::SubscriptionFailed { participant: me(), track: unknown, reason });
    assert_eq!(got.discards(), [Discard::StaleTrackEvent]);
}

#[test]
fn who_receives_as_much_as_may_be_is_told_and_gets_it_later() {
    let roster = vec![entry(&somebody("a", 1, true))];
    let mut rig = Rig::joined_among(config(ConnectionMode::Single), roster);
    let track = TrackSid::new("TR_VCa");
    let reason = SubscriptionFailure::TooManyTracks;
    let got = rig.sfu(Event::SubscriptionFailed { participant: me(), track: track.clone(), reason });
    let error = proto::SubscriptionError::SeUnknown as i32;
    let told = proto::SubscriptionResponse { track_sid: "TR_VCa".into(), err: error };
    assert_eq!(got.says(), [&Say::SubscriptionResponse(told)]);
    // The media plane still has the subscription, so no new one is requested and its events still count.
    assert!(rig.ask(wish(&["TR_VCa"], true)).commands().is_empty());
    let got = rig.sfu(Event::StreamState { participant: me(), track, paused: true });
    assert!(got.discards().is_empty());
}
