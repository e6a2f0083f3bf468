//! Log of recent decisions for one subscriber, with their reasons. It serves debugging only; no decision depends on it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sfu_protocol::inspect::{Decided, Decision as Entry, Inspection, LinkState, SubscriptionState};
use sfu_protocol::{Layer, ParticipantSid, TrackSid};

use super::Egress;
use super::allocate::Decision;
use crate::bwe::{Cause, Change};
use crate::units::Bitrate;

/// Maximum number of entries. Decisions are rare, and an idle subscriber's log takes no memory.
const MOST: usize = 100;

/// Recent decisions, oldest first.
#[derive(Debug, Default)]
pub(super) struct DecisionLog {
    entries: VecDeque<(Instant, Entry)>,
    estimate: Option<Change>,
}

impl DecisionLog {
    /// Records a layer decision that differs from the previous one in its layer or reason.
    pub(super) fn on_layer(
        &mut self,
        now: Instant,
        sid: &TrackSid,
        decision: &Decision,
        estimate: Option<Bitrate>,
    ) {
        let Decision { target, demand, paused, reason, .. } = *decision;
        let (reason, estimate_bps) = (word(&reason), estimate.map(Bitrate::bps));
        self.push(now, Entry::Layer { track: sid.clone(), target, demand, paused, reason, estimate_bps });
    }

    /// Records that a layer was dropped with the packets queued of it.
    pub(super) fn on_dropped(&mut self, now: Instant, sid: &TrackSid, layer: Layer, waiting: usize) {
        self.push(now, Entry::Dropped { track: sid.clone(), layer, waiting });
    }

    /// Records that video is dropped until the next key frame because `waiting` packets are queued.
    pub(super) fn on_congested(&mut self, now: Instant, sid: &TrackSid, waiting: usize) {
        self.push(now, Entry::Congested { track: sid.clone(), waiting });
    }

    /// Records a key frame request.
    pub(super) fn on_key_frame(&mut self, now: Instant, sid: &TrackSid, layer: Layer, reason: &str) {
        self.push(now, Entry::KeyFrame { track: sid.clone(), layer, reason: reason.to_owned() });
    }

    /// Records the start of a probe.
    pub(super) fn on_probe(&mut self, now: Instant, rate: Bitrate) {
        self.push(now, Entry::Probe { rate_bps: rate.bps() });
    }

    /// Records a new goal for the playout delay.
    pub(super) fn on_playout(&mut self, now: Instant, delay: Duration) {
        self.push(now, Entry::Playout { least_delay_ms: delay.as_millis() as u64 });
    }

    /// Records the estimate. Consecutive small changes with the same cause are one entry.
    pub(super) fn on_estimate(&mut self, change: Change) {
        let news = self.estimate.is_none_or(|before| {
            let moved = before.estimate.bps().abs_diff(change.estimate.bps());
            // Growth alternates with other causes all the time.
            let other =
                before.cause != change.cause && !matches!(change.cause, Cause::Growth | Cause::Drained);
            moved > before.estimate.bps() / 10 || other && before.at != change.at
        });
        if news {
            self.estimate = Some(change);
            let (estimate_bps, cause) = (change.estimate.bps(), word(&change.cause));
            self.push(change.at, Entry::Estimate { estimate_bps, cause });
        }
    }

    fn push(&mut self, now: Instant, entry: Entry) {
        if self.entries.len() >= MOST {
            self.entries.pop_front();
        }
        self.entries.push_back((now, entry));
    }
}

impl Egress {
    /// Current state and recent decisions, for the debug endpoint.
    pub fn inspect(&self, participant: ParticipantSid, now: Instant) -> Inspection {
        let ago =
            |at: Instant| u64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(u64::MAX);
        let link = self.bandwidth.as_deref().map(|bandwidth| {
            let change = bandwidth.last_change();
            LinkState {
                estimate_bps: change.estimate.bps(),
                cause: word(&change.cause),
                changed_ms_ago: ago(change.at),
                measured: bandwidth.is_measured(),
                allocated_bps: bandwidth.allocated().bps(),
                burst_bps: bandwidth.burst().map(Bitrate::bps),
                queue_ms: u64::try_from(bandwidth.queue_delay().as_millis()).unwrap_or(u64::MAX),
                loss: bandwidth.loss(),
                waiting: self.pacer.len(),
            }
        });
        let subscriptions = self.subscriptions.iter().map(|(_, subscription)| SubscriptionState {
            track: subscription.sid.clone(),
            publisher: subscription.publisher.clone(),
            kind: subscription.kind,
            current: subscription.select.current(),
            target: subscription.select.target().map(|target| target.layer),
            demand: subscription.demanded,
            paused: subscription.decision.is_some_and(|decision| decision.paused),
            reason: subscription.decision.map(|decision| word(&decision.reason)),
        });
        let decisions = self.log.entries.iter();
        Inspection {
            participant,
            link,
            subscriptions: subscriptions.collect(),
            decisions: decisions.map(|(at, what)| Decided { ms_ago: ago(*at), what: what.clone() }).collect(),
        }
    }
}

/// Name of the enum variant, such as `NoBandwidth`.
fn word(reason: &impl std::fmt::Debug) -> String {
    format!("{reason:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::test_epoch;

    #[test]
    fn what_is_remembered_is_bounded_and_small_steps_of_one_kind_are_one() {
        let (mut log, start) = (DecisionLog::default(), test_epoch());
        for step in 0..1000_u64 {
            let at = start + Duration::from_millis(step);
            let estimate = Bitrate::from_bps(1_000_000 + step * 100);
            log.on_estimate(Change { at, cause: Cause::Growth, estimate });
        }
        assert_eq!(log.entries.len(), 1, "the last of them is not a tenth above the first");
        log.on_estimate(Change {
            at: start + Duration::from_secs(2),
            cause: Cause::Queue,
            estimate: Bitrate::from_kbps(1_050),
        });
        assert_eq!(log.entries.len(), 2);
        (0..1000).for_each(|_| log.on_probe(start, Bitrate::from_kbps(1)));
        assert_eq!(log.entries.len(), MOST);
    }
}
