//! Whether less is sent than would be allowed: then nothing is learnt of the link by what arrives.

/// Compares what is sent with the estimate.
#[derive(Debug, Default)]
pub(super) struct AppLimited {
    limited: bool,
}

impl AppLimited {
    /// Whether `sent` is far below `estimate`, with hysteresis. In bits per second.
    pub fn update(&mut self, sent: f64, estimate: f64) -> bool {
        let share = sent / estimate.max(1.0);
        self.limited = if self.limited { share < LEAVE } else { share < ENTER };
        self.limited
    }

    /// What [`update`](Self::update) said last.
    pub fn is_limited(&self) -> bool {
        self.limited
    }

    /// From now on less is sent, by choice.
    pub fn on_choice(&mut self) {
        self.limited = true;
    }
}

const ENTER: f64 = 0.6;
const LEAVE: f64 = 0.75;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_rate_is_limited_and_the_whole_is_not() {
        let mut limited = AppLimited::default();
        assert!(limited.update(5e5, 1e6));
        assert!(!limited.update(5e5, 5e5));
        assert!(!limited.update(5e5, 7e5));
    }
}
