//! When the room's home hears how loud a participant speaks: when that begins, when it ends, and in between as often as
//! it takes to follow it.

use std::time::{Duration, Instant};

use super::Ingress;

/// What the room was last told of a participant's voice.
#[derive(Debug, Default)]
pub struct Voice {
    /// `None`: silent.
    told: Option<Told>,
    polled: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    level: f32,
    at: Instant,
}

/// What the room is to be told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum VoiceNews {
    /// The participant speaks, that loud: above 0 to 1, linear.
    Speaks(f32),
    /// It does so no longer.
    Silent,
}

impl Voice {
    /// Takes how loud the participant speaks now, `None`: not at all. Call it at [`poll_timeout`](Self::poll_timeout),
    /// and whenever that may have changed.
    pub fn poll(&mut self, level: Option<f32>, now: Instant) -> Option<VoiceNews> {
        self.polled = Some(now);
        let Some(level) = level else {
            return self.told.take().map(|_| VoiceNews::Silent);
        };
        let due = self.told.is_none_or(|told| {
            let since = now.saturating_duration_since(told.at);
            let differs = (level - told.level).abs() > told.level * NOTICEABLE;
            since >= REPEAT || (differs && since >= TICK)
        });
        if !due {
            return None;
        }
        self.told = Some(Told { level, at: now });
        Some(VoiceNews::Speaks(level))
    }

    /// When to poll next; `None` while the participant is silent as far as the room knows.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.polled.filter(|_| self.told.is_some()).map(|polled| polled + TICK)
    }
}

impl Ingress {
    /// How loud the peer's participant speaks, if there is news of that for the room.
    pub fn poll_voice(&mut self, now: Instant) -> Option<VoiceNews> {
        let levels = self.tracks.iter_mut().filter_map(|track| track.level.as_mut()?.poll(now));
        let loudest = levels.reduce(f32::max);
        self.voice.poll(loudest, now)
    }

    /// When to ask for news.
    pub(super) fn voice_timeout(&self) -> Option<Instant> {
        let levels = self.tracks.iter().filter_map(|track| track.level.as_ref()?.poll_timeout());
        self.voice.poll_timeout().or_else(|| levels.min())
    }
}

/// Least time between two messages.
const TICK: Duration = Duration::from_millis(100);
/// A voice that stays as loud as it is is told of again after this, well within the second after which the room takes
/// it for silent.
const REPEAT: Duration = Duration::from_millis(400);
/// As a share: 2 dB.
const NOTICEABLE: f32 = 0.25;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::test_epoch;

    #[test]
    fn beginnings_and_ends_are_told_at_once_and_a_steady_voice_seldom() {
        let ms = Duration::from_millis;
        let table: [(u64, Option<f32>, Option<VoiceNews>); 9] = [
            (0, None, None),
            (100, Some(0.2), Some(VoiceNews::Speaks(0.2))),
            (150, Some(0.4), None), // within 100 ms
            (200, Some(0.21), None),
            (300, Some(0.4), Some(VoiceNews::Speaks(0.4))),
            (600, Some(0.4), None),
            (700, Some(0.4), Some(VoiceNews::Speaks(0.4))), // so that it does not count as silent
            (710, None, Some(VoiceNews::Silent)),
            (810, None, None),
        ];
        let (start, mut voice) = (test_epoch(), Voice::default());
        for (at, level, news) in table {
            assert_eq!(voice.poll(level, start + ms(at)), news, "after {at} ms");
        }
        assert_eq!(voice.poll_timeout(), None);
    }
}
