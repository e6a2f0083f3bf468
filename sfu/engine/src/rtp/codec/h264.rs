//! Parsing H.264 payloads (RFC 6184): single NAL units, aggregation packets and fragmentation units. Only the header
//! of each NAL unit and one bit after it are read. These stay readable when frames are end-to-end encrypted.

use super::{CodecError, PayloadFacts};
use crate::rtp::reader::Reader;

/// Detects key frames (a sequence parameter set or an IDR slice) and packets that can begin a frame: parameter sets,
/// supplemental enhancement information, delimiters, and slices with the picture's first macroblock. Unknown packet
/// types set nothing.
///
/// # Errors
/// If an aggregated NAL unit or a fragmentation header runs past the end.
pub fn facts(payload: &[u8]) -> Result<PayloadFacts, CodecError> {
    let mut reader = Reader::new(payload);
    let mut found = PayloadFacts::default();
    let indicator = reader.u8().ok_or(CodecError::Empty)?;
    match indicator & TYPE {
        STAP_A => aggregated(reader, &mut found)?,
        STAP_B => {
            reader.u16().ok_or(CodecError::Truncated("H.264 decoding order number"))?;
            aggregated(reader, &mut found)?;
        }
        FU_A | FU_B => {
            let fragment = reader.u8().ok_or(CodecError::Truncated("H.264 fragmentation header"))?;
            let kind = fragment & TYPE;
            if fragment & FRAGMENT_START != 0 {
                nal_unit(kind, reader.rest().first().copied(), &mut found);
            }
            found.key_frame |= matches!(kind, IDR_SLICE | SEQUENCE_PARAMETERS);
        }
        kind => nal_unit(kind, reader.rest().first().copied(), &mut found),
    }
    Ok(found)
}

fn aggregated(mut reader: Reader<'_>, found: &mut PayloadFacts) -> Result<(), CodecError> {
    let error = CodecError::Truncated("H.264 aggregated NAL unit");
    while !reader.is_empty() {
        let len = usize::from(reader.u16().ok_or(error)?);
        let unit = reader.bytes(len).ok_or(error)?;
        if let Some(header) = unit.first() {
            nal_unit(header & TYPE, unit.get(1).copied(), found);
        }
    }
    Ok(())
}

/// Evaluates a NAL unit that begins in this packet; `next` is the byte after its header.
fn nal_unit(kind: u8, next: Option<u8>, found: &mut PayloadFacts) {
    match kind {
        IDR_SLICE | SEQUENCE_PARAMETERS => found.key_frame = true,
        _ => {}
    }
    found.frame_start |= match kind {
        // A slice header begins with first_mb_in_slice, exponential-Golomb coded: 0 is a single one bit.
        SLICE | SLICE_PARTITION_A | IDR_SLICE => next.is_some_and(|byte| byte & 0x80 != 0),
        ENHANCEMENT..=ACCESS_UNIT_DELIMITER => true,
        _ => false,
    };
}

const TYPE: u8 = 0x1f;
const SLICE: u8 = 1;
const SLICE_PARTITION_A: u8 = 2;
const IDR_SLICE: u8 = 5;
/// Supplemental enhancement information; 7 to 9 are parameter sets and the delimiter.
const ENHANCEMENT: u8 = 6;
const SEQUENCE_PARAMETERS: u8 = 7;
const ACCESS_UNIT_DELIMITER: u8 = 9;
const STAP_A: u8 = 24;
const STAP_B: u8 = 25;
const FU_A: u8 = 28;
const FU_B: u8 = 29;
const FRAGMENT_START: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_frames_and_starts_are_told_by_nal_units() {
        let cases: [(&str, &[u8], bool, bool); 12] = [
            ("sequence parameters", &[0x67, 0x42], true, true),
            ("picture parameters", &[0x68, 0xce], true, false),
            ("IDR slice, first", &[0x65, 0x88], true, true),
            ("IDR slice, second", &[0x65, 0x40], false, true),
            ("slice, first", &[0x41, 0x9a], true, false),
            ("slice, second", &[0x41, 0x40], false, false),
            ("delimiter", &[0x09, 0x10], true, false),
            ("STAP-A of parameters", &[0x78, 0, 2, 0x67, 0x42, 0, 1, 0x68], true, true),
            ("STAP-A of slices", &[0x78, 0, 2, 0x41, 0x9a, 0, 2, 0x41, 0x40], true, false),
            ("FU-A, start of an IDR slice", &[0x7c, 0x85, 0x88], true, true),
            ("FU-A, middle of an IDR slice", &[0x7c, 0x05, 0x88], false, true),
            ("FU-A, end of a slice", &[0x7c, 0x41, 0x88], false, false),
        ];
        for (name, payload, start, key) in cases {
            let facts = facts(payload).unwrap();
            assert_eq!((facts.frame_start, facts.key_frame), (start, key), "{name}");
        }
    }

    #[test]
    fn lengths_past_the_end_are_refused_and_unknown_types_say_nothing() {
        assert_eq!(facts(&[0x7c]), Err(CodecError::Truncated("H.264 fragmentation header")));
        let error = Err(CodecError::Truncated("H.264 aggregated NAL unit"));
        assert_eq!(facts(&[0x78, 0, 3, 0x67, 0x42]), error);
        assert_eq!(facts(&[0x78, 0, 1, 0x67, 0]), error);
        assert_eq!(facts(&[0x7f, 1, 2]), Ok(PayloadFacts::default()));
    }
}
