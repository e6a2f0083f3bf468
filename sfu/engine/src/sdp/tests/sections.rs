//! Receive sections of a single connection: requested, bound, released, lost.

use super::*;

const AUDIO: MediaKind = MediaKind::Audio;
const VIDEO: MediaKind = MediaKind::Video;

fn needed(audios: u32, videos: u32) -> Option<SectionsNeeded> {
    Some(SectionsNeeded { audios, videos })
}

#[test]
fn sections_are_asked_for_once_and_only_those_that_lack() {
    let mut connection = Connection::new(Role::Single);
    connection.offer(&offer(&[Part::Hear("0"), Part::See("1"), Part::Data("2")]), &[], &[]);
    let mut tracks = vec![wanted("TR_A1", AUDIO)];
    assert_eq!(connection.negotiation.sections_needed(&[]), None);
    // One section is free, so only a new offer is needed.
    assert_eq!(connection.negotiation.sections_needed(&tracks), needed(0, 0));
    assert_eq!(connection.negotiation.sections_needed(&tracks), None);
    // While that request is pending, only additional sections are requested.
    tracks.extend([wanted("TR_A2", AUDIO), wanted("TR_V1", VIDEO), wanted("TR_V2", VIDEO)]);
    assert_eq!(connection.negotiation.sections_needed(&tracks), needed(1, 1));
    assert_eq!(connection.negotiation.sections_needed(&tracks), None);
    tracks.push(wanted("TR_V3", VIDEO));
    assert_eq!(connection.negotiation.sections_needed(&tracks), needed(0, 1));
    // The client offers fewer sections than requested; the missing one is requested again.
    let more = [Part::Hear("0"), Part::See("1"), Part::Data("2"), Part::Hear("3"), Part::See("4")];
    let outcome = connection.offer(&offer(&more), &[], &tracks);
    let bound: Vec<&str> = outcome.bound.iter().map(|section| section.track.as_str()).collect();
    assert_eq!(bound, ["TR_A1", "TR_A2", "TR_V1", "TR_V2"]);
    tracks.retain(|track| !connection.is_bound(track.track.as_str()));
    assert_eq!(connection.negotiation.sections_needed(&tracks), needed(0, 1));
}

#[test]
fn no_more_sections_are_asked_for_than_a_description_may_have() {
    let mut connection = Connection::new(Role::Single);
    connection.negotiation = Negotiation::new(
        Role::Single,
        ClientTraits::default(),
        Limits { media_sections: 4, ..Limits::default() },
    );
    connection.offer(&offer(&[Part::Data("0")]), &[], &[]);
    let tracks: Vec<WantedTrack> = (0..9).map(|n| wanted(&format!("TR_{n}"), VIDEO)).collect();
    assert_eq!(connection.negotiation.sections_needed(&tracks), needed(0, 3));
    let full = offer(&[Part::Data("0"), Part::See("1"), Part::See("2"), Part::See("3")]);
    assert_eq!(connection.offer(&full, &[], &tracks).bound.len(), 3);
    // The limit is reached, so nothing is requested.
    assert_eq!(connection.negotiation.sections_needed(&tracks[3..]), None);
}

#[test]
fn a_released_section_falls_silent_and_is_reused_with_a_new_ssrc() {
    let mut connection = Connection::new(Role::Single);
    let sdp = offer(&[Part::See("0"), Part::Data("1")]);
    let first = connection.offer(&sdp, &[], &[wanted("TR_1", VIDEO)]).bound.remove(0);
    // A re-offer changes nothing while it is bound.
    let again = connection.offer(&sdp, &[], &[]);
    assert!(again.bound.is_empty() && again.unbound.is_empty());
    assert!(again.answer_sdp.contains(&format!("a=ssrc:{} ", first.ssrc.0)));
    assert!(connection.negotiation.release(&first.track));
    assert!(!connection.negotiation.release(&first.track));
    assert_eq!(connection.negotiation.sections_needed(&[]), needed(0, 0));
    let silent = connection.offer(&sdp, &[], &[]);
    assert!(silent.answer_sdp.contains("a=inactive") && silent.mid_to_track.is_empty());
    assert!(!silent.answer_sdp.contains("a=ssrc:") && !silent.answer_sdp.contains("a=msid:"));
    assert_eq!(connection.negotiation.sections_needed(&[]), None);
    let second = connection.offer(&sdp, &[], &[wanted("TR_2", VIDEO)]).bound.remove(0);
    assert_eq!(second.mid, first.mid);
    assert_ne!((second.ssrc, second.rtx_ssrc), (first.ssrc, first.rtx_ssrc));
}

#[test]
fn a_track_that_loses_its_section_moves_to_a_free_one() {
    // New use of the section of TR_1, and whether another section is free.
    let cases = [
        (Part::Idle(VIDEO, "0"), true),
        (Part::Stopped(VIDEO, "0"), true),
        (Part::Show("0", "camera"), true),
        (Part::Stopped(VIDEO, "0"), false),
    ];
    for (change, free) in cases {
        let mut connection = Connection::new(Role::Single);
        connection.offer(&offer(&[Part::See("0"), Part::Data("1")]), &[], &[wanted("TR_1", VIDEO)]);
        let mut parts = vec![change, Part::Data("1")];
        parts.extend(free.then_some(Part::See("2")));
        let outcome = connection.offer(&offer(&parts), &[], &[]);
        assert_eq!(outcome.unbound, [TrackSid::new("TR_1")]);
        let mids: Vec<&str> = outcome.bound.iter().map(|section| section.mid.as_str()).collect();
        assert_eq!(mids, if free { vec!["2"] } else { vec![] });
        assert_eq!(connection.is_bound("TR_1"), free);
    }
}

#[test]
fn the_track_s_codec_leads_and_is_required() {
    for (codec, lead) in [(Codec::Av1, 45), (Codec::H264, 102), (Codec::Vp8, 96)] {
        let track = WantedTrack { available: vec![codec.into()], ..wanted("TR_1", VIDEO) };
        let outcome = Connection::new(Role::Single).offer(&offer(&[Part::See("0")]), &[], &[track]);
        assert_eq!(outcome.bound[0].codecs[0].payload_type.0, lead);
        assert!(outcome.bound[0].codecs.len() > 3);
    }
    let bare = offer(&[Part::See("0")]).replace("AV1/90000", "AV2/90000");
    let track = WantedTrack { available: vec![Codec::Av1.into()], ..wanted("TR_1", VIDEO) };
    let outcome = Connection::new(Role::Single).offer(&bare, &[], &[track]);
    assert_eq!(outcome.unsupported, [TrackSid::new("TR_1")]);
    assert!(outcome.bound.is_empty() && outcome.answer_sdp.contains("a=inactive"));
}

#[test]
fn one_of_a_track_s_codecs_is_enough() {
    let available = vec![Codec::Vp9.into(), Codec::Vp8.into()];
    for (lacking, lead) in [("VP9/90000", Codec::Vp8), ("VP8/90000", Codec::Vp9)] {
        let bare = offer(&[Part::See("0")]).replace(lacking, "VPX/90000");
        let track = WantedTrack { available: available.clone(), ..wanted("TR_1", VIDEO) };
        let mut connection = Connection::new(Role::Single);
        let outcome = connection.offer(&bare, &[], &[track]);
        assert_eq!(outcome.bound[0].codecs[0].codec, lead);
        let again = connection.offer(&bare, &[], &[]);
        assert!(again.unbound.is_empty() && again.bound.is_empty(), "it stays as it is");
    }
    let all = WantedTrack { available: vec![Codec::Av1.into(), Codec::Vp8.into()], ..wanted("TR_1", VIDEO) };
    let outcome = Connection::new(Role::Single).offer(&offer(&[Part::See("0")]), &[], &[all]);
    let order: Vec<Codec> = outcome.bound[0].codecs.iter().map(|codec| codec.codec).take(2).collect();
    assert_eq!(order, [Codec::Av1, Codec::Vp8], "its own codecs lead");
}

#[test]
fn sections_keep_their_places() {
    let start = [Part::Hear("0"), Part::See("1"), Part::Data("2")];
    let cases: [(&[Part], Option<&str>); 5] = [
        (&[Part::Hear("0"), Part::See("1")], Some("m=")),
        (&[Part::Hear("0"), Part::See("7"), Part::Data("2")], Some("m= (mid 7)")),
        (&[Part::See("0"), Part::See("1"), Part::Data("2")], Some("m= (mid 0)")),
        (&[Part::See("1"), Part::Hear("0"), Part::Data("2")], Some("m= (mid 1)")),
        (&[Part::Hear("0"), Part::See("1"), Part::Data("2"), Part::See("7")], None),
    ];
    for (next, field) in cases {
        let mut connection = Connection::new(Role::Single);
        connection.offer(&offer(&start), &[], &[wanted("TR_1", AUDIO)]);
        let result = connection.try_offer(&offer(next), &[], &[wanted("TR_2", VIDEO)]);
        assert_eq!(result.err().map(|error| error.field).as_deref(), field);
        // A rejected offer changes nothing: the first offer is then still valid.
        assert_eq!(connection.is_bound("TR_2"), field.is_none());
        assert!(connection.is_bound("TR_1"));
        assert!(connection.try_offer(&offer(&start), &[], &[]).is_err() == field.is_none());
    }
}

#[test]
fn a_stopped_section_comes_back_under_another_mid_and_kind() {
    let mut connection = Connection::new(Role::Single);
    connection.offer(&offer(&[Part::Data("0"), Part::See("1")]), &[], &[]);
    connection.offer(&offer(&[Part::Data("0"), Part::Stopped(VIDEO, "1")]), &[], &[]);
    let outcome =
        connection.offer(&offer(&[Part::Data("0"), Part::Hear("5")]), &[], &[wanted("TR_1", AUDIO)]);
    assert_eq!(outcome.bound[0].mid, "5");
}

#[test]
fn restarting_ice_is_seen_and_another_certificate_is_refused() {
    let sdp = offer(&[Part::See("0"), Part::Data("1")]);
    let mut connection = Connection::new(Role::Single);
    let restarts = |connection: &Connection, sdp: &str| {
        connection.negotiation.restarts_ice(&connection.negotiation.read(sdp).unwrap())
    };
    assert!(!restarts(&connection, &sdp));
    assert!(!connection.offer(&sdp, &[], &[]).ice_restart);
    assert!(!connection.offer(&sdp, &[], &[]).ice_restart);
    let restarted = sdp.replace("a=ice-ufrag:ccC6", "a=ice-ufrag:newU");
    assert!(restarts(&connection, &restarted));
    connection.local.ice.ufrag = "next".to_owned();
    let outcome = connection.offer(&restarted, &[], &[]);
    assert!(outcome.ice_restart && outcome.remote.ice.ufrag == "newU");
    assert!(outcome.answer_sdp.contains("a=ice-ufrag:next"));
    let other = restarted.replace("sha-256 F4:", "sha-256 F5:");
    assert_eq!(connection.try_offer(&other, &[], &[]).unwrap_err().field, "a=fingerprint");
}

#[test]
fn a_publisher_connection_sends_nothing() {
    let mut connection = Connection::new(Role::Publisher);
    let outcome = connection.offer(&offer(&[Part::See("0"), Part::Data("1")]), &[], &[wanted("TR_1", VIDEO)]);
    assert!(outcome.bound.is_empty() && outcome.answer_sdp.contains("a=inactive"));
    assert_eq!(connection.negotiation.sections_needed(&[wanted("TR_1", VIDEO)]), None);
}

#[test]
fn beyond_the_last_section_tracks_are_named_and_sound_comes_first() {
    for role in [Role::Single, Role::Subscriber] {
        let mut connection = Connection::new(role);
        let limits = Limits { media_sections: 5, ..Limits::default() };
        connection.negotiation = Negotiation::new(role, ClientTraits::default(), limits);
        let tracks: Vec<WantedTrack> = (0..3)
            .flat_map(|n| [wanted(&format!("TR_V{n}"), VIDEO), wanted(&format!("TR_A{n}"), AUDIO)])
            .collect();
        if role == Role::Single {
            connection.offer(&offer(&[Part::Data("0"), Part::See("1")]), &[], &[]);
            assert_eq!(connection.negotiation.sections_needed(&tracks), needed(3, 0));
        }
        let crowded = connection.negotiation.crowded_out(&tracks);
        let names: Vec<&str> = crowded.iter().map(TrackSid::as_str).collect();
        assert_eq!(names, ["TR_V1", "TR_V2"]);
        if role == Role::Subscriber {
            let Connection { negotiation, local, rng, .. } = &mut connection;
            let offered = negotiation.create_offer(local, &tracks, rng).unwrap().mid_to_track;
            assert!(offered.len() == 4 && !offered.values().any(|track| crowded.contains(track)));
        }
    }
}

#[test]
fn firefox_is_never_told_of_a_single_section_that_is_sent_in() {
    let parts = [Part::See("0"), Part::See("1"), Part::See("2"), Part::Hear("3"), Part::Data("4")];
    let sdp = offer(&parts);
    let tracks: Vec<WantedTrack> = (1..4).map(|n| wanted(&format!("TR_{n}"), VIDEO)).collect();
    // Whether the client is Firefox, and the video sections that its answers mark as sending: with a stream (m) or
    // without (-), for each answer in turn. The tracks sent are none, one, one, two, two, and one again.
    let cases = [(true, ["", "m-", "m-", "mm", "mm", "m-"]), (false, ["", "m", "m", "mm", "mm", "m"])];
    for (firefox, expected) in cases {
        let mut connection = Connection::of(Role::Single, ClientTraits { aead_srtp: true, firefox });
        let mut answers = Vec::new();
        for (wanted, released) in
            [(0..0, None), (0..1, None), (0..0, None), (1..2, None), (0..0, None), (0..0, Some(0_usize))]
        {
            if let Some(index) = released {
                connection.negotiation.release(&tracks[index].track);
            }
            let outcome = connection.offer(&sdp, &[], &tracks[wanted]);
            let (_, sections) = split(&outcome.answer_sdp);
            let videos = ["0", "1", "2"].map(|mid| lines(&sections, mid));
            let sent = videos.iter().filter(|lines| lines.contains(&"a=sendonly"));
            let has_stream = |lines: &Vec<&str>| lines.iter().any(|line| line.starts_with("a=msid:"));
            let mut sent: Vec<&str> = sent.map(|lines| if has_stream(lines) { "m" } else { "-" }).collect();
            sent.sort_by_key(|sent| *sent == "-");
            answers.push(sent.concat());
        }
        assert_eq!(answers, expected, "firefox: {firefox}");
    }
}

#[test]
fn a_section_begins_with_a_stream_or_the_client_is_not_told_of_its_track() {
    let sdp = offer(&[Part::See("0"), Part::See("1"), Part::Data("2")]);
    let mut connection = Connection::of(Role::Single, ClientTraits { aead_srtp: true, firefox: true });
    connection.offer(&sdp, &[], &[wanted("TR_1", VIDEO)]);
    // The second section, a placeholder, is already marked as sending, so another section is requested.
    let tracks = [wanted("TR_1", VIDEO), wanted("TR_2", VIDEO)];
    assert_eq!(connection.negotiation.sections_needed(&tracks), needed(0, 1));
    let more = offer(&[Part::See("0"), Part::See("1"), Part::Data("2"), Part::See("3")]);
    let outcome = connection.offer(&more, &[], &tracks);
    assert_eq!(outcome.bound[0].mid, "3");
    let (_, sections) = split(&outcome.answer_sdp);
    assert!(lines(&sections, "1").contains(&"a=inactive"));
}

#[test]
fn a_stopped_section_leaves_room_for_another() {
    let mut connection = Connection::new(Role::Single);
    let limits = Limits { media_sections: 3, ..Limits::default() };
    connection.negotiation = Negotiation::new(Role::Single, ClientTraits::default(), limits);
    let parts = [Part::Data("0"), Part::Stopped(VIDEO, "1"), Part::See("2")];
    connection.offer(&offer(&parts), &[], &[wanted("TR_1", VIDEO)]);
    let more = [wanted("TR_2", VIDEO), wanted("TR_3", VIDEO)];
    assert_eq!(connection.negotiation.sections_needed(&more), needed(0, 1));
    assert_eq!(connection.negotiation.crowded_out(&more), [TrackSid::new("TR_3")]);
}

#[test]
fn a_section_is_silent_once_before_it_carries_another_track() {
    let sdp = offer(&[Part::See("0"), Part::Data("1")]);
    let mut connection = Connection::new(Role::Single);
    connection.offer(&sdp, &[], &[wanted("TR_1", VIDEO)]);
    // One track ends and another begins before the client's next offer.
    connection.negotiation.release(&TrackSid::new("TR_1"));
    let tracks = [wanted("TR_2", VIDEO)];
    assert_eq!(connection.negotiation.sections_needed(&tracks), needed(0, 0));
    let silent = connection.offer(&sdp, &[], &tracks);
    assert!(silent.bound.is_empty() && silent.answer_sdp.contains("a=inactive"));
    assert!(connection.negotiation.crowded_out(&tracks).is_empty());
    assert_eq!(connection.negotiation.sections_needed(&tracks), needed(0, 0));
    assert_eq!(connection.offer(&sdp, &[], &tracks).bound[0].mid, "0");
}
