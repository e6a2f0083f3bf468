//! Panic containment: a panic in code that runs for one participant ends that participant and nobody else. Code that
//! runs for a track counts as its publisher's. Room state that belongs to no participant is reset after a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sfu_protocol::EndReason;

use super::membership::Ending;
use super::{RoomMessage, Shard, track_in_mut};
use crate::handles::{ParticipantIndex, PeerIndex, RoomIndex, TrackHandle};
use crate::room::Origin;

impl Shard {
    /// Runs code for one participant. If it panics, the participant is ended and notified, and the panic is counted.
    pub(super) fn contained<R>(
        &mut self,
        participant: ParticipantIndex,
        work: impl FnOnce(&mut Self) -> R,
    ) -> Option<R> {
        // Unwind safety: all state that the panic left inconsistent belongs to the participant, which is ended.
        let result = catch_unwind(AssertUnwindSafe(|| work(self)));
        if result.is_err() {
            self.condemn_panicked(participant);
        }
        result.ok()
    }

    /// Like [`contained`](Self::contained), for the participant of a peer.
    pub(super) fn contained_peer<R>(
        &mut self,
        peer: PeerIndex,
        work: impl FnOnce(&mut Self) -> R,
    ) -> Option<R> {
        let participant = self.peers.get(peer.0)?.participant;
        self.contained(participant, work)
    }

    /// Runs code for a track that belongs to none of its subscribers. If it panics, the track's publisher is ended. If
    /// the publisher is on another shard, the track's memory and measurements on this shard are reset instead.
    pub(super) fn contained_track<R>(
        &mut self,
        handle: TrackHandle,
        work: impl FnOnce(&mut Self) -> R,
    ) -> Option<R> {
        // Unwind safety: state that the panic left inconsistent ends with the publisher, or is replaced.
        let result = catch_unwind(AssertUnwindSafe(|| work(self)));
        if result.is_err() {
            self.blame_publisher(handle);
        }
        result.ok()
    }

    fn blame_publisher(&mut self, handle: TrackHandle) {
        let track = track_in_mut(&mut self.rooms, handle);
        let publisher = match track.as_ref().map(|track| track.origin) {
            Some(Origin::Here(peer)) => self.peers.get(peer.0).map(|peer| peer.participant),
            _ => None,
        };
        match (publisher, track) {
            (Some(publisher), _) => self.condemn_panicked(publisher),
            (None, Some(track)) => {
                track.renew(track.facts.clone());
                self.stats.panics += 1;
            }
            (None, None) => self.stats.panics += 1,
        }
    }

    /// Runs code for a room that belongs to no participant. If it panics, the room's speaker detection is reset.
    pub(super) fn contained_room(&mut self, index: RoomIndex, work: impl FnOnce(&mut Self)) {
        // Unwind safety: state that the panic left inconsistent is replaced.
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            self.stats.panics += 1;
            if let Some(room) = self.rooms.get_mut(index.0) {
                room.forget_speakers();
            }
        }
    }

    /// Removes what panicked peers publish and receive from their room. It uses only the room's own records, because
    /// the peers' state cannot be trusted.
    pub(super) fn cut_off(&mut self, room: RoomIndex, peers: &[PeerIndex]) {
        let Some(entry) = self.rooms.get_mut(room.0) else { return };
        let (mut published, mut received) = (Vec::new(), Vec::new());
        for (place, track) in &mut entry.tracks {
            let handle = TrackHandle { room, track: place };
            let before = track.subscribers.len();
            track.subscribers.retain(|subscriber| !peers.contains(&subscriber.peer));
            let gone = (before - track.subscribers.len()) as u64;
            self.stats.subscriptions = self.stats.subscriptions.saturating_sub(gone);
            if matches!(track.origin, Origin::Here(peer) if peers.contains(&peer)) {
                published.push((handle, track.facts.sid.clone()));
            } else if gone > 0 {
                received.push(handle);
            }
        }
        for (handle, track) in published {
            self.remove_track(handle);
            self.send_home(room, RoomMessage::TrackGone { track });
        }
        for handle in received {
            self.contained_track(handle, |shard| shard.demand_changed(handle));
        }
    }

    /// Counts a panic and schedules the end of the participant for which the code ran.
    pub(super) fn condemn_panicked(&mut self, participant: ParticipantIndex) {
        self.stats.panics += 1;
        self.doomed.push((participant, Ending::failure(EndReason::Panicked)));
    }
}
