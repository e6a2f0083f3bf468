//! Matching of announcements and sections that arrive in either order.

use super::*;

const VIDEO: MediaKind = MediaKind::Video;

fn show(parts: &[(&'static str, &'static str)]) -> String {
    let parts = parts.iter().map(|(mid, cid)| Part::Show(mid, cid));
    offer(&parts.chain([Part::Data("data")]).collect::<Vec<_>>())
}

fn names(published: &[PublishedSection]) -> Vec<(&str, &str)> {
    let named = published
        .iter()
        .map(|section| (section.mid.as_str(), section.track.as_ref().map_or("", |track| track.as_str())));
    named.collect()
}

#[test]
fn announcements_find_their_sections() {
    // Announcements (track, cid) before the offer; sections (mid, cid); expected matches; mids that stay unmatched.
    type Pairs = &'static [(&'static str, &'static str)];
    let cases: [(Pairs, Pairs, Pairs, &[&str]); 7] = [
        (&[("TR_a", "a")], &[("0", "a")], &[("0", "TR_a")], &[]),
        (&[("TR_a", "a"), ("TR_b", "b")], &[("0", "b"), ("1", "a")], &[("0", "TR_b"), ("1", "TR_a")], &[]),
        // Nothing is announced yet: the section waits.
        (&[], &[("0", "a")], &[], &["0"]),
        // All ids were renamed: matched in order.
        (&[("TR_a", "a"), ("TR_b", "b")], &[("0", "x"), ("1", "y")], &[("0", "TR_a"), ("1", "TR_b")], &[]),
        (&[("TR_a", "a")], &[("0", "x"), ("1", "y")], &[("0", "TR_a")], &["1"]),
        // The track of `x` is not announced yet. `x` must not take `b`, which has its own section.
        (&[("TR_b", "b")], &[("0", "x"), ("1", "b")], &[("1", "TR_b")], &["0"]),
        // `x` must not take `c` either, because this client keeps its ids.
        (&[("TR_b", "b"), ("TR_c", "c")], &[("0", "x"), ("1", "b")], &[("1", "TR_b")], &["0"]),
    ];
    for (pending, sections, matched, waiting) in cases {
        let pending: Vec<AddTrack> =
            pending.iter().map(|(track, cid)| announced(track, cid, VIDEO)).collect();
        let outcome = Connection::new(Role::Single).offer(&show(sections), &pending, &[]);
        assert_eq!(names(&outcome.published), matched);
        let mids: Vec<&str> = outcome.unmatched.iter().map(|section| section.mid.as_str()).collect();
        assert_eq!(mids, waiting);
        assert_eq!(outcome.answer_sdp.matches("a=recvonly").count(), sections.len());
    }
}

/// Offers video only in an H.264 profile that is not forwarded.
fn show_high_profile(parts: &[(&'static str, &'static str)]) -> String {
    let text = show(parts);
    let text = ["VP8", "VP9", "AV1", "H265"].iter().fold(text, |text, codec| text.replace(codec, "H264"));
    let is_fmtp =
        |line: &&str| line.starts_with("a=fmtp:") && !line.contains("apt=") && !line.contains("minptime");
    let line = |line: &str| match line.split_once(' ').filter(|_| is_fmtp(&line)) {
        Some((payload, _)) => format!("{payload} packetization-mode=1;profile-level-id=64001f\r\n"),
        None if line.contains("H264") => {
            let payload = line.trim_start_matches("a=rtpmap:").split(' ').next().unwrap_or_default();
            format!("{line}\r\na=fmtp:{payload} packetization-mode=1;profile-level-id=64001f\r\n")
        }
        None => format!("{line}\r\n"),
    };
    text.lines().map(line).collect()
}

#[test]
fn a_track_whose_codecs_are_all_refused_fails_whenever_it_is_announced() {
    let (cam, screen) = (announced("TR_c", "cam", VIDEO), announced("TR_s", "screen", VIDEO));
    let refused = show_high_profile(&[("0", "cam")]);
    // Announced before the offer, with the same id or with a renamed one.
    for cid in ["cam", "renamed"] {
        let pending = [announced("TR_c", cid, VIDEO)];
        let mut connection = Connection::new(Role::Single);
        let outcome = connection.offer(&refused, &pending, &[]);
        assert_eq!(outcome.refused, [TrackSid::new("TR_c")], "{cid}");
        assert!(outcome.published.is_empty() && outcome.unmatched.is_empty());
        assert!(outcome.answer_sdp.contains("m=video 0 "), "{}", outcome.answer_sdp);
        assert!(!connection.negotiation.match_refused(&cam), "told already");
    }
    // Announced after the offer: reported as refused only once.
    let mut connection = Connection::new(Role::Single);
    assert!(connection.offer(&refused, &[], &[]).refused.is_empty());
    assert!(!connection.negotiation.match_refused(&announced("TR_m", "cam", MediaKind::Audio)));
    assert!(connection.negotiation.match_refused(&cam));
    assert!(!connection.negotiation.match_refused(&cam));
    // A track with an acceptable section is not affected.
    let text = show(&[("0", "screen")]);
    let both = text.replacen("m=application", &format!("m={}m=application", video_of(&refused)), 1);
    let both = both.replace("BUNDLE 0", "BUNDLE 0 1");
    let outcome = Connection::new(Role::Single).offer(&both, &[cam, screen], &[]);
    assert_eq!(names(&outcome.published), [("0", "TR_s")]);
    assert_eq!(outcome.refused, [TrackSid::new("TR_c")]);
}

/// The first section of a description, as mid 1 and without its `m=`.
fn video_of(sdp: &str) -> String {
    split(sdp).1[0].trim_start_matches("m=").replace("a=mid:0", "a=mid:1")
}

#[test]
fn kinds_are_not_mixed_up() {
    let sdp = offer(&[Part::Speak("0", "x"), Part::Show("1", "y")]);
    let pending = [announced("TR_v", "a", VIDEO)];
    let outcome = Connection::new(Role::Single).offer(&sdp, &pending, &[]);
    assert_eq!(names(&outcome.published), [("1", "TR_v")]);
}

#[test]
fn a_parked_section_is_given_to_its_announcement_when_that_comes() {
    let mut connection = Connection::new(Role::Single);
    connection.offer(&show(&[("0", "a"), ("1", "b")]), &[], &[]);
    let matched = connection.announce(announced("TR_b", "b", VIDEO)).unwrap();
    assert_eq!((matched.mid.as_str(), matched.sdp_cid.as_str()), ("1", "b"));
    // This stack keeps its ids: an unknown id does not count as renamed.
    assert_eq!(connection.announce(announced("TR_z", "z", VIDEO)), None);
    assert_eq!(connection.announce(announced("TR_b2", "b", VIDEO)), None);
    let late = connection.announce(announced("TR_a", "a", VIDEO)).unwrap();
    assert_eq!(late.mid, "0");
    // Matched sections are not reported again, unless the announcement changed the negotiated parameters.
    let again = connection.offer(&show(&[("0", "a"), ("1", "b")]), &[], &[]);
    assert!(again.published.is_empty() && again.unmatched.is_empty() && again.republished.is_empty());
}

#[test]
fn a_late_announcement_s_codec_leads_the_next_answer() {
    let mut connection = Connection::new(Role::Single);
    let sdp = show(&[("0", "a")]);
    connection.offer(&sdp, &[], &[]);
    let track = AddTrack { codecs: vec!["h264".into()], ..announced("TR_a", "a", VIDEO) };
    // The codec of the answer already sent still applies.
    assert_eq!(connection.announce(track).unwrap().mime_type, "video/vp8");
    let outcome = connection.offer(&sdp, &[], &[]);
    assert_eq!(names(&outcome.republished), [("0", "TR_a")]);
    assert_eq!(outcome.republished[0].mime_type, "video/h264");
}

#[test]
fn a_stack_that_renames_is_served_when_it_announces_late() {
    let mut connection = Connection::new(Role::Single);
    connection.offer(&show(&[("0", "x"), ("1", "y")]), &[], &[]);
    for (track, mid) in [("TR_a", "0"), ("TR_b", "1")] {
        let matched = connection.announce(announced(track, track, VIDEO)).unwrap();
        assert_eq!(matched.mid, mid);
    }
}

#[test]
fn unpublishing_and_publishing_anew() {
    let track = announced("TR_a", "a", VIDEO);
    // Next content of the section; whether the track ends; whether a new track begins.
    let cases = [
        (Part::Idle(VIDEO, "0"), true, false),
        (Part::Stopped(VIDEO, "0"), true, false),
        (Part::Show("0", "b"), true, true),
        (Part::Show("0", "a"), false, false),
    ];
    for (next, ends, begins) in cases {
        let mut connection = Connection::new(Role::Single);
        connection.offer(&offer(&[Part::Show("0", "a"), Part::Data("1")]), std::slice::from_ref(&track), &[]);
        let pending = [announced("TR_b", "b", VIDEO)];
        let outcome = connection.offer(&offer(&[next, Part::Data("1")]), &pending, &[]);
        let ended: Vec<Option<TrackSid>> =
            outcome.unpublished.into_iter().map(|section| section.track).collect();
        assert_eq!(ended, if ends { vec![Some(TrackSid::new("TR_a"))] } else { vec![] });
        assert_eq!(names(&outcome.published), if begins { vec![("0", "TR_b")] } else { vec![] });
    }
}

#[test]
fn losing_the_permission_ends_what_is_published() {
    let mut connection = Connection::new(Role::Single);
    let sdp = offer(&[Part::Show("0", "a"), Part::Data("1")]);
    connection.offer(&sdp, &[announced("TR_a", "a", VIDEO)], &[]);
    connection.permissions.publish = false;
    let outcome = connection.offer(&sdp, &[], &[]);
    assert_eq!(outcome.unpublished.len(), 1);
    assert!(outcome.answer_sdp.contains("a=inactive"));
}

#[test]
fn a_withdrawn_track_s_section_waits_for_its_own_id_only() {
    let mut connection = Connection::new(Role::Single);
    connection.offer(&show(&[("0", "a")]), &[announced("TR_a", "a", VIDEO)], &[]);
    assert_eq!(connection.negotiation.withdraw(&TrackSid::new("TR_a")).as_deref(), Some("0"));
    assert_eq!(connection.negotiation.withdraw(&TrackSid::new("TR_a")), None);
    // This holds even if the stack renames ids.
    connection.negotiation.keeps_ids = false;
    assert_eq!(connection.announce(announced("TR_z", "z", VIDEO)), None);
    let again = connection.announce(announced("TR_a2", "a", VIDEO)).unwrap();
    assert_eq!(again.mid, "0");
}

#[test]
fn a_section_for_both_directions_is_a_published_one() {
    let mut connection = Connection::new(Role::Single);
    let tracks = [wanted("TR_other", MediaKind::Audio)];
    let pending = [announced("TR_a", "a", MediaKind::Audio)];
    let outcome = connection.offer(&offer(&[Part::Both("0", "a"), Part::Data("1")]), &pending, &tracks);
    assert_eq!(names(&outcome.published), [("0", "TR_a")]);
    assert!(outcome.bound.is_empty() && outcome.answer_sdp.contains("a=recvonly"));
}

#[test]
fn more_parked_sections_than_allowed_refuse_the_offer() {
    let limits = Limits { pending_tracks: 1, ..Limits::default() };
    let mut connection = Connection::new(Role::Single);
    connection.negotiation = Negotiation::new(Role::Single, ClientTraits::default(), limits);
    let error = connection.try_offer(&show(&[("0", "a"), ("1", "b")]), &[], &[]).unwrap_err();
    assert_eq!(error.field, "m= (mid 1)");
    let pending = [announced("TR_a", "a", VIDEO)];
    assert!(connection.try_offer(&show(&[("0", "a"), ("1", "b")]), &pending, &[]).is_ok());
}

/// Offer of a browser that publishes a track again: the earlier section is inactive, and the new one has an id made
/// up by the browser.
fn republished(mid: &'static str, kind: MediaKind, again: &'static str) -> String {
    let section = match kind {
        MediaKind::Audio => Part::Speak(again, "made-up"),
        MediaKind::Video => Part::Show(again, "made-up"),
    };
    offer(&[Part::Data("data"), Part::Idle(kind, mid), section])
}

#[test]
fn a_track_published_again_has_its_section_whichever_comes_first() {
    for kind in [MediaKind::Audio, VIDEO] {
        for announced_first in [true, false] {
            let mut connection = Connection::new(Role::Single);
            let first = match kind {
                MediaKind::Audio => Part::Speak("0", "cam"),
                MediaKind::Video => Part::Show("0", "cam"),
            };
            let tracks = [announced("TR_1", "cam", kind)];
            connection.offer(&offer(&[Part::Data("data"), first]), &tracks, &[]);
            let again = announced("TR_2", "cam", kind);
            let sdp = republished("0", kind, "1");
            let matched = if announced_first {
                let outcome = connection.offer(&sdp, &[again], &[]);
                assert_eq!(outcome.unpublished.len(), 1);
                outcome.published
            } else {
                assert_eq!(connection.offer(&sdp, &[], &[]).unmatched.len(), 1);
                connection.announce(again).into_iter().collect()
            };
            assert_eq!(names(&matched), [("1", "TR_2")], "{kind:?} {announced_first}");
            assert_eq!(matched[0].sdp_cid, "made-up");
        }
    }
}

#[test]
fn what_may_belong_to_another_waits_for_that() {
    let mut connection = Connection::new(Role::Single);
    connection.offer(
        &offer(&[Part::Data("data"), Part::Show("0", "cam")]),
        &[announced("TR_1", "cam", VIDEO)],
        &[],
    );
    // The camera is published again, and a screen share whose announcement has not arrived yet.
    let both =
        [Part::Data("data"), Part::Idle(VIDEO, "0"), Part::Show("1", "screen"), Part::Show("2", "made-up")];
    let pending = [announced("TR_2", "cam", VIDEO)];
    assert!(connection.offer(&offer(&both), &pending, &[]).published.is_empty());
    assert!(connection.negotiation.has_leftovers(&pending));
    let all = [pending[0].clone(), announced("TR_screen", "screen", VIDEO)];
    let mut matched = connection.negotiation.match_parked(&all);
    matched.sort_by(|a, b| a.mid.cmp(&b.mid));
    // Now exactly one announcement and one section have no matching id.
    assert_eq!(names(&matched), [("1", "TR_screen"), ("2", "TR_2")]);
    assert!(!connection.negotiation.has_leftovers(&[]));
}

#[test]
fn two_of_a_kind_published_again_are_told_apart_by_their_encodings_when_nothing_else_comes() {
    let mut connection = Connection::new(Role::Single);
    let layered = |track: &str, cid: &str, layers: usize| AddTrack {
        layers: (0..layers).map(|_| layer()).collect(),
        ..announced(track, cid, VIDEO)
    };
    let first = [Part::Data("data"), Part::Show("0", "cam"), Part::Show("1", "screen")];
    connection.offer(&offer(&first), &[layered("TR_1", "cam", 3), layered("TR_2", "screen", 1)], &[]);
    let again = [
        Part::Data("data"),
        Part::Idle(VIDEO, "0"),
        Part::Idle(VIDEO, "1"),
        Part::Show("2", "made-up"),
        Part::Show("3", "other"),
    ];
    // Section 3 sends one encoding.
    let sdp = offer(&again);
    let (head, mut sections) = split(&sdp);
    let single = sections.last_mut().unwrap();
    *single = single
        .lines()
        .filter(|line| !line.starts_with("a=rid:") && !line.starts_with("a=simulcast:"))
        .map(|line| format!("{line}\r\n"))
        .collect();
    let sdp = head + &sections.concat();
    let pending = [layered("TR_4", "screen", 1), layered("TR_3", "cam", 3)];
    assert!(connection.offer(&sdp, &pending, &[]).published.is_empty());
    let mut matched = connection.negotiation.match_leftovers(&pending);
    matched.sort_by(|a, b| a.mid.cmp(&b.mid));
    assert_eq!(names(&matched), [("2", "TR_3"), ("3", "TR_4")]);
}

#[test]
fn what_waits_in_vain_stands_back() {
    let mut connection = Connection::new(Role::Single);
    connection.offer(
        &offer(&[Part::Data("data"), Part::Show("0", "cam")]),
        &[announced("TR_1", "cam", VIDEO)],
        &[],
    );
    // The announcement of section 1 was refused, but the client continues to send there.
    connection.offer(
        &offer(&[Part::Data("data"), Part::Show("0", "cam"), Part::Show("1", "refused")]),
        &[],
        &[],
    );
    let again =
        [Part::Data("data"), Part::Idle(VIDEO, "0"), Part::Show("1", "refused"), Part::Show("2", "made-up")];
    let pending = [announced("TR_2", "cam", VIDEO)];
    assert!(connection.offer(&offer(&again), &pending, &[]).published.is_empty());
    assert_eq!(names(&connection.negotiation.match_leftovers(&pending)), [("2", "TR_2")]);
}

#[test]
fn a_client_that_takes_a_new_section_for_each_track_uses_its_sections_again() {
    let mut connection = Connection::new(Role::Single);
    // Like a browser: a rejected section is stopped, and the next new section takes its place.
    let mut parts = vec![Part::Data("data")];
    let mids: Vec<&'static str> = (0..300).map(|n| &*Box::leak(format!("{n}").into_boxed_str())).collect();
    for (round, mid) in mids.iter().enumerate() {
        let track = announced(&format!("TR_{round}"), mid, VIDEO);
        let answer = connection.offer(&offer(&parts), &[], &[]).answer_sdp;
        let refused = split(&answer).1.iter().position(|section| section.starts_with("m=video 0 "));
        match refused {
            Some(place) => parts[place] = Part::Show(mid, mid),
            None => parts.push(Part::Show(mid, mid)),
        }
        let outcome = connection.offer(&offer(&parts), &[track], &[]);
        assert_eq!(outcome.published.len(), 1, "publication {round}");
        let place = parts.iter().position(|part| matches!(part, Part::Show(..))).unwrap();
        let Part::Show(mid, _) = parts[place] else { unreachable!() };
        parts[place] = Part::Idle(VIDEO, mid);
    }
    assert!(parts.len() < 10, "{} sections", parts.len());
    assert_eq!(connection.negotiation.sections(), parts.len());
}

fn layer() -> sfu_protocol::SimulcastLayer {
    sfu_protocol::SimulcastLayer {
        quality: sfu_protocol::LayerQuality::Low,
        width: 320,
        height: 180,
        bitrate_bps: 0,
        ssrc: 0,
        repair_ssrc: 0,
        rid: String::new(),
    }
}
