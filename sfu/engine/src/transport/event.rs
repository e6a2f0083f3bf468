//! What a transport tells its owner.

use bytes::Bytes;
use thiserror::Error;

use super::ice::Path;
use super::sctp::{ChannelId, SctpEvent};
use crate::rtp::packet::RtpHeader;
use crate::stats::Drop;
use crate::units::{ExtendedSequence, Ssrc};

/// What tells sources of RTP that belong to somebody from others. Nothing is kept of others.
pub trait Sources {
    /// Whether media of this source is taken now.
    fn knows(&self, ssrc: Ssrc) -> bool;

    /// Whether media of a source of which nothing has come yet would be taken. The packet's payload is still encrypted.
    fn expects(&self, header: &RtpHeader, packet: &[u8]) -> bool;
}

/// All sources are expected: for those who know whom they are talking to.
#[derive(Debug, Clone, Copy)]
pub struct AnySource;

impl Sources for AnySource {
    fn knows(&self, _: Ssrc) -> bool {
        true
    }

    fn expects(&self, _: &RtpHeader, _: &[u8]) -> bool {
        true
    }
}

/// What came of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// It was taken, and has nothing for the owner but events.
    Nothing,
    /// It was discarded.
    Ignored(Drop),
    /// Media: authentic, not seen before, decrypted.
    Rtp {
        /// Header as it was sent, payload in the clear, tag removed.
        packet: &'a mut [u8],
        /// Its header.
        header: RtpHeader,
        /// The packet's number past 16 bits.
        extended: ExtendedSequence,
    },
    /// A compound packet of reports and feedback: authentic, not seen before, decrypted.
    Rtcp {
        /// Index and tag removed.
        packet: &'a [u8],
    },
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportEvent {
    /// The handshake is complete and the keys are there.
    Connected,
    /// It is over, and was not meant to be.
    Failed(Failure),
    /// The peer said goodbye, and proved that it was the peer.
    Closed,
    /// The peer chose this path, the first time or instead of another.
    PathChanged {
        /// From now on media goes there.
        new: Path,
    },
    /// A data channel can be used: the peer's, or one of ours that the peer has confirmed.
    DataOpen {
        /// The channel.
        channel: ChannelId,
        /// Its label.
        label: String,
    },
    /// A user message.
    Data {
        /// The channel.
        channel: ChannelId,
        /// Not text.
        binary: bool,
        /// The message.
        payload: Bytes,
    },
    /// Messages were discarded: they are malformed, too long, or on no channel.
    DataDiscarded {
        /// How many.
        messages: u64,
    },
    /// A data channel is no more.
    DataClosed {
        /// The channel.
        channel: ChannelId,
    },
}

/// Why a transport failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failure {
    /// No authentic connectivity check within the limit.
    #[error("no connectivity check")]
    IceTimeout,
    /// No complete handshake within the limit.
    #[error("no handshake")]
    DtlsTimeout,
    /// The handshake cannot be completed.
    #[error("handshake: {0}")]
    Dtls(String),
    /// The peer has another certificate than the remote description announced.
    #[error("fingerprint mismatch")]
    FingerprintMismatch,
    /// No connectivity check for too long (RFC 7675 section 5.1).
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
