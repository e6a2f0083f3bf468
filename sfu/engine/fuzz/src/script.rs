//! A fuzzer's input as a list of decisions. At its end every decision is zero or empty.

/// The remaining input.
#[derive(Debug, Clone, Copy)]
pub struct Script<'a>(pub &'a [u8]);

impl<'a> Script<'a> {
    /// Whether the input is used up.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// The next 16 bits as a number.
    pub fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// The next 32 bits as a number.
    pub fn word(&mut self) -> u32 {
        u32::from(self.short()) << 16 | u32::from(self.short())
    }

    /// One of `choices`, which must not be empty.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    /// The lowest bit of the next byte.
    pub fn coin(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A byte string after its length: up to 254 bytes after a length byte, or up to 65,535 after the byte 255 and a
    /// 16-bit length.
    pub fn bytes(&mut self) -> &'a [u8] {
        let count = match self.byte() {
            255 => usize::from(self.short()),
            count => usize::from(count),
        };
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
