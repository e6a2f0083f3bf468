//! Classifies a subscriber's link by whether copies of packets help on it.

use std::time::{Duration, Instant};

use super::bandwidth::Bandwidth;

/// With a longer queue, packets are lost for lack of bandwidth.
const FULL: Duration = Duration::from_millis(40);

/// Random loss above which copies are worth their bandwidth.
const LOSSY: f64 = 0.02;

/// State of a link with regard to copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// Packets are lost for lack of bandwidth. Copies would add to that.
    Full,
    /// The link drops at once what exceeds its rate. A copy arrives in time, but takes the place of another packet.
    Policed,
    /// No special state is known.
    Usual,
    /// The link has spare capacity and loses packets at random. Copies help.
    Lossy,
}

impl Link {
    pub(super) fn of(bandwidth: Option<&Bandwidth>, now: Instant) -> Self {
        match bandwidth {
            Some(bandwidth) if bandwidth.queue_delay() > FULL => Self::Full,
            Some(bandwidth) if bandwidth.is_policed() => Self::Policed,
            Some(bandwidth) if bandwidth.lost_by_chance() > LOSSY && bandwidth.has_room(now) => Self::Lossy,
            _ => Self::Usual,
        }
    }
}
