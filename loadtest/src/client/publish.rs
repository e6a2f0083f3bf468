//! Media that publishers send: VP8 frames that are valid only as far as a relay parses them, one decodable VP8 key
//! frame sent repeatedly, or Opus silence.

use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::Rtc;
use str0m::format::Codec;
use str0m::media::{Mid, Pt};
use str0m::rtp::RtpWrite;

/// Shape of a video stream that is not decodable.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// Frames per second.
    pub fps: u32,
    /// Packets per frame.
    pub burst: usize,
    /// Bytes of RTP payload per packet.
    pub payload_bytes: usize,
}

/// Media of one section.
#[derive(Debug, Clone)]
pub enum Content {
    /// VP8 frames of the given shape, which no decoder can decode.
    Load(Stream),
    /// One VP8 key frame, which fits into one packet, sent repeatedly.
    Picture {
        /// The VP8 key frame.
        frame: Arc<[u8]>,
        /// Frames per second.
        fps: u32,
    },
    /// Opus silence.
    Silence,
}

impl Content {
    fn fps(&self) -> u32 {
        match self {
            Self::Load(stream) => stream.fps.max(1),
            Self::Picture { fps, .. } => (*fps).max(1),
            Self::Silence => SILENCES,
        }
    }

    fn burst(&self) -> usize {
        match self {
            Self::Load(stream) => stream.burst,
            Self::Picture { .. } | Self::Silence => 1,
        }
    }

    fn codec(&self) -> Codec {
        match self {
            Self::Load(_) | Self::Picture { .. } => Codec::Vp8,
            Self::Silence => Codec::Opus,
        }
    }

    fn clock_rate(&self) -> u64 {
        if self.codec() == Codec::Opus { 48_000 } else { 90_000 }
    }
}

/// Sender for one media section.
#[derive(Debug)]
pub struct Publisher {
    content: Content,
    mid: Mid,
    begin: Option<Instant>,
    frames: u32,
    packets: u64,
    key_frame_wanted: bool,
}

impl Publisher {
    /// Creates a sender of `content` in the media section `mid`. It sends nothing before [`start`](Self::start).
    pub fn new(content: Content, mid: Mid) -> Self {
        Self { content, mid, begin: None, frames: 0, packets: 0, key_frame_wanted: true }
    }

    /// Begins to send; the first frame is due at `now`.
    pub fn start(&mut self, now: Instant) {
        self.begin = Some(now);
    }

    /// Makes the next frame a key frame; no effect on other content than [`Content::Load`].
    pub fn want_key_frame(&mut self) {
        self.key_frame_wanted = true;
    }

    /// Number of packets passed to the WebRTC stack so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Time at which the next frame is due; `None` before the start.
    pub fn next_frame(&self) -> Option<Instant> {
        Some(self.begin? + Duration::from_secs(1) * self.frames / self.content.fps())
    }

    /// Passes packet number `place` of the due frame to the WebRTC stack, which must be polled after each packet.
    /// Returns false if the frame is complete, or if the section is not negotiated and nothing was written.
    pub fn write(&mut self, rtc: &mut Rtc, place: usize, now: Instant) -> bool {
        let Some(pt) = payload_type(rtc, self.mid, self.content.codec()) else { return false };
        let payload = self.payload(place);
        let last = place + 1 >= self.content.burst();
        let ticks = u64::from(self.frames) * self.content.clock_rate() / u64::from(self.content.fps());
        let time = u32::try_from(ticks);
        let is_video = self.content.codec() == Codec::Vp8;
        let mut direct = rtc.direct_api();
        let Some(stream) = direct.stream_tx_by_mid(self.mid, None) else { return false };
        stream.set_unpaced(true);
        let rtp =
            RtpWrite::new(pt, (FIRST_SEQUENCE + self.packets).into(), time.unwrap_or(u32::MAX), now, payload);
        stream.write_rtp(rtp.marker(last && is_video).nackable(is_video));
        self.packets += 1;
        if last {
            self.frames += 1;
            self.key_frame_wanted = false;
        }
        !last
    }

    fn payload(&self, place: usize) -> Vec<u8> {
        match &self.content {
            Content::Load(stream) => self.load(*stream, place),
            // Shortest VP8 payload descriptor: only the bit for the start of a frame's first partition is set.
            Content::Picture { frame, .. } => [&[0x10][..], frame].concat(),
            Content::Silence => OPUS_SILENCE.to_vec(),
        }
    }

    /// VP8 payload: a descriptor with a 15-bit picture id (RFC 7741 section 4.2), and in the first packet a frame tag.
    fn load(&self, stream: Stream, place: usize) -> Vec<u8> {
        let picture = (self.frames & 0x7fff) as u16 | 0x8000;
        let [high, low] = picture.to_be_bytes();
        let start = if place == 0 { 0x10 } else { 0 };
        let tl0 = self.frames as u8;
        let mut payload = vec![0x80 | start, 0xe0, high, low, tl0, 0x20];
        if place == 0 {
            payload.extend(if self.key_frame_wanted { KEY_FRAME } else { DELTA_FRAME });
        }
        payload.resize(stream.payload_bytes.max(payload.len()), 0x5a);
        payload
    }
}

/// Payload type that was negotiated for `codec` in a section.
fn payload_type(rtc: &Rtc, mid: Mid, codec: Codec) -> Option<Pt> {
    let negotiated = rtc.media(mid)?.remote_pts();
    let params = rtc.codec_config().params();
    let mut known = params.iter().filter(|params| params.spec().codec == codec).map(|params| params.pt());
    known.find(|pt| negotiated.contains(pt))
}

/// Frame tag of a key frame, start code, and dimensions 1280x720 (RFC 6386 section 9.1).
const KEY_FRAME: [u8; 10] = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x02];
/// Frame tag of a delta frame (its lowest bit is set), padded to the length of [`KEY_FRAME`].
const DELTA_FRAME: [u8; 10] = [0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// An Opus packet of silence as encoders produce it (RFC 6716 section 3.1: configuration 31, mono).
const OPUS_SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];
/// Silent audio packets per second: few, but enough to show that audio flows.
const SILENCES: u32 = 10;
/// Far from the wrap-around of sequence numbers, so a short run does not reach it.
const FIRST_SEQUENCE: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_of_equal_length_and_only_the_first_frame_is_a_key_frame() {
        let stream = Stream { fps: 30, burst: 3, payload_bytes: 1100 };
        let mut publisher = Publisher::new(Content::Load(stream), "0".into());
        let packets: Vec<_> = (0..3).map(|place| publisher.payload(place)).collect();
        assert!(packets.iter().all(|packet| packet.len() == 1100));
        assert_eq!(packets[0][0] & 0x10, 0x10);
        assert_eq!(packets[1][0] & 0x10, 0);
        assert_eq!(packets[0][6] & 1, 0, "a key frame");
        publisher.key_frame_wanted = false;
        publisher.frames = 1;
        let next = publisher.payload(0);
        assert_eq!(next[6] & 1, 1);
        assert_eq!([next[2], next[3]], [0x80, 1]);
        publisher.want_key_frame();
        assert_eq!(publisher.payload(0)[6] & 1, 0);
    }

    #[test]
    fn frames_keep_their_pace() {
        let mut publisher =
            Publisher::new(Content::Load(Stream { fps: 25, burst: 1, payload_bytes: 100 }), "0".into());
        assert_eq!(publisher.next_frame(), None);
        let now = Instant::now();
        publisher.start(now);
        assert_eq!(publisher.next_frame(), Some(now));
        publisher.frames = 50;
        assert_eq!(publisher.next_frame(), Some(now + Duration::from_secs(2)));
    }
}
