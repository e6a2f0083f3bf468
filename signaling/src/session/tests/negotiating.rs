use super::*;
use sfu_protocol::NegotiationError;

fn mids() -> BTreeMap<String, TrackSid> {
    BTreeMap::from([("3".to_owned(), TrackSid::new("TR_VCa"))])
}

#[test]
fn an_answer_carries_the_number_of_its_offer_even_zero() {
    for id in [0, 1, 77] {
        let mut rig = Rig::joined(config(ConnectionMode::Single));
        let got = rig.ask(Ask::Offer(offer(id)));
        assert_eq!(got.commands(), [&Command::Offer { participant: me(), id, sdp: "v=0".into() }]);
        assert!(got.says().is_empty());
        let got = rig.sfu(Event::Answer { participant: me(), id, sdp: "v=1".into(), mid_to_track: mids() });
        let [Say::Answer(answer)] = got.says()[..] else { panic!("{got:?}") };
        assert_eq!((answer.id, answer.r#type.as_str(), answer.sdp.as_str()), (id, "answer", "v=1"));
        assert_eq!(answer.mid_to_track_id["3"], "TR_VCa");
    }
}

#[test]
fn in_dual_mode_the_server_offers_and_the_client_answers() {
    let mut rig = Rig::joined(config(DUAL));
    let got = rig.sfu(Event::Offer { participant: me(), id: 4, sdp: "v=0".into(), mid_to_track: mids() });
    let [Say::Offer(offered)] = got.says()[..] else { panic!("{got:?}") };
    assert_eq!((offered.id, offered.r#type.as_str()), (4, "offer"));
    assert_eq!(offered.mid_to_track_id["3"], "TR_VCa");
    // Most clients do not number their answers.
    for id in [0, 4] {
        let got = rig.ask(Ask::Answer(answer(id)));
        assert_eq!(got.commands(), [&Command::Answer { participant: me(), id, sdp: "v=0".into() }]);
        assert!(got.says().is_empty());
    }
    let got = rig.ask(Ask::Offer(offer(0)));
    assert_eq!(got.commands(), [&Command::Offer { participant: me(), id: 0, sdp: "v=0".into() }]);
}

#[test]
fn in_single_mode_the_server_never_offers_and_takes_no_answer() {
    let mut rig = Rig::joined(config(ConnectionMode::Single));
    let got = rig.sfu(Event::Offer { participant: me(), id: 1, sdp: "v=0".into(), mid_to_track: mids() });
    assert!(got.all.is_empty());
    assert_eq!(rig.ask(Ask::Answer(answer(1))).all, [Output::Discarded(Discard::UnexpectedAnswer)]);
}

#[test]
fn needed_sections_are_asked_for_even_if_none() {
    let mut rig = Rig::joined(config(ConnectionMode::Single));
    for (audios, videos) in [(1, 2), (0, 0)] {
        let got = rig.sfu(Event::MediaSectionsRequired { participant: me(), audios, videos });
        let need = proto::MediaSectionsRequirement { num_audios: audios, num_videos: videos };
        assert_eq!(got.says(), [&Say::MediaSectionsRequirement(need)]);
    }
}

#[test]
fn unusable_descriptions_are_answered_with_the_field_at_fault() {
    let wrong_type = proto::SessionDescription { r#type: "answer".into(), ..offer(1) };
    let empty = proto::SessionDescription { sdp: String::new(), ..offer(1) };
    for (description, field) in [(wrong_type, "offer.type"), (empty, "offer.sdp")] {
        let mut rig = Rig::joined(config(ConnectionMode::Single));
        let got = rig.ask(Ask::Offer(description));
        assert!(got.commands().is_empty());
        let (reason, text) = got.refusals()[0];
        assert_eq!(reason, Reason::InvalidRequest);
        assert!(text.starts_with(field), "{text}");
    }
    let mut rig = Rig::joined(config(ConnectionMode::Single));
    rig.ask(Ask::Offer(offer(9)));
    let error = NegotiationError { field: "a=fingerprint".into(), reason: "is missing".into() };
    let got =
        rig.sfu(Event::NegotiationFailed { participant: me(), target: Target::Publisher, id: 9, error });
    assert_eq!(got.refusals(), [(Reason::UnclassifiedError, "offer 9: a=fingerprint: is missing")]);
}

#[test]
fn candidates_are_checked_and_not_passed_on() {
    let long = format!(r#"{{"candidate":"{}","sdpMid":7}}"#, "x".repeat(100_000));
    let cases = [
        (r#"{"candidate":"candidate:1 1 udp 1 10.0.0.1 9 typ host","sdpMid":"0","sdpMLineIndex":0}"#, true),
        (r#"{"candidate":"","sdpMid":null,"usernameFragment":null,"later":[1]}"#, true),
        (r#"{"sdpMid":"0"}"#, true),
        (r#"{"candidate":null}"#, true),
        (r#"{"candidate":"x","sdpMLineIndex":-1}"#, true),
        (r#"{"candidate":7}"#, false),
        (r#"{"candidate":"x","sdpMLineIndex":"0"}"#, false),
        (r#""candidate:1 1 udp 1 10.0.0.1 9 typ host""#, false),
        (r#"{"candidate":"#, false),
        ("null", false),
        ("", false),
        (long.as_str(), false),
    ];
    for (text, good) in cases {
        let mut rig = Rig::joined(config(ConnectionMode::Single));
        let trickle = proto::TrickleRequest { candidate_init: text.to_owned(), target: 0, r#final: false };
        let got = rig.ask(Ask::Trickle(trickle));
        assert!(got.commands().is_empty());
        if good {
            assert!(got.all.is_empty(), "{text}: {got:?}");
            continue;
        }
        let [Say::RequestResponse(response)] = got.says()[..] else { panic!("{text}: {got:?}") };
        assert_eq!(response.reason(), Reason::UnclassifiedError);
        assert!(response.message.starts_with("trickle.candidateInit: "), "{}", response.message);
        assert_eq!(response.request.is_some(), text.len() < 4000, "only what is small is sent back");
    }
    let mut rig = Rig::joined(config(ConnectionMode::Single));
    let last = proto::TrickleRequest { r#final: true, ..Default::default() };
    assert!(rig.ask(Ask::Trickle(last)).all.is_empty());
}
