//! Model of a bottleneck link: a rate that changes over time, an optional token bucket, a drop-tail queue, loss and
//! jitter.

use std::collections::VecDeque;

use rand::Rng;
use rand::rngs::SmallRng;

use super::network::Packet;

/// Loss model of the link after its queue.
#[derive(Debug, Clone, Copy)]
pub enum Loss {
    None,
    /// Independent loss with this probability.
    Random(f64),
    /// Consecutive losses with this mean length (Gilbert model).
    Burst {
        share: f64,
        mean: f64,
    },
}

#[derive(Debug, Clone)]
pub struct LinkSpec {
    /// Start times in seconds, each with the rate from then on in bits per second. At 0 nothing passes.
    pub rates: Vec<(f64, f64)>,
    /// Depth of a token bucket that fills at the rate, in bytes; 0: none.
    pub bucket: f64,
    /// Capacity of the queue, in milliseconds at the current rate. 0 with a bucket makes a policer.
    pub queue_ms: f64,
    pub loss: Loss,
    /// Standard deviation of normally distributed jitter, in milliseconds, cut at three deviations. Packets stay in
    /// order.
    pub jitter_ms: f64,
}

impl LinkSpec {
    pub fn constant(rate: f64) -> Self {
        Self { rates: vec![(0.0, rate)], bucket: 0.0, queue_ms: 300.0, loss: Loss::None, jitter_ms: 0.0 }
    }

    pub fn rate_at(&self, seconds: f64) -> f64 {
        self.rates.iter().take_while(|(from, _)| *from <= seconds).last().map_or(0.0, |(_, rate)| *rate)
    }

    /// Mean rate between two times.
    pub fn mean(&self, from: f64, to: f64) -> f64 {
        let steps = 200;
        let sum: f64 =
            (0..steps).map(|n| self.rate_at(from + (to - from) * (f64::from(n) + 0.5) / 200.0)).sum();
        sum / f64::from(steps)
    }
}

#[derive(Debug)]
pub struct Link {
    pub spec: LinkSpec,
    queue: VecDeque<Packet>,
    queued_bytes: usize,
    busy: bool,
    /// Bytes in the token bucket.
    tokens: f64,
    /// Time of the last update of `tokens`, in microseconds.
    counted: u64,
    in_loss: bool,
    /// Samples of the queueing delay: time and delay, both in milliseconds.
    pub delays: Vec<(u32, f32)>,
}

/// Result of offering a packet to the queue.
pub enum Offered {
    /// The packet's transmission begins now.
    Begin,
    Queued,
    Dropped(Packet),
}

impl Link {
    pub fn new(spec: LinkSpec) -> Self {
        Self {
            tokens: spec.bucket,
            counted: 0,
            spec,
            queue: VecDeque::new(),
            queued_bytes: 0,
            busy: false,
            in_loss: false,
            delays: Vec::new(),
        }
    }

    pub fn offer(&mut self, now: u64, packet: Packet) -> Offered {
        let rate = self.spec.rate_at(now as f64 / 1e6);
        let room = rate.max(1e5) * self.spec.queue_ms / 8000.0;
        self.count(now);
        let room = if self.spec.bucket > 0.0 { room + self.tokens } else { room.max(3000.0) };
        if (self.queued_bytes + packet.bytes) as f64 > room {
            return Offered::Dropped(packet);
        }
        self.queued_bytes += packet.bytes;
        let waiting = (self.queued_bytes as f64 - self.tokens).max(0.0);
        self.delays.push(((now / 1000) as u32, (waiting * 8000.0 / rate.max(1e5)) as f32));
        self.queue.push_back(packet);
        if self.busy {
            return Offered::Queued;
        }
        self.busy = true;
        Offered::Begin
    }

    /// Refills the token bucket.
    fn count(&mut self, now: u64) {
        let (elapsed, rate) = (now.saturating_sub(self.counted), self.spec.rate_at(now as f64 / 1e6));
        self.counted = now;
        if self.spec.bucket > 0.0 {
            let least = self.queue.front().map_or(0.0, |packet| packet.bytes as f64);
            self.tokens = (self.tokens + rate * elapsed as f64 / 8e6).min(self.spec.bucket.max(least));
        }
    }

    /// When the transmission of the first packet will end, or, if the link passes nothing, when to call again.
    pub fn transmission(&self, now: u64) -> u64 {
        let rate = self.spec.rate_at(now as f64 / 1e6);
        if rate < 1000.0 {
            return now + 1000;
        }
        let bytes = self.queue.front().map_or(0, |packet| packet.bytes);
        now + ((bytes as f64 - self.tokens).max(0.0) * 8e6 / rate) as u64
    }

    /// Ends the transmission of the first packet. `None` if the link passes nothing.
    pub fn finish(&mut self, now: u64) -> Option<Packet> {
        if self.spec.rate_at(now as f64 / 1e6) < 1000.0 {
            return None;
        }
        self.count(now);
        let packet = self.queue.pop_front()?;
        if self.spec.bucket > 0.0 {
            self.tokens -= packet.bytes as f64;
        }
        self.queued_bytes -= packet.bytes;
        Some(packet)
    }

    /// Whether another packet is to be transmitted.
    pub fn goes_on(&mut self) -> bool {
        self.busy = !self.queue.is_empty();
        self.busy
    }

    pub fn loses(&mut self, random: &mut SmallRng) -> bool {
        match self.spec.loss {
            Loss::None => false,
            Loss::Random(share) => random.random_bool(share),
            Loss::Burst { share, mean } => {
                let leave = 1.0 / mean;
                let enter = leave * share / (1.0 - share);
                self.in_loss =
                    if self.in_loss { !random.random_bool(leave) } else { random.random_bool(enter) };
                self.in_loss
            }
        }
    }

    pub fn jitter(&self, random: &mut SmallRng) -> u64 {
        if self.spec.jitter_ms <= 0.0 {
            return 0;
        }
        // A sum of uniform numbers is close enough to a normal distribution.
        let normal = (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0;
        let millis = self.spec.jitter_ms * (3.0 + f64::from(normal.clamp(-3.0, 3.0)));
        (millis * 1000.0) as u64
    }
}
