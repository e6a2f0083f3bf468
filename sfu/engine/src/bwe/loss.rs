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

/// Packets since the last judgement.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    began: Option<f64>,
    /// Of the message being read: whether there was a queue is only known behind it.
    pending: Count,
    /// While a queue stood, and while none did.
    queued: Count,
    free: Count,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    received: u32,
    lost: u32,
}

impl Count {
    fn total(self) -> u32 {
        self.received.saturating_add(self.lost)
    }

    fn plus(self, other: Self) -> Self {
        Self {
            received: self.received.saturating_add(other.received),
            lost: self.lost.saturating_add(other.lost),
        }
    }

    fn ratio(self) -> f64 {
        f64::from(self.lost) / f64::from(self.total().max(1))
    }

    /// The standard deviation of the ratio, were each packet lost by itself.
    fn noise(self) -> f64 {
        let ratio = self.ratio();
        (ratio * (1.0 - ratio) / f64::from(self.total().max(1))).sqrt()
    }
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
        Self { window: Window::default(), inherent: 0.0, trial: None, smoothed: 0.0, quiet_until: 0.0 }
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
        let count = &mut self.window.pending;
        let side = if received { &mut count.received } else { &mut count.lost };
        *side = side.saturating_add(1);
    }

    /// A packet counted as lost arrived after all.
    pub fn on_late(&mut self) {
        let window = &mut self.window;
        for count in [&mut window.pending, &mut window.queued, &mut window.free] {
            if count.lost > 0 {
                count.lost -= 1;
                count.received = count.received.saturating_add(1);
                return;
            }
        }
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
        let pending = std::mem::take(&mut self.window.pending);
        let side = if evidence.queued { &mut self.window.queued } else { &mut self.window.free };
        *side = side.plus(pending);
        let all = self.window.queued.plus(self.window.free);
        let elapsed = now - began;
        if elapsed < WINDOW || all.total() < FEWEST && (elapsed < LONGEST || all.total() == 0) {
            return Verdict::Fine;
        }
        let window = std::mem::take(&mut self.window);
        self.window.began = Some(now);
        self.smoothed += (all.ratio() - self.smoothed) * 0.5;
        let verdict = self.judge(&window, evidence);
        if matches!(verdict, Verdict::Reduce(_) | Verdict::Restore(_)) {
            self.quiet_until = now + evidence.rtt + REACTION;
            self.window = Window::default();
        }
        verdict
    }

    fn judge(&mut self, window: &Window, evidence: &Evidence) -> Verdict {
        if let Some(trial) = self.trial.take() {
            return self.conclude(trial, window, evidence);
        }
        if window.free.total() >= FEWEST / 2 {
            let loss = window.free.ratio();
            let gain = if loss < self.inherent { 0.1 } else { 0.05 };
            self.inherent += (loss - self.inherent) * gain;
            if loss - self.inherent > UNQUEUED_LIMIT + window.free.noise() {
                self.trial = Some(Trial { rate: evidence.rate, loss });
                return Verdict::Reduce(evidence.rate * TRIAL);
            }
        }
        if window.queued.total() < FEWEST / 4 {
            return Verdict::Fine;
        }
        // What the path loses by itself it also loses while a queue stands, more or less.
        let noise = if self.inherent > QUEUED_LIMIT / 2.0 { 1.5 * window.queued.noise() } else { 0.0 };
        let excess = (window.queued.ratio() - self.inherent - noise).max(0.0);
        let limit = if evidence.contended { CONTENDED_LIMIT } else { QUEUED_LIMIT };
        match excess {
            excess if excess > limit && evidence.contended => {
                Verdict::Reduce(evidence.rate * CONTENDED_SHARE)
            }
            excess if excess > limit => Verdict::Reduce(evidence.rate * (1.0 - 0.5 * excess)),
            excess if excess > limit / 2.0 => Verdict::Hold,
            _ => Verdict::Fine,
        }
    }

    /// Were the link too narrow, it would now lose what exceeds the same capacity as before.
    fn conclude(&mut self, trial: Trial, window: &Window, evidence: &Evidence) -> Verdict {
        let all = window.queued.plus(window.free);
        let loss = all.ratio();
        let passed = (1.0 - (trial.loss - self.inherent)) * trial.rate;
        let expected = self.inherent + (1.0 - passed / evidence.rate.max(1.0)).max(0.0);
        if loss + all.noise() < (trial.loss + expected) / 2.0 {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Half a second of packets of which one in `every` is lost, then the verdict.
    fn half_second(loss: &mut LossControl, now: &mut f64, every: u32, queued: bool, rate: f64) -> Verdict {
        let mut last = Verdict::Fine;
        for _ in 0..12 {
            *now += 0.05;
            (0..20).for_each(|n| loss.on_packet(n % every != 0));
            let evidence = Evidence { now: *now, rtt: 0.05, queued, contended: false, rate };
            last = loss.update(&evidence);
            if last != Verdict::Fine {
                break;
            }
        }
        last
    }

    #[test]
    fn loss_that_does_not_fall_with_the_rate_is_given_back() {
        let (mut loss, mut now) = (LossControl::new(), 0.0);
        assert_eq!(half_second(&mut loss, &mut now, 5, false, 1e6), Verdict::Reduce(0.85e6));
        now += 0.2;
        half_second(&mut loss, &mut now, 5, false, 0.85e6);
        assert!(loss.inherent() > 0.15, "{}", loss.inherent());
        assert_eq!(half_second(&mut loss, &mut now, 5, false, 1e6), Verdict::Fine);
    }

    #[test]
    fn loss_with_a_queue_is_congestion_at_once() {
        let (mut loss, mut now) = (LossControl::new(), 0.0);
        let Verdict::Reduce(rate) = half_second(&mut loss, &mut now, 5, true, 1e6) else {
            panic!("a fifth is lost")
        };
        assert!((rate - 0.9e6).abs() < 1e3, "{rate}");
    }

    #[test]
    fn loss_that_ends_when_less_is_sent_keeps_the_lower_rate() {
        let (mut loss, mut now) = (LossControl::new(), 0.0);
        assert_eq!(half_second(&mut loss, &mut now, 5, false, 1e6), Verdict::Reduce(0.85e6));
        now += 0.2;
        assert_eq!(half_second(&mut loss, &mut now, u32::MAX, false, 0.85e6), Verdict::Fine);
    }
}
