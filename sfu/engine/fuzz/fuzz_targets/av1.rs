//! AV1 payloads. With a dependency descriptor only the aggregation header is read, without one the OBUs too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu_engine::rtp::codec::{Codec, facts};
use sfu_engine_fuzz::Script;

fuzz_target!(|data: &[u8]| {
    let mut script = Script(data);
    let descriptor = script.coin().then(|| script.bytes());
    let Ok(found) = facts(Codec::Av1, script.0, descriptor) else { return };
    assert!(!script.0.is_empty());
    assert!(found.temporal < 8 && found.spatial < 4);
});
