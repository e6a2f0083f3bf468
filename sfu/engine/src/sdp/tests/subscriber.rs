//! The subscriber connection, on which we offer.

use super::*;

const AUDIO: MediaKind = MediaKind::Audio;
const VIDEO: MediaKind = MediaKind::Video;

fn make(connection: &mut Connection, tracks: &[WantedTrack]) -> Option<OutgoingOffer> {
    let Connection { negotiation, local, rng, .. } = connection;
    negotiation.create_offer(local, tracks, rng)
}

/// Derives a client's answer that accepts everything from our offer.
fn mirror(offer: &OutgoingOffer) -> String {
    let swap = |line: &str| match line {
        "a=sendonly" => Some("a=recvonly".to_owned()),
        "a=setup:actpass" => Some("a=setup:active".to_owned()),
        "a=ice-lite" => None,
        _ if ["a=ssrc", "a=msid:", "a=candidate", "a=end-of"].iter().any(|key| line.starts_with(key)) => None,
        _ => Some(line.replace("a=ice-ufrag:serv", "a=ice-ufrag:clnt")),
    };
    offer.sdp.lines().filter_map(swap).map(|line| line + "\r\n").collect()
}

fn settle(connection: &mut Connection, tracks: &[WantedTrack]) -> Outcome {
    let offer = make(connection, tracks).unwrap();
    connection.negotiation.apply_answer(offer.id, &mirror(&offer)).unwrap().unwrap()
}

/// Makes the offer that the fixture answers, with audio and video of two other participants.
fn offered_to_chromium(connection: &mut Connection) -> OutgoingOffer {
    let tracks =
        [wanted("TR_A0", AUDIO), wanted("TR_V0", VIDEO), wanted("TR_A1", AUDIO), wanted("TR_V1", VIDEO)];
    make(connection, &tracks).unwrap()
}

#[test]
fn the_first_offer_carries_data_and_every_wanted_track() {
    let mut connection = Connection::new(Role::Subscriber);
    let offer = offered_to_chromium(&mut connection);
    let description = Description::parse(&offer.sdp, &Limits::default()).unwrap();
    assert_eq!(description.setup, Some(Setup::ActPass));
    assert_eq!(description.bundle, ["0", "1", "2", "3", "4"]);
    let tracks: Vec<&str> = offer.mid_to_track.values().map(|track| track.as_str()).collect();
    assert_eq!(tracks, ["TR_A0", "TR_V0", "TR_A1", "TR_V1"]);
    let (_, sections) = split(&offer.sdp);
    assert!(sections[0].starts_with("m=application 9 UDP/DTLS/SCTP webrtc-datachannel"));
    assert!(sections[0].contains("a=candidate:") && sections[0].contains("a=end-of-candidates"));
    assert!(sections[2].contains("a=msid:PA_other|TR_V0 TR_V0") && sections[2].contains("a=ssrc-group:FID "));
    // No new offer is made while one is unanswered.
    assert_eq!(make(&mut connection, &[wanted("TR_V9", VIDEO)]), None);
}

#[test]
fn chromium_s_answer_binds_all_tracks() {
    let mut connection = Connection::new(Role::Subscriber);
    let offer = offered_to_chromium(&mut connection);
    let outcome = connection.negotiation.apply_answer(offer.id, CHROMIUM_ANSWER).unwrap().unwrap();
    assert_eq!(outcome.remote.dtls_role, DtlsRole::Server);
    assert_eq!(outcome.mid_to_track, offer.mid_to_track);
    assert_eq!(outcome.data.map(|data| data.mid).as_deref(), Some("0"));
    assert_eq!(outcome.bound.len(), 4);
    let video = outcome.bound.iter().find(|section| section.mid == "2").unwrap();
    assert_eq!((video.codecs[0].payload_type.0, video.codecs[0].rtx.map(|rtx| rtx.0)), (96, Some(97)));
    assert!(video.rtx_ssrc.is_some() && video.codecs[0].nack());
    assert!(video.extensions.iter().any(|(_, uri)| *uri == extensions::DEPENDENCY_DESCRIPTOR));
    let audio = outcome.bound.iter().find(|section| section.mid == "1").unwrap();
    assert!(audio.extensions.contains(&(1, extensions::AUDIO_LEVEL)) && audio.rtx_ssrc.is_none());
    // Nothing has changed, so there is no new offer.
    let tracks = [wanted("TR_A0", AUDIO), wanted("TR_V0", VIDEO)];
    assert_eq!(make(&mut connection, &tracks), None);
}

#[test]
fn stale_and_broken_answers_change_nothing() {
    let mut connection = Connection::new(Role::Subscriber);
    let offer = offered_to_chromium(&mut connection);
    let broken = [
        (CHROMIUM_ANSWER.replace("a=setup:active", "a=setup:actpass"), "a=setup"),
        (CHROMIUM_ANSWER.replace("a=mid:4", "a=mid:9").replace("2 3 4", "2 3 9"), "a=mid:9"),
        (RTC_NODE.to_owned(), "m="),
        (CHROMIUM_ANSWER.replace("a=ice-pwd", "a=x"), "a=ice-pwd"),
    ];
    for (sdp, field) in broken {
        assert_eq!(connection.negotiation.apply_answer(offer.id, &sdp).unwrap_err().field, field);
        assert!(!connection.is_bound("TR_V0"));
    }
    assert!(connection.negotiation.apply_answer(offer.id, CHROMIUM_ANSWER).unwrap().is_some());
    assert_eq!(connection.negotiation.apply_answer(offer.id, CHROMIUM_ANSWER), Ok(None));
}

#[test]
fn an_answer_is_told_by_its_sections_where_its_number_tells_nothing() {
    // Clients that do not number answers, that use numbers of their own, and that repeat the offer's number.
    let numbers: [fn(u32) -> u32; 3] = [|_| 0, |offer| offer + 7, |offer| offer];
    for number in numbers {
        let mut connection = Connection::new(Role::Subscriber);
        let first = make(&mut connection, &[]).unwrap();
        let answer = mirror(&first);
        assert!(connection.negotiation.apply_answer(number(first.id), &answer).unwrap().is_some());
        assert_eq!(connection.negotiation.apply_answer(number(first.id), &answer), Ok(None), "twice");
        let second = make(&mut connection, &[wanted("TR_V1", VIDEO)]).unwrap();
        // The answer to the earlier offer, repeated: it has one section too few.
        assert_eq!(connection.negotiation.apply_answer(0, &answer).unwrap_err().field, "m=");
        assert_eq!(connection.negotiation.apply_answer(first.id, &answer), Ok(None), "it says so itself");
        let outcome = connection.negotiation.apply_answer(number(second.id), &mirror(&second));
        assert_eq!(outcome.unwrap().unwrap().bound[0].track, TrackSid::new("TR_V1"));
    }
}

#[test]
fn sections_are_added_silenced_and_reused() {
    let mut connection = Connection::new(Role::Subscriber);
    assert!(settle(&mut connection, &[]).bound.is_empty());
    let first = settle(&mut connection, &[wanted("TR_V1", VIDEO)]).bound.remove(0);
    assert!(connection.negotiation.release(&first.track));
    let silent = make(&mut connection, &[]).unwrap();
    assert!(silent.mid_to_track.is_empty() && !silent.sdp.contains("a=sendonly"));
    connection.negotiation.apply_answer(silent.id, &mirror(&silent)).unwrap().unwrap();
    assert_eq!(make(&mut connection, &[]), None);
    let outcome = settle(&mut connection, &[wanted("TR_V2", VIDEO), wanted("TR_V3", VIDEO)]);
    let mids: Vec<&str> = outcome.bound.iter().map(|section| section.mid.as_str()).collect();
    assert_eq!(mids, ["1", "2"]);
    assert_ne!(outcome.bound[0].ssrc, first.ssrc);
}

#[test]
fn a_track_released_while_its_offer_is_out_is_silenced_by_the_next() {
    let mut connection = Connection::new(Role::Subscriber);
    let offer = make(&mut connection, &[wanted("TR_V1", VIDEO)]).unwrap();
    assert!(connection.negotiation.release(&TrackSid::new("TR_V1")));
    let outcome = connection.negotiation.apply_answer(offer.id, &mirror(&offer)).unwrap().unwrap();
    assert!(outcome.bound.is_empty());
    assert!(make(&mut connection, &[]).unwrap().sdp.contains("a=inactive"));
}

#[test]
fn refused_sections_are_told() {
    // The client's answer to the video section, and whether the section can be used again.
    let cases = [("a=recvonly", "a=inactive", true), ("m=video 9", "m=video 0", false)];
    for (from, to, reusable) in cases {
        let mut connection = Connection::new(Role::Subscriber);
        let offer = make(&mut connection, &[wanted("TR_V1", VIDEO)]).unwrap();
        let answer = mirror(&offer).replace(from, to);
        let outcome = connection.negotiation.apply_answer(offer.id, &answer).unwrap().unwrap();
        assert_eq!(outcome.unsupported, [TrackSid::new("TR_V1")]);
        assert!(outcome.bound.is_empty());
        let next = settle(&mut connection, &[wanted("TR_V2", VIDEO)]);
        assert_eq!(next.bound[0].mid, if reusable { "1" } else { "2" });
    }
}

/// Outcome for a track that is available in these codecs, AV1 first, when the client answers without AV1.
fn answered_without_av1(available: Vec<Codec>) -> Outcome {
    let mut connection = Connection::new(Role::Subscriber);
    let available = available.into_iter().map(Format::from).collect();
    let track = WantedTrack { available, ..wanted("TR_V1", VIDEO) };
    let offer = make(&mut connection, &[track]).unwrap();
    let (_, sections) = split(&offer.sdp);
    assert!(sections[1].starts_with("m=video 9 UDP/TLS/RTP/SAVPF 35 36 96 97 "));
    let answer: String = mirror(&offer)
        .lines()
        .filter(|line| !line.contains("AV1"))
        .map(|line| format!("{}\r\n", line.replace("SAVPF 35 36 ", "SAVPF ")))
        .collect();
    connection.negotiation.apply_answer(offer.id, &answer).unwrap().unwrap()
}

#[test]
fn a_client_without_the_track_s_codec_is_told_apart() {
    let outcome = answered_without_av1(vec![Codec::Av1]);
    assert_eq!(outcome.unsupported, [TrackSid::new("TR_V1")]);
}

#[test]
fn a_client_with_another_of_the_track_s_codecs_is_bound() {
    let outcome = answered_without_av1(vec![Codec::Av1, Codec::Vp8]);
    assert!(outcome.unsupported.is_empty());
    assert_eq!(outcome.bound[0].codecs[0].codec, Codec::Vp8);
}

#[test]
fn new_credentials_restart_ice() {
    let mut connection = Connection::new(Role::Subscriber);
    settle(&mut connection, &[wanted("TR_V1", VIDEO)]);
    assert_eq!(make(&mut connection, &[]), None);
    connection.local.ice.ufrag = "anew".to_owned();
    let offer = make(&mut connection, &[]).unwrap();
    assert!(offer.sdp.contains("a=ice-ufrag:anew") && offer.sdp.contains("a=sendonly"));
    let answer = mirror(&offer).replace("a=ice-ufrag:anew", "a=ice-ufrag:fresh");
    let outcome = connection.negotiation.apply_answer(offer.id, &answer).unwrap().unwrap();
    assert!(outcome.ice_restart && outcome.bound.is_empty() && outcome.mid_to_track.len() == 1);
}

#[test]
fn versions_of_our_descriptions_count_up() {
    let mut connection = Connection::new(Role::Subscriber);
    let mut origins = Vec::new();
    for tracks in [&[][..], &[wanted("TR_V1", VIDEO)], &[wanted("TR_V2", VIDEO)]] {
        let offer = make(&mut connection, tracks).unwrap();
        let origin = offer.sdp.lines().nth(1).unwrap().to_owned();
        origins.push(origin.split(' ').map(str::to_owned).collect::<Vec<_>>());
        connection.negotiation.apply_answer(offer.id, &mirror(&offer)).unwrap().unwrap();
    }
    assert!(origins.windows(2).all(|pair| pair[0][1] == pair[1][1]));
    assert_eq!(origins.iter().map(|origin| origin[2].as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
}

#[test]
fn the_client_cannot_offer_here_nor_we_elsewhere() {
    let mut connection = Connection::new(Role::Subscriber);
    assert_eq!(connection.try_offer(RTC_NODE, &[], &[]).unwrap_err().field, "offer");
    for role in [Role::Single, Role::Publisher] {
        assert_eq!(make(&mut Connection::new(role), &[wanted("TR_V1", VIDEO)]), None);
    }
}

#[test]
fn firefox_gets_no_red() {
    let client = ClientTraits { aead_srtp: true, firefox: true };
    let offer = make(&mut Connection::of(Role::Subscriber, client), &[wanted("TR_A1", AUDIO)]).unwrap();
    assert!(!offer.sdp.contains("red/48000"));
    let other = make(&mut Connection::new(Role::Subscriber), &[wanted("TR_A1", AUDIO)]).unwrap();
    assert!(other.sdp.contains("red/48000"));
}

#[test]
fn one_way_to_report_is_chosen_the_tersest_that_the_client_has() {
    let without = |words: &[&str]| {
        let mut connection = Connection::new(Role::Subscriber);
        let offer = make(&mut connection, &[wanted("TR_V0", VIDEO)]).unwrap();
        let kept = |line: &&str| words.iter().all(|word| !line.ends_with(word));
        let answer: String = mirror(&offer).lines().filter(kept).map(|line| format!("{line}\r\n")).collect();
        let outcome = connection.negotiation.apply_answer(offer.id, &answer).unwrap().unwrap();
        let codec = outcome.bound[0].codecs[0].clone();
        (codec.transport_cc(), codec.congestion_feedback(), codec.remb())
    };
    assert_eq!(without(&[]), (true, false, false));
    assert_eq!(without(&[" transport-cc"]), (false, true, false));
    assert_eq!(without(&[" transport-cc", " ack ccfb"]), (false, false, true));
    assert_eq!(without(&[" transport-cc", " ack ccfb", " goog-remb"]), (false, false, false));
}

fn stereo() -> Vec<Format> {
    vec![Format { stereo: true, ..Codec::Opus.into() }]
}

fn says_stereo(section: &str) -> bool {
    section.lines().any(|line| line.starts_with("a=fmtp:111 ") && line.ends_with(";sprop-stereo=1"))
}

#[test]
fn sound_of_two_channels_is_offered_as_such_in_its_own_section() {
    let mut connection = Connection::new(Role::Subscriber);
    let tracks = [
        WantedTrack { available: stereo(), ..wanted("TR_A1", AUDIO) },
        WantedTrack { available: vec![Codec::Opus.into()], ..wanted("TR_A2", AUDIO) },
    ];
    let offer = make(&mut connection, &tracks).unwrap();
    let (_, sections) = split(&offer.sdp);
    assert_eq!(sections.iter().map(|section| says_stereo(section)).collect::<Vec<_>>(), [false, true, false]);
    connection.negotiation.apply_answer(offer.id, &mirror(&offer)).unwrap().unwrap();
    // The section is reused for mono audio.
    connection.negotiation.release(&TrackSid::new("TR_A1"));
    let next = make(
        &mut connection,
        &[WantedTrack { available: vec![Codec::Opus.into()], ..wanted("TR_A3", AUDIO) }],
    );
    assert!(!next.unwrap().sdp.contains("stereo"));
}

#[test]
fn what_is_known_of_a_track_only_later_is_offered_then() {
    let mut connection = Connection::new(Role::Subscriber);
    let first = settle(&mut connection, &[wanted("TR_A1", AUDIO)]).bound.remove(0);
    let learned = connection.negotiation.learn(&first.track, &stereo()).unwrap();
    assert_eq!(learned, BoundSection { available: stereo(), ..first.clone() });
    assert_eq!(connection.negotiation.learn(&first.track, &stereo()), None, "once");
    let offer = make(&mut connection, &[]).unwrap();
    assert!(says_stereo(&split(&offer.sdp).1[1]));
    connection.negotiation.apply_answer(offer.id, &mirror(&offer)).unwrap().unwrap();
    // A format learned while an offer is unanswered is stated in the next offer.
    let offer = make(&mut connection, &[wanted("TR_A2", AUDIO)]).unwrap();
    assert_eq!(connection.negotiation.learn(&TrackSid::new("TR_A2"), &stereo()), None);
    connection.negotiation.apply_answer(offer.id, &mirror(&offer)).unwrap().unwrap();
    assert!(says_stereo(&split(&make(&mut connection, &[]).unwrap().sdp).1[2]));
    // A format that the client need not be told causes no offer.
    let mut connection = Connection::new(Role::Subscriber);
    settle(&mut connection, &[wanted("TR_V1", VIDEO)]);
    assert!(connection.negotiation.learn(&TrackSid::new("TR_V1"), &[Codec::Vp8.into()]).is_some());
    assert_eq!(make(&mut connection, &[]), None);
}

#[test]
fn the_payload_type_of_the_publishers_profile_leads_and_one_that_decodes_it_is_required() {
    let vp9 = |profile| Format { profile: Profile::Vp9(profile), ..Codec::Vp9.into() };
    let h264 = |main, mode| Format { profile: Profile::H264 { main, mode }, ..Codec::H264.into() };
    // Published format; first payload type; the parameter that a client lacks; whether that parameter is required.
    let cases = [
        (vp9(0), 98, "profile-id=0", true),
        (vp9(2), 112, "profile-id=2", true),
        (h264(false, 1), 125, "42e01f", false),
        (h264(false, 0), 108, "42e01f", false),
        (h264(true, 1), 106, "4d001f", true),
    ];
    for (format, lead, lacking, required) in cases {
        let track = || WantedTrack { available: vec![format], ..wanted("TR_V1", VIDEO) };
        let mut connection = Connection::new(Role::Subscriber);
        assert_eq!(settle(&mut connection, &[track()]).bound[0].codecs[0].payload_type.0, lead, "{format:?}");
        let mut connection = Connection::new(Role::Subscriber);
        let offer = make(&mut connection, &[track()]).unwrap();
        let answer: String = mirror(&offer).replace(lacking, "lacking");
        let lacks: Vec<String> = answer
            .lines()
            .filter(|line| line.contains("lacking"))
            .filter_map(|line| Some(line.strip_prefix("a=fmtp:")?.split(' ').next()?.to_owned()))
            .collect();
        let kept = |line: &&str| !lacks.iter().any(|number| line.starts_with(&format!("a=rtpmap:{number} ")));
        let answer: String = answer.lines().filter(kept).map(|line| format!("{line}\r\n")).collect();
        let outcome = connection.negotiation.apply_answer(offer.id, &answer).unwrap().unwrap();
        assert_eq!(outcome.bound.is_empty(), required, "{format:?}");
        assert_eq!(outcome.unsupported.is_empty(), !required, "{format:?}");
    }
}

#[test]
fn the_first_answer_may_describe_all_that_its_client_receives() {
    let limits = Limits { sdp_bytes: 20_000, later_sdp_bytes: 80_000, ..Limits::default() };
    let tracks: Vec<WantedTrack> = (0..20).map(|number| wanted(&format!("TR_V{number}"), VIDEO)).collect();
    // A client that may subscribe only later is offered everything at once.
    let mut connection = Connection::new(Role::Subscriber);
    connection.negotiation = Negotiation::new(Role::Subscriber, ClientTraits::default(), limits.clone());
    let offer = make(&mut connection, &tracks).unwrap();
    let answer = mirror(&offer);
    assert!(answer.len() > limits.sdp_bytes && answer.len() < limits.later_sdp_bytes, "{}", answer.len());
    let longer = format!("{answer}{}", "a=x\r\n".repeat(limits.later_sdp_bytes / 5));
    let error = connection.negotiation.apply_answer(offer.id, &longer).unwrap_err();
    assert_eq!(error.field, "session description");
    let outcome = connection.negotiation.apply_answer(offer.id, &answer).unwrap().unwrap();
    assert_eq!(outcome.bound.len(), tracks.len());
}
