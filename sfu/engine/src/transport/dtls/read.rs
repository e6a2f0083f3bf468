//! Reading length-prefixed fields.

/// A cursor over bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// A big-endian number of `len` bytes, one to four.
    pub(super) fn number(&mut self, len: usize) -> Option<u32> {
        Some(self.take(len)?.iter().fold(0, |number, byte| (number << 8) | u32::from(*byte)))
    }

    /// A field preceded by its length, which takes `prefix` bytes.
    pub(super) fn field(&mut self, prefix: usize) -> Option<&'a [u8]> {
        let len = self.number(prefix)?;
        self.take(usize::try_from(len).ok()?)
    }
}
