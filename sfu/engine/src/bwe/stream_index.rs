//! Maps RTP sequence numbers to transport-wide numbers. Congestion control feedback (RFC 8888) identifies packets by
//! SSRC and RTP sequence number; the rest of the estimator uses the transport-wide number that all streams share.

use crate::units::{ExtendedSequence, Ssrc};

/// Hash table from SSRC and RTP sequence number to the transport-wide number. Holds about the last [`PLACES`] packets;
/// a newer packet overwrites an older one in the same place.
#[derive(Debug)]
pub(super) struct StreamIndex {
    places: Vec<Place>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    ssrc: u32,
    sequence: u16,
    used: bool,
    transport: u64,
}

impl StreamIndex {
    /// An empty index. It allocates memory with the first packet.
    pub fn new() -> Self {
        Self { places: Vec::new() }
    }

    /// Records a sent packet.
    pub fn insert(&mut self, ssrc: Ssrc, sequence: u16, transport: ExtendedSequence) {
        if self.places.is_empty() {
            self.places = vec![Place::default(); PLACES];
        }
        if let Some(place) = self.places.get_mut(place(ssrc, sequence)) {
            *place = Place { ssrc: ssrc.0, sequence, used: true, transport: transport.0 };
        }
    }

    /// The packet's transport-wide number; `None` if it was not sent or its entry was overwritten.
    pub fn find(&self, ssrc: Ssrc, sequence: u16) -> Option<ExtendedSequence> {
        let place = self.places.get(place(ssrc, sequence))?;
        let found = place.used && place.ssrc == ssrc.0 && place.sequence == sequence;
        found.then_some(ExtendedSequence(place.transport))
    }
}

/// Consecutive packets of one SSRC get adjacent places; different SSRCs start far from each other.
fn place(ssrc: Ssrc, sequence: u16) -> usize {
    let start = (ssrc.0.wrapping_mul(0x9e37_79b1) >> 16) as usize;
    (start + usize::from(sequence)) % PLACES
}

/// Number of entries: 64 KB.
const PLACES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_found_by_source_and_number_until_overwritten() {
        let mut index = StreamIndex::new();
        assert_eq!(index.find(Ssrc(1), 5), None);
        for n in 0..5000_u64 {
            index.insert(Ssrc(1), (60_000 + n) as u16, ExtendedSequence(n));
        }
        assert_eq!(index.find(Ssrc(1), (60_000_u64 + 4999) as u16), Some(ExtendedSequence(4999)));
        assert_eq!(index.find(Ssrc(1), 60_000), None);
        assert_eq!(index.find(Ssrc(2), (60_000_u64 + 4999) as u16), None);
    }
}
