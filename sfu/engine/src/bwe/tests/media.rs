//! A paced sender whose video bitrate follows the estimate, and the receiver that reports on it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use rand::Rng;
use rand::rngs::SmallRng;

use super::read_congestion_feedback;
use crate::bwe::{Cause, ClusterId, Estimator, EstimatorConfig};
use crate::rtp::rtcp::{ReceivedPacket, TransportFeedback};
use crate::units::{Bitrate, ExtendedSequence, Ssrc};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Audio,
    /// Number of the packet's video frame, and number of packets in that frame.
    Video(u64, usize),
    Padding,
}

#[derive(Debug, Clone, Copy)]
pub struct MediaSpec {
    /// Maximum video bitrate, in bits per second.
    pub most: f64,
    /// Start rate of the estimator, in bits per second.
    pub start: f64,
    /// Video pauses between these times, in seconds.
    pub pause: Option<(f64, f64)>,
    /// Share of feedback messages lost, 0 to 1.
    pub feedback_loss: f64,
    /// Whether feedback has RFC 8888 format instead of the transport-wide format.
    pub rfc8888: bool,
    /// Size of the first video frame, in bytes.
    pub first_picture: usize,
}

impl Default for MediaSpec {
    fn default() -> Self {
        Self {
            most: 10e6,
            start: 300e3,
            pause: None,
            feedback_loss: 0.0,
            rfc8888: false,
            first_picture: 10_000,
        }
    }
}

#[derive(Debug)]
pub struct Media {
    pub spec: MediaSpec,
    pub estimator: Estimator,
    epoch: Instant,
    sequence: ExtendedSequence,
    frames: u64,
    /// Queued packets: size in bytes, and video frame.
    video: VecDeque<(usize, Kind)>,
    queued: usize,
    audio: VecDeque<usize>,
    next_send: u64,
    cluster: Option<ClusterId>,
    pub receiver: Receiver,
    pub causes: Vec<(u64, Cause, u64)>,
}

#[derive(Debug, Clone, Copy)]
pub struct Outgoing {
    pub sequence: u64,
    pub bytes: usize,
    pub kind: Kind,
}

impl Media {
    pub fn new(spec: MediaSpec, epoch: Instant, now: u64, random: &mut SmallRng) -> Self {
        let config = EstimatorConfig {
            start_rate: Bitrate::from_bps(spec.start as u64),
            min_rate: Bitrate::from_kbps(40),
            max_rate: Bitrate::from_kbps(20_000),
        };
        let at = epoch + std::time::Duration::from_micros(now);
        let mut estimator = Estimator::new(at, config);
        estimator.set_wanted(at, Bitrate::from_bps(spec.most as u64));
        Self {
            spec,
            estimator,
            epoch,
            sequence: ExtendedSequence::first(random.random()),
            frames: 0,
            video: VecDeque::new(),
            queued: 0,
            audio: VecDeque::new(),
            next_send: 0,
            cluster: None,
            receiver: Receiver::new(random.random_range(0..1 << 22)),
            causes: Vec::new(),
        }
    }

    pub fn at(&self, now: u64) -> Instant {
        self.epoch + std::time::Duration::from_micros(now)
    }

    pub fn estimate(&self) -> f64 {
        self.estimator.estimate().bps() as f64
    }

    pub fn is_paused(&self, now: u64) -> bool {
        let seconds = now as f64 / 1e6;
        self.spec.pause.is_some_and(|(from, to)| from <= seconds && seconds < to)
    }

    /// Encodes a video frame and queues its packets.
    pub fn on_frame(&mut self, now: u64, random: &mut SmallRng) {
        let paused = self.is_paused(now);
        let wanted = if paused { 60_000.0 } else { self.spec.most };
        self.estimator.set_wanted(self.at(now), Bitrate::from_bps(wanted as u64));
        if paused {
            return;
        }
        self.frames += 1;
        let estimate = self.estimate();
        // Audio comes first. A video frame is skipped rather than queued behind old ones.
        let budget = (estimate * 0.97 - AUDIO_RATE).clamp(10_000.0, self.spec.most);
        if self.queued as f64 * 8.0 > estimate * 0.1 && self.frames > 1 {
            return;
        }
        let mut bytes = budget / 30.0 / 8.0 * random.random_range(0.8..1.2);
        match self.frames % 300 {
            0 => bytes *= 3.0,
            1..=10 if self.frames > 10 => bytes *= 0.8,
            _ => {}
        }
        let bytes = if self.frames == 1 { self.spec.first_picture } else { (bytes as usize).max(60) };
        let count = bytes.div_ceil(1160);
        for _ in 0..count {
            let size = bytes / count + 40;
            self.video.push_back((size, Kind::Video(self.frames, count)));
            self.queued += size;
        }
    }

    pub fn on_audio(&mut self) {
        self.audio.push_back(120);
    }

    /// Appends the packets that may leave now. Returns when to call again, in microseconds.
    pub fn send(&mut self, now: u64, out: &mut Vec<Outgoing>) -> u64 {
        let at = self.at(now);
        if self.cluster.is_none() {
            self.cluster = self.estimator.poll(at).map(|probe| probe.cluster);
            self.note(now);
            if self.cluster.is_some() {
                self.next_send = now;
            }
        }
        while let Some(bytes) = self.audio.pop_front() {
            self.push(now, bytes, Kind::Audio, None, out);
        }
        while self.next_send <= now {
            let probe = self.estimator.active_probe();
            if probe.is_none() {
                self.cluster = None;
            }
            let (bytes, kind) = match (self.video.pop_front(), probe) {
                (Some((bytes, kind)), _) => {
                    self.queued -= bytes;
                    (bytes, kind)
                }
                (None, Some(_)) => (1000, Kind::Padding),
                (None, None) => break,
            };
            let pace = if self.estimator.is_policed() { 1.1 } else { 1.5 };
            let rate = probe.map_or(self.estimate() * pace, |probe| probe.rate.bps() as f64);
            self.next_send =
                self.next_send.max(now.saturating_sub(5000)) + (bytes as f64 * 8e6 / rate) as u64;
            self.push(now, bytes, kind, probe.map(|probe| probe.cluster), out);
        }
        if self.video.is_empty() && self.cluster.is_none() {
            now + 5000
        } else {
            self.next_send.max(now + 100)
        }
    }

    fn push(
        &mut self,
        now: u64,
        bytes: usize,
        kind: Kind,
        cluster: Option<ClusterId>,
        out: &mut Vec<Outgoing>,
    ) {
        let sequence = self.sequence;
        self.sequence = sequence.plus(1);
        self.estimator.on_sent(self.at(now), sequence, bytes, cluster);
        if self.spec.rfc8888 {
            self.estimator.on_sent_stream(Ssrc(7), sequence.wire(), sequence);
        }
        out.push(Outgoing { sequence: sequence.0, bytes, kind });
    }

    pub fn on_feedback(&mut self, now: u64, feedback: &TransportFeedback) {
        if self.spec.rfc8888 {
            let body = as_rfc8888(feedback);
            let feedback = read_congestion_feedback(&body).expect("well-formed");
            self.estimator.on_congestion_feedback(self.at(now), &feedback);
        } else {
            self.estimator.on_feedback(self.at(now), feedback);
        }
        self.note(now);
    }

    fn note(&mut self, now: u64) {
        let change = self.estimator.last_change();
        let entry = (now, change.cause, change.estimate.bps());
        if self.causes.last().is_none_or(|last| (last.1, last.2) != (entry.1, entry.2)) {
            self.causes.push(entry);
        }
    }
}

/// Converts transport-wide feedback to RFC 8888 format.
fn as_rfc8888(feedback: &TransportFeedback) -> Vec<u8> {
    let last = feedback.arrivals().map(|(_, ticks)| ticks).max().unwrap_or(0);
    let arrivals: BTreeMap<u16, i64> = feedback.arrivals().collect();
    let mut body = vec![0, 0, 0, 1];
    body.extend(7_u32.to_be_bytes());
    body.extend(feedback.base_sequence.to_be_bytes());
    body.extend(feedback.status_count.to_be_bytes());
    for n in 0..feedback.status_count {
        let arrival = arrivals.get(&feedback.base_sequence.wrapping_add(n));
        // Converts ticks of 250 us to 1/1024 s.
        let metric = arrival.map_or(0, |ticks| 0x8000 | ((last - ticks) * 1024 / 4000).min(8189) as u16);
        body.extend(metric.to_be_bytes());
    }
    body.resize(body.len().next_multiple_of(4), 0);
    body.extend(((last * 65_536 / 4000) as u32).to_be_bytes());
    body
}

/// Reports arrivals by transport-wide number, as libwebrtc does: every 50 ms.
#[derive(Debug)]
pub struct Receiver {
    pending: Vec<(u64, u64)>,
    next: Option<u64>,
    count: u8,
    offset: u64,
    /// Number of the newest video frame, and number of its packets received.
    picture: (u64, usize),
}

impl Receiver {
    fn new(offset: u64) -> Self {
        Self { pending: Vec::new(), next: None, count: 0, offset, picture: (0, 0) }
    }

    pub fn on_packet(&mut self, now: u64, sequence: u64) {
        self.pending.push((sequence, now));
    }

    /// Whether the packet that has just arrived completes a video frame. There are no retransmissions in these tests,
    /// and every frame can be decoded without earlier ones.
    pub fn has_picture(&mut self, kind: Kind) -> bool {
        let Kind::Video(picture, packets) = kind else { return false };
        let before = if self.picture.0 == picture { self.picture.1 } else { 0 };
        self.picture = (picture, before + 1);
        before + 1 == packets
    }

    pub fn feedback(&mut self) -> Option<TransportFeedback> {
        self.pending.sort_unstable();
        let (first, _) = *self.pending.first()?;
        let (last, _) = *self.pending.last()?;
        let base = self.next.unwrap_or(first).min(first);
        let ticks = |time: u64| ((time + self.offset * 64_000) / 250) as i64;
        let (_, earliest) = *self.pending.first()?;
        let reference = ticks(earliest) / 256;
        let mut before = reference * 256;
        let mut received = Vec::with_capacity(self.pending.len());
        for (sequence, time) in self.pending.drain(..) {
            let at = ticks(time);
            received.push(ReceivedPacket { sequence: sequence as u16, delta: (at - before) as i16 });
            before = at;
        }
        self.next = Some(self.next.unwrap_or(0).max(last + 1));
        self.count = self.count.wrapping_add(1);
        Some(TransportFeedback {
            sender: Ssrc(1),
            media: Ssrc(2),
            base_sequence: base as u16,
            status_count: (last + 1 - base) as u16,
            reference_time: (reference & 0xff_ffff) as u32,
            feedback_count: self.count,
            received,
        })
    }
}

pub const AUDIO_RATE: f64 = 48_000.0;
