//! The media engine: sans-IO, one `Shard` per core.

pub mod media_packet;
pub mod rtp;
pub mod units;
