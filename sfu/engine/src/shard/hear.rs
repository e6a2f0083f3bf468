//! Which sound of a very large room is sent at all: the loudest few tracks, decided once per published packet and never
//! per subscriber.

use std::sync::Arc;
use std::time::Duration;

use sfu_protocol::MediaKind;
use smallvec::SmallVec;

use super::{FabricMessage, Shard, ShardId, track_in, track_in_mut};
use crate::handles::TrackHandle;
use crate::media_packet::MediaPacket;
use crate::room::Track;
use crate::room::speaker::Heard;
use crate::units::ExtendedSequence;

/// Who begins to speak is recognised within that time; what came in it is sent after all.
const PRELUDE: Duration = Duration::from_millis(60);

/// Packets of it at most: 5 ms each.
const MOST_PRELUDE: u64 = 12;

impl Shard {
    /// Hands a packet of a publisher, or of another shard, to whoever receives it: subscribers here and, if it
    /// originates here, other shards; or to nobody, if it is of a track that others are louder than.
    pub(super) fn pass_on_packet(&mut self, handle: TrackHandle, packet: Arc<MediaPacket>) {
        let mut begins = false;
        if packet.codec.kind() == MediaKind::Audio {
            match self.hear(handle, &packet) {
                Heard::Forward => {}
                Heard::Begin => begins = self.begin_sound(handle, &packet),
                Heard::Skip => return self.keep_back(handle, packet),
            }
        }
        self.route(handle, &packet, begins);
        self.deliver(handle, packet);
    }

    /// The same of a packet of another shard that is the first after that shard kept the track back: what it kept back is
    /// not missing. This shard cannot tell by itself, for it may have room for every track that it gets.
    pub(super) fn begin_routed_sound(&mut self, handle: TrackHandle, packet: Arc<MediaPacket>) {
        self.deliver_batch();
        self.close_numbers(handle);
        self.pass_on_packet(handle, packet);
    }

    fn hear(&mut self, handle: TrackHandle, packet: &MediaPacket) -> Heard {
        let Some(room) = self.rooms.get_mut(handle.room.0) else { return Heard::Forward };
        let Some(loudest) = &mut room.loudest else { return Heard::Forward };
        let level = if packet.payload.is_empty() { Some(SILENCE) } else { packet.extensions.audio_level };
        loudest.on_packet(handle.track, level, packet.arrival)
    }

    /// The packet goes to nobody now. Should its track begin to be heard with one of the next, it is needed.
    fn keep_back(&mut self, handle: TrackHandle, packet: Arc<MediaPacket>) {
        self.stats.audio_unheard += 1;
        let Some(track) = track_in_mut(&mut self.rooms, handle) else { return };
        let first = track.unheard_since.get_or_insert(packet.sequence);
        *first = packet.sequence.min(*first);
        if let Some(memory) = track.memory.get_mut(usize::from(packet.layer.0)) {
            memory.insert(packet);
        }
    }

    /// A track begins to be heard, or does so again, with this packet: subscribers' numbers go on from where they
    /// stopped, and what was kept back just before comes first. True if other shards have to be told so with this packet.
    fn begin_sound(&mut self, handle: TrackHandle, packet: &MediaPacket) -> bool {
        self.deliver_batch();
        let Some(track) = track_in_mut(&mut self.rooms, handle) else { return false };
        let Some(unheard_since) = track.unheard_since.take() else { return false };
        let prelude = prelude(track, packet, unheard_since.0);
        self.close_numbers(handle);
        for (place, earlier) in prelude.iter().enumerate() {
            self.route(handle, earlier, place == 0);
        }
        // An encoding begins with it, and so all that is remembered behind it follows.
        if let Some(first) = prelude.first() {
            self.deliver(handle, Arc::clone(first));
            self.deliver_batch();
        }
        prelude.is_empty()
    }

    /// What comes next of a track of sound follows what its subscribers were sent last, whatever its number.
    fn close_numbers(&mut self, handle: TrackHandle) {
        let subscribers = track_in(&self.rooms, handle).map(|track| track.subscribers.clone());
        for subscriber in subscribers.unwrap_or_default() {
            self.contained_peer(subscriber.peer, |shard| {
                if let Some(peer) = shard.peers.get_mut(subscriber.peer.0) {
                    peer.egress.begin_sound(subscriber.slot);
                }
            });
        }
    }

    /// Hands a packet that originates here to the shards with subscribers. `begins`: it is the first after its track was
    /// kept back.
    fn route(&mut self, handle: TrackHandle, packet: &Arc<MediaPacket>, begins: bool) {
        let track = track_in(&self.rooms, handle);
        let Some(track) = track else { return };
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
}

/// What was kept back of a track just before a packet, without a hole, in order.
fn prelude(track: &Track, packet: &MediaPacket, unheard_since: u64) -> SmallVec<[Arc<MediaPacket>; 4]> {
    let Some(memory) = track.memory.get(usize::from(packet.layer.0)) else { return SmallVec::new() };
    let earliest = packet.sequence.0.saturating_sub(MOST_PRELUDE).max(unheard_since);
    let backwards = (earliest..packet.sequence.0).rev().map_while(|sequence| {
        let earlier = memory.get(ExtendedSequence(sequence))?;
        let age = packet.arrival.saturating_duration_since(earlier.arrival);
        (age <= PRELUDE && !earlier.payload.is_empty()).then(|| Arc::clone(earlier))
    });
    let mut prelude: SmallVec<[Arc<MediaPacket>; 4]> = backwards.collect();
    prelude.reverse();
    prelude
}

/// The lowest level that RFC 6464 tells.
const SILENCE: u8 = 127;
