//! Where packets of this shard's publishers, and those that came from other shards, join: to every subscriber
//! here, to every shard with subscribers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use sfu_protocol::{Layer, MediaKind};
use smallvec::SmallVec;

use super::{FabricMessage, Shard, ShardId};
use crate::egress::PacketSource;
use crate::handles::{PeerIndex, TrackHandle};
use crate::media_packet::MediaPacket;

impl Shard {
    /// Forwards a packet that was published here.
    pub(super) fn forward(&mut self, handle: TrackHandle, packet: MediaPacket) {
        let packet = Arc::new(packet);
        let track = self.rooms.get(handle.room.0).and_then(|room| room.tracks.get(handle.track));
        let Some(track) = track else { return };
        let audio = track.facts.kind == MediaKind::Audio;
        for route in &track.routes {
            if audio || packet.layer <= route.highest {
                self.fabric.push_back((ShardId(route.shard), FabricMessage::Media(Arc::clone(&packet))));
            }
        }
        self.deliver(handle, packet);
    }

    /// Hands a packet to every subscriber here, wherever it came from.
    pub(super) fn deliver(&mut self, handle: TrackHandle, packet: Arc<MediaPacket>) {
        let now = packet.arrival;
        let Some(room) = self.rooms.get_mut(handle.room.0) else { return };
        let Some(track) = room.tracks.get_mut(handle.track) else { return };
        let (peers, stats, touched) = (&mut self.peers, &mut self.stats, &mut self.touched);
        let mut needed: SmallVec<[Layer; 4]> = SmallVec::new();
        let mut panicked: SmallVec<[PeerIndex; 1]> = SmallVec::new();
        let source = PacketSource { clocks: &track.reports, memory: &track.memory };
        let mut next = 0;
        // One subscriber's panic must not cost the others this packet: resume behind it.
        while next < track.subscribers.len() {
            let result = catch_unwind(AssertUnwindSafe(|| {
                while let Some(subscriber) = track.subscribers.get(next) {
                    next += 1;
                    let Some(peer) = peers.get_mut(subscriber.peer.0) else { continue };
                    #[cfg(feature = "fault-injection")]
                    peer.fail_at(crate::peer::Fault::Deliver);
                    let accepted = peer.egress.accept(subscriber.slot, &packet, &source, stats);
                    if accepted.queued && !std::mem::replace(&mut peer.touched, true) {
                        touched.push_back(subscriber.peer);
                    }
                    if let Some(layer) = accepted.key_frame
                        && !needed.contains(&layer)
                    {
                        needed.push(layer);
                    }
                }
            }));
            if result.is_err()
                && let Some(subscriber) = track.subscribers.get(next.wrapping_sub(1))
            {
                panicked.push(subscriber.peer);
            }
        }
        if let Some(memory) = track.memory.get_mut(usize::from(packet.layer.0)) {
            memory.insert(packet);
        }
        for layer in needed {
            self.ask_key_frame(now, handle, layer);
        }
        for peer in panicked {
            if let Some(peer) = self.peers.get(peer.0) {
                self.condemn_panicked(peer.participant);
            }
        }
    }
}
