//! What leaves the server, before the network does anything to it: RTP headers are readable there.

use std::collections::{BTreeMap, BTreeSet};

use sfu_engine::rtp::packet::RtpHeader;
use sfu_engine::units::ExtendedSequence;

use super::person::RTX;

/// Packets of one source whose bytes are remembered.
const REMEMBERED: usize = 2_000;

/// The numbers of one source of media, to one person.
#[derive(Debug, Default)]
pub struct Numbers {
    highest: Option<ExtendedSequence>,
    /// Below the highest, and never sent.
    pub missing: BTreeSet<u64>,
    /// Packets, each once.
    pub packets: u64,
    /// Packets that went out again under their own number.
    pub again: u64,
    /// Numbers that went out twice with other bytes: a nonce of the cipher was used twice.
    pub reused: u64,
    bytes: BTreeMap<u64, u64>,
}

/// Everything that was sent, by person and source. Sources of retransmissions, which also carry padding, are not among it.
#[derive(Debug, Default)]
pub struct Tap {
    pub sources: BTreeMap<(usize, u32), Numbers>,
}

impl Tap {
    /// A datagram leaves for somebody.
    pub fn note(&mut self, person: usize, datagram: &[u8]) {
        let is_rtp = datagram.len() > 12 && (128..192).contains(&datagram[0]);
        if !is_rtp || (64..96).contains(&(datagram[1] & 0x7f)) || datagram[1] & 0x7f == RTX {
            return;
        }
        let Ok(header) = RtpHeader::parse(datagram) else { return };
        self.sources.entry((person, header.ssrc.0)).or_default().note(header.sequence, datagram);
    }

    /// Numbers that were left out, for everybody.
    pub fn holes(&self) -> usize {
        self.sources.values().map(|numbers| numbers.missing.len()).sum()
    }

    /// Numbers that went out twice with other bytes.
    pub fn reused(&self) -> u64 {
        self.sources.values().map(|numbers| numbers.reused).sum()
    }
}

impl Numbers {
    fn note(&mut self, wire: u16, datagram: &[u8]) {
        let sequence = self.highest.map_or(ExtendedSequence::first(wire), |highest| highest.extend(wire));
        let hash = datagram.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        if let Some(known) = self.bytes.insert(sequence.0, hash) {
            self.again += 1;
            self.reused += u64::from(known != hash);
            return;
        }
        if self.bytes.len() > REMEMBERED {
            self.bytes.pop_first();
        }
        self.packets += 1;
        if let Some(highest) = self.highest {
            self.missing.extend(highest.0 + 1..sequence.0);
        }
        self.missing.remove(&sequence.0);
        self.highest = Some(self.highest.map_or(sequence, |highest| highest.max(sequence)));
    }
}
