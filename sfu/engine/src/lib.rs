//! The media engine: sans-IO, one [`shard::Shard`] per core.
//!
//! Path of a packet: [`shard`] finds its peer, [`transport`] decrypts it, and [`ingress`] turns it into a
//! [`media_packet::MediaPacket`]. [`shard`] forwards that to each subscriber's [`egress`], which selects packets,
//! rewrites their headers, logs them for retransmission, paces them, and encrypts them into the send buffer.

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
