//! User fragment and password (RFC 8445 section 5.3).

use std::fmt;

use super::NoRandomness;

/// One side's ICE credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// User fragment: 4 to 256 ice-chars.
    pub ufrag: String,
    /// Password: 22 to 256 ice-chars.
    pub pwd: String,
}

impl IceCredentials {
    /// New credentials from the operating system's generator: 48 and 192 bits of randomness.
    pub fn generate() -> Result<Self, NoRandomness> {
        Ok(Self { ufrag: ice_chars::<8>()?, pwd: ice_chars::<32>()? })
    }
}

impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceCredentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

fn ice_chars<const N: usize>() -> Result<String, NoRandomness> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    // The alphabet has 64 characters, so six bits of each byte select one without bias.
    let chars = bytes.iter().map(|byte| match byte & 0x3f {
        value @ 0..=25 => b'A' + value,
        value @ 26..=51 => b'a' + (value - 26),
        value @ 52..=61 => b'0' + (value - 52),
        62 => b'+',
        _ => b'/',
    });
    Ok(chars.map(char::from).collect())
}
