//! Flags of `anytime serve`. They override the environment, which overrides the file.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

/// Flags of `anytime serve`.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeFlags {
    /// Configuration file (YAML).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The configuration itself, as YAML text [env: ANYTIME_CONFIG, LIVEKIT_CONFIG].
    #[arg(long, value_name = "YAML")]
    pub config_body: Option<String>,
    /// API keys, one `name: secret` per line [env: ANYTIME_KEYS, LIVEKIT_KEYS].
    #[arg(long, value_name = "KEYS")]
    pub keys: Option<String>,
    /// File with API keys, one `name: secret` per line, that others cannot read [env: ANYTIME_KEY_FILE,
    /// LIVEKIT_KEY_FILE].
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Development mode: key `devkey`, secret `secret`, tokens for everybody, pages on loopback only.
    #[arg(long)]
    pub dev: bool,
    /// Address to listen on; may be given several times.
    #[arg(long, value_name = "IP")]
    pub bind: Vec<IpAddr>,
    /// Port for HTTP and WebSocket (default 7880, 0: any free port) [env: ANYTIME_PORT].
    #[arg(long)]
    pub port: Option<u16>,
    /// Address that clients are told to send media to [env: NODE_IP].
    #[arg(long, value_name = "IP")]
    pub node_ip: Vec<IpAddr>,
    /// UDP port of the first worker; worker i uses this port + i (default 7882, 0: any free ports) [env: UDP_PORT].
    #[arg(long)]
    pub udp_port: Option<u16>,
    /// Number of worker threads for media (default: one per core) [env: ANYTIME_WORKERS].
    #[arg(long)]
    pub workers: Option<usize>,
    /// Address on which metrics are served (default 127.0.0.1:6789, port 0: any free port).
    #[arg(long, value_name = "IP:PORT")]
    pub metrics_address: Option<SocketAddr>,
}
