//! Descriptions in, descriptions out, and what they decide put in place.

use std::time::Instant;

use sfu_protocol::{
    AddTrack, ConnectionMode, Event, MediaKind, NegotiationError, PublishedTrack, Target, TrackSid,
};

use super::{RoomMessage, Shard};
use crate::handles::{ParticipantIndex, PeerIndex, TrackHandle};
use crate::ingress::{NewTrack, PayloadBinding};
use crate::media_packet::{Arrangement, LayerInfo, TrackId};
use crate::peer::Peer;
use crate::room::{Origin, TrackFacts};
use crate::rtp::codec::Codec;
use crate::rtp::extension::{Extension, ExtensionMap, write_playout_delay};
use crate::sdp::{LocalParameters, Outcome, PublishedSection, WantedTrack};
use crate::stats::Drop;
use crate::transport::ice::IceCredentials;

impl Shard {
    pub(super) fn on_offer(&mut self, now: Instant, participant: ParticipantIndex, id: u32, sdp: &str) {
        let Some(entry) = self.participants.get(participant.0) else { return };
        let (sid, index) = (entry.sid.clone(), entry.publisher);
        let (pending, permissions) = (entry.pending.clone(), entry.permissions);
        let wanted = self.wanted(participant);
        let Some(mut local) = self.local_parameters(index) else { return };
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let restart = peer.negotiation.restarts_ice(sdp).then(IceCredentials::generate).and_then(Result::ok);
        if let Some(fresh) = &restart {
            local.ice = crate::sdp::IceCredentials { ufrag: fresh.ufrag.clone(), pwd: fresh.pwd.clone() };
        }
        let outcome =
            peer.negotiation.apply_offer(sdp, &local, &pending, &wanted, permissions, &mut self.rng);
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return self.refuse(sid, Target::Publisher, id, error.into()),
        };
        if let Some(fresh) = restart {
            self.restart_ice(index, fresh);
        }
        if let Err(error) = self.apply_remote(now, index, &outcome) {
            return self.refuse(sid, Target::Publisher, id, error);
        }
        self.events.push_back(Event::Answer {
            participant: sid,
            id,
            sdp: outcome.answer_sdp.clone(),
            mid_to_track: outcome.mid_to_track.clone(),
        });
        self.apply_outcome(now, participant, index, outcome);
        self.negotiate_wishes(participant);
    }

    pub(super) fn on_answer(&mut self, now: Instant, participant: ParticipantIndex, id: u32, sdp: &str) {
        let Some(entry) = self.participants.get(participant.0) else { return };
        let sid = entry.sid.clone();
        let Some(index) = entry.subscriber else {
            self.stats.drop(Drop::StaleMessage);
            return;
        };
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let outcome = match peer.negotiation.apply_answer(id, sdp) {
            Ok(Some(outcome)) => outcome,
            Ok(None) => {
                self.stats.drop(Drop::StaleMessage);
                return;
            }
            Err(error) => return self.refuse(sid, Target::Subscriber, id, error.into()),
        };
        if let Err(error) = self.apply_remote(now, index, &outcome) {
            return self.refuse(sid, Target::Subscriber, id, error);
        }
        self.apply_outcome(now, participant, index, outcome);
        self.negotiate_wishes(participant);
    }

    /// Asks for sections, or offers them, for what the participant wants and does not have.
    pub(super) fn negotiate_wishes(&mut self, participant: ParticipantIndex) {
        let wanted = self.wanted(participant);
        let Some(entry) = self.participants.get(participant.0) else { return };
        // The first offer of a single connection brings sections along; asking before would ask twice.
        if !entry.entered {
            return;
        }
        let (sid, index) = (entry.sid.clone(), entry.receiver());
        // Where the publisher connection is the primary one, the other is offered when there is something to
        // receive.
        let is_secondary = entry.mode == ConnectionMode::Dual { subscriber_primary: false };
        if is_secondary && wanted.is_empty() && self.peers.get(index.0).is_some_and(Peer::is_new) {
            return;
        }
        let Some(local) = self.local_parameters(index) else { return };
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        if peer.negotiation.has_remote()
            && let Some(needed) = peer.negotiation.sections_needed(&wanted)
        {
            self.events.push_back(Event::MediaSectionsRequired {
                participant: sid.clone(),
                audios: needed.audios,
                videos: needed.videos,
            });
        }
        if let Some(offer) = peer.negotiation.create_offer(&local, &wanted, &mut self.rng) {
            self.events.push_back(Event::Offer {
                participant: sid,
                id: offer.id,
                sdp: offer.sdp,
                mid_to_track: offer.mid_to_track,
            });
        }
    }

    /// An announcement: kept until its media section is there, or matched with one that was parked.
    pub(super) fn on_add_track(&mut self, now: Instant, participant: ParticipantIndex, track: &AddTrack) {
        let Some(entry) = self.participants.get_mut(participant.0) else { return };
        let index = entry.publisher;
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let limits = &self.config.limits;
        if entry.pending.len() >= limits.pending_tracks
            || peer.ingress.tracks().len() >= limits.published_tracks
        {
            self.stats.drop(Drop::TooManyStreams);
            return;
        }
        entry.pending.push(track.clone());
        if let Some(section) = peer.negotiation.match_parked(track) {
            self.publish(now, participant, index, &section);
        }
    }

    fn refuse(
        &mut self,
        participant: sfu_protocol::ParticipantSid,
        target: Target,
        id: u32,
        error: NegotiationError,
    ) {
        self.events.push_back(Event::NegotiationFailed { participant, target, id, error });
    }

    /// New credentials of ours. Checks with those of before still find the peer, until the next restart.
    fn restart_ice(&mut self, index: PeerIndex, fresh: IceCredentials) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        self.demux.add_ufrag(fresh.ufrag.clone(), index);
        peer.ufrags.push(fresh.ufrag.clone());
        if peer.ufrags.len() > 2 {
            let oldest = peer.ufrags.remove(0);
            self.demux.remove_ufrag(&oldest);
        }
        peer.transport.restart_ice(fresh);
    }

    fn apply_remote(
        &mut self,
        now: Instant,
        index: PeerIndex,
        outcome: &Outcome,
    ) -> Result<(), NegotiationError> {
        let Some(peer) = self.peers.get_mut(index.0) else { return Ok(()) };
        let set = peer.transport.set_remote(crate::peer::setup::remote(&outcome.remote), now);
        set.map_err(|error| NegotiationError { field: "transport".to_owned(), reason: error.to_string() })
    }

    fn apply_outcome(
        &mut self,
        now: Instant,
        participant: ParticipantIndex,
        index: PeerIndex,
        outcome: Outcome,
    ) {
        for section in outcome.unpublished {
            if let Some(track) = section.track {
                self.withdraw(index, &track);
            }
        }
        for track in outcome.unbound {
            self.unbind(index, &track);
        }
        for section in outcome.published {
            self.publish(now, participant, index, &section);
        }
        for section in &outcome.republished {
            if let (Some(track), Some(peer)) = (&section.track, self.peers.get_mut(index.0)) {
                let map = extension_map(&section.extensions);
                peer.ingress.renegotiate(track, bindings_of(section), map);
            }
        }
        for section in outcome.bound {
            self.bind(now, participant, index, section);
        }
        for track in outcome.unsupported {
            self.unsupported(participant, track);
        }
    }

    /// A track has both its announcement and its media section.
    fn publish(
        &mut self,
        now: Instant,
        participant: ParticipantIndex,
        index: PeerIndex,
        section: &PublishedSection,
    ) {
        let Some(entry) = self.participants.get_mut(participant.0) else { return };
        let Some(sid) = section.track.clone() else { return };
        let Some(place) = entry.pending.iter().position(|track| track.track == sid) else { return };
        let announced = entry.pending.remove(place);
        let (publisher, room) = (entry.sid.clone(), entry.room);
        let id = TrackId(self.next_track);
        self.next_track += 1;
        let facts = TrackFacts {
            id,
            sid: sid.clone(),
            publisher: publisher.clone(),
            kind: section.kind,
            mime_type: section.mime_type.clone(),
            layers: layers_of(&announced, section),
            arrangement: arrangement_of(&announced, section),
            muted: announced.muted,
            screen_share: announced.screen_share,
            encrypted: announced.encrypted,
        };
        let Some(replica) = self.rooms.get_mut(room.0) else { return };
        let handle = TrackHandle { room, track: replica.add_track(facts.clone(), Origin::Here(index)) };
        self.tracks.insert(id, handle);
        if let Some(peer) = self.peers.get_mut(index.0) {
            peer.ingress.add_track(new_track(handle, &facts, &announced, section), now);
        }
        self.count_track(facts.kind, 1);
        self.send_home(room, RoomMessage::Track { facts, origin: self.config.id });
        self.events.push_back(Event::TrackPublished {
            participant: publisher,
            track: PublishedTrack {
                track: sid.clone(),
                kind: section.kind,
                mid: section.mid.clone(),
                sdp_cid: section.sdp_cid.clone(),
                mime_type: section.mime_type.clone(),
                rids: section.rids.clone(),
            },
        });
        self.bind_waiting(now, handle, &sid);
    }

    /// What our side of a connection says of itself.
    fn local_parameters(&self, index: PeerIndex) -> Option<LocalParameters> {
        let peer = self.peers.get(index.0)?;
        Some(crate::peer::setup::local(&peer.transport, &self.certificate, &self.config.candidates))
    }

    /// What the participant wants and has no media section for.
    fn wanted(&self, participant: ParticipantIndex) -> Vec<WantedTrack> {
        let Some(entry) = self.participants.get(participant.0) else { return Vec::new() };
        let Some(peer) = self.peers.get(entry.receiver().0) else { return Vec::new() };
        let room = self.rooms.get(entry.room.0);
        let without_section =
            entry.wishes.iter().filter(|wish| !wish.hopeless && !peer.negotiation.is_bound(&wish.track));
        without_section
            .map(|wish| {
                let track = room.and_then(|room| room.tracks.get(room.track_by_sid(&wish.track)?));
                WantedTrack {
                    track: wish.track.clone(),
                    publisher: wish.publisher.clone(),
                    kind: wish.kind,
                    codec: track.and_then(|track| Codec::from_mime(&track.facts.mime_type)),
                }
            })
            .collect()
    }
}

/// A codec that has spatial layers puts them into one stream, unless its description names several.
fn arrangement_of(announced: &AddTrack, section: &PublishedSection) -> Arrangement {
    let scalable = matches!(Codec::from_mime(&section.mime_type), Some(Codec::Vp9 | Codec::Av1));
    if scalable && streams_of(section) == 1 && announced.layers.len() > 1 {
        Arrangement::Spatial
    } else {
        Arrangement::Encodings
    }
}

fn streams_of(section: &PublishedSection) -> usize {
    section.rids.len().max(section.ssrcs.len()).clamp(1, MOST_LAYERS)
}

/// A track's layers, from what the announcement says of their sizes, and the description of their number where each is
/// a stream.
fn layers_of(announced: &AddTrack, section: &PublishedSection) -> Vec<LayerInfo> {
    let count = match arrangement_of(announced, section) {
        Arrangement::Encodings => streams_of(section),
        Arrangement::Spatial => announced.layers.len().min(MOST_SPATIAL),
    };
    (0..count)
        .map(|place| {
            let rid = section.rids.get(place);
            let by_rid = announced.layers.iter().find(|layer| rid.is_some_and(|rid| *rid == layer.rid));
            let layer = by_rid.or_else(|| announced.layers.get(place));
            LayerInfo {
                width: layer.map_or(0, |layer| layer.width),
                height: layer.map_or(0, |layer| layer.height),
                active: false,
            }
        })
        .collect()
}

fn new_track(
    handle: TrackHandle,
    facts: &TrackFacts,
    announced: &AddTrack,
    section: &PublishedSection,
) -> NewTrack {
    NewTrack {
        handle,
        id: facts.id,
        sid: facts.sid.clone(),
        kind: facts.kind,
        mid: section.mid.clone(),
        rids: section.rids.clone(),
        ssrcs: section.ssrcs.iter().map(|ssrcs| (ssrcs.media, ssrcs.rtx)).collect(),
        streams: facts.streams(),
        payload_types: bindings_of(section),
        extensions: extension_map(&section.extensions),
        nack: section.nack,
        transport_feedback: section.transport_cc,
        encrypted: announced.encrypted,
        voice: facts.kind == MediaKind::Audio && !facts.screen_share,
        muted: announced.muted,
        playout_delay: announced
            .playout_delay
            .filter(|_| facts.kind == MediaKind::Video)
            .map(write_playout_delay),
    }
}

fn bindings_of(section: &PublishedSection) -> Vec<PayloadBinding> {
    let bindings = section.codecs.iter().flat_map(|codec| {
        let media = PayloadBinding { payload_type: codec.payload_type, codec: codec.codec, repair: false };
        let repair =
            codec.rtx.map(|payload_type| PayloadBinding { payload_type, codec: codec.codec, repair: true });
        std::iter::once(media).chain(repair)
    });
    bindings.collect()
}

/// The agreed header extensions that are understood here.
pub(super) fn extension_map(agreed: &[(u8, &'static str)]) -> ExtensionMap {
    let mut map = ExtensionMap::new();
    for (id, uri) in agreed {
        if let Some(extension) = Extension::from_uri(uri) {
            map.insert(*id, extension);
        }
    }
    map
}

/// For symmetry with `publish`: a track that is gone.
impl Shard {
    /// Stops taking a track by command.
    pub(super) fn unpublish(&mut self, participant: ParticipantIndex, track: &TrackSid) {
        let Some(entry) = self.participants.get_mut(participant.0) else { return };
        entry.pending.retain(|pending| pending.track != *track);
        let index = entry.publisher;
        if let Some(peer) = self.peers.get_mut(index.0) {
            peer.negotiation.withdraw(track);
        }
        self.withdraw(index, track);
    }

    /// Takes a published track out of the room.
    pub(super) fn withdraw(&mut self, index: PeerIndex, track: &TrackSid) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let participant = peer.participant;
        let Some(handle) = peer.ingress.remove_track(track) else { return };
        let gone = RoomMessage::TrackGone { track: track.clone() };
        self.remove_track(handle);
        self.send_home(handle.room, gone);
        if let Some(entry) = self.participants.get(participant.0) {
            self.events
                .push_back(Event::TrackUnpublished { participant: entry.sid.clone(), track: track.clone() });
        }
    }

    /// Mutes or unmutes a published track.
    pub(super) fn set_muted(
        &mut self,
        now: Instant,
        participant: ParticipantIndex,
        track: &TrackSid,
        muted: bool,
    ) {
        let Some(entry) = self.participants.get_mut(participant.0) else { return };
        if let Some(pending) = entry.pending.iter_mut().find(|pending| pending.track == *track) {
            pending.muted = muted;
        }
        let (index, room) = (entry.publisher, entry.room);
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        if !peer.ingress.set_muted(track, muted, now) {
            return;
        }
        let Some(replica) = self.rooms.get_mut(room.0) else { return };
        let Some(place) = replica.track_by_sid(track) else { return };
        let Some(track) = replica.tracks.get_mut(place) else { return };
        track.facts.muted = muted;
        let facts = track.facts.clone();
        self.send_home(room, RoomMessage::Track { facts, origin: self.config.id });
        self.reallocate(now, TrackHandle { room, track: place });
    }
}

/// Streams of a track that are told apart (the log of what was sent has three bits for them).
const MOST_LAYERS: usize = 8;
/// Spatial layers of a stream that are told apart.
const MOST_SPATIAL: usize = 3;
