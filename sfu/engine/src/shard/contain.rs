//! Panic containment: a bug in one participant's path ends that participant, nobody else.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sfu_protocol::EndReason;

use super::Shard;
use super::membership::Ending;
use crate::handles::{ParticipantIndex, PeerIndex};

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

    /// Notes that a participant's path panicked.
    pub(super) fn condemn_panicked(&mut self, participant: ParticipantIndex) {
        self.stats.panics += 1;
        self.doomed.push((participant, Ending::failure(EndReason::Panicked)));
    }
}
