//! Probing: short bursts at a higher rate, and what of them arrives how fast. When to send one, what one is, what it
//! showed.

use std::num::NonZeroU8;
use std::time::Duration;

use crate::units::{Bitrate, DataSize};

use super::sent_history::PacketResult;

/// Names the packets of one burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClusterId(NonZeroU8);

impl ClusterId {
    pub(super) fn new(id: u8) -> Option<Self> {
        NonZeroU8::new(id).map(Self)
    }

    pub(super) fn get(self) -> u8 {
        self.0.get()
    }
}

/// A burst to be sent: media first, padding for what is missing, all at `rate`, until both minimums are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// To be handed back with every packet of it.
    pub cluster: ClusterId,
    /// At which to send.
    pub rate: Bitrate,
    /// How much to send at least.
    pub size: DataSize,
    /// How many packets to send at least.
    pub packets: usize,
}

/// What a burst showed. Rates in bits per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Outcome {
    /// What may be relied on.
    pub rate: f64,
    /// It arrived slower than it was sent: the link was filled.
    pub filled: bool,
}

/// What decides whether to probe. Times in seconds, rates in bits per second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation {
    pub now: f64,
    pub estimate: f64,
    pub wanted: f64,
    pub max: f64,
    /// No queue.
    pub quiet: bool,
    /// Nor was there one for long.
    pub calm: bool,
    /// More is sent than the link was known to carry.
    pub beyond: bool,
    /// In milliseconds.
    pub jitter: f64,
    /// The share of packets lost lately.
    pub loss: f64,
    /// The capacity seen, if any.
    pub capacity: Option<f64>,
    /// Where the estimate stood before it fell.
    pub before_drop: Option<f64>,
}

/// The bursts.
#[derive(Debug)]
pub(super) struct ProbeControl {
    phase: Phase,
    active: Option<Cluster>,
    /// Sent whole; feedback is awaited.
    waiting: [Option<Cluster>; WAITING],
    next_id: u8,
    not_before: f64,
    /// The same, also for what is urgent.
    rest_until: f64,
    climbs_until: f64,
    interval: f64,
    /// Until when packets of the last burst that was judged, or their queue, may still be in the network.
    disturbed_until: f64,
    /// Something happened that makes a look worth its cost even if there was a queue lately.
    urgent: bool,
    /// How many times the estimate to try.
    boldness: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// How many of the first bursts were sent.
    Start(u8),
    /// The first bursts' results lead to more, twice as fast.
    Climb,
    Steady,
}

#[derive(Debug, Clone, Copy)]
struct Cluster {
    probe: Probe,
    estimate: f64,
    asked: f64,
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

impl ProbeControl {
    /// The first bursts are due at once.
    pub fn new() -> Self {
        Self {
            phase: Phase::Start(0),
            active: None,
            waiting: [None; WAITING],
            next_id: 1,
            not_before: 0.0,
            rest_until: 0.0,
            climbs_until: 0.0,
            interval: SHORTEST_INTERVAL,
            disturbed_until: 0.0,
            urgent: false,
            boldness: BOLDEST,
        }
    }

    /// The burst being sent.
    pub fn active(&self) -> Option<Probe> {
        self.active.map(|cluster| cluster.probe)
    }

    /// Whether packets of a burst, or the queue they make, disturb what is measured otherwise.
    pub fn disturbs(&self, now: f64) -> bool {
        self.active.is_some() || self.waiting.iter().any(Option::is_some) || now < self.disturbed_until
    }

    /// When a burst could be due, in seconds.
    pub fn due(&self) -> f64 {
        self.not_before.max(self.rest_until)
    }

    /// Until when, in seconds, the burst that follows a success may show more.
    pub fn climbs_until(&self) -> f64 {
        self.climbs_until
    }

    /// Nothing is missing that a burst could show room for: none until then, in seconds.
    pub fn rest(&mut self, until: f64) {
        self.rest_until = until;
    }

    /// Not before that time, in seconds.
    pub fn postpone(&mut self, until: f64) {
        self.not_before = self.not_before.max(until);
    }

    /// The situation has changed so that earlier failures say nothing: probe soon.
    pub fn hurry(&mut self, now: f64) {
        self.interval = SHORTEST_INTERVAL;
        self.not_before = self.not_before.min(now);
        self.urgent = true;
    }

    /// The burst being sent cannot be completed.
    pub fn abandon(&mut self) {
        self.active = None;
    }

    /// A burst that should begin now.
    pub fn poll(&mut self, situation: &Situation) -> Option<Probe> {
        let now = situation.now;
        if self.active.is_some_and(|active| now - active.asked > PATIENCE) {
            self.active = None; // whoever should send it does not
        }
        if self.active.is_some() || now < self.due() {
            return None;
        }
        let rate = self.next_rate(situation)?;
        self.begin(rate.min(situation.max), situation)
    }

    fn next_rate(&mut self, situation: &Situation) -> Option<f64> {
        let ceiling = situation.wanted * HEADROOM;
        match self.phase {
            Phase::Start(sent) => {
                let factor = FIRST.get(usize::from(sent))?;
                self.phase = Phase::Start(sent + 1);
                if usize::from(sent) + 1 == FIRST.len() {
                    self.phase = Phase::Climb;
                    self.not_before = situation.now + FIRST_PATIENCE;
                }
                Some(situation.estimate * factor)
            }
            Phase::Climb => {
                // The results did not come, or led no further.
                self.phase = Phase::Steady;
                None
            }
            Phase::Steady => {
                let may = situation.calm || self.urgent && situation.quiet;
                if !may || situation.estimate >= situation.wanted {
                    return None;
                }
                self.urgent = false;
                let known = situation.before_drop.or(situation.capacity);
                let near = known.is_some_and(|known| situation.estimate > known * 0.7);
                let factor = if near && !situation.beyond { self.boldness.min(1.5) } else { self.boldness };
                self.not_before = situation.now + self.interval;
                Some((situation.estimate * factor).min(ceiling))
            }
        }
    }

    fn begin(&mut self, rate: f64, situation: &Situation) -> Option<Probe> {
        if rate <= situation.estimate * 1.05 {
            return None;
        }
        let cluster = ClusterId::new(self.next_id)?;
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        let time = (SHORTEST + situation.jitter * PER_JITTER).min(LONGEST) / 1000.0;
        let rate = Bitrate::from_bps(rate as u64);
        let packets = (FEWEST_PACKETS as f64 / (1.0 - situation.loss.clamp(0.0, 0.5))).ceil() as usize;
        let probe = Probe { cluster, rate, size: rate.over(Duration::from_secs_f64(time)), packets };
        self.active = Some(Cluster {
            probe,
            estimate: situation.estimate,
            asked: situation.now,
            first_sent: None,
            last_sent: 0,
            sent_bytes: 0,
            sent_packets: 0,
            received: Received::default(),
            lost: 0,
        });
        Some(probe)
    }

    /// A packet of a burst is sent, at `sent` microseconds.
    pub fn on_sent(&mut self, id: ClusterId, sent: i64, bytes: usize) {
        let Some(active) = self.active.as_mut().filter(|active| active.probe.cluster == id) else { return };
        active.first_sent.get_or_insert(sent);
        active.last_sent = sent;
        active.sent_bytes = active.sent_bytes.saturating_add(bytes as u64);
        active.sent_packets += 1;
        if active.sent_bytes >= active.probe.size.bytes() && active.sent_packets >= active.probe.packets {
            let finished = self.active.take();
            self.waiting.rotate_right(1);
            if let Some(oldest) = self.waiting.first_mut() {
                *oldest = finished;
            }
        }
    }

    /// What became of a packet of a burst.
    pub fn on_result(&mut self, id: ClusterId, result: &PacketResult) {
        let active = self.active.iter_mut();
        let mut clusters = active.chain(self.waiting.iter_mut().flatten());
        let Some(cluster) = clusters.find(|cluster| cluster.probe.cluster == id) else { return };
        match result.arrival {
            Some(arrival) => {
                // It was told of as lost before.
                cluster.lost = cluster.lost.saturating_sub(usize::from(result.late));
                let half = cluster.is_second_half(result.sent);
                cluster.received.on_packet(result.sent, arrival, f64::from(result.bytes), half);
            }
            None => cluster.lost += 1,
        }
    }

    /// What the oldest burst that is complete has shown. `rtt` and `now` in seconds; `inherent`: the share of
    /// packets that the path loses whatever is sent.
    pub fn outcome(&mut self, now: f64, rtt: f64, inherent: f64) -> Option<Outcome> {
        let place = self.waiting.iter().rposition(|cluster| {
            cluster.is_some_and(|cluster| {
                let told = cluster.received.packets + cluster.lost >= cluster.sent_packets;
                told || now - cluster.last_sent as f64 / 1e6 > rtt + LATEST
            })
        })?;
        let cluster = self.waiting.get_mut(place)?.take()?;
        self.disturbed_until = now + SETTLING;
        let outcome = cluster.outcome(inherent);
        self.plan(&cluster, outcome, now, inherent);
        outcome
    }

    /// What comes next, given what this one showed.
    fn plan(&mut self, cluster: &Cluster, outcome: Option<Outcome>, now: f64, inherent: f64) {
        self.climbs_until = 0.0;
        if outcome.is_none() {
            // Too little of it arrived to tell.
            if self.phase == Phase::Climb {
                self.phase = Phase::Steady;
            }
            // What made a look urgent meanwhile still does.
            self.urgent |= inherent > LOSSY;
            self.not_before = now + if self.urgent { AGAIN } else { self.interval };
            return;
        }
        let asked = cluster.probe.rate.bps() as f64;
        let success = outcome.is_some_and(|outcome| !outcome.filled && outcome.rate > asked * 0.7);
        if success {
            self.climbs_until = now + CLIMBING;
        }
        self.boldness = if success { (self.boldness * 1.3).min(BOLDEST) } else { LEAST_BOLD };
        match self.phase {
            Phase::Climb if success => {
                self.phase = Phase::Steady;
                self.not_before = now;
                self.interval = SHORTEST_INTERVAL;
            }
            Phase::Climb => {
                self.phase = Phase::Steady;
                self.not_before = now + FIRST_PAUSE;
            }
            _ if success => {
                self.interval = SHORTEST_INTERVAL;
                self.not_before = now;
            }
            Phase::Steady => {
                let gained = outcome.is_some_and(|outcome| outcome.rate > cluster.estimate * 1.15);
                if gained {
                    self.interval = SHORTEST_INTERVAL;
                } else {
                    self.interval = (self.interval * 1.5).min(LONGEST_INTERVAL);
                }
                self.not_before = self.not_before.max(now + self.interval);
            }
            Phase::Start(_) => {}
        }
    }
}

impl Cluster {
    fn is_second_half(&self, sent: i64) -> bool {
        let length = self.probe.size.bytes() as f64 * 8e6 / self.probe.rate.bps().max(1) as f64;
        let first = self.first_sent.unwrap_or(sent);
        sent.saturating_sub(first) as f64 > length / 2.0
    }

    fn outcome(&self, inherent: f64) -> Option<Outcome> {
        let received = &self.received;
        if received.packets < FEWEST_PACKETS - 1 || received.packets * 2 < self.sent_packets {
            return None;
        }
        let sent = received.sent.rate()?;
        // All in one tick: faster than can be told.
        let arrived = received.arrived.rate().unwrap_or(f64::MAX);
        let filled = arrived < sent * FILLED && received.waited(sent / arrived - 1.0);
        // What was lost for other reasons than lack of room has passed the narrowest link, or would have.
        let loss = 1.0 - received.packets as f64 / self.sent_packets.max(1) as f64;
        let chance = if inherent > LOSSY { UNRELATED } else { 0.0 };
        let passed = if loss <= inherent + chance { 1.0 - loss } else { 1.0 };
        let rate = if filled { arrived * CAUTION } else { sent / passed.max(0.5) };
        Some(Outcome { rate: rate.min(self.probe.rate.bps() as f64 * 1.1), filled })
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
}

impl Received {
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

/// The first bursts, as multiples of the rate to begin with.
const FIRST: [f64; 2] = [3.0, 6.0];
const WAITING: usize = 3;
const FEWEST_PACKETS: usize = 5;
/// In milliseconds. Jitter needs longer bursts to be averaged out.
const SHORTEST: f64 = 15.0;
const LONGEST: f64 = 100.0;
const PER_JITTER: f64 = 8.0;
/// In seconds.
const PATIENCE: f64 = 1.0;
const LATEST: f64 = 0.5;
const SETTLING: f64 = 0.1;
const FIRST_PATIENCE: f64 = 2.0;
const FIRST_PAUSE: f64 = 2.0;
const SHORTEST_INTERVAL: f64 = 2.0;
const LONGEST_INTERVAL: f64 = 6.0;
/// Of what is wanted: a layer is switched to only with some room left.
const HEADROOM: f64 = 1.25;
/// After a burst of which too little arrived to tell, on a lossy path.
const AGAIN: f64 = 0.5;
/// How long a success is waited for after another: a round trip, the burst and the report of it.
const CLIMBING: f64 = 0.3;
const BOLDEST: f64 = 2.0;
const LEAST_BOLD: f64 = 1.5;
/// A burst that arrives at less of its rate than this has filled the link.
const FILLED: f64 = 0.9;
/// Share of the wait that a rate tells of that must be seen, and how many microseconds at least.
const EVIDENT: f64 = 0.25;
const LEAST_EVIDENT: f64 = 4_000.0;
/// A burst may lose this much more than what the path loses by itself, by chance.
const UNRELATED: f64 = 0.15;
/// A path that loses more than this does so by itself.
const LOSSY: f64 = 0.02;
/// Share of a filled link's measured rate to rely on.
const CAUTION: f64 = 0.85;

#[cfg(test)]
mod tests {
    use super::*;

    fn situation(now: f64) -> Situation {
        Situation {
            now,
            estimate: 3e5,
            wanted: 3e6,
            max: 1e7,
            quiet: true,
            calm: true,
            beyond: false,
            jitter: 0.0,
            loss: 0.0,
            capacity: None,
            before_drop: None,
        }
    }

    /// Sends the burst that is due and reports it over a link of `link` bits per second.
    fn burst(control: &mut ProbeControl, link: f64) -> Option<Outcome> {
        let probe = control.poll(&situation(0.0))?;
        let (mut sent, mut free) = (1000.0, 0.0_f64);
        let mut results = Vec::new();
        while control.active().is_some() {
            control.on_sent(probe.cluster, sent as i64, 1000);
            free = free.max(sent) + 8e9 / link;
            let arrival = Some(free as i64 - 5_000_000);
            results.push(PacketResult {
                sent: sent as i64,
                bytes: 1000,
                cluster: Some(probe.cluster),
                arrival,
                late: false,
            });
            sent += 8e9 / probe.rate.bps() as f64;
        }
        results.iter().for_each(|result| control.on_result(probe.cluster, result));
        control.outcome(0.1, 0.05, 0.0)
    }

    #[test]
    fn a_wide_link_shows_the_rate_of_the_burst_and_a_narrow_one_its_own() {
        let outcome = burst(&mut ProbeControl::new(), 1e7).expect("all arrived");
        assert!(!outcome.filled && (outcome.rate - 9e5).abs() < 1e4, "{outcome:?}");
        let outcome = burst(&mut ProbeControl::new(), 4e5).expect("all arrived");
        assert!(outcome.filled && (outcome.rate - 0.85 * 4e5).abs() < 1e4, "{outcome:?}");
    }

    #[test]
    fn a_packet_told_of_as_lost_that_comes_late_counts_once() {
        let mut control = ProbeControl::new();
        let probe = control.poll(&situation(0.0)).expect("the first is due at once");
        let mut sent = Vec::new();
        while control.active().is_some() {
            let at = 1000 + sent.len() as i64 * 10_000;
            control.on_sent(probe.cluster, at, 1000);
            sent.push(at);
        }
        let mut told = |at: i64, arrival, late| {
            let cluster = Some(probe.cluster);
            control.on_result(probe.cluster, &PacketResult { sent: at, bytes: 1000, cluster, arrival, late });
        };
        let (last, others) = sent.split_last().expect("something was sent");
        told(others[0], None, false);
        others.iter().for_each(|at| told(*at, Some(at + 50_000), *at == others[0]));
        assert_eq!(control.outcome(0.1, 0.05, 0.0), None, "the last is not told of yet");
        control.on_result(
            probe.cluster,
            &PacketResult {
                sent: *last,
                bytes: 1000,
                cluster: Some(probe.cluster),
                arrival: Some(last + 50_000),
                late: false,
            },
        );
        assert!(control.outcome(0.1, 0.05, 0.0).is_some());
    }

    #[test]
    fn what_becomes_urgent_during_a_burst_that_fails_is_looked_for_soon() {
        let mut control = ProbeControl::new();
        control.phase = Phase::Steady;
        let probe = control.poll(&situation(9.0)).expect("more is wanted");
        while control.active().is_some() {
            control.on_sent(probe.cluster, 9_000_000, 1000);
        }
        control.hurry(9.1);
        assert_eq!(control.outcome(10.0, 0.05, 0.0), None, "nothing of it arrived");
        let soon = situation(10.0 + AGAIN);
        assert!(control.poll(&Situation { calm: false, ..soon }).is_some());
    }

    #[test]
    fn nothing_is_probed_for_that_nobody_wants() {
        let mut control = ProbeControl::new();
        control.phase = Phase::Steady;
        assert_eq!(control.poll(&Situation { wanted: 2e5, ..situation(9.0) }), None);
        assert_eq!(control.poll(&Situation { calm: false, ..situation(9.0) }), None);
        let probe = control.poll(&situation(9.0)).expect("more is wanted");
        assert_eq!(probe.rate, Bitrate::from_kbps(600));
    }
}
