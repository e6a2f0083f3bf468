//! When to look after which peer, room or participant next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// A queue of deadlines of things that `K` names. Entries are not removed when a deadline moves: its owner remembers the
/// one that counts, the others are passed over when they come up.
#[derive(Debug)]
pub struct Timers<K> {
    heap: BinaryHeap<Reverse<(Instant, K)>>,
}

impl<K: Copy + Ord> Default for Timers<K> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new() }
    }
}

impl<K: Copy + Ord> Timers<K> {
    /// Asks to be told of `owner` at `deadline`.
    pub fn schedule(&mut self, deadline: Instant, owner: K) {
        self.heap.push(Reverse((deadline, owner)));
    }

    /// The next deadline.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((deadline, _))| *deadline)
    }

    /// One whose deadline has come, with that deadline.
    pub fn expired(&mut self, now: Instant) -> Option<(Instant, K)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}
