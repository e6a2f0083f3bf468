//! Flow control of reliable user data, from receivers on any shard back to the sender.
//!
//! Each shard watches its own receivers of a sender's messages, and reports to the sender's shard when their
//! [`BacklogLevel`] changes ([`Flows`](super::holds::Flows)). The sender's association is not read while any receiver
//! is full, or while all are behind. Between two shards, senders wait once more than a fixed credit of data is under
//! way. The credit is given back as messages are taken. This bounds the mailboxes.

use std::time::{Duration, Instant};

use sfu_protocol::{DataKind, EndReason, ParticipantSid};
use smallvec::SmallVec;

use super::backlog::BacklogLevel;
use super::holds::{FlowId, Holds, LevelNews};
use super::membership::Ending;
use super::{FabricMessage, Shard, ShardId};
use crate::handles::ParticipantIndex;
use crate::room::data::UserData;
use crate::stats::Drop;

/// State of a local participant as a sender of reliable data.
#[derive(Debug, Default)]
pub struct Sending {
    /// Highest sequence number among the sender's messages; 0 before the first.
    pub last_sequence: u32,
    /// Level of the receivers on each shard. A shard that is not listed has reported none.
    levels: SmallVec<[(ShardId, BacklogLevel); 2]>,
    /// Whether the sender waits until another shard gives credit back.
    credit: bool,
    held: bool,
}

impl Sending {
    fn set(&mut self, shard: ShardId, level: BacklogLevel) {
        match self.levels.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, known)) => *known = level,
            None => self.levels.push((shard, level)),
        }
    }

    fn must_wait(&self) -> bool {
        let all = self.levels.iter().fold(BacklogLevel::Nobody, |all, (_, level)| all.with(*level));
        self.credit || all.holds_up()
    }

    /// Shards that have state about this sender.
    fn shards(&self) -> impl Iterator<Item = ShardId> {
        self.levels.iter().map(|(shard, _)| *shard)
    }
}

/// Reliable user data under way between this shard and each other shard, in bytes, indexed by shard.
#[derive(Debug, Default)]
pub struct Credit {
    /// Bytes sent to each shard and not yet reported as taken.
    sent: Vec<usize>,
    /// Bytes taken from each shard and not yet reported to it.
    taken: Vec<usize>,
    /// Senders on this shard that wait for credit.
    waiting: Vec<ParticipantIndex>,
}

impl Credit {
    pub fn new(shards: u16) -> Self {
        let none = vec![0; usize::from(shards)];
        Self { sent: none.clone(), taken: none, waiting: Vec::new() }
    }

    fn is_spent(&self, shard: u16) -> bool {
        self.sent.get(usize::from(shard)).is_some_and(|sent| *sent > CREDIT)
    }
}

impl Shard {
    /// Counts a message that was sent to the other shards of its room, and makes its sender wait if the credit of one
    /// of them is spent.
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

    /// Counts a message taken from another shard, and gives credit back after every [`CREDIT_STEP`] bytes.
    pub(super) fn data_taken(&mut self, data: &UserData) {
        let Some(taken) = self.credit.taken.get_mut(usize::from(data.origin)) else { return };
        *taken = taken.saturating_add(data.cost());
        if *taken >= CREDIT_STEP {
            let bytes = std::mem::take(taken);
            let from = self.config.id;
            self.send_fabric(ShardId(data.origin), FabricMessage::DataTaken { from, bytes });
        }
    }

    /// Handles credit given back by another shard, and releases the senders that need not wait any longer.
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

    /// Records the levels of the receivers to which a message has just been delivered.
    pub(super) fn note_flow(&mut self, data: &UserData, receivers: &[(ParticipantIndex, BacklogLevel)]) {
        let has_receivers = receivers.iter().any(|(_, level)| *level != BacklogLevel::Nobody);
        let Some(flow) = self.flows.on_message(&data.sender, ShardId(data.origin), has_receivers) else {
            return;
        };
        for (receiver, level) in receivers {
            if let Some(entry) = self.participants.get_mut(receiver.0) {
                self.flows.note(flow, &mut entry.holds, *level);
            }
        }
        self.tell_level(flow);
    }

    /// Updates the level of a receiver. If it has improved, reports this to the senders that it held up.
    pub(super) fn update_level(
        &mut self,
        now: Instant,
        receiver: ParticipantIndex,
        has_channel: bool,
    ) -> BacklogLevel {
        let Some(entry) = self.participants.get_mut(receiver.0) else { return BacklogLevel::Nobody };
        let before = entry.backlog.level();
        let level = entry.backlog.update_level(now, has_channel, &self.config.limits);
        if level < before {
            for flow in self.flows.ease(&mut entry.holds, level) {
                self.tell_level(flow);
            }
        }
        level
    }

    fn tell_level(&mut self, flow: FlowId) {
        let Some(LevelNews { sender, origin, level }) = self.flows.news(flow) else { return };
        let from = self.config.id;
        if origin == from {
            self.on_level(&sender, from, level);
        } else {
            self.send_fabric(origin, FabricMessage::DataLevel { sender, from, level });
        }
    }

    /// Handles a changed level of the receivers on a shard, for a sender on this shard.
    pub(super) fn on_level(&mut self, sender: &ParticipantSid, from: ShardId, level: BacklogLevel) {
        match self.participant(sender) {
            Some(index) => {
                if let Some(entry) = self.participants.get_mut(index.0) {
                    entry.sending.set(from, level);
                }
                self.apply_hold(index);
            }
            // The sender has left in the meantime.
            None if from != self.config.id => {
                self.send_fabric(from, FabricMessage::DataEnded { sender: sender.clone() });
            }
            None => self.flows.forget(sender),
        }
    }

    /// Stops or resumes reading a sender's associations, if that has changed.
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

    /// Removes the data state of a participant that has left, as a receiver and as a sender.
    pub(super) fn forget_data_of(
        &mut self,
        index: ParticipantIndex,
        sid: &ParticipantSid,
        sending: &Sending,
        mut holds: Holds,
    ) {
        self.laggards.retain(|known| *known != index);
        self.credit.waiting.retain(|known| *known != index);
        for flow in self.flows.ease(&mut holds, BacklogLevel::Nobody) {
            self.tell_level(flow);
        }
        self.flows.forget(sid);
        let others: Vec<ShardId> = sending.shards().filter(|shard| *shard != self.config.id).collect();
        for shard in others {
            self.send_fabric(shard, FabricMessage::DataEnded { sender: sid.clone() });
        }
    }

    /// Adds a receiver with a backlog to those that are served regularly.
    pub(super) fn note_laggard(&mut self, now: Instant, receiver: ParticipantIndex) {
        let Some(entry) = self.participants.get_mut(receiver.0) else { return };
        if !std::mem::replace(&mut entry.lags, true) {
            self.laggards.push(receiver);
        }
        self.laggards_due.get_or_insert(now + LOOK_AFTER);
    }

    /// Serves the receivers with a backlog, if that is due.
    pub(super) fn serve_laggards(&mut self, now: Instant) {
        if self.laggards_due.is_none_or(|due| due > now) {
            return;
        }
        self.laggards_due = None;
        for receiver in std::mem::take(&mut self.laggards) {
            if let Some(entry) = self.participants.get_mut(receiver.0) {
                entry.lags = false;
                self.contained(receiver, |shard| shard.serve_laggard(now, receiver));
            }
        }
    }

    fn serve_laggard(&mut self, now: Instant, receiver: ParticipantIndex) {
        self.send_waiting(now, receiver);
        self.end_if_overdue(now, receiver);
        if self.participants.get(receiver.0).is_some_and(|entry| !entry.backlog.is_empty()) {
            self.note_laggard(now, receiver);
        }
    }

    /// Ends a receiver that is too far behind or has been behind for too long.
    pub(super) fn end_if_overdue(&mut self, now: Instant, receiver: ParticipantIndex) {
        let channel = self.data_channel(receiver, DataKind::Reliable);
        let buffered =
            channel.and_then(|(peer, _)| Some(self.peers.get_mut(peer.0)?.transport.buffered_data()));
        let Some(entry) = self.participants.get_mut(receiver.0) else { return };
        if entry.backlog.is_overdue(now, buffered, &self.config.limits) {
            self.give_up(now, receiver, EndReason::DataBacklog);
        }
    }

    /// Ends a receiver that cannot get further reliable messages. It is notified and starts a new session; a gap in its
    /// messages it would not notice.
    pub(super) fn give_up(&mut self, now: Instant, receiver: ParticipantIndex, reason: EndReason) {
        let Some(entry) = self.participants.get_mut(receiver.0) else { return };
        let lost = entry.backlog.give_up();
        self.stats.drop_many(Drop::DataBacklog, lost as u64);
        self.stats.data_receivers_ended += 1;
        self.doomed.push((receiver, Ending::failure(reason)));
        self.update_level(now, receiver, true);
    }
}

/// Reliable user data under way from one shard to another, in bytes, above which senders wait.
const CREDIT: usize = 1024 * 1024;
/// Bytes taken from a shard before credit is given back to it.
const CREDIT_STEP: usize = 64 * 1024;
/// Interval at which receivers with a backlog are served.
const LOOK_AFTER: Duration = Duration::from_millis(250);
