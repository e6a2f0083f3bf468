//! Panic containment: a bug in one participant's path ends that participant, nobody else. A track's path is its
//! publisher's; what of a room is nobody's begins anew.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sfu_protocol::EndReason;

use super::membership::Ending;
use super::{RoomMessage, Shard, track_in_mut};
use crate::handles::{ParticipantIndex, PeerIndex, RoomIndex, TrackHandle};
use crate::room::Origin;

impl Shard {
    /// Runs a piece of one participant's path. If it panics the participant is ended, counted, and told.
    pub(super) fn contained<R>(
        &mut self,
        participant: ParticipantIndex,
        work: impl FnOnce(&mut Self) -> R,
    ) -> Option<R> {
        // Unwind safety: whatever the panic left half done belongs to the participant, which goes.
        let result = catch_unwind(AssertUnwindSafe(|| work(self)));
        if result.is_err() {
            self.condemn_panicked(participant);
        }
        result.ok()
    }

    /// Like [`contained`](Self::contained), for a peer's participant.
    pub(super) fn contained_peer<R>(
        &mut self,
        peer: PeerIndex,
        work: impl FnOnce(&mut Self) -> R,
    ) -> Option<R> {
        let participant = self.peers.get(peer.0)?.participant;
        self.contained(participant, work)
    }

    /// Runs a piece of a track's path that belongs to none of its subscribers. If it panics its publisher is ended; a
    /// track whose publisher is elsewhere begins anew here.
    pub(super) fn contained_track<R>(
        &mut self,
        handle: TrackHandle,
        work: impl FnOnce(&mut Self) -> R,
    ) -> Option<R> {
        // Unwind safety: what the panic left half done goes with the publisher, or is replaced.
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

    /// Runs a piece of what a room does for nobody in particular. If it panics, who spoke is forgotten.
    pub(super) fn contained_room(&mut self, index: RoomIndex, work: impl FnOnce(&mut Self)) {
        // Unwind safety: what the panic left half done is replaced.
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            self.stats.panics += 1;
            if let Some(room) = self.rooms.get_mut(index.0) {
                room.forget_speakers();
            }
        }
    }

    /// Takes what panicked peers publish and receive out of their room, by what the room knows of it: for when they
    /// cannot be asked.
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

    /// Notes that a participant's path panicked.
    pub(super) fn condemn_panicked(&mut self, participant: ParticipantIndex) {
        self.stats.panics += 1;
        self.doomed.push((participant, Ending::failure(EndReason::Panicked)));
    }
}
