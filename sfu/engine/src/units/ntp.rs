//! NTP timestamps of a sender's own clock, as in sender reports (RFC 3550 section 4). They are not `Instant`s: only the
//! difference between two values from one sender is meaningful.

use std::time::{Duration, Instant};

/// A time by some participant's clock: seconds in the upper 32 bits, fractions of a second in the lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// The middle 32 bits, in units of 1/65,536 s, as reception reports return them.
    pub fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// This time plus `time`; wraps around.
    pub fn plus(self, time: Duration) -> Self {
        let fraction = (u128::from(time.subsec_nanos()) << 32) / 1_000_000_000;
        Self(self.0.wrapping_add(time.as_secs() << 32).wrapping_add(fraction as u64))
    }
}

/// Clock mapping of one stream from a sender report: its RTP timestamp was `timestamp` when the sender's clock showed
/// `ntp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderClock {
    /// Time of the sender's clock in the report.
    pub ntp: NtpTime,
    /// RTP timestamp of the stream at that time.
    pub timestamp: u32,
    /// Time of arrival of the report.
    pub arrival: Instant,
}

impl SenderClock {
    /// Sender's time at RTP timestamp `timestamp`, which must be within 2^31 ticks of the report's.
    pub fn ntp_of(&self, timestamp: u32, clock_rate: u32) -> NtpTime {
        let ticks = i128::from(timestamp.wrapping_sub(self.timestamp) as i32);
        let fractions = (ticks << 32) / i128::from(clock_rate.max(1));
        NtpTime(self.ntp.0.wrapping_add(fractions as u64))
    }

    /// RTP timestamp of the stream at the sender's time `ntp`.
    pub fn timestamp_at(&self, ntp: NtpTime, clock_rate: u32) -> u32 {
        let fractions = i128::from(ntp.0.wrapping_sub(self.ntp.0) as i64);
        let ticks = (fractions * i128::from(clock_rate) + (1 << 31)) >> 32;
        self.timestamp.wrapping_add(ticks as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::test_epoch;

    #[test]
    fn middle_bits_count_sixty_five_thousandths_of_a_second() {
        let time = NtpTime(0x1234_5678_9abc_def0);
        assert_eq!(time.middle(), 0x5678_9abc);
        assert_eq!(time.plus(Duration::from_millis(500)).middle(), 0x5679_1abc);
        assert_eq!(time.plus(Duration::from_secs(2)).0 - time.0, 2 << 32);
    }

    #[test]
    fn timestamps_and_sender_time_map_both_ways_over_the_wrap() {
        let clock =
            SenderClock { ntp: NtpTime(7 << 32), timestamp: u32::MAX - 44_999, arrival: test_epoch() };
        let half_a_second_later = clock.ntp_of(0, 90_000);
        assert_eq!(half_a_second_later, NtpTime((7 << 32) + (1 << 31)));
        for timestamp in [0, 1, 12_345, u32::MAX - 90_000, u32::MAX] {
            assert_eq!(clock.timestamp_at(clock.ntp_of(timestamp, 90_000), 90_000), timestamp);
        }
    }
}
