//! The receive path of a published packet: finds its stream, then parses it.

use std::time::Instant;

use bytes::Bytes;
use sfu_protocol::MediaKind;

use super::{Ingress, PayloadBinding, Published, REPORT_INTERVAL, Source, redundancy};
use crate::media_packet::{EndToEndExtensions, MediaPacket};
use crate::rtp::codec::{self, Codec, PayloadFacts, dependency_descriptor, red};
use crate::rtp::extension::{HeaderExtensions, read};
use crate::rtp::packet::{RtpHeader, payload};
use crate::rtp::rtx;
use crate::stats::{Drop, Stats};
use crate::transport::Sources;
use crate::units::{ExtendedSequence, ExtendedTimestamp, Ssrc};

/// A packet that is not a duplicate, with its stream and its place in that stream.
struct Arrived<'a> {
    source: Source,
    codec: Codec,
    sequence: ExtendedSequence,
    timestamp: ExtendedTimestamp,
    came_alive: bool,
    /// Newest sequence number and timestamp of the stream before this packet.
    before: Option<(ExtendedSequence, ExtendedTimestamp)>,
    /// Payload without the original sequence number that precedes it in a retransmission.
    body: &'a [u8],
}

impl Ingress {
    /// Processes a decrypted RTP packet. Returns the packet to forward, or counts in `stats` why it is dropped.
    pub fn handle_rtp(
        &mut self,
        now: Instant,
        packet: &[u8],
        header: &RtpHeader,
        sequence: ExtendedSequence,
        stats: &mut Stats,
    ) -> Option<Published> {
        let extensions = read(packet, header, &self.extensions);
        if let (Some(feedback), Some(number)) = (&mut self.feedback, extensions.transport_sequence) {
            feedback.on_packet(number, now);
        }
        let arrived = self.identify(now, packet, header, &extensions, sequence, stats);
        let published =
            arrived.and_then(|arrived| self.open(now, &arrived, header.marker, &extensions, stats));
        match published {
            Ok(published) => Some(published),
            Err(reason) => {
                stats.drop(reason);
                None
            }
        }
    }

    /// Finds the packet's stream and its extended sequence number there. Rejects duplicates.
    fn identify<'a>(
        &mut self,
        now: Instant,
        packet: &'a [u8],
        header: &RtpHeader,
        extensions: &HeaderExtensions<'_>,
        sequence: ExtendedSequence,
        stats: &mut Stats,
    ) -> Result<Arrived<'a>, Drop> {
        let source = self.source(header, extensions)?;
        let binding = self
            .payload_types
            .iter()
            .find(|binding| binding.payload_type == header.payload_type)
            .ok_or(Drop::UnknownPayloadType)?;
        let track = self.tracks.get_mut(source.track).ok_or(Drop::UnknownStream)?;
        let stream = track.streams.get_mut(source.stream).ok_or(Drop::UnknownStream)?;
        let mut body = payload(packet, header).map_err(|_| Drop::BadRtp)?;
        count_received(stats, track.kind, source.repair, packet.len());
        let before = stream.newest();
        let (sequence, received) = if source.repair || binding.repair {
            if body.is_empty() {
                return Err(Drop::Padding);
            }
            let (wire, rest) = rtx::original_sequence(body).ok_or(Drop::BadRtp)?;
            body = rest;
            let sequence = stream.original(wire).ok_or(Drop::UnknownStream)?;
            (sequence, stream.on_packet(now, sequence, header.timestamp))
        } else {
            let sequence = stream.number(sequence);
            (sequence, stream.on_media(now, sequence, header.timestamp))
        };
        self.next_report.get_or_insert(now + REPORT_INTERVAL);
        if !received.new {
            return Err(Drop::Replayed);
        }
        let (codec, timestamp, came_alive) = (binding.codec, received.timestamp, received.came_alive);
        Ok(Arrived { source, codec, sequence, timestamp, came_alive, before, body })
    }

    /// Parses the payload, as far as it is not encrypted end to end, and makes the packet to forward.
    fn open(
        &mut self,
        now: Instant,
        arrived: &Arrived<'_>,
        marker: bool,
        extensions: &HeaderExtensions<'_>,
        stats: &mut Stats,
    ) -> Result<Published, Drop> {
        let Arrived { source, mut codec, sequence, timestamp, came_alive, before, mut body } = *arrived;
        let track = self.tracks.get_mut(source.track).ok_or(Drop::UnknownStream)?;
        let stream = track.streams.get_mut(source.stream).ok_or(Drop::UnknownStream)?;
        let mut recovered = Vec::new();
        let mut repeats = 0;
        if codec == Codec::Red && !track.encrypted && !track.muted && !body.is_empty() {
            let redundant = red::parse(body).map_err(|_| Drop::BadRtp)?;
            let own = (sequence, timestamp);
            recovered = redundancy::recover(now, stream, track.id, before, own, &redundant);
            repeats = redundant.repeated.len() as u8;
            let wraps = |binding: &&PayloadBinding| binding.payload_type == redundant.payload_type;
            codec = self.payload_types.iter().find(wraps).ok_or(Drop::UnknownPayloadType)?.codec;
            body = redundant.primary;
        }
        let mut facts = facts_of(codec, body, extensions, track.encrypted);
        facts.repeats = repeats;
        if !body.is_empty() {
            stream.frames.read(codec, &mut facts, extensions.dependency_descriptor, track.encrypted);
        }
        if track.muted && !body.is_empty() {
            // Muted packets must not look like losses to receivers. Renumbering skips a muted packet like padding.
            stats.drop(Drop::NotForwarded);
            body = &[];
            facts = PayloadFacts::default();
        }
        if let (Some(level), Some(stated), false) =
            (&mut track.level, extensions.audio_level, body.is_empty())
        {
            level.on_level(stated, now);
        }
        if facts.starts_key_frame() {
            stream.on_key_frame();
        }
        Ok(Published {
            handle: track.handle,
            came_alive,
            recovered,
            packet: MediaPacket {
                track: track.id,
                layer: stream.layer,
                codec,
                sequence,
                timestamp,
                marker,
                facts,
                extensions: end_to_end(extensions, track.playout_delay),
                arrival: now,
                payload: Bytes::copy_from_slice(body),
            },
        })
    }

    /// Finds the stream of an SSRC, or learns it from MID and RID where SDP did not state the SSRC.
    fn source(&mut self, header: &RtpHeader, extensions: &HeaderExtensions<'_>) -> Result<Source, Drop> {
        if let Some(source) = self.sources.iter().find(|source| source.ssrc == header.ssrc) {
            return Ok(*source);
        }
        let source = self.learnable(header, extensions).ok_or(Drop::UnknownStream)?;
        let stream = self.tracks.get_mut(source.track).and_then(|track| track.streams.get_mut(source.stream));
        let stream = stream.ok_or(Drop::UnknownStream)?;
        // A browser that restarts an encoding gives it a new SSRC; the old one is removed.
        let earlier = if source.repair {
            stream.repair.replace(header.ssrc)
        } else {
            let earlier = stream.ssrc;
            stream.begin_source(header.ssrc);
            earlier
        };
        if let Some(earlier) = earlier {
            self.sources.retain(|source| source.ssrc != earlier);
        }
        self.sources.push(source);
        Ok(source)
    }

    /// Matches an unknown SSRC to a stream by the packet's MID and RID.
    fn learnable(&self, header: &RtpHeader, extensions: &HeaderExtensions<'_>) -> Option<Source> {
        let mid = extensions.mid?;
        let track = self.tracks.iter().position(|track| track.mid.as_bytes() == mid)?;
        let repaired = extensions.repaired_rid;
        let by_payload = self
            .payload_types
            .iter()
            .any(|binding| binding.payload_type == header.payload_type && binding.repair);
        let entry = self.tracks.get(track)?;
        let stream = match repaired.or(extensions.rid) {
            Some(rid) => entry.rids.iter().position(|known| known.as_bytes() == rid)?,
            None => (entry.streams.len() == 1).then_some(0)?,
        };
        let repair = repaired.is_some() || by_payload;
        Some(Source { ssrc: header.ssrc, track, stream, repair })
    }
}

impl Sources for Ingress {
    fn knows(&self, ssrc: Ssrc) -> bool {
        self.sources.iter().any(|source| source.ssrc == ssrc)
    }

    fn expects(&self, header: &RtpHeader, packet: &[u8]) -> bool {
        self.knows(header.ssrc) || self.learnable(header, &read(packet, header, &self.extensions)).is_some()
    }
}

fn count_received(stats: &mut Stats, kind: MediaKind, repair: bool, bytes: usize) {
    match (repair, kind) {
        (true, _) => stats.received.retransmitted.add(bytes),
        (false, MediaKind::Audio) => stats.received.audio.add(bytes),
        (false, MediaKind::Video) => stats.received.video.add(bytes),
    }
}

/// Reads the payload descriptor or the dependency descriptor. A packet whose descriptor cannot be parsed is still
/// forwarded: it may be encrypted, or of a profile unknown here, and its decoder is to judge it.
fn facts_of(codec: Codec, body: &[u8], extensions: &HeaderExtensions<'_>, encrypted: bool) -> PayloadFacts {
    if body.is_empty() || (encrypted && codec.kind() == MediaKind::Audio) {
        return PayloadFacts::default();
    }
    let descriptor = extensions.dependency_descriptor;
    codec::facts(codec, body, descriptor).unwrap_or_else(|_| PayloadFacts {
        dependency: descriptor.and_then(|descriptor| dependency_descriptor::peek(descriptor).ok()),
        ..PayloadFacts::default()
    })
}

fn end_to_end(extensions: &HeaderExtensions<'_>, playout_delay: Option<[u8; 3]>) -> EndToEndExtensions {
    EndToEndExtensions {
        audio_level: extensions.audio_level,
        video_orientation: extensions.video_orientation,
        absolute_capture_time: extensions.absolute_capture_time.map(Bytes::copy_from_slice),
        playout_delay: playout_delay.or(extensions.playout_delay),
        dependency_descriptor: extensions.dependency_descriptor.map(Bytes::copy_from_slice),
    }
}
