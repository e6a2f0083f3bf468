//! Reception of one encoding: extends and continues its sequence numbers, requests lost packets and key frames,
//! reports reception.

use std::time::{Duration, Instant};

use sfu_protocol::{Layer, MediaKind};

use super::frames::FrameReader;
use super::keyframe::KeyFrameRequests;
use super::layers::Liveness;
use super::nack::{Arrival, MissingPackets, Patience, Repair};
use super::report::ReceiveReport;
use crate::limits::Limits;
use crate::rtp::rtcp::{self, ReportBlock};
use crate::units::{ExtendedSequence, ExtendedTimestamp, Losses, NtpTime, RESTART_GAP, SenderClock, Ssrc};

/// One encoding of a published track.
#[derive(Debug)]
pub struct Stream {
    /// SSRC of the stream; `None` until known from SDP or from a packet.
    pub ssrc: Option<Ssrc>,
    /// SSRC of its retransmissions; `None` until known from SDP or from a packet.
    pub repair: Option<Ssrc>,
    /// Layer that the encoding is: 0 is the lowest.
    pub layer: Layer,
    /// Whether packets of the encoding arrive.
    pub liveness: Liveness,
    /// Determines how each frame relates to the other frames of the stream.
    pub frames: FrameReader,
    missing: MissingPackets,
    keyframes: KeyFrameRequests,
    report: ReceiveReport,
    highest: Option<ExtendedSequence>,
    timestamp: Option<ExtendedTimestamp>,
    numbering: Numbering,
    clock_rate: u32,
    nack: bool,
}

/// Maps sequence numbers of the current SSRC to those of the stream. A browser that restarts an encoding gives it a new
/// SSRC, whose sequence numbers start anywhere. The stream's numbers continue, so that receivers see one stream.
#[derive(Debug, Clone, Copy)]
enum Numbering {
    /// Offset added to the SSRC's sequence numbers. A multiple of 2^16, so that NACKs name the publisher's own numbers.
    Ahead(u64),
    /// The SSRC has just changed; its first packet determines the offset.
    Anew,
}

/// Result of processing one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// RTP timestamp of the packet, extended to 64 bits.
    pub timestamp: ExtendedTimestamp,
    /// Whether the packet is new. False for a duplicate, and for a packet too old to tell.
    pub new: bool,
    /// Whether the encoding was inactive until this packet.
    pub came_alive: bool,
}

impl Stream {
    /// A stream that has received nothing yet. `clock_rate` is in Hz; `nack` enables retransmission requests.
    pub fn new(layer: Layer, kind: MediaKind, clock_rate: u32, nack: bool, limits: &Limits) -> Self {
        let interval = if layer.0 == 0 { limits.keyframe_interval_low } else { limits.keyframe_interval };
        Self {
            ssrc: None,
            repair: None,
            layer,
            liveness: Liveness::default(),
            frames: FrameReader::default(),
            missing: MissingPackets::new(match kind {
                MediaKind::Audio => Patience::AUDIO,
                MediaKind::Video => Patience::VIDEO,
            }),
            keyframes: KeyFrameRequests::new(interval),
            report: ReceiveReport::new(clock_rate),
            highest: None,
            timestamp: None,
            numbering: Numbering::Ahead(0),
            clock_rate,
            nack,
        }
    }

    /// Switches to another SSRC. If there was one before, sequence numbers continue after those of the old SSRC, and
    /// reception statistics start over.
    pub fn begin_source(&mut self, ssrc: Ssrc) {
        if self.ssrc.replace(ssrc).is_some() {
            self.numbering = Numbering::Anew;
            self.frames.begin_source();
            self.report = ReceiveReport::new(self.clock_rate);
        }
    }

    /// Converts an extended sequence number of the current SSRC to the stream's own numbering.
    pub fn number(&mut self, sequence: ExtendedSequence) -> ExtendedSequence {
        let ahead = match self.numbering {
            Numbering::Ahead(ahead) => ahead,
            Numbering::Anew => {
                let least = self.highest.map_or(0, |highest| highest.0 + RESTART_GAP + 1);
                least.saturating_sub(sequence.0).next_multiple_of(1 << 16)
            }
        };
        self.numbering = Numbering::Ahead(ahead);
        sequence.plus(ahead)
    }

    /// Processes a packet that arrived on the stream's own SSRC, not as a retransmission.
    pub fn on_media(&mut self, now: Instant, sequence: ExtendedSequence, timestamp: u32) -> Received {
        self.report.on_packet(sequence, timestamp, now);
        self.on_packet(now, sequence, timestamp)
    }

    /// Processes a packet of the stream, whether original, retransmitted, or recovered from redundancy.
    pub fn on_packet(&mut self, now: Instant, sequence: ExtendedSequence, timestamp: u32) -> Received {
        let timestamp = match self.timestamp {
            Some(last) => last.extend(timestamp),
            None => ExtendedTimestamp::first(timestamp),
        };
        if self.highest.is_none_or(|highest| sequence > highest) {
            self.highest = Some(sequence);
            self.timestamp = Some(timestamp);
        }
        let arrival = self.missing.on_packet(sequence, now);
        let new = !matches!(arrival, Arrival::Duplicate | Arrival::Old);
        Received { timestamp, new, came_alive: new && self.liveness.on_packet(now) }
    }

    /// Extends the 16-bit sequence number of a retransmitted packet (RFC 4588). `None` before the first packet.
    pub fn original(&self, wire: u16) -> Option<ExtendedSequence> {
        self.highest.map(|highest| highest.extend(wire))
    }

    /// Highest sequence number so far, with its timestamp. `None` before the first packet.
    pub fn newest(&self) -> Option<(ExtendedSequence, ExtendedTimestamp)> {
        self.highest.zip(self.timestamp)
    }

    /// A key frame has begun to arrive: all pending requests for one are satisfied.
    pub fn on_key_frame(&mut self) {
        self.keyframes.on_key_frame();
    }

    /// Schedules a key frame request.
    pub fn want_key_frame(&mut self, now: Instant) {
        self.keyframes.want(now);
    }

    /// Processes the publisher's sender report. Returns the mapping between NTP time and RTP timestamps.
    pub fn on_sender_report(&mut self, now: Instant, ntp: NtpTime, timestamp: u32) -> SenderClock {
        self.report.on_sender_report(ntp, now);
        SenderClock { ntp, timestamp, arrival: now }
    }

    /// Appends the NACKs and the PLI that are due now to `out`. Returns how many packets and key frames were requested.
    pub fn poll(&mut self, now: Instant, rtt: Option<Duration>, sender: Ssrc, out: &mut Vec<u8>) -> Asked {
        let mut asked = Asked::default();
        let Some(media) = self.ssrc else { return asked };
        if self.nack {
            let mut lost = Vec::new();
            if self.missing.poll(now, rtt, &mut lost) == Repair::NeedKeyFrame {
                self.keyframes.want(now);
            }
            if !lost.is_empty() {
                rtcp::write_nack(out, sender, media, &lost);
                asked.packets = lost.len() as u64;
            }
        }
        if self.keyframes.poll(now) {
            rtcp::write_pli(out, sender, media);
            asked.key_frames = 1;
        }
        asked
    }

    /// Earliest time at which `poll` or the liveness has work.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let missing = if self.nack { self.missing.poll_timeout() } else { None };
        [missing, self.keyframes.poll_timeout(), self.liveness.poll_timeout()].into_iter().flatten().min()
    }

    /// Losses in the receiver reports since the last call.
    pub fn take_losses(&mut self) -> Losses {
        self.report.take_losses()
    }

    /// Report block for a receiver report. `None` before the first packet.
    pub fn report_block(&mut self, now: Instant) -> Option<ReportBlock> {
        let ssrc = self.ssrc?;
        self.report.block(ssrc, now)
    }
}

/// Number of requests sent to the publisher.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// Packets requested by NACK.
    pub packets: u64,
    /// Key frames requested by PLI.
    pub key_frames: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::test_epoch;

    #[test]
    fn a_new_source_goes_on_behind_the_old_one_whatever_its_numbers() {
        let now = test_epoch();
        for first in [3, 40_100, 65_535] {
            let mut stream = Stream::new(Layer(0), MediaKind::Video, 90_000, true, &Limits::default());
            stream.begin_source(Ssrc(1));
            let mut last = ExtendedSequence::default();
            for wire in 40_000..40_100_u16 {
                last = stream.number(ExtendedSequence::first(wire));
                assert!(stream.on_media(now, last, 0).new);
            }
            stream.begin_source(Ssrc(2));
            let source = ExtendedSequence::first(first);
            let next = stream.number(source);
            assert!(next.0 > last.0 + RESTART_GAP, "{next:?} behind {last:?}");
            assert_eq!(next.wire(), first, "requests name the source's own numbers");
            assert!(stream.on_media(now, next, 0).new);
            assert_eq!(stream.number(source.plus(1)), next.plus(1));
            assert_eq!(stream.original(source.plus(1).wire()), Some(next.plus(1)));
        }
    }
}
