//! Turns congestion control state into inputs of an allocation, and carries out its decisions.

use std::time::{Duration, Instant};

use sfu_protocol::MediaKind;
use smallvec::SmallVec;

use super::allocate::{Capacity, Decision, HEADROOM_PERCENT, Outcome};
use super::bandwidth::Bandwidth;
use super::layer_select::Target;
use super::track::Subscription;
use super::{Egress, REPORT_INTERVAL};
use crate::bwe::{Cause, Change};
use crate::media_packet::MediaPacket;
use crate::units::Bitrate;

/// Rate up to which probes look for capacity, in per cent of the wanted rate. With this much to spare, losses unrelated
/// to the link's rate cost nobody a layer.
const WANTED_PERCENT: u64 = 160;

/// Random loss above which a step up needs more headroom. Its key frame arrives late, since every one of its packets is
/// needed, and the copies that repair it take bandwidth.
const LOSSY: f64 = 0.12;
/// Additional headroom, in per cent, for each per cent of loss above [`LOSSY`].
const HEADROOM_PER_LOSS: f64 = 10.0;

/// Time for which a probe result lets a step up skip its interval. By then a publisher that had paused the layer has
/// resumed it. If the time were longer, layers whose cost fluctuates around the estimate would flap.
const JUST_NOW: Duration = Duration::from_secs(2);

/// Interval of allocations while reports arrive: the costs of layers change too.
const ALLOCATE_INTERVAL: Duration = Duration::from_millis(500);

/// If the queued video takes longer than this to leave, a layer that is being replaced by a lower one is dropped at
/// once.
const LATE: Duration = Duration::from_millis(80);

/// Effects of a decision outside the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CarriedOut {
    /// Whether the layer requested from the publisher changed.
    pub demand: bool,
    /// Whether the track became paused for lack of bandwidth (`true`) or resumed (`false`); `None` if unchanged.
    pub paused: Option<bool>,
}

/// Time and estimate of the last allocation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allocated {
    at: Instant,
    estimate: Bitrate,
}

impl Egress {
    /// Capacity of the link as far as it is known. Before anything is measured, the estimate is at least `blind`.
    /// Without reports the capacity is unlimited, so that each subscription gets what it asks for.
    pub fn capacity(&self, blind: Bitrate, now: Instant) -> Capacity {
        // A receiver's own estimate comes only after it has received something, so nothing may wait for it.
        let known = |bandwidth: &&Bandwidth| {
            !bandwidth.is_mute(now) && (bandwidth.is_measured() || self.is_reported())
        };
        let Some(bandwidth) = self.bandwidth.as_deref().filter(known) else {
            return Capacity::UNKNOWN;
        };
        let change = bandwidth.last_change();
        let (estimate, probed) = match change.cause {
            _ if !bandwidth.is_measured() => (change.estimate.max(blind), blind),
            Cause::Probe if now.saturating_duration_since(change.at) < JUST_NOW => {
                (change.estimate, change.estimate)
            }
            _ => (change.estimate, Bitrate::ZERO),
        };
        let loss = bandwidth.lost_by_chance();
        let headroom = HEADROOM_PERCENT + ((loss - LOSSY).max(0.0) * 100.0 * HEADROOM_PER_LOSS) as u32;
        // A probe shows what the link carries, not what it carries without loss.
        let shown = |rate| if loss > LOSSY { Bitrate::ZERO } else { rate };
        Capacity {
            estimate,
            settled: bandwidth.settled(),
            delivered: bandwidth.delivered(now),
            confirmed: shown(bandwidth.confirmed(now)),
            probed: shown(probed),
            headroom,
            climbs_until: bandwidth.climbs_until(now),
        }
    }

    /// Carries out the decision about a subscription. If `enough` is given, no higher temporal layer is sent. Call
    /// [`ask_key_frame`](Self::ask_key_frame) afterwards to find out whether a key frame is needed: the packet that
    /// made a layer eligible often begins one itself.
    pub fn carry_out(
        &mut self,
        slot: usize,
        decision: &Decision,
        enough: Option<u8>,
        now: Instant,
    ) -> CarriedOut {
        let Some(subscription) = self.subscriptions.get_mut(slot) else { return CarriedOut::default() };
        self.next_report.get_or_insert(now + REPORT_INTERVAL);
        subscription.standing.apply(decision, now);
        let change = self.bandwidth.as_deref().map(Bandwidth::last_change);
        let excused = |change: Change| matches!(change.cause, Cause::Silence | Cause::LossUnrelated);
        if change.is_some_and(excused) {
            // Earlier steps up are not to blame if nothing gets through any more, or if the rate was cut only to test
            // whether loss falls with it.
            subscription.standing.on_demand_changed();
        }
        let decision = &Decision { temporal: decision.temporal.into_iter().chain(enough).min(), ..*decision };
        let target = decision.target.map(|layer| match decision.temporal {
            Some(temporal) => Target { layer, temporal },
            None => Target::whole(layer),
        });
        if subscription.select.target() != target {
            subscription.select.aim(target);
        }
        let before = subscription.decision.replace(*decision);
        if before != Some(*decision) {
            self.log.on_layer(now, &subscription.sid, decision, change.map(|change| change.estimate));
        }
        let was_paused = before.is_some_and(|before| before.paused);
        let carried_out = CarriedOut {
            demand: std::mem::replace(&mut subscription.demanded, decision.demand) != decision.demand,
            paused: (decision.paused != was_paused).then_some(decision.paused),
        };
        if decision.target.is_none() && before.is_some_and(|before| before.target.is_some()) {
            self.stop_sending(slot);
        }
        carried_out
    }

    /// Drops the current layer if it leaves too late while a lower layer is to replace it and has not arrived yet. The
    /// current layer continues as long as it leaves in time; otherwise it would only delay the new layer, in our queue
    /// and in the network's.
    pub(super) fn give_up_if_late(&mut self, slot: usize, packet: &MediaPacket) {
        let stepping_down = self.subscriptions.get(slot).and_then(|each| each.select.stepping_down());
        let (Some(layer), Some(bandwidth)) = (stepping_down, self.bandwidth.as_deref()) else { return };
        if bandwidth.time_for(self.pacer.video_bytes()) < LATE {
            return;
        }
        let waiting = self.pacer.len();
        self.restart(slot);
        if let Some(subscription) = self.subscriptions.get(slot) {
            let dropped = waiting.saturating_sub(self.pacer.len());
            self.log.on_dropped(packet.arrival, &subscription.sid, layer, dropped);
        }
    }

    /// After an outage, every video track needs a key frame to continue. Returns true if an outage has just ended.
    pub fn restart_after_outage(&mut self) -> bool {
        if !self.bandwidth.as_deref_mut().is_some_and(Bandwidth::take_outage) {
            return false;
        }
        let all = self.subscriptions.iter().filter(|(_, each)| each.kind == MediaKind::Video);
        let slots: SmallVec<[usize; 16]> = all.map(|(slot, _)| slot).collect();
        slots.into_iter().for_each(|slot| self.restart(slot));
        true
    }

    fn stop_sending(&mut self, slot: usize) {
        self.withdraw(slot);
        self.end_shedding(slot);
        if let Some(bandwidth) = &mut self.bandwidth {
            bandwidth.on_sending_less();
        }
    }

    /// Restarts a video track because everything sent or queued of it is useless.
    fn restart(&mut self, slot: usize) {
        let Some(subscription) = self.subscriptions.get_mut(slot) else { return };
        subscription.select.restart();
        subscription.forget_sent();
        self.stop_sending(slot);
    }

    /// Records the outcome of an allocation and adapts probing to it.
    pub fn on_allocated(&mut self, now: Instant, outcome: &Outcome) {
        let Some(bandwidth) = &mut self.bandwidth else { return };
        let wanted = outcome.wanted.bps().saturating_mul(WANTED_PERCENT) / 100;
        let missing = outcome.next_step.is_some();
        bandwidth.set_wanted(now, outcome.allocated, Bitrate::from_bps(wanted), missing);
        let sends = |each: &Subscription| each.kind == MediaKind::Video && each.select.target().is_some();
        let starved = missing && !self.subscriptions.iter().any(|(_, each)| sends(each));
        bandwidth.set_starved(now, starved);
        self.allocated = Some(Allocated { at: now, estimate: bandwidth.estimate() });
        self.allocate_at = outcome.next_upgrade_at;
    }

    /// Whether to allocate again: the estimate changed by more than 2 %, 500 ms have passed, or the time set by the
    /// last allocation has come.
    pub fn is_allocation_due(&self, now: Instant) -> bool {
        let (Some(bandwidth), Some(allocated)) = (&self.bandwidth, &self.allocated) else { return false };
        let (before, after) = (allocated.estimate.bps(), bandwidth.estimate().bps());
        before.abs_diff(after) > before / 50
            || now.saturating_duration_since(allocated.at) >= ALLOCATE_INTERVAL
            || self.allocate_at.is_some_and(|at| at <= now)
    }
}
