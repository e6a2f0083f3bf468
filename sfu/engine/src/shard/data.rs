//! User data between the participants of a room.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sfu_protocol::{DataKind, EndReason};
use smallvec::SmallVec;

use super::backlog::BacklogLevel;
use super::{FabricMessage, Shard, ShardId};
use crate::handles::{ParticipantIndex, PeerIndex};
use crate::room::data::{Sender, UserData, stamp};
use crate::stats::Drop;
use crate::transport::sctp::{ChannelId, DataError};

/// Channels that the server opens on a subscriber connection: label, ordered, maximum retransmissions.
const SERVER_CHANNELS: [(&str, bool, Option<u16>); 3] =
    [("_reliable", true, None), ("_lossy", false, Some(0)), ("_data_track", false, Some(0))];

/// Labels of the channels that carry user packets, with the kind of data on each.
pub(super) const CHANNELS: [(&str, DataKind); 2] =
    [("_reliable", DataKind::Reliable), ("_lossy", DataKind::Lossy)];

impl Shard {
    /// Opens the server's channels on a subscriber connection that has just connected.
    pub(super) fn open_channels(&mut self, now: Instant, index: PeerIndex) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        for (label, ordered, max_retransmits) in SERVER_CHANNELS {
            if peer.transport.open_channel(now, label, ordered, max_retransmits).is_err() {
                self.stats.drop(Drop::BadData);
            }
        }
    }

    /// Handles a message that arrived on a data channel.
    pub(super) fn on_user_data(&mut self, now: Instant, index: PeerIndex, label: &str, payload: &Bytes) {
        let Some(participant) = self.peers.get(index.0).map(|peer| peer.participant) else { return };
        let Some(entry) = self.participants.get(participant.0) else { return };
        let kind = CHANNELS.iter().find(|(name, _)| *name == label).map(|(_, kind)| *kind);
        let (Some(kind), true) = (kind, entry.permissions.publish_data) else {
            self.stats.drop(Drop::BadData);
            return;
        };
        let sender = Sender { participant: &entry.sid, identity: &entry.identity, hidden: entry.hidden };
        let longest = self.config.limits.stamped_message_bytes();
        let stamped = stamp(payload, sender, kind).ok();
        let Some(stamped) = stamped.filter(|stamped| stamped.packet.len() <= longest) else {
            self.stats.drop(Drop::BadData);
            return;
        };
        if kind == DataKind::Reliable && !self.is_next(participant, stamped.sequence) {
            return self.stats.drop(Drop::Replayed);
        }
        let Some(entry) = self.participants.get(participant.0) else { return };
        let Some(room) = self.rooms.get(entry.room.0) else { return };
        let data = Arc::new(UserData {
            room: room.sid.clone(),
            origin: self.config.id.0,
            sender: entry.sid.clone(),
            kind,
            destinations: stamped.destinations,
            packet: stamped.packet,
        });
        let shards = room.other_shards.clone();
        for shard in &shards {
            self.send_fabric(ShardId(*shard), FabricMessage::Data(Arc::clone(&data)));
        }
        if kind == DataKind::Reliable {
            self.spread_data(participant, &shards, &data);
        }
        self.deliver_data(now, &data);
    }

    /// Whether a reliable message is new. A client that resumes sends some messages again. Messages without a sequence
    /// number (0) always count as new.
    fn is_next(&mut self, sender: ParticipantIndex, sequence: u32) -> bool {
        let Some(entry) = self.participants.get_mut(sender.0) else { return false };
        let next = sequence == 0 || sequence > entry.sending.last_sequence;
        entry.sending.last_sequence = entry.sending.last_sequence.max(sequence);
        next
    }

    /// Handles a user message from another shard.
    pub(super) fn on_fabric_data(&mut self, now: Instant, data: &UserData) {
        if data.kind == DataKind::Reliable {
            self.data_taken(data);
        }
        self.deliver_data(now, data);
    }

    /// Delivers a message to its recipients on this shard.
    fn deliver_data(&mut self, now: Instant, data: &UserData) {
        let Some(room) = self.room_by_sid.get(&data.room).and_then(|room| self.rooms.get(room.0)) else {
            return self.stats.drop(Drop::StaleMessage);
        };
        let mut receivers: SmallVec<[(ParticipantIndex, BacklogLevel); 16]> = SmallVec::new();
        for member in &room.members {
            let Some(entry) = self.participants.get(member.0) else { continue };
            if entry.sid != data.sender && data.destinations.include(&entry.sid, &entry.identity) {
                receivers.push((*member, BacklogLevel::Nobody));
            }
        }
        for (receiver, level) in &mut receivers {
            let sent = self.contained(*receiver, |shard| match data.kind {
                DataKind::Lossy => {
                    shard.send_lossy(now, *receiver, &data.packet);
                    BacklogLevel::Nobody
                }
                DataKind::Reliable => shard.send_reliable(now, *receiver, &data.packet),
            });
            *level = sent.unwrap_or_default();
        }
        if data.kind == DataKind::Reliable {
            self.note_flow(data, &receivers);
        }
    }

    /// The open channel for user data to a participant. In dual mode the subscriber connection comes first; a client
    /// whose publisher connection is the primary one has its channels there instead.
    pub(super) fn data_channel(
        &self,
        member: ParticipantIndex,
        kind: DataKind,
    ) -> Option<(PeerIndex, ChannelId)> {
        let entry = self.participants.get(member.0)?;
        let peers = entry.subscriber.into_iter().chain([entry.publisher]);
        let mut open =
            peers.filter_map(|index| Some((index, self.peers.get(index.0)?.channel(label_of(kind))?)));
        open.next()
    }

    fn send_lossy(&mut self, now: Instant, member: ParticipantIndex, packet: &Bytes) {
        let Some((index, channel)) = self.data_channel(member, DataKind::Lossy) else {
            return self.stats.drop(Drop::NoChannel);
        };
        if self.write_data(now, index, channel, packet) == Written::Later {
            self.stats.drop(Drop::DataBacklog);
        }
    }

    /// Sends a reliable message, or queues it. Returns the receiver's level afterwards.
    fn send_reliable(&mut self, now: Instant, member: ParticipantIndex, packet: &Bytes) -> BacklogLevel {
        let channel = self.data_channel(member, DataKind::Reliable);
        let Some(entry) = self.participants.get(member.0) else { return BacklogLevel::Nobody };
        if entry.backlog.is_given_up() {
            self.stats.drop(Drop::DataBacklog);
            return BacklogLevel::Nobody;
        }
        let written = match channel.filter(|_| entry.backlog.is_empty()) {
            Some((index, channel)) => self.write_data(now, index, channel, packet),
            None => Written::Later,
        };
        match written {
            Written::Done => {}
            Written::Later => self.put_off(now, member, packet.clone(), channel.is_some()),
            Written::Never => self.give_up(now, member, EndReason::DataTooLong),
        }
        self.update_level(now, member, channel.is_some())
    }

    /// Queues a reliable message in its receiver's backlog.
    fn put_off(&mut self, now: Instant, member: ParticipantIndex, packet: Bytes, has_channel: bool) {
        let limits = &self.config.limits;
        let Some(entry) = self.participants.get_mut(member.0) else { return };
        entry.backlog.push(now, packet, limits);
        let is_full = entry.backlog.bytes() > limits.data_backlog_bytes;
        if !has_channel {
            let late = entry.backlog.forget(now, limits);
            self.stats.drop_many(Drop::NoChannel, late as u64);
        } else if is_full {
            self.end_if_overdue(now, member);
        }
        self.note_laggard(now, member);
    }

    /// Sends a participant's backlog, as far as its association has space.
    pub(super) fn send_waiting(&mut self, now: Instant, member: ParticipantIndex) {
        if self.participants.get(member.0).is_none_or(|entry| entry.backlog.is_empty()) {
            return;
        }
        let channel = self.data_channel(member, DataKind::Reliable);
        while let Some(entry) = self.participants.get_mut(member.0) {
            let Some((index, channel)) = channel else {
                let late = entry.backlog.forget(now, &self.config.limits);
                self.stats.drop_many(Drop::NoChannel, late as u64);
                break;
            };
            let Some(packet) = entry.backlog.front().cloned() else { break };
            match self.write_data(now, index, channel, &packet) {
                Written::Done => {}
                Written::Later => break,
                Written::Never => self.give_up(now, member, EndReason::DataTooLong),
            }
            if let Some(entry) = self.participants.get_mut(member.0) {
                entry.backlog.taken(now, &self.config.limits);
            }
        }
        self.update_level(now, member, channel.is_some());
    }

    /// Sends the backlog of a peer's participant, after the peer's association made progress or a channel opened.
    pub(super) fn send_waiting_of(&mut self, now: Instant, index: PeerIndex) {
        if let Some(member) = self.peers.get(index.0).map(|peer| peer.participant) {
            self.send_waiting(now, member);
        }
    }

    fn write_data(&mut self, now: Instant, index: PeerIndex, channel: ChannelId, packet: &Bytes) -> Written {
        let Some(peer) = self.peers.get_mut(index.0) else { return Written::Later };
        let sent = peer.transport.send_data(now, channel, packet, true);
        self.touch(index);
        match sent {
            Ok(()) => {
                self.stats.data_messages += 1;
                Written::Done
            }
            Err(DataError::Backlog | DataError::NotOpen) => Written::Later,
            Err(DataError::TooLong(_) | DataError::TooManyChannels | DataError::Label(_)) => {
                self.stats.drop(Drop::BadData);
                Written::Never
            }
        }
    }
}

/// Result of writing a message to an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// The association took the message.
    Done,
    /// The association has no space now, or the channel is not open.
    Later,
    /// The message cannot be sent: it is longer than the receiver accepts. The drop has been counted.
    Never,
}

fn label_of(kind: DataKind) -> &'static str {
    match kind {
        DataKind::Reliable => CHANNELS[0].0,
        DataKind::Lossy => CHANNELS[1].0,
    }
}
