//! Connection quality of a participant, as a score and as a category, from packet loss, delay and missing video layers.
//!
//! The score is that of the E-model (ITU-T G.107): impairments are subtracted from [`PERFECT`], and the rest is
//! converted to a mean opinion score.

use std::time::{Duration, Instant};

use sfu_protocol::{ConnectionQuality, Layer};

use crate::units::Losses;

/// Measurements of one direction over the last few seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Observed {
    /// Packets lost, counted before retransmission.
    pub losses: Losses,
    /// Video layers that are wanted but missing.
    pub missing: Missing,
}

/// Missing video layers of several tracks: for each track, the share of the wanted layers that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Missing {
    pictures: u32,
    sum: f32,
    worst: f32,
}

/// Impairments of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Direction {
    /// Share of packets lost, 0 to 1.
    pub loss: f32,
    /// Share of wanted video layers missing, 0 to 1.
    pub missing: f32,
}

/// Rated quality of a connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rating {
    /// Category that clients show.
    pub quality: ConnectionQuality,
    /// Mean opinion score, 1 to 4.5.
    pub score: f32,
}

impl Missing {
    /// Counts a video track. `wanted` is the highest layer that should arrive; `there` is the highest that does.
    pub fn add(&mut self, wanted: Layer, there: Option<Layer>) {
        let layers = f32::from(wanted.0) + 1.0;
        let there = there.map_or(0.0, |layer| f32::from(layer.0) + 1.0);
        let share = (1.0 - there / layers).max(0.0);
        self.pictures += 1;
        self.sum += share;
        self.worst = self.worst.max(share);
    }

    /// Average of two values: the mean over all tracks, and the worst track, so that a single frozen video counts.
    fn share(self) -> f32 {
        if self.pictures == 0 { 0.0 } else { (self.sum / self.pictures as f32 + self.worst) / 2.0 }
    }
}

/// Rates a connection by the worse of its directions. `round_trip` is the round-trip time.
pub fn rate(up: Direction, down: Direction, round_trip: Option<Duration>) -> Rating {
    let delay = delay_impairment(round_trip.unwrap_or_default() / 2);
    let worst = [up, down].iter().map(|direction| impairment(*direction)).fold(0.0, f32::max);
    word((PERFECT - delay - worst).clamp(0.0, 100.0))
}

fn impairment(direction: Direction) -> f32 {
    let loss = direction.loss.clamp(0.0, 1.0);
    MOST_BY_LOSS * loss / (loss + ROBUSTNESS) + MOST_BY_MISSING * direction.missing.clamp(0.0, 1.0)
}

/// Delay impairment of G.107, simplified: small up to 177 ms; beyond that people begin to interrupt each other.
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

/// Arrival times of a peer's datagrams. Consent checks (RFC 7675) arrive while the client lives: every 2.5 s from some
/// clients, up to every 6 s from others.
#[derive(Debug, Clone, Copy, Default)]
pub struct Heard {
    last: Option<Instant>,
    check: Option<Instant>,
    /// Longest recent interval between checks; decays by an eighth with each check.
    between_checks: Duration,
}

impl Heard {
    /// Records an authenticated datagram.
    pub fn on_datagram(&mut self, now: Instant, is_check: bool) {
        self.last = Some(now);
        if is_check {
            let between = self.check.map_or(Duration::ZERO, |check| now.saturating_duration_since(check));
            self.between_checks = between.max(self.between_checks * 7 / 8);
            self.check = Some(now);
        }
    }

    /// Arrival of the last authenticated datagram; `None` before the first.
    pub fn last(&self) -> Option<Instant> {
        self.last
    }

    /// Silence after which the peer counts as lost: 5 s if media arrived until then. If only checks are expected,
    /// because the peer is muted or has nothing to send, it is long enough for one check to be lost.
    pub fn patience(&self, media: bool) -> Duration {
        if media { PATIENCE } else { (self.between_checks * 2).clamp(PATIENCE, MOST_PATIENCE) }
    }
}

/// Schedule of a participant's quality ratings, and the rating last reported to others.
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

/// Measurements of one direction over several ratings.
#[derive(Debug, Clone, Copy, Default)]
struct Smoothed {
    losses: Losses,
    loss: f32,
    /// Ratings since there were enough packets to compute a loss.
    looks: u8,
    missing: f32,
    missing_before: f32,
}

impl Watch {
    /// A schedule for a participant that is about to connect or has just connected.
    pub fn new(now: Instant) -> Self {
        Self { told: None, look_at: now + INTERVAL, up: Smoothed::default(), down: Smoothed::default() }
    }

    /// Whether [`look`](Self::look) is due for a participant from which datagrams arrive: at the scheduled time, or at
    /// once if it was reported lost.
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.look_at || self.is_lost()
    }

    /// Takes the measurements since the last call. Returns the rating to report: when the category has changed, or when
    /// a participant that joined at `newcomer` does not have it yet.
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

    /// Postpones the rating, because the participant is not connected and has no measurements yet.
    pub fn postpone(&mut self, now: Instant) {
        self.look_at = now + INTERVAL;
    }

    /// Rates the participant as lost, because nothing arrives from it any more.
    pub fn lose(&mut self, newcomer: Option<Instant>, now: Instant) -> Option<Rating> {
        self.tell(Rating { quality: ConnectionQuality::Lost, score: 1.0 }, newcomer, now)
    }

    /// Time of the next rating, or of the participant counting as lost. `last` is the last arrival from it.
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
            // A worse loss counts at once, a better one by half.
            self.loss = if loss > self.loss { loss } else { (self.loss + loss) / 2.0 };
            self.looks = 0;
        } else if self.looks >= STALE_LOOKS {
            *self = Self { missing: self.missing, ..Self::default() };
        }
        // A missing layer counts only when missing in two consecutive ratings, since layers take time to start.
        self.missing_before = std::mem::replace(&mut self.missing, observed.missing.share());
        Direction { loss: self.loss, missing: self.missing.min(self.missing_before) }
    }
}

/// R value of a call without impairments; G.107's default.
const PERFECT: f32 = 93.2;
/// R value from which users are satisfied (G.107).
const EXCELLENT: f32 = 80.0;
/// R value below which nearly all users are dissatisfied (G.107).
const GOOD: f32 = 60.0;
/// Impairment at 100 % loss (G.107).
const MOST_BY_LOSS: f32 = 95.0;
/// Loss that causes half of that impairment, given the concealment, forward error correction and retransmission of
/// usual clients.
const ROBUSTNESS: f32 = 0.2;
/// Impairment when all wanted video is missing: the connection is then poor. With the lowest of three layers it is
/// good.
const MOST_BY_MISSING: f32 = 36.0;
/// Time between two ratings, and so between two reported changes other than from and to lost.
const INTERVAL: Duration = Duration::from_secs(5);
/// Time between two ratings of a lost participant. Short, since a client that is reported lost for ten seconds
/// reconnects.
const LOST_INTERVAL: Duration = Duration::from_secs(1);
const LEAST_INTERVAL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(5);
/// Less than the time after which consent expires.
const MOST_PATIENCE: Duration = Duration::from_secs(12);
/// Minimum number of packets to compute a loss: with fewer, one packet is over two per cent.
const ENOUGH: u64 = 50;
/// Number of ratings without enough packets after which an earlier loss is discarded.
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
        // (loss in per cent, round trip in ms, video: highest layer wanted and there, quality)
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
            (0.0, 50, all(&[(0, Some(2))]), Excellent), // more than wanted
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
        // (packets lost of 250, category reported)
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
        // Last arrival two seconds before that rating.
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
        // (check interval in ms, whether media arrives, lost after ms)
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
