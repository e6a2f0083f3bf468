//! Loss-based congestion detection. Loss that comes with a queue, or that falls when less is sent, is congestion. Other
//! loss is inherent to the path, and sending less would only make the video worse. Scattered losses are inherent
//! without any trial: packets that exceed a rate are lost consecutively, because media leave in bursts.

/// What the last window of packets means for the rate. Rates in bits per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Verdict {
    /// The rate need not change.
    Fine,
    /// The rate may not grow.
    Hold,
    /// The rate must fall to this value.
    Reduce(f64),
    /// Too much is lost to be chance: a policer is assumed, which lets through no more than the rate that arrives.
    Police,
    /// A trial lowered the rate in vain, because the loss does not depend on the rate. The rate returns to this value.
    Restore(f64),
}

/// Judges loss per window of packets.
#[derive(Debug)]
pub(super) struct LossControl {
    window: Window,
    /// Share of packets lost whatever the rate, 0 to 1.
    inherent: f64,
    trial: Option<Trial>,
    /// Smoothed share of packets lost.
    smoothed: f64,
    /// Smoothed share of packets lost while no queue stood.
    by_chance: f64,
    /// Values before the last window was judged. They are restored if its losses turn out to come from a link that has
    /// become narrower.
    before: Option<Before>,
    /// Whether the last packet was lost.
    losing: bool,
    /// Time in seconds until which packets are ignored: they were sent before the last change of the rate.
    quiet_until: f64,
}

/// Values before a judgement that may turn out to be wrong. Time in seconds.
#[derive(Debug, Clone, Copy)]
struct Before {
    at: f64,
    inherent: f64,
    by_chance: f64,
}

/// A reduction of the rate that tests whether loss falls with it: the rate and the loss before it.
#[derive(Debug, Clone, Copy)]
struct Trial {
    rate: f64,
    loss: f64,
}

/// Packets since the last judgement.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    began: Option<f64>,
    /// Packets of the message being processed. Whether a queue stood is known only after it.
    pending: Count,
    /// Packets while a queue stood.
    queued: Count,
    /// Packets while no queue stood.
    free: Count,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    received: u32,
    lost: u32,
    /// Packets that directly follow a lost one.
    behind: u32,
    /// Lost packets that directly follow a lost one.
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

    /// Whether losses are independent: a packet after a lost one is as likely to be lost as any other, within two
    /// standard deviations.
    fn is_scattered(self) -> bool {
        let (ratio, behind) = (self.ratio(), f64::from(self.behind.max(1)));
        let found = f64::from(self.in_rows) / behind;
        (found - ratio).abs() <= 2.0 * (ratio * (1.0 - ratio) / behind).sqrt()
    }

    fn ratio(self) -> f64 {
        f64::from(self.lost) / f64::from(self.total().max(1))
    }

    /// Standard deviation of the ratio, given how often one loss follows another: consecutive losses make the ratio
    /// vary more.
    fn noise_in_rows(self) -> f64 {
        let (ratio, behind) = (self.ratio(), f64::from(self.behind.max(1)));
        let follows = f64::from(self.in_rows) / behind;
        let tied = ((follows - ratio) / (1.0 - ratio).max(0.1)).clamp(0.0, 0.9);
        self.noise() * ((1.0 + tied) / (1.0 - tied)).sqrt()
    }

    /// Standard deviation of the ratio if losses are independent.
    fn noise(self) -> f64 {
        let ratio = self.ratio();
        (ratio * (1.0 - ratio) / f64::from(self.total().max(1))).sqrt()
    }
}

/// Inputs of a judgement. Times in seconds, rates in bits per second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence {
    pub now: f64,
    pub rtt: f64,
    /// A queue stands.
    pub queued: bool,
    /// Other flows that react to loss alone keep the queue filled.
    pub contended: bool,
    /// A long probe is in progress. Its losses are judged with the probe.
    pub proving: bool,
    pub rate: f64,
}

impl LossControl {
    /// No loss known.
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

    /// Share of packets lost, 0 to 1, over about a second.
    pub fn ratio(&self) -> f64 {
        self.smoothed
    }

    /// Share of packets lost while no queue stood, 0 to 1, over about a second of such time. It is known sooner than
    /// [`inherent`](Self::inherent), but is less certain.
    pub fn by_chance(&self) -> f64 {
        self.by_chance
    }

    /// Share of packets that the path loses whatever the rate, 0 to 1.
    pub fn inherent(&self) -> f64 {
        self.inherent
    }

    /// Records whether a packet was received. Packets must come in the order in which they were sent.
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

    /// Discards the current window and what was concluded from a recent one. Call after an outage, or when a queue
    /// grew: packets are lost before the first report of the queue. Packets are ignored for `rtt` seconds.
    pub fn discard(&mut self, now: f64, rtt: f64) {
        self.window = Window::default();
        self.trial = None;
        if let Some(before) = self.before.take().filter(|before| now - before.at < WINDOW) {
            (self.inherent, self.by_chance) = (before.inherent, before.by_chance);
        }
        self.quiet_until = now + rtt;
    }

    /// Discards everything known about losses, because they were caused by a policer: neither chance nor a queue.
    pub fn forget(&mut self, now: f64, rtt: f64) {
        self.discard(now, rtt + REACTION);
        (self.inherent, self.by_chance) = (0.0, 0.0);
    }

    /// Ends a feedback message. Judges the window if it is complete.
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
        // The path's inherent loss also occurs while a queue stands, more or less.
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

    /// Ends a trial. If the link were too narrow, the loss would now be what exceeds the same capacity as before.
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

/// Minimum duration of a window, in seconds.
const WINDOW: f64 = 0.5;
/// Seconds after which a window ends even with few packets.
const LONGEST: f64 = 2.0;
/// Seconds, beyond the round trip, until a change of the rate shows in the reports.
const REACTION: f64 = 0.1;
/// Minimum number of packets for a meaningful loss ratio.
const FEWEST: u32 = 40;
/// Share of packets lost while a queue stands, beyond the inherent loss, above which the rate falls.
const QUEUED_LIMIT: f64 = 0.05;
/// [`QUEUED_LIMIT`] while loss-based flows keep the queue filled.
const CONTENDED_LIMIT: f64 = 0.01;
/// Share of the rate that remains after loss among loss-based flows.
const CONTENDED_SHARE: f64 = 0.7;
/// Share of packets lost without a queue, beyond the inherent loss and the noise, above which the loss is examined.
const UNQUEUED_LIMIT: f64 = 0.08;
/// Share of the rate that remains during a trial.
const TRIAL: f64 = 0.85;
/// Maximum inherent loss. More loss without a queue is a policer's.
const MOST_INHERENT: f64 = 0.5;

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// Feeds 50 ms of packets at a time, losing every `every`-th pair, until there is a verdict or 0.6 s are over.
    fn half_second(loss: &mut LossControl, now: &mut f64, every: u32, queued: bool, rate: f64) -> Verdict {
        let mut last = Verdict::Fine;
        for _ in 0..12 {
            *now += 0.05;
            // Losses come in pairs.
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
    fn the_share_of_losses_in_rows_is_less_certain_than_that_of_single_ones() {
        let rows_of_four = Count { received: 80, lost: 20, behind: 20, in_rows: 15 };
        let single = Count { received: 80, lost: 20, behind: 20, in_rows: 4 };
        assert!((single.noise_in_rows() - single.noise()).abs() < 1e-9);
        assert!(rows_of_four.noise_in_rows() > 2.0 * single.noise_in_rows());
        for count in [Count::default(), Count { received: 0, lost: 9, behind: 8, in_rows: 8 }] {
            assert_eq!(count.noise_in_rows(), 0.0, "{count:?}");
        }
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
        // The rate has fallen because of the queue. Later losses of packets sent before are no reason to restore it.
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
