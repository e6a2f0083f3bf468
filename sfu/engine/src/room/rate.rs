//! Measured rate of one encoding: bits and frames per second over the last second, in total and for its lower spatial
//! and temporal layers. Counted per packet, in integers, in constant memory.

use std::time::{Duration, Instant};

use crate::units::{Bitrate, DataSize, ExtendedTimestamp};

/// Number of spatial layers counted separately in one encoding; higher ones count as the last.
pub const SPATIAL: usize = 3;

/// Number of temporal layers counted separately in one encoding; higher ones count as the last.
pub const TEMPORAL: usize = 3;

/// Rate meter of one encoding.
#[derive(Debug, Clone)]
pub struct EncodingRate {
    /// Start of the first bucket; `None` before the first packet.
    origin: Option<Instant>,
    /// Number of the newest bucket, counted from `origin`.
    newest: u64,
    buckets: [Bucket; BUCKETS],
    /// Average bytes per bucket over a longer time, times [`FRACTION`].
    sustained: [[u64; TEMPORAL]; SPATIAL],
    /// Timestamp of the newest frame of each spatial layer.
    frames: [Option<ExtendedTimestamp>; SPATIAL],
}

/// Counts of 100 ms.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    bytes: [[u32; TEMPORAL]; SPATIAL],
    frames: [[u16; TEMPORAL]; SPATIAL],
}

/// Place of a packet in an encoding. The field order is that of scalability mode names such as `L3T2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sublayer {
    /// Spatial layer, 0 is the lowest.
    pub spatial: u8,
    /// Temporal layer, 0 is the lowest.
    pub temporal: u8,
}

impl Sublayer {
    /// The entire encoding.
    pub const TOP: Self = Self { spatial: SPATIAL as u8 - 1, temporal: TEMPORAL as u8 - 1 };

    fn place(self) -> (usize, usize) {
        (usize::from(self.spatial).min(SPATIAL - 1), usize::from(self.temporal).min(TEMPORAL - 1))
    }
}

impl Default for EncodingRate {
    fn default() -> Self {
        Self {
            origin: None,
            newest: 0,
            buckets: [Bucket::default(); BUCKETS],
            sustained: [[0; TEMPORAL]; SPATIAL],
            frames: [None; SPATIAL],
        }
    }
}

impl EncodingRate {
    /// Counts a packet of `size` on the wire. A timestamp above all earlier ones of its spatial layer counts as a
    /// frame.
    pub fn on_packet(&mut self, at: Sublayer, size: DataSize, timestamp: ExtendedTimestamp, now: Instant) {
        let number = self.advance(now);
        let (spatial, temporal) = at.place();
        let bucket = &mut self.buckets[place_of(number)];
        let bytes = &mut bucket.bytes[spatial][temporal];
        *bytes = bytes.saturating_add(u32::try_from(size.bytes()).unwrap_or(u32::MAX));
        if self.frames[spatial].is_none_or(|newest| timestamp > newest) {
            self.frames[spatial] = Some(timestamp);
            bucket.frames[spatial][temporal] = bucket.frames[spatial][temporal].saturating_add(1);
        }
    }

    /// [`bitrate_up_to`](Self::bitrate_up_to) of the entire encoding.
    #[cfg(test)]
    pub fn bitrate(&self, now: Instant) -> Option<Bitrate> {
        self.bitrate_up_to(Sublayer::TOP, now)
    }

    /// Rate of a sublayer and all that it builds on, over the last second, or since the first packet if that is shorter.
    /// `None` until 200 ms after the first packet; zero once no packet has arrived for over a second.
    pub fn bitrate_up_to(&self, at: Sublayer, now: Instant) -> Option<Bitrate> {
        let (spatial, temporal) = at.place();
        let (bytes, covered) = self.sum(now, |bucket| {
            let lower = bucket.bytes.iter().take(spatial + 1);
            lower.flat_map(|row| row.iter().take(temporal + 1)).map(|bytes| u64::from(*bytes)).sum()
        })?;
        Some(Bitrate::from_bps(bytes * 8 * 1_000_000 / covered))
    }

    /// [`sustained_up_to`](Self::sustained_up_to) of the entire encoding.
    #[cfg(test)]
    pub fn sustained(&self, now: Instant) -> Option<Bitrate> {
        self.sustained_up_to(Sublayer::TOP, now)
    }

    /// Rate of a sublayer and all that it builds on, over some three seconds, in which a single key frame has little
    /// weight. Use this to decide whether a layer fits; [`bitrate_up_to`](Self::bitrate_up_to) would make the decision
    /// oscillate.
    pub fn sustained_up_to(&self, at: Sublayer, now: Instant) -> Option<Bitrate> {
        let recent = self.bitrate_up_to(at, now)?;
        let closed = self.newest;
        // Without packets, or too early for a longer average, the short one holds.
        if recent == Bitrate::ZERO || closed < (BUCKETS - 1) as u64 {
            return Some(recent);
        }
        let (spatial, temporal) = at.place();
        let lower = self.sustained.iter().take(spatial + 1);
        let scaled: u64 = lower.flat_map(|row| row.iter().take(temporal + 1)).sum();
        Some(Bitrate::from_bps(scaled * 8 * PER_SECOND / FRACTION))
    }

    /// [`frames_per_second_up_to`](Self::frames_per_second_up_to) of the entire encoding.
    #[cfg(test)]
    pub fn frames_per_second(&self, now: Instant) -> Option<u32> {
        self.frames_per_second_up_to(Sublayer::TOP, now)
    }

    /// Frames per second over the last second, rounded, up to a temporal layer, in the spatial layer up to `at.spatial`
    /// that has the most frames. `None` until 200 ms after the first packet.
    pub fn frames_per_second_up_to(&self, at: Sublayer, now: Instant) -> Option<u32> {
        let (spatial, temporal) = at.place();
        let mut fullest = 0;
        for row in 0..=spatial {
            let (frames, covered) = self.sum(now, |bucket| {
                bucket.frames[row].iter().take(temporal + 1).map(|frames| u64::from(*frames)).sum()
            })?;
            fullest = fullest.max((frames * 1_000_000 + covered / 2) / covered);
        }
        Some(u32::try_from(fullest).unwrap_or(u32::MAX))
    }

    /// Number of the bucket that contains `now`. Empties buckets that begin.
    fn advance(&mut self, now: Instant) -> u64 {
        let origin = *self.origin.get_or_insert(now);
        // A time before the newest (from another shard's clock) counts as the newest.
        let number = bucket_of(now.saturating_duration_since(origin)).max(self.newest);
        if number - self.newest >= BUCKETS as u64 {
            // After a silence of the whole window, the measurement restarts.
            *self = Self { origin: Some(now), frames: self.frames, ..Self::default() };
            return 0;
        }
        while self.newest < number {
            self.close(self.newest);
            self.newest += 1;
            self.buckets[place_of(self.newest)] = Bucket::default();
        }
        number
    }

    /// Adds a full bucket to the longer average: an arithmetic mean at first, an exponential one later.
    fn close(&mut self, number: u64) {
        let weight = (number + 1).min(MEMORY);
        let bytes = self.buckets[place_of(number)].bytes;
        let averages = self.sustained.iter_mut().flatten();
        for (average, bytes) in averages.zip(bytes.iter().flatten()) {
            *average = (*average * (weight - 1) + u64::from(*bytes) * FRACTION) / weight;
        }
    }

    /// Sum over the window that ends at `now`, and the microseconds that the window covers. `None` until 200 ms after
    /// the first packet.
    fn sum(&self, now: Instant, value: impl Fn(&Bucket) -> u64) -> Option<(u64, u64)> {
        let elapsed = now.saturating_duration_since(self.origin?);
        let number = bucket_of(elapsed).max(self.newest);
        let oldest = number.saturating_sub(BUCKETS as u64 - 1);
        if elapsed < FIRST {
            return None;
        }
        let began = BUCKET.as_micros() as u64 * oldest;
        let covered = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).saturating_sub(began);
        let sum = (oldest..=self.newest).map(|number| value(&self.buckets[place_of(number)])).sum();
        Some((sum, covered.max(1)))
    }
}

fn bucket_of(elapsed: Duration) -> u64 {
    elapsed.as_secs() * PER_SECOND + u64::from(elapsed.subsec_millis() / BUCKET.subsec_millis())
}

fn place_of(number: u64) -> usize {
    (number % BUCKETS as u64) as usize
}

const BUCKET: Duration = Duration::from_millis(100);
const PER_SECOND: u64 = 10;
/// One second of full buckets, and the one being filled.
const BUCKETS: usize = 11;
/// Fewer than six frames, at 30 per second, tell nothing.
const FIRST: Duration = Duration::from_millis(200);
/// Number of buckets in the longer average.
const MEMORY: u64 = 32;
/// Fractions of a byte in the longer average, so that rounding does not lose an audio track.
const FRACTION: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::test_epoch;

    const LOW: Sublayer = Sublayer { spatial: 0, temporal: 0 };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn near(rate: Option<Bitrate>, bps: u64, percent: u64) -> bool {
        rate.is_some_and(|rate| rate.bps().abs_diff(bps) * 100 <= bps * percent)
    }

    /// Sends 30 frames per second of `packets` packets of 1000 bytes each, for `time` from `start + from`.
    fn send(meter: &mut EncodingRate, start: Instant, from: Duration, time: Duration, packets: u64) {
        for frame in 0..time.as_millis() as u64 * 30 / 1000 {
            let now = start + from + Duration::from_micros(frame * 1_000_000 / 30);
            let timestamp = ExtendedTimestamp((from.as_millis() as u64) * 90 + frame * 3000 + 1);
            for _ in 0..packets {
                meter.on_packet(LOW, DataSize::from_bytes(1000), timestamp, now);
            }
        }
    }

    #[test]
    fn a_first_value_comes_after_200_ms_and_an_exact_one_after_a_second() {
        let start = test_epoch();
        let mut meter = EncodingRate::default();
        assert_eq!(meter.bitrate(start), None);
        send(&mut meter, start, ms(0), ms(200), 4);
        assert_eq!(meter.bitrate(start + ms(199)), None);
        assert!(near(meter.bitrate(start + ms(200)), 960_000, 1), "{:?}", meter.bitrate(start + ms(200)));
        for period in 2..40 {
            send(&mut meter, start, ms(100 * period), ms(100), 4);
            for late in [67, 80, 99] {
                let rate = meter.bitrate(start + ms(100 * period + late));
                let percent = if period < 10 { 15 } else { 5 };
                assert!(near(rate, 960_000, percent), "{period}, {late}: {rate:?}");
            }
        }
        assert_eq!(meter.frames_per_second(start + ms(3999)), Some(30));
    }

    #[test]
    fn a_change_of_rate_shows_within_a_second() {
        let start = test_epoch();
        let mut meter = EncodingRate::default();
        send(&mut meter, start, ms(0), ms(3000), 8);
        send(&mut meter, start, ms(3000), ms(1100), 2);
        assert!(near(meter.bitrate(start + ms(4099)), 480_000, 5));
        assert!(meter.sustained(start + ms(4099)).is_some_and(|rate| rate.bps() > 960_000), "slower");
        send(&mut meter, start, ms(4100), ms(20_000), 2);
        assert!(near(meter.sustained(start + ms(24_099)), 480_000, 3));
    }

    #[test]
    fn a_key_frame_hardly_moves_the_sustained_rate() {
        let start = test_epoch();
        let mut meter = EncodingRate::default();
        send(&mut meter, start, ms(0), ms(10_000), 4);
        let key = start + ms(10_000);
        for _ in 0..60 {
            meter.on_packet(LOW, DataSize::from_bytes(1000), ExtendedTimestamp(1_000_000), key);
        }
        send(&mut meter, start, ms(10_033), ms(300), 4);
        let now = start + ms(10_330);
        assert!(meter.bitrate(now).is_some_and(|rate| rate.bps() > 1_300_000));
        assert!(near(meter.sustained(now), 960_000, 17), "{:?}", meter.sustained(now));
    }

    #[test]
    fn silence_counts_down_to_zero_and_a_new_start_is_measured_anew() {
        let start = test_epoch();
        let mut meter = EncodingRate::default();
        send(&mut meter, start, ms(0), ms(2000), 4);
        assert!(near(meter.bitrate(start + ms(2500)), 480_000, 10));
        assert_eq!(meter.bitrate(start + ms(3100)), Some(Bitrate::ZERO));
        assert_eq!(meter.sustained(start + ms(3100)), Some(Bitrate::ZERO));
        assert_eq!(meter.bitrate(start + Duration::from_secs(86_400)), Some(Bitrate::ZERO));
        send(&mut meter, start, ms(10_000), ms(500), 2);
        assert_eq!(meter.bitrate(start + ms(10_100)), None, "less than 200 ms of it");
        assert!(near(meter.bitrate(start + ms(10_499)), 480_000, 2));
    }

    #[test]
    fn lower_sublayers_cost_less_and_the_top_is_everything() {
        // L3T3 at 30 pictures per second: bytes per spatial layer; temporal pattern 0 2 1 2.
        let start = test_epoch();
        let mut meter = EncodingRate::default();
        let sizes = [500, 1000, 2000];
        for picture in 0..120_u64 {
            let now = start + Duration::from_micros(picture * 1_000_000 / 30);
            let temporal = [0, 2, 1, 2][(picture % 4) as usize];
            for (spatial, size) in sizes.iter().enumerate() {
                let at = Sublayer { spatial: spatial as u8, temporal };
                meter.on_packet(at, DataSize::from_bytes(*size), ExtendedTimestamp(1 + picture * 3000), now);
            }
        }
        let now = start + Duration::from_micros(3_999_000);
        // (spatial, temporal, kilobits per second, frames per second)
        let table = [
            (0, 0, 30, 7),
            (0, 1, 60, 15),
            (0, 2, 120, 30),
            (1, 2, 360, 30),
            (2, 0, 210, 7),
            (2, 1, 420, 15),
            (2, 2, 840, 30),
            (9, 9, 840, 30),
        ];
        for (spatial, temporal, kbps, fps) in table {
            let at = Sublayer { spatial, temporal };
            assert!(near(meter.bitrate_up_to(at, now), kbps * 1000, 10), "{at:?}");
            assert!(near(meter.sustained_up_to(at, now), kbps * 1000, 10), "{at:?}");
            let counted = meter.frames_per_second_up_to(at, now).unwrap_or(0);
            assert!(counted.abs_diff(fps) <= 1, "{at:?}: {counted}");
        }
        assert_eq!(meter.bitrate(now), meter.bitrate_up_to(Sublayer { spatial: 9, temporal: 9 }, now));
    }

    #[test]
    fn neither_time_backwards_nor_huge_sizes_do_harm() {
        let start = test_epoch();
        let mut meter = EncodingRate::default();
        let late = start + ms(5000);
        meter.on_packet(LOW, DataSize::from_bytes(u64::MAX), ExtendedTimestamp(u64::MAX), late);
        for _ in 0..10 {
            meter.on_packet(LOW, DataSize::from_bytes(u64::MAX), ExtendedTimestamp(0), start);
        }
        assert_eq!(meter.bitrate(start), None);
        assert!(meter.bitrate(late + ms(300)).is_some());
        assert_eq!(meter.frames_per_second(late + ms(1000)), Some(1));
    }
}
