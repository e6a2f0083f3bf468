//! SDP negotiation: reads the client's offers and answers, writes the server's, and applies the outcome.

use std::time::Instant;

use sfu_protocol::{ConnectionMode, Event, NegotiationError, PublicationFailure, Target};

use super::Shard;
use super::publish::bindings_of;
use crate::handles::{ParticipantIndex, PeerIndex};
use crate::peer::Peer;
use crate::rtp::extension::{Extension, ExtensionMap};
use crate::sdp::{LocalParameters, Outcome, WantedTrack};
use crate::stats::Drop;
use crate::transport::ice::IceCredentials;

impl Shard {
    pub(super) fn on_offer(&mut self, now: Instant, participant: ParticipantIndex, id: u32, sdp: &str) {
        let Some(entry) = self.participants.get(participant.0) else { return };
        let (sid, index) = (entry.sid.clone(), entry.publisher);
        let (pending, permissions) = (entry.announced(), entry.permissions);
        let wanted = self.wanted(participant);
        let Some(mut local) = self.local_parameters(index) else { return };
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let offer = match peer.negotiation.read(sdp) {
            Ok(offer) => offer,
            Err(error) => return self.refuse(sid, Target::Publisher, id, error.into()),
        };
        let restarts = peer.negotiation.restarts_ice(&offer);
        let restart = restarts.then(IceCredentials::generate).and_then(Result::ok);
        if let Some(fresh) = &restart {
            local.ice = crate::sdp::IceCredentials { ufrag: fresh.ufrag.clone(), pwd: fresh.pwd.clone() };
        }
        let outcome =
            peer.negotiation.apply_offer(&offer, &local, &pending, &wanted, permissions, &mut self.rng);
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
        self.await_match(now, participant);
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

    /// Schedules negotiation after the tracks that a participant wants, or its media sections, have changed. Many
    /// requests come at once, so negotiation runs when all pending input has been handled.
    pub(super) fn negotiate_wishes(&mut self, participant: ParticipantIndex) {
        let Some(entry) = self.participants.get_mut(participant.0) else { return };
        if !std::mem::replace(&mut entry.unnegotiated, true) {
            self.unnegotiated.push(participant);
        }
    }

    /// Negotiates with all participants for which negotiation is scheduled.
    pub(super) fn negotiate_all(&mut self) {
        while let Some(participant) = self.unnegotiated.pop() {
            let entry = self.participants.get_mut(participant.0);
            if entry.is_some_and(|entry| std::mem::take(&mut entry.unnegotiated)) {
                self.contained(participant, |shard| shard.negotiate(participant));
            }
        }
    }

    /// Requests media sections from the client, or offers them, for the wanted tracks that have none.
    fn negotiate(&mut self, participant: ParticipantIndex) {
        let wanted = self.wanted(participant);
        let Some(entry) = self.participants.get(participant.0) else { return };
        // A single connection's first offer brings media sections along. Requesting sections earlier would request them
        // twice.
        if !entry.entered {
            return;
        }
        let (sid, index) = (entry.sid.clone(), entry.receiver());
        // If the publisher connection is the primary one, the subscriber connection is offered only when there is
        // something to receive.
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
        let crowded = peer.negotiation.crowded_out(&wanted);
        self.tell_crowded_out(participant, &crowded);
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

    /// Applies new local ICE credentials. Connectivity checks with the previous ones still find the peer until the next
    /// restart.
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
        if let Some(data) = outcome.data.as_ref().filter(|_| set.is_ok()) {
            peer.transport.limit_messages(data.max_message_size);
        }
        set.map_err(|error| NegotiationError { field: "transport".to_owned(), reason: error.to_string() })
    }

    fn apply_outcome(
        &mut self,
        now: Instant,
        participant: ParticipantIndex,
        index: PeerIndex,
        outcome: Outcome,
    ) {
        let ended = !outcome.unpublished.is_empty();
        for section in outcome.unpublished {
            if let Some(track) = section.track {
                self.withdraw(now, index, &track);
            }
        }
        if let Some(peer) = self.peers.get_mut(index.0).filter(|_| ended) {
            peer.transport.forget_sources(&peer.ingress);
        }
        for track in outcome.unbound {
            self.unbind(index, &track);
        }
        for section in outcome.published {
            self.publish(now, participant, index, &section);
        }
        for track in outcome.refused {
            self.fail_publication(participant, &track, PublicationFailure::CodecUnsupported);
        }
        for section in &outcome.republished {
            if let (Some(track), Some(peer)) = (&section.track, self.peers.get_mut(index.0)) {
                let map = extension_map(&section.extensions);
                peer.ingress.renegotiate(track, bindings_of(section), map);
            }
        }
        let bound: Vec<usize> = outcome
            .bound
            .into_iter()
            .filter_map(|section| self.bind(now, participant, index, section))
            .collect();
        self.choose_renditions(now, index, &bound);
        for track in outcome.unsupported {
            self.unsupported(participant, track);
        }
    }

    /// The local ICE, DTLS and candidate parameters for a description.
    fn local_parameters(&self, index: PeerIndex) -> Option<LocalParameters> {
        let peer = self.peers.get(index.0)?;
        Some(crate::peer::setup::local(&peer.transport, &self.certificate, &self.config.candidates))
    }

    /// The wanted tracks that have no media section, except those without a common codec.
    fn wanted(&self, participant: ParticipantIndex) -> Vec<WantedTrack> {
        let Some(entry) = self.participants.get(participant.0) else { return Vec::new() };
        let Some(peer) = self.peers.get(entry.receiver().0) else { return Vec::new() };
        let room = self.rooms.get(entry.room.0);
        let bound = peer.negotiation.bound_tracks();
        let without_section =
            entry.wishes.iter().filter(|wish| !wish.hopeless && !bound.contains(&wish.track));
        without_section
            .map(|wish| WantedTrack {
                track: wish.track.clone(),
                publisher: wish.publisher.clone(),
                kind: wish.kind,
                available: room.map_or_else(Vec::new, |room| {
                    room.renditions(&wish.track).filter_map(|(_, track)| track.facts.format()).collect()
                }),
            })
            .collect()
    }
}

/// The negotiated header extensions that the engine knows.
pub(super) fn extension_map(agreed: &[(u8, &'static str)]) -> ExtensionMap {
    let mut map = ExtensionMap::new();
    for (id, uri) in agreed {
        if let Some(extension) = Extension::from_uri(uri) {
            map.insert(*id, extension);
        }
    }
    map
}
