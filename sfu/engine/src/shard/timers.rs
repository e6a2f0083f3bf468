//! When to look after which peer next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::handles::PeerIndex;

/// A queue of deadlines. Entries are not removed when a peer's deadline moves: a peer remembers the one that
/// counts, the others are passed over when they come up.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Instant, PeerIndex)>>,
}

impl Timers {
    /// Asks to be told of `peer` at `deadline`.
    pub fn schedule(&mut self, deadline: Instant, peer: PeerIndex) {
        self.heap.push(Reverse((deadline, peer)));
    }

    /// The next deadline.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((deadline, _))| *deadline)
    }

    /// A peer whose deadline has come, with that deadline.
    pub fn expired(&mut self, now: Instant) -> Option<(Instant, PeerIndex)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}
