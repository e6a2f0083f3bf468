//! Flags of `anytime serve`. They win over the environment, which wins over the file.

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
    /// API keys, a line `name: secret` each [env: ANYTIME_KEYS, LIVEKIT_KEYS].
    #[arg(long, value_name = "KEYS")]
    pub keys: Option<String>,
    /// File with such lines, readable by its owner only [env: ANYTIME_KEY_FILE, LIVEKIT_KEY_FILE].
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// For trying things out: key `devkey`, secret `secret`, tokens for everybody, pages on loopback only.
    #[arg(long)]
    pub dev: bool,
    /// Address to listen on; may be given several times.
    #[arg(long, value_name = "IP")]
    pub bind: Vec<IpAddr>,
    /// Port of HTTP and WebSocket (default 7880, 0: any free) [env: ANYTIME_PORT].
    #[arg(long)]
    pub port: Option<u16>,
    /// Address that clients are told to send media to [env: NODE_IP].
    #[arg(long, value_name = "IP")]
    pub node_ip: Vec<IpAddr>,
    /// First UDP port; worker i uses this + i (default 7882, 0: any free) [env: UDP_PORT].
    #[arg(long)]
    pub udp_port: Option<u16>,
    /// Worker threads for media (default: one per core).
    #[arg(long)]
    pub workers: Option<usize>,
    /// Where metrics are served (default 127.0.0.1:6789, port 0: any free).
    #[arg(long, value_name = "IP:PORT")]
    pub metrics_address: Option<SocketAddr>,
}
