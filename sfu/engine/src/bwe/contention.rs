//! Detects whether loss-based flows keep the queue filled. Giving way to them would end at a rate near zero, so the
//! queueing delay must not count then.

/// Observes whether the queue empties after the rate was lowered.
#[derive(Debug)]
pub(super) struct Contention {
    /// Smoothed share of time in which the queue is empty, 0 to 1.
    empty: f64,
    updated: f64,
    episode: Option<Episode>,
    active: bool,
}

/// Repeated decreases since the queue was last mostly empty: time in seconds and rate at its start.
#[derive(Debug, Clone, Copy)]
struct Episode {
    began: f64,
    rate: f64,
    decreases: u32,
}

impl Contention {
    /// No contention.
    pub fn new() -> Self {
        Self { empty: 1.0, updated: 0.0, episode: None, active: false }
    }

    /// Whether loss-based flows keep the queue filled.
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Records the queueing delay of `millis` at `now` seconds. `gave_way`: the rate before the last change, if it has
    /// just fallen although the link delivered all that was sent; `rate`: the current rate.
    ///
    /// Returns the rate to return to once giving way has turned out to be in vain.
    pub fn update(&mut self, now: f64, millis: f64, gave_way: Option<f64>, rate: f64) -> Option<f64> {
        let elapsed = (now - self.updated).clamp(0.0, 1.0);
        self.updated = now;
        let sample = if millis < EMPTY { 1.0 } else { 0.0 };
        self.empty += (sample - self.empty) * (elapsed / TIME).min(1.0);
        if self.empty > MOSTLY_EMPTY {
            self.active = false;
            self.episode = None;
        }
        let from = gave_way?;
        let episode = self.episode.get_or_insert(Episode { began: now, rate: from, decreases: 0 });
        episode.decreases += 1;
        let in_vain = episode.decreases >= IN_VAIN
            && now - episode.began > PATIENCE
            && rate < episode.rate * GIVEN_WAY
            && self.empty < SELDOM_EMPTY;
        if !in_vain || self.active {
            return None;
        }
        self.active = true;
        Some((episode.rate * GIVEN_BACK).min(rate * 1.5))
    }
}

/// Milliseconds below which the queue counts as empty.
const EMPTY: f64 = 15.0;
/// Time constant of the smoothing, in seconds.
const TIME: f64 = 2.0;
/// Share of time with an empty queue above which contention ends.
const MOSTLY_EMPTY: f64 = 0.6;
/// Share of time with an empty queue below which contention can begin.
const SELDOM_EMPTY: f64 = 0.4;
/// Number of decreases before giving way counts as in vain.
const IN_VAIN: u32 = 3;
/// Seconds of giving way before it counts as in vain.
const PATIENCE: f64 = 2.5;
/// Share of the initial rate below which the rate must have fallen before giving way counts as in vain.
const GIVEN_WAY: f64 = 0.6;
/// Share of the initial rate that is restored, limited to 1.5 times the current rate.
const GIVEN_BACK: f64 = 0.6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn giving_way_three_times_to_a_queue_that_stays_is_in_vain_until_it_empties() {
        let mut contention = Contention::new();
        let (mut now, mut rate) = (0.0, 1e6);
        for n in 0..60 {
            now += 0.1;
            let from = (n % 10 == 9).then_some(rate);
            rate = if from.is_some() { rate * 0.8 } else { rate };
            contention.update(now, 100.0, from, rate);
        }
        assert!(contention.is_active());
        for _ in 0..30 {
            now += 0.1;
            contention.update(now, 1.0, None, rate);
        }
        assert!(!contention.is_active());
    }

    #[test]
    fn a_queue_that_empties_between_is_no_contention() {
        let mut contention = Contention::new();
        let (mut now, mut rate) = (0.0, 1e6);
        for n in 0..100 {
            now += 0.1;
            let from = (n % 10 == 9).then_some(rate);
            rate = if from.is_some() { rate * 0.8 } else { rate };
            contention.update(now, if n % 10 > 7 { 50.0 } else { 2.0 }, from, rate);
        }
        assert!(!contention.is_active());
    }
}
