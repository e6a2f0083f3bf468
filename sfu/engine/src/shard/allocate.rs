//! Who gets which layer of what: brings what one subscriber's link carries together with what its tracks cost now,
//! and carries out what `egress/allocate.rs` decides.

use std::ops::Range;
use std::time::Instant;

use sfu_protocol::{Event, Layer, MediaKind};
use smallvec::SmallVec;

use super::Shard;
use crate::egress::allocate::{Candidate, Decision, LayerCost, Scratch, Standing, allocate};
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
    /// Of its layers, among all costs.
    costs: Range<usize>,
    ideal: Option<Layer>,
    kind: MediaKind,
    muted: bool,
    screen_share: bool,
    priority: u32,
    standing: Standing,
}

impl Shard {
    /// Decides anew for everything that a peer receives.
    pub(super) fn allocate_peer(&mut self, now: Instant, index: PeerIndex) {
        let mut allocation = std::mem::take(&mut self.allocation);
        let entries = self.decide(now, index, &mut allocation);
        self.enact(now, index, &entries, &allocation.decisions);
        self.allocation = allocation;
    }

    fn decide(
        &mut self,
        now: Instant,
        index: PeerIndex,
        allocation: &mut Allocation,
    ) -> SmallVec<[Entry; 8]> {
        let Allocation { costs, scratch, decisions } = allocation;
        let mut entries: SmallVec<[Entry; 8]> = SmallVec::new();
        costs.clear();
        decisions.clear();
        let Some(peer) = self.peers.get_mut(index.0) else { return entries };
        for (slot, subscription) in peer.egress.iter() {
            let Some(handle) = subscription.track else { continue };
            let track = self.rooms.get(handle.room.0).and_then(|room| room.tracks.get(handle.track));
            let Some(track) = track else { continue };
            let first = costs.len();
            costs.extend((0..track.facts.layers.len()).map(|place| cost(track, place, now)));
            entries.push(entry(slot, handle, subscription, track, first..costs.len()));
        }
        let candidates: SmallVec<[Candidate<'_>; 8]> = entries
            .iter()
            .map(|entry| Candidate {
                kind: entry.kind,
                muted: entry.muted,
                screen_share: entry.screen_share,
                speaker: false,
                priority: entry.priority,
                ideal: entry.ideal,
                layers: costs.get(entry.costs.clone()).unwrap_or_default(),
                standing: entry.standing,
            })
            .collect();
        let capacity = peer.egress.capacity(lowest(&candidates).min(BLIND), now);
        let outcome = allocate(capacity, &candidates, now, scratch, decisions);
        peer.egress.on_allocated(now, &outcome);
        entries
    }

    fn enact(&mut self, now: Instant, index: PeerIndex, entries: &[Entry], decisions: &[Decision]) {
        for (entry, decision) in entries.iter().zip(decisions) {
            let Some(peer) = self.peers.get_mut(index.0) else { return };
            let carried_out = peer.egress.carry_out(entry.slot, decision, now);
            if let (Some(paused), Some(subscription)) = (carried_out.paused, peer.egress.get(entry.slot))
                && let Some(participant) = self.participants.get(peer.participant.0)
            {
                let (participant, track) = (participant.sid.clone(), subscription.sid.clone());
                self.events.push_back(Event::StreamState { participant, track, paused });
            }
            if carried_out.demand {
                self.demand_changed(entry.handle);
            }
        }
    }

    /// The subscriber has said what arrived: decides anew if its link carries something else now.
    pub(super) fn on_estimate(&mut self, now: Instant, index: PeerIndex) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let restarted = peer.egress.restart_after_outage();
        if restarted || peer.egress.is_allocation_due(now) {
            self.allocate_peer(now, index);
            self.ask_key_frames(now, index);
        }
    }

    /// Asks for the key frames that what was decided needs.
    fn ask_key_frames(&mut self, now: Instant, index: PeerIndex) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let all = peer.egress.iter().filter(|(_, each)| each.wants_key_frame().is_some());
        let needy: SmallVec<[(usize, Option<TrackHandle>); 8]> =
            all.map(|(slot, each)| (slot, each.track)).collect();
        for (slot, handle) in needy {
            let Some(peer) = self.peers.get_mut(index.0) else { return };
            if let (Some(handle), Some(layer)) = (handle, peer.egress.ask_key_frame(slot, now)) {
                self.ask_key_frame(now, handle, layer);
            }
        }
    }
}

fn entry(
    slot: usize,
    handle: TrackHandle,
    subscription: &Subscription,
    track: &Track,
    costs: Range<usize>,
) -> Entry {
    let facts = &track.facts;
    Entry {
        slot,
        handle,
        costs,
        ideal: match facts.kind {
            MediaKind::Audio => subscription.demand.enabled.then_some(Layer(0)),
            MediaKind::Video => ideal_layer(&subscription.demand, &facts.layers),
        },
        kind: facts.kind,
        muted: facts.muted,
        screen_share: facts.screen_share,
        priority: subscription.demand.priority,
        standing: subscription.standing,
    }
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
