//! Redundant audio (RFC 2198): a subscriber without it gets the primary encoding alone.

use super::CodecError;
use crate::rtp::reader::Reader;
use crate::units::PayloadType;

/// The primary encoding of a redundant payload: its payload type in the publisher's numbering and its bytes, which
/// may be none.
///
/// # Errors
/// If a block header or the redundant data runs past the end.
pub fn primary(payload: &[u8]) -> Result<(PayloadType, &[u8]), CodecError> {
    let mut reader = Reader::new(payload);
    let mut redundant = 0;
    loop {
        let head = reader.u8().ok_or(CodecError::Truncated("RED block header"))?;
        if head & FOLLOWS == 0 {
            reader.bytes(redundant).ok_or(CodecError::Truncated("RED redundant data"))?;
            return Ok((PayloadType(head), reader.rest()));
        }
        // 14 bits of timestamp offset, 10 of length.
        let rest = reader.u24().ok_or(CodecError::Truncated("RED block header"))?;
        redundant += (rest & 0x3ff) as usize;
    }
}

const FOLLOWS: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primary_stands_behind_all_redundancy() {
        assert_eq!(primary(&[111, 1, 2]), Ok((PayloadType(111), &[1, 2][..])));
        let two = [0x80 | 111, 0x1e, 0, 2, 0x80 | 111, 0x0f, 0, 1, 111, 9, 9, 8, 1, 2, 3];
        assert_eq!(primary(&two), Ok((PayloadType(111), &[1, 2, 3][..])));
    }

    #[test]
    fn blocks_past_the_end_are_refused() {
        assert_eq!(primary(&[0x80 | 111, 0, 0]), Err(CodecError::Truncated("RED block header")));
        assert_eq!(primary(&[0x80 | 111, 0, 0, 1]), Err(CodecError::Truncated("RED block header")));
        assert_eq!(
            primary(&[0x80 | 111, 0, 0, 3, 111, 1, 2]),
            Err(CodecError::Truncated("RED redundant data"))
        );
    }
}
