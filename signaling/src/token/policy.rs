//! Decides which rooms a caller may enter and with which permissions, either by a claim of its token or by asking the
//! chat app. The caller is refused whenever the answer is unclear.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::sync::Semaphore;

use super::idp::{Caller, claim};
use super::{VideoGrant, object};
use crate::config::{AuthorizationConfig, IdentityProviderConfig};

const MAX_ANSWER_BYTES: usize = 256 * 1024;
/// Most concurrent requests to the chat app. Callers beyond that are refused with status 503.
const MAX_QUESTIONS: usize = 64;

/// What a caller requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Wish {
    /// Name of the room.
    pub room: String,
    /// Display name; may be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Application-defined metadata; may be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub metadata: String,
    /// Application-defined attributes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Settings of the room, in protobuf JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_config: Option<Value>,
}

/// The decision on a request. Present fields replace what the caller requested.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Decision {
    allowed: Option<bool>,
    reason: Option<String>,
    #[serde(deserialize_with = "object::field")]
    grants: Rights,
    /// Display name that replaces the requested one.
    pub name: Option<String>,
    /// Metadata that replaces the requested one.
    pub metadata: Option<String>,
    /// Attributes that replace the requested ones.
    pub attributes: Option<BTreeMap<String, String>>,
    /// Room settings that replace the requested ones.
    pub room_config: Option<Map<String, Value>>,
}

/// Permissions that the chat app may set. A misspelt name is an error: ignoring it could grant too much.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Rights {
    can_publish: Option<bool>,
    can_subscribe: Option<bool>,
    can_publish_data: Option<bool>,
    can_publish_sources: Option<Vec<String>>,
    can_update_own_metadata: Option<bool>,
    can_subscribe_metrics: Option<bool>,
    hidden: Option<bool>,
    room_admin: Option<bool>,
}

/// Why a caller gets no token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// The caller may not enter this room.
    #[error("you may not enter room `{room}`{}", .reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    Denied {
        /// Name of the room.
        room: String,
        /// Reason given by the chat app.
        reason: Option<String>,
    },
    /// The chat app did not answer, or its answer was invalid.
    #[error("the chat app's authorization service could not be asked: {0}")]
    Unavailable(String),
}

impl PolicyError {
    /// HTTP status: 403 for a refusal, 503 if no decision was possible.
    pub fn status(&self) -> u16 {
        if matches!(self, Self::Denied { .. }) { 403 } else { 503 }
    }

    /// Short fixed error code for metrics and JSON responses.
    pub fn code(&self) -> &'static str {
        if matches!(self, Self::Denied { .. }) { "room_denied" } else { "authorization_unavailable" }
    }
}

/// An error in the configuration of the policy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyConfigError {
    /// Both sources of decisions are configured, or none.
    #[error("set exactly one of identity_provider.rooms_claim and identity_provider.authorization.url")]
    Choice,
    /// The URL is invalid.
    #[error("identity_provider.authorization.url: {0}")]
    Url(String),
}

/// How requests are decided.
pub enum Policy {
    /// A claim with this name lists the allowed rooms. Each entry is a room name, or a prefix followed by `*`.
    Claim(String),
    /// The chat app decides.
    Ask(Box<Authorizer>),
}

impl Policy {
    /// The configured policy.
    ///
    /// # Errors
    /// If not exactly one policy is configured, or its URL is invalid.
    pub fn new(config: &IdentityProviderConfig) -> Result<Self, PolicyConfigError> {
        match (config.rooms_claim.as_str(), config.authorization.url.as_str()) {
            ("", "") => Err(PolicyConfigError::Choice),
            (claim, "") => Ok(Self::Claim(claim.to_owned())),
            ("", _) => Ok(Self::Ask(Box::new(Authorizer::new(&config.authorization)?))),
            _ => Err(PolicyConfigError::Choice),
        }
    }

    /// Decides whether `caller` may have what it requests.
    ///
    /// # Errors
    /// If the caller is refused, or if no decision was possible.
    pub async fn decide(&self, caller: &Caller, wish: &Wish) -> Result<Decision, PolicyError> {
        match self {
            Self::Claim(rooms) if allows(claim(&caller.claims, rooms), &wish.room) => Ok(Decision::default()),
            Self::Claim(_) => Err(PolicyError::Denied { room: wish.room.clone(), reason: None }),
            Self::Ask(authorizer) => authorizer.ask(caller, wish).await,
        }
    }
}

impl Decision {
    /// Overwrites permissions in `video` with those that the decision contains.
    pub fn apply(&self, video: &mut VideoGrant) {
        let rights = &self.grants;
        let set = |target: &mut Option<bool>, value: Option<bool>| *target = value.or(*target);
        set(&mut video.can_publish, rights.can_publish);
        set(&mut video.can_subscribe, rights.can_subscribe);
        set(&mut video.can_publish_data, rights.can_publish_data);
        set(&mut video.can_update_own_metadata, rights.can_update_own_metadata);
        set(&mut video.can_subscribe_metrics, rights.can_subscribe_metrics);
        video.hidden = rights.hidden.unwrap_or(video.hidden);
        video.room_admin = rights.room_admin.unwrap_or(video.room_admin);
        if let Some(sources) = &rights.can_publish_sources {
            video.can_publish_sources.clone_from(sources);
        }
    }
}

fn allows(rooms: Option<&Value>, room: &str) -> bool {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(beginning) => room.starts_with(beginning),
        None => room == pattern,
    };
    match rooms {
        Some(Value::String(one)) => fits(one),
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).any(fits),
        _ => false,
    }
}

/// HTTP client for the chat app's authorization service.
pub struct Authorizer {
    url: String,
    secret: String,
    client: reqwest::Client,
    places: Semaphore,
}

#[derive(Serialize)]
struct Question<'a> {
    subject: &'a str,
    claims: &'a Map<String, Value>,
    #[serde(flatten)]
    wish: &'a Wish,
}

impl Authorizer {
    fn new(config: &AuthorizationConfig) -> Result<Self, PolicyConfigError> {
        let parsed =
            reqwest::Url::parse(&config.url).map_err(|error| PolicyConfigError::Url(error.to_string()))?;
        if !["http", "https"].contains(&parsed.scheme()) {
            return Err(PolicyConfigError::Url(format!("scheme {:?} is not http or https", parsed.scheme())));
        }
        let client = reqwest::Client::builder()
            .timeout(Duration::from(config.timeout))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent("anytime")
            .build()
            .map_err(|error| PolicyConfigError::Url(error.to_string()))?;
        Ok(Self {
            url: config.url.clone(),
            secret: config.bearer_token.clone(),
            client,
            places: Semaphore::new(MAX_QUESTIONS),
        })
    }

    async fn ask(&self, caller: &Caller, wish: &Wish) -> Result<Decision, PolicyError> {
        let result = self.question(caller, wish).await;
        if let Err(PolicyError::Unavailable(error)) = &result {
            tracing::warn!(url = self.url, error, "authorization not decided, caller refused");
        }
        result
    }

    async fn question(&self, caller: &Caller, wish: &Wish) -> Result<Decision, PolicyError> {
        let unavailable = |text: &str| PolicyError::Unavailable(text.to_owned());
        let failed = |error: reqwest::Error| PolicyError::Unavailable(error.without_url().to_string());
        let denied = |reason| PolicyError::Denied { room: wish.room.clone(), reason };
        let _place = self.places.try_acquire().map_err(|_| unavailable("too many questions at once"))?;
        let mut request = self.client.post(&self.url).json(&Question {
            subject: &caller.identity,
            claims: &caller.claims,
            wish,
        });
        if !self.secret.is_empty() {
            request = request.bearer_auth(&self.secret);
        }
        let mut response = request.send().await.map_err(failed)?;
        match response.status() {
            reqwest::StatusCode::OK => {}
            reqwest::StatusCode::FORBIDDEN => return Err(denied(None)),
            other => return Err(unavailable(&format!("HTTP status {}", other.as_u16()))),
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len().saturating_add(chunk.len()) > MAX_ANSWER_BYTES {
                return Err(unavailable("its answer is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        let decision: Decision =
            object::from_slice(&body).map_err(|error| PolicyError::Unavailable(error.to_string()))?;
        let sources = decision.grants.can_publish_sources.iter().flatten();
        if let Some(unknown) = sources.into_iter().find(|name| super::claims::source_by_name(name).is_none())
        {
            return Err(unavailable(&format!("canPublishSources names no source: {unknown:?}")));
        }
        match decision.allowed {
            Some(true) => Ok(decision),
            Some(false) => Err(denied(decision.reason)),
            None => Err(unavailable("its answer has no `allowed`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rooms_are_allowed_by_name_or_beginning() {
        let cases = [
            (json!(["a", "team-*"]), "a", true),
            (json!(["a", "team-*"]), "team-7", true),
            (json!(["a", "team-*"]), "team-", true),
            (json!(["a", "team-*"]), "team", false),
            (json!(["a", "team-*"]), "ab", false),
            (json!(["a", "team-*"]), "A", false),
            (json!(["a"]), "*", false),
            (json!(["*"]), "anything", true),
            (json!("a"), "a", true),
            (json!("a b"), "a", false),
            (json!([]), "a", false),
            (json!([1, null, { "a": 1 }]), "1", false),
            (json!({ "a": true }), "a", false),
            (json!(true), "true", false),
            (json!(null), "null", false),
        ];
        for (rooms, room, expected) in cases {
            assert_eq!(allows(Some(&rooms), room), expected, "{rooms} {room}");
        }
        assert!(!allows(None, "a"));
    }

    #[test]
    fn a_misspelt_right_is_an_error() {
        assert!(serde_json::from_value::<Decision>(json!({ "allowed": true, "grant": {} })).is_err());
        let misspelt = json!({ "allowed": true, "grants": { "canPublsh": false } });
        assert!(serde_json::from_value::<Decision>(misspelt).is_err());
        let room = json!({ "allowed": true, "grants": { "room": "other" } });
        assert!(serde_json::from_value::<Decision>(room).is_err());
    }

    #[test]
    fn decided_rights_replace_given_ones() {
        let answer = json!({ "allowed": true, "grants": { "canPublish": false, "hidden": true } });
        let decision: Decision = serde_json::from_value(answer).unwrap();
        let mut video = VideoGrant { room_join: true, can_subscribe: Some(true), ..VideoGrant::default() };
        decision.apply(&mut video);
        assert_eq!((video.can_publish, video.can_subscribe, video.hidden), (Some(false), Some(true), true));
        assert!(video.room_join && !video.room_admin);
    }
}
