//! Data channels as their two ends agree on them (RFC 8832).

use bytes::{Bytes, BytesMut};
use rtc_datachannel::message::Message;
use rtc_datachannel::message::message_channel_ack::DataChannelAck;
use rtc_datachannel::message::message_channel_open::{CHANNEL_PRIORITY_NORMAL, ChannelType, DataChannelOpen};
use rtc_sctp::ReliabilityType;
use rtc_shared::marshal::{Marshal, Unmarshal};

/// A data channel of one peer, whoever opened it. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub(super) u32);

/// One entry of the table.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) id: ChannelId,
    /// Nothing until the association is there.
    pub(super) stream: Option<u16>,
    pub(super) label: String,
    pub(super) reliability: Reliability,
    /// Both ends know of it.
    pub(super) open: bool,
}

/// How messages are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reliability {
    pub(super) ordered: bool,
    pub(super) kind: ReliabilityType,
    /// Retransmissions or milliseconds.
    pub(super) value: u32,
}

impl Reliability {
    /// Given up after so many retransmissions, if any number is named.
    pub(super) fn new(ordered: bool, max_retransmits: Option<u16>) -> Self {
        let kind =
            if max_retransmits.is_some() { ReliabilityType::Rexmit } else { ReliabilityType::Reliable };
        Self { ordered, kind, value: u32::from(max_retransmits.unwrap_or_default()) }
    }

    /// Whether nothing is ever given up.
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

/// What the other end says about a channel.
#[derive(Debug, PartialEq)]
pub(super) enum Control {
    Open { label: String, reliability: Reliability },
    Ack,
}

impl Control {
    /// Nothing if it is malformed, or the label is not text or longer than can be meant.
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

/// Bytes in a label.
pub(super) const MAX_LABEL: usize = 256;
