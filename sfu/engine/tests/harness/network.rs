//! A seeded network: delay, loss, duplication, reordering, a rate with a queue before it. One [`Path`] per direction of
//! a client's link.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::SmallRng;

/// One direction of a link.
#[derive(Debug, Clone, Copy, Default)]
pub struct Path {
    /// Time a datagram takes.
    pub delay: Duration,
    /// Share of datagrams lost, 0 to 1.
    pub loss: f64,
    /// How many datagrams are lost in a row, in the mean; 0: each is lost or not by itself.
    pub burst: f64,
    /// A row of losses is going on.
    pub losing: bool,
    /// Share of datagrams that arrive twice, 0 to 1.
    pub duplicate: f64,
    /// Share of datagrams held back, 0 to 1.
    pub reorder: f64,
    /// How long a datagram that is held back takes in addition.
    pub hold: Duration,
    /// Bits per second that fit through, 0 any number.
    pub rate_bps: u64,
    /// What would wait longer than that for its turn is lost.
    pub queue: Duration,
    /// Longer datagrams are lost, if there is such a length.
    pub longest: Option<usize>,
    /// When what waits has gone through.
    pub free: Option<Instant>,
}

impl Path {
    /// A path that only takes time.
    pub fn with_delay(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// A path of a rate, with a queue of 250 ms before it.
    pub fn with_rate(delay: Duration, rate_kbps: u64) -> Self {
        let queue = Duration::from_millis(250);
        Self { delay, rate_bps: rate_kbps * 1000, queue, ..Self::default() }
    }

    /// After how long the copies of one datagram arrive: none if it is lost, two if it is duplicated.
    pub fn carry(&mut self, rng: &mut SmallRng, now: Instant, bytes: usize) -> Vec<Duration> {
        if self.loses(rng) || self.longest.is_some_and(|longest| bytes > longest) {
            return Vec::new();
        }
        let Some(waited) = self.wait(now, bytes) else { return Vec::new() };
        let held = if rng.random_bool(self.reorder) { self.hold } else { Duration::ZERO };
        let arrival = waited + self.delay + held;
        if rng.random_bool(self.duplicate) {
            return vec![arrival, arrival + Duration::from_micros(50)];
        }
        vec![arrival]
    }

    /// Two states, in one of which everything is lost (Gilbert): how long that lasts is drawn anew with each datagram.
    fn loses(&mut self, rng: &mut SmallRng) -> bool {
        if self.burst <= 1.0 || self.loss >= 1.0 {
            return rng.random_bool(self.loss);
        }
        let leave = 1.0 / self.burst;
        let enter = (leave * self.loss / (1.0 - self.loss)).min(1.0);
        self.losing = rng.random_bool(if self.losing { 1.0 - leave } else { enter });
        self.losing
    }

    /// Until a datagram has gone through, `None` if the queue is full.
    fn wait(&mut self, now: Instant, bytes: usize) -> Option<Duration> {
        if self.rate_bps == 0 {
            return Some(Duration::ZERO);
        }
        let begins = self.free.map_or(now, |free| free.max(now));
        if begins - now > self.queue {
            return None;
        }
        // IP and UDP headers fill the link, too.
        let ends = begins + Duration::from_micros((bytes as u64 + 28) * 8_000_000 / self.rate_bps);
        self.free = Some(ends);
        Some(ends - now)
    }
}
