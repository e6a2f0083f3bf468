//! Data channel establishment (DCEP, RFC 8832).

use bytes::{Bytes, BytesMut};
use rtc_datachannel::message::Message;
use rtc_datachannel::message::message_channel_ack::DataChannelAck;
use rtc_datachannel::message::message_channel_open::{CHANNEL_PRIORITY_NORMAL, ChannelType, DataChannelOpen};
use rtc_sctp::ReliabilityType;
use rtc_shared::marshal::{Marshal, Unmarshal};

/// Identifies a data channel of one peer, opened by either end. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub(super) u32);

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) id: ChannelId,
    /// SCTP stream number; `None` until the association is established.
    pub(super) stream: Option<u16>,
    pub(super) label: String,
    pub(super) reliability: Reliability,
    /// Whether the channel is open at both ends.
    pub(super) open: bool,
}

/// Ordering and reliability of a channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reliability {
    pub(super) ordered: bool,
    pub(super) kind: ReliabilityType,
    /// Maximum retransmissions or lifetime in milliseconds, depending on `kind`.
    pub(super) value: u32,
}

impl Reliability {
    /// Fully reliable, or with messages given up after `max_retransmits` retransmissions.
    pub(super) fn new(ordered: bool, max_retransmits: Option<u16>) -> Self {
        let kind =
            if max_retransmits.is_some() { ReliabilityType::Rexmit } else { ReliabilityType::Reliable };
        Self { ordered, kind, value: u32::from(max_retransmits.unwrap_or_default()) }
    }

    /// Whether the channel is fully reliable.
    pub(super) fn is_full(self) -> bool {
        self.kind == ReliabilityType::Reliable
    }

    fn of(open: &DataChannelOpen) -> Self {
        use ChannelType as T;
        let (ordered, kind) = match open.channel_type {
            T::PartialReliableRexmit => (true, ReliabilityType::Rexmit),
            T::PartialReliableRexmitUnordered => (false, ReliabilityType::Rexmit),
            T::PartialReliableTimed => (true, ReliabilityType::Timed),
            T::PartialReliableTimedUnordered => (false, ReliabilityType::Timed),
            T::ReliableUnordered => (false, ReliabilityType::Reliable),
            _ => (true, ReliabilityType::Reliable),
        };
        Self { ordered, kind, value: open.reliability_parameter }
    }
}

/// A DCEP message from the peer.
#[derive(Debug, PartialEq)]
pub(super) enum Control {
    Open { label: String, reliability: Reliability },
    Ack,
}

impl Control {
    /// Parses a message. `None` if it is malformed, or if the label is not UTF-8 or longer than [`MAX_LABEL`].
    pub(super) fn parse(mut message: &[u8]) -> Option<Self> {
        match Message::unmarshal(&mut message).ok()? {
            Message::DataChannelAck(_) => Some(Self::Ack),
            Message::DataChannelOpen(open) => {
                let reliability = Reliability::of(&open);
                let label = String::from_utf8(open.label).ok().filter(|label| label.len() <= MAX_LABEL)?;
                Some(Self::Open { label, reliability })
            }
            _ => None,
        }
    }
}

/// The message that opens a channel.
pub(super) fn open_message(label: &str, reliability: Reliability) -> Option<Bytes> {
    let channel_type = match (reliability.kind, reliability.ordered) {
        (ReliabilityType::Rexmit, true) => ChannelType::PartialReliableRexmit,
        (ReliabilityType::Rexmit, false) => ChannelType::PartialReliableRexmitUnordered,
        (ReliabilityType::Timed, true) => ChannelType::PartialReliableTimed,
        (ReliabilityType::Timed, false) => ChannelType::PartialReliableTimedUnordered,
        (_, true) => ChannelType::Reliable,
        (_, false) => ChannelType::ReliableUnordered,
    };
    let message = Message::DataChannelOpen(DataChannelOpen {
        channel_type,
        priority: CHANNEL_PRIORITY_NORMAL,
        reliability_parameter: reliability.value,
        label: label.as_bytes().to_vec(),
        protocol: Vec::new(),
    });
    message.marshal().ok().map(BytesMut::freeze)
}

/// The message that confirms a channel.
pub(super) fn ack_message() -> Option<Bytes> {
    Message::DataChannelAck(DataChannelAck {}).marshal().ok().map(BytesMut::freeze)
}

/// Maximum length of a label, in bytes.
pub(super) const MAX_LABEL: usize = 256;
