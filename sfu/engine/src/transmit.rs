//! Instruction to send datagrams on a socket.

use std::net::{IpAddr, SocketAddr};

/// One send operation: one datagram, or several of equal size to the same destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// Address to send to.
    pub destination: SocketAddr,
    /// Local address to send from; `None` if the local address of the peer's last datagram is unknown.
    pub source: Option<IpAddr>,
    /// Number of bytes in the send buffer.
    pub size: usize,
    /// `Some(n)` if the buffer holds several datagrams of `n` bytes each, of which the last may be shorter (GSO).
    pub segment_size: Option<usize>,
}
