//! The parts of the configuration, each with its defaults.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Deserializer, Serialize};

use super::HumanDuration;
use crate::token::TokenLimits;

/// Logs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct LoggingConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,signaling=debug`. A level alone is that of
    /// Anytime's own lines; of the libraries' only errors are written, unless one is named: `info,rtc_dtls=warn`.
    pub level: String,
    /// One JSON object a line.
    pub json: bool,
}

impl LoggingConfig {
    /// What `level` asks for, in the terms of `tracing`'s filters. Libraries warn of what an operator can do nothing
    /// about, such as extensions of a handshake that they do not know, and do so at every join.
    pub fn filter(&self) -> String {
        let directives = self.level.split(',').map(str::trim).map(|directive| {
            let level = directive.to_ascii_lowercase();
            if !LEVELS.contains(&level.as_str()) {
                return directive.to_owned();
            }
            let libraries = if level == "off" { "off" } else { "error" };
            let own = OWN.iter().map(|target| format!("{target}={level}"));
            std::iter::once(libraries.to_owned()).chain(own).collect::<Vec<_>>().join(",")
        });
        directives.collect::<Vec<_>>().join(",")
    }
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// The crates whose lines are Anytime's own.
const OWN: [&str; 4] = ["anytime", "signaling", "sfu", "sfu_engine"];

impl Default for LoggingConfig {
    fn default() -> Self {
        Self { level: "info".into(), json: false }
    }
}

/// Media.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct RtcConfig {
    /// First UDP port; worker i uses this + i. 0: any free.
    pub udp_port: u16,
    /// Addresses that clients are told to send media to; empty: found out.
    #[serde(deserialize_with = "one_or_many")]
    pub node_ip: Vec<IpAddr>,
    /// Worker threads, 0: one per core.
    pub workers: usize,
    /// Each worker on a core of its own, if there are as many cores.
    pub pin_threads: bool,
    /// Members of one room that share its home worker; later ones go to the worker with the fewest participants.
    pub members_at_home: usize,
    /// Most datagrams in one send to one participant, 1 to 64.
    pub send_train: usize,
    /// Receive buffer asked of the kernel per socket. It gives at most `net.core.rmem_max` to who is not root.
    pub receive_buffer_bytes: usize,
    /// Send buffer asked of the kernel per socket.
    pub send_buffer_bytes: usize,
}

impl Default for RtcConfig {
    fn default() -> Self {
        Self {
            udp_port: 7882,
            node_ip: Vec::new(),
            workers: 0,
            pin_threads: true,
            members_at_home: 128,
            send_train: 64,
            receive_buffer_bytes: 8 * 1024 * 1024,
            send_buffer_bytes: 4 * 1024 * 1024,
        }
    }
}

/// Rooms.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct RoomConfig {
    /// Joining a room that does not exist opens it.
    pub auto_create: bool,
    /// Seconds that a room stays open if nobody comes.
    pub empty_timeout: u32,
    /// Seconds that a room stays open after the last one left.
    pub departure_timeout: u32,
    /// Participants in a room, 0: any number.
    pub max_participants: u32,
    /// What receivers of pictures are told of the delay to play at.
    pub playout_delay: PlayoutDelayConfig,
}

/// Bounds of the delay between capture and display, told to receivers that understand it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PlayoutDelayConfig {
    /// Whether receivers are told anything.
    pub enabled: bool,
    /// The least, in milliseconds.
    pub min: u32,
    /// The greatest, in milliseconds.
    pub max: u32,
}

impl Default for RoomConfig {
    fn default() -> Self {
        Self {
            auto_create: true,
            empty_timeout: 300,
            departure_timeout: 20,
            max_participants: 0,
            playout_delay: PlayoutDelayConfig::default(),
        }
    }
}

/// Published pictures.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct VideoConfig {
    /// How long nobody must want a track before its publisher is told to send nothing.
    pub dynacast_pause_delay: HumanDuration,
}

impl Default for VideoConfig {
    fn default() -> Self {
        Self { dynacast_pause_delay: HumanDuration::from_secs(10) }
    }
}

/// Limits.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitConfig {
    /// Bytes of metadata.
    pub max_metadata_size: usize,
    /// Bytes of attributes, keys and values together.
    pub max_attributes_size: usize,
    /// Bytes of a room name.
    pub max_room_name_length: usize,
    /// Bytes of an identity.
    pub max_participant_identity_length: usize,
    /// Bytes of a display name.
    pub max_participant_name_length: usize,
    /// Tracks that one participant publishes at a time.
    pub published_tracks: usize,
    /// Tracks that one participant has announced and whose media has not come.
    pub pending_tracks: usize,
    /// Tracks of sound of one room that are sent at a time: the loudest; 0: all.
    pub loudest_tracks: usize,
    /// Media sections of one connection, and so the tracks that one participant receives at a time.
    pub media_sections: usize,
    /// Connections at once, WebSockets included.
    pub connections: usize,
    /// Connections of one address (IPv6: one /64) at once that have not become a session; 0: any number.
    pub connections_per_ip: usize,
    /// From the opening of a connection, or the last answer on it, to the end of a request's header.
    pub header_timeout: HumanDuration,
}

impl Default for LimitConfig {
    fn default() -> Self {
        let token = TokenLimits::default();
        Self {
            max_metadata_size: token.metadata,
            max_attributes_size: token.attributes,
            max_room_name_length: token.room,
            max_participant_identity_length: token.identity,
            max_participant_name_length: token.name,
            published_tracks: 32,
            pending_tracks: 20,
            loudest_tracks: 16,
            media_sections: 640,
            connections: 10_000,
            connections_per_ip: 256,
            header_timeout: HumanDuration::from_secs(5),
        }
    }
}

/// Metrics.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct PrometheusConfig {
    /// Where they are served.
    pub bind_address: IpAddr,
    /// Its port, 0: any free.
    pub port: u16,
}

impl Default for PrometheusConfig {
    fn default() -> Self {
        Self { bind_address: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 6789 }
    }
}

/// The chat app's identity provider: whose word is taken for who a caller is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct IdentityProviderConfig {
    /// `iss` of its tokens, exactly. Empty: there is no provider.
    pub issuer: String,
    /// One of these must be in `aud`.
    #[serde(deserialize_with = "one_or_many")]
    pub audience: Vec<String>,
    /// Where its keys are.
    pub jwks_url: String,
    /// Or the keys themselves (a JWK set).
    pub jwks: Option<serde_json::Value>,
    /// Accepted of RS256, ES256, EdDSA.
    pub algorithms: Vec<String>,
    /// The claim that becomes the identity. A name, or a JSON pointer if it begins with `/`.
    pub identity_claim: String,
    /// The claim that becomes the display name.
    pub name_claim: String,
    /// The claim that lists the rooms it may enter, each a name or a beginning followed by `*`.
    pub rooms_claim: String,
    /// Or whom to ask.
    pub authorization: AuthorizationConfig,
}

impl Default for IdentityProviderConfig {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: Vec::new(),
            jwks_url: String::new(),
            jwks: None,
            algorithms: ["RS256", "ES256", "EdDSA"].map(str::to_owned).to_vec(),
            identity_claim: "sub".into(),
            name_claim: "name".into(),
            rooms_claim: String::new(),
            authorization: AuthorizationConfig::default(),
        }
    }
}

/// The chat app's own decision about who may enter which room.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthorizationConfig {
    /// Asked by POST; empty: nobody is asked.
    pub url: String,
    /// No answer within this time is a refusal.
    pub timeout: HumanDuration,
    /// Sent as `Authorization: Bearer`, if set.
    pub bearer_token: String,
}

impl Default for AuthorizationConfig {
    fn default() -> Self {
        Self { url: String::new(), timeout: HumanDuration::from_secs(3), bearer_token: String::new() }
    }
}

/// `POST /v1/token`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenEndpointConfig {
    /// How long its tokens live.
    pub valid_for: HumanDuration,
    /// What a caller may choose for itself; the identity is never among it.
    pub accept_from_request: Vec<RequestField>,
}

impl Default for TokenEndpointConfig {
    fn default() -> Self {
        Self { valid_for: HumanDuration::from_secs(6 * 3600), accept_from_request: Vec::new() }
    }
}

/// A part of a token request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestField {
    /// `participant_name`.
    Name,
    /// `participant_metadata`.
    Metadata,
    /// `participant_attributes`.
    Attributes,
    /// `room_config`.
    RoomConfig,
}

fn one_or_many<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Raw<T> {
        Many(Vec<T>),
        One(T),
    }
    match Raw::deserialize(deserializer)? {
        Raw::One(one) => Ok(vec![one]),
        Raw::Many(many) => Ok(many),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_alone_is_that_of_our_own_lines() {
        let filter = |level: &str| LoggingConfig { level: level.into(), json: false }.filter();
        let own = |level: &str| format!("anytime={level},signaling={level},sfu={level},sfu_engine={level}");
        assert_eq!(filter("info"), format!("error,{}", own("info")));
        assert_eq!(filter("OFF"), format!("off,{}", own("off")));
        assert_eq!(filter("warn, rtc_dtls=warn"), format!("error,{},rtc_dtls=warn", own("warn")));
        assert_eq!(filter("signaling=debug"), "signaling=debug");
        assert_eq!(
            filter("sfu[join{a=1,b=2}]=trace,error"),
            format!("sfu[join{{a=1,b=2}}]=trace,error,{}", own("error"))
        );
    }
}
