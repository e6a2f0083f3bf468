//! Sender reports of one subscription. They carry the publisher's own clock, so that all tracks of one participant
//! share a timeline at the receiver, and audio and video stay in sync across layer switches.

use std::time::{Duration, Instant};

use crate::rtp::rtcp::ReportBlock;
use crate::units::{Losses, NtpTime, SenderClock};

/// Number of sent reports remembered for measuring the round-trip time.
const REMEMBERED: usize = 4;

/// Maximum number of packets between two reports.
const MOST_REPORTED: u32 = 1 << 16;

/// Packet counts of a subscription and its recent sender reports.
#[derive(Debug, Default)]
pub struct SenderReports {
    packets: u32,
    octets: u32,
    sent: [Option<(u32, Instant)>; REMEMBERED],
    next: usize,
    /// Highest sequence number and cumulative loss in the last receiver report, and the number of packets sent by then.
    reported: Option<(u32, i32, u32)>,
    /// Losses since they were last taken.
    losses: Losses,
    sent_meanwhile: u64,
}

/// Contents of a sender report (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// The publisher's clock at the time of the report.
    pub ntp: NtpTime,
    /// RTP timestamp of that moment, in outgoing timestamps.
    pub rtp_timestamp: u32,
    /// Number of packets sent.
    pub packets: u32,
    /// Number of payload bytes sent.
    pub octets: u32,
}

impl SenderReports {
    /// Records a packet with `payload` bytes.
    pub fn on_sent(&mut self, payload: usize) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload as u32);
    }

    /// Number of packets sent so far.
    pub fn packets(&self) -> u32 {
        self.packets
    }

    /// Prefetch; see [`Subscription::touch`](super::track::Subscription::touch).
    pub(super) fn touch(&self) -> u64 {
        u64::from(self.packets ^ self.octets)
    }

    /// Makes a report from the publisher's last one. `timestamp_offset` is the outgoing timestamp minus the
    /// publisher's.
    pub fn report(
        &mut self,
        now: Instant,
        source: &SenderClock,
        timestamp_offset: u32,
        clock_rate: u32,
    ) -> SenderReport {
        let ntp = source.ntp.plus(now.saturating_duration_since(source.arrival));
        let rtp_timestamp = source.timestamp_at(ntp, clock_rate).wrapping_add(timestamp_offset);
        self.next = (self.next + 1) % REMEMBERED;
        if let Some(place) = self.sent.get_mut(self.next) {
            *place = Some((ntp.middle(), now));
        }
        SenderReport { ntp, rtp_timestamp, packets: self.packets, octets: self.octets }
    }

    /// Handles a receiver report block about this subscription and counts the losses since the last one. Returns
    /// whether any packet arrived since.
    pub fn on_block(&mut self, block: &ReportBlock) -> bool {
        let before = self.reported.replace((block.highest_sequence, block.lost, self.packets));
        let Some((highest, lost, packets)) = before else { return true };
        let expected = block.highest_sequence.wrapping_sub(highest);
        // The number went down, or up by more than is possible between two reports: the receiver restarted or reports
        // wrong values.
        if expected >= MOST_REPORTED {
            return false;
        }
        let lost = block.lost.saturating_sub(lost).max(0).unsigned_abs();
        self.losses.add(Losses { expected: u64::from(expected), lost: u64::from(lost) });
        self.sent_meanwhile += u64::from(self.packets.wrapping_sub(packets));
        lost < expected
    }

    /// Returns and resets the losses on the way to the receiver. Packets that never reached us, and so left a hole in
    /// the numbers, are not counted.
    pub fn take_losses(&mut self) -> Losses {
        let Losses { expected, lost } = self.losses.take();
        let unsent = expected.saturating_sub(std::mem::take(&mut self.sent_meanwhile));
        Losses { expected: expected - unsent, lost: lost.saturating_sub(unsent) }
    }

    /// Round-trip time from a receiver report block: the time since our last report minus the receiver's delay (RFC
    /// 3550 section 6.4.1).
    pub fn round_trip(&self, block: &ReportBlock, now: Instant) -> Option<Duration> {
        let reported = self.sent.iter().flatten().find(|(middle, _)| *middle == block.last_sr)?;
        let held = Duration::from_micros(u64::from(block.delay_since_last_sr) * 1_000_000 / 65_536);
        now.checked_duration_since(reported.1)?.checked_sub(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::test_epoch;

    #[test]
    fn a_report_continues_the_publishers_clock() {
        let start = test_epoch();
        let source = SenderClock { ntp: NtpTime(100 << 32), timestamp: 5000, arrival: start };
        let mut reports = SenderReports::default();
        reports.on_sent(1000);
        reports.on_sent(200);
        let report = reports.report(start + Duration::from_millis(500), &source, 77, 90_000);
        assert_eq!(report.ntp, NtpTime((100 << 32) + (1 << 31)));
        assert_eq!(report.rtp_timestamp, 5000 + 45_000 + 77);
        assert_eq!((report.packets, report.octets), (2, 1200));
    }

    #[test]
    fn a_hole_that_came_from_the_publisher_is_no_loss_of_the_subscribers_link() {
        let block = |highest_sequence, lost| ReportBlock { highest_sequence, lost, ..ReportBlock::default() };
        // Of 100 numbers: packets sent, packets not received; expected and lost packets of this link.
        for (sent, missing, expected, lost) in
            [(100, 0, 100, 0), (100, 7, 100, 7), (90, 10, 90, 0), (90, 15, 90, 5)]
        {
            let mut reports = SenderReports::default();
            reports.on_block(&block(u32::MAX - 49, 3));
            (0..sent).for_each(|_| reports.on_sent(100));
            reports.on_block(&block(50, 3 + missing));
            assert_eq!(reports.take_losses(), Losses { expected, lost }, "{missing} of {sent}");
            assert_eq!(reports.take_losses(), Losses::default());
        }
        // Impossible values are ignored.
        let mut reports = SenderReports::default();
        reports.on_block(&block(1000, i32::MAX));
        reports.on_block(&block(900, i32::MIN));
        reports.on_block(&block(901, i32::MAX));
        let Losses { expected, lost } = reports.take_losses();
        assert!(lost <= expected && expected <= 1);
    }

    #[test]
    fn the_round_trip_is_what_the_receiver_did_not_hold_back() {
        let start = test_epoch();
        let source = SenderClock { ntp: NtpTime(100 << 32), timestamp: 0, arrival: start };
        let mut reports = SenderReports::default();
        let report = reports.report(start, &source, 0, 90_000);
        let block = ReportBlock {
            last_sr: report.ntp.middle(),
            delay_since_last_sr: 65_536 / 4,
            ..ReportBlock::default()
        };
        let rtt = reports.round_trip(&block, start + Duration::from_millis(330));
        assert_eq!(rtt, Some(Duration::from_millis(80)));
        let forged = ReportBlock { last_sr: 1, ..block };
        assert_eq!(reports.round_trip(&forged, start + Duration::from_millis(330)), None);
    }
}
