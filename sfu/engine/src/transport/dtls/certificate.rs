//! The local certificate, and fingerprints of certificates (RFC 8122 section 5).

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use rtc_dtls::cipher_suite::CipherSuiteId;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::crypto_provider::{RTCCryptoProvider, default_provider};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use thiserror::Error;

use super::SrtpOffer;
use super::cookie::{Cookie, WithCookie};
use crate::transport::srtp::Profile;

/// Reason that the certificate could not be generated or used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("certificate: {0}")]
pub struct CertificateError(String);

/// The local certificate with its key, and the DTLS configurations that use it. One per process.
pub struct Certificate {
    fingerprint: Fingerprint,
    configs: Configs,
}

struct Configs {
    provider: Arc<dyn RTCCryptoProvider>,
    server_gcm: ConfigBuilder,
    server_cm: ConfigBuilder,
    client_gcm: Arc<HandshakeConfig>,
    client_both: Arc<HandshakeConfig>,
}

impl Certificate {
    /// Generates a self-signed certificate over ECDSA P-256, which every WebRTC client has to accept (RFC 8827 section
    /// 6.5).
    pub fn generate() -> Result<Self, CertificateError> {
        let provider = default_provider().map_err(text)?;
        let names = vec!["anytime".to_owned()];
        let certificate =
            rtc_dtls::crypto::Certificate::generate_self_signed(names, provider.crypto()).map_err(text)?;
        let leaf = certificate.certificate.first().ok_or_else(|| CertificateError("empty".to_owned()))?;
        let fingerprint = Fingerprint {
            algorithm: "sha-256".to_owned(),
            value: digest::digest(&digest::SHA256, leaf.as_ref()).as_ref().to_vec(),
        };
        let builder = |profiles: &[SrtpProtectionProfile]| {
            ConfigBuilder::default()
                .with_crypto_provider(provider.clone())
                .with_certificates(vec![certificate.clone()])
                .with_cipher_suites(SUITES.to_vec())
                .with_srtp_protection_profiles(profiles.to_vec())
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                // Binds the keys to the entire handshake, so no part of it can be changed unnoticed (RFC 7627).
                .with_extended_master_secret(ExtendedMasterSecretType::Require)
                // The fingerprint in the session description authenticates the certificate, not a chain.
                .with_insecure_skip_verify(true)
                .with_server_name("anytime".to_owned())
                .with_mtu(FLIGHT_MTU)
        };
        let client = |profiles: &[_]| builder(profiles).build(true, None).map(Arc::new).map_err(text);
        Ok(Self {
            fingerprint,
            configs: Configs {
                server_gcm: builder(&[GCM]),
                server_cm: builder(&[CM]),
                client_gcm: client(&[GCM])?,
                client_both: client(&[GCM, CM])?,
                provider,
            },
        })
    }

    /// SHA-256 fingerprint for session descriptions.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// The configuration of a server that uses `cookie`.
    pub(super) fn server(&self, profile: Profile, cookie: Cookie) -> Result<Arc<HandshakeConfig>, String> {
        let builder = match profile {
            Profile::AeadAes128Gcm => &self.configs.server_gcm,
            Profile::AesCm128HmacSha1_80 => &self.configs.server_cm,
        };
        let provider = WithCookie { inner: self.configs.provider.clone(), cookie };
        let config = builder.clone().with_crypto_provider(Arc::new(provider)).build(false, None);
        config.map(Arc::new).map_err(|error| error.to_string())
    }

    /// The configuration of a client.
    pub(super) fn client(&self, offer: SrtpOffer) -> Arc<HandshakeConfig> {
        match offer {
            SrtpOffer::AeadOnly => self.configs.client_gcm.clone(),
            SrtpOffer::AesCm80Too => self.configs.client_both.clone(),
        }
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// The digest of a certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Name of the hash function as in session descriptions, such as `sha-256`. Case does not matter.
    pub algorithm: String,
    /// Digest bytes.
    pub value: Vec<u8>,
}

impl Fingerprint {
    /// Whether the hash function is known and the digest has its length.
    pub(in crate::transport) fn is_usable(&self) -> bool {
        self.function().is_some_and(|function| function.output_len() == self.value.len())
    }

    /// Whether this is the fingerprint of a certificate.
    pub(super) fn is_of(&self, certificate: &[u8]) -> bool {
        self.function()
            .is_some_and(|function| digest::digest(function, certificate).as_ref() == self.value.as_slice())
    }

    fn function(&self) -> Option<&'static digest::Algorithm> {
        let functions: [(&str, &'static digest::Algorithm); 5] = [
            ("sha-256", &digest::SHA256),
            ("sha-1", &digest::SHA1_FOR_LEGACY_USE_ONLY),
            ("sha-224", &digest::SHA224),
            ("sha-384", &digest::SHA384),
            ("sha-512", &digest::SHA512),
        ];
        functions
            .into_iter()
            .find(|(name, _)| self.algorithm.eq_ignore_ascii_case(name))
            .map(|(_, function)| function)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.algorithm)?;
        for (at, byte) in self.value.iter().enumerate() {
            write!(f, "{}{byte:02X}", if at == 0 { ' ' } else { ':' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn text(error: impl fmt::Display) -> CertificateError {
    CertificateError(error.to_string())
}

/// Cipher suites with authenticated encryption. Those with RSA are for the client role, where the server may have an
/// RSA key.
const SUITES: [CipherSuiteId; 4] = [
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
    CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256,
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
    CipherSuiteId::Tls_Ecdhe_Rsa_With_ChaCha20_Poly1305_Sha256,
];
const GCM: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm;
const CM: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80;
/// Length at which rtc-dtls fragments messages, in bytes. It then adds 25 bytes of headers, and 24 more when
/// encrypting: 1,199.
const FLIGHT_MTU: usize = 1150;
