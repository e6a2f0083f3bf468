//! What has happened to the sessions of this process, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Discard, EndCause};

/// Counters of all sessions. They only grow, except `open`.
#[derive(Debug, Default)]
pub struct SessionStats {
    /// Sessions that got their place.
    pub joined: AtomicU64,
    /// Sessions that run now.
    pub open: AtomicU64,
    /// Joins refused, for whatever reason.
    pub refused: AtomicU64,
    /// Sessions that went on with a new socket.
    pub resumed: AtomicU64,
    /// Resumes refused; their clients start anew.
    pub resumes_refused: AtomicU64,
    /// Sessions ended by a panic that was contained.
    pub panics: AtomicU64,
    /// Sessions ended because they could not take events as fast as these came.
    pub inbox_overflows: AtomicU64,
    /// Sockets given up because their client did not read.
    pub slow_clients: AtomicU64,
    /// Sockets given up because nothing was heard of their client.
    pub silent_clients: AtomicU64,
    /// Moments at which a client was made to wait because it sent too much.
    pub throttled: AtomicU64,
    ended: [AtomicU64; END_LABELS.len()],
    discarded: [AtomicU64; DISCARD_LABELS.len()],
}

impl SessionStats {
    /// One more.
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

    /// Sessions ended, by cause.
    pub fn ended(&self) -> impl Iterator<Item = (&'static str, u64)> {
        END_LABELS.into_iter().zip(self.ended.iter().map(|counter| counter.load(Ordering::Relaxed)))
    }

    /// Inputs without effect, by reason.
    pub fn discarded(&self) -> impl Iterator<Item = (&'static str, u64)> {
        DISCARD_LABELS.into_iter().zip(self.discarded.iter().map(|counter| counter.load(Ordering::Relaxed)))
    }
}

/// In the order of [`SessionStats::note_end`].
const END_LABELS: [&str; 4] = ["left", "media", "connect_timeout", "broken"];

/// In the order of [`Discard`].
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
