//! What a socket is asked to do.

use std::net::{IpAddr, SocketAddr};

/// One send, of one datagram or of a run of equal ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// To whom.
    pub destination: SocketAddr,
    /// From which local address, if the peer's last datagram told.
    pub source: Option<IpAddr>,
    /// Bytes in the buffer.
    pub size: usize,
    /// `Some(n)`: the buffer holds several datagrams of `n` bytes, the last of which may be shorter (GSO).
    pub segment_size: Option<usize>,
}
