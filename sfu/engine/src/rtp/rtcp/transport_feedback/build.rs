//! Building transport-wide feedback.

use std::time::Duration;

use super::{
    DELTA_TICK, IS_VECTOR, LARGE_DELTA, LONGEST_RUN, NOT_RECEIVED, ONE_BIT_SYMBOLS, SMALL_DELTA,
    TICKS_PER_REFERENCE, TWO_BIT_SYMBOLS, TWO_BITS,
};
use crate::rtp::rtcp::write::{put_u32, write_part};
use crate::rtp::rtcp::{FORMAT_TRANSPORT_WIDE, TRANSPORT_FEEDBACK};
use crate::units::Ssrc;

/// Collects the packet statuses for one feedback packet, in ascending sequence order, in wire format.
#[derive(Debug, Clone)]
pub struct FeedbackBuilder {
    base_sequence: u16,
    status_count: u16,
    /// Reference time in units of 64 ms, from the first arrival; `None` before it.
    reference: Option<i64>,
    /// Time of the last arrival, in [`DELTA_TICK`]s.
    ticks: i64,
    chunks: Vec<u16>,
    pending: Pending,
    deltas: Vec<u8>,
}

impl FeedbackBuilder {
    /// Begins a feedback packet that starts with the status of packet `base_sequence`.
    pub fn new(base_sequence: u16) -> Self {
        Self {
            base_sequence,
            status_count: 0,
            reference: None,
            ticks: 0,
            chunks: Vec::new(),
            pending: Pending::default(),
            deltas: Vec::new(),
        }
    }

    /// Adds the status of packet `sequence`: its arrival time, or `None` if it was not received. The arrival time is
    /// relative to any epoch that is fixed for the whole transport. Skipped sequence numbers count as not received.
    ///
    /// Returns false and changes nothing if the status does not fit into this feedback packet: the sequence number is
    /// not above the last one, the arrival is more than 8 s from the last one, or there is no room. The caller then
    /// writes this packet and begins a new one with this sequence number, which always accepts the status.
    pub fn push(&mut self, sequence: u16, arrival: Option<Duration>) -> bool {
        let next = self.base_sequence.wrapping_add(self.status_count);
        let passed_over = sequence.wrapping_sub(next);
        let Some(status_count) = self.status_count.checked_add(passed_over).and_then(|n| n.checked_add(1))
        else {
            return false;
        };
        if passed_over > MOST_PASSED_OVER || self.len() + MOST_ADDED > LONGEST_PACKET {
            return false;
        }
        let symbol = match arrival {
            None => NOT_RECEIVED,
            Some(arrival) => match self.push_arrival(arrival) {
                Some(symbol) => symbol,
                None => return false,
            },
        };
        self.pending.add(NOT_RECEIVED, usize::from(passed_over), &mut self.chunks);
        self.pending.add(symbol, 1, &mut self.chunks);
        self.status_count = status_count;
        true
    }

    fn push_arrival(&mut self, arrival: Duration) -> Option<u8> {
        let ticks = i64::try_from(arrival.as_micros() / DELTA_TICK.as_micros()).ok()?;
        let reference = self.reference.unwrap_or(ticks / TICKS_PER_REFERENCE);
        let before = if self.reference.is_some() { self.ticks } else { reference * TICKS_PER_REFERENCE };
        let delta = i16::try_from(ticks - before).ok()?;
        self.reference = Some(reference);
        self.ticks = ticks;
        Some(if let Ok(small) = u8::try_from(delta) {
            self.deltas.push(small);
            SMALL_DELTA
        } else {
            self.deltas.extend(delta.to_be_bytes());
            LARGE_DELTA
        })
    }

    /// Size on the wire in bytes, before padding.
    fn len(&self) -> usize {
        HEADER_LEN + 2 * (self.chunks.len() + 1) + self.deltas.len()
    }
}

/// Appends the collected feedback to a compound packet. `feedback_count` must increase by one with each feedback
/// packet. Returns false and writes nothing if no packet has arrived.
pub fn write_transport_feedback(
    out: &mut Vec<u8>,
    sender: Ssrc,
    media: Ssrc,
    feedback_count: u8,
    feedback: &FeedbackBuilder,
) -> bool {
    let Some(reference) = feedback.reference else { return false };
    let start = out.len();
    write_part(out, FORMAT_TRANSPORT_WIDE, TRANSPORT_FEEDBACK, |out| {
        put_u32(out, sender.0);
        put_u32(out, media.0);
        out.extend(feedback.base_sequence.to_be_bytes());
        out.extend(feedback.status_count.to_be_bytes());
        put_u24(out, reference as u32);
        out.push(feedback_count);
        let mut pending = feedback.pending;
        for chunk in feedback.chunks.iter().copied().chain(pending.take_last()) {
            out.extend(chunk.to_be_bytes());
        }
        out.extend(&feedback.deltas);
        let padding = (out.len() - start).next_multiple_of(4) - (out.len() - start);
        if padding > 0 {
            out.resize(out.len() + padding - 1, 0);
            out.push(padding as u8);
            if let Some(first) = out.get_mut(start) {
                *first |= HAS_PADDING;
            }
        }
    });
    true
}

/// Appends the low 24 bits.
pub(in crate::rtp::rtcp) fn put_u24(out: &mut Vec<u8>, value: u32) {
    let [_, bytes @ ..] = value.to_be_bytes();
    out.extend(bytes);
}

/// Statuses that are not in a chunk yet: any number of equal ones, or as many as a vector holds.
#[derive(Debug, Clone, Copy, Default)]
struct Pending {
    /// The first statuses.
    symbols: [u8; ONE_BIT_SYMBOLS as usize],
    len: usize,
    /// Whether all statuses equal the first.
    uniform: bool,
}

impl Pending {
    fn add(&mut self, symbol: u8, mut count: usize, chunks: &mut Vec<u16>) {
        while count > 0 {
            let continues = self.len == 0 || self.uniform && self.symbols[0] == symbol;
            let room = match continues {
                true => usize::from(LONGEST_RUN).saturating_sub(self.len),
                false => self.vector_room(symbol).saturating_sub(self.len).min(1),
            };
            if room == 0 {
                chunks.extend(self.take());
                continue;
            }
            let added = room.min(count);
            self.symbols.iter_mut().skip(self.len).take(added).for_each(|slot| *slot = symbol);
            self.len += added;
            self.uniform = continues;
            count -= added;
        }
    }

    /// Number of statuses that fit into one vector if `symbol` is among them.
    fn vector_room(&self, symbol: u8) -> usize {
        let wide = symbol == LARGE_DELTA || self.listed().contains(&LARGE_DELTA);
        if wide { TWO_BIT_SYMBOLS as usize } else { ONE_BIT_SYMBOLS as usize }
    }

    fn listed(&self) -> &[u8] {
        self.symbols.get(..self.len).unwrap_or(&self.symbols)
    }

    /// Removes statuses and returns their chunk, when more will follow: a vector must be full.
    fn take(&mut self) -> Option<u16> {
        if self.len == 0 || self.uniform || self.len == ONE_BIT_SYMBOLS as usize {
            return self.take_last();
        }
        let taken = self.len.min(TWO_BIT_SYMBOLS as usize);
        let chunk = two_bit_vector(&self.symbols[..taken]);
        self.symbols.copy_within(taken..self.len, 0);
        self.len -= taken;
        let first = self.symbols[0];
        self.uniform = self.listed().iter().all(|symbol| *symbol == first);
        Some(chunk)
    }

    /// Removes all statuses and returns them as one chunk.
    fn take_last(&mut self) -> Option<u16> {
        let chunk = match self.len {
            0 => return None,
            // `len` is at most `LONGEST_RUN`.
            len if self.uniform => u16::from(self.symbols[0]) << 13 | len as u16,
            len if len <= TWO_BIT_SYMBOLS as usize => two_bit_vector(self.listed()),
            _ => one_bit_vector(self.listed()),
        };
        *self = Self::default();
        Some(chunk)
    }
}

fn one_bit_vector(symbols: &[u8]) -> u16 {
    let bits = (0..14).rev().zip(symbols).map(|(place, symbol)| u16::from(*symbol) << place);
    bits.fold(IS_VECTOR, |chunk, bit| chunk | bit)
}

fn two_bit_vector(symbols: &[u8]) -> u16 {
    let bits = (0..7).rev().zip(symbols).map(|(place, symbol)| u16::from(*symbol) << (2 * place));
    bits.fold(IS_VECTOR | TWO_BITS, |chunk, bits| chunk | bits)
}

const HAS_PADDING: u8 = 0x20;
/// Includes the four-byte RTCP header.
const HEADER_LEN: usize = 20;
/// Small enough that the feedback and a report fit into one datagram.
const LONGEST_PACKET: usize = 1000;
/// One status adds at most two bytes of arrival time. The status and the skipped ones before it fill at most eight
/// chunks.
const MOST_ADDED: usize = 2 + 2 * 8;
/// A sequence number further ahead than this counts as behind.
const MOST_PASSED_OVER: u16 = 0x7fff;
