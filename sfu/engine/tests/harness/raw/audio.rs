//! Audio frames that identify themselves, and a receiver of them that behaves like a browser's: it accepts redundancy,
//! requests missing packets when a packet arrives, and requests them again after one and a half round trips.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sfu_engine::rtp::extension::HeaderExtensions;
use sfu_engine::rtp::packet::RtpHeader;
use sfu_engine::rtp::rtcp;
use sfu_engine::units::{ExtendedSequence, Ssrc};
use sfu_protocol::TrackSid;

use super::person::{OPUS, RED};
use super::reports::{Reports, SenderReport};

/// Time between two requests for the same packet, at a round-trip time of 80 ms.
const ASK_AGAIN: Duration = Duration::from_millis(125);

/// Age at which a missing packet is no longer requested.
const GIVE_UP: Duration = Duration::from_millis(600);

/// Interval of receiver reports for audio in browsers.
const REPORTS: Duration = Duration::from_secs(5);

/// Audio frame that contains its number and capture time. Its first byte is that of a 20 ms Opus frame.
pub fn make(number: u32, capture_us: u64, bytes: usize) -> Vec<u8> {
    let mut frame = vec![0xf8];
    frame.extend(number.to_be_bytes());
    frame.extend(capture_us.to_be_bytes());
    while frame.len() < bytes {
        frame.push((frame.len() as u32).wrapping_mul(37).wrapping_add(number) as u8);
    }
    frame
}

/// Payload that also contains the earlier frames `before` (RFC 2198), and its payload type.
pub fn with_redundancy(before: &[(u32, Vec<u8>)], timestamp: u32, frame: &[u8]) -> (u8, Vec<u8>) {
    if before.is_empty() {
        return (OPUS, frame.to_vec());
    }
    let mut body = Vec::new();
    for (at, frame) in before {
        let word = timestamp.wrapping_sub(*at) << 10 | frame.len() as u32;
        body.push(0x80 | OPUS);
        body.extend_from_slice(&word.to_be_bytes()[1..]);
    }
    body.push(OPUS);
    for (_, frame) in before {
        body.extend_from_slice(frame);
    }
    body.extend_from_slice(frame);
    (RED, body)
}

/// Receiving state of one audio track.
pub struct SoundReceiver {
    pub track: TrackSid,
    pub ssrc: Ssrc,
    /// Last sender report that arrived.
    pub reported: Option<SenderReport>,
    /// First arrival of each frame, by frame number.
    pub frames: BTreeMap<u32, Heard>,
    /// Number of packets by how many earlier frames they contain; the last entry counts three and more.
    pub by_redundancy: [u64; 4],
    /// Number of frames with a wrong byte or timestamp.
    pub broken: u64,
    pub packets: u64,
    /// Number of sequence numbers requested, repeated requests included.
    pub nacked: u64,
    /// Last value of the absolute capture time extension.
    pub capture_time: Option<Vec<u8>>,
    /// Whether each tick requests the last 51 packets, lost or not.
    pub storm: bool,
    nack: bool,
    highest: Option<ExtendedSequence>,
    missing: BTreeMap<u64, (Instant, Option<Instant>)>,
    seen: BTreeMap<u64, ()>,
    reports: Reports,
}

/// Frame that arrived.
#[derive(Debug, Clone, Copy)]
pub struct Heard {
    pub at: Instant,
    pub timestamp: u32,
    pub capture_us: u64,
}

impl SoundReceiver {
    pub fn new(track: TrackSid, ssrc: Ssrc, nack: bool) -> Self {
        Self {
            track,
            ssrc,
            reported: None,
            frames: BTreeMap::new(),
            by_redundancy: [0; 4],
            broken: 0,
            packets: 0,
            nacked: 0,
            capture_time: None,
            storm: false,
            nack,
            highest: None,
            missing: BTreeMap::new(),
            seen: BTreeMap::new(),
            reports: Reports::new(REPORTS),
        }
    }

    pub fn receive(
        &mut self,
        now: Instant,
        header: &RtpHeader,
        extensions: &HeaderExtensions<'_>,
        body: &[u8],
        out: &mut Vec<u8>,
    ) {
        self.packets += 1;
        if extensions.absolute_capture_time.is_some() {
            self.capture_time = extensions.absolute_capture_time.map(<[u8]>::to_vec);
        }
        self.reports.begin(now);
        let sequence = self
            .highest
            .map_or(ExtendedSequence::first(header.sequence), |known| known.extend(header.sequence));
        if let Some(highest) = self.highest {
            for number in highest.0 + 1..sequence.0 {
                self.missing.insert(number, (now, None));
            }
        } else {
            self.reports.begin_with(sequence);
        }
        self.highest = Some(self.highest.map_or(sequence, |highest| highest.max(sequence)));
        self.missing.remove(&sequence.0);
        if self.seen.insert(sequence.0, ()).is_none() {
            self.reports.count();
        }
        self.take(now, header, body);
        if self.nack {
            self.ask(now, out);
        }
    }

    fn take(&mut self, now: Instant, header: &RtpHeader, body: &[u8]) {
        if header.payload_type.0 == OPUS {
            self.by_redundancy[0] += 1;
            self.hear(now, header.timestamp, body);
            return;
        }
        assert_eq!(header.payload_type.0, RED, "what was agreed");
        let (mut at, mut blocks) = (0, Vec::new());
        while body[at] & 0x80 != 0 {
            assert_eq!(body[at] & 0x7f, OPUS, "its own number of the codec");
            let word = u32::from_be_bytes([0, body[at + 1], body[at + 2], body[at + 3]]);
            blocks.push((header.timestamp.wrapping_sub(word >> 10), (word & 0x3ff) as usize));
            at += 4;
        }
        assert_eq!(body[at], OPUS, "its own number of the codec");
        at += 1;
        self.by_redundancy[blocks.len().min(3)] += 1;
        for (timestamp, len) in blocks {
            self.hear(now, timestamp, &body[at..at + len]);
            at += len;
        }
        self.hear(now, header.timestamp, &body[at..]);
    }

    fn hear(&mut self, now: Instant, timestamp: u32, frame: &[u8]) {
        let number = u32::from_be_bytes([frame[1], frame[2], frame[3], frame[4]]);
        let mut capture = [0; 8];
        capture.copy_from_slice(&frame[5..13]);
        let capture_us = u64::from_be_bytes(capture);
        if frame != make(number, capture_us, frame.len()) {
            self.broken += 1;
            return;
        }
        let heard = self.frames.entry(number).or_insert(Heard { at: now, timestamp, capture_us });
        if heard.timestamp != timestamp {
            self.broken += 1;
        }
    }

    fn ask(&mut self, now: Instant, out: &mut Vec<u8>) {
        self.missing.retain(|_, (noticed, _)| now - *noticed < GIVE_UP);
        let mut lost = Vec::new();
        for (number, (_, asked)) in &mut self.missing {
            if asked.is_none_or(|asked| now - asked >= ASK_AGAIN) {
                *asked = Some(now);
                lost.push(*number as u16);
            }
        }
        self.nacked += lost.len() as u64;
        rtcp::write_nack(out, Ssrc(1), self.ssrc, &lost);
    }

    /// Requests the last 50 packets again.
    pub fn ask_for_everything(&self, out: &mut Vec<u8>) {
        let Some(highest) = self.highest else { return };
        let all: Vec<u16> = (0..50).rev().map(|back| (highest.0 as u16).wrapping_sub(back)).collect();
        rtcp::write_nack(out, Ssrc(1), self.ssrc, &all);
    }

    pub fn advance(&mut self, now: Instant, out: &mut Vec<u8>) {
        if self.storm
            && let Some(highest) = self.highest
        {
            let all: Vec<u16> = (highest.0 - 50..=highest.0).map(|number| number as u16).collect();
            rtcp::write_nack(out, Ssrc(1), self.ssrc, &all);
        }
        self.reports.poll(now, self.ssrc, self.highest, self.reported, out);
    }
}
