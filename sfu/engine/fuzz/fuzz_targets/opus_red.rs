//! Opus lengths, and the primary encoding in RED.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu_engine::rtp::codec::{Codec, facts, opus, red};

fuzz_target!(|data: &[u8]| {
    if let Some(samples) = opus::samples(data) {
        assert!(samples <= 5760, "no packet is longer than 120 ms");
    }
    if let Ok((payload_type, primary)) = red::primary(data) {
        assert!(payload_type.0 < 128 && primary.len() < data.len());
        assert!(data.ends_with(primary));
    }
    for codec in [Codec::Opus, Codec::Red] {
        assert_eq!(facts(codec, data, None).is_ok(), !data.is_empty());
    }
});
