//! Who gets which layer: from what a subscriber's link carries, what is wanted of each track and what each layer
//! costs now, to a layer or a pause per track.
//!
//! Every track is a ladder of steps, its layers. The steps of all tracks are put in one order that does not depend on
//! the estimate, and each is taken if it still fits:
//!
//! 1. audio, always, even if the estimate does not cover it. It is the only thing that may exceed the estimate;
//! 2. the lowest layer of every video track, at a lower frame rate if it does not fit otherwise: screen shares, then
//!    the active speaker, then the others, each by priority, and among equals first those that are sent already;
//! 3. the higher layers in the same order of importance; among equals the second layer of all before the third of
//!    any, those sent already first, then the cheapest.
//!
//! So what is shed first is the higher layers of thumbnails, then those of important tracks, then thumbnails, then all
//! video. And more bandwidth never makes a track worse, unless a more important step takes what it had.
//!
//! A step down, or a pause, comes at once. A step up needs headroom and patience (see [`Standing`]), or that a probe has
//! just shown the new total to pass.

use std::time::{Duration, Instant};

use sfu_protocol::{Layer, MediaKind};

use crate::units::Bitrate;

/// What a subscriber's link carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// The estimate. What is allocated to video stays below it, audio included.
    pub estimate: Bitrate,
    /// What it will be when the queue that stands is empty; not below the estimate. The lowest layers may use it: they
    /// leave room for the queue to drain, and pausing them would cost a picture.
    pub settled: Bitrate,
    /// The highest rate that a recent probe has shown to pass, zero if none has. Up to that rate, but never beyond
    /// the estimate, a step up needs no further headroom.
    pub probed: Bitrate,
}

/// What one layer of a track costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerCost {
    /// Whether packets of it have arrived lately.
    pub active: bool,
    /// Of this layer with all that it needs below it. Measured; expected, while unmeasured; the last known, while
    /// it does not flow. Zero, if nothing is known, lets an inactive layer be asked for at any estimate.
    pub bitrate: Bitrate,
}

/// One subscribed track.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Audio or video.
    pub kind: MediaKind,
    /// The publisher muted it.
    pub muted: bool,
    /// It shows a screen.
    pub screen_share: bool,
    /// Its publisher is the active speaker.
    pub speaker: bool,
    /// 1 is most important, 0 unset, which comes after all others.
    pub priority: u32,
    /// The layer that would serve the subscriber's wish best, whether or not it flows; `None`: nothing is wanted.
    pub ideal: Option<Layer>,
    /// What its layers cost, lowest first. Of audio the first counts.
    pub layers: &'a [LayerCost],
    /// What the lowest layer costs with fewer temporal layers, fewest first; without those that save nothing.
    pub slower: &'a [Bitrate],
    /// What was decided before.
    pub standing: Standing,
}

/// What was decided for a track before. A subscription keeps it between calls.
///
/// A step up is allowed at most once in [`UPGRADE_INTERVAL`], and later after each one that had to be taken back;
/// but at any time in the first [`UPGRADE_INTERVAL`] of a subscription, once after a change of demand, and whenever a
/// probe has shown that it passes; if two in a row had to be taken back, that half as much again passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    current: Option<Layer>,
    began: Instant,
    last_up: Option<Instant>,
    /// Steps up that were taken back, in a row.
    failures: u32,
    /// The last step up was taken back: it counts once, however many steps down follow.
    taken_back: bool,
}

/// What is decided for one track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The layer to send.
    pub target: Option<Layer>,
    /// Its highest temporal layer, `None` for all. All but the lowest layer are sent whole or not at all.
    pub temporal: Option<u8>,
    /// The layer to ask of the publisher: above the target if that one does not flow yet or may not be taken yet.
    pub demand: Option<Layer>,
    /// It is wanted, but there is no bandwidth for it.
    pub paused: bool,
    /// Why it is this layer.
    pub reason: Reason,
}

/// Why a track gets the layer that it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It is what serves the subscriber best.
    Ideal,
    /// The subscriber wants nothing of it.
    Demand,
    /// The publisher muted it.
    Muted,
    /// More does not fit into the estimate.
    NoBandwidth,
    /// More would fit, but with too little to spare. A probe may change that.
    NoHeadroom,
    /// The layer that is wanted does not flow.
    LayerInactive,
    /// A step up fits, but comes too soon after the last one.
    Hysteresis,
}

/// What is decided for a subscriber as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// What all targets together cost.
    pub allocated: Bitrate,
    /// What all ideal layers together would cost. There is no use in probing beyond it and its headroom.
    pub wanted: Bitrate,
    /// The estimate at which the next step up, in order of importance, could be taken; `None`: no step is missing.
    pub next_step: Option<Bitrate>,
    /// When a step up that fits will be allowed, if not before.
    pub next_upgrade_at: Option<Instant>,
}

/// Memory that is kept between calls so that none is allocated.
#[derive(Debug, Default)]
pub struct Scratch {
    steps: Vec<Step>,
    ladders: Vec<Ladder>,
}

impl Standing {
    /// A subscription that begins now. Nothing is sent.
    pub fn new(now: Instant) -> Self {
        Self { current: None, began: now, last_up: None, failures: 0, taken_back: false }
    }

    /// What is sent now.
    pub fn current(&self) -> Option<Layer> {
        self.current
    }

    /// The subscriber wants another size, rate, quality or priority: the next step up need not wait.
    pub fn on_demand_changed(&mut self) {
        self.last_up = None;
        self.failures = 0;
    }

    /// Takes note of a decision. True if its target is another than before.
    pub fn apply(&mut self, decision: &Decision, now: Instant) -> bool {
        let before = std::mem::replace(&mut self.current, decision.target);
        if matches!(decision.reason, Reason::Muted | Reason::Demand) {
            // What comes after is wanted anew.
            self.on_demand_changed();
        } else if decision.target > before {
            if self.last_up.is_some_and(|last| now.saturating_duration_since(last) >= FORGIVEN) {
                self.failures = 0;
            }
            self.last_up = Some(now);
            self.taken_back = false;
        } else if decision.target < before && decision.reason == Reason::NoBandwidth && !self.taken_back {
            let soon = self.last_up.is_some_and(|last| now.saturating_duration_since(last) < SETTLED);
            self.failures = if soon { (self.failures + 1).min(MOST_FAILURES) } else { 0 };
            self.taken_back = true;
        }
        decision.target != before
    }

    /// When the next step up is allowed, if it is not now.
    fn blocked_until(&self, now: Instant) -> Option<Instant> {
        let young = now.saturating_duration_since(self.began) < UPGRADE_INTERVAL;
        let until = self.last_up? + UPGRADE_INTERVAL * (1 << self.failures);
        (!young && now < until).then_some(until)
    }
}

/// Decides for all tracks of one subscriber: fills `decisions` with one for each of `candidates`, in their order.
/// The same input gives the same result.
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
        ladders.push(Ladder::new(candidate, now));
        wanted = plus(wanted, ideal_cost(candidate));
        match (candidate.kind, wish(candidate)) {
            (_, None) => {}
            (MediaKind::Audio, Some(_)) => budget.spend(ideal_cost(candidate)),
            (MediaKind::Video, Some(ideal)) => push_steps(track, candidate, ideal, steps),
        }
    }
    // Steps differ in their track or layer, so an unstable sort has one result.
    steps.sort_unstable();
    let mut next_step = None;
    for step in steps.iter() {
        let Some(ladder) = ladders.get_mut(step.track) else { continue };
        if let Some(needed) = climb(step, ladder, &mut budget) {
            next_step.get_or_insert(needed);
            let slower = candidates.get(step.track).map_or(&[][..], |candidate| candidate.slower);
            slow_down(step, slower, ladder, &mut budget);
        }
    }
    decisions.clear();
    let decided = candidates.iter().zip(ladders.iter());
    decisions.extend(decided.map(|(candidate, ladder)| decide(candidate, ladder)));
    let waiting = ladders.iter().filter(|ladder| ladder.reason == Some(Reason::Hysteresis));
    Outcome {
        allocated: budget.spent,
        wanted,
        next_step,
        next_upgrade_at: waiting.filter_map(|ladder| ladder.blocked_until).min(),
    }
}

/// One layer of one track. Its order is the order in which steps are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    /// Lowest layers of all come before any other.
    higher: bool,
    importance: (u8, u32),
    /// Its place among the track's steps.
    place: u8,
    /// Above what is sent now.
    up: bool,
    cost: Bitrate,
    track: usize,
    layer: Layer,
    /// Whether it flows, so that it can be sent.
    active: bool,
    /// Above the ideal, and sent only because nothing better flows.
    stands_in: bool,
}

/// How far up a track has got.
#[derive(Debug, Clone, Copy)]
struct Ladder {
    target: Option<Layer>,
    /// As in the decision.
    temporal: Option<u8>,
    /// What the target costs.
    spent: Bitrate,
    demand: Option<Layer>,
    /// What the demand costs.
    granted: Bitrate,
    blocked_until: Option<Instant>,
    /// The last steps up had to be taken back.
    failed: bool,
    /// What stands in the way of the next step.
    reason: Option<Reason>,
}

impl Ladder {
    fn new(candidate: &Candidate<'_>, now: Instant) -> Self {
        Self {
            target: None,
            temporal: None,
            spent: Bitrate::ZERO,
            demand: None,
            granted: Bitrate::ZERO,
            blocked_until: candidate.standing.blocked_until(now),
            failed: candidate.standing.failures > 1,
            reason: None,
        }
    }
}

/// What is left of the estimate.
#[derive(Debug)]
struct Budget {
    /// Shown to pass by a probe.
    probed: Bitrate,
    /// For lowest layers that are sent already, and for going up to them.
    lowest: (Bitrate, Bitrate),
    /// For what is sent already.
    hold: Bitrate,
    /// For steps up.
    up: Bitrate,
    /// What all targets cost.
    spent: Bitrate,
    /// What all demands cost: what waits for its time or its publisher keeps its room, so that a less important
    /// track does not go up only to come down again.
    granted: Bitrate,
}

impl Budget {
    fn new(capacity: Capacity) -> Self {
        let estimate = capacity.estimate;
        let probed = capacity.probed.min(estimate);
        let up = without_headroom(estimate).max(probed);
        let settled = capacity.settled.max(estimate);
        let lowest = (settled, without_headroom(settled).max(probed));
        Self { probed, lowest, hold: estimate, up, spent: Bitrate::ZERO, granted: Bitrate::ZERO }
    }

    fn spend(&mut self, cost: Bitrate) {
        self.spent = plus(self.spent, cost);
        self.granted = plus(self.granted, cost);
    }
}

/// Tries one step. Returns the estimate that it would take, if it does not fit.
fn climb(step: &Step, ladder: &mut Ladder, budget: &mut Budget) -> Option<Bitrate> {
    let spent = plus(minus(budget.spent, ladder.spent), step.cost);
    let granted = plus(minus(budget.granted, ladder.granted), step.cost);
    let (hold, up) = if step.higher { (budget.hold, budget.up) } else { budget.lowest };
    let fits = if step.up { spent.max(granted) <= up } else { spent <= hold };
    if !fits {
        // The next step is tried all the same: a still picture can cost less in a higher layer.
        let short = if spent > hold { Reason::NoBandwidth } else { Reason::NoHeadroom };
        ladder.reason.get_or_insert(short);
        return Some(if step.up { with_headroom(spent.max(granted)) } else { spent });
    }
    let total = spent.max(granted);
    let shown = if ladder.failed { with_doubt(total) } else { total } <= budget.probed;
    let too_soon = step.up && ladder.blocked_until.is_some() && !shown;
    // No room is kept for a layer that stands in: with luck the ideal, which is cheaper, flows by then.
    if !(too_soon && step.stands_in) {
        (budget.granted, ladder.granted, ladder.demand) = (granted, step.cost, Some(step.layer));
    }
    if !step.active {
        ladder.reason.get_or_insert(Reason::LayerInactive);
    } else if too_soon {
        ladder.reason.get_or_insert(Reason::Hysteresis);
    } else {
        (budget.spent, ladder.spent, ladder.target) = (spent, step.cost, Some(step.layer));
        ladder.temporal = None;
    }
    None
}

/// A lowest layer that does not fit whole may fit with fewer temporal layers: better slow than not at all.
fn slow_down(step: &Step, slower: &[Bitrate], ladder: &mut Ladder, budget: &mut Budget) {
    if step.higher || !step.active || step.layer != Layer(0) {
        return;
    }
    let fits = |cost: &Bitrate| climb(&Step { cost: *cost, ..*step }, ladder, budget).is_none();
    if let Some(temporal) = slower.iter().rposition(fits) {
        // Few.
        ladder.temporal = u8::try_from(temporal).ok();
    }
}

/// The steps of a video track: its layers up to the ideal that flow, and above those the ones that do not, which can
/// be asked for only. If none up to the ideal flows, the next that does stands for them; if none flows at all, the
/// track has only begun, or sleeps for want of demand, and all count as if they did.
fn push_steps(track: usize, candidate: &Candidate<'_>, ideal: Layer, steps: &mut Vec<Step>) {
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
        steps.push(Step {
            higher: place > 0,
            importance: importance(candidate),
            place,
            up: candidate.standing.current.is_none_or(|current| layer > current),
            cost: cost.bitrate,
            track,
            layer,
            active: may_be_sent,
            stands_in: number > top,
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

/// What is wanted of a track that has something to give.
fn wish(candidate: &Candidate<'_>) -> Option<Layer> {
    candidate.ideal.filter(|_| !candidate.muted)
}

/// The place of a layer, or of the highest there is if there is no such one.
fn existing(layer: Layer, candidate: &Candidate<'_>) -> usize {
    usize::from(layer.0).min(candidate.layers.len().saturating_sub(1))
}

/// Lower is more important.
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
        (MediaKind::Video, Some(ideal)) => usize::from(ideal.0).min(candidate.layers.len().saturating_sub(1)),
    };
    candidate.layers.get(place).map_or(Bitrate::ZERO, |layer| layer.bitrate)
}

fn plus(a: Bitrate, b: Bitrate) -> Bitrate {
    Bitrate::from_bps(a.bps().saturating_add(b.bps()))
}

fn minus(a: Bitrate, b: Bitrate) -> Bitrate {
    Bitrate::from_bps(a.bps().saturating_sub(b.bps()))
}

/// What must have been shown after steps up that had to be taken back: a link that has become another.
fn with_doubt(total: Bitrate) -> Bitrate {
    Bitrate::from_bps(total.bps().saturating_add(total.bps() / 2))
}

/// What a step up may lead to at this estimate.
fn without_headroom(estimate: Bitrate) -> Bitrate {
    let bps = u128::from(estimate.bps()) * 100 / u128::from(100 + HEADROOM_PERCENT);
    Bitrate::from_bps(u64::try_from(bps).unwrap_or(u64::MAX))
}

/// The estimate at which a step up to this total has its headroom. Rounded up.
fn with_headroom(total: Bitrate) -> Bitrate {
    let bps = (u128::from(total.bps()) * u128::from(100 + HEADROOM_PERCENT)).div_ceil(100);
    Bitrate::from_bps(u64::try_from(bps).unwrap_or(u64::MAX))
}

/// Least time between two steps up of one track.
pub const UPGRADE_INTERVAL: Duration = Duration::from_secs(5);
/// A step up that held this long was right.
const SETTLED: Duration = Duration::from_secs(10);
/// After this long, failures are forgotten. Longer than the longest wait, or that would end itself.
const FORGIVEN: Duration = Duration::from_secs(60);
/// After so many failures in a row the wait, twice as long each time, grows no further: 40 s.
const MOST_FAILURES: u32 = 3;
/// How much more than the new total the estimate must be for a step up, in per cent.
const HEADROOM_PERCENT: u32 = 10;

#[cfg(test)]
mod tests;
