//! Detects losses from a subscriber's transport-wide feedback. It remembers which packet of which subscription left
//! under which transport-wide number, so that lost packets can be sent again without a request: receivers request a
//! packet a few times only, browsers that send no media wait 100 ms between two requests, and requests get lost too.

use smallvec::SmallVec;

use crate::bwe::ReportOrder;
use crate::rtp::rtcp::TransportFeedback;
use crate::units::ExtendedSequence;

/// Number of packets remembered, a power of two: a report and a half at 15 Mbit/s, with reports at most 250 ms apart
/// and a round trip late.
const REMEMBERED: usize = 1024;

/// A packet counts as lost once a packet that left this many later has arrived: reordering rarely exceeds that (RFC
/// 9002 section 6.1.1 uses the same value).
const OVERTAKEN_BY: u64 = 3;

/// Copies of one packet leave close together; none is further away than this many packets.
const COPIES_WITHIN: u64 = 8;

/// A lost packet of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Slot of the subscription.
    pub slot: usize,
    /// Sequence number of the packet on the media SSRC.
    pub sequence: u16,
    /// Number of the lost transmission: 0 for the first, n for the n-th retransmission.
    pub attempt: u8,
}

/// One packet that left. The struct is small because one is written for each packet.
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    /// Lower 16 bits of the transport-wide number.
    number: u16,
    sequence: u16,
    slot: u16,
    attempt: u8,
    used: bool,
    arrived: bool,
}

impl Left {
    fn is_copy_of(&self, other: &Self) -> bool {
        self.used && (self.slot, self.sequence) == (other.slot, other.sequence)
    }
}

/// Packets sent to one peer, with the state of their feedback.
#[derive(Debug, Default)]
pub(super) struct ReportedLosses {
    /// Empty until the first packet is sent.
    ring: Vec<Left>,
    /// Transport-wide numbers below this have been judged.
    judged: u64,
    order: ReportOrder,
}

impl ReportedLosses {
    /// Records that a packet leaves under a transport-wide number. `attempt` is 0 for the first transmission.
    pub(super) fn on_sent(&mut self, number: ExtendedSequence, slot: usize, sequence: u16, attempt: u8) {
        if self.ring.is_empty() {
            self.ring.resize(REMEMBERED, Left::default());
        }
        let used = slot <= usize::from(u16::MAX);
        let place = place(number.0);
        if let Some(left) = self.ring.get_mut(place) {
            *left =
                Left { number: number.wire(), sequence, slot: slot as u16, attempt, used, arrived: false };
        }
    }

    /// Handles a report; `newest` is the highest transport-wide number that has left. Returns the packets that did not
    /// arrive, each once. Packets covered only by a report that was itself lost are not among them.
    pub(super) fn on_feedback(
        &mut self,
        feedback: &TransportFeedback,
        newest: ExtendedSequence,
    ) -> SmallVec<[Lost; 8]> {
        let mut lost = SmallVec::new();
        // If no report is missing between the last one and this one, packets between the two are covered as well.
        let next = self.order.follows(feedback.feedback_count);
        let behind = u64::from(newest.wire().wrapping_sub(feedback.base_sequence));
        let Some(base) = newest.0.checked_sub(behind) else { return lost };
        let number_of = |wire: u16| base + u64::from(wire.wrapping_sub(feedback.base_sequence));
        for packet in &feedback.received {
            if let Some(left) = self.get_mut(number_of(packet.sequence)) {
                left.arrived = true;
            }
        }
        let Some(last) = feedback.received.last() else { return lost };
        let end = (number_of(last.sequence).min(newest.0) + 1).saturating_sub(OVERTAKEN_BY);
        let oldest = (newest.0 + 1).saturating_sub(REMEMBERED as u64);
        let begin = self.judged.max(if next { oldest } else { oldest.max(base) });
        for number in begin..end {
            let Some(left) = self.get(number) else { continue };
            if !(left.arrived || left.attempt > 0 && self.has_better_copy(number, left)) {
                let (slot, sequence, attempt) = (usize::from(left.slot), left.sequence, left.attempt);
                lost.push(Lost { slot, sequence, attempt });
            }
        }
        self.judged = self.judged.max(end);
        lost
    }

    /// Forgets the packets of a removed subscription, since its slot may be reused.
    pub(super) fn remove(&mut self, slot: usize) {
        self.ring.iter_mut().filter(|left| usize::from(left.slot) == slot).for_each(|left| left.used = false);
    }

    /// Whether another copy has arrived, or left later and will be judged in turn.
    fn has_better_copy(&self, number: u64, left: &Left) -> bool {
        let earlier = number.saturating_sub(COPIES_WITHIN)..number;
        let later = number + 1..=number + COPIES_WITHIN;
        let copies = |number| self.get(number).filter(|other| other.is_copy_of(left));
        earlier.filter_map(copies).any(|copy| copy.arrived) || later.filter_map(copies).next().is_some()
    }

    fn get(&self, number: u64) -> Option<&Left> {
        self.ring.get(place(number)).filter(|left| left.used && left.number == number as u16)
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Left> {
        self.ring.get_mut(place(number)).filter(|left| left.used && left.number == number as u16)
    }
}

fn place(number: u64) -> usize {
    number as usize & (REMEMBERED - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::rtcp::ReceivedPacket;
    use crate::units::Ssrc;

    fn feedback(count: u8, base: u16, received: &[bool]) -> TransportFeedback {
        let numbered = (0..).map(|n| base.wrapping_add(n)).zip(received);
        let received_packets = numbered.filter(|(_, received)| **received);
        TransportFeedback {
            sender: Ssrc(1),
            media: Ssrc(2),
            base_sequence: base,
            status_count: received.len() as u16,
            reference_time: 0,
            feedback_count: count,
            received: received_packets.map(|(sequence, _)| ReceivedPacket { sequence, delta: 0 }).collect(),
        }
    }

    /// Sends packets 0, 1, 2, ... of subscription 4 under the numbers 65530, 65531, ...
    fn sent(count: u64) -> ReportedLosses {
        let mut losses = ReportedLosses::default();
        (0..count).for_each(|n| losses.on_sent(number(n), 4, n as u16, 0));
        losses
    }

    fn lost(sequence: u16, attempt: u8) -> Lost {
        Lost { slot: 4, sequence, attempt }
    }

    fn number(n: u64) -> ExtendedSequence {
        ExtendedSequence::first(65_530).plus(n)
    }

    #[test]
    fn what_later_ones_overtook_is_lost_and_told_of_once() {
        let mut losses = sent(20);
        let report = feedback(0, 65_530, &[true, false, true, true, true, false, true, true]);
        assert_eq!(losses.on_feedback(&report, number(19)).as_slice(), [lost(1, 0)], "the sixth may be late");
        assert!(losses.on_feedback(&report, number(19)).is_empty());
        let next = feedback(1, 65_530_u16.wrapping_add(9), &[true; 3]);
        assert_eq!(losses.on_feedback(&next, number(19)).as_slice(), [lost(5, 0), lost(8, 0)]);
    }

    #[test]
    fn what_a_lost_report_would_have_told_of_is_unknown() {
        let mut losses = sent(20);
        losses.on_feedback(&feedback(0, 65_530, &[true; 4]), number(19));
        let later = feedback(2, 65_530_u16.wrapping_add(8), &[true, false, true, true, true]);
        assert_eq!(losses.on_feedback(&later, number(19)).as_slice(), [lost(9, 0)]);
    }

    #[test]
    fn what_arrives_late_is_not_lost() {
        let mut losses = sent(20);
        assert!(losses.on_feedback(&feedback(0, 65_530, &[true, false, true]), number(19)).is_empty());
        assert!(
            losses.on_feedback(&feedback(1, 65_531, &[true, true, true, true, true]), number(19)).is_empty()
        );
    }

    #[test]
    fn of_copies_one_is_enough() {
        let mut losses = ReportedLosses::default();
        let numbers: Vec<_> = (0..12).map(number).collect();
        for number in &numbers[..3] {
            losses.on_sent(*number, 4, 7, 1);
        }
        for number in &numbers[3..6] {
            losses.on_sent(*number, 4, 8, 1);
        }
        for number in &numbers[6..] {
            losses.on_sent(*number, 5, 8, 0);
        }
        let report = [false, false, true, false, false, false, true, true, true];
        assert_eq!(losses.on_feedback(&feedback(0, 65_530, &report), number(19)).as_slice(), [lost(8, 1)]);
    }

    #[test]
    fn a_copy_sent_with_the_first_is_not_missed_when_that_arrived() {
        let mut losses = sent(4);
        losses.on_sent(number(4), 4, 3, 2);
        (5..9).for_each(|n| losses.on_sent(number(n), 4, n as u16, 0));
        let report = [true, true, true, true, false, true, true, true, true];
        assert!(losses.on_feedback(&feedback(0, 65_530, &report), number(8)).is_empty());
    }

    #[test]
    fn padding_that_arrives_tells_of_what_left_before() {
        let mut losses = sent(4);
        let report = [true, true, true, false, true, true, true];
        assert_eq!(losses.on_feedback(&feedback(0, 65_530, &report), number(6)).as_slice(), [lost(3, 0)]);
    }

    #[test]
    fn a_report_that_comes_late_does_not_hide_what_the_next_tells_of() {
        let mut losses = sent(40);
        losses.on_feedback(&feedback(7, 65_530, &[true; 8]), number(39));
        losses.on_feedback(&feedback(8, number(8).wire(), &[true; 8]), number(39));
        losses.on_feedback(&feedback(6, 65_000, &[true; 8]), number(39));
        let next = feedback(9, number(20).wire(), &[true; 4]);
        let told = losses.on_feedback(&next, number(39));
        assert_eq!(told.iter().map(|lost| lost.sequence).collect::<Vec<_>>(), [16, 17, 18, 19]);
    }

    #[test]
    fn what_was_sent_to_a_subscription_that_is_gone_is_nobodys() {
        let mut losses = sent(20);
        losses.remove(4);
        assert!(
            losses.on_feedback(&feedback(0, 65_530, &[false, true, true, true, true]), number(19)).is_empty()
        );
    }

    #[test]
    fn reports_about_what_was_never_sent_or_long_ago_tell_of_nothing() {
        assert!(
            ReportedLosses::default()
                .on_feedback(&feedback(0, 0, &[false, true, true, true]), number(19))
                .is_empty()
        );
        let mut losses = sent(20);
        assert!(
            losses.on_feedback(&feedback(0, 30_000, &[false, true, true, true, true]), number(19)).is_empty()
        );
        let mut losses = sent(5000);
        let old = feedback(0, 65_530, &[false, true, true, true, true]);
        assert!(losses.on_feedback(&old, number(4999)).is_empty(), "no longer remembered");
        assert_eq!(size_of::<Left>(), 10);
    }
}
