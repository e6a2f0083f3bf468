//! Retransmission of the last plaintext flight until the peer answers (RFC 6347 section 4.2.4).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::engine::Engine;

/// A flight that was sent, and its retransmission timer.
#[derive(Debug)]
pub(super) struct Flight {
    datagrams: Vec<Bytes>,
    again: Instant,
    interval: Duration,
    repeats: u32,
    answers: u32,
}

impl Flight {
    pub(super) fn new(now: Instant, datagrams: Vec<Bytes>) -> Self {
        Self { datagrams, again: now + FIRST_INTERVAL, interval: FIRST_INTERVAL, repeats: 0, answers: 0 }
    }

    pub(super) fn datagrams(&self) -> &[Bytes] {
        &self.datagrams
    }

    pub(super) fn timeout(&self) -> Option<Instant> {
        (self.repeats < MAX_REPEATS).then_some(self.again)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, engine: &mut Engine, out: &mut VecDeque<Bytes>) {
        if self.timeout().is_some_and(|at| at <= now) {
            self.repeats += 1;
            self.interval = (self.interval * 2).min(LAST_INTERVAL);
            self.again = now + self.interval;
            out.extend(self.datagrams.iter().map(|datagram| engine.renumber(datagram)));
        }
    }

    /// Sends the flight again because the peer repeated its own, so it has not received this one. Anybody may forge
    /// such a repetition, so these answers have a limit of their own.
    pub(super) fn answer(&mut self, engine: &mut Engine, out: &mut VecDeque<Bytes>) {
        if self.answers < MAX_ANSWERS {
            self.answers += 1;
            out.extend(self.datagrams.iter().map(|datagram| engine.renumber(datagram)));
        }
    }
}

/// First retransmission interval. It is shorter than the one second of RFC 6347, as in all browsers, because a call
/// waits for it.
const FIRST_INTERVAL: Duration = Duration::from_millis(200);
const LAST_INTERVAL: Duration = Duration::from_secs(2);
/// Maximum number of retransmissions: enough for the longest time that a handshake may take.
const MAX_REPEATS: u32 = 16;
const MAX_ANSWERS: u32 = 8;
