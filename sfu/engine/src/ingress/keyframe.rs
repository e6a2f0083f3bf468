//! Key frame requests to the publisher of one encoding, merged over all who ask and throttled. A key frame costs the
//! publisher as much as several other frames, so a thousand subscribers must not cause a thousand requests.

use std::time::{Duration, Instant};

/// Key frame requests of one encoding.
#[derive(Debug)]
pub struct KeyFrameRequests {
    interval: Duration,
    asked: Option<Instant>,
    /// Time since which a key frame is wanted; `None` if none is.
    wanted: Option<Instant>,
}

impl KeyFrameRequests {
    /// No key frame is wanted. Requests are at least `interval` apart.
    pub fn new(interval: Duration) -> Self {
        Self { interval, asked: None, wanted: None }
    }

    /// Asks for a key frame. No effect while one is already wanted.
    pub fn want(&mut self, now: Instant) {
        self.wanted.get_or_insert(now);
    }

    /// A key frame has begun to arrive; it satisfies all earlier requests.
    pub fn on_key_frame(&mut self) {
        self.wanted = None;
    }

    /// Whether to send a request now. An unanswered request is repeated after the interval.
    pub fn poll(&mut self, now: Instant) -> bool {
        let due = self.poll_timeout().is_some_and(|at| at <= now);
        if due {
            self.asked = Some(now);
        }
        due
    }

    /// Time of the next request: at once, or when the interval since the last is over. `None` if none is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let wanted = self.wanted?;
        Some(self.asked.map_or(wanted, |asked| wanted.max(asked + self.interval)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::test_epoch;

    const INTERVAL: Duration = Duration::from_millis(500);

    #[test]
    fn the_first_request_goes_out_at_once_and_the_next_waits() {
        let start = test_epoch();
        let mut requests = KeyFrameRequests::new(INTERVAL);
        assert!(!requests.poll(start), "nobody asked");
        requests.want(start);
        assert_eq!(requests.poll_timeout(), Some(start));
        assert!(requests.poll(start));
        requests.on_key_frame();
        requests.want(start + Duration::from_millis(50));
        assert!(!requests.poll(start + Duration::from_millis(100)), "throttled");
        assert_eq!(requests.poll_timeout(), Some(start + INTERVAL));
        assert!(requests.poll(start + INTERVAL));
    }

    #[test]
    fn a_key_frame_serves_everyone_who_asked_before_it() {
        let start = test_epoch();
        let mut requests = KeyFrameRequests::new(INTERVAL);
        for _ in 0..1000 {
            requests.want(start);
        }
        assert!(requests.poll(start));
        requests.on_key_frame();
        assert!(!requests.poll(start + Duration::from_secs(9)));
        assert_eq!(requests.poll_timeout(), None);
    }

    #[test]
    fn an_unanswered_request_is_repeated() {
        let start = test_epoch();
        let mut requests = KeyFrameRequests::new(INTERVAL);
        requests.want(start);
        let asked = (0..3000).filter(|ms| requests.poll(start + Duration::from_millis(*ms))).count();
        assert_eq!(asked, 6);
    }
}
