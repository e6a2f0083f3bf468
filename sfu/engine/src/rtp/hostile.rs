//! Runs every parser of this module on garbage: each length up to 1500, and seeded noise that starts with
//! valid-looking bytes so that it passes the first checks. Nothing may panic, and accepted ranges must lie within the
//! input.

use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};

use super::codec::dependency_descriptor::{self, Descriptor};
use super::codec::{Codec, facts, red, vp8};
use super::extension::{Extension, ExtensionMap, read};
use super::packet::{self, RtpHeader};
use super::{rtcp, rtx};
use crate::units::PayloadType;

fn feed_all(bytes: &[u8], maps: &[ExtensionMap]) {
    feed_packet(bytes, maps);
    let _ = rtx::original_sequence(bytes);
    if let Ok(redundant) = red::parse(bytes) {
        let repeated: usize = redundant.repeated.iter().map(|block| block.frame.len()).sum();
        assert!(redundant.primary.len() + repeated < bytes.len());
    }
    red::set_payload_types(&mut bytes.to_vec(), PayloadType(111));
    if let Ok(parts) = rtcp::parse(bytes) {
        assert!(parts.len() <= bytes.len() / 4 + 1 && parts.len() <= rtcp::MOST_PARTS + 1);
        for part in &parts {
            if let rtcp::Rtcp::TransportFeedback(feedback) = part {
                assert!(feedback.received.len() <= bytes.len());
                assert_eq!(feedback.arrivals().count(), feedback.received.len());
            }
        }
    }
    feed_descriptor(bytes);
    for codec in Codec::ALL {
        let _ = facts(codec, bytes, Some(bytes));
        let Ok(found) = facts(codec, bytes, None) else { continue };
        if let Some(picture) = found.vp9 {
            assert!(usize::from(picture.descriptor_len) <= bytes.len());
        }
        if let Some(picture) = found.vp8 {
            assert!(usize::from(picture.descriptor_len) <= bytes.len());
            let mut copy = bytes.to_vec();
            vp8::rewrite_descriptor(&mut copy, &picture, 0x1234, 0x56, 0x78);
            let again = vp8::facts(&copy).unwrap();
            let rewritten = again.vp8.unwrap();
            assert_eq!((again.key_frame, again.temporal), (found.key_frame, found.temporal));
            assert_eq!(rewritten.descriptor_len, picture.descriptor_len);
            assert_eq!(rewritten.long_picture_id, picture.long_picture_id);
        }
    }
}

fn feed_packet(bytes: &[u8], maps: &[ExtensionMap]) {
    let Ok(header) = RtpHeader::parse(bytes) else { return };
    assert!(header.header_len <= bytes.len());
    if let Ok(payload) = packet::payload(bytes, &header) {
        assert!(header.header_len + payload.len() <= bytes.len());
    }
    for map in maps {
        let _ = read(bytes, &header, map);
        // A header that belongs to a longer packet must not be trusted.
        let _ = read(&bytes[..bytes.len() / 2], &header, map);
    }
    let _ = packet::payload(&bytes[..bytes.len() / 2], &header);
}

fn feed_descriptor(bytes: &[u8]) {
    let whole = Descriptor::parse(bytes, None);
    if let Ok(Descriptor { structure: Some(structure), facts, .. }) = &whole {
        assert_eq!(dependency_descriptor::peek(bytes).as_ref(), Ok(facts));
        let later = Descriptor::parse(&[0, 0, 1, 0x78, 0xff, 0xff, 0xff, 0xff], Some(structure));
        if let Ok(later) = later {
            assert_eq!(later.indications.len(), structure.decode_targets.len());
        }
    }
}

fn random_maps(rng: &mut SmallRng) -> Vec<ExtensionMap> {
    (0..3)
        .map(|round| {
            let mut map = ExtensionMap::new();
            for extension in Extension::ALL {
                map.insert(if round == 0 { rng.random_range(1..15) } else { rng.random() }, extension);
            }
            map
        })
        .collect()
}

/// Beginnings that pass the first checks of one parser or another.
const BEGINNINGS: [&[u8]; 14] = [
    &[],
    &[0x90, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xbe, 0xde, 0, 8],
    &[0xb0, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0x10, 0x00, 0, 20],
    &[0x8f, 205, 0, 40, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xf0, 0, 200],
    &[0x81, 205, 0, 20],
    &[0x8f, 206, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B'],
    &[0x84, 206, 0, 10],
    &[0x82, 200, 0, 30],
    &[0xa3, 201, 0, 20],
    &[0x80, 0, 1, 0x80],
    &[0xc5, 0xff, 0xfe, 0x9f, 0x12],
    &[0x90, 0xf0],
    &[0xbe],
    &[0x78, 0, 2],
];

#[test]
fn every_length_of_every_fill_is_survived() {
    let maps = random_maps(&mut SmallRng::seed_from_u64(1));
    for fill in [0x00, 0xff, 0x80, 0x90, 0xbe] {
        let bytes = [fill; 1500];
        for len in 0..=bytes.len() {
            feed_all(&bytes[..len], &maps);
        }
    }
}

#[test]
fn every_length_of_every_beginning_is_survived() {
    let mut rng = SmallRng::seed_from_u64(2);
    let maps = random_maps(&mut rng);
    for beginning in BEGINNINGS {
        let mut bytes = [0; 1500];
        rng.fill_bytes(&mut bytes);
        bytes[..beginning.len()].copy_from_slice(beginning);
        for len in 0..=bytes.len() {
            feed_all(&bytes[..len], &maps);
        }
    }
}

#[test]
fn noise_behind_every_beginning_is_survived() {
    let mut rng = SmallRng::seed_from_u64(3);
    for _ in 0..3000 {
        let maps = random_maps(&mut rng);
        for beginning in BEGINNINGS {
            let mut bytes = vec![0; rng.random_range(beginning.len()..250)];
            rng.fill_bytes(&mut bytes);
            // Sparse noise reads as small counts and cleared flags, which gets further.
            if rng.random() {
                bytes.iter_mut().for_each(|byte| *byte &= 0x11);
            }
            bytes[..beginning.len()].copy_from_slice(beginning);
            feed_all(&bytes, &maps);
        }
    }
}
