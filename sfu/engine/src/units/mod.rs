//! Types for units: rates, sizes, and wire counters extended to 64 bits. Names with suffixes such as `_bps` are used
//! only in serde types.

mod losses;
mod ntp;

pub use losses::Losses;
pub use ntp::{NtpTime, SenderClock};

use std::fmt;
use std::ops::{Add, AddAssign, Range, Sub};
use std::time::Duration;

/// A synchronization source (RFC 3550 section 5.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Ssrc(pub u32);

impl fmt::Debug for Ssrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ssrc {}", self.0)
    }
}

/// An RTP payload type, 0 to 127.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PayloadType(pub u8);

/// A 16-bit sequence number extended to 64 bits. It starts above zero, so that a reordered packet from before the first
/// one does not go below zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ExtendedSequence(pub u64);

impl ExtendedSequence {
    /// Extended number of the first packet seen of a stream: one full cycle above zero.
    pub fn first(wire: u16) -> Self {
        Self((1 << 16) | u64::from(wire))
    }

    /// The extended number nearest to `self` whose low bits are `wire`.
    pub fn extend(self, wire: u16) -> Self {
        let distance = wire.wrapping_sub(self.0 as u16) as i16;
        Self(self.0.saturating_add_signed(i64::from(distance)))
    }

    /// The 16 bits that go on the wire.
    pub fn wire(self) -> u16 {
        self.0 as u16
    }

    /// The number `n` higher.
    pub fn plus(self, n: u64) -> Self {
        Self(self.0.wrapping_add(n))
    }

    /// The SRTP rollover counter of this number (RFC 3711 section 3.3.1). The stream's first cycle is 1 in this type,
    /// but 0 in SRTP.
    pub fn rollover(self) -> u32 {
        ((self.0 >> 16) as u32).wrapping_sub(1)
    }
}

/// First sequence numbers of streams that we send. They are in the lower half, so that the number does not wrap among
/// the first packets: a receiver that misses those could not know of the wrap, which SRTP does not signal (RFC 3711
/// section 3.3.1).
pub const FIRST_SEQUENCES: Range<u16> = 1..1 << 15;

/// Step in a stream's sequence numbers above which the stream counts as restarted, instead of as having lost that many
/// packets.
pub const RESTART_GAP: u64 = 1000;

/// A 32-bit RTP timestamp extended to 64 bits, in units of its stream's clock rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ExtendedTimestamp(pub u64);

impl ExtendedTimestamp {
    /// Extended timestamp of the first packet seen of a stream: one full cycle above zero.
    pub fn first(wire: u32) -> Self {
        Self((1 << 32) | u64::from(wire))
    }

    /// The extended timestamp nearest to `self` whose low bits are `wire`.
    pub fn extend(self, wire: u32) -> Self {
        let distance = wire.wrapping_sub(self.0 as u32) as i32;
        Self(self.0.saturating_add_signed(i64::from(distance)))
    }

    /// The 32 bits that go on the wire.
    pub fn wire(self) -> u32 {
        self.0 as u32
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct DataSize(u64);

impl DataSize {
    /// A size of `bytes` bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl Add for DataSize {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for DataSize {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for DataSize {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// A rate of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Bitrate(u64);

impl Bitrate {
    /// Zero bits per second.
    pub const ZERO: Self = Self(0);
    /// Highest value, for use as "no limit".
    pub const MAX: Self = Self(u64::MAX);

    /// A rate of `bps` bits per second.
    pub const fn from_bps(bps: u64) -> Self {
        Self(bps)
    }

    /// A rate of `kbps` thousand bits per second.
    pub const fn from_kbps(kbps: u64) -> Self {
        Self(kbps.saturating_mul(1000))
    }

    /// The rate in bits per second.
    pub const fn bps(self) -> u64 {
        self.0
    }

    /// Amount of data in `time` at this rate, rounded down.
    pub fn over(self, time: Duration) -> DataSize {
        let bits = u128::from(self.0) * time.as_micros() / 1_000_000;
        DataSize(u64::try_from(bits / 8).unwrap_or(u64::MAX))
    }
}

/// Start of virtual time in unit tests.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests need some instant to count from")]
pub(crate) fn test_epoch() -> std::time::Instant {
    std::time::Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_extend_to_the_nearest_in_both_directions() {
        let first = ExtendedSequence::first(65_530);
        let ahead = first.extend(5);
        assert_eq!(ahead.0 - first.0, 11);
        assert_eq!(ahead.extend(65_530), first);
        assert_eq!((first.rollover(), ahead.rollover()), (0, 1));
        assert_eq!(ahead.wire(), 5);
    }

    #[test]
    fn timestamps_extend_over_the_wrap() {
        let first = ExtendedTimestamp::first(u32::MAX - 100);
        assert_eq!(first.extend(899).0 - first.0, 1000);
        assert_eq!(first.extend(899).extend(u32::MAX - 100), first);
    }

    #[test]
    fn rate_times_duration_is_size() {
        assert_eq!(Bitrate::from_kbps(800).over(Duration::from_millis(10)).bytes(), 1000);
    }
}
