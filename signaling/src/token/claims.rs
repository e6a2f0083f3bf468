//! The claims of an access token as they appear in its JSON. Names are case-sensitive. Unknown names are ignored; a
//! repeated name is an error.

use std::collections::BTreeMap;

use livekit_protocol::TrackSource;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Kind, KindDetail, object};

/// The `video` grant. An absent permission stays distinct from a denied one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VideoGrant {
    /// May create and delete rooms.
    #[serde(skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub room_create: bool,
    /// May list rooms.
    #[serde(skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub room_list: bool,
    /// May record.
    #[serde(skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub room_record: bool,
    /// May moderate `room`.
    #[serde(skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub room_admin: bool,
    /// May join `room`.
    #[serde(skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub room_join: bool,
    /// Name of the room to which `room_join` and `room_admin` apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// May publish tracks; true if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish: Option<bool>,
    /// May receive tracks; true if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_subscribe: Option<bool>,
    /// May send data; equals `can_publish` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish_data: Option<bool>,
    /// Sources that may be published; empty allows all. An unknown name allows nothing.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub can_publish_sources: Vec<String>,
    /// May change its own name, metadata and attributes; false if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_update_own_metadata: Option<bool>,
    /// May manage ingress.
    #[serde(skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub ingress_admin: bool,
    /// Invisible to others.
    #[serde(skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub hidden: bool,
    /// Marked as a recorder.
    #[serde(skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub recorder: bool,
    /// May register as an agent worker.
    #[serde(skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub agent: bool,
    /// May receive metrics of others; false if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_subscribe_metrics: Option<bool>,
    /// May control an agent's session; false if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_manage_agent_session: Option<bool>,
    /// Room to which participants may be moved or forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_room: Option<String>,
}

/// The token's entire payload.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Claims {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<NumericDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<NumericDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iat: Option<NumericDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "object::texts")]
    pub attributes: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind_details: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_preset: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_config: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "object::optional")]
    pub video: Option<VideoGrant>,
}

/// Date in a token (RFC 7519 section 2): seconds since 1970, possibly with a fraction.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct NumericDate(f64);

/// Last second of the year 9999. A larger value is a mistake, most often milliseconds.
const LATEST_DATE: f64 = 253_402_300_799.0;

impl NumericDate {
    /// Date of `seconds` since 1970, at most the last second of the year 9999.
    pub(super) fn from_seconds(seconds: u64) -> Self {
        Self((seconds as f64).min(LATEST_DATE))
    }

    /// Whole seconds, rounded down, so that a token never expires later than written.
    pub(super) fn floor(self) -> u64 {
        self.0.floor() as u64
    }

    /// Whole seconds, rounded up, so that a token never becomes valid earlier than written.
    pub(super) fn ceil(self) -> u64 {
        self.0.ceil() as u64
    }
}

/// Serialized in whole seconds: readers in typed languages fail on a fraction.
impl Serialize for NumericDate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.floor())
    }
}

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        if (0.0..=LATEST_DATE).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(de::Error::custom("a date must be seconds since 1970, not negative, before the year 10000"))
        }
    }
}

/// Source that `canPublishSources` in a token calls `name`, in any case.
pub(super) fn source_by_name(name: &str) -> Option<TrackSource> {
    match name.to_ascii_lowercase().as_str() {
        "camera" => Some(TrackSource::Camera),
        "microphone" => Some(TrackSource::Microphone),
        "screen_share" => Some(TrackSource::ScreenShare),
        "screen_share_audio" => Some(TrackSource::ScreenShareAudio),
        _ => None,
    }
}

/// Name of a source in a token.
pub(super) fn source_name(source: TrackSource) -> &'static str {
    match source {
        // Not left out: an empty list would allow all sources.
        TrackSource::Unknown => "unknown",
        TrackSource::Camera => "camera",
        TrackSource::Microphone => "microphone",
        TrackSource::ScreenShare => "screen_share",
        TrackSource::ScreenShareAudio => "screen_share_audio",
    }
}

/// Kind that a token calls `name`, in any case. An unknown kind becomes a standard participant, so that tokens of
/// newer issuers work; no permission depends on the kind.
pub(super) fn kind_by_name(name: &str) -> Kind {
    match name.to_ascii_lowercase().as_str() {
        "ingress" => Kind::Ingress,
        "egress" => Kind::Egress,
        "sip" => Kind::Sip,
        "agent" => Kind::Agent,
        "connector" => Kind::Connector,
        "bridge" => Kind::Bridge,
        _ => Kind::Standard,
    }
}

/// Name of a kind in a token; `None` for the standard kind, which is left out.
pub(super) fn kind_name(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Standard => None,
        Kind::Ingress => Some("ingress"),
        Kind::Egress => Some("egress"),
        Kind::Sip => Some("sip"),
        Kind::Agent => Some("agent"),
        Kind::Connector => Some("connector"),
        Kind::Bridge => Some("bridge"),
    }
}

/// Kind detail that a token calls `name`, in any case: issuers use both.
pub(super) fn kind_detail_by_name(name: &str) -> Option<KindDetail> {
    KindDetail::from_str_name(&name.to_ascii_uppercase())
}

/// Name of a kind detail in a token.
pub(super) fn kind_detail_name(detail: KindDetail) -> String {
    detail.as_str_name().to_ascii_lowercase()
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(de: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(de)?.unwrap_or_default())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if hands out a reference")]
fn is_false(value: &bool) -> bool {
    !value
}
