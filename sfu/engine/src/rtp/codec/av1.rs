//! Parsing AV1 payloads (RTP Payload Format for AV1, version 1.0, section 4): the aggregation header and the headers
//! of the open bitstream units (OBUs) after it.

use super::{CodecError, PayloadFacts};
use crate::rtp::reader::Reader;

/// Parses only the aggregation header, because the data after it may be encrypted. The N bit marks a key frame. The Z
/// bit means that the packet continues an OBU and so cannot begin a frame.
///
/// # Errors
/// If the payload is empty.
pub fn aggregation_facts(payload: &[u8]) -> Result<PayloadFacts, CodecError> {
    let header = *payload.first().ok_or(CodecError::Empty)?;
    Ok(PayloadFacts {
        key_frame: header & NEW_SEQUENCE != 0,
        frame_start: header & CONTINUES == 0,
        ..PayloadFacts::default()
    })
}

/// Parses the aggregation header and the OBU headers, for packets without a dependency descriptor. A sequence header
/// marks a key frame where the sender leaves N unset. The first OBU extension header gives the layers. A packet that
/// begins with a new OBU counts as the first of a frame, which is true for senders that put each frame into one OBU.
/// Elements that cannot be parsed are ignored.
///
/// # Errors
/// If the payload is empty.
pub fn facts(payload: &[u8]) -> Result<PayloadFacts, CodecError> {
    let mut found = aggregation_facts(payload)?;
    let mut reader = Reader::new(payload);
    let header = reader.u8().ok_or(CodecError::Empty)?;
    let counted = header >> 4 & 0x03;
    let mut layers = None;
    let mut index = 0_u8;
    while let Some(element) = next_element(&mut reader, counted, index) {
        // The index is only needed to find the last of up to three counted elements. Elements without a count all
        // have a length field.
        index = index.saturating_add(1);
        let continued = index == 1 && header & CONTINUES != 0;
        let Some(obu) = element.first().filter(|_| !continued) else { continue };
        found.key_frame |= obu >> 3 & 0x0f == SEQUENCE_HEADER;
        if obu & HAS_OBU_EXTENSION != 0 {
            layers = layers.or(element.get(1).copied());
        }
    }
    if let Some(byte) = layers {
        found.temporal = byte >> 5;
        found.spatial = byte >> 3 & 0x03;
    }
    Ok(found)
}

/// Reads the next OBU element. W of the aggregation header, if not zero, is the number of elements; the last of them
/// has no length field.
fn next_element<'a>(reader: &mut Reader<'a>, counted: u8, index: u8) -> Option<&'a [u8]> {
    if reader.is_empty() || (counted != 0 && index >= counted) {
        return None;
    }
    let len = if counted != 0 && index + 1 == counted { reader.len() } else { leb128(reader)? };
    reader.bytes(len)
}

/// Reads a LEB128 number of at most eight bytes, seven bits each (AV1 bitstream specification section 4.10.5).
fn leb128(reader: &mut Reader<'_>) -> Option<usize> {
    let mut value = 0_u64;
    for place in 0..8 {
        let byte = reader.u8()?;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok();
        }
    }
    None
}

const CONTINUES: u8 = 0x80;
const NEW_SEQUENCE: u8 = 0x08;
const SEQUENCE_HEADER: u8 = 1;
const HAS_OBU_EXTENSION: u8 = 0x04;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aggregation_header_and_sequence_header_tell_a_key_frame() {
        let cases: [(&str, &[u8], bool, bool); 7] = [
            ("N", &[0x18, 0x30, 1], true, true),
            ("one OBU, a frame", &[0x10, 0x30, 1], true, false),
            ("one OBU, a sequence header", &[0x10, 0x08, 1], true, true),
            ("second of two a sequence header", &[0x20, 2, 0x10, 0, 0x08, 1], true, true),
            ("uncounted, third a sequence header", &[0x00, 1, 0x10, 1, 0x30, 0x81, 0x00, 0x08], true, true),
            ("continues: the first element is no header", &[0x90, 0x08, 1], false, false),
            ("continues, then a sequence header", &[0xa0, 1, 0x30, 0x08], false, true),
        ];
        for (name, payload, start, key) in cases {
            let facts = facts(payload).unwrap();
            assert_eq!((facts.frame_start, facts.key_frame), (start, key), "{name}");
        }
    }

    #[test]
    fn layers_come_from_the_first_extension_header() {
        let facts = facts(&[0x20, 1, 0x10, 0x34, 0x48, 0xaa]).unwrap();
        assert_eq!((facts.temporal, facts.spatial), (2, 1));
    }

    #[test]
    fn elements_that_do_not_parse_are_no_error() {
        for payload in [&[0x00, 0x7f, 1][..], &[0x00, 0xff, 0xff], &[0x20, 0x0a], &[0x30]] {
            assert!(facts(payload).is_ok());
        }
        assert_eq!(facts(&[]), Err(CodecError::Empty));
    }
}
