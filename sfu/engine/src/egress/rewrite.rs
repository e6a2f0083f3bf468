//! Renumbers packets for one subscriber, which sees one stream whatever encodings, pauses and mutes it is made of:
//! sequence numbers have no holes other than losses, timestamps continue, and picture ids count up.
//!
//! Within one encoding, an outgoing sequence number is the publisher's number plus an offset, less the number of
//! packets left out on purpose in between. So a late packet gets the number that its neighbours left free for it.

use std::time::{Duration, Instant};

use crate::media_packet::MediaPacket;
use crate::rtp::codec::{PayloadFacts, Vp8Picture};
use crate::units::{ExtendedSequence, RESTART_GAP, SenderClock};

/// If the sender clocks of two encodings disagree with the arrival of their packets by more than this, they are
/// ignored: a publisher that restarted its clock would otherwise freeze its receivers' video.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(500);

/// Stands for the layer of a packet of an earlier publication; differs from every real layer.
const ELSEWHERE: u8 = u8::MAX;

/// Header and descriptor values of one packet as sent to this subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewritten {
    /// Extended RTP sequence number.
    pub sequence: ExtendedSequence,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Marker bit.
    pub marker: bool,
    /// Picture ids; absent if the packet's format has none.
    pub ids: Option<PictureIds>,
}

/// Ids in a VP8 (RFC 7741 section 4.2) or VP9 (RFC 9628 section 4.2) descriptor and in a dependency descriptor. Ids
/// that the publisher's packet lacks have no meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PictureIds {
    /// PictureID, 15 bits. Only the low 7 are used where the publisher's has 7.
    pub picture_id: u16,
    /// Frame number of the dependency descriptor.
    pub frame_number: u16,
    /// TL0PICIDX of VP8 and VP9.
    pub tl0_picture_index: u8,
    /// KEYIDX of VP8, 5 bits.
    pub key_index: u8,
}

/// Numbering state of one subscription.
#[derive(Debug)]
pub struct Rewrite {
    first: (ExtendedSequence, u32),
    source: Option<Source>,
    last: Option<Last>,
    left: Option<Left>,
    /// Packets left out of the current encoding; allocated only once there is one.
    left_out: Option<Box<LeftOut>>,
}

/// Mapping from the numbers of the current encoding to the outgoing ones.
#[derive(Debug)]
struct Source {
    layer: u8,
    /// First packet after the switch. Earlier packets are not sent.
    first: ExtendedSequence,
    /// Highest number seen, whether sent or left out.
    highest: ExtendedSequence,
    /// Outgoing number minus the publisher's, wrapping, for packets from `highest` on.
    offset: u64,
    timestamp_offset: u32,
    /// How far `timestamp_offset` is ahead of the publisher's clock because timestamps must not go back. The next
    /// switch subtracts this, so that many switches do not add up.
    ahead: u32,
    pictures: Option<Pictures>,
}

/// The newest packet sent.
#[derive(Debug, Clone, Copy)]
struct Last {
    layer: u8,
    sequence: ExtendedSequence,
    timestamp: u32,
    /// Publisher's timestamp of the packet.
    source_timestamp: u32,
    /// `ahead` of the source at that time.
    ahead: u32,
    /// When the first packet with that timestamp arrived.
    arrival: Instant,
    ids: Option<PictureIds>,
}

/// The packet with the highest number among those that have left the pacer.
#[derive(Debug, Clone, Copy)]
struct Left {
    sequence: ExtendedSequence,
    timestamp: u32,
}

impl Rewrite {
    /// Numbering that starts with this sequence number and timestamp. Picture ids start with the publisher's.
    pub fn new(sequence: u16, timestamp: u32) -> Self {
        Self {
            first: (ExtendedSequence::first(sequence), timestamp),
            source: None,
            last: None,
            left: None,
            left_out: None,
        }
    }

    /// Records that a packet has left for the first time.
    #[inline]
    pub fn on_left(&mut self, rewritten: &Rewritten) {
        if self.left.is_none_or(|left| rewritten.sequence > left.sequence) {
            self.left = Some(Left { sequence: rewritten.sequence, timestamp: rewritten.timestamp });
        }
    }

    /// Whether the packet with this number, or another of its frame, may still be queued.
    pub fn waits(&self, rewritten: &Rewritten) -> bool {
        self.left
            .is_none_or(|left| left.sequence < rewritten.sequence || left.timestamp == rewritten.timestamp)
    }

    /// Takes back the numbers of packets that have not left: the next packet, which starts an encoding, gets the number
    /// after the last one that left. Returns that last number. Queued packets above it must not be sent, or one number
    /// would be used twice.
    pub fn withdraw(&mut self) -> Option<ExtendedSequence> {
        let left = self.left.map(|left| left.sequence);
        self.source = None;
        match (&mut self.last, left) {
            (Some(last), Some(left)) => last.sequence = left,
            (last, _) => *last = None,
        }
        left
    }

    /// Whether a packet belongs to another frame than the newest numbered packet.
    pub fn begins_frame(&self, packet: &MediaPacket) -> bool {
        self.last.is_none_or(|last| {
            last.layer != packet.layer.0 || last.source_timestamp != packet.timestamp.wire()
        })
    }

    /// Starts another encoding, or the same after a pause, with this packet: numbers continue from the last packet
    /// sent. `clocks` are the publisher's sender clocks, by layer.
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
            // If this packet is left out after all, the numbers close over it too.
            highest: ExtendedSequence(packet.sequence.0.saturating_sub(1)),
            offset: sequence.0.wrapping_sub(packet.sequence.0),
            timestamp_offset: timestamp.wrapping_sub(packet.timestamp.wire()),
            ahead,
            pictures: None,
        });
    }

    /// Prepares for another publication, whose numbers and clock are unrelated to the previous ones. Its timestamps
    /// will continue from the last packet sent, by arrival time.
    pub fn leave_source(&mut self) {
        self.source = None;
        if let Some(last) = &mut self.last {
            last.layer = ELSEWHERE;
        }
    }

    /// Starts the current encoding again with an earlier packet, because what was sent so far was useless. The packet
    /// gets a new number, since one number protects one packet only, but keeps its timestamp. Queued packets are
    /// [withdrawn](Self::withdraw). Returns the last number that left.
    pub fn begin_again(&mut self, packet: &MediaPacket) -> Option<ExtendedSequence> {
        let timing = self.source.as_ref().map(|source| (source.timestamp_offset, source.ahead));
        let left = self.withdraw();
        self.switch(packet, &[]);
        if let (Some(source), Some((timestamp_offset, ahead))) = (&mut self.source, timing) {
            source.timestamp_offset = timestamp_offset;
            source.ahead = ahead;
        }
        left
    }

    /// Values for the packet as sent. `None` if it is from before the last switch, from another encoding, or too old to
    /// tell which packets were left out since.
    // Without inlining, the caller reads the result back in one load just after it was written in several stores, and
    // stalls.
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

    /// Leaves a packet out on purpose. If it is the newest of the current encoding, the numbers close over it and the
    /// subscriber does not request it. If newer packets already have numbers, a hole remains.
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

    /// Prefetch; see [`Subscription::touch`](super::track::Subscription::touch).
    pub(super) fn touch(&self) -> u64 {
        let source = self.source.as_ref().map_or(0, |source| source.highest.0 ^ u64::from(source.ahead));
        source ^ self.last.map_or(0, |last| last.sequence.0 ^ u64::from(last.timestamp))
    }

    /// Highest number assigned so far.
    pub fn newest(&self) -> Option<ExtendedSequence> {
        self.last.map(|last| last.sequence)
    }

    /// Timestamp of the newest packet sent; the initial timestamp before that.
    pub fn last_timestamp(&self) -> u32 {
        self.last.map_or(self.first.1, |last| last.timestamp)
    }

    /// Outgoing timestamp minus the timestamp of the current encoding, in ticks, wrapping.
    pub fn timestamp_offset(&self) -> Option<u32> {
        self.source.as_ref().map(|source| source.timestamp_offset)
    }
}

/// Returns the timestamp with which another encoding, or the same after a pause, continues, and how far that is ahead
/// of the publisher's clock. Uses that clock if it is known for both encodings, otherwise arrival times.
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
    // The clock yields a time at or before that of the last packet if both encodings had the same picture.
    let step = if (wished as i32) < 1 { 1 } else { wished };
    let ahead = if by_clock.is_some() { step.wrapping_sub(wished) } else { 0 };
    (last.timestamp.wrapping_add(step), ahead)
}

/// Bitmap of the most recent numbers of an encoding: which were left out on purpose.
#[derive(Debug, Default)]
struct LeftOut {
    bits: [u64; LEFT_OUT_WORDS],
}

impl LeftOut {
    /// Marks the numbers above `from` up to `to` as not left out.
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

    /// Number of packets left out above `from` up to `to`. `None` if that is too long ago, or if `from` was left out.
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

/// Index into the bitmap, always below [`LEFT_OUT_WORDS`].
fn word(number: u64) -> usize {
    (number / 64 % LEFT_OUT_WORDS as u64) as usize
}

/// Mapping from the ids of the current encoding to the outgoing ones. Ids close over VP8 pictures that are left out: a
/// decoder with temporal layers waits for a missing picture id. In other formats, each frame names those it needs.
#[derive(Debug)]
struct Pictures {
    /// Highest picture id seen, whether sent or left out.
    highest: u16,
    /// Outgoing id minus the publisher's, for pictures from `highest` on.
    offset: u16,
    /// Bit n is set if the picture n before `highest` was left out.
    left_out: u64,
    frame_offset: u16,
    tl0_offset: u8,
    key_offset: u8,
}

impl Pictures {
    /// Ids that continue from the last ones sent, or start with the publisher's own.
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

    /// Records a picture and returns how many pictures it is behind the newest.
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

/// The publisher's ids; `None` if the packet's format has none.
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
/// Size of the bitmap in words of 64 packets. A packet can still be numbered if it is this much behind the newest.
const LEFT_OUT_WORDS: usize = 16;
const LEFT_OUT: u64 = 64 * LEFT_OUT_WORDS as u64;

#[cfg(test)]
mod tests;
