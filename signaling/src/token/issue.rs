//! Issues access tokens.

use std::time::Duration;

use jsonwebtoken::{Algorithm, Header};
use thiserror::Error;

use super::Grants;
use super::claims::{Claims, NumericDate, kind_detail_name, kind_name};
use super::keys::{Key, KeyStore};

/// Default lifetime of a token, the same as in LiveKit's server SDKs.
pub const DEFAULT_LIFE: Duration = Duration::from_secs(6 * 60 * 60);

/// Shortest lifetime of a refreshed token, so that a call can outlast a short-lived first token.
pub const MIN_REFRESHED_LIFE: Duration = Duration::from_secs(10 * 60);

/// Why no token could be issued.
#[derive(Debug, Error)]
pub enum IssueError {
    /// No key is configured.
    #[error("no API key is configured")]
    NoKey,
    /// Signing failed.
    #[error("the token could not be signed: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// Signs `grants` with `key`. The token is valid from `now` (seconds since 1970) until `grants.expires_at`.
///
/// # Errors
/// [`IssueError::Sign`] if signing fails.
pub fn issue(key: &Key, grants: &Grants, now: u64) -> Result<String, IssueError> {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let details: Vec<_> = grants.kind_details.iter().map(|detail| kind_detail_name(*detail)).collect();
    let claims = Claims {
        iss: Some(key.name.clone()),
        sub: text(&grants.identity),
        jti: None,
        nbf: Some(NumericDate::from_seconds(now)),
        exp: Some(NumericDate::from_seconds(grants.expires_at)),
        iat: None,
        name: text(&grants.name),
        metadata: text(&grants.metadata),
        attributes: (!grants.attributes.is_empty()).then(|| grants.attributes.clone()),
        kind: kind_name(grants.kind).map(str::to_owned),
        kind_details: (!details.is_empty()).then_some(details),
        room_preset: text(&grants.room_preset),
        room_config: grants.room_config.as_ref().and_then(|config| config.as_object().cloned()),
        video: Some(grants.video.clone()),
    };
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key.encoding)?)
}

/// A new token for a participant in a call, with the same grants, signed with the first key. It expires with the
/// original token, or [`MIN_REFRESHED_LIFE`] after `now`, whichever is later.
///
/// # Errors
/// [`IssueError::NoKey`], or [`IssueError::Sign`].
pub fn refresh(keys: &KeyStore, grants: &Grants, now: u64) -> Result<String, IssueError> {
    let key = keys.signing().ok_or(IssueError::NoKey)?;
    let expires_at = grants.expires_at.max(now.saturating_add(MIN_REFRESHED_LIFE.as_secs()));
    issue(key, &Grants { expires_at, ..grants.clone() }, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::verify::{verify, verify_join};
    use crate::token::{Kind, KindDetail, TokenError, TokenLimits, VideoGrant};

    const NOW: u64 = 1_750_000_000;

    fn keys(names: &[&str]) -> KeyStore {
        let pairs: Vec<_> = names.iter().map(|name| ((*name).to_owned(), format!("{name:x>40}"))).collect();
        KeyStore::new(&pairs).unwrap()
    }

    fn everything() -> Grants {
        Grants {
            identity: "ann".into(),
            name: "Ann".into(),
            metadata: "{\"a\":1}".into(),
            attributes: [("k".to_owned(), "v".to_owned())].into(),
            kind: Kind::Agent,
            kind_details: vec![KindDetail::Forwarded],
            video: VideoGrant {
                room_join: true,
                room: Some("r".into()),
                can_publish: Some(false),
                can_publish_sources: vec!["camera".into()],
                hidden: true,
                ..VideoGrant::default()
            },
            room_preset: "p".into(),
            room_config: Some(serde_json::json!({ "maxParticipants": 3 })),
            expires_at: NOW + 100,
        }
    }

    #[test]
    fn what_is_issued_is_what_is_verified() {
        let keys = keys(&["a"]);
        let token = issue(keys.signing().unwrap(), &everything(), NOW).unwrap();
        assert_eq!(verify_join(&keys, &TokenLimits::default(), &token, NOW), Ok(everything()));
    }

    #[test]
    fn a_refreshed_token_keeps_the_grants_and_takes_the_first_key() {
        let (old, new) = (keys(&["old"]), keys(&["new", "old"]));
        let token = issue(old.signing().unwrap(), &everything(), NOW).unwrap();
        let grants = verify(&new, &TokenLimits::default(), &token, NOW).unwrap();
        let token = refresh(&new, &grants, NOW + 50).unwrap();
        let refused = verify(&old, &TokenLimits::default(), &token, NOW);
        assert_eq!(refused, Err(TokenError::UnknownKey));
        let again = verify(&new, &TokenLimits::default(), &token, NOW + 50).unwrap();
        assert_eq!(again, Grants { expires_at: NOW + 50 + 600, ..everything() });
    }

    #[test]
    fn a_long_life_is_not_shortened_by_a_refresh() {
        let keys = keys(&["a"]);
        let grants = Grants { expires_at: NOW + 5000, ..everything() };
        let token = refresh(&keys, &grants, NOW).unwrap();
        assert_eq!(verify(&keys, &TokenLimits::default(), &token, NOW).unwrap().expires_at, NOW + 5000);
    }
}
