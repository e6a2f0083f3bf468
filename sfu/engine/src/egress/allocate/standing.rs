//! What a subscription remembers of earlier decisions, so that its layer does not flap.

use std::time::{Duration, Instant};

use sfu_protocol::Layer;

use super::{Decision, Reason};

/// State of one track between decisions. A subscription stores it.
///
/// A step up is allowed at most once in [`UPGRADE_INTERVAL`]. The interval doubles after each step up to the same layer
/// that failed, that is, had to be reversed soon after. There is no wait in the first [`UPGRADE_INTERVAL`] of a
/// subscription, once after a change of demand, and whenever a probe has shown that the new total passes. After two
/// consecutive failures of this layer, the probe must have shown half as much again. Video that is not sent at all does
/// not wait for failures if the estimate allows half as much again as would be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub(super) current: Option<Layer>,
    /// Whether the layer is sent with fewer temporal layers than it has.
    pub(super) slow: bool,
    began: Instant,
    pub(super) last_up: Option<Instant>,
    /// Consecutive failed steps up to the layer `failed`.
    pub(super) failures: u32,
    failed: Option<Layer>,
    /// Whether the last step up was reversed already: it counts as one failure, however many steps down follow.
    taken_back: bool,
}

impl Standing {
    /// State of a subscription that begins now, with nothing sent.
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

    /// Layer that is sent now.
    #[cfg(test)]
    pub fn current(&self) -> Option<Layer> {
        self.current
    }

    /// Called when the subscriber wants another size, frame rate, quality or priority: the next step up need not wait.
    pub fn on_demand_changed(&mut self) {
        self.last_up = None;
        self.failures = 0;
    }

    /// Records a decision. Returns true if its target differs from the previous one.
    pub fn apply(&mut self, decision: &Decision, now: Instant) -> bool {
        let before = std::mem::replace(&mut self.current, decision.target);
        self.slow = decision.temporal.is_some();
        if matches!(decision.reason, Reason::Muted | Reason::Demand) {
            // When the track is wanted again, that counts as a new demand.
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

    /// Whether the key frame of the last step up may still be in the queue.
    pub(super) fn is_settling(&self, now: Instant) -> bool {
        self.last_up.is_some_and(|last| now.saturating_duration_since(last) < SETTLING)
    }

    /// When a step up to a layer is allowed; `None` if it is allowed now.
    pub(super) fn blocked_until(&self, layer: Layer, now: Instant) -> Option<Instant> {
        let failures = if self.failed == Some(layer) { self.failures } else { 0 };
        self.allowed_at(failures, now)
    }

    /// When a step up without earlier failures is allowed; `None` if it is allowed now.
    pub(super) fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.allowed_at(0, now)
    }

    fn allowed_at(&self, failures: u32, now: Instant) -> Option<Instant> {
        let young = now.saturating_duration_since(self.began) < UPGRADE_INTERVAL;
        let until = self.last_up? + UPGRADE_INTERVAL * (1 << failures);
        (!young && now < until).then_some(until)
    }

    /// Whether repeated steps up to a layer failed. The next one requires a sign that the link has changed.
    pub(super) fn is_doubted(&self, layer: Layer) -> bool {
        self.failed == Some(layer) && self.failures > 1
    }
}

/// Minimum time between two steps up of one track.
pub const UPGRADE_INTERVAL: Duration = Duration::from_secs(5);
/// Time for which the key frame of a step up may affect the queue and the measured cost of the layer.
const SETTLING: Duration = Duration::from_secs(2);
/// A step up that lasted this long was not a failure.
const SETTLED: Duration = Duration::from_secs(5);
/// Failures are forgotten after this time. It is longer than the longest wait, which would otherwise cancel itself.
const FORGIVEN: Duration = Duration::from_secs(60);
/// Number of consecutive failures up to which the wait doubles: 40 s at most.
const MOST_FAILURES: u32 = 3;
