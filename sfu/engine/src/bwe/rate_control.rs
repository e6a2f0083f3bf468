//! Rate control: additive increase near the link's known capacity, faster increase far from it, multiplicative decrease
//! from the rate that the link was measured to deliver, and a still lower rate while a queue drains.

use super::delay::Trend;

/// Inputs of a decision. Times in seconds, rates in bits per second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input {
    pub now: f64,
    /// Trend of the queue, from delay trend and queue length together.
    pub trend: Trend,
    /// Queueing delay in milliseconds.
    pub queue: f64,
    /// Rate at which packets arrive; `None` if not measured yet.
    pub acked: Option<f64>,
    pub rtt: f64,
    /// Much less is sent than is allowed.
    pub limited: bool,
    /// Loss forbids growth.
    pub hold: bool,
    /// Other flows keep the queue filled.
    pub contended: bool,
    /// Rate that would be sent with enough capacity.
    pub wanted: f64,
}

/// How an update changed the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    None,
    Increased,
    /// The link delivered less than was sent.
    Decreased,
    /// The link delivered what was sent, but its queue grew.
    GaveWay,
}

/// State of the rate control. Rates in bits per second, times in seconds.
#[derive(Debug)]
pub(super) struct RateControl {
    rate: f64,
    min: f64,
    max: f64,
    capacity: Capacity,
    /// Upper limit of growth: a little less than a policer lets pass. `None` without a policer.
    ceiling: Option<f64>,
    /// Since when a queue that we helped to build up is being drained; `None` if none is.
    draining: Option<f64>,
    /// Queueing delay when the rate last fell, in milliseconds.
    fell_at: f64,
    /// Current queueing delay, in milliseconds.
    queue: f64,
    updated: f64,
    /// When the rate last fell because the queue grew.
    decreased: f64,
    /// Rate that arrived when the rate last fell because the queue grew.
    delivered: f64,
    /// When the rate was last set from outside.
    jumped: f64,
}

impl RateControl {
    /// A rate control that starts at `rate`, in bits per second, and stays within `min` and `max`.
    pub fn new(rate: f64, min: f64, max: f64) -> Self {
        Self {
            rate,
            min,
            max,
            capacity: Capacity::default(),
            ceiling: None,
            draining: None,
            fell_at: 0.0,
            queue: 0.0,
            updated: 0.0,
            decreased: -10.0,
            delivered: 0.0,
            jumped: -10.0,
        }
    }

    /// Rate that may be sent once the queue is empty.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Rate that may be sent now: less than [`rate`](Self::rate) while a queue drains.
    pub fn target(&self) -> f64 {
        let share = match self.draining {
            Some(_) => (1.0 - self.queue / DRAIN).clamp(LEAST_DRAIN, 1.0),
            None => 1.0,
        };
        (self.rate * share).clamp(self.min, self.max)
    }

    /// Rate that arrived while the last queue grew, but not less than [`rate`](Self::rate). From [`LONGEST_DRAIN`] seconds
    /// after that decrease on, it is [`rate`](Self::rate).
    pub fn delivered(&self, now: f64) -> f64 {
        let recent = now - self.decreased < LONGEST_DRAIN;
        if recent { self.rate.max(self.delivered) } else { self.rate }
    }

    /// Whether a queue is being drained.
    pub fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// When the rate last fell because the queue grew, in seconds.
    pub fn decreased(&self) -> f64 {
        self.decreased
    }

    /// Capacity measured while the link was filled; `None` if it was not.
    pub fn capacity(&self) -> Option<f64> {
        self.capacity.mean
    }

    /// Whether the rate exceeds the known capacity, or none is known.
    pub fn is_beyond_capacity(&self) -> bool {
        self.capacity.mean.is_none_or(|mean| self.rate > mean * BEYOND)
    }

    /// Sets the rate to a value found by other means than the queue.
    pub fn set(&mut self, rate: f64) {
        self.rate = rate.clamp(self.min, self.max);
        self.jumped = self.updated;
        if self.capacity.is_below(self.rate) {
            self.capacity = Capacity::default();
        }
    }

    /// Upper limit of growth because of a policer, if there is one.
    pub fn ceiling(&self) -> Option<f64> {
        self.ceiling
    }

    /// Limits the rate to a little less than `rate`, which a policer lets pass.
    pub fn on_policer(&mut self, rate: f64) {
        let below = rate * BELOW_CEILING;
        self.ceiling = Some(below);
        self.capacity = Capacity::default();
        self.capacity.on_sample(rate);
        self.rate = below.clamp(self.min, self.max);
        self.draining = None;
    }

    /// Removes the limit set for a policer.
    pub fn lift_ceiling(&mut self) {
        self.ceiling = None;
    }

    /// Drains a queue that we have just built up: lowers [`target`](Self::target) until it is empty.
    pub fn drain(&mut self, now: f64) {
        self.draining = Some(now);
    }

    /// Records the rate that the link delivered while filled.
    pub fn on_capacity(&mut self, rate: f64) {
        self.capacity.on_sample(rate);
    }

    /// Updates the rate.
    pub fn update(&mut self, input: &Input) -> Step {
        let elapsed = (input.now - self.updated).clamp(0.0, 1.0);
        self.updated = input.now;
        self.queue = input.queue;
        if self.draining.is_some_and(|since| input.queue < DRAINED || input.now - since > LONGEST_DRAIN) {
            self.draining = None;
        }
        match input.trend {
            Trend::Rising => self.decrease(input),
            Trend::Steady if self.draining.is_none() && !input.hold => self.increase(input, elapsed),
            Trend::Steady | Trend::Falling => Step::None,
        }
    }

    fn decrease(&mut self, input: &Input) -> Step {
        let Some(acked) = input.acked else {
            // The capacity was exceeded before the arrival rate could be measured.
            if input.now - self.decreased < input.rtt + PATIENCE {
                return Step::None;
            }
            self.decreased = input.now;
            self.delivered = 0.0;
            self.rate = (self.rate * 0.5).max(self.min);
            return Step::Decreased;
        };
        let soon = input.now - self.decreased < input.rtt + PATIENCE;
        if soon && (input.limited || acked > self.rate * 0.5) {
            return Step::None;
        }
        // Less arrives because less is sent, and the queue is an earlier one that drains.
        // A long queue that does not drain means that the link became narrower during the last measurement.
        let stands = input.queue > LONG_QUEUE.max(self.fell_at * SHRUNK);
        let little = input.limited || acked > self.target() * 0.8 && !stands;
        if self.draining.is_some() && input.now - self.decreased < DRAIN_TIME && little {
            return Step::None;
        }
        // While a queue drains, only the target is sent. If all of it arrives and the queue stays, it is other flows'
        // queue.
        let sent = if self.draining.is_some() { self.target() } else { self.rate };
        self.decreased = input.now;
        // Where little is sent, a short queue, for example that of a key frame, does not show a lower capacity.
        let unproven = input.limited && input.queue <= LONG_QUEUE;
        self.delivered = if unproven { acked.max(self.rate) } else { acked };
        self.fell_at = input.queue;
        let rate = if input.limited {
            // The queue is hardly our own. Before more is sent later, a probe looks for the capacity.
            let share = if input.queue > LONG_QUEUE { LIMITED_LONG } else { LIMITED };
            (acked * BETA).max(self.rate * share)
        } else {
            self.capacity.on_sample(acked);
            self.draining = Some(input.now);
            acked * BETA
        };
        let rate = rate.clamp(self.min, self.max);
        if rate >= self.rate {
            return Step::None;
        }
        let delivered = !input.limited && acked > sent * DELIVERED;
        self.rate = rate;
        if delivered { Step::GaveWay } else { Step::Decreased }
    }

    fn increase(&mut self, input: &Input, elapsed: f64) -> Step {
        let acked = input.acked.unwrap_or(self.rate);
        if self.capacity.is_below(acked) {
            self.capacity = Capacity::default();
        }
        let near = self.capacity.mean.is_some() || input.contended;
        let calm = (input.now - self.decreased.max(self.jumped) - LONG_CALM).clamp(0.0, 10.0);
        let calm = if input.contended { 0.0 } else { calm };
        let step = if near {
            additive(self.rate) * (1.0 + calm / CALM_GAIN) * elapsed
        } else {
            self.rate * MULTIPLICATIVE * elapsed
        };
        // What arrives shows only that the sent rate passes, so growth stays close to it.
        let bound = (acked * 1.5 + 10_000.0).min(input.wanted.max(acked) * 1.3);
        // The rate that the link delivered while filled need not be shown to pass again.
        let bound = bound.max(self.capacity.mean.unwrap_or(0.0).min(input.wanted) * BETA);
        let bound = bound.min(self.ceiling.unwrap_or(f64::MAX));
        let rate = (self.rate + step).min(bound.max(self.rate)).clamp(self.min, self.max);
        let increased = rate > self.rate;
        self.rate = rate;
        if increased { Step::Increased } else { Step::None }
    }
}

/// Growth near the capacity, in bits per second per second. It does not depend on the round trip, and hardly on the
/// rate, so that flows that share a queue converge to equal shares.
fn additive(rate: f64) -> f64 {
    (SLOPE * rate).clamp(LEAST_SLOPE, MOST_SLOPE)
}

/// Smoothed rate that the link delivered while filled, in bits per second, and the deviation of single measurements.
#[derive(Debug, Clone, Copy, Default)]
struct Capacity {
    mean: Option<f64>,
    /// Relative to the mean.
    deviation: f64,
}

impl Capacity {
    fn on_sample(&mut self, rate: f64) {
        let Some(mean) = self.mean.filter(|mean| rate > mean * 0.5) else {
            self.mean = Some(rate);
            self.deviation = 0.1;
            return;
        };
        let error = (rate - mean).abs() / mean.max(1.0);
        self.deviation = (self.deviation + (error - self.deviation) * 0.1).clamp(0.03, 0.2);
        self.mean = Some(mean + (rate - mean) * 0.2);
    }

    /// Whether `rate` exceeds this capacity beyond measurement error, so that the capacity must have changed.
    fn is_below(&self, rate: f64) -> bool {
        self.mean.is_some_and(|mean| rate > mean * (1.0 + 3.0 * self.deviation))
    }
}

/// Share of the delivered rate that remains after a decrease.
const BETA: f64 = 0.85;
/// Share of a policer's measured rate that may be sent. The measurement was made while the policer dropped; sending
/// less leaves it credit for a key frame.
const BELOW_CEILING: f64 = 0.92;
/// Minimum share of the rate that remains after one decrease while little is sent.
const LIMITED: f64 = 0.95;
/// [`LIMITED`] with a queue longer than [`LONG_QUEUE`].
const LIMITED_LONG: f64 = 0.6;
/// Milliseconds above which a queue is long.
const LONG_QUEUE: f64 = 150.0;
/// Milliseconds of queue that would lower the target to zero. The target falls in proportion to the queue, but not
/// below [`LEAST_DRAIN`].
const DRAIN: f64 = 600.0;
/// Minimum share of the rate that is sent while a queue drains.
const LEAST_DRAIN: f64 = 0.5;
/// Milliseconds below which a queue counts as empty.
const DRAINED: f64 = 10.0;
/// Maximum duration of a drain, in seconds.
const LONGEST_DRAIN: f64 = 3.0;
/// A queue that is still longer than this share of its length at the last decrease does not drain.
const SHRUNK: f64 = 0.9;
/// Seconds for which a queue may drain before the rate falls again.
const DRAIN_TIME: f64 = 1.0;
/// Seconds, beyond the round trip, until a decrease shows in the reports.
const PATIENCE: f64 = 0.15;
/// Growth far from the capacity, as a share of the rate per second.
const MULTIPLICATIVE: f64 = 0.08;
/// Share of the sent rate that must arrive for the link to count as delivering all of it.
const DELIVERED: f64 = 0.88;
/// Multiple of the smoothed capacity above which a rate exceeds it beyond doubt.
const BEYOND: f64 = 1.05;
/// Growth near the capacity, as a share of the rate per second, within [`LEAST_SLOPE`] and [`MOST_SLOPE`].
const SLOPE: f64 = 0.1;
/// Minimum growth near the capacity, in bits per second per second.
const LEAST_SLOPE: f64 = 45_000.0;
/// Maximum growth near the capacity, in bits per second per second, before [`LONG_CALM`].
const MOST_SLOPE: f64 = 60_000.0;
/// Seconds without a decrease after which growth accelerates, because the capacity may have grown.
const LONG_CALM: f64 = 3.0;
/// Seconds of such calm that add the basic growth once more.
const CALM_GAIN: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn input(now: f64, trend: Trend, queue: f64, acked: f64) -> Input {
        Input {
            now,
            trend,
            queue,
            acked: Some(acked),
            rtt: 0.05,
            limited: false,
            hold: false,
            contended: false,
            wanted: 1e7,
        }
    }

    #[test]
    fn a_growing_queue_leaves_a_share_of_what_was_delivered_and_less_while_it_drains() {
        let mut rate = RateControl::new(2e6, 4e4, 1e7);
        assert_eq!(rate.update(&input(1.0, Trend::Rising, 120.0, 5e5)), Step::Decreased);
        assert!((rate.rate() - 4.25e5).abs() < 1.0);
        assert!((rate.target() - 0.8 * 4.25e5).abs() < 1.0);
        rate.update(&input(1.5, Trend::Falling, 5.0, 4e5));
        assert!((rate.target() - 4.25e5).abs() < 1.0 && !rate.is_draining());
    }

    #[test]
    fn what_is_not_sent_is_no_reason_to_allow_more() {
        let mut rate = RateControl::new(1e6, 4e4, 1e7);
        for n in 0..100 {
            rate.update(&input(f64::from(n) / 10.0, Trend::Steady, 0.0, 3e5));
        }
        assert_eq!(rate.rate(), 1e6);
    }

    #[test]
    fn flows_of_every_rate_grow_by_the_same_step_near_capacity() {
        assert_eq!(additive(1e6), additive(8e6));
        assert!(additive(3e5) > 0.7 * additive(8e6));
    }
}
