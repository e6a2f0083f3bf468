//! What goes in at a shard's one door and comes out at the other.

use std::net::{IpAddr, SocketAddr};
use std::time::{Instant, SystemTime};

use sfu_protocol::{Command, Event};

use super::fabric::FabricMessage;
use crate::limits::Limits;
use crate::transmit::Transmit;

/// A shard's number within its process, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// What a shard is told when it is made.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Its own number.
    pub id: ShardId,
    /// How many there are in this process.
    pub shards: u16,
    /// The addresses of its own socket, as clients can reach them: its ICE host candidates.
    pub candidates: Vec<SocketAddr>,
    /// Seeds numbering, sids of streams and pacing. Keys and passwords come from the system's generator.
    pub rng_seed: u64,
    /// One moment in both clocks, for the NTP times in sender reports.
    pub clock: (Instant, SystemTime),
    /// Bounds.
    pub limits: Limits,
}

/// One thing that happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// A UDP payload arrived. It is decrypted in place.
    Datagram {
        /// From whom; an IPv4 address is given as such, never mapped into IPv6.
        source: SocketAddr,
        /// The local address that it was sent to, if the socket tells: answers leave from there.
        local: Option<IpAddr>,
        /// The payload.
        data: &'a mut [u8],
    },
    /// A signaling session asks for something.
    Command(Command),
    /// Another shard or node says something.
    Fabric(FabricMessage),
    /// The time asked for by [`Output::Timeout`] has come. Early calls are harmless.
    Timeout,
}

/// What the shard wants done.
#[derive(Debug)]
pub enum Output {
    /// Send the first `transmit.size` bytes of the buffer handed to `poll_output`.
    Transmit(Transmit),
    /// Tell the signaling service.
    Event(Event),
    /// Tell another shard of this process.
    Fabric {
        /// Which.
        to: ShardId,
        /// What.
        message: FabricMessage,
    },
    /// Nothing more for now; call again at this time, or after the next input.
    Timeout(Instant),
}
