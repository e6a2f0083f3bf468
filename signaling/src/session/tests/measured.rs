//! Tests of what the client is told of the media plane's measurements.

use super::*;
use sfu_protocol::{
    CodecDemand, ConnectionQuality, LayerQuality, ParticipantQuality, Speaker, SubscriptionFailure,
};

fn speaking(levels: &[(&str, f32)]) -> Event {
    let speakers =
        levels.iter().map(|&(name, level)| Speaker { participant: ParticipantSid::new(name), level });
    Event::Speakers { room: room(), speakers: speakers.collect() }
}

fn connected(qualities: &[(&str, ConnectionQuality)]) -> Event {
    let changes = qualities.iter().map(|&(name, quality)| ParticipantQuality {
        participant: ParticipantSid::new(name),
        quality,
        score: 4.5,
    });
    Event::ConnectionQuality { room: room(), changes: changes.collect() }
}

/// Sid, level and `active` of each reported speaker.
fn speakers(got: &Got) -> Vec<(&str, f32, bool)> {
    let says = got.says().into_iter();
    says.flat_map(|say| if let Say::SpeakersChanged(changed) = say { &changed.speakers[..] } else { &[] })
        .map(|speaker| (speaker.sid.as_str(), speaker.level, speaker.active))
        .collect()
}

fn qualities(got: &Got) -> Vec<(&str, proto::ConnectionQuality)> {
    let says = got.says().into_iter();
    says.flat_map(|say| if let Say::ConnectionQuality(update) = say { &update.updates[..] } else { &[] })
        .map(|update| (update.participant_sid.as_str(), update.quality()))
        .collect()
}

fn choose(rig: &mut Rig, track: &str, subscribe: bool) -> Got {
    let track_sids = vec![track.to_owned()];
    rig.ask(Ask::Subscription(proto::UpdateSubscription { track_sids, subscribe, ..Default::default() }))
}

#[test]
fn speakers_are_told_by_what_has_changed_for_this_client() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    rig.present(&somebody("ann", 1, true));
    rig.present(&somebody("bob", 1, true));
    type Step<'a> = (&'a [(&'a str, f32)], &'a [(&'a str, f32, bool)]);
    let steps: [Step<'_>; 7] = [
        (&[("PA_ann", 0.3)], &[("PA_ann", 0.375, true)]),
        // Equal when rounded up to eighths.
        (&[("PA_ann", 0.26)], &[]),
        (&[("PA_me", 0.9), ("PA_ann", 0.01)], &[("PA_ann", 0.125, true), ("PA_me", 1.0, true)]),
        // An invalid level, a level above 1, and a participant that is not in the room.
        (
            &[("PA_me", f32::NAN), ("PA_ann", 7.0), ("PA_nobody", 0.5)],
            &[("PA_ann", 1.0, true), ("PA_me", 0.0, false)],
        ),
        (&[("PA_bob", 0.5)], &[("PA_bob", 0.5, true), ("PA_ann", 0.0, false)]),
        (&[], &[("PA_bob", 0.0, false)]),
        (&[], &[]),
    ];
    for (levels, told) in steps {
        let got = rig.sfu(speaking(levels));
        assert_eq!(speakers(&got), told, "{levels:?}");
        assert!(got.says().len() <= 1 && got.commands().is_empty());
    }
}

#[test]
fn only_those_who_are_received_are_told_of_and_at_once_when_they_are() {
    let mut rig = Rig::active(SessionConfig { auto_subscribe: false, ..config(ConnectionMode::Single) });
    rig.present(&somebody("ann", 1, true));
    assert_eq!(speakers(&rig.sfu(speaking(&[("PA_ann", 1.0)]))), []);
    assert_eq!(qualities(&rig.sfu(connected(&[("PA_ann", ConnectionQuality::Good)]))), []);
    let got = choose(&mut rig, "TR_AMann", true);
    assert_eq!(speakers(&got), [("PA_ann", 1.0, true)]);
    assert_eq!(qualities(&got), [("PA_ann", proto::ConnectionQuality::Good)]);
    assert_eq!(choose(&mut rig, "TR_VCann", true).says().len(), 0, "no news with the second track");
    choose(&mut rig, "TR_VCann", false);
    let got = choose(&mut rig, "TR_AMann", false);
    assert_eq!(speakers(&got), [("PA_ann", 0.0, false)]);
    assert_eq!(qualities(&choose(&mut rig, "TR_AMann", true)).len(), 1, "told again");
    // The quality of a participant that has left is dropped.
    rig.gone(&somebody("ann", 1, true), LeaveReason::ClientInitiated);
    rig.present(&somebody("ann", 1, true));
    assert_eq!(qualities(&choose(&mut rig, "TR_AMann", true)), []);
}

#[test]
fn who_can_be_received_in_nothing_is_not_told_of() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    rig.present(&somebody("ann", 1, true));
    rig.sfu(speaking(&[("PA_ann", 1.0)]));
    let failed = |track: &str| Event::SubscriptionFailed {
        participant: me(),
        track: TrackSid::new(track),
        reason: SubscriptionFailure::CodecUnsupported,
    };
    assert_eq!(speakers(&rig.sfu(failed("TR_VCann"))), [], "her voice is still heard");
    assert_eq!(speakers(&rig.sfu(failed("TR_AMann"))), [("PA_ann", 0.0, false)]);
    assert_eq!(speakers(&rig.sfu(speaking(&[("PA_ann", 0.5)]))), []);
    assert_eq!(qualities(&rig.sfu(connected(&[("PA_ann", ConnectionQuality::Good)]))), []);
    let paused = Event::StreamState { participant: me(), track: TrackSid::new("TR_VCann"), paused: true };
    assert_eq!(rig.sfu(paused).all, [Output::Discarded(Discard::StaleTrackEvent)]);
    // The client tries again, which may succeed.
    let got = choose(&mut rig, "TR_VCann", true);
    assert_eq!(speakers(&got), [("PA_ann", 0.5, true)]);
    assert_eq!(qualities(&got), [("PA_ann", proto::ConnectionQuality::Good)]);
}

#[test]
fn connections_are_told_in_words_that_the_client_knows() {
    use proto::ConnectionQuality as Told;
    for (protocol, lost) in [(10, Told::Poor), (11, Told::Lost)] {
        let mut config = config(ConnectionMode::Single);
        config.client.protocol = protocol;
        let mut rig = Rig::active(config);
        for (quality, told) in [
            (ConnectionQuality::Excellent, Told::Excellent),
            (ConnectionQuality::Good, Told::Good),
            (ConnectionQuality::Poor, Told::Poor),
            (ConnectionQuality::Lost, lost),
        ] {
            let event = connected(&[("PA_me", quality), ("PA_stranger", quality)]);
            assert_eq!(qualities(&rig.sfu(event.clone())), [("PA_me", told)]);
            assert_eq!(rig.sfu(event), Got::default());
        }
    }
}

#[test]
fn a_paused_stream_is_told_with_its_publisher() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    rig.present(&somebody("ann", 1, true));
    let state =
        |track: &str, paused| Event::StreamState { participant: me(), track: TrackSid::new(track), paused };
    for (paused, told) in [(true, proto::StreamState::Paused), (false, proto::StreamState::Active)] {
        let got = rig.sfu(state("TR_VCann", paused));
        let [Say::StreamStateUpdate(update)] = got.says()[..] else { panic!("{got:?}") };
        let [info] = &update.stream_states[..] else { panic!("{update:?}") };
        assert_eq!((info.participant_sid.as_str(), info.track_sid.as_str()), ("PA_ann", "TR_VCann"));
        assert_eq!(info.state(), told);
    }
    let stale = [Output::Discarded(Discard::StaleTrackEvent)];
    assert_eq!(rig.sfu(state("TR_VCnobody", true)).all, stale);
    choose(&mut rig, "TR_VCann", false);
    assert_eq!(rig.sfu(state("TR_VCann", true)).all, stale, "not received any more");
}

/// Demand as told to the client, for each message: each codec with its enabled qualities.
fn wanted(got: &Got) -> Vec<Vec<(&str, [bool; 3])>> {
    let says = got.says().into_iter();
    let updates =
        says.filter_map(|say| if let Say::SubscribedQualityUpdate(u) = say { Some(u) } else { None });
    updates
        .map(|update| {
            let codecs = &update.subscribed_codecs;
            #[expect(deprecated, reason = "older clients read only these")]
            let old = &update.subscribed_qualities;
            assert_eq!(Some(old), codecs.first().map(|codec| &codec.qualities));
            codecs.iter().map(|codec| (codec.codec.as_str(), switched(codec))).collect()
        })
        .collect()
}

fn switched(codec: &proto::SubscribedCodec) -> [bool; 3] {
    use proto::VideoQuality::{High, Low, Medium};
    [Low, Medium, High].map(|quality| {
        codec.qualities.iter().find(|q| q.quality() == quality).expect("each quality is there").enabled
    })
}

#[test]
fn more_is_wanted_at_once_and_less_after_a_while() {
    use LayerQuality::{High, Low, Medium};
    let mut rig = Rig::active(config(ConnectionMode::Single));
    let track = rig.publish("c", proto::TrackType::Video, proto::TrackSource::Camera);
    let want = |rig: &mut Rig, highest: Option<LayerQuality>| {
        let codecs = vec![CodecDemand { mime_type: "video/VP8".into(), highest }];
        rig.sfu(Event::SubscribedQuality { participant: me(), track: track.clone(), codecs })
    };
    let second = Duration::from_secs(1);
    assert_eq!(wanted(&want(&mut rig, Some(Low))), [[("vp8", [true, false, false])]]);
    assert_eq!(wanted(&want(&mut rig, Some(High))), [[("vp8", [true, true, true])]]);
    assert!(wanted(&want(&mut rig, Some(High))).is_empty());
    // A decrease that is reversed before the delay has passed.
    assert!(wanted(&want(&mut rig, Some(Low))).is_empty());
    assert!(wanted(&rig.pass(second * 4)).is_empty());
    want(&mut rig, Some(High));
    assert!(wanted(&rig.pass(second * 60)).is_empty());
    // A second decrease does not restart the delay.
    want(&mut rig, Some(Medium));
    rig.pass(second * 3);
    want(&mut rig, Some(Low));
    assert_eq!(wanted(&rig.pass(second * 2)), [[("vp8", [true, false, false])]]);
    // A decrease to nothing has a longer delay. When more is wanted again, but still less than before, that is told
    // at once, because the shorter delay has passed.
    want(&mut rig, Some(High));
    want(&mut rig, None);
    assert!(wanted(&rig.pass(second * 9)).is_empty());
    assert_eq!(wanted(&want(&mut rig, Some(Medium))), [[("vp8", [true, true, false])]]);
    // When a track ends, its demand and the pending decrease are dropped.
    want(&mut rig, None);
    rig.sfu(Event::TrackUnpublished { participant: me(), track: track.clone() });
    assert!(wanted(&rig.pass(second * 60)).is_empty());
    assert_eq!(want(&mut rig, Some(High)).discards(), [Discard::StaleTrackEvent]);
}

#[test]
fn what_nobody_watches_is_paused_and_goes_on_as_soon_as_somebody_does() {
    let second = Duration::from_secs(1);
    let (off, on) = ([("vp8", [false; 3])], [("vp8", [true; 3])]);
    let mut rig = Rig::active(config(ConnectionMode::Single));
    let microphone = rig.publish("m", proto::TrackType::Audio, proto::TrackSource::Microphone);
    let track = rig.publish("c", proto::TrackType::Video, proto::TrackSource::Camera);
    let want = |rig: &mut Rig, highest: Option<LayerQuality>| {
        let codecs = vec![CodecDemand { mime_type: "video/vp8".into(), highest }];
        rig.sfu(Event::SubscribedQuality { participant: me(), track: track.clone(), codecs })
    };
    // No subscriber at all, or one that stops receiving at once.
    assert!(wanted(&rig.pass(second * 5)).is_empty());
    assert!(wanted(&want(&mut rig, None)).is_empty());
    assert!(wanted(&rig.pass(Duration::from_millis(4_999))).is_empty());
    assert_eq!(wanted(&rig.pass(Duration::from_millis(1))), [off]);
    assert!(wanted(&rig.pass(second * 600)).is_empty(), "said once, and of pictures only");
    // A subscriber arrives and leaves.
    assert_eq!(wanted(&want(&mut rig, Some(LayerQuality::High))), [on]);
    want(&mut rig, None);
    assert!(wanted(&rig.pass(second * 9)).is_empty());
    assert_eq!(wanted(&rig.pass(second)), [off]);
    // The demand is repeated to a client that resumes.
    rig.feed(Input::SignalLost { leaving: false });
    let client = proto::ClientInfo { protocol: 17, ..Default::default() };
    let got = rig.feed(Input::Resumed(Box::new(Resumed { client, offer: None, sync_state: None })));
    assert_eq!(wanted(&got), [off]);
    // The next publication starts over.
    rig.sfu(Event::TrackUnpublished { participant: me(), track });
    rig.sfu(Event::TrackUnpublished { participant: me(), track: microphone });
    assert!(wanted(&rig.pass(second * 60)).is_empty());
    rig.publish("c", proto::TrackType::Video, proto::TrackSource::Camera);
    assert_eq!(wanted(&rig.pass(second * 10)), [off]);
}

#[test]
fn a_second_codec_that_is_wanted_is_news_at_once_and_that_the_first_is_not_only_later() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    let track = rig.publish("c", proto::TrackType::Video, proto::TrackSource::Camera);
    let demand = |mime: &str, highest| CodecDemand { mime_type: mime.into(), highest };
    let want = |rig: &mut Rig, codecs: Vec<CodecDemand>| {
        rig.sfu(Event::SubscribedQuality { participant: me(), track: track.clone(), codecs })
    };
    let (high, low) = (Some(LayerQuality::High), Some(LayerQuality::Low));
    let got = want(&mut rig, vec![demand("video/av1", high)]);
    assert_eq!(wanted(&got), [[("av1", [true; 3])]]);
    let got = want(&mut rig, vec![demand("video/av1", None), demand("video/vp8", low)]);
    assert_eq!(wanted(&got), [[("av1", [true; 3]), ("vp8", [true, false, false])]]);
    rig.pass(Duration::from_secs(3));
    let got = want(&mut rig, vec![demand("video/av1", None), demand("video/vp8", high)]);
    assert_eq!(wanted(&got), [[("av1", [true; 3]), ("vp8", [true; 3])]]);
    let got = rig.pass(Duration::from_secs(2));
    assert_eq!(wanted(&got), [[("av1", [false; 3]), ("vp8", [true; 3])]], "the wait did not begin anew");
    let got = want(&mut rig, vec![demand("video/av1", high), demand("video/vp8", None)]);
    assert_eq!(wanted(&got), [[("av1", [true; 3]), ("vp8", [true; 3])]]);
    let got = rig.pass(Duration::from_secs(5));
    assert_eq!(wanted(&got), [[("av1", [true; 3]), ("vp8", [false; 3])]]);
}
