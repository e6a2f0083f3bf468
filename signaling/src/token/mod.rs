//! Access tokens of this service ([`verify`], [`issue`], [`keys`]), and tokens of the chat app's identity provider
//! ([`idp`], [`policy`]).

mod claims;
mod clock;
mod error;
pub mod idp;
pub mod issue;
mod jwks;
mod jws;
pub mod keys;
pub(crate) mod object;
pub mod policy;
pub mod verify;

use std::collections::BTreeMap;

use livekit_protocol::{ParticipantPermission, TrackSource};

pub use claims::VideoGrant;
pub use clock::{Clock, Moment};
pub use error::TokenError;
pub use livekit_protocol::participant_info::{Kind, KindDetail};

/// Contents of a verified token: identity and permissions of its bearer.
#[derive(Debug, Clone, PartialEq)]
pub struct Grants {
    /// Identity of the participant, unique in its room. Never empty after [`verify::verify_join`].
    pub identity: String,
    /// Name shown to others; may be empty.
    pub name: String,
    /// Application-defined metadata of the participant; may be empty.
    pub metadata: String,
    /// Application-defined key-value pairs of the participant.
    pub attributes: BTreeMap<String, String>,
    /// Kind of participant: a person (standard), an agent, a recorder and so on.
    pub kind: Kind,
    /// Further details about the kind.
    pub kind_details: Vec<KindDetail>,
    /// Permissions as written in the token: an absent permission stays distinct from a denied one.
    pub video: VideoGrant,
    /// Name of a configured room preset; may be empty.
    pub room_preset: String,
    /// The token's `roomConfig`: protobuf JSON of a `RoomConfiguration`.
    pub room_config: Option<serde_json::Value>,
    /// When the token expires, in seconds since 1970.
    pub expires_at: u64,
}

impl Grants {
    /// Name of the room that the token is for; empty if it names none.
    pub fn room(&self) -> &str {
        self.video.room.as_deref().unwrap_or_default()
    }

    /// Whether the bearer may publish tracks; true unless denied.
    pub fn can_publish(&self) -> bool {
        self.video.can_publish.unwrap_or(true)
    }

    /// Whether the bearer may receive tracks; true unless denied.
    pub fn can_subscribe(&self) -> bool {
        self.video.can_subscribe.unwrap_or(true)
    }

    /// Whether the bearer may send user data; equals [`Grants::can_publish`] unless the token says otherwise.
    pub fn can_publish_data(&self) -> bool {
        self.video.can_publish_data.unwrap_or(self.can_publish())
    }

    /// Whether the bearer may publish from `source`; an empty list in the token allows all sources.
    pub fn can_publish_source(&self, source: TrackSource) -> bool {
        let named = || source != TrackSource::Unknown && self.sources().contains(&source);
        self.can_publish() && (self.video.can_publish_sources.is_empty() || named())
    }

    /// Whether the bearer may change its own name, metadata and attributes; false unless granted.
    pub fn can_update_own_metadata(&self) -> bool {
        self.video.can_update_own_metadata.unwrap_or(false)
    }

    /// Whether the participant is invisible to others.
    pub fn hidden(&self) -> bool {
        self.video.hidden
    }

    /// Permissions as sent to clients.
    pub fn permission(&self) -> ParticipantPermission {
        #[expect(deprecated, reason = "older clients still read these two fields")]
        ParticipantPermission {
            can_subscribe: self.can_subscribe(),
            can_publish: self.can_publish(),
            can_publish_data: self.can_publish_data(),
            can_publish_sources: self.sources().into_iter().map(|source| source as i32).collect(),
            hidden: self.hidden(),
            recorder: self.video.recorder,
            can_update_metadata: self.can_update_own_metadata(),
            agent: self.video.agent || self.kind == Kind::Agent,
            can_subscribe_metrics: self.video.can_subscribe_metrics.unwrap_or(false),
            can_manage_agent_session: self.video.can_manage_agent_session.unwrap_or(false),
        }
    }

    /// Permissions as sent to the media plane.
    pub fn media_permissions(&self) -> sfu_protocol::Permissions {
        sfu_protocol::Permissions {
            publish: self.can_publish(),
            subscribe: self.can_subscribe(),
            publish_data: self.can_publish_data(),
        }
    }

    /// The token's list of sources. An unknown name becomes [`TrackSource::Unknown`] instead of being left out: an
    /// empty list would allow all sources.
    fn sources(&self) -> Vec<TrackSource> {
        let names = self.video.can_publish_sources.iter();
        names.map(|name| claims::source_by_name(name).unwrap_or(TrackSource::Unknown)).collect()
    }
}

/// Writes permissions that may have changed during a call into the grant of a token.
pub fn claims_from_permission(video: &mut VideoGrant, permission: &ParticipantPermission) {
    video.can_publish = Some(permission.can_publish);
    video.can_subscribe = Some(permission.can_subscribe);
    video.can_publish_data = Some(permission.can_publish_data);
    video.can_update_own_metadata = Some(permission.can_update_metadata);
    video.can_subscribe_metrics = Some(permission.can_subscribe_metrics);
    video.can_manage_agent_session = Some(permission.can_manage_agent_session);
    video.hidden = permission.hidden;
    let sources = permission.can_publish_sources.iter();
    let sources = sources.map(|&source| TrackSource::try_from(source).unwrap_or(TrackSource::Unknown));
    video.can_publish_sources = sources.map(|source| claims::source_name(source).to_owned()).collect();
}

/// Longest accepted parts of a token, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenLimits {
    /// Longest identity.
    pub identity: usize,
    /// Longest display name.
    pub name: usize,
    /// Longest room name.
    pub room: usize,
    /// Longest metadata.
    pub metadata: usize,
    /// Longest sum of all attribute keys and values.
    pub attributes: usize,
}

impl Default for TokenLimits {
    fn default() -> Self {
        Self { identity: 256, name: 256, room: 256, metadata: 64 * 1024, attributes: 64 * 1024 }
    }
}

impl TokenLimits {
    /// Checks the parts that users may choose themselves.
    ///
    /// # Errors
    /// [`TokenError::TooLong`] with the first part that is too long.
    pub fn check(
        &self,
        name: &str,
        metadata: &str,
        attributes: &BTreeMap<String, String>,
    ) -> Result<(), TokenError> {
        let sum = attributes.iter().map(|(key, value)| key.len().saturating_add(value.len())).sum();
        within("name", name.len(), self.name)?;
        within("metadata", metadata.len(), self.metadata)?;
        within("attributes", sum, self.attributes)
    }
}

fn within(field: &'static str, length: usize, limit: usize) -> Result<(), TokenError> {
    if length > limit { Err(TokenError::TooLong { field, length, limit }) } else { Ok(()) }
}
