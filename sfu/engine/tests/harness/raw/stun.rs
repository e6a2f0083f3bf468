//! STUN connectivity checks with correct integrity and fingerprint attributes.

use aws_lc_rs::hmac;
use sfu_engine::transport::ice::IceCredentials;

/// A Binding request that the holder of `remote` sends to the holder of `local`, with USE-CANDIDATE if it nominates.
pub fn check(local: &IceCredentials, remote: &IceCredentials, nominates: bool) -> Vec<u8> {
    let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7];
    attribute(&mut message, 0x0006, format!("{}:{}", local.ufrag, remote.ufrag).as_bytes());
    if nominates {
        attribute(&mut message, 0x0025, &[]);
    }
    let at = message.len();
    set_len(&mut message, at + 24);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, local.pwd.as_bytes());
    let tag = hmac::sign(&key, &message);
    attribute(&mut message, 0x0008, tag.as_ref());
    let end = message.len() + 8;
    set_len(&mut message, end);
    let crc = crc32(&message) ^ 0x5354_554e;
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

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| match crc & 1 {
            1 => (crc >> 1) ^ 0xedb8_8320,
            _ => crc >> 1,
        })
    })
}
