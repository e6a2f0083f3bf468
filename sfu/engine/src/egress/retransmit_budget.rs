//! Limits the retransmissions of one subscription.

use super::link::Link;

/// Bytes that a stream starts with and may save up: enough to repair its first video frame.
const BUDGET_BYTES: u64 = 96 * 1024;

/// Bytes that copies leave for first answers to requests.
const FOR_ANSWERS: usize = 48 * 1024;

/// Retransmission budget: a share of the media sent. The first answer to a request may use more of it than
/// precautionary copies may.
#[derive(Debug)]
pub struct RetransmitBudget {
    usual: Savings,
    hard: Savings,
}

/// A share of the media sent that is saved up and spent.
#[derive(Debug)]
struct Savings {
    /// Unit: hundredths of a byte.
    saved: u64,
    percent: u64,
}

impl RetransmitBudget {
    /// A budget of at most `hard_percent` of the stream's media. Copies are sent only while all retransmissions stay
    /// within `percent`; on a link where copies help, while enough is left for first answers.
    pub fn new(percent: u32, hard_percent: u32) -> Self {
        Self { usual: Savings::new(percent), hard: Savings::new(hard_percent) }
    }

    /// Prefetch; see [`Subscription::touch`](super::track::Subscription::touch).
    pub(super) fn touch(&self) -> u64 {
        self.usual.saved ^ self.hard.saved
    }

    /// Records media of this many bytes.
    pub fn on_media(&mut self, bytes: usize) {
        self.usual.add(bytes);
        self.hard.add(bytes);
    }

    /// Whether at least half of the budget is left.
    pub(super) fn is_plentiful(&self, link: Link) -> bool {
        let spare = if link == Link::Lossy { &self.hard } else { &self.usual };
        spare.has(FOR_ANSWERS)
    }

    /// Spends the bytes of an answer to a request; returns false if the budget is too small.
    pub fn take(&mut self, bytes: usize) -> bool {
        let enough = self.hard.has(bytes);
        if enough {
            self.hard.spend(bytes);
            self.usual.spend(bytes);
        }
        enough
    }

    /// Spends the bytes of an additional copy; returns false if the budget is too small.
    pub(super) fn take_spare(&mut self, bytes: usize, link: Link) -> bool {
        let enough = match link {
            Link::Lossy => self.hard.has(bytes.saturating_add(FOR_ANSWERS)),
            Link::Usual => self.usual.has(bytes),
            Link::Full | Link::Policed => false,
        };
        enough && self.take(bytes)
    }
}

impl Savings {
    fn new(percent: u32) -> Self {
        Self { saved: BUDGET_BYTES * 100, percent: u64::from(percent) }
    }

    fn add(&mut self, bytes: usize) {
        self.saved = (self.saved + bytes as u64 * self.percent).min(BUDGET_BYTES * 100);
    }

    fn has(&self, bytes: usize) -> bool {
        self.saved >= bytes as u64 * 100
    }

    fn spend(&mut self, bytes: usize) {
        self.saved = self.saved.saturating_sub(bytes as u64 * 100);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retransmissions_stay_within_their_share() {
        let resent = |take: fn(&mut RetransmitBudget, usize) -> bool| {
            let mut budget = RetransmitBudget::new(15, 50);
            let each = (0..10_000).map(|_| {
                budget.on_media(1000);
                u64::from(take(&mut budget, 1000))
            });
            each.sum::<u64>()
        };
        let saved = BUDGET_BYTES / 1000 + 1;
        let lossy = |budget: &mut RetransmitBudget, bytes| budget.take_spare(bytes, Link::Lossy);
        let kept = resent(RetransmitBudget::take) - resent(lossy);
        assert_eq!(kept, FOR_ANSWERS as u64 / 1000, "copies leave room for answers");
        for (resent, share) in [
            (resent(|budget, bytes| budget.take_spare(bytes, Link::Usual)), 1500),
            (resent(RetransmitBudget::take), 5000),
        ] {
            assert!((share..=share + saved).contains(&resent), "{resent}, not {share}");
        }
    }
}
