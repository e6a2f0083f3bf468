//! Which transport-wide number a packet of a stream has: congestion control feedback (RFC 8888) counts packets by source
//! and RTP sequence number, everything else here by the number that is common to all streams.

use crate::units::{ExtendedSequence, Ssrc};

/// Finds a packet's transport-wide number by its source and RTP sequence number. Holds one place for each of the last
/// [`PLACES`] packets or so; one that was overwritten is not found.
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
    /// Nothing sent. Takes no memory until something is.
    pub fn new() -> Self {
        Self { places: Vec::new() }
    }

    /// A packet is sent.
    pub fn insert(&mut self, ssrc: Ssrc, sequence: u16, transport: ExtendedSequence) {
        if self.places.is_empty() {
            self.places = vec![Place::default(); PLACES];
        }
        if let Some(place) = self.places.get_mut(place(ssrc, sequence)) {
            *place = Place { ssrc: ssrc.0, sequence, used: true, transport: transport.0 };
        }
    }

    /// The packet's transport-wide number.
    pub fn find(&self, ssrc: Ssrc, sequence: u16) -> Option<ExtendedSequence> {
        let place = self.places.get(place(ssrc, sequence))?;
        let found = place.used && place.ssrc == ssrc.0 && place.sequence == sequence;
        found.then_some(ExtendedSequence(place.transport))
    }
}

/// Neighbours of one source get neighbouring places; sources begin far from each other.
fn place(ssrc: Ssrc, sequence: u16) -> usize {
    let start = (ssrc.0.wrapping_mul(0x9e37_79b1) >> 16) as usize;
    (start + usize::from(sequence)) % PLACES
}

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
