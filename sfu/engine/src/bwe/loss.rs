//! What loss says. Loss that comes with a queue, or that falls when less is sent, is congestion; loss that does
//! neither is the path's own, and sending less would only make the picture worse.

/// What the last window of packets means for the rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Verdict {
    /// Nothing.
    Fine,
    /// It may not grow.
    Hold,
    /// It must fall to this.
    Reduce(f64),
    /// It fell in vain: the loss has nothing to do with it. Back to this.
    Restore(f64),
}

/// Judges loss window by window.
#[derive(Debug)]
pub(super) struct LossControl {
    window: Window,
    /// The share of packets that is lost whatever the rate.
    inherent: f64,
    trial: Option<Trial>,
    last: f64,
    smoothed: f64,
    /// Packets sent before the last change say nothing about it, in seconds.
    quiet_until: f64,
}

/// A reduction made to see whether loss falls with it.
#[derive(Debug, Clone, Copy)]
struct Trial {
    rate: f64,
    loss: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    began: Option<f64>,
    received: u32,
    lost: u32,
    queued: bool,
}

/// What goes into a judgement. Times in seconds, rates in bits per second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence {
    pub now: f64,
    pub rtt: f64,
    /// A queue stands.
    pub queued: bool,
    /// Other flows keep the queue filled and go by loss alone.
    pub contended: bool,
    pub rate: f64,
}

impl LossControl {
    /// Nothing known.
    pub fn new() -> Self {
        Self {
            window: Window::default(),
            inherent: 0.0,
            trial: None,
            last: 0.0,
            smoothed: 0.0,
            quiet_until: 0.0,
        }
    }

    /// The share of packets lost, 0 to 1, over about a second.
    pub fn ratio(&self) -> f64 {
        self.smoothed
    }

    /// The share that is lost whatever the rate, 0 to 1.
    pub fn inherent(&self) -> f64 {
        self.inherent
    }

    /// One packet arrived, or did not.
    pub fn on_packet(&mut self, received: bool) {
        if received {
            self.window.received += 1;
        } else {
            self.window.lost += 1;
        }
    }

    /// A packet counted as lost arrived after all.
    pub fn on_late(&mut self) {
        self.window.lost = self.window.lost.saturating_sub(1);
        self.window.received += 1;
    }

    /// Forgets the current window: nothing got through, which is no matter of rates.
    pub fn discard(&mut self, now: f64, rtt: f64) {
        self.window = Window::default();
        self.quiet_until = now + rtt;
    }

    /// Judges, if there is enough to judge.
    pub fn update(&mut self, evidence: &Evidence) -> Verdict {
        let now = evidence.now;
        if now < self.quiet_until {
            self.window = Window::default();
            return Verdict::Fine;
        }
        let began = *self.window.began.get_or_insert(now);
        self.window.queued |= evidence.queued;
        let packets = self.window.received + self.window.lost;
        let long_enough = now - began >= WINDOW && packets >= FEWEST || now - began >= LONGEST && packets > 0;
        if !long_enough {
            return Verdict::Fine;
        }
        let window = std::mem::take(&mut self.window);
        self.window.began = Some(now);
        let loss = f64::from(window.lost) / f64::from(packets);
        self.last = loss;
        self.smoothed += (loss - self.smoothed) * 0.5;
        let verdict = self.judge(loss, window.queued, evidence);
        if matches!(verdict, Verdict::Reduce(_) | Verdict::Restore(_)) {
            self.quiet_until = now + evidence.rtt + REACTION;
            self.window = Window::default();
        }
        verdict
    }

    fn judge(&mut self, loss: f64, queued: bool, evidence: &Evidence) -> Verdict {
        if let Some(trial) = self.trial.take() {
            return self.conclude(trial, loss, queued, evidence);
        }
        if loss < self.inherent || !queued {
            let gain = if loss < self.inherent { 0.2 } else { 0.03 };
            self.inherent += (loss - self.inherent) * gain;
        }
        let excess = (loss - self.inherent).max(0.0);
        if queued {
            let limit = if evidence.contended { CONTENDED_LIMIT } else { QUEUED_LIMIT };
            return match excess {
                excess if excess > limit && evidence.contended => {
                    Verdict::Reduce(evidence.rate * CONTENDED_SHARE)
                }
                excess if excess > limit => Verdict::Reduce(evidence.rate * (1.0 - 0.5 * excess)),
                excess if excess > limit / 2.0 => Verdict::Hold,
                _ => Verdict::Fine,
            };
        }
        if excess > UNQUEUED_LIMIT {
            self.trial = Some(Trial { rate: evidence.rate, loss });
            return Verdict::Reduce(evidence.rate * TRIAL);
        }
        Verdict::Fine
    }

    /// Were the link too narrow, it would now lose what exceeds the same capacity as before.
    fn conclude(&mut self, trial: Trial, loss: f64, queued: bool, evidence: &Evidence) -> Verdict {
        let passed = (1.0 - (trial.loss - self.inherent)) * trial.rate;
        let expected = self.inherent + (1.0 - passed / evidence.rate.max(1.0)).max(0.0);
        if queued || loss < (trial.loss + expected) / 2.0 {
            return if loss > self.inherent + QUEUED_LIMIT {
                Verdict::Reduce((passed * 0.95).min(evidence.rate))
            } else {
                Verdict::Fine
            };
        }
        self.inherent = loss.min(trial.loss).min(MOST_INHERENT);
        Verdict::Restore(trial.rate)
    }
}

/// In seconds.
const WINDOW: f64 = 0.5;
const LONGEST: f64 = 2.0;
const REACTION: f64 = 0.1;
/// Fewer packets than this are no statistic.
const FEWEST: u32 = 40;
const QUEUED_LIMIT: f64 = 0.05;
const CONTENDED_LIMIT: f64 = 0.01;
/// What a loss leaves among flows that go by loss.
const CONTENDED_SHARE: f64 = 0.7;
const UNQUEUED_LIMIT: f64 = 0.08;
/// Share of the rate that a trial keeps.
const TRIAL: f64 = 0.85;
const MOST_INHERENT: f64 = 0.5;
