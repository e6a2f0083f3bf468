//! Writing RTCP. Each function appends to a compound packet: one part, or as many parts as its list needs.

use super::transport_feedback::put_u24;
use super::{
    FORMAT_NACK, FORMAT_PLI, PAYLOAD_FEEDBACK, RECEIVER_REPORT, ReportBlock, SENDER_REPORT,
    TRANSPORT_FEEDBACK, VERSION,
};
#[cfg(test)]
use super::{GOODBYE, SOURCE_DESCRIPTION};
use crate::units::Ssrc;

/// Sender statistics of a stream in a sender report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SenderInfo {
    /// Current time, as 32.32 fixed-point seconds since 1900.
    pub ntp: u64,
    /// Current time on the stream's RTP clock.
    pub rtp_timestamp: u32,
    /// Number of packets sent so far.
    pub packets: u32,
    /// Number of payload bytes sent so far.
    pub octets: u32,
}

/// Appends a sender report (RFC 3550 section 6.4.1). Report blocks beyond the 31 that fit follow in receiver reports.
pub fn write_sender_report(out: &mut Vec<u8>, ssrc: Ssrc, info: &SenderInfo, reports: &[ReportBlock]) {
    let (first, more) = reports.split_at(reports.len().min(MOST_COUNTED));
    write_part(out, first.len() as u8, SENDER_REPORT, |out| {
        put_u32(out, ssrc.0);
        out.extend(info.ntp.to_be_bytes());
        put_u32(out, info.rtp_timestamp);
        put_u32(out, info.packets);
        put_u32(out, info.octets);
        put_report_blocks(out, first);
    });
    if !more.is_empty() {
        write_receiver_report(out, ssrc, more);
    }
}

/// Appends receiver reports with 31 blocks each (RFC 3550 section 6.4.2); a single empty report if there are no
/// blocks.
pub fn write_receiver_report(out: &mut Vec<u8>, ssrc: Ssrc, reports: &[ReportBlock]) {
    let (first, more) = reports.split_at(reports.len().min(MOST_COUNTED));
    for blocks in std::iter::once(first).chain(more.chunks(MOST_COUNTED)) {
        write_part(out, blocks.len() as u8, RECEIVER_REPORT, |out| {
            put_u32(out, ssrc.0);
            put_report_blocks(out, blocks);
        });
    }
}

/// Appends a source description with only the canonical name (RFC 3550 section 6.5.1), truncated to the maximum of
/// 255 bytes.
#[cfg(test)]
pub fn write_sdes_cname(out: &mut Vec<u8>, ssrc: Ssrc, cname: &str) {
    let (cname, _) = cname.split_at(cname.floor_char_boundary(255));
    write_part(out, 1, SOURCE_DESCRIPTION, |out| {
        put_u32(out, ssrc.0);
        out.extend([CNAME, cname.len() as u8]);
        out.extend(cname.as_bytes());
        // A zero byte ends the list of items; `write_part` adds more as padding.
        out.push(0);
    });
}

/// Appends negative acknowledgements (RFC 4585 section 6.2.1). Ascending numbers within 16 of the first share an
/// entry. Writes nothing for an empty list.
pub fn write_nack(out: &mut Vec<u8>, sender: Ssrc, media: Ssrc, lost: &[u16]) {
    let mut rest = lost.iter().copied().peekable();
    while rest.peek().is_some() {
        write_part(out, FORMAT_NACK, TRANSPORT_FEEDBACK, |out| {
            put_u32(out, sender.0);
            put_u32(out, media.0);
            for _ in 0..MOST_NACK_ENTRIES {
                let Some(first) = rest.next() else { break };
                let mut following = 0_u16;
                while let Some(next) = rest.next_if(|next| next.wrapping_sub(first) <= 16) {
                    match next.wrapping_sub(first) {
                        0 => {}
                        distance => following |= 1 << (distance - 1),
                    }
                }
                out.extend(first.to_be_bytes());
                out.extend(following.to_be_bytes());
            }
        });
    }
}

/// Appends a picture loss indication (RFC 4585 section 6.3.1).
pub fn write_pli(out: &mut Vec<u8>, sender: Ssrc, media: Ssrc) {
    write_part(out, FORMAT_PLI, PAYLOAD_FEEDBACK, |out| {
        put_u32(out, sender.0);
        put_u32(out, media.0);
    });
}

/// Appends goodbyes with 31 streams each (RFC 3550 section 6.6). Writes nothing for an empty list.
#[cfg(test)]
pub fn write_bye(out: &mut Vec<u8>, ssrcs: &[Ssrc]) {
    for ssrcs in ssrcs.chunks(MOST_COUNTED) {
        write_part(out, ssrcs.len() as u8, GOODBYE, |out| {
            for ssrc in ssrcs {
                put_u32(out, ssrc.0);
            }
        });
    }
}

/// Writes a header and the body, pads with zeros to a multiple of 4 bytes, then sets the length in the header.
pub(super) fn write_part(out: &mut Vec<u8>, count: u8, packet_type: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([VERSION << 6 | count, packet_type, 0, 0]);
    body(out);
    let len = (out.len() - start).next_multiple_of(4);
    out.resize(start + len, 0);
    // The field counts words of 4 bytes without the header's. Every part here is far below its maximum of 256 KiB.
    let words = ((len - 4) / 4) as u16;
    if let Some(field) = out.get_mut(start + 2..start + 4) {
        field.copy_from_slice(&words.to_be_bytes());
    }
}

fn put_report_blocks(out: &mut Vec<u8>, reports: &[ReportBlock]) {
    for report in reports {
        put_u32(out, report.ssrc.0);
        out.push(report.fraction_lost);
        put_u24(out, report.lost.clamp(-0x80_0000, 0x7f_ffff) as u32);
        put_u32(out, report.highest_sequence);
        put_u32(out, report.jitter);
        put_u32(out, report.last_sr);
        put_u32(out, report.delay_since_last_sr);
    }
}

pub(super) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_be_bytes());
}

/// Largest number that the five-bit count can express.
const MOST_COUNTED: usize = 31;
/// About 1 KB, so that a part fits into a datagram.
const MOST_NACK_ENTRIES: usize = 250;
#[cfg(test)]
const CNAME: u8 = 1;
