//! Parsing and rewriting the VP8 payload descriptor (RFC 7741 section 4.2).

use super::{CodecError, PayloadFacts, Vp8Picture};
use crate::rtp::reader::Reader;

/// Parses the descriptor, and the bit of the following payload header that marks a key frame. That bit stays readable
/// when the frame is end-to-end encrypted.
///
/// # Errors
/// If the payload ends within the descriptor.
pub fn facts(payload: &[u8]) -> Result<PayloadFacts, CodecError> {
    let mut reader = Reader::new(payload);
    let first = reader.u8().ok_or(CodecError::Empty)?;
    let mut picture = Vp8Picture::default();
    if first & EXTENDED != 0 {
        let fields = reader.u8().ok_or(CodecError::Truncated("VP8 descriptor extension"))?;
        if fields & HAS_PICTURE_ID != 0 {
            let id = reader.u8().ok_or(CodecError::Truncated("VP8 picture id"))?;
            picture.long_picture_id = id & LONG != 0;
            picture.picture_id = Some(if picture.long_picture_id {
                let low = reader.u8().ok_or(CodecError::Truncated("VP8 picture id"))?;
                u16::from_be_bytes([id & !LONG, low])
            } else {
                u16::from(id)
            });
        }
        if fields & HAS_TL0 != 0 {
            picture.tl0_picture_index = Some(reader.u8().ok_or(CodecError::Truncated("VP8 TL0PICIDX"))?);
        }
        if fields & (HAS_TID | HAS_KEY_INDEX) != 0 {
            let byte = reader.u8().ok_or(CodecError::Truncated("VP8 TID and KEYIDX"))?;
            picture.tid_key_index = Some(byte);
        }
        picture.has_temporal = fields & HAS_TID != 0;
        picture.has_key_index = fields & HAS_KEY_INDEX != 0;
    }
    // At most six bytes.
    picture.descriptor_len = (payload.len() - reader.len()) as u8;
    let frame_start = first & START_OF_PARTITION != 0 && first & PARTITION == 0;
    let delta_frame = reader.rest().first().is_none_or(|header| header & INVERSE_KEY_FRAME != 0);
    Ok(PayloadFacts {
        key_frame: frame_start && !delta_frame,
        frame_start,
        temporal: picture.temporal().unwrap_or(0),
        vp8: Some(picture),
        ..PayloadFacts::default()
    })
}

/// Writes a subscriber's picture id, TL0PICIDX and KEYIDX into its copy of a payload. Only fields that are present
/// change, and each keeps its width: a 7-bit picture id gets the low 7 bits, KEYIDX its low 5. `payload_prefix`
/// begins with the descriptor that `picture` was parsed from; a shorter prefix is left unchanged.
pub fn rewrite_descriptor(
    payload_prefix: &mut [u8],
    picture: &Vp8Picture,
    picture_id: u16,
    tl0_picture_index: u8,
    key_index: u8,
) {
    // Skip the first byte and the byte that says which fields follow.
    let Some(mut fields) = payload_prefix.get_mut(2..usize::from(picture.descriptor_len)) else { return };
    if picture.picture_id.is_some() {
        let [high, low] = picture_id.to_be_bytes();
        if picture.long_picture_id {
            let Some(bytes) = fields.split_off_mut(..2) else { return };
            bytes.copy_from_slice(&[high | LONG, low]);
        } else {
            let Some(byte) = fields.split_off_first_mut() else { return };
            *byte = low & !LONG;
        }
    }
    if picture.tl0_picture_index.is_some() {
        let Some(byte) = fields.split_off_first_mut() else { return };
        *byte = tl0_picture_index;
    }
    if picture.has_key_index
        && let Some(byte) = fields.split_off_first_mut()
    {
        *byte = *byte & !KEY_INDEX | key_index & KEY_INDEX;
    }
}

impl Vp8Picture {
    /// TID: the temporal layer; `None` if absent.
    pub fn temporal(&self) -> Option<u8> {
        self.tid_key_index.filter(|_| self.has_temporal).map(|byte| byte >> 6)
    }

    /// Y: the frame depends only on the base layer, so a receiver can switch up to this temporal layer here.
    pub fn layer_sync(&self) -> bool {
        self.has_temporal && self.tid_key_index.is_some_and(|byte| byte & LAYER_SYNC != 0)
    }

    /// KEYIDX, 5 bits; `None` if absent.
    pub fn key_index(&self) -> Option<u8> {
        self.tid_key_index.filter(|_| self.has_key_index).map(|byte| byte & KEY_INDEX)
    }
}

const EXTENDED: u8 = 0x80;
const START_OF_PARTITION: u8 = 0x10;
const PARTITION: u8 = 0x07;
const HAS_PICTURE_ID: u8 = 0x80;
const HAS_TL0: u8 = 0x40;
const HAS_TID: u8 = 0x20;
const HAS_KEY_INDEX: u8 = 0x10;
const LONG: u8 = 0x80;
const LAYER_SYNC: u8 = 0x20;
const KEY_INDEX: u8 = 0x1f;
const INVERSE_KEY_FRAME: u8 = 0x01;

#[cfg(test)]
mod tests {
    use super::*;

    /// All fields present, 15-bit picture id, first packet of a key frame.
    const FULL: [u8; 8] = [0x90, 0xf0, 0x92, 0x34, 0x77, 0xa5, 0x10, 0xaa];

    #[test]
    fn every_field_of_a_full_descriptor_is_read() {
        let facts = facts(&FULL).unwrap();
        assert!(facts.starts_key_frame());
        assert_eq!(facts.temporal, 2);
        let picture = facts.vp8.unwrap();
        assert_eq!((picture.picture_id, picture.long_picture_id), (Some(0x1234), true));
        assert_eq!((picture.tl0_picture_index, picture.key_index()), (Some(0x77), Some(5)));
        assert!(picture.layer_sync());
        assert_eq!(picture.descriptor_len, 6);
    }

    #[test]
    fn key_frames_and_starts_of_frames_are_told() {
        let cases: [(&str, &[u8], bool, bool); 6] = [
            ("key frame, one byte of picture id", &[0x90, 0x80, 0x11, 0x00], true, true),
            ("its second fragment", &[0x80, 0x80, 0x11, 0x00], false, false),
            ("start of the second partition", &[0x91, 0x80, 0x11, 0x00], false, false),
            ("interframe", &[0x10, 0x01], true, false),
            ("key frame without extension", &[0x10, 0x00], true, true),
            ("a descriptor and nothing else", &[0x10], true, false),
        ];
        for (name, payload, start, key) in cases {
            let facts = facts(payload).unwrap();
            assert_eq!((facts.frame_start, facts.key_frame), (start, key), "{name}");
        }
    }

    #[test]
    fn a_descriptor_that_is_cut_short_is_refused() {
        for len in 1..6 {
            assert!(matches!(facts(&FULL[..len]), Err(CodecError::Truncated(_))), "{len}");
        }
        assert_eq!(facts(&[]), Err(CodecError::Empty));
    }

    #[test]
    fn a_rewritten_descriptor_reads_as_the_new_values_at_the_same_length() {
        for fields in 0..16_u8 {
            for long in [false, true] {
                let mut payload = vec![0x90, fields << 4];
                if fields & 8 != 0 {
                    payload.extend(if long { &[0x81, 0x02][..] } else { &[0x05] });
                }
                payload.extend(std::iter::repeat_n(0x61, usize::from(fields & 4 != 0)));
                payload.extend(std::iter::repeat_n(0xa3, usize::from(fields & 3 != 0)));
                payload.extend([0x00, 0x9d, 0x01]);
                let before = facts(&payload).unwrap();
                let mut copy = payload.clone();
                rewrite_descriptor(&mut copy, &before.vp8.unwrap(), 0x7fee, 0xfe, 0x3e);
                let after = facts(&copy).unwrap();
                let (old, new) = (before.vp8.unwrap(), after.vp8.unwrap());
                assert_eq!(new.descriptor_len, old.descriptor_len);
                assert_eq!(new.picture_id, old.picture_id.map(|_| if long { 0x7fee } else { 0x6e }));
                assert_eq!(new.tl0_picture_index, old.tl0_picture_index.map(|_| 0xfe));
                assert_eq!(new.key_index(), old.key_index().map(|_| 0x1e));
                assert_eq!((new.temporal(), new.layer_sync()), (old.temporal(), old.layer_sync()));
                let len = usize::from(old.descriptor_len);
                assert_eq!((&copy[..2], &copy[len..]), (&payload[..2], &payload[len..]));
            }
        }
    }

    #[test]
    fn rewriting_less_than_the_descriptor_changes_nothing() {
        let picture = facts(&FULL).unwrap().vp8.unwrap();
        for len in 0..6 {
            let mut short = FULL[..len].to_vec();
            rewrite_descriptor(&mut short, &picture, 1, 2, 3);
            assert_eq!(short, FULL[..len]);
        }
    }
}
