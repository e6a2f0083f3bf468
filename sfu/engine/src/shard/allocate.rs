//! Layer allocation for one subscriber: combines the capacity of its link with the current cost of its tracks, and
//! carries out the decisions of `egress/allocate.rs`.

use std::ops::Range;
use std::time::Instant;

use sfu_protocol::{Event, Layer, MediaKind};
use smallvec::SmallVec;

use super::Shard;
use crate::egress::allocate::{Candidate, Decision, LayerCost, Scratch, Slower, Standing, allocate};
use crate::egress::layer_select::ideal_layer;
use crate::egress::track::Subscription;
use crate::handles::{PeerIndex, TrackHandle};
use crate::room::Track;
use crate::room::rate::Sublayer;
use crate::units::Bitrate;

/// Assumed capacity while there is no estimate for a link: the lowest layers of all wanted tracks are sent, up to this
/// bitrate. Feedback on them gives the first estimate.
const BLIND: Bitrate = Bitrate::from_kbps(2_000);

/// Buffers reused between allocations.
#[derive(Debug, Default)]
pub(super) struct Allocation {
    costs: Vec<LayerCost>,
    scratch: Scratch,
    decisions: Vec<Decision>,
}

/// One subscription's inputs to an allocation.
struct Entry {
    slot: usize,
    handle: TrackHandle,
    /// Range of this track's layers in the list of all layer costs.
    costs: Range<usize>,
    ideal: Option<Layer>,
    /// The highest temporal layer that the wanted frame rate needs; `None` if all are needed.
    enough: Option<u8>,
    kind: MediaKind,
    muted: bool,
    screen_share: bool,
    speaker: bool,
    priority: u32,
    standing: Standing,
}

impl Shard {
    /// Allocates layers again for all subscriptions of a peer.
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
            let Some(room) = self.rooms.get(handle.room.0) else { continue };
            let Some(track) = room.tracks.get(handle.track) else { continue };
            let speaker = room.dominant.as_ref() == Some(&track.facts.publisher);
            let first = costs.len();
            if room.is_unheard(handle.track) {
                // An audio track that is not forwarded because others are louder takes no bandwidth.
                costs.push(LayerCost { active: true, bitrate: Bitrate::ZERO, slower: Slower::default() });
            } else {
                costs.extend((0..track.facts.layers.len()).map(|place| cost(track, place, now)));
            }
            let costs = first..costs.len();
            entries.push(Entry { speaker, ..entry(slot, handle, subscription, track, costs, now) });
        }
        let candidates: SmallVec<[Candidate<'_>; 8]> = entries
            .iter()
            .map(|entry| Candidate {
                kind: entry.kind,
                muted: entry.muted,
                screen_share: entry.screen_share,
                speaker: entry.speaker,
                priority: entry.priority,
                never_pause: peer.egress.never_pause,
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
            let carried_out = peer.egress.carry_out(entry.slot, decision, entry.enough, now);
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

    /// Handles a possibly changed bandwidth estimate: reallocates if the subscriber's link has changed or a
    /// reallocation is due.
    pub(super) fn on_estimate(&mut self, now: Instant, index: PeerIndex) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let restarted = peer.egress.restart_after_outage();
        if restarted || peer.egress.is_allocation_due(now) {
            self.allocate_peer(now, index);
            self.ask_key_frames(now, index);
        }
    }

    /// Requests the key frames that the last allocation needs.
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
    now: Instant,
) -> Entry {
    let facts = &track.facts;
    let ideal = match facts.kind {
        MediaKind::Audio => subscription.demand.enabled.then_some(Layer(0)),
        MediaKind::Video => ideal_layer(&subscription.demand, &facts.layers),
    };
    Entry {
        slot,
        handle,
        costs,
        ideal,
        enough: ideal.and_then(|layer| enough_for(subscription.demand.fps, track, layer, now)),
        kind: facts.kind,
        muted: facts.muted,
        screen_share: facts.screen_share,
        speaker: false,
        priority: subscription.demand.priority,
        standing: subscription.standing,
    }
}

/// The cost of a layer: its measured bitrate or, if there is none, the usual bitrate of a layer of its size.
fn cost(track: &Track, place: usize, now: Instant) -> LayerCost {
    let info = track.facts.layers.get(place);
    let measured = track.rate_of(place).and_then(|(rate, at)| rate.sustained_up_to(at, now));
    let expected = match track.facts.kind {
        MediaKind::Audio => USUAL_AUDIO,
        MediaKind::Video => info.map_or(Bitrate::ZERO, |info| {
            // The publisher states the size, and may state anything.
            let pixels = u64::from(info.width).saturating_mul(u64::from(info.height));
            Bitrate::from_bps(pixels.saturating_mul(USUAL_BITS_PER_PIXEL))
        }),
    };
    let active = info.is_some_and(|info| info.active);
    // A layer that has stopped was last measured at zero.
    let measured = measured.filter(|rate| active && *rate > Bitrate::ZERO);
    let bitrate = measured.unwrap_or(expected);
    let slower = if active { slower_costs(track, place, bitrate, now) } else { Slower::default() };
    LayerCost { active, bitrate, slower }
}

/// The cost of a layer with fewer temporal layers. An entry is `None` unless it is less than `whole` and, except for
/// the lowest layer, keeps at least [`LEAST_FRAMES`] frames per second.
fn slower_costs(track: &Track, place: usize, whole: Bitrate, now: Instant) -> Slower {
    let rate = track.rate_of(place).filter(|_| track.facts.kind == MediaKind::Video);
    [0, 1].map(|temporal| {
        let (rate, at) = rate?;
        let at = Sublayer { temporal, ..at };
        let cost = rate.sustained_up_to(at, now)?;
        let moves = || rate.frames_per_second_up_to(at, now) >= Some(LEAST_FRAMES);
        (cost > Bitrate::ZERO && cost < whole && (place == 0 || moves())).then_some(cost)
    })
}

/// The lowest temporal layer that reaches the wanted frame rate, in `layer` or, if that is inactive, in the next lower
/// active layer. `None` if all temporal layers are needed, no rate is wanted, or the frame rates are not known.
fn enough_for(fps: u32, track: &Track, layer: Layer, now: Instant) -> Option<u8> {
    if fps == 0 {
        return None;
    }
    let flows = |place: &usize| track.facts.layers.get(*place).is_some_and(|info| info.active);
    let (rate, at) = track.rate_of((0..=usize::from(layer.0)).rev().find(flows)?)?;
    let frames = |temporal| rate.frames_per_second_up_to(Sublayer { temporal, ..at }, now).unwrap_or(0);
    // 90 % is enough: measured rates are not exact, and a client may want 15 frames per second of a track at 29.97.
    let wanted = fps.saturating_mul(9).div_ceil(10);
    (0..Sublayer::TOP.temporal).find(|temporal| frames(*temporal) >= wanted)
}

/// The total cost of the lowest layers of all wanted, unmuted audio and video tracks.
fn lowest(candidates: &[Candidate<'_>]) -> Bitrate {
    let wanted = candidates.iter().filter(|candidate| candidate.ideal.is_some() && !candidate.muted);
    let costs = wanted.filter_map(|candidate| candidate.layers.first().map(|layer| layer.bitrate.bps()));
    Bitrate::from_bps(costs.fold(0, u64::saturating_add))
}

/// Assumed cost of an audio track: Opus at 40 kbit/s plus headers.
const USUAL_AUDIO: Bitrate = Bitrate::from_kbps(60);
/// Frames per second below which a lower resolution is better than a lower frame rate.
const LEAST_FRAMES: u32 = 9;
/// Assumed video bitrate, in bits per second for each pixel of the frame size. Browsers send 180 lines at 0.12 Mbit/s,
/// 360 at 0.45, 720 at 1.7.
const USUAL_BITS_PER_PIXEL: u64 = 2;
