//! Whether the queue of the narrowest link grows: packets in groups, the slope of their delay, and a threshold that
//! adapts to the path (draft-ietf-rmcat-gcc-02 section 5).

/// What the delay says of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Trend {
    /// It shrinks.
    Falling,
    /// Neither.
    #[default]
    Steady,
    /// It grows: more is sent than the link carries.
    Rising,
}

/// The detector.
#[derive(Debug)]
pub(super) struct DelayDetector {
    groups: Groups,
    line: Trendline,
    threshold: Threshold,
    trend: Trend,
}

impl DelayDetector {
    /// Nothing known.
    pub fn new() -> Self {
        Self {
            groups: Groups { current: None, previous: None },
            line: Trendline::new(),
            threshold: Threshold::new(),
            trend: Trend::Steady,
        }
    }

    /// A packet sent at `sent` by our clock arrived at `arrival` by the other; microseconds.
    pub fn on_packet(&mut self, sent: i64, arrival: i64) {
        let Some(step) = self.groups.on_packet(sent, arrival) else { return };
        if step.sent.abs() > GAP || step.arrival.abs() > GAP {
            *self = Self::new();
            return;
        }
        let Some(slope) = self.line.push(&step) else { return };
        self.trend = self.threshold.compare(slope, &step);
    }

    /// As of the last packet.
    pub fn trend(&self) -> Trend {
        self.trend
    }
}

/// Packets sent within [`GROUP`] are one burst; only bursts are compared, because a link may pass several packets
/// on at once.
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

/// Between two groups, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Step {
    sent: f64,
    arrival: f64,
    /// When the later group arrived, since some zero.
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
        // Arrived right behind, and sooner than sent: the link held them together.
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

    /// The slope, weighed by how much it rests on. None until there are enough points.
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

/// Compares the weighed slope with a threshold that follows it slowly, faster down than up, so that neither
/// jitter nor another flow that fills the queue looks like our own doing forever (section 5.4).
#[derive(Debug)]
struct Threshold {
    value: f64,
    updated: Option<f64>,
    /// How long the slope has been above, in milliseconds, and over how many groups.
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

/// In microseconds.
const GROUP: i64 = 5_000;
const LONGEST: i64 = 100_000;
/// A pause after which old points say nothing, in milliseconds.
const GAP: f64 = 3_000.0;
const POINTS: usize = 20;
const SMOOTHING: f64 = 0.9;
const FULL_WEIGHT: usize = 60;
const GAIN: f64 = 4.0;
/// In milliseconds.
const SUSTAINED: f64 = 10.0;
const SPIKE: f64 = 15.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets every 10 ms, each `more` microseconds later than the one before it was.
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
