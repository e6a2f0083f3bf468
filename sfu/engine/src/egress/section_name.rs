//! Until when packets name the media section that they belong to (MID, RFC 9143 section 15).
//!
//! A receiver that has not applied the description with our sources, or that looks at mids first, cannot place a packet
//! without it: Firefox discards the whole stream then. Once a reception report names the media source, the description
//! is applied, and with it the retransmission source is known as well. Transport-wide feedback says less: it also counts
//! packets that found no section.

use crate::units::ExtendedSequence;

/// Longer mids fit no one-byte header extension (RFC 8285 section 4.2), and are left out.
const LONGEST: usize = 16;

/// The mid of a subscription's section, and on which packets it is still written.
#[derive(Debug)]
pub(super) struct SectionName {
    /// Packets of the media source carry the mid up to this extended sequence number. A number that is sent again
    /// must carry the same header: both are protected with the same nonce.
    through: u64,
    /// Packets of the retransmission source carry the mid; each of its numbers is sent once.
    on_repairs: bool,
    len: u8,
    mid: [u8; LONGEST],
}

impl SectionName {
    /// `None`: the receiver did not agree to the extension.
    pub fn new(mid: Option<&str>) -> Self {
        let mut name = Self { through: 0, on_repairs: false, len: 0, mid: [0; LONGEST] };
        if let Some(mid) = mid.map(str::as_bytes).filter(|mid| !mid.is_empty())
            && let Some(place) = name.mid.get_mut(..mid.len())
        {
            place.copy_from_slice(mid);
            name.len = mid.len() as u8;
            (name.through, name.on_repairs) = (u64::MAX, true);
        }
        name
    }

    /// The mid to write on a packet of the media source.
    #[inline]
    pub fn on_media(&self, sequence: ExtendedSequence) -> Option<&[u8]> {
        (sequence.0 <= self.through).then(|| self.mid()).flatten()
    }

    /// The mid to write on a packet of the retransmission source, padding included.
    #[inline]
    pub fn on_repair(&self) -> Option<&[u8]> {
        self.on_repairs.then(|| self.mid()).flatten()
    }

    /// A report names the media source, of which `newest` is the last number given out so far.
    pub fn media_reported(&mut self, newest: ExtendedSequence) {
        if self.through == u64::MAX {
            self.through = newest.0;
            self.on_repairs = false;
        }
    }

    /// A report names the retransmission source: padding came before media.
    pub fn repair_reported(&mut self) {
        self.on_repairs = false;
    }

    fn mid(&self) -> Option<&[u8]> {
        self.mid.get(..usize::from(self.len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_reads_the_same_before_and_after_the_report() {
        let number = |n| ExtendedSequence::first(65_530).plus(n);
        let mut name = SectionName::new(Some("v2"));
        assert_eq!(name.on_media(number(9)), Some(&b"v2"[..]));
        assert_eq!(name.on_repair(), Some(&b"v2"[..]));
        name.media_reported(number(9));
        name.media_reported(number(20));
        assert_eq!(name.on_media(number(9)), Some(&b"v2"[..]));
        assert_eq!(name.on_media(number(10)), None);
        assert_eq!(name.on_repair(), None);
        let mut name = SectionName::new(Some("v2"));
        name.repair_reported();
        assert_eq!((name.on_media(number(9)), name.on_repair()), (Some(&b"v2"[..]), None));
    }

    #[test]
    fn a_mid_that_was_not_agreed_on_or_does_not_fit_is_never_written() {
        for mid in [None, Some(""), Some("seventeen letters")] {
            let name = SectionName::new(mid);
            assert_eq!(
                (name.on_media(ExtendedSequence::first(0)), name.on_repair()),
                (None, None),
                "{mid:?}"
            );
        }
        let longest = "sixteen letters!";
        let name = SectionName::new(Some(longest));
        assert_eq!(name.on_media(ExtendedSequence::first(0)), Some(longest.as_bytes()));
    }
}
