//! Parsing RTCP.

use smallvec::SmallVec;

use super::{
    CongestionFeedback, FORMAT_APPLICATION, FORMAT_CONGESTION, FORMAT_FIR, FORMAT_NACK, FORMAT_PLI,
    FORMAT_TRANSPORT_WIDE, FirEntry, GOODBYE, PAYLOAD_FEEDBACK, RECEIVER_REPORT, ReportBlock, ReportBlocks,
    Rtcp, RtcpError, SENDER_REPORT, SOURCE_DESCRIPTION, TRANSPORT_FEEDBACK, TransportFeedback, VERSION,
};
use crate::rtp::reader::Reader;
use crate::units::{Bitrate, Ssrc};

/// Parses the parts of a decrypted compound packet, at most [`MOST_PARTS`]. A malformed part becomes
/// [`Rtcp::Malformed`] at its position. If only its body is malformed, parsing continues after it. If its header or
/// length is malformed, or if there are too many parts, it is the last.
///
/// # Errors
/// If even the first part has no complete header and body.
pub fn parse(packet: &[u8]) -> Result<Vec<Rtcp>, RtcpError> {
    let mut reader = Reader::new(packet);
    let mut parts = vec![read_part(&next_part(&mut reader)?)];
    while !reader.is_empty() {
        let next = match parts.len() {
            MOST_PARTS => Err(RtcpError::TooMany("parts")),
            _ => next_part(&mut reader),
        };
        match next {
            Ok(part) => parts.push(read_part(&part)),
            Err(error) => {
                parts.push(Rtcp::Malformed(error));
                break;
            }
        }
    }
    Ok(parts)
}

struct Part<'a> {
    packet_type: u8,
    /// Low five bits of the first byte: a number of items, or the feedback format.
    count: u8,
    has_padding: bool,
    body: &'a [u8],
}

fn next_part<'a>(reader: &mut Reader<'a>) -> Result<Part<'a>, RtcpError> {
    let header = RtcpError::Header(reader.len());
    let [first, packet_type] = reader.array().ok_or(header)?;
    if first >> 6 != VERSION {
        return Err(RtcpError::Version(first >> 6));
    }
    let len = usize::from(reader.u16().ok_or(header)?) * 4;
    let body = reader.bytes(len).ok_or(RtcpError::Length(packet_type))?;
    Ok(Part { packet_type, count: first & COUNT, has_padding: first & PADDING != 0, body })
}

fn read_part(part: &Part<'_>) -> Rtcp {
    without_padding(part).and_then(|body| read_body(part, body)).unwrap_or_else(Rtcp::Malformed)
}

fn without_padding<'a>(part: &Part<'a>) -> Result<&'a [u8], RtcpError> {
    if !part.has_padding {
        return Ok(part.body);
    }
    let padding = part.body.last().copied().unwrap_or(0);
    let len = part.body.len().checked_sub(usize::from(padding)).filter(|_| padding != 0);
    len.and_then(|len| part.body.get(..len)).ok_or(RtcpError::Padding(padding))
}

fn read_body(part: &Part<'_>, body: &[u8]) -> Result<Rtcp, RtcpError> {
    let mut reader = Reader::new(body);
    match (part.packet_type, part.count) {
        (SENDER_REPORT, count) => sender_report(&mut reader, count),
        (RECEIVER_REPORT, count) => {
            let ssrc = ssrc(&mut reader, "receiver report SSRC")?;
            Ok(Rtcp::ReceiverReport { ssrc, reports: report_blocks(&mut reader, count)? })
        }
        (SOURCE_DESCRIPTION, _) => Ok(Rtcp::SourceDescription),
        (GOODBYE, count) => Ok(Rtcp::Goodbye { ssrcs: ssrcs(&mut reader, count, "goodbye SSRCs")? }),
        (TRANSPORT_FEEDBACK, FORMAT_NACK) => nack(&mut reader),
        (TRANSPORT_FEEDBACK, FORMAT_TRANSPORT_WIDE) => {
            TransportFeedback::read(&mut reader).map(Rtcp::TransportFeedback)
        }
        (TRANSPORT_FEEDBACK, FORMAT_CONGESTION) => {
            CongestionFeedback::read(&mut reader).map(Rtcp::CongestionFeedback)
        }
        (PAYLOAD_FEEDBACK, FORMAT_PLI) => {
            let sender = ssrc(&mut reader, "PLI sender SSRC")?;
            Ok(Rtcp::Pli { sender, media: ssrc(&mut reader, "PLI media SSRC")? })
        }
        (PAYLOAD_FEEDBACK, FORMAT_FIR) => fir(&mut reader),
        (PAYLOAD_FEEDBACK, FORMAT_APPLICATION) => application(&mut reader, part.packet_type),
        (packet_type, _) => Ok(Rtcp::Other { packet_type }),
    }
}

pub(super) fn ssrc(reader: &mut Reader<'_>, field: &'static str) -> Result<Ssrc, RtcpError> {
    reader.u32().map(Ssrc).ok_or(RtcpError::Truncated(field))
}

fn ssrcs(reader: &mut Reader<'_>, count: u8, field: &'static str) -> Result<SmallVec<[Ssrc; 4]>, RtcpError> {
    (0..count).map(|_| ssrc(reader, field)).collect()
}

fn sender_report(reader: &mut Reader<'_>, count: u8) -> Result<Rtcp, RtcpError> {
    let error = RtcpError::Truncated("sender info");
    Ok(Rtcp::SenderReport {
        ssrc: ssrc(reader, "sender report SSRC")?,
        ntp: reader.u64().ok_or(error)?,
        rtp_timestamp: reader.u32().ok_or(error)?,
        packets: reader.u32().ok_or(error)?,
        octets: reader.u32().ok_or(error)?,
        reports: report_blocks(reader, count)?,
    })
}

/// Parses report blocks. Profile-specific extensions after the blocks are ignored.
fn report_blocks(reader: &mut Reader<'_>, count: u8) -> Result<ReportBlocks, RtcpError> {
    (0..count).map(|_| report_block(reader).ok_or(RtcpError::Truncated("report blocks"))).collect()
}

fn report_block(reader: &mut Reader<'_>) -> Option<ReportBlock> {
    Some(ReportBlock {
        ssrc: Ssrc(reader.u32()?),
        fraction_lost: reader.u8()?,
        // Extends the sign from 24 to 32 bits.
        lost: (reader.u24()? << 8) as i32 >> 8,
        highest_sequence: reader.u32()?,
        jitter: reader.u32()?,
        last_sr: reader.u32()?,
        delay_since_last_sr: reader.u32()?,
    })
}

fn nack(reader: &mut Reader<'_>) -> Result<Rtcp, RtcpError> {
    let error = RtcpError::Truncated("NACK entries");
    let sender = ssrc(reader, "NACK sender SSRC")?;
    let media = ssrc(reader, "NACK media SSRC")?;
    if reader.len() / 4 > MOST_NACK_ENTRIES {
        return Err(RtcpError::TooMany("NACK entries"));
    }
    let mut lost = Vec::with_capacity(reader.len() / 4);
    while !reader.is_empty() {
        let first = reader.u16().ok_or(error)?;
        let following = reader.u16().ok_or(error)?;
        lost.push(first);
        let bits = (0..16).filter(|place| following >> place & 1 != 0);
        lost.extend(bits.map(|place| first.wrapping_add(place + 1)));
    }
    Ok(Rtcp::Nack { sender, media, lost })
}

fn fir(reader: &mut Reader<'_>) -> Result<Rtcp, RtcpError> {
    let error = RtcpError::Truncated("FIR entries");
    let sender = ssrc(reader, "FIR sender SSRC")?;
    // RFC 5104 section 4.3.1.2: this field is unused, because the entries name the streams.
    ssrc(reader, "FIR media SSRC")?;
    let mut entries = SmallVec::new();
    while !reader.is_empty() {
        if entries.len() == MOST_SSRCS {
            return Err(RtcpError::TooMany("FIR entries"));
        }
        let ssrc = ssrc(reader, "FIR entries")?;
        let [sequence, _, _, _] = reader.array().ok_or(error)?;
        entries.push(FirEntry { ssrc, sequence });
    }
    Ok(Rtcp::Fir { sender, entries })
}

/// Parses application layer feedback, whose format is up to the application. The only supported format is REMB, which
/// begins with "REMB".
fn application(reader: &mut Reader<'_>, packet_type: u8) -> Result<Rtcp, RtcpError> {
    let error = RtcpError::Truncated("REMB bitrate");
    let sender = ssrc(reader, "application feedback sender SSRC")?;
    ssrc(reader, "application feedback media SSRC")?;
    if reader.array() != Some(*b"REMB") {
        return Ok(Rtcp::Other { packet_type });
    }
    let count = reader.u8().ok_or(error)?;
    let scaled = reader.u24().ok_or(error)?;
    // Six bits of exponent, 18 of mantissa: at most 81 bits.
    let bps = u128::from(scaled & 0x3ffff) << (scaled >> 18);
    let bitrate = Bitrate::from_bps(u64::try_from(bps).unwrap_or(u64::MAX));
    Ok(Rtcp::Remb { sender, bitrate, ssrcs: ssrcs(reader, count, "REMB SSRCs")? })
}

const COUNT: u8 = 0x1f;
const PADDING: u8 = 0x20;
/// Largest number of parts in a compound packet. A compound packet has a report per 31 streams, and feedback for each
/// stream that has any.
pub const MOST_PARTS: usize = 128;
/// Each entry reports up to 17 lost packets, so this is more than any retransmission buffer holds.
const MOST_NACK_ENTRIES: usize = 256;
const MOST_SSRCS: usize = 64;
