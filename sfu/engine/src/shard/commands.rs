//! Dispatches the commands of signaling sessions.

use std::time::Instant;

use sfu_protocol::{Command, ParticipantSid, Target};

use super::membership::Ending;
use super::participant::Wish;
use super::{RoomMessage, Shard};
use crate::handles::ParticipantIndex;
use crate::stats::Drop;

impl Shard {
    pub(super) fn handle_command(&mut self, now: Instant, command: Command) {
        if let Command::Join(join) = command {
            self.join(now, *join);
            return;
        }
        let Some(participant) = self.participant(command.participant()) else {
            self.stats.drop(Drop::StaleMessage);
            return;
        };
        self.contained(participant, |shard| shard.carry_out(now, participant, command));
    }

    fn carry_out(&mut self, now: Instant, participant: ParticipantIndex, command: Command) {
        match command {
            Command::Join(_) => {}
            Command::Leave { reason, .. } => self.doomed.push((participant, Ending::left(reason))),
            Command::Announce { participant: sid, info } => {
                let Some(entry) = self.participants.get(participant.0) else { return };
                self.send_home(entry.room, RoomMessage::Update { participant: sid, info });
            }
            Command::Offer { id, sdp, .. } => self.on_offer(now, participant, id, &sdp),
            Command::Answer { id, sdp, .. } => self.on_answer(now, participant, id, &sdp),
            Command::AddTrack { track, .. } => self.on_add_track(now, participant, &track),
            Command::RemoveTrack { track, .. } => self.unpublish(now, participant, &track),
            Command::SetMuted { track, muted, .. } => self.set_muted(now, participant, &track, muted),
            Command::Subscribe { track, publisher, kind, demand, .. } => {
                self.subscribe(now, participant, Wish::new(track, publisher, kind, demand));
            }
            Command::Unsubscribe { track, .. } => self.unsubscribe(participant, &track),
            Command::SetDemand { track, demand, .. } => self.set_demand(now, participant, &track, demand),
            Command::SetPermissions { permissions, .. } => {
                if let Some(entry) = self.participants.get_mut(participant.0) {
                    entry.permissions = permissions;
                }
            }
        }
        if let Some(entry) = self.participants.get(participant.0) {
            let peers = [entry.peer(Target::Publisher), entry.peer(Target::Subscriber)];
            peers.into_iter().flatten().for_each(|peer| self.touch(peer));
        }
    }

    /// The index of a participant, if it is on this shard.
    pub(super) fn participant(&self, sid: &ParticipantSid) -> Option<ParticipantIndex> {
        self.participant_by_sid.get(sid).copied()
    }
}
