//! Congestion control feedback (RFC 8888): the second form in which a subscriber tells what arrived. It counts packets by
//! source and RTP sequence number, so each is looked up by those; the rest is as with transport-wide feedback.

use thiserror::Error;

use crate::units::{ExtendedSequence, Ssrc};

/// Why a message cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CongestionFeedbackError {
    /// The message ends within the named field.
    #[error("congestion control feedback, {0}: runs past the end")]
    Truncated(&'static str),
}

/// A message, checked: all its parts are whole.
#[derive(Debug, Clone, Copy)]
pub struct CongestionFeedback<'a> {
    blocks: &'a [u8],
    timestamp: u32,
}

/// What a message says of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketReport {
    /// Its source.
    pub ssrc: Ssrc,
    /// Its RTP sequence number.
    pub sequence: u16,
    /// How long before the message it arrived, in 1/1024 s, 0 to 8189, if it did and that is known.
    pub age: Option<u16>,
    /// Whether it arrived.
    pub received: bool,
}

impl<'a> CongestionFeedback<'a> {
    /// Reads the body of an RTCP packet of type 205, format 11, behind its first four bytes (section 3.1).
    ///
    /// # Errors
    /// If a part of it is cut off.
    pub fn parse(body: &'a [u8]) -> Result<Self, CongestionFeedbackError> {
        let error = CongestionFeedbackError::Truncated;
        let (_sender, rest) = body.split_first_chunk::<4>().ok_or(error("sender SSRC"))?;
        let (blocks, timestamp) = rest.split_last_chunk::<4>().ok_or(error("report timestamp"))?;
        let mut left = blocks;
        while !left.is_empty() {
            (_, left) = Block::split(left).ok_or(error("report block"))?;
        }
        Ok(Self { blocks, timestamp: u32::from_be_bytes(*timestamp) })
    }

    /// When it was written, by its writer's clock, in 1/65,536 s; wraps.
    pub fn timestamp(&self) -> u32 {
        self.timestamp
    }

    /// All packets it is about, source by source, by ascending number.
    pub fn packets(&self) -> impl Iterator<Item = PacketReport> + 'a {
        let mut left = self.blocks;
        let blocks = std::iter::from_fn(move || {
            let (block, rest) = Block::split(left)?;
            left = rest;
            Some(block)
        });
        blocks.flat_map(Block::packets)
    }
}

/// What it says of one source.
#[derive(Debug, Clone, Copy)]
struct Block<'a> {
    ssrc: Ssrc,
    first: u16,
    metrics: &'a [u8],
}

impl<'a> Block<'a> {
    /// The first block, and what follows it and its padding.
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

/// Finds a packet's transport-wide number by its source and RTP sequence number. Holds one place for each of the last
/// [`PLACES`] packets or so; one that was overwritten is not found.
#[derive(Debug)]
pub(super) struct StreamIndex {
    places: Vec<Place>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    ssrc: u32,
    sequence: u16,
    used: bool,
    transport: u64,
}

impl StreamIndex {
    /// Nothing sent. Takes no memory until something is.
    pub fn new() -> Self {
        Self { places: Vec::new() }
    }

    /// A packet is sent.
    pub fn insert(&mut self, ssrc: Ssrc, sequence: u16, transport: ExtendedSequence) {
        if self.places.is_empty() {
            self.places = vec![Place::default(); PLACES];
        }
        if let Some(place) = self.places.get_mut(place(ssrc, sequence)) {
            *place = Place { ssrc: ssrc.0, sequence, used: true, transport: transport.0 };
        }
    }

    /// The packet's transport-wide number.
    pub fn find(&self, ssrc: Ssrc, sequence: u16) -> Option<ExtendedSequence> {
        let place = self.places.get(place(ssrc, sequence))?;
        let found = place.used && place.ssrc == ssrc.0 && place.sequence == sequence;
        found.then_some(ExtendedSequence(place.transport))
    }
}

/// Neighbours of one source get neighbouring places; sources begin far from each other.
fn place(ssrc: Ssrc, sequence: u16) -> usize {
    let start = (ssrc.0.wrapping_mul(0x9e37_79b1) >> 16) as usize;
    (start + usize::from(sequence)) % PLACES
}

/// The age that says "longer ago than can be told"; the one above it says "unknown" (section 3.1).
const UNKNOWN_AGE: u16 = 0x1ffe;
const RECEIVED: u16 = 0x8000;
const AGE: u16 = 0x1fff;
const PLACES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

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
        let feedback = CongestionFeedback::parse(&bytes).expect("whole");
        assert_eq!(feedback.timestamp(), 0x1234_5678);
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
            if let Ok(cut) = CongestionFeedback::parse(&bytes[..len]) {
                assert!(cut.packets().count() <= 4);
            }
        }
        assert!(CongestionFeedback::parse(&bytes[..7]).is_err());
        let claims_more = [0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0xff, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0];
        let error = CongestionFeedback::parse(&claims_more).err();
        assert_eq!(error, Some(CongestionFeedbackError::Truncated("report block")));
    }

    #[test]
    fn packets_are_found_by_source_and_number_until_overwritten() {
        let mut index = StreamIndex::new();
        assert_eq!(index.find(Ssrc(1), 5), None);
        for n in 0..5000_u64 {
            index.insert(Ssrc(1), (60_000 + n) as u16, ExtendedSequence(n));
        }
        assert_eq!(index.find(Ssrc(1), (60_000_u64 + 4999) as u16), Some(ExtendedSequence(4999)));
        assert_eq!(index.find(Ssrc(1), 60_000), None);
        assert_eq!(index.find(Ssrc(2), (60_000_u64 + 4999) as u16), None);
    }
}
