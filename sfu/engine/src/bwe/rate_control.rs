//! From signals to a rate: additive increase near the link's known capacity, faster far from it, multiplicative
//! decrease from what the link was measured to deliver, and less still while a queue drains.

use super::delay::Trend;

/// What the rate is decided on. Times in seconds, rates in bits per second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input {
    pub now: f64,
    /// The queue: whether it grows, after all evidence.
    pub trend: Trend,
    /// How long it is, in milliseconds.
    pub queue: f64,
    /// What arrives.
    pub acked: Option<f64>,
    pub rtt: f64,
    /// Much less is sent than would be allowed.
    pub limited: bool,
    /// Loss forbids growth.
    pub hold: bool,
    /// Others keep the queue filled.
    pub contended: bool,
    /// What would be sent if there was room.
    pub wanted: f64,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    None,
    Increased,
    /// The link delivered less than was sent.
    Decreased,
    /// The link delivered what was sent, but its queue grew.
    GaveWay,
}

/// The rate.
#[derive(Debug)]
pub(super) struct RateControl {
    rate: f64,
    min: f64,
    max: f64,
    capacity: Capacity,
    /// What a policer lets pass.
    ceiling: Option<f64>,
    /// A queue that we helped to build is being emptied; since when.
    draining: Option<f64>,
    /// How long it was when the rate last fell, in milliseconds.
    fell_at: f64,
    queue: f64,
    updated: f64,
    decreased: f64,
    /// What arrived when the rate last fell because the queue grew.
    delivered: f64,
    jumped: f64,
}

impl RateControl {
    /// Begins at `rate`.
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

    /// The rate it settles at once the queue is empty.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// What may be sent now: less than [`rate`](Self::rate) while a queue drains.
    pub fn target(&self) -> f64 {
        let share = match self.draining {
            Some(_) => (1.0 - self.queue / DRAIN).clamp(LEAST_DRAIN, 1.0),
            None => 1.0,
        };
        (self.rate * share).clamp(self.min, self.max)
    }

    /// What arrived while the last queue grew, until that is some seconds ago; not less than [`rate`](Self::rate).
    pub fn delivered(&self, now: f64) -> f64 {
        let recent = now - self.decreased < LONGEST_DRAIN;
        if recent { self.rate.max(self.delivered) } else { self.rate }
    }

    /// Whether a queue is being emptied.
    pub fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// When the rate last fell because the queue grew, in seconds.
    pub fn decreased(&self) -> f64 {
        self.decreased
    }

    /// The capacity of the link, as far as it was seen filled.
    pub fn capacity(&self) -> Option<f64> {
        self.capacity.mean
    }

    /// Whether more than the known capacity is sent, and no queue has come of it.
    pub fn is_beyond_capacity(&self) -> bool {
        self.capacity.mean.is_none_or(|mean| self.rate > mean * BEYOND)
    }

    /// Puts the rate where something else than the queue says it is.
    pub fn set(&mut self, rate: f64) {
        self.rate = rate.clamp(self.min, self.max);
        self.jumped = self.updated;
        if self.capacity.is_below(self.rate) {
            self.capacity = Capacity::default();
        }
    }

    /// What a policer lets pass, if there is one.
    pub fn ceiling(&self) -> Option<f64> {
        self.ceiling
    }

    /// A policer lets that pass.
    pub fn on_policer(&mut self, rate: f64) {
        let below = rate * BELOW_CEILING;
        self.ceiling = Some(below);
        self.capacity = Capacity::default();
        self.capacity.on_sample(rate);
        self.rate = below.clamp(self.min, self.max);
        self.draining = None;
    }

    /// More passed.
    pub fn lift_ceiling(&mut self) {
        self.ceiling = None;
    }

    /// A queue that we have just made is to be emptied.
    pub fn drain(&mut self, now: f64) {
        self.draining = Some(now);
    }

    /// What the link was measured to deliver while filled.
    pub fn on_capacity(&mut self, rate: f64) {
        self.capacity.on_sample(rate);
    }

    /// Decides.
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
            // More than the link carries before anything could be measured.
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
        // Less arrives because less is sent; it is the queue from before that drains.
        // Unless a long one does not: then the link became narrower while the last measurement was made.
        let stands = input.queue > LONG_QUEUE.max(self.fell_at * SHRUNK);
        let little = input.limited || acked > self.target() * 0.8 && !stands;
        if self.draining.is_some() && input.now - self.decreased < DRAIN_TIME && little {
            return Step::None;
        }
        // While a queue drains no more than that is sent; if all of it arrives and the queue stays, it is others'.
        let sent = if self.draining.is_some() { self.target() } else { self.rate };
        self.decreased = input.now;
        // Where little is sent a short queue, that of a key frame say, does not show that less would pass.
        let unproven = input.limited && input.queue <= LONG_QUEUE;
        self.delivered = if unproven { acked.max(self.rate) } else { acked };
        self.fell_at = input.queue;
        let rate = if input.limited {
            // The queue is hardly of our making; what will be sent later is probed for first.
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
        // What is not sent cannot be seen to arrive, so it is no reason to allow more.
        let bound = (acked * 1.5 + 10_000.0).min(input.wanted.max(acked) * 1.3);
        // What it was seen to deliver while filled passes without being shown again.
        let bound = bound.max(self.capacity.mean.unwrap_or(0.0).min(input.wanted) * BETA);
        let bound = bound.min(self.ceiling.unwrap_or(f64::MAX));
        let rate = (self.rate + step).min(bound.max(self.rate)).clamp(self.min, self.max);
        let increased = rate > self.rate;
        self.rate = rate;
        if increased { Step::Increased } else { Step::None }
    }
}

/// Growth per second near the capacity. It depends on the rate alone, not on the round trip, and hardly on that: flows
/// that share a queue come to share it evenly.
fn additive(rate: f64) -> f64 {
    (SLOPE * rate).clamp(LEAST_SLOPE, MOST_SLOPE)
}

/// The rate at which the link was seen to be filled, smoothed, and how far single measurements stray.
#[derive(Debug, Clone, Copy, Default)]
struct Capacity {
    mean: Option<f64>,
    /// Relative.
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

    /// More than this capacity arrives, so it was another one.
    fn is_below(&self, rate: f64) -> bool {
        self.mean.is_some_and(|mean| rate > mean * (1.0 + 3.0 * self.deviation))
    }
}

/// Share of the measured capacity that a decrease leaves.
const BETA: f64 = 0.85;
/// What a policer lets pass was seen while it dropped; less than this share of it leaves it credit for a key frame.
const BELOW_CEILING: f64 = 0.92;
/// Share of the rate that one decrease leaves at least while little is sent,
const LIMITED: f64 = 0.95;
/// and with a queue longer than this many milliseconds.
const LIMITED_LONG: f64 = 0.6;
const LONG_QUEUE: f64 = 150.0;
/// A queue of this many milliseconds would stop sending; half of it halves the rate, and so on down to
/// [`LEAST_DRAIN`].
const DRAIN: f64 = 600.0;
const LEAST_DRAIN: f64 = 0.5;
/// A queue this short counts as empty, in milliseconds.
const DRAINED: f64 = 10.0;
/// In seconds.
const LONGEST_DRAIN: f64 = 3.0;
/// A queue that is still longer than this share of what it was does not drain.
const SHRUNK: f64 = 0.9;
/// How long a queue may take to drain before less is sent again.
const DRAIN_TIME: f64 = 1.0;
/// Time beyond the round trip in which a decrease shows.
const PATIENCE: f64 = 0.15;
/// Per second.
const MULTIPLICATIVE: f64 = 0.08;
/// Share of the rate that must arrive for the link to be said to deliver it.
const DELIVERED: f64 = 0.88;
/// How much more than the smoothed capacity is surely more.
const BEYOND: f64 = 1.05;
/// Share of the rate, per second,
const SLOPE: f64 = 0.1;
/// but within these bounds, in bits per second, per second.
const LEAST_SLOPE: f64 = 45_000.0;
const MOST_SLOPE: f64 = 60_000.0;
/// In seconds: when so long nothing was in the way the link may have become wider, and growth grows.
const LONG_CALM: f64 = 3.0;
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
