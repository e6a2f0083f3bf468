//! Records what the server sends before the network affects it. RTP headers are not encrypted.

use std::collections::{BTreeMap, BTreeSet};

use sfu_engine::rtp::packet::RtpHeader;
use sfu_engine::units::ExtendedSequence;

use super::person::RTX;

/// Number of packets per source whose hashes are stored.
const REMEMBERED: usize = 2_000;

/// Sequence numbers of one media source, sent to one participant.
#[derive(Debug, Default)]
pub struct Numbers {
    highest: Option<ExtendedSequence>,
    /// Sequence numbers below the highest that were never sent.
    pub missing: BTreeSet<u64>,
    /// Number of different packets.
    pub packets: u64,
    /// Number of packets sent again with the same sequence number.
    pub again: u64,
    /// Number of sequence numbers sent again with different bytes, which reuses a nonce of the cipher.
    pub reused: u64,
    bytes: BTreeMap<u64, u64>,
}

/// All sources of media, by participant and SSRC. Retransmission (RTX) sources are left out; they also send padding.
#[derive(Debug, Default)]
pub struct Tap {
    pub sources: BTreeMap<(usize, u32), Numbers>,
}

impl Tap {
    /// Records a datagram that the server sends to a participant.
    pub fn note(&mut self, person: usize, datagram: &[u8]) {
        let is_rtp = datagram.len() > 12 && (128..192).contains(&datagram[0]);
        if !is_rtp || (64..96).contains(&(datagram[1] & 0x7f)) || datagram[1] & 0x7f == RTX {
            return;
        }
        let Ok(header) = RtpHeader::parse(datagram) else { return };
        self.sources.entry((person, header.ssrc.0)).or_default().note(header.sequence, datagram);
    }

    /// Number of sequence numbers left out, over all participants.
    pub fn holes(&self) -> usize {
        self.sources.values().map(|numbers| numbers.missing.len()).sum()
    }

    /// Number of sequence numbers sent again with different bytes, over all participants.
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
