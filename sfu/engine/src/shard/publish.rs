//! Publishing: turns an announcement and its media section into a track in the room, and removes the track again.

use std::time::Instant;

use sfu_protocol::{
    AddTrack, Event, MediaKind, ParticipantSid, PublicationFailure, PublishedTrack, TrackPart, TrackSid,
};

use super::negotiate::extension_map;
use super::{RoomMessage, Shard, track_in, track_in_mut};
use crate::handles::{ParticipantIndex, PeerIndex, RoomIndex, TrackHandle};
use crate::ingress::{NewTrack, PayloadBinding};
use crate::media_packet::{Arrangement, LayerInfo, TrackId};
use crate::peer::Peer;
use crate::room::rendition::Rendition;
use crate::room::{Origin, Room, TrackFacts};
use crate::rtp::codec::Codec;
use crate::rtp::codec::format::Format;
use crate::rtp::extension::write_playout_delay;
use crate::sdp::PublishedSection;
use crate::sdp::codecs::codec_named;
use crate::stats::Drop;

impl Shard {
    /// Gives up an announced track that cannot be published, with its announced backup codecs, and reports the failure.
    pub(super) fn fail_publication(
        &mut self,
        participant: ParticipantIndex,
        track: &TrackSid,
        reason: PublicationFailure,
    ) {
        let Some(entry) = self.participants.get_mut(participant.0) else { return };
        entry.pending.retain(|pending| pending.track.track != *track && !is_backup_of(&pending.track, track));
        let (participant, track) = (entry.sid.clone(), track.clone());
        self.events.push_back(Event::PublicationFailed { participant, track, reason });
    }

    /// Publishes a track whose announcement and media section are both there.
    pub(super) fn publish(
        &mut self,
        now: Instant,
        participant: ParticipantIndex,
        index: PeerIndex,
        section: &PublishedSection,
    ) {
        let Some(entry) = self.participants.get_mut(participant.0) else { return };
        let Some(sid) = section.track.clone() else { return };
        let Some(place) = entry.pending.iter().position(|pending| pending.track.track == sid) else {
            return;
        };
        let announced = entry.pending.remove(place).track;
        let (publisher, room) = (entry.sid.clone(), entry.room);
        let track = match &announced.part {
            TrackPart::Main { policy, .. } => {
                Some((self.next_track_id(), announced.track.clone(), Rendition::Main, *policy))
            }
            TrackPart::Backup { of } => self
                .promised(room, index, of, &section.mime_type)
                .map(|promised| (promised.id, of.clone(), Rendition::Negotiated, promised.policy)),
        };
        let Some((id, of, rendition, policy)) = track else {
            return self.refuse_backup(index, publisher, announced.track);
        };
        let facts = TrackFacts {
            id,
            sid: of.clone(),
            publisher: publisher.clone(),
            kind: section.kind,
            mime_type: Codec::from_mime(&section.mime_type).map_or("", Codec::mime),
            profile: section.profile,
            stereo: section.stereo,
            rendition,
            policy,
            layers: layers_of(&announced, section),
            arrangement: arrangement_of(&announced, section),
            muted: announced.muted,
            screen_share: announced.screen_share,
            encrypted: announced.encrypted,
        };
        if let TrackPart::Main { backups, .. } = &announced.part {
            self.promise(room, index, &facts, backups, &layers_announced(&announced));
        }
        let Some(replica) = self.rooms.get_mut(room.0) else { return };
        let handle = TrackHandle { room, track: replica.add_track(facts.clone(), Origin::Here(index)) };
        self.tracks.insert(id, handle);
        if let Some(peer) = self.peers.get_mut(index.0) {
            peer.ingress.add_track(new_track(handle, &facts, &announced, section), now);
        }
        self.count_track(facts.kind, 1);
        self.send_home(room, RoomMessage::Track { facts: facts.clone(), origin: self.config.id });
        self.events.push_back(Event::TrackPublished {
            participant: publisher,
            track: PublishedTrack {
                track: sid,
                kind: section.kind,
                mid: section.mid.clone(),
                sdp_cid: section.sdp_cid.clone(),
                mime_type: section.mime_type.clone(),
                rids: section.rids.clone(),
            },
        });
        match rendition {
            Rendition::Main => self.choose_all(now, room, &of),
            _ => self.renew_track(now, handle, facts),
        }
    }

    fn next_track_id(&mut self) -> TrackId {
        let id = TrackId(self.next_track);
        self.next_track += 1;
        id
    }

    /// Makes a track's possible backup codecs known to the room. They are announced before the track itself, so that a
    /// shard that knows the track knows all its codecs.
    fn promise(
        &mut self,
        room: RoomIndex,
        index: PeerIndex,
        main: &TrackFacts,
        backups: &[String],
        layers: &[LayerInfo],
    ) {
        let mut known: Vec<Codec> = main.codec().into_iter().collect();
        for name in backups {
            let codec = codec_named(name).filter(|codec| codec.kind() == main.kind && !known.contains(codec));
            let Some(codec) = codec.filter(|_| known.len() <= MOST_BACKUPS) else { continue };
            known.push(codec);
            let facts = TrackFacts {
                id: self.next_track_id(),
                mime_type: codec.mime(),
                profile: Format::from(codec).profile,
                rendition: Rendition::Promised,
                layers: layers.to_vec(),
                arrangement: Arrangement::Encodings,
                ..main.clone()
            };
            let Some(replica) = self.rooms.get_mut(room.0) else { return };
            let track = replica.add_track(facts.clone(), Origin::Here(index));
            self.tracks.insert(facts.id, TrackHandle { room, track });
            self.send_home(room, RoomMessage::Track { facts, origin: self.config.id });
        }
    }

    /// The facts of a backup codec that a track of this peer has promised and that is not published yet.
    fn promised(&self, room: RoomIndex, index: PeerIndex, of: &TrackSid, mime: &str) -> Option<TrackFacts> {
        let mut renditions = self.rooms.get(room.0)?.renditions(of);
        let (_, track) = renditions.find(|(_, track)| {
            let facts = &track.facts;
            let promised = facts.rendition == Rendition::Promised && facts.mime_type == mime;
            promised && track.origin == Origin::Here(index)
        })?;
        Some(track.facts.clone())
    }

    /// Refuses the media section of a backup codec, because no track has promised that codec or the track is gone.
    fn refuse_backup(&mut self, index: PeerIndex, participant: ParticipantSid, section: TrackSid) {
        self.stats.drop(Drop::StaleMessage);
        if let Some(peer) = self.peers.get_mut(index.0) {
            peer.negotiation.withdraw(&section);
        }
        self.events.push_back(Event::TrackUnpublished { participant, track: section });
    }

    /// Unpublishes a track at the request of its participant's session, or because its announcement expired.
    pub(super) fn unpublish(&mut self, now: Instant, participant: ParticipantIndex, track: &TrackSid) {
        let Some(entry) = self.participants.get_mut(participant.0) else { return };
        let announced = entry.pending.len();
        entry.pending.retain(|pending| pending.track.track != *track && !is_backup_of(&pending.track, track));
        let was_announced = entry.pending.len() < announced;
        let index = entry.publisher;
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let had_section = peer.negotiation.withdraw(track).is_some();
        if !was_announced && !had_section {
            self.stats.drop(Drop::StaleMessage);
        }
        self.withdraw(now, index, track);
    }

    /// Removes from the room what a media section published: the whole track if the section carried its main codec,
    /// otherwise only that backup codec, which is then merely promised again.
    pub(super) fn withdraw(&mut self, now: Instant, index: PeerIndex, section: &TrackSid) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let participant = peer.participant;
        let Some(handle) = peer.ingress.remove_track(section) else { return };
        let Some(facts) = track_in(&self.rooms, handle).map(|track| track.facts.clone()) else { return };
        match facts.rendition {
            Rendition::Main => self.remove_published(participant, handle.room, &facts.sid),
            _ => {
                let mut facts = TrackFacts { rendition: Rendition::Promised, ..facts };
                facts.layers.iter_mut().for_each(|layer| layer.active = false);
                self.count_track(facts.kind, -1);
                self.send_home(
                    handle.room,
                    RoomMessage::Track { facts: facts.clone(), origin: self.config.id },
                );
                self.renew_track(now, handle, facts);
            }
        }
        if let Some(entry) = self.participants.get(participant.0) {
            let (participant, track) = (entry.sid.clone(), section.clone());
            self.events.push_back(Event::TrackUnpublished { participant, track });
        }
    }

    /// Removes a track whose main section has ended. Its backup codecs end too, whether or not their sections remain.
    fn remove_published(&mut self, participant: ParticipantIndex, room: RoomIndex, sid: &TrackSid) {
        let places = self.rooms.get(room.0).map(|room| room.places_of(sid)).unwrap_or_default();
        let Some(entry) = self.participants.get_mut(participant.0) else { return };
        entry.pending.retain(|pending| !is_backup_of(&pending.track, sid));
        if let Some(peer) = self.peers.get_mut(entry.publisher.0) {
            for section in sections_in(peer, room, &places) {
                peer.ingress.remove_track(&section);
                peer.negotiation.withdraw(&section);
            }
        }
        for track in places {
            self.remove_track(TrackHandle { room, track });
        }
        self.send_home(room, RoomMessage::TrackGone { track: sid.clone() });
    }

    /// Mutes or unmutes a track, announced or published, in all its codecs.
    pub(super) fn set_muted(
        &mut self,
        now: Instant,
        participant: ParticipantIndex,
        track: &TrackSid,
        muted: bool,
    ) {
        let Some(entry) = self.participants.get_mut(participant.0) else { return };
        let concerned = |pending: &&mut AddTrack| pending.track == *track || is_backup_of(pending, track);
        let announced = entry.pending.iter_mut().map(|pending| &mut pending.track);
        let announced = announced.filter(concerned).map(|pending| pending.muted = muted).count();
        let (index, room) = (entry.publisher, entry.room);
        let places = self.rooms.get(room.0).map(|room| room.places_of(track)).unwrap_or_default();
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let sections = sections_in(peer, room, &places);
        if sections.is_empty() {
            if announced == 0 {
                self.stats.drop(Drop::StaleMessage);
            }
            return;
        }
        for section in sections {
            peer.ingress.set_muted(&section, muted, now);
        }
        for place in places {
            let handle = TrackHandle { room, track: place };
            let Some(track) = track_in_mut(&mut self.rooms, handle) else { continue };
            track.facts.muted = muted;
            let facts = track.facts.clone();
            self.send_home(room, RoomMessage::Track { facts, origin: self.config.id });
            self.reallocate(now, handle);
        }
    }
}

/// Whether a peer publishes the track `sid`, in any codec.
pub(super) fn is_published_by(room: Option<&Room>, index: PeerIndex, sid: &TrackSid) -> bool {
    let main = room.and_then(|room| room.renditions(sid).next());
    main.is_some_and(|(_, track)| track.origin == Origin::Here(index))
}

fn is_backup_of(announced: &AddTrack, track: &TrackSid) -> bool {
    matches!(&announced.part, TrackPart::Backup { of } if of == track)
}

/// The sids under which a peer's sections publish the tracks at `places` in the room.
fn sections_in(peer: &Peer, room: RoomIndex, places: &[usize]) -> Vec<TrackSid> {
    let published = peer.ingress.tracks().iter();
    let concerned =
        published.filter(|track| track.handle.room == room && places.contains(&track.handle.track));
    concerned.map(|track| track.sid.clone()).collect()
}

/// VP9 and AV1 put several announced layers into one stream as spatial layers, unless the section describes several
/// streams.
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

/// A track's layers. Their sizes come from the announcement. Their number comes from the media section if each layer is
/// a stream, otherwise from the announcement.
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

/// The layers that an announcement describes, for a codec that has no media section yet. At least one.
fn layers_announced(announced: &AddTrack) -> Vec<LayerInfo> {
    let described = announced.layers.iter().take(MOST_SPATIAL);
    let mut layers: Vec<LayerInfo> = described
        .map(|layer| LayerInfo { width: layer.width, height: layer.height, active: false })
        .collect();
    if layers.is_empty() {
        layers.push(LayerInfo { width: 0, height: 0, active: false });
    }
    layers
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
        sid: announced.track.clone(),
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

pub(super) fn bindings_of(section: &PublishedSection) -> Vec<PayloadBinding> {
    let bindings = section.codecs.iter().flat_map(|codec| {
        let media = PayloadBinding { payload_type: codec.payload_type, codec: codec.codec, repair: false };
        let repair =
            codec.rtx.map(|payload_type| PayloadBinding { payload_type, codec: codec.codec, repair: true });
        std::iter::once(media).chain(repair)
    });
    bindings.collect()
}

/// Maximum number of streams of a track: the send log has three bits for the stream.
const MOST_LAYERS: usize = 8;
/// Maximum number of spatial layers of a stream.
const MOST_SPATIAL: usize = 3;
/// Maximum number of backup codecs of a track.
const MOST_BACKUPS: usize = 2;
