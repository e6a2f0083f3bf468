//! Numbering for one subscriber. It sees one stream, whatever encodings, pauses and mutes that stream is made of:
//! sequence numbers without holes other than losses, timestamps that go on, picture ids that count.
//!
//! Within one encoding a number here is the publisher's number plus an offset, less what was left out on purpose
//! in between. So a packet that comes late gets the number that its neighbours left free for it.

use std::time::{Duration, Instant};

use crate::media_packet::MediaPacket;
use crate::rtp::codec::{PayloadFacts, Vp8Picture};
use crate::units::{ExtendedSequence, RESTART_GAP, SenderClock};

/// Sender clocks of two encodings that disagree with the arrival of their packets by more than this are not
/// believed: a publisher that restarted its clock would otherwise stop its receivers' pictures.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(500);

/// The layer of a packet of another publication: no layer is that.
const ELSEWHERE: u8 = u8::MAX;

/// How one packet reads for this subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewritten {
    /// Its number.
    pub sequence: ExtendedSequence,
    /// Its RTP timestamp.
    pub timestamp: u32,
    /// Its marker bit.
    pub marker: bool,
    /// The ids of its picture, where it has such.
    pub ids: Option<PictureIds>,
}

/// Ids in a VP8 (RFC 7741 section 4.2) or VP9 (RFC 9628 section 4.2) descriptor and in a dependency descriptor. Those
/// that the publisher's packet lacks mean nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PictureIds {
    /// PictureID, 15 bits; the low 7 count where the publisher's has 7.
    pub picture_id: u16,
    /// The dependency descriptor's frame number.
    pub frame_number: u16,
    /// TL0PICIDX.
    pub tl0_picture_index: u8,
    /// KEYIDX of VP8, 5 bits.
    pub key_index: u8,
}

/// The state of one subscription's numbering.
#[derive(Debug)]
pub struct Rewrite {
    first: (ExtendedSequence, u32),
    source: Option<Source>,
    last: Option<Last>,
    /// What was left out of the encoding that is sent now; takes room only where something is.
    left_out: Option<Box<LeftOut>>,
}

/// How the numbers of the encoding that is sent now become ours.
#[derive(Debug)]
struct Source {
    layer: u8,
    /// Packets before this one are from before the switch.
    first: ExtendedSequence,
    /// The highest number seen, sent or left out.
    highest: ExtendedSequence,
    /// Ours less theirs, wrapping, for packets from `highest` on.
    offset: u64,
    timestamp_offset: u32,
    /// How far `timestamp_offset` is ahead of what the publisher's clock asked for, because time may not go back.
    /// The next switch takes it off again, so that many switches do not add up.
    ahead: u32,
    pictures: Option<Pictures>,
}

/// The newest packet sent.
#[derive(Debug, Clone, Copy)]
struct Last {
    layer: u8,
    sequence: ExtendedSequence,
    timestamp: u32,
    /// The publisher's timestamp of it.
    source_timestamp: u32,
    /// As in its source.
    ahead: u32,
    /// When the first packet with that timestamp arrived.
    arrival: Instant,
    ids: Option<PictureIds>,
}

impl Rewrite {
    /// Numbering that starts with this sequence number and timestamp. Picture ids start with the publisher's.
    pub fn new(sequence: u16, timestamp: u32) -> Self {
        Self {
            first: (ExtendedSequence::first(sequence), timestamp),
            source: None,
            last: None,
            left_out: None,
        }
    }

    /// The packet is the first of another encoding, or the first after a pause: what follows is numbered on from
    /// the last packet sent. `clocks` are the publisher's sender reports, by layer.
    pub fn switch(&mut self, packet: &MediaPacket, clocks: &[Option<SenderClock>]) {
        let (sequence, timestamp, ahead) = match &self.last {
            Some(last) => {
                let (timestamp, ahead) = next_timestamp(last, packet, clocks);
                (last.sequence.plus(1), timestamp, ahead)
            }
            None => (self.first.0, self.first.1, 0),
        };
        if let Some(left_out) = &mut self.left_out {
            **left_out = LeftOut::default();
        }
        self.source = Some(Source {
            layer: packet.layer.0,
            first: packet.sequence,
            highest: packet.sequence,
            offset: sequence.0.wrapping_sub(packet.sequence.0),
            timestamp_offset: timestamp.wrapping_sub(packet.timestamp.wire()),
            ahead,
            pictures: None,
        });
    }

    /// What follows is of another publication, whose numbers and clock have nothing to do with those of before: it goes
    /// on behind the last packet sent, by the time at which it arrives.
    pub fn leave_source(&mut self) {
        self.source = None;
        if let Some(last) = &mut self.last {
            last.layer = ELSEWHERE;
        }
    }

    /// What was sent so far was of no use: the encoding that is sent now begins again with an earlier packet of
    /// it, under new numbers (a number protects one packet only) but at its old place in time.
    pub fn begin_again(&mut self, packet: &MediaPacket) {
        let timing = self.source.as_ref().map(|source| (source.timestamp_offset, source.ahead));
        self.switch(packet, &[]);
        if let (Some(source), Some((timestamp_offset, ahead))) = (&mut self.source, timing) {
            source.timestamp_offset = timestamp_offset;
            source.ahead = ahead;
        }
    }

    /// How the packet reads. `None` if it is from before the last switch, from another encoding, or too old to tell
    /// what was left out since.
    // Out of line, the caller would read back in one piece what was just written in several, and wait for it.
    #[inline]
    pub fn forward(&mut self, packet: &MediaPacket) -> Option<Rewritten> {
        let source = self.source.as_ref().filter(|source| source.layer == packet.layer.0)?;
        if packet.sequence.0.saturating_sub(source.highest.0) > RESTART_GAP {
            self.switch(packet, &[]);
        }
        let source = self.source.as_mut()?;
        if packet.sequence < source.first {
            return None;
        }
        let mut offset = source.offset;
        match &mut self.left_out {
            Some(left_out) if packet.sequence < source.highest => {
                offset = offset.wrapping_add(left_out.between(packet.sequence, source.highest)?);
            }
            Some(left_out) => left_out.advance(source.highest, packet.sequence),
            None => {}
        }
        source.highest = source.highest.max(packet.sequence);
        let sequence = packet.sequence.plus(offset);
        let timestamp = packet.timestamp.wire().wrapping_add(source.timestamp_offset);
        let before = self.last.and_then(|last| last.ids);
        let ids = ids_of(&packet.facts).map(|theirs| {
            let pictures = source.pictures.get_or_insert_with(|| Pictures::after(before, theirs));
            pictures.place(theirs, packet.facts.vp8.as_ref())
        });
        if self.last.is_none_or(|last| sequence > last.sequence) {
            let arrival = match self.last {
                Some(last) if last.timestamp == timestamp => last.arrival,
                _ => packet.arrival,
            };
            self.last = Some(Last {
                layer: source.layer,
                sequence,
                timestamp,
                source_timestamp: packet.timestamp.wire(),
                ahead: source.ahead,
                arrival,
                ids: ids.or(before),
            });
        }
        Some(Rewritten { sequence, timestamp, marker: packet.marker, ids })
    }

    /// The packet is not sent, on purpose: if it is newer than all before of the encoding that is sent, the numbers
    /// close over it, and the subscriber does not ask for it. Behind newer packets that have their numbers already,
    /// a hole remains.
    pub fn skip(&mut self, packet: &MediaPacket) {
        let Some(source) = self.source.as_mut().filter(|source| source.layer == packet.layer.0) else {
            return;
        };
        let step = packet.sequence.0.saturating_sub(source.highest.0);
        if step == 0 || step > RESTART_GAP {
            return;
        }
        let left_out = self.left_out.get_or_insert_default();
        left_out.advance(source.highest, packet.sequence);
        left_out.add(packet.sequence);
        source.highest = packet.sequence;
        source.offset = source.offset.wrapping_sub(1);
        if let (Some(picture), Some(pictures)) = (&packet.facts.vp8, &mut source.pictures) {
            pictures.leave_out(picture);
        }
    }

    /// Reads a little of all of it; see [`Subscription::touch`](super::track::Subscription::touch).
    pub(super) fn touch(&self) -> u64 {
        let source = self.source.as_ref().map_or(0, |source| source.highest.0 ^ u64::from(source.ahead));
        source ^ self.last.map_or(0, |last| last.sequence.0 ^ u64::from(last.timestamp))
    }

    /// The highest number given out so far.
    pub fn newest(&self) -> Option<ExtendedSequence> {
        self.last.map(|last| last.sequence)
    }

    /// The timestamp of the newest packet sent.
    pub fn last_timestamp(&self) -> u32 {
        self.last.map_or(self.first.1, |last| last.timestamp)
    }

    /// What our timestamps are ahead of those of the encoding that is sent now, in ticks.
    pub fn timestamp_offset(&self) -> Option<u32> {
        self.source.as_ref().map(|source| source.timestamp_offset)
    }
}

/// The timestamp with which another encoding, or the same after a pause, goes on, and how far that is ahead of the
/// publisher's clock: by that clock where it is known for both, by arrival otherwise.
fn next_timestamp(last: &Last, packet: &MediaPacket, clocks: &[Option<SenderClock>]) -> (u32, u32) {
    let rate = packet.codec.clock_rate();
    let ticks = |time: Duration| (time.as_nanos() * u128::from(rate) / 1_000_000_000) as u32;
    let now = packet.timestamp.wire();
    let clock = |layer: u8| clocks.get(usize::from(layer)).copied().flatten();
    let in_old_ticks = if last.layer == packet.layer.0 {
        Some(now)
    } else if let (Some(before), Some(after)) = (clock(last.layer), clock(packet.layer.0)) {
        Some(before.timestamp_at(after.ntp_of(now, rate), rate))
    } else {
        None
    };
    let by_arrival = ticks(packet.arrival.saturating_duration_since(last.arrival));
    let by_clock = in_old_ticks.map(|now| now.wrapping_sub(last.source_timestamp).wrapping_sub(last.ahead));
    let tolerance = ticks(CLOCK_TOLERANCE).saturating_add(last.ahead);
    let by_clock = by_clock.filter(|ticks| {
        let difference = ticks.wrapping_sub(by_arrival) as i32;
        difference.unsigned_abs() <= tolerance
    });
    let wished = by_clock.unwrap_or(by_arrival);
    // A clock says that the time is at or before that of the last packet where both encodings had the same picture.
    let step = if (wished as i32) < 1 { 1 } else { wished };
    let ahead = if by_clock.is_some() { step.wrapping_sub(wished) } else { 0 };
    (last.timestamp.wrapping_add(step), ahead)
}

/// Which of the latest numbers of an encoding were left out on purpose.
#[derive(Debug, Default)]
struct LeftOut {
    bits: [u64; LEFT_OUT_WORDS],
}

impl LeftOut {
    /// Numbers above `from` up to `to` are new, and not left out so far.
    fn advance(&mut self, from: ExtendedSequence, to: ExtendedSequence) {
        if to.0.saturating_sub(from.0) >= LEFT_OUT {
            self.bits = [0; LEFT_OUT_WORDS];
            return;
        }
        for number in from.0 + 1..=to.0 {
            self.bits[word(number)] &= !(1 << (number % 64));
        }
    }

    fn add(&mut self, number: ExtendedSequence) {
        self.bits[word(number.0)] |= 1 << (number.0 % 64);
    }

    /// How many were left out above `from` up to `to`. `None` if that is too long ago, or if `from` was left out.
    fn between(&self, from: ExtendedSequence, to: ExtendedSequence) -> Option<u64> {
        if to.0.saturating_sub(from.0) >= LEFT_OUT || self.is_in(from.0) {
            return None;
        }
        Some((from.0 + 1..=to.0).filter(|number| self.is_in(*number)).count() as u64)
    }

    fn is_in(&self, number: u64) -> bool {
        self.bits[word(number)] & 1 << (number % 64) != 0
    }
}

/// Always below [`LEFT_OUT_WORDS`].
fn word(number: u64) -> usize {
    (number / 64 % LEFT_OUT_WORDS as u64) as usize
}

/// How the ids of the encoding that is sent now become ours. VP8 pictures that are left out close up as packets do: a
/// decoder with temporal layers waits for a picture id that it misses. Elsewhere frames name those that they need.
#[derive(Debug)]
struct Pictures {
    /// The highest picture id seen, sent or left out.
    highest: u16,
    /// Ours less theirs, for pictures from `highest` on.
    offset: u16,
    /// Bit n: the picture n before the highest was left out.
    left_out: u64,
    frame_offset: u16,
    tl0_offset: u8,
    key_offset: u8,
}

impl Pictures {
    /// Ids that go on from the last ones sent, or with the publisher's own.
    fn after(last: Option<PictureIds>, theirs: PictureIds) -> Self {
        let ours = last.map_or(theirs, |last| PictureIds {
            picture_id: last.picture_id.wrapping_add(1),
            frame_number: last.frame_number.wrapping_add(1),
            tl0_picture_index: last.tl0_picture_index.wrapping_add(1),
            key_index: last.key_index.wrapping_add(1),
        });
        Self {
            highest: theirs.picture_id,
            offset: ours.picture_id.wrapping_sub(theirs.picture_id),
            left_out: 0,
            frame_offset: ours.frame_number.wrapping_sub(theirs.frame_number),
            tl0_offset: ours.tl0_picture_index.wrapping_sub(theirs.tl0_picture_index),
            key_offset: ours.key_index.wrapping_sub(theirs.key_index),
        }
    }

    fn place(&mut self, theirs: PictureIds, vp8: Option<&Vp8Picture>) -> PictureIds {
        let left_out = vp8.map_or(0, |picture| {
            let behind = self.advance(picture);
            let newer = (1_u64 << behind.min(63)) - 1;
            (self.left_out & newer).count_ones() as u16
        });
        PictureIds {
            picture_id: theirs.picture_id.wrapping_add(self.offset).wrapping_add(left_out) & PICTURE_ID,
            frame_number: theirs.frame_number.wrapping_add(self.frame_offset),
            tl0_picture_index: theirs.tl0_picture_index.wrapping_add(self.tl0_offset),
            key_index: theirs.key_index.wrapping_add(self.key_offset) & KEY_INDEX,
        }
    }

    fn leave_out(&mut self, picture: &Vp8Picture) {
        let highest = self.highest;
        let newest = self.advance(picture) == 0 && self.highest != highest;
        if newest {
            self.left_out |= 1;
            self.offset = self.offset.wrapping_sub(1);
        }
    }

    /// Notes that a picture was seen, and returns how many pictures it is behind the newest.
    fn advance(&mut self, picture: &Vp8Picture) -> u16 {
        let ids = if picture.long_picture_id { PICTURE_ID } else { SHORT_PICTURE_ID };
        let id = picture.picture_id.unwrap_or_default();
        let step = id.wrapping_sub(self.highest) & ids;
        if step > ids / 2 {
            return self.highest.wrapping_sub(id) & ids;
        }
        self.left_out = self.left_out.checked_shl(u32::from(step)).unwrap_or(0);
        self.highest = id;
        0
    }
}

/// The publisher's ids.
#[inline]
fn ids_of(facts: &PayloadFacts) -> Option<PictureIds> {
    let mut ids = PictureIds::default();
    if let Some(vp8) = &facts.vp8 {
        ids.picture_id = vp8.picture_id.unwrap_or_default();
        ids.tl0_picture_index = vp8.tl0_picture_index.unwrap_or_default();
        ids.key_index = vp8.key_index().unwrap_or_default();
    } else if let Some(vp9) = &facts.vp9 {
        ids.picture_id = vp9.picture_id.unwrap_or_default();
        ids.tl0_picture_index = vp9.tl0_picture_index.unwrap_or_default();
    } else if facts.dependency.is_none() {
        return None;
    }
    ids.frame_number = facts.dependency.map_or(0, |dependency| dependency.frame_number);
    Some(ids)
}

const PICTURE_ID: u16 = 0x7fff;
const SHORT_PICTURE_ID: u16 = 0x7f;
const KEY_INDEX: u8 = 0x1f;
/// A packet may come that much later than others and still be placed among what was left out.
const LEFT_OUT_WORDS: usize = 16;
const LEFT_OUT: u64 = 64 * LEFT_OUT_WORDS as u64;

#[cfg(test)]
mod tests;
