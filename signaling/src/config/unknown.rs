//! Finds unknown keys in a configuration, and suggests the most similar known key. Also finds the key whose value has
//! the wrong type.

use serde_norway::{Mapping, Value};

use super::{Config, ConfigError};

/// Keys below which any key is allowed.
const FREE: [&str; 2] = ["keys", "identity_provider.jwks"];

/// Keys of LiveKit's configuration that have no effect in this version. They are accepted, so that an existing file
/// works, and reported in a warning, so that nobody relies on them.
const UNSUPPORTED: [&str; 51] = [
    "log_level",
    "region",
    "redis",
    "turn",
    "webhook",
    "node_selector",
    "signal_relay",
    "agents",
    "ingress",
    "sip",
    "audio",
    "video.stream_tracker_manager",
    "video.codec_regression_threshold",
    "debug_handler_port",
    "api",
    "psrpc",
    "metric",
    "trace",
    "key_provider",
    "rtc.port_range_start",
    "rtc.port_range_end",
    "rtc.tcp_port",
    "rtc.use_external_ip",
    "rtc.use_ice_lite",
    "rtc.stun_servers",
    "rtc.turn_servers",
    "rtc.congestion_control",
    "rtc.allow_tcp_fallback",
    "rtc.interfaces",
    "rtc.ips",
    "rtc.pli_throttle",
    "rtc.packet_buffer_size_video",
    "rtc.packet_buffer_size_audio",
    "rtc.enable_loopback_candidate",
    "rtc.strict_acks",
    "rtc.batch_io",
    "rtc.external_ip_only",
    "room.enabled_codecs",
    "room.enable_remote_unmute",
    "room.sync_streams",
    "room.room_configurations",
    "logging.sample",
    "logging.pion_level",
    "logging.component_levels",
    "limit.num_tracks",
    "limit.bytes_per_sec",
    "limit.subscription_limit_video",
    "limit.subscription_limit_audio",
    "prometheus.username",
    "prometheus.password",
    "prometheus_port",
];

/// Checks the keys of `given` against those of `known`, a configuration that has every key.
///
/// Returns the keys that are accepted but have no effect.
///
/// # Errors
/// [`ConfigError::UnknownKey`] for the first unknown key.
pub(super) fn check(given: &Value, known: &Value) -> Result<Vec<String>, ConfigError> {
    let mut paths = Vec::new();
    collect(known, "", &mut paths);
    let mut ignored = Vec::new();
    walk(given, known, "", &paths, &mut ignored)?;
    Ok(ignored)
}

/// Path of the first value that cannot be deserialized into a [`Config`]. It is found by trying each value alone.
pub(super) fn find_wrong_type(given: &Value) -> Option<String> {
    let mut values = Vec::new();
    leaves(given, &mut Vec::new(), &mut values);
    let wrong = values.into_iter().find(|(path, value)| {
        let alone = path.iter().rev().fold((*value).clone(), |inner, key| {
            Value::Mapping(Mapping::from_iter([(Value::String(key.clone()), inner)]))
        });
        serde_norway::from_value::<Config>(alone).is_err()
    });
    wrong.map(|(path, _)| path.join("."))
}

fn leaves<'a>(value: &'a Value, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, &'a Value)>) {
    match value {
        Value::Mapping(mapping) if !FREE.contains(&path.join(".").as_str()) => {
            for (key, below) in mapping {
                path.push(key.as_str().unwrap_or_default().to_owned());
                leaves(below, path, found);
                path.pop();
            }
        }
        _ => found.push((path.clone(), value)),
    }
}

fn walk(
    given: &Value,
    known: &Value,
    prefix: &str,
    paths: &[String],
    ignored: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let (Value::Mapping(given), Value::Mapping(known)) = (given, known) else {
        return Ok(());
    };
    for (key, value) in given {
        let name = key.as_str().map_or_else(|| format!("{key:?}"), str::to_owned);
        let path = join(prefix, &name);
        match known.get(key) {
            Some(_) if FREE.contains(&path.as_str()) => {}
            Some(below) => walk(value, below, &path, paths, ignored)?,
            None if UNSUPPORTED.contains(&path.as_str()) => ignored.push(path),
            None => return Err(ConfigError::UnknownKey { nearest: nearest(&path, paths), path }),
        }
    }
    Ok(())
}

fn collect(value: &Value, prefix: &str, paths: &mut Vec<String>) {
    let Value::Mapping(mapping) = value else { return };
    for (key, below) in mapping {
        if let Some(name) = key.as_str() {
            let path = join(prefix, name);
            collect(below, &path, paths);
            paths.push(path);
        }
    }
}

/// Most similar known path. Differences in the last name count double, so that a correct name in the wrong section is
/// found.
fn nearest(path: &str, paths: &[String]) -> String {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let (wanted, parent) = (last(path), parent(path));
    let distance = |known: &String| {
        let elsewhere = usize::from(self::parent(known) != parent);
        strsim::damerau_levenshtein(&last(known), &wanted).saturating_mul(2).saturating_add(elsewhere)
    };
    paths.iter().min_by_key(|known| distance(known)).cloned().unwrap_or_default()
}

fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}
