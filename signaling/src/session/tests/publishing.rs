use super::*;
use proto::{TrackSource, TrackType};
use sfu_protocol::{LayerQuality, PublicationFailure};

#[test]
fn sids_tell_kind_and_source() {
    let cases = [
        (TrackType::Video, TrackSource::Camera, "TR_VC", "camera"),
        (TrackType::Audio, TrackSource::Microphone, "TR_AM", "camera"),
        (TrackType::Video, TrackSource::ScreenShare, "TR_VS", "screen"),
        (TrackType::Audio, TrackSource::ScreenShareAudio, "TR_As", "screen"),
        (TrackType::Audio, TrackSource::Unknown, "TR_A", ""),
    ];
    for (kind, source, prefix, stream) in cases {
        let mut rig = Rig::joined(config(ConnectionMode::Single));
        let got = rig.ask(Ask::AddTrack(add_track("cid", kind, source)));
        let (cid, info) = got.published()[0];
        assert_eq!((cid, info.stream.as_str(), info.name.as_str()), ("cid", stream, "a track"));
        assert!(info.sid.starts_with(prefix) && info.sid.len() == prefix.len() + 12, "{}", info.sid);
    }
}

#[test]
fn a_track_is_told_to_its_publisher_at_once_and_to_the_others_with_its_media() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    let got = rig.ask(Ask::AddTrack(camera("cam")));
    let [("cam", told)] = got.published()[..] else { panic!("{got:?}") };
    assert_eq!((told.mime_type.as_str(), told.mid.as_str(), told.width), ("", "", 1280));
    assert_eq!(told.codecs[0].mime_type, "video/vp8");
    let [Command::AddTrack { participant, track }] = got.commands()[..] else { panic!("{got:?}") };
    assert_eq!((participant, track.track.as_str()), (&me(), told.sid.as_str()));
    assert_eq!((&track.cids[..], &track.codecs[..]), (&["cam".to_owned()][..], &["vp8".to_owned()][..]));
    assert_eq!(track.kind, MediaKind::Video);
    let layers: Vec<_> = track.layers.iter().map(|layer| (layer.quality, layer.width)).collect();
    assert_eq!(layers, [(LayerQuality::Low, 320), (LayerQuality::Medium, 640), (LayerQuality::High, 1280)]);

    let sid = track.track.clone();
    let got = rig.media(&sid, "renamed");
    let [described] = &got.announced()[..] else { panic!("{got:?}") };
    assert!(described.info.is_publisher);
    let [info] = &described.info.tracks[..] else { panic!("{described:?}") };
    assert_eq!(
        (info.sid.as_str(), info.mime_type.as_str(), info.mid.as_str()),
        (sid.as_str(), "video/vp8", "7")
    );
    let codec = &info.codecs[0];
    assert_eq!((codec.mid.as_str(), codec.cid.as_str(), codec.sdp_cid.as_str()), ("7", "cam", "renamed"));
    let rids: Vec<_> = codec.layers.iter().map(|layer| (layer.width, layer.rid.as_str())).collect();
    assert_eq!(rids, [(320, "q"), (640, "h"), (1280, "f")]);
    assert_eq!(codec.video_layer_mode(), proto::video_layer::Mode::OneSpatialLayerPerStream);
    assert_eq!(got.updates()[0].tracks.len(), 1, "the client learns it of itself");
    assert!(rig.media(&sid, "cam").discards() == [Discard::StaleTrackEvent]);
}

#[test]
fn a_repeated_request_gets_the_same_sid_and_no_second_command() {
    let mut rig = Rig::joined(config(ConnectionMode::Single));
    let first = rig.ask(Ask::AddTrack(camera("cam")));
    let second = rig.ask(Ask::AddTrack(camera("cam")));
    assert_eq!(first.published(), second.published());
    assert!(second.commands().is_empty());
}

#[test]
fn a_request_for_a_published_cid_waits_for_its_end() {
    let mut rig = Rig::joined(config(ConnectionMode::Single));
    let sid = rig.publish("mic", TrackType::Audio, TrackSource::Microphone);
    let again = add_track("mic", TrackType::Audio, TrackSource::Microphone);
    let got = rig.ask(Ask::AddTrack(again.clone()));
    let [Say::RequestResponse(response)] = got.says()[..] else { panic!("{got:?}") };
    assert_eq!(response.reason(), Reason::Queued);
    assert_eq!(response.request, Some(proto::request_response::Request::AddTrack(again)));
    assert!(got.commands().is_empty());
    let got = rig.sfu(Event::TrackUnpublished { participant: me(), track: sid.clone() });
    let gone = proto::TrackUnpublishedResponse { track_sid: sid.to_string() };
    assert!(got.says().contains(&&Say::TrackUnpublished(gone)));
    assert!(got.announced()[0].info.tracks.is_empty());
    assert!(got.announced()[0].info.is_publisher, "who has published stays a publisher");
    let [("mic", next)] = got.published()[..] else { panic!("{got:?}") };
    assert_ne!(next.sid, sid.as_str());
    assert!(matches!(got.commands().last(), Some(Command::AddTrack { .. })));
}

#[test]
fn the_offer_may_come_before_the_request() {
    let mut rig = Rig::joined(config(ConnectionMode::Single));
    let commands = |got: Got| got.commands().into_iter().cloned().collect::<Vec<_>>();
    let mut sent = commands(rig.ask(Ask::Offer(offer(1))));
    sent.extend(commands(rig.ask(Ask::AddTrack(camera("cam")))));
    assert!(matches!(sent[..], [Command::Offer { .. }, Command::AddTrack { .. }]));
}

#[test]
fn requests_that_are_refused_change_nothing() {
    let good = || camera("cam");
    let cases: Vec<(&str, proto::AddTrackRequest, Reason)> = vec![
        ("no cid", proto::AddTrackRequest { cid: String::new(), ..good() }, Reason::InvalidRequest),
        (
            "data",
            proto::AddTrackRequest { r#type: TrackType::Data as i32, ..good() },
            Reason::UnsupportedType,
        ),
        ("type", proto::AddTrackRequest { r#type: 99, ..good() }, Reason::UnsupportedType),
        ("sid", proto::AddTrackRequest { sid: "TR_none".into(), ..good() }, Reason::NotFound),
        ("name", proto::AddTrackRequest { name: "n".repeat(257), ..good() }, Reason::LimitExceeded),
        ("cid", proto::AddTrackRequest { cid: "c".repeat(129), ..good() }, Reason::LimitExceeded),
        ("stream", proto::AddTrackRequest { stream: "s".repeat(129), ..good() }, Reason::LimitExceeded),
        (
            "layers",
            proto::AddTrackRequest { layers: vec![proto::VideoLayer::default(); 4], ..good() },
            Reason::LimitExceeded,
        ),
        (
            "codecs",
            proto::AddTrackRequest { simulcast_codecs: vec![proto::SimulcastCodec::default(); 4], ..good() },
            Reason::LimitExceeded,
        ),
    ];
    for (name, request, reason) in cases {
        let mut rig = Rig::joined(config(ConnectionMode::Single));
        let got = rig.ask(Ask::AddTrack(request.clone()));
        let [Say::RequestResponse(response)] = got.says()[..] else { panic!("{name}: {got:?}") };
        assert_eq!(response.reason(), reason, "{name}");
        assert_eq!(response.request, Some(proto::request_response::Request::AddTrack(request)), "{name}");
        assert!(got.commands().is_empty());
        assert_eq!(rig.ask(Ask::AddTrack(good())).published().len(), 1, "{name}: still works");
    }
}

#[test]
fn permission_decides_by_source() {
    let camera_only = proto::ParticipantPermission {
        can_publish: true,
        can_publish_sources: vec![TrackSource::Camera as i32],
        ..Default::default()
    };
    let nothing = proto::ParticipantPermission::default();
    let cases = [
        (&camera_only, TrackType::Video, TrackSource::Camera, true),
        (&camera_only, TrackType::Audio, TrackSource::Microphone, false),
        (&camera_only, TrackType::Audio, TrackSource::Unknown, false),
        (&nothing, TrackType::Video, TrackSource::Camera, false),
    ];
    for (permission, kind, source, allowed) in cases {
        let mut config = config(ConnectionMode::Single);
        config.participant.permission = permission.clone();
        let mut rig = Rig::joined(config);
        let got = rig.ask(Ask::AddTrack(add_track("cid", kind, source)));
        assert_eq!(got.published().len(), usize::from(allowed));
        let refused: Vec<_> = got.refusals().iter().map(|(reason, _)| *reason).collect();
        assert_eq!(refused, if allowed { vec![] } else { vec![Reason::NotAllowed] });
    }
}

#[test]
fn tracks_are_limited_both_waiting_and_published() {
    let mut rig = Rig::joined(config(ConnectionMode::Single));
    let mic = |n: usize| Ask::AddTrack(add_track(&format!("{n}"), TrackType::Audio, TrackSource::Microphone));
    for n in 0..20 {
        assert_eq!(rig.ask(mic(n)).published().len(), 1);
    }
    assert_eq!(rig.ask(mic(20)).refusals()[0].0, Reason::LimitExceeded);
    let mut rig = Rig::joined(config(ConnectionMode::Single));
    for n in 0..32 {
        rig.publish(&format!("{n}"), TrackType::Audio, TrackSource::Microphone);
    }
    assert_eq!(rig.ask(mic(32)).refusals()[0].0, Reason::LimitExceeded);
    // Requests for cids in use do not pile up, either.
    let refused = (0..32).filter(|&n| rig.ask(mic(n)).refusals()[0].0 == Reason::LimitExceeded).count();
    assert_eq!(refused, 32);
}

#[test]
fn the_largest_announcement_fits() {
    let mut config = config(ConnectionMode::Single);
    config.participant.metadata = "m".repeat(64 * 1024);
    config.participant.attributes = BTreeMap::from([("k".into(), "v".repeat(64 * 1024 - 1))]);
    let mut rig = Rig::joined(config);
    let mut largest = 0;
    for n in 0..32 {
        let mut request = camera(&format!("{n:0>128}"));
        request.name = "n".repeat(256);
        request.stream = "s".repeat(128);
        let layers = request.layers.clone();
        request.simulcast_codecs = ["vp8", "vp9", "av1"]
            .map(|codec| proto::SimulcastCodec {
                codec: codec.into(),
                cid: format!("{n:0>128}"),
                layers: layers.clone(),
                video_layer_mode: 1,
            })
            .into();
        let sid = TrackSid::new(rig.ask(Ask::AddTrack(request)).published()[0].1.sid.as_str());
        let got = rig.media(&sid, &"x".repeat(128));
        let Some(Command::Announce { info, .. }) = got.commands().first().copied() else { panic!() };
        largest = largest.max(info.len());
    }
    let grant = proto::TrackPermission { participant_identity: "i".repeat(255), ..Default::default() };
    let permission = proto::SubscriptionPermission {
        all_participants: false,
        track_permissions: vec![grant; 32 * 1024 / 262],
    };
    let got = rig.ask(Ask::SubscriptionPermission(permission));
    let Some(Command::Announce { info, .. }) = got.commands().first().copied() else { panic!("{got:?}") };
    assert!(info.len() > largest && info.len() <= 256 * 1024, "{}", info.len());
}

#[test]
fn codecs_that_are_not_enabled_are_replaced() {
    let cases: [(&[&str], &[&str]); 5] = [
        (&["h265"], &["video/vp8"]),
        (&["VP9", "vp8"], &["video/vp9", "video/vp8"]),
        (&["video/AV1"], &["video/av1"]),
        (&["", "h264"], &["video/h264"]),
        (&["h265", "vp8"], &["video/vp8"]),
    ];
    for (asked, expected) in cases {
        let mut rig = Rig::joined(config(ConnectionMode::Single));
        let mut request = camera("cam");
        request.simulcast_codecs = asked
            .iter()
            .map(|codec| proto::SimulcastCodec { codec: (*codec).into(), ..Default::default() })
            .collect();
        let got = rig.ask(Ask::AddTrack(request));
        let mimes: Vec<_> =
            got.published()[0].1.codecs.iter().map(|codec| codec.mime_type.as_str()).collect();
        assert_eq!(mimes, expected, "{asked:?}");
    }
}

#[test]
fn sound_options_are_mirrored() {
    let mut rig = Rig::joined(config(ConnectionMode::Single));
    let mut request = add_track("mic", TrackType::Audio, TrackSource::Microphone);
    request.audio_features = vec![proto::AudioTrackFeature::TfStereo as i32];
    request.disable_red = true;
    request.encryption = proto::encryption::Type::Gcm as i32;
    #[expect(deprecated, reason = "older clients send it")]
    {
        request.disable_dtx = true;
    }
    let got = rig.ask(Ask::AddTrack(request));
    let [Command::AddTrack { track, .. }] = got.commands()[..] else { panic!("{got:?}") };
    assert!(track.stereo && track.disable_dtx && track.disable_red && track.encrypted && !track.screen_share);
    let features = &got.published()[0].1.audio_features;
    assert!(features.contains(&(proto::AudioTrackFeature::TfNoDtx as i32)));
}

#[test]
fn muting_reaches_the_media_plane_and_the_others() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    let mute = |sid: &TrackSid, muted| Ask::Mute(proto::MuteTrackRequest { sid: sid.to_string(), muted });
    let got = rig.ask(Ask::AddTrack(add_track("mic", TrackType::Audio, TrackSource::Microphone)));
    let sid = TrackSid::new(got.published()[0].1.sid.as_str());
    // Muted before its media arrives: only the media plane is told.
    let got = rig.ask(mute(&sid, true));
    let command = Command::SetMuted { participant: me(), track: sid.clone(), muted: true };
    assert_eq!((got.commands(), got.updates().len()), (vec![&command], 0));
    assert!(rig.media(&sid, "mic").announced()[0].info.tracks[0].muted);
    let got = rig.ask(mute(&sid, false));
    assert!(matches!(got.commands()[..], [Command::SetMuted { muted: false, .. }, Command::Announce { .. }]));
    assert!(!got.announced()[0].info.tracks[0].muted);
    assert!(!got.updates()[0].tracks[0].muted, "the client learns it of itself");
    assert!(rig.ask(mute(&sid, false)).all.is_empty(), "no change, no message");
    let got = rig.ask(mute(&TrackSid::new("TR_other"), true));
    assert_eq!(got.refusals(), [(Reason::NotFound, "no such track of this participant")]);
    assert!(got.commands().is_empty());
}

#[test]
fn track_details_change_for_everybody() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    let mic = rig.publish("mic", TrackType::Audio, TrackSource::Microphone);
    let cam = rig.publish("cam", TrackType::Video, TrackSource::Camera);
    let update =
        |sid: &str| proto::UpdateLocalAudioTrack { track_sid: sid.into(), features: vec![4, 3, 99, 4] };
    let got = rig.ask(Ask::UpdateAudioTrack(update(mic.as_str())));
    assert_eq!(got.announced()[0].info.tracks[0].audio_features, [3, 4]);
    let update_video =
        |sid: &str| proto::UpdateLocalVideoTrack { track_sid: sid.into(), width: 640, height: 480 };
    let got = rig.ask(Ask::UpdateVideoTrack(update_video(cam.as_str())));
    assert_eq!(got.updates()[0].tracks[1].height, 480);
    for ask in [Ask::UpdateAudioTrack(update("x")), Ask::UpdateVideoTrack(update_video("x"))] {
        assert_eq!(rig.ask(ask).refusals()[0].0, Reason::NotFound);
    }
}

#[test]
fn the_first_subscriber_is_told_to_the_publisher() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    let sid = rig.publish("mic", TrackType::Audio, TrackSource::Microphone);
    let got = rig.sfu(Event::TrackSubscribed { participant: me(), track: sid.clone() });
    assert_eq!(got.says(), [&Say::TrackSubscribed(proto::TrackSubscribed { track_sid: sid.to_string() })]);
    let got = rig.sfu(Event::TrackSubscribed { participant: me(), track: TrackSid::new("TR_x") });
    assert_eq!(got.all, [Output::Discarded(Discard::StaleTrackEvent)]);
}

#[test]
fn own_metadata_changes_only_with_the_right_and_within_limits() {
    let update = |name: &str, metadata: &str, attributes: &[(&str, &str)]| proto::UpdateParticipantMetadata {
        name: name.into(),
        metadata: metadata.into(),
        attributes: attributes.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        request_id: 5,
    };
    let mut rig = Rig::joined(config(ConnectionMode::Single));
    let got = rig.ask(Ask::UpdateMetadata(update("New", "", &[])));
    let [Say::RequestResponse(response)] = got.says()[..] else { panic!("{got:?}") };
    assert_eq!((response.request_id, response.reason()), (5, Reason::NotAllowed));

    let mut config = config(ConnectionMode::Single);
    config.participant.permission.can_update_metadata = true;
    let mut rig = Rig::joined(config.clone());
    let got = rig.ask(Ask::UpdateMetadata(update("New", "", &[("colour", ""), ("size", "9")])));
    let [Say::RequestResponse(response), Say::Update(_)] = got.says()[..] else { panic!("{got:?}") };
    assert_eq!((response.request_id, response.reason()), (5, Reason::Ok));
    for own in [&got.announced()[0].info, got.updates()[0]] {
        assert_eq!((own.name.as_str(), own.metadata.as_str()), ("New", "my metadata"));
        assert_eq!(own.attributes, [("size".to_owned(), "9".to_owned())].into());
    }
    let claims = got.refresh().unwrap();
    assert_eq!((claims.name.as_str(), claims.attributes.len()), ("New", 1));

    let long = "x".repeat(64 * 1024 + 1);
    for (name, bad) in [
        ("name", update(&"n".repeat(257), "", &[])),
        ("metadata", update("", &long, &[])),
        ("attributes", update("", "", &[("k", &long)])),
        ("sum of attributes", update("", "", &[("k", &long[..64 * 1024 - 1])])),
    ] {
        let got = rig.ask(Ask::UpdateMetadata(bad));
        let [Say::RequestResponse(response)] = got.says()[..] else { panic!("{name}: {got:?}") };
        assert_eq!((response.request_id, response.reason()), (5, Reason::LimitExceeded), "{name}");
        assert!(got.commands().is_empty());
    }

    config.client.protocol = 14;
    let mut rig = Rig::joined(config);
    let got = rig.ask(Ask::UpdateMetadata(update("New", "", &[])));
    assert!(got.refusals().is_empty(), "older clients do not know the answer");
    assert_eq!(got.updates()[0].name, "New");
}

#[test]
fn a_track_that_cannot_be_published_is_not_left_announced() {
    use proto::request_response::Request;
    let cases = [
        (PublicationFailure::CodecUnsupported, Reason::UnsupportedType),
        (PublicationFailure::TooManyTracks, Reason::LimitExceeded),
    ];
    for (failure, reason) in cases {
        let mut rig = Rig::active(config(ConnectionMode::Single));
        let got = rig.ask(Ask::AddTrack(camera("c")));
        let sid = TrackSid::new(got.published()[0].1.sid.as_str());
        let failed = Event::PublicationFailed { participant: me(), track: sid.clone(), reason: failure };
        let got = rig.sfu(failed.clone());
        let [Say::RequestResponse(refused), Say::TrackUnpublished(unpublished)] = got.says()[..] else {
            panic!("{got:?}")
        };
        assert_eq!(refused.reason(), reason);
        assert!(matches!(&refused.request, Some(Request::AddTrack(request)) if request.cid == "c"));
        assert_eq!(unpublished.track_sid, sid.as_str());
        assert!(got.announced().is_empty(), "nobody else had heard of it");
        // The cid is free again, and no other track is affected by the failure.
        assert_eq!(rig.sfu(failed).discards(), [Discard::StaleTrackEvent]);
        let again = rig.publish("c", proto::TrackType::Video, proto::TrackSource::Camera);
        assert_ne!(again, sid);
    }
}
