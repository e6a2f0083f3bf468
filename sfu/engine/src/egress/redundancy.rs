//! Redundant audio (RFC 2198), which repeats earlier frames, for subscribers that accept it and lose enough to need it.
//!
//! The redundant packets do not depend on the subscriber: there is one for each [`Depth`], made for the first
//! subscriber of that depth and shared by all others like any packet. It is stored in packet memory too, since audio is
//! retransmitted under its own number and then with the same bytes.

use std::cell::OnceCell;
use std::sync::Arc;

use sfu_protocol::Layer;
use smallvec::SmallVec;

use super::track::EgressPayload;
use crate::media_packet::MediaPacket;
use crate::packet_memory::PacketMemory;
use crate::rtp::codec::{Codec, red};
use crate::units::ExtendedSequence;

/// Number of earlier frames that a packet repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Depth {
    /// No frame.
    #[default]
    Plain,
    /// The last frame.
    One,
    /// The last two frames.
    Two,
    /// The third and the sixth last frame. For bursty loss: closer frames are lost together with the packet.
    Spread,
}

impl Depth {
    /// The depth at which at least `published` frames are repeated, or the deepest below that.
    fn at_least(published: u8) -> Self {
        match published {
            0 => Self::Plain,
            1 => Self::One,
            _ => Self::Two,
        }
    }

    /// Distances of the repeated frames, oldest first.
    fn back(self) -> &'static [u64] {
        match self {
            Self::Plain => &[],
            Self::One => &[1],
            Self::Two => &[2, 1],
            Self::Spread => &[6, 3],
        }
    }
}

/// Loss statistics of one subscriber. Only audio subscriptions that accept redundancy have them.
#[derive(Debug, Default)]
pub struct Redundancy {
    depth: Depth,
    /// Smoothed share of packets lost; `None` until known.
    loss: Option<f32>,
    /// Packets requested since the last tick, each counted at its first request.
    asked: u32,
    /// Number of requests since the last tick whose number directly follows the previous request's.
    in_a_row: u32,
    last_asked: u16,
    /// Number of consecutive reports without loss.
    clean: u8,
    /// Smoothed share of lost packets that directly followed a lost one.
    rows: f32,
    /// Whether the subscriber requests lost audio packets.
    asks: bool,
    /// Number of packets sent up to the last tick.
    sent: u32,
}

/// Number of depths at which something is repeated.
const DEPTHS: usize = 3;

/// Loss from which the last frame is repeated. Retransmissions repair less loss without redundancy.
const ONE_ABOVE: f32 = 0.03;

/// Loss from which two frames are repeated.
const TWO_ABOVE: f32 = 0.08;

/// If this share of losses directly follows another loss, loss is bursty. Independent losses follow each other as often
/// as they happen; losses in pairs do so half of the time.
const ROWS_ABOVE: f32 = 0.5;

/// A depth is retained until the loss has fallen to this share of its threshold.
const KEPT_ABOVE: f32 = 0.5;

/// Number of consecutive reports without loss after which the subscriber is considered loss-free.
const CLEAN: u8 = 3;

/// With fewer packets than this, a tick has too little data.
const FEWEST: u32 = 10;

impl Redundancy {
    /// Statistics for a subscriber with these payload types; `None` if it does not accept redundant audio.
    pub fn of(payload_types: &[EgressPayload]) -> Option<Box<Self>> {
        let takes = |codec| payload_types.iter().any(|payload| payload.codec == codec);
        (takes(Codec::Red) && takes(Codec::Opus)).then(Box::default)
    }

    /// Depth to send for a track whose publisher repeats `published` frames itself. That redundancy is preserved unless
    /// the subscriber is known to lose nothing.
    pub fn depth(&self, published: u8) -> Depth {
        if self.clean >= CLEAN { self.depth } else { self.depth.max(Depth::at_least(published)) }
    }

    /// Handles the first request for a lost packet. For subscribers that send requests, these measure the loss: audio
    /// that was retransmitted counts as received in their reports.
    pub fn on_asked(&mut self, wire: u16) {
        self.asked = self.asked.saturating_add(1);
        self.clean = 0;
        self.in_a_row += u32::from(wire.wrapping_sub(self.last_asked) == 1);
        self.last_asked = wire;
        self.asks = true;
    }

    /// Handles a receiver report; `fraction_lost` is the share of packets lost, in 1/256.
    pub fn on_report(&mut self, fraction_lost: u8) {
        let share = f32::from(fraction_lost) / 256.0;
        self.clean = if fraction_lost == 0 { self.clean.saturating_add(1) } else { 0 };
        if !self.asks || self.loss.is_none_or(|loss| share > loss) {
            self.fold(share);
        }
    }

    /// Call once a second; `sent` is the total number of packets sent so far.
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

    /// Folds in a loss measurement. The smoothed loss rises within two seconds and falls within ten: too little
    /// redundancy is audible, too much is not.
    fn fold(&mut self, share: f32) {
        let before = self.loss.unwrap_or_default();
        let weight = if share > before { 0.5 } else { 0.125 };
        let loss = before + (share - before) * weight;
        self.loss = Some(loss);
        self.depth = depth_for(loss, self.rows, self.depth);
    }
}

/// Depth for a share of loss, of which the share `rows` directly follows another loss. `now` is the current depth.
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

/// One audio packet at every depth, each made only when a subscriber needs it.
#[derive(Debug)]
pub struct Depths<'a> {
    packet: &'a MediaPacket,
    before: Option<&'a PacketMemory>,
    made: [OnceCell<Option<Arc<MediaPacket>>>; DEPTHS],
}

impl<'a> Depths<'a> {
    /// Depths of an Opus packet; `None` for other codecs. The packet must not be end-to-end encrypted.
    pub fn of(packet: &'a MediaPacket, memory: &'a [PacketMemory]) -> Option<Self> {
        let made = Default::default();
        (packet.codec == Codec::Opus).then_some(Self { packet, before: memory.first(), made })
    }

    /// The packet at that depth, or at the deepest below it that can be made. `None`: send it as published.
    pub fn at(&self, depth: Depth) -> Option<&Arc<MediaPacket>> {
        let depths = [Depth::One, Depth::Two, Depth::Spread].into_iter().zip(&self.made);
        let depths = depths.rev().skip_while(|(known, _)| *known > depth);
        depths.filter_map(|(depth, made)| made.get_or_init(|| self.make(depth)).as_ref()).next()
    }

    /// All packets that were made, each with the index of its packet memory.
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
        // Index of its packet memory among the track's.
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
