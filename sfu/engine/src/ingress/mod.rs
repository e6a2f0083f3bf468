//! The tracks that one peer publishes: turns decrypted RTP packets into [`MediaPacket`]s and writes the RTCP feedback
//! that the publisher needs.

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

/// Interval between receiver reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The receiving half of a peer: its published tracks and the state of their reception.
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
    /// Handle of the track in its room.
    pub handle: TrackHandle,
    /// Id of the track in this process.
    pub id: TrackId,
    /// Sid of the track, as clients know it.
    pub sid: TrackSid,
    /// Audio or video.
    pub kind: MediaKind,
    mid: String,
    rids: Vec<String>,
    encrypted: bool,
    muted: bool,
    /// Audio level detector; present only for tracks that may be their publisher's voice.
    level: Option<Box<AudioLevel>>,
    playout_delay: Option<[u8; 3]>,
    streams: Vec<Stream>,
}

/// A track to receive, as described by its announcement and its media section.
#[derive(Debug, Clone)]
pub struct NewTrack {
    /// Handle of the track in its room.
    pub handle: TrackHandle,
    /// Id of the track in this process.
    pub id: TrackId,
    /// Sid of the track, as clients know it.
    pub sid: TrackSid,
    /// Audio or video.
    pub kind: MediaKind,
    /// MID of the media section that carries the track.
    pub mid: String,
    /// RIDs of the simulcast layers, lowest layer first; empty without RIDs.
    pub rids: Vec<String>,
    /// SSRC of each stream with the SSRC of its retransmissions, lowest layer first; empty if SDP does not state SSRCs.
    pub ssrcs: Vec<(Ssrc, Option<Ssrc>)>,
    /// Number of RTP streams of the track: one per simulcast layer, 1 for audio and SVC.
    pub streams: usize,
    /// Payload types of the media section.
    pub payload_types: Vec<PayloadBinding>,
    /// Header extension ids of the media section.
    pub extensions: ExtensionMap,
    /// Whether NACK was negotiated, so that lost packets may be requested.
    pub nack: bool,
    /// Whether transport-wide congestion control feedback was negotiated.
    pub transport_feedback: bool,
    /// Whether the payload is encrypted end to end, hence opaque here.
    pub encrypted: bool,
    /// Whether the track may be its publisher's voice: audio that does not belong to a screen share.
    pub voice: bool,
    /// Whether the track starts muted; media of a muted track is not forwarded.
    pub muted: bool,
    /// Playout-delay extension value sent to receivers in place of the publisher's; `None` keeps the publisher's.
    pub playout_delay: Option<[u8; 3]>,
}

/// Meaning of one payload type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadBinding {
    /// RTP payload type, 0 to 127.
    pub payload_type: PayloadType,
    /// Codec of the payload. For a retransmission payload type: the codec of the retransmitted packets.
    pub codec: Codec,
    /// Whether the payload type is for retransmissions (RFC 4588).
    pub repair: bool,
}

#[derive(Debug, Clone, Copy)]
struct Source {
    ssrc: Ssrc,
    track: usize,
    stream: usize,
    repair: bool,
}

/// A published packet to forward, with its track.
#[derive(Debug)]
pub struct Published {
    /// Handle of the track in its room.
    pub handle: TrackHandle,
    /// The packet. An empty payload means padding: the packet keeps its sequence number, but has nothing to forward.
    pub packet: MediaPacket,
    /// Whether the encoding was inactive until this packet.
    pub came_alive: bool,
    /// Lost packets of the same track, recovered from this packet's redundancy (RED). They are forwarded before it.
    pub recovered: Vec<MediaPacket>,
}

/// An encoding from which packets have stopped arriving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silent {
    /// Handle of its track.
    pub handle: TrackHandle,
    /// Layer that the encoding is.
    pub layer: Layer,
}

impl Ingress {
    /// An ingress without tracks. `reporter` is the server's SSRC in RTCP reports and requests.
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

    /// Adds a track once its media section is known.
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

    /// Takes the payload types and header extensions of a track's section from a new description; ignored if the track
    /// is not published here.
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

    /// Adds to the connection's tables: payload types and header extensions mean the same in all sections of one
    /// connection (RFC 9143).
    fn learn(&mut self, payload_types: Vec<PayloadBinding>, extensions: &ExtensionMap) {
        for binding in payload_types {
            self.payload_types.retain(|other| other.payload_type != binding.payload_type);
            self.payload_types.push(binding);
        }
        for (id, extension) in extensions.iter() {
            self.extensions.insert(id, extension);
        }
    }

    /// Removes a track. Returns its handle, or `None` if the track is not published here.
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

    /// The tracks that the peer publishes.
    pub fn tracks(&self) -> &[IngressTrack] {
        &self.tracks
    }

    /// Mutes or unmutes a track. Media of a muted track is not forwarded. False if the track is not published here.
    pub fn set_muted(&mut self, sid: &TrackSid, muted: bool, now: Instant) -> bool {
        let Some(track) = self.tracks.iter_mut().find(|track| track.sid == *sid) else { return false };
        track.muted = muted;
        if let Some(level) = track.level.as_mut().filter(|_| muted) {
            level.silence(now);
        }
        true
    }

    /// Schedules a key frame request for a layer of a track; ignored if there is no such track or layer.
    pub fn want_key_frame(&mut self, now: Instant, id: TrackId, layer: Layer) {
        let track = self.tracks.iter_mut().find(|track| track.id == id);
        if let Some(stream) = track.and_then(|track| track.streams.get_mut(usize::from(layer.0))) {
            stream.want_key_frame(now);
        }
    }

    /// Processes the publisher's sender report for one of its SSRCs. `None` if the SSRC is unknown or carries
    /// retransmissions.
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

    /// Sets the measured round-trip time to this peer, used to space NACKs.
    pub fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = Some(rtt);
    }

    /// Appends the RTCP that is due now (receiver reports, NACKs, PLIs, transport feedback) to `out`, as parts of one
    /// compound packet.
    pub fn poll(&mut self, now: Instant, out: &mut Vec<u8>, stats: &mut Stats) {
        self.write_reports(now, out);
        for track in &mut self.tracks {
            for stream in &mut track.streams {
                let asked = stream.poll(now, self.rtt, self.reporter, out);
                stats.nacks_sent += asked.packets;
                stats.plis_sent += asked.key_frames;
            }
        }
        // Transport feedback covers all streams of the connection; the media SSRC in it does not matter.
        let media = self.sources.first().map_or(self.reporter, |source| source.ssrc);
        if let Some(feedback) = &mut self.feedback {
            feedback.poll(now, self.reporter, media, out);
        }
    }

    /// Returns one encoding that has gone silent and was not returned yet. Call until `None`.
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

    /// Earliest time at which `poll`, `poll_silent` or `poll_voice` has work.
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
