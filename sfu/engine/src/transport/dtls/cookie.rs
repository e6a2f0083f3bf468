//! Makes rtc-dtls use a given cookie. By default it draws one per association. With one cookie per peer, hellos can be
//! answered without an association. Even if a forged hello is answered, the real client gets the right cookie.

use std::sync::Arc;

use rtc_dtls::crypto_provider::{CryptoError, RTCCrypto, RTCCryptoProvider, RTCRandom};

/// Length of the cookies of rtc-dtls, in bytes. rtc-dtls draws this many random bytes at once for nothing else. Each
/// handshake checks that the cookie used is the given one.
pub(super) const COOKIE_LEN: usize = 20;

pub(super) type Cookie = [u8; COOKIE_LEN];

pub(super) struct WithCookie {
    pub(super) inner: Arc<dyn RTCCryptoProvider>,
    pub(super) cookie: Cookie,
}

impl RTCCryptoProvider for WithCookie {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn crypto(&self) -> &dyn RTCCrypto {
        self.inner.crypto()
    }

    fn random(&self) -> &dyn RTCRandom {
        self
    }
}

impl RTCRandom for WithCookie {
    fn fill(&self, output: &mut [u8]) -> Result<(), CryptoError> {
        if output.len() == COOKIE_LEN {
            output.copy_from_slice(&self.cookie);
            return Ok(());
        }
        self.inner.random().fill(output)
    }
}
