//! Which encodings of a track are active. A browser stops and starts encodings with its bandwidth; subscribers are
//! switched only to an active one.

use std::time::{Duration, Instant};

/// An encoding without packets for this long counts as stopped. Longer than the gap between frames of a static screen
/// share at five frames a second, shorter than people tolerate a frozen picture.
const SILENCE: Duration = Duration::from_millis(1500);

/// Whether one encoding is active.
#[derive(Debug, Clone, Copy, Default)]
pub struct Liveness {
    last: Option<Instant>,
    active: bool,
}

impl Liveness {
    /// Records a packet. True if the encoding was inactive until this packet.
    pub fn on_packet(&mut self, now: Instant) -> bool {
        self.last = Some(now);
        !std::mem::replace(&mut self.active, true)
    }

    /// Marks the encoding inactive after a silence. True if it has become inactive by this call.
    pub fn poll(&mut self, now: Instant) -> bool {
        let silent = self.last.is_none_or(|last| now.saturating_duration_since(last) >= SILENCE);
        if self.active && silent {
            self.active = false;
            return true;
        }
        false
    }

    /// Time at which the encoding becomes inactive unless packets arrive; `None` if it is inactive.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.last.filter(|_| self.active).map(|last| last + SILENCE)
    }

    /// Arrival of the last packet; `None` before the first.
    pub fn last(&self) -> Option<Instant> {
        self.last
    }

    /// Whether packets of the encoding arrive.
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
