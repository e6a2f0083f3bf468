//! Events and results that a transport reports to its owner.

use bytes::Bytes;
use thiserror::Error;

use super::ice::Path;
use super::sctp::{ChannelId, SctpEvent};
use crate::rtp::packet::RtpHeader;
use crate::stats::Drop;
use crate::units::{ExtendedSequence, Ssrc};

/// Decides which RTP sources are known or expected. No state is created for other sources.
pub trait Sources {
    /// Whether a live stream uses this source now.
    fn knows(&self, ssrc: Ssrc) -> bool;

    /// Whether the first packet of a new source would be accepted. The payload of `packet` is still encrypted.
    fn expects(&self, header: &RtpHeader, packet: &[u8]) -> bool;
}

/// Accepts all sources; for callers that trust the peer.
#[cfg(any(test, feature = "internals"))]
#[derive(Debug, Clone, Copy)]
pub struct AnySource;

#[cfg(any(test, feature = "internals"))]
impl Sources for AnySource {
    fn knows(&self, _: Ssrc) -> bool {
        true
    }

    fn expects(&self, _: &RtpHeader, _: &[u8]) -> bool {
        true
    }
}

/// Result of handling a datagram.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// The datagram was accepted. It has no result other than events.
    Nothing,
    /// The datagram was discarded, for this reason.
    Ignored(Drop),
    /// An RTP packet: authentic, not seen before, decrypted.
    Rtp {
        /// Packet with its header as sent, payload decrypted, tag removed.
        packet: &'a mut [u8],
        /// Parsed header of the packet.
        header: RtpHeader,
        /// Sequence number, extended beyond 16 bits.
        extended: ExtendedSequence,
    },
    /// A compound RTCP packet: authentic, not seen before, decrypted.
    Rtcp {
        /// Packet with SRTCP index and tag removed.
        packet: &'a [u8],
    },
}

/// An event of a transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportEvent {
    /// The DTLS handshake is complete.
    Connected,
    /// The transport has ended because of a failure.
    Failed(Failure),
    /// The peer closed the connection with an authentic DTLS alert.
    Closed,
    /// The peer selected its first path, or another one than before.
    PathChanged {
        /// Path on which media is sent from now on.
        new: Path,
    },
    /// A data channel is open: one that the peer opened, or a local one that the peer has confirmed.
    DataOpen {
        /// Channel that is open.
        channel: ChannelId,
        /// Label of the channel, which may be empty.
        label: String,
    },
    /// A user message arrived.
    Data {
        /// Channel on which the message arrived.
        channel: ChannelId,
        /// Whether the message is binary instead of text.
        binary: bool,
        /// Content of the message.
        payload: Bytes,
    },
    /// Messages were discarded because they are malformed, too long, or on no channel.
    DataDiscarded {
        /// Number of messages discarded.
        messages: u64,
    },
    /// A data channel has closed.
    DataClosed {
        /// Channel that has closed.
        channel: ChannelId,
    },
}

/// Reason that a transport failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failure {
    /// No authentic connectivity check arrived within the time limit.
    #[error("no connectivity check")]
    IceTimeout,
    /// The DTLS handshake did not complete within the time limit.
    #[error("no handshake")]
    DtlsTimeout,
    /// The DTLS handshake cannot be completed, for this reason.
    #[error("handshake: {0}")]
    Dtls(String),
    /// The peer's certificate is not the one that the remote description announced.
    #[error("fingerprint mismatch")]
    FingerprintMismatch,
    /// No authentic connectivity check arrived for too long (RFC 7675 section 5.1).
    #[error("consent expired")]
    ConsentExpired,
}

impl From<SctpEvent> for TransportEvent {
    fn from(event: SctpEvent) -> Self {
        match event {
            SctpEvent::Open { channel, label } => Self::DataOpen { channel, label },
            SctpEvent::Message { channel, binary, payload } => Self::Data { channel, binary, payload },
            SctpEvent::Closed { channel } => Self::DataClosed { channel },
        }
    }
}
