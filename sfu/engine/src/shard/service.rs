//! Timer handling, and output of peers.

use std::time::Instant;

use super::{Shard, Transmit, track_in};
use crate::handles::{PeerIndex, TrackHandle};
use crate::peer::Stirred;

impl Shard {
    /// Serves every peer, room and participant whose deadline has come.
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

    /// Writes the next packets that a dirty peer has to send. `None` when it has nothing more to send.
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

    /// Does the work of a peer whose deadline has come.
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

    /// Clears the dirty mark of a peer that has nothing more to send, and schedules its next deadline.
    pub(super) fn reschedule(&mut self, now: Instant, index: PeerIndex) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        peer.touched = false;
        // Media does not change deadlines unless some of it is still queued.
        let stirred = std::mem::replace(&mut peer.stirred, Stirred::Media);
        if stirred == Stirred::Media && !peer.egress.is_waiting() {
            return;
        }
        let Some(deadline) = peer.poll_timeout() else { return };
        // A past deadline that did not move when it was served would cause a busy loop. It is checked again one timer
        // grain later instead.
        let deadline = deadline.max(now + super::TIMER_GRAIN);
        if peer.scheduled.is_none_or(|scheduled| deadline < scheduled) {
            peer.scheduled = Some(deadline);
            self.timers.schedule(deadline, index);
        }
    }
}
