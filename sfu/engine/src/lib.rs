//! The media engine of the SFU. It does no I/O: one [`shard::Shard`] per core is given datagrams, commands and the time, and
//! returns datagrams and events.
//!
//! The path of a packet: `shard` finds its peer, `transport` decrypts it, `ingress` turns it into a `MediaPacket`, `shard`
//! forwards that to the `egress` of every subscriber, which selects a layer, rewrites and paces the packet, and writes
//! it, encrypted, into the send buffer.
//!
//! The feature `internals` makes every module public, for tests, benchmarks and fuzz targets.

pub mod limits;
pub mod shard;
pub mod stats;

pub use transport::dtls::{Certificate, CertificateError};

#[cfg(not(feature = "internals"))]
mod bwe;
#[cfg(not(feature = "internals"))]
mod egress;
#[cfg(not(feature = "internals"))]
mod handles;
#[cfg(not(feature = "internals"))]
mod ingress;
#[cfg(not(feature = "internals"))]
mod media_packet;
#[cfg(not(feature = "internals"))]
mod packet_memory;
#[cfg(not(feature = "internals"))]
mod peer;
#[cfg(not(feature = "internals"))]
mod room;
#[cfg(not(feature = "internals"))]
mod rtp;
#[cfg(not(feature = "internals"))]
mod sdp;
#[cfg(not(feature = "internals"))]
mod transmit;
#[cfg(not(feature = "internals"))]
mod transport;
#[cfg(not(feature = "internals"))]
mod units;

#[cfg(feature = "internals")]
pub mod bwe;
#[cfg(feature = "internals")]
pub mod egress;
#[cfg(feature = "internals")]
pub mod handles;
#[cfg(feature = "internals")]
pub mod ingress;
#[cfg(feature = "internals")]
pub mod media_packet;
#[cfg(feature = "internals")]
pub mod packet_memory;
#[cfg(feature = "internals")]
pub mod peer;
#[cfg(feature = "internals")]
pub mod room;
#[cfg(feature = "internals")]
pub mod rtp;
#[cfg(feature = "internals")]
pub mod sdp;
#[cfg(feature = "internals")]
pub mod transmit;
#[cfg(feature = "internals")]
pub mod transport;
#[cfg(feature = "internals")]
pub mod units;
