//! Access tokens of this service ([`verify`], [`issue`], [`keys`]) and those of the chat app's identity provider
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

/// What a verified token says: who its bearer is and what it may do.
#[derive(Debug, Clone, PartialEq)]
pub struct Grants {
    /// Who: unique in its room. Never empty after [`verify::verify_join`].
    pub identity: String,
    /// The name shown to others, may be empty.
    pub name: String,
    /// The app's own text about the participant.
    pub metadata: String,
    /// The app's own key-value pairs about the participant.
    pub attributes: BTreeMap<String, String>,
    /// Person, agent, …
    pub kind: Kind,
    /// More about the kind.
    pub kind_details: Vec<KindDetail>,
    /// The rights, as written in the token: absent stays distinct from false.
    pub video: VideoGrant,
    /// Name of a configured room preset, may be empty.
    pub room_preset: String,
    /// The token's `roomConfig`, raw protojson of `RoomConfiguration`.
    pub room_config: Option<serde_json::Value>,
    /// End of the token's life in unix seconds.
    pub expires_at: u64,
}

impl Grants {
    /// The room that the token is for; empty if it names none.
    pub fn room(&self) -> &str {
        self.video.room.as_deref().unwrap_or_default()
    }

    /// May publish tracks; true unless denied.
    pub fn can_publish(&self) -> bool {
        self.video.can_publish.unwrap_or(true)
    }

    /// May receive tracks; true unless denied.
    pub fn can_subscribe(&self) -> bool {
        self.video.can_subscribe.unwrap_or(true)
    }

    /// May send user data; as [`Grants::can_publish`] unless stated.
    pub fn can_publish_data(&self) -> bool {
        self.video.can_publish_data.unwrap_or(self.can_publish())
    }

    /// May publish from `source`; an empty list in the token allows all.
    pub fn can_publish_source(&self, source: TrackSource) -> bool {
        let named = || source != TrackSource::Unknown && self.sources().contains(&source);
        self.can_publish() && (self.video.can_publish_sources.is_empty() || named())
    }

    /// May change its own name, metadata and attributes; false unless granted.
    pub fn can_update_own_metadata(&self) -> bool {
        self.video.can_update_own_metadata.unwrap_or(false)
    }

    /// Not shown to others.
    pub fn hidden(&self) -> bool {
        self.video.hidden
    }

    /// The rights in the form that clients are told.
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

    /// The rights in the form that the media plane is told.
    pub fn media_permissions(&self) -> sfu_protocol::Permissions {
        sfu_protocol::Permissions {
            publish: self.can_publish(),
            subscribe: self.can_subscribe(),
            publish_data: self.can_publish_data(),
        }
    }

    /// A name that is not known stays, as [`TrackSource::Unknown`]: without it the list could be empty, and that means
    /// all.
    fn sources(&self) -> Vec<TrackSource> {
        let names = self.video.can_publish_sources.iter();
        names.map(|name| claims::source_by_name(name).unwrap_or(TrackSource::Unknown)).collect()
    }
}

/// Writes rights that may have changed during a call back into the form that tokens have.
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

/// How long the parts of a token may be, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenLimits {
    /// Identity.
    pub identity: usize,
    /// Display name.
    pub name: usize,
    /// Room name.
    pub room: usize,
    /// Metadata.
    pub metadata: usize,
    /// All attribute keys and values together.
    pub attributes: usize,
}

impl Default for TokenLimits {
    fn default() -> Self {
        Self { identity: 256, name: 256, room: 256, metadata: 64 * 1024, attributes: 64 * 1024 }
    }
}

impl TokenLimits {
    /// Checks what people can choose about a participant.
    ///
    /// # Errors
    /// [`TokenError::TooLong`] naming the first part that is too long.
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
