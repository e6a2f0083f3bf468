//! Reports of a participant's speech level to the room's home shard: when speech begins, when it ends, and in between
//! when the level changes noticeably.

use std::time::{Duration, Instant};

use super::Ingress;

/// Last report of a participant's speech level to the room.
#[derive(Debug, Default)]
pub struct Voice {
    /// `None` if the participant was last reported silent, or never reported.
    told: Option<Told>,
    polled: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    level: f32,
    at: Instant,
}

/// A report for the room.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum VoiceNews {
    /// The participant speaks at this level, above 0 and up to 1, linear.
    Speaks(f32),
    /// The participant has stopped speaking.
    Silent,
}

impl Voice {
    /// Takes the current speech level, `None` for silence, and returns the report that is due. Call at
    /// [`poll_timeout`](Self::poll_timeout) and whenever the level may have changed.
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

    /// Time of the next call to `poll`; `None` while the participant was last reported silent.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.polled.filter(|_| self.told.is_some()).map(|polled| polled + TICK)
    }
}

impl Ingress {
    /// The due report of how loud the peer's participant speaks: the level of its loudest track.
    pub fn poll_voice(&mut self, now: Instant) -> Option<VoiceNews> {
        let levels = self.tracks.iter_mut().filter_map(|track| track.level.as_mut()?.poll(now));
        let loudest = levels.reduce(f32::max);
        self.voice.poll(loudest, now)
    }

    /// Time of the next call to `poll_voice`; `None` while silent.
    pub(super) fn voice_timeout(&self) -> Option<Instant> {
        let levels = self.tracks.iter().filter_map(|track| track.level.as_ref()?.poll_timeout());
        self.voice.poll_timeout().or_else(|| levels.min())
    }
}

/// Minimum time between two reports of a voice that goes on.
const TICK: Duration = Duration::from_millis(100);
/// An unchanged level is reported again after this time: well within the second after which the room takes the
/// participant for silent.
const REPEAT: Duration = Duration::from_millis(400);
/// Relative change of the linear level that is reported: 2 dB.
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
            (150, Some(0.4), None), // within 100 ms of the last report
            (200, Some(0.21), None),
            (300, Some(0.4), Some(VoiceNews::Speaks(0.4))),
            (600, Some(0.4), None),
            (700, Some(0.4), Some(VoiceNews::Speaks(0.4))), // before it would count as silent
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
