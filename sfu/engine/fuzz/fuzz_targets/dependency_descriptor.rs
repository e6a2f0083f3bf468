//! A sequence of dependency descriptors, each parsed with the last structure received.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu_engine::rtp::codec::dependency_descriptor::{Descriptor, peek};
use sfu_engine_fuzz::Script;

fuzz_target!(|data: &[u8]| {
    let mut script = Script(data);
    let mut held = None;
    while !script.is_over() {
        let bytes = script.bytes();
        let peeked = peek(bytes);
        let Ok(descriptor) = Descriptor::parse(bytes, held.as_ref()) else { continue };
        assert_eq!(peeked.as_ref(), Ok(&descriptor.facts));
        let structure = descriptor.structure.as_ref().or(held.as_ref()).expect("it was read with one");
        assert_eq!(descriptor.indications.len(), structure.decode_targets.len());
        assert!(descriptor.spatial <= structure.highest_spatial());
        if descriptor.structure.is_some() {
            held = descriptor.structure;
        }
    }
});
