//! Messages of older clients and of clients not made by LiveKit, which leave fields out, and of newer clients, which
//! add some.

use super::*;
use proto::{TrackSource, TrackType, VideoQuality};
use sfu_protocol::{LayerQuality, TrackDemand};

/// Summary of how a session handles a request.
#[derive(Debug, PartialEq)]
enum Does {
    /// A command, by its name, and no message to the client.
    Command(&'static str),
    /// A message to the client, by its name, possibly with commands.
    Say(&'static str),
    /// No output at all.
    Nothing,
    /// Counted as discarded, without a message to the client.
    Counts(Discard),
}

fn does(got: &Got) -> Does {
    let says = got.says().first().map(|say| match say {
        Say::TrackPublished(_) => "track_published",
        Say::Update(_) => "update",
        Say::Pong(_) => "pong",
        Say::PongResp(_) => "pong_resp",
        Say::RequestResponse(_) => "request_response",
        Say::Leave(_) => "leave",
        other => panic!("{other:?}"),
    });
    let command = got.commands().first().map(|command| match command {
        Command::Answer { .. } => "answer",
        Command::Offer { .. } => "offer",
        Command::Subscribe { .. } => "subscribe",
        Command::Unsubscribe { .. } => "unsubscribe",
        Command::SetDemand { .. } => "set_demand",
        Command::SetMuted { .. } => "set_muted",
        Command::Announce { .. } => "announce",
        Command::Leave { .. } => "leave",
        _ => "another",
    });
    match (says, command, got.discards().first()) {
        (Some(said), _, _) => Does::Say(said),
        (None, Some(command), _) => Does::Command(command),
        (None, None, Some(discard)) => Does::Counts(*discard),
        (None, None, None) => Does::Nothing,
    }
}

/// A session that receives another participant's camera and microphone.
fn among_others(mode: ConnectionMode) -> Rig {
    let mut rig = Rig::joined_among(config(mode), vec![entry(&somebody("a", 1, true))]);
    rig.sfu(Event::TransportConnected { participant: me(), target: rig.session.primary() });
    rig
}

fn untyped(sdp: &str) -> proto::SessionDescription {
    proto::SessionDescription { sdp: sdp.into(), ..Default::default() }
}

#[test]
#[expect(deprecated, reason = "older clients send `update_layers`")]
fn requests_may_lack_whatever_came_later() {
    let trickle = |text: &str| {
        Ask::Trickle(proto::TrickleRequest { candidate_init: text.into(), ..Default::default() })
    };
    let setting = |change: fn(&mut proto::UpdateTrackSettings)| {
        let mut setting =
            proto::UpdateTrackSettings { track_sids: vec!["TR_VCa".into()], ..Default::default() };
        change(&mut setting);
        Ask::TrackSetting(setting)
    };
    let wish = |subscribe| proto::UpdateSubscription {
        track_sids: vec!["TR_VCa".into()],
        subscribe,
        participant_tracks: vec![],
    };
    let bare = |cid: &str, kind: TrackType| {
        Ask::AddTrack(proto::AddTrackRequest { cid: cid.into(), r#type: kind as i32, ..Default::default() })
    };
    let add = |change: fn(&mut proto::AddTrackRequest)| {
        let mut request = camera("cam");
        change(&mut request);
        Ask::AddTrack(request)
    };
    let permission = |grant: proto::TrackPermission| {
        Ask::SubscriptionPermission(proto::SubscriptionPermission {
            all_participants: false,
            track_permissions: vec![grant],
        })
    };
    let published = |track: Option<proto::TrackInfo>| {
        let publish_tracks = vec![proto::TrackPublishedResponse { cid: "x".into(), track }];
        Ask::SyncState(proto::SyncState { publish_tracks, ..Default::default() })
    };
    let cases: Vec<(&str, Ask, Does)> = vec![
        ("offer without type and number", Ask::Offer(untyped("v=0")), Does::Command("offer")),
        ("answer without type and number", Ask::Answer(untyped("v=0")), Does::Command("answer")),
        (
            "candidate alone",
            trickle(r#"{"candidate":"candidate:1 1 udp 1 10.0.0.1 9 typ host"}"#),
            Does::Nothing,
        ),
        ("candidate by mid", trickle(r#"{"candidate":"x","sdpMid":"0"}"#), Does::Nothing),
        ("candidate by index", trickle(r#"{"candidate":"x","sdpMLineIndex":0}"#), Does::Nothing),
        (
            "no index of a native stack",
            trickle(r#"{"candidate":"x","sdpMid":"0","sdpMLineIndex":-1}"#),
            Does::Nothing,
        ),
        ("end of candidates", trickle(r#"{"candidate":""}"#), Does::Nothing),
        ("end of candidates, null", trickle(r#"{"candidate":null,"sdpMid":null}"#), Does::Nothing),
        ("sound, bare", bare("mic", TrackType::Audio), Does::Say("track_published")),
        ("pictures, bare", bare("cam", TrackType::Video), Does::Say("track_published")),
        ("no codecs", add(|add| add.simulcast_codecs.clear()), Does::Say("track_published")),
        ("no layers", add(|add| add.layers.clear()), Does::Say("track_published")),
        (
            "codecs without names",
            add(|add| add.simulcast_codecs[0].codec.clear()),
            Does::Say("track_published"),
        ),
        ("codecs without ids", add(|add| add.simulcast_codecs[0].cid.clear()), Does::Say("track_published")),
        ("source of a newer client", add(|add| add.source = 77), Does::Say("track_published")),
        ("encryption of a newer client", add(|add| add.encryption = 77), Does::Say("track_published")),
        ("policy of a newer client", add(|add| add.backup_codec_policy = 77), Does::Say("track_published")),
        (
            "features of a newer client",
            add(|add| add.audio_features = vec![77]),
            Does::Say("track_published"),
        ),
        ("tracks of nobody in particular", Ask::Subscription(wish(false)), Does::Command("unsubscribe")),
        ("quality alone", setting(|s| s.quality = VideoQuality::Medium as i32), Does::Command("set_demand")),
        ("size alone", setting(|s| (s.width, s.height) = (320, 180)), Does::Command("set_demand")),
        ("off", setting(|s| s.disabled = true), Does::Command("set_demand")),
        ("quality of a newer client", setting(|s| s.quality = 77), Does::Command("set_demand")),
        (
            "permission by sid",
            permission(proto::TrackPermission {
                participant_sid: "PA_a".into(),
                all_tracks: true,
                ..Default::default()
            }),
            Does::Say("update"),
        ),
        (
            "permission by identity",
            permission(proto::TrackPermission { participant_identity: "a".into(), ..Default::default() }),
            Does::Say("update"),
        ),
        ("state of nothing", Ask::SyncState(proto::SyncState::default()), Does::Nothing),
        ("state of a track that it does not describe", published(None), Does::Nothing),
        ("state of an unknown track", published(Some(proto::TrackInfo::default())), Does::Say("leave")),
        (
            "state with wishes alone",
            Ask::SyncState(proto::SyncState { subscription: Some(wish(false)), ..Default::default() }),
            Does::Command("unsubscribe"),
        ),
        ("ping", Ask::Ping(7), Does::Say("pong")),
        ("ping with a round trip", Ask::PingReq(proto::Ping::default()), Does::Say("pong_resp")),
        (
            "layers, as clients once said them",
            Ask::UpdateLayers(proto::UpdateVideoLayers::default()),
            Does::Counts(Discard::UnsupportedRequest),
        ),
        (
            "a scenario of a newer client",
            Ask::Simulate(proto::SimulateScenario::default()),
            Does::Counts(Discard::UnsupportedRequest),
        ),
        ("leave without reason", Ask::Leave(proto::LeaveRequest::default()), Does::Command("leave")),
    ];
    for (name, ask, expected) in cases {
        let mut rig = among_others(DUAL);
        rig.sfu(Event::Offer { participant: me(), id: 1, sdp: "v=0".into(), mid_to_track: BTreeMap::new() });
        let got = rig.ask(ask);
        assert_eq!(does(&got), expected, "{name}: {got:?}");
    }
}

#[test]
fn a_request_of_a_newer_client_is_counted() {
    let mut rig = among_others(ConnectionMode::Single);
    let got = rig.feed(Input::Signal(Box::new(proto::SignalRequest { message: None })));
    assert_eq!(got.all, [Output::Discarded(Discard::UnknownRequest)]);
}

#[test]
fn a_size_without_a_quality_and_a_quality_without_a_size_are_demand() {
    let table = [
        (VideoQuality::High, (0, 0), (LayerQuality::High, 0)),
        (VideoQuality::Medium, (0, 0), (LayerQuality::Medium, 0)),
        // The media plane uses the size if there is one.
        (VideoQuality::Low, (1280, 720), (LayerQuality::Low, 1280)),
    ];
    for (quality, (width, height), expected) in table {
        let mut rig = among_others(DUAL);
        // Different from the initial demand, so that the next request changes it.
        rig.ask(Ask::TrackSetting(proto::UpdateTrackSettings {
            track_sids: vec!["TR_VCa".into()],
            disabled: true,
            ..Default::default()
        }));
        let got = rig.ask(Ask::TrackSetting(proto::UpdateTrackSettings {
            track_sids: vec!["TR_VCa".into()],
            quality: quality as i32,
            width,
            height,
            ..Default::default()
        }));
        let [Command::SetDemand { demand, .. }] = got.commands()[..] else { panic!("{got:?}") };
        assert_eq!((demand.quality, demand.width), expected);
        assert_eq!((demand.enabled, demand.priority), (true, TrackDemand::default().priority));
    }
}

#[test]
fn a_track_announced_with_next_to_nothing_is_described_when_it_comes() {
    let mut rig = among_others(DUAL);
    let bare =
        proto::AddTrackRequest { cid: "cam".into(), r#type: TrackType::Video as i32, ..Default::default() };
    let got = rig.ask(Ask::AddTrack(bare));
    let sid = TrackSid::new(got.published()[0].1.sid.as_str());
    assert!(sid.as_str().starts_with("TR_V"));
    let got = rig.media(&sid, "cam");
    let told = &got.announced()[0].info.tracks[0];
    assert_eq!(
        (told.mime_type.as_str(), told.source(), told.codecs.len()),
        ("video/vp8", TrackSource::Unknown, 1)
    );
}

#[test]
fn what_a_client_is_sent_depends_on_its_protocol() {
    // Protocol number; whether the first offer may contain media; whether a successful request gets a response.
    let table = [
        (0, false, false),
        (1, false, false),
        (7, false, false),
        (8, true, false),
        (13, true, false),
        (15, true, true),
        (18, true, true),
    ];
    for (protocol, at_once, hears_ok) in table {
        let mut config = config(DUAL);
        config.client.protocol = protocol;
        config.participant.permission.can_update_metadata = true;
        let mut rig = Rig::new(config);
        rig.drain();
        let got = rig.sfu(Event::Joined { participant: me(), roster: vec![entry(&somebody("a", 1, true))] });
        assert_eq!(subscribed(&got).len(), if at_once { 2 } else { 0 }, "{protocol}");
        let got = rig.sfu(Event::TransportConnected { participant: me(), target: Target::Subscriber });
        assert_eq!(subscribed(&got).len(), if at_once { 0 } else { 2 }, "{protocol}");
        let update = proto::UpdateParticipantMetadata { name: "New".into(), ..Default::default() };
        let got = rig.ask(Ask::UpdateMetadata(update));
        assert_eq!(!got.refusals().is_empty(), hears_ok, "{protocol}: {got:?}");
        assert!(got.updates().iter().any(|info| info.name == "New"), "{protocol}");
    }
}

/// An ESP32: it publishes on the connection that it offers, subscribes to each track, and numbers no description.
#[test]
fn a_device_of_protocol_1_publishes_and_receives() {
    let mut config = config(DUAL_PUBLISHER);
    config.client = proto::ClientInfo { protocol: 1, ..Default::default() };
    config.auto_subscribe = false;
    let mut rig = Rig::new(config);
    rig.drain();
    let got = rig.sfu(Event::Joined { participant: me(), roster: vec![entry(&somebody("a", 1, true))] });
    assert!(!got.join().subscriber_primary && subscribed(&got).is_empty());
    let sid = rig.publish("a0", TrackType::Audio, TrackSource::Microphone);
    assert_eq!(rig.ask(Ask::Offer(untyped("v=0"))).commands().len(), 1);
    let got =
        rig.sfu(Event::Answer { participant: me(), id: 0, sdp: "v=0".into(), mid_to_track: BTreeMap::new() });
    assert!(matches!(got.says()[..], [Say::Answer(answer)] if answer.id == 0));
    // The subscription is delayed until the client is connected.
    let wish = proto::UpdateSubscription {
        track_sids: vec!["TR_AMa".into()],
        subscribe: true,
        ..Default::default()
    };
    assert!(rig.ask(Ask::Subscription(wish)).all.is_empty());
    let got = rig.sfu(Event::TransportConnected { participant: me(), target: Target::Publisher });
    assert_eq!(subscribed(&got), [("TR_AMa", "PA_a")]);
    rig.sfu(Event::Offer { participant: me(), id: 1, sdp: "v=0".into(), mid_to_track: BTreeMap::new() });
    let got = rig.ask(Ask::Answer(untyped("v=0")));
    assert_eq!(got.commands(), [&Command::Answer { participant: me(), id: 0, sdp: "v=0".into() }]);
    let got = rig.ask(Ask::Mute(proto::MuteTrackRequest { sid: sid.to_string(), muted: true }));
    assert!(matches!(got.commands()[0], Command::SetMuted { .. }));
}

#[test]
fn who_says_nothing_of_itself_when_it_comes_back_is_who_it_was() {
    let mut rig = among_others(DUAL);
    let resumed = Resumed { client: proto::ClientInfo::default(), offer: None, sync_state: None };
    rig.feed(Input::Resumed(Box::new(resumed)));
    let lost = sfu_protocol::ParticipantQuality {
        participant: me(),
        quality: sfu_protocol::ConnectionQuality::Lost,
        score: 1.0,
    };
    let got = rig.sfu(Event::ConnectionQuality { room: room(), changes: vec![lost] });
    let [Say::ConnectionQuality(told)] = got.says()[..] else { panic!("{got:?}") };
    assert_eq!(told.updates[0].quality(), proto::ConnectionQuality::Lost, "older clients do not know it");
}

#[test]
fn an_offer_without_a_usable_answer_makes_the_client_start_anew() {
    let offered =
        |id| Event::Offer { participant: me(), id, sdp: "v=0".into(), mid_to_track: BTreeMap::new() };
    let second = Duration::from_secs(1);
    let anew = |got: &Got| got.leave().map(|leave| (leave.action(), leave.can_reconnect));
    let expected = Some((proto::leave_request::Action::Reconnect, true));
    // A connected client pings.
    let there = |rig: &mut Rig, seconds: u32| {
        let mut got = Got::default();
        for _ in 0..seconds {
            rig.ask(Ask::Ping(1));
            got.append(rig.pass(second));
        }
        got
    };
    let mut rig = among_others(DUAL);
    rig.sfu(offered(1));
    assert_eq!(anew(&there(&mut rig, 14)), None);
    assert_eq!(anew(&there(&mut rig, 1)), expected, "no answer");

    let mut rig = among_others(DUAL);
    rig.sfu(offered(1));
    rig.ask(Ask::Answer(answer(0)));
    let error = sfu_protocol::NegotiationError { field: "m=".into(), reason: "too few".into() };
    let failed = Event::NegotiationFailed { participant: me(), target: Target::Subscriber, id: 0, error };
    assert_eq!(rig.sfu(failed).refusals().len(), 1);
    assert_eq!(anew(&there(&mut rig, 15)), expected, "an answer that is none");

    let mut rig = among_others(DUAL);
    for id in 1..4 {
        rig.sfu(offered(id));
        there(&mut rig, 10);
        rig.ask(Ask::Answer(answer(0)));
    }
    assert_eq!(anew(&there(&mut rig, 60)), None, "answered in time");

    // A client whose connection is lost does not answer. The session does not end for that reason, neither before the
    // loss is noticed nor while the client is away.
    let mut rig = among_others(DUAL);
    rig.sfu(offered(1));
    assert_eq!(anew(&rig.pass(second * 21)), None);
    rig.feed(Input::SignalLost { leaving: false });
    assert_eq!(rig.pass(second * 20).ended(), None);
    rig.feed(Input::Resumed(Box::new(Resumed {
        client: proto::ClientInfo { protocol: 17, ..Default::default() },
        offer: None,
        sync_state: None,
    })));
    assert_eq!(anew(&there(&mut rig, 15)), expected, "it was offered again");
}
