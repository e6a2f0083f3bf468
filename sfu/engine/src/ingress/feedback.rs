//! Transport-wide congestion control feedback to a publisher: the arrival time of each of its packets, for its
//! bandwidth estimator (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use std::time::{Duration, Instant};

use crate::rtp::rtcp::{FeedbackBuilder, write_transport_feedback};
use crate::units::{ExtendedSequence, Ssrc};

/// Time between two feedback packets. The publisher's estimator needs 10 to 20 per second.
const INTERVAL: Duration = Duration::from_millis(50);

/// Number of pending arrivals at which feedback is sent at once.
const PENDING: usize = 256;

/// Maximum number of pending arrivals. Further packets are reported as lost.
const MOST_PENDING: usize = 1024;

/// In packets. A packet whose number is more than this below the highest has been reported as lost, and stays so.
const LATE: u64 = 1000;

/// Arrivals of transport-wide sequence numbers, until they are reported to the publisher.
#[derive(Debug)]
pub struct TransportFeedback {
    pending: Vec<(ExtendedSequence, Instant)>,
    highest: Option<ExtendedSequence>,
    /// One past the highest number reported, as arrived or as lost.
    next: Option<ExtendedSequence>,
    began: Option<Instant>,
    due: Option<Instant>,
    count: u8,
}

impl Default for TransportFeedback {
    fn default() -> Self {
        Self::new()
    }
}

impl TransportFeedback {
    /// A reporter without arrivals.
    pub fn new() -> Self {
        Self { pending: Vec::new(), highest: None, next: None, began: None, due: None, count: 0 }
    }

    /// Records the arrival of the packet with transport-wide sequence number `wire`.
    pub fn on_packet(&mut self, wire: u16, now: Instant) {
        let sequence = self.highest.map_or(ExtendedSequence::first(wire), |highest| highest.extend(wire));
        if self.highest.is_some_and(|highest| sequence.0 + LATE < highest.0) {
            return;
        }
        if self.pending.len() >= MOST_PENDING {
            return; // later reported as lost: a caller that does not poll cannot keep up anyway
        }
        self.began.get_or_insert(now);
        self.highest = Some(self.highest.map_or(sequence, |highest| highest.max(sequence)));
        self.pending.push((sequence, now));
        let due = if self.pending.len() >= PENDING { now } else { now + INTERVAL };
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// Appends the feedback that is due to a compound RTCP packet.
    pub fn poll(&mut self, now: Instant, sender: Ssrc, media: Ssrc, out: &mut Vec<u8>) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        self.due = None;
        self.pending.sort_unstable();
        self.pending.dedup_by_key(|(sequence, _)| *sequence);
        let epoch = self.began.unwrap_or(now);
        let mut pending = std::mem::take(&mut self.pending);
        let Some((first, _)) = pending.first().copied() else { return };
        // Every number below this was reported in an earlier message, as arrived or as lost.
        let fresh = self.next.unwrap_or(first);
        let mut told = fresh;
        let mut open: Option<(FeedbackBuilder, ExtendedSequence)> = None;
        for (sequence, arrival) in pending.drain(..) {
            let at = Some(arrival.saturating_duration_since(epoch));
            let continued = open.as_mut().is_some_and(|(builder, last)| {
                // A message about late packets must not cover the numbers around them, which were reported before.
                let adjoins = sequence == last.plus(1) || last.plus(1) >= fresh;
                let continued = adjoins && sequence.0 - last.0 < LATE && builder.push(sequence.wire(), at);
                *last = sequence;
                continued
            });
            if !continued {
                if let Some((full, _)) = open.take() {
                    self.write(&full, sender, media, out);
                }
                let base = if sequence.0.wrapping_sub(told.0) < LATE { told } else { sequence };
                let mut builder = FeedbackBuilder::new(base.wire());
                builder.push(sequence.wire(), at);
                open = Some((builder, sequence));
            }
            told = told.max(sequence.plus(1));
        }
        self.next = Some(told);
        self.pending = pending;
        if let Some((last, _)) = open {
            self.write(&last, sender, media, out);
        }
    }

    fn write(&mut self, builder: &FeedbackBuilder, sender: Ssrc, media: Ssrc, out: &mut Vec<u8>) {
        if write_transport_feedback(out, sender, media, self.count, builder) {
            self.count = self.count.wrapping_add(1);
        }
    }

    /// Time at which feedback is due; `None` while no arrival is pending.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::rtp::rtcp::{Rtcp, parse};
    use crate::units::test_epoch;

    /// All statuses in the order reported, and the feedback packet counts.
    fn statuses(out: &[u8]) -> (Vec<(u16, Option<i64>)>, Vec<u8>) {
        let mut statuses = Vec::new();
        let mut counts = Vec::new();
        for part in parse(out).expect("what is written can be read") {
            let Rtcp::TransportFeedback(feedback) = part else { panic!("only feedback was written") };
            let arrivals: BTreeMap<u16, i64> = feedback.arrivals().collect();
            counts.push(feedback.feedback_count);
            for n in 0..feedback.status_count {
                let sequence = feedback.base_sequence.wrapping_add(n);
                statuses.push((sequence, arrivals.get(&sequence).copied()));
            }
        }
        (statuses, counts)
    }

    fn reported(out: &[u8]) -> Vec<(u16, i64)> {
        let told = statuses(out).0;
        told.into_iter().filter_map(|(sequence, at)| at.map(|at| (sequence, at))).collect()
    }

    #[test]
    fn nothing_is_told_twice_but_that_a_lost_packet_arrived_after_all() {
        for seed in 0..20 {
            let start = test_epoch();
            let mut random = SmallRng::seed_from_u64(seed);
            let mut arrivals: Vec<(u64, u16)> = (0..3000_u64)
                .filter(|_| random.random_bool(0.9))
                .map(|n| (n + if n % 7 == 0 { n * 31 % 90 } else { 0 }, (n + 64_000) as u16))
                .collect();
            arrivals.sort_unstable();
            let mut feedback = TransportFeedback::new();
            let (mut told, mut counts) = (Vec::new(), Vec::new());
            for (ms, wire) in &arrivals {
                let mut out = Vec::new();
                feedback.on_packet(*wire, start + Duration::from_millis(*ms));
                feedback.poll(start + Duration::from_millis(*ms), Ssrc(1), Ssrc(2), &mut out);
                let (statuses, count) = if out.is_empty() { Default::default() } else { statuses(&out) };
                told.extend(statuses);
                counts.extend(count);
            }
            assert!(counts.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "seed {seed}");
            let mut last = BTreeMap::new();
            for (sequence, at) in &told {
                let before = last.insert(*sequence, at.is_some());
                let news = matches!((before, at), (None, _) | (Some(false), Some(_)));
                assert!(news, "seed {seed}: {sequence} told again");
            }
            let arrived: BTreeMap<u16, u64> = arrivals.iter().map(|(ms, wire)| (*wire, *ms)).collect();
            let first = arrivals[0].0 as i64;
            for (sequence, at) in told {
                let Some(at) = at else { continue };
                let expected = (arrived[&sequence] as i64 - first) * 4;
                assert!((at - expected).abs() <= 1, "seed {seed}: {sequence} at {at}, not {expected}");
            }
            let received = last.values().filter(|received| **received).count();
            assert!(received + 60 >= arrivals.len(), "seed {seed}: all but the last 50 ms are told of");
        }
    }

    #[test]
    fn every_arrival_is_reported_once_with_its_time_over_the_wrap() {
        let start = test_epoch();
        let mut feedback = TransportFeedback::new();
        let mut out = Vec::new();
        for number in 0..1000_u64 {
            let now = start + Duration::from_millis(number);
            if number % 10 != 3 {
                feedback.on_packet((65_000 + number) as u16, now);
            }
            feedback.poll(now, Ssrc(1), Ssrc(2), &mut out);
        }
        feedback.poll(start + Duration::from_secs(2), Ssrc(1), Ssrc(2), &mut out);
        let reported = reported(&out);
        assert_eq!(reported.len(), 900);
        let first = reported[0].1;
        for (sequence, ticks) in &reported {
            let number = i64::from(sequence.wrapping_sub(65_000));
            assert!((ticks - first - number * 4).abs() <= 1, "packet {number} at {ticks}");
        }
    }

    #[test]
    fn reordering_within_a_report_is_put_in_order_and_a_straggler_does_not_break_it() {
        let start = test_epoch();
        let mut feedback = TransportFeedback::new();
        let mut out = Vec::new();
        for (wire, ms) in [(10, 0), (12, 1), (11, 2), (12, 3), (20, 100), (13, 101)] {
            let now = start + Duration::from_millis(ms);
            feedback.on_packet(wire, now);
            feedback.poll(now, Ssrc(1), Ssrc(2), &mut out);
        }
        feedback.poll(start + Duration::from_secs(1), Ssrc(1), Ssrc(2), &mut out);
        let numbers: Vec<u16> = reported(&out).iter().map(|(sequence, _)| *sequence).collect();
        // 13 was reported as lost along with 20; its late arrival is reported again.
        assert_eq!(numbers, [10, 11, 12, 20, 13]);
    }
}
