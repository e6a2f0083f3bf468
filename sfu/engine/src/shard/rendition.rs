//! Chooses the codec of a track for each subscription: when a media section is bound to the track, when a codec of the
//! track is added or removed, and when the codecs of the section change.

use std::time::Instant;

use sfu_protocol::{CodecDemand, Event, MediaKind, TrackSid};
use smallvec::SmallVec;

use super::{FabricMessage, Shard, ShardId, track_in, track_in_mut};
use crate::egress::PacketSource;
use crate::handles::{PeerIndex, RoomIndex, TrackHandle};
use crate::room::rendition::Best;
use crate::room::{Origin, Subscriber, Track, TrackFacts, demand};
use crate::rtp::codec::format::Format;

impl Shard {
    /// Starts the subscriptions that were bound before the transport was connected.
    pub(super) fn start_subscriptions(&mut self, now: Instant, index: PeerIndex) {
        let Some(peer) = self.peers.get(index.0) else { return };
        let slots: Vec<usize> = peer.egress.iter().map(|(slot, _)| slot).collect();
        self.choose_renditions(now, index, &slots);
    }

    /// Attaches each of these subscriptions of a peer to the best codec of its track that it can decode. Layers are
    /// allocated once for all of them.
    pub(super) fn choose_renditions(&mut self, now: Instant, index: PeerIndex, slots: &[usize]) {
        let subscribers = slots.iter().map(|slot| Subscriber { peer: index, slot: *slot });
        let attached: Vec<(Subscriber, TrackHandle)> =
            subscribers.filter_map(|subscriber| Some((subscriber, self.attach_best(subscriber)?))).collect();
        if attached.is_empty() {
            return;
        }
        self.allocate_peer(now, index);
        for (subscriber, handle) in attached {
            self.begin(now, handle, subscriber);
        }
    }

    /// Chooses the codec again for every subscription on this shard to a track that is new or has another codec now.
    pub(super) fn choose_all(&mut self, now: Instant, index: RoomIndex, sid: &TrackSid) {
        let Some(room) = self.rooms.get(index.0) else { return };
        let members = room.members.clone();
        let formats: SmallVec<[Format; 2]> =
            room.renditions(sid).filter_map(|(_, track)| track.facts.format()).collect();
        for member in members {
            let Some(entry) = self.participants.get(member.0) else { continue };
            let index = entry.receiver();
            let peer = self.peers.get_mut(index.0).filter(|_| !formats.is_empty());
            if let Some(section) = peer.and_then(|peer| peer.negotiation.learn(sid, &formats)) {
                self.contained(member, |shard| {
                    if let Some(slot) = shard.bind(now, member, index, section) {
                        shard.choose_rendition(now, Subscriber { peer: index, slot });
                    }
                    shard.negotiate_wishes(member);
                });
                continue;
            }
            let slot = self.peers.get(index.0).and_then(|peer| peer.egress.slot_of(sid));
            if let Some(slot) = slot {
                let subscriber = Subscriber { peer: index, slot };
                self.contained(member, |shard| shard.choose_rendition(now, subscriber));
            }
        }
    }

    /// Attaches a subscription to the best codec of its track, unless it has that codec already.
    pub(super) fn choose_rendition(&mut self, now: Instant, subscriber: Subscriber) {
        self.choose_renditions(now, subscriber.peer, &[subscriber.slot]);
    }

    /// Attaches a subscription to the best codec of its track. `None` if it has that codec already, or none fits.
    fn attach_best(&mut self, subscriber: Subscriber) -> Option<TrackHandle> {
        let peer = self.peers.get(subscriber.peer.0)?;
        let subscription = peer.egress.get(subscriber.slot)?;
        let room = self.rooms.get(peer.room.0).filter(|_| peer.transport.is_connected())?;
        let current = subscription.track;
        let best = match room.best_for(&subscription.sid, |format| subscription.takes(format)) {
            Best::Unknown => return None,
            Best::Rendition(track) => Some(TrackHandle { room: peer.room, track }),
            Best::Nothing => None,
        };
        if best == current && best.is_some() {
            return None;
        }
        let (participant, sid) = (peer.participant, subscription.sid.clone());
        if let Some(current) = current {
            self.leave(current, subscriber);
        }
        match best {
            Some(best) => {
                self.supported(participant, &sid);
                self.attach(best, subscriber)
            }
            None => {
                self.unsupported(participant, sid);
                None
            }
        }
    }

    fn attach(&mut self, handle: TrackHandle, subscriber: Subscriber) -> Option<TrackHandle> {
        let track = track_in_mut(&mut self.rooms, handle)?;
        let peer = self.peers.get_mut(subscriber.peer.0)?;
        let subscription = peer.egress.get_mut(subscriber.slot)?;
        subscription.track = Some(handle);
        subscription.select.arrange(track.facts.arrangement);
        track.subscribers.push(subscriber);
        self.stats.subscriptions += 1;
        Some(handle)
    }

    /// Starts a subscription that has just been attached: from the packet memory if possible, otherwise with a key frame
    /// request.
    fn begin(&mut self, now: Instant, handle: TrackHandle, subscriber: Subscriber) {
        let track = track_in(&self.rooms, handle);
        let (Some(track), Some(peer)) = (track, self.peers.get_mut(subscriber.peer.0)) else { return };
        if track.facts.kind == MediaKind::Video {
            let source = PacketSource { clocks: &track.reports, memory: &track.memory, depths: None };
            peer.egress.begin(subscriber.slot, &source, now, &mut self.stats);
        }
        let needed = peer.egress.ask_key_frame(subscriber.slot, now);
        self.touch(subscriber.peer);
        if let Some(layer) = needed {
            self.ask_key_frame(now, handle, layer);
        }
        self.demand_changed(handle);
        let participant = self.peers.get(subscriber.peer.0).map(|peer| peer.participant);
        let hidden =
            participant.and_then(|index| self.participants.get(index.0)).is_none_or(|entry| entry.hidden);
        if !hidden {
            self.tell_first_subscriber(handle);
        }
    }

    /// Handles a backup codec that has got its media section, or that has lost it and is only promised again. Its
    /// subscriptions stay. All subscriptions of the track choose their codec again.
    pub(super) fn renew_track(&mut self, now: Instant, handle: TrackHandle, facts: TrackFacts) {
        let Some(track) = track_in_mut(&mut self.rooms, handle) else { return };
        let (sid, arrangement) = (facts.sid.clone(), facts.arrangement);
        let (asked, layers) = (track.asked, track.facts.layers.len());
        track.renew(facts);
        for subscriber in &track.subscribers {
            let peer = self.peers.get_mut(subscriber.peer.0);
            if let Some(subscription) = peer.and_then(|peer| peer.egress.get_mut(subscriber.slot)) {
                subscription.leave_source();
                subscription.select.arrange(arrangement);
            }
        }
        self.choose_all(now, handle.room, &sid);
        self.reallocate(now, handle);
        // The quality reported for a layer depends on the number of layers, so it may change with the same layer.
        let Some(track) = track_in(&self.rooms, handle) else { return };
        let renamed = track.facts.layers.len() != layers && asked.is_some() && track.asked == asked;
        if renamed && matches!(track.origin, Origin::Here(_)) && track.facts.kind == MediaKind::Video {
            self.tell_wanted(handle);
        }
    }

    /// Reports to a track's publisher the highest wanted quality in each codec.
    pub(super) fn tell_wanted(&mut self, handle: TrackHandle) {
        let Some(room) = self.rooms.get(handle.room.0) else { return };
        let Some(facts) = room.tracks.get(handle.track).map(|track| &track.facts) else { return };
        let codecs: Vec<CodecDemand> = room
            .renditions(&facts.sid)
            .map(|(_, track)| CodecDemand {
                mime_type: track.facts.mime_type.to_owned(),
                highest: track.asked.map(|layer| demand::quality(layer, track.facts.layers.len())),
            })
            .collect();
        let (participant, track) = (facts.publisher.clone(), facts.sid.clone());
        self.events.push_back(Event::SubscribedQuality { participant, track, codecs });
    }

    /// Reports to a track's publisher, once, that the track has a subscriber, in any codec.
    pub(super) fn tell_first_subscriber(&mut self, handle: TrackHandle) {
        let Some(track) = track_in_mut(&mut self.rooms, handle) else { return };
        if std::mem::replace(&mut track.subscribed_told, true) {
            return;
        }
        let (participant, sid, id) = (track.facts.publisher.clone(), track.facts.sid.clone(), track.facts.id);
        match track.origin {
            Origin::Here(_) => {
                let Some(room) = self.rooms.get(handle.room.0) else { return };
                let told = |(place, other): (usize, &Track)| place != handle.track && other.subscribed_told;
                if !room.renditions(&sid).any(told) {
                    self.events.push_back(Event::TrackSubscribed { participant, track: sid });
                }
            }
            Origin::Shard(shard) => {
                self.send_fabric(ShardId(shard), FabricMessage::FirstSubscriber { track: id });
            }
        }
    }
}
