//! The session's timers, by name.

use std::time::Instant;

/// What a session may be waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// A change of our own information waits for company.
    Announce,
    /// The client's access token is to be replaced.
    RefreshToken,
    /// The room's counts have changed since the client was told.
    RoomCounts,
    /// The primary transport should be up by then.
    Connect,
    /// The signal connection is lost; the participant goes then.
    Linger,
    /// Somebody replaced by its own new session has still not been seen again.
    Departures,
    /// A track that was asked for and that nobody publishes is given up.
    UnknownTracks,
    /// Less of our tracks is wanted, and has been for a while.
    LessWanted,
    /// A backup codec that was asked for has not come.
    Unheeded,
    /// Our offer has not been answered.
    Answer,
    /// A speech that the client asked to be played ends.
    PlayedSpeaker,
}

const COUNT: usize = 11;

/// When each is due.
#[derive(Debug, Default)]
pub(crate) struct Timers([Option<Instant>; COUNT]);

impl Timers {
    const ALL: [Timer; COUNT] = [
        Timer::Announce,
        Timer::RefreshToken,
        Timer::RoomCounts,
        Timer::Connect,
        Timer::Linger,
        Timer::Departures,
        Timer::UnknownTracks,
        Timer::LessWanted,
        Timer::Unheeded,
        Timer::Answer,
        Timer::PlayedSpeaker,
    ];

    /// Sets `timer`, replacing what it was set to.
    pub(crate) fn set(&mut self, timer: Timer, due: Instant) {
        if let Some(slot) = self.0.get_mut(timer as usize) {
            *slot = Some(due);
        }
    }

    /// Sets `timer` unless it is due earlier already.
    pub(crate) fn set_earliest(&mut self, timer: Timer, due: Instant) {
        if self.due(timer).is_none_or(|earlier| earlier > due) {
            self.set(timer, due);
        }
    }

    /// Stops `timer`.
    pub(crate) fn stop(&mut self, timer: Timer) {
        if let Some(slot) = self.0.get_mut(timer as usize) {
            *slot = None;
        }
    }

    /// Stops all.
    pub(crate) fn clear(&mut self) {
        self.0 = Default::default();
    }

    /// When the first is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }

    /// Takes one that is due.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Timer> {
        let timer = Self::ALL.into_iter().find(|&timer| self.due(timer).is_some_and(|due| due <= now))?;
        self.stop(timer);
        Some(timer)
    }

    fn due(&self, timer: Timer) -> Option<Instant> {
        self.0.get(timer as usize).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_expires_once_and_the_next_is_the_earliest() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        assert_eq!(timers.next(), None);
        for (place, timer) in Timers::ALL.into_iter().enumerate() {
            timers.set(timer, after(10 * (place as u64 + 1)));
        }
        timers.set_earliest(Timer::UnknownTracks, after(5));
        timers.set_earliest(Timer::Announce, after(99));
        timers.stop(Timer::Linger);
        assert_eq!(timers.next(), Some(after(5)));
        assert_eq!(timers.expire(after(4)), None);
        assert_eq!(timers.expire(after(10)), Some(Timer::Announce));
        assert_eq!(timers.expire(after(10)), Some(Timer::UnknownTracks));
        assert_eq!(timers.expire(after(10)), None);
        assert_eq!(timers.next(), Some(after(20)));
    }
}
