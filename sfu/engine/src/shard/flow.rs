//! Reliable user data from senders to receivers on any shard, and back the word that a sender has to wait.
//!
//! Each shard looks at its own receivers of what a sender sent last, and tells the sender's shard when their
//! [`Standing`] changes. The sender's association is not read while somebody is full, or while all are behind. Between
//! shards no more is under way than a credit, given back as messages are taken; so mailboxes are bounded.

use std::time::{Duration, Instant};

use sfu_protocol::{EndReason, ParticipantSid};
use smallvec::SmallVec;

use super::backlog::Standing;
use super::membership::Ending;
use super::{FabricMessage, Shard, ShardId};
use crate::handles::ParticipantIndex;
use crate::room::data::UserData;
use crate::stats::Drop;

/// What is known of a local participant as a sender of reliable data.
#[derive(Debug, Default)]
pub struct Sending {
    /// The number of its last message.
    pub last_sequence: u32,
    /// How the receivers on each shard keep up; a shard that is not named has none.
    standings: SmallVec<[(ShardId, Standing); 2]>,
    /// It waits until another shard has taken what is under way.
    credit: bool,
    held: bool,
}

impl Sending {
    fn set(&mut self, shard: ShardId, standing: Standing) {
        match self.standings.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, known)) => *known = standing,
            None => self.standings.push((shard, standing)),
        }
    }

    fn must_wait(&self) -> bool {
        let all = self.standings.iter().fold(Standing::Nobody, |all, (_, standing)| all.with(*standing));
        self.credit || matches!(all, Standing::Full | Standing::Behind)
    }

    /// Other shards that keep something of it.
    fn shards(&self) -> impl Iterator<Item = ShardId> {
        self.standings.iter().map(|(shard, _)| *shard)
    }
}

/// What a shard knows of a sender, here or elsewhere, to receivers of its own.
#[derive(Debug)]
pub struct Flow {
    origin: ShardId,
    /// What the sender's shard was told.
    told: Standing,
    /// Receivers of its last message; only while the sender may have to wait for them.
    receivers: Vec<ParticipantIndex>,
}

/// What is under way between this shard and each other, in bytes.
#[derive(Debug, Default)]
pub struct Credit {
    /// Sent, and not known to be taken.
    sent: Vec<usize>,
    /// Taken, and not yet told.
    taken: Vec<usize>,
    /// Senders here that wait.
    waiting: Vec<ParticipantIndex>,
}

impl Credit {
    /// Nothing is under way.
    pub fn new(shards: u16) -> Self {
        let none = vec![0; usize::from(shards)];
        Self { sent: none.clone(), taken: none, waiting: Vec::new() }
    }

    fn is_spent(&self, shard: u16) -> bool {
        self.sent.get(usize::from(shard)).is_some_and(|sent| *sent > CREDIT)
    }
}

impl Shard {
    /// Sends a message to the shards of its room, and makes its sender wait if one of them has enough under way.
    pub(super) fn spread_data(&mut self, sender: ParticipantIndex, shards: &[u16], data: &UserData) {
        for shard in shards {
            if let Some(sent) = self.credit.sent.get_mut(usize::from(*shard)) {
                *sent = sent.saturating_add(data.cost());
            }
        }
        if shards.iter().any(|shard| self.credit.is_spent(*shard))
            && let Some(entry) = self.participants.get_mut(sender.0)
            && !std::mem::replace(&mut entry.sending.credit, true)
        {
            self.credit.waiting.push(sender);
            self.apply_hold(sender);
        }
    }

    /// A message of another shard was taken.
    pub(super) fn data_taken(&mut self, data: &UserData) {
        let Some(taken) = self.credit.taken.get_mut(usize::from(data.origin)) else { return };
        *taken = taken.saturating_add(data.cost());
        if *taken >= CREDIT_STEP {
            let bytes = std::mem::take(taken);
            let from = self.config.id;
            self.send_fabric(ShardId(data.origin), FabricMessage::DataTaken { from, bytes });
        }
    }

    /// Another shard has taken so many bytes.
    pub(super) fn credit_back(&mut self, from: ShardId, bytes: usize) {
        if let Some(sent) = self.credit.sent.get_mut(usize::from(from.0)) {
            *sent = sent.saturating_sub(bytes);
        }
        for sender in std::mem::take(&mut self.credit.waiting) {
            let room = self.participants.get(sender.0).and_then(|entry| self.rooms.get(entry.room.0));
            let spent = |shards: &[u16]| shards.iter().any(|shard| self.credit.is_spent(*shard));
            match room {
                Some(room) if spent(&room.other_shards) => self.credit.waiting.push(sender),
                _ => {
                    if let Some(entry) = self.participants.get_mut(sender.0) {
                        entry.sending.credit = false;
                    }
                    self.apply_hold(sender);
                }
            }
        }
    }

    /// Looks at how the receivers here keep up with a message that has just been handed to them.
    pub(super) fn note_flow(&mut self, now: Instant, data: &UserData, receivers: &[ParticipantIndex]) {
        let standing = self.standing_of_all(now, receivers);
        let origin = ShardId(data.origin);
        if standing == Standing::Nobody && !self.flows.contains_key(&data.sender) {
            return;
        }
        let flow = self.flows.entry(data.sender.clone());
        let flow = flow.or_insert_with(|| Flow { origin, told: Standing::Nobody, receivers: Vec::new() });
        flow.receivers.clear();
        let changed = std::mem::replace(&mut flow.told, standing) != standing;
        let may_wait = matches!(standing, Standing::Behind | Standing::Full);
        if may_wait {
            flow.receivers.extend_from_slice(receivers);
        }
        if may_wait && !self.stuck.contains(&data.sender) {
            self.stuck.push(data.sender.clone());
        } else if !may_wait && changed {
            self.stuck.retain(|known| *known != data.sender);
        }
        if changed {
            self.tell_standing(origin, &data.sender, standing);
        }
    }

    fn standing_of_all(&mut self, now: Instant, receivers: &[ParticipantIndex]) -> Standing {
        receivers.iter().fold(Standing::Nobody, |all, receiver| all.with(self.standing_of(now, *receiver)))
    }

    /// How a receiver keeps up; what its senders are told from now on.
    pub(super) fn standing_of(&mut self, now: Instant, receiver: ParticipantIndex) -> Standing {
        let has_channel = self.data_channel(receiver, sfu_protocol::DataKind::Reliable).is_some();
        let Some(entry) = self.participants.get_mut(receiver.0) else { return Standing::Nobody };
        let standing = entry.backlog.standing(now, has_channel, &self.config.limits);
        entry.backlog.told = standing;
        standing
    }

    fn tell_standing(&mut self, origin: ShardId, sender: &ParticipantSid, standing: Standing) {
        let from = self.config.id;
        if origin == from {
            self.on_standing(sender, from, standing);
        } else {
            let sender = sender.clone();
            self.send_fabric(origin, FabricMessage::DataStanding { sender, from, standing });
        }
    }

    /// The receivers on a shard keep up otherwise than before with a sender that is here.
    pub(super) fn on_standing(&mut self, sender: &ParticipantSid, from: ShardId, standing: Standing) {
        match self.participant(sender) {
            Some(index) => {
                if let Some(entry) = self.participants.get_mut(index.0) {
                    entry.sending.set(from, standing);
                }
                self.apply_hold(index);
            }
            // It has gone meanwhile.
            None if from != self.config.id => {
                self.send_fabric(from, FabricMessage::DataEnded { sender: sender.clone() });
            }
            None => self.forget_flow(sender),
        }
    }

    /// Reads or ceases to read what a sender sends.
    fn apply_hold(&mut self, sender: ParticipantIndex) {
        let Some(entry) = self.participants.get_mut(sender.0) else { return };
        let held = entry.sending.must_wait();
        if std::mem::replace(&mut entry.sending.held, held) == held {
            return;
        }
        for index in entry.peers() {
            if let Some(peer) = self.peers.get_mut(index.0) {
                peer.transport.hold_data(held);
                if !held {
                    self.released.push_back(index);
                }
            }
        }
    }

    /// A receiver keeps up otherwise than before, or has gone: those who wait for it may go on.
    pub(super) fn recheck_senders(&mut self, now: Instant, receiver: ParticipantIndex) {
        for sender in std::mem::take(&mut self.stuck) {
            let Some(flow) = self.flows.get_mut(&sender) else { continue };
            if !flow.receivers.contains(&receiver) {
                self.stuck.push(sender);
                continue;
            }
            let receivers = std::mem::take(&mut flow.receivers);
            let standing = self.standing_of_all(now, &receivers);
            let Some(flow) = self.flows.get_mut(&sender) else { continue };
            let (origin, changed) = (flow.origin, std::mem::replace(&mut flow.told, standing) != standing);
            if matches!(standing, Standing::Behind | Standing::Full) {
                flow.receivers = receivers;
                self.stuck.push(sender.clone());
            }
            if changed {
                self.tell_standing(origin, &sender, standing);
            }
        }
    }

    /// A participant has gone, who may have been a receiver and a sender.
    pub(super) fn forget_data_of(
        &mut self,
        now: Instant,
        index: ParticipantIndex,
        sid: &ParticipantSid,
        sending: &Sending,
    ) {
        self.laggards.retain(|known| *known != index);
        self.credit.waiting.retain(|known| *known != index);
        self.recheck_senders(now, index);
        for flow in self.flows.values_mut() {
            flow.receivers.retain(|known| *known != index);
        }
        self.forget_flow(sid);
        let others: Vec<ShardId> = sending.shards().filter(|shard| *shard != self.config.id).collect();
        for shard in others {
            self.send_fabric(shard, FabricMessage::DataEnded { sender: sid.clone() });
        }
    }

    /// A sender has gone.
    pub(super) fn forget_flow(&mut self, sender: &ParticipantSid) {
        self.flows.remove(sender);
        self.stuck.retain(|known| known != sender);
    }

    /// Notes that messages wait for a receiver.
    pub(super) fn note_laggard(&mut self, now: Instant, receiver: ParticipantIndex) {
        if !self.laggards.contains(&receiver) {
            self.laggards.push(receiver);
        }
        self.laggards_due.get_or_insert(now + LOOK_AFTER);
    }

    /// Looks after those for whom messages wait.
    pub(super) fn serve_laggards(&mut self, now: Instant) {
        if self.laggards_due.is_none_or(|due| due > now) {
            return;
        }
        for receiver in std::mem::take(&mut self.laggards) {
            self.contained(receiver, |shard| shard.serve_laggard(now, receiver));
        }
        self.laggards_due = (!self.laggards.is_empty()).then(|| now + LOOK_AFTER);
    }

    fn serve_laggard(&mut self, now: Instant, receiver: ParticipantIndex) {
        self.send_waiting(now, receiver);
        self.end_if_hopeless(now, receiver);
        let Some(entry) = self.participants.get(receiver.0) else { return };
        if !entry.backlog.is_empty() {
            self.laggards.push(receiver);
        }
    }

    /// Ends a receiver that has been too far behind for too long. It is told, and begins anew; a hole it would not see.
    pub(super) fn end_if_hopeless(&mut self, now: Instant, receiver: ParticipantIndex) {
        let channel = self.data_channel(receiver, sfu_protocol::DataKind::Reliable);
        let buffered =
            channel.and_then(|(peer, _)| Some(self.peers.get_mut(peer.0)?.transport.buffered_data()));
        let Some(entry) = self.participants.get_mut(receiver.0) else { return };
        if entry.backlog.is_hopeless(now, buffered, &self.config.limits) {
            let lost = entry.backlog.clear();
            self.stats.drop_many(Drop::DataBacklog, lost as u64);
            self.stats.data_receivers_ended += 1;
            self.doomed.push((receiver, Ending::failure(EndReason::DataBacklog)));
        }
    }
}

/// User data under way from one shard to another, in bytes, above which senders wait.
const CREDIT: usize = 1024 * 1024;
/// How much is taken before that is told.
const CREDIT_STEP: usize = 64 * 1024;
/// Those for whom messages wait are looked after that often.
const LOOK_AFTER: Duration = Duration::from_millis(250);
