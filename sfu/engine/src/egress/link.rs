//! What a subscriber's link is like for copies of packets.

use std::time::{Duration, Instant};

use super::bandwidth::Bandwidth;

/// A link whose queue is longer loses packets for want of room.
const FULL: Duration = Duration::from_millis(40);

/// A share of packets lost above which copies are worth more than their room.
const LOSSY: f64 = 0.02;

/// A link, by whether copies help on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// Packets are lost for want of room: copies would only add to that.
    Full,
    /// What exceeds a rate is dropped at once. A copy comes in time, but takes the place of something else.
    Policed,
    /// Nothing special is known of it.
    Usual,
    /// It has room, and loses packets by chance: copies are what helps.
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
