//! A narrow link: a rate, perhaps with a token bucket before it, a queue that drops at its tail, delay, loss, outages;
//! changed while packets are under way. [`Way`] is one direction of it, told the time; [`proxy`] puts two of them between
//! UDP sockets.
//!
//! Rules of the kernel see packets that leave in one GSO send as one, and delay or drop them together. Here each
//! datagram is by itself, as on a real link.

pub mod proxy;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// What one direction does to packets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Bits per second, headers of IP and UDP included; 0: no limit.
    pub rate_bps: u64,
    /// Depth of a token bucket that fills at the rate: so many bytes pass at once after a pause. 0: no bucket, each packet
    /// takes its time at the rate.
    pub bucket_bytes: u64,
    /// A packet that would wait longer than this is dropped. Zero with a bucket: a policer, which drops what finds no
    /// tokens.
    pub queue: Duration,
    /// What each packet takes besides.
    pub delay: Duration,
    /// The share of packets that is lost, 0 to 1, whatever the rate.
    pub loss: f64,
    /// How many packets in a row a loss takes on average; 1: each is lost by itself.
    pub loss_burst: f64,
    /// Nothing gets in.
    pub blocked: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            rate_bps: 0,
            bucket_bytes: 0,
            queue: Duration::from_millis(250),
            delay: Duration::ZERO,
            loss: 0.0,
            loss_burst: 1.0,
            blocked: false,
        }
    }
}

/// A change of a [`Shape`]; what is left out stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// [`Shape::rate_bps`] in kbit/s.
    pub rate_kbps: Option<u64>,
    /// [`Shape::bucket_bytes`].
    pub bucket_bytes: Option<u64>,
    /// [`Shape::queue`].
    pub queue_ms: Option<u64>,
    /// [`Shape::delay`].
    pub delay_ms: Option<u64>,
    /// [`Shape::loss`].
    pub loss: Option<f64>,
    /// [`Shape::loss_burst`].
    pub loss_burst: Option<f64>,
    /// [`Shape::blocked`].
    pub blocked: Option<bool>,
}

impl Shape {
    /// This shape with a change.
    #[must_use]
    pub fn with(self, change: &Change) -> Self {
        Self {
            rate_bps: change.rate_kbps.map_or(self.rate_bps, |kbps| kbps.saturating_mul(1000)),
            bucket_bytes: change.bucket_bytes.unwrap_or(self.bucket_bytes),
            queue: change.queue_ms.map_or(self.queue, Duration::from_millis),
            delay: change.delay_ms.map_or(self.delay, Duration::from_millis),
            loss: change.loss.unwrap_or(self.loss).clamp(0.0, 1.0),
            loss_burst: change.loss_burst.unwrap_or(self.loss_burst).max(1.0),
            blocked: change.blocked.unwrap_or(self.blocked),
        }
    }
}

/// What happened to the packets of one direction, and how it stands. Bytes with headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Tally {
    /// The rate at the time of asking, 0 without limit or while blocked.
    pub rate_kbps: u64,
    /// Nothing gets in at the time of asking.
    pub blocked: bool,
    /// What came.
    pub in_packets: u64,
    /// What came.
    pub in_bytes: u64,
    /// What passed the narrow place.
    pub out_packets: u64,
    /// What passed the narrow place.
    pub out_bytes: u64,
    /// Packets for which the queue had no room.
    pub full: u64,
    /// Packets lost by chance, or while blocked.
    pub lost: u64,
    /// The wait of a packet that came now.
    pub queue_ms: f64,
}

/// One direction of a link. `T` is what it carries.
#[derive(Debug)]
pub struct Way<T> {
    shape: Shape,
    random: SmallRng,
    /// Losing, since the last packet was lost and the burst goes on.
    in_burst: bool,
    queue: VecDeque<(T, f64)>,
    queued_bits: f64,
    /// Bits of the first packet in the queue that have passed already; tokens in the bucket, if there is one.
    credit: f64,
    /// The time up to which the queue was served.
    served: Instant,
    /// Past the narrow place, under way, by time of arrival.
    under_way: VecDeque<(Instant, T)>,
    tally: Tally,
}

impl<T> Way<T> {
    /// An empty one.
    pub fn new(now: Instant, shape: Shape, seed: u64) -> Self {
        Self {
            shape,
            random: SmallRng::seed_from_u64(seed),
            in_burst: false,
            queue: VecDeque::new(),
            queued_bits: 0.0,
            credit: bits(shape.bucket_bytes),
            served: now,
            under_way: VecDeque::new(),
            tally: Tally::default(),
        }
    }

    /// Another shape from now on. What waits is served at the new rate, what has passed keeps its time.
    pub fn reshape(&mut self, now: Instant, change: &Change) {
        self.serve(now);
        self.shape = self.shape.with(change);
    }

    /// A packet of `bytes` of UDP payload arrives at the link.
    pub fn offer(&mut self, now: Instant, packet: T, bytes: usize) {
        self.serve(now);
        let bytes = bytes as u64 + HEADERS;
        let bits = bytes as f64 * 8.0;
        self.tally.in_packets += 1;
        self.tally.in_bytes += bytes;
        if self.shape.blocked || self.is_unlucky() {
            self.tally.lost += 1;
        } else if self.wait_with(bits) > self.shape.queue && self.may_refuse() {
            self.tally.full += 1;
        } else {
            self.queued_bits += bits;
            self.queue.push_back((packet, bits));
            self.serve(now);
        }
    }

    /// The next packet that has arrived at the other end.
    pub fn poll(&mut self, now: Instant) -> Option<T> {
        self.serve(now);
        let (at, _) = self.under_way.front()?;
        if *at > now {
            return None;
        }
        self.under_way.pop_front().map(|(_, packet)| packet)
    }

    /// When to [`poll`](Self::poll) next.
    pub fn next_at(&self) -> Option<Instant> {
        let passes = self.queue.front().filter(|_| self.shape.rate_bps > 0).map(|(_, bits)| {
            self.served + seconds((bits - self.credit) / self.shape.rate_bps as f64) + self.shape.delay
        });
        let arrives = self.under_way.front().map(|(at, _)| *at);
        [passes, arrives].into_iter().flatten().min()
    }

    /// What happened since the last call.
    pub fn take_tally(&mut self, now: Instant) -> Tally {
        self.serve(now);
        let tally = std::mem::take(&mut self.tally);
        let rate_kbps = if self.shape.blocked { 0 } else { self.shape.rate_bps / 1000 };
        let queue_ms = self.wait_with(0.0).as_secs_f64() * 1000.0;
        Tally { rate_kbps, blocked: self.shape.blocked, queue_ms, ..tally }
    }

    /// Without a bucket a packet that finds the link idle is passed, however long it takes.
    fn may_refuse(&self) -> bool {
        self.shape.bucket_bytes > 0 || !self.queue.is_empty()
    }

    /// How long the last bit of a packet would wait.
    fn wait_with(&self, bits: f64) -> Duration {
        if self.shape.rate_bps == 0 {
            return Duration::ZERO;
        }
        seconds((self.queued_bits + bits - self.credit) / self.shape.rate_bps as f64)
    }

    /// Lets everything pass that had time to, each packet at its own moment however late this is called.
    fn serve(&mut self, now: Instant) {
        let rate = self.shape.rate_bps as f64;
        let bits_in_bucket = bits(self.shape.bucket_bytes);
        let elapsed = now.saturating_duration_since(self.served);
        // Bits that must pass, from `served` on, until the packet looked at has passed.
        let mut ahead = -self.credit;
        self.credit += rate * elapsed.as_secs_f64();
        while let Some((_, bits)) = self.queue.front() {
            let bits = *bits;
            if rate > 0.0 && self.credit + rate * ROUNDING < bits {
                break;
            }
            ahead += bits;
            let left = if rate > 0.0 { self.served + seconds(ahead / rate).min(elapsed) } else { now };
            let Some((packet, _)) = self.queue.pop_front() else { break };
            self.credit = if rate > 0.0 { self.credit - bits } else { bits_in_bucket };
            self.queued_bits -= bits;
            self.tally.out_packets += 1;
            self.tally.out_bytes += (bits / 8.0) as u64;
            // A shorter delay than before does not let packets overtake each other.
            let at = self
                .under_way
                .back()
                .map_or(left + self.shape.delay, |(last, _)| (left + self.shape.delay).max(*last));
            self.under_way.push_back((at, packet));
        }
        if self.queue.is_empty() {
            // An idle link saves up no more than its bucket holds.
            self.credit = self.credit.min(bits_in_bucket);
            self.queued_bits = 0.0;
        }
        self.served = self.served.max(now);
    }

    /// Loss by chance. Bursts: it goes on with a chance that makes them as long as asked, and begins so rarely that
    /// the share is right.
    fn is_unlucky(&mut self) -> bool {
        let Shape { loss, loss_burst, .. } = self.shape;
        let chance = if self.in_burst {
            1.0 - 1.0 / loss_burst
        } else if loss_burst > 1.0 {
            (loss / loss_burst / (1.0 - loss).max(1e-9)).min(1.0)
        } else {
            loss
        };
        let unlucky = loss > 0.0 && self.random.random::<f64>() < chance;
        self.in_burst = unlucky && loss_burst > 1.0;
        unlucky
    }
}

fn bits(bytes: u64) -> f64 {
    bytes as f64 * 8.0
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.0, 3600.0))
}

/// IP and UDP.
const HEADERS: u64 = 28;
/// Times are in whole nanoseconds; in seconds.
const ROUNDING: f64 = 2e-9;

#[cfg(test)]
mod tests;
