//! The only module of the media plane that reads clocks. Workers read the time a few times per batch, never per packet.

use std::time::{Instant, SystemTime};

/// Time of the monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// One moment on the monotonic clock and on the wall clock, for the NTP times of sender reports.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub(crate) fn pair() -> (Instant, SystemTime) {
    (Instant::now(), SystemTime::now())
}
