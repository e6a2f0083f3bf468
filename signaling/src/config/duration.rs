//! Durations as people write them: `90s`, `6h`, `1h30m`, `500ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// Duration in a configuration or a flag. A bare number means seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HumanDuration(pub Duration);

/// The text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a length of time; write for example 90s, 15m, 6h, 1h30m or 500ms")]
pub struct DurationError(String);

const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 24 * 3_600_000)];

impl HumanDuration {
    /// Makes a duration from seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl From<HumanDuration> for Duration {
    fn from(human: HumanDuration) -> Self {
        human.0
    }
}

impl FromStr for HumanDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        milliseconds(text.trim())
            .map(|sum| Self(Duration::from_millis(sum)))
            .ok_or_else(|| DurationError(text.to_owned()))
    }
}

fn milliseconds(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse::<u64>() {
        return seconds.checked_mul(1000);
    }
    let mut rest = text;
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let letters = tail.find(|letter: char| letter.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(letters)?;
        let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(factor)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(sum)
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = self.0.as_millis();
        let (name, factor) = UNITS
            .into_iter()
            .rev()
            .find(|(_, factor)| sum != 0 && sum.is_multiple_of(u128::from(*factor)))
            .unwrap_or(("s", 1000));
        write!(f, "{}{name}", sum / u128::from(factor))
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Seconds(u64),
            Text(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Seconds(seconds) => Ok(Self::from_secs(seconds)),
            Raw::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_and_written() {
        for (text, millis, again) in [
            ("90s", 90_000, "90s"),
            ("15", 15_000, "15s"),
            ("1h30m", 5_400_000, "90m"),
            ("6h", 21_600_000, "6h"),
            ("500ms", 500, "500ms"),
            ("2d", 172_800_000, "2d"),
            ("0s", 0, "0s"),
        ] {
            let read: HumanDuration = text.parse().unwrap();
            assert_eq!(read.0.as_millis(), millis, "{text}");
            assert_eq!(read.to_string(), again, "{text}");
        }
        for text in
            ["", "s", "5 m", "5x", "-1s", "1.5h", "5m3", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(text.parse::<HumanDuration>().is_err(), "{text:?}");
        }
    }
}
