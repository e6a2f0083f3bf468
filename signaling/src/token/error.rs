//! Errors about access tokens, in plain words.

use thiserror::Error;

/// Why an access token is refused. The text is meant for the person who issues the tokens, and contains nothing
/// secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenError {
    /// The request has no token.
    #[error("no access token: send `Authorization: Bearer <token>` or the query parameter `access_token`")]
    Missing,
    /// The `Authorization` header is not a bearer token.
    #[error("the Authorization header is not of the form `Bearer <token>`")]
    NotBearer,
    /// The token is longer than any valid token could be.
    #[error("the token is {length} bytes long, at most {limit} are accepted")]
    Oversized {
        /// Length of the token in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The token does not consist of three base64url parts.
    #[error("the token is not a JWT: {0}")]
    Malformed(&'static str),
    /// The token's header is not a valid JWT header.
    #[error("the token's header is not usable: {0}")]
    BadHeader(String),
    /// The token is signed with an algorithm that is not accepted.
    #[error("the token is signed with {found}, accepted is {accepted}")]
    Algorithm {
        /// Algorithm named in the header.
        found: String,
        /// Accepted algorithms, separated by commas.
        accepted: String,
    },
    /// The header demands critical extensions (`crit`), and none is supported. Also used for a `b64` header
    /// parameter.
    #[error("the token's header has `crit`: no critical extension is supported")]
    Critical,
    /// The token has no `iss`.
    #[error("the token has no `iss`: it must name the API key that signed it")]
    NoIssuer,
    /// `iss` names no configured API key.
    #[error("the token's API key (`iss`) is not known to this server")]
    UnknownKey,
    /// The token was signed with another secret, or was changed afterwards.
    #[error("the token's signature is wrong: it was signed with another secret, or changed")]
    BadSignature,
    /// The token's payload is not that of an access token.
    #[error("the token's claims are not usable: {0}")]
    BadClaims(String),
    /// The token has no `exp`.
    #[error("the token has no `exp`: it must say when it ends")]
    NoExpiry,
    /// The token has expired.
    #[error("the token expired {ago} seconds ago")]
    Expired {
        /// Seconds since it expired, without leeway.
        ago: u64,
    },
    /// The token is not valid yet.
    #[error("the token becomes valid in {seconds} seconds (`nbf`)")]
    NotYetValid {
        /// Seconds until it becomes valid, without leeway.
        seconds: u64,
    },
    /// The token lacks `video.roomJoin`.
    #[error("the token does not grant joining a room (`video.roomJoin`)")]
    JoinNotGranted,
    /// The token has no identity.
    #[error("the token names no participant: `sub` is the identity")]
    NoIdentity,
    /// The token names no room.
    #[error("the token names no room (`video.room`)")]
    NoRoom,
    /// A part of the token is too long.
    #[error("`{field}` is {length} bytes long, at most {limit} are accepted")]
    TooLong {
        /// Name of the part.
        field: &'static str,
        /// Length of the part in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

impl TokenError {
    /// HTTP status: 400 for a valid token that lacks an identity or a room, or has a part that is too long; otherwise
    /// 401.
    pub fn status(&self) -> u16 {
        match self {
            Self::NoIdentity | Self::NoRoom | Self::TooLong { .. } => 400,
            _ => 401,
        }
    }

    /// Short fixed error code for metrics and JSON responses.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "token_missing",
            Self::NotBearer => "token_not_bearer",
            Self::Oversized { .. } => "token_oversized",
            Self::Malformed(_) => "token_malformed",
            Self::BadHeader(_) => "token_header",
            Self::Algorithm { .. } => "token_algorithm",
            Self::Critical => "token_critical",
            Self::NoIssuer => "token_no_issuer",
            Self::UnknownKey => "token_unknown_key",
            Self::BadSignature => "token_signature",
            Self::BadClaims(_) => "token_claims",
            Self::NoExpiry => "token_no_expiry",
            Self::Expired { .. } => "token_expired",
            Self::NotYetValid { .. } => "token_not_yet_valid",
            Self::JoinNotGranted => "join_not_granted",
            Self::NoIdentity => "no_identity",
            Self::NoRoom => "no_room",
            Self::TooLong { .. } => "too_long",
        }
    }
}
