//! Verifies an access token: first its signature, HS256 with the secret of the key that `iss` names, then its dates,
//! then its claims.

use jsonwebtoken::Algorithm;
use serde::Deserialize;

use super::claims::{Claims, kind_by_name, kind_detail_by_name};
use super::jws::Unverified;
use super::keys::KeyStore;
use super::{Grants, TokenError, TokenLimits, object, within};

/// Tolerated clock difference between two machines, in seconds.
pub const LEEWAY_SECONDS: u64 = 60;

/// Verifies that `token` was signed with one of our keys and is valid at `now` (seconds since 1970).
///
/// # Errors
/// The first error found. Before the signature is verified, no claim is used but `iss`, which selects the key.
pub fn verify(keys: &KeyStore, limits: &TokenLimits, token: &str, now: u64) -> Result<Grants, TokenError> {
    let unverified = Unverified::parse(token, &[Algorithm::HS256])?;
    let issuer = issuer(unverified.payload_unverified())?;
    let key = keys.by_name(&issuer).ok_or(TokenError::UnknownKey)?;
    let payload = unverified.verified_by(&key.decoding)?;
    let claims: Claims =
        object::from_slice(payload).map_err(|error| TokenError::BadClaims(error.to_string()))?;
    let expires_at = check_time(&claims, now)?;
    grants(claims, expires_at, limits)
}

/// Like [`verify`], and also checks that the token permits joining a room.
///
/// # Errors
/// Those of [`verify`], and if the token does not grant joining, or names no participant or no room.
pub fn verify_join(
    keys: &KeyStore,
    limits: &TokenLimits,
    token: &str,
    now: u64,
) -> Result<Grants, TokenError> {
    let grants = verify(keys, limits, token, now)?;
    if !grants.video.room_join {
        return Err(TokenError::JoinNotGranted);
    }
    if grants.identity.is_empty() {
        return Err(TokenError::NoIdentity);
    }
    if grants.room().is_empty() {
        return Err(TokenError::NoRoom);
    }
    Ok(grants)
}

fn issuer(payload: &[u8]) -> Result<String, TokenError> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: Option<String>,
    }
    let issuer: Issuer =
        object::from_slice(payload).map_err(|error| TokenError::BadClaims(error.to_string()))?;
    issuer.iss.filter(|issuer| !issuer.is_empty()).ok_or(TokenError::NoIssuer)
}

fn check_time(claims: &Claims, now: u64) -> Result<u64, TokenError> {
    let expires_at = claims.exp.ok_or(TokenError::NoExpiry)?.floor();
    check_times(expires_at, claims.nbf.map(|nbf| nbf.ceil()), now)?;
    Ok(expires_at)
}

/// Checks that `now` is between the two dates, with a tolerance of [`LEEWAY_SECONDS`].
pub(super) fn check_times(expires_at: u64, not_before: Option<u64>, now: u64) -> Result<(), TokenError> {
    if now >= expires_at.saturating_add(LEEWAY_SECONDS) {
        return Err(TokenError::Expired { ago: now.saturating_sub(expires_at) });
    }
    match not_before {
        Some(begin) if begin > now.saturating_add(LEEWAY_SECONDS) => {
            Err(TokenError::NotYetValid { seconds: begin.saturating_sub(now) })
        }
        _ => Ok(()),
    }
}

fn grants(claims: Claims, expires_at: u64, limits: &TokenLimits) -> Result<Grants, TokenError> {
    let identity = claims.sub.filter(|sub| !sub.is_empty()).or(claims.jti).unwrap_or_default();
    let details = claims.kind_details.unwrap_or_default();
    let grants = Grants {
        identity,
        name: claims.name.unwrap_or_default(),
        metadata: claims.metadata.unwrap_or_default(),
        attributes: claims.attributes.unwrap_or_default(),
        kind: kind_by_name(claims.kind.as_deref().unwrap_or_default()),
        kind_details: details.iter().filter_map(|name| kind_detail_by_name(name)).collect(),
        video: claims.video.unwrap_or_default(),
        room_preset: claims.room_preset.unwrap_or_default(),
        room_config: claims.room_config.map(serde_json::Value::Object),
        expires_at,
    };
    within("identity", grants.identity.len(), limits.identity)?;
    within("room", grants.room().len(), limits.room)?;
    limits.check(&grants.name, &grants.metadata, &grants.attributes)?;
    Ok(grants)
}

#[cfg(test)]
mod tests;
