//! Tests of limits: a request that exceeds one is answered with `LIMIT_EXCEEDED` and changes nothing, and the next
//! request is handled normally.

use super::*;

/// Small limits, so that small requests exceed them.
fn limits() -> SessionLimits {
    SessionLimits {
        name: 8,
        metadata: 8,
        attributes: 8,
        track_id: 8,
        subscription_permission: 16,
        codecs: 1,
        layers: 1,
        published_tracks: 3,
        pending_tracks: 2,
        track_wishes: 2,
        sids: 2,
        sid: 8,
        ..SessionLimits::default()
    }
}

fn rig() -> Rig {
    let mut config = config(ConnectionMode::Single);
    config.limits = Arc::new(limits());
    config.participant.permission.can_update_metadata = true;
    Rig::active(config)
}

fn microphone(cid: &str) -> proto::AddTrackRequest {
    proto::AddTrackRequest {
        name: String::new(),
        ..add_track(cid, proto::TrackType::Audio, proto::TrackSource::Microphone)
    }
}

fn long() -> String {
    "x".repeat(9)
}

/// Requests that each exceed one limit, with the field that the error must name.
fn excesses() -> Vec<(Ask, &'static str)> {
    let metadata = |change: fn(&mut proto::UpdateParticipantMetadata)| {
        let mut update = proto::UpdateParticipantMetadata::default();
        change(&mut update);
        Ask::UpdateMetadata(update)
    };
    let track = |change: fn(&mut proto::AddTrackRequest)| {
        let mut request = microphone("cid");
        change(&mut request);
        Ask::AddTrack(request)
    };
    let sids = |sids: &[&str]| sids.iter().map(|&sid| sid.to_owned()).collect::<Vec<_>>();
    vec![
        (metadata(|m| m.name = long()), "update_metadata.name"),
        (metadata(|m| m.metadata = long()), "update_metadata.metadata"),
        (metadata(|m| drop(m.attributes.insert("k".into(), long()))), "update_metadata.attributes"),
        (track(|t| t.cid = long()), "add_track.cid"),
        (track(|t| t.name = long()), "add_track.name"),
        (track(|t| t.stream = long()), "add_track.stream"),
        (track(|t| t.layers = vec![proto::VideoLayer::default(); 2]), "add_track.layers"),
        (
            track(|t| t.layers = vec![proto::VideoLayer { width: 16_385, ..Default::default() }]),
            "add_track.layers.width",
        ),
        (
            track(|t| {
                let layers = vec![proto::VideoLayer { height: u32::MAX, ..Default::default() }];
                t.simulcast_codecs = vec![proto::SimulcastCodec { layers, ..Default::default() }];
            }),
            "add_track.layers.height",
        ),
        (
            track(|t| t.simulcast_codecs = vec![proto::SimulcastCodec::default(); 2]),
            "add_track.simulcast_codecs",
        ),
        (
            track(|t| {
                t.simulcast_codecs = vec![proto::SimulcastCodec { cid: long(), ..Default::default() }];
            }),
            "add_track.simulcast_codecs.cid",
        ),
        (track(|t| t.audio_features = vec![0; 100]), "add_track.audio_features"),
        (
            Ask::Subscription(proto::UpdateSubscription {
                track_sids: sids(&["TR_a", "TR_b", "TR_c"]),
                subscribe: true,
                ..Default::default()
            }),
            "subscription.track_sids",
        ),
        (
            Ask::Subscription(proto::UpdateSubscription {
                track_sids: vec![long()],
                subscribe: true,
                ..Default::default()
            }),
            "subscription.track_sids",
        ),
        (
            Ask::TrackSetting(proto::UpdateTrackSettings {
                track_sids: sids(&["TR_a", "TR_b", "TR_c"]),
                ..Default::default()
            }),
            "track_setting.track_sids",
        ),
        (
            Ask::SubscriptionPermission(proto::SubscriptionPermission {
                track_permissions: vec![proto::TrackPermission {
                    participant_identity: "x".repeat(17),
                    ..Default::default()
                }],
                ..Default::default()
            }),
            "subscription_permission",
        ),
    ]
}

#[test]
fn what_is_too_large_is_refused_by_name_and_harms_nothing() {
    for (ask, field) in excesses() {
        let mut rig = rig();
        let got = rig.ask(ask.clone());
        let [(Reason::LimitExceeded, text)] = got.refusals()[..] else { panic!("{ask:?}: {got:?}") };
        assert!(text.starts_with(field), "{text} does not begin with {field}");
        assert_eq!(got.discards(), [Discard::Refused], "{field}");
        assert_eq!((got.commands(), got.updates().len(), got.ended()), (vec![], 0, None), "{field}");
        // The refused request has changed nothing.
        assert_eq!(rig.ask(Ask::AddTrack(microphone("m"))).published().len(), 1, "{field}");
    }
}

#[test]
fn one_track_too_many_leaves_the_others_as_they_are() {
    let mut rig = rig();
    let first = rig.publish("a", proto::TrackType::Audio, proto::TrackSource::Microphone);
    for cid in ["b", "c"] {
        assert_eq!(rig.ask(Ask::AddTrack(microphone(cid))).published().len(), 1);
    }
    let refused = |got: &Got| got.refusals().first().map(|(reason, _)| *reason);
    let got = rig.ask(Ask::AddTrack(microphone("d")));
    assert_eq!((refused(&got), got.commands()), (Some(Reason::LimitExceeded), vec![]));
    // A repeated request is not another track.
    assert_eq!(rig.ask(Ask::AddTrack(microphone("b"))).published().len(), 1);
    // Published tracks count as well: two pending and one published track make three.
    let b = TrackSid::new(rig.ask(Ask::AddTrack(microphone("b"))).published()[0].1.sid.as_str());
    rig.media(&b, "b");
    let got = rig.ask(Ask::AddTrack(microphone("d")));
    assert_eq!((refused(&got), got.commands()), (Some(Reason::LimitExceeded), vec![]));
    let got = rig.ask(Ask::Mute(proto::MuteTrackRequest { sid: first.to_string(), muted: true }));
    assert_eq!(got.commands().len(), 2, "muted and announced");
    // A track that ends makes room for another.
    rig.sfu(Event::TrackUnpublished { participant: me(), track: first });
    assert_eq!(rig.ask(Ask::AddTrack(microphone("d"))).published().len(), 1);
}

#[test]
fn one_wish_too_many_is_answered_for_its_track_alone() {
    let mut rig = rig();
    let wish = |sid: &str, subscribe| {
        let track_sids = vec![sid.to_owned()];
        Ask::Subscription(proto::UpdateSubscription { track_sids, subscribe, ..Default::default() })
    };
    for sid in ["TR_1", "TR_2"] {
        assert_eq!(rig.ask(wish(sid, true)), Got::default());
    }
    let got = rig.ask(wish("TR_3", true));
    let [Say::SubscriptionResponse(response)] = got.says()[..] else { panic!("{got:?}") };
    assert_eq!((response.track_sid.as_str(), response.err()), ("TR_3", proto::SubscriptionError::SeUnknown));
    let mut ann = somebody("ann", 1, false);
    ann.tracks = vec![proto::TrackInfo { sid: "TR_1".into(), ..Default::default() }];
    // A repeated subscription does not count again, and an unsubscription makes room for another.
    assert_eq!(rig.ask(wish("TR_1", true)), Got::default());
    assert_eq!(rig.ask(wish("TR_2", false)), Got::default());
    assert_eq!(rig.ask(wish("TR_3", true)), Got::default());
    assert_eq!(subscribed(&rig.present(&ann)), [("TR_1", "PA_ann")]);
}
