//! Sound that repeats what was sent before it (RFC 2198), for subscribers that take it and lose so much that they need
//! it.
//!
//! What is repeated does not depend on who asks: there is one packet for each [`Depth`], made when the first
//! subscriber of that depth has its turn, and shared by all others like any packet. It is remembered like one too,
//! since sound is sent again under its own number, and then with the same bytes.

use std::cell::OnceCell;
use std::sync::Arc;

use sfu_protocol::Layer;
use smallvec::SmallVec;

use super::track::EgressPayload;
use crate::media_packet::MediaPacket;
use crate::packet_memory::PacketMemory;
use crate::rtp::codec::{Codec, red};
use crate::units::ExtendedSequence;

/// How many of the frames before it a packet repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Depth {
    /// None.
    #[default]
    Plain,
    /// The last.
    One,
    /// The last two.
    Two,
    /// The third and the sixth last, where losses come in rows: what lies closer is lost with the packet.
    Spread,
}

impl Depth {
    /// The depth at which at least `published` frames are repeated, as far as there is one.
    fn at_least(published: u8) -> Self {
        match published {
            0 => Self::Plain,
            1 => Self::One,
            _ => Self::Two,
        }
    }

    /// How far back the frames are that are repeated, oldest first.
    fn back(self) -> &'static [u64] {
        match self {
            Self::Plain => &[],
            Self::One => &[1],
            Self::Two => &[2, 1],
            Self::Spread => &[6, 3],
        }
    }
}

/// What one subscriber's loss asks for. Only subscriptions of sound that take redundancy have one.
#[derive(Debug, Default)]
pub struct Redundancy {
    depth: Depth,
    /// Share of packets lost, smoothed. `None`: not known yet.
    loss: Option<f32>,
    /// Packets asked for, the first time each, since the last tick.
    asked: u32,
    /// Those of them whose number follows that of the one before.
    in_a_row: u32,
    last_asked: u16,
    /// Reports of no loss, one after the other.
    clean: u8,
    /// Share of lost packets that followed a lost one, smoothed.
    rows: f32,
    /// It is one of those that ask for what they miss.
    asks: bool,
    /// Packets sent, at the last tick.
    sent: u32,
}

/// Depths at which something is repeated.
const DEPTHS: usize = 3;

/// From this share of loss on, the last frame is repeated: what is less, asking again repairs without that.
const ONE_ABOVE: f32 = 0.03;

/// The same for two frames.
const TWO_ABOVE: f32 = 0.08;

/// From this share of losses that follow another on, losses come in rows. Independent ones follow each other as often
/// as they happen; in rows of two they do half of the time.
const ROWS_ABOVE: f32 = 0.5;

/// A depth is kept until loss has fallen to this share of what asked for it.
const KEPT_ABOVE: f32 = 0.5;

/// After so many reports of no loss, nothing is lost.
const CLEAN: u8 = 3;

/// Fewer packets say nothing about a second.
const FEWEST: u32 = 10;

impl Redundancy {
    /// For a subscriber with these payload types, if it takes redundant sound.
    pub fn of(payload_types: &[EgressPayload]) -> Option<Box<Self>> {
        let takes = |codec| payload_types.iter().any(|payload| payload.codec == codec);
        (takes(Codec::Red) && takes(Codec::Opus)).then(Box::default)
    }

    /// How many frames to repeat of a track whose publisher repeats `published`. What a publisher repeats is passed on
    /// unless the subscriber is known to lose nothing.
    pub fn depth(&self, published: u8) -> Depth {
        if self.clean >= CLEAN { self.depth } else { self.depth.max(Depth::at_least(published)) }
    }

    /// The subscriber misses a packet and asks for it the first time. Of those that ask, this is what tells loss: sound
    /// that was sent again counts as received in their reports.
    pub fn on_asked(&mut self, wire: u16) {
        self.asked = self.asked.saturating_add(1);
        self.clean = 0;
        self.in_a_row += u32::from(wire.wrapping_sub(self.last_asked) == 1);
        self.last_asked = wire;
        self.asks = true;
    }

    /// The subscriber reports the share of packets that it lost, in 1/256.
    pub fn on_report(&mut self, fraction_lost: u8) {
        let share = f32::from(fraction_lost) / 256.0;
        self.clean = if fraction_lost == 0 { self.clean.saturating_add(1) } else { 0 };
        if !self.asks || self.loss.is_none_or(|loss| share > loss) {
            self.fold(share);
        }
    }

    /// A second has passed; `sent` packets were sent so far.
    pub fn tick(&mut self, sent: u32) {
        let lately = sent.wrapping_sub(self.sent);
        if lately < FEWEST {
            return;
        }
        self.sent = sent;
        if !self.asks {
            return;
        }
        let (asked, in_a_row) = (std::mem::take(&mut self.asked), std::mem::take(&mut self.in_a_row));
        if asked > 0 {
            self.rows += (in_a_row as f32 / asked as f32 - self.rows) * 0.25;
        }
        self.fold((asked as f32 / lately as f32).min(1.0));
    }

    /// Rises in two seconds, falls in ten: too little redundancy is heard, too much is not.
    fn fold(&mut self, share: f32) {
        let before = self.loss.unwrap_or_default();
        let weight = if share > before { 0.5 } else { 0.125 };
        let loss = before + (share - before) * weight;
        self.loss = Some(loss);
        self.depth = depth_for(loss, self.rows, self.depth);
    }
}

/// How many frames to repeat at that share of loss, of which the share `rows` follows another one, if `now` is how many
/// are repeated.
fn depth_for(loss: f32, rows: f32, now: Depth) -> Depth {
    let holds = |depth: Depth, above: f32| loss >= if now >= depth { above * KEPT_ABOVE } else { above };
    if holds(Depth::Two, TWO_ABOVE) {
        if rows >= ROWS_ABOVE { Depth::Spread } else { Depth::Two }
    } else if holds(Depth::One, ONE_ABOVE) {
        Depth::One
    } else {
        Depth::Plain
    }
}

/// One packet of sound at every depth, as far as somebody needs it.
#[derive(Debug)]
pub struct Depths<'a> {
    packet: &'a MediaPacket,
    before: Option<&'a PacketMemory>,
    made: [OnceCell<Option<Arc<MediaPacket>>>; DEPTHS],
}

impl<'a> Depths<'a> {
    /// Of a packet of Opus that is not encrypted end to end; of no other.
    pub fn of(packet: &'a MediaPacket, memory: &'a [PacketMemory]) -> Option<Self> {
        let made = Default::default();
        (packet.codec == Codec::Opus).then_some(Self { packet, before: memory.first(), made })
    }

    /// The packet at that depth, or the deepest below it that can be made. None: as it was published.
    pub fn at(&self, depth: Depth) -> Option<&Arc<MediaPacket>> {
        let depths = [Depth::One, Depth::Two, Depth::Spread].into_iter().zip(&self.made);
        let depths = depths.rev().skip_while(|(known, _)| *known > depth);
        depths.filter_map(|(depth, made)| made.get_or_init(|| self.make(depth)).as_ref()).next()
    }

    /// All that were made, each with the place of its memory.
    pub fn into_made(self) -> impl Iterator<Item = (usize, Arc<MediaPacket>)> {
        (1..).zip(self.made).filter_map(|(place, made)| Some((place, made.into_inner()??)))
    }

    fn make(&self, depth: Depth) -> Option<Arc<MediaPacket>> {
        let packet = self.packet;
        let mut repeated: SmallVec<[(u64, &[u8]); 2]> = SmallVec::new();
        for back in depth.back() {
            let sequence = ExtendedSequence(packet.sequence.0.checked_sub(*back)?);
            let earlier = self.before?.get(sequence).filter(|earlier| earlier.codec == packet.codec)?;
            repeated.push((packet.timestamp.0.checked_sub(earlier.timestamp.0)?, &earlier.payload));
        }
        let payload = red::build(&repeated, &packet.payload)?;
        // The place of its memory among the track's.
        let layer = Layer(depth as u8);
        Some(Arc::new(MediaPacket { layer, codec: Codec::Red, payload, ..packet.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use sfu_protocol::MediaKind;

    use super::*;
    use crate::media_packet::test_packet;
    use crate::units::{ExtendedTimestamp, test_epoch};

    #[test]
    fn depth_follows_loss_and_does_not_flap() {
        use Depth::{One, Plain, Spread, Two};
        let cases = [
            (0.0, Plain, Plain),
            (0.02, Plain, Plain),
            (0.02, One, One),
            (0.014, One, Plain),
            (0.03, Plain, One),
            (0.05, Two, Two),
            (0.039, Two, One),
            (0.08, Plain, Two),
            (0.01, Two, Plain),
            (1.0, One, Two),
            (0.039, Spread, One),
        ];
        for (loss, now, expected) in cases {
            assert_eq!(depth_for(loss, 0.2, now), expected, "{loss} at {now:?}");
        }
        assert_eq!(depth_for(0.3, 0.6, Plain), Spread);
        assert_eq!(depth_for(0.03, 0.6, Plain), One);
    }

    #[test]
    fn requests_and_reports_both_tell_of_loss() {
        let mut asks = Redundancy::default();
        assert_eq!(asks.depth(1), Depth::One, "as published while nothing is known");
        asks.tick(50);
        assert_eq!(asks.depth(1), Depth::One, "it may be one that never asks");
        (0..3).for_each(|_| asks.on_report(0));
        assert_eq!(asks.depth(1), Depth::Plain, "nothing is lost");
        for second in 2..=4 {
            (0..5).for_each(|packet| asks.on_asked(packet * 10));
            asks.on_report(0);
            asks.tick(50 * second);
        }
        assert_eq!(asks.depth(0), Depth::Two, "a tenth, for three seconds, and all repaired");
        for second in 5..30 {
            asks.tick(50 * second);
        }
        assert_eq!(asks.depth(0), Depth::Plain);
        let mut reports = Redundancy::default();
        reports.on_report(26);
        assert_eq!(reports.depth(0), Depth::One);
        reports.on_report(26);
        reports.on_report(26);
        assert_eq!(reports.depth(0), Depth::Two);
    }

    #[test]
    fn a_packet_repeats_what_came_right_before_it_as_far_as_that_is_known() {
        let memory = &mut [PacketMemory::new(MediaKind::Audio)];
        let packet = |number: u64, fill: u8| MediaPacket {
            codec: Codec::Opus,
            timestamp: ExtendedTimestamp(1_000_000 + number * 960),
            payload: Bytes::copy_from_slice(&[fill; 3]),
            ..test_packet(number, test_epoch() + Duration::from_millis(20 * number))
        };
        for number in [4, 5, 7, 8] {
            memory[0].insert(Arc::new(packet(number, number as u8)));
        }
        let repeats = |number: u64, depth| {
            let packet = packet(number, 99);
            let depths = Depths::of(&packet, memory).expect("Opus");
            let made = depths.at(depth)?;
            assert!(Arc::ptr_eq(made, depths.at(depth)?), "made once");
            let read = red::parse(&made.payload).unwrap();
            assert_eq!(read.primary, &[99; 3]);
            let blocks = read.repeated.iter().map(|block| (block.age, block.frame[0]));
            Some((made.layer.0, blocks.collect::<Vec<_>>()))
        };
        assert_eq!(repeats(6, Depth::Plain), None);
        assert_eq!(repeats(6, Depth::One), Some((1, vec![(960, 5)])));
        assert_eq!(repeats(6, Depth::Two), Some((2, vec![(1920, 4), (960, 5)])));
        assert_eq!(repeats(8, Depth::Two), Some((1, vec![(960, 7)])), "6 is not here");
        assert_eq!(repeats(4, Depth::Two), None);
        let video = test_packet(1, test_epoch());
        assert!(Depths::of(&video, memory).is_none());
    }
}
