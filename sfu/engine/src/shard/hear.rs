//! In very large rooms only the loudest few audio tracks are forwarded. This is decided once per published packet,
//! never per subscriber.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::{Shard, track_in, track_in_mut};
use crate::handles::TrackHandle;
use crate::media_packet::MediaPacket;
use crate::room::Track;
use crate::room::speaker::Heard;
use crate::units::ExtendedSequence;

/// Time within which a beginning speaker is recognised. Packets withheld during this time are sent after all.
const PRELUDE: Duration = Duration::from_millis(60);

/// Maximum number of packets in the prelude: 5 ms each.
const MOST_PRELUDE: u64 = 12;

impl Shard {
    /// Forwards the first audio packet that another shard sends after it had withheld the track. The withheld packets
    /// must not count as lost. This shard cannot detect that itself: its own limit may admit every track that it
    /// receives.
    pub(super) fn begin_routed_sound(&mut self, handle: TrackHandle, packet: Arc<MediaPacket>) {
        self.flush_batch();
        self.close_numbers(handle);
        self.forward(handle, packet);
    }

    pub(super) fn hear(&mut self, handle: TrackHandle, packet: &MediaPacket) -> Heard {
        let Some(room) = self.rooms.get_mut(handle.room.0) else { return Heard::Forward };
        let Some(loudest) = &mut room.loudest else { return Heard::Forward };
        let level = if packet.payload.is_empty() { Some(SILENCE) } else { packet.extensions.audio_level };
        loudest.on_packet(handle.track, level, packet.arrival)
    }

    /// Withholds a packet, and stores it in case the track is admitted with one of the next packets.
    pub(super) fn keep_back(&mut self, handle: TrackHandle, packet: Arc<MediaPacket>) {
        self.stats.audio_unheard += 1;
        let Some(track) = track_in_mut(&mut self.rooms, handle) else { return };
        let first = track.unheard_since.get_or_insert(packet.sequence);
        *first = packet.sequence.min(*first);
        if let Some(memory) = track.memory.get_mut(usize::from(packet.layer.0)) {
            memory.insert(packet);
        }
    }

    /// Starts, or restarts, forwarding an audio track with this packet. Subscribers' sequence numbers continue where
    /// they stopped. Packets withheld just before are sent first. Returns true if this packet has to be marked for
    /// other shards as the first one; false if a withheld packet was marked, or none was withheld.
    pub(super) fn begin_sound(&mut self, handle: TrackHandle, packet: &MediaPacket) -> bool {
        self.flush_batch();
        let Some(track) = track_in_mut(&mut self.rooms, handle) else { return false };
        let Some(unheard_since) = track.unheard_since.take() else { return false };
        let prelude = prelude(track, packet, unheard_since.0);
        self.close_numbers(handle);
        for (place, earlier) in prelude.iter().enumerate() {
            self.forward_to_shards(handle, earlier, place == 0);
        }
        // Forwarding the first packet also forwards the later ones from the memory, because the stream begins with it.
        if let Some(first) = prelude.first() {
            self.forward_here(handle, Arc::clone(first));
            self.flush_batch();
        }
        prelude.is_empty()
    }

    /// Makes the next packet of an audio track follow the last one sent to each subscriber, whatever its sequence
    /// number.
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
}

/// The packets of a track that were withheld just before `packet`, in order and without a gap.
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

/// The lowest audio level of RFC 6464, in -dBov.
const SILENCE: u8 = 127;
