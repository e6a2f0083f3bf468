//! Counts of lost packets.

/// Number of packets expected in some period, and number of those that were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Losses {
    /// Packets that should have arrived.
    pub expected: u64,
    /// Packets that did not arrive on the stream's own SSRC. Retransmissions on an RTX SSRC do not reduce the count.
    pub lost: u64,
}

impl Losses {
    /// Adds the counts of another period or stream. At most `expected` of those packets count as lost.
    pub fn add(&mut self, more: Self) {
        self.expected = self.expected.saturating_add(more.expected);
        self.lost = self.lost.saturating_add(more.lost.min(more.expected));
    }

    /// Returns the counts so far, and resets them.
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}
