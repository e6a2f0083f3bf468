//! Forwards packets, from this shard's publishers and from other shards alike, to every subscriber on this shard and to
//! the shards that have subscribers.

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use sfu_protocol::{Layer, MediaKind};
use slab::Slab;
use smallvec::SmallVec;

use super::{FabricMessage, Shard, ShardId, track_in, track_in_mut};
use crate::egress::PacketSource;
use crate::egress::redundancy::Depths;
use crate::handles::{PeerIndex, TrackHandle};
use crate::media_packet::MediaPacket;
#[cfg(feature = "fault-injection")]
use crate::peer::Fault;
use crate::peer::Peer;
#[cfg(feature = "fault-injection")]
use crate::room::Origin;
use crate::room::Subscriber;
use crate::room::rate::Sublayer;
use crate::room::speaker::Heard;
use crate::stats::Drop;
use crate::units::DataSize;

/// Maximum number of packets forwarded together: a large video frame.
const BATCH: usize = 64;

/// Consecutive packets of one track that have not been forwarded yet.
#[derive(Debug, Default)]
pub(super) struct Batch {
    track: Option<TrackHandle>,
    packets: Vec<Arc<MediaPacket>>,
}

/// Redundant audio packets (RED) made for subscribers, each with the index of the track's packet memory that stores it.
type Repeating = SmallVec<[(usize, Arc<MediaPacket>); 2]>;

/// Work that remains after packets were forwarded to the subscribers.
struct Forwarded {
    /// Layers for which a subscriber needs a key frame.
    needed: SmallVec<[Layer; 4]>,
    repeating: Repeating,
}

/// Bytes that a packet takes in addition to its payload: IP, UDP, RTP with extensions, and the cipher's tag.
const HEADERS: usize = 64;

/// Number of subscribers whose state is prefetched together.
const AHEAD: usize = 16;

/// Prefetches into the CPU cache the state of the next [`AHEAD`] subscribers. Between two frames packets fill the
/// cache, so each of these reads goes to memory. Done one by one while forwarding, they are a third of the cost of
/// forwarding; done together, the processor waits for them once.
fn fetch_ahead(peers: &Slab<Peer>, subscribers: &[Subscriber], packets: usize) {
    let next = || subscribers.iter().take(AHEAD);
    let egress = |subscriber: &Subscriber| peers.get(subscriber.peer.0).map(|peer| &peer.egress);
    black_box(next().filter_map(egress).fold(0, |sum, egress| sum ^ egress.touch()));
    let touched = next().filter_map(|subscriber| egress(subscriber)?.get(subscriber.slot));
    black_box(touched.fold(0, |sum, subscription| sum ^ subscription.touch()));
    let touched = next().filter_map(|subscriber| egress(subscriber)?.get(subscriber.slot));
    black_box(touched.fold(0, |sum, subscription| sum ^ subscription.touch_log(packets)));
}

impl Shard {
    /// Prefetches into the CPU cache the state that flushing the next [`AHEAD`] dirty peers will need.
    pub(super) fn fetch_transports(&mut self) {
        if self.fetched > 0 {
            return;
        }
        let next = self.touched.iter().take(AHEAD).filter_map(|peer| self.peers.get(peer.0));
        black_box(next.fold(0, |sum, peer| sum ^ peer.transport.touch() ^ peer.egress.touch_queue()));
        self.fetched = self.touched.len().min(AHEAD);
    }

    /// Forwards a packet from a publisher, or from another shard, to the subscribers on this shard and, if it
    /// originates here, to other shards. An audio packet is withheld if its track is not among the loudest.
    pub(super) fn forward(&mut self, handle: TrackHandle, packet: Arc<MediaPacket>) {
        let mut begins = false;
        if packet.codec.kind() == MediaKind::Audio {
            match self.hear(handle, &packet) {
                Heard::Forward => {}
                Heard::Begin => begins = self.begin_sound(handle, &packet),
                Heard::Skip => return self.keep_back(handle, packet),
            }
        }
        self.forward_to_shards(handle, &packet, begins);
        self.forward_here(handle, packet);
    }

    /// Sends a packet that originates on this shard to the shards with subscribers. `begins`: the packet is the first
    /// after its track was withheld.
    pub(super) fn forward_to_shards(&mut self, handle: TrackHandle, packet: &Arc<MediaPacket>, begins: bool) {
        let Some(track) = track_in(&self.rooms, handle) else { return };
        let audio = track.facts.kind == MediaKind::Audio;
        for route in &track.routes {
            if audio || packet.layer <= route.highest {
                let packet = Arc::clone(packet);
                let message =
                    if begins { FabricMessage::SoundBegins(packet) } else { FabricMessage::Media(packet) };
                self.fabric.push_back((ShardId(route.shard), message));
            }
        }
    }

    /// Forwards a packet to every subscriber on this shard. Packets of one track that arrive together are forwarded
    /// together, so that each subscriber's state is brought into the cache once for all of them; see
    /// [`flush_batch`](Self::flush_batch).
    pub(super) fn forward_here(&mut self, handle: TrackHandle, packet: Arc<MediaPacket>) {
        // A subscription that begins at a key frame goes on with the later packets in the memory, which must hold
        // everything that arrived before this packet.
        let begins = packet.facts.starts_key_frame();
        // Audio redundancy (RED) also reads earlier packets from the memory.
        let alone = begins || packet.codec.kind() == MediaKind::Audio;
        if alone || self.batch.track != Some(handle) || self.batch.packets.len() >= BATCH {
            self.flush_batch();
        }
        self.batch.track = Some(handle);
        self.batch.packets.push(packet);
        if alone {
            self.flush_batch();
        }
    }

    /// Forwards the batched packets. It has to be called before anything else that reads or changes a track, its
    /// subscribers or their sequence numbers.
    pub(super) fn flush_batch(&mut self) {
        let Some(handle) = self.batch.track.take() else { return };
        let mut packets = std::mem::take(&mut self.batch.packets);
        // The caller may be working for another participant, who must not be blamed for a panic here.
        self.contained_track(handle, |shard| shard.forward_batch(handle, &packets));
        packets.clear();
        self.batch.packets = packets;
    }

    fn forward_batch(&mut self, handle: TrackHandle, packets: &[Arc<MediaPacket>]) {
        let Some(now) = packets.last().map(|packet| packet.arrival) else { return };
        let Some(Forwarded { needed, repeating }) = self.forward_to_subscribers(handle, packets) else {
            return self.stats.drop_many(Drop::StaleMessage, packets.len() as u64);
        };
        self.remember(handle, packets, repeating);
        for layer in needed {
            self.ask_key_frame(now, handle, layer);
        }
    }

    /// Forwards packets to every subscriber on this shard. `None` if the track is gone.
    fn forward_to_subscribers(
        &mut self,
        handle: TrackHandle,
        packets: &[Arc<MediaPacket>],
    ) -> Option<Forwarded> {
        let track = track_in_mut(&mut self.rooms, handle)?;
        let (peers, stats, touched) = (&mut self.peers, &mut self.stats, &mut self.touched);
        let mut needed: SmallVec<[Layer; 4]> = SmallVec::new();
        let mut panicked: SmallVec<[PeerIndex; 1]> = SmallVec::new();
        let depths = match packets {
            [packet] if !track.facts.encrypted => Depths::of(packet, &track.memory),
            _ => None,
        };
        let source = PacketSource { clocks: &track.reports, memory: &track.memory, depths: depths.as_ref() };
        let mut next = 0;
        // A panic in one subscriber must not cost the others these packets: the loop resumes after it.
        while next < track.subscribers.len() {
            let result = catch_unwind(AssertUnwindSafe(|| {
                while let Some(subscriber) = track.subscribers.get(next) {
                    if next.is_multiple_of(AHEAD) {
                        fetch_ahead(peers, track.subscribers.get(next..).unwrap_or_default(), packets.len());
                    }
                    next += 1;
                    let Some(peer) = peers.get_mut(subscriber.peer.0) else { continue };
                    #[cfg(feature = "fault-injection")]
                    peer.fail_at(crate::peer::Fault::Deliver);
                    for packet in packets {
                        let accepted = peer.egress.accept(subscriber.slot, packet, &source, stats);
                        if accepted.queued && !std::mem::replace(&mut peer.touched, true) {
                            touched.push_back(subscriber.peer);
                        }
                        if let Some(layer) = accepted.key_frame
                            && !needed.contains(&layer)
                        {
                            needed.push(layer);
                        }
                    }
                }
            }));
            if result.is_err()
                && let Some(subscriber) = track.subscribers.get(next.wrapping_sub(1))
            {
                panicked.push(subscriber.peer);
            }
        }
        let repeating = depths.into_iter().flat_map(Depths::into_made).collect();
        for peer in panicked {
            if let Some(peer) = self.peers.get(peer.0) {
                self.condemn_panicked(peer.participant);
            }
        }
        Some(Forwarded { needed, repeating })
    }

    /// Stores packets in the track's memory, for retransmission and for late joiners, and measures the track's bitrate.
    /// It has to follow forwarding: a subscription that begins with these packets would otherwise get them twice.
    fn remember(&mut self, handle: TrackHandle, packets: &[Arc<MediaPacket>], repeating: Repeating) {
        #[cfg(feature = "fault-injection")]
        self.fail_to_remember(handle);
        let Some(track) = track_in_mut(&mut self.rooms, handle) else { return };
        for (place, packet) in repeating {
            if let Some(memory) = track.memory.get_mut(place) {
                memory.insert(packet);
            }
        }
        for packet in packets {
            if let Some(rate) = track.rates.get_mut(usize::from(packet.layer.0)) {
                let size = DataSize::from_bytes((packet.payload.len() + HEADERS) as u64);
                let (spatial, temporal) = (packet.facts.spatial, packet.facts.temporal);
                let at =
                    packet.facts.frame.map_or_else(Sublayer::default, |_| Sublayer { spatial, temporal });
                rate.on_packet(at, size, packet.timestamp, packet.arrival);
            }
            if let Some(memory) = track.memory.get_mut(usize::from(packet.layer.0)) {
                memory.insert(Arc::clone(packet));
            }
        }
    }

    #[cfg(feature = "fault-injection")]
    fn fail_to_remember(&mut self, handle: TrackHandle) {
        match track_in_mut(&mut self.rooms, handle).map(|track| track.origin) {
            Some(Origin::Here(peer)) => {
                if let Some(peer) = self.peers.get_mut(peer.0) {
                    peer.fail_at(Fault::Remember);
                }
            }
            _ => self.fail_at(Fault::Remember),
        }
    }
}
