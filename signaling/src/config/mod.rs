//! Configuration from a YAML file, the environment and flags; flags win over the environment, which wins over the file.
//! Keys have LiveKit's names where LiveKit has the same setting. An unknown key is an error.

mod duration;
mod flags;
mod sections;
mod unknown;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

pub use duration::{DurationError, HumanDuration};
pub use flags::ServeFlags;
pub use sections::{
    AuthorizationConfig, IdentityProviderConfig, LimitConfig, LoggingConfig, PrometheusConfig, RequestField,
    RoomConfig, RtcConfig, TokenEndpointConfig, VideoConfig,
};

use crate::token::TokenLimits;
use crate::token::keys::{self, DEV_KEY, DEV_SECRET, KeyError, KeyStore};

/// Reason why the configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        error: std::io::Error,
    },
    /// The text is not YAML.
    #[error("configuration: {0}")]
    Parse(#[from] serde_norway::Error),
    /// A value has the wrong type.
    #[error("configuration: `{path}`: {error}")]
    Type {
        /// Path of the key, such as `rtc.workers`.
        path: String,
        /// Explanation, with the line.
        error: serde_norway::Error,
    },
    /// A key is unknown.
    #[error("configuration: unknown key `{path}`; did you mean `{nearest}`?")]
    UnknownKey {
        /// Path of the key, such as `rtc.workers`.
        path: String,
        /// Path of the most similar known key.
        nearest: String,
    },
    /// A value is out of range or malformed.
    #[error("configuration: `{key}`: {reason}")]
    Value {
        /// Configuration key or environment variable.
        key: &'static str,
        /// Explanation of the fault.
        reason: String,
    },
    /// The configuration is given both as a file and as text.
    #[error("give --config or --config-body (ANYTIME_CONFIG), not both")]
    TwoConfigs,
    /// `--dev` is used with an address that other machines can reach.
    #[error(
        "--dev hands out tokens to everybody, so it serves pages and tokens on loopback only; {0} is not loopback"
    )]
    DevBind(IpAddr),
    /// A key file is accessible to other users.
    #[error("key file {0} can be read by others; run `chmod 600 {0}`")]
    KeyFileOpen(PathBuf),
    /// The API keys are invalid.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// Configuration of the service.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Port for HTTP and WebSocket; 0 lets the system choose.
    pub port: u16,
    /// Addresses to listen on. If empty: all, or with `--dev` loopback.
    pub bind_addresses: Vec<IpAddr>,
    /// API keys: name to secret.
    pub keys: KeyPairs,
    /// File with further API keys; they replace keys of the same name.
    pub key_file: Option<PathBuf>,
    /// Development mode, as with `--dev`.
    pub development: bool,
    /// URL that clients are told to connect to (`wss://…`). If empty, it is derived from the `Host` header of the
    /// request.
    pub server_url: String,
    /// Level and format of log lines.
    pub logging: LoggingConfig,
    /// Media transport and workers.
    pub rtc: RtcConfig,
    /// Defaults for rooms.
    pub room: RoomConfig,
    /// Published video.
    pub video: VideoConfig,
    /// Limits for sizes, tracks and connections.
    pub limit: LimitConfig,
    /// Metrics listener.
    pub prometheus: PrometheusConfig,
    /// Identity provider whose users get tokens from `POST /v1/token`. If its issuer is empty, nobody gets one, except
    /// with `--dev`.
    pub identity_provider: IdentityProviderConfig,
    /// Settings of `POST /v1/token`.
    pub token_endpoint: TokenEndpointConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port: 7880,
            bind_addresses: Vec::new(),
            keys: KeyPairs::default(),
            key_file: None,
            development: false,
            server_url: String::new(),
            logging: LoggingConfig::default(),
            rtc: RtcConfig::default(),
            room: RoomConfig::default(),
            video: VideoConfig::default(),
            limit: LimitConfig::default(),
            prometheus: PrometheusConfig::default(),
            identity_provider: IdentityProviderConfig::default(),
            token_endpoint: TokenEndpointConfig::default(),
        }
    }
}

/// Pairs of API key name and secret, in the order of the configuration. Serialization leaves out the secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeyPairs(pub Vec<(String, String)>);

/// Result of loading the configuration.
pub struct Loaded {
    /// Configuration after all sources are applied.
    pub config: Config,
    /// Warnings for the operator.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads the file and the environment (through `env`), then applies `flags`.
    ///
    /// # Errors
    /// The first fault found, with the name of its key.
    pub fn load(flags: &ServeFlags, env: impl Fn(&str) -> Option<String>) -> Result<Loaded, ConfigError> {
        let first = |names: [&str; 2]| names.into_iter().find_map(|name| env(name).filter(|v| !v.is_empty()));
        let body = flags.config_body.clone().or_else(|| first(["ANYTIME_CONFIG", "LIVEKIT_CONFIG"]));
        let text = match (&flags.config, body) {
            (Some(_), Some(_)) => return Err(ConfigError::TwoConfigs),
            (Some(path), None) => read(path)?,
            (None, body) => body.unwrap_or_default(),
        };
        let (mut config, ignored) = Self::parse(&text)?;
        let warnings = ignored.iter().map(|key| format!("`{key}` has no effect in this version")).collect();
        config.apply_env(&env)?;
        config.apply_flags(flags);
        if let Some(lines) = flags.keys.clone().or_else(|| first(["ANYTIME_KEYS", "LIVEKIT_KEYS"])) {
            config.prefer_keys(keys::parse_keys(&lines)?);
        }
        config.key_file = flags
            .key_file
            .clone()
            .or_else(|| first(["ANYTIME_KEY_FILE", "LIVEKIT_KEY_FILE"]).map(PathBuf::from))
            .or(config.key_file);
        if let Some(path) = config.key_file.clone() {
            config.prefer_keys(keys::parse_keys(&read_secret(&path)?)?);
        }
        config.check()?;
        Ok(Loaded { config, warnings })
    }

    /// Parses YAML. Also returns the keys that are accepted but have no effect.
    fn parse(text: &str) -> Result<(Self, Vec<String>), ConfigError> {
        let given: serde_norway::Value = serde_norway::from_str(text)?;
        if given.is_null() {
            return Ok((Self::default(), Vec::new()));
        }
        let ignored = unknown::check(&given, &serde_norway::to_value(Self::default())?)?;
        // The text is parsed again, because errors of this parse name the line.
        let config =
            serde_norway::from_str(text).map_err(|error| match unknown::find_wrong_type(&given) {
                Some(path) => ConfigError::Type { path, error },
                None => ConfigError::Parse(error),
            })?;
        Ok((config, ignored))
    }

    fn apply_env(&mut self, env: &impl Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        number(env, "ANYTIME_PORT", &mut self.port)?;
        number(env, "UDP_PORT", &mut self.rtc.udp_port)?;
        for (name, value) in [
            ("ANYTIME_WORKERS", &mut self.rtc.workers),
            ("ANYTIME_MEMBERS_AT_HOME", &mut self.rtc.members_at_home),
            ("ANYTIME_SEND_TRAIN", &mut self.rtc.send_train),
            ("ANYTIME_RECEIVE_BUFFER_BYTES", &mut self.rtc.receive_buffer_bytes),
            ("ANYTIME_SEND_BUFFER_BYTES", &mut self.rtc.send_buffer_bytes),
            ("ANYTIME_PUBLISHED_TRACKS", &mut self.limit.published_tracks),
            ("ANYTIME_PENDING_TRACKS", &mut self.limit.pending_tracks),
            ("ANYTIME_LOUDEST_TRACKS", &mut self.limit.loudest_tracks),
            ("ANYTIME_MEDIA_SECTIONS", &mut self.limit.media_sections),
        ] {
            number(env, name, value)?;
        }
        if let Some(filter) = env("RUST_LOG").filter(|filter| !filter.is_empty()) {
            self.logging.level = filter;
        }
        if let Some(text) = env("NODE_IP").filter(|text| !text.is_empty()) {
            let addresses: Result<Vec<IpAddr>, _> = text.split(',').map(|ip| ip.trim().parse()).collect();
            self.rtc.node_ip = addresses.map_err(|_| ConfigError::Value {
                key: "NODE_IP",
                reason: format!("{text:?} is no IP address"),
            })?;
        }
        Ok(())
    }

    fn apply_flags(&mut self, flags: &ServeFlags) {
        self.development |= flags.dev;
        self.port = flags.port.unwrap_or(self.port);
        self.rtc.udp_port = flags.udp_port.unwrap_or(self.rtc.udp_port);
        self.rtc.workers = flags.workers.unwrap_or(self.rtc.workers);
        if !flags.bind.is_empty() {
            self.bind_addresses.clone_from(&flags.bind);
        }
        if !flags.node_ip.is_empty() {
            self.rtc.node_ip.clone_from(&flags.node_ip);
        }
        if let Some(address) = flags.metrics_address {
            self.prometheus = PrometheusConfig { bind_address: address.ip(), port: address.port() };
        }
    }

    /// Inserts `pairs` before the existing keys; they replace keys of the same name.
    fn prefer_keys(&mut self, mut pairs: Vec<(String, String)>) {
        let later = std::mem::take(&mut self.keys.0);
        let new: Vec<_> =
            later.into_iter().filter(|(name, _)| pairs.iter().all(|(other, _)| other != name)).collect();
        pairs.extend(new);
        self.keys.0 = pairs;
    }

    fn check(&mut self) -> Result<(), ConfigError> {
        if self.development {
            if let Some(open) = self.bind_addresses.iter().find(|ip| !ip.is_loopback()) {
                return Err(ConfigError::DevBind(*open));
            }
            if self.keys.0.is_empty() {
                self.keys.0.push((DEV_KEY.into(), DEV_SECRET.into()));
            }
        }
        if self.rtc.workers > 256 {
            return value_error("rtc.workers", "more than 256");
        }
        let buffer = 4096..=1 << 30;
        for (key, value, range) in [
            ("rtc.members_at_home", self.rtc.members_at_home, 1..=usize::MAX),
            ("rtc.send_train", self.rtc.send_train, 1..=64),
            ("rtc.receive_buffer_bytes", self.rtc.receive_buffer_bytes, buffer.clone()),
            ("rtc.send_buffer_bytes", self.rtc.send_buffer_bytes, buffer),
            ("limit.published_tracks", self.limit.published_tracks, 1..=MOST_TRACKS),
            ("limit.pending_tracks", self.limit.pending_tracks, 1..=MOST_TRACKS),
        ] {
            if !range.contains(&value) {
                let most = Some(range.end()).filter(|most| **most < usize::MAX);
                let upper = most.map_or_else(|| "more".to_owned(), usize::to_string);
                return value_error(key, &format!("{value} is not within {} to {upper}", range.start()));
            }
        }
        if self.rtc.node_ip.iter().any(IpAddr::is_unspecified) {
            return value_error("rtc.node_ip", "clients cannot send to the unspecified address");
        }
        if self.limit.connections == 0 {
            return value_error("limit.connections", "0 lets nobody in");
        }
        if self.limit.header_timeout.0.is_zero() {
            return value_error("limit.header_timeout", "0 lets nobody in");
        }
        if self.token_endpoint.valid_for.0.as_secs() == 0 {
            return value_error("token_endpoint.valid_for", "a token must live at least a second");
        }
        if !(self.server_url.is_empty()
            || ["ws://", "wss://", "http://", "https://"]
                .iter()
                .any(|scheme| self.server_url.starts_with(scheme)))
        {
            return value_error("server_url", "it must begin with wss:// or ws://");
        }
        self.key_store().map(|_| ())
    }

    /// Makes the key store from the configured API keys.
    ///
    /// # Errors
    /// There is no key, a key has no name or a repeated one or, outside development mode, a secret is too short.
    pub fn key_store(&self) -> Result<KeyStore, ConfigError> {
        let make = if self.development { KeyStore::with_any_secret } else { KeyStore::new };
        Ok(make(&self.keys.0)?)
    }

    /// Addresses on which HTTP and WebSocket listen; the port is `port`.
    pub fn listen_ips(&self) -> Vec<IpAddr> {
        if !self.bind_addresses.is_empty() {
            return self.bind_addresses.clone();
        }
        if self.development {
            return vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        }
        vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)]
    }

    /// Address and port of the metrics listener.
    pub fn metrics_address(&self) -> SocketAddr {
        SocketAddr::new(self.prometheus.bind_address, self.prometheus.port)
    }

    /// Maximum lengths of the parts of a token.
    pub fn token_limits(&self) -> TokenLimits {
        TokenLimits {
            identity: self.limit.max_participant_identity_length,
            name: self.limit.max_participant_name_length,
            room: self.limit.max_room_name_length,
            metadata: self.limit.max_metadata_size,
            attributes: self.limit.max_attributes_size,
        }
    }
}

/// Highest value allowed for `limit.published_tracks` and `limit.pending_tracks`.
const MOST_TRACKS: usize = 64;

fn value_error(key: &'static str, reason: &str) -> Result<(), ConfigError> {
    Err(ConfigError::Value { key, reason: reason.to_owned() })
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })
}

fn read_secret(path: &Path) -> Result<String, ConfigError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let metadata =
            std::fs::metadata(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        if metadata.permissions().mode() & 0o007 != 0 {
            return Err(ConfigError::KeyFileOpen(path.to_owned()));
        }
    }
    read(path)
}

/// Replaces `value` by the number in environment variable `key`, if that is set and not empty.
fn number<T: FromStr>(
    env: &impl Fn(&str) -> Option<String>,
    key: &'static str,
    value: &mut T,
) -> Result<(), ConfigError> {
    let Some(text) = env(key).filter(|text| !text.is_empty()) else { return Ok(()) };
    *value = text
        .trim()
        .parse()
        .map_err(|_| ConfigError::Value { key, reason: format!("{text:?} is no number that fits here") })?;
    Ok(())
}

impl Serialize for KeyPairs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Only names are serialized, so that a printed configuration never shows a secret.
        serializer.collect_map(self.0.iter().map(|(name, _)| (name, "…")))
    }
}

impl<'de> Deserialize<'de> for KeyPairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = KeyPairs;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map of `name: secret`")
            }

            fn visit_unit<E: de::Error>(self) -> Result<KeyPairs, E> {
                Ok(KeyPairs::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KeyPairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry::<String, String>()? {
                    pairs.push(pair);
                }
                Ok(KeyPairs(pairs))
            }
        }
        deserializer.deserialize_any(Pairs)
    }
}

#[cfg(test)]
mod tests;
