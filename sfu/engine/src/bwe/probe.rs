//! Probing: packets sent for a short time at a higher rate, to measure at which rate they arrive. Decides when to send
//! a probe, at which rate and length, and what its result shows.

use std::num::NonZeroU8;
use std::time::Duration;

use crate::units::{Bitrate, DataSize};

use super::cluster::Cluster;
use super::sent_history::PacketResult;
use super::train::{Hindrance, Train};

/// Identifies the packets of one probe. Never zero; reused after 255 probes.
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

/// A probe to be sent: media first, padding for the rest, all at `rate`, until both minimums are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// To be passed to [`Estimator::on_sent`](super::Estimator::on_sent) with every packet of the probe.
    pub cluster: ClusterId,
    /// Rate at which to send the probe.
    pub rate: Bitrate,
    /// Minimum size of the probe.
    pub size: DataSize,
    /// Minimum number of packets.
    pub packets: usize,
}

/// Result of a probe. Rates in bits per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Outcome {
    /// Rate that the link is taken to carry.
    pub rate: f64,
    /// Measured rate. It is higher than `rate` where a short probe is believed only in part.
    pub shown: f64,
    /// The probe arrived more slowly than it was sent: the link was filled.
    pub filled: bool,
    /// The probe was longer than token buckets are deep.
    pub long: bool,
    /// `rate` may be relied on. Otherwise a long probe has to confirm it.
    pub proven: bool,
    /// Queueing or drops that a long probe met, if any.
    pub hindrance: Option<Hindrance>,
}

impl Outcome {
    fn hindered(seen: Hindrance) -> Self {
        let rate = seen.rate * CAUTION;
        Self { rate, shown: rate, filled: true, long: true, proven: true, hindrance: Some(seen) }
    }

    /// Multiple of the estimate that `rate` must exceed to count as more capacity. `limited`: less is sent than the
    /// estimate allows.
    pub fn gain(&self, limited: bool) -> f64 {
        match self.filled {
            true if !limited => FILLED_GAIN,
            _ => CLAIM,
        }
    }
}

/// Inputs for deciding whether to probe. Times in seconds, rates in bits per second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation {
    pub now: f64,
    pub estimate: f64,
    pub wanted: f64,
    pub max: f64,
    /// No queue stands, no silence or contention lasts, and reports are recent.
    pub quiet: bool,
    /// `quiet`, and the rate has not fallen recently.
    pub calm: bool,
    /// The rate exceeds the known capacity, or no capacity is known.
    pub beyond: bool,
    /// Jitter in milliseconds.
    pub jitter: f64,
    /// Recent share of packets lost, 0 to 1.
    pub loss: f64,
    /// Capacity measured while the link was filled, if it ever was.
    pub capacity: Option<f64>,
    /// The rate before a recent fall, if the rate ever fell; see `Estimator::before_drop`.
    pub before_drop: Option<f64>,
    /// A policer is on the path, and its rate is known.
    pub policed: bool,
}

/// Schedules probes and judges their results.
#[derive(Debug)]
pub(super) struct ProbeControl {
    phase: Phase,
    active: Option<Cluster>,
    /// Probes that were sent completely and await feedback, newest first.
    waiting: [Option<Cluster>; WAITING],
    /// Per-slice record of the last long probe.
    train: Option<(ClusterId, Train)>,
    /// Rate that a short probe showed and a long probe has to confirm.
    claimed: Option<Claim>,
    /// Rate of the last short probe that passed without being slowed down. A long probe that gets much less has met a
    /// token bucket.
    unhindered_rate: f64,
    next_id: u8,
    not_before: f64,
    /// No probe begins before this time, in seconds, however urgent.
    rest_until: f64,
    climbs_until: f64,
    interval: f64,
    /// Time in seconds until which packets of the last judged probe, or their queue, may still be in the network.
    disturbed_until: f64,
    /// Something happened that makes a probe worth its cost even if a queue stood recently.
    urgent: bool,
    /// Rate of the next short probe as a multiple of the estimate.
    boldness: f64,
    /// Number of consecutive claims that turned out to be false.
    denied: u32,
    /// No probe begins before this time, in seconds, on a policed link, however urgent: the policer would drop media
    /// too.
    policed_until: f64,
    /// No video is sent for lack of bandwidth.
    starved: bool,
    /// Number of consecutive probes that filled the link at once.
    prompt: u32,
    /// When, in seconds, enough was last sent to drain a token bucket.
    drained: f64,
    /// Rate that the link delivered when it was last filled, or that a long probe has shown since, in bits per second.
    known: f64,
    /// The last short probe that was believed without a long one.
    believed: Option<Belief>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Number of initial probes sent so far.
    Start(u8),
    /// All initial probes were sent. Their success leads to a probe at twice the rate.
    Climb,
    Steady,
}

/// A rate that a short probe showed. It may have passed only thanks to a token bucket.
#[derive(Debug, Clone, Copy)]
struct Claim {
    rate: f64,
    until: f64,
    /// The last short probe passed without being slowed down, so a faster one may pass too.
    climbs: bool,
}

/// The result of a short probe that was believed, in bits per second, and its time, in seconds.
#[derive(Debug, Clone, Copy)]
struct Belief {
    rate: f64,
    at: f64,
}

/// Rate, in bits per second, and size, in bytes, of a probe to be sent.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rate: f64,
    /// Size of a long probe; `None` for a short one.
    size: Option<f64>,
}

impl ProbeControl {
    /// The initial probes are due at once.
    pub fn new() -> Self {
        Self {
            phase: Phase::Start(0),
            active: None,
            waiting: [None; WAITING],
            train: None,
            claimed: None,
            unhindered_rate: 0.0,
            next_id: 1,
            not_before: 0.0,
            rest_until: 0.0,
            climbs_until: 0.0,
            interval: SHORTEST_INTERVAL,
            disturbed_until: 0.0,
            urgent: false,
            boldness: BOLDEST,
            denied: 0,
            policed_until: 0.0,
            starved: false,
            prompt: 0,
            drained: -REFILL,
            known: 0.0,
            believed: None,
        }
    }

    /// The probe being sent.
    pub fn active(&self) -> Option<Probe> {
        self.active.map(|cluster| cluster.probe)
    }

    /// Whether packets of a probe, or the queue that they build up, disturb other measurements.
    pub fn disturbs(&self, now: f64) -> bool {
        self.active.is_some() || self.waiting.iter().any(Option::is_some) || now < self.disturbed_until
    }

    /// Whether a long probe is being sent or awaits its result.
    pub fn is_proving(&self) -> bool {
        self.active.iter().chain(self.waiting.iter().flatten()).any(|cluster| cluster.long)
    }

    /// Earliest time of the next probe, in seconds.
    pub fn due(&self) -> f64 {
        self.not_before.max(self.rest_until).max(self.policed_until)
    }

    /// Time in seconds until which the probe that follows a success may show more capacity.
    pub fn climbs_until(&self) -> f64 {
        self.climbs_until
    }

    /// Allows no probe before `until`, in seconds, because all that is wanted is sent.
    pub fn rest(&mut self, until: f64) {
        self.rest_until = until;
    }

    /// The value last passed to [`set_starved`](Self::set_starved).
    pub fn is_starved(&self) -> bool {
        self.starved
    }

    /// Records whether no video is sent for lack of bandwidth. A probe comes sooner then: there is no video that it
    /// could harm, and somebody waits for one.
    pub fn set_starved(&mut self, now: f64, starved: bool) {
        if starved && !self.starved {
            self.not_before = self.not_before.min(now + STARVED_REST);
            self.policed_until = self.policed_until.min(now + STARVED_REST);
        }
        self.starved = starved;
    }

    /// Delays the next probe until at least `until`, in seconds.
    pub fn postpone(&mut self, until: f64) {
        self.not_before = self.not_before.max(until);
    }

    /// Probes soon: the situation has changed, so that earlier failures say nothing.
    pub fn hurry(&mut self, now: f64) {
        self.interval = SHORTEST_INTERVAL;
        self.not_before = self.not_before.min(now);
        self.urgent = true;
    }

    /// Cancels the probe being sent: it cannot be completed.
    pub fn abandon(&mut self) {
        if let Some(active) = self.active.take() {
            self.train.take_if(|(cluster, _)| *cluster == active.probe.cluster);
            self.climbs_until = 0.0;
        }
    }

    /// Discards all probes that are being sent or await results, and the pending claim.
    pub fn forget_bursts(&mut self) {
        self.abandon();
        (self.waiting, self.train, self.claimed) = ([None; WAITING], None, None);
        self.unhindered_rate = 0.0;
    }

    /// Returns a probe if one should begin now.
    pub fn poll(&mut self, situation: &Situation) -> Option<Probe> {
        let now = situation.now;
        if self.active.is_some_and(|active| now - active.asked > PATIENCE + active.seconds()) {
            self.abandon(); // the sender does not send it
        }
        if self.active.is_some() || now < self.due() {
            return None;
        }
        let plan = self.next_plan(situation)?;
        self.begin(plan, situation)
    }

    fn next_plan(&mut self, situation: &Situation) -> Option<Plan> {
        let ceiling = (situation.wanted * HEADROOM).min(situation.max);
        let short = |rate: f64| Some(Plan { rate: rate.min(situation.max), size: None });
        self.claimed = self.claimed.filter(|claim| claim.until >= situation.now);
        if let Some(claim) = self.claimed {
            return self.plan_for(claim, ceiling, situation);
        }
        match self.phase {
            Phase::Start(sent) => {
                let factor = FIRST.get(usize::from(sent))?;
                self.phase = Phase::Start(sent + 1);
                if usize::from(sent) + 1 == FIRST.len() {
                    self.phase = Phase::Climb;
                    self.not_before = situation.now + FIRST_PATIENCE;
                }
                short(situation.estimate * factor)
            }
            Phase::Climb => {
                // The results did not arrive in time, or showed no more capacity.
                self.phase = Phase::Steady;
                None
            }
            Phase::Steady => {
                let may = situation.calm || self.urgent && situation.quiet;
                if !may || situation.estimate >= situation.wanted {
                    return None;
                }
                self.urgent = false;
                self.not_before = situation.now + self.interval;
                let known = situation.before_drop.or(situation.capacity);
                let near = known.is_some_and(|known| situation.estimate > known * 0.7);
                let factor = if near && !situation.beyond { self.boldness.min(1.5) } else { self.boldness };
                short((situation.estimate * factor).min(ceiling))
            }
        }
    }

    /// The probe that follows a claim: a faster short one, or a long one.
    fn plan_for(&mut self, claim: Claim, ceiling: f64, situation: &Situation) -> Option<Plan> {
        if !situation.quiet {
            return None;
        }
        if claim.climbs && !situation.policed && situation.beyond && claim.rate < ceiling * 0.9 {
            self.claimed = Some(Claim { climbs: false, until: situation.now + CLAIM_LIFE, ..claim });
            let rate = (claim.rate * BOLDEST).min(ceiling).min(situation.max);
            return Some(Plan { rate, size: None });
        }
        if self.waiting.iter().any(Option::is_some) {
            return None;
        }
        self.claimed = None;
        Some(self.proof(claim.rate.min(ceiling), situation))
    }

    /// A long probe that shows whether a claim is more than a token bucket: it sends more bytes beyond the known rate
    /// than any bucket holds.
    fn proof(&self, claim: f64, situation: &Situation) -> Plan {
        let base = situation.estimate.max(self.known);
        let most = match self.denied {
            _ if situation.policed => POLICED_STEP,
            0 if situation.beyond && situation.now < YOUNG => f64::MAX,
            0 if situation.beyond => BOLD_STEP,
            0 => CAREFUL_STEP,
            1 => DENIED_STEP,
            _ => OFTEN_DENIED_STEP,
        };
        let rate = claim.min(base * most);
        let size = PROOF * rate / (rate - base).max(1.0);
        let longest = if situation.policed { LONGEST_POLICED } else { LONGEST_PROOF };
        let size = size.min(MOST_PROOF).min(rate * longest / 8.0);
        Plan { rate, size: Some(size) }
    }

    fn begin(&mut self, plan: Plan, situation: &Situation) -> Option<Probe> {
        if plan.rate <= situation.estimate * 1.05 {
            return None;
        }
        let cluster = ClusterId::new(self.next_id)?;
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        let rate = Bitrate::from_bps(plan.rate as u64);
        let time = (SHORTEST + situation.jitter * PER_JITTER).min(LONGEST) / 1000.0;
        let size = rate.over(Duration::from_secs_f64(time));
        let size = plan.size.map_or(size, |long| size.max(DataSize::from_bytes(long as u64)));
        let packets = (FEWEST_PACKETS as f64 / (1.0 - situation.loss.clamp(0.0, 0.5))).ceil() as usize;
        let probe = Probe { cluster, rate, size, packets };
        let long = plan.size.is_some() || size.bytes() as f64 >= PROOF;
        let active = Cluster::new(probe, long, situation);
        if active.long {
            self.train = Some((cluster, Train::new(situation.loss, situation.policed)));
            self.climbs_until = situation.now + active.seconds() + CLIMBING;
        }
        self.active = Some(active);
        Some(probe)
    }

    /// Ends a long probe early if feedback shows that it exceeds the capacity. `now` in seconds; `inherent`: the share
    /// of packets that the path loses whatever the rate.
    pub fn relent(&mut self, now: f64, inherent: f64) {
        let Some(active) = self.active.as_mut().filter(|active| active.long) else { return };
        let train = self.train.as_ref().filter(|(cluster, _)| *cluster == active.probe.cluster);
        // Where packets are dropped, the probe goes on for a moment to measure the policer's rate, unless it is known.
        if let Some((_, train)) = train
            && train
                .hindrance(inherent)
                .is_some_and(|seen| !seen.dropped || seen.lasted || train.is_policed())
        {
            active.relented = train.is_policed();
            self.finish();
            self.postpone(now + LATEST);
        }
    }

    fn finish(&mut self) {
        let finished = self.active.take();
        self.waiting.rotate_right(1);
        if let Some(oldest) = self.waiting.first_mut() {
            *oldest = finished;
        }
    }

    /// Records a sent packet of a probe. `sent` in microseconds.
    pub fn on_sent(&mut self, id: ClusterId, sent: i64, bytes: usize) {
        let Some(active) = self.active.as_mut().filter(|active| active.probe.cluster == id) else { return };
        active.on_sent(sent, bytes);
        if active.is_complete() {
            self.finish();
        }
    }

    /// Records the feedback about a packet of a probe.
    pub fn on_result(&mut self, id: ClusterId, result: &PacketResult) {
        if let Some((_, train)) = self.train.as_mut().filter(|(cluster, _)| *cluster == id) {
            train.on_packet(result.sent, result.arrival, f64::from(result.bytes), result.late);
        }
        let active = self.active.iter_mut();
        let mut clusters = active.chain(self.waiting.iter_mut().flatten());
        if let Some(cluster) = clusters.find(|cluster| cluster.probe.cluster == id) {
            cluster.on_result(result);
        }
    }

    /// Takes the result of the oldest probe whose feedback is complete or overdue. `rtt` and `now` in seconds;
    /// `inherent`: the share of packets that the path loses whatever the rate; `limited`: less is sent than the
    /// estimate allows.
    pub fn outcome(&mut self, now: f64, rtt: f64, inherent: f64, limited: bool) -> Option<Outcome> {
        let place = self.waiting.iter().rposition(|cluster| {
            cluster.is_some_and(|cluster| cluster.is_told() || now - cluster.last_sent() > rtt + LATEST)
        })?;
        let cluster = self.waiting.get_mut(place)?.take()?;
        self.disturbed_until = now + SETTLING;
        let train = self.train.take_if(|(id, _)| *id == cluster.probe.cluster);
        let hindrance = train.and_then(|(_, train)| train.hindrance(inherent));
        let outcome = match hindrance {
            _ if cluster.relented => None,
            Some(seen) => Some(Outcome::hindered(seen)),
            None => cluster.outcome(inherent).map(|outcome| self.believe(&cluster, outcome)),
        };
        self.plan(&cluster, outcome, now, inherent, limited);
        outcome
    }

    /// Limits the result of a short probe to what may be relied on.
    fn believe(&self, cluster: &Cluster, outcome: Outcome) -> Outcome {
        if cluster.long {
            return Outcome { proven: true, ..outcome };
        }
        let starved = self.starved && self.phase == Phase::Steady;
        let most = if starved { cluster.estimate * BELIEVED_STARVED } else { self.known * BELIEVED };
        let proven = (starved || self.prompt >= PROMPT) && outcome.rate.min(most) > cluster.estimate * CLAIM;
        Outcome { rate: if proven { outcome.rate.min(most) } else { outcome.rate }, proven, ..outcome }
    }

    /// Records that the link was filled and delivered `delivered` bits per second. If that is much less than a short
    /// probe has just shown, the probe had only passed a token bucket. `sure`: more would have been delivered if the
    /// link had carried it.
    pub fn on_filled(&mut self, now: f64, delivered: f64, sure: bool) {
        self.drained = now;
        self.known = delivered;
        let wrong = |belief: &mut Belief| sure && now - belief.at < BELIEF && delivered < belief.rate * WRONG;
        if self.believed.take_if(wrong).is_some() {
            self.deny(now);
        }
    }

    /// Records that a policer drops what exceeds `rate` bits per second: probes become small and rare. `measured`: the
    /// pattern of lost packets has shown the policer and its rate. Otherwise heavy loss only suggests a policer, and
    /// may have been a bad moment: the next probe shows which, and comes soon.
    pub fn on_policer(&mut self, now: f64, rate: f64, measured: bool) {
        self.known = rate;
        // Probes under way tried a higher rate, and must stop.
        self.forget_bursts();
        if measured && (self.denied == 0 || self.policed_until <= now) {
            self.deny(now);
            self.policed_until = now + self.denied_rest();
        } else if !measured {
            self.policed_until = self.policed_until.max(now + SOON);
        }
    }

    /// Resets the count of false claims and `policed_until`: the losses were random and not a policer's. `not_before` stays
    /// all the same: where a policed path also loses packets at random, earlier probes cost more than they find.
    pub fn pardon(&mut self) {
        (self.denied, self.policed_until) = (0, 0.0);
    }

    /// A rate that passed at first does not pass for long: there is a token bucket or a policer, so probing pauses.
    fn deny(&mut self, now: f64) {
        self.denied = (self.denied + 1).min(MOST_DENIED);
        self.prompt = 0;
        self.drained = now;
        self.phase = Phase::Steady;
        self.boldness = LEAST_BOLD;
        self.urgent = false;
        self.not_before = self.not_before.max(now + self.denied_rest().min(LONGEST_REST));
    }

    fn denied_rest(&self) -> f64 {
        let rest = DENIED_REST * f64::from(1 << self.denied);
        if self.starved { rest.min(STARVED_REST) } else { rest }
    }

    /// Schedules the next probe, given the result of `cluster`.
    fn plan(&mut self, cluster: &Cluster, outcome: Option<Outcome>, now: f64, inherent: f64, limited: bool) {
        self.climbs_until = 0.0;
        let unhindered = if cluster.long { std::mem::take(&mut self.unhindered_rate) } else { 0.0 };
        if let Some(outcome) = outcome.filter(|outcome| outcome.proven && !cluster.long) {
            self.believed = Some(Belief { rate: outcome.rate, at: now });
        }
        let claims = |outcome: &Outcome| match outcome.proven {
            true => outcome.shown > outcome.rate * CLAIM,
            false => outcome.rate > cluster.estimate * outcome.gain(limited),
        };
        if let Some(claim) = outcome.filter(claims) {
            let asked = cluster.probe.rate.bps() as f64;
            let passed = !claim.filled && claim.shown > asked * 0.7;
            if passed {
                self.unhindered_rate = claim.shown;
            }
            // The first claim may be doubled at once: a long probe that is too fast is ended early.
            let first = self.phase == Phase::Climb && passed;
            let rate = claim.shown * if first { 2.0 } else { 1.0 };
            let rate = self.claimed.map_or(0.0, |claimed| claimed.rate).max(rate);
            self.claimed = Some(Claim { rate, until: now + CLAIM_LIFE, climbs: passed && !first });
            self.climbs_until = now + CLIMBING;
            self.not_before = now;
            return;
        }
        if let Some(claimed) = self.claimed.as_mut().filter(|_| !cluster.long) {
            // The probe before it passed, and its claim is still to be proven.
            (claimed.until, claimed.climbs) = (now + CLAIM_LIFE, false);
            self.not_before = now;
            return;
        }
        if cluster.relented {
            self.deny(now);
            self.policed_until = now + self.denied_rest();
            return;
        }
        if outcome.is_none() {
            // Too little of the probe arrived to judge it.
            if self.phase == Phase::Climb {
                self.phase = Phase::Steady;
            }
            // If probing became urgent in the meantime, it still is.
            self.urgent |= inherent > LOSSY;
            self.not_before = now + if self.urgent { AGAIN } else { self.interval };
            return;
        }
        let hindrance = outcome.and_then(|outcome| outcome.hindrance);
        let is_bucket = |seen: Hindrance| seen.depth > LEAST_BUCKET || seen.rate < unhindered * WRONG;
        if cluster.long && hindrance.is_some_and(|seen| is_bucket(seen) || seen.dropped) {
            self.deny(now);
            if let Some(seen) = hindrance.filter(|seen| seen.dropped) {
                self.policed_until = now + if seen.lasted { self.denied_rest() } else { SOON };
                self.not_before = self.policed_until;
            }
            return;
        }
        // A token bucket that had time to fill would have let the probe through.
        if outcome.is_some_and(|outcome| outcome.filled) && cluster.asked - self.drained > REFILL {
            self.prompt = if cluster.long { PROMPT } else { self.prompt.saturating_add(1) };
        }
        if cluster.long {
            self.drained = now;
        }
        if cluster.long && hindrance.is_none() {
            (self.denied, self.policed_until) = (0, 0.0);
            self.known = self.known.max(outcome.map_or(0.0, |outcome| outcome.rate));
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
                let gained = outcome
                    .is_some_and(|outcome| outcome.rate > cluster.estimate * 1.15 && hindrance.is_none());
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

/// Rates of the initial probes, as multiples of the start rate.
const FIRST: [f64; 2] = [3.0, 6.0];
/// Probes that may be sent and not yet judged.
const WAITING: usize = 3;
/// Bytes that a long probe sends beyond the rate known to pass: more than a token bucket holds.
const PROOF: f64 = 110_000.0;
/// Maximum size of a long probe, in bytes.
const MOST_PROOF: f64 = 480_000.0;
/// Maximum duration of a long probe, in seconds.
const LONGEST_PROOF: f64 = 4.0;
/// [`LONGEST_PROOF`] where a policer's rate is known: the probe exceeds that rate by little, so it takes longer.
const LONGEST_POLICED: f64 = 8.0;
/// Bytes beyond its rate that even a link without a token bucket lets pass.
pub(super) const LEAST_BUCKET: f64 = 2_500.0;
/// Seconds for which a subscriber counts as new: a long probe may have any rate, and a queue is most likely the probe's
/// own.
pub(super) const YOUNG: f64 = 3.0;
/// Maximum rate of a long probe, as a multiple of the rate known to pass, on a link that was never seen filled at that
/// rate.
const BOLD_STEP: f64 = 3.0;
/// Maximum rate of a long probe, as a multiple of the rate known to pass, on a link that was seen filled at about that
/// rate. The queue grows slowly then.
const CAREFUL_STEP: f64 = 2.0;
/// Maximum rate of a long probe, as a multiple of the rate known to pass, after one false claim.
const DENIED_STEP: f64 = 1.6;
/// Maximum rate of a long probe, as a multiple of the rate known to pass, after several false claims.
const OFTEN_DENIED_STEP: f64 = 1.35;
/// Maximum rate of a long probe, as a multiple of the rate known to pass, where a policer's rate is known: the policer
/// drops media too.
const POLICED_STEP: f64 = 1.3;
/// Base of the pause in probing after a false claim, in seconds. It doubles with each consecutive one, the first
/// included.
const DENIED_REST: f64 = 4.0;
/// Maximum count of consecutive false claims: a pause of 64 s.
const MOST_DENIED: u32 = 4;
/// Maximum pause in probing, in seconds, on a link that queues: a probe costs less there, and the capacity may have
/// grown.
const LONGEST_REST: f64 = 8.0;
/// Maximum pause in probing, in seconds, while no video is sent: there is none that a probe could harm.
const STARVED_REST: f64 = 3.0;
/// Pause in seconds after a probe that was dropped before the policer's rate could be measured.
const SOON: f64 = 2.0;
/// Multiple of the estimate that a probe must show to count.
const CLAIM: f64 = 1.1;
/// Multiple of the estimate that a probe that filled the link must show: it may have taken bandwidth from other flows.
/// [`CLAIM`] is enough where little is sent, since video may be waiting for a little more bandwidth.
const FILLED_GAIN: f64 = 1.4;
/// Number of consecutive probes that filled the link at once, after which short probes are believed: there is no token
/// bucket.
const PROMPT: u32 = 2;
/// Rate up to which a short probe is believed, as a multiple of the rate that the link was last seen to carry.
const BELIEVED: f64 = 1.6;
/// Rate up to which a short probe is believed while no video is sent, as a multiple of the estimate. If the probe is
/// wrong, that costs no more than the video that it brought back.
const BELIEVED_STARVED: f64 = 2.0;
/// Seconds that a token bucket may take to fill.
const REFILL: f64 = 4.0;
/// Share of the rate that a probe showed. If the link delivers less when filled, there is a token bucket.
const WRONG: f64 = 0.75;
/// Seconds in which a believed probe can turn out to be wrong.
const BELIEF: f64 = 4.0;
/// Seconds after which a claim expires.
const CLAIM_LIFE: f64 = 1.0;
/// Minimum number of packets of a probe on a path without loss.
pub(super) const FEWEST_PACKETS: usize = 5;
/// Minimum duration of a short probe, in milliseconds.
const SHORTEST: f64 = 15.0;
/// Maximum duration of a short probe, in milliseconds.
const LONGEST: f64 = 100.0;
/// Milliseconds added to a short probe for each millisecond of jitter, so that the jitter averages out.
const PER_JITTER: f64 = 8.0;
/// Seconds beyond its planned duration after which a probe that was not sent completely is abandoned.
const PATIENCE: f64 = 1.0;
/// Seconds beyond the round trip after which a probe is judged even if feedback is missing.
const LATEST: f64 = 0.5;
/// Seconds after a probe was judged in which its queue may still stand.
const SETTLING: f64 = 0.1;
/// Seconds in which feedback about the initial probes must arrive.
const FIRST_PATIENCE: f64 = 2.0;
/// Pause in seconds after the initial probes, if they showed no more capacity.
const FIRST_PAUSE: f64 = 2.0;
/// Seconds between two probes after one that showed more capacity.
const SHORTEST_INTERVAL: f64 = 2.0;
/// Maximum seconds between two probes on a link without false claims.
const LONGEST_INTERVAL: f64 = 6.0;
/// Maximum rate of a probe as a multiple of the wanted rate: a step up to a higher layer needs some headroom.
const HEADROOM: f64 = 1.25;
/// Seconds to the next probe after one of which too little arrived to judge it, if probing is urgent or the path lossy.
const AGAIN: f64 = 0.5;
/// Seconds in which the probe that follows a success may succeed: a round trip, the probe and the report about it.
const CLIMBING: f64 = 0.3;
/// Maximum rate of a short probe, as a multiple of the estimate.
const BOLDEST: f64 = 2.0;
/// Rate of a short probe after a failed one, as a multiple of the estimate.
const LEAST_BOLD: f64 = 1.5;
/// Share of packets lost whatever the rate above which a path counts as lossy.
pub(super) const LOSSY: f64 = 0.02;
/// Share of the rate measured on a filled link that is relied on.
pub(super) const CAUTION: f64 = 0.85;

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
            policed: false,
        }
    }

    /// Sends the probe that is due over a link of `link` bits per second, and feeds back its arrivals.
    fn burst(control: &mut ProbeControl, now: f64, link: f64) -> Option<Outcome> {
        let probe = control.poll(&situation(now))?;
        let (mut sent, mut free) = (now * 1e6, 0.0_f64);
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
        control.outcome(now + 0.1, 0.05, 0.0, false)
    }

    #[test]
    fn a_wide_link_shows_the_rate_of_the_burst_and_a_narrow_one_its_own() {
        let outcome = burst(&mut ProbeControl::new(), 0.0, 1e7).expect("all arrived");
        assert!(!outcome.filled && (outcome.rate - 9e5).abs() < 1e4, "{outcome:?}");
        let outcome = burst(&mut ProbeControl::new(), 0.0, 4e5).expect("all arrived");
        assert!(outcome.filled && (outcome.rate - 0.85 * 4e5).abs() < 1e4, "{outcome:?}");
    }

    #[test]
    fn a_claim_is_false_if_the_long_probe_gets_much_less_even_from_a_bucket_that_was_empty() {
        let mut control = ProbeControl::new();
        let short = burst(&mut control, 0.0, 1e7).expect("all arrived");
        assert!(!short.filled && !short.proven, "{short:?}");
        let long = burst(&mut control, 0.1, 4e5).expect("all arrived");
        let depth = long.hindrance.expect("the link is too narrow").depth;
        assert!(depth < LEAST_BUCKET, "{depth}: the depth alone would not tell");
        assert_eq!(control.poll(&situation(8.1)), None, "no probe for 8 s after a false claim");
        assert!(control.poll(&situation(8.3)).is_some());
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
        assert_eq!(control.outcome(0.1, 0.05, 0.0, false), None, "the last is not told of yet");
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
        assert!(control.outcome(0.1, 0.05, 0.0, false).is_some());
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
        assert_eq!(control.outcome(10.0, 0.05, 0.0, false), None, "nothing of it arrived");
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
