//! RTCP (RFC 3550 section 6, RFC 4585, RFC 5104): compound and reduced-size packets (RFC 5506). We do not use
//! `rtc-rtcp` for this, except as the other side in tests: one malformed part makes it discard the whole compound
//! packet, it boxes every part, and the memory for its transport feedback grows with what a few bytes claim.

mod congestion_feedback;
mod parse;
mod transport_feedback;
mod write;

#[cfg(test)]
mod tests;

pub use congestion_feedback::CongestionFeedback;
#[cfg(any(test, feature = "internals"))]
pub use parse::MOST_PARTS;
pub use parse::parse;
#[cfg(any(test, feature = "internals"))]
pub use transport_feedback::ReceivedPacket;
pub use transport_feedback::{DELTA_TICK, FeedbackBuilder, TransportFeedback, write_transport_feedback};
pub use write::{SenderInfo, write_nack, write_pli, write_receiver_report, write_sender_report};
#[cfg(test)]
use write::{write_bye, write_sdes_cname};

use smallvec::SmallVec;
use thiserror::Error;

use crate::units::{Bitrate, Ssrc};

/// One part of a compound packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rtcp {
    /// Sender report: statistics of what its sender sent and received (RFC 3550 section 6.4.1).
    SenderReport {
        /// Sender of the report.
        ssrc: Ssrc,
        /// Time of the report, as 32.32 fixed-point seconds since 1900.
        ntp: u64,
        /// Time of the report on the stream's RTP clock.
        rtp_timestamp: u32,
        /// Number of packets sent so far.
        packets: u32,
        /// Number of payload bytes sent so far.
        octets: u32,
        /// Reception statistics of the report's sender.
        reports: ReportBlocks,
    },
    /// Receiver report: statistics of what its sender received (RFC 3550 section 6.4.2).
    ReceiverReport {
        /// Sender of the report.
        ssrc: Ssrc,
        /// Reception statistics of the report's sender.
        reports: ReportBlocks,
    },
    /// Negative acknowledgement: packets that are missing (RFC 4585 section 6.2.1).
    Nack {
        /// Receiver that misses the packets.
        sender: Ssrc,
        /// Stream from which the packets are missing.
        media: Ssrc,
        /// Sequence numbers of the missing packets, in the order of the message.
        lost: Vec<u16>,
    },
    /// Picture loss indication: a key frame is requested after loss (RFC 4585 section 6.3.1).
    Pli {
        /// Receiver that requests a key frame.
        sender: Ssrc,
        /// Stream for which a key frame is requested.
        media: Ssrc,
    },
    /// Full intra request: a key frame is requested (RFC 5104 section 4.3.1).
    Fir {
        /// Receiver that requests key frames.
        sender: Ssrc,
        /// Streams for which key frames are requested.
        entries: SmallVec<[FirEntry; 2]>,
    },
    /// Arrival times of packets, by transport-wide sequence number.
    TransportFeedback(TransportFeedback),
    /// Arrival times of packets, by SSRC and RTP sequence number (RFC 8888).
    CongestionFeedback(CongestionFeedback),
    /// Receiver estimated maximum bitrate, REMB (draft-alvestrand-rmcat-remb-03).
    Remb {
        /// Receiver that made the estimate.
        sender: Ssrc,
        /// Estimated bitrate that the receiver can take.
        bitrate: Bitrate,
        /// Streams to which the estimate applies.
        ssrcs: SmallVec<[Ssrc; 4]>,
    },
    /// Goodbye: streams have ended (RFC 3550 section 6.6).
    Goodbye {
        /// Streams that have ended.
        ssrcs: SmallVec<[Ssrc; 4]>,
    },
    /// Source description (RFC 3550 section 6.5). Its content is not parsed, because signaling is the authority on
    /// identities.
    SourceDescription,
    /// A part with an unsupported packet type or feedback format.
    Other {
        /// RTCP packet type.
        packet_type: u8,
    },
    /// A malformed part. The parts before it are valid, and so are those after it unless the malformed part's length
    /// is wrong.
    Malformed(RtcpError),
}

/// Report blocks of one report: at most 31, usually one.
pub type ReportBlocks = SmallVec<[ReportBlock; 2]>;

/// Reception statistics of one stream (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportBlock {
    /// Stream that the statistics are about.
    pub ssrc: Ssrc,
    /// Fraction of packets lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Number of packets lost so far, 24 bits signed: duplicates can make it negative. Clamped to 24 bits when
    /// written.
    pub lost: i32,
    /// Highest sequence number received; the upper 16 bits count wraps.
    pub highest_sequence: u32,
    /// Interarrival jitter in units of the stream's RTP clock.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time in the last sender report received; 0 if none was received.
    pub last_sr: u32,
    /// Time since that sender report was received, in 1/65536 s.
    pub delay_since_last_sr: u32,
}

/// A stream for which a full intra request asks for a key frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirEntry {
    /// Stream for which a key frame is requested.
    pub ssrc: Ssrc,
    /// Sequence number of the request: an unchanged number repeats the previous request.
    pub sequence: u8,
}

/// Why a compound packet or a part of it cannot be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RtcpError {
    /// Shorter than the four bytes of a header.
    #[error("RTCP header: {0} bytes are less than 4")]
    Header(usize),
    /// The version is not 2.
    #[error("RTCP version: {0} is not 2")]
    Version(u8),
    /// The length of a part, given with its packet type, runs past the end of the datagram.
    #[error("RTCP length: part of type {0} runs past the end of the datagram")]
    Length(u8),
    /// The padding count is zero or larger than the part.
    #[error("RTCP padding: {0} bytes do not fit into the part")]
    Padding(u8),
    /// A part ends within the named field.
    #[error("{0}: runs past the end of its part")]
    Truncated(&'static str),
    /// The named field has a value that the format does not define.
    #[error("{0}: undefined value")]
    Undefined(&'static str),
    /// More items of the named kind than we accept.
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
