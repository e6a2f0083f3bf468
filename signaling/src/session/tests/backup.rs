use super::*;
use proto::{BackupCodecPolicy, TrackSource, TrackType};
use sfu_protocol::{AddTrack, BackupPolicy, CodecDemand, LayerQuality, TrackPart};

/// A browser's request: VP9 now, VP8 as backup codec.
fn vp9_camera(cid: &str, policy: BackupCodecPolicy) -> proto::AddTrackRequest {
    let codec = |codec: &str, cid: &str| proto::SimulcastCodec {
        codec: codec.into(),
        cid: cid.into(),
        ..Default::default()
    };
    proto::AddTrackRequest {
        simulcast_codecs: vec![codec("vp9", cid), codec("vp8", "")],
        backup_codec_policy: policy as i32,
        ..camera(cid)
    }
}

/// A browser's request after it was told that somebody needs another codec.
fn second(sid: &TrackSid, codec: &str, cid: &str) -> proto::AddTrackRequest {
    let layer = |quality: proto::VideoQuality, width| proto::VideoLayer {
        quality: quality as i32,
        width,
        height: width / 2,
        ..Default::default()
    };
    let layers = vec![layer(proto::VideoQuality::High, 960), layer(proto::VideoQuality::Low, 480)];
    proto::AddTrackRequest {
        cid: cid.into(),
        r#type: TrackType::Video as i32,
        source: TrackSource::Camera as i32,
        sid: sid.to_string(),
        layers: layers.clone(),
        simulcast_codecs: vec![proto::SimulcastCodec {
            codec: codec.into(),
            cid: cid.into(),
            layers,
            video_layer_mode: 0,
        }],
        ..Default::default()
    }
}

fn announced(got: &Got) -> &AddTrack {
    let added = got.commands().into_iter().filter_map(|command| match command {
        Command::AddTrack { track, .. } => Some(&**track),
        _ => None,
    });
    let [track] = added.collect::<Vec<_>>()[..] else { panic!("{got:?}") };
    track
}

impl Rig {
    fn video(&mut self, track: &TrackSid, cid: &str, mid: &str, mime_type: &str, rids: &[&str]) -> Got {
        let track = PublishedTrack {
            track: track.clone(),
            kind: MediaKind::Video,
            mid: mid.into(),
            sdp_cid: cid.into(),
            mime_type: mime_type.into(),
            rids: rids.iter().map(|rid| (*rid).to_owned()).collect(),
        };
        self.sfu(Event::TrackPublished { participant: me(), track })
    }

    /// A session with a camera in VP9 that has VP8 as backup codec.
    fn with_camera() -> (Self, TrackSid) {
        let mut rig = Self::active(config(ConnectionMode::Single));
        let got = rig.ask(Ask::AddTrack(vp9_camera("cam", BackupCodecPolicy::Simulcast)));
        let sid = announced(&got).track.clone();
        rig.video(&sid, "cam", "7", "video/vp9", &[]);
        (rig, sid)
    }
}

#[test]
fn a_track_promises_its_other_codecs() {
    for (policy, expected) in [
        (BackupCodecPolicy::PreferRegression, BackupPolicy::SideBySide),
        (BackupCodecPolicy::Simulcast, BackupPolicy::SideBySide),
        (BackupCodecPolicy::Regression, BackupPolicy::Instead),
    ] {
        let mut rig = Rig::active(config(ConnectionMode::Single));
        let got = rig.ask(Ask::AddTrack(vp9_camera("cam", policy)));
        let part = TrackPart::Main { backups: vec!["vp8".into()], policy: expected };
        assert_eq!((&announced(&got).part, &announced(&got).cids[..]), (&part, &["cam".to_owned()][..]));
        let info = got.published()[0].1;
        assert_eq!(info.backup_codec_policy(), policy);
        let codecs: Vec<_> = info.codecs.iter().map(|codec| (&codec.mime_type[..], &codec.cid[..])).collect();
        assert_eq!(codecs, [("video/vp9", "cam"), ("video/vp8", "")]);
    }
}

#[test]
fn the_second_codec_is_of_the_same_track() {
    let (mut rig, sid) = Rig::with_camera();
    let need = |mime: &str| CodecDemand { mime_type: mime.into(), highest: Some(LayerQuality::High) };
    let codecs = vec![need("video/vp9"), need("video/vp8")];
    let got = rig.sfu(Event::SubscribedQuality { participant: me(), track: sid.clone(), codecs });
    let [Say::SubscribedQualityUpdate(update)] = got.says()[..] else { panic!("{got:?}") };
    let names: Vec<_> = update.subscribed_codecs.iter().map(|codec| &codec.codec[..]).collect();
    assert_eq!((update.track_sid.as_str(), &names[..]), (sid.as_str(), &["vp9", "vp8"][..]));

    let got = rig.ask(Ask::AddTrack(second(&sid, "vp8", "cam2")));
    let [("cam2", info)] = got.published()[..] else { panic!("{got:?}") };
    assert_eq!(info.sid, sid.as_str());
    let track = announced(&got).clone();
    assert_ne!(track.track, sid, "sections are told apart");
    assert_eq!(track.part, TrackPart::Backup { of: sid.clone() });
    assert_eq!((&track.cids[..], &track.codecs[..]), (&["cam2".to_owned()][..], &["vp8".to_owned()][..]));
    let layers: Vec<_> = track.layers.iter().map(|layer| (layer.quality, layer.width)).collect();
    assert_eq!(layers, [(LayerQuality::Low, 480), (LayerQuality::High, 960)]);
    assert!(got.announced().is_empty(), "its media has not come");

    let got = rig.video(&track.track, "renamed", "9", "video/vp8", &["q", "h"]);
    let [described] = &got.announced()[..] else { panic!("{got:?}") };
    let [info] = &described.info.tracks[..] else { panic!("one track: {described:?}") };
    assert_eq!((&info.sid[..], &info.mime_type[..], &info.mid[..]), (sid.as_str(), "video/vp9", "7"));
    let [first, backup] = &info.codecs[..] else { panic!("{info:?}") };
    assert_eq!((&first.mime_type[..], &first.mid[..], &first.cid[..]), ("video/vp9", "7", "cam"));
    let told = (&backup.mime_type[..], &backup.mid[..], &backup.cid[..], &backup.sdp_cid[..]);
    assert_eq!(told, ("video/vp8", "9", "cam2", "renamed"));
    assert_eq!(backup.video_layer_mode(), proto::video_layer::Mode::OneSpatialLayerPerStream);
    let rids: Vec<_> = backup.layers.iter().map(|layer| (layer.width, &layer.rid[..])).collect();
    assert_eq!(rids, [(480, "q"), (960, "h")]);

    // One command mutes both codecs: the media plane knows that they belong together.
    let got = rig.ask(Ask::Mute(proto::MuteTrackRequest { sid: sid.to_string(), muted: true }));
    let muted = Command::SetMuted { participant: me(), track: sid.clone(), muted: true };
    assert_eq!(got.commands()[0], &muted);
    let got = rig.sfu(Event::TrackUnpublished { participant: me(), track: sid.clone() });
    assert!(got.announced()[0].info.tracks.is_empty());
}

#[test]
fn a_second_codec_that_ends_leaves_the_track_and_may_come_again() {
    let (mut rig, sid) = Rig::with_camera();
    for (cid, mid) in [("cam2", "9"), ("cam3", "10")] {
        let section = announced(&rig.ask(Ask::AddTrack(second(&sid, "vp8", cid)))).track.clone();
        rig.video(&section, cid, mid, "video/vp8", &[]);
        let got = rig.sfu(Event::TrackUnpublished { participant: me(), track: section.clone() });
        let unpublished = |say: &&Say| matches!(say, Say::TrackUnpublished(_));
        assert!(!got.says().iter().any(unpublished), "the client knows no such track");
        let codecs = &got.announced()[0].info.tracks[0].codecs;
        assert_eq!((&codecs[1].mime_type[..], &codecs[1].cid[..], &codecs[1].mid[..]), ("video/vp8", "", ""));
        let got = rig.sfu(Event::TrackUnpublished { participant: me(), track: section });
        assert_eq!(got.all, [Output::Discarded(Discard::StaleTrackEvent)]);
    }
}

#[test]
fn a_repeated_request_for_a_codec_is_answered_again_and_no_more() {
    let (mut rig, sid) = Rig::with_camera();
    let first = rig.ask(Ask::AddTrack(second(&sid, "vp8", "cam2")));
    let again = rig.ask(Ask::AddTrack(second(&sid, "vp8", "cam2")));
    assert_eq!(first.published(), again.published());
    assert!(again.commands().is_empty());
    // Responses that may have been lost with the socket are repeated until the media has arrived.
    let resumed = Resumed { client: proto::ClientInfo::default(), offer: None, sync_state: None };
    let got = rig.feed(Input::Resumed(Box::new(resumed.clone())));
    assert_eq!(got.published(), first.published());
    rig.video(&announced(&first).track, "cam2", "9", "video/vp8", &[]);
    assert!(rig.feed(Input::Resumed(Box::new(resumed))).published().is_empty());
}

#[test]
fn requests_for_a_codec_that_cannot_be_are_refused_and_change_nothing() {
    let (mut rig, sid) = Rig::with_camera();
    rig.present(&somebody("ann", 1, true));
    let mic = rig.publish("mic", TrackType::Audio, TrackSource::Microphone);
    let plain = rig.publish("plain", TrackType::Video, TrackSource::Camera);
    let waiting = rig.ask(Ask::AddTrack(vp9_camera("waiting", BackupCodecPolicy::Simulcast)));
    let waiting = announced(&waiting).track.clone();
    let good = || second(&sid, "vp8", "cam2");
    let of = |track: &TrackSid| proto::AddTrackRequest { sid: track.to_string(), ..good() };
    let sound = TrackType::Audio as i32;
    let cases = [
        ("unknown", of(&TrackSid::new("TR_none")), Reason::NotFound),
        ("somebody else's", of(&TrackSid::new("TR_VCann")), Reason::NotFound),
        ("without media", of(&waiting), Reason::NotFound),
        ("sound", proto::AddTrackRequest { r#type: sound, ..of(&mic) }, Reason::UnsupportedType),
        ("another kind", proto::AddTrackRequest { r#type: sound, ..good() }, Reason::UnsupportedType),
        ("promised nothing", of(&plain), Reason::UnsupportedType),
        ("another codec", second(&sid, "h264", "cam2"), Reason::UnsupportedType),
        ("an unknown codec", second(&sid, "vp10", "cam2"), Reason::UnsupportedType),
        ("the first codec", second(&sid, "vp9", "cam2"), Reason::UnsupportedType),
        ("no codec", proto::AddTrackRequest { simulcast_codecs: vec![], ..good() }, Reason::InvalidRequest),
        ("no cid", second(&sid, "vp8", ""), Reason::InvalidRequest),
        ("the track's cid", second(&sid, "vp8", "cam"), Reason::InvalidRequest),
        ("another track's cid", second(&sid, "vp8", "mic"), Reason::InvalidRequest),
        ("too long", second(&sid, "vp8", &"c".repeat(129)), Reason::LimitExceeded),
    ];
    for (name, request, reason) in cases {
        let got = rig.ask(Ask::AddTrack(request.clone()));
        let [Say::RequestResponse(response)] = got.says()[..] else { panic!("{name}: {got:?}") };
        assert_eq!(response.reason(), reason, "{name}");
        assert_eq!(response.request, Some(proto::request_response::Request::AddTrack(request)), "{name}");
        assert!(got.commands().is_empty(), "{name}");
    }
    assert_eq!(rig.ask(Ask::AddTrack(good())).published().len(), 1, "still works");
    let got = rig.ask(Ask::AddTrack(second(&sid, "vp8", "cam3")));
    assert_eq!(got.refusals()[0].0, Reason::InvalidRequest, "it has that codec");
}

#[test]
fn codecs_count_towards_the_limits() {
    let (mut rig, sid) = Rig::with_camera();
    for n in 0..31 {
        rig.publish(&format!("{n}"), TrackType::Audio, TrackSource::Microphone);
    }
    let got = rig.ask(Ask::AddTrack(second(&sid, "vp8", "cam2")));
    assert_eq!(got.refusals()[0].0, Reason::LimitExceeded);
}

/// The first codec is wanted in high quality, the backup codec as given.
fn want(track: &TrackSid, backup: Option<LayerQuality>) -> Event {
    let demand = |mime: &str, highest| CodecDemand { mime_type: mime.into(), highest };
    let codecs = vec![demand("video/vp9", Some(LayerQuality::High)), demand("video/vp8", backup)];
    Event::SubscribedQuality { participant: me(), track: track.clone(), codecs }
}

/// Number of messages that told the client the demand.
fn told(got: &Got) -> usize {
    got.says().iter().filter(|say| matches!(say, Say::SubscribedQualityUpdate(_))).count()
}

#[test]
fn a_client_that_does_not_seem_to_have_heard_is_asked_again_a_few_times() {
    let high = Some(LayerQuality::High);
    let moment = Duration::from_secs(1);
    let (mut rig, sid) = Rig::with_camera();
    assert_eq!(told(&rig.sfu(want(&sid, high))), 1);
    assert_eq!(told(&rig.pass(moment * 3)), 1, "again");
    rig.ask(Ask::AddTrack(second(&sid, "vp8", "clone")));
    assert_eq!(told(&rig.pass(moment * 60)), 0, "it has heard");
    let (mut rig, sid) = Rig::with_camera();
    rig.sfu(want(&sid, None));
    assert_eq!(told(&rig.pass(moment * 60)), 0, "nobody wants it");
    rig.sfu(want(&sid, high));
    let again: usize = (0..60).map(|_| told(&rig.pass(moment))).sum();
    assert_eq!(again, 4, "it never will");
}

#[test]
fn a_second_codec_that_ends_while_it_is_wanted_is_asked_for_again() {
    let minute = Duration::from_secs(60);
    for wanted in [None, Some(LayerQuality::Low)] {
        let (mut rig, sid) = Rig::with_camera();
        rig.sfu(want(&sid, wanted));
        for cid in ["cam2", "cam3"] {
            let section = announced(&rig.ask(Ask::AddTrack(second(&sid, "vp8", cid)))).track.clone();
            rig.video(&section, cid, "9", "video/vp8", &[]);
            assert_eq!(told(&rig.pass(minute)), 0, "it is there");
            let at_once = told(&rig.sfu(Event::TrackUnpublished { participant: me(), track: section }));
            assert_eq!(at_once, usize::from(wanted.is_some()), "{cid}");
        }
        assert_eq!(told(&rig.pass(minute)), if wanted.is_some() { 4 } else { 0 });
        // A refused codec is not requested again at once: that could go on forever.
        let section = announced(&rig.ask(Ask::AddTrack(second(&sid, "vp8", "cam4")))).track.clone();
        assert_eq!(told(&rig.sfu(Event::TrackUnpublished { participant: me(), track: section })), 0);
        assert_eq!(told(&rig.pass(minute)), if wanted.is_some() { 4 } else { 0 });
    }
}

#[test]
fn what_was_asked_while_nobody_listened_does_not_count() {
    let (mut rig, sid) = Rig::with_camera();
    rig.sfu(want(&sid, Some(LayerQuality::High)));
    rig.feed(Input::SignalLost { leaving: false });
    assert_eq!(told(&rig.pass(Duration::from_secs(20))), 0);
    let resumed = Resumed { client: proto::ClientInfo::default(), offer: None, sync_state: None };
    assert_eq!(told(&rig.feed(Input::Resumed(Box::new(resumed)))), 1);
    assert_eq!(told(&rig.pass(Duration::from_secs(60))), 4);
}

#[test]
fn codecs_whose_sections_are_named_with_the_first_need_no_request_of_their_own() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    let mut request = vp9_camera("cam", BackupCodecPolicy::Simulcast);
    request.simulcast_codecs[1].cid = "cam2".into();
    // One offer may contain both sections, so the media plane is told of both before it.
    let got = rig.ask(Ask::AddTrack(request.clone()));
    let [Command::AddTrack { track: main, .. }, Command::AddTrack { track: backup, .. }] = got.commands()[..]
    else {
        panic!("{got:?}")
    };
    assert_eq!(main.cids, ["cam"], "the other section is not the first codec's");
    assert_eq!(backup.part, TrackPart::Backup { of: main.track.clone() });
    assert_eq!((&backup.cids[..], &backup.codecs[..]), (&["cam2".to_owned()][..], &["vp8".to_owned()][..]));
    assert_eq!(backup.layers, main.layers);
    let sid = main.track.clone();
    rig.video(&sid, "cam", "7", "video/vp9", &[]);
    let got = rig.video(&backup.track, "cam2", "8", "video/vp8", &["q", "h", "f"]);
    let codecs = &got.announced()[0].info.tracks[0].codecs;
    let codecs: Vec<_> = codecs.iter().map(|codec| (&codec.mime_type[..], &codec.mid[..])).collect();
    assert_eq!(codecs, [("video/vp9", "7"), ("video/vp8", "8")]);
    // A request sent nevertheless gets a response.
    let got = rig.ask(Ask::AddTrack(second(&sid, "vp8", "cam2")));
    assert_eq!((got.published().len(), got.commands().len()), (1, 0));

    // A cid that is in use is refused for the backup codec; one equal to the first codec's names no section.
    for (cid, discards) in [("cam2", &[Discard::Refused][..]), ("other", &[])] {
        request.cid = "other".into();
        request.simulcast_codecs[0].cid = "other".into();
        request.simulcast_codecs[1].cid = cid.into();
        let got = rig.ask(Ask::AddTrack(request.clone()));
        assert_eq!(got.discards(), discards, "{cid}");
        let sid = announced(&got).track.clone();
        rig.sfu(Event::TrackUnpublished { participant: me(), track: sid });
    }
}

#[test]
fn a_named_section_that_is_not_taken_is_asked_for_when_it_is_wanted() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    let mut request = vp9_camera("cam", BackupCodecPolicy::Simulcast);
    request.simulcast_codecs[1].cid = "cam2".into();
    let got = rig.ask(Ask::AddTrack(request));
    let [Command::AddTrack { track: main, .. }, Command::AddTrack { track: backup, .. }] = got.commands()[..]
    else {
        panic!("{got:?}")
    };
    // Its section came before that of the first codec in the offer.
    let refused = Event::TrackUnpublished { participant: me(), track: backup.track.clone() };
    let got = rig.sfu(refused);
    let text = format!("video/vp8 of track {} cannot be taken", main.track);
    assert_eq!(got.refusals(), [(Reason::UnsupportedType, text.as_str())]);
    assert!(got.commands().is_empty());
    rig.video(&main.track, "cam", "7", "video/vp9", &[]);
    assert_eq!(told(&rig.sfu(want(&main.track, Some(LayerQuality::Low)))), 1);
    assert_eq!(told(&rig.pass(Duration::from_secs(60))), 4);
    assert_eq!(rig.ask(Ask::AddTrack(second(&main.track, "vp8", "cam3"))).commands().len(), 1);
}
