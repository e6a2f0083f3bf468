//! Sections of the configuration, with their defaults.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Deserializer, Serialize};

use super::HumanDuration;
use crate::token::TokenLimits;

/// Logging.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct LoggingConfig {
    /// Level (`off`, `error`, `warn`, `info`, `debug`, `trace`) or filter (`info,signaling=debug`). A bare level
    /// applies to Anytime's own crates. Libraries log only errors, unless the filter names them: `info,rtc_dtls=warn`.
    pub level: String,
    /// Whether to log one JSON object per line.
    pub json: bool,
}

impl LoggingConfig {
    /// Translates `level` into a filter of `tracing`. Libraries are limited to errors, because at every join they warn
    /// about conditions that an operator cannot change, such as unknown handshake extensions.
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
/// Anytime's own crates.
const OWN: [&str; 4] = ["anytime", "signaling", "sfu", "sfu_engine"];

impl Default for LoggingConfig {
    fn default() -> Self {
        Self { level: "info".into(), json: false }
    }
}

/// Media transport and workers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct RtcConfig {
    /// UDP port of the first worker; worker i uses this port + i. With 0 the system chooses all ports.
    pub udp_port: u16,
    /// Addresses that clients are told to send media to. If empty, they are detected.
    #[serde(deserialize_with = "one_or_many")]
    pub node_ip: Vec<IpAddr>,
    /// Number of worker threads, at most 256; 0 means one per core.
    pub workers: usize,
    /// Whether each worker is pinned to its own core. Ignored if there are more workers than cores.
    pub pin_threads: bool,
    /// Number of members of one room that its home worker takes; later members go to the worker with the fewest
    /// participants.
    pub members_at_home: usize,
    /// Maximum number of datagrams in one GSO send, 1 to 64.
    pub send_train: usize,
    /// Receive buffer requested from the kernel per socket, in bytes. Without root privileges the kernel grants at most
    /// `net.core.rmem_max`.
    pub receive_buffer_bytes: usize,
    /// Send buffer requested from the kernel per socket, in bytes. Without root privileges the kernel grants at most
    /// `net.core.wmem_max`.
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

/// Defaults for rooms.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct RoomConfig {
    /// Whether joining a room that does not exist opens it.
    pub auto_create: bool,
    /// Seconds that a new room stays open if no participant joins.
    pub empty_timeout: u32,
    /// Seconds that a room stays open after the last participant left.
    pub departure_timeout: u32,
    /// Maximum number of participants in a room; 0 means unlimited.
    pub max_participants: u32,
    /// Playout delay that is sent to receivers of video.
    pub playout_delay: PlayoutDelayConfig,
}

/// Bounds of the delay between capture and display, sent to receivers that support the extension.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PlayoutDelayConfig {
    /// Whether the bounds are sent.
    pub enabled: bool,
    /// Minimum delay, in milliseconds.
    pub min: u32,
    /// Maximum delay, in milliseconds.
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

/// Published video.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct VideoConfig {
    /// Time without demand for a track after which its publisher is told to stop sending it.
    pub dynacast_pause_delay: HumanDuration,
}

impl Default for VideoConfig {
    fn default() -> Self {
        Self { dynacast_pause_delay: HumanDuration::from_secs(10) }
    }
}

/// Limits for sizes, tracks and connections.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitConfig {
    /// Maximum size of metadata, in bytes.
    pub max_metadata_size: usize,
    /// Maximum size of attributes, keys and values together, in bytes.
    pub max_attributes_size: usize,
    /// Maximum length of a room name, in bytes.
    pub max_room_name_length: usize,
    /// Maximum length of an identity, in bytes.
    pub max_participant_identity_length: usize,
    /// Maximum length of a display name, in bytes.
    pub max_participant_name_length: usize,
    /// Maximum number of tracks that one participant publishes at a time, 1 to 64.
    pub published_tracks: usize,
    /// Maximum number of tracks that one participant has announced and not yet published, 1 to 64.
    pub pending_tracks: usize,
    /// Number of audio tracks of one room that are forwarded at a time, the loudest ones; 0 means all.
    pub loudest_tracks: usize,
    /// Maximum number of media sections of one connection, and so of tracks that one participant receives at a time.
    pub media_sections: usize,
    /// Maximum number of open connections, WebSockets included.
    pub connections: usize,
    /// Maximum number of open connections from one address (IPv6: one /64), not counting those that have become
    /// sessions; 0 means unlimited.
    pub connections_per_ip: usize,
    /// Maximum time from the opening of a connection, or the last response on it, to the end of the next request's
    /// header.
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

/// Metrics listener.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct PrometheusConfig {
    /// Address to listen on.
    pub bind_address: IpAddr,
    /// Port to listen on; 0 lets the system choose.
    pub port: u16,
}

impl Default for PrometheusConfig {
    fn default() -> Self {
        Self { bind_address: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 6789 }
    }
}

/// The chat app's identity provider, which authenticates callers of the token endpoint.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct IdentityProviderConfig {
    /// Required `iss` claim of its tokens, compared exactly. Empty if there is no provider.
    pub issuer: String,
    /// Accepted audiences: the `aud` claim must contain one of them.
    #[serde(deserialize_with = "one_or_many")]
    pub audience: Vec<String>,
    /// URL of the provider's keys (a JWK set). Set either this or `jwks`.
    pub jwks_url: String,
    /// The provider's keys themselves (a JWK set). Set either this or `jwks_url`.
    pub jwks: Option<serde_json::Value>,
    /// Accepted signature algorithms; supported are RS256, ES256 and EdDSA.
    pub algorithms: Vec<String>,
    /// Claim that becomes the identity: a claim name, or a JSON pointer if it begins with `/`.
    pub identity_claim: String,
    /// Claim that becomes the display name.
    pub name_claim: String,
    /// Claim that lists the rooms that the caller may join, each a name or a prefix followed by `*`. Set either this or
    /// `authorization.url`.
    pub rooms_claim: String,
    /// The chat app's service that decides which rooms a caller may join.
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

/// The chat app's authorization service, which decides which rooms a caller may join.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthorizationConfig {
    /// URL that is asked by POST. Empty if there is no such service.
    pub url: String,
    /// Time to wait for a response; without one the caller gets no token.
    pub timeout: HumanDuration,
    /// Token that is sent to the service as `Authorization: Bearer`; empty for none.
    pub bearer_token: String,
}

impl Default for AuthorizationConfig {
    fn default() -> Self {
        Self { url: String::new(), timeout: HumanDuration::from_secs(3), bearer_token: String::new() }
    }
}

/// Settings of `POST /v1/token`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenEndpointConfig {
    /// Lifetime of issued tokens.
    pub valid_for: HumanDuration,
    /// Request fields that a caller may choose itself; others are ignored. The identity cannot be chosen.
    pub accept_from_request: Vec<RequestField>,
}

impl Default for TokenEndpointConfig {
    fn default() -> Self {
        Self { valid_for: HumanDuration::from_secs(6 * 3600), accept_from_request: Vec::new() }
    }
}

/// Field of a token request.
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
