//! RED payloads (RFC 2198) parsed and rebuilt.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu_engine::rtp::codec::{Codec, facts, red};

fuzz_target!(|data: &[u8]| {
    if let Ok(redundant) = red::parse(data) {
        assert!(redundant.payload_type.0 < 128 && redundant.primary.len() < data.len());
        assert!(data.ends_with(redundant.primary));
        assert!(redundant.repeated.iter().all(|block| block.payload_type.0 < 128 && block.age < 1 << 14));
        let repeated: Vec<(u64, &[u8])> =
            redundant.repeated.iter().map(|block| (u64::from(block.age), block.frame)).collect();
        if let Some(built) = red::build(&repeated, redundant.primary) {
            let mut built = built.to_vec();
            red::set_payload_types(&mut built, redundant.payload_type);
            let again = red::parse(&built).expect("what is built can be read");
            assert_eq!(again.primary, redundant.primary);
        }
    }
    for codec in [Codec::Opus, Codec::Red] {
        assert_eq!(facts(codec, data, None).is_ok(), !data.is_empty());
    }
});
