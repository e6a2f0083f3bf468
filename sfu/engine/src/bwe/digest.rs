//! Processing of one feedback message: each packet's result goes to the detectors, and their combined findings go to
//! the rate control.

use std::time::Instant;

use super::delay::Trend;
use super::loss::{Evidence, Verdict};
use super::policing::Finding;
use super::probe::{LEAST_BUCKET, Outcome, YOUNG};
use super::rate_control::{Input, Step};
use super::{Cause, Estimator, MOST, Policer, Shown};

impl Estimator {
    /// Processes the results of one feedback message.
    pub(super) fn digest(&mut self, now: Instant) {
        let seconds = self.seconds(now);
        let (mut newest, mut finding) = (None, None);
        let (mut received, mut lost) = (0_usize, 0_usize);
        let (disturbed, proving) = (self.is_disturbed(seconds), self.probe.is_proving());
        if self.anew
            && let Some(first) = self.results.iter().find(|result| result.arrival.is_some())
        {
            // Earlier packets were padding, which this receiver does not report. They were not lost to congestion.
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
            // The first report after a long silence may cover the newest packets only, so a long silence counts as an
            // outage whatever was reported lost.
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
        // If a probe's result and growth both raised the estimate, the probe is the main reason.
        let decided = decided.filter(|decided| *decided != Cause::Growth || cause.is_none());
        self.conclude(now, decided.or(cause).unwrap_or(Cause::Drained));
    }

    fn after_silence(&mut self, now: f64, received: usize, lost: usize) -> Cause {
        // Packets that arrive together after an outage measure nothing.
        self.disturbed_until = now + SETTLING;
        self.confirmed = None;
        self.loss.discard(now, self.rtt_or_default());
        // Packets sent during the silence were lost to the outage, whenever their loss is reported.
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
            // A rate measured over a short moment is unreliable.
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
        // A queue that stood from the start is that of other flows, and a long probe takes bandwidth from them.
        if outcome.hindrance.is_some_and(|seen| seen.depth < LEAST_BUCKET) && now > YOUNG {
            return None;
        }
        self.confirmed = Some(Shown { rate: found, at: now });
        // The queue that a long probe built up does not confirm a rate below the estimate. Rate control judges that
        // queue.
        let short = outcome.hindrance.is_none();
        let fits = found > rate * if outcome.filled { gain } else { 1.0 }
            || outcome.filled && found < rate && (start || short && self.queue.millis() > CONFIRM);
        if !fits {
            return None;
        }
        if outcome.proven && !outcome.filled {
            self.rate.lift_ceiling();
            // A long probe would have met a policer, so one that was only inferred is dropped.
            self.policer = self.policer.filter(|policer| policer.measured || !outcome.long);
        }
        self.rate.set(found);
        if outcome.filled {
            self.rate.on_capacity(found);
        }
        Some(Cause::Probe)
    }

    /// Lowers the rate for a policer that let `passed` bits per second through. Its drops do not count as random loss,
    /// and probing pauses.
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

    /// Raises the rate again if it was lowered for a policer, because the losses are random and there is no policer.
    fn on_chance(&mut self, now: f64) -> Cause {
        if let Some(policer) = self.policer.take() {
            self.rate.lift_ceiling();
            // A rate from long ago, or a much higher one, may exceed the capacity all the same.
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

    /// Updates the rate from delay and loss together.
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
            let measured = self.queue.delivered();
            let delivered = measured.or(self.acked.over(200)).unwrap_or(before);
            // With a short queue, while little is sent, the delivered rate is hardly the capacity.
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

    /// Ignores losses of packets sent before now, because they were acted on: the rate was lowered, or the probe that
    /// exceeded the capacity has ended.
    fn disregard_losses_until_now(&mut self, now: f64) {
        self.cut = (now * 1e6) as i64;
        self.loss.discard(now, 0.0);
    }

    /// Handles a fall of the rate from `from`. Probing pauses now, and takes smaller steps near `from` later.
    fn fell(&mut self, now: f64, from: f64) {
        self.confirmed = None;
        let fresh = self.before_drop.is_some_and(|shown| now - shown.at < 10.0 && shown.rate > from);
        if !fresh {
            self.before_drop = Some(Shown { rate: from, at: now });
        }
        self.probe.postpone(now + PROBE_AFTER_DROP);
    }
}

/// Share by which the recorded shortest round trip may grow in a second, because a path may become longer.
const FORGETTING: f64 = 0.05;
/// Maximum round-trip time sample, in seconds.
const MOST_RTT: f64 = 5.0;
/// Share of the rate that remains after an outage that lost packets.
const AFTER_OUTAGE: f64 = 0.7;
/// Steps of a silence, about a second and a half, after which a receiver has no usable reference frame left, whatever
/// was lost.
const OUTAGE_STEPS: u32 = 3;
/// Seconds after a silence in which arrivals measure nothing.
const SETTLING: f64 = 0.3;
/// Pause in probing after the rate fell, in seconds.
const PROBE_AFTER_DROP: f64 = 3.0;
/// Maximum rate, as a multiple of the current rate, that is taken from a probe whose drops did not last long enough to
/// measure.
const UNMEASURED: f64 = 2.0;
/// Seconds after a policer was detected in which the earlier rate is given back if the losses turn out to be random.
const GIVEN_BACK: f64 = 10.0;
/// Maximum rate that is given back, as a multiple of the current rate.
const MOST_GIVEN_BACK: f64 = 1.5;
/// Milliseconds of queue that confirm a probe that showed less than the estimate.
const CONFIRM: f64 = 8.0;
/// Milliseconds of queue below which a rising trend is jitter.
const RISING: f64 = 20.0;
/// Milliseconds of queue that are too much even if it does not grow.
const QUEUE_LIMIT: f64 = 40.0;
/// Milliseconds of queue that are too much while our own probe may be the cause.
const DISTURBED_LIMIT: f64 = 70.0;
/// Milliseconds of queue that are too much in the first two seconds.
const START_LIMIT: f64 = 200.0;
/// Milliseconds of queue with which loss is congestion.
const QUEUED: f64 = 20.0;
