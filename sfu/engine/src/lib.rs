//! The media engine: sans-IO, one [`shard::Shard`] per core.

pub mod limits;
pub mod media_packet;
pub mod rtp;
pub mod shard;
pub mod stats;
pub mod units;
