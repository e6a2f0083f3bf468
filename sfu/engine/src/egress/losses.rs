//! What a subscriber reports as lost. Its reports count packets by their transport-wide number; here is remembered which
//! packet of which subscription left under which, so that it can be sent again without being asked for: receivers ask a
//! few times only, browsers that send nothing themselves wait 100 ms between two requests, and requests are lost, too.

use smallvec::SmallVec;

use crate::rtp::rtcp::TransportFeedback;
use crate::units::ExtendedSequence;

/// Packets remembered: a report and a half (250 ms apart at most, and a round trip late) at 15 Mbit/s. A power of two.
const REMEMBERED: usize = 1024;

/// A packet is lost when one that left so many later arrived: packets overtake each other, seldom by more (RFC 9002
/// section 6.1.1 has the same).
const OVERTAKEN_BY: u64 = 3;

/// Copies of one packet leave behind each other; further away there is none.
const COPIES_WITHIN: u64 = 8;

/// A packet of a subscription, of which nothing has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// The subscription's place.
    pub slot: usize,
    /// The number under which it was sent first.
    pub sequence: u16,
    /// It was sent again, and all copies of that were lost as well.
    pub again: bool,
}

/// One packet that left. 8 bytes: one is written for each.
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    /// Its transport-wide number.
    number: u16,
    sequence: u16,
    slot: u16,
    used: bool,
    again: bool,
    arrived: bool,
}

impl Left {
    fn is_copy_of(&self, other: &Self) -> bool {
        self.used && self.again && (self.slot, self.sequence) == (other.slot, other.sequence)
    }
}

/// Those of one peer.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Empty until something is sent.
    ring: Vec<Left>,
    /// The number of the last that left.
    newest: Option<ExtendedSequence>,
    /// Below this, everything is judged.
    judged: u64,
    /// The count of the last report.
    report: Option<u8>,
}

impl Losses {
    /// A packet of a subscription leaves under this transport-wide number, for the first time or `again`.
    pub(super) fn on_sent(&mut self, number: ExtendedSequence, slot: usize, sequence: u16, again: bool) {
        if self.ring.is_empty() {
            self.ring.resize(REMEMBERED, Left::default());
        }
        self.newest = Some(number);
        let used = slot <= usize::from(u16::MAX);
        let place = place(number.0);
        if let Some(left) = self.ring.get_mut(place) {
            *left = Left { number: number.wire(), sequence, slot: slot as u16, used, again, arrived: false };
        }
    }

    /// The subscriber reports what arrived. Returns what did not, each packet once. What a report that was itself lost
    /// would have told of is not among it.
    pub(super) fn on_feedback(&mut self, feedback: &TransportFeedback) -> SmallVec<[Lost; 8]> {
        let mut lost = SmallVec::new();
        let Some(newest) = self.newest else { return lost };
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
        // With no report missing between them, two tell of all that lies between them.
        let before = self.report.replace(feedback.feedback_count);
        let next = before.is_some_and(|before| before.wrapping_add(1) == feedback.feedback_count);
        let oldest = (newest.0 + 1).saturating_sub(REMEMBERED as u64);
        let begin = self.judged.max(if next { oldest } else { oldest.max(base) });
        for number in begin..end {
            let Some(left) = self.get(number) else { continue };
            if !(left.arrived || left.again && self.has_better_copy(number, left)) {
                let (slot, sequence, again) = (usize::from(left.slot), left.sequence, left.again);
                lost.push(Lost { slot, sequence, again });
            }
        }
        self.judged = self.judged.max(end);
        lost
    }

    /// A subscription is gone; its place may be taken by another.
    pub(super) fn remove(&mut self, slot: usize) {
        self.ring.iter_mut().filter(|left| usize::from(left.slot) == slot).for_each(|left| left.used = false);
    }

    /// Whether another copy arrived, or left later and is judged then.
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

    fn first_numbers(count: u64) -> impl Iterator<Item = ExtendedSequence> {
        (0..count).map(|n| ExtendedSequence::first(65_530).plus(n))
    }

    /// Packets 0, 1, 2 ... of subscription 4 leave as 65530, 65531 ...
    fn sent(count: u64) -> Losses {
        let mut losses = Losses::default();
        first_numbers(count).zip(0..).for_each(|(number, n)| losses.on_sent(number, 4, n, false));
        losses
    }

    fn lost(sequence: u16, again: bool) -> Lost {
        Lost { slot: 4, sequence, again }
    }

    #[test]
    fn what_later_ones_overtook_is_lost_and_told_of_once() {
        let mut losses = sent(20);
        let report = feedback(0, 65_530, &[true, false, true, true, true, false, true, true]);
        assert_eq!(losses.on_feedback(&report).as_slice(), [lost(1, false)], "the sixth may be late");
        assert!(losses.on_feedback(&report).is_empty());
        let next = feedback(1, 65_530_u16.wrapping_add(9), &[true; 3]);
        assert_eq!(losses.on_feedback(&next).as_slice(), [lost(5, false), lost(8, false)]);
    }

    #[test]
    fn what_a_lost_report_would_have_told_of_is_unknown() {
        let mut losses = sent(20);
        losses.on_feedback(&feedback(0, 65_530, &[true; 4]));
        let later = feedback(2, 65_530_u16.wrapping_add(8), &[true, false, true, true, true]);
        assert_eq!(losses.on_feedback(&later).as_slice(), [lost(9, false)]);
    }

    #[test]
    fn what_arrives_late_is_not_lost() {
        let mut losses = sent(20);
        assert!(losses.on_feedback(&feedback(0, 65_530, &[true, false, true])).is_empty());
        assert!(losses.on_feedback(&feedback(1, 65_531, &[true, true, true, true, true])).is_empty());
    }

    #[test]
    fn of_copies_one_is_enough() {
        let mut losses = Losses::default();
        let numbers: Vec<_> = first_numbers(12).collect();
        for number in &numbers[..3] {
            losses.on_sent(*number, 4, 7, true);
        }
        for number in &numbers[3..6] {
            losses.on_sent(*number, 4, 8, true);
        }
        for number in &numbers[6..] {
            losses.on_sent(*number, 5, 8, false);
        }
        let report = [false, false, true, false, false, false, true, true, true];
        assert_eq!(losses.on_feedback(&feedback(0, 65_530, &report)).as_slice(), [lost(8, true)]);
    }

    #[test]
    fn what_was_sent_to_a_subscription_that_is_gone_is_nobodys() {
        let mut losses = sent(20);
        losses.remove(4);
        assert!(losses.on_feedback(&feedback(0, 65_530, &[false, true, true, true, true])).is_empty());
    }

    #[test]
    fn reports_about_what_was_never_sent_or_long_ago_tell_of_nothing() {
        assert!(Losses::default().on_feedback(&feedback(0, 0, &[false, true, true, true])).is_empty());
        let mut losses = sent(20);
        assert!(losses.on_feedback(&feedback(0, 30_000, &[false, true, true, true, true])).is_empty());
        let mut losses = sent(5000);
        let old = feedback(0, 65_530, &[false, true, true, true, true]);
        assert!(losses.on_feedback(&old).is_empty(), "no longer remembered");
        assert_eq!(size_of::<Left>(), 10);
        assert!(losses.ring.len() <= REMEMBERED);
    }
}
