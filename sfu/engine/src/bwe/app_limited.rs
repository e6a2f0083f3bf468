//! Detects whether much less is sent than is allowed. The arrival rate says nothing about the capacity then.

/// Compares the sent rate with the estimate.
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

    /// Result of the last [`update`](Self::update), or true after [`on_choice`](Self::on_choice).
    pub fn is_limited(&self) -> bool {
        self.limited
    }

    /// Records that less is sent from now on by choice.
    pub fn on_choice(&mut self) {
        self.limited = true;
    }
}

/// Share of the estimate below which the sender becomes limited.
const ENTER: f64 = 0.6;
/// Share of the estimate from which the sender is no longer limited.
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
