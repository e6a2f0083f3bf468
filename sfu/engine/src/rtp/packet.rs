//! The RTP packet format (RFC 3550 section 5.1). The header is never encrypted, so it is parsed before decryption and
//! gives the cipher the start of the payload. Padding is inside the encrypted part.

use thiserror::Error;

use super::reader::Reader;
use crate::units::{PayloadType, Ssrc};

/// Why a packet is not valid RTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RtpError {
    /// Shorter than the 12 bytes of the fixed header.
    #[error("fixed header: {0} bytes are less than 12")]
    FixedHeader(usize),
    /// The version is not 2.
    #[error("version: {0} is not 2")]
    Version(u8),
    /// The CSRC list runs past the end of the packet.
    #[error("CSRC list: runs past the end of the packet")]
    Csrc,
    /// The header extension runs past the end of the packet.
    #[error("header extension: runs past the end of the packet")]
    Extension,
    /// The padding count is zero, missing, or larger than the payload.
    #[error("padding: {0} bytes do not fit into the payload")]
    Padding(u8),
}

/// Position of the header extension's elements in the packet, without the four-byte extension header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtensionBlock {
    /// The "defined by profile" field, which distinguishes the one-byte form from the two-byte form (RFC 8285 section
    /// 4).
    pub profile: u16,
    /// Offset of the first byte of the first element.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

/// Parsed RTP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeader {
    /// Marker bit.
    pub marker: bool,
    /// Payload type, 7 bits.
    pub payload_type: PayloadType,
    /// Sequence number, 16 bits.
    pub sequence: u16,
    /// RTP timestamp in units of the payload type's clock rate.
    pub timestamp: u32,
    /// Synchronization source.
    pub ssrc: Ssrc,
    /// Whether the payload ends with padding.
    pub has_padding: bool,
    /// Number of bytes before the payload: fixed header, CSRC list and extension.
    pub header_len: usize,
    /// Position of the header extension; `None` if there is none.
    pub extension: Option<ExtensionBlock>,
}

impl RtpHeader {
    /// Parses the header of a packet, encrypted or not.
    ///
    /// # Errors
    /// Names the malformed part. On success the whole header lies within the packet.
    pub fn parse(packet: &[u8]) -> Result<Self, RtpError> {
        let (fixed, rest) =
            packet.split_first_chunk::<FIXED_HEADER_LEN>().ok_or(RtpError::FixedHeader(packet.len()))?;
        let [first, second, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3] = *fixed;
        if first >> 6 != VERSION {
            return Err(RtpError::Version(first >> 6));
        }
        let mut reader = Reader::new(rest);
        let csrc_len = usize::from(first & CSRC_COUNT) * 4;
        reader.bytes(csrc_len).ok_or(RtpError::Csrc)?;
        let mut header_len = FIXED_HEADER_LEN + csrc_len;
        let mut extension = None;
        if first & EXTENSION != 0 {
            let profile = reader.u16().ok_or(RtpError::Extension)?;
            let len = usize::from(reader.u16().ok_or(RtpError::Extension)?) * 4;
            reader.bytes(len).ok_or(RtpError::Extension)?;
            let start = header_len + 4;
            header_len = start + len;
            extension = Some(ExtensionBlock { profile, start, end: header_len });
        }
        Ok(Self {
            marker: second & MARKER != 0,
            payload_type: PayloadType(second & !MARKER),
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: Ssrc(u32::from_be_bytes([i0, i1, i2, i3])),
            has_padding: first & PADDING != 0,
            header_len,
            extension,
        })
    }
}

/// The payload of a decrypted packet without its padding; empty if the packet contains only padding.
///
/// # Errors
/// [`RtpError::Padding`] if the padding count is zero or larger than the payload.
pub fn payload<'a>(packet: &'a [u8], header: &RtpHeader) -> Result<&'a [u8], RtpError> {
    let body = packet.get(header.header_len..).ok_or(RtpError::FixedHeader(packet.len()))?;
    if !header.has_padding {
        return Ok(body);
    }
    let count = body.last().copied().unwrap_or(0);
    if count == 0 {
        return Err(RtpError::Padding(0));
    }
    let len = body.len().checked_sub(usize::from(count)).ok_or(RtpError::Padding(count))?;
    body.get(..len).ok_or(RtpError::Padding(count))
}

/// Length of an RTP header without CSRC list and extension, in bytes.
pub const FIXED_HEADER_LEN: usize = 12;
const VERSION: u8 = 2;
const PADDING: u8 = 0x20;
const EXTENSION: u8 = 0x10;
const CSRC_COUNT: u8 = 0x0f;
const MARKER: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: [u8; 14] = [0x80, 0xe0, 0xff, 0xfe, 1, 2, 3, 4, 0xde, 0xad, 0xbe, 0xef, 7, 8];

    #[test]
    fn the_fixed_header_is_read_field_by_field() {
        let header = RtpHeader::parse(&PLAIN).unwrap();
        assert_eq!(
            header,
            RtpHeader {
                marker: true,
                payload_type: PayloadType(96),
                sequence: 0xfffe,
                timestamp: 0x0102_0304,
                ssrc: Ssrc(0xdead_beef),
                has_padding: false,
                header_len: 12,
                extension: None,
            }
        );
        assert_eq!(payload(&PLAIN, &header).unwrap(), [7, 8]);
    }

    #[test]
    fn contributing_sources_and_extension_move_the_payload() {
        let mut packet = vec![0x92, 0x60, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 1, 1, 1, 1, 2, 2, 2, 2];
        packet.extend([0xbe, 0xde, 0, 1, 0x10, 0xaa, 0, 0, 9]);
        let header = RtpHeader::parse(&packet).unwrap();
        assert_eq!(header.extension, Some(ExtensionBlock { profile: 0xbede, start: 24, end: 28 }));
        assert_eq!(payload(&packet, &header).unwrap(), [9]);
        assert!(!header.marker);
        for (len, error) in [(19, RtpError::Csrc), (23, RtpError::Extension), (27, RtpError::Extension)] {
            assert_eq!(RtpHeader::parse(&packet[..len]), Err(error));
        }
    }

    #[test]
    fn padding_is_removed_and_its_count_is_checked() {
        let mut packet = PLAIN.to_vec();
        packet[0] |= PADDING;
        packet.extend([0, 0, 3]);
        let header = RtpHeader::parse(&packet).unwrap();
        assert_eq!(payload(&packet, &header).unwrap(), [7, 8]);
        for (count, expected) in
            [(5, Ok(&[][..])), (6, Err(RtpError::Padding(6))), (0, Err(RtpError::Padding(0)))]
        {
            *packet.last_mut().unwrap() = count;
            assert_eq!(payload(&packet, &header), expected);
        }
        assert_eq!(payload(&packet[..12], &header), Err(RtpError::Padding(0)), "padding bit, no byte");
    }

    #[test]
    fn other_versions_and_short_packets_are_refused() {
        assert_eq!(RtpHeader::parse(&[0x40; 20]), Err(RtpError::Version(1)));
        for len in 0..12 {
            assert_eq!(RtpHeader::parse(&PLAIN[..len]), Err(RtpError::FixedHeader(len)));
        }
    }
}
