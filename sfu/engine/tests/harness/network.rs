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
    /// Depth of a token bucket that fills at the rate: so many bytes go through at once after a pause; 0: none.
    pub bucket_bytes: u64,
    /// What would wait longer than that for its turn is lost. Zero with a bucket: a policer.
    pub queue: Duration,
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

    /// The same behind a token bucket.
    pub fn with_bucket(delay: Duration, rate_kbps: u64, bucket_bytes: u64) -> Self {
        Self { bucket_bytes, ..Self::with_rate(delay, rate_kbps) }
    }

    /// A path that lets a token bucket through and drops what exceeds it.
    pub fn with_policer(delay: Duration, rate_kbps: u64, bucket_bytes: u64) -> Self {
        Self { queue: Duration::ZERO, ..Self::with_bucket(delay, rate_kbps, bucket_bytes) }
    }

    /// After how long the copies of one datagram arrive: none if it is lost, two if it is duplicated.
    pub fn carry(&mut self, rng: &mut SmallRng, now: Instant, bytes: usize) -> Vec<Duration> {
        if self.loses(rng) {
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
        // With a bucket that is full, what comes was as good as sent while nothing was.
        let saved = self.micros_for(self.bucket_bytes);
        let idle = now.checked_sub(saved).unwrap_or(now);
        let begins = self.free.map_or(idle, |free| free.max(idle));
        // IP and UDP headers fill the link, too.
        let ends = begins + self.micros_for(bytes as u64 + 28);
        let waits = if self.bucket_bytes > 0 { ends } else { begins }.saturating_duration_since(now);
        if waits > self.queue {
            return None;
        }
        self.free = Some(ends);
        Some(ends.saturating_duration_since(now))
    }

    fn micros_for(&self, bytes: u64) -> Duration {
        Duration::from_micros(bytes * 8_000_000 / self.rate_bps)
    }
}
