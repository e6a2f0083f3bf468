//! Handles fabric messages from other shards, and from this shard to itself: rosters, room replicas, demand, media.

use std::time::Instant;

use sfu_protocol::{Event, LeaveReason, RoomSid, RosterChange, RosterEntry, TrackSid};

use super::speak::SpeakersTold;
use super::{FabricMessage, RoomMessage, Shard, ShardId, track_in_mut};
use crate::handles::{RoomIndex, TrackHandle};
use crate::media_packet::TrackId;
use crate::room::roster::{Person, Roster};
use crate::room::{Origin, Room, Track, TrackFacts, demand};
use crate::stats::Drop;

impl Shard {
    pub(super) fn handle_fabric(&mut self, now: Instant, message: FabricMessage) {
        match message {
            FabricMessage::Media(packet) => {
                self.for_track(packet.track, |shard, handle| shard.forward(handle, packet));
            }
            FabricMessage::SoundBegins(packet) => {
                self.for_track(packet.track, |shard, handle| shard.begin_routed_sound(handle, packet));
            }
            FabricMessage::SenderClock { track, layer, report } => self.for_track(track, |shard, handle| {
                let Some(track) = track_in_mut(&mut shard.rooms, handle) else { return };
                if let Some(place) = track.reports.get_mut(usize::from(layer.0)) {
                    *place = Some(report);
                }
            }),
            FabricMessage::Demand { track, from, highest } => self.for_track(track, |shard, handle| {
                if let Some(track) = track_in_mut(&mut shard.rooms, handle) {
                    demand::set_route(track, from.0, highest);
                }
                shard.demand_changed(handle);
            }),
            FabricMessage::KeyFrame { track, layer } => {
                self.for_track(track, |shard, handle| shard.ask_key_frame(now, handle, layer));
            }
            FabricMessage::FirstSubscriber { track } => {
                self.for_track(track, |shard, handle| shard.tell_first_subscriber(handle));
            }
            FabricMessage::Data(data) => self.on_fabric_data(now, &data),
            FabricMessage::DataTaken { from, bytes } => self.credit_back(from, bytes),
            FabricMessage::DataLevel { sender, from, level } => self.on_level(&sender, from, level),
            FabricMessage::DataEnded { sender } => self.flows.forget(&sender),
            FabricMessage::Room { room, message } => self.handle_room_message(now, &room, message),
        }
    }

    /// Runs `work` on the track that a message is about. If the track ended while the message was under way, the
    /// message is dropped and counted.
    fn for_track(&mut self, id: TrackId, work: impl FnOnce(&mut Self, TrackHandle)) {
        match self.tracks.get(&id).copied() {
            Some(handle) => {
                self.contained_track(handle, |shard| work(shard, handle));
            }
            None => self.stats.drop(Drop::StaleMessage),
        }
    }

    fn handle_room_message(&mut self, now: Instant, sid: &RoomSid, message: RoomMessage) {
        match message {
            RoomMessage::Attach { from } => self.attach_shard(sid, from),
            RoomMessage::Detach { from } => self.detach_shard(sid, from),
            RoomMessage::Replica { tracks } => {
                self.forget_all_but(sid, &tracks);
                for (facts, origin) in tracks {
                    self.learn_track(now, sid, facts, origin);
                }
            }
            RoomMessage::Shards { shards } => {
                let own = self.config.id.0;
                if let Some(room) = self.room_mut(sid) {
                    room.other_shards = shards.into_iter().filter(|shard| *shard != own).collect();
                }
            }
            RoomMessage::Enter { from, participant, identity, hidden, info } => {
                let person = Person { participant, identity, hidden, info, shard: from.0 };
                self.enter(sid, person);
            }
            RoomMessage::Entered { participant } => {
                if let Some(index) = self.participant(&participant) {
                    if let Some(entry) = self.participants.get_mut(index.0) {
                        entry.entered = true;
                    }
                    self.contained(index, |shard| shard.negotiate_wishes(index));
                }
            }
            RoomMessage::Update { participant, info } => {
                let visible =
                    self.roster_mut(sid).is_some_and(|roster| roster.update(&participant, info.clone()));
                if visible {
                    let change = RosterChange::Present(RosterEntry { participant, info });
                    self.events.push_back(Event::Roster { room: sid.clone(), change });
                }
            }
            RoomMessage::Exit { participant, reason } => {
                let person = self.roster_mut(sid).and_then(|roster| roster.leave(&participant));
                self.forget_voice(sid, &participant);
                if let Some(person) = person.filter(|person| !person.hidden) {
                    let change = RosterChange::Gone { participant, info: person.info, reason };
                    self.events.push_back(Event::Roster { room: sid.clone(), change });
                }
            }
            RoomMessage::Superseded { participant } => self.supersede(&participant),
            RoomMessage::Newcomer => {
                if let Some(room) = self.room_mut(sid) {
                    room.newcomer = Some(now);
                }
            }
            RoomMessage::Voice { participant, level } => self.on_voice(now, sid, &participant, level),
            RoomMessage::Dominant { participant } => {
                if let Some(index) = self.known_room(sid) {
                    self.set_dominant(index, participant);
                }
            }
            RoomMessage::Track { facts, origin } => {
                self.learn_track(now, sid, facts.clone(), origin);
                self.relay_to_shards(sid, origin, &RoomMessage::Track { facts, origin });
            }
            RoomMessage::TrackGone { track } => {
                self.forget_track(sid, &track);
                self.relay_to_shards(sid, self.config.id, &RoomMessage::TrackGone { track });
            }
        }
    }

    pub(super) fn known_room(&self, sid: &RoomSid) -> Option<RoomIndex> {
        self.room_by_sid.get(sid).copied()
    }

    fn room_mut(&mut self, sid: &RoomSid) -> Option<&mut Room> {
        let index = self.known_room(sid)?;
        self.rooms.get_mut(index.0)
    }

    /// The authoritative roster, if this shard is the room's home.
    fn roster_mut(&mut self, sid: &RoomSid) -> Option<&mut Roster> {
        self.room_mut(sid)?.roster.as_mut()
    }

    /// On the room's home shard: sends an announcement to every attached shard except its origin and this one. Other
    /// shards have no roster, so there this does nothing.
    fn relay_to_shards(&mut self, sid: &RoomSid, origin: ShardId, message: &RoomMessage) {
        let roster = self.known_room(sid).and_then(|room| self.rooms.get(room.0)?.roster.as_ref());
        let shards = roster.map(|roster| roster.shards.clone()).unwrap_or_default();
        for shard in shards {
            let to = ShardId(shard);
            if to != origin && to != self.config.id {
                let message = FabricMessage::Room { room: sid.clone(), message: message.clone() };
                self.send_fabric(to, message);
            }
        }
    }

    fn attach_shard(&mut self, sid: &RoomSid, from: ShardId) {
        let index = self.known_or_new_room(sid);
        let Some(room) = self.rooms.get_mut(index.0) else { return };
        let Some(roster) = room.roster.as_mut() else { return };
        if !roster.shards.contains(&from.0) {
            roster.shards.push(from.0);
        }
        let shards = roster.shards.clone();
        let own = self.config.id;
        let tracks = room
            .tracks
            .iter()
            .map(|(_, track)| {
                let origin = match track.origin {
                    Origin::Here(_) => own,
                    Origin::Shard(shard) => ShardId(shard),
                };
                (track.facts.clone(), origin)
            })
            .collect();
        if from != own {
            let participant = room.dominant.clone();
            for message in [RoomMessage::Replica { tracks }, RoomMessage::Dominant { participant }] {
                self.send_fabric(from, FabricMessage::Room { room: sid.clone(), message });
            }
        }
        self.tell_shards(sid, &shards);
    }

    fn detach_shard(&mut self, sid: &RoomSid, from: ShardId) {
        let Some(index) = self.known_room(sid) else { return };
        let Some(roster) = self.roster_mut(sid) else { return };
        roster.shards.retain(|shard| *shard != from.0);
        let shards = roster.shards.clone();
        self.tell_shards(sid, &shards);
        self.drop_idle_room(index);
    }

    fn tell_shards(&mut self, sid: &RoomSid, shards: &[u16]) {
        for shard in shards {
            let message = RoomMessage::Shards { shards: shards.to_vec() };
            self.send_fabric(ShardId(*shard), FabricMessage::Room { room: sid.clone(), message });
        }
    }

    fn enter(&mut self, sid: &RoomSid, person: Person) {
        let index = self.known_or_new_room(sid);
        let Some(roster) = self.roster_mut(sid) else { return };
        let (participant, shard) = (person.participant.clone(), ShardId(person.shard));
        let entry = RosterEntry { participant: participant.clone(), info: person.info.clone() };
        let hidden = person.hidden;
        let earlier = roster.join(person);
        let roster = roster.seen_by(&participant);
        if let Some(earlier) = earlier {
            if !earlier.hidden {
                let change = RosterChange::Gone {
                    participant: earlier.participant.clone(),
                    info: earlier.info,
                    reason: LeaveReason::DuplicateIdentity,
                };
                self.events.push_back(Event::Roster { room: sid.clone(), change });
            }
            self.forget_voice(sid, &earlier.participant);
            let message = RoomMessage::Superseded { participant: earlier.participant };
            self.send_fabric(ShardId(earlier.shard), FabricMessage::Room { room: sid.clone(), message });
        }
        self.events.push_back(Event::Joined { participant: participant.clone(), roster });
        let message = RoomMessage::Entered { participant };
        self.send_fabric(shard, FabricMessage::Room { room: sid.clone(), message });
        if !hidden {
            let change = RosterChange::Present(entry);
            self.events.push_back(Event::Roster { room: sid.clone(), change });
        }
        self.tell_speakers(index, SpeakersTold::IfAny);
        let roster = self.rooms.get(index.0).and_then(|room| room.roster.as_ref());
        for shard in roster.map(|roster| roster.shards.clone()).unwrap_or_default() {
            let message = RoomMessage::Newcomer;
            self.send_fabric(ShardId(shard), FabricMessage::Room { room: sid.clone(), message });
        }
    }

    /// Handles the announcement of a new or changed track that originates on another shard.
    fn learn_track(&mut self, now: Instant, sid: &RoomSid, facts: TrackFacts, origin: ShardId) {
        let Some(index) = self.known_room(sid) else { return };
        if origin == self.config.id {
            return;
        }
        let Some(room) = self.rooms.get_mut(index.0) else { return };
        let (id, track_sid, rendition) = (facts.id, facts.sid.clone(), facts.rendition);
        let place = room.add_track(facts.clone(), Origin::Shard(origin.0));
        let handle = TrackHandle { room: index, track: place };
        let known = self.tracks.insert(id, handle).is_some();
        match room.tracks.get_mut(place).filter(|_| known) {
            Some(track) if track.facts.rendition.begins_anew_as(rendition) => {
                self.renew_track(now, handle, facts);
            }
            Some(track) => {
                let flows_now = track.facts.rendition != rendition;
                track.facts = facts;
                if flows_now {
                    self.choose_all(now, index, &track_sid);
                }
                self.reallocate(now, handle);
            }
            None => self.choose_all(now, index, &track_sid),
        }
    }

    /// Removes the tracks of other shards that the home shard's list does not contain.
    fn forget_all_but(&mut self, sid: &RoomSid, tracks: &[(TrackFacts, ShardId)]) {
        let Some(index) = self.known_room(sid) else { return };
        let Some(room) = self.rooms.get(index.0) else { return };
        let is_gone = |track: &Track| {
            matches!(track.origin, Origin::Shard(_))
                && tracks.iter().all(|(facts, _)| facts.id != track.facts.id)
        };
        let gone: Vec<usize> =
            room.tracks.iter().filter(|(_, track)| is_gone(track)).map(|(place, _)| place).collect();
        for track in gone {
            self.remove_track(TrackHandle { room: index, track });
        }
    }

    /// Removes a track, in all its codecs.
    fn forget_track(&mut self, sid: &RoomSid, track: &TrackSid) {
        let Some(index) = self.known_room(sid) else { return };
        let places = self.rooms.get(index.0).map(|room| room.places_of(track)).unwrap_or_default();
        for track in places {
            self.remove_track(TrackHandle { room: index, track });
        }
    }
}
