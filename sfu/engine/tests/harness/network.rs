//! A seeded network: delay, jitter, loss, duplication, reordering. One [`Path`] per direction of a client's link.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

/// One direction of a link.
#[derive(Debug, Clone, Copy, Default)]
pub struct Path {
    /// Time a datagram takes.
    pub delay: Duration,
    /// Share of datagrams lost, 0 to 1.
    pub loss: f64,
    /// Share of datagrams that arrive twice, 0 to 1.
    pub duplicate: f64,
    /// Share of datagrams held back, 0 to 1.
    pub reorder: f64,
    /// How long a datagram that is held back takes in addition.
    pub hold: Duration,
}

impl Path {
    /// A path that only takes time.
    pub fn with_delay(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// When the copies of one datagram arrive: none if it is lost, two if it is duplicated.
    pub fn carry(&self, rng: &mut SmallRng) -> Vec<Duration> {
        if rng.random_bool(self.loss) {
            return Vec::new();
        }
        let held = if rng.random_bool(self.reorder) { self.hold } else { Duration::ZERO };
        let arrival = self.delay + held;
        if rng.random_bool(self.duplicate) {
            return vec![arrival, arrival + Duration::from_micros(50)];
        }
        vec![arrival]
    }
}
