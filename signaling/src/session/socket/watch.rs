//! Limits on how much a client sends, and on how long it may be silent.

use std::time::{Duration, Instant};

use super::SocketLimits;

/// Detects a client that sends too much, or nothing for too long.
pub(super) struct Watch {
    heard: Instant,
    pinged: Instant,
    ping: Duration,
    idle: Duration,
    allowance: Allowance,
    /// Until when reading is paused because the client sent too much.
    paused: Option<Instant>,
}

impl Watch {
    pub(super) fn new(now: Instant, limits: &SocketLimits) -> Self {
        let allowance = Allowance::new(now, limits.rate, limits.burst);
        Self { heard: now, pinged: now, ping: limits.ping, idle: limits.idle, allowance, paused: None }
    }

    /// Notes that a frame arrived. Returns true if reading must pause before the next one.
    pub(super) fn heard(&mut self, now: Instant) -> bool {
        self.heard = now;
        self.paused = self.allowance.take(now).then(|| self.allowance.ready_at());
        self.paused.is_some()
    }

    pub(super) fn may_read(&self) -> bool {
        self.paused.is_none()
    }

    pub(super) fn may_read_at(&mut self, now: Instant) {
        self.paused = self.paused.filter(|until| *until > now);
    }

    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.heard + self.idle <= now
    }

    /// Whether a ping must be sent now. If so, the ping counts as sent.
    pub(super) fn is_ping_due(&mut self, now: Instant) -> bool {
        let due = self.next_ping() <= now;
        if due {
            self.pinged = now;
        }
        due
    }

    /// A client that sends something on its own is not pinged.
    fn next_ping(&self) -> Instant {
        self.heard.max(self.pinged) + self.ping
    }

    /// Next time at which something must be done.
    pub(super) fn next_due(&self, session: Option<Instant>, writer: Option<Instant>) -> Instant {
        let own = self.next_ping().min(self.heard + self.idle);
        [session, writer, self.paused].into_iter().flatten().fold(own, Instant::min)
    }
}

/// Rate limit on messages of a client: `rate` per second, plus a burst of `burst` at once.
struct Allowance {
    interval: Duration,
    ahead: Duration,
    /// When every message so far would have been accepted, had they come at the sustained rate.
    even: Instant,
}

impl Allowance {
    fn new(now: Instant, rate: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / rate.max(1);
        Self { interval, ahead: interval.saturating_mul(burst), even: now }
    }

    /// Accepts one message. Returns true if the next one must wait.
    fn take(&mut self, now: Instant) -> bool {
        self.even = self.even.max(now) + self.interval;
        self.ready_at() > now
    }

    /// Time from which the next message may be accepted.
    fn ready_at(&self) -> Instant {
        self.even.checked_sub(self.ahead).unwrap_or(self.even)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_in_bursts_and_then_at_an_even_rate() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start, 10, 5);
        let at_once = (0..100).take_while(|_| !allowance.take(start)).count();
        assert_eq!(at_once, 5);
        assert_eq!(allowance.ready_at(), start + Duration::from_millis(100));
        let mut now = start;
        for _ in 0..50 {
            now = allowance.ready_at();
            allowance.take(now);
        }
        assert_eq!(now, start + Duration::from_millis(5000));
        // Silence restores the full burst, not more.
        let later = start + Duration::from_secs(1000);
        assert_eq!((0..100).take_while(|_| !allowance.take(later)).count(), 5);
    }

    #[test]
    fn a_client_that_speaks_by_itself_is_never_asked_and_a_silent_one_is_asked_then_given_up() {
        let start = Instant::now();
        let limits = SocketLimits::default();
        let mut watch = Watch::new(start, &limits);
        let mut now = start;
        for _ in 0..100 {
            now += Duration::from_secs(5);
            assert!(!watch.is_ping_due(now) && !watch.is_silent(now));
            assert!(!watch.heard(now));
            assert_eq!(watch.next_due(None, None), now + limits.ping, "nothing else is due");
        }
        let (asked, over) = (now + limits.ping, now + limits.idle);
        assert!(watch.is_ping_due(asked) && !watch.is_ping_due(asked), "once");
        assert_eq!(watch.next_due(None, None), over);
        assert!(!watch.is_silent(over - Duration::from_millis(1)) && watch.is_silent(over));
    }

    #[test]
    fn the_earliest_of_all_deadlines_counts_and_a_paused_client_is_read_again_in_time() {
        let start = Instant::now();
        let limits = SocketLimits { rate: 10, burst: 1, ..SocketLimits::default() };
        let mut watch = Watch::new(start, &limits);
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(watch.next_due(Some(at(7)), Some(at(9))), at(7));
        assert_eq!(watch.next_due(Some(at(9)), Some(at(8))), at(8));
        while !watch.heard(start) {}
        assert!(!watch.may_read());
        let paused = watch.next_due(None, None);
        assert!(paused > start && paused <= at(200));
        watch.may_read_at(paused);
        assert!(watch.may_read());
    }
}
