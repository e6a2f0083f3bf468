//! Decides how much playout delay a subscriber should apply to video. A retransmitted packet arrives a round trip late,
//! and video freezes until then at a receiver that renders frames as soon as it can. Browsers allow for a round trip
//! once they send requests, but a browser that sends no media does not know how long that is. So the SFU sends them a
//! minimum playout delay while packets are lost at random: the video is later, but smooth.

use std::time::{Duration, Instant};

use sfu_protocol::{MediaKind, PlayoutDelay};

use super::Egress;
use super::track::Subscription;
use crate::bwe::DEFAULT_RTT;
use crate::media_packet::MediaPacket;
use crate::rtp::extension::{read_playout_delay, write_playout_delay};

/// Random loss above which a playout delay is requested.
const LOSSY: f64 = 0.04;
/// Random loss below which the delay is removed after [`CALM`].
const CALM_LOSS: f64 = 0.02;
const CALM: Duration = Duration::from_secs(10);

/// A lost packet is retransmitted after a round trip and the time until a report about it is written. A lost
/// retransmission takes as long again.
const REPORT: Duration = Duration::from_millis(60);

/// Number of retransmissions the delay allows for: one more above [`VERY_LOSSY`].
const TIMES: u32 = 2;
const VERY_LOSSY: f64 = 0.12;

/// Maximum delay: people in a conversation notice more.
const MOST: Duration = Duration::from_millis(300);

/// A longer delay is requested only if it exceeds the current goal by more than this, or is the maximum.
const STEP: Duration = Duration::from_millis(50);

/// The delay grows at most by this share of the elapsed time: if it grew at once, the video would freeze for as long.
const SLOPE: f64 = 0.3;
const LONGEST_STEP: Duration = Duration::from_millis(100);

/// Maximum delay, in milliseconds, that receivers assume if none is sent.
const GREATEST_MS: u32 = 10_000;

/// Playout delay of one subscriber.
#[derive(Debug, Default)]
pub(super) struct Playout {
    /// Delay that is sent now; `None` until there is a reason to send any.
    delay: Option<Duration>,
    /// Delay that is approached.
    goal: Duration,
    updated: Option<Instant>,
    calm_since: Option<Instant>,
}

/// A change of the playout delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct News {
    /// Delay to send from now on.
    delay: Duration,
    /// New goal, if it has just changed.
    goal: Option<Duration>,
}

impl Playout {
    /// Updates the delay from the random loss. Loss for lack of bandwidth does not count, since it ends as soon as less
    /// is sent.
    fn update(&mut self, now: Instant, loss: f64, rtt: Duration) -> Option<News> {
        let calm = |since: Instant| now.saturating_duration_since(since) >= CALM;
        self.calm_since = (loss < CALM_LOSS).then(|| self.calm_since.unwrap_or(now));
        let times = if loss > VERY_LOSSY { TIMES + 1 } else { TIMES };
        let needed = ((rtt + REPORT) * times).min(MOST);
        let before = self.goal;
        if loss > LOSSY && (needed > before + STEP || needed == MOST) {
            self.goal = needed.max(before);
        } else if self.calm_since.is_some_and(calm) {
            self.goal = Duration::ZERO;
        }
        let elapsed = self.updated.map_or(LONGEST_STEP, |updated| now.saturating_duration_since(updated));
        self.updated = Some(now);
        let told = self.delay.unwrap_or(Duration::ZERO);
        let delay = self.goal.min(told + elapsed.min(LONGEST_STEP).mul_f64(SLOPE));
        let goal = (self.goal != before).then_some(self.goal);
        if delay == told && goal.is_none() {
            return None;
        }
        self.delay = Some(delay);
        Some(News { delay, goal })
    }
}

impl Egress {
    /// Updates the playout delay that all video subscriptions send.
    pub(super) fn hold_back(&mut self, now: Instant) {
        let Some(bandwidth) = self.bandwidth.as_deref() else { return };
        let (loss, rtt) = (bandwidth.lost_by_chance(), self.rtt.unwrap_or(DEFAULT_RTT));
        let Some(News { delay, goal }) = self.playout.update(now, loss, rtt) else { return };
        if let Some(goal) = goal {
            self.log.on_playout(now, goal);
        }
        self.subscriptions.iter_mut().for_each(|(_, subscription)| subscription.hold_back(Some(delay)));
    }

    /// Applies the current playout delay to a new subscription.
    pub(super) fn begin_held_back(&self, subscription: &mut Subscription) {
        subscription.hold_back(self.playout.delay);
    }
}

impl Subscription {
    fn hold_back(&mut self, delay: Option<Duration>) {
        let delay = delay.filter(|_| self.kind == MediaKind::Video);
        self.least_delay_ms = delay.map(|delay| delay.as_millis() as u32);
    }

    /// Playout delay extension that replaces the publisher's; `None` to leave that unchanged. The publisher's maximum
    /// is preserved.
    pub(super) fn playout_delay(&self, packet: &MediaPacket) -> Option<[u8; 3]> {
        Some(raised(packet.extensions.playout_delay, self.least_delay_ms?))
    }
}

/// The publisher's playout delay with the minimum raised to `least_ms`, but not above the publisher's maximum.
fn raised(published: Option<[u8; 3]>, least_ms: u32) -> [u8; 3] {
    let untold = PlayoutDelay { min_ms: 0, max_ms: GREATEST_MS };
    let PlayoutDelay { min_ms, max_ms } = published.map_or(untold, read_playout_delay);
    write_playout_delay(PlayoutDelay { min_ms: min_ms.max(least_ms.min(max_ms)), max_ms })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::test_epoch;

    const RTT: Duration = Duration::from_millis(40);

    /// Runs `tenths` steps of 100 ms at constant loss. Returns the goals set, each with its step, and the final delay,
    /// in milliseconds.
    fn told(playout: &mut Playout, from: u32, tenths: u32, loss: f64) -> (Vec<(u32, u128)>, u128) {
        let mut goals = Vec::new();
        for tenth in from..from + tenths {
            let before = playout.delay.unwrap_or(Duration::ZERO);
            let now = test_epoch() + Duration::from_millis(100) * tenth;
            if let Some(news) = playout.update(now, loss, RTT) {
                goals.extend(news.goal.map(|goal| (tenth - from, goal.as_millis())));
                assert!(news.delay <= before + Duration::from_millis(30), "a picture would stand still");
            }
        }
        (goals, playout.delay.unwrap_or(Duration::ZERO).as_millis())
    }

    #[test]
    fn pictures_are_held_back_while_packets_are_lost_by_chance() {
        let mut playout = Playout::default();
        assert_eq!(told(&mut playout, 0, 100, 0.01), (vec![], 0));
        assert_eq!(told(&mut playout, 100, 3, 0.1), (vec![(0, 200)], 90));
        assert_eq!(told(&mut playout, 103, 100, 0.1), (vec![], 200));
        assert_eq!(told(&mut playout, 203, 100, 0.03), (vec![], 200), "neither lossy nor calm");
        assert_eq!(told(&mut playout, 303, 90, 0.0), (vec![], 200));
        assert_eq!(told(&mut playout, 393, 100, 0.0), (vec![(10, 0)], 0));
        assert_eq!(told(&mut playout, 500, 100, 0.2), (vec![(0, 300)], 300), "once more");
    }

    #[test]
    fn what_the_publisher_says_is_kept_where_it_is_stricter() {
        let told = |min_ms, max_ms| write_playout_delay(PlayoutDelay { min_ms, max_ms });
        assert_eq!(raised(None, 140), told(140, 10_000));
        assert_eq!(raised(None, 0), told(0, 10_000));
        assert_eq!(raised(Some(told(200, 2_000)), 140), told(200, 2_000));
        assert_eq!(raised(Some(told(50, 2_000)), 140), told(140, 2_000));
        assert_eq!(raised(Some(told(0, 100)), 140), told(100, 100));
    }
}
