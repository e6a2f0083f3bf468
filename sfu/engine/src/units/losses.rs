//! Counting what was lost of what was sent.

/// Packets that should have arrived in some time, and how many of them did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Losses {
    /// Should have arrived.
    pub expected: u64,
    /// Did not, retransmissions by other sources not counted.
    pub lost: u64,
}

impl Losses {
    /// Adds what happened in some more time, or to another stream. Never more is lost than was expected.
    pub fn add(&mut self, more: Self) {
        self.expected = self.expected.saturating_add(more.expected);
        self.lost = self.lost.saturating_add(more.lost.min(more.expected));
    }

    /// Begins to count anew, and returns what was counted so far.
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}
