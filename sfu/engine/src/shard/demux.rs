//! Maps a datagram to its peer: by source address once ICE has validated it, before that by the ufrag in the user name
//! of a connectivity check.

use std::collections::HashMap;
use std::net::SocketAddr;

use smallvec::SmallVec;

use crate::handles::PeerIndex;

/// Maximum number of validated addresses of one peer. A further address replaces the least recently validated one.
const ADDRESSES_PER_PEER: usize = 16;

/// Maximum number of peers that have validated the same address.
const PEERS_PER_ADDRESS: usize = 4;

/// The peers that validated one address. The peer that received the last authentic packet from that address is first.
pub type Claims = SmallVec<[PeerIndex; 2]>;

/// Error: the maximum number of peers has validated this address already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowded;

/// Tables from source addresses and ICE user fragments to peers.
#[derive(Debug, Default)]
pub struct Demux {
    by_address: HashMap<SocketAddr, Claims>,
    by_ufrag: HashMap<String, PeerIndex>,
    addresses: HashMap<PeerIndex, Vec<SocketAddr>>,
}

impl Demux {
    /// The peers that validated this address. There is more than one only if the address passes from one peer to
    /// another or somebody forges it.
    pub fn by_address(&self, source: &SocketAddr) -> &[PeerIndex] {
        self.by_address.get(source).map(SmallVec::as_slice).unwrap_or_default()
    }

    /// The peer with this local ICE user fragment.
    pub fn by_ufrag(&self, ufrag: &str) -> Option<PeerIndex> {
        self.by_ufrag.get(ufrag).copied()
    }

    /// Makes a peer reachable by its user fragment.
    pub fn add_ufrag(&mut self, ufrag: String, peer: PeerIndex) {
        self.by_ufrag.insert(ufrag, peer);
    }

    /// Records that ICE validated an address for a peer. Other peers keep the address. Fails if too many have it
    /// already.
    pub fn add_address(&mut self, source: SocketAddr, peer: PeerIndex) -> Result<(), Crowded> {
        let claims = self.by_address.entry(source).or_default();
        if !claims.contains(&peer) {
            if claims.len() >= PEERS_PER_ADDRESS {
                return Err(Crowded);
            }
            claims.push(peer);
        }
        let list = self.addresses.entry(peer).or_default();
        list.retain(|known| *known != source);
        list.push(source);
        if list.len() > ADDRESSES_PER_PEER {
            let oldest = list.remove(0);
            self.remove_claim(oldest, peer);
        }
        Ok(())
    }

    /// Moves a peer to the front after a packet from this address was authenticated as its own. The next packet is
    /// tried with this peer first.
    pub fn put_first(&mut self, source: &SocketAddr, peer: PeerIndex) {
        let Some(claims) = self.by_address.get_mut(source) else { return };
        if let Some(place) = claims.iter().position(|known| *known == peer) {
            claims.swap(0, place);
        }
    }

    pub fn remove_ufrag(&mut self, ufrag: &str) {
        self.by_ufrag.remove(ufrag);
    }

    pub fn remove_address(&mut self, source: SocketAddr, peer: PeerIndex) {
        if let Some(list) = self.addresses.get_mut(&peer) {
            list.retain(|known| *known != source);
        }
        self.remove_claim(source, peer);
    }

    /// Removes all addresses of a peer.
    pub fn remove_addresses(&mut self, peer: PeerIndex) {
        for address in self.addresses.remove(&peer).unwrap_or_default() {
            self.remove_claim(address, peer);
        }
    }

    fn remove_claim(&mut self, source: SocketAddr, peer: PeerIndex) {
        let Some(claims) = self.by_address.get_mut(&source) else { return };
        claims.retain(|known| *known != peer);
        if claims.is_empty() {
            self.by_address.remove(&source);
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
    fn an_address_is_taken_from_nobody() {
        let mut demux = Demux::default();
        for peer in 1..=4 {
            assert_eq!(demux.add_address(address(1), PeerIndex(peer)), Ok(()));
        }
        assert_eq!(demux.add_address(address(1), PeerIndex(5)), Err(Crowded));
        assert_eq!(demux.add_address(address(1), PeerIndex(2)), Ok(()), "it has it already");
        demux.put_first(&address(1), PeerIndex(3));
        assert_eq!(demux.by_address(&address(1)), [3, 2, 1, 4].map(PeerIndex));
        demux.remove_addresses(PeerIndex(2));
        assert_eq!(demux.add_address(address(1), PeerIndex(5)), Ok(()));
        for peer in [1, 3, 4] {
            demux.remove_addresses(PeerIndex(peer));
        }
        assert_eq!(demux.by_address(&address(1)), [PeerIndex(5)]);
        demux.remove_address(address(1), PeerIndex(5));
        assert!(demux.by_address.is_empty());
    }

    #[test]
    fn a_peer_holds_a_bounded_number_of_addresses() {
        let mut demux = Demux::default();
        for port in 1..1000 {
            demux.add_address(address(0), PeerIndex(1)).unwrap();
            demux.add_address(address(port), PeerIndex(1)).unwrap();
        }
        assert_eq!(demux.by_address.len(), ADDRESSES_PER_PEER);
        assert_eq!(demux.by_address(&address(999)), [PeerIndex(1)]);
        assert_eq!(demux.by_address(&address(0)), [PeerIndex(1)], "it was proved all the time");
    }
}
