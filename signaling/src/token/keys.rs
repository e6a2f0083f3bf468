//! The API keys that sign access tokens.

use std::fmt;

use jsonwebtoken::{DecodingKey, EncodingKey};
use thiserror::Error;

/// Shortest accepted secret, in bytes. A shorter one could be guessed from one token (RFC 7518 section 3.2 demands
/// the length of the hash).
pub const MIN_SECRET_BYTES: usize = 32;

/// Name of the key of `--dev`, as expected by LiveKit tools.
pub const DEV_KEY: &str = "devkey";
/// Secret of the key of `--dev`.
pub const DEV_SECRET: &str = "secret";

/// Why a set of keys is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// A secret is so short that it could be guessed.
    #[error(
        "the secret of API key `{key}` is {length} bytes long; at least {MIN_SECRET_BYTES} are needed \
             (make one with `openssl rand -base64 32`)"
    )]
    ShortSecret {
        /// Name of the key.
        key: String,
        /// Length of the secret in bytes.
        length: usize,
    },
    /// A key has no name.
    #[error("an API key has an empty name")]
    EmptyName,
    /// Two keys have the same name.
    #[error("API key `{0}` is given twice")]
    Repeated(String),
    /// There is no key.
    #[error(
        "no API key is configured: set `keys` in the configuration, ANYTIME_KEYS or --keys (`name: secret`), \
             or try things out with --dev"
    )]
    None,
    /// A line is not of the form `name: secret`.
    #[error("line {line} of the keys is not of the form `name: secret`")]
    Line {
        /// Line number, from 1.
        line: usize,
    },
}

/// One API key.
#[derive(Clone)]
pub struct Key {
    /// Name of the key, which tokens contain as `iss`.
    pub name: String,
    pub(super) encoding: EncodingKey,
    pub(super) decoding: DecodingKey,
}

impl Key {
    /// A key of any strength; [`KeyStore::new`] checks the length of the secret.
    pub fn new(name: &str, secret: &str) -> Self {
        let secret = secret.as_bytes();
        Self {
            name: name.to_owned(),
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.name)
    }
}

/// The keys, in the order of the configuration. The first one signs tokens.
#[derive(Debug, Clone)]
pub struct KeyStore(Vec<Key>);

impl KeyStore {
    /// A key store of `(name, secret)` pairs.
    ///
    /// # Errors
    /// If there is no key, a nameless key, a repeated name, or a secret shorter than [`MIN_SECRET_BYTES`].
    pub fn new(pairs: &[(String, String)]) -> Result<Self, KeyError> {
        for (name, secret) in pairs {
            if secret.len() < MIN_SECRET_BYTES {
                return Err(KeyError::ShortSecret { key: name.clone(), length: secret.len() });
            }
        }
        Self::with_any_secret(pairs)
    }

    /// Like [`KeyStore::new`], but accepts secrets of any length. For `--dev`, which serves on loopback only.
    ///
    /// # Errors
    /// If there is no key, a nameless key, or a repeated name.
    pub fn with_any_secret(pairs: &[(String, String)]) -> Result<Self, KeyError> {
        let mut keys = Vec::<Key>::with_capacity(pairs.len());
        for (name, secret) in pairs {
            if name.is_empty() {
                return Err(KeyError::EmptyName);
            }
            if keys.iter().any(|key| key.name == *name) {
                return Err(KeyError::Repeated(name.clone()));
            }
            keys.push(Key::new(name, secret));
        }
        if keys.is_empty() { Err(KeyError::None) } else { Ok(Self(keys)) }
    }

    /// The key that signs tokens of this server.
    pub fn signing(&self) -> Option<&Key> {
        self.0.first()
    }

    /// The key with exactly that name.
    pub fn by_name(&self, name: &str) -> Option<&Key> {
        self.0.iter().find(|key| key.name == name)
    }
}

/// Parses `name: secret` lines as in `--keys`, the environment variable and key files. Empty lines and lines that
/// begin with `#` are skipped.
///
/// # Errors
/// [`KeyError::Line`] for a line of any other form.
pub fn parse_keys(text: &str) -> Result<Vec<(String, String)>, KeyError> {
    let mut pairs = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let pair = line.split_once(':').map(|(name, secret)| (unquote(name), unquote(secret)));
        match pair {
            Some((name, secret)) if !name.is_empty() && !secret.is_empty() => pairs.push((name, secret)),
            _ => return Err(KeyError::Line { line: number.saturating_add(1) }),
        }
    }
    Ok(pairs)
}

fn unquote(text: &str) -> String {
    let text = text.trim();
    let inner = |quote| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, secret: &str) -> (String, String) {
        (name.into(), secret.into())
    }

    #[test]
    fn a_short_secret_is_refused_by_the_name_of_its_key() {
        let error =
            KeyStore::new(&[pair("good", &"x".repeat(32)), pair("weak", &"x".repeat(31))]).unwrap_err();
        assert_eq!(error, KeyError::ShortSecret { key: "weak".into(), length: 31 });
        assert!(error.to_string().contains("`weak`"));
        assert!(!error.to_string().contains("xxx"), "the secret stays secret");
    }

    #[test]
    fn the_first_key_signs_and_all_verify() {
        let keys = KeyStore::with_any_secret(&[pair("b", "1"), pair("a", "2")]).unwrap();
        assert_eq!(keys.signing().unwrap().name, "b");
        assert!(keys.by_name("a").is_some());
        assert!(keys.by_name("A").is_none());
        assert_eq!(format!("{keys:?}"), "KeyStore([Key(b), Key(a)])");
    }

    #[test]
    fn nothing_nameless_and_repeated_keys_are_refused() {
        assert_eq!(KeyStore::new(&[]).unwrap_err(), KeyError::None);
        assert_eq!(KeyStore::with_any_secret(&[pair("", "x")]).unwrap_err(), KeyError::EmptyName);
        let twice = [pair("a", "x"), pair("a", "y")];
        assert_eq!(KeyStore::with_any_secret(&twice).unwrap_err(), KeyError::Repeated("a".into()));
    }

    #[test]
    fn lines_are_read_as_people_write_them() {
        let text = "# ours\nkey1: secret1\n\n  \"key2\":  'se:cret2' \n";
        assert_eq!(parse_keys(text).unwrap(), [pair("key1", "secret1"), pair("key2", "se:cret2")]);
        assert_eq!(parse_keys("a: b\nnonsense").unwrap_err(), KeyError::Line { line: 2 });
        assert_eq!(parse_keys("a:").unwrap_err(), KeyError::Line { line: 1 });
    }
}
