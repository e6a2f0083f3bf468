//! RTCP (RFC 3550 section 6, RFC 4585, RFC 5104): compound and reduced-size packets (RFC 5506). Read and written here
//! rather than by `rtc-rtcp`, which loses the whole compound to one malformed part, boxes every part, and whose
//! transport feedback grows with what a few bytes claim; it serves as the other side in tests.

mod congestion_feedback;
mod parse;
mod transport_feedback;
mod write;

#[cfg(test)]
mod tests;

pub use congestion_feedback::{CongestionFeedback, PacketReport};
pub use parse::{MOST_PARTS, parse};
pub use transport_feedback::{
    DELTA_TICK, FeedbackBuilder, ReceivedPacket, TransportFeedback, write_transport_feedback,
};
pub use write::{
    SenderInfo, write_bye, write_nack, write_pli, write_receiver_report, write_sdes_cname,
    write_sender_report,
};

use smallvec::SmallVec;
use thiserror::Error;

use crate::units::{Bitrate, Ssrc};

/// One part of a compound packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rtcp {
    /// What a sender sent, and received (RFC 3550 section 6.4.1).
    SenderReport {
        /// Whose report.
        ssrc: Ssrc,
        /// When, as 32.32 fixed-point seconds since 1900.
        ntp: u64,
        /// The same instant on the stream's clock.
        rtp_timestamp: u32,
        /// Packets sent so far.
        packets: u32,
        /// Bytes of payload sent so far.
        octets: u32,
        /// What it received.
        reports: ReportBlocks,
    },
    /// What somebody received (RFC 3550 section 6.4.2).
    ReceiverReport {
        /// Whose report.
        ssrc: Ssrc,
        /// What it received.
        reports: ReportBlocks,
    },
    /// Packets that are missing (RFC 4585 section 6.2.1).
    Nack {
        /// Who misses them.
        sender: Ssrc,
        /// The stream they are missing from.
        media: Ssrc,
        /// Their sequence numbers, in the order of the message.
        lost: Vec<u16>,
    },
    /// A picture cannot be decoded (RFC 4585 section 6.3.1).
    Pli {
        /// Who asks.
        sender: Ssrc,
        /// The stream.
        media: Ssrc,
    },
    /// A key frame is needed (RFC 5104 section 4.3.1).
    Fir {
        /// Who asks.
        sender: Ssrc,
        /// Of which streams.
        entries: SmallVec<[FirEntry; 2]>,
    },
    /// When packets arrived, by their transport-wide number.
    TransportFeedback(TransportFeedback),
    /// When packets arrived, by source and number (RFC 8888).
    CongestionFeedback(CongestionFeedback),
    /// What a receiver estimates it can take (draft-alvestrand-rmcat-remb-03).
    Remb {
        /// Who says so.
        sender: Ssrc,
        /// The estimate.
        bitrate: Bitrate,
        /// The streams it is about.
        ssrcs: SmallVec<[Ssrc; 4]>,
    },
    /// Streams have ended (RFC 3550 section 6.6).
    Goodbye {
        /// Which.
        ssrcs: SmallVec<[Ssrc; 4]>,
    },
    /// Names of streams (RFC 3550 section 6.5), not read: signaling is the authority on who is who.
    SourceDescription,
    /// A part of a type, or of a feedback format, that is not understood here.
    Other {
        /// The packet type.
        packet_type: u8,
    },
    /// A part that is malformed. The parts before it stand, and those after it unless its length is at fault.
    Malformed(RtcpError),
}

/// Report blocks of one report: at most 31, mostly one.
pub type ReportBlocks = SmallVec<[ReportBlock; 2]>;

/// What a receiver says of one stream (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportBlock {
    /// The stream.
    pub ssrc: Ssrc,
    /// Share lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost so far, 24 bits with sign: duplicates can make it negative. Clamped when written.
    pub lost: i32,
    /// Highest sequence number received, with the number of wraps in the upper half.
    pub highest_sequence: u32,
    /// Interarrival jitter in ticks of the stream's clock.
    pub jitter: u32,
    /// The middle 32 bits of the last sender report's NTP time; 0: none received.
    pub last_sr: u32,
    /// How long ago that was, in 1/65536 s.
    pub delay_since_last_sr: u32,
}

/// A stream that a full intra request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirEntry {
    /// The stream.
    pub ssrc: Ssrc,
    /// Counts requests: the same number again repeats one.
    pub sequence: u8,
}

/// Why a compound packet or a part of it cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RtcpError {
    /// Less than the four bytes of a header.
    #[error("RTCP header: {0} bytes are less than 4")]
    Header(usize),
    /// A version other than 2.
    #[error("RTCP version: {0} is not 2")]
    Version(u8),
    /// The length of a part of this packet type runs past the end of the datagram.
    #[error("RTCP length: part of type {0} runs past the end of the datagram")]
    Length(u8),
    /// The padding count is zero or more than there is.
    #[error("RTCP padding: {0} bytes do not fit into the part")]
    Padding(u8),
    /// A part ends within the named field.
    #[error("{0}: runs past the end of its part")]
    Truncated(&'static str),
    /// The named field has a value that the format does not define.
    #[error("{0}: undefined value")]
    Undefined(&'static str),
    /// More of the named thing than is taken.
    #[error("{0}: more than are taken")]
    TooMany(&'static str),
}

const VERSION: u8 = 2;
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
const FORMAT_NACK: u8 = 1;
const FORMAT_CONGESTION: u8 = 11;
const FORMAT_TRANSPORT_WIDE: u8 = 15;
const FORMAT_PLI: u8 = 1;
const FORMAT_FIR: u8 = 4;
const FORMAT_APPLICATION: u8 = 15;
