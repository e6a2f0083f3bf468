//! What one subscriber's link carries goes into a decision; what was decided is carried out here.

use std::time::{Duration, Instant};

use super::allocate::{Capacity, Decision, Outcome};
use super::bandwidth::Bandwidth;
use super::{Egress, REPORT_INTERVAL};
use crate::bwe::Cause;
use crate::units::Bitrate;

/// How far bursts look beyond what is wanted: with this much to spare, loss that has other causes than the link's
/// rate costs nobody a layer.
const WANTED_PERCENT: u64 = 160;

/// Decisions are made anew this often while reports come: what layers cost changes too.
const ALLOCATE_INTERVAL: Duration = Duration::from_millis(500);

/// What a decision changes outside the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CarriedOut {
    /// Something else is to be asked of the publisher than before.
    pub demand: bool,
    /// It is paused from now on for want of bandwidth, or no longer.
    pub paused: Option<bool>,
}

/// A decision about everything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allocated {
    at: Instant,
    estimate: Bitrate,
}

impl Egress {
    /// What the link carries, as far as that is known; while nothing is, at least `blind`. Without reports about it,
    /// each subscription gets what it asks for.
    pub fn capacity(&self, blind: Bitrate, now: Instant) -> Capacity {
        // A receiver's own estimate comes only after it has received something: nothing may wait for it.
        let known = |bandwidth: &&Bandwidth| {
            !bandwidth.is_mute(now) && (bandwidth.is_measured() || self.is_reported())
        };
        let Some(bandwidth) = self.bandwidth.as_deref().filter(known) else {
            return Capacity { estimate: Bitrate::MAX, probed: Bitrate::MAX };
        };
        let change = bandwidth.last_change();
        match change.cause {
            _ if !bandwidth.is_measured() => Capacity { estimate: change.estimate.max(blind), probed: blind },
            Cause::Probe => Capacity { estimate: change.estimate, probed: change.estimate },
            _ => Capacity { estimate: change.estimate, probed: Bitrate::ZERO },
        }
    }

    /// Does what was decided about a subscription. Whether that needs a key frame is asked for afterwards, by
    /// [`ask_key_frame`](Self::ask_key_frame): the packet that made a layer eligible often begins one itself.
    pub fn carry_out(&mut self, slot: usize, decision: &Decision, now: Instant) -> CarriedOut {
        let Some(subscription) = self.subscriptions.get_mut(slot) else { return CarriedOut::default() };
        self.next_report.get_or_insert(now + REPORT_INTERVAL);
        subscription.standing.apply(decision, now);
        if subscription.select.target() != decision.target {
            subscription.select.set_target(decision.target);
        }
        let before = subscription.decision.replace(*decision);
        if before != Some(*decision) {
            let estimate = self.bandwidth.as_deref().map(Bandwidth::estimate);
            self.history.on_layer(now, &subscription.sid, decision, estimate);
        }
        let was_paused = before.is_some_and(|before| before.paused);
        CarriedOut {
            demand: std::mem::replace(&mut subscription.demanded, decision.demand) != decision.demand,
            paused: (decision.paused != was_paused).then_some(decision.paused),
        }
    }

    /// Everything was decided.
    pub fn on_allocated(&mut self, now: Instant, outcome: &Outcome) {
        let Some(bandwidth) = &mut self.bandwidth else { return };
        let wanted = outcome.wanted.bps().saturating_mul(WANTED_PERCENT) / 100;
        bandwidth.set_wanted(now, outcome.allocated, Bitrate::from_bps(wanted));
        self.allocated = Some(Allocated { at: now, estimate: bandwidth.estimate() });
        self.allocate_at = outcome.next_upgrade_at;
    }

    /// Whether to decide anew: the link carries something else, or some time has passed.
    pub fn is_allocation_due(&self, now: Instant) -> bool {
        let (Some(bandwidth), Some(allocated)) = (&self.bandwidth, &self.allocated) else { return false };
        let (before, after) = (allocated.estimate.bps(), bandwidth.estimate().bps());
        before.abs_diff(after) > before / 50
            || now.saturating_duration_since(allocated.at) >= ALLOCATE_INTERVAL
            || self.allocate_at.is_some_and(|at| at <= now)
    }
}
