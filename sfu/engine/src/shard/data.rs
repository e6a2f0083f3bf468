//! User data between the people of a room.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sfu_protocol::DataKind;

use super::{FabricMessage, Shard, ShardId};
use crate::handles::{ParticipantIndex, PeerIndex};
use crate::room::data::{Sender, UserData, stamp};
use crate::stats::Drop;
use crate::transport::sctp::ChannelId;

/// Channels that the server opens on a subscriber connection: label, ordered, retransmissions.
const SERVER_CHANNELS: [(&str, bool, Option<u16>); 3] =
    [("_reliable", true, None), ("_lossy", false, Some(0)), ("_data_track", false, Some(0))];

/// Labels of the channels that carry user packets, with what they are for.
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

    /// A message arrived on a data channel.
    pub(super) fn on_user_data(&mut self, now: Instant, index: PeerIndex, label: &str, payload: &Bytes) {
        let Some(participant) = self.peers.get(index.0).map(|peer| peer.participant) else { return };
        let Some(entry) = self.participants.get(participant.0) else { return };
        let kind = CHANNELS.iter().find(|(name, _)| *name == label).map(|(_, kind)| *kind);
        let (Some(kind), true) = (kind, entry.permissions.publish_data) else {
            self.stats.drop(Drop::BadData);
            return;
        };
        let sender = Sender { participant: &entry.sid, identity: &entry.identity, hidden: entry.hidden };
        let Ok(stamped) = stamp(payload, sender, kind) else {
            self.stats.drop(Drop::BadData);
            return;
        };
        let Some(room) = self.rooms.get(entry.room.0) else { return };
        let data = Arc::new(UserData {
            room: room.sid.clone(),
            sender: entry.sid.clone(),
            kind,
            destinations: stamped.destinations,
            packet: stamped.packet,
        });
        for shard in room.other_shards.clone() {
            self.send_fabric(ShardId(shard), FabricMessage::Data(Arc::clone(&data)));
        }
        self.deliver_data(now, &data);
    }

    /// Hands a message to those of its recipients who are here.
    pub(super) fn deliver_data(&mut self, now: Instant, data: &UserData) {
        let Some(room) = self.room_by_sid.get(&data.room).and_then(|room| self.rooms.get(room.0)) else {
            return self.stats.drop(Drop::StaleMessage);
        };
        let members = room.members.clone();
        for member in members {
            let Some(entry) = self.participants.get(member.0) else { continue };
            if entry.sid == data.sender || !data.destinations.include(&entry.sid, &entry.identity) {
                continue;
            }
            self.contained(member, |shard| shard.send_user_data(now, member, data));
        }
    }

    fn send_user_data(&mut self, now: Instant, member: ParticipantIndex, data: &UserData) {
        let Some(entry) = self.participants.get_mut(member.0) else { return };
        // In dual mode user data leaves by the subscriber connection; a client whose publisher connection
        // is the primary one has its channels there.
        let peers = entry.subscriber.into_iter().chain([entry.publisher]);
        let known = peers.filter_map(|index| Some((index, self.peers.get(index.0)?)));
        let mut open = known.filter_map(|(index, peer)| Some((index, peer.channel(label_of(data.kind))?)));
        match (open.next(), data.kind) {
            (Some((index, channel)), _) => self.write_data(now, index, channel, &data.packet),
            (None, DataKind::Reliable) => {
                let room = self.config.limits.data_buffered_bytes;
                let late = entry.held.forget_before(now);
                self.stats.drop_many(Drop::NoChannel, late as u64);
                if !entry.held.push(now, data.packet.clone(), room) {
                    self.stats.drop(Drop::DataBacklog);
                }
            }
            (None, DataKind::Lossy) => self.stats.drop(Drop::NoChannel),
        }
    }

    /// A channel of a peer has opened: what waited for it is sent.
    pub(super) fn send_held(&mut self, now: Instant, index: PeerIndex) {
        let Some(peer) = self.peers.get(index.0) else { return };
        let Some(channel) = peer.channel(label_of(DataKind::Reliable)) else { return };
        let Some(entry) = self.participants.get_mut(peer.participant.0) else { return };
        let late = entry.held.forget_before(now);
        self.stats.drop_many(Drop::NoChannel, late as u64);
        for packet in std::mem::take(&mut entry.held).messages {
            self.write_data(now, index, channel, &packet.1);
        }
    }

    fn write_data(&mut self, now: Instant, index: PeerIndex, channel: ChannelId, packet: &Bytes) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        match peer.transport.send_data(now, channel, packet, true) {
            Ok(()) => self.stats.data_messages += 1,
            Err(_) => self.stats.drop(Drop::DataBacklog),
        }
        self.touch(index);
    }
}

/// Reliable messages for somebody who has no channel for them yet, in order.
#[derive(Debug, Default)]
pub struct Held {
    messages: VecDeque<(Instant, Bytes)>,
    bytes: usize,
}

impl Held {
    /// Keeps a message, unless more would wait than there is room for.
    fn push(&mut self, now: Instant, packet: Bytes, room: usize) -> bool {
        let bytes = self.bytes.saturating_add(packet.len().saturating_add(MESSAGE));
        let fits = bytes <= room;
        if fits {
            self.bytes = bytes;
            self.messages.push_back((now, packet));
        }
        fits
    }

    /// Drops what came too long ago. Answers how many.
    fn forget_before(&mut self, now: Instant) -> usize {
        let mut late = 0;
        while self.messages.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > HELD) {
            let Some((_, packet)) = self.messages.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(packet.len().saturating_add(MESSAGE));
            late += 1;
        }
        late
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.messages.len()
    }
}

fn label_of(kind: DataKind) -> &'static str {
    match kind {
        DataKind::Reliable => CHANNELS[0].0,
        DataKind::Lossy => CHANNELS[1].0,
    }
}

/// What a message takes that is held, beside itself.
const MESSAGE: usize = 64;

/// How long a message is held: who joins has its channels sooner, and what is older belongs to what it missed.
const HELD: Duration = Duration::from_secs(10);
