//! What is due by time, and what leaves.

use std::time::Instant;

use super::{Shard, Transmit, track_in};
use crate::handles::{PeerIndex, TrackHandle};
use crate::peer::Stirred;

impl Shard {
    /// Deadlines have come.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some((deadline, index)) = self.timers.expired(now) {
            let Some(peer) = self.peers.get_mut(index.0) else { continue };
            if peer.scheduled != Some(deadline) {
                continue;
            }
            peer.scheduled = None;
            self.touch(index);
        }
        self.serve_rooms(now);
        self.serve_participants(now);
        self.serve_laggards(now);
    }

    /// Writes what a touched peer has to send next. `None` when it has nothing more.
    pub(super) fn poll_peer(
        &mut self,
        now: Instant,
        index: PeerIndex,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        let peer = self.peers.get_mut(index.0)?;
        if peer.stirred == Stirred::Wholly {
            peer.stirred = Stirred::Settled;
            if peer.poll_timeout().is_some_and(|deadline| deadline <= now) {
                self.contained_peer(index, |shard| shard.serve(now, index));
            }
        }
        let transmit = self.contained_peer(index, |shard| {
            let peer = shard.peers.get_mut(index.0)?;
            peer.poll_transmit(now, buffer, &mut shard.stats)
        });
        self.settle(now);
        transmit.flatten()
    }

    /// Does what is due for a peer.
    fn serve(&mut self, now: Instant, index: PeerIndex) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        peer.transport.handle_timeout(now);
        let mut compound = Vec::new();
        let rooms = &self.rooms;
        let report_of = |handle: TrackHandle, layer: sfu_protocol::Layer| {
            let track = track_in(rooms, handle)?;
            track.reports.get(usize::from(layer.0))?.as_ref()
        };
        peer.egress.poll_bandwidth(now);
        peer.egress.poll_reports(now, report_of, &mut compound);
        peer.ingress.poll(now, &mut compound, &mut self.stats);
        peer.queue_rtcp(&compound);
        if let Some(news) = peer.ingress.poll_voice(now) {
            self.tell_voice(index, news);
        }
        while let Some(silent) = self.peers.get_mut(index.0).and_then(|peer| peer.ingress.poll_silent(now)) {
            self.set_layer_active(now, silent.handle, silent.layer, false);
        }
        self.on_estimate(now, index);
        self.drain_transport(now, index);
    }

    /// A peer has nothing more to send: note when it is due next.
    pub(super) fn reschedule(&mut self, now: Instant, index: PeerIndex) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        peer.touched = false;
        // Media moves no deadline, unless some of it has to wait.
        let stirred = std::mem::replace(&mut peer.stirred, Stirred::Media);
        if stirred == Stirred::Media && !peer.egress.is_waiting() {
            return;
        }
        let Some(deadline) = peer.poll_timeout() else { return };
        // A deadline that has passed and was served without moving would spin; it is looked at again a
        // moment later instead.
        let deadline = deadline.max(now + super::TIMER_GRAIN);
        if peer.scheduled.is_none_or(|scheduled| deadline < scheduled) {
            peer.scheduled = Some(deadline);
            self.timers.schedule(deadline, index);
        }
    }
}
