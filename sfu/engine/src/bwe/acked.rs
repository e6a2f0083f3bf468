//! The rate at which packets arrive at the receiver, by the receiver's clock.

/// Bytes that arrived, in buckets of [`BUCKET`].
#[derive(Debug)]
pub(super) struct AckedRate {
    buckets: [u32; BUCKETS],
    /// Number of the newest bucket, and of the bucket in which counting began; `None` until a packet has arrived.
    span: Option<(i64, i64)>,
}

impl AckedRate {
    /// No packet has arrived.
    pub fn new() -> Self {
        Self { buckets: [0; BUCKETS], span: None }
    }

    /// A packet arrived at `arrival`, in microseconds of the receiver's clock.
    pub fn on_packet(&mut self, arrival: i64, bytes: u16) {
        let number = arrival.div_euclid(BUCKET);
        let (newest, began) = match self.span {
            // The clock jumped, or nothing arrived for long: start again.
            Some((newest, _)) if number.saturating_sub(newest).saturating_abs() > BUCKETS as i64 => {
                self.buckets = [0; BUCKETS];
                (number, number)
            }
            Some((newest, began)) => {
                for gone in newest + 1..=number {
                    if let Some(bucket) = self.buckets.get_mut(index(gone)) {
                        *bucket = 0;
                    }
                }
                if number <= newest - BUCKETS as i64 {
                    return;
                }
                (newest.max(number), began)
            }
            None => (number, number),
        };
        self.span = Some((newest, began));
        if let Some(bucket) = self.buckets.get_mut(index(number)) {
            *bucket = bucket.saturating_add(u32::from(bytes));
        }
    }

    /// Accounts for `bytes` whose feedback message was lost. They are assumed to have arrived evenly between the newest
    /// known arrival and `arrival`, that of a packet in the next message.
    pub fn on_gap(&mut self, arrival: i64, bytes: u64) {
        let Some((newest, _)) = self.span else { return };
        let number = arrival.div_euclid(BUCKET);
        let gap = number.saturating_sub(newest);
        if !(1..BUCKETS as i64).contains(&gap) {
            return;
        }
        let each = u16::try_from(bytes / gap as u64).unwrap_or(u16::MAX);
        for between in newest..number {
            self.on_packet(between * BUCKET, each);
        }
    }

    /// Bits per second over the last `millis` before the newest arrival, or over the time measured so far if shorter.
    /// `None` if that is less than 80 ms.
    pub fn over(&self, millis: i64) -> Option<f64> {
        let (newest, began) = self.span?;
        let wanted = (millis * 1000 / BUCKET).min(BUCKETS as i64 - 1);
        // The newest bucket is not complete yet, and the first one was not either.
        let count = wanted.min(newest - began - 1);
        if count < 4 {
            return None;
        }
        let bytes: u64 = (newest - count..newest)
            .filter_map(|number| self.buckets.get(index(number)))
            .map(|bytes| u64::from(*bytes))
            .sum();
        Some(bytes as f64 * 8.0 * 1e6 / (count * BUCKET) as f64)
    }

    /// Rate at which packets arrive now: the long average, unless the short one is so far below that the link must have
    /// become narrower.
    pub fn rate(&self) -> Option<f64> {
        let long = self.over(500)?;
        let short = self.over(200)?;
        Some(if short < 0.7 * long { short } else { long })
    }

    /// Rate at which packets arrive while the link is known to be filled. Newer measurements count more then.
    pub fn filled_rate(&self) -> Option<f64> {
        let long = self.over(500)?;
        let short = self.over(240)?;
        Some(if short < 0.7 * long { self.over(200)? } else { long.max(short) })
    }
}

fn index(number: i64) -> usize {
    number.rem_euclid(BUCKETS as i64) as usize
}

/// Microseconds of one bucket.
const BUCKET: i64 = 20_000;
/// Number of buckets: 1.28 s.
const BUCKETS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream_reads_as_its_rate_and_a_drop_shows_within_the_short_window() {
        let mut acked = AckedRate::new();
        for n in 0..200 {
            acked.on_packet(-1_000_000 + n * 5000, 625); // 1 Mbit/s
        }
        let rate = acked.rate().expect("enough arrived");
        assert!((rate - 1e6).abs() < 1e4, "{rate}");
        for n in 0..12 {
            acked.on_packet(n * 20_000, 625); // 250 kbit/s
        }
        let rate = acked.rate().expect("enough arrived");
        assert!(rate < 3e5, "{rate}");
    }

    #[test]
    fn a_jump_of_the_clock_begins_anew() {
        let mut acked = AckedRate::new();
        for n in 0..200 {
            acked.on_packet(n * 5000, 625);
        }
        acked.on_packet(i64::MAX, 625);
        assert_eq!(acked.rate(), None);
        acked.on_packet(i64::MIN, 625);
        assert_eq!(acked.rate(), None);
    }
}
