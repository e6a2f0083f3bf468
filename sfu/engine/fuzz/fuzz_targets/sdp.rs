//! Offers: parsed, negotiated, answered, and offered again. The input makes each from a real client's description, by
//! moving, removing, duplicating and changing lines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use sfu_engine::limits::Limits;
use sfu_engine::rtp::codec::Codec;
use sfu_engine::sdp::{Fingerprint, IceCredentials, LocalParameters, Negotiation, Role, WantedTrack};
use sfu_engine_fuzz::{Script, offers};
use sfu_protocol::{AddTrack, ClientTraits, MediaKind, ParticipantSid, Permissions, TrackSid};

fuzz_target!(|data: &[u8]| {
    let local = LocalParameters {
        ice: IceCredentials { ufrag: "serv".to_owned(), pwd: "0123456789abcdefghijkl".to_owned() },
        fingerprint: Fingerprint { algorithm: "sha-256".to_owned(), value: (0..32).collect() },
        candidates: vec!["192.0.2.1:7882".parse().expect("an address")],
    };
    let limits = Limits::default();
    let mut rng = SmallRng::seed_from_u64(1);
    let mut script = Script(data);
    let first = script.byte();
    let traits = ClientTraits { aead_srtp: true, firefox: first & 1 == 1 };
    let role = if first & 2 == 2 { Role::Publisher } else { Role::Single };
    let mut negotiation = Negotiation::new(role, traits, limits.clone());
    let mut offering = Negotiation::new(Role::Subscriber, traits, limits.clone());
    for round in 0..3 {
        if round > 0 && script.is_over() {
            break;
        }
        let chooser = script.byte();
        let sdp = description(&mut script);
        let kind = if chooser & 4 == 4 { MediaKind::Audio } else { MediaKind::Video };
        let pending = [announced(round, kind, chooser)];
        let wanted = [wanted(round, MediaKind::Audio, None), wanted(round, MediaKind::Video, codec(chooser))];
        let permissions = Permissions { publish: chooser & 8 == 0, ..Permissions::default() };
        let outcome = negotiation.read(&sdp).and_then(|offer| {
            let _ = negotiation.restarts_ice(&offer);
            negotiation.apply_offer(&offer, &local, &pending, &wanted, permissions, &mut rng)
        });
        if let Ok(outcome) = outcome {
            assert_answers(&sdp, &outcome.answer_sdp);
        }
        let _ = negotiation.sections_needed(&wanted);
        let _ = negotiation.match_parked(&pending);
        if script.coin() {
            let _ = negotiation.match_leftovers(&pending);
        }
        if chooser & 16 == 16 {
            negotiation.withdraw(&pending[0].track);
            negotiation.release(&wanted[0].track);
        }
        if let Some(offer) = offering.create_offer(&local, &wanted, &mut rng) {
            let _ = offering.apply_answer(offer.id, &sdp);
        }
    }
});

fn description(script: &mut Script<'_>) -> String {
    let choice = script.byte();
    if choice == 0xff {
        return String::from_utf8_lossy(script.bytes()).into_owned();
    }
    let lines_of = |choice: u8| offers()[usize::from(choice) % offers().len()].lines();
    let mut lines: Vec<String> = lines_of(choice).map(str::to_owned).collect();
    while script.coin() && !script.is_over() {
        let at = usize::from(script.short()) % lines.len().max(1);
        if at >= lines.len() {
            break;
        }
        match script.byte() & 7 {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 => lines[at] = String::from_utf8_lossy(script.bytes()).into_owned(),
            3 => lines.insert(at, String::from_utf8_lossy(script.bytes()).into_owned()),
            4 => lines.truncate(at),
            5 => {
                let other = usize::from(script.short()) % lines.len();
                lines.swap(at, other);
            }
            // Inserts a line of another client.
            6 => {
                let foreign = lines_of(script.byte());
                let line = foreign.clone().nth(usize::from(script.short()) % foreign.count().max(1));
                lines.insert(at, line.unwrap_or_default().to_owned());
            }
            // Changes only the value, so that the attribute keeps its name.
            _ => {
                let keep = lines[at].find([':', ' ']).map_or(0, |place| place + 1);
                let changed = String::from_utf8_lossy(script.bytes()).into_owned();
                lines[at].replace_range(keep.., &changed);
            }
        }
    }
    lines.join("\r\n") + "\r\n"
}

/// Asserts that an answer has as many sections as the offer, with the same mids in the same order (RFC 3264 section 6).
fn assert_answers(offer: &str, answer: &str) {
    // In a section with two mids the first counts.
    let mids = |sdp: &str| -> Vec<String> {
        let sections = sdp.split("\r\nm=").skip(1);
        let first =
            |section: &str| section.lines().find_map(|line| line.strip_prefix("a=mid:").map(str::to_owned));
        sections.filter_map(first).collect()
    };
    let sections = |sdp: &str| sdp.lines().filter(|line| line.starts_with("m=")).count();
    assert_eq!(sections(offer), sections(answer));
    assert_eq!(mids(offer), mids(answer));
    assert!(answer.len() <= 16 * offer.len() + 4096, "an answer is not much longer than its offer");
}

fn codec(chooser: u8) -> Option<Codec> {
    Codec::ALL.get(usize::from(chooser >> 5)).copied()
}

fn announced(round: usize, kind: MediaKind, chooser: u8) -> AddTrack {
    AddTrack {
        track: TrackSid::new(format!("TR_{round}")),
        cids: CIDS.map(str::to_owned).to_vec(),
        kind,
        codecs: codec(chooser).map(|codec| codec.mime()[6..].to_owned()).into_iter().collect(),
        layers: Vec::new(),
        muted: false,
        stereo: chooser & 1 == 1,
        disable_dtx: chooser & 2 == 2,
        disable_red: false,
        encrypted: false,
        screen_share: false,
        playout_delay: None,
        part: sfu_protocol::TrackPart::default(),
    }
}

/// Track ids in the clients' offers.
const CIDS: [&str; 2] = ["066b2f98-408a-4868-8452-d09bad3a6157", "e513cf29-2c8a-479f-84e2-95dbb42b0241"];

fn wanted(round: usize, kind: MediaKind, codec: Option<Codec>) -> WantedTrack {
    let track = TrackSid::new(format!("TR_{kind:?}{}", round / 2));
    WantedTrack {
        track,
        publisher: ParticipantSid::new("PA_other"),
        kind,
        available: codec.into_iter().map(Into::into).collect(),
    }
}
