//! The only place of the media plane that reads clocks. Workers read it a few times per batch, never per packet.

use std::time::{Instant, SystemTime};

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// One moment in both clocks, for the NTP times of sender reports.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub(crate) fn pair() -> (Instant, SystemTime) {
    (Instant::now(), SystemTime::now())
}
