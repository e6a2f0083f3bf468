//! Who gets which layer of what: brings what one subscriber's link carries together with what its tracks cost now,
//! and carries out what `egress/allocate.rs` decides.

use std::time::Instant;

use sfu_protocol::{Event, Layer, MediaKind, TrackSid};
use smallvec::SmallVec;

use super::Shard;
use crate::egress::allocate::{Candidate, Decision, LayerCost, Scratch, allocate};
use crate::egress::layer_select::ideal_layer;
use crate::egress::track::Subscription;
use crate::handles::{PeerIndex, TrackHandle};
use crate::room::Track;
use crate::units::Bitrate;

/// While nothing is known of a link, the lowest layers of everything wanted are sent up to this: what becomes of
/// them is the first that shows what it carries.
const BLIND: Bitrate = Bitrate::from_kbps(2_000);

/// Memory kept between decisions.
#[derive(Debug, Default)]
pub(super) struct Allocation {
    costs: Vec<LayerCost>,
    scratch: Scratch,
    decisions: Vec<Decision>,
}

/// One subscription's place in a decision.
struct Entry {
    slot: usize,
    handle: TrackHandle,
    /// Of its costs among all.
    first: usize,
    ideal: Option<Layer>,
    kind: MediaKind,
    muted: bool,
    screen_share: bool,
}

impl Shard {
    /// Decides anew for everything that a peer receives.
    pub(super) fn allocate_peer(&mut self, now: Instant, index: PeerIndex) {
        let (rooms, allocation) = (&self.rooms, &mut self.allocation);
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        allocation.costs.clear();
        let mut entries: SmallVec<[Entry; 8]> = SmallVec::new();
        for (slot, subscription) in peer.egress.iter() {
            let Some(handle) = subscription.track else { continue };
            let track = rooms.get(handle.room.0).and_then(|room| room.tracks.get(handle.track));
            let Some(track) = track else { continue };
            entries.push(entry(slot, handle, subscription, track, allocation.costs.len()));
            allocation.costs.extend((0..track.facts.layers.len()).map(|place| cost(track, place, now)));
        }
        let costs = |place: usize| {
            let end = entries.get(place + 1).map_or(allocation.costs.len(), |next| next.first);
            entries.get(place).and_then(|entry| allocation.costs.get(entry.first..end)).unwrap_or_default()
        };
        let candidates: SmallVec<[Candidate<'_>; 8]> = entries
            .iter()
            .enumerate()
            .filter_map(|(place, entry)| {
                let subscription = peer.egress.get(entry.slot)?;
                Some(Candidate {
                    kind: entry.kind,
                    muted: entry.muted,
                    screen_share: entry.screen_share,
                    speaker: false,
                    priority: subscription.demand.priority,
                    ideal: entry.ideal,
                    layers: costs(place),
                    standing: subscription.standing,
                })
            })
            .collect();
        let capacity = peer.egress.capacity(lowest(&candidates).min(BLIND), now);
        let (scratch, decisions) = (&mut allocation.scratch, &mut allocation.decisions);
        let outcome = allocate(capacity, &candidates, now, scratch, decisions);
        drop(candidates);
        let mut changed: SmallVec<[TrackHandle; 8]> = SmallVec::new();
        let mut paused_now: Vec<(TrackSid, bool)> = Vec::new();
        for (entry, decision) in entries.iter().zip(allocation.decisions.iter()) {
            let carried_out = peer.egress.carry_out(entry.slot, decision, now);
            if carried_out.demand {
                changed.push(entry.handle);
            }
            if let (Some(paused), Some(subscription)) = (carried_out.paused, peer.egress.get(entry.slot)) {
                paused_now.push((subscription.sid.clone(), paused));
            }
        }
        let participant = peer.participant;
        peer.egress.on_allocated(now, &outcome);
        for handle in changed {
            self.demand_changed(handle);
        }
        let Some(participant) = self.participants.get(participant.0).map(|entry| entry.sid.clone()) else {
            return;
        };
        for (track, paused) in paused_now {
            let participant = participant.clone();
            self.events.push_back(Event::StreamState { participant, track, paused });
        }
    }

    /// The subscriber has said what arrived: decides anew if its link carries something else now.
    pub(super) fn on_estimate(&mut self, now: Instant, index: PeerIndex) {
        if self.peers.get(index.0).is_some_and(|peer| peer.egress.is_allocation_due(now)) {
            self.allocate_peer(now, index);
        }
    }
}

fn entry(
    slot: usize,
    handle: TrackHandle,
    subscription: &Subscription,
    track: &Track,
    first: usize,
) -> Entry {
    let facts = &track.facts;
    let ideal = match facts.kind {
        MediaKind::Audio => subscription.demand.enabled.then_some(Layer(0)),
        MediaKind::Video => ideal_layer(&subscription.demand, &facts.layers),
    };
    let (kind, muted, screen_share) = (facts.kind, facts.muted, facts.screen_share);
    Entry { slot, handle, first, ideal, kind, muted, screen_share }
}

/// What a layer costs: as measured, or as layers of its size usually do.
fn cost(track: &Track, place: usize, now: Instant) -> LayerCost {
    let info = track.facts.layers.get(place);
    let measured = track.rates.get(place).and_then(|rate| rate.sustained(now));
    let expected = match track.facts.kind {
        MediaKind::Audio => USUAL_AUDIO,
        MediaKind::Video => info.map_or(Bitrate::ZERO, |info| {
            Bitrate::from_bps(u64::from(info.width) * u64::from(info.height) * USUAL_BITS_PER_PIXEL)
        }),
    };
    let active = info.is_some_and(|info| info.active);
    // The last that was measured of a layer that has stopped is nothing.
    let measured = measured.filter(|rate| active && *rate > Bitrate::ZERO);
    LayerCost { active, bitrate: measured.unwrap_or(expected) }
}

/// What sound and the lowest layers of pictures cost together.
fn lowest(candidates: &[Candidate<'_>]) -> Bitrate {
    let wanted = candidates.iter().filter(|candidate| candidate.ideal.is_some() && !candidate.muted);
    let costs = wanted.filter_map(|candidate| candidate.layers.first().map(|layer| layer.bitrate.bps()));
    Bitrate::from_bps(costs.fold(0, u64::saturating_add))
}

/// Of sound: Opus at 40 kbit/s and its headers.
const USUAL_AUDIO: Bitrate = Bitrate::from_kbps(60);
/// Per second. Browsers send 180 lines at 0.12 Mbit/s, 360 at 0.45, 720 at 1.7.
const USUAL_BITS_PER_PIXEL: u64 = 2;
