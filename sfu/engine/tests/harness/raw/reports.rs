//! Receiver reports about one stream (RFC 3550 section 6.4.1).

use std::time::{Duration, Instant};

use sfu_engine::rtp::rtcp::{self, ReportBlock};
use sfu_engine::units::{ExtendedSequence, Ssrc};

/// Sender report: its NTP timestamp, its RTP timestamp, and its arrival time.
pub type SenderReport = (u64, u32, Instant);

/// Counters for the receiver reports about one stream.
pub struct Reports {
    every: Duration,
    next: Option<Instant>,
    first: u64,
    received: u64,
    /// Packets expected and received up to the last report.
    before: (u64, u64),
}

impl Reports {
    /// Creates counters that yield a report after each period `every`.
    pub fn new(every: Duration) -> Self {
        Self { every, next: None, first: 0, received: 0, before: (0, 0) }
    }

    /// Starts the report timer, if it is not running, when a packet of the stream arrives.
    pub fn begin(&mut self, now: Instant) {
        self.next.get_or_insert(now + self.every);
    }

    /// Sets the first sequence number of the stream.
    pub fn begin_with(&mut self, first: ExtendedSequence) {
        self.first = first.0;
    }

    /// Counts a packet that is not a duplicate.
    pub fn count(&mut self) {
        self.received += 1;
    }

    /// Writes the report if it is due. `highest` is the newest packet, `heard` the last sender report.
    pub fn poll(
        &mut self,
        now: Instant,
        ssrc: Ssrc,
        highest: Option<ExtendedSequence>,
        heard: Option<SenderReport>,
        out: &mut Vec<u8>,
    ) {
        let (Some(highest), Some(due)) = (highest, self.next) else { return };
        if due > now {
            return;
        }
        self.next = Some(now + self.every);
        let expected = highest.0 - self.first + 1;
        let (lately, got) = (expected - self.before.0, self.received - self.before.1);
        self.before = (expected, self.received);
        let (last_sr, delay_since_last_sr) = heard.map_or((0, 0), |(ntp, _, at)| {
            ((ntp >> 16) as u32, ((now - at).as_micros() * 65_536 / 1_000_000) as u32)
        });
        let block = ReportBlock {
            ssrc,
            fraction_lost: (lately.saturating_sub(got) * 256 / lately.max(1)).min(255) as u8,
            lost: 0,
            highest_sequence: highest.0 as u32,
            jitter: 0,
            last_sr,
            delay_since_last_sr,
        };
        rtcp::write_receiver_report(out, Ssrc(1), &[block]);
    }
}
