//! Packet-level part of a client: publishes a scalable stream with dependency descriptors, and records received packets
//! with their descriptors.

use std::time::{Duration, Instant};

use sfu_protocol::TrackSid;
use str0m::Rtc;
use str0m::format::Codec;
use str0m::media::Mid;
use str0m::rtp::{Extension, ExtensionSerializer, ExtensionValues, RtpPacket, RtpWrite, SeqNo};

use super::scalable::{Encoder, Frame, Mode};

const DEPENDENCY_DESCRIPTOR: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

/// Time between pictures.
const INTERVAL: Duration = Duration::from_micros(33_333);

/// Minimum bytes of payload for each spatial layer, without the frame number.
const SIZES: [usize; 3] = [200, 600, 1100];

pub struct RawPublisher {
    pub mid: Mid,
    pub track: TrackSid,
    pub mode: Mode,
    pub codec: Codec,
    pub encoder: Encoder,
    pub next: Instant,
    /// Sequence number of the next packet.
    sequence: u64,
    /// All frames published so far.
    pub frames: Vec<Frame>,
}

/// Packet that a client received.
#[derive(Debug, Clone)]
pub struct ReceivedPacket {
    pub mid: Mid,
    pub codec: Codec,
    pub at: Instant,
    pub sequence: u64,
    pub timestamp: u64,
    pub marker: bool,
    pub descriptor: Vec<u8>,
    pub payload: Vec<u8>,
}

impl ReceivedPacket {
    /// Number of the published frame that this packet contains.
    pub fn frame_number(&self) -> u64 {
        let at = self.payload.len() - 8;
        u64::from_be_bytes(self.payload[at..].try_into().expect("eight bytes"))
    }
}

/// WebRTC stack that works with RTP packets instead of frames.
pub fn stack(now: Instant) -> Rtc {
    Rtc::builder()
        .set_rtp_mode(true)
        .set_rtcp_report_interval_video(Duration::from_millis(500))
        .set_extension(9, Extension::with_serializer(DEPENDENCY_DESCRIPTOR, Serializer))
        .build(now)
}

impl RawPublisher {
    pub fn new(mid: Mid, track: TrackSid, mode: Mode, codec: Codec, now: Instant) -> Self {
        let encoder = Encoder::new(mode, 65_500);
        Self { mid, track, mode, codec, encoder, next: now, sequence: 1, frames: Vec::new() }
    }

    /// Publishes one picture, with one packet per frame. Returns false if the section is not ready.
    pub fn publish(&mut self, rtc: &mut Rtc, now: Instant) -> bool {
        let pt =
            rtc.codec_config().find(|params| params.spec().codec == self.codec).map(|params| params.pt());
        let pt = pt.expect("the stack has the codec");
        self.next += INTERVAL;
        let mut api = rtc.direct_api();
        let Some(stream) = api.stream_tx_by_mid(self.mid, None) else { return false };
        for frame in self.encoder.picture() {
            let payload = payload_of(self.codec, self.mode, &frame);
            let mut values = ExtensionValues::default();
            values.user_values.set(Descriptor(frame.descriptor.clone()));
            let time = (frame.picture * 3000) as u32;
            let write = RtpWrite::new(pt, SeqNo::from(self.sequence), time, now, payload)
                .marker(frame.ends_picture)
                .ext_vals(values)
                .nackable(true);
            stream.write_rtp(write);
            self.sequence += 1;
            self.frames.push(frame);
        }
        true
    }

    /// Payload of the packet of a frame.
    pub fn payload_of(&self, frame: &Frame) -> Vec<u8> {
        payload_of(self.codec, self.mode, frame)
    }
}

fn payload_of(codec: Codec, mode: Mode, frame: &Frame) -> Vec<u8> {
    let mut payload = match codec {
        Codec::Vp9 => frame.vp9_payload(mode),
        Codec::Vp8 => frame.vp8_payload(),
        _ => vec![0x10],
    };
    // Pseudo-random bytes resemble encrypted media.
    let mut noise = frame.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while payload.len() < SIZES[usize::from(frame.spatial)] {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        payload.push(noise as u8);
    }
    payload.extend(frame.number.to_be_bytes());
    payload
}

pub fn received(packet: &RtpPacket, codec: Codec, mid: Mid, at: Instant) -> ReceivedPacket {
    let descriptor = packet.header.ext_vals.user_values.get::<Descriptor>();
    ReceivedPacket {
        mid,
        codec,
        at,
        sequence: *packet.seq_no,
        timestamp: packet.time.numer(),
        marker: packet.header.marker,
        descriptor: descriptor.map(|descriptor| descriptor.0.clone()).unwrap_or_default(),
        payload: packet.payload.to_vec(),
    }
}

#[derive(Debug)]
struct Descriptor(Vec<u8>);

#[derive(Debug)]
struct Serializer;

impl ExtensionSerializer for Serializer {
    fn write_to(&self, buf: &mut [u8], values: &ExtensionValues) -> usize {
        let Some(descriptor) = values.user_values.get::<Descriptor>() else { return 0 };
        buf[..descriptor.0.len()].copy_from_slice(&descriptor.0);
        descriptor.0.len()
    }

    fn parse_value(&self, buf: &[u8], values: &mut ExtensionValues) -> bool {
        values.user_values.set(Descriptor(buf.to_vec()));
        true
    }

    fn is_video(&self) -> bool {
        true
    }

    fn is_audio(&self) -> bool {
        false
    }

    fn requires_two_byte_form(&self, values: &ExtensionValues) -> bool {
        values.user_values.get::<Descriptor>().is_none_or(|descriptor| descriptor.0.len() > 16)
    }
}
