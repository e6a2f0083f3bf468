//! One core's peers and rooms, behind two doors.

pub mod fabric;
pub mod io;

use std::time::{Duration, Instant};

pub use fabric::FabricMessage;
pub use io::{Input, Output, ShardConfig, ShardId, Transmit};

use crate::stats::Stats;

/// Owns its peers and rooms outright.
pub struct Shard {
    config: ShardConfig,
    stats: Stats,
}

impl Shard {
    /// An empty shard.
    pub fn new(config: ShardConfig, _now: Instant) -> Self {
        Self { config, stats: Stats::default() }
    }

    /// Something happened. Afterwards call [`poll_output`](Self::poll_output) until it answers
    /// [`Output::Timeout`]; several inputs may be handed in first.
    pub fn handle_input(&mut self, _now: Instant, _input: Input<'_>) {}

    /// What the shard wants done next. `buffer` is at least [`TRANSMIT_BUFFER`] bytes.
    pub fn poll_output(&mut self, now: Instant, _buffer: &mut [u8]) -> Output {
        Output::Timeout(now + Duration::from_secs(u64::from(self.config.id.0) + 1))
    }

    /// What it counted so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// For what the worker counts on its behalf: refused sends, full mailboxes.
    pub fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }
}

/// The shard that keeps a room's roster of record: the same on every shard of a process.
pub fn home_of(room: &sfu_protocol::RoomSid, shards: u16) -> ShardId {
    // FNV-1a: stable over processes and versions, which the standard library's hasher does not promise.
    let hash = room.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    ShardId((hash % u64::from(shards.max(1))) as u16)
}

/// Least size of the buffer handed to [`Shard::poll_output`]: the largest UDP send.
pub const TRANSMIT_BUFFER: usize = 65_535;
