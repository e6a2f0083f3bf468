//! Truncated, corrupted or repeated input is either rejected or parsed; it has no other effect.

use rand::Rng;

use super::*;

/// Checks that any input gives either an answer that parses or an error that names a field. Returns whether it was
/// accepted.
fn try_everything(sdp: &str) -> bool {
    let mut connection = Connection::new(Role::Single);
    let pending = [announced("TR_VCa", "e513cf29-2c8a-479f-84e2-95dbb42b0241", MediaKind::Video)];
    let tracks = [wanted("TR_ACb", MediaKind::Audio), wanted("TR_VCc", MediaKind::Video)];
    match connection.try_offer(sdp, &pending, &tracks) {
        Ok(outcome) => {
            let sections = sdp.lines().filter(|line| line.starts_with("m=")).count();
            let answered = outcome.answer_sdp.lines().filter(|line| line.starts_with("m=")).count();
            assert_eq!(answered, sections);
            if outcome.answer_sdp.contains("a=group:BUNDLE") {
                let answer = Description::parse(&outcome.answer_sdp, &Limits::default());
                assert!(answer.is_ok(), "{answer:?} in {}", outcome.answer_sdp);
            }
            true
        }
        Err(error) => {
            assert!(!error.field.is_empty() && !error.reason.is_empty());
            assert!(connection.negotiation.sections_needed(&[]).is_none());
            false
        }
    }
}

#[test]
fn every_length_of_an_offer() {
    let (head, sections) = split(RTC_NODE);
    let short = head.replace("BUNDLE 0 1 2 3 4 5 6", "BUNDLE 0 6") + &sections[0] + &sections[6];
    assert!(try_everything(&short));
    let read = (0..short.len()).filter(|length| try_everything(&short[..*length])).count();
    assert!(read < short.len());
}

#[test]
fn mutations_of_real_offers() {
    let mut rng = SmallRng::seed_from_u64(0x5d9);
    let junk = ["", " ", ":", "=", "/", ";", "~", "-1", "4294967296", "999999999999999999999", "a=", "m="];
    let (mut read, mut refused) = (0, 0);
    for round in 0..400 {
        let mut lines: Vec<String> = OFFERS[round % OFFERS.len()].lines().map(str::to_owned).collect();
        for _ in 0..rng.random_range(1..6) {
            let (at, other) = (rng.random_range(0..lines.len()), rng.random_range(0..lines.len()));
            match rng.random_range(0..6) {
                0 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[other].clone()),
                2 => lines.swap(at, other),
                3 => {
                    let length = rng.random_range(0..=lines[at].len());
                    lines[at].truncate(length);
                }
                4 => {
                    let place = rng.random_range(0..=lines[at].len());
                    lines[at].insert_str(place, junk[rng.random_range(0..junk.len())]);
                }
                _ => {
                    let tail = lines[other].split_at(lines[other].len() / 2).1.to_owned();
                    lines[at].push_str(&tail);
                }
            }
            if lines.is_empty() {
                break;
            }
        }
        match try_everything(&(lines.join("\r\n") + "\r\n")) {
            true => read += 1,
            false => refused += 1,
        }
    }
    assert!(read > 40 && refused > 40, "{read} read, {refused} refused");
}

#[test]
fn random_bytes_behind_a_plausible_start() {
    let mut rng = SmallRng::seed_from_u64(3);
    for length in 0..1500 {
        let noise: String = (0..length).map(|_| char::from(rng.random_range(1..=255_u8))).collect();
        assert!(!try_everything(&noise));
        assert!(!try_everything(&format!(
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 {noise}"
        )));
    }
}

#[test]
fn what_is_echoed_cannot_add_lines() {
    let injections = [
        ("a=mid:14\r\n", "a=mid:14\ra=ice-lite\r\n"),
        ("a=rid:q send", "a=rid:q\ra=x send"),
        ("a=fmtp:98 profile-id=0", "a=fmtp:98 profile-id=0\u{b}a=x"),
        ("webrtc-datachannel", "webrtc\rdatachannel"),
    ];
    for (from, to) in injections {
        assert!(CHROMIUM_PUBLISH.contains(from));
        let mut connection = Connection::new(Role::Single);
        let error = connection.try_offer(&CHROMIUM_PUBLISH.replace(from, to), &[], &[]).unwrap_err();
        assert!(error.field.starts_with("line "), "{error}");
    }
}
