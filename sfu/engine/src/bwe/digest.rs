//! What one message from the subscriber means: each packet goes to the boxes that measure, and what they say together
//! to the rate.

use std::time::Instant;

use super::delay::Trend;
use super::loss::{Evidence, Verdict};
use super::policing::Finding;
use super::probe::{LEAST_BUCKET, Outcome, YOUNG};
use super::rate_control::{Input, Step};
use super::{Cause, Estimator, MOST, Policer, Shown};

impl Estimator {
    /// Everything that one message said.
    pub(super) fn digest(&mut self, now: Instant) {
        let seconds = self.seconds(now);
        let (mut newest, mut finding) = (None, None);
        let (mut received, mut lost) = (0_usize, 0_usize);
        let (disturbed, proving) = (self.is_disturbed(seconds), self.probe.is_proving());
        if self.anew
            && let Some(first) = self.results.iter().find(|result| result.arrival.is_some())
        {
            // What went before was padding that nobody reports, and is not lost for want of room.
            (self.anew, self.cut) = (false, first.sent);
        }
        for result in &self.results {
            if let Some(cluster) = result.cluster {
                self.probe.on_result(cluster, result);
            }
            let judged = result.sent >= self.cut;
            let Some(arrival) = result.arrival else {
                lost += 1;
                if judged {
                    self.loss.on_packet(false);
                }
                finding = self.policing.on_packet(result.sent, f64::from(result.bytes), false).or(finding);
                continue;
            };
            received += 1;
            self.acked.on_packet(arrival, result.bytes);
            if result.late {
                self.loss.on_late();
                continue;
            }
            if judged {
                self.loss.on_packet(true);
            }
            self.policing.on_packet(result.sent, f64::from(result.bytes), true);
            self.queue.on_packet(result.sent, arrival, result.bytes);
            if result.cluster.is_none() {
                self.delay.on_packet(result.sent, arrival);
            }
            newest = newest.max(Some(result.sent));
        }
        self.lost_unheard = self.lost_unheard.saturating_add(lost);
        let Some(newest) = newest else { return };
        let lost = std::mem::take(&mut self.lost_unheard);
        self.told = Some(newest as f64 / 1e6);
        let rtt = (seconds - newest as f64 / 1e6).clamp(0.0, MOST_RTT);
        let elapsed = seconds - std::mem::replace(&mut self.heard, seconds);
        let shortest = |before: f64| rtt.min(before * (1.0 + FORGETTING * elapsed.clamp(0.0, 1.0)));
        self.shortest_rtt = Some(self.shortest_rtt.map_or(rtt, shortest));
        let rtt = self.rtt.map_or(rtt, |before| before + (rtt - before) / 8.0);
        self.rtt = Some(rtt);
        self.probe.relent(seconds, self.loss.inherent());
        let mut cause = None;
        let silent_steps = self.silence.on_heard();
        if silent_steps > 0 {
            // The first report after a long silence may be about the newest packets only.
            self.outage = silent_steps >= OUTAGE_STEPS;
            cause = Some(self.after_silence(seconds, received, lost));
        }
        let limited = self.app.is_limited();
        while let Some(outcome) = self.probe.outcome(seconds, rtt, self.loss.inherent(), limited) {
            cause = self.on_outcome(seconds, outcome).or(cause);
        }
        let decided = match finding {
            Some(Finding::Policer(rate)) => Some(self.on_policer(seconds, rate, true)),
            Some(Finding::Chance) if self.policer.is_some() => Some(self.on_chance(seconds)),
            _ => self.decide(seconds, rtt, disturbed, proving),
        };
        // What a burst showed is the reason for most of a rise, growth for the rest.
        let decided = decided.filter(|decided| *decided != Cause::Growth || cause.is_none());
        self.conclude(now, decided.or(cause).unwrap_or(Cause::Drained));
    }

    fn after_silence(&mut self, now: f64, received: usize, lost: usize) -> Cause {
        // What arrives at once after an outage is no measure of anything.
        self.disturbed_until = now + SETTLING;
        self.confirmed = None;
        self.loss.discard(now, self.rtt_or_default());
        // What is lost of what was sent meanwhile was lost to the outage, whenever that is told.
        self.cut = (now * 1e6) as i64;
        self.probe.forget_bursts();
        if lost * 2 > received {
            let rate = self.rate.rate();
            self.before_drop = Some(Shown { rate, at: now });
            self.rate.set(rate * AFTER_OUTAGE);
            self.outage = true;
        }
        self.probe.hurry(now);
        Cause::Heard
    }

    fn on_outcome(&mut self, now: f64, outcome: Outcome) -> Option<Cause> {
        if let Some(seen) = outcome.hindrance.filter(|seen| seen.dropped) {
            // Measured over a moment it may be anything.
            let most = if seen.lasted { f64::MAX } else { self.rate.rate() * UNMEASURED };
            return Some(self.on_policer(now, seen.rate.min(most), seen.lasted));
        }
        let rate = self.rate.rate();
        if outcome.filled {
            self.rate.drain(now);
        }
        if outcome.hindrance.is_some() {
            self.disregard_losses_until_now(now);
        }
        let start = self.last.cause == Cause::Start;
        let gain = outcome.gain(self.app.is_limited());
        let found = if outcome.filled { outcome.rate + self.unreported.at(now) } else { outcome.rate };
        if !outcome.proven && found > rate * gain {
            return None;
        }
        // A queue from the beginning is others', and what a long burst gets then it takes from them.
        if outcome.hindrance.is_some_and(|seen| seen.depth < LEAST_BUCKET) && now > YOUNG {
            return None;
        }
        self.confirmed = Some(Shown { rate: found, at: now });
        // The queue of a long one speaks for itself.
        let short = outcome.hindrance.is_none();
        let fits = found > rate * if outcome.filled { gain } else { 1.0 }
            || outcome.filled && found < rate && (start || short && self.queue.millis() > CONFIRM);
        if !fits {
            return None;
        }
        if outcome.proven && !outcome.filled {
            self.rate.lift_ceiling();
            // So much passed that there would have been losses.
            self.policer = self.policer.filter(|policer| policer.measured || !outcome.long);
        }
        self.rate.set(found);
        if outcome.filled {
            self.rate.on_capacity(found);
        }
        Some(Cause::Probe)
    }

    /// A policer drops what exceeds that rate. What it dropped is no chance, and more is not tried soon.
    fn on_policer(&mut self, now: f64, passed: f64, measured: bool) -> Cause {
        let rate = passed + self.unreported.at(now);
        let before = self.rate.rate();
        self.fell(now, before);
        self.loss.forget(now, self.rtt_or_default());
        self.rate.on_policer(rate);
        self.policer = Some(Policer { at: now, measured, before });
        self.probe.on_policer(now, rate, measured);
        Cause::Loss
    }

    /// What is lost has nothing to do with the rate: it was no policer.
    fn on_chance(&mut self, now: f64) -> Cause {
        if let Some(policer) = self.policer.take() {
            self.rate.lift_ceiling();
            // Long ago, or much more, it may have been too much all the same.
            let rate = self.rate.rate();
            if now - policer.at < GIVEN_BACK {
                self.rate.set(policer.before.clamp(rate, rate * MOST_GIVEN_BACK));
            }
            self.probe.pardon();
        }
        Cause::LossUnrelated
    }

    fn is_disturbed(&self, now: f64) -> bool {
        now < self.disturbed_until || self.probe.disturbs(now)
    }

    /// What delay and loss say together.
    fn decide(&mut self, now: f64, rtt: f64, disturbed: bool, proving: bool) -> Option<Cause> {
        let queue = self.queue.millis();
        let contended = self.contention.is_active();
        let start = self.rate.capacity().is_none() && now < 2.0;
        let trend = match self.delay.trend() {
            _ if contended => Trend::Steady,
            _ if disturbed && queue < if start { START_LIMIT } else { DISTURBED_LIMIT } => Trend::Steady,
            Trend::Rising if queue > RISING => Trend::Rising,
            Trend::Steady | Trend::Rising if queue > QUEUE_LIMIT => Trend::Rising,
            Trend::Falling => Trend::Falling,
            Trend::Steady | Trend::Rising => Trend::Steady,
        };
        let evidence = Evidence {
            now,
            rtt,
            queued: queue > QUEUED || trend == Trend::Rising,
            contended,
            proving,
            rate: self.rate.rate(),
        };
        if evidence.queued {
            self.policing.forget_window();
        }
        let verdict = self.loss.update(&evidence);
        if let (Verdict::Police, Some(passed)) = (verdict, self.acked.over(500)) {
            return Some(self.on_policer(now, passed, false));
        }
        let unreported = self.unreported.at(now);
        let limited = self.app.update(self.sent.at(now), self.rate.target() - unreported);
        let acked = if trend == Trend::Rising { self.acked.filled_rate() } else { self.acked.rate() };
        let input = Input {
            now,
            trend,
            queue,
            acked: acked.map(|acked| acked + unreported),
            rtt,
            limited,
            hold: verdict == Verdict::Hold,
            contended,
            wanted: self.wanted.bps().min(MOST) as f64,
        };
        let before = self.rate.rate();
        let step = self.rate.update(&input);
        let gave_way = (step == Step::GaveWay).then_some(before);
        if let Some(back) = self.contention.update(now, self.queue.sure_millis(), gave_way, self.rate.rate())
        {
            self.rate.set(back);
        }
        let fell = matches!(step, Step::Decreased | Step::GaveWay);
        if fell {
            self.fell(now, before);
        }
        if fell {
            let measured = self.queue.delivered();
            let delivered = measured.or(self.acked.over(200)).unwrap_or(before);
            // Of a short queue, while little is sent, that is hardly what the link carries.
            self.probe.on_filled(now, delivered, measured.is_some() || !limited);
        }
        if step == Step::Decreased {
            self.disregard_losses_until_now(now);
        }
        let cause = match verdict {
            Verdict::Reduce(rate) if rate < self.rate.rate() && step != Step::Decreased => {
                self.fell(now, before);
                self.rate.set(rate);
                return Some(Cause::Loss);
            }
            Verdict::Restore(rate) if rate > self.rate.rate() && !fell && self.rate.ceiling().is_none() => {
                self.confirmed = Some(Shown { rate, at: now });
                self.rate.set(rate);
                return Some(Cause::LossUnrelated);
            }
            _ => match step {
                Step::Increased => Cause::Growth,
                Step::Decreased | Step::GaveWay => Cause::Queue,
                Step::None if self.rate.is_draining() => Cause::Queue,
                Step::None => return None,
            },
        };
        Some(cause)
    }

    /// What is lost of what was sent before has been answered: less is sent now, or a burst that was too much has ended.
    fn disregard_losses_until_now(&mut self, now: f64) {
        self.cut = (now * 1e6) as i64;
        self.loss.discard(now, 0.0);
    }

    /// Remembers where the estimate stood, to look there again first.
    fn fell(&mut self, now: f64, from: f64) {
        self.confirmed = None;
        let fresh = self.before_drop.is_some_and(|shown| now - shown.at < 10.0 && shown.rate > from);
        if !fresh {
            self.before_drop = Some(Shown { rate: from, at: now });
        }
        self.probe.postpone(now + PROBE_AFTER_DROP);
    }
}

/// Share that the shortest round trip grows by in a second: a path may become longer.
const FORGETTING: f64 = 0.05;
/// Seconds that a round trip is taken for at most.
const MOST_RTT: f64 = 5.0;
/// Share of the rate that is left after an outage that lost packets.
const AFTER_OUTAGE: f64 = 0.7;
/// Steps of a silence, a second and a half, after which nothing of a picture is left to go on with, whatever was lost.
const OUTAGE_STEPS: u32 = 3;
/// Seconds after a silence in which arrivals are no measure of anything.
const SETTLING: f64 = 0.3;
/// Seconds without a burst after the rate fell.
const PROBE_AFTER_DROP: f64 = 3.0;
/// Rate at most, as a multiple of the estimate, that a burst may show which has only begun to be dropped.
const UNMEASURED: f64 = 2.0;
/// Seconds after a policer was supposed in which the rate from before is given back if there was none.
const GIVEN_BACK: f64 = 10.0;
/// Multiple of the present rate that is given back at most.
const MOST_GIVEN_BACK: f64 = 1.5;
/// Milliseconds of queue that confirm a burst that showed less than the estimate.
const CONFIRM: f64 = 8.0;
/// Milliseconds of queue below which a rising trend is jitter.
const RISING: f64 = 20.0;
/// Milliseconds of queue that are too much even if it does not grow.
const QUEUE_LIMIT: f64 = 40.0;
/// Milliseconds of queue that are too much while a burst of ours may be the cause.
const DISTURBED_LIMIT: f64 = 70.0;
/// Milliseconds of queue that are too much in the first two seconds.
const START_LIMIT: f64 = 200.0;
/// Milliseconds of queue with which loss is congestion.
const QUEUED: f64 = 20.0;
