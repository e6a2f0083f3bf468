//! Announcements and sections, in whichever order they come.

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
    // Announced (track, cid) before the offer; sections (mid, cid); what is matched; which mids wait.
    type Pairs = &'static [(&'static str, &'static str)];
    let cases: [(Pairs, Pairs, Pairs, &[&str]); 7] = [
        (&[("TR_a", "a")], &[("0", "a")], &[("0", "TR_a")], &[]),
        (&[("TR_a", "a"), ("TR_b", "b")], &[("0", "b"), ("1", "a")], &[("0", "TR_b"), ("1", "TR_a")], &[]),
        // Nothing announced yet: the section waits.
        (&[], &[("0", "a")], &[], &["0"]),
        // A stack that renames: in order.
        (&[("TR_a", "a"), ("TR_b", "b")], &[("0", "x"), ("1", "y")], &[("0", "TR_a"), ("1", "TR_b")], &[]),
        (&[("TR_a", "a")], &[("0", "x"), ("1", "y")], &[("0", "TR_a")], &["1"]),
        // `x` is not announced yet and must not take `b`, whose own section is there.
        (&[("TR_b", "b")], &[("0", "x"), ("1", "b")], &[("1", "TR_b")], &["0"]),
        // Nor `c`, for this client keeps its ids.
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

/// Pictures in a profile of H.264 that is not forwarded, and in nothing else.
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
    // Announced before the offer; under its id, or by a stack that renames.
    for cid in ["cam", "renamed"] {
        let pending = [announced("TR_c", cid, VIDEO)];
        let mut connection = Connection::new(Role::Single);
        let outcome = connection.offer(&refused, &pending, &[]);
        assert_eq!(outcome.refused, [TrackSid::new("TR_c")], "{cid}");
        assert!(outcome.published.is_empty() && outcome.unmatched.is_empty());
        assert!(outcome.answer_sdp.contains("m=video 0 "), "{}", outcome.answer_sdp);
        assert!(!connection.negotiation.match_refused(&cam), "told already");
    }
    // Announced after it, and not told of a second time.
    let mut connection = Connection::new(Role::Single);
    assert!(connection.offer(&refused, &[], &[]).refused.is_empty());
    assert!(!connection.negotiation.match_refused(&announced("TR_m", "cam", MediaKind::Audio)));
    assert!(connection.negotiation.match_refused(&cam));
    assert!(!connection.negotiation.match_refused(&cam));
    // What has its section is not concerned.
    let text = show(&[("0", "screen")]);
    let both = text.replacen("m=application", &format!("m={}m=application", video_of(&refused)), 1);
    let both = both.replace("BUNDLE 0", "BUNDLE 0 1");
    let outcome = Connection::new(Role::Single).offer(&both, &[cam, screen], &[]);
    assert_eq!(names(&outcome.published), [("0", "TR_s")]);
    assert_eq!(outcome.refused, [TrackSid::new("TR_c")]);
}

/// The first section of a description, as mid 1, without its `m=`.
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
    let matched = connection.negotiation.match_parked(&announced("TR_b", "b", VIDEO)).unwrap();
    assert_eq!((matched.mid.as_str(), matched.sdp_cid.as_str()), ("1", "b"));
    // This stack keeps its ids: an unknown one is not taken for a renamed one.
    assert_eq!(connection.negotiation.match_parked(&announced("TR_z", "z", VIDEO)), None);
    assert_eq!(connection.negotiation.match_parked(&announced("TR_b2", "b", VIDEO)), None);
    let late = connection.negotiation.match_parked(&announced("TR_a", "a", VIDEO)).unwrap();
    assert_eq!(late.mid, "0");
    // Matched ones are not told again, unless the announcement changed what is agreed on.
    let again = connection.offer(&show(&[("0", "a"), ("1", "b")]), &[], &[]);
    assert!(again.published.is_empty() && again.unmatched.is_empty() && again.republished.is_empty());
}

#[test]
fn a_late_announcement_s_codec_leads_the_next_answer() {
    let mut connection = Connection::new(Role::Single);
    let sdp = show(&[("0", "a")]);
    connection.offer(&sdp, &[], &[]);
    let track = AddTrack { codecs: vec!["h264".into()], ..announced("TR_a", "a", VIDEO) };
    // What was answered then still holds now.
    assert_eq!(connection.negotiation.match_parked(&track).unwrap().mime_type, "video/vp8");
    let outcome = connection.offer(&sdp, &[], &[]);
    assert_eq!(names(&outcome.republished), [("0", "TR_a")]);
    assert_eq!(outcome.republished[0].mime_type, "video/h264");
}

#[test]
fn a_stack_that_renames_is_served_when_it_announces_late() {
    let mut connection = Connection::new(Role::Single);
    connection.offer(&show(&[("0", "x"), ("1", "y")]), &[], &[]);
    for (track, mid) in [("TR_a", "0"), ("TR_b", "1")] {
        let matched = connection.negotiation.match_parked(&announced(track, track, VIDEO)).unwrap();
        assert_eq!(matched.mid, mid);
    }
}

#[test]
fn unpublishing_and_publishing_anew() {
    let track = announced("TR_a", "a", VIDEO);
    // What stands in the section next; what ends; what begins.
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
    // Even of a stack that renames.
    connection.negotiation.keeps_ids = false;
    assert_eq!(connection.negotiation.match_parked(&announced("TR_z", "z", VIDEO)), None);
    let again = connection.negotiation.match_parked(&announced("TR_a2", "a", VIDEO)).unwrap();
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
