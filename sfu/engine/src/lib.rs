//! The media engine: sans-IO, one [`shard::Shard`] per core.
//!
//! A packet's journey: [`shard`] finds its peer, [`transport`] opens it, [`ingress`] makes a
//! [`media_packet::MediaPacket`] of it, [`shard`] forwards that to every subscriber's [`egress`], which selects,
//! rewrites, remembers and paces, and writes it protected into the send buffer.

pub mod bwe;
pub mod egress;
pub mod handles;
pub mod ingress;
pub mod limits;
pub mod media_packet;
pub mod packet_memory;
pub mod peer;
pub mod room;
pub mod rtp;
pub mod sdp;
pub mod shard;
pub mod stats;
pub mod transmit;
pub mod transport;
pub mod units;
