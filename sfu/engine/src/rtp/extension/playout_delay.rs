//! The playout delay extension: minimum and maximum time between capture and display at the receiver, as two 12-bit
//! numbers in units of 10 ms.

use sfu_protocol::PlayoutDelay;

/// Unit of the encoded values, in milliseconds.
const UNIT: u32 = 10;
const MOST_UNITS: u32 = 0xfff;

/// Encodes the delay, rounding down to 10 ms and limiting each value to 40.95 s.
pub fn write_playout_delay(delay: PlayoutDelay) -> [u8; 3] {
    let units = |ms: u32| (ms / UNIT).min(MOST_UNITS);
    let (min, max) = (units(delay.min_ms), units(delay.max_ms.max(delay.min_ms)));
    let [_, a, b, c] = (min << 12 | max).to_be_bytes();
    [a, b, c]
}

/// Decodes the delay.
pub fn read_playout_delay([a, b, c]: [u8; 3]) -> PlayoutDelay {
    let both = u32::from_be_bytes([0, a, b, c]);
    PlayoutDelay { min_ms: (both >> 12) * UNIT, max_ms: (both & MOST_UNITS) * UNIT }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_the_same_and_what_does_not_fit_counts_as_the_most() {
        let delay = |min_ms, max_ms| PlayoutDelay { min_ms, max_ms };
        assert_eq!(write_playout_delay(delay(100, 2_000)), [0x00, 0xa0, 0xc8]);
        for (written, read) in [
            (delay(0, 0), delay(0, 0)),
            (delay(140, 10_000), delay(140, 10_000)),
            (delay(99, 50), delay(90, 90)),
            (delay(100_000, u32::MAX), delay(40_950, 40_950)),
        ] {
            assert_eq!(read_playout_delay(write_playout_delay(written)), read);
        }
    }
}
