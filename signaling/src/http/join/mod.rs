//! What a client asks for when it joins, from either form of the join URL into one typed value.
//!
//! The newer form packs everything into the query parameter `join_request` ([`wrapped`]), the older one spreads it over
//! the query ([`query`]). The form, not the path, decides how many peer connections the client uses.

pub mod query;
mod user_agent;
mod wrapped;

use std::collections::BTreeMap;

use livekit_protocol::{AddTrackRequest, ClientInfo, ReconnectReason, SessionDescription, SyncState};
use thiserror::Error;

/// How many peer connections the client uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalMode {
    /// One for both directions (`join_request` present).
    Single,
    /// One to publish, one to receive (parameters in the query).
    Dual,
}

/// A client's wish to go on with an earlier session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The sid of that session; may be empty.
    pub participant_sid: String,
    /// Why it lost it.
    pub reason: ReconnectReason,
}

/// What a client asks for when it joins.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinParameters {
    /// One peer connection or two.
    pub mode: SignalMode,
    /// What the client says of itself; browser and system filled in from `User-Agent` where it is silent, the address
    /// from the socket.
    pub client_info: ClientInfo,
    /// Subscribe to everything that is published.
    pub auto_subscribe: bool,
    /// The same for data tracks.
    pub auto_subscribe_data_track: bool,
    /// The client will send `track_setting` by tile size.
    pub adaptive_stream: bool,
    /// The client copes with paused streams; `None`: it did not say.
    pub subscriber_allow_pause: Option<bool>,
    /// The client asks for full ICE.
    pub disable_ice_lite: bool,
    /// Replaces the token's metadata (needs `canUpdateOwnMetadata`); empty: does not.
    pub metadata: String,
    /// Added to the token's attributes (needs `canUpdateOwnMetadata`).
    pub attributes: BTreeMap<String, String>,
    /// Tracks that it will publish at once.
    pub add_track_requests: Vec<AddTrackRequest>,
    /// Its first offer.
    pub publisher_offer: Option<SessionDescription>,
    /// Set: go on with an earlier session instead of joining.
    pub resume: Option<Resume>,
    /// What it had before the reconnect.
    pub sync_state: Option<SyncState>,
    /// A second connection that only publishes; its identity gets this as suffix (`#value`).
    pub publish_only: Option<String>,
}

/// Why a join request is refused (HTTP 400). Names the parameter or field.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JoinError {
    /// The query string is not one.
    #[error("the query string is not usable: {0}")]
    Query(String),
    /// A parameter given more than once.
    #[error("query parameter `{0}` is given more than once")]
    Repeated(&'static str),
    /// A parameter that cannot be read.
    #[error("query parameter `{parameter}`: {reason}")]
    Parameter {
        /// Which.
        parameter: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Something is larger than it may be.
    #[error("`{field}` is larger than {limit} bytes")]
    TooLarge {
        /// What.
        field: &'static str,
        /// Its limit.
        limit: usize,
    },
    /// Not the base64url text that it should be.
    #[error("query parameter `join_request` is not base64url: {0}")]
    Base64(String),
    /// Compressed in a way that is not known here.
    #[error("`join_request.compression` is {0}; known are 0 (none) and 1 (gzip)")]
    Compression(i32),
    /// The compressed data is damaged.
    #[error("`join_request.join_request` is not a gzip stream: {0}")]
    Gzip(String),
    /// Not the protobuf message that it should be.
    #[error("`{field}` is not a valid message: {reason}")]
    Protobuf {
        /// Which message.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A field of the message has a value that makes no sense.
    #[error("`join_request.{field}`: {reason}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl JoinError {
    /// A short fixed word for counters.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Query(_) => "query",
            Self::Repeated(_) => "repeated",
            Self::Parameter { .. } => "parameter",
            Self::TooLarge { .. } => "too_large",
            Self::Base64(_) => "base64",
            Self::Compression(_) => "compression",
            Self::Gzip(_) => "gzip",
            Self::Protobuf { .. } => "protobuf",
            Self::Field { .. } => "field",
        }
    }
}
