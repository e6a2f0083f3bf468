//! One probe: which of its packets were sent, which arrived, and how fast.

use super::probe::{CAUTION, FEWEST_PACKETS, LOSSY, Outcome, Probe, Situation};
use super::sent_history::PacketResult;

/// State of one probe. Times in microseconds except `asked`, rates in bits per second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cluster {
    pub probe: Probe,
    /// Whether this is a long probe: meant to be larger than any token bucket, so that its result needs no
    /// confirmation.
    pub long: bool,
    /// The estimate when the probe was requested.
    pub estimate: f64,
    /// When the probe was requested, in seconds.
    pub asked: f64,
    /// The probe was ended early on a path where a policer's rate is known. It has no result then.
    pub relented: bool,
    first_sent: Option<i64>,
    last_sent: i64,
    sent_bytes: u64,
    sent_packets: usize,
    received: Received,
    lost: usize,
}

/// Packets of a probe that arrived.
#[derive(Debug, Clone, Copy, Default)]
struct Received {
    packets: usize,
    bytes: f64,
    sent: Regression,
    arrived: Regression,
    /// Lowest one-way delays of the probe's two halves, in microseconds.
    least: [Option<i64>; 2],
}

/// Bytes against time, as sums for a least-squares line. Jitter distorts the times of the first and the last packet of
/// a probe, but hardly the slope through all packets.
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

    /// Whether the whole probe was sent.
    pub fn is_complete(&self) -> bool {
        self.sent_bytes >= self.probe.size.bytes() && self.sent_packets >= self.probe.packets
    }

    pub fn on_result(&mut self, result: &PacketResult) {
        let Some(arrival) = result.arrival else {
            self.lost += 1;
            return;
        };
        // A late packet was reported as lost before.
        self.lost = self.lost.saturating_sub(usize::from(result.late));
        let half = self.is_second_half(result.sent);
        self.received.on_packet(result.sent, arrival, f64::from(result.bytes), half);
    }

    /// Whether every packet sent was reported as received or lost.
    pub fn is_told(&self) -> bool {
        self.received.packets + self.lost >= self.sent_packets
    }

    /// Send time of the last packet, in seconds.
    pub fn last_sent(&self) -> f64 {
        self.last_sent as f64 / 1e6
    }

    fn is_second_half(&self, sent: i64) -> bool {
        let length = self.probe.size.bytes() as f64 * 8e6 / self.probe.rate.bps().max(1) as f64;
        let first = self.first_sent.unwrap_or(sent);
        sent.saturating_sub(first) as f64 > length / 2.0
    }

    /// Planned duration, in seconds.
    pub fn seconds(&self) -> f64 {
        self.probe.size.bytes() as f64 * 8.0 / self.probe.rate.bps().max(1) as f64
    }

    /// The measured result, before it is decided how far it is believed. `inherent`: the share of packets that the path
    /// loses whatever the rate. `None` if too little arrived to measure.
    pub fn outcome(&self, inherent: f64) -> Option<Outcome> {
        let received = &self.received;
        // A long probe is reported in many messages, some of which may be lost.
        let least = if self.long { self.sent_packets / 4 } else { self.sent_packets.div_ceil(2) };
        if received.packets < least.max(FEWEST_PACKETS - 1) || received.packets < self.lost {
            return None;
        }
        // A token bucket may let the whole first half through.
        if self.long && received.least[1].is_none() {
            return None;
        }
        // Packets without feedback are missing from both rates.
        let told = received.packets.saturating_add(self.lost);
        let share = (told as f64 / self.sent_packets.max(1) as f64).min(1.0);
        let sent = received.sent.rate()? / share;
        // No slope if all packets arrived in one tick: faster than can be measured.
        let arrived = received.arrived.rate().map_or(f64::MAX, |rate| rate / share);
        let filled = arrived < sent * FILLED && received.waited(sent / arrived - 1.0);
        // Packets lost for other reasons than lack of capacity passed the bottleneck, or would have passed it.
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

    /// Actual sending rate, in bits per second.
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

    /// Whether delay grew during the probe as it must if the packets arrived more slowly than they were sent. `slower`:
    /// the excess of the sent rate over the arrival rate, relative to the latter. Jitter alone makes a rate look lower,
    /// but hardly raises the lowest delays.
    fn waited(&self, slower: f64) -> bool {
        let [Some(first), Some(second)] = self.least else { return true };
        let (grown, length) = (second.saturating_sub(first) as f64, self.sent.length() as f64);
        grown > (slower * length * EVIDENT).max(LEAST_EVIDENT)
    }
}

impl Regression {
    /// Time from the first to the last packet, in microseconds.
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

    /// Slope in bits per second. `None` if no time passed, or time ran backwards.
    fn rate(&self) -> Option<f64> {
        let spread = self.time_squared * self.count - self.time * self.time;
        let common = self.time_bytes * self.count - self.time * self.bytes;
        (spread > 1e-9 && common > 0.0).then(|| common / spread * 8.0)
    }
}

/// Share of its sent rate below which a probe must arrive to count as having filled the link.
const FILLED: f64 = 0.9;
/// Share of the delay growth implied by the measured rates that must be observed.
const EVIDENT: f64 = 0.25;
/// Minimum observed delay growth, in microseconds.
const LEAST_EVIDENT: f64 = 4_000.0;
/// Share of a probe's packets that a lossy path may lose by chance, beyond what it loses on average.
const UNRELATED: f64 = 0.15;
