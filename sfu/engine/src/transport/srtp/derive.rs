//! Session keys from a master key (RFC 3711 section 4.3, key derivation rate zero).

use aws_lc_rs::cipher::EncryptionContext;
use aws_lc_rs::iv::FixedLength;

use super::{MasterKey, SrtpError, counter_mode};

/// Purpose of a derived key.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(super) enum Label {
    RtpEncryption = 0,
    RtpAuthentication = 1,
    RtpSalt = 2,
    RtcpEncryption = 3,
    RtcpAuthentication = 4,
    RtcpSalt = 5,
}

/// `N` bytes of AES-CM key stream from the master key, with the label in byte 7 of the salt. A 12-byte salt
/// is padded with zeros to the 14 of AES-CM (RFC 7714 section 11).
pub(super) fn derive<const N: usize>(master: &MasterKey, label: Label) -> Result<[u8; N], SrtpError> {
    let mut iv = [0; 16];
    for (byte, salt) in iv.iter_mut().take(14).zip(&master.salt) {
        *byte = *salt;
    }
    iv[7] ^= label as u8;
    let mut key = [0; N];
    counter_mode(&master.key)
        .and_then(|cipher| {
            let context = EncryptionContext::Iv128(FixedLength::from(iv));
            cipher.less_safe_encrypt(&mut key, context).ok()
        })
        .ok_or(SrtpError::Key)?;
    Ok(key)
}
