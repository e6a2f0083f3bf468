//! How much is sent, over about half a second.

/// Bits, each counting less the longer ago it was sent.
#[derive(Debug, Default)]
pub(super) struct SentRate {
    sent: f64,
    updated: f64,
}

impl SentRate {
    /// Reads a little of it; see [`Estimator::touch`](super::Estimator::touch).
    pub fn touch(&self) -> usize {
        self.updated.to_bits() as usize
    }

    /// A packet is sent; `now` in seconds.
    pub fn on_sent(&mut self, now: f64, bytes: usize) {
        // What leaves together leaves at one moment: once for all of it.
        if now > self.updated {
            self.sent *= self.left(now);
            self.updated = now;
        }
        self.sent += bytes as f64 * 8.0;
    }

    /// In bits per second.
    pub fn at(&self, now: f64) -> f64 {
        self.sent * self.left(now) / TIME
    }

    /// Forgets what was sent.
    pub fn clear(&mut self) {
        self.sent = 0.0;
    }

    /// The share of what was counted that counts now.
    fn left(&self, now: f64) -> f64 {
        (-(now - self.updated).max(0.0) / TIME).exp()
    }
}

/// In seconds.
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
