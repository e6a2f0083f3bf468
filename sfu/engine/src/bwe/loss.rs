//! What loss says. Loss that comes with a queue, or that falls when less is sent, is congestion; loss that does
//! neither is the path's own, and sending less would only make the picture worse. Nor need less be sent to see that
//! where packets are lost here and there: what exceeds a rate is lost in rows, for media leave in bursts.

/// What the last window of packets means for the rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Verdict {
    /// Nothing.
    Fine,
    /// It may not grow.
    Hold,
    /// It must fall to this.
    Reduce(f64),
    /// Too much is lost for chance: no more passes than what arrives.
    Police,
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
    /// Share of packets lost while no queue stood, smoothed.
    by_chance: f64,
    /// What stood before the last judgement, for what it judged may turn out to be a link that has become narrow.
    before: Option<Before>,
    /// The last packet was lost.
    losing: bool,
    /// Packets sent before the last change say nothing about it, in seconds.
    quiet_until: f64,
}

/// What a judgement may have spoilt. Times in seconds.
#[derive(Debug, Clone, Copy)]
struct Before {
    at: f64,
    inherent: f64,
    by_chance: f64,
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
    /// Packets behind a lost one, and how many of those were lost too.
    behind: u32,
    in_rows: u32,
}

impl Count {
    fn total(self) -> u32 {
        self.received.saturating_add(self.lost)
    }

    fn plus(self, other: Self) -> Self {
        Self {
            received: self.received.saturating_add(other.received),
            lost: self.lost.saturating_add(other.lost),
            behind: self.behind.saturating_add(other.behind),
            in_rows: self.in_rows.saturating_add(other.in_rows),
        }
    }

    /// Whether a packet is lost as likely behind a lost one as elsewhere, give or take two standard deviations.
    fn is_scattered(self) -> bool {
        let (ratio, behind) = (self.ratio(), f64::from(self.behind.max(1)));
        let found = f64::from(self.in_rows) / behind;
        (found - ratio).abs() <= 2.0 * (ratio * (1.0 - ratio) / behind).sqrt()
    }

    fn ratio(self) -> f64 {
        f64::from(self.lost) / f64::from(self.total().max(1))
    }

    /// The standard deviation of the ratio, given how often one loss follows another: losses in rows vary more.
    fn noise_in_rows(self) -> f64 {
        let (ratio, behind) = (self.ratio(), f64::from(self.behind.max(1)));
        let follows = f64::from(self.in_rows) / behind;
        let tied = ((follows - ratio) / (1.0 - ratio).max(0.1)).clamp(0.0, 0.9);
        self.noise() * ((1.0 + tied) / (1.0 - tied)).sqrt()
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
    /// A long burst is on its way: what is lost by it, is its own matter.
    pub proving: bool,
    pub rate: f64,
}

impl LossControl {
    /// Nothing known.
    pub fn new() -> Self {
        Self {
            window: Window::default(),
            inherent: 0.0,
            trial: None,
            smoothed: 0.0,
            by_chance: 0.0,
            before: None,
            losing: false,
            quiet_until: 0.0,
        }
    }

    /// The share of packets lost, 0 to 1, over about a second.
    pub fn ratio(&self) -> f64 {
        self.smoothed
    }

    /// The share of packets lost while no queue stood, 0 to 1, over about a second of that. Unlike
    /// [`inherent`](Self::inherent), which is sure, it is known at once.
    pub fn by_chance(&self) -> f64 {
        self.by_chance
    }

    /// The share that is lost whatever the rate, 0 to 1.
    pub fn inherent(&self) -> f64 {
        self.inherent
    }

    /// One packet arrived, or did not. In the order in which they were sent.
    pub fn on_packet(&mut self, received: bool) {
        let count = &mut self.window.pending;
        if std::mem::replace(&mut self.losing, !received) {
            count.behind = count.behind.saturating_add(1);
            count.in_rows = count.in_rows.saturating_add(u32::from(!received));
        }
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

    /// Forgets the current window, and what was made of the one before: nothing got through, or a queue grew, and then
    /// packets are lost ahead of the first report of it.
    pub fn discard(&mut self, now: f64, rtt: f64) {
        self.window = Window::default();
        self.trial = None;
        if let Some(before) = self.before.take().filter(|before| now - before.at < WINDOW) {
            (self.inherent, self.by_chance) = (before.inherent, before.by_chance);
        }
        self.quiet_until = now + rtt;
    }

    /// What was lost was neither chance nor a queue: nothing of it counts any more.
    pub fn forget(&mut self, now: f64, rtt: f64) {
        self.discard(now, rtt + REACTION);
        (self.inherent, self.by_chance) = (0.0, 0.0);
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
        self.before = Some(Before { at: now, inherent: self.inherent, by_chance: self.by_chance });
        if window.free.total() >= FEWEST / 2 {
            self.by_chance += (window.free.ratio() - self.by_chance) * 0.5;
        }
        if evidence.proving {
            self.trial = None;
            return Verdict::Fine;
        }
        let verdict = self.judge(&window, evidence);
        if matches!(verdict, Verdict::Reduce(_) | Verdict::Restore(_) | Verdict::Police) {
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
            if loss - window.free.noise() > MOST_INHERENT && window.queued.total() == 0 {
                return Verdict::Police;
            }
            let much = loss - self.inherent > UNQUEUED_LIMIT + window.free.noise();
            if much && window.free.is_scattered() {
                self.inherent = loss.min(MOST_INHERENT);
            } else if much {
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
        if loss + all.noise_in_rows() < (trial.loss + expected) / 2.0 {
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
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// Half a second of packets of which one in `every` is lost, then the verdict.
    fn half_second(loss: &mut LossControl, now: &mut f64, every: u32, queued: bool, rate: f64) -> Verdict {
        let mut last = Verdict::Fine;
        for _ in 0..12 {
            *now += 0.05;
            // Two in a row.
            (0..20).for_each(|n| loss.on_packet((n / 2 + 1) % every != 0));
            let evidence = Evidence { now: *now, rtt: 0.05, queued, contended: false, proving: false, rate };
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
    fn loss_here_and_there_is_the_paths_own_at_once() {
        let (mut loss, mut now) = (LossControl::new(), 0.0);
        let mut random = SmallRng::seed_from_u64(1);
        for _ in 0..1_000 {
            now += 0.05;
            (0..10).for_each(|_| loss.on_packet(!random.random_bool(0.1)));
            let evidence =
                Evidence { now, rtt: 0.05, queued: false, contended: false, proving: false, rate: 1e6 };
            assert!(matches!(loss.update(&evidence), Verdict::Fine | Verdict::Hold), "after {now} s");
        }
        assert!((0.05..0.15).contains(&loss.inherent()), "{}", loss.inherent());
    }

    #[test]
    fn what_was_lost_ahead_of_a_queue_is_neither_chance_nor_tried() {
        let (mut loss, mut now) = (LossControl::new(), 0.0);
        assert_eq!(half_second(&mut loss, &mut now, 3, false, 1e6), Verdict::Reduce(0.85e6));
        loss.discard(now, 0.0);
        assert_eq!((loss.inherent(), loss.by_chance()), (0.0, 0.0));
        // The rate has fallen for the queue, and some of what was sent before is lost yet: no reason to go back.
        let verdict = half_second(&mut loss, &mut now, 4, true, 2e5);
        assert!(!matches!(verdict, Verdict::Restore(_)), "{verdict:?}");
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
