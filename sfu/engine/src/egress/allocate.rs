//! Decides which layer of each track a subscriber receives. The inputs are the link's capacity, the layer wanted of
//! each track and the current bitrate of each layer. The result is a layer or a pause per track.
//!
//! The layers of a track are the steps of a ladder. The steps of all tracks are sorted into one order that does not
//! depend on the estimate, and each step is taken if it still fits:
//!
//! 1. Audio: always, even if the estimate does not cover it. Only one other thing may exceed the estimate: the lowest
//!    layer of a video track whose subscriber asked never to have video paused.
//! 2. The lowest layer of every video track, at a lower frame rate if it does not fit otherwise. Screen shares come
//!    first, then the active speaker, then the others, each class by priority. Among equals, layers that are already
//!    sent come first.
//! 3. The higher layers, in the same order of importance. Among equals, the second layer of all tracks comes before the
//!    third of any; then layers that are already sent, then the cheapest. If a second layer is sent and no longer fits,
//!    its frame rate is lowered before it is dropped: the lowest layer is often too small to show much, and switching
//!    to it needs a key frame.
//!
//! So the higher layers of thumbnails are shed first, then those of important tracks, then thumbnails, then all video.
//! More bandwidth never makes a track worse, unless a more important step takes the bandwidth that the track had.
//!
//! A step down or a pause takes effect at once, but is not triggered by the queue that the key frame of a step up
//! makes. A step up needs headroom and a minimum interval since the last one (see [`Standing`]). A recent probe that
//! showed the new total to pass replaces the headroom; one that has just ended replaces the interval too.

mod standing;

use std::time::Instant;

use sfu_protocol::{Layer, MediaKind};

use crate::units::Bitrate;

pub use standing::Standing;
#[cfg(test)]
use standing::UPGRADE_INTERVAL;

/// Capacity of one subscriber's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// The bandwidth estimate. Video is allocated only as long as the total, audio included, stays below it.
    pub estimate: Bitrate,
    /// Estimate once the standing queue has drained; not below `estimate`. Layers that are already sent may use it.
    /// `estimate` is lower to let the queue drain, and replacing a layer would start with a key frame, which makes a
    /// queue itself.
    pub settled: Bitrate,
    /// Rate that arrived while the queue grew; not below `settled`. The key frame of a step up makes a queue even on a
    /// link that can carry the layer. The layer may use this rate until that queue has drained.
    pub delivered: Bitrate,
    /// Highest rate that a probe has recently shown to pass; zero if none has. A step up to a total below this rate and
    /// the estimate needs no further headroom.
    pub confirmed: Bitrate,
    /// Highest rate that a probe has shown to pass, if that is the newest information about the link; zero otherwise. A
    /// step up to a total below this rate need not wait for its interval either.
    pub probed: Bitrate,
    /// Headroom for a step up that no probe has confirmed: how much the estimate must exceed the new total, in per
    /// cent.
    pub headroom: u32,
    /// Time until which probes, which have just shown more capacity, may show still more; absent otherwise. Until then
    /// only a step to the ideal layer is worth a key frame.
    pub climbs_until: Option<Instant>,
}

impl Capacity {
    /// Nothing is known about the link, or nothing can be: everything fits.
    pub const UNKNOWN: Self = Self {
        estimate: Bitrate::MAX,
        settled: Bitrate::MAX,
        delivered: Bitrate::MAX,
        confirmed: Bitrate::MAX,
        probed: Bitrate::MAX,
        headroom: HEADROOM_PERCENT,
        climbs_until: None,
    };
}

/// Cost of one layer of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerCost {
    /// Whether packets of this layer have arrived recently.
    pub active: bool,
    /// Bitrate of this layer including all layers below that it depends on. Measured if possible, otherwise expected;
    /// while the layer is inactive, the last known value. Zero if nothing is known, so that an inactive layer can be
    /// requested at any estimate.
    pub bitrate: Bitrate,
    /// Bitrate with fewer temporal layers.
    pub slower: Slower,
}

/// Cost of a layer with only its lowest temporal layer, and with its lowest two. `None` if the layer has no such
/// temporal layers, or if dropping the others saves nothing or leaves too low a frame rate.
pub type Slower = [Option<Bitrate>; 2];

/// One subscribed track.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Audio or video.
    pub kind: MediaKind,
    /// Whether the publisher muted the track.
    pub muted: bool,
    /// Whether the track is a screen share.
    pub screen_share: bool,
    /// Whether the track's publisher is the active speaker.
    pub speaker: bool,
    /// Priority: 1 is the most important; 0 means unset and comes after all others.
    pub priority: u32,
    /// Whether the lowest layer is sent even if the estimate does not cover it.
    pub never_pause: bool,
    /// Layer that would serve the subscriber's demand best, whether or not it is active; `None` if nothing is wanted.
    pub ideal: Option<Layer>,
    /// Costs of the layers, lowest first. For audio only the first entry is used.
    pub layers: &'a [LayerCost],
    /// State from earlier decisions about this track.
    pub standing: Standing,
}

/// Decision about one track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Layer to send; `None` to send nothing.
    pub target: Option<Layer>,
    /// Highest temporal layer to send, `None` for all. Only the lowest two layers can be sent without some temporal
    /// layers.
    pub temporal: Option<u8>,
    /// Layer to request from the publisher. It is above `target` if that layer is not active yet or may not be sent
    /// yet.
    pub demand: Option<Layer>,
    /// Whether the track is wanted but there is no bandwidth for it.
    pub paused: bool,
    /// Why this layer was chosen.
    pub reason: Reason,
}

/// Why a track gets the layer that it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The layer is the one that serves the subscriber best.
    Ideal,
    /// The subscriber wants nothing of the track.
    Demand,
    /// The publisher muted the track.
    Muted,
    /// No higher layer fits into the estimate.
    NoBandwidth,
    /// A higher layer would fit, but with too little headroom. A probe may change that.
    NoHeadroom,
    /// The wanted layer is not active.
    LayerInactive,
    /// A step up fits, but comes too soon after the last one.
    Hysteresis,
    /// A step up fits, but probing continues and may show that a higher one fits too.
    Climbing,
}

/// Result for all tracks of a subscriber together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Total bitrate of all targets.
    pub allocated: Bitrate,
    /// Total bitrate of all ideal layers. Probing beyond this rate and its headroom is useless.
    pub wanted: Bitrate,
    /// Estimate at which the next step up, in order of importance, could be taken; `None` if no step is missing.
    pub next_step: Option<Bitrate>,
    /// Earliest time at which a step up that fits is allowed by its interval; `None` if none is waiting.
    pub next_upgrade_at: Option<Instant>,
}

/// Buffers that are reused between calls to avoid allocation.
#[derive(Debug, Default)]
pub struct Scratch {
    steps: Vec<Step>,
    ladders: Vec<Ladder>,
}

/// Decides for all tracks of one subscriber. Fills `decisions` with one decision for each of `candidates`, in their
/// order. Deterministic.
pub fn allocate(
    capacity: Capacity,
    candidates: &[Candidate<'_>],
    now: Instant,
    scratch: &mut Scratch,
    decisions: &mut Vec<Decision>,
) -> Outcome {
    let Scratch { steps, ladders } = scratch;
    steps.clear();
    ladders.clear();
    let mut budget = Budget::new(capacity);
    let mut wanted = Bitrate::ZERO;
    for (track, candidate) in candidates.iter().enumerate() {
        ladders.push(Ladder::default());
        wanted = plus(wanted, ideal_cost(candidate));
        match (candidate.kind, wish(candidate)) {
            (_, None) => {}
            (MediaKind::Audio, Some(_)) => budget.spend(ideal_cost(candidate)),
            (MediaKind::Video, Some(ideal)) => push_steps(track, candidate, ideal, now, steps),
        }
    }
    // No two steps have both track and layer in common, so an unstable sort is deterministic.
    steps.sort_unstable();
    let mut next_step = None;
    for step in steps.iter() {
        let Some(ladder) = ladders.get_mut(step.track) else { continue };
        if let Some(needed) = climb(step, ladder, &mut budget) {
            next_step.get_or_insert(needed);
            slow_down(step, ladder, &mut budget);
            if step.never_pause && ladder.target.is_none() {
                exceed(step, ladder, &mut budget);
            }
        }
    }
    decisions.clear();
    let decided = candidates.iter().zip(ladders.iter());
    decisions.extend(decided.map(|(candidate, ladder)| decide(candidate, ladder)));
    Outcome {
        allocated: budget.spent,
        wanted,
        next_step,
        next_upgrade_at: ladders.iter().filter_map(|ladder| ladder.waits_until).min(),
    }
}

/// One layer of one track. The field order defines the order in which steps are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    /// False for a track's lowest layer: the lowest layers of all tracks come first.
    higher: bool,
    importance: (u8, u32),
    /// Whether the step is taken even if it does not fit.
    never_pause: bool,
    /// Index among the track's steps, 0 for the lowest.
    place: u8,
    /// Whether the step sends more than is sent now.
    up: bool,
    cost: Bitrate,
    track: usize,
    layer: Layer,
    /// Whether the layer can be sent.
    active: bool,
    /// Whether the layer is above the ideal and is sent only because nothing better is active.
    stands_in: bool,
    /// Cost with fewer temporal layers.
    slower: Slower,
    /// Whether the layer is the one that is sent now.
    held: bool,
    /// Whether the layer is the ideal one.
    ideal: bool,
    /// Whether the track's last step up was so recent that its key frame may still be in the queue.
    settling: bool,
    /// Earliest time for the step, if it has to wait. Later the more often the step failed before.
    blocked_until: Option<Instant>,
    /// Earliest time for the step if earlier failures were ignored.
    rests_until: Option<Instant>,
    /// Whether earlier failures require more headroom for the step.
    doubted: bool,
}

/// Progress of one track up its ladder.
#[derive(Debug, Clone, Copy, Default)]
struct Ladder {
    target: Option<Layer>,
    /// Highest temporal layer to send, `None` for all.
    temporal: Option<u8>,
    /// Cost of the target.
    spent: Bitrate,
    demand: Option<Layer>,
    /// Cost of the demand.
    granted: Bitrate,
    /// Earliest time for the next step, which fits but has to wait.
    waits_until: Option<Instant>,
    /// What prevented the first step that was not taken.
    reason: Option<Reason>,
}

/// Remaining bandwidth.
#[derive(Debug)]
struct Budget {
    /// Rate that a probe has just shown to pass.
    probed: Bitrate,
    /// Limit for layers that are already sent.
    hold: Bitrate,
    /// Limit for a higher layer that started so recently that its key frame may be what makes the queue.
    settling: Bitrate,
    /// Limit for steps up to a higher layer.
    up: Bitrate,
    /// Limit for steps up to a lowest layer. Based on `settled`: starting video now is better than after the queue is
    /// empty.
    lowest: Bitrate,
    /// Headroom for a step up, in per cent.
    headroom: u32,
    /// Time until which probes may show more capacity.
    climbs_until: Option<Instant>,
    /// Total cost of all targets.
    spent: Bitrate,
    /// Total cost of all demands. A layer that waits for its interval or its publisher has its bandwidth reserved, so
    /// that a less important track does not step up only to step down again.
    granted: Bitrate,
}

impl Budget {
    fn new(capacity: Capacity) -> Self {
        let estimate = capacity.estimate;
        let probed = capacity.probed.min(estimate);
        let confirmed = capacity.confirmed.min(estimate).max(probed);
        let headroom = capacity.headroom;
        let up = without_headroom(estimate, headroom).max(confirmed);
        let settled = capacity.settled.max(estimate);
        let lowest = without_headroom(settled, HEADROOM_PERCENT).max(confirmed);
        let settling = capacity.delivered.max(settled);
        let (spent, granted) = (Bitrate::ZERO, Bitrate::ZERO);
        let climbs_until = capacity.climbs_until;
        Self { probed, lowest, hold: settled, settling, up, headroom, climbs_until, spent, granted }
    }

    fn spend(&mut self, cost: Bitrate) {
        self.spent = plus(self.spent, cost);
        self.granted = plus(self.granted, cost);
    }
}

/// Tries one step. If it does not fit, returns the estimate at which it would.
fn climb(step: &Step, ladder: &mut Ladder, budget: &mut Budget) -> Option<Bitrate> {
    let spent = plus(minus(budget.spent, ladder.spent), step.cost);
    let granted = plus(minus(budget.granted, ladder.granted), step.cost);
    let up = if step.higher { budget.up } else { budget.lowest };
    let hold = if step.settling && step.higher { budget.settling } else { budget.hold };
    let fits = if step.up { spent.max(granted) <= up } else { spent <= hold };
    if !fits {
        // The next step is tried all the same: static content can cost less in a higher layer.
        let short = if spent > hold { Reason::NoBandwidth } else { Reason::NoHeadroom };
        ladder.reason.get_or_insert(short);
        let headroom = if step.higher { budget.headroom } else { HEADROOM_PERCENT };
        return Some(if step.up { with_headroom(spent.max(granted), headroom) } else { spent });
    }
    let total = spent.max(granted);
    let shown = if step.doubted { with_doubt(total) } else { total } <= budget.probed;
    let climbs = budget.climbs_until.filter(|_| step.up && step.higher && !step.held && !step.ideal);
    // Video that is not sent at all ignores the wait for earlier failures if half as much again would pass.
    let ample = !step.higher && with_doubt(total) <= budget.lowest;
    let blocked = if ample { step.rests_until } else { step.blocked_until };
    let blocked = blocked.filter(|_| !shown);
    let wait =
        blocked.map(|until| (Reason::Hysteresis, until)).or(climbs.map(|until| (Reason::Climbing, until)));
    // No bandwidth is reserved for a stand-in layer that has to wait: the ideal, which is cheaper, may be active by
    // then.
    if wait.is_none() || !step.stands_in {
        (budget.granted, ladder.granted, ladder.demand) = (granted, step.cost, Some(step.layer));
    }
    if !step.active {
        ladder.reason.get_or_insert(Reason::LayerInactive);
    } else if let Some((reason, until)) = wait {
        if *ladder.reason.get_or_insert(reason) == reason {
            ladder.waits_until = Some(until);
        }
    } else {
        (budget.spent, ladder.spent, ladder.target) = (spent, step.cost, Some(step.layer));
        (ladder.temporal, ladder.waits_until) = (None, None);
    }
    None
}

/// Tries the layer with fewer temporal layers: a low frame rate is better than no video.
fn slow_down(step: &Step, ladder: &mut Ladder, budget: &mut Budget) {
    // Switching to another layer begins with a key frame, which would fill a narrow link for long, only to show few
    // frames.
    if !step.active || step.higher && !step.held {
        return;
    }
    let before = ladder.target;
    let up = step.up && !step.held;
    let mut fits = |cost| climb(&Step { cost, up, ..*step }, ladder, budget).is_none();
    let temporal = step.slower.iter().rposition(|cost| cost.is_some_and(&mut fits));
    if ladder.target != before {
        // The index is 0 or 1.
        ladder.temporal = temporal.and_then(|temporal| u8::try_from(temporal).ok());
    }
}

/// Takes a lowest layer although it does not fit, with as few temporal layers as possible.
fn exceed(step: &Step, ladder: &mut Ladder, budget: &mut Budget) {
    let slowest = step.slower.iter().position(Option::is_some);
    let cost = slowest.and_then(|temporal| step.slower.get(temporal).copied().flatten()).unwrap_or(step.cost);
    budget.spend(cost);
    (ladder.spent, ladder.granted, ladder.demand) = (cost, cost, Some(step.layer));
    if step.active {
        ladder.target = Some(step.layer);
        ladder.temporal = slowest.and_then(|temporal| u8::try_from(temporal).ok());
    }
}

/// Adds the steps of a video track: its active layers up to the ideal, and above those the inactive ones, which can
/// only be requested. If no layer up to the ideal is active, the next higher active one stands in. If none is active at
/// all, the track has just begun or is idle for lack of demand, and all layers are treated as active.
fn push_steps(track: usize, candidate: &Candidate<'_>, ideal: Layer, now: Instant, steps: &mut Vec<Step>) {
    let top = existing(ideal, candidate);
    let active = |place: usize| candidate.layers.get(place).is_some_and(|layer| layer.active);
    let highest_active = (0..=top).rev().find(|place| active(*place));
    let stand_in = (top + 1..candidate.layers.len()).find(|place| active(*place));
    let asleep = highest_active.is_none() && stand_in.is_none();
    let mut place = 0;
    for number in stand_in.filter(|_| highest_active.is_none()).into_iter().chain(0..=top) {
        let Some(cost) = candidate.layers.get(number) else { continue };
        let may_be_sent = asleep || cost.active;
        if !may_be_sent && highest_active.is_some_and(|highest| number < highest) {
            continue;
        }
        let layer = Layer(u8::try_from(number).unwrap_or(u8::MAX));
        let above = candidate.standing.current.is_none_or(|current| layer > current);
        let held = candidate.standing.current == Some(layer);
        // Restoring the full frame rate counts as a step up, so that the frame rate does not flap.
        let whole = place > 0 && candidate.standing.slow && held;
        steps.push(Step {
            higher: place > 0,
            importance: importance(candidate),
            never_pause: candidate.never_pause && place == 0,
            place,
            up: above || whole,
            cost: cost.bitrate,
            track,
            layer,
            active: may_be_sent,
            stands_in: number > top,
            slower: if place < MAY_BE_SLOW { cost.slower } else { Slower::default() },
            held,
            ideal: number == top,
            settling: candidate.standing.is_settling(now),
            blocked_until: candidate.standing.blocked_until(layer, now).filter(|_| above),
            rests_until: candidate.standing.rests_until(now).filter(|_| above),
            doubted: candidate.standing.is_doubted(layer),
        });
        place = place.saturating_add(1);
    }
}

fn decide(candidate: &Candidate<'_>, ladder: &Ladder) -> Decision {
    let nothing = |reason| Decision { target: None, temporal: None, demand: None, paused: false, reason };
    if candidate.muted {
        return nothing(Reason::Muted);
    }
    let Some(ideal) = wish(candidate) else { return nothing(Reason::Demand) };
    if candidate.kind == MediaKind::Audio {
        return Decision {
            target: Some(Layer(0)),
            temporal: None,
            demand: Some(Layer(0)),
            paused: false,
            reason: Reason::Ideal,
        };
    }
    let is_ideal = ladder.target.is_some_and(|layer| usize::from(layer.0) == existing(ideal, candidate))
        && ladder.temporal.is_none();
    let reason = if is_ideal { Reason::Ideal } else { ladder.reason.unwrap_or(Reason::LayerInactive) };
    let paused = ladder.target.is_none() && reason != Reason::LayerInactive;
    let Ladder { target, temporal, demand, .. } = *ladder;
    Decision { target, temporal, demand, paused, reason }
}

/// The ideal layer, unless the track is muted.
fn wish(candidate: &Candidate<'_>) -> Option<Layer> {
    candidate.ideal.filter(|_| !candidate.muted)
}

/// Index of a layer, or of the highest existing one if the track has fewer.
fn existing(layer: Layer, candidate: &Candidate<'_>) -> usize {
    usize::from(layer.0).min(candidate.layers.len().saturating_sub(1))
}

/// Sort key: lower is more important.
fn importance(candidate: &Candidate<'_>) -> (u8, u32) {
    let class = match (candidate.screen_share, candidate.speaker) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 2,
    };
    (class, candidate.priority.wrapping_sub(1))
}

fn ideal_cost(candidate: &Candidate<'_>) -> Bitrate {
    let place = match (candidate.kind, wish(candidate)) {
        (_, None) => return Bitrate::ZERO,
        (MediaKind::Audio, _) => 0,
        (MediaKind::Video, Some(ideal)) => existing(ideal, candidate),
    };
    candidate.layers.get(place).map_or(Bitrate::ZERO, |layer| layer.bitrate)
}

fn plus(a: Bitrate, b: Bitrate) -> Bitrate {
    Bitrate::from_bps(a.bps().saturating_add(b.bps()))
}

fn minus(a: Bitrate, b: Bitrate) -> Bitrate {
    Bitrate::from_bps(a.bps().saturating_sub(b.bps()))
}

/// Total plus half: the capacity required to retry a step that failed before. That much means that the link has
/// changed.
fn with_doubt(total: Bitrate) -> Bitrate {
    Bitrate::from_bps(total.bps().saturating_add(total.bps() / 2))
}

/// Highest total to which a step up may lead at this estimate.
fn without_headroom(estimate: Bitrate, percent: u32) -> Bitrate {
    let bps = u128::from(estimate.bps()) * 100 / (100 + u128::from(percent));
    Bitrate::from_bps(u64::try_from(bps).unwrap_or(u64::MAX))
}

/// Estimate at which a step up to this total has its headroom, rounded up.
fn with_headroom(total: Bitrate, percent: u32) -> Bitrate {
    let bps = (u128::from(total.bps()) * (100 + u128::from(percent))).div_ceil(100);
    Bitrate::from_bps(u64::try_from(bps).unwrap_or(u64::MAX))
}

/// Number of lowest layers that may be sent without some temporal layers.
const MAY_BE_SLOW: u8 = 2;
/// Default of [`Capacity::headroom`].
pub const HEADROOM_PERCENT: u32 = 10;

#[cfg(test)]
mod tests;
