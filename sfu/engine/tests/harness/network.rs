//! Seeded network emulation: delay, loss, duplication, reordering, and a limited rate with a queue. Each direction of a
//! client's link is one [`Path`].

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::SmallRng;

#[derive(Debug, Clone, Copy, Default)]
pub struct Path {
    /// One-way delay.
    pub delay: Duration,
    /// Share of datagrams lost, 0 to 1.
    pub loss: f64,
    /// Mean number of consecutive datagrams per loss; at most 1: losses are independent.
    pub burst: f64,
    /// Whether a loss burst is in progress.
    pub losing: bool,
    /// Share of datagrams that arrive twice, 0 to 1.
    pub duplicate: f64,
    /// Share of datagrams that are delayed by `hold`, 0 to 1.
    pub reorder: f64,
    /// Additional delay of the datagrams that `reorder` selects.
    pub hold: Duration,
    /// Rate in bits per second; 0: unlimited.
    pub rate_bps: u64,
    /// Depth in bytes of a token bucket that fills at the rate; after a pause this many bytes pass at once. 0: no
    /// bucket.
    pub bucket_bytes: u64,
    /// Longest queueing time; a datagram that would wait longer is lost. Zero together with a bucket makes a policer.
    pub queue: Duration,
    /// Length above which datagrams are lost; `None`: no limit.
    pub longest: Option<usize>,
    /// Time at which the queued datagrams have passed.
    pub free: Option<Instant>,
}

impl Path {
    /// Path with a delay only.
    pub fn with_delay(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// Path with a limited rate and a queue of 250 ms.
    pub fn with_rate(delay: Duration, rate_kbps: u64) -> Self {
        let queue = Duration::from_millis(250);
        Self { delay, rate_bps: rate_kbps * 1000, queue, ..Self::default() }
    }

    /// Path with a limited rate, a queue of 250 ms and a token bucket.
    pub fn with_bucket(delay: Duration, rate_kbps: u64, bucket_bytes: u64) -> Self {
        Self { bucket_bytes, ..Self::with_rate(delay, rate_kbps) }
    }

    /// Path with a policer: datagrams that exceed the token bucket are lost.
    pub fn with_policer(delay: Duration, rate_kbps: u64, bucket_bytes: u64) -> Self {
        Self { queue: Duration::ZERO, ..Self::with_bucket(delay, rate_kbps, bucket_bytes) }
    }

    /// Delays after which the copies of a datagram arrive: none if it is lost, two if it is duplicated.
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

    /// Gilbert model of two states, in one of which every datagram is lost. Each datagram draws whether the state
    /// changes.
    fn loses(&mut self, rng: &mut SmallRng) -> bool {
        if self.burst <= 1.0 || self.loss >= 1.0 {
            return rng.random_bool(self.loss);
        }
        let leave = 1.0 / self.burst;
        let enter = (leave * self.loss / (1.0 - self.loss)).min(1.0);
        self.losing = rng.random_bool(if self.losing { 1.0 - leave } else { enter });
        self.losing
    }

    /// Time until a datagram has passed; `None` if the queue is full.
    fn wait(&mut self, now: Instant, bytes: usize) -> Option<Duration> {
        if self.rate_bps == 0 {
            return Some(Duration::ZERO);
        }
        // A full bucket counts as link time saved up before `now`.
        let saved = self.micros_for(self.bucket_bytes);
        let idle = now.checked_sub(saved).unwrap_or(now);
        let begins = self.free.map_or(idle, |free| free.max(idle));
        // IPv4 and UDP headers count as well.
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
