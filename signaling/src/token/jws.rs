//! Compact form of a signed token (RFC 7515): three base64url parts, of which the first is a header that names the
//! algorithm. Used for our own tokens and those of the identity provider.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::{Deserialize, Deserializer};

use super::{TokenError, object};

/// Longest accepted token in bytes. Metadata and attributes may have 64 KiB each, base64 adds a third, and some
/// issuers also write non-ASCII characters as escapes.
pub(super) const MAX_TOKEN_BYTES: usize = 256 * 1024;

/// A parsed token whose signature is not verified yet.
pub(super) struct Unverified<'a> {
    pub algorithm: Algorithm,
    pub key_id: Option<String>,
    message: &'a str,
    signature: &'a str,
    payload: Vec<u8>,
}

/// The header parameters that matter. Unknown ones are ignored (RFC 7515 section 4); a repeated one is an error.
#[derive(Deserialize)]
struct RawHeader {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    enc: Option<serde_json::Value>,
    zip: Option<serde_json::Value>,
    #[serde(default, deserialize_with = "is_present")]
    crit: bool,
    #[serde(default, deserialize_with = "is_present")]
    b64: bool,
}

impl<'a> Unverified<'a> {
    /// Parses `token`. Its algorithm must be one of `accepted`.
    pub(super) fn parse(token: &'a str, accepted: &[Algorithm]) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Oversized { length: token.len(), limit: MAX_TOKEN_BYTES });
        }
        let (message, signature) =
            token.rsplit_once('.').ok_or(TokenError::Malformed("it has no three parts"))?;
        let (header, payload) =
            message.split_once('.').ok_or(TokenError::Malformed("it has no three parts"))?;
        if payload.contains('.') {
            return Err(TokenError::Malformed("it has more than three parts"));
        }
        let header: RawHeader = object::from_slice(&part(header, "its header is not base64url")?)
            .map_err(|error| TokenError::BadHeader(error.to_string()))?;
        let algorithm = header.algorithm(accepted)?;
        let payload = part(payload, "its payload is not base64url")?;
        part(signature, "its signature is not base64url")?;
        Ok(Self { algorithm, key_id: header.kid, message, signature, payload })
    }

    /// Payload before verification; use it only to select the key.
    pub(super) fn payload_unverified(&self) -> &[u8] {
        &self.payload
    }

    /// Payload of the token, provided that `key` made its signature.
    pub(super) fn verified_by(&self, key: &DecodingKey) -> Result<&[u8], TokenError> {
        match jsonwebtoken::crypto::verify(self.signature, self.message.as_bytes(), key, self.algorithm) {
            Ok(true) => Ok(&self.payload),
            Ok(false) | Err(_) => Err(TokenError::BadSignature),
        }
    }
}

impl RawHeader {
    fn algorithm(&self, accepted: &[Algorithm]) -> Result<Algorithm, TokenError> {
        if self.crit || self.b64 {
            return Err(TokenError::Critical);
        }
        if self.enc.is_some() || self.zip.is_some() {
            return Err(TokenError::BadHeader("encrypted or compressed tokens are not accepted".into()));
        }
        if let Some(typ) = &self.typ
            && !["JWT", "AT+JWT"].contains(&typ.to_ascii_uppercase().trim_start_matches("APPLICATION/"))
        {
            return Err(TokenError::BadHeader(format!("`typ` is {typ:?}, not JWT")));
        }
        accepted.iter().copied().find(|accepted| algorithm_name(*accepted) == self.alg).ok_or_else(|| {
            let accepted: Vec<_> = accepted.iter().map(|accepted| algorithm_name(*accepted)).collect();
            TokenError::Algorithm { found: format!("{:?}", self.alg), accepted: accepted.join(", ") }
        })
    }
}

/// Name of an algorithm (RFC 7518 section 3.1, RFC 8037); case-sensitive.
pub(super) fn algorithm_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HS256 => "HS256",
        Algorithm::HS384 => "HS384",
        Algorithm::HS512 => "HS512",
        Algorithm::ES256 => "ES256",
        Algorithm::ES384 => "ES384",
        Algorithm::RS256 => "RS256",
        Algorithm::RS384 => "RS384",
        Algorithm::RS512 => "RS512",
        Algorithm::PS256 => "PS256",
        Algorithm::PS384 => "PS384",
        Algorithm::PS512 => "PS512",
        Algorithm::EdDSA => "EdDSA",
    }
}

fn part(text: &str, error: &'static str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed(error))
}

/// True for any value, including null.
fn is_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer)?;
    Ok(true)
}
