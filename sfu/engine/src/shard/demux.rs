//! Whose datagram is it? By source address once ICE has validated that; by the user name of a connectivity
//! check before.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::handles::PeerIndex;

/// Addresses one peer may have validated at a time; further ones replace the oldest.
const ADDRESSES_PER_PEER: usize = 16;

/// The two tables.
#[derive(Debug, Default)]
pub struct Demux {
    by_address: HashMap<SocketAddr, PeerIndex>,
    by_ufrag: HashMap<String, PeerIndex>,
    addresses: HashMap<PeerIndex, Vec<SocketAddr>>,
}

impl Demux {
    /// The peer that validated this address.
    pub fn by_address(&self, source: &SocketAddr) -> Option<PeerIndex> {
        self.by_address.get(source).copied()
    }

    /// The peer with this local ICE user fragment.
    pub fn by_ufrag(&self, ufrag: &str) -> Option<PeerIndex> {
        self.by_ufrag.get(ufrag).copied()
    }

    /// Makes a peer reachable by its user fragment.
    pub fn add_ufrag(&mut self, ufrag: String, peer: PeerIndex) {
        self.by_ufrag.insert(ufrag, peer);
    }

    /// ICE validated an address for a peer. An address belongs to the peer that proved it last: a new call
    /// from the same port takes it over.
    pub fn add_address(&mut self, source: SocketAddr, peer: PeerIndex) {
        match self.by_address.insert(source, peer) {
            Some(earlier) if earlier == peer => return,
            Some(earlier) => {
                if let Some(list) = self.addresses.get_mut(&earlier) {
                    list.retain(|address| *address != source);
                }
            }
            None => {}
        }
        let list = self.addresses.entry(peer).or_default();
        if list.len() >= ADDRESSES_PER_PEER {
            let oldest = list.remove(0);
            self.by_address.remove(&oldest);
        }
        list.push(source);
    }

    /// Forgets a user fragment.
    pub fn remove_ufrag(&mut self, ufrag: &str) {
        self.by_ufrag.remove(ufrag);
    }

    /// Forgets a peer's addresses.
    pub fn remove_addresses(&mut self, peer: PeerIndex) {
        for address in self.addresses.remove(&peer).unwrap_or_default() {
            self.by_address.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn an_address_belongs_to_the_peer_that_proved_it_last() {
        let mut demux = Demux::default();
        demux.add_address(address(1), PeerIndex(1));
        demux.add_address(address(1), PeerIndex(2));
        assert_eq!(demux.by_address(&address(1)), Some(PeerIndex(2)));
        demux.remove_addresses(PeerIndex(1));
        assert_eq!(demux.by_address(&address(1)), Some(PeerIndex(2)));
        demux.remove_addresses(PeerIndex(2));
        assert_eq!(demux.by_address(&address(1)), None);
    }

    #[test]
    fn a_peer_holds_a_bounded_number_of_addresses() {
        let mut demux = Demux::default();
        for port in 0..1000 {
            demux.add_address(address(port), PeerIndex(1));
        }
        assert_eq!(demux.by_address.len(), ADDRESSES_PER_PEER);
        assert_eq!(demux.by_address(&address(999)), Some(PeerIndex(1)));
    }
}
