//! What a subscriber asked for too early.

/// Numbers that a subscriber asked for before they were sent: lost on the way here, and still being repaired.
///
/// It has spent requests on each, of which it has few (str0m five, libwebrtc ten), so when the packet comes it is
/// sent twice.
#[derive(Debug, Default)]
pub struct AskedInVain {
    numbers: Vec<u16>,
}

/// Numbers remembered; the oldest go first.
const ASKED_IN_VAIN: usize = 64;

impl AskedInVain {
    /// That number was asked for and is not here.
    pub fn insert(&mut self, wire: u16) {
        if self.numbers.contains(&wire) {
            return;
        }
        if self.numbers.len() >= ASKED_IN_VAIN {
            self.numbers.remove(0);
        }
        self.numbers.push(wire);
    }

    /// Whether that number was asked for; it is forgotten.
    pub fn take(&mut self, wire: u16) -> bool {
        if self.numbers.is_empty() {
            return false;
        }
        let before = self.numbers.len();
        self.numbers.retain(|number| *number != wire);
        self.numbers.len() < before
    }
}
