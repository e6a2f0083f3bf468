//! Emulates a bad link: limited rate, optional token bucket, tail-drop queue, delay, loss and outages, all of which can
//! change while packets are in flight. [`Way`] is one direction of a link and is passed the time by its caller.
//! [`proxy`] places one `Way` per direction between UDP sockets.
//!
//! The emulation in the Linux kernel treats the packets of one GSO send as one packet, and delays or drops them
//! together. This one treats each datagram separately, as a real link does.

pub mod proxy;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// Properties of one direction of a link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Rate in bits per second, IP and UDP headers included; 0: unlimited.
    pub rate_bps: u64,
    /// Depth in bytes of a token bucket that fills at the rate; after a pause this many bytes pass at once. 0: no
    /// bucket, so each packet takes its serialization time at the rate.
    pub bucket_bytes: u64,
    /// Longest queueing time; a packet that would wait longer is dropped. Zero together with a bucket makes a policer,
    /// which drops every packet that finds too few tokens.
    pub queue: Duration,
    /// Propagation delay, added to the queueing time of each packet.
    pub delay: Duration,
    /// Share of packets that is lost at random, 0 to 1, regardless of the rate.
    pub loss: f64,
    /// Mean number of consecutive packets per loss; 1: losses are independent.
    pub loss_burst: f64,
    /// Whether every new packet is dropped. Packets already in the link still arrive.
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

/// Change of a [`Shape`]; fields that are absent keep their values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// New [`Shape::rate_bps`], in kbit/s.
    pub rate_kbps: Option<u64>,
    /// New [`Shape::bucket_bytes`].
    pub bucket_bytes: Option<u64>,
    /// New [`Shape::queue`], in ms.
    pub queue_ms: Option<u64>,
    /// New [`Shape::delay`], in ms.
    pub delay_ms: Option<u64>,
    /// New [`Shape::loss`].
    pub loss: Option<f64>,
    /// New [`Shape::loss_burst`].
    pub loss_burst: Option<f64>,
    /// New [`Shape::blocked`].
    pub blocked: Option<bool>,
}

impl Shape {
    /// Returns this shape with `change` applied; `loss` is limited to 0 to 1, `loss_burst` to at least 1.
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

/// Counters of one direction since the last report, and its present state. Bytes include IP and UDP headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Tally {
    /// Present rate in kbit/s; 0 if unlimited or blocked.
    pub rate_kbps: u64,
    /// Whether new packets are dropped at present.
    pub blocked: bool,
    /// Packets that arrived at the link.
    pub in_packets: u64,
    /// Bytes that arrived at the link.
    pub in_bytes: u64,
    /// Packets that passed the bottleneck.
    pub out_packets: u64,
    /// Bytes that passed the bottleneck.
    pub out_bytes: u64,
    /// Packets dropped because the queue was full.
    pub full: u64,
    /// Packets lost at random or while blocked.
    pub lost: u64,
    /// Present queueing time of a newly arriving packet, in ms.
    pub queue_ms: f64,
}

/// One direction of a link, which transports packets of type `T`.
#[derive(Debug)]
pub struct Way<T> {
    shape: Shape,
    random: SmallRng,
    /// Whether the previous packet was lost as part of a loss burst that may continue.
    in_burst: bool,
    queue: VecDeque<(T, f64)>,
    queued_bits: f64,
    /// Bits of the queue's first packet that have already passed; with a token bucket, the tokens in the bucket, in
    /// bits.
    credit: f64,
    /// Time up to which the queue was served.
    served: Instant,
    /// Packets in flight past the bottleneck, in order of arrival, each with its arrival time.
    under_way: VecDeque<(Instant, T)>,
    tally: Tally,
}

impl<T> Way<T> {
    /// Creates a direction without packets, its token bucket full. `seed` determines the random loss.
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

    /// Changes the shape. Queued packets are served at the new rate; packets past the bottleneck keep their arrival
    /// times.
    pub fn reshape(&mut self, now: Instant, change: &Change) {
        self.serve(now);
        self.shape = self.shape.with(change);
    }

    /// Accepts or drops a packet of `bytes` of UDP payload that arrives at the link.
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

    /// Returns the next packet that has arrived at the other end.
    pub fn poll(&mut self, now: Instant) -> Option<T> {
        self.serve(now);
        let (at, _) = self.under_way.front()?;
        if *at > now {
            return None;
        }
        self.under_way.pop_front().map(|(_, packet)| packet)
    }

    /// Time of the next call of [`poll`](Self::poll); `None` while nothing can arrive.
    pub fn next_at(&self) -> Option<Instant> {
        let passes = self.queue.front().filter(|_| self.shape.rate_bps > 0).map(|(_, bits)| {
            self.served + seconds((bits - self.credit) / self.shape.rate_bps as f64) + self.shape.delay
        });
        let arrives = self.under_way.front().map(|(at, _)| *at);
        [passes, arrives].into_iter().flatten().min()
    }

    /// Returns the counters since the last call, and the present state.
    pub fn take_tally(&mut self, now: Instant) -> Tally {
        self.serve(now);
        let tally = std::mem::take(&mut self.tally);
        let rate_kbps = if self.shape.blocked { 0 } else { self.shape.rate_bps / 1000 };
        let queue_ms = self.wait_with(0.0).as_secs_f64() * 1000.0;
        Tally { rate_kbps, blocked: self.shape.blocked, queue_ms, ..tally }
    }

    /// Without a bucket, a packet that finds the link idle always passes, however long it takes.
    fn may_refuse(&self) -> bool {
        self.shape.bucket_bytes > 0 || !self.queue.is_empty()
    }

    /// Time until the last bit of a newly arriving packet of `bits` has passed.
    fn wait_with(&self, bits: f64) -> Duration {
        if self.shape.rate_bps == 0 {
            return Duration::ZERO;
        }
        seconds((self.queued_bits + bits - self.credit) / self.shape.rate_bps as f64)
    }

    /// Passes every queued packet whose time has come. Each gets its exact departure time, however late this is called.
    fn serve(&mut self, now: Instant) {
        let rate = self.shape.rate_bps as f64;
        let bits_in_bucket = bits(self.shape.bucket_bytes);
        let elapsed = now.saturating_duration_since(self.served);
        // Bits that must pass, counted from `served`, until the packet at the front of the queue has passed.
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
            // Reducing the delay does not let packets overtake each other.
            let at = self
                .under_way
                .back()
                .map_or(left + self.shape.delay, |(last, _)| (left + self.shape.delay).max(*last));
            self.under_way.push_back((at, packet));
        }
        if self.queue.is_empty() {
            // An idle link accumulates no more credit than its bucket holds.
            self.credit = self.credit.min(bits_in_bucket);
            self.queued_bits = 0.0;
        }
        self.served = self.served.max(now);
    }

    /// Decides whether a packet is lost at random. A loss burst continues with the probability that gives it the mean
    /// length `loss_burst`, and begins with the probability that gives the overall share `loss`.
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

/// Bytes of the IPv4 and UDP headers.
const HEADERS: u64 = 28;
/// Tolerance in seconds for times that were rounded to whole nanoseconds.
const ROUNDING: f64 = 2e-9;

#[cfg(test)]
mod tests;
