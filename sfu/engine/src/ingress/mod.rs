//! What one peer publishes: from a decrypted RTP packet to a [`MediaPacket`], and the feedback that its sender
//! needs.

mod accept;
pub mod feedback;
pub mod frames;
pub mod keyframe;
pub mod layers;
pub mod level;
pub mod nack;
mod quality;
mod redundancy;
pub mod report;
pub mod stream;
pub mod voice;
mod window;

use std::time::{Duration, Instant};

use sfu_protocol::{Layer, MediaKind, TrackSid};

use crate::handles::TrackHandle;
use crate::limits::Limits;
use crate::media_packet::{MediaPacket, TrackId};
use crate::rtp::codec::Codec;
use crate::rtp::extension::ExtensionMap;
use crate::rtp::rtcp::{self, ReportBlock};
use crate::stats::Stats;
use crate::units::{NtpTime, PayloadType, SenderClock, Ssrc};
use feedback::TransportFeedback;
use level::AudioLevel;
use stream::Stream;
use voice::Voice;

/// Time between receiver reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The receiving half of a peer.
#[derive(Debug)]
pub struct Ingress {
    tracks: Vec<IngressTrack>,
    sources: Vec<Source>,
    payload_types: Vec<PayloadBinding>,
    extensions: ExtensionMap,
    feedback: Option<TransportFeedback>,
    voice: Voice,
    reporter: Ssrc,
    next_report: Option<Instant>,
    rtt: Option<Duration>,
    limits: Limits,
}

/// One published track.
#[derive(Debug)]
pub struct IngressTrack {
    /// Its place in the room.
    pub handle: TrackHandle,
    /// Its number.
    pub id: TrackId,
    /// Its sid.
    pub sid: TrackSid,
    /// Audio or video.
    pub kind: MediaKind,
    mid: String,
    rids: Vec<String>,
    encrypted: bool,
    muted: bool,
    /// How loud it speaks; only of what may be somebody's voice.
    level: Option<Box<AudioLevel>>,
    playout_delay: Option<[u8; 3]>,
    streams: Vec<Stream>,
}

/// What a track is made of, from its announcement and its media section.
#[derive(Debug, Clone)]
pub struct NewTrack {
    /// Its place in the room.
    pub handle: TrackHandle,
    /// Its number.
    pub id: TrackId,
    /// Its sid.
    pub sid: TrackSid,
    /// Audio or video.
    pub kind: MediaKind,
    /// Its media section.
    pub mid: String,
    /// RIDs, lowest layer first.
    pub rids: Vec<String>,
    /// Sources with their repair sources, lowest layer first, where the description names them.
    pub ssrcs: Vec<(Ssrc, Option<Ssrc>)>,
    /// In how many streams it comes.
    pub streams: usize,
    /// Payload types of the section.
    pub payload_types: Vec<PayloadBinding>,
    /// Header extensions of the section.
    pub extensions: ExtensionMap,
    /// Lost packets may be asked for.
    pub nack: bool,
    /// Transport-wide feedback was negotiated.
    pub transport_feedback: bool,
    /// The payload is opaque.
    pub encrypted: bool,
    /// It may be its publisher's voice: sound, and not that of a screen share.
    pub voice: bool,
    /// Nothing is forwarded.
    pub muted: bool,
    /// What receivers are told of the delay to play at, whatever the publisher says.
    pub playout_delay: Option<[u8; 3]>,
}

/// What a payload type stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadBinding {
    /// The payload type.
    pub payload_type: PayloadType,
    /// Its codec, or the codec that it repairs.
    pub codec: Codec,
    /// Whether it is RFC 4588 retransmission.
    pub repair: bool,
}

#[derive(Debug, Clone, Copy)]
struct Source {
    ssrc: Ssrc,
    track: usize,
    stream: usize,
    repair: bool,
}

/// A published packet with where it goes.
#[derive(Debug)]
pub struct Published {
    /// Its track.
    pub handle: TrackHandle,
    /// The packet. An empty payload is padding: numbered, but nothing to forward.
    pub packet: MediaPacket,
    /// Its encoding has come alive by it.
    pub came_alive: bool,
    /// Packets of the same track that were lost before it, and that it repeats. They go first.
    pub recovered: Vec<MediaPacket>,
}

/// An encoding that fell silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silent {
    /// Its track.
    pub handle: TrackHandle,
    /// Which encoding.
    pub layer: Layer,
}

impl Ingress {
    /// Nothing published yet. `reporter` is our own source in reports and requests.
    pub fn new(reporter: Ssrc, limits: Limits) -> Self {
        Self {
            tracks: Vec::new(),
            sources: Vec::new(),
            payload_types: Vec::new(),
            extensions: ExtensionMap::new(),
            feedback: None,
            voice: Voice::default(),
            reporter,
            next_report: None,
            rtt: None,
            limits,
        }
    }

    /// A track has its media section.
    pub fn add_track(&mut self, new: NewTrack, now: Instant) {
        let clock_rate = new.payload_types.first().map_or(90_000, |binding| binding.codec.clock_rate());
        let mut streams: Vec<Stream> = (0..new.streams.max(1))
            .map(|layer| Stream::new(Layer(layer as u8), new.kind, clock_rate, new.nack, &self.limits))
            .collect();
        let track = self.tracks.len();
        for (place, ((ssrc, repair), stream)) in new.ssrcs.iter().zip(&mut streams).enumerate() {
            stream.ssrc = Some(*ssrc);
            stream.repair = *repair;
            self.sources.push(Source { ssrc: *ssrc, track, stream: place, repair: false });
            if let Some(repair) = repair {
                self.sources.push(Source { ssrc: *repair, track, stream: place, repair: true });
            }
        }
        self.learn(new.payload_types, &new.extensions);
        if new.transport_feedback && self.feedback.is_none() {
            self.feedback = Some(TransportFeedback::new());
        }
        self.tracks.push(IngressTrack {
            handle: new.handle,
            id: new.id,
            sid: new.sid,
            kind: new.kind,
            mid: new.mid,
            rids: new.rids,
            encrypted: new.encrypted,
            muted: new.muted,
            level: new.voice.then(|| Box::new(AudioLevel::new(now))),
            playout_delay: new.playout_delay,
            streams,
        });
    }

    /// A track's section was described anew.
    pub fn renegotiate(
        &mut self,
        sid: &TrackSid,
        payload_types: Vec<PayloadBinding>,
        extensions: ExtensionMap,
    ) {
        if self.tracks.iter().any(|track| track.sid == *sid) {
            self.learn(payload_types, &extensions);
        }
    }

    /// Payload types and header extensions mean the same in all sections of one connection (RFC 9143).
    fn learn(&mut self, payload_types: Vec<PayloadBinding>, extensions: &ExtensionMap) {
        for binding in payload_types {
            self.payload_types.retain(|other| other.payload_type != binding.payload_type);
            self.payload_types.push(binding);
        }
        for (id, extension) in extensions.iter() {
            self.extensions.insert(id, extension);
        }
    }

    /// A track is gone.
    pub fn remove_track(&mut self, sid: &TrackSid) -> Option<TrackHandle> {
        let place = self.tracks.iter().position(|track| track.sid == *sid)?;
        let track = self.tracks.remove(place);
        self.sources.retain_mut(|source| {
            let keep = source.track != place;
            if source.track > place {
                source.track -= 1;
            }
            keep
        });
        Some(track.handle)
    }

    /// The published tracks.
    pub fn tracks(&self) -> &[IngressTrack] {
        &self.tracks
    }

    /// Mutes or unmutes a track: nothing of a muted one is forwarded. False if it is not published here.
    pub fn set_muted(&mut self, sid: &TrackSid, muted: bool, now: Instant) -> bool {
        let Some(track) = self.tracks.iter_mut().find(|track| track.sid == *sid) else { return false };
        track.muted = muted;
        if let Some(level) = track.level.as_mut().filter(|_| muted) {
            level.silence(now);
        }
        true
    }

    /// Somebody needs a key frame of a track.
    pub fn want_key_frame(&mut self, now: Instant, id: TrackId, layer: Layer) {
        let track = self.tracks.iter_mut().find(|track| track.id == id);
        if let Some(stream) = track.and_then(|track| track.streams.get_mut(usize::from(layer.0))) {
            stream.want_key_frame(now);
        }
    }

    /// The publisher's sender report for one of its sources.
    pub fn on_sender_report(
        &mut self,
        now: Instant,
        ssrc: Ssrc,
        ntp: NtpTime,
        rtp_timestamp: u32,
    ) -> Option<(TrackHandle, Layer, SenderClock)> {
        let source = self.sources.iter().find(|source| source.ssrc == ssrc && !source.repair)?;
        let track = self.tracks.get_mut(source.track)?;
        let stream = track.streams.get_mut(source.stream)?;
        Some((track.handle, stream.layer, stream.on_sender_report(now, ntp, rtp_timestamp)))
    }

    /// The round trip to this peer was measured.
    pub fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = Some(rtt);
    }

    /// Writes what has to be said to the publisher now: a compound RTCP packet, or nothing.
    pub fn poll(&mut self, now: Instant, out: &mut Vec<u8>, stats: &mut Stats) {
        self.write_reports(now, out);
        for track in &mut self.tracks {
            for stream in &mut track.streams {
                let asked = stream.poll(now, self.rtt, self.reporter, out);
                stats.nacks_sent += asked.packets;
                stats.plis_sent += asked.key_frames;
            }
        }
        // Feedback is about the whole transport; the source that it names does not matter.
        let media = self.sources.first().map_or(self.reporter, |source| source.ssrc);
        if let Some(feedback) = &mut self.feedback {
            feedback.poll(now, self.reporter, media, out);
        }
    }

    /// Encodings that have fallen silent since the last call.
    pub fn poll_silent(&mut self, now: Instant) -> Option<Silent> {
        self.tracks.iter_mut().find_map(|track| {
            let handle = track.handle;
            let stream = track
                .streams
                .iter_mut()
                .find_map(|stream| stream.liveness.poll(now).then_some(stream.layer))?;
            Some(Silent { handle, layer: stream })
        })
    }

    /// When to poll next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let streams = self.tracks.iter().flat_map(|track| &track.streams);
        let streams = streams.filter_map(Stream::poll_timeout).min();
        let feedback = self.feedback.as_ref().and_then(TransportFeedback::poll_timeout);
        [streams, feedback, self.voice_timeout(), self.next_report].into_iter().flatten().min()
    }

    fn write_reports(&mut self, now: Instant, out: &mut Vec<u8>) {
        if self.tracks.is_empty() {
            self.next_report = None;
            return;
        }
        if self.next_report.is_some_and(|at| now < at) {
            return;
        }
        self.next_report = Some(now + REPORT_INTERVAL);
        let blocks: Vec<ReportBlock> = self
            .tracks
            .iter_mut()
            .flat_map(|track| &mut track.streams)
            .filter_map(|stream| stream.report_block(now))
            .collect();
        for blocks in blocks.chunks(31) {
            rtcp::write_receiver_report(out, self.reporter, blocks);
        }
    }
}
