use super::*;
use prost::Message as _;
use rand::Rng;

/// The session's state that a refused request must not change: everything but pending outputs.
fn state(session: &Session) -> String {
    let Session {
        config: _,
        phase,
        own,
        tracks,
        roster,
        subscriptions,
        timers,
        rng: _,
        updates,
        out: _,
        heard: _,
        early,
        measured,
        missed,
        signal_drop,
        dynacast,
    } = session;
    format!(
        "{phase:?} {early:?} {own:?} {tracks:?} {roster:?} {subscriptions:?} {timers:?} {updates:?} {measured:?} {dynacast:?} {missed:?} {signal_drop:?}"
    )
}

fn word(rng: &mut SmallRng) -> String {
    const WORDS: [&str; 12] = [
        "",
        "TR_AMa",
        "TR_VCa",
        "TR_x",
        "PA_a",
        "PA_me",
        "me",
        "cam",
        "offer",
        "answer",
        "vp8",
        "{\"candidate\":\"\"}",
    ];
    match rng.random_range(0..14) {
        12 => "x".repeat(rng.random_range(0..400)),
        13 => "\u{1F600}\0\u{202e}".to_owned(),
        n => WORDS[n].to_owned(),
    }
}

fn words(rng: &mut SmallRng) -> Vec<String> {
    (0..rng.random_range(0..5)).map(|_| word(rng)).collect()
}

fn number(rng: &mut SmallRng) -> i32 {
    match rng.random_range(0..4) {
        0 => rng.random(),
        _ => rng.random_range(-1..6),
    }
}

fn description(rng: &mut SmallRng) -> proto::SessionDescription {
    proto::SessionDescription {
        r#type: word(rng),
        sdp: word(rng),
        id: rng.random(),
        mid_to_track_id: [(word(rng), word(rng))].into(),
    }
}

fn layers(rng: &mut SmallRng) -> Vec<proto::VideoLayer> {
    let layer = |rng: &mut SmallRng| proto::VideoLayer {
        quality: number(rng),
        width: if rng.random_range(0..8) == 0 { rng.random() } else { rng.random_range(0..4000) },
        rid: word(rng),
        ssrc: rng.random(),
        ..Default::default()
    };
    (0..rng.random_range(0..5)).map(|_| layer(rng)).collect()
}

fn random_add_track(rng: &mut SmallRng) -> proto::AddTrackRequest {
    proto::AddTrackRequest {
        cid: word(rng),
        name: word(rng),
        r#type: number(rng),
        source: number(rng),
        width: rng.random(),
        sid: word(rng),
        layers: layers(rng),
        simulcast_codecs: (0..rng.random_range(0..4))
            .map(|_| proto::SimulcastCodec {
                codec: word(rng),
                cid: word(rng),
                layers: layers(rng),
                video_layer_mode: number(rng),
            })
            .collect(),
        encryption: number(rng),
        audio_features: vec![number(rng); rng.random_range(0..20)],
        ..Default::default()
    }
}

fn random_ask(rng: &mut SmallRng) -> Ask {
    match rng.random_range(0..20) {
        0 => Ask::Offer(description(rng)),
        1 => Ask::Answer(description(rng)),
        2 => Ask::Trickle(proto::TrickleRequest {
            candidate_init: word(rng),
            target: number(rng),
            r#final: rng.random(),
        }),
        3..6 => Ask::AddTrack(random_add_track(rng)),
        6 => Ask::Mute(proto::MuteTrackRequest { sid: word(rng), muted: rng.random() }),
        7 | 8 => Ask::Subscription(proto::UpdateSubscription {
            track_sids: words(rng),
            subscribe: rng.random(),
            participant_tracks: vec![proto::ParticipantTracks {
                participant_sid: word(rng),
                track_sids: words(rng),
            }],
        }),
        9 => Ask::TrackSetting(proto::UpdateTrackSettings {
            track_sids: words(rng),
            quality: number(rng),
            width: rng.random(),
            priority: rng.random(),
            disabled: rng.random(),
            ..Default::default()
        }),
        10 => Ask::SubscriptionPermission(proto::SubscriptionPermission {
            all_participants: rng.random(),
            track_permissions: vec![proto::TrackPermission {
                participant_sid: word(rng),
                ..Default::default()
            }],
        }),
        11 => Ask::UpdateMetadata(proto::UpdateParticipantMetadata {
            metadata: word(rng),
            name: word(rng),
            attributes: [(word(rng), word(rng))].into(),
            request_id: rng.random(),
        }),
        12 => Ask::UpdateAudioTrack(proto::UpdateLocalAudioTrack {
            track_sid: word(rng),
            features: vec![number(rng); 3],
        }),
        13 => Ask::UpdateVideoTrack(proto::UpdateLocalVideoTrack {
            track_sid: word(rng),
            width: rng.random(),
            height: rng.random(),
        }),
        14 => Ask::PublishDataTrackRequest(proto::PublishDataTrackRequest::default()),
        15 => Ask::SyncState(proto::SyncState { answer: Some(description(rng)), ..Default::default() }),
        16 => Ask::Ping(rng.random()),
        17 => Ask::PingReq(proto::Ping { timestamp: rng.random(), rtt: rng.random() }),
        18 => Ask::StoreDataBlobRequest(proto::StoreDataBlobRequest { request_id: 3, blob: None }),
        _ => Ask::GetDataBlobRequest(proto::GetDataBlobRequest::default()),
    }
}

fn random_event(rng: &mut SmallRng) -> Event {
    let track = || TrackSid::new("TR_AMa");
    match rng.random_range(0..7) {
        0 => Event::Joined { participant: me(), roster: vec![entry(&somebody("b", 1, true))] },
        1 | 2 => {
            let info =
                somebody(["a", "b", "me"][rng.random_range(0..3)], rng.random_range(0..9), rng.random());
            let change = if rng.random() {
                RosterChange::Present(entry(&info))
            } else {
                let RosterEntry { participant, info } = entry(&info);
                RosterChange::Gone { participant, info, reason: LeaveReason::DuplicateIdentity }
            };
            Event::Roster { room: room(), change }
        }
        3 => Event::TransportConnected { participant: me(), target: Target::Publisher },
        4 => Event::TrackUnpublished { participant: me(), track: track() },
        5 => Event::SubscriptionFailed {
            participant: me(),
            track: track(),
            reason: sfu_protocol::SubscriptionFailure::CodecUnsupported,
        },
        _ => Event::TrackSubscribed { participant: me(), track: track() },
    }
}

/// Sends meaningless requests in any order, mixed with events. Expects that nothing panics, that a refused request
/// changes nothing, and that the session works afterwards.
#[test]
fn garbage_changes_nothing_that_it_is_refused_and_never_panics() {
    for seed in 0..300 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mode = [ConnectionMode::Single, DUAL, DUAL_PUBLISHER][rng.random_range(0..3)];
        let mut config = config(mode);
        config.participant.permission.can_update_metadata = rng.random();
        config.auto_subscribe = rng.random();
        let mut rig = Rig::joined_among(config, vec![entry(&somebody("a", 1, true))]);
        for _ in 0..60 {
            let before = state(&rig.session);
            let ask = random_ask(&mut rng);
            let single_member = !matches!(ask, Ask::Subscription(_) | Ask::TrackSetting(_));
            let got = rig.ask(ask);
            let refused = got.discards().iter().any(|reason| {
                matches!(
                    reason,
                    Discard::Malformed
                        | Discard::Refused
                        | Discard::UnsupportedRequest
                        | Discard::UnexpectedAnswer
                )
            });
            if refused && single_member {
                assert_eq!(before, state(&rig.session), "seed {seed}: {got:?}");
                assert!(got.commands().is_empty(), "seed {seed}: {got:?}");
            }
            if rng.random_range(0..3) == 0 {
                rig.sfu(random_event(&mut rng));
            }
            if rng.random_range(0..5) == 0 {
                rig.pass(Duration::from_millis(rng.random_range(0..700)));
            }
        }
        assert_eq!(rig.ask(Ask::Ping(1)).says().len(), 1, "seed {seed}");
    }
}

/// Feeds in random bytes. They are either a message, which the session handles, or they are refused and the client is
/// told.
#[test]
fn random_bytes_are_taken_or_refused() {
    let mut wire = wire::Wire::default();
    let mut rng = SmallRng::seed_from_u64(1);
    let mut rig = Rig::joined_among(config(ConnectionMode::Single), vec![entry(&somebody("a", 1, true))]);
    let (mut taken, mut refused) = (0, 0);
    for round in 0..20_000_usize {
        // Half are real messages with some bits changed, half are random bytes.
        let mut bytes = if round % 2 == 0 {
            proto::SignalRequest { message: Some(random_ask(&mut rng)) }.encode_to_vec()
        } else {
            (0..rng.random_range(0..60)).map(|_| rng.random()).collect()
        };
        for _ in 0..rng.random_range(0..4) {
            if let Some(place) = bytes.len().checked_sub(1).map(|last| rng.random_range(0..=last)) {
                bytes[place] = rng.random();
            }
        }
        let before = state(&rig.session);
        match wire.decode(&axum::extract::ws::Message::Binary(bytes.into()), 256 * 1024) {
            Ok(request) if matches!(request.message, Some(Ask::Leave(_))) => {}
            Ok(request) => {
                taken += 1;
                rig.feed(Input::Signal(Box::new(request)));
            }
            Err(error) => {
                refused += 1;
                let got = rig.feed(Input::Malformed(error));
                assert_eq!(got.refusals()[0].0, Reason::InvalidRequest);
                assert_eq!(got.discards(), [Discard::Malformed]);
                assert_eq!(before, state(&rig.session));
            }
        }
    }
    assert!(taken > 1000 && refused > 1000, "{taken} taken, {refused} refused");
    assert_eq!(rig.ask(Ask::Ping(1)).says().len(), 1);
}

#[test]
fn members_that_are_not_known_are_ignored() {
    let mut rig = Rig::joined(config(ConnectionMode::Single));
    // Field number 999, length 1.
    let later = proto::SignalRequest::decode(&[0xba, 0x3e, 1, 7][..]).unwrap();
    let got = rig.feed(Input::Signal(Box::new(later)));
    assert_eq!(got.all, [Output::Discarded(Discard::UnknownRequest)]);
}

#[test]
fn what_is_not_there_yet_is_said_to_those_who_wait_for_it() {
    let cases = [
        (
            Ask::PublishDataTrackRequest(proto::PublishDataTrackRequest::default()),
            Some(Reason::UnsupportedType),
            0,
        ),
        (
            Ask::UnpublishDataTrackRequest(proto::UnpublishDataTrackRequest::default()),
            Some(Reason::NotFound),
            0,
        ),
        (
            Ask::StoreDataBlobRequest(proto::StoreDataBlobRequest { request_id: 3, blob: None }),
            Some(Reason::NotAllowed),
            3,
        ),
        (
            Ask::GetDataBlobRequest(proto::GetDataBlobRequest { request_id: 4, ..Default::default() }),
            Some(Reason::NotFound),
            4,
        ),
        (Ask::Simulate(proto::SimulateScenario::default()), None, 0),
        (Ask::UpdateDataSubscription(proto::UpdateDataSubscription::default()), None, 0),
    ];
    for (ask, reason, id) in cases {
        let mut rig = Rig::joined(config(ConnectionMode::Single));
        let got = rig.ask(ask);
        assert_eq!(got.discards(), [Discard::UnsupportedRequest]);
        let answers: Vec<_> = got
            .says()
            .into_iter()
            .map(|say| match say {
                Say::RequestResponse(response) => (response.reason(), response.request_id),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(answers, reason.map(|reason| (reason, id)).into_iter().collect::<Vec<_>>());
    }
}
