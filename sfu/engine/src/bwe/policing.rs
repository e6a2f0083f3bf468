//! Detection of a policer: a link that drops at once what exceeds a rate, and queues nothing. There is no queue to
//! observe, and its losses look random. They differ from random loss only in that they depend on what was sent before.
//!
//! A policer earns credit at its rate and drops a packet for which there is not enough credit. The credit at each
//! moment can be calculated from the bytes that passed before. With a policer, the lost packets are those that met
//! little credit. Random losses do not depend on the credit.

/// Detects a policer from the losses of one path.
#[derive(Debug, Default)]
pub(super) struct Policing {
    window: Window,
    /// Finding of the previous window. A finding counts only if two consecutive windows agree.
    suspected: Option<Finding>,
}

/// Cause of the losses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Finding {
    /// A policer drops what exceeds this rate, in bits per second.
    Policer(f64),
    /// Losses do not depend on what was sent before: they are random.
    Chance,
}

/// Packets between two lost ones. If there is a policer, it had no credit at either of those.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    /// Send time of the first lost packet, in microseconds; `None` before one.
    began: Option<i64>,
    /// Whether the last packet was lost. Consecutive losses met the same credit, and count once.
    losing: bool,
    /// Bytes sent since then that arrived.
    passed_bytes: f64,
    /// Credit that received packets met.
    passed: Credit,
    /// Credit that lost packets met.
    dropped: Credit,
}

/// Sums over packets of each packet's send time, in seconds, and of the bytes that had passed by then, including its
/// own. The credit that a packet met is the credit earned by that time less those bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Credit {
    count: f64,
    time: f64,
    bytes: f64,
    time_squared: f64,
    bytes_squared: f64,
    time_bytes: f64,
}

impl Policing {
    /// Records whether a packet sent at `sent` microseconds was received. Packets must come in the order of sending.
    /// Returns the cause of the losses once two consecutive windows agree on it.
    pub fn on_packet(&mut self, sent: i64, bytes: f64, received: bool) -> Option<Finding> {
        let window = &mut self.window;
        let Some(began) = window.began else {
            window.began = (!received).then_some(sent);
            return None;
        };
        let seconds = sent.saturating_sub(began) as f64 / 1e6;
        let enough = window.dropped.count >= FEWEST_DROPPED && window.passed.count >= FEWEST_PASSED;
        let whole = !received && enough && seconds >= SHORTEST;
        if whole || seconds >= LONGEST {
            let finding = if whole { window.finding(seconds) } else { None };
            *window = Window { began: (!received).then_some(sent), ..Window::default() };
            let before = std::mem::replace(&mut self.suspected, finding);
            return finding.filter(|finding| before.is_some_and(|before| before.is_like(*finding)));
        }
        let again = std::mem::replace(&mut window.losing, !received);
        if !again {
            let credit = if received { &mut window.passed } else { &mut window.dropped };
            credit.add(seconds, window.passed_bytes + bytes);
        }
        if received {
            window.passed_bytes += bytes;
        }
        None
    }

    /// Discards the current window: feedback about some packets is missing, or packets wait in a queue, so the credit
    /// is unknown.
    pub fn forget_window(&mut self) {
        self.window = Window::default();
    }
}

impl Finding {
    fn is_like(self, other: Self) -> bool {
        match (self, other) {
            (Self::Policer(rate), Self::Policer(other)) => (rate / other - 1.0).abs() < ALIKE,
            (Self::Chance, Self::Chance) => true,
            _ => false,
        }
    }
}

impl Window {
    /// The cause of the losses, if it is clear. `seconds`: the duration of the window.
    fn finding(&self, seconds: f64) -> Option<Finding> {
        let rate = self.passed_bytes / seconds;
        let (passed, passed_error) = self.passed.mean(rate)?;
        let (dropped, dropped_error) = self.dropped.mean(rate)?;
        let (less, error) = (passed - dropped, (passed_error + dropped_error).sqrt());
        if less > SURE * error {
            return Some(Finding::Policer(rate * 8.0));
        }
        (less < UNSURE * error).then_some(Finding::Chance)
    }
}

impl Credit {
    fn add(&mut self, seconds: f64, bytes: f64) {
        self.count += 1.0;
        self.time += seconds;
        self.bytes += bytes;
        self.time_squared += seconds * seconds;
        self.bytes_squared += bytes * bytes;
        self.time_bytes += seconds * bytes;
    }

    /// Mean of the credit, in bytes, for a policer of `rate` bytes per second, and the square of its standard error.
    /// `None` with fewer than two packets.
    fn mean(&self, rate: f64) -> Option<(f64, f64)> {
        if self.count < 2.0 {
            return None;
        }
        let sum = rate * self.time - self.bytes;
        let squares = rate * rate * self.time_squared + self.bytes_squared - 2.0 * rate * self.time_bytes;
        let mean = sum / self.count;
        let variance = (squares / self.count - mean * mean).max(0.0);
        Some((mean, variance / (self.count - 1.0)))
    }
}

/// Minimum number of losses in a window, consecutive ones counted once.
const FEWEST_DROPPED: f64 = 9.0;
/// Minimum number of received packets in a window, those directly after a loss not counted.
const FEWEST_PASSED: f64 = 10.0;
/// Minimum duration of a window, in seconds.
const SHORTEST: f64 = 0.3;
/// Maximum duration of a window, in seconds.
const LONGEST: f64 = 4.0;
/// Standard errors by which lost packets must have met less credit than received ones to show a policer.
const SURE: f64 = 5.0;
/// Standard errors below which the difference in credit shows random loss.
const UNSURE: f64 = 2.5;
/// Share by which the policer rates of two consecutive windows may differ.
const ALIKE: f64 = 0.2;

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// Sends 30 video frames a second for `seconds`. `lost` decides about each packet, given its send time in seconds
    /// and its size in bytes. Returns all findings.
    fn found(
        kbps: f64,
        seconds: f64,
        seed: u64,
        mut lost: impl FnMut(&mut SmallRng, f64, f64) -> bool,
    ) -> Vec<Finding> {
        let (mut policing, mut random) = (Policing::default(), SmallRng::seed_from_u64(seed));
        let mut found = Vec::new();
        for picture in 0..(seconds * 30.0) as u64 {
            let bytes = kbps * 1000.0 / 240.0 * random.random_range(0.7..1.3);
            let packets = (bytes / 1100.0).ceil().max(1.0);
            for n in 0..packets as u64 {
                let size = bytes / packets + 40.0;
                let now = picture as f64 / 30.0 + n as f64 * size * 8.0 / (kbps * 2000.0);
                let received = !lost(&mut random, now, size);
                found.extend(policing.on_packet((now * 1e6) as i64, size, received));
            }
        }
        found
    }

    #[test]
    fn a_policer_is_found_and_its_rate() {
        for (rate, bucket) in [(300e3, 5e3), (400e3, 15e3), (400e3, 100e3), (2e6, 15e3), (5e6, 40e3)] {
            for over in [1.2, 1.5, 2.0] {
                let (mut tokens, mut last): (f64, f64) = (bucket, 0.0);
                let rates = found(
                    rate / 1000.0 * over,
                    15.0 + bucket * 16.0 / rate / (over - 1.0),
                    1,
                    |_, now, size| {
                        tokens = f64::min(tokens + (now - last) * rate / 8.0, bucket);
                        last = now;
                        let dropped = tokens < size;
                        tokens -= if dropped { 0.0 } else { size };
                        dropped
                    },
                );
                assert!(!rates.is_empty(), "{rate} {bucket} {over}");
                let is_rate = |found: &Finding| matches!(found, Finding::Policer(found) if (found / rate - 1.0).abs() < 0.15);
                assert!(rates.iter().all(is_rate), "{rate} {bucket} {over}: {rates:?}");
            }
        }
    }

    #[test]
    fn loss_by_chance_is_no_policer() {
        let (mut wrong, mut right) = (0, 0);
        let mut count = |found: Vec<Finding>| {
            right += found.iter().filter(|found| **found == Finding::Chance).count();
            wrong += found.iter().filter(|found| **found != Finding::Chance).count();
        };
        for share in [0.05, 0.1, 0.2, 0.4] {
            for (seed, kbps) in (0..).zip([200.0, 300.0, 500.0, 800.0, 2000.0]) {
                let hour = 3600.0;
                count(found(kbps, hour, 2 * seed, |random, _, _| random.random_bool(share)));
                let mut losing = false;
                let in_rows = found(kbps, hour, 2 * seed + 1, |random, _, _| {
                    losing = random.random_bool(if losing { 0.7 } else { share * 0.3 / (1.0 - share) });
                    losing
                });
                count(in_rows);
            }
        }
        assert!(wrong <= 1 && right > 40 * 360, "{wrong} times in forty hours, {right} times it is told");
    }
}
