//! Who gets which layer: from what a subscriber's link carries, what is wanted of each track and what each layer
//! costs now, to a layer or a pause per track.
//!
//! Every track is a ladder of steps, its layers. The steps of all tracks are put in one order that does not depend on
//! the estimate, and each is taken if it still fits:
//!
//! 1. audio, always, even if the estimate does not cover it. Nothing else may exceed the estimate, but the lowest layer of
//!    pictures whose subscriber asked never to have them paused;
//! 2. the lowest layer of every video track, at a lower frame rate if it does not fit otherwise: screen shares, then
//!    the active speaker, then the others, each by priority, and among equals first those that are sent already;
//! 3. the higher layers in the same order of importance; among equals the second layer of all before the third of
//!    any, those sent already first, then the cheapest. If the second is sent and does not fit any more, it stays at a
//!    lower frame rate before it goes: the lowest is often too small to show much, and begins with a key frame.
//!
//! So what is shed first is the higher layers of thumbnails, then those of important tracks, then thumbnails, then all
//! video. And more bandwidth never makes a track worse, unless a more important step takes what it had.
//!
//! A step down, or a pause, comes at once, but not for the queue that the key frame of a step up makes. A step up needs
//! headroom and patience (see [`Standing`]), or that a probe has shown the new total to pass: headroom, if it was
//! lately, and patience too, if it was just now.

mod standing;

use std::time::Instant;

use sfu_protocol::{Layer, MediaKind};

use crate::units::Bitrate;

pub use standing::{Standing, UPGRADE_INTERVAL};

/// What a subscriber's link carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// The estimate. What is allocated to video stays below it, audio included.
    pub estimate: Bitrate,
    /// What it will be when the queue that stands is empty; not below the estimate. What is sent already may use it: it
    /// leaves room for the queue to drain, and another layer would begin with a key frame, which makes a queue itself.
    pub settled: Bitrate,
    /// What arrived while the queue grew; not below `settled`. The key frame that a step up begins with makes a queue
    /// even on a link that carries the layer well: until it has drained the layer may use this.
    pub delivered: Bitrate,
    /// The highest rate that a burst has lately shown to pass, zero if none has. Up to that rate, but never beyond the
    /// estimate, a step up needs no further headroom.
    pub confirmed: Bitrate,
    /// The highest rate that a burst has shown to pass, if that is the newest thing known of the link: a step up to it need not wait for
    /// its time either. Zero otherwise.
    pub probed: Bitrate,
    /// How much more than the new total the estimate must be for a step up, in per cent, where no burst has shown it.
    pub headroom: u32,
    /// Bursts have just shown more, and until then others may show more yet: only what is wanted in the end is worth a
    /// key frame before.
    pub climbs_until: Option<Instant>,
}

impl Capacity {
    /// Nothing is known of the link, or nothing can be: everything fits.
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

/// What one layer of a track costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerCost {
    /// Whether packets of it have arrived lately.
    pub active: bool,
    /// Of this layer with all that it needs below it. Measured; expected, while unmeasured; the last known, while
    /// it does not flow. Zero, if nothing is known, lets an inactive layer be asked for at any estimate.
    pub bitrate: Bitrate,
    /// The same with fewer temporal layers.
    pub slower: Slower,
}

/// What a layer costs with its lowest temporal layer only, and with the lowest two; `None`: it has no such, or they save
/// nothing or show too little.
pub type Slower = [Option<Bitrate>; 2];

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
    /// It is sent whatever the estimate.
    pub never_pause: bool,
    /// The layer that would serve the subscriber's wish best, whether or not it flows; `None`: nothing is wanted.
    pub ideal: Option<Layer>,
    /// What its layers cost, lowest first. Of audio the first counts.
    pub layers: &'a [LayerCost],
    /// What was decided before.
    pub standing: Standing,
}

/// What is decided for one track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The layer to send.
    pub target: Option<Layer>,
    /// Its highest temporal layer, `None` for all. All but the lowest two layers are sent whole or not at all.
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
    /// A step up fits, but bursts go on, and may show that a higher one does.
    Climbing,
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
        ladders.push(Ladder::default());
        wanted = plus(wanted, ideal_cost(candidate));
        match (candidate.kind, wish(candidate)) {
            (_, None) => {}
            (MediaKind::Audio, Some(_)) => budget.spend(ideal_cost(candidate)),
            (MediaKind::Video, Some(ideal)) => push_steps(track, candidate, ideal, now, steps),
        }
    }
    // Steps differ in their track or layer, so an unstable sort has one result.
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

/// One layer of one track. Its order is the order in which steps are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    /// Lowest layers of all come before any other.
    higher: bool,
    importance: (u8, u32),
    /// It is taken even if it does not fit.
    never_pause: bool,
    /// Its place among the track's steps.
    place: u8,
    /// More than what is sent now.
    up: bool,
    cost: Bitrate,
    track: usize,
    layer: Layer,
    /// Whether it flows, so that it can be sent.
    active: bool,
    /// Above the ideal, and sent only because nothing better flows.
    stands_in: bool,
    /// What it costs with fewer temporal layers.
    slower: Slower,
    /// It is the layer that is sent now.
    held: bool,
    /// It is what is wanted.
    ideal: bool,
    /// Of a track whose last step up has only begun.
    settling: bool,
    /// The step is not taken before that time, which is later the more often it had to be taken back.
    blocked_until: Option<Instant>,
    /// As `blocked_until`, had it never been taken back.
    rests_until: Option<Instant>,
    /// The step is taken only with more to spare, since it had to be taken back.
    doubted: bool,
}

/// How far up a track has got.
#[derive(Debug, Clone, Copy, Default)]
struct Ladder {
    target: Option<Layer>,
    /// As in the decision.
    temporal: Option<u8>,
    /// What the target costs.
    spent: Bitrate,
    demand: Option<Layer>,
    /// What the demand costs.
    granted: Bitrate,
    /// When the next step, which fits, is allowed.
    waits_until: Option<Instant>,
    /// What stands in the way of the next step.
    reason: Option<Reason>,
}

/// What is left of the estimate.
#[derive(Debug)]
struct Budget {
    /// Shown to pass by a probe.
    probed: Bitrate,
    /// For what is sent already.
    hold: Bitrate,
    /// For a higher layer that is sent since so short a time that its key frame may be what makes a queue.
    settling: Bitrate,
    /// For steps up.
    up: Bitrate,
    /// For steps up to a lowest layer: better now than when the queue is empty.
    lowest: Bitrate,
    /// Beyond a step up, in per cent.
    headroom: u32,
    /// As in the capacity.
    climbs_until: Option<Instant>,
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

/// Tries one step. Returns the estimate that it would take, if it does not fit.
fn climb(step: &Step, ladder: &mut Ladder, budget: &mut Budget) -> Option<Bitrate> {
    let spent = plus(minus(budget.spent, ladder.spent), step.cost);
    let granted = plus(minus(budget.granted, ladder.granted), step.cost);
    let up = if step.higher { budget.up } else { budget.lowest };
    let hold = if step.settling && step.higher { budget.settling } else { budget.hold };
    let fits = if step.up { spent.max(granted) <= up } else { spent <= hold };
    if !fits {
        // The next step is tried all the same: a still picture can cost less in a higher layer.
        let short = if spent > hold { Reason::NoBandwidth } else { Reason::NoHeadroom };
        ladder.reason.get_or_insert(short);
        let headroom = if step.higher { budget.headroom } else { HEADROOM_PERCENT };
        return Some(if step.up { with_headroom(spent.max(granted), headroom) } else { spent });
    }
    let total = spent.max(granted);
    let shown = if step.doubted { with_doubt(total) } else { total } <= budget.probed;
    let climbs = budget.climbs_until.filter(|_| step.up && step.higher && !step.held && !step.ideal);
    // A picture that is not sent at all waits no longer for earlier failures where half as much again would pass.
    let ample = !step.higher && with_doubt(total) <= budget.lowest;
    let blocked = if ample { step.rests_until } else { step.blocked_until };
    let blocked = blocked.filter(|_| !shown);
    let wait =
        blocked.map(|until| (Reason::Hysteresis, until)).or(climbs.map(|until| (Reason::Climbing, until)));
    // No room is kept for a layer that stands in: with luck the ideal, which is cheaper, flows by then.
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

/// A layer that does not fit whole may fit with fewer temporal layers: better slow than not at all.
fn slow_down(step: &Step, ladder: &mut Ladder, budget: &mut Budget) {
    // The key frame that another layer begins with would fill a narrow link for long, only to show few pictures.
    if !step.active || step.higher && !step.held {
        return;
    }
    let before = ladder.target;
    let up = step.up && !step.held;
    let mut fits = |cost| climb(&Step { cost, up, ..*step }, ladder, budget).is_none();
    let temporal = step.slower.iter().rposition(|cost| cost.is_some_and(&mut fits));
    if ladder.target != before {
        // One of two.
        ladder.temporal = temporal.and_then(|temporal| u8::try_from(temporal).ok());
    }
}

/// Takes a lowest layer that does not fit, with as few temporal layers as it has.
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

/// The steps of a video track: its layers up to the ideal that flow, and above those the ones that do not, which can
/// be asked for only. If none up to the ideal flows, the next that does stands for them; if none flows at all, the
/// track has only begun, or sleeps for want of demand, and all count as if they did.
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
        // So that its frame rate does not flap.
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

/// What must have been shown after steps up that had to be taken back: a link that has become another.
fn with_doubt(total: Bitrate) -> Bitrate {
    Bitrate::from_bps(total.bps().saturating_add(total.bps() / 2))
}

/// What a step up may lead to at this estimate.
fn without_headroom(estimate: Bitrate, percent: u32) -> Bitrate {
    let bps = u128::from(estimate.bps()) * 100 / (100 + u128::from(percent));
    Bitrate::from_bps(u64::try_from(bps).unwrap_or(u64::MAX))
}

/// The estimate at which a step up to this total has its headroom. Rounded up.
fn with_headroom(total: Bitrate, percent: u32) -> Bitrate {
    let bps = (u128::from(total.bps()) * (100 + u128::from(percent))).div_ceil(100);
    Bitrate::from_bps(u64::try_from(bps).unwrap_or(u64::MAX))
}

/// Of so many layers some temporal layers may be left out.
const MAY_BE_SLOW: u8 = 2;
/// The usual [`Capacity::headroom`].
pub const HEADROOM_PERCENT: u32 = 10;

#[cfg(test)]
mod tests;
