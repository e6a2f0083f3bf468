//! Connection quality of participants: combines observations of each participant's peers and tracks every few seconds.

use std::time::{Duration, Instant};

use sfu_protocol::{Event, MediaKind, ParticipantQuality};

use super::{Shard, track_in};
use crate::egress::layer_select::ideal_layer;
use crate::handles::{ParticipantIndex, PeerIndex};
use crate::peer::quality::{Missing, Observed};

/// A track counts as still sending if its last packet came within this time before its peer fell silent. Audio sends a
/// packet every 400 ms during silence.
const FLOWING: Duration = Duration::from_secs(1);

impl Shard {
    /// Schedules a participant's next deadline.
    pub(super) fn schedule_participant(&mut self, index: ParticipantIndex, at: Instant) {
        if let Some(entry) = self.participants.get_mut(index.0) {
            entry.scheduled = Some(at);
            self.participant_timers.schedule(at, index);
        }
    }

    /// Serves the participants whose deadlines have come.
    pub(super) fn serve_participants(&mut self, now: Instant) {
        while let Some((deadline, index)) = self.participant_timers.expired(now) {
            let due = self.participants.get(index.0).is_some_and(|entry| entry.scheduled == Some(deadline));
            if due {
                self.contained(index, |shard| shard.watch(now, index));
            }
        }
    }

    fn watch(&mut self, now: Instant, index: ParticipantIndex) {
        self.serve_announcements(now, index);
        let Some(entry) = self.participants.get(index.0) else { return };
        let peers: Vec<PeerIndex> = entry.peers().collect();
        let (publisher, receiver) = (entry.publisher, entry.receiver());
        let newcomer = self.rooms.get(entry.room.0).and_then(|room| room.newcomer);
        let known = || peers.iter().filter_map(|peer| self.peers.get(peer.0));
        let connected = known().any(|peer| peer.transport.is_connected());
        let heard = known().max_by_key(|peer| peer.heard.last()).map(|peer| peer.heard).unwrap_or_default();
        let media = heard.last().is_some_and(|last| self.is_sending(publisher, last));
        let patience = heard.patience(media);
        let lost = heard.last().is_none_or(|last| now.saturating_duration_since(last) >= patience);
        let due = entry.watch.is_due(now);
        let rating = if !connected {
            if let Some(entry) = self.participants.get_mut(index.0) {
                entry.watch.postpone(now);
            }
            None
        } else if lost {
            self.participants.get_mut(index.0).and_then(|entry| entry.watch.lose(newcomer, now))
        } else if due {
            let (up, down) = (self.observe_up(publisher), self.observe_down(receiver));
            let round_trips = peers.iter().filter_map(|peer| self.peers.get(peer.0)?.egress.round_trip());
            let round_trip = round_trips.max();
            let entry = self.participants.get_mut(index.0);
            entry.and_then(|entry| entry.watch.look(up, down, round_trip, newcomer, now))
        } else {
            None
        };
        let Some(entry) = self.participants.get(index.0) else { return };
        if let (Some(rating), Some(room)) = (rating, self.rooms.get(entry.room.0)) {
            let participant = entry.sid.clone();
            let change = ParticipantQuality { participant, quality: rating.quality, score: rating.score };
            let changes = vec![change];
            self.events.push_back(Event::ConnectionQuality { room: room.sid.clone(), changes });
        }
        let next = entry.watch.next(heard.last().filter(|_| connected), patience, now);
        let next = entry.announcements_due().map_or(next, |due| due.min(next));
        self.schedule_participant(index, next);
    }

    /// Whether a peer was sending wanted media until `last`. If so, its silence is not intended.
    fn is_sending(&self, index: PeerIndex, last: Instant) -> bool {
        let Some(peer) = self.peers.get(index.0) else { return false };
        peer.ingress.tracks().iter().any(|track| {
            let wanted = track_in(&self.rooms, track.handle).is_some_and(|known| known.asked.is_some());
            let flowed = track.last_packet().is_some_and(|at| last.saturating_duration_since(at) < FLOWING);
            wanted && flowed && !track.is_muted()
        })
    }

    /// Packet losses and missing video layers from a publisher.
    fn observe_up(&mut self, index: PeerIndex) -> Observed {
        let Some(peer) = self.peers.get_mut(index.0) else { return Observed::default() };
        let losses = peer.ingress.take_losses();
        let mut missing = Missing::default();
        let Some(peer) = self.peers.get(index.0) else { return Observed::default() };
        for track in peer.ingress.tracks() {
            let Some(known) = track_in(&self.rooms, track.handle) else { continue };
            let Some(wanted) = known.asked.filter(|_| track.kind == MediaKind::Video && !known.facts.muted)
            else {
                continue;
            };
            missing.add(wanted, track.highest_active());
        }
        Observed { losses, missing }
    }

    /// Packet losses to a subscriber, and video layers that it wants and that are not sent for lack of bandwidth.
    fn observe_down(&mut self, index: PeerIndex) -> Observed {
        let Some(peer) = self.peers.get_mut(index.0) else { return Observed::default() };
        let losses = peer.egress.take_losses();
        let mut missing = Missing::default();
        let Some(peer) = self.peers.get(index.0) else { return Observed::default() };
        for (slot, picture) in peer.egress.pictures() {
            let demand = peer.egress.get(slot).map(|subscription| subscription.demand);
            let layers = track_in(&self.rooms, picture.track).map(|track| track.facts.layers.as_slice());
            let (Some(demand), Some(layers)) = (demand, layers) else { continue };
            let Some(wanted) = ideal_layer(&demand, layers) else { continue };
            missing.add(wanted, if picture.short { picture.sent } else { Some(wanted) });
        }
        Observed { losses, missing }
    }
}
