//! Queueing delay at the bottleneck link: one-way delay above the lowest recent one-way delay.

/// Queueing delay from packets' send and arrival times, in microseconds. The sender's and receiver's clocks need not
/// agree: only differences between one-way delays are used.
#[derive(Debug)]
pub(super) struct QueueDelay {
    /// Lowest one-way delay of each of the last spans of [`BASE_SPAN`], newest first.
    base: [i64; BASE_SPANS],
    base_until: i64,
    /// Lowest one-way delay of the current and of the previous span of [`SHORT_SPAN`].
    short: [i64; 2],
    short_until: i64,
    /// Smoothed excess of single packets' delay over the lowest of the short spans, in microseconds.
    jitter: f64,
    /// Arrivals since every packet waits in the queue; `None` if the last packet did not wait.
    waiting: Option<Waiting>,
}

/// Arrivals while a queue stands. Times in microseconds of the receiver's clock.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    since: i64,
    last: i64,
    /// Bytes without those of the first packet.
    bytes: u64,
    packets: u32,
}

impl QueueDelay {
    /// No packet seen.
    pub fn new() -> Self {
        Self {
            base: [NONE; BASE_SPANS],
            base_until: i64::MIN,
            short: [NONE; 2],
            short_until: i64::MIN,
            jitter: 0.0,
            waiting: None,
        }
    }

    /// Records a packet sent at `sent` by our clock that arrived at `arrival` by the receiver's clock, in microseconds.
    pub fn on_packet(&mut self, sent: i64, arrival: i64, bytes: u16) {
        let delay = arrival.saturating_sub(sent);
        if self.lowest() != NONE && delay.saturating_sub(self.lowest()).saturating_abs() > JUMP {
            *self = Self::new(); // the receiver's clock was set, or it is another receiver
        }
        if sent >= self.base_until {
            // Spans without packets end too, because the clocks drift apart during a pause.
            let ended = sent.saturating_sub(self.base_until) / BASE_SPAN + 1;
            let ended = usize::try_from(ended).unwrap_or(BASE_SPANS).min(BASE_SPANS);
            self.base.rotate_right(ended % BASE_SPANS);
            self.base.iter_mut().take(ended).for_each(|oldest| *oldest = NONE);
            self.base_until = sent.saturating_add(BASE_SPAN);
        }
        if let Some(newest) = self.base.first_mut() {
            *newest = delay.min(*newest);
        }
        if sent >= self.short_until {
            self.short = [NONE, self.short[0]];
            self.short_until = sent.saturating_add(SHORT_SPAN);
        }
        self.short[0] = self.short[0].min(delay);
        let above = delay.saturating_sub(self.short[0].min(self.short[1])) as f64;
        // A queue that grows within a span looks like jitter, so the value rises slowly and falls faster.
        let gain = if above > self.jitter { JITTER_GAIN } else { 3.0 * JITTER_GAIN };
        self.jitter += (above - self.jitter) * gain;
        let least = self.lowest().saturating_add(WAITS).saturating_add((self.jitter * STRAYS) as i64);
        self.waiting = (delay > least).then(|| match self.waiting {
            Some(before) => Waiting {
                last: arrival.max(before.last),
                bytes: before.bytes.saturating_add(u64::from(bytes)),
                packets: before.packets.saturating_add(1),
                ..before
            },
            None => Waiting { since: arrival, last: arrival, bytes: 0, packets: 0 },
        });
    }

    /// Rate that the link has delivered since every packet waits, in bits per second; `None` if that is too short to
    /// measure. Packets before that may have passed through a token bucket, and are not counted.
    pub fn delivered(&self) -> Option<f64> {
        let waiting = self.waiting.filter(|waiting| waiting.packets >= FEWEST)?;
        let micros = waiting.last.saturating_sub(waiting.since);
        (micros >= SHORTEST).then(|| waiting.bytes as f64 * 8e6 / micros as f64)
    }

    /// Delay of the standing queue, in milliseconds. Single late packets do not raise it.
    pub fn millis(&self) -> f64 {
        let (short, base) = (self.short[0].min(self.short[1]), self.lowest());
        if base == NONE || short == NONE { 0.0 } else { short.saturating_sub(base) as f64 / 1000.0 }
    }

    /// Delay of the standing queue less the jitter, in milliseconds, for deciding whether there is no queue at all. The
    /// lowest delay of few packets exceeds the lowest of many by about the jitter.
    pub fn sure_millis(&self) -> f64 {
        (self.millis() - self.jitter_millis().min(MOST_ALLOWED)).max(0.0)
    }

    /// Jitter in milliseconds.
    pub fn jitter_millis(&self) -> f64 {
        self.jitter / 1000.0
    }

    fn lowest(&self) -> i64 {
        self.base.iter().copied().min().unwrap_or(NONE)
    }
}

const NONE: i64 = i64::MAX;
/// Microseconds of a span of the base delay. All spans together are long enough for the queue to have been empty once,
/// and short enough for 100 ppm of clock drift to stay at 3 ms.
const BASE_SPAN: i64 = 5_000_000;
const BASE_SPANS: usize = 6;
/// Microseconds of a short span: long enough for several packets of video and of audio.
const SHORT_SPAN: i64 = 50_000;
/// Change of the one-way delay, in microseconds, that no queue explains.
const JUMP: i64 = 10_000_000;
/// Microseconds above the lowest delay, in addition to [`STRAYS`] times the jitter, beyond which a packet has waited.
const WAITS: i64 = 6_000;
/// Multiple of the jitter that is allowed before a packet counts as having waited.
const STRAYS: f64 = 2.0;
/// Minimum number of packets to measure the delivered rate.
const FEWEST: u32 = 5;
/// Minimum number of microseconds to measure the delivered rate.
const SHORTEST: i64 = 60_000;
const JITTER_GAIN: f64 = 1.0 / 128.0;
/// Maximum jitter that is subtracted from the queueing delay, in milliseconds.
const MOST_ALLOWED: f64 = 15.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_queue_shows_and_single_late_packets_do_not() {
        let mut queue = QueueDelay::new();
        for n in 0..200 {
            let late = if n % 5 == 0 { 40_000 } else { 0 };
            queue.on_packet(n * 5000, n * 5000 - 77_000_000 + late, 1000);
        }
        assert!(queue.millis() < 0.1 && queue.jitter_millis() > 1.0);
        for n in 200..250 {
            queue.on_packet(n * 5000, n * 5000 - 77_000_000 + 30_000, 1000);
        }
        assert!((queue.millis() - 30.0).abs() < 0.1, "{}", queue.millis());
    }

    #[test]
    fn a_clock_that_drifts_through_a_pause_makes_no_queue() {
        let mut queue = QueueDelay::new();
        (0..8000).for_each(|n| queue.on_packet(n * 5000, n * 5000, 1000));
        // Twenty minutes later, with a drift of 40 ppm.
        let (pause, drift) = (1_200_000_000, 48_000);
        (8000..8100).for_each(|n| queue.on_packet(n * 5000 + pause, n * 5000 + pause + drift, 1000));
        assert!(queue.millis() < 0.1, "{}", queue.millis());
        // The base delay covers half a minute of sending, including a short pause.
        let pause = pause + 10_000_000;
        (8100..8200).for_each(|n| queue.on_packet(n * 5000 + pause, n * 5000 + pause + drift + 30_000, 1000));
        assert!((queue.millis() - 30.0).abs() < 0.1, "{}", queue.millis());
    }

    #[test]
    fn a_longer_path_is_taken_for_a_queue_only_for_a_while() {
        let mut queue = QueueDelay::new();
        queue.on_packet(0, 0, 1000);
        for n in 1..8000 {
            queue.on_packet(n * 5000, n * 5000 + 50_000, 1000);
        }
        assert!(queue.millis() < 0.1);
    }
}
