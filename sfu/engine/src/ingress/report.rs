//! Reception statistics of one SSRC, for receiver reports (RFC 3550 section 6.4.1 and appendices A.3 and A.8).

use std::time::Instant;

use crate::rtp::rtcp::ReportBlock;
use crate::units::{ExtendedSequence, Losses, NtpTime, Ssrc};

/// Reception statistics of one SSRC.
#[derive(Debug)]
pub struct ReceiveReport {
    clock_rate: u32,
    base: Option<ExtendedSequence>,
    highest: ExtendedSequence,
    received: u64,
    expected_before: u64,
    received_before: u64,
    /// Interarrival jitter times 16, in timestamp units.
    jitter: u64,
    transit: Option<(u32, Instant)>,
    last_report: Option<(NtpTime, Instant)>,
    losses: Losses,
}

impl ReceiveReport {
    /// Statistics without packets. `clock_rate` is the RTP clock rate in Hz.
    pub fn new(clock_rate: u32) -> Self {
        Self {
            clock_rate,
            base: None,
            highest: ExtendedSequence::default(),
            received: 0,
            expected_before: 0,
            received_before: 0,
            jitter: 0,
            transit: None,
            last_report: None,
            losses: Losses::default(),
        }
    }

    /// Counts a packet of the SSRC. Retransmissions on another SSRC are not counted here.
    pub fn on_packet(&mut self, sequence: ExtendedSequence, timestamp: u32, now: Instant) {
        if self.base.is_none() {
            self.base = Some(sequence);
            self.highest = sequence;
        }
        self.received += 1;
        self.highest = self.highest.max(sequence);
        if let Some((before, at)) = self.transit {
            let elapsed =
                now.saturating_duration_since(at).as_micros() * u128::from(self.clock_rate) / 1_000_000;
            let sent = timestamp.wrapping_sub(before) as i32;
            let difference = (elapsed as i64 - i64::from(sent)).unsigned_abs();
            // A pause in speech or a reset of the sender's clock is not jitter.
            if difference < u64::from(self.clock_rate) {
                self.jitter =
                    self.jitter + difference - ((self.jitter + 8) >> 4).min(self.jitter + difference);
            }
        }
        self.transit = Some((timestamp, now));
    }

    /// Losses in the report blocks since the last call.
    pub fn take_losses(&mut self) -> Losses {
        self.losses.take()
    }

    /// Records the sender report of the SSRC, from which later blocks state LSR and DLSR.
    pub fn on_sender_report(&mut self, ntp: NtpTime, now: Instant) {
        self.last_report = Some((ntp, now));
    }

    /// Makes a report block, and starts the interval of the next one. `None` before the first packet.
    pub fn block(&mut self, ssrc: Ssrc, now: Instant) -> Option<ReportBlock> {
        let base = self.base?;
        let expected = self.highest.0.saturating_sub(base.0) + 1;
        let expected_lately = expected.saturating_sub(self.expected_before);
        let received_lately = self.received.saturating_sub(self.received_before);
        self.expected_before = expected;
        self.received_before = self.received;
        let lost_lately = expected_lately.saturating_sub(received_lately);
        self.losses.add(Losses { expected: expected_lately, lost: lost_lately });
        let fraction = (lost_lately * 256).checked_div(expected_lately).unwrap_or(0);
        let (last_sr, delay) = self.last_report.map_or((0, 0), |(ntp, at)| {
            let held = now.saturating_duration_since(at).as_micros() * 65_536 / 1_000_000;
            (ntp.middle(), u32::try_from(held).unwrap_or(u32::MAX))
        });
        Some(ReportBlock {
            ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            lost: i32::try_from(expected as i64 - self.received as i64).unwrap_or(i32::MAX),
            // Extended numbers start in cycle 1, those in reports in cycle 0.
            highest_sequence: (self.highest.0 as u32).wrapping_sub(1 << 16),
            jitter: u32::try_from(self.jitter >> 4).unwrap_or(u32::MAX),
            last_sr,
            delay_since_last_sr: delay,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::units::test_epoch;

    #[test]
    fn losses_are_counted_as_a_whole_and_since_the_last_report() {
        let start = test_epoch();
        let mut report = ReceiveReport::new(90_000);
        let mut sequence = ExtendedSequence::first(65_530);
        for number in 0..100_u32 {
            let now = start + Duration::from_millis(u64::from(number) * 10);
            if number % 4 != 3 {
                report.on_packet(sequence, number * 900, now);
            }
            sequence = sequence.plus(1);
        }
        let block = report.block(Ssrc(7), start + Duration::from_secs(1)).expect("packets came");
        assert_eq!(block.lost, 24, "the last of the hundred is not missed yet");
        assert_eq!(block.fraction_lost, (24 * 256 / 99) as u8);
        assert_eq!(block.highest_sequence, 65_530 + 98);
        assert_eq!(block.jitter, 0, "evenly spaced");
        let block = report.block(Ssrc(7), start + Duration::from_secs(2)).expect("packets came");
        assert_eq!((block.lost, block.fraction_lost), (24, 0));
    }

    #[test]
    fn jitter_follows_uneven_arrival_and_the_senders_report_is_repeated() {
        let start = test_epoch();
        let mut report = ReceiveReport::new(48_000);
        for number in 0..500_u64 {
            let late = if number % 2 == 0 { 0 } else { 10 };
            let now = start + Duration::from_millis(number * 20 + late);
            report.on_packet(ExtendedSequence::first(1).plus(number), number as u32 * 960, now);
        }
        report.on_sender_report(NtpTime(0x1111_2222_3333_4444), start);
        let block = report.block(Ssrc(7), start + Duration::from_millis(1500)).expect("packets came");
        assert!((400..=480).contains(&block.jitter), "{} of 480 ticks", block.jitter);
        assert_eq!((block.last_sr, block.delay_since_last_sr), (0x2222_3333, 98_304));
    }
}
