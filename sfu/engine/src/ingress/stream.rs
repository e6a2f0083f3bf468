//! One encoding as it arrives: its packets put back in order of numbering, its losses asked for, its key frames
//! requested, its reception reported.

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
    /// Its source, once known.
    pub ssrc: Option<Ssrc>,
    /// The source of its retransmissions, once known.
    pub repair: Option<Ssrc>,
    /// Which encoding.
    pub layer: Layer,
    /// Whether it flows.
    pub liveness: Liveness,
    /// What its frames are to each other.
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

/// How the numbers of the source that sends now become the stream's. A browser that restarts an encoding gives it
/// a new source, with numbers from anywhere; to everyone behind, the stream goes on.
#[derive(Debug, Clone, Copy)]
enum Numbering {
    /// That is added to the source's numbers: whole turns of 16 bits, so that requests name them as they are.
    Ahead(u64),
    /// The next packet is the first of a new source.
    Anew,
}

/// What the stream makes of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The packet's timestamp, extended.
    pub timestamp: ExtendedTimestamp,
    /// False: it was here before.
    pub new: bool,
    /// The encoding has come alive by it.
    pub came_alive: bool,
}

impl Stream {
    /// A stream that has received nothing yet.
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

    /// Another source carries the stream from now on.
    pub fn begin_source(&mut self, ssrc: Ssrc) {
        if self.ssrc.replace(ssrc).is_some() {
            self.numbering = Numbering::Anew;
            self.frames.begin_source();
            self.report = ReceiveReport::new(self.clock_rate);
        }
    }

    /// The stream's number for a packet that its source numbered so.
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

    /// A packet of the stream itself arrived.
    pub fn on_media(&mut self, now: Instant, sequence: ExtendedSequence, timestamp: u32) -> Received {
        self.report.on_packet(sequence, timestamp, now);
        self.on_packet(now, sequence, timestamp)
    }

    /// A packet of the stream arrived, as retransmission or otherwise.
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

    /// The number of a packet that came as a retransmission (RFC 4588), `None` before the first packet.
    pub fn original(&self, wire: u16) -> Option<ExtendedSequence> {
        self.highest.map(|highest| highest.extend(wire))
    }

    /// The newest packet so far, with its timestamp.
    pub fn newest(&self) -> Option<(ExtendedSequence, ExtendedTimestamp)> {
        self.highest.zip(self.timestamp)
    }

    /// A key frame arrived whole or in part: whoever asked is served.
    pub fn on_key_frame(&mut self) {
        self.keyframes.on_key_frame();
    }

    /// Somebody needs a key frame.
    pub fn want_key_frame(&mut self, now: Instant) {
        self.keyframes.want(now);
    }

    /// The publisher's sender report.
    pub fn on_sender_report(&mut self, now: Instant, ntp: NtpTime, timestamp: u32) -> SenderClock {
        self.report.on_sender_report(ntp, now);
        SenderClock { ntp, timestamp, arrival: now }
    }

    /// Writes what has to be said to the publisher now. Returns the sequence numbers and key frames asked for.
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

    /// When to poll next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let missing = if self.nack { self.missing.poll_timeout() } else { None };
        [missing, self.keyframes.poll_timeout(), self.liveness.poll_timeout()].into_iter().flatten().min()
    }

    /// What was lost of it since the last call.
    pub fn take_losses(&mut self) -> Losses {
        self.report.take_losses()
    }

    /// How well it is received, `None` before the first packet.
    pub fn report_block(&mut self, now: Instant) -> Option<ReportBlock> {
        let ssrc = self.ssrc?;
        self.report.block(ssrc, now)
    }
}

/// What was asked of the publisher.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// Packets, by NACK.
    pub packets: u64,
    /// Key frames, by PLI.
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
