//! Retransmissions under way. A subscriber that reports what arrived thereby tells of a lost retransmission before it
//! asks again, and does not have to ask: receivers ask a few times only, and their requests are lost, too.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::rtp::rtcp::TransportFeedback;
use crate::units::ExtendedSequence;

/// Remembered at most. Budgets keep retransmissions to half of the media, and reports come ten times a second.
const MOST: usize = 256;

/// What was sent again, and lost again: the subscription's place and the packet's sequence number in it.
type Lost = SmallVec<[(usize, u16); 8]>;

/// One packet that was sent again.
#[derive(Debug, Clone, Copy)]
struct Repair {
    /// Its transport-wide number.
    number: u16,
    slot: usize,
    /// The number under which it was sent first.
    sequence: u16,
}

/// Those of one peer, oldest first.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    under_way: VecDeque<Repair>,
}

impl Repairs {
    /// A packet of a subscription leaves once more, under this transport-wide number.
    pub(super) fn on_sent(&mut self, number: ExtendedSequence, slot: usize, sequence: u16) {
        if self.under_way.len() >= MOST {
            self.under_way.pop_front();
        }
        self.under_way.push_back(Repair { number: number.wire(), slot, sequence });
    }

    /// The subscriber reports what arrived. Returns the packets of which every copy was lost.
    pub(super) fn on_feedback(&mut self, feedback: &TransportFeedback) -> SmallVec<[(usize, u16); 8]> {
        let mut lost = Lost::new();
        if self.under_way.is_empty() {
            return lost;
        }
        let reported = |number: u16| number.wrapping_sub(feedback.base_sequence) < feedback.status_count;
        let arrived = |number: u16| feedback.received.iter().any(|packet| packet.sequence == number);
        let same = |repair: &Repair| (repair.slot, repair.sequence);
        let mut there = Lost::new();
        self.under_way.retain(|repair| {
            if !reported(repair.number) {
                return true;
            }
            let list = if arrived(repair.number) { &mut there } else { &mut lost };
            if !list.contains(&same(repair)) {
                list.push(same(repair));
            }
            false
        });
        // Another copy of it arrived, or may yet.
        self.under_way.retain(|repair| !there.contains(&same(repair)));
        lost.retain(|packet| {
            !there.contains(packet) && self.under_way.iter().all(|repair| same(repair) != *packet)
        });
        lost
    }

    /// A subscription is gone; its place may be taken by another.
    pub(super) fn remove(&mut self, slot: usize) {
        self.under_way.retain(|repair| repair.slot != slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::rtcp::ReceivedPacket;
    use crate::units::Ssrc;

    fn feedback(base: u16, received: &[bool]) -> TransportFeedback {
        let numbered = (0..).map(|n| base.wrapping_add(n)).zip(received);
        let received_packets = numbered.filter(|(_, received)| **received);
        TransportFeedback {
            sender: Ssrc(1),
            media: Ssrc(2),
            base_sequence: base,
            status_count: received.len() as u16,
            reference_time: 0,
            feedback_count: 0,
            received: received_packets.map(|(sequence, _)| ReceivedPacket { sequence, delta: 0 }).collect(),
        }
    }

    fn number(wire: u16) -> ExtendedSequence {
        ExtendedSequence::first(wire)
    }

    #[test]
    fn a_packet_is_lost_when_all_its_copies_are() {
        let mut repairs = Repairs::default();
        repairs.on_sent(number(65_534), 0, 7);
        repairs.on_sent(number(65_535), 0, 7);
        repairs.on_sent(number(1), 3, 7);
        assert!(
            repairs.on_feedback(&feedback(65_530, &[true, true, true, true, false])).is_empty(),
            "one may come"
        );
        let lost = repairs.on_feedback(&feedback(65_535, &[false, true, false]));
        assert_eq!(lost.as_slice(), [(0, 7), (3, 7)]);
        assert!(repairs.on_feedback(&feedback(65_535, &[false, true, false])).is_empty(), "told once");
    }

    #[test]
    fn one_copy_is_enough() {
        let mut repairs = Repairs::default();
        for wire in 10..13 {
            repairs.on_sent(number(wire), 0, 7);
        }
        assert!(repairs.on_feedback(&feedback(10, &[false, true])).is_empty());
        assert!(repairs.on_feedback(&feedback(12, &[false])).is_empty());
    }

    #[test]
    fn what_was_sent_to_a_subscription_that_is_gone_is_nobodys() {
        let mut repairs = Repairs::default();
        repairs.on_sent(number(10), 0, 7);
        repairs.remove(0);
        assert!(repairs.on_feedback(&feedback(10, &[false])).is_empty());
        (0..1000).for_each(|n| repairs.on_sent(number(n), 0, n));
        assert!(repairs.under_way.len() <= MOST);
    }
}
