//! Congestion control feedback (RFC 8888): the alternative to transport-wide feedback for reporting which packets
//! arrived, and when. Packets are identified by SSRC and RTP sequence number.

use super::RtcpError;
use super::parse::ssrc;
use crate::rtp::reader::Reader;
use crate::units::Ssrc;

/// A validated feedback message: all its blocks are complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CongestionFeedback {
    /// Receiver that sent the message.
    pub sender: Ssrc,
    /// Time when the message was written, by the receiver's clock, in 1/65,536 s; wraps.
    pub timestamp: u32,
    blocks: Vec<u8>,
}

/// Report on one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketReport {
    /// SSRC of the packet.
    pub ssrc: Ssrc,
    /// RTP sequence number of the packet.
    pub sequence: u16,
    /// Time from the packet's arrival to the message, in 1/1024 s, 0 to 8189; `None` if not received or unknown.
    pub age: Option<u16>,
    /// Whether the packet was received.
    pub received: bool,
}

impl CongestionFeedback {
    /// Parses and validates a message (section 3.1). Memory is bounded by the size of the message.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, RtcpError> {
        let error = RtcpError::Truncated;
        let sender = ssrc(reader, "congestion feedback sender SSRC")?;
        let timestamp = error("congestion feedback timestamp");
        let len = reader.len().checked_sub(4).ok_or(timestamp)?;
        let blocks = reader.bytes(len).ok_or(timestamp)?;
        let mut left = blocks;
        while !left.is_empty() {
            (_, left) = Block::split(left).ok_or(error("congestion feedback blocks"))?;
        }
        Ok(Self { sender, timestamp: reader.u32().ok_or(timestamp)?, blocks: blocks.to_vec() })
    }

    /// All packets in the message, stream by stream, in sequence order.
    pub fn packets(&self) -> impl Iterator<Item = PacketReport> + '_ {
        let mut left = self.blocks.as_slice();
        let blocks = std::iter::from_fn(move || {
            let (block, rest) = Block::split(left)?;
            left = rest;
            Some(block)
        });
        blocks.flat_map(Block::packets)
    }
}

/// Report on one stream.
#[derive(Debug, Clone, Copy)]
struct Block<'a> {
    ssrc: Ssrc,
    first: u16,
    metrics: &'a [u8],
}

impl<'a> Block<'a> {
    /// Splits off the first block; returns the block and what follows its padding.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&[a, b, c, d, e, f, g, h], rest) = bytes.split_first_chunk::<8>()?;
        let len = usize::from(u16::from_be_bytes([g, h])) * 2;
        let (metrics, _) = rest.split_at_checked(len)?;
        let (_, rest) = rest.split_at_checked(len.next_multiple_of(4))?;
        let ssrc = Ssrc(u32::from_be_bytes([a, b, c, d]));
        Some((Self { ssrc, first: u16::from_be_bytes([e, f]), metrics }, rest))
    }

    fn packets(self) -> impl Iterator<Item = PacketReport> + 'a {
        self.metrics.as_chunks::<2>().0.iter().zip(0_u16..).map(move |(metric, n)| {
            let metric = u16::from_be_bytes(*metric);
            let received = metric & RECEIVED != 0;
            let age = metric & AGE;
            PacketReport {
                ssrc: self.ssrc,
                sequence: self.first.wrapping_add(n),
                age: (received && age < UNKNOWN_AGE).then_some(age),
                received,
            }
        })
    }
}

/// This age means "longer ago than can be expressed", the next value means "unknown" (section 3.1).
const UNKNOWN_AGE: u16 = 0x1ffe;
const RECEIVED: u16 = 0x8000;
const AGE: u16 = 0x1fff;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<CongestionFeedback, RtcpError> {
        CongestionFeedback::read(&mut Reader::new(bytes))
    }

    fn message(blocks: &[(u32, u16, &[u16])], timestamp: u32) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 1];
        for (ssrc, first, metrics) in blocks {
            bytes.extend(ssrc.to_be_bytes());
            bytes.extend(first.to_be_bytes());
            bytes.extend((metrics.len() as u16).to_be_bytes());
            metrics.iter().for_each(|metric| bytes.extend(metric.to_be_bytes()));
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes.extend(timestamp.to_be_bytes());
        bytes
    }

    #[test]
    fn every_packet_of_every_source_is_read() {
        let bytes = message(&[(7, 65_535, &[0x8000 | 100, 0, 0xffff]), (8, 3, &[0xa001])], 0x1234_5678);
        let feedback = read(&bytes).expect("whole");
        assert_eq!(feedback.timestamp, 0x1234_5678);
        let told: Vec<_> =
            feedback.packets().map(|told| (told.ssrc.0, told.sequence, told.received, told.age)).collect();
        let expected =
            [(7, 65_535, true, Some(100)), (7, 0, false, None), (7, 1, true, None), (8, 3, true, Some(1))];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_cut_off_is_an_error_and_never_a_panic() {
        let bytes = message(&[(7, 65_535, &[0x8064, 0, 0x8001]), (8, 3, &[0xa001])], 9);
        for len in 0..bytes.len() {
            if let Ok(cut) = read(&bytes[..len]) {
                assert!(cut.packets().count() <= 4);
            }
        }
        assert!(read(&bytes[..7]).is_err());
        let claims_more = [0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0xff, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0];
        let error = read(&claims_more).err();
        assert_eq!(error, Some(RtcpError::Truncated("congestion feedback blocks")));
    }
}
