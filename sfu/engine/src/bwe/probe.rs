//! Probing: short bursts at a higher rate, and what of them arrives how fast. When to send one, what one is, what it
//! showed.

use std::num::NonZeroU8;
use std::time::Duration;

use crate::units::{Bitrate, DataSize};

use super::cluster::Cluster;
use super::sent_history::PacketResult;
use super::train::{Hindrance, Train};

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
    /// What was measured: more than `rate` where a short burst is believed only in part.
    pub shown: f64,
    /// It arrived slower than it was sent: the link was filled.
    pub filled: bool,
    /// It was longer than token buckets are deep.
    pub long: bool,
    /// `rate` is no claim that a long burst has to show again.
    pub proven: bool,
    /// What was in the way of a long one.
    pub hindrance: Option<Hindrance>,
}

impl Outcome {
    fn hindered(seen: Hindrance) -> Self {
        let rate = seen.rate * CAUTION;
        Self { rate, shown: rate, filled: true, long: true, proven: true, hindrance: Some(seen) }
    }

    /// How much more than before it must have shown. `limited`: less is sent than may be.
    pub fn gain(&self, limited: bool) -> f64 {
        match self.filled {
            true if !limited => FILLED_GAIN,
            _ => CLAIM,
        }
    }
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
    /// What exceeds a rate is dropped at once, and that rate is known.
    pub policed: bool,
}

/// The bursts.
#[derive(Debug)]
pub(super) struct ProbeControl {
    phase: Phase,
    active: Option<Cluster>,
    /// Sent whole; feedback is awaited.
    waiting: [Option<Cluster>; WAITING],
    /// The last long one.
    train: Option<(ClusterId, Train)>,
    /// What a short one showed: a long one has to show it again.
    claimed: Option<Claim>,
    /// The rate at which the last short one passed that was not slowed down. A long one that gets much less has met a bucket.
    passed: f64,
    next_id: u8,
    not_before: f64,
    /// No burst before that time, in seconds, however urgent.
    rest_until: f64,
    climbs_until: f64,
    interval: f64,
    /// Until when packets of the last burst that was judged, or their queue, may still be in the network.
    disturbed_until: f64,
    /// Something happened that makes a look worth its cost even if there was a queue lately.
    urgent: bool,
    /// How many times the estimate to try.
    boldness: f64,
    /// How many claims in a row turned out to be false.
    denied: u32,
    /// No look for more until then, where what exceeds a rate is dropped: whatever happens, since media are among it.
    policed_until: f64,
    /// No picture is sent for want of room.
    starved: bool,
    /// Bursts in a row that filled the link at once.
    prompt: u32,
    /// When so much was sent last that it would have drained a bucket.
    drained: f64,
    /// What the link delivered when it was last filled, or what a long burst has shown since, in bits per second.
    known: f64,
    /// The last burst that was believed although it was short.
    believed: Option<Belief>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// How many of the first bursts were sent.
    Start(u8),
    /// The first bursts' results lead to more, twice as fast.
    Climb,
    Steady,
}

/// A rate that may be that of a token bucket.
#[derive(Debug, Clone, Copy)]
struct Claim {
    rate: f64,
    until: f64,
    /// The last short one passed unhindered: a faster one may, too.
    climbs: bool,
}

/// In bits per second and seconds.
#[derive(Debug, Clone, Copy)]
struct Belief {
    rate: f64,
    at: f64,
}

/// What a burst is to be, in bits per second and bytes.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rate: f64,
    /// Of a long one.
    size: Option<f64>,
}

impl ProbeControl {
    /// The first bursts are due at once.
    pub fn new() -> Self {
        Self {
            phase: Phase::Start(0),
            active: None,
            waiting: [None; WAITING],
            train: None,
            claimed: None,
            passed: 0.0,
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

    /// The burst being sent.
    pub fn active(&self) -> Option<Probe> {
        self.active.map(|cluster| cluster.probe)
    }

    /// Whether packets of a burst, or the queue they make, disturb what is measured otherwise.
    pub fn disturbs(&self, now: f64) -> bool {
        self.active.is_some() || self.waiting.iter().any(Option::is_some) || now < self.disturbed_until
    }

    /// Whether a long burst is on its way, or was until now.
    pub fn is_proving(&self) -> bool {
        self.active.iter().chain(self.waiting.iter().flatten()).any(|cluster| cluster.long)
    }

    /// When a burst could be due, in seconds.
    pub fn due(&self) -> f64 {
        self.not_before.max(self.rest_until).max(self.policed_until)
    }

    /// Until when, in seconds, the burst that follows a success may show more.
    pub fn climbs_until(&self) -> f64 {
        self.climbs_until
    }

    /// Nothing is missing that a burst could show room for: none until then, in seconds.
    pub fn rest(&mut self, until: f64) {
        self.rest_until = until;
    }

    /// Whether no picture is sent for want of room, as last said.
    pub fn is_starved(&self) -> bool {
        self.starved
    }

    /// Whether no picture is sent for want of room. Then there is none that a look could harm, and somebody waits for one.
    pub fn set_starved(&mut self, now: f64, starved: bool) {
        if starved && !self.starved {
            self.not_before = self.not_before.min(now + STARVED_REST);
            self.policed_until = self.policed_until.min(now + STARVED_REST);
        }
        self.starved = starved;
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
        if let Some(active) = self.active.take() {
            self.train.take_if(|(cluster, _)| *cluster == active.probe.cluster);
            self.climbs_until = 0.0;
        }
    }

    /// Bursts that were sent or are being sent show nothing.
    pub fn forget_bursts(&mut self) {
        self.abandon();
        (self.waiting, self.train, self.claimed) = ([None; WAITING], None, None);
    }

    /// A burst that should begin now.
    pub fn poll(&mut self, situation: &Situation) -> Option<Probe> {
        let now = situation.now;
        if self.active.is_some_and(|active| now - active.asked > PATIENCE + active.seconds()) {
            self.abandon(); // whoever should send it does not
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
                self.not_before = situation.now + self.interval;
                let known = situation.before_drop.or(situation.capacity);
                let near = known.is_some_and(|known| situation.estimate > known * 0.7);
                let factor = if near && !situation.beyond { self.boldness.min(1.5) } else { self.boldness };
                short((situation.estimate * factor).min(ceiling))
            }
        }
    }

    /// What a claim leads to: a faster short burst, or a long one.
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

    /// A burst that shows whether a claim is more than a token bucket: longer than any is deep, beyond what is known to
    /// pass.
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

    /// Ends a long burst that is seen to be too much. `now` in seconds; `inherent`: the share of packets that the path loses
    /// by itself.
    pub fn relent(&mut self, now: f64, inherent: f64) {
        let Some(active) = self.active.as_mut().filter(|active| active.long) else { return };
        let train = self.train.as_ref().filter(|(cluster, _)| *cluster == active.probe.cluster);
        // What drops is measured for a moment, unless its rate is known.
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

    /// A packet of a burst is sent, at `sent` microseconds.
    pub fn on_sent(&mut self, id: ClusterId, sent: i64, bytes: usize) {
        let Some(active) = self.active.as_mut().filter(|active| active.probe.cluster == id) else { return };
        active.on_sent(sent, bytes);
        if active.is_complete() {
            self.finish();
        }
    }

    /// What became of a packet of a burst.
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

    /// What the oldest burst that is complete has shown. `rtt` and `now` in seconds; `inherent`: the share of
    /// packets that the path loses whatever is sent; `limited`: less is sent than may be.
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

    /// What a burst showed, as far as it may be relied on.
    fn believe(&self, cluster: &Cluster, outcome: Outcome) -> Outcome {
        if cluster.long {
            return Outcome { proven: true, ..outcome };
        }
        let starved = self.starved && self.phase == Phase::Steady;
        let most = if starved { cluster.estimate * BELIEVED_STARVED } else { self.known * BELIEVED };
        let proven = (starved || self.prompt >= PROMPT) && outcome.rate.min(most) > cluster.estimate * CLAIM;
        Outcome { rate: if proven { outcome.rate.min(most) } else { outcome.rate }, proven, ..outcome }
    }

    /// The link was filled, and delivered that: less than a short burst has just shown, if that was a bucket. `sure`: more would
    /// have been delivered if the link had carried it.
    pub fn on_filled(&mut self, now: f64, delivered: f64, sure: bool) {
        self.drained = now;
        self.known = delivered;
        let wrong = |belief: &mut Belief| sure && now - belief.at < BELIEF && delivered < belief.rate * WRONG;
        if self.believed.take_if(wrong).is_some() {
            self.deny(now);
        }
    }

    /// What exceeds a rate is dropped: bursts are to cost little from now on, and to be rare. `measured`: which packets were lost
    /// has shown the policer and its rate. Otherwise so much was lost that there may be one, or only a bad moment: the next
    /// burst tells, and comes soon.
    pub fn on_policer(&mut self, now: f64, rate: f64, measured: bool) {
        self.known = rate;
        // What is on its way was meant to show more, and is to go on no longer.
        self.forget_bursts();
        if measured && (self.denied == 0 || self.policed_until <= now) {
            self.deny(now);
            self.policed_until = now + self.denied_rest();
        } else if !measured {
            self.policed_until = self.policed_until.max(now + SOON);
        }
    }

    /// What denied a look for more was chance. The next look keeps its time all the same: where a policer loses by chance too, looks
    /// that come sooner cost more than they find.
    pub fn pardon(&mut self) {
        (self.denied, self.policed_until) = (0, 0.0);
    }

    /// What passed at once does not pass for good.
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

    /// What comes next, given what this one showed.
    fn plan(&mut self, cluster: &Cluster, outcome: Option<Outcome>, now: f64, inherent: f64, limited: bool) {
        self.climbs_until = 0.0;
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
                self.passed = claim.shown;
            }
            // The first of all may be doubled at once: a long one that is too much is ended early.
            let first = self.phase == Phase::Climb && passed;
            let rate = claim.shown * if first { 2.0 } else { 1.0 };
            let rate = self.claimed.map_or(0.0, |claimed| claimed.rate).max(rate);
            self.claimed = Some(Claim { rate, until: now + CLAIM_LIFE, climbs: passed && !first });
            self.climbs_until = now + CLIMBING;
            self.not_before = now;
            return;
        }
        if let Some(claimed) = self.claimed.as_mut().filter(|_| !cluster.long) {
            // The one before it passed, and is to be proven.
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
            // Too little of it arrived to tell.
            if self.phase == Phase::Climb {
                self.phase = Phase::Steady;
            }
            // What made a look urgent meanwhile still does.
            self.urgent |= inherent > LOSSY;
            self.not_before = now + if self.urgent { AGAIN } else { self.interval };
            return;
        }
        let hindrance = outcome.and_then(|outcome| outcome.hindrance);
        let passed = if cluster.long { std::mem::take(&mut self.passed) } else { 0.0 };
        let is_bucket = |seen: Hindrance| seen.depth > LEAST_BUCKET || seen.rate < passed * WRONG;
        if cluster.long && hindrance.is_some_and(|seen| is_bucket(seen) || seen.dropped) {
            self.deny(now);
            if let Some(seen) = hindrance.filter(|seen| seen.dropped) {
                self.policed_until = now + if seen.lasted { self.denied_rest() } else { SOON };
                self.not_before = self.policed_until;
            }
            return;
        }
        // A bucket would have let it through, if it had time to fill.
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

/// Rates of the first bursts, as multiples of the rate to begin with.
const FIRST: [f64; 2] = [3.0, 6.0];
/// Bursts that may be sent and not yet judged.
const WAITING: usize = 3;
/// Bytes that a long burst sends beyond what is known to pass: more than a token bucket holds.
const PROOF: f64 = 110_000.0;
/// Bytes of a long burst at most.
const MOST_PROOF: f64 = 480_000.0;
/// Seconds that a long burst takes at most.
const LONGEST_PROOF: f64 = 4.0;
/// Seconds that a long burst takes at most where a policer's rate is known: it exceeds that rate by little.
const LONGEST_POLICED: f64 = 8.0;
/// Bytes beyond its rate that a link without a token bucket lets pass.
pub(super) const LEAST_BUCKET: f64 = 2_500.0;
/// For so many seconds a subscriber has just come: a long burst may have any rate, and a queue is most likely its own.
pub(super) const YOUNG: f64 = 3.0;
/// Rate of a long burst at most, as a multiple of what is known to pass, on a link that was never seen filled with as little.
const BOLD_STEP: f64 = 3.0;
/// Rate of a long burst at most, as a multiple of what is known to pass, on a link that was. The queue grows slowly then.
const CAREFUL_STEP: f64 = 2.0;
/// Rate of a long burst at most, as a multiple of what is known to pass, after one false claim.
const DENIED_STEP: f64 = 1.6;
/// Rate of a long burst at most, as a multiple of what is known to pass, after several false claims.
const OFTEN_DENIED_STEP: f64 = 1.35;
/// Rate of a long burst at most, as a multiple of what is known to pass, where a policer's rate is known: media are among what it drops.
const POLICED_STEP: f64 = 1.3;
/// Seconds without a burst after a false claim, before they are doubled for each one in a row, the first included.
const DENIED_REST: f64 = 4.0;
/// False claims in a row that are counted at most: 64 s without a burst.
const MOST_DENIED: u32 = 4;
/// Seconds without a burst at most on a link that queues: a burst costs less there, and the link may have become wider.
const LONGEST_REST: f64 = 8.0;
/// Seconds without a burst at most while no picture is sent: there is none that a burst could harm.
const STARVED_REST: f64 = 3.0;
/// Seconds without a burst after one that was dropped before anything could be measured.
const SOON: f64 = 2.0;
/// Share of the estimate that a burst must show for it to count.
const CLAIM: f64 = 1.1;
/// Share of the estimate that a burst that filled the link must show: what it got may have been taken from others. [`CLAIM`] is enough
/// where little is sent, since a picture may wait for a little more.
const FILLED_GAIN: f64 = 1.4;
/// Bursts in a row that filled the link at once after which short bursts are believed: there is no token bucket.
const PROMPT: u32 = 2;
/// Rate up to which a short burst is believed, as a multiple of what the link was last seen to carry.
const BELIEVED: f64 = 1.6;
/// Rate up to which a short burst is believed while no picture is sent, as a multiple of the estimate. If it is wrong, that costs no
/// more than the picture that it brings back.
const BELIEVED_STARVED: f64 = 2.0;
/// Seconds that a token bucket may take to fill.
const REFILL: f64 = 4.0;
/// Share of what a believed burst showed; if a filled link delivers less, there is a token bucket.
const WRONG: f64 = 0.75;
/// Seconds in which a believed burst can turn out to be wrong.
const BELIEF: f64 = 4.0;
/// Seconds after which a claim is forgotten.
const CLAIM_LIFE: f64 = 1.0;
/// Packets of a burst at least, on a path without loss.
pub(super) const FEWEST_PACKETS: usize = 5;
/// Milliseconds that a short burst takes at least.
const SHORTEST: f64 = 15.0;
/// Milliseconds that a short burst takes at most.
const LONGEST: f64 = 100.0;
/// Milliseconds by which a short burst is longer for each of jitter, which is averaged out.
const PER_JITTER: f64 = 8.0;
/// Seconds beyond its length in which a burst is given up that is not sent.
const PATIENCE: f64 = 1.0;
/// Seconds beyond the round trip after which a burst is judged although not all of it was reported.
const LATEST: f64 = 0.5;
/// Seconds after a burst was judged in which its queue may still stand.
const SETTLING: f64 = 0.1;
/// Seconds in which the first bursts must be reported.
const FIRST_PATIENCE: f64 = 2.0;
/// Seconds without a burst after the first ones led no further.
const FIRST_PAUSE: f64 = 2.0;
/// Seconds between two bursts after one that showed more.
const SHORTEST_INTERVAL: f64 = 2.0;
/// Seconds between two bursts at most, on a link that denied no claim.
const LONGEST_INTERVAL: f64 = 6.0;
/// Multiple of what is wanted up to which bursts look: a step up to another layer takes some room to spare.
const HEADROOM: f64 = 1.25;
/// Seconds to the next burst after one of which too little arrived to tell, on a lossy path.
const AGAIN: f64 = 0.5;
/// Seconds in which a burst that follows a success may succeed: a round trip, the burst and the report of it.
const CLIMBING: f64 = 0.3;
/// Rate of a short burst at most, as a multiple of the estimate.
const BOLDEST: f64 = 2.0;
/// Rate of a short burst after one that failed, as a multiple of the estimate.
const LEAST_BOLD: f64 = 1.5;
/// Share of packets above which a path loses by itself.
pub(super) const LOSSY: f64 = 0.02;
/// Share of a filled link's measured rate to rely on.
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
        control.outcome(0.1, 0.05, 0.0, false)
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
