//! Log of what was sent to one subscriber, for retransmissions. It does not hold the packets, which are shared
//! ([`PacketMemory`](crate::packet_memory::PacketMemory)), only how each was rewritten.

use std::time::{Duration, Instant};

use sfu_protocol::Layer;

use super::rewrite::{PictureIds, Rewritten};
use crate::media_packet::MediaPacket;
use crate::units::ExtendedSequence;

/// Initial and maximum number of entries. The maximum is 1.2 s at about 8 Mbit/s.
const LEAST: usize = 64;
const MOST: usize = 1024;

/// An entry younger than this, in milliseconds, is not overwritten as long as the log may grow.
const HOLD_MS: u32 = 1200;

/// A request that arrives within this share of a round trip after a retransmission crossed that retransmission on the
/// way. At most 100 %: receivers repeat a request only a few times, a round trip apart, and none of those may be
/// wasted.
const ECHO_PERCENT: u32 = 95;

/// [`ECHO_PERCENT`] for the first transmission. No genuine request can arrive sooner than a round trip after it, but a
/// packet that was itself late may have been requested before it was sent. Below 100 % because RTT estimates are
/// inexact.
const FIRST_ECHO_PERCENT: u32 = 80;

/// Value of `resent` for a packet that is treated as if it had been retransmitted this many times.
pub(super) const URGENT: u8 = 2;

/// How one packet was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentEntry {
    /// Layer that identifies the packet's encoding.
    pub layer: Layer,
    /// Publisher's sequence number, lower 32 bits.
    pub source: u32,
    /// Header and descriptor values as sent.
    pub rewritten: Rewritten,
    /// Number of earlier retransmissions.
    pub resent: u8,
}

/// Answer to a retransmission request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retransmit {
    /// Send the packet again.
    Send(SentEntry),
    /// Ignore the request: the packet was sent or sent again less than about a round trip ago, and the request crossed
    /// it.
    TooSoon,
    /// Ignore the request: the packet was sent again as often as is allowed.
    TooOften,
    /// The packet is not in the log.
    Gone,
}

/// Log of one subscription.
#[derive(Debug, Default)]
pub struct SentLog {
    ring: Vec<Entry>,
    newest: Option<ExtendedSequence>,
    began: Option<Instant>,
}

/// 24 bytes: there is one for every packet of the last second of every subscription.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    sequence: u32,
    source: u32,
    timestamp: u32,
    sent_ms: u32,
    picture_id: u16,
    frame_number: u16,
    tl0_picture_index: u8,
    /// Layer in the upper 3 bits, KEYIDX of VP8 in the lower 5.
    layer_and_key: u8,
    resent: u8,
    flags: u8,
}

/// Flags of an entry: the entry is used, its packet has picture ids, its packet has the marker bit.
const USED: u8 = 1;
const HAS_IDS: u8 = 2;
const MARKER: u8 = 4;
const KEY_INDEX: u8 = 0x1f;

impl Entry {
    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn sent(&self, sequence: ExtendedSequence) -> SentEntry {
        let (timestamp, marker, ids) = (self.timestamp, self.has(MARKER), self.ids());
        SentEntry {
            layer: Layer(self.layer_and_key >> 5),
            source: self.source,
            rewritten: Rewritten { sequence, timestamp, marker, ids },
            resent: self.resent,
        }
    }

    fn ids(&self) -> Option<PictureIds> {
        self.has(HAS_IDS).then_some(PictureIds {
            picture_id: self.picture_id,
            frame_number: self.frame_number,
            tl0_picture_index: self.tl0_picture_index,
            key_index: self.layer_and_key & KEY_INDEX,
        })
    }
}

impl SentLog {
    /// Records how a packet is sent.
    pub fn insert(&mut self, packet: &MediaPacket, rewritten: &Rewritten) {
        let began = *self.began.get_or_insert(packet.arrival);
        let sent_ms = packet.arrival.saturating_duration_since(began).as_millis() as u32;
        if self.ring.is_empty() {
            self.ring.resize(LEAST, Entry::default());
        }
        while self.must_grow(rewritten.sequence, sent_ms) {
            self.grow();
        }
        let ids = rewritten.ids.unwrap_or_default();
        let has_ids = if rewritten.ids.is_some() { HAS_IDS } else { 0 };
        let marker = if rewritten.marker { MARKER } else { 0 };
        let place = place(rewritten.sequence.0 as u32, self.ring.len());
        if let Some(entry) = self.ring.get_mut(place) {
            *entry = Entry {
                sequence: rewritten.sequence.0 as u32,
                source: packet.sequence.0 as u32,
                timestamp: rewritten.timestamp,
                sent_ms,
                picture_id: ids.picture_id,
                frame_number: ids.frame_number,
                tl0_picture_index: ids.tl0_picture_index,
                // At most eight streams of a track can be distinguished: see `MOST_LAYERS`.
                layer_and_key: packet.layer.0 << 5 | ids.key_index & KEY_INDEX,
                resent: 0,
                flags: USED | has_ids | marker,
            };
        }
        self.newest = Some(self.newest.map_or(rewritten.sequence, |newest| newest.max(rewritten.sequence)));
    }

    /// Prefetch; see [`Subscription::touch`](super::track::Subscription::touch).
    pub(super) fn touch(&self) -> u64 {
        self.ring.len() as u64 ^ self.newest.map_or(0, |newest| newest.0)
    }

    /// Prefetch of the entries that the next `packets` packets will take.
    pub(super) fn touch_next(&self, packets: usize) -> u64 {
        let next = self.newest.map_or(0, |newest| newest.0 as u32).wrapping_add(1);
        // Two and a half entries share a cache line.
        let places =
            (0..packets as u32).step_by(2).map(|ahead| place(next.wrapping_add(ahead), self.ring.len()));
        places.filter_map(|place| self.ring.get(place)).fold(0, |sum, entry| sum ^ u64::from(entry.sequence))
    }

    /// Decides about a request for a packet. `most` is the maximum number of retransmissions.
    pub fn lookup(&self, wire: u16, now: Instant, rtt: Duration, most: u8) -> Retransmit {
        let Some((sequence, entry)) = self.find(wire) else { return Retransmit::Gone };
        if entry.resent >= most {
            return Retransmit::TooOften;
        }
        let since = self.now_ms(now).saturating_sub(entry.sent_ms);
        let echo = if entry.resent == 0 { FIRST_ECHO_PERCENT } else { ECHO_PERCENT };
        if u128::from(since) < rtt.as_millis() * u128::from(echo) / 100 {
            return Retransmit::TooSoon;
        }
        Retransmit::Send(entry.sent(sequence))
    }

    /// The packet whose last transmission was number `attempt`, 0 being the first. `None` if it was sent again since,
    /// was sent again as often as is allowed, or is not in the log.
    pub fn lost(&self, wire: u16, attempt: u8, most: u8) -> Option<SentEntry> {
        let (sequence, entry) = self.find(wire)?;
        (entry.resent == attempt && entry.resent < most).then(|| entry.sent(sequence))
    }

    /// Counts a packet as sent again [`URGENT`] times, so that the next request for it gets the maximum number of
    /// copies.
    pub fn mark_urgent(&mut self, wire: u16) {
        let Some((sequence, _)) = self.find(wire) else { return };
        let place = place(sequence.0 as u32, self.ring.len());
        if let Some(entry) = self.ring.get_mut(place) {
            entry.resent = entry.resent.max(URGENT);
        }
    }

    /// Records that a packet was sent again.
    pub fn mark_resent(&mut self, wire: u16, now: Instant) {
        let now = self.now_ms(now);
        let Some((sequence, _)) = self.find(wire) else { return };
        let place = place(sequence.0 as u32, self.ring.len());
        if let Some(entry) = self.ring.get_mut(place) {
            entry.resent = entry.resent.saturating_add(1);
            entry.sent_ms = now;
        }
    }

    /// Removes entries with numbers above `left` (`None`: all). Those packets never left, and others get their numbers.
    pub fn forget_above(&mut self, left: Option<ExtendedSequence>) {
        let (Some(left), Some(newest)) = (left, self.newest) else {
            self.ring.clear();
            self.newest = None;
            return;
        };
        // An entry never left if it is less than this far below the newest.
        let never_left = newest.0.saturating_sub(left.0);
        for entry in &mut self.ring {
            if u64::from((newest.0 as u32).wrapping_sub(entry.sequence)) < never_left {
                *entry = Entry::default();
            }
        }
        self.newest = Some(newest.min(left));
    }

    fn find(&self, wire: u16) -> Option<(ExtendedSequence, &Entry)> {
        let sequence = self.newest?.extend(wire);
        let entry = self.ring.get(place(sequence.0 as u32, self.ring.len()))?;
        (entry.has(USED) && entry.sequence == sequence.0 as u32).then_some((sequence, entry))
    }

    fn now_ms(&self, now: Instant) -> u32 {
        self.began.map_or(0, |began| now.saturating_duration_since(began).as_millis() as u32)
    }

    fn must_grow(&self, sequence: ExtendedSequence, now_ms: u32) -> bool {
        let occupant = self.ring.get(place(sequence.0 as u32, self.ring.len()));
        self.ring.len() < MOST
            && occupant.is_some_and(|entry| {
                entry.has(USED)
                    && entry.sequence != sequence.0 as u32
                    && now_ms.saturating_sub(entry.sent_ms) < HOLD_MS
            })
    }

    fn grow(&mut self) {
        let larger = vec![Entry::default(); self.ring.len() * 2];
        for entry in std::mem::replace(&mut self.ring, larger) {
            let place = place(entry.sequence, self.ring.len());
            if let Some(slot) = self.ring.get_mut(place).filter(|_| entry.has(USED)) {
                *slot = entry;
            }
        }
    }
}

/// Index into the ring, whose length is a power of two.
fn place(sequence: u32, len: usize) -> usize {
    (sequence as usize) & len.wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media_packet::test_packet;
    use crate::units::test_epoch;

    const RTT: Duration = Duration::from_millis(100);

    fn log(packets: u64, start: Instant) -> SentLog {
        let mut log = SentLog::default();
        for number in 0..packets {
            let packet = test_packet(number, start + Duration::from_millis(number));
            let sequence = ExtendedSequence::first(65_500).plus(number);
            log.insert(&packet, &Rewritten { sequence, timestamp: number as u32, marker: true, ids: None });
        }
        log
    }

    #[test]
    fn a_packet_is_sent_again_a_round_trip_apart_and_a_few_times_at_most() {
        let start = test_epoch();
        let mut log = log(100, start);
        let mut now = start + Duration::from_millis(160);
        let wire = 65_500_u16.wrapping_add(60);
        for _ in 0..3 {
            let Retransmit::Send(entry) = log.lookup(wire, now, RTT, 3) else { panic!("sent") };
            assert_eq!(entry.rewritten.timestamp, 60);
            assert_eq!(entry.source, ExtendedSequence::first(0).plus(60).0 as u32);
            log.mark_resent(wire, now);
            assert_eq!(log.lookup(wire, now + Duration::from_millis(90), RTT, 9), Retransmit::TooSoon);
            now += RTT * 2;
        }
        assert_eq!(log.lookup(wire, now, RTT, 3), Retransmit::TooOften);
        assert_eq!(log.lookup(30_000, now, RTT, 3), Retransmit::Gone);
    }

    #[test]
    fn the_log_grows_to_hold_a_second_and_not_further() {
        let start = test_epoch();
        let log = log(5000, start);
        assert_eq!(log.ring.len(), MOST);
        let now = start + Duration::from_millis(5_200);
        let wire = |number: u64| ExtendedSequence::first(65_500).plus(number).wire();
        assert!(matches!(log.lookup(wire(4999), now, RTT, 3), Retransmit::Send(_)));
        assert_eq!(log.lookup(wire(3000), now, RTT, 3), Retransmit::Gone);
        assert_eq!(size_of::<Entry>(), 24);
    }

    #[test]
    fn of_packets_that_never_left_none_is_remembered_however_many_they_are() {
        let start = test_epoch();
        let now = start + Duration::from_secs(10);
        let number = |number: u64| ExtendedSequence::first(65_500).plus(number);
        let most = MOST as u64;
        for withdrawn in [1, 100, most - 1, most, most + 1, 2 * most + 7] {
            let mut log = log(3000, start);
            let left = 2999 - withdrawn;
            log.forget_above(Some(number(left)));
            for lost in left + 1..3000 {
                let found = log.lookup(number(lost).wire(), now, RTT, 3);
                assert_eq!(found, Retransmit::Gone, "{lost} of {withdrawn} withdrawn");
            }
            let kept =
                (0..=left).filter(|at| log.lookup(number(*at).wire(), now, RTT, 3) != Retransmit::Gone);
            assert_eq!(kept.count() as u64, most.saturating_sub(withdrawn));
        }
    }
}
