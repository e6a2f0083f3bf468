//! Tracks which recent values of an increasing counter have been seen.

/// How a number relates to those that a [`SeenWindow`] has seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// The first number of all.
    First,
    /// Higher than all before. Holds how many unseen numbers lie between the former highest and this one.
    Ahead(u64),
    /// Below the highest number, seen for the first time.
    Filled,
    /// A duplicate.
    Already,
    /// Below the window: whether it was seen is unknown.
    TooOld,
}

/// Bitmap of which numbers have been seen, among the highest number and the `64 * WORDS - 1` below it.
#[derive(Debug, Clone)]
pub(super) struct SeenWindow<const WORDS: usize> {
    highest: Option<u64>,
    bits: [u64; WORDS],
}

impl<const WORDS: usize> SeenWindow<WORDS> {
    const SIZE: u64 = 64 * WORDS as u64;

    pub(super) fn new() -> Self {
        Self { highest: None, bits: [0; WORDS] }
    }

    /// Marks `number` as seen. Returns how it relates to the numbers seen before.
    pub(super) fn mark(&mut self, number: u64) -> Seen {
        let Some(highest) = self.highest else {
            self.restart(number);
            return Seen::First;
        };
        if number > highest {
            let step = number - highest;
            if step >= Self::SIZE {
                self.bits = [0; WORDS];
            } else {
                for skipped in highest + 1..number {
                    self.set(skipped, false);
                }
            }
            self.set(number, true);
            self.highest = Some(number);
            return Seen::Ahead(step - 1);
        }
        if highest - number >= Self::SIZE {
            return Seen::TooOld;
        }
        if self.is_set(number) {
            return Seen::Already;
        }
        self.set(number, true);
        Seen::Filled
    }

    fn restart(&mut self, number: u64) {
        self.bits = [0; WORDS];
        self.set(number, true);
        self.highest = Some(number);
    }

    fn is_set(&self, number: u64) -> bool {
        self.bits[Self::word(number)] & Self::bit(number) != 0
    }

    fn set(&mut self, number: u64, seen: bool) {
        let word = &mut self.bits[Self::word(number)];
        if seen {
            *word |= Self::bit(number);
        } else {
            *word &= !Self::bit(number);
        }
    }

    /// Index of the number's word, always below `WORDS`.
    fn word(number: u64) -> usize {
        (number / 64 % WORDS as u64) as usize
    }

    fn bit(number: u64) -> u64 {
        1 << (number % 64)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn agrees_with_a_set_on_a_random_walk() {
        for seed in 0..20 {
            let mut random = SmallRng::seed_from_u64(seed);
            let mut window = SeenWindow::<2>::new();
            let mut set = BTreeSet::new();
            let mut highest = 1000u64;
            assert_eq!(window.mark(highest), Seen::First);
            set.insert(highest);
            for _ in 0..5000 {
                let number = match random.random_range(0..100) {
                    0 => highest + random.random_range(100..300),
                    1..=40 => highest + random.random_range(1..4),
                    _ => highest - random.random_range(0..200),
                };
                let expected = if number > highest {
                    Seen::Ahead(number - highest - 1)
                } else if highest - number >= 128 {
                    Seen::TooOld
                } else if set.contains(&number) {
                    Seen::Already
                } else {
                    Seen::Filled
                };
                assert_eq!(window.mark(number), expected, "seed {seed}, number {number}, highest {highest}");
                set.insert(number);
                highest = highest.max(number);
            }
        }
    }
}
