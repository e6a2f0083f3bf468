//! How long a subscriber is to hold pictures back. What is lost and sent again comes a round trip late; a receiver that
//! shows pictures as soon as it can stands still until then. Browsers allow for a round trip once they ask for packets
//! again, but one that sends nothing itself does not know how long that is. So it is told, as long as packets are lost by
//! chance: later, but smoothly.

use std::time::{Duration, Instant};

use sfu_protocol::{MediaKind, PlayoutDelay};

use super::resend::Link;
use super::track::Subscription;
use super::{DEFAULT_RTT, Egress};
use crate::media_packet::MediaPacket;
use crate::rtp::extension::{read_playout_delay, write_playout_delay};

/// A share of packets lost above which pictures are held back, once it has lasted for [`LASTING`];
const LOSSY: f64 = 0.04;
const LASTING: Duration = Duration::from_secs(1);
/// and below which they are not any more, once it has lasted for [`CALM`].
const CALM_LOSS: f64 = 0.02;
const CALM: Duration = Duration::from_secs(10);

/// A loss is asked for and sent again in one round trip; if that is lost, the report about it takes another, and this
/// until it is written.
const ROUND_TRIPS: u32 = 2;
const REPORT: Duration = Duration::from_millis(60);

/// Who talks with another notices more than this.
const MOST: Duration = Duration::from_millis(300);

/// A delay is changed for another only if that is longer by more.
const STEP: Duration = Duration::from_millis(50);

/// What receivers take for the greatest delay where they are told none, in milliseconds.
const GREATEST_MS: u32 = 10_000;

/// What one subscriber is told.
#[derive(Debug, Default)]
pub(super) struct Playout {
    /// `None` until there is a reason to tell anything.
    delay: Option<Duration>,
    lossy_since: Option<Instant>,
    calm_since: Option<Instant>,
}

impl Playout {
    /// Takes note of the link. Returns another delay than before.
    fn update(&mut self, now: Instant, link: Link, loss: f64, rtt: Duration) -> Option<Duration> {
        let lasted = |since: Option<Instant>, long| {
            since.is_some_and(|since| now.saturating_duration_since(since) >= long)
        };
        // What is lost for want of room is over as soon as less is sent.
        let lossy = loss > LOSSY && link != Link::Full;
        self.lossy_since = lossy.then(|| self.lossy_since.unwrap_or(now));
        self.calm_since = (loss < CALM_LOSS).then(|| self.calm_since.unwrap_or(now));
        let before = self.delay.unwrap_or(Duration::ZERO);
        let needed = (rtt * ROUND_TRIPS + REPORT).min(MOST);
        let after = if lasted(self.lossy_since, LASTING) && needed > before + STEP {
            needed
        } else if lasted(self.calm_since, CALM) {
            Duration::ZERO
        } else {
            before
        };
        if after == before {
            return None;
        }
        self.delay = Some(after);
        self.delay
    }
}

impl Egress {
    /// Tells the subscriber to hold pictures back, or not to any more, as its link is now.
    pub(super) fn hold_back(&mut self, now: Instant) {
        let Some(bandwidth) = self.bandwidth.as_deref() else { return };
        let (link, rtt) = (Link::of(Some(bandwidth)), self.rtt.unwrap_or(DEFAULT_RTT));
        let Some(delay) = self.playout.update(now, link, bandwidth.loss(), rtt) else { return };
        self.history.on_playout(now, delay);
        self.subscriptions.iter_mut().for_each(|(_, subscription)| subscription.hold_back(Some(delay)));
    }

    /// The same of a subscription that begins.
    pub(super) fn begin_held_back(&self, subscription: &mut Subscription) {
        subscription.hold_back(self.playout.delay);
    }
}

impl Subscription {
    fn hold_back(&mut self, delay: Option<Duration>) {
        let delay = delay.filter(|_| self.kind == MediaKind::Video);
        self.least_delay_ms = delay.map(|delay| delay.as_millis() as u32);
    }

    /// What to say about the delay in place of what the publisher says. Its greatest is kept.
    pub(super) fn playout_delay(&self, packet: &MediaPacket) -> Option<[u8; 3]> {
        Some(raised(packet.extensions.playout_delay, self.least_delay_ms?))
    }
}

/// What a publisher says, with this as the least delay, as far as its greatest allows.
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

    /// What is told while so much is lost for so long, from one tenth of a second to the next.
    fn told(playout: &mut Playout, from: u32, tenths: u32, loss: f64, link: Link) -> Vec<(u32, u128)> {
        let changed = |tenth: u32| {
            let now = test_epoch() + Duration::from_millis(100) * tenth;
            playout.update(now, link, loss, RTT).map(|delay| (tenth - from, delay.as_millis()))
        };
        (from..from + tenths).filter_map(changed).collect()
    }

    #[test]
    fn pictures_are_held_back_while_packets_are_lost_by_chance() {
        let mut playout = Playout::default();
        assert!(told(&mut playout, 0, 100, 0.01, Link::Usual).is_empty());
        assert_eq!(told(&mut playout, 100, 100, 0.1, Link::Lossy), [(10, 140)]);
        assert!(told(&mut playout, 200, 100, 0.03, Link::Lossy).is_empty(), "neither lossy nor calm");
        assert!(told(&mut playout, 300, 90, 0.0, Link::Usual).is_empty());
        assert_eq!(told(&mut playout, 390, 100, 0.0, Link::Usual), [(10, 0)]);
    }

    #[test]
    fn what_is_lost_for_want_of_room_or_only_shortly_holds_nothing_back() {
        let mut playout = Playout::default();
        assert!(told(&mut playout, 0, 100, 0.3, Link::Full).is_empty());
        assert!(told(&mut playout, 100, 9, 0.3, Link::Lossy).is_empty());
        assert!(told(&mut playout, 109, 100, 0.0, Link::Usual).is_empty());
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
