//! Requests for packets that were not sent yet.

/// Sequence numbers that a subscriber requested before they were sent: those packets were lost on the way to us and are
/// still being repaired.
///
/// The subscriber has spent requests on each, of which it has few (str0m five, libwebrtc ten). So the packet is sent
/// twice when it arrives.
#[derive(Debug, Default)]
pub struct AskedInVain {
    numbers: Vec<u16>,
}

/// Maximum number of entries; the oldest is evicted first.
const ASKED_IN_VAIN: usize = 64;

impl AskedInVain {
    /// Records a request for a number that is not available.
    pub fn insert(&mut self, wire: u16) {
        if self.numbers.contains(&wire) {
            return;
        }
        if self.numbers.len() >= ASKED_IN_VAIN {
            self.numbers.remove(0);
        }
        self.numbers.push(wire);
    }

    /// Whether the number was requested; removes it.
    pub fn take(&mut self, wire: u16) -> bool {
        if self.numbers.is_empty() {
            return false;
        }
        let before = self.numbers.len();
        self.numbers.retain(|number| *number != wire);
        self.numbers.len() < before
    }
}
