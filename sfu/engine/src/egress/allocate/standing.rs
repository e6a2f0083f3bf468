//! What a track remembers of earlier decisions, so that its layer does not flap.

use std::time::{Duration, Instant};

use sfu_protocol::Layer;

use super::{Decision, Reason};

/// What was decided for a track before. A subscription keeps it between calls.
///
/// A step up is allowed at most once in [`UPGRADE_INTERVAL`], and later after each one to the same layer that had to be
/// taken back; but at any time in the first [`UPGRADE_INTERVAL`] of a subscription, once after a change of demand, and
/// whenever a probe has shown that it passes; if two to this layer in a row had to be taken back, that half as much
/// again passes. A picture that is not sent at all waits no longer for what was taken back, if the estimate is half as much
/// again as would be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub(super) current: Option<Layer>,
    /// It is sent with fewer temporal layers than it has.
    pub(super) slow: bool,
    began: Instant,
    pub(super) last_up: Option<Instant>,
    /// Steps up to one layer that were taken back, in a row, and to which.
    pub(super) failures: u32,
    failed: Option<Layer>,
    /// The last step up was taken back: it counts once, however many steps down follow.
    taken_back: bool,
}

impl Standing {
    /// A subscription that begins now. Nothing is sent.
    pub fn new(now: Instant) -> Self {
        Self {
            current: None,
            slow: false,
            began: now,
            last_up: None,
            failures: 0,
            failed: None,
            taken_back: false,
        }
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
        self.slow = decision.temporal.is_some();
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
            let again = if self.failed == before { self.failures + 1 } else { 1 };
            self.failures = if soon { again.min(MOST_FAILURES) } else { 0 };
            self.failed = before;
            self.taken_back = true;
        }
        decision.target != before
    }

    /// Whether the key frame of the last step up may still be on its way.
    pub(super) fn is_settling(&self, now: Instant) -> bool {
        self.last_up.is_some_and(|last| now.saturating_duration_since(last) < SETTLING)
    }

    /// When a step up to a layer is allowed, if it is not now.
    pub(super) fn blocked_until(&self, layer: Layer, now: Instant) -> Option<Instant> {
        let failures = if self.failed == Some(layer) { self.failures } else { 0 };
        self.allowed_at(failures, now)
    }

    /// When a step up is allowed that never had to be taken back, if it is not now.
    pub(super) fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.allowed_at(0, now)
    }

    fn allowed_at(&self, failures: u32, now: Instant) -> Option<Instant> {
        let young = now.saturating_duration_since(self.began) < UPGRADE_INTERVAL;
        let until = self.last_up? + UPGRADE_INTERVAL * (1 << failures);
        (!young && now < until).then_some(until)
    }

    /// Whether steps up to a layer had to be taken back, so that a link must have become another for the next.
    pub(super) fn is_doubted(&self, layer: Layer) -> bool {
        self.failed == Some(layer) && self.failures > 1
    }
}

/// Least time between two steps up of one track.
pub const UPGRADE_INTERVAL: Duration = Duration::from_secs(5);
/// So long may the key frame of a step up be seen in the queue, and in what the layer costs.
const SETTLING: Duration = Duration::from_secs(2);
/// A step up that held this long was right.
const SETTLED: Duration = Duration::from_secs(5);
/// After this long, failures are forgotten. Longer than the longest wait, or that would end itself.
const FORGIVEN: Duration = Duration::from_secs(60);
/// After so many failures in a row the wait, twice as long each time, grows no further: 40 s.
const MOST_FAILURES: u32 = 3;
