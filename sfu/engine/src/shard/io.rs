//! Inputs, outputs and configuration of a shard.

use std::net::{IpAddr, SocketAddr};
use std::time::{Instant, SystemTime};

use sfu_protocol::{Command, Event};

use super::fabric::FabricMessage;
use crate::limits::Limits;
use crate::transmit::Transmit;

/// A shard's number within its process, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// Configuration of a shard.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Number of this shard.
    pub id: ShardId,
    /// Number of shards in this process.
    pub shards: u16,
    /// Addresses at which clients reach this shard's socket: its ICE host candidates.
    pub candidates: Vec<SocketAddr>,
    /// Seed for initial RTP sequence numbers and timestamps, SSRCs and SDP session ids. Keys and passwords come from
    /// the operating system's generator.
    pub rng_seed: u64,
    /// One moment as read from both clocks, for the NTP times in sender reports.
    pub clock: (Instant, SystemTime),
    /// Limits on what participants can cost.
    pub limits: Limits,
}

/// An input to the shard: something that happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// A UDP payload arrived. It is decrypted in place.
    Datagram {
        /// Source address. IPv4 addresses are never mapped into IPv6.
        source: SocketAddr,
        /// Local address to which the datagram was sent, if the socket reports it. Replies are sent from this address.
        local: Option<IpAddr>,
        /// UDP payload.
        data: &'a mut [u8],
    },
    /// A command from a signaling session.
    Command(Command),
    /// A message from another shard.
    Fabric(FabricMessage),
    /// The time requested by [`Output::Timeout`] has come. Early calls are harmless.
    Timeout,
}

/// An action for the caller to carry out.
#[derive(Debug)]
pub enum Output {
    /// Send the first `transmit.size` bytes of the buffer passed to `poll_output`.
    Transmit(Transmit),
    /// Pass the event to the signaling service.
    Event(Event),
    /// Pass a message to another shard of this process.
    Fabric {
        /// Receiving shard.
        to: ShardId,
        /// Message to pass on.
        message: FabricMessage,
    },
    /// Nothing more to do now. Pass [`Input::Timeout`] at this time, unless another input comes first.
    Timeout(Instant),
}
