//! Subscriptions: a participant wants a track, the track gets a media section, and the section gets packets.

use std::collections::BTreeSet;
use std::time::Instant;

use rand::Rng;
use sfu_protocol::{Event, Layer, MediaKind, ParticipantSid, SubscriptionFailure, TrackDemand, TrackSid};

use super::negotiate::extension_map;
use super::participant::Wish;
use super::{FabricMessage, RoomMessage, Shard, ShardId, track_in, track_in_mut};
use crate::egress::track::{EgressPayload, NewSubscription, Reporting, Subscription};
use crate::handles::{ParticipantIndex, PeerIndex, TrackHandle};
use crate::media_packet::Arrangement;
use crate::packet_memory::PacketMemory;
use crate::room::rendition::Rendition;
use crate::room::{Origin, Subscriber, demand};
use crate::rtp::extension::Extension;
use crate::sdp::codecs::place;
use crate::sdp::{BoundSection, NegotiatedCodec};
use crate::stats::Drop;
use crate::units::FIRST_SEQUENCES;

impl Shard {
    pub(super) fn subscribe(&mut self, now: Instant, participant: ParticipantIndex, wish: Wish) {
        let Some(entry) = self.participants.get(participant.0) else { return };
        if !entry.permissions.subscribe {
            return self.stats.drop(Drop::StaleMessage);
        }
        let (track, demand) = (wish.track.clone(), wish.demand);
        if entry.wishes.iter().any(|known| known.track == track && known.hopeless) {
            // The track had no codec in common and is requested again: the client's codecs may have changed since.
            self.drop_wish(participant, &track);
        }
        let Some(entry) = self.participants.get_mut(participant.0) else { return };
        if entry.wish(wish) {
            self.negotiate_wishes(participant);
        } else {
            self.set_demand(now, participant, &track, demand);
        }
    }

    pub(super) fn unsubscribe(&mut self, participant: ParticipantIndex, track: &TrackSid) {
        if self.drop_wish(participant, track) {
            self.negotiate_wishes(participant);
        } else {
            self.stats.drop(Drop::StaleMessage);
        }
    }

    /// Removes a track from those that a participant wants, and frees its media section for another track. Returns
    /// false if the track was not wanted.
    fn drop_wish(&mut self, participant: ParticipantIndex, track: &TrackSid) -> bool {
        let Some(entry) = self.participants.get_mut(participant.0) else { return false };
        let Some(place) = entry.wishes.iter().position(|wish| wish.track == *track) else { return false };
        entry.wishes.remove(place);
        let index = entry.receiver();
        self.unbind(index, track);
        if let Some(peer) = self.peers.get_mut(index.0) {
            peer.negotiation.release(track);
        }
        true
    }

    pub(super) fn set_demand(
        &mut self,
        now: Instant,
        participant: ParticipantIndex,
        track: &TrackSid,
        demand: TrackDemand,
    ) {
        let Some(entry) = self.participants.get_mut(participant.0) else { return };
        let Some(wish) = entry.wishes.iter_mut().find(|wish| wish.track == *track) else {
            return self.stats.drop(Drop::StaleMessage);
        };
        wish.demand = demand;
        let index = entry.receiver();
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let Some(slot) = peer.egress.slot_of(track) else { return };
        let Some(subscription) = peer.egress.get_mut(slot) else { return };
        subscription.demand = demand;
        subscription.standing.on_demand_changed();
        if let Some(handle) = subscription.track {
            self.allocate_peer(now, index);
            let peer = self.peers.get_mut(index.0);
            if let Some(layer) = peer.and_then(|peer| peer.egress.ask_key_frame(slot, now)) {
                self.ask_key_frame(now, handle, layer);
            }
            self.demand_changed(handle);
        }
    }

    /// Sets up a subscription for a wanted track that has got a media section, or updates it after the section's
    /// parameters changed. Returns the subscription's slot in the peer's egress; the caller then chooses a codec for
    /// it.
    pub(super) fn bind(
        &mut self,
        now: Instant,
        participant: ParticipantIndex,
        index: PeerIndex,
        section: BoundSection,
    ) -> Option<usize> {
        let entry = self.participants.get_mut(participant.0)?;
        let wish = entry.wishes.iter_mut().find(|wish| wish.track == section.track);
        let demand = wish.map(|wish| {
            wish.crowded = false;
            wish.demand
        });
        let peer = self.peers.get_mut(index.0)?;
        let extensions = extension_map(&section.extensions);
        peer.egress.add_extensions(&extensions);
        let mut payload_types: Vec<EgressPayload> = Vec::new();
        let mut codecs: Vec<&NegotiatedCodec> = section.codecs.iter().collect();
        codecs.sort_by_key(|codec| place(codec, &section.available));
        for codec in codecs {
            // Sorted by fit: the first profile of each codec fits the track best.
            if payload_types.iter().all(|known| known.codec != codec.codec) {
                payload_types.push(EgressPayload {
                    codec: codec.codec,
                    profile: codec.profile(),
                    payload_type: codec.payload_type,
                    repair: codec.rtx,
                });
            }
        }
        if let Some(known) = peer.egress.slot_of(&section.track) {
            if peer.egress.get(known).is_some_and(|known| known.ssrc == section.ssrc) {
                peer.egress.set_payload_types(known, payload_types);
                return Some(known);
            }
            self.unbind(index, &section.track);
        }
        let peer = self.peers.get_mut(index.0)?;
        let reporting = reporting(&section, extensions.id_of(Extension::TransportSequence).is_some());
        let limits = &self.config.limits;
        Some(peer.egress.add(
            now,
            Subscription::new(NewSubscription {
                sid: section.track.clone(),
                publisher: section.publisher,
                kind: section.kind,
                mid: extensions.id_of(Extension::Mid).map(|_| section.mid),
                demand: demand.unwrap_or_default(),
                ssrc: section.ssrc,
                repair: section.rtx_ssrc,
                payload_types,
                reporting,
                began: now,
                first_sequence: self.rng.random_range(FIRST_SEQUENCES),
                first_timestamp: self.rng.random(),
                retransmit_percents: (limits.retransmit_percent, limits.retransmit_hard_percent),
            }),
        ))
    }

    /// Removes a subscription that has lost its media section or whose peer ends.
    pub(super) fn detach(&mut self, index: PeerIndex, slot: usize) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let Some(subscription) = peer.egress.remove(slot) else { return };
        if let Some(handle) = subscription.track {
            self.leave(handle, Subscriber { peer: index, slot });
        }
    }

    /// Removes a subscription from the subscribers of a track in one codec.
    pub(super) fn leave(&mut self, handle: TrackHandle, subscriber: Subscriber) {
        if let Some(track) = track_in_mut(&mut self.rooms, handle) {
            track.subscribers.retain(|known| *known != subscriber);
        }
        self.part(subscriber);
        self.demand_changed(handle);
    }

    /// Resets a subscription that is no longer in any track's list of subscribers. The next track that it gets, even
    /// the same one, starts as a new source.
    fn part(&mut self, subscriber: Subscriber) {
        self.stats.subscriptions = self.stats.subscriptions.saturating_sub(1);
        let peer = self.peers.get_mut(subscriber.peer.0);
        if let Some(subscription) = peer.and_then(|peer| peer.egress.get_mut(subscriber.slot)) {
            subscription.track = None;
            subscription.leave_source();
        }
    }

    /// Removes a peer's subscription to a track, if there is one.
    pub(super) fn unbind(&mut self, index: PeerIndex, track: &TrackSid) {
        let slot = self.peers.get(index.0).and_then(|peer| peer.egress.slot_of(track));
        if let Some(slot) = slot {
            self.detach(index, slot);
        }
    }

    /// Notes that a client can decode a track that it could not decode before. A repeated subscribe request must then
    /// not restart the track.
    pub(super) fn supported(&mut self, participant: ParticipantIndex, track: &TrackSid) {
        let Some(entry) = self.participants.get_mut(participant.0) else { return };
        if let Some(wish) = entry.wishes.iter_mut().find(|wish| wish.track == *track) {
            wish.hopeless = false;
        }
    }

    pub(super) fn unsupported(&mut self, participant: ParticipantIndex, track: TrackSid) {
        let Some(entry) = self.participants.get_mut(participant.0) else { return };
        let news = |wish: &&mut Wish| wish.track == track && !wish.hopeless;
        let Some(wish) = entry.wishes.iter_mut().find(news) else { return };
        wish.hopeless = true;
        self.events.push_back(Event::SubscriptionFailed {
            participant: entry.sid.clone(),
            track,
            reason: SubscriptionFailure::CodecUnsupported,
        });
    }

    /// Notes which wanted tracks have no media section while no further section can be added. Reports those that were
    /// not in this state before.
    pub(super) fn tell_crowded_out(&mut self, participant: ParticipantIndex, crowded: &[TrackSid]) {
        let Some(entry) = self.participants.get_mut(participant.0) else { return };
        let crowded: BTreeSet<&TrackSid> = crowded.iter().collect();
        for wish in &mut entry.wishes {
            let was_crowded = std::mem::replace(&mut wish.crowded, crowded.contains(&wish.track));
            if wish.crowded && !was_crowded {
                self.stats.subscriptions_refused += 1;
                self.events.push_back(Event::SubscriptionFailed {
                    participant: entry.sid.clone(),
                    track: wish.track.clone(),
                    reason: SubscriptionFailure::TooManyTracks,
                });
            }
        }
        let dominant = self.rooms.get(entry.room.0).and_then(|room| room.dominant.clone());
        if let Some(dominant) = dominant.filter(|_| !crowded.is_empty()) {
            self.seat_speaker(participant, &dominant);
        }
    }

    /// If the dominant speaker has tracks without media sections at this subscriber, gives them the sections of other
    /// publishers' tracks, of those that were requested last.
    pub(super) fn seat_speaker(&mut self, participant: ParticipantIndex, speaker: &ParticipantSid) {
        let Some(entry) = self.participants.get_mut(participant.0) else { return };
        if !entry.wishes.iter().any(|wish| wish.crowded && wish.publisher == *speaker) {
            return;
        }
        let index = entry.receiver();
        // The speaker's tracks move to the front of the list, and stay there.
        entry.wishes.sort_by_key(|wish| wish.publisher != *speaker);
        let Some(peer) = self.peers.get(index.0) else { return };
        let bound = peer.negotiation.bound_tracks();
        for wish in &mut entry.wishes {
            wish.seated &= !bound.contains(&wish.track);
        }
        let others = entry.wishes.iter().rev();
        let others = others.filter(|wish| wish.publisher != *speaker && bound.contains(&wish.track));
        let mut others: Vec<_> = others.map(|wish| (wish.kind, wish.track.clone())).collect();
        let mut given_up: Vec<TrackSid> = Vec::new();
        let waits = |wish: &&mut Wish| wish.crowded && !wish.seated && wish.publisher == *speaker;
        for wish in entry.wishes.iter_mut().filter(waits) {
            if let Some(place) = others.iter().position(|(kind, _)| *kind == wish.kind) {
                given_up.push(others.remove(place).1);
                wish.seated = true;
            }
        }
        if given_up.is_empty() {
            return;
        }
        for track in given_up {
            self.unbind(index, &track);
            if let Some(peer) = self.peers.get_mut(index.0) {
                peer.negotiation.release(&track);
            }
        }
        self.negotiate_wishes(participant);
    }

    /// Removes a track from this shard. Its subscriptions stay until they are ended, in case the track comes back.
    pub(super) fn remove_track(&mut self, handle: TrackHandle) {
        let Some(room) = self.rooms.get_mut(handle.room.0) else { return };
        let Some(track) = room.remove_track(handle.track) else { return };
        self.tracks.remove(&track.facts.id);
        for subscriber in track.subscribers {
            self.part(subscriber);
        }
        let is_published = track.facts.rendition != Rendition::Promised;
        if let (Origin::Here(_), true) = (track.origin, is_published) {
            self.count_track(track.facts.kind, -1);
        }
    }

    /// Notes that a stream has started or stopped, reports it to the room's home shard, and reallocates every
    /// subscription of the track.
    pub(super) fn set_layer_active(&mut self, now: Instant, handle: TrackHandle, layer: Layer, active: bool) {
        let Some(track) = track_in_mut(&mut self.rooms, handle) else { return };
        match track.facts.arrangement {
            Arrangement::Encodings => {
                let Some(info) = track.facts.layers.get_mut(usize::from(layer.0)) else { return };
                info.active = active;
            }
            // Layer selection sees in each frame which spatial layers the stream carries. For a missing layer the next
            // lower one is sent.
            Arrangement::Spatial => track.facts.layers.iter_mut().for_each(|info| info.active = active),
        }
        let begins = active && track.facts.rendition == Rendition::Negotiated;
        if begins {
            track.facts.rendition = Rendition::Backup;
        }
        let facts = track.facts.clone();
        let track = facts.sid.clone();
        self.send_home(handle.room, RoomMessage::Track { facts, origin: self.config.id });
        if begins {
            self.choose_all(now, handle.room, &track);
        }
        self.reallocate(now, handle);
    }

    /// Chooses layers again for every subscription of a track. A subscription that needs a key frame requests it at the
    /// track's next packet, unless that packet begins one.
    pub(super) fn reallocate(&mut self, now: Instant, handle: TrackHandle) {
        let track = track_in(&self.rooms, handle);
        let subscribers = track.map(|track| track.subscribers.clone()).unwrap_or_default();
        for subscriber in subscribers {
            self.contained_peer(subscriber.peer, |shard| shard.allocate_peer(now, subscriber.peer));
        }
        self.demand_changed(handle);
    }

    /// Computes the highest wanted layer of a track. If it changed, reports it to the track's publisher or, if the
    /// track originates on another shard, to that shard.
    pub(super) fn demand_changed(&mut self, handle: TrackHandle) {
        let Some(track) = track_in_mut(&mut self.rooms, handle) else { return };
        let peers = &self.peers;
        let here = track
            .subscribers
            .iter()
            .map(|known| peers.get(known.peer.0)?.egress.get(known.slot).and_then(Subscription::wanted));
        let elsewhere = track.routes.iter().map(|route| Some(route.highest));
        let highest = demand::merge(here.chain(elsewhere));
        if track.asked == highest {
            return;
        }
        let before = std::mem::replace(&mut track.asked, highest);
        if matches!(track.origin, Origin::Shard(_)) {
            // The memory of a layer that was not received all the time has gaps. No subscription may begin with it.
            let whole = before.min(highest).map_or(0, |layer| usize::from(layer.0) + 1);
            track.memory.iter_mut().skip(whole).for_each(PacketMemory::forget_key_frame);
            for known in &track.subscribers {
                let peer = self.peers.get_mut(known.peer.0);
                let subscription = peer.and_then(|peer| peer.egress.get_mut(known.slot));
                // The origin stops sending layers above `highest`. If such a layer comes again, its packets do not
                // follow those sent before, so the subscription has to restart.
                if let Some(subscription) = subscription.filter(|each| each.select.stream() > highest) {
                    subscription.select.restart();
                }
            }
        }
        let facts = &track.facts;
        match track.origin {
            Origin::Shard(origin) => {
                let message = FabricMessage::Demand { track: facts.id, from: self.config.id, highest };
                self.send_fabric(ShardId(origin), message);
            }
            Origin::Here(_) if facts.kind == MediaKind::Video => self.tell_wanted(handle),
            Origin::Here(_) => {}
        }
    }

    pub(super) fn count_track(&mut self, kind: MediaKind, change: i64) {
        let count = match kind {
            MediaKind::Audio => &mut self.stats.tracks_audio,
            MediaKind::Video => &mut self.stats.tracks_video,
        };
        *count = count.saturating_add_signed(change);
    }
}

/// Kind of bandwidth feedback that the subscriber will send for a section. Per-packet feedback (see
/// [`Reporting::is_per_packet`]) is used only if retransmissions have an SSRC of their own (RTX): a client that offers
/// no retransmissions is not waited for.
fn reporting(section: &BoundSection, numbered: bool) -> Reporting {
    let agreed = |feedback: fn(&NegotiatedCodec) -> bool| section.codecs.iter().any(feedback);
    let repaired = section.rtx_ssrc.is_some() && section.codecs.iter().any(|codec| codec.rtx.is_some());
    if repaired && numbered && agreed(NegotiatedCodec::transport_cc) {
        Reporting::TransportWide
    } else if repaired && agreed(NegotiatedCodec::congestion_feedback) {
        Reporting::ByStream
    } else if agreed(NegotiatedCodec::remb) {
        Reporting::Estimate
    } else {
        Reporting::None
    }
}
