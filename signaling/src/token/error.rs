//! Why a token is refused, in plain words.

use thiserror::Error;

/// Why an access token is refused. The text is meant for the person who makes the tokens; nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenError {
    /// The request carries none.
    #[error("no access token: send `Authorization: Bearer <token>` or the query parameter `access_token`")]
    Missing,
    /// The `Authorization` header is not a bearer token.
    #[error("the Authorization header is not of the form `Bearer <token>`")]
    NotBearer,
    /// Longer than any token that could be valid.
    #[error("the token is {length} bytes long, at most {limit} are accepted")]
    Oversized {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// Not three base64url parts.
    #[error("the token is not a JWT: {0}")]
    Malformed(&'static str),
    /// The header is not what a JWT header is.
    #[error("the token's header is not usable: {0}")]
    BadHeader(String),
    /// Signed with an algorithm that is not accepted here.
    #[error("the token is signed with {found}, accepted is {accepted}")]
    Algorithm {
        /// What its header says.
        found: String,
        /// What is accepted.
        accepted: String,
    },
    /// The header demands extensions (`crit`), none of which is understood.
    #[error("the token's header has `crit`: no critical extension is supported")]
    Critical,
    /// No `iss`.
    #[error("the token has no `iss`: it must name the API key that signed it")]
    NoIssuer,
    /// `iss` names no configured key.
    #[error("the token's API key (`iss`) is not known to this server")]
    UnknownKey,
    /// Signed with another secret, or changed since.
    #[error("the token's signature is wrong: it was signed with another secret, or changed")]
    BadSignature,
    /// The payload is not what an access token's payload is.
    #[error("the token's claims are not usable: {0}")]
    BadClaims(String),
    /// No `exp`.
    #[error("the token has no `exp`: it must say when it ends")]
    NoExpiry,
    /// Its time is over.
    #[error("the token expired {ago} seconds ago")]
    Expired {
        /// How long ago, in seconds, leeway not counted.
        ago: u64,
    },
    /// Its time has not come.
    #[error("the token becomes valid in {seconds} seconds (`nbf`)")]
    NotYetValid {
        /// How long until then.
        seconds: u64,
    },
    /// No `video.roomJoin`.
    #[error("the token does not grant joining a room (`video.roomJoin`)")]
    JoinNotGranted,
    /// No identity.
    #[error("the token names no participant: `sub` is the identity")]
    NoIdentity,
    /// No room.
    #[error("the token names no room (`video.room`)")]
    NoRoom,
    /// A part is too long.
    #[error("`{field}` is {length} bytes long, at most {limit} are accepted")]
    TooLong {
        /// Which part.
        field: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

impl TokenError {
    /// The HTTP status: 400 for a good token that lacks identity or room or has too much of something, else 401.
    pub fn status(&self) -> u16 {
        match self {
            Self::NoIdentity | Self::NoRoom | Self::TooLong { .. } => 400,
            _ => 401,
        }
    }

    /// A short fixed word for counters and JSON answers.
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
