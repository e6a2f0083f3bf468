//! Authenticates a caller by the JWT that it received from the chat app's identity provider.

use std::sync::Arc;

use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

use super::claims::NumericDate;
use super::jwks::{JwksError, KeySet, KeySource, Remote};
use super::jws::{Unverified, algorithm_name};
use super::verify::check_times;
use super::{Clock, TokenError, object};
use crate::config::IdentityProviderConfig;

/// Algorithms that may be configured. All are asymmetric, so that a public key is never used as an HMAC secret.
const SUPPORTED: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// Longest identity accepted from a token, in bytes.
const MAX_IDENTITY_BYTES: usize = 256;

/// A caller authenticated by the identity provider.
#[derive(Debug, Clone, PartialEq)]
pub struct Caller {
    /// Identity, from the configured claim.
    pub identity: String,
    /// Display name, from the configured claim; empty if absent.
    pub name: String,
    /// All claims of the token.
    pub claims: Map<String, Value>,
}

/// Why a caller is not authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CallerError {
    /// The token itself is invalid.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token was issued by somebody else.
    #[error("the token comes from another issuer (`iss`) than the configured identity provider")]
    Issuer,
    /// The token was issued for another service.
    #[error("the token is not meant for this service (`aud`)")]
    Audience,
    /// The token was signed with a key that the provider does not publish.
    #[error("the token is signed with a key that the identity provider does not publish (`kid`)")]
    UnknownKey,
    /// The token does not say who the caller is. Contains the name of the configured claim.
    #[error("the token's claim `{0}`, which names the caller, is missing, empty or too long")]
    NoIdentity(String),
    /// The provider's keys are not available, so nobody can be authenticated.
    #[error("callers cannot be checked at the moment: {0}")]
    Unavailable(JwksError),
}

impl CallerError {
    /// HTTP status: 503 if the provider's keys are not available, otherwise 401.
    pub fn status(&self) -> u16 {
        if matches!(self, Self::Unavailable(_)) { 503 } else { 401 }
    }

    /// Short fixed error code for metrics and JSON responses.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Token(error) => error.code(),
            Self::Issuer => "token_issuer",
            Self::Audience => "token_audience",
            Self::UnknownKey => "token_unknown_key",
            Self::NoIdentity(_) => "no_identity",
            Self::Unavailable(_) => "identity_provider_unavailable",
        }
    }
}

/// An error in the configuration of the identity provider.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProviderConfigError {
    /// A required setting is missing.
    #[error("identity_provider.{0} must be set")]
    Missing(&'static str),
    /// Both sources of keys are configured, or none.
    #[error("set exactly one of identity_provider.jwks_url and identity_provider.jwks")]
    KeySource,
    /// The algorithm is not supported.
    #[error("identity_provider.algorithms: {0:?} is not supported; RS256, ES256 and EdDSA are")]
    Algorithm(String),
    /// The keys in the configuration are invalid.
    #[error("identity_provider.jwks: {0}")]
    Keys(#[from] JwksError),
    /// The URL is invalid, or no HTTP client can be created for it.
    #[error("identity_provider.jwks_url: {0}")]
    Url(String),
}

/// The chat app's identity provider.
pub struct IdentityProvider {
    issuer: String,
    audience: Vec<String>,
    algorithms: Vec<Algorithm>,
    identity_claim: String,
    name_claim: String,
    keys: KeySource,
    clock: Clock,
}

#[derive(Deserialize)]
struct Registered {
    iss: Option<String>,
    aud: Option<OneOrMany>,
    exp: Option<NumericDate>,
    nbf: Option<NumericDate>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl IdentityProvider {
    /// Checks the configuration; fetches nothing yet.
    ///
    /// # Errors
    /// If the configuration is invalid.
    pub fn new(config: &IdentityProviderConfig, clock: Clock) -> Result<Self, ProviderConfigError> {
        if config.issuer.is_empty() {
            return Err(ProviderConfigError::Missing("issuer"));
        }
        if config.audience.is_empty() {
            return Err(ProviderConfigError::Missing("audience"));
        }
        if config.identity_claim.is_empty() {
            return Err(ProviderConfigError::Missing("identity_claim"));
        }
        let algorithms: Result<Vec<_>, _> = config.algorithms.iter().map(|name| supported(name)).collect();
        let algorithms = algorithms?;
        if algorithms.is_empty() {
            return Err(ProviderConfigError::Missing("algorithms"));
        }
        Ok(Self {
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            algorithms,
            identity_claim: config.identity_claim.clone(),
            name_claim: config.name_claim.clone(),
            keys: key_source(config)?,
            clock,
        })
    }

    /// Fetches the keys before the first caller needs them. A failure is only logged: the next caller causes another
    /// attempt.
    pub async fn warm_up(&self) {
        if let Some(algorithm) = self.algorithms.first() {
            let now = self.clock.now().instant;
            if self.keys.keys_for(None, *algorithm, now).await.is_err() {
                tracing::warn!("the token endpoint refuses everybody until the identity provider answers");
            }
        }
    }

    /// Authenticates the holder of `token`.
    ///
    /// # Errors
    /// If the token is not accepted, or cannot be checked.
    pub async fn authenticate(&self, token: &str) -> Result<Caller, CallerError> {
        let now = self.clock.now();
        let unverified = Unverified::parse(token, &self.algorithms)?;
        let (id, algorithm) = (unverified.key_id.as_deref(), unverified.algorithm);
        let keys = self.keys.keys_for(id, algorithm, now.instant).await.map_err(CallerError::Unavailable)?;
        let candidates = keys.candidates(id, algorithm);
        if candidates.is_empty() {
            return Err(CallerError::UnknownKey);
        }
        let payload = candidates
            .into_iter()
            .find_map(|key| unverified.verified_by(key).ok())
            .ok_or(TokenError::BadSignature)?;
        self.check_registered(payload, now.unix)?;
        self.caller(payload)
    }

    fn check_registered(&self, payload: &[u8], now: u64) -> Result<(), CallerError> {
        let claims: Registered = object::from_slice(payload).map_err(bad_claims)?;
        if claims.iss.as_deref() != Some(self.issuer.as_str()) {
            return Err(CallerError::Issuer);
        }
        let audience = match claims.aud {
            Some(OneOrMany::One(one)) => vec![one],
            Some(OneOrMany::Many(many)) => many,
            None => Vec::new(),
        };
        if !audience.iter().any(|name| self.audience.contains(name)) {
            return Err(CallerError::Audience);
        }
        let expires_at = claims.exp.ok_or(TokenError::NoExpiry)?.floor();
        check_times(expires_at, claims.nbf.map(NumericDate::ceil), now)?;
        Ok(())
    }

    fn caller(&self, payload: &[u8]) -> Result<Caller, CallerError> {
        let claims: Map<String, Value> = serde_json::from_slice(payload).map_err(bad_claims)?;
        let identity = match claim(&claims, &self.identity_claim) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) if number.is_i64() || number.is_u64() => number.to_string(),
            _ => String::new(),
        };
        if identity.is_empty() || identity.len() > MAX_IDENTITY_BYTES {
            return Err(CallerError::NoIdentity(self.identity_claim.clone()));
        }
        let name = claim(&claims, &self.name_claim).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Caller { identity, name, claims })
    }
}

/// Claim with the name `path`, or at that JSON pointer (`/realm/user`) if `path` begins with a slash.
pub(super) fn claim<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let Some(pointer) = path.strip_prefix('/') else {
        return claims.get(path);
    };
    let (first, rest) = match pointer.split_once('/') {
        Some((first, rest)) => (first, format!("/{rest}")),
        None => (pointer, String::new()),
    };
    claims.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(&rest)
}

fn supported(name: &str) -> Result<Algorithm, ProviderConfigError> {
    let found = SUPPORTED.into_iter().find(|algorithm| algorithm_name(*algorithm) == name);
    found.ok_or_else(|| ProviderConfigError::Algorithm(name.to_owned()))
}

fn key_source(config: &IdentityProviderConfig) -> Result<KeySource, ProviderConfigError> {
    match (config.jwks_url.as_str(), &config.jwks) {
        ("", Some(inline)) => {
            let document = match inline {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            Ok(KeySource::Inline(Arc::new(KeySet::parse(document.as_bytes())?)))
        }
        (url, None) if !url.is_empty() => {
            let parsed =
                reqwest::Url::parse(url).map_err(|error| ProviderConfigError::Url(error.to_string()))?;
            match parsed.scheme() {
                "https" => {}
                "http" => tracing::warn!(url, "the identity provider's keys are fetched without encryption"),
                other => {
                    return Err(ProviderConfigError::Url(format!("scheme {other:?} is not http or https")));
                }
            }
            let remote =
                Remote::new(url.to_owned()).map_err(|error| ProviderConfigError::Url(error.to_string()))?;
            Ok(KeySource::Remote(Box::new(remote)))
        }
        _ => Err(ProviderConfigError::KeySource),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function for map_err")]
fn bad_claims(error: serde_json::Error) -> CallerError {
    CallerError::Token(TokenError::BadClaims(error.to_string()))
}
