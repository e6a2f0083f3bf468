//! Policing: a link that drops at once what exceeds a rate, and lets nothing wait. There is no queue to see, and its losses
//! look like chance: only that they follow what was sent before tells them apart.
//!
//! A policer earns credit at its rate and drops a packet for which there is not enough. The credit of each moment can be
//! worked out from what passed before, so the packets that were lost must be those that met little of it. Chance knows
//! nothing of credit.

/// Looks for a policer in the losses of one path.
#[derive(Debug, Default)]
pub(super) struct Policing {
    window: Window,
    /// What the window before this one spoke for.
    suspected: Option<Finding>,
}

/// What losses come of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Finding {
    /// Something drops what exceeds this rate, in bits per second.
    Policer(f64),
    /// Which packets are lost has nothing to do with what was sent before.
    Chance,
}

/// Packets between two lost ones, at which there was no credit.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    /// When the first of the two left, in microseconds.
    began: Option<i64>,
    /// The last packet was lost. What is lost in a row met the same credit, and counts once.
    losing: bool,
    /// Bytes that arrived since.
    passed_bytes: f64,
    passed: Credit,
    dropped: Credit,
}

/// Sums over packets: when each left, in seconds, and how many bytes had passed by then, its own included. The credit
/// that it met is the difference between what had been earned by that time and those bytes.
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
    /// What became of a packet that left at `sent` microseconds. In the order of sending. What losses come of, if that is known
    /// with this packet.
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

    /// Packets are missing of which nothing was told, or wait in a queue: what is known says nothing any more.
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
    /// What it speaks for, if that is clear. `seconds`: how long it is.
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

    /// The mean of the credit at `rate` bytes per second, and the square of its standard error.
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

/// Packets in a window: fewer are no statistic.
const FEWEST_DROPPED: f64 = 9.0;
const FEWEST_PASSED: f64 = 10.0;
/// Of a window, in seconds.
const SHORTEST: f64 = 0.3;
const LONGEST: f64 = 4.0;
/// So many standard errors less credit than those that passed: a policer.
const SURE: f64 = 5.0;
/// Not even so many: chance.
const UNSURE: f64 = 2.5;
/// Two windows in a row must speak for the same rate, but for this share.
const ALIKE: f64 = 0.2;

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// Sends pictures 30 times a second for so many seconds, `lost` says what becomes of each packet; the rates that were
    /// found.
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
