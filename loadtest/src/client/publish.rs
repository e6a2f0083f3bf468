//! What publishers send: frames of equal packets, VP8 as far as a relay looks into it; or a picture that a browser can
//! decode, again and again, and silence.

use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::Rtc;
use str0m::format::Codec;
use str0m::media::{Mid, Pt};
use str0m::rtp::RtpWrite;

/// What a publisher sends.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// Frames a second.
    pub fps: u32,
    /// Packets of one frame.
    pub burst: usize,
    /// Bytes of RTP payload of one packet.
    pub payload_bytes: usize,
}

/// What one section carries.
#[derive(Debug, Clone)]
pub enum Content {
    /// Frames of that many packets, which nobody can decode.
    Load(Stream),
    /// This VP8 key frame, which fits into one packet, as often a second.
    Picture {
        /// The frame.
        frame: Arc<[u8]>,
        /// Frames a second.
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

/// A running publisher.
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
    /// Sends that in the media section `mid`, once started.
    pub fn new(content: Content, mid: Mid) -> Self {
        Self { content, mid, begin: None, frames: 0, packets: 0, key_frame_wanted: true }
    }

    /// Begins to send.
    pub fn start(&mut self, now: Instant) {
        self.begin = Some(now);
    }

    /// The next frame will be a key frame.
    pub fn want_key_frame(&mut self) {
        self.key_frame_wanted = true;
    }

    /// Packets handed to the stack so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// When the next frame is due.
    pub fn next_frame(&self) -> Option<Instant> {
        Some(self.begin? + Duration::from_secs(1) * self.frames / self.content.fps())
    }

    /// Hands one packet of a due frame to the stack; false: the frame is complete. The stack wants to be polled
    /// after each.
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
            // The shortest descriptor: the packet begins a frame's first partition.
            Content::Picture { frame, .. } => [&[0x10][..], frame].concat(),
            Content::Silence => OPUS_SILENCE.to_vec(),
        }
    }

    /// VP8 payload descriptor (RFC 7741 section 4.2) with a 15-bit picture id, and the frame tag of the first packet.
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

/// The negotiated payload type of a codec in a section.
fn payload_type(rtc: &Rtc, mid: Mid, codec: Codec) -> Option<Pt> {
    let negotiated = rtc.media(mid)?.remote_pts();
    let params = rtc.codec_config().params();
    let mut known = params.iter().filter(|params| params.spec().codec == codec).map(|params| params.pt());
    known.find(|pt| negotiated.contains(pt))
}

/// Frame tag, start code and 1280x720 (RFC 6386 section 9.1).
const KEY_FRAME: [u8; 10] = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x02];
/// The same length, but the first bit says that it is no key frame.
const DELTA_FRAME: [u8; 10] = [0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// An Opus frame of silence (RFC 6716 section 3.1: configuration 31, stereo not set), as encoders make them.
const OPUS_SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];
/// Frames of silence a second: as few as show that sound flows.
const SILENCES: u32 = 10;
/// Far enough from the wrap that a short run does not meet it.
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
