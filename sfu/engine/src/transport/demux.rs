//! Protocol of a datagram (RFC 7983, RFC 5761).

/// The protocols that share a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// STUN: a connectivity check.
    Stun,
    /// DTLS: a handshake, or data channels.
    Dtls,
    /// RTP: media.
    Rtp,
    /// RTCP: reports and feedback.
    Rtcp,
}

/// The protocol of a datagram, by its first two bytes; `None` if they match none.
pub fn protocol(datagram: &[u8]) -> Option<Protocol> {
    match datagram {
        [0..=3, ..] => Some(Protocol::Stun),
        [20..=63, ..] => Some(Protocol::Dtls),
        [128..=191, 192..=223, ..] => Some(Protocol::Rtcp),
        [128..=191, _, ..] => Some(Protocol::Rtp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_protocol() {
        let cases: [(&[u8], Option<Protocol>); 9] = [
            (&[], None),
            (&[0, 1], Some(Protocol::Stun)),
            (&[22, 254], Some(Protocol::Dtls)),
            (&[64, 0], None),
            (&[0x80, 96], Some(Protocol::Rtp)),
            (&[0x80, 0x80 | 96], Some(Protocol::Rtp)),
            (&[0x80, 200], Some(Protocol::Rtcp)),
            (&[0xbf, 206], Some(Protocol::Rtcp)),
            (&[0x80], None),
        ];
        for (datagram, expected) in cases {
            assert_eq!(protocol(datagram), expected, "{datagram:?}");
        }
    }
}
