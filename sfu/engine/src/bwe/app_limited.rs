//! Whether less is sent than would be allowed: then nothing is learnt of the link by what arrives.

/// Compares what is sent with the estimate, over about half a second.
#[derive(Debug)]
pub(super) struct AppLimited {
    sent: f64,
    updated: f64,
    limited: bool,
}

impl AppLimited {
    /// Nothing sent.
    pub fn new() -> Self {
        Self { sent: 0.0, updated: 0.0, limited: false }
    }

    /// Reads a little of it; see [`Estimator::touch`](super::Estimator::touch).
    pub fn touch(&self) -> usize {
        self.updated.to_bits() as usize
    }

    /// A packet is sent; `now` in seconds.
    pub fn on_sent(&mut self, now: f64, bytes: usize) {
        self.decay(now);
        self.sent += bytes as f64 * 8.0;
    }

    /// Bits per second that are sent.
    pub fn rate(&self, now: f64) -> f64 {
        self.sent * self.left(now) / TIME
    }

    /// Whether what is sent is far below `estimate`, with hysteresis.
    pub fn update(&mut self, now: f64, estimate: f64) -> bool {
        let share = self.rate(now) / estimate.max(1.0);
        self.limited = if self.limited { share < LEAVE } else { share < ENTER };
        self.limited
    }

    /// What [`update`](Self::update) said last.
    pub fn is_limited(&self) -> bool {
        self.limited
    }

    /// From now on less is sent, by choice.
    pub fn on_choice(&mut self) {
        (self.sent, self.limited) = (0.0, true);
    }

    fn decay(&mut self, now: f64) {
        // What leaves together leaves at one moment: once for all of it.
        if now > self.updated {
            self.sent *= self.left(now);
            self.updated = now;
        }
    }

    /// The share of what was counted that counts now.
    fn left(&self, now: f64) -> f64 {
        (-(now - self.updated).max(0.0) / TIME).exp()
    }
}

/// In seconds.
const TIME: f64 = 0.5;
const ENTER: f64 = 0.6;
const LEAVE: f64 = 0.75;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_rate_is_limited_and_the_whole_is_not() {
        let mut limited = AppLimited::new();
        let mut now = 0.0;
        for _ in 0..400 {
            now += 0.01;
            limited.on_sent(now, 625); // 500 kbit/s
        }
        assert!((limited.rate(now) - 5e5).abs() < 1e4);
        assert!(limited.update(now, 1e6));
        assert!(!limited.update(now, 5e5));
        assert!(!limited.update(now, 7e5));
    }
}
