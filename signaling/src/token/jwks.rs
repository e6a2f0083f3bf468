//! The identity provider's public keys (RFC 7517): fetching, caching and refreshing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use thiserror::Error;

use super::jws::algorithm_name;

/// Keys older than this are fetched again, so that a revoked key stops working.
const FRESH_FOR: Duration = Duration::from_secs(10 * 60);
/// Shortest interval between fetches, whatever callers send.
const MIN_INTERVAL: Duration = Duration::from_secs(10);
/// Timeout of an entire fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);
const MAX_BODY_BYTES: usize = 256 * 1024;
const MAX_KEYS: usize = 64;
/// Most keys tried for one token, which may have no `kid`.
const MAX_CANDIDATES: usize = 8;
const MIN_RSA_BITS: usize = 2048;

/// Why no keys are available.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JwksError {
    /// The document is not a key set.
    #[error("the key set is not usable: {0}")]
    Malformed(String),
    /// The document is larger than any real key set.
    #[error("the key set is larger than {MAX_BODY_BYTES} bytes")]
    TooLarge,
    /// The set contains no usable RS256, ES256 or EdDSA key.
    #[error("the key set holds no usable RS256, ES256 or EdDSA key")]
    NoUsableKey,
    /// The provider did not answer, or answered with an error.
    #[error("the key set could not be fetched: {0}")]
    Fetch(String),
    /// No fetch has succeeded yet, and the last one has failed.
    #[error("the identity provider's keys are not available")]
    Unavailable,
}

/// The usable keys of a key set.
#[derive(Default)]
pub(super) struct KeySet(Vec<ProviderKey>);

struct ProviderKey {
    id: Option<String>,
    algorithm: Algorithm,
    decoding: DecodingKey,
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Parses a key set. Keys for other purposes or algorithms, and invalid ones, are left out; symmetric keys are
    /// never accepted.
    pub(super) fn parse(document: &[u8]) -> Result<Self, JwksError> {
        let raw: RawSet =
            super::object::from_slice(document).map_err(|error| JwksError::Malformed(error.to_string()))?;
        let keys: Vec<_> = raw
            .keys
            .into_iter()
            .take(MAX_KEYS)
            .filter_map(|key| serde_json::from_value::<RawKey>(key).ok()?.usable())
            .collect();
        if keys.is_empty() { Err(JwksError::NoUsableKey) } else { Ok(Self(keys)) }
    }

    /// Keys that may have signed a token with this `kid` and algorithm; without a `kid`, all keys of the algorithm.
    pub(super) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<&DecodingKey> {
        self.0
            .iter()
            .filter(|key| key.algorithm == algorithm && (id.is_none() || key.id.as_deref() == id))
            .take(MAX_CANDIDATES)
            .map(|key| &key.decoding)
            .collect()
    }
}

impl RawKey {
    fn usable(self) -> Option<ProviderKey> {
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig")
            || self.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify"))
        {
            return None;
        }
        let (algorithm, decoding) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (self.n?, self.e?);
                if bits(&n)? < MIN_RSA_BITS {
                    return None;
                }
                (Algorithm::RS256, DecodingKey::from_rsa_components(&n, &e).ok()?)
            }
            ("EC", Some("P-256")) => {
                (Algorithm::ES256, DecodingKey::from_ec_components(&self.x?, &self.y?).ok()?)
            }
            ("OKP", Some("Ed25519")) => (Algorithm::EdDSA, DecodingKey::from_ed_components(&self.x?).ok()?),
            _ => return None,
        };
        let fits = self.alg.as_deref().is_none_or(|alg| alg == algorithm_name(algorithm));
        fits.then_some(ProviderKey { id: self.kid, algorithm, decoding })
    }
}

fn bits(base64url: &str) -> Option<usize> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(base64url).ok()?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let top = bytes.get(zeros)?;
    Some(bytes.len().saturating_sub(zeros).saturating_mul(8).saturating_sub(top.leading_zeros() as usize))
}

/// Source of the provider's keys.
pub(super) enum KeySource {
    /// Keys from the configuration.
    Inline(Arc<KeySet>),
    /// Keys fetched from the provider.
    Remote(Box<Remote>),
}

impl KeySource {
    /// The key set; it contains a key with that id and algorithm if the provider has one.
    pub(super) async fn keys_for(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        now: Instant,
    ) -> Result<Arc<KeySet>, JwksError> {
        match self {
            Self::Inline(keys) => Ok(Arc::clone(keys)),
            Self::Remote(remote) => remote.keys_for(id, algorithm, now).await,
        }
    }
}

/// A provider's key set at a URL, with its cache.
pub(super) struct Remote {
    url: String,
    client: reqwest::Client,
    state: Mutex<State>,
    /// Held during a fetch, so that there is one at a time.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
}

impl Remote {
    pub(super) fn new(url: String) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent("anytime")
            .build()?;
        Ok(Self { url, client, state: Mutex::default(), fetching: tokio::sync::Mutex::default() })
    }

    async fn keys_for(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        now: Instant,
    ) -> Result<Arc<KeySet>, JwksError> {
        if let Some(keys) = self.state().sufficient(id, algorithm, now) {
            return Ok(keys);
        }
        let _one_at_a_time = self.fetching.lock().await;
        if let Some(keys) = self.state().sufficient(id, algorithm, now) {
            return Ok(keys);
        }
        if self.state().may_try(now) {
            self.state().tried = Some(now);
            match self.fetch().await {
                Ok(keys) => {
                    let mut state = self.state();
                    state.keys = Some(Arc::new(keys));
                    state.fetched = Some(now);
                }
                Err(error) => {
                    tracing::warn!(url = self.url, %error, "identity provider's keys not refreshed");
                }
            }
        }
        self.state().keys.clone().ok_or(JwksError::Unavailable)
    }

    async fn fetch(&self) -> Result<KeySet, JwksError> {
        let failed = |error: reqwest::Error| JwksError::Fetch(error.without_url().to_string());
        let mut response = self.client.get(&self.url).send().await.map_err(failed)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(JwksError::Fetch(format!("HTTP status {}", response.status().as_u16())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len().saturating_add(chunk.len()) > MAX_BODY_BYTES {
                return Err(JwksError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        KeySet::parse(&body)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every write leaves the state consistent, so a panic while it was locked does no harm.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The cached keys, if one of them fits and they are fresh. While no new fetch is allowed, stale keys are used if
    /// one fits: an outage of the provider must not end calls.
    fn sufficient(&self, id: Option<&str>, algorithm: Algorithm, now: Instant) -> Option<Arc<KeySet>> {
        let fresh = self.fetched.is_some_and(|at| now.saturating_duration_since(at) < FRESH_FOR);
        let keys = self.keys.as_ref()?;
        let fits = !keys.candidates(id, algorithm).is_empty();
        (fits && (fresh || !self.may_try(now))).then(|| Arc::clone(keys))
    }

    fn may_try(&self, now: Instant) -> bool {
        self.tried.is_none_or(|at| now.saturating_duration_since(at) >= MIN_INTERVAL)
    }
}
