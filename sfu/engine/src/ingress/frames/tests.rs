use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::rtp::codec::frame::OperatingPoint;
use crate::rtp::codec::{self, frame::FrameFacts};

fn point(spatial: u8, temporal: u8) -> OperatingPoint {
    OperatingPoint::new(spatial, temporal)
}

#[test]
fn numbers_go_on_across_wraps_and_in_any_order() {
    let mut numbers = Numbers::default();
    let first = numbers.extend(65_534, 16);
    assert_eq!(numbers.extend(1, 16), first + 3);
    assert_eq!(numbers.extend(65_535, 16), first + 1, "late");
    assert_eq!(numbers.extend(2, 16), first + 4);
    numbers.leap();
    let again = numbers.extend(2, 16);
    assert!(again.wrapping_sub(first) > 1 << 16, "nothing before reaches up to it");
    let mut short = Numbers::default();
    let first = short.extend(126, 7);
    assert_eq!(
        (short.extend(127, 7), short.extend(0, 7), short.extend(126, 7)),
        (first + 1, first + 2, first)
    );
}

/// Descriptor of a key frame with an L1T2 structure: two decode targets, template offset 60.
const L1T2: [u8; 11] = [0xfc, 0x00, 0x64, 0x87, 0x81, 0x1e, 0xa8, 0x51, 0x41, 0x01, 0x08];

fn dependency(reader: &mut FrameReader, descriptor: &[u8], opaque: bool) -> codec::PayloadFacts {
    let mut facts = codec::facts(Codec::Vp8, &[0x10, 0x00], Some(descriptor)).unwrap();
    reader.read(Codec::Vp8, &mut facts, Some(descriptor), opaque);
    facts
}

#[test]
fn of_an_encrypted_payload_the_descriptor_beside_it_tells_all() {
    let mut reader = FrameReader::default();
    // By its payload alone it would be taken for a key frame.
    let unknown = dependency(&mut reader, &[0xc0, 0, 9], true);
    assert!(!unknown.key_frame && unknown.frame.is_none(), "no structure yet");
    let key = dependency(&mut reader, &L1T2, true);
    assert!(key.starts_key_frame() && key.frame.is_some_and(|frame| frame.references.is_empty()));
    let upper = dependency(&mut reader, &[0xfe, 0, 0x65], true);
    assert!(!upper.key_frame && upper.frame_start && upper.frame_end);
    assert_eq!(upper.temporal, 1);
    let frame: FrameFacts = upper.frame.unwrap();
    assert!(
        !frame.part_of.has(point(0, 0))
            && frame.part_of.has(point(0, 1))
            && frame.part_of.has(OperatingPoint::ALL)
    );
    assert_eq!(frame.references.bits(), 0b10, "the frame before");
    let other = dependency(&mut reader, &[0xc5, 0, 0x66], true);
    assert!(other.frame.is_none(), "of a structure that has not come");
    let late = dependency(&mut reader, &[0xfe, 0, 0x67], true);
    assert_eq!(late.frame.unwrap().number, frame.number + 2);
}

#[test]
fn a_stream_that_goes_on_from_another_source_leaves_all_before_behind() {
    let mut reader = FrameReader::default();
    let before = dependency(&mut reader, &L1T2, true).frame.unwrap();
    reader.begin_source();
    assert!(dependency(&mut reader, &[0xfe, 0, 1], true).frame.is_none(), "its structure is to come");
    let after = dependency(&mut reader, &L1T2, true).frame.unwrap();
    assert!(after.number.wrapping_sub(before.number) > 1 << 16);
}

#[test]
fn whatever_descriptors_say_they_are_read_without_harm() {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut reader = FrameReader::default();
    for round in 0..60_000_u32 {
        let mut bytes: Vec<u8> = (0..rng.random_range(1..40)).map(|_| rng.random()).collect();
        if round % 3 == 0 {
            // Starts with a valid structure.
            bytes.splice(0..bytes.len().min(8), L1T2[..bytes.len().min(8)].iter().copied());
        }
        let codec = [Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::H264][(round / 500) as usize % 4];
        let descriptor = rng.random_bool(0.5).then_some(&bytes[..]);
        let opaque = rng.random_bool(0.5);
        let Ok(mut facts) = codec::facts(codec, &bytes, descriptor) else { continue };
        reader.read(codec, &mut facts, descriptor, opaque);
        if round % 1000 == 0 {
            reader.begin_source();
        }
    }
}
