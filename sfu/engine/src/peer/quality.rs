//! How well a participant is connected, as a score and in one word: what its links lose, how long they take, and what
//! of its pictures does not fit.
//!
//! The score is that of the E-model (ITU-T G.107): from [`PERFECT`] each impairment takes something off, what is left
//! becomes a mean opinion score.

use std::time::{Duration, Instant};

use sfu_protocol::{ConnectionQuality, Layer};

use crate::units::Losses;

/// What was seen of one direction in the last few seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Observed {
    /// Packets lost, before they were repaired.
    pub losses: Losses,
    /// What is missing of the pictures.
    pub missing: Missing,
}

/// What is missing of several pictures, each as the share of its layers that is wanted and not there.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Missing {
    pictures: u32,
    sum: f32,
    worst: f32,
}

/// What one direction is like.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Direction {
    /// Share of packets lost, 0 to 1.
    pub loss: f32,
    /// Share of pictures missing, 0 to 1.
    pub missing: f32,
}

/// A connection's quality.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rating {
    /// In one word.
    pub quality: ConnectionQuality,
    /// As a mean opinion score, 1 to 4.5.
    pub score: f32,
}

impl Missing {
    /// Counts a picture of which `wanted` is the highest layer that should be there, and `there` the highest that is.
    pub fn add(&mut self, wanted: Layer, there: Option<Layer>) {
        let layers = f32::from(wanted.0) + 1.0;
        let there = there.map_or(0.0, |layer| f32::from(layer.0) + 1.0);
        let share = (1.0 - there / layers).max(0.0);
        self.pictures += 1;
        self.sum += share;
        self.worst = self.worst.max(share);
    }

    /// Between the mean, for what many pictures lack, and the worst, for the one that froze.
    fn share(self) -> f32 {
        if self.pictures == 0 { 0.0 } else { (self.sum / self.pictures as f32 + self.worst) / 2.0 }
    }
}

/// Rates a connection by the worse of its directions. `round_trip` is of the whole way there and back.
pub fn rate(up: Direction, down: Direction, round_trip: Option<Duration>) -> Rating {
    let delay = delay_impairment(round_trip.unwrap_or_default() / 2);
    let worst = [up, down].iter().map(|direction| impairment(*direction)).fold(0.0, f32::max);
    word((PERFECT - delay - worst).clamp(0.0, 100.0))
}

fn impairment(direction: Direction) -> f32 {
    let loss = direction.loss.clamp(0.0, 1.0);
    MOST_BY_LOSS * loss / (loss + ROBUSTNESS) + MOST_BY_MISSING * direction.missing.clamp(0.0, 1.0)
}

/// G.107's, simplified: little up to 177 ms, then people begin to talk into each other's words.
fn delay_impairment(one_way: Duration) -> f32 {
    let ms = one_way.as_secs_f32().min(10.0) * 1000.0;
    0.024 * ms + 0.11 * (ms - 177.3).max(0.0)
}

fn word(rating: f32) -> Rating {
    let quality = match rating {
        rating if rating >= EXCELLENT => ConnectionQuality::Excellent,
        rating if rating >= GOOD => ConnectionQuality::Good,
        _ => ConnectionQuality::Poor,
    };
    // G.107 annex B.
    let score = 1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6;
    Rating { quality, score: score.clamp(1.0, 4.5) }
}

/// Whether anything comes from a peer. Checks (RFC 7675) come as long as it lives: every 2.5 s from some clients, up to
/// every 6 s from others.
#[derive(Debug, Clone, Copy, Default)]
pub struct Heard {
    last: Option<Instant>,
    check: Option<Instant>,
    /// The longest time between checks, lately.
    between_checks: Duration,
}

impl Heard {
    /// An authentic datagram arrived.
    pub fn on_datagram(&mut self, now: Instant, is_check: bool) {
        self.last = Some(now);
        if is_check {
            let between = self.check.map_or(Duration::ZERO, |check| now.saturating_duration_since(check));
            self.between_checks = between.max(self.between_checks * 7 / 8);
            self.check = Some(now);
        }
    }

    /// When the last one did.
    pub fn last(&self) -> Option<Instant> {
        self.last
    }

    /// After how long a silence the peer counts as lost: if media flowed until then, soon; if only checks are to be
    /// expected, because it is muted or has nothing to send, one may be missing.
    pub fn patience(&self, media: bool) -> Duration {
        if media { PATIENCE } else { (self.between_checks * 2).clamp(PATIENCE, MOST_PATIENCE) }
    }
}

/// When a participant's quality is looked at, and what others know of it.
#[derive(Debug)]
pub struct Watch {
    told: Option<Told>,
    look_at: Instant,
    up: Smoothed,
    down: Smoothed,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    quality: ConnectionQuality,
    at: Instant,
}

/// One direction over several looks.
#[derive(Debug, Clone, Copy, Default)]
struct Smoothed {
    losses: Losses,
    loss: f32,
    /// Looks since there were packets enough to tell.
    looks: u8,
    missing: f32,
    missing_before: f32,
}

impl Watch {
    /// A participant that has just connected, or is about to.
    pub fn new(now: Instant) -> Self {
        Self { told: None, look_at: now + INTERVAL, up: Smoothed::default(), down: Smoothed::default() }
    }

    /// Whether [`look`](Self::look) is due for a participant that was heard lately.
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.look_at || self.is_lost()
    }

    /// Takes what was seen since the last look. Returns what others are to be told: what has changed, or everything if
    /// somebody came `newcomer` who does not know yet.
    pub fn look(
        &mut self,
        up: Observed,
        down: Observed,
        round_trip: Option<Duration>,
        newcomer: Option<Instant>,
        now: Instant,
    ) -> Option<Rating> {
        self.look_at = now + INTERVAL;
        let rating = rate(self.up.look(up), self.down.look(down), round_trip);
        self.tell(rating, newcomer, now)
    }

    /// The participant is not connected: there is nothing to see yet.
    pub fn postpone(&mut self, now: Instant) {
        self.look_at = now + INTERVAL;
    }

    /// Nothing comes from the participant any more.
    pub fn lose(&mut self, newcomer: Option<Instant>, now: Instant) -> Option<Rating> {
        self.tell(Rating { quality: ConnectionQuality::Lost, score: 1.0 }, newcomer, now)
    }

    /// When to look next, if the participant was `last` heard then.
    pub fn next(&self, last: Option<Instant>, patience: Duration, now: Instant) -> Instant {
        if self.is_lost() {
            return now + LOST_INTERVAL;
        }
        let lost_at = last.map_or(self.look_at, |last| last + patience);
        self.look_at.min(lost_at).max(now + LEAST_INTERVAL)
    }

    fn is_lost(&self) -> bool {
        self.told.is_some_and(|told| told.quality == ConnectionQuality::Lost)
    }

    fn tell(&mut self, rating: Rating, newcomer: Option<Instant>, now: Instant) -> Option<Rating> {
        let is_known = self.told.is_some_and(|told| {
            told.quality == rating.quality && newcomer.is_none_or(|newcomer| newcomer < told.at)
        });
        if is_known {
            return None;
        }
        self.told = Some(Told { quality: rating.quality, at: now });
        Some(rating)
    }
}

impl Smoothed {
    fn look(&mut self, observed: Observed) -> Direction {
        self.losses.add(observed.losses);
        self.looks = self.looks.saturating_add(1);
        if self.losses.expected >= ENOUGH {
            let Losses { expected, lost } = self.losses.take();
            let loss = lost as f32 / expected as f32;
            // Bad news is believed at once, good news by half.
            self.loss = if loss > self.loss { loss } else { (self.loss + loss) / 2.0 };
            self.looks = 0;
        } else if self.looks >= STALE_LOOKS {
            *self = Self { missing: self.missing, ..Self::default() };
        }
        // What is missing counts once it is missing twice: layers take their time to come up.
        self.missing_before = std::mem::replace(&mut self.missing, observed.missing.share());
        Direction { loss: self.loss, missing: self.missing.min(self.missing_before) }
    }
}

/// G.107's default for a call without any impairment.
const PERFECT: f32 = 93.2;
/// G.107: users are satisfied from here.
const EXCELLENT: f32 = 80.0;
/// G.107: below, nearly all of them are dissatisfied.
const GOOD: f32 = 60.0;
/// G.107: what loss of everything takes.
const MOST_BY_LOSS: f32 = 95.0;
/// The loss that takes half of that. With concealment, forward error correction and retransmission as clients have them.
const ROBUSTNESS: f32 = 0.2;
/// Without any picture that is wanted a connection is poor; with the lowest of three layers it is good.
const MOST_BY_MISSING: f32 = 36.0;
/// Between two looks, and so between two changes that others are told of, other than from and to lost.
const INTERVAL: Duration = Duration::from_secs(5);
/// Between two looks at a participant that is lost. A client that hears for ten seconds that it is lost starts anew.
const LOST_INTERVAL: Duration = Duration::from_secs(1);
const LEAST_INTERVAL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(5);
/// Less than it takes for consent to expire.
const MOST_PATIENCE: Duration = Duration::from_secs(12);
/// Packets from which a share can be told: of fewer, one is two per cent.
const ENOUGH: u64 = 50;
/// Looks after which what was lost before says nothing any more.
const STALE_LOOKS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::test_epoch;
    use ConnectionQuality::{Excellent, Good, Lost, Poor};

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_connection_in_one_word() {
        let none = Missing::default();
        let all = |there: &[(u8, Option<u8>)]| {
            let mut missing = none;
            there.iter().for_each(|(wanted, there)| missing.add(Layer(*wanted), there.map(Layer)));
            missing
        };
        // (loss in per cent, round trip in ms, pictures: highest layer wanted and there, quality)
        let table: [(f32, u64, Missing, ConnectionQuality); 19] = [
            (0.0, 0, none, Excellent),
            (1.0, 100, none, Excellent),
            (2.0, 200, none, Excellent),
            (4.0, 100, none, Good),
            (8.0, 100, none, Good),
            (15.0, 100, none, Poor),
            (30.0, 20, none, Poor),
            (0.0, 400, none, Excellent),
            (0.0, 600, none, Good),
            (0.0, 1000, none, Poor),
            (3.0, 500, none, Good),
            (100.0, 60_000, none, Poor),
            (0.0, 50, all(&[(2, Some(2)), (1, Some(1)), (0, Some(0))]), Excellent),
            (0.0, 50, all(&[(0, Some(2))]), Excellent), // more than is wanted
            (0.0, 50, all(&[(2, Some(1))]), Excellent),
            (0.0, 50, all(&[(2, Some(0))]), Good),
            (0.0, 50, all(&[(2, None)]), Poor),
            (0.0, 50, all(&[(0, None), (0, Some(0)), (0, Some(0)), (0, Some(0))]), Good),
            (0.0, 50, all(&[(2, None), (2, Some(0)), (2, Some(0)), (2, None)]), Poor),
        ];
        for (loss, round_trip, missing, quality) in table {
            let bad = Direction { loss: loss / 100.0, missing: missing.share() };
            let fine = Direction::default();
            let round_trip = Some(Duration::from_millis(round_trip));
            for rating in [rate(bad, fine, round_trip), rate(fine, bad, round_trip)] {
                assert_eq!(rating.quality, quality, "{loss} % and {round_trip:?}, {missing:?}: {rating:?}");
                assert!((1.0..=4.5).contains(&rating.score));
            }
        }
    }

    fn lossy(lost: u64) -> Observed {
        Observed { losses: Losses { expected: 250, lost }, ..Observed::default() }
    }

    #[test]
    fn changes_are_told_at_most_every_five_seconds_and_recovery_takes_longer_than_decay() {
        let start = test_epoch();
        let mut watch = Watch::new(start);
        assert!(!watch.is_due(start + secs(4)));
        // Packets lost of 250, and what is told.
        let table = [
            (0, Some(Excellent)),
            (0, None),
            (50, Some(Poor)),
            (50, None),
            (0, Some(Good)),
            (0, None),
            (0, Some(Excellent)),
            (2, None),
        ];
        for (n, (lost, told)) in table.into_iter().enumerate() {
            let now = start + secs(5 * (n as u64 + 1));
            assert!(watch.is_due(now));
            let rating = watch.look(lossy(lost), Observed::default(), None, None, now);
            assert_eq!(rating.map(|rating| rating.quality), told, "look {n}");
            assert_eq!(watch.next(Some(now), secs(5), now), now + secs(5));
        }
    }

    #[test]
    fn a_lost_participant_is_looked_at_every_second_and_found_again_at_once() {
        let start = test_epoch();
        let mut watch = Watch::new(start);
        let fine = Observed::default();
        let now = start + secs(5);
        assert!(watch.look(fine, fine, None, None, now).is_some());
        // Last heard two seconds before that look.
        let heard = start + secs(3);
        assert_eq!(watch.next(Some(heard), secs(5), now), start + secs(8));
        let now = start + secs(8);
        assert_eq!(watch.lose(None, now).map(|rating| rating.quality), Some(Lost));
        assert_eq!(watch.lose(None, now + secs(1)), None, "told once");
        assert_eq!(watch.next(Some(heard), secs(5), now), now + secs(1));
        let now = now + secs(2);
        assert!(watch.is_due(now));
        assert_eq!(watch.look(fine, fine, None, None, now).map(|rating| rating.quality), Some(Excellent));
    }

    #[test]
    fn a_newcomer_is_told_what_others_know() {
        let start = test_epoch();
        let mut watch = Watch::new(start);
        let fine = Observed::default();
        assert!(watch.look(fine, fine, None, None, start + secs(5)).is_some());
        assert!(watch.look(fine, fine, None, Some(start + secs(2)), start + secs(10)).is_none());
        assert!(watch.look(fine, fine, None, Some(start + secs(12)), start + secs(15)).is_some());
        assert!(watch.look(fine, fine, None, Some(start + secs(12)), start + secs(20)).is_none());
    }

    #[test]
    fn few_packets_are_put_together_and_old_losses_forgotten() {
        let start = test_epoch();
        let mut watch = Watch::new(start);
        let few = |lost| Observed { losses: Losses { expected: 20, lost }, ..Observed::default() };
        let mut told = Vec::new();
        for (n, lost) in [10, 10, 10, 0, 0, 0, 0].into_iter().enumerate() {
            let observed = if n < 3 { few(lost) } else { Observed::default() };
            let now = start + secs(5 * (n as u64 + 1));
            let rating = watch.look(observed, Observed::default(), None, None, now);
            told.extend(rating.map(|rating| (n, rating.quality)));
        }
        assert_eq!(told, [(0, Excellent), (2, Poor), (5, Excellent)]);
    }

    #[test]
    fn patience_depends_on_what_is_to_be_expected() {
        // Checks every so often, with media or without: lost after.
        let table = [(2500, true, 5000), (2500, false, 5000), (5000, true, 5000), (5000, false, 10_000)];
        for (every, media, lost_after) in table {
            let (mut heard, mut now) = (Heard::default(), test_epoch());
            for _ in 0..5 {
                heard.on_datagram(now, true);
                now += Duration::from_millis(every);
            }
            assert_eq!(heard.patience(media), Duration::from_millis(lost_after), "{every} {media}");
        }
        assert_eq!(Heard::default().patience(false), secs(5));
    }
}
