//! Which of a track's encodings are alive. A browser stops and starts them with its bandwidth; a subscriber is
//! only sent to one that flows.

use std::time::{Duration, Instant};

/// A video encoding that has been silent for that long counts as stopped. Longer than the gap between frames
/// of a still screen share at five frames a second, shorter than people put up with a frozen picture.
const SILENCE: Duration = Duration::from_millis(1500);

/// Liveness of one encoding.
#[derive(Debug, Clone, Copy, Default)]
pub struct Liveness {
    last: Option<Instant>,
    active: bool,
}

impl Liveness {
    /// A packet arrived. True if the encoding has come alive by it.
    pub fn on_packet(&mut self, now: Instant) -> bool {
        self.last = Some(now);
        !std::mem::replace(&mut self.active, true)
    }

    /// True if the encoding has fallen silent since the last call.
    pub fn poll(&mut self, now: Instant) -> bool {
        let silent = self.last.is_none_or(|last| now.saturating_duration_since(last) >= SILENCE);
        if self.active && silent {
            self.active = false;
            return true;
        }
        false
    }

    /// When to poll next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.last.filter(|_| self.active).map(|last| last + SILENCE)
    }

    /// When the last packet of it arrived.
    pub fn last(&self) -> Option<Instant> {
        self.last
    }

    /// Whether it flows.
    pub fn is_active(&self) -> bool {
        self.active
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_is_alive_from_its_first_packet_until_it_has_been_silent() {
        let start = crate::units::test_epoch();
        let mut liveness = Liveness::default();
        assert!(liveness.on_packet(start), "came alive");
        assert!(!liveness.on_packet(start + Duration::from_secs(1)), "was alive");
        assert!(!liveness.poll(start + Duration::from_secs(2)));
        assert!(liveness.poll(start + Duration::from_millis(2500)), "fell silent");
        assert!(!liveness.is_active());
        assert!(liveness.on_packet(start + Duration::from_secs(9)), "came back");
    }
}
