//! Speech level of a published audio track, from the audio level in each packet's header extension (RFC 6464).
//!
//! A packet counts as loud if it exceeds a threshold, exceeds the track's noise floor by a margin, and has the voice
//! flag set, if that flag is meaningful. The track speaks if loud packets fill enough of the last 400 ms. Its level is
//! that of the loudest packet, scaled by the share of time that was loud, and smoothed in steps of 100 ms.
//!
//! The noise floor follows the track down at once and up slowly. Speech falls back to the floor in every pause. A fan
//! or music on hold does not, and stops counting after some seconds.

use std::time::{Duration, Instant};

/// Speech detector of one track.
#[derive(Debug, Clone)]
pub struct AudioLevel {
    /// Start of the bucket being filled; `None` while no packets arrive.
    began: Option<Instant>,
    last: Instant,
    filling: Bucket,
    full: [Bucket; BUCKETS],
    /// Noise floor in -dBov: a higher value is quieter.
    floor: f32,
    flag: VoiceFlag,
    /// Smoothed speech level, linear, 0 to 1.
    smoothed: f32,
}

/// Audio levels of 100 ms. Levels are in -dBov, so lower is louder.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    covered: Duration,
    loud: Duration,
    loudest: u8,
    /// Sum of the levels, each weighted by its duration in seconds.
    levels: f32,
}

/// Whether a sender's voice flag is meaningful: some senders always set it, others never.
#[derive(Debug, Clone, Copy, Default)]
struct VoiceFlag {
    set: u8,
    clear: u8,
}

impl AudioLevel {
    /// A detector that has heard silence. `now` must not be after the first packet.
    pub fn new(now: Instant) -> Self {
        Self {
            began: None,
            last: now,
            filling: Bucket::EMPTY,
            full: [Bucket::EMPTY; BUCKETS],
            floor: FLOOR_LOWEST,
            flag: VoiceFlag::default(),
            smoothed: 0.0,
        }
    }

    /// Processes the audio level of a packet. `byte` holds the voice flag in its top bit and -dBov in the lower seven.
    pub fn on_level(&mut self, byte: u8, now: Instant) {
        self.close_buckets(now);
        let covers = match self.began {
            Some(_) => now.saturating_duration_since(self.last).min(PACKET_MOST),
            None => PACKET_FIRST,
        };
        self.began.get_or_insert(now);
        self.last = self.last.max(now);
        let (level, voice) = (byte & SILENCE, byte & !SILENCE != 0);
        self.flag.note(voice);
        let stands_out = f32::from(level) + MARGIN <= self.floor;
        let loud = level <= THRESHOLD && stands_out && (voice || !self.flag.tells());
        self.filling.add(level, loud, covers);
    }

    /// Current speech level, above 0 and up to 1, linear; `None` if the track does not count as speaking.
    pub fn poll(&mut self, now: Instant) -> Option<f32> {
        self.close_buckets(now);
        (self.smoothed >= linear(f32::from(THRESHOLD))).then_some(self.smoothed)
    }

    /// Time at which [`poll`](Self::poll) may change without a packet. `None` for silence and for noise that does not
    /// count as speech.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let mut buckets = self.full.iter().chain([&self.filling]);
        let loud = self.smoothed >= linear(f32::from(THRESHOLD))
            || buckets.any(|bucket| bucket.loud > Duration::ZERO);
        self.began.filter(|_| loud).map(|began| began + BUCKET)
    }

    /// Falls silent at once, because the track is muted. The noise floor and what is known of the voice flag stay.
    pub fn silence(&mut self, now: Instant) {
        *self = Self { floor: self.floor, flag: self.flag, ..Self::new(now) };
    }

    fn close_buckets(&mut self, now: Instant) {
        let Some(began) = self.began else { return };
        // A track that stopped sending is silent, and must not stay loud.
        if now.saturating_duration_since(self.last) >= STALE {
            self.silence(now);
            return;
        }
        // Few, since the track would be stale otherwise.
        let buckets = now.saturating_duration_since(began).as_millis() / BUCKET.as_millis();
        let buckets = u32::try_from(buckets).unwrap_or(u32::MAX).min(BUCKETS_PER_STALE);
        for _ in 0..buckets {
            self.close_bucket();
        }
        self.began = Some(began + BUCKET * buckets);
    }

    fn close_bucket(&mut self) {
        let closed = std::mem::replace(&mut self.filling, Bucket::EMPTY);
        self.full.rotate_left(1);
        self.full[BUCKETS - 1] = closed;
        if let Some(mean) = closed.mean() {
            let risen = (self.floor - FLOOR_RISE).max(mean);
            self.floor = if mean > self.floor { mean.min(FLOOR_LOWEST) } else { risen };
        }
        let loud: Duration = self.full.iter().map(|bucket| bucket.loud).sum();
        let loudest = self.full.iter().map(|bucket| bucket.loudest).min().unwrap_or(SILENCE);
        let level = if loud >= LOUD_LEAST {
            let share = (loud.as_secs_f32() / WINDOW.as_secs_f32()).min(1.0);
            linear(f32::from(loudest)) * share
        } else {
            0.0
        };
        self.smoothed += (level - self.smoothed) * SMOOTHING;
    }
}

impl Bucket {
    const EMPTY: Self = Self { covered: Duration::ZERO, loud: Duration::ZERO, loudest: SILENCE, levels: 0.0 };

    fn add(&mut self, level: u8, loud: bool, covers: Duration) {
        self.covered += covers;
        self.levels += f32::from(level) * covers.as_secs_f32();
        if loud {
            self.loud += covers;
            self.loudest = self.loudest.min(level);
        }
    }

    /// Mean level in -dBov; `None` if packets cover less than half of the bucket.
    fn mean(&self) -> Option<f32> {
        (self.covered >= BUCKET / 2).then(|| self.levels / self.covered.as_secs_f32())
    }
}

impl VoiceFlag {
    fn note(&mut self, voice: bool) {
        let seen = if voice { &mut self.set } else { &mut self.clear };
        *seen = seen.saturating_add(1);
    }

    fn tells(self) -> bool {
        self.set >= FLAG_SEEN && self.clear >= FLAG_SEEN
    }
}

/// Converts -dBov to a linear share of full scale.
fn linear(level: f32) -> f32 {
    10f32.powf(-level / 20.0)
}

const BUCKET: Duration = Duration::from_millis(100);
const BUCKETS: usize = 4;
/// The values that existing client SDKs were tuned with: 400 ms windows, loud from -35 dBov up, speaking if loud for
/// 40 % of the window.
const WINDOW: Duration = Duration::from_millis(400);
const THRESHOLD: u8 = 35;
const LOUD_LEAST: Duration = Duration::from_millis(160);
/// Per bucket. Four buckets together weigh 2 / (2 + 1), as one window does in an exponential average over two windows.
const SMOOTHING: f32 = 0.24;
const STALE: Duration = Duration::from_millis(800);
const BUCKETS_PER_STALE: u32 = 9;
/// The quietest level that the seven bits can state.
const SILENCE: u8 = 127;
/// The first packet counts for this duration, later ones for the time since the packet before.
const PACKET_FIRST: Duration = Duration::from_millis(20);
const PACKET_MOST: Duration = Duration::from_millis(120);
/// The quietest noise floor, in -dBov. After digital silence a quieter one would take too long to rise to the noise.
const FLOOR_LOWEST: f32 = 60.0;
/// In decibels per bucket: 6 per second. People pause for a tenth of a second every two seconds or so.
const FLOOR_RISE: f32 = 0.6;
/// In decibels. Noise and most music vary by less, speech by more.
const MARGIN: f32 = 9.0;
/// Number of packets with the flag set, and with it clear, until the flag is meaningful: half a second each.
const FLAG_SEEN: u8 = 25;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::test_epoch;

    /// Level byte of the n-th packet.
    type Trace = fn(u64) -> u8;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Sends a packet every 20 ms with the given level, and returns the result of `poll` after each.
    fn talk(
        audio: &mut AudioLevel,
        from: Instant,
        packets: u64,
        level: impl Fn(u64) -> u8,
    ) -> Vec<Option<f32>> {
        let packets = (0..packets).map(|n| (n, from + ms(20 * n)));
        packets
            .map(|(n, now)| {
                audio.on_level(level(n), now);
                audio.poll(now)
            })
            .collect()
    }

    /// Speech: syllables of 180 ms at -20 dBov, 60 ms between them, a pause of 300 ms every two seconds.
    fn speech(n: u64) -> u8 {
        let pause = n % 100 >= 85;
        if pause || n % 12 >= 9 { 65 } else { 20 + (n % 3) as u8 * 2 }
    }

    #[test]
    fn speech_counts_after_300_ms_and_for_as_long_as_it_goes_on() {
        let start = test_epoch();
        let mut audio = AudioLevel::new(start);
        let levels = talk(&mut audio, start, 3000, speech);
        let first = levels.iter().position(Option::is_some).map(|n| 20 * n);
        assert!((200..=400).contains(&first.unwrap_or(0)), "after {first:?} ms");
        let gaps = levels.iter().skip(20).filter(|level| level.is_none()).count();
        assert_eq!(gaps, 0, "of a minute");
        let loud = levels.iter().skip(100).flatten().fold(0.0_f32, |most, level| most.max(*level));
        assert!((0.06..0.1).contains(&loud), "-20 dBov for three quarters of the time is not {loud}");
        let silent = talk(&mut audio, start + ms(60_000), 100, |_| 127);
        let until = silent.iter().rposition(Option::is_some).map(|n| 20 * n);
        assert!((300..1200).contains(&until.unwrap_or(0)), "quiet after {until:?} ms");
    }

    #[test]
    fn what_counts_as_speaking() {
        // (level of the n-th packet, whether it speaks within two seconds, and after twenty)
        let table: [(Trace, bool, bool); 10] = [
            (speech, true, true),
            (|n| speech(n) | 0x80, true, true),
            (|n| if speech(n) < 60 { 30 } else { 65 }, true, true),
            (|n| speech(n) + 15, false, false),
            (|_| 127, false, false),
            // Typing: 40 ms of every 240.
            (|n| if n % 12 < 2 { 12 } else { 60 }, false, false),
            // A fan, and music that swells by a few decibels: loud only until the floor has risen to them.
            (|n| 30 + (n * 7 % 3) as u8, true, false),
            (|n| 18 + (n / 10 * 5 % 7) as u8, true, false),
            // A fan, with somebody speaking over it.
            (|n| speech(n).min(36 + (n % 3) as u8), true, true),
            // A voice flag that is always set does not make quiet packets speech.
            (|_| 0x80 | 60, false, false),
        ];
        for (place, (level, soon, later)) in table.into_iter().enumerate() {
            let start = test_epoch();
            let mut audio = AudioLevel::new(start);
            let levels = talk(&mut audio, start, 1500, level);
            let spoke =
                |from: usize, to: usize| levels[from..to].iter().filter(|level| level.is_some()).count();
            assert_eq!(spoke(0, 100) > 50, soon, "row {place} at first: {}", spoke(0, 100));
            assert_eq!(spoke(1000, 1500) > 250, later, "row {place} later: {}", spoke(1000, 1500));
            assert!(later || spoke(1000, 1500) == 0, "row {place} later: {}", spoke(1000, 1500));
            assert!(levels.iter().flatten().all(|level| *level > 0.0 && *level <= 1.0), "row {place}");
        }
    }

    #[test]
    fn a_voice_flag_that_tells_is_believed() {
        // A dog barks in the pattern of speech, but the sender's voice detector does not set the flag.
        let start = test_epoch();
        let mut audio = AudioLevel::new(start);
        let talking = talk(&mut audio, start, 500, |n| if speech(n) < 60 { speech(n) | 0x80 } else { 65 });
        assert!(talking.iter().flatten().count() > 400);
        let barking = talk(&mut audio, start + ms(10_000), 500, speech);
        assert_eq!(barking.iter().skip(60).flatten().count(), 0);
    }

    #[test]
    fn a_track_that_stops_sending_falls_silent() {
        let start = test_epoch();
        let mut audio = AudioLevel::new(start);
        let levels = talk(&mut audio, start, 50, speech);
        assert!(levels.last().copied().flatten().is_some());
        let ended = start + ms(980);
        assert!(audio.poll_timeout().is_some_and(|at| at > ended && at <= ended + ms(100)));
        assert_eq!(audio.poll(ended + ms(800)), None);
        assert_eq!(audio.poll_timeout(), None);
        // The time without packets is not replayed as buckets.
        audio.on_level(10, ended + Duration::from_secs(86_400));
        assert_eq!(audio.poll(ended + Duration::from_secs(86_401)), None);
    }

    #[test]
    fn lost_packets_do_not_silence_a_talker() {
        let start = test_epoch();
        let mut audio = AudioLevel::new(start);
        let mut spoke = 0;
        for n in (0..1500).filter(|n| n % 5 != 0 && n % 50 > 4) {
            audio.on_level(speech(n), start + ms(20 * n));
            spoke += usize::from(audio.poll(start + ms(20 * n)).is_some());
        }
        assert!(spoke > 1026, "{spoke} of 1080");
    }
}
