//! Our last plain flight of the handshake, sent again until the peer answers (RFC 6347 section 4.2.4).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::engine::Engine;

/// A flight that was sent, and when it is sent again.
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

    /// The peer repeated itself, so it has not seen this. What anybody may say: hence a bound of its own.
    pub(super) fn answer(&mut self, engine: &mut Engine, out: &mut VecDeque<Bytes>) {
        if self.answers < MAX_ANSWERS {
            self.answers += 1;
            out.extend(self.datagrams.iter().map(|datagram| engine.renumber(datagram)));
        }
    }
}

/// Shorter than the second of RFC 6347, as all browsers have it: a call waits for it.
const FIRST_INTERVAL: Duration = Duration::from_millis(200);
const LAST_INTERVAL: Duration = Duration::from_secs(2);
/// Enough for the whole time a handshake may take.
const MAX_REPEATS: u32 = 16;
const MAX_ANSWERS: u32 = 8;
