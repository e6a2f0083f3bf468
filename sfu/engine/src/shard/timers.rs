//! Deadlines of peers, rooms and participants.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// A queue of deadlines, each with the key `K` of its owner. Entries are not removed when a deadline moves. The owner
/// remembers which deadline is current, and stale entries are skipped when they expire.
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
    /// Adds a deadline for `owner`.
    pub fn schedule(&mut self, deadline: Instant, owner: K) {
        self.heap.push(Reverse((deadline, owner)));
    }

    /// The earliest deadline, which may be stale.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((deadline, _))| *deadline)
    }

    /// Removes and returns the earliest entry if its deadline has come.
    pub fn expired(&mut self, now: Instant) -> Option<(Instant, K)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}
