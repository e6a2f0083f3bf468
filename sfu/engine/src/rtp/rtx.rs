//! The retransmission payload format (RFC 4588 section 4): the original sequence number (OSN), then the original
//! payload.

/// Length of the original sequence number before the original payload, in bytes.
pub const ORIGINAL_SEQUENCE_LEN: usize = 2;

/// Splits the payload of a retransmission into the original sequence number and the original payload. `None` if the
/// payload is too short. That is the case for padding-only packets, which some senders use as probes on this stream.
pub fn original_sequence(payload: &[u8]) -> Option<(u16, &[u8])> {
    let (sequence, original) = payload.split_first_chunk::<ORIGINAL_SEQUENCE_LEN>()?;
    Some((u16::from_be_bytes(*sequence), original))
}

/// Writes the original sequence number at the start of the payload. Returns the number of bytes written, or `None` if
/// the buffer is too short.
pub fn write_original_sequence(buffer: &mut [u8], sequence: u16) -> Option<usize> {
    *buffer.first_chunk_mut::<ORIGINAL_SEQUENCE_LEN>()? = sequence.to_be_bytes();
    Some(ORIGINAL_SEQUENCE_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut payload = [0, 0, 7, 8, 9];
        assert_eq!(write_original_sequence(&mut payload, 0xfffe), Some(2));
        assert_eq!(original_sequence(&payload), Some((0xfffe, &[7, 8, 9][..])));
    }

    #[test]
    fn an_empty_original_is_one_and_a_single_byte_is_none() {
        assert_eq!(original_sequence(&[1, 2]), Some((0x0102, &[][..])));
        assert_eq!(original_sequence(&[1]), None);
        assert_eq!(write_original_sequence(&mut [0], 1), None);
    }
}
