//! Parsing and rewriting the VP9 payload descriptor (RFC 9628 section 4.2), in flexible and non-flexible mode.

use super::{CodecError, PayloadFacts, Vp9Picture};
use crate::rtp::reader::Reader;

/// Parses the descriptor. `key_frame` is set on every packet of the base spatial layer of a picture that is predicted
/// from no other picture. `frame_start` and `frame_end` refer to the layer frame.
///
/// # Errors
/// If the payload ends within the descriptor, or the descriptor lists more than three references.
pub fn facts(payload: &[u8]) -> Result<PayloadFacts, CodecError> {
    let mut reader = Reader::new(payload);
    let first = reader.u8().ok_or(CodecError::Empty)?;
    let has = |bit: u8| first & bit != 0;
    let mut picture = Vp9Picture {
        inter_picture: has(INTER_PICTURE),
        flexible: has(FLEXIBLE),
        not_reference_for_upper: has(NOT_REFERENCE),
        ..Vp9Picture::default()
    };
    let mut facts = PayloadFacts { frame_start: has(BEGIN), frame_end: has(END), ..PayloadFacts::default() };
    if has(HAS_PICTURE_ID) {
        let id = reader.u8().ok_or(CodecError::Truncated("VP9 picture id"))?;
        picture.long_picture_id = id & LONG != 0;
        picture.picture_id = Some(if picture.long_picture_id {
            let low = reader.u8().ok_or(CodecError::Truncated("VP9 picture id"))?;
            u16::from_be_bytes([id & !LONG, low])
        } else {
            u16::from(id)
        });
    }
    if has(HAS_LAYERS) {
        let layers = reader.u8().ok_or(CodecError::Truncated("VP9 layer indices"))?;
        facts.temporal = layers >> 5;
        picture.switching_up = layers & SWITCHING_UP != 0;
        facts.spatial = layers >> 1 & 0x07;
        picture.inter_layer = layers & INTER_LAYER != 0;
        if !picture.flexible {
            picture.tl0_picture_index = Some(reader.u8().ok_or(CodecError::Truncated("VP9 TL0PICIDX"))?);
        }
    }
    if picture.flexible && picture.inter_picture {
        picture.references = references(&mut reader)?;
    }
    if has(HAS_STRUCTURE) {
        picture.spatial_layers = Some(skip_structure(&mut reader)?);
    }
    facts.key_frame = !picture.inter_picture && facts.spatial == 0;
    picture.descriptor_len = u16::try_from(payload.len() - reader.len()).unwrap_or(u16::MAX);
    facts.vp9 = Some(picture);
    Ok(facts)
}

/// Writes a subscriber's picture id and TL0PICIDX into its copy of a payload. Only fields that are present change,
/// and each keeps its width. `payload_prefix` begins with the descriptor that `picture` was parsed from; a shorter
/// prefix is left unchanged.
pub fn rewrite_descriptor(
    payload_prefix: &mut [u8],
    picture: &Vp9Picture,
    picture_id: u16,
    tl0_picture_index: u8,
) {
    let Some(mut fields) = payload_prefix.get_mut(1..usize::from(picture.descriptor_len)) else { return };
    if picture.picture_id.is_some() {
        let [high, low] = picture_id.to_be_bytes();
        if picture.long_picture_id {
            let Some(bytes) = fields.split_off_mut(..2) else { return };
            bytes.copy_from_slice(&[high & !LONG | LONG, low]);
        } else {
            let Some(byte) = fields.split_off_first_mut() else { return };
            *byte = low & !LONG;
        }
    }
    // TL0PICIDX follows the layer indices, which are always present together with it.
    if picture.tl0_picture_index.is_some()
        && let Some(byte) = fields.get_mut(1)
    {
        *byte = tl0_picture_index;
    }
}

fn references(reader: &mut Reader<'_>) -> Result<[u8; MOST_REFERENCES], CodecError> {
    let mut references = [0; MOST_REFERENCES];
    for reference in &mut references {
        let difference = reader.u8().ok_or(CodecError::Truncated("VP9 reference indices"))?;
        *reference = difference >> 1;
        if difference & ANOTHER_REFERENCE == 0 {
            return Ok(references);
        }
    }
    Err(CodecError::Truncated("VP9 reference indices"))
}

/// Skips a scalability structure (section 4.2.1) and returns its number of spatial layers.
fn skip_structure(reader: &mut Reader<'_>) -> Result<u8, CodecError> {
    let error = CodecError::Truncated("VP9 scalability structure");
    let first = reader.u8().ok_or(error)?;
    let layers = (first >> 5) + 1;
    if first & HAS_RESOLUTIONS != 0 {
        reader.bytes(usize::from(layers) * 4).ok_or(error)?;
    }
    if first & HAS_PICTURE_GROUP != 0 {
        for _ in 0..reader.u8().ok_or(error)? {
            let references = reader.u8().ok_or(error)? >> 2 & 0x03;
            reader.bytes(usize::from(references)).ok_or(error)?;
        }
    }
    Ok(layers)
}

const HAS_PICTURE_ID: u8 = 0x80;
const INTER_PICTURE: u8 = 0x40;
const HAS_LAYERS: u8 = 0x20;
const FLEXIBLE: u8 = 0x10;
const BEGIN: u8 = 0x08;
const END: u8 = 0x04;
const HAS_STRUCTURE: u8 = 0x02;
const NOT_REFERENCE: u8 = 0x01;
const LONG: u8 = 0x80;
const SWITCHING_UP: u8 = 0x10;
const INTER_LAYER: u8 = 0x01;
const ANOTHER_REFERENCE: u8 = 0x01;
const MOST_REFERENCES: usize = 3;
const HAS_RESOLUTIONS: u8 = 0x10;
const HAS_PICTURE_GROUP: u8 = 0x08;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_frame_in_non_flexible_mode_carries_its_structure() {
        let mut payload = vec![0x80 | 0x20 | 0x08 | 0x02, 0x92, 0x34, 0x00, 0x55];
        // Two spatial layers with sizes, a group of two pictures with one and two references.
        payload.extend([0x38, 1, 64, 0, 180, 2, 128, 1, 104, 2, 0x04, 1, 0x28, 1, 2]);
        let len = payload.len();
        payload.extend([0xaa; 3]);
        let facts = facts(&payload).unwrap();
        assert!(facts.starts_key_frame() && !facts.frame_end);
        let picture = facts.vp9.unwrap();
        assert_eq!((picture.picture_id, picture.long_picture_id), (Some(0x1234), true));
        assert_eq!((picture.tl0_picture_index, picture.spatial_layers), (Some(0x55), Some(2)));
        assert_eq!(usize::from(picture.descriptor_len), len);
        for cut in 1..len {
            assert!(matches!(super::facts(&payload[..cut]), Err(CodecError::Truncated(_))), "{cut}");
        }
    }

    #[test]
    fn flexible_mode_lists_up_to_three_references_and_no_tl0() {
        let payload = [0x80 | 0x40 | 0x20 | 0x10 | 0x04, 0x07, 0xb3, 0x03, 0x05, 0x06, 0xaa];
        let facts = facts(&payload).unwrap();
        assert_eq!((facts.temporal, facts.spatial), (5, 1));
        assert!(!facts.key_frame && !facts.frame_start && facts.frame_end);
        let picture = facts.vp9.unwrap();
        assert!(picture.switching_up && picture.inter_layer && picture.flexible && picture.inter_picture);
        assert_eq!((picture.picture_id, picture.long_picture_id), (Some(7), false));
        assert_eq!((picture.tl0_picture_index, picture.descriptor_len), (None, 6));
        assert_eq!(picture.references, [1, 2, 3]);
        let four = [0x80 | 0x40 | 0x10, 0x07, 0x03, 0x05, 0x07, 0x08];
        assert_eq!(super::facts(&four), Err(CodecError::Truncated("VP9 reference indices")));
    }

    #[test]
    fn a_rewritten_descriptor_reads_as_the_new_values_at_the_same_length() {
        let payloads: [&[u8]; 4] = [
            &[0x80 | 0x20 | 0x08, 0x92, 0x34, 0x00, 0x55, 0xaa],
            &[0x80 | 0x20 | 0x08, 0x12, 0x00, 0x55, 0xaa],
            &[0x80 | 0x40 | 0x20 | 0x10 | 0x04, 0x07, 0xb3, 0x03, 0x05, 0x06, 0xaa],
            &[0x08, 0xaa],
        ];
        for payload in payloads {
            let before = facts(payload).unwrap().vp9.unwrap();
            let mut copy = payload.to_vec();
            rewrite_descriptor(&mut copy, &before, 0x7fee, 0xfe);
            let after = facts(&copy).unwrap().vp9.unwrap();
            let id = if before.long_picture_id { 0x7fee } else { 0x6e };
            let expected = Vp9Picture {
                picture_id: before.picture_id.map(|_| id),
                tl0_picture_index: before.tl0_picture_index.map(|_| 0xfe),
                ..before
            };
            assert_eq!(after, expected);
            assert_eq!(copy.last(), payload.last());
            for len in 0..usize::from(before.descriptor_len) {
                let mut short = payload[..len].to_vec();
                rewrite_descriptor(&mut short, &before, 0x7fee, 0xfe);
                assert_eq!(short, payload[..len]);
            }
        }
    }

    #[test]
    fn only_the_base_layer_of_a_picture_without_references_is_a_key_frame() {
        let key = |first: u8, layers: u8| facts(&[first | 0x20, layers, 0, 0xaa]).unwrap();
        assert!(key(0x08, 0x00).starts_key_frame());
        assert!(key(0x00, 0x00).key_frame && !key(0x00, 0x00).starts_key_frame(), "a later packet of it");
        assert!(!key(0x08, 0x03).key_frame, "its upper spatial layer");
        assert!(!key(0x48, 0x00).key_frame, "predicted from an earlier picture");
    }
}
