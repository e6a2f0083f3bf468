//! Where packets of this shard's publishers, and those that came from other shards, join: to every subscriber
//! here, to every shard with subscribers.

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use sfu_protocol::{Layer, MediaKind};
use slab::Slab;
use smallvec::SmallVec;

use super::{Shard, track_in_mut};
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
use crate::stats::Drop;
use crate::units::DataSize;

/// Packets handed out together at most: a large video frame.
const BATCH: usize = 64;

/// Packets of one track that arrived one after the other and were not handed out yet.
#[derive(Debug, Default)]
pub(super) struct Batch {
    track: Option<TrackHandle>,
    packets: Vec<Arc<MediaPacket>>,
}

/// Packets that repeat earlier ones, with the memory of the track that each belongs into.
type Repeating = SmallVec<[(usize, Arc<MediaPacket>); 2]>;

/// What is left to do once packets were handed out.
struct HandedOut {
    /// Layers of which somebody needs a key frame.
    needed: SmallVec<[Layer; 4]>,
    repeating: Repeating,
}

/// What a packet takes beside its payload: IP, UDP, RTP with extensions, and the cipher's tag.
const HEADERS: usize = 64;

/// Subscribers whose state is fetched together.
const AHEAD: usize = 16;

/// Reads what the next subscribers' turns will need, of all of them at once. Between two frames the cache is filled
/// with packets, so that each of these reads goes to memory; one after the other, as the turns would do them, they
/// are a third of what forwarding costs, and side by side the processor waits for them once.
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
    /// The same for what the next peers' flushes will need.
    pub(super) fn fetch_transports(&mut self) {
        if self.fetched > 0 {
            return;
        }
        let next = self.touched.iter().take(AHEAD).filter_map(|peer| self.peers.get(peer.0));
        black_box(next.fold(0, |sum, peer| sum ^ peer.transport.touch() ^ peer.egress.touch_queue()));
        self.fetched = self.touched.len().min(AHEAD);
    }

    /// Forwards a packet that was published here.
    pub(super) fn forward(&mut self, handle: TrackHandle, packet: MediaPacket) {
        self.pass_on_packet(handle, Arc::new(packet));
    }

    /// Hands a packet to every subscriber here, wherever it came from. Packets of one track that arrive together
    /// are handed out together, so that what is private to a subscriber is brought into the cache once for all of
    /// them; see [`deliver_batch`](Self::deliver_batch).
    pub(super) fn deliver(&mut self, handle: TrackHandle, packet: Arc<MediaPacket>) {
        // An encoding begins with a key frame, and what is remembered behind it then follows: that memory has to
        // hold everything that came before.
        let begins = packet.facts.starts_key_frame();
        // What sound repeats has to be there as well.
        let alone = begins || packet.codec.kind() == MediaKind::Audio;
        if alone || self.batch.track != Some(handle) || self.batch.packets.len() >= BATCH {
            self.deliver_batch();
        }
        self.batch.track = Some(handle);
        self.batch.packets.push(packet);
        if alone {
            self.deliver_batch();
        }
    }

    /// Hands out the packets that were kept together. Comes before anything else that reads or changes a track, its
    /// subscribers or their numbering.
    pub(super) fn deliver_batch(&mut self) {
        let Some(handle) = self.batch.track.take() else { return };
        let mut packets = std::mem::take(&mut self.batch.packets);
        // Whatever is being done while this comes between, it may be somebody else's.
        self.contained_track(handle, |shard| shard.deliver_all(handle, &packets));
        packets.clear();
        self.batch.packets = packets;
    }

    fn deliver_all(&mut self, handle: TrackHandle, packets: &[Arc<MediaPacket>]) {
        let Some(now) = packets.last().map(|packet| packet.arrival) else { return };
        let Some(HandedOut { needed, repeating }) = self.hand_out(handle, packets) else {
            return self.stats.drop_many(Drop::StaleMessage, packets.len() as u64);
        };
        self.remember(handle, packets, repeating);
        for layer in needed {
            self.ask_key_frame(now, handle, layer);
        }
    }

    /// Gives packets to every subscriber here.
    fn hand_out(&mut self, handle: TrackHandle, packets: &[Arc<MediaPacket>]) -> Option<HandedOut> {
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
        // One subscriber's panic must not cost the others these packets: resume behind it.
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
        Some(HandedOut { needed, repeating })
    }

    /// Keeps packets for those who will ask for them again or come later, and counts what they cost. Comes after they
    /// are handed out, so that who begins with them is not given them twice.
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
