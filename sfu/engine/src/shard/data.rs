//! User data between the people of a room.

use std::sync::Arc;
use std::time::Instant;

use sfu_protocol::DataKind;

use super::{FabricMessage, Shard, ShardId};
use crate::handles::PeerIndex;
use crate::room::data::{Sender, UserData, stamp};
use crate::stats::Drop;

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
    pub(super) fn on_user_data(&mut self, now: Instant, index: PeerIndex, label: &str, payload: &[u8]) {
        let Some(participant) = self.peers.get(index.0).map(|peer| peer.participant) else { return };
        let Some(entry) = self.participants.get(participant.0) else { return };
        let kind = CHANNELS.iter().find(|(name, _)| *name == label).map(|(_, kind)| *kind);
        let (Some(kind), true) = (kind, entry.permissions.publish_data) else {
            self.stats.drop(Drop::BadData);
            return;
        };
        let sender = Sender { participant: &entry.sid, identity: &entry.identity, hidden: entry.hidden };
        let Ok((packet, destinations)) = stamp(payload, sender, kind) else {
            self.stats.drop(Drop::BadData);
            return;
        };
        let Some(room) = self.rooms.get(entry.room.0) else { return };
        let data = Arc::new(UserData {
            room: room.sid.clone(),
            sender: entry.sid.clone(),
            kind,
            destinations,
            packet,
        });
        for shard in room.other_shards.clone() {
            self.send_fabric(ShardId(shard), FabricMessage::Data(Arc::clone(&data)));
        }
        self.deliver_data(now, &data);
    }

    /// Hands a message to those of its recipients who are here.
    pub(super) fn deliver_data(&mut self, now: Instant, data: &UserData) {
        let Some(room) = self.room_by_sid.get(&data.room).and_then(|room| self.rooms.get(room.0)) else {
            return;
        };
        let members = room.members.clone();
        for member in members {
            let Some(entry) = self.participants.get(member.0) else { continue };
            if entry.sid == data.sender || !data.destinations.include(&entry.sid, &entry.identity) {
                continue;
            }
            // In dual mode user data leaves by the subscriber connection; a client whose publisher connection
            // is the primary one has its channels there.
            let peers: Vec<PeerIndex> = entry.subscriber.into_iter().chain([entry.publisher]).collect();
            self.contained(member, |shard| shard.send_user_data(now, &peers, data));
        }
    }

    fn send_user_data(&mut self, now: Instant, peers: &[PeerIndex], data: &UserData) {
        let label = match data.kind {
            DataKind::Reliable => CHANNELS[0].0,
            DataKind::Lossy => CHANNELS[1].0,
        };
        for index in peers {
            let Some(peer) = self.peers.get_mut(index.0) else { continue };
            let Some(channel) = peer.channel(label) else { continue };
            match peer.transport.send_data(now, channel, &data.packet, true) {
                Ok(()) => self.stats.data_messages += 1,
                Err(_) => self.stats.drop(Drop::DataBacklog),
            }
            self.touch(*index);
            return;
        }
    }
}
