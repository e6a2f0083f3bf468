//! Parses the join URL, in either of its two forms, into [`JoinParameters`].
//!
//! The newer form packs everything into the query parameter `join_request` (`wrapped`). The older form uses one query
//! parameter per setting ([`query`]). The form, not the path, decides how many peer connections the client uses.

pub mod query;
mod user_agent;
mod wrapped;

use std::collections::BTreeMap;

use livekit_protocol::{AddTrackRequest, ClientInfo, ReconnectReason, SessionDescription, SyncState};
use thiserror::Error;

/// Number of peer connections that the client uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalMode {
    /// One connection for both directions (`join_request` is present).
    Single,
    /// One connection for publishing and one for receiving (older form).
    Dual,
}

/// Request to resume an earlier session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// Participant sid of that session; may be empty.
    pub participant_sid: String,
    /// Reason why the client lost its connection.
    pub reason: ReconnectReason,
}

/// Parameters of a join request.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinParameters {
    /// Number of peer connections.
    pub mode: SignalMode,
    /// Description of the client. Missing browser and operating system are filled in from `User-Agent`, the address
    /// from the socket.
    pub client_info: ClientInfo,
    /// Whether to subscribe to every published track.
    pub auto_subscribe: bool,
    /// Whether to subscribe to every published data track.
    pub auto_subscribe_data_track: bool,
    /// Whether the client will send `track_setting` messages with its tile sizes.
    pub adaptive_stream: bool,
    /// Whether the client allows the server to pause streams; `None` if the client does not say.
    pub subscriber_allow_pause: Option<bool>,
    /// Whether the client asks for full ICE instead of ICE lite.
    pub disable_ice_lite: bool,
    /// Metadata that replaces the token's (needs `canUpdateOwnMetadata`); empty if it is not replaced.
    pub metadata: String,
    /// Attributes that are added to the token's (needs `canUpdateOwnMetadata`).
    pub attributes: BTreeMap<String, String>,
    /// Tracks that the client publishes at once.
    pub add_track_requests: Vec<AddTrackRequest>,
    /// First offer of the client.
    pub publisher_offer: Option<SessionDescription>,
    /// Earlier session to resume; absent for a new join.
    pub resume: Option<Resume>,
    /// State of the client before it reconnected.
    pub sync_state: Option<SyncState>,
    /// Present if this is a second connection that only publishes. The value, as `#value`, is appended to its identity.
    pub publish_only: Option<String>,
}

/// Reason why a join request is refused (HTTP 400); the message names the parameter or field.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JoinError {
    /// The query string cannot be parsed.
    #[error("the query string is not usable: {0}")]
    Query(String),
    /// A parameter is given more than once.
    #[error("query parameter `{0}` is given more than once")]
    Repeated(&'static str),
    /// A parameter has an invalid value.
    #[error("query parameter `{parameter}`: {reason}")]
    Parameter {
        /// Name of the parameter.
        parameter: &'static str,
        /// Explanation of the fault.
        reason: String,
    },
    /// A field exceeds its maximum size.
    #[error("`{field}` is larger than {limit} bytes")]
    TooLarge {
        /// Name of the field.
        field: &'static str,
        /// Maximum size, in bytes.
        limit: usize,
    },
    /// `join_request` is not valid base64url.
    #[error("query parameter `join_request` is not base64url: {0}")]
    Base64(String),
    /// The compression method is unknown.
    #[error("`join_request.compression` is {0}; known are 0 (none) and 1 (gzip)")]
    Compression(i32),
    /// The compressed data is not valid gzip.
    #[error("`join_request.join_request` is not a gzip stream: {0}")]
    Gzip(String),
    /// A protobuf message cannot be decoded.
    #[error("`{field}` is not a valid message: {reason}")]
    Protobuf {
        /// Name of the message.
        field: &'static str,
        /// Explanation of the fault.
        reason: String,
    },
    /// A field of the message has an invalid value.
    #[error("`join_request.{field}`: {reason}")]
    Field {
        /// Path of the field within the join request.
        field: &'static str,
        /// Explanation of the fault.
        reason: &'static str,
    },
}

impl JoinError {
    /// Short fixed word for the label of a counter.
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
