//! What one subscriber's link carries goes into a decision; what was decided is carried out here.

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

/// How far bursts look beyond what is wanted: with this much to spare, loss that has other causes than the link's
/// rate costs nobody a layer.
const WANTED_PERCENT: u64 = 160;

/// Where a larger share is lost by chance, the key frame of a step up comes late, for every packet of it is needed: it
/// takes room for copies.
const LOSSY: f64 = 0.12;
/// How much more headroom, in per cent, for each per cent lost beyond that.
const HEADROOM_PER_LOSS: f64 = 10.0;

/// What a burst showed lets a step up come before its time for so long: a publisher that had paused the layer has begun
/// again by then. Costs of layers that swing about the estimate would have it flap otherwise.
const JUST_NOW: Duration = Duration::from_secs(2);

/// Decisions are made anew this often while reports come: what layers cost changes too.
const ALLOCATE_INTERVAL: Duration = Duration::from_millis(500);

/// A layer to be left that would wait longer than this for its turn is left at once.
const LATE: Duration = Duration::from_millis(80);

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
        // A burst shows what a link carries, not what it carries whole.
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

    /// Does what was decided about a subscription. No higher temporal layer than `enough` is sent, if that is known.
    /// Whether that needs a key frame is asked for afterwards, by
    /// [`ask_key_frame`](Self::ask_key_frame): the packet that made a layer eligible often begins one itself.
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
            // No step up was wrong because nothing gets through any more, or because less was sent to see whether
            // loss falls with it.
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

    /// The layer that is sent is too much, and the lower one that is to replace it is not there yet. It goes on as long
    /// as it leaves in time; otherwise it would only hold up the new one, in our queue and in the network's.
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

    /// Nothing got through for a while: every picture needs a key frame to go on. True if it was so.
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

    /// What was sent of a picture, or waits to be, is of no use any more.
    fn restart(&mut self, slot: usize) {
        let Some(subscription) = self.subscriptions.get_mut(slot) else { return };
        subscription.select.restart();
        subscription.forget_sent();
        self.stop_sending(slot);
    }

    /// Everything was decided.
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

    /// Whether to decide anew: the link carries something else, or some time has passed.
    pub fn is_allocation_due(&self, now: Instant) -> bool {
        let (Some(bandwidth), Some(allocated)) = (&self.bandwidth, &self.allocated) else { return false };
        let (before, after) = (allocated.estimate.bps(), bandwidth.estimate().bps());
        before.abs_diff(after) > before / 50
            || now.saturating_duration_since(allocated.at) >= ALLOCATE_INTERVAL
            || self.allocate_at.is_some_and(|at| at <= now)
    }
}
