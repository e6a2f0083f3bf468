//! VP8 payloads, and their descriptors rewritten: only the numbers in them change.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu_engine::rtp::codec::{Codec, facts, vp8};
use sfu_engine_fuzz::Script;

fuzz_target!(|data: &[u8]| {
    let mut script = Script(data);
    let (picture_id, tl0, key_index) = (script.short(), script.byte(), script.byte());
    let payload = script.0;
    let Ok(found) = facts(Codec::Vp8, payload, None) else { return };
    let picture = found.vp8.expect("every VP8 packet has a picture");
    assert!(usize::from(picture.descriptor_len) <= payload.len());
    let mut copy = payload.to_vec();
    vp8::rewrite_descriptor(&mut copy, &picture, picture_id, tl0, key_index);
    let again = vp8::facts(&copy).expect("a rewritten descriptor can be read");
    let rewritten = again.vp8.expect("every VP8 packet has a picture");
    assert_eq!((again.key_frame, again.temporal), (found.key_frame, found.temporal));
    assert_eq!(rewritten.descriptor_len, picture.descriptor_len);
    assert_eq!(rewritten.long_picture_id, picture.long_picture_id);
    let end = usize::from(picture.descriptor_len);
    assert_eq!(copy[end..], payload[end..], "nothing behind the descriptor changes");
});
