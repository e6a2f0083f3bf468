//! Counters of received media, kept without decrypting it.

use std::time::Instant;

/// Counters of the media that one client received.
#[derive(Debug, Clone, Copy, Default)]
pub struct Received {
    /// RTP packets.
    pub packets: u64,
    /// Bytes of UDP payload of these packets.
    pub bytes: u64,
    /// Packets that the WebRTC stack decrypted and authenticated.
    pub decrypted: u64,
    /// Arrival time of the first packet.
    pub first: Option<Instant>,
}

impl Received {
    /// Counts a packet of `bytes`; returns its index, from 0.
    pub fn count(&mut self, bytes: usize, now: Instant) -> u64 {
        let number = self.packets;
        self.packets += 1;
        self.bytes += bytes as u64;
        self.first.get_or_insert(now);
        number
    }
}

/// Whether a datagram is RTP, and not RTCP (RFC 5761 section 4) or another protocol (RFC 7983).
pub fn is_media(datagram: &[u8]) -> bool {
    match datagram {
        [first, second, ..] => (128..192).contains(first) && !(64..96).contains(&(second & 0x7f)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rtp_is_media() {
        assert!(is_media(&[0x90, 96]) && is_media(&[0x80, 0x80 | 96]));
        for other in [&[0x80_u8, 200][..], &[0, 1], &[22, 0xfe], &[0x90], &[]] {
            assert!(!is_media(other), "{other:?}");
        }
    }

    #[test]
    fn counting_numbers_the_packets() {
        let mut received = Received::default();
        let now = Instant::now();
        assert_eq!((received.count(10, now), received.count(20, now)), (0, 1));
        assert_eq!((received.packets, received.bytes, received.first), (2, 30, Some(now)));
    }
}
