//! One burst: what was sent of it, what arrived, and how fast.

use super::probe::{CAUTION, FEWEST_PACKETS, LOSSY, Outcome, Probe, Situation};
use super::sent_history::PacketResult;

/// Times in microseconds, but for `asked`, rates in bits per second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cluster {
    pub probe: Probe,
    /// It is meant to show that what it claims is no token bucket.
    pub long: bool,
    /// The estimate when it was asked for, and when that was, in seconds.
    pub estimate: f64,
    pub asked: f64,
    /// It ended because something of it was dropped where a policer is known.
    pub relented: bool,
    first_sent: Option<i64>,
    last_sent: i64,
    sent_bytes: u64,
    sent_packets: usize,
    received: Received,
    lost: usize,
}

/// What of a burst arrived.
#[derive(Debug, Clone, Copy, Default)]
struct Received {
    packets: usize,
    bytes: f64,
    sent: Regression,
    arrived: Regression,
    /// The lowest one-way delays of its two halves.
    least: [Option<i64>; 2],
}

/// Bytes against time, as sums for a least-squares line: jitter spoils the first and the last packet of a burst, but
/// hardly the slope through all of them.
#[derive(Debug, Clone, Copy, Default)]
struct Regression {
    origin: i64,
    last: i64,
    count: f64,
    time: f64,
    bytes: f64,
    time_squared: f64,
    time_bytes: f64,
}

impl Cluster {
    pub fn new(probe: Probe, long: bool, situation: &Situation) -> Self {
        Self {
            probe,
            long,
            estimate: situation.estimate,
            asked: situation.now,
            relented: false,
            first_sent: None,
            last_sent: 0,
            sent_bytes: 0,
            sent_packets: 0,
            received: Received::default(),
            lost: 0,
        }
    }

    pub fn on_sent(&mut self, sent: i64, bytes: usize) {
        self.first_sent.get_or_insert(sent);
        self.last_sent = sent;
        self.sent_bytes = self.sent_bytes.saturating_add(bytes as u64);
        self.sent_packets += 1;
    }

    /// Whether all of it was sent.
    pub fn is_complete(&self) -> bool {
        self.sent_bytes >= self.probe.size.bytes() && self.sent_packets >= self.probe.packets
    }

    pub fn on_result(&mut self, result: &PacketResult) {
        let Some(arrival) = result.arrival else {
            self.lost += 1;
            return;
        };
        // It was told of as lost before.
        self.lost = self.lost.saturating_sub(usize::from(result.late));
        let half = self.is_second_half(result.sent);
        self.received.on_packet(result.sent, arrival, f64::from(result.bytes), half);
    }

    /// Whether it is known of every packet what became of it.
    pub fn is_told(&self) -> bool {
        self.received.packets + self.lost >= self.sent_packets
    }

    /// In seconds.
    pub fn last_sent(&self) -> f64 {
        self.last_sent as f64 / 1e6
    }

    fn is_second_half(&self, sent: i64) -> bool {
        let length = self.probe.size.bytes() as f64 * 8e6 / self.probe.rate.bps().max(1) as f64;
        let first = self.first_sent.unwrap_or(sent);
        sent.saturating_sub(first) as f64 > length / 2.0
    }

    /// How long it takes.
    pub fn seconds(&self) -> f64 {
        self.probe.size.bytes() as f64 * 8.0 / self.probe.rate.bps().max(1) as f64
    }

    /// What it showed, were it believed. `inherent`: the share of packets that the path loses whatever is sent. None: too little of
    /// it arrived to tell.
    pub fn outcome(&self, inherent: f64) -> Option<Outcome> {
        let received = &self.received;
        // Of a long one many reports tell: some of them may be lost.
        let least = if self.long { self.sent_packets / 4 } else { self.sent_packets.div_ceil(2) };
        if received.packets < least.max(FEWEST_PACKETS - 1) || received.packets < self.lost {
            return None;
        }
        // A bucket lets the first half of any burst through.
        if self.long && received.least[1].is_none() {
            return None;
        }
        // What nobody told of is missing on both sides.
        let told = received.packets.saturating_add(self.lost);
        let share = (told as f64 / self.sent_packets.max(1) as f64).min(1.0);
        let sent = received.sent.rate()? / share;
        // All in one tick: faster than can be told.
        let arrived = received.arrived.rate().map_or(f64::MAX, |rate| rate / share);
        let filled = arrived < sent * FILLED && received.waited(sent / arrived - 1.0);
        // What was lost for other reasons than lack of room has passed the narrowest link, or would have.
        let loss = self.lost as f64 / told.max(1) as f64;
        let chance = if inherent > LOSSY { UNRELATED } else { 0.0 };
        let passed = if loss <= inherent + chance { 1.0 - loss } else { 1.0 };
        let rate = if filled { arrived * CAUTION } else { sent / passed.max(0.5) };
        let rate = match self.pace() {
            Some(pace) if self.long && !filled => pace,
            _ => rate,
        };
        let rate = rate.min(self.probe.rate.bps() as f64 * 1.1);
        Some(Outcome { rate, shown: rate, filled, long: self.long, proven: false, hindrance: None })
    }

    /// What was sent, in bits per second.
    fn pace(&self) -> Option<f64> {
        let micros = self.last_sent.checked_sub(self.first_sent?).filter(|micros| *micros > 0)?;
        Some(self.sent_bytes as f64 * 8e6 / micros as f64)
    }
}

impl Received {
    fn on_packet(&mut self, sent: i64, arrival: i64, bytes: f64, second_half: bool) {
        let delay = arrival.saturating_sub(sent);
        if let Some(least) = self.least.get_mut(usize::from(second_half)) {
            *least = Some(least.map_or(delay, |least| least.min(delay)));
        }
        self.sent.add(sent, self.bytes);
        self.arrived.add(arrival, self.bytes);
        self.bytes += bytes;
        self.packets += 1;
    }

    /// Whether packets came to wait for each other as they must have if they arrived slower than they were sent
    /// by that share. Jitter alone makes a rate look lower, but hardly lifts the lowest delays.
    fn waited(&self, slower: f64) -> bool {
        let [Some(first), Some(second)] = self.least else { return true };
        let (grown, length) = (second.saturating_sub(first) as f64, self.sent.length() as f64);
        grown > (slower * length * EVIDENT).max(LEAST_EVIDENT)
    }
}

impl Regression {
    /// From the first to the last, in microseconds.
    fn length(&self) -> i64 {
        self.last.saturating_sub(self.origin)
    }

    fn add(&mut self, micros: i64, bytes: f64) {
        if self.count == 0.0 {
            self.origin = micros;
        }
        self.last = micros;
        let time = micros.saturating_sub(self.origin) as f64 / 1e6;
        self.count += 1.0;
        self.time += time;
        self.bytes += bytes;
        self.time_squared += time * time;
        self.time_bytes += time * bytes;
    }

    /// In bits per second. None: no time passed, or it ran backwards.
    fn rate(&self) -> Option<f64> {
        let spread = self.time_squared * self.count - self.time * self.time;
        let common = self.time_bytes * self.count - self.time * self.bytes;
        (spread > 1e-9 && common > 0.0).then(|| common / spread * 8.0)
    }
}

/// A burst that arrives at less of its rate than this has filled the link.
const FILLED: f64 = 0.9;
/// Share of the wait that a rate tells of that must be seen, and how many microseconds at least.
const EVIDENT: f64 = 0.25;
const LEAST_EVIDENT: f64 = 4_000.0;
/// A burst may lose this much more than what the path loses by itself, by chance.
const UNRELATED: f64 = 0.15;
