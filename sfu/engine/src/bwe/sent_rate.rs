//! Sent rate over about half a second.

/// Sum of sent bits with exponential decay. Times in seconds.
#[derive(Debug, Default)]
pub(super) struct SentRate {
    sent: f64,
    updated: f64,
}

impl SentRate {
    /// Prefetch; see [`Estimator::touch`](super::Estimator::touch).
    pub fn touch(&self) -> usize {
        self.updated.to_bits() as usize
    }

    /// Records a sent packet; `now` in seconds.
    pub fn on_sent(&mut self, now: f64, bytes: usize) {
        // Packets that leave together have the same time: decay only once for all of them.
        if now > self.updated {
            self.sent *= self.left(now);
            self.updated = now;
        }
        self.sent += bytes as f64 * 8.0;
    }

    /// Sent rate in bits per second.
    pub fn at(&self, now: f64) -> f64 {
        self.sent * self.left(now) / TIME
    }

    /// Resets the rate to zero.
    pub fn clear(&mut self) {
        self.sent = 0.0;
    }

    /// Share of the sum at the last update that counts at `now`.
    fn left(&self, now: f64) -> f64 {
        (-(now - self.updated).max(0.0) / TIME).exp()
    }
}

/// Time constant of the decay, in seconds.
const TIME: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream_reads_as_its_rate_and_fades_when_it_ends() {
        let (mut rate, mut now) = (SentRate::default(), 0.0);
        for _ in 0..400 {
            now += 0.01;
            rate.on_sent(now, 625); // 500 kbit/s
        }
        assert!((rate.at(now) - 5e5).abs() < 1e4);
        assert!(rate.at(now + 2.0) < 1e4);
    }
}
