//! Configuration of a media node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use sfu_engine::limits::Limits;

/// Settings of one media node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// Number of worker threads; 0 means one per core.
    pub workers: u16,
    /// Whether each worker is pinned to its own core. Ignored if there are more workers than cores.
    pub pin_threads: bool,
    /// Whether to bind and advertise only 127.0.0.1 and ::1, whatever the addresses below are. Firefox sends to
    /// neither.
    pub loopback: bool,
    /// IPv4 address to bind; `None` disables IPv4.
    pub bind_v4: Option<Ipv4Addr>,
    /// IPv6 address to bind; `None` disables IPv6. A machine without IPv6 is not an error.
    pub bind_v6: Option<Ipv6Addr>,
    /// UDP port of the first worker: worker `i` binds port `udp_port + i`. With 0 the system chooses all ports.
    pub udp_port: u16,
    /// Addresses under which clients reach this node. If empty, the bound addresses are advertised or, for wildcards,
    /// those of the default routes.
    pub node_ips: Vec<IpAddr>,
    /// Receive buffer requested from the kernel per socket, in bytes.
    pub receive_buffer_bytes: usize,
    /// Send buffer requested from the kernel per socket, in bytes.
    pub send_buffer_bytes: usize,
    /// Maximum number of datagrams in one GSO send, 1 to 64. Smaller values suit links whose shapers allow only small
    /// bursts.
    pub send_train: usize,
    /// Number of members of one room that its home worker takes; later members go to the least loaded worker.
    pub members_at_home: usize,
    /// Limits of the engine; not part of the serialized configuration.
    #[serde(skip)]
    pub limits: Limits,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            workers: 0,
            pin_threads: true,
            loopback: false,
            bind_v4: Some(Ipv4Addr::UNSPECIFIED),
            bind_v6: Some(Ipv6Addr::UNSPECIFIED),
            udp_port: 7882,
            node_ips: Vec::new(),
            receive_buffer_bytes: 8 * 1024 * 1024,
            send_buffer_bytes: 4 * 1024 * 1024,
            send_train: 64,
            members_at_home: 128,
            limits: Limits::default(),
        }
    }
}

impl NodeConfig {
    /// Number of workers to start: as configured, or one per core; never 0.
    pub fn worker_count(&self) -> u16 {
        if self.workers > 0 {
            return self.workers;
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        u16::try_from(cores).unwrap_or(u16::MAX)
    }

    /// IP addresses that every worker binds.
    pub(crate) fn bind_ips(&self) -> Vec<IpAddr> {
        if self.loopback {
            return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        let v4 = self.bind_v4.map(IpAddr::from);
        let v6 = self.bind_v6.map(IpAddr::from);
        v4.into_iter().chain(v6).collect()
    }
}
