//! Redundant audio (RED, RFC 2198): a packet repeats earlier frames.
//!
//! The payload types inside a RED payload are in the numbering of its receiver. A payload from [`build`] therefore
//! has none yet; they are set when the payload is written for one subscriber ([`set_payload_types`]).

use bytes::Bytes;
use smallvec::SmallVec;

use super::CodecError;
use crate::rtp::reader::Reader;
use crate::units::PayloadType;

/// An earlier frame that a packet repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeated<'a> {
    /// Payload type of the frame, in the sender's numbering.
    pub payload_type: PayloadType,
    /// Timestamp offset: how much earlier the frame's timestamp is than the packet's, below 16,384 units.
    pub age: u32,
    /// The encoded frame; may be empty.
    pub frame: &'a [u8],
}

/// A parsed RED payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redundant<'a> {
    /// Repeated frames in the order of the payload, oldest first.
    pub repeated: SmallVec<[Repeated<'a>; 2]>,
    /// Payload type of the primary frame, in the sender's numbering.
    pub payload_type: PayloadType,
    /// The primary frame, which is the packet's own; may be empty.
    pub primary: &'a [u8],
}

/// Parses a RED payload.
///
/// # Errors
/// If a block header or the redundant data runs past the end, or if more than [`MOST_REPEATED`] frames are repeated.
pub fn parse(payload: &[u8]) -> Result<Redundant<'_>, CodecError> {
    let mut reader = Reader::new(payload);
    let mut heads: SmallVec<[(PayloadType, u32, usize); 2]> = SmallVec::new();
    let payload_type = loop {
        let head = reader.u8().ok_or(CodecError::Truncated("RED block header"))?;
        if head & FOLLOWS == 0 {
            break PayloadType(head);
        }
        if heads.len() >= MOST_REPEATED {
            return Err(CodecError::Truncated("RED block headers"));
        }
        // 14 bits of timestamp offset, 10 of length.
        let rest = reader.u24().ok_or(CodecError::Truncated("RED block header"))?;
        heads.push((PayloadType(head & !FOLLOWS), rest >> 10, (rest & 0x3ff) as usize));
    };
    let mut repeated = SmallVec::new();
    for (payload_type, age, len) in heads {
        let frame = reader.bytes(len).ok_or(CodecError::Truncated("RED redundant data"))?;
        repeated.push(Repeated { payload_type, age, frame });
    }
    Ok(Redundant { repeated, payload_type, primary: reader.rest() })
}

/// Builds a RED payload of `primary` and the repeated frames, oldest first, each with its timestamp offset. `None` if
/// there is nothing to repeat, if there are more than [`MOST_REPEATED`] frames, or if a frame is too long or too old
/// for a block header.
pub fn build(repeated: &[(u64, &[u8])], primary: &[u8]) -> Option<Bytes> {
    let fits = |(age, frame): &(u64, &[u8])| (1..MOST_AGE).contains(age) && frame.len() < LONGEST;
    if repeated.is_empty() || repeated.len() > MOST_REPEATED || !repeated.iter().all(fits) {
        return None;
    }
    let data: usize = repeated.iter().map(|(_, frame)| frame.len()).sum();
    let mut payload = Vec::with_capacity(repeated.len() * 4 + 1 + data + primary.len());
    for (age, frame) in repeated {
        // Both values fit their fields, as checked above.
        let [_, a, b, c] = ((*age as u32) << 10 | frame.len() as u32).to_be_bytes();
        payload.extend([FOLLOWS, a, b, c]);
    }
    payload.push(0);
    for (_, frame) in repeated {
        payload.extend_from_slice(frame);
    }
    payload.extend_from_slice(primary);
    Some(payload.into())
}

/// Sets the payload type of all blocks of a well-formed payload.
pub fn set_payload_types(payload: &mut [u8], payload_type: PayloadType) {
    let mut at = 0;
    while let Some(head) = payload.get_mut(at) {
        let follows = *head & FOLLOWS;
        *head = follows | payload_type.0 & !FOLLOWS;
        if follows == 0 {
            return;
        }
        at += 4;
    }
}

/// Largest number of repeated frames in one payload. Browsers repeat one or two.
pub const MOST_REPEATED: usize = 8;

const FOLLOWS: u8 = 0x80;
/// The timestamp offset has 14 bits.
const MOST_AGE: u64 = 1 << 14;
/// The block length has 10 bits.
const LONGEST: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primary_stands_behind_all_redundancy() {
        let one = parse(&[111, 1, 2]).unwrap();
        assert_eq!((one.payload_type, one.primary, one.repeated.len()), (PayloadType(111), &[1, 2][..], 0));
        let two = [0x80 | 111, 0x1e, 0, 2, 0x80 | 111, 0x0f, 0, 1, 111, 9, 9, 8, 1, 2, 3];
        let two = parse(&two).unwrap();
        assert_eq!((two.payload_type, two.primary), (PayloadType(111), &[1, 2, 3][..]));
        let repeated: Vec<_> = two.repeated.iter().map(|block| (block.age, block.frame)).collect();
        assert_eq!(repeated, [(1920, &[9, 9][..]), (960, &[8][..])]);
    }

    #[test]
    fn blocks_past_the_end_are_refused() {
        assert_eq!(parse(&[]), Err(CodecError::Truncated("RED block header")));
        assert_eq!(parse(&[0x80 | 111, 0, 0]), Err(CodecError::Truncated("RED block header")));
        assert_eq!(parse(&[0x80 | 111, 0, 0, 1]), Err(CodecError::Truncated("RED block header")));
        assert_eq!(
            parse(&[0x80 | 111, 0, 0, 3, 111, 1, 2]),
            Err(CodecError::Truncated("RED redundant data"))
        );
        let many: Vec<u8> = [0x80 | 111, 0, 0, 0].repeat(9).into_iter().chain([111]).collect();
        assert_eq!(parse(&many), Err(CodecError::Truncated("RED block headers")));
    }

    #[test]
    fn what_is_built_is_read_with_the_readers_payload_types() {
        let mut payload = build(&[(1920, &[9, 9]), (960, &[8])], &[1, 2, 3]).unwrap().to_vec();
        set_payload_types(&mut payload, PayloadType(109));
        let read = parse(&payload).unwrap();
        assert_eq!((read.payload_type, read.primary), (PayloadType(109), &[1, 2, 3][..]));
        let repeated: Vec<_> =
            read.repeated.iter().map(|block| (block.payload_type.0, block.age, block.frame)).collect();
        assert_eq!(repeated, [(109, 1920, &[9, 9][..]), (109, 960, &[8][..])]);
    }

    #[test]
    fn what_fits_no_block_header_is_not_built() {
        let long = [0; 1024];
        assert_eq!(build(&[], &[1]), None);
        assert_eq!(build(&[(960, &long)], &[1]), None);
        assert_eq!(build(&[(16_384, &[1])], &[1]), None, "a pause in speech");
        assert_eq!(build(&[(0, &[1])], &[1]), None);
        assert!(build(&[(16_383, &long[1..])], &[1]).is_some());
        set_payload_types(&mut [0x80, 0, 0], PayloadType(1));
    }
}
