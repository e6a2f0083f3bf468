//! Detects whether the queue of the bottleneck link grows, from groups of packets, the slope of their delay, and a
//! threshold that adapts to the path (draft-ietf-rmcat-gcc-02 section 5).

/// Trend of the queue, derived from the delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Trend {
    /// The queue shrinks.
    Falling,
    /// The queue neither grows nor shrinks.
    #[default]
    Steady,
    /// The queue grows: the rate exceeds the capacity.
    Rising,
}

/// Detects the trend of the queue.
#[derive(Debug)]
pub(super) struct DelayDetector {
    groups: Groups,
    line: Trendline,
    threshold: Threshold,
    trend: Trend,
}

impl DelayDetector {
    /// No packet seen.
    pub fn new() -> Self {
        Self {
            groups: Groups { current: None, previous: None },
            line: Trendline::new(),
            threshold: Threshold::new(),
            trend: Trend::Steady,
        }
    }

    /// Records a packet sent at `sent` by our clock that arrived at `arrival` by the receiver's clock, in microseconds.
    pub fn on_packet(&mut self, sent: i64, arrival: i64) {
        let Some(step) = self.groups.on_packet(sent, arrival) else { return };
        if step.sent.abs() > GAP || step.arrival.abs() > GAP {
            *self = Self::new();
            return;
        }
        let Some(slope) = self.line.push(&step) else { return };
        self.trend = self.threshold.compare(slope, &step);
    }

    /// Trend as of the last packet.
    pub fn trend(&self) -> Trend {
        self.trend
    }
}

/// Splits packets into groups. Packets sent within [`GROUP`] form one group. Only groups are compared, because a link
/// may deliver several packets at once.
#[derive(Debug)]
struct Groups {
    current: Option<Group>,
    previous: Option<Group>,
}

#[derive(Debug, Clone, Copy)]
struct Group {
    first_sent: i64,
    last_sent: i64,
    first_arrival: i64,
    last_arrival: i64,
}

/// Differences between two consecutive groups, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Step {
    sent: f64,
    arrival: f64,
    /// Arrival of the later group by the receiver's clock.
    at: f64,
}

impl Groups {
    fn on_packet(&mut self, sent: i64, arrival: i64) -> Option<Step> {
        let begun =
            Group { first_sent: sent, last_sent: sent, first_arrival: arrival, last_arrival: arrival };
        let Some(current) = &mut self.current else {
            self.current = Some(begun);
            return None;
        };
        if sent < current.first_sent {
            return None; // reordered
        }
        if current.takes(sent, arrival) {
            current.last_sent = current.last_sent.max(sent);
            current.last_arrival = current.last_arrival.max(arrival);
            return None;
        }
        let finished = *current;
        let before = self.previous.replace(finished);
        self.current = Some(begun);
        let before = before?;
        Some(Step {
            sent: millis(finished.last_sent.saturating_sub(before.last_sent)),
            arrival: millis(finished.last_arrival.saturating_sub(before.last_arrival)),
            at: millis(finished.last_arrival),
        })
    }
}

impl Group {
    fn takes(&self, sent: i64, arrival: i64) -> bool {
        if sent.saturating_sub(self.first_sent) <= GROUP {
            return true;
        }
        // The packet arrived right after the group, with a shorter gap than it was sent: the link held both back and
        // released them together.
        let gap = arrival.saturating_sub(self.last_arrival);
        gap <= GROUP
            && gap < sent.saturating_sub(self.last_sent)
            && arrival.saturating_sub(self.first_arrival) < LONGEST
    }
}

/// A line through the smoothed delay of the last groups (section 5.2 in its later form, least squares).
#[derive(Debug)]
struct Trendline {
    points: [(f64, f64); POINTS],
    count: usize,
    origin: f64,
    delay: f64,
    smoothed: f64,
}

impl Trendline {
    fn new() -> Self {
        Self { points: [(0.0, 0.0); POINTS], count: 0, origin: 0.0, delay: 0.0, smoothed: 0.0 }
    }

    /// The slope, scaled by the number of samples behind it. `None` until there are enough points.
    fn push(&mut self, step: &Step) -> Option<f64> {
        if self.count == 0 {
            self.origin = step.at;
        }
        self.delay += step.arrival - step.sent;
        self.smoothed += (self.delay - self.smoothed) * (1.0 - SMOOTHING);
        if let Some(point) = self.points.get_mut(self.count % POINTS) {
            *point = (step.at - self.origin, self.smoothed);
        }
        self.count += 1;
        if self.count < POINTS {
            return None;
        }
        Some(self.slope()? * (self.count.min(FULL_WEIGHT) as f64) * GAIN)
    }

    fn slope(&self) -> Option<f64> {
        let count = POINTS as f64;
        let (x, y) = self.points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        let (x, y) = (x / count, y / count);
        let (above, below) = self.points.iter().fold((0.0, 0.0), |(above, below), point| {
            (above + (point.0 - x) * (point.1 - y), below + (point.0 - x) * (point.0 - x))
        });
        (below > f64::EPSILON).then(|| above / below)
    }
}

/// Compares the scaled slope with a threshold that follows it slowly, faster down than up, so that neither jitter nor
/// another flow that fills the queue looks like our own congestion forever (section 5.4).
#[derive(Debug)]
struct Threshold {
    value: f64,
    updated: Option<f64>,
    /// How long the slope has been above the threshold, in milliseconds, and over how many groups.
    above: Option<(f64, u32)>,
    last_slope: f64,
    trend: Trend,
}

impl Threshold {
    fn new() -> Self {
        Self { value: 12.5, updated: None, above: None, last_slope: 0.0, trend: Trend::Steady }
    }

    fn compare(&mut self, slope: f64, step: &Step) -> Trend {
        if slope > self.value {
            let (time, groups) =
                self.above.map_or((step.sent / 2.0, 0), |(time, groups)| (time + step.sent, groups));
            self.above = Some((time, groups + 1));
            if time > SUSTAINED && groups >= 1 && slope >= self.last_slope {
                self.trend = Trend::Rising;
            }
        } else {
            self.above = None;
            self.trend = if slope < -self.value { Trend::Falling } else { Trend::Steady };
        }
        self.last_slope = slope;
        self.adapt(slope, step.at);
        self.trend
    }

    fn adapt(&mut self, slope: f64, at: f64) {
        let elapsed = (at - self.updated.unwrap_or(at)).clamp(0.0, 100.0);
        self.updated = Some(at);
        let distance = slope.abs() - self.value;
        if distance > SPIKE {
            return; // a sudden change of the link is no reason to be less sensitive
        }
        let gain = if distance < 0.0 { 0.039 } else { 0.0087 };
        self.value = (self.value + gain * distance * elapsed).clamp(6.0, 600.0);
    }
}

fn millis(micros: i64) -> f64 {
    micros as f64 / 1000.0
}

/// Microseconds of sending within which packets form one group.
const GROUP: i64 = 5_000;
/// Maximum microseconds from the first to the last arrival of a group that the link released together.
const LONGEST: i64 = 100_000;
/// Pause in milliseconds after which the detector starts again.
const GAP: f64 = 3_000.0;
/// Number of groups in the trendline.
const POINTS: usize = 20;
/// Weight of the previous value in the smoothed delay.
const SMOOTHING: f64 = 0.9;
/// Number of samples from which the slope is scaled no further.
const FULL_WEIGHT: usize = 60;
/// Constant factor of the scaled slope.
const GAIN: f64 = 4.0;
/// Milliseconds for which the slope must stay above the threshold before the queue counts as growing.
const SUSTAINED: f64 = 10.0;
/// Distance between slope and threshold above which the threshold does not adapt.
const SPIKE: f64 = 15.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a packet every 10 ms. Each packet's delay exceeds the previous one's by `more` microseconds.
    fn feed(detector: &mut DelayDetector, from: i64, count: i64, late: &mut i64, more: i64) {
        for n in from..from + count {
            *late += more;
            detector.on_packet(n * 10_000, n * 10_000 + *late);
        }
    }

    #[test]
    fn a_queue_that_grows_rises_and_one_that_drains_falls() {
        let (mut detector, mut late) = (DelayDetector::new(), 0);
        feed(&mut detector, 0, 100, &mut late, 0);
        assert_eq!(detector.trend(), Trend::Steady);
        feed(&mut detector, 100, 40, &mut late, 2000);
        assert_eq!(detector.trend(), Trend::Rising);
        feed(&mut detector, 140, 40, &mut late, -1500);
        assert_eq!(detector.trend(), Trend::Falling);
    }

    #[test]
    fn a_pause_forgets_what_was_before_it() {
        let (mut detector, mut late) = (DelayDetector::new(), 0);
        feed(&mut detector, 0, 100, &mut late, 2000);
        feed(&mut detector, 1000, 3, &mut late, 0);
        assert_eq!(detector.trend(), Trend::Steady);
    }
}
