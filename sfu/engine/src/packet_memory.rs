//! Recent packets of one encoding, shared by all its subscribers. Retransmissions are served from here, and a late
//! joiner starts with the packets since the last key frame.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sfu_protocol::MediaKind;

use crate::media_packet::MediaPacket;
use crate::units::ExtendedSequence;

/// Packets are stored for at least this long, as far as [`MOST_VIDEO`] and [`MOST_AUDIO`] allow: longer than the round
/// trips and repetitions within which a receiver still requests a packet.
const HOLD: Duration = Duration::from_millis(1200);

/// Maximum number of packets stored of a video encoding: 1.2 s at about 16 Mbit/s.
const MOST_VIDEO: usize = 2048;

/// Maximum number of packets stored of an audio encoding: 1.2 s at 5 ms a packet.
const MOST_AUDIO: usize = 256;

/// Initial capacity in packets.
const LEAST: usize = 64;

/// Age above which a key frame is not replayed: catching up with the packets since then takes longer than a new key
/// frame.
const REPLAY_AGE: Duration = Duration::from_millis(1500);

/// Maximum number of packets replayed to a late joiner: about half a megabyte.
const REPLAY_PACKETS: u64 = 400;

/// Ring of the recent packets of one encoding.
#[derive(Debug)]
pub struct PacketMemory {
    ring: Vec<Option<Arc<MediaPacket>>>,
    most: usize,
    newest: Option<ExtendedSequence>,
    key_frame: Option<ExtendedSequence>,
}

impl PacketMemory {
    /// An empty memory. It allocates as it fills.
    pub fn new(kind: MediaKind) -> Self {
        let most = match kind {
            MediaKind::Audio => MOST_AUDIO,
            MediaKind::Video => MOST_VIDEO,
        };
        Self { ring: Vec::new(), most, newest: None, key_frame: None }
    }

    /// Stores a packet. If the ring is full it replaces the oldest.
    pub fn insert(&mut self, packet: Arc<MediaPacket>) {
        if self.ring.is_empty() {
            self.ring.resize(LEAST, None);
        }
        let sequence = packet.sequence;
        if packet.facts.starts_key_frame() && self.is_another_key_frame(&packet) {
            self.key_frame = Some(sequence);
        }
        self.newest = Some(self.newest.map_or(sequence, |newest| newest.max(sequence)));
        while self.must_grow(&packet) {
            self.grow();
        }
        let place = self.place(sequence);
        // A late packet that is older than the ring must not replace a newer one.
        if let Some(slot) = self.ring.get_mut(place)
            && slot.as_ref().is_none_or(|known| known.sequence <= sequence)
        {
            *slot = Some(packet);
        }
    }

    /// The packet with this number, if it is still stored.
    pub fn get(&self, sequence: ExtendedSequence) -> Option<&Arc<MediaPacket>> {
        self.ring.get(self.place(sequence))?.as_ref().filter(|packet| packet.sequence == sequence)
    }

    /// The packet whose number has these low 32 bits, if it is still stored.
    pub fn get_low(&self, low: u32) -> Option<&Arc<MediaPacket>> {
        let place = self.place(ExtendedSequence(u64::from(low)));
        self.ring.get(place)?.as_ref().filter(|packet| packet.sequence.0 as u32 == low)
    }

    /// Stored packets with higher numbers than `sequence`, in order.
    pub fn behind(&self, sequence: ExtendedSequence) -> impl Iterator<Item = &Arc<MediaPacket>> {
        let last = self.newest.map_or(0, |newest| newest.0);
        (sequence.0 + 1..=last).filter_map(|sequence| self.get(ExtendedSequence(sequence)))
    }

    /// First packet of the last key frame, if the key frame is recent enough to be replayed and no packet since then is
    /// missing.
    pub fn recent_key_frame(&self, now: Instant) -> Option<&Arc<MediaPacket>> {
        let (first, last) = (self.key_frame?, self.newest?);
        let age = now.saturating_duration_since(self.get(first)?.arrival);
        if age > REPLAY_AGE || last.0.saturating_sub(first.0) >= REPLAY_PACKETS {
            return None;
        }
        let complete = (first.0..=last.0).all(|sequence| self.get(ExtendedSequence(sequence)).is_some());
        self.get(first).filter(|_| complete)
    }

    /// Disables replay until the next key frame, because packets after the newest may be missing without notice.
    pub fn forget_key_frame(&mut self) {
        self.key_frame = None;
    }

    /// Whether the packet starts another key frame than the known one. With H.264 several packets of one key frame look
    /// like its start; the one with the lowest number is used.
    fn is_another_key_frame(&self, packet: &MediaPacket) -> bool {
        let known = self.key_frame.and_then(|sequence| self.get(sequence));
        known.is_none_or(|known| known.timestamp != packet.timestamp || packet.sequence < known.sequence)
    }

    fn must_grow(&self, packet: &MediaPacket) -> bool {
        let occupant = self.ring.get(self.place(packet.sequence)).and_then(Option::as_ref);
        self.ring.len() < self.most
            && occupant.is_some_and(|occupant| {
                occupant.sequence != packet.sequence
                    && packet.arrival.saturating_duration_since(occupant.arrival) < HOLD
            })
    }

    fn grow(&mut self) {
        let larger = vec![None; self.ring.len() * 2];
        for packet in std::mem::replace(&mut self.ring, larger).into_iter().flatten() {
            let place = self.place(packet.sequence);
            if let Some(slot) = self.ring.get_mut(place) {
                *slot = Some(packet);
            }
        }
    }

    /// The ring's length is a power of two.
    fn place(&self, sequence: ExtendedSequence) -> usize {
        (sequence.0 as usize) & self.ring.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media_packet::test_packet;
    use crate::units::test_epoch;

    #[test]
    fn packets_are_found_until_they_are_too_old_to_be_asked_for() {
        let start = test_epoch();
        let mut memory = PacketMemory::new(MediaKind::Video);
        for number in 0..3000_u64 {
            let mut packet = test_packet(number, start + Duration::from_millis(number));
            packet.facts.frame_start = true;
            memory.insert(Arc::new(packet));
        }
        assert!(memory.get(ExtendedSequence::first(0).plus(2999)).is_some());
        assert!(memory.get(ExtendedSequence::first(0).plus(1900)).is_some(), "1.1 s old");
        assert!(memory.get(ExtendedSequence::first(0).plus(900)).is_none(), "2.1 s old, overwritten");
        assert!(memory.ring.len() <= MOST_VIDEO);
    }

    #[test]
    fn a_late_joiner_gets_everything_since_the_key_frame_or_nothing() {
        let start = test_epoch();
        let mut memory = PacketMemory::new(MediaKind::Video);
        for number in 0..20_u64 {
            let mut packet = test_packet(number, start + Duration::from_millis(10 * number));
            packet.facts.frame_start = true;
            packet.facts.key_frame = number == 5;
            if number != 12 {
                memory.insert(Arc::new(packet));
            }
        }
        let now = start + Duration::from_millis(200);
        assert!(memory.recent_key_frame(now).is_none(), "one is missing");
        let late = test_packet(12, now);
        memory.insert(Arc::new(late));
        let first = memory.recent_key_frame(now).expect("complete");
        assert!(first.facts.key_frame);
        assert_eq!(memory.behind(first.sequence).count(), 14);
        assert!(memory.recent_key_frame(now + Duration::from_secs(2)).is_none(), "too old to catch up");
    }
}
