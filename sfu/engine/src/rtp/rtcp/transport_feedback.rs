//! Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1): which packets arrived,
//! and when, by the sequence number that all streams of a sender share.

mod build;

pub(super) use build::put_u24;
pub use build::{FeedbackBuilder, write_transport_feedback};

use std::time::Duration;

use super::RtcpError;
use super::parse::ssrc;
use crate::rtp::reader::Reader;
use crate::units::Ssrc;

/// Arrival times as reported by a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportFeedback {
    /// Receiver that sent the feedback.
    pub sender: Ssrc,
    /// SSRC of one of the streams that are reported on.
    pub media: Ssrc,
    /// Transport-wide sequence number of the first packet reported on.
    pub base_sequence: u16,
    /// Number of packets reported on. Packets that are not in `received` were not received.
    pub status_count: u16,
    /// Base of the first arrival time, in units of 64 ms of the receiver's clock, 24 bits.
    pub reference_time: u32,
    /// Counter of feedback packets, which reveals lost ones.
    pub feedback_count: u8,
    /// Received packets, in sequence order.
    pub received: Vec<ReceivedPacket>,
}

/// A received packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedPacket {
    /// Transport-wide sequence number of the packet.
    pub sequence: u16,
    /// Arrival time in [`DELTA_TICK`]s, relative to the previous packet in the list, or to the reference time for the
    /// first.
    pub delta: i16,
}

impl TransportFeedback {
    /// The received packets as (sequence number, arrival time). The arrival time is in [`DELTA_TICK`]s on the
    /// receiver's clock, which wraps every 2^32 ticks (12 days).
    pub fn arrivals(&self) -> impl Iterator<Item = (u16, i64)> + '_ {
        let reference = i64::from(self.reference_time) * TICKS_PER_REFERENCE;
        self.received.iter().scan(reference, |time, packet| {
            *time += i64::from(packet.delta);
            Some((packet.sequence, *time))
        })
    }

    /// Parses feedback. Memory is bounded by the size of the message: each received packet takes at least one byte.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, RtcpError> {
        let error = RtcpError::Truncated("transport feedback header");
        let sender = ssrc(reader, "transport feedback sender SSRC")?;
        let media = ssrc(reader, "transport feedback media SSRC")?;
        let mut found = Self {
            sender,
            media,
            base_sequence: reader.u16().ok_or(error)?,
            status_count: reader.u16().ok_or(error)?,
            reference_time: reader.u24().ok_or(error)?,
            feedback_count: reader.u8().ok_or(error)?,
            received: Vec::new(),
        };
        // The arrival times follow all status chunks, whose number is only known after reading them.
        let mut chunks = *reader;
        let mut covered = 0_u32;
        while covered < u32::from(found.status_count) {
            covered += next_chunk(reader)?.len();
        }
        found.read_received(&mut chunks, reader)?;
        Ok(found)
    }

    fn read_received(&mut self, chunks: &mut Reader<'_>, deltas: &mut Reader<'_>) -> Result<(), RtcpError> {
        let count = u32::from(self.status_count);
        let mut index = 0;
        while index < count {
            let chunk = next_chunk(chunks)?;
            if chunk.is_all_lost() {
                index += chunk.len();
                continue;
            }
            for place in 0..chunk.len().min(count - index) {
                let delta = match chunk.symbol(place) {
                    NOT_RECEIVED => None,
                    SMALL_DELTA => Some(deltas.u8().map(i16::from)),
                    LARGE_DELTA => Some(deltas.array().map(i16::from_be_bytes)),
                    _ => return Err(RtcpError::Undefined("packet status symbol")),
                };
                if let Some(delta) = delta {
                    let delta = delta.ok_or(RtcpError::Truncated("receive deltas"))?;
                    // `index` is less than `status_count`, which has 16 bits.
                    let sequence = self.base_sequence.wrapping_add(index as u16);
                    self.received.push(ReceivedPacket { sequence, delta });
                }
                index += 1;
            }
        }
        Ok(())
    }
}

/// Packet status chunk: 16 bits with the status of several packets (sections 3.1.3 and 3.1.4).
#[derive(Debug, Clone, Copy)]
struct Chunk(u16);

impl Chunk {
    fn is_run(self) -> bool {
        self.0 & IS_VECTOR == 0
    }

    /// Number of packets that the chunk covers.
    fn len(self) -> u32 {
        if self.is_run() {
            u32::from(self.0 & LONGEST_RUN)
        } else if self.0 & TWO_BITS == 0 {
            ONE_BIT_SYMBOLS
        } else {
            TWO_BIT_SYMBOLS
        }
    }

    fn is_all_lost(self) -> bool {
        self.is_run() && self.symbol(0) == NOT_RECEIVED
    }

    /// Status of the packet at `place`, which must be less than `len`.
    fn symbol(self, place: u32) -> u8 {
        let bits = if self.is_run() {
            self.0 >> 13
        } else if self.0 & TWO_BITS == 0 {
            return (self.0 >> 13_u32.saturating_sub(place) & 1) as u8;
        } else {
            self.0 >> 12_u32.saturating_sub(2 * place)
        };
        (bits & 3) as u8
    }
}

fn next_chunk(reader: &mut Reader<'_>) -> Result<Chunk, RtcpError> {
    reader.u16().map(Chunk).ok_or(RtcpError::Truncated("packet status chunks"))
}

/// Unit of arrival times.
pub const DELTA_TICK: Duration = Duration::from_micros(250);
const TICKS_PER_REFERENCE: i64 = 256;
const NOT_RECEIVED: u8 = 0;
const SMALL_DELTA: u8 = 1;
const LARGE_DELTA: u8 = 2;
const IS_VECTOR: u16 = 0x8000;
const TWO_BITS: u16 = 0x4000;
const LONGEST_RUN: u16 = 0x1fff;
const ONE_BIT_SYMBOLS: u32 = 14;
const TWO_BIT_SYMBOLS: u32 = 7;

#[cfg(test)]
mod tests;
