//! A replay window (RFC 3711 section 3.3.2).

/// Records which of the last 128 sequence numbers, up to the highest, were seen.
#[derive(Debug, Clone)]
pub(super) struct Window {
    highest: u64,
    /// Bit `n` is set if `highest - n` was seen.
    seen: u128,
}

impl Window {
    /// A window in which only `first` has been seen.
    pub(super) fn of(first: u64) -> Self {
        Self { highest: first, seen: 1 }
    }

    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether a number was marked, or is older than the window.
    pub(super) fn seen(&self, number: u64) -> bool {
        match self.highest.checked_sub(number) {
            None => false,
            Some(age) if age < u64::from(u128::BITS) => self.seen & (1 << age) != 0,
            Some(_) => true,
        }
    }

    pub(super) fn mark(&mut self, number: u64) {
        if let Some(ahead) = number.checked_sub(self.highest).filter(|ahead| *ahead > 0) {
            let shift = u32::try_from(ahead).unwrap_or(u32::MAX);
            self.seen = self.seen.checked_shl(shift).unwrap_or(0);
            self.highest = number;
        }
        let age = self.highest - number;
        if age < u64::from(u128::BITS) {
            self.seen |= 1 << age;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_seen_once() {
        let mut window = Window::of(1000);
        assert!(window.seen(1000));
        for number in [1001, 990, 1128, 1300, 1300 - 127] {
            assert!(!window.seen(number), "{number} is new");
            window.mark(number);
            assert!(window.seen(number), "{number} was marked");
        }
        assert!(!window.seen(1299));
        assert!(!window.seen(1301));
    }

    #[test]
    fn what_is_older_than_the_window_counts_as_seen() {
        let mut window = Window::of(5000);
        assert!(!window.seen(5000 - 127));
        assert!(window.seen(5000 - 128));
        assert!(window.seen(0));
        window.mark(u64::MAX);
        assert!(window.seen(5000));
    }
}
