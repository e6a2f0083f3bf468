//! Active speakers: each participant's shard reports voice levels to the room's home shard. The home shard decides who
//! speaks, and reports it to clients and to all shards with members.

use std::time::Instant;

use sfu_protocol::{Event, ParticipantSid, RoomSid, Speaker};

use super::{FabricMessage, RoomMessage, Shard, ShardId};
use crate::handles::{PeerIndex, RoomIndex};
use crate::ingress::voice::VoiceNews;
use crate::room::Track;

/// Why the list of speakers is sent to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SpeakersTold {
    /// The list has changed. An empty list is sent too.
    Changed,
    /// A participant has entered that does not know the list. An empty list is not sent.
    IfAny,
}

impl Shard {
    /// Reports the voice level of a peer's participant to the room's home shard.
    pub(super) fn tell_voice(&mut self, index: PeerIndex, news: VoiceNews) {
        let Some(peer) = self.peers.get(index.0) else { return };
        let Some(entry) = self.participants.get(peer.participant.0) else { return };
        let level = match news {
            VoiceNews::Speaks(level) => Some(level),
            VoiceNews::Silent => None,
        };
        let message = RoomMessage::Voice { participant: entry.sid.clone(), level };
        self.send_home(entry.room, message);
    }

    /// On the home shard: handles a participant's voice level.
    pub(super) fn on_voice(
        &mut self,
        now: Instant,
        sid: &RoomSid,
        participant: &ParticipantSid,
        level: Option<f32>,
    ) {
        let Some(index) = self.known_room(sid) else { return };
        let Some(room) = self.rooms.get_mut(index.0) else { return };
        let (Some(roster), Some(speakers)) = (&room.roster, &mut room.speakers) else { return };
        // The participant may have left while the message was under way.
        if !roster.shows(participant) {
            return;
        }
        speakers.on_level(participant, level, now);
        self.serve_room(now, index);
    }

    /// On the home shard: removes a participant that has left from the speakers.
    pub(super) fn forget_voice(&mut self, sid: &RoomSid, participant: &ParticipantSid) {
        let Some(index) = self.known_room(sid) else { return };
        let speakers = self.rooms.get_mut(index.0).and_then(|room| room.speakers.as_mut());
        if speakers.is_some_and(|speakers| speakers.remove(participant)) {
            self.tell_speakers(index, SpeakersTold::Changed);
        }
        self.tell_dominant(index);
    }

    /// Serves the rooms whose deadlines have come.
    pub(super) fn serve_rooms(&mut self, now: Instant) {
        while let Some((deadline, index)) = self.room_timers.expired(now) {
            let room = self.rooms.get_mut(index.0);
            if let Some(room) = room.filter(|room| room.scheduled == Some(deadline)) {
                room.scheduled = None;
                self.serve_room(now, index);
            }
        }
    }

    fn serve_room(&mut self, now: Instant, index: RoomIndex) {
        self.contained_room(index, |shard| shard.decide_speakers(now, index));
    }

    /// On the home shard: decides who speaks, and reports changes.
    fn decide_speakers(&mut self, now: Instant, index: RoomIndex) {
        #[cfg(feature = "fault-injection")]
        self.fail_at(crate::peer::Fault::Speakers);
        let speakers = self.rooms.get_mut(index.0).and_then(|room| room.speakers.as_mut());
        let Some(speakers) = speakers else { return };
        if speakers.poll(now).is_some() {
            self.tell_speakers(index, SpeakersTold::Changed);
        }
        self.tell_dominant(index);
        let Some(room) = self.rooms.get_mut(index.0) else { return };
        let Some(due) = room.speakers.as_ref().and_then(|speakers| speakers.poll_timeout()) else { return };
        if room.scheduled.is_none_or(|scheduled| due < scheduled) {
            room.scheduled = Some(due);
            self.room_timers.schedule(due, index);
        }
    }

    /// Sends the list of speakers to clients.
    pub(super) fn tell_speakers(&mut self, index: RoomIndex, told: SpeakersTold) {
        let Some(room) = self.rooms.get(index.0) else { return };
        let Some(speakers) = &room.speakers else { return };
        let listed = speakers.listed().into_iter();
        let speakers: Vec<Speaker> =
            listed.map(|speaker| Speaker { participant: speaker.who, level: speaker.level }).collect();
        if told == SpeakersTold::Changed || !speakers.is_empty() {
            self.events.push_back(Event::Speakers { room: room.sid.clone(), speakers });
        }
    }

    /// Reports the dominant speaker to all shards with members, if it changed.
    fn tell_dominant(&mut self, index: RoomIndex) {
        let Some(room) = self.rooms.get(index.0) else { return };
        let (Some(roster), Some(speakers)) = (&room.roster, &room.speakers) else { return };
        if room.dominant.as_ref() == speakers.dominant() {
            return;
        }
        let dominant = speakers.dominant().cloned();
        let (sid, shards) = (room.sid.clone(), roster.shards.clone());
        self.set_dominant(index, dominant.clone());
        let own = self.config.id.0;
        for shard in shards.into_iter().filter(|shard| *shard != own) {
            let message = RoomMessage::Dominant { participant: dominant.clone() };
            self.send_fabric(ShardId(shard), FabricMessage::Room { room: sid.clone(), message });
        }
    }

    /// Sets the dominant speaker. The next allocations, which run twice a second while bandwidth is measured, give this
    /// speaker's video bandwidth first and without upgrade delay. Reallocating at once for everybody in a large room
    /// would delay its media.
    pub(super) fn set_dominant(&mut self, index: RoomIndex, dominant: Option<ParticipantSid>) {
        let Some(room) = self.rooms.get_mut(index.0) else { return };
        room.dominant = dominant;
        let speaks = |track: &&Track| room.dominant.as_ref() == Some(&track.facts.publisher);
        let tracks = room.tracks.iter().map(|(_, track)| track).filter(speaks);
        for subscriber in tracks.flat_map(|track| &track.subscribers) {
            let peer = self.peers.get_mut(subscriber.peer.0);
            if let Some(subscription) = peer.and_then(|peer| peer.egress.get_mut(subscriber.slot)) {
                subscription.standing.on_demand_changed();
            }
        }
        let Some(room) = self.rooms.get(index.0) else { return };
        let (Some(dominant), members) = (room.dominant.clone(), room.members.clone()) else { return };
        for member in members {
            self.contained(member, |shard| shard.seat_speaker(member, &dominant));
        }
    }
}
