//! Reading bits, most significant first. A read past the end is a typed error.

use super::DescriptorError;

pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Number of bits read so far.
    position: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(super) fn flag(&mut self, field: &'static str) -> Result<bool, DescriptorError> {
        let byte = self.bytes.get(self.position / 8).ok_or(DescriptorError::Truncated(field))?;
        let bit = byte >> (7 - self.position % 8) & 1;
        self.position += 1;
        Ok(bit != 0)
    }

    /// `f(count)`: an unsigned number of at most 32 bits.
    pub(super) fn bits(&mut self, count: u32, field: &'static str) -> Result<u32, DescriptorError> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.flag(field)?);
        }
        Ok(value)
    }

    /// `ns(below)`: a number less than `below`, encoded in a variable number of bits. `below` is 1 to 64 here.
    pub(super) fn non_symmetric(&mut self, below: u32, field: &'static str) -> Result<u32, DescriptorError> {
        let width = u32::BITS - below.leading_zeros();
        let short = (1 << width) - below;
        let value = self.bits(width.saturating_sub(1), field)?;
        if value < short {
            return Ok(value);
        }
        Ok((value << 1 | u32::from(self.flag(field)?)) - short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_taken_from_the_top_and_end_with_an_error() {
        let mut bits = BitReader::new(&[0b1010_0000, 0xff]);
        assert_eq!(bits.bits(3, "a"), Ok(5));
        assert_eq!(bits.bits(9, "b"), Ok(0b0_0000_1111));
        assert_eq!(bits.bits(5, "c"), Err(DescriptorError::Truncated("c")));
    }

    #[test]
    fn non_symmetric_numbers_follow_the_specification() {
        // ns(5): 0, 1 and 2 in two bits, 3 and 4 in three.
        for (byte, value) in
            [(0b0000_0000, 0), (0b0100_0000, 1), (0b1000_0000, 2), (0b1100_0000, 3), (0b1110_0000, 4)]
        {
            assert_eq!(BitReader::new(&[byte]).non_symmetric(5, "x"), Ok(value));
        }
        assert_eq!(BitReader::new(&[]).non_symmetric(1, "x"), Ok(0), "one value takes no bits");
    }
}
