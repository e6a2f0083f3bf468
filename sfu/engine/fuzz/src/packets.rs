//! Packets with valid checksums and signatures, and arbitrary contents otherwise.

use aws_lc_rs::hmac;
use sfu_engine::transport::ice::IceCredentials;

/// A STUN Binding request from the holder of `remote` to the holder of `local`. `before` and `behind` are attributes
/// before and after MESSAGE-INTEGRITY.
pub fn check(local: &IceCredentials, remote: &IceCredentials, before: &[u8], behind: &[u8]) -> Vec<u8> {
    let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7];
    attribute(&mut message, 0x0006, format!("{}:{}", local.ufrag, remote.ufrag).as_bytes());
    message.extend_from_slice(before);
    message.resize(message.len().next_multiple_of(4), 0);
    let at = message.len();
    set_len(&mut message, at + 24);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, local.pwd.as_bytes());
    let tag = hmac::sign(&key, &message);
    attribute(&mut message, 0x0008, tag.as_ref());
    message.extend_from_slice(behind);
    message.resize(message.len().next_multiple_of(4), 0);
    let end = message.len() + 8;
    set_len(&mut message, end);
    let crc = crc32(&message, 0xedb8_8320) ^ 0x5354_554e;
    attribute(&mut message, 0x8028, &crc.to_be_bytes());
    message
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend((value.len() as u16).to_be_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn set_len(message: &mut [u8], end: usize) {
    message[2..4].copy_from_slice(&((end - 20) as u16).to_be_bytes());
}

/// CRC32c as SCTP uses it (RFC 9260 appendix A).
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32(bytes, 0x82f6_3b78)
}

/// Writes the checksum into an SCTP packet, in little-endian order.
pub fn with_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    if packet.len() >= 12 {
        packet[8..12].fill(0);
        let sum = crc32c(&packet);
        packet[8..12].copy_from_slice(&sum.to_le_bytes());
    }
    packet
}

fn crc32(bytes: &[u8], polynomial: u32) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| match crc & 1 {
            1 => (crc >> 1) ^ polynomial,
            _ => crc >> 1,
        })
    })
}
