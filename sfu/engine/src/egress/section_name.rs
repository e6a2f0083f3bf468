//! Decides until when packets carry the MID of their media section (RFC 9143 section 15).
//!
//! A receiver that has not yet applied the description with our SSRCs, or that looks at MIDs first, cannot assign a
//! packet without a MID to a section: Firefox discards the whole stream then. Once a reception report names the media
//! SSRC, the description has been applied, and the retransmission SSRC is known with it. Transport-wide feedback is not
//! enough: it also covers packets that matched no section.

use crate::units::ExtendedSequence;

/// Longer MIDs do not fit a one-byte header extension (RFC 8285 section 4.2) and are not written.
const LONGEST: usize = 16;

/// The MID of a subscription's media section, and which packets still carry it.
#[derive(Debug)]
pub(super) struct SectionName {
    /// Media packets carry the MID up to this extended sequence number. A number that is sent again must have the same
    /// header, because both packets are protected with the same nonce.
    through: u64,
    /// Whether packets of the retransmission SSRC carry the MID. Each of its numbers is sent once.
    on_repairs: bool,
    len: u8,
    mid: [u8; LONGEST],
}

impl SectionName {
    /// `None` if the receiver did not agree to the extension.
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

    /// MID to write on a media packet.
    #[inline]
    pub fn on_media(&self, sequence: ExtendedSequence) -> Option<&[u8]> {
        (sequence.0 <= self.through).then(|| self.mid()).flatten()
    }

    /// MID to write on a packet of the retransmission SSRC, padding included.
    #[inline]
    pub fn on_repair(&self) -> Option<&[u8]> {
        self.on_repairs.then(|| self.mid()).flatten()
    }

    /// Handles a report about the media SSRC; `newest` is the highest number assigned so far.
    pub fn media_reported(&mut self, newest: ExtendedSequence) {
        if self.through == u64::MAX {
            self.through = newest.0;
            self.on_repairs = false;
        }
    }

    /// Handles a report about the retransmission SSRC, which can come first because padding is sent before media.
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
