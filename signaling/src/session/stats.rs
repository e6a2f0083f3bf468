//! Counters of this process's sessions, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Discard, EndCause};

/// Counters of all sessions. All of them only increase, except `open`.
#[derive(Debug, Default)]
pub struct SessionStats {
    /// Sessions whose join succeeded.
    pub joined: AtomicU64,
    /// Sessions that are open now.
    pub open: AtomicU64,
    /// Joins refused, for any reason.
    pub refused: AtomicU64,
    /// Sessions that were resumed on a new socket.
    pub resumed: AtomicU64,
    /// Resume attempts refused; their clients start a new session.
    pub resumes_refused: AtomicU64,
    /// Sessions ended by a contained panic.
    pub panics: AtomicU64,
    /// Sessions ended because events arrived faster than they could be handled.
    pub inbox_overflows: AtomicU64,
    /// Sockets closed because the client did not read fast enough.
    pub slow_clients: AtomicU64,
    /// Sockets closed because the client was silent for too long.
    pub silent_clients: AtomicU64,
    /// Number of times that reading from a client was paused because it sent too much.
    pub throttled: AtomicU64,
    ended: [AtomicU64; END_LABELS.len()],
    discarded: [AtomicU64; DISCARD_LABELS.len()],
}

impl SessionStats {
    /// Increments a counter.
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_discard(&self, reason: Discard) {
        if let Some(counter) = self.discarded.get(reason as usize) {
            Self::add(counter);
        }
    }

    pub(crate) fn note_end(&self, cause: EndCause) {
        let place = match cause {
            EndCause::Left(_) => 0,
            EndCause::Media(_) => 1,
            EndCause::ConnectTimeout => 2,
            EndCause::Broken => 3,
        };
        if let Some(counter) = self.ended.get(place) {
            Self::add(counter);
        }
    }

    /// Number of ended sessions for each cause, as metric label and count.
    pub fn ended(&self) -> impl Iterator<Item = (&'static str, u64)> {
        END_LABELS.into_iter().zip(self.ended.iter().map(|counter| counter.load(Ordering::Relaxed)))
    }

    /// Number of inputs without effect for each reason, as metric label and count.
    pub fn discarded(&self) -> impl Iterator<Item = (&'static str, u64)> {
        DISCARD_LABELS.into_iter().zip(self.discarded.iter().map(|counter| counter.load(Ordering::Relaxed)))
    }
}

/// Labels in the order of the indexes in [`SessionStats::note_end`].
const END_LABELS: [&str; 4] = ["left", "media", "connect_timeout", "broken"];

/// Labels in the order of the variants of [`Discard`].
const DISCARD_LABELS: [&str; 12] = [
    "after_end",
    "early_request",
    "unknown_request",
    "unsupported_request",
    "malformed",
    "refused",
    "unexpected_answer",
    "unknown_track",
    "early_event",
    "stale_track_event",
    "stale_roster",
    "bad_roster_info",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_discard_has_the_last_label() {
        let stats = SessionStats::default();
        stats.note_discard(Discard::BadRosterInfo);
        stats.note_discard(Discard::EarlyEvent);
        let counted: Vec<_> = stats.discarded().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("early_event", 1), ("bad_roster_info", 1)]);
    }
}
