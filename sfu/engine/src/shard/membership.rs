//! Joining and leaving: participants, their peers, and the room replicas that they need.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use sfu_protocol::{ConnectionMode, EndReason, Event, Join, LeaveReason, ParticipantSid, RoomSid, Target};

use super::participant::Participant;
use super::{RoomMessage, Shard, home_of};
use crate::handles::{ParticipantIndex, PeerIndex, RoomIndex};
use crate::peer::Peer;
use crate::peer::setup::{self, Parts};
use crate::room::Room;
use crate::sdp::Role;
use crate::stats::Drop;

/// Why a participant is ended, for the others and for its own session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    /// Reason reported to the other participants.
    leave: LeaveReason,
    /// Reason reported to the participant's own session; `None` if the session asked for the end itself.
    told: Option<EndReason>,
}

impl Ending {
    /// The participant's session asked for the end.
    pub(super) fn left(leave: LeaveReason) -> Self {
        Self { leave, told: None }
    }

    /// The media plane gave up on the participant.
    pub(super) fn failure(reason: EndReason) -> Self {
        Self { leave: LeaveReason::MediaFailure, told: Some(reason) }
    }

    /// The client closed its transport.
    pub(super) fn closed() -> Self {
        Self { leave: LeaveReason::ClientInitiated, told: Some(EndReason::TransportClosed) }
    }

    /// A newer session of the same identity has entered the room.
    pub(super) fn superseded() -> Self {
        Self { leave: LeaveReason::DuplicateIdentity, told: Some(EndReason::DuplicateIdentity) }
    }
}

impl Shard {
    pub(super) fn join(&mut self, now: Instant, join: Join) {
        if self.participant_by_sid.contains_key(&join.participant) {
            self.stats.drop(Drop::StaleMessage);
            return;
        }
        if self.peers.len() + 2 > self.config.limits.peers {
            self.events
                .push_back(Event::Ended { participant: join.participant, reason: EndReason::NodeFull });
            return;
        }
        let Some((publisher, subscriber)) = self.make_peers(now, &join) else {
            // This fails only if the system gives no random numbers; ICE passwords need them.
            self.events
                .push_back(Event::Ended { participant: join.participant, reason: EndReason::NodeFull });
            return;
        };
        self.stats.joins += 1;
        let room = self.room(&join.room);
        let sid = join.participant.clone();
        let enter = RoomMessage::Enter {
            from: self.config.id,
            participant: sid.clone(),
            identity: join.identity.clone(),
            hidden: join.hidden,
            info: join.info.clone(),
        };
        let index = ParticipantIndex(self.participants.vacant_key());
        let publisher = self.add_peer(index, Target::Publisher, room, publisher);
        let subscriber = subscriber.map(|parts| self.add_peer(index, Target::Subscriber, room, parts));
        let entry = Participant::new(join, room, publisher, subscriber, now);
        let look_at = entry.watch.next(None, Duration::ZERO, now);
        self.participants.insert(entry);
        self.schedule_participant(index, look_at);
        self.participant_by_sid.insert(sid, index);
        if let Some(room) = self.rooms.get_mut(room.0) {
            room.members.push(index);
        }
        self.send_home(room, enter);
    }

    fn make_peers(&mut self, now: Instant, join: &Join) -> Option<(Parts, Option<Parts>)> {
        let mut make = |role| {
            let limits = &self.config.limits;
            let parts = setup::parts(role, join.client, &self.certificate, limits, &mut self.rng, now);
            let mut parts = parts.ok()?;
            parts.egress.never_pause = join.never_pause;
            Some(parts)
        };
        match join.mode {
            ConnectionMode::Single => Some((make(Role::Single)?, None)),
            ConnectionMode::Dual { .. } => {
                let publisher = make(Role::Publisher)?;
                Some((publisher, Some(make(Role::Subscriber)?)))
            }
        }
    }

    fn add_peer(
        &mut self,
        participant: ParticipantIndex,
        target: Target,
        room: RoomIndex,
        parts: Parts,
    ) -> PeerIndex {
        let ufrag = parts.ufrag.clone();
        let index = PeerIndex(self.peers.insert(Peer::new(participant, target, room, parts)));
        self.demux.add_ufrag(ufrag, index);
        self.touch(index);
        index
    }

    /// The replica of a room for a new member. It is created if necessary, and attached to the room's home shard if it
    /// has no members yet.
    pub(super) fn room(&mut self, sid: &RoomSid) -> RoomIndex {
        let index = self.known_or_new_room(sid);
        let unattached = self.rooms.get(index.0).is_some_and(|room| room.members.is_empty());
        if unattached {
            self.send_home(index, RoomMessage::Attach { from: self.config.id });
        }
        index
    }

    /// The replica of a room, created if necessary. It has the roster if this is the room's home shard.
    pub(super) fn known_or_new_room(&mut self, sid: &RoomSid) -> RoomIndex {
        if let Some(index) = self.known_room(sid) {
            return index;
        }
        let home = home_of(sid, self.config.shards) == self.config.id;
        let room = Room::new(sid.clone(), home, self.config.limits.loudest_tracks);
        let index = RoomIndex(self.rooms.insert(room));
        self.room_by_sid.insert(sid.clone(), index);
        index
    }

    /// Ends a participant: removes its transports, tracks, subscriptions and roster entry.
    pub(super) fn end(&mut self, now: Instant, index: ParticipantIndex, ending: Ending) {
        let Some(participant) = self.participants.get(index.0) else { return };
        let sid = participant.sid.clone();
        let room = participant.room;
        let peers: Vec<PeerIndex> = participant.peers().collect();
        // If the participant has panicked, its state may be inconsistent, and this may panic too.
        let forget = || peers.iter().for_each(|peer| self.forget_media(now, *peer));
        if catch_unwind(AssertUnwindSafe(forget)).is_err() {
            self.stats.panics += 1;
            self.cut_off(room, &peers);
        }
        for peer in peers {
            self.demux.remove_addresses(peer);
            if let Some(peer) = self.peers.try_remove(peer.0) {
                peer.ufrags.iter().for_each(|ufrag| self.demux.remove_ufrag(ufrag));
            }
        }
        if let Some(entry) = self.participants.try_remove(index.0) {
            self.stats.drop_many(Drop::NoChannel, entry.backlog.len() as u64);
            self.forget_data_of(index, &sid, &entry.sending, entry.holds);
        }
        self.participant_by_sid.remove(&sid);
        self.send_home(room, RoomMessage::Exit { participant: sid.clone(), reason: ending.leave });
        if let Some(entry) = self.rooms.get_mut(room.0) {
            entry.members.retain(|member| *member != index);
            if entry.members.is_empty() {
                self.send_home(room, RoomMessage::Detach { from: self.config.id });
                self.drop_idle_room(room);
            }
        }
        if let Some(reason) = ending.told {
            let counted =
                matches!(reason, EndReason::IceTimeout | EndReason::DtlsFailed | EndReason::ConsentExpired);
            self.stats.transport_failures += u64::from(counted);
            self.events.push_back(Event::Ended { participant: sid, reason });
        }
    }

    /// Removes a peer's tracks and subscriptions from the room.
    fn forget_media(&mut self, now: Instant, index: PeerIndex) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        #[cfg(feature = "fault-injection")]
        peer.fail_at(crate::peer::Fault::End);
        let slots: Vec<usize> = peer.egress.iter().map(|(slot, _)| slot).collect();
        let tracks: Vec<_> = peer.ingress.tracks().iter().map(|track| track.sid.clone()).collect();
        for slot in slots {
            self.detach(index, slot);
        }
        for track in tracks {
            self.withdraw(now, index, &track);
        }
    }

    /// Drops a room's replica if it is idle: no members on this shard and, on the home shard, an idle roster.
    pub(super) fn drop_idle_room(&mut self, index: RoomIndex) {
        if !self.rooms.get(index.0).is_some_and(Room::is_idle) {
            return;
        }
        if let Some(room) = self.rooms.try_remove(index.0) {
            self.room_by_sid.remove(&room.sid);
            for (_, track) in &room.tracks {
                self.tracks.remove(&track.facts.id);
            }
        }
    }

    /// Ends a participant because a newer session of the same identity has entered the room.
    pub(super) fn supersede(&mut self, sid: &ParticipantSid) {
        if let Some(index) = self.participant(sid) {
            self.doomed.push((index, Ending::superseded()));
        }
    }
}
