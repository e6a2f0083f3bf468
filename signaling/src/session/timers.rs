//! The session's named timers.

use std::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// A delayed announcement of the participant's own information is due.
    Announce,
    /// The client's access token must be refreshed.
    RefreshToken,
    /// Changed participant counts of the room must be reported.
    RoomCounts,
    /// The primary transport must be connected by now.
    Connect,
    /// A participant whose signal connection is lost leaves now.
    Linger,
    /// The departure of a participant that was replaced by its own new session is announced now, as the new session
    /// has not appeared.
    Departures,
    /// A requested track that nobody publishes is given up.
    UnknownTracks,
    /// A lower demand for one of the participant's tracks has lasted long enough to be reported.
    LessWanted,
    /// A requested backup codec has not been announced by the client.
    Unheeded,
    /// The server's offer has not been answered.
    Answer,
    /// A simulated speaker update ends.
    PlayedSpeaker,
}

const COUNT: usize = 11;

/// Due time of each timer; `None` while it is not set.
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

    /// Sets `timer`, replacing its previous due time.
    pub(crate) fn set(&mut self, timer: Timer, due: Instant) {
        if let Some(slot) = self.0.get_mut(timer as usize) {
            *slot = Some(due);
        }
    }

    /// Sets `timer` unless it is already due earlier.
    pub(crate) fn set_earliest(&mut self, timer: Timer, due: Instant) {
        if self.due(timer).is_none_or(|earlier| earlier > due) {
            self.set(timer, due);
        }
    }

    pub(crate) fn stop(&mut self, timer: Timer) {
        if let Some(slot) = self.0.get_mut(timer as usize) {
            *slot = None;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0 = Default::default();
    }

    /// Earliest due time of all timers.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }

    /// Stops and returns a timer that is due, in the order of [`Timers::ALL`].
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
