//! Congestion control for the link to one subscriber: estimate, pacing and probing.
//!
//! A video frame leaves at once as long as the link has kept up: one system call for all of it is what makes forwarding
//! cheap. Whatever exceeds that is paced. Where more is wanted than is sent, probes padded to their rate look for more
//! capacity.

use std::time::{Duration, Instant};

use crate::bwe::{Cause, Change, Estimator, EstimatorConfig, Probe};
use crate::rtp::rtcp::{CongestionFeedback, TransportFeedback};
use crate::units::{Bitrate, ExtendedSequence, Ssrc};

/// Pace of media in per cent of the estimate, or of the allocated rate if that is higher. It is above 100 so that a key
/// frame does not delay what follows it.
const PACE_PERCENT: u64 = 200;

/// Pace in per cent after a standing queue was seen in the network. Packets that leave faster only wait there, ahead of
/// packets that are more urgent by then. The pace falls from the first value to the second as the queue grows to
/// [`LONG`]. If it fell more steeply, or returned to [`PACE_PERCENT`] as soon as the queue is gone, the queue would
/// come and go for as long as packets wait here, because a report about it arrives only a round trip later.
const QUEUED_PACE_PERCENT: (u64, u64) = (125, 75);
const LONG: Duration = Duration::from_millis(100);

/// A queue delay above [`STANDING`] is a standing queue. It affects the pace until it has been gone for [`WARY`] and no
/// packets wait here.
const STANDING: Duration = Duration::from_millis(60);
const WARY: Duration = Duration::from_secs(1);

/// [`PACE_PERCENT`] on a policed link, which drops at once what exceeds its rate: nothing may queue in the network, so
/// packets wait here.
const POLICED_PACE_PERCENT: u64 = 110;

/// Largest burst of media: what is sent at the pace in this time.
const BURST: Duration = Duration::from_millis(40);

/// [`BURST`] on a policed link: a policer may let no more than three packets through at once.
const POLICED_BURST: Duration = Duration::from_millis(5);

/// Lower limit of the largest burst, in bytes: two packets.
const LEAST_BURST: i64 = 2_400;

/// Copies of packets may be sent while the sent rate is below this share of the estimate, in per cent.
const ROOM_PERCENT: u64 = 125;

/// IP and UDP headers, in bytes, which the link carries too.
const DATAGRAM_OVERHEAD: usize = 28;

/// A subscriber that reports nothing for this long after the first packet is assumed never to report.
const PATIENCE: Duration = Duration::from_secs(2);

/// While more is wanted than is sent, a packet that the subscriber reports about leaves at least this often. Audio is
/// not in its reports, and without any report nothing more would be learnt about the link.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// [`HEARTBEAT`] while no reports arrive, so that the end of an outage is noticed soon.
const SILENT_HEARTBEAT: Duration = Duration::from_millis(40);

/// Probing rests for this long once nothing wanted is missing any more; after that it looks for spare capacity.
const SETTLING: Duration = Duration::from_secs(2);

/// Padding is sent in portions of at least this time, or of one packet.
const PADDING_STEP: Duration = Duration::from_millis(2);

/// Congestion control state of one subscriber's link.
#[derive(Debug)]
pub struct Bandwidth {
    estimator: Estimator,
    /// Bytes that may leave now; negative if more has left than the pace allows.
    allowance: i64,
    /// Rate that the last allocation decided to send. It may exceed the estimate.
    allocated: Bitrate,
    refilled: Instant,
    /// When a standing queue was last seen; `None` once it no longer affects the pace.
    stood: Option<Instant>,
    /// Whether something was learnt about the link. Growth from the start rate does not count.
    measured: bool,
    unheard: Unheard,
    burst: Option<Burst>,
    /// Whether a probe has just been completed, so that another may follow at once.
    complete: bool,
    /// While more is wanted than is sent: when the last packet left that the subscriber reports about. `None`
    /// otherwise.
    missing: Option<Instant>,
}

/// Whether the subscriber sends the reports that it agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unheard {
    /// No packet was sent yet.
    Unsent,
    /// The first packet was sent at this time, and no report has arrived.
    Since(Instant),
    /// Reports arrive.
    Heard,
}

/// A probe that is being sent.
#[derive(Debug)]
struct Burst {
    probe: Probe,
    began: Instant,
    sent: u64,
    next: Instant,
}

impl Bandwidth {
    /// Nothing is known about the link yet.
    pub fn new(now: Instant, config: EstimatorConfig) -> Self {
        Self {
            estimator: Estimator::new(now, config),
            allowance: LEAST_BURST,
            allocated: Bitrate::ZERO,
            refilled: now,
            stood: None,
            measured: false,
            unheard: Unheard::Unsent,
            burst: None,
            complete: false,
            missing: None,
        }
    }

    /// Rate that may be sent now.
    pub fn estimate(&self) -> Bitrate {
        self.estimator.estimate()
    }

    /// Rate that may be sent once the standing queue has drained.
    pub fn settled(&self) -> Bitrate {
        self.estimator.settled()
    }

    /// Rate that arrived while the draining queue was built up; not below [`settled`](Self::settled).
    pub fn delivered(&self, now: Instant) -> Bitrate {
        self.estimator.delivered(now)
    }

    /// Rate that a probe has recently shown to pass; zero if none has.
    pub fn confirmed(&self, now: Instant) -> Bitrate {
        self.estimator.confirmed(now)
    }

    /// Time until which probes may show more capacity than they just did; `None` if no more is expected.
    pub fn climbs_until(&self, now: Instant) -> Option<Instant> {
        self.estimator.climbs_until(now)
    }

    /// Whether an outage has just ended. True once per outage.
    pub fn take_outage(&mut self) -> bool {
        self.estimator.take_outage()
    }

    /// Time that `bytes` take to leave at the current pace.
    pub fn time_for(&self, bytes: usize) -> Duration {
        let micros = bytes as u128 * 8_000_000 / u128::from(self.pace().bps().max(1));
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// Whether the estimate is based on information about the link.
    pub fn is_measured(&self) -> bool {
        self.measured
    }

    /// Whether the subscriber agreed to report but never does, so that nothing can be known about its link.
    pub fn is_mute(&self, now: Instant) -> bool {
        matches!(self.unheard, Unheard::Since(since) if now.saturating_duration_since(since) > PATIENCE)
    }

    fn note(&mut self) {
        self.unheard = Unheard::Heard;
        self.measured |=
            !matches!(self.last_change().cause, Cause::Start | Cause::Growth | Cause::Drained | Cause::Heard);
    }

    /// Last change of the estimate, with its cause.
    pub fn last_change(&self) -> Change {
        self.estimator.last_change()
    }

    /// Rate that the last allocation decided to send.
    pub fn allocated(&self) -> Bitrate {
        self.allocated
    }

    /// Rate of the probe that is being sent, if any.
    pub fn burst(&self) -> Option<Bitrate> {
        self.burst.as_ref().map(|burst| burst.probe.rate)
    }

    /// Queue delay in the network.
    pub fn queue_delay(&self) -> Duration {
        self.estimator.queue_delay()
    }

    /// Whether the link drops at once what exceeds a rate.
    pub fn is_policed(&self) -> bool {
        self.estimator.is_policed()
    }

    /// Recent packet loss, 0 to 1.
    pub fn loss(&self) -> f64 {
        self.estimator.loss()
    }

    /// Recent packet loss while no queue stood, 0 to 1.
    pub fn lost_by_chance(&self) -> f64 {
        self.estimator.lost_by_chance()
    }

    /// Whether the sent rate is at most a little above the estimate. The estimate counts what arrives, not what is lost
    /// on the way, and keeps some capacity free.
    pub fn has_room(&self, now: Instant) -> bool {
        let most = self.estimate().bps().saturating_mul(ROOM_PERCENT) / 100;
        self.estimator.sent_rate(now).bps() < most
    }

    /// Sets the rate that was allocated, and the rate that would be sent with enough capacity. `missing`: some layer is
    /// not sent for lack of bandwidth.
    pub fn set_wanted(&mut self, now: Instant, allocated: Bitrate, wanted: Bitrate, missing: bool) {
        match (self.missing, missing) {
            // The key frame of the last step up loads the link like a probe.
            (Some(_), false) => self.estimator.rest(Some(now + SETTLING)),
            (None, true) => self.estimator.rest(None),
            (None, false) | (Some(_), true) => {}
        }
        self.allocated = allocated;
        // A lower burst limit applies at once, not only when the allowance is refilled.
        self.allowance = self.allowance.min(self.most_at_once());
        self.missing = missing.then(|| self.missing.unwrap_or(now));
        self.estimator.set_wanted(now, wanted);
    }

    /// Records whether no video is sent for lack of bandwidth.
    pub fn set_starved(&mut self, now: Instant, starved: bool) {
        self.estimator.set_starved(now, starved);
    }

    /// Handles transport-wide feedback.
    pub fn on_feedback(&mut self, now: Instant, feedback: &TransportFeedback) {
        self.estimator.on_feedback(now, feedback);
        self.relent();
        self.note();
    }

    /// Handles RFC 8888 feedback, which names packets by SSRC and RTP sequence number.
    pub fn on_congestion_feedback(&mut self, now: Instant, feedback: &CongestionFeedback) {
        self.estimator.on_congestion_feedback(now, feedback);
        self.relent();
        self.note();
    }

    /// Records whether a queue stands in the network. `waiting`: packets wait in the pacer.
    pub fn watch_queue(&mut self, now: Instant, waiting: bool) {
        let over = |stood| now.saturating_duration_since(stood) > WARY && !waiting;
        if self.queue_delay() > STANDING {
            self.stood = Some(now);
        } else if self.stood.is_some_and(over) {
            self.stood = None;
        }
    }

    /// Ends a probe that feedback has shown to exceed the capacity.
    fn relent(&mut self) {
        if self.estimator.active_probe().is_none() && self.burst.take().is_some() {
            self.complete = true;
        }
    }

    /// Handles a receiver report that says that packets of some stream arrived, whatever other reports say.
    pub fn on_arrived(&mut self, now: Instant) {
        self.estimator.on_arrived(now);
    }

    /// Handles the subscriber's own estimate (REMB).
    pub fn on_remb(&mut self, now: Instant, bitrate: Bitrate) {
        self.estimator.on_remb(now, bitrate);
        self.note();
    }

    /// Discards the subscriber's own estimate (REMB).
    pub fn forget_remb(&mut self) {
        self.estimator.forget_remb();
    }

    /// Call when a video track stops being sent by choice: that less arrives then says nothing about the link.
    pub fn on_sending_less(&mut self) {
        self.estimator.on_sending_less();
    }

    /// Advances time: a probe may begin. Returns its rate if one does.
    pub fn poll(&mut self, now: Instant) -> Option<Bitrate> {
        self.complete = false;
        if self.estimator.begin_anew(now) {
            self.measured = false;
        }
        let probe = self.estimator.poll(now)?;
        self.burst = Some(Burst { probe, began: now, sent: 0, next: now });
        Some(probe.rate)
    }

    /// Prefetch: reads some of the state that sending uses, so that it is in the cache by then.
    pub fn touch(&self) -> usize {
        self.allowance as usize ^ usize::from(self.burst.is_some()) ^ self.estimator.touch()
    }

    /// Whether the pace allows media to leave now.
    pub fn may_send(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.allowance > 0
    }

    /// Charges a media packet of `bytes` to the allowance. Padding is not charged: it fills the part of a probe that
    /// media leave unused.
    pub fn spend(&mut self, bytes: usize) {
        self.allowance -= (bytes + DATAGRAM_OVERHEAD) as i64;
    }

    /// Records a packet of `bytes` that left with this transport-wide number.
    pub fn on_sent(&mut self, now: Instant, number: ExtendedSequence, bytes: usize) {
        let bytes = bytes + DATAGRAM_OVERHEAD;
        if self.unheard == Unheard::Unsent {
            self.unheard = Unheard::Since(now);
        }
        let cluster = self.burst.as_ref().map(|burst| burst.probe.cluster);
        self.estimator.on_sent(now, number, bytes, cluster);
        if let Some(last) = &mut self.missing {
            *last = now;
        }
        if let Some(burst) = &mut self.burst {
            burst.sent += bytes as u64;
            if self.estimator.active_probe().is_none() {
                self.burst = None;
                self.complete = true;
            }
        }
    }

    /// Call besides [`on_sent`](Self::on_sent) for a subscriber that reports by SSRC and RTP sequence number: maps
    /// those to the transport-wide number.
    pub fn on_sent_stream(&mut self, ssrc: Ssrc, sequence: u16, number: ExtendedSequence) {
        self.estimator.on_sent_stream(ssrc, sequence, number);
    }

    /// Records a packet without a transport-wide number: audio.
    pub fn on_sent_unreported(&mut self, now: Instant, bytes: usize) {
        self.estimator.on_sent_unreported(now, bytes + DATAGRAM_OVERHEAD);
    }

    /// Whether a probe is being sent.
    pub fn is_bursting(&self) -> bool {
        self.burst.is_some()
    }

    /// Whether a probe is being sent or has just been completed, so that work is due that no other event triggers.
    pub fn is_stirring(&self) -> bool {
        self.is_bursting() || self.complete
    }

    /// Whether a padding packet is due, either for a probe to reach its rate or to get any report at all.
    pub fn wants_padding(&self, now: Instant) -> bool {
        if self.heartbeat().is_some_and(|at| at <= now) {
            return true;
        }
        self.burst.as_ref().is_some_and(|burst| {
            let due = burst.probe.rate.over(now.saturating_duration_since(burst.began) + PADDING_STEP);
            now >= burst.next && burst.sent < due.bytes()
        })
    }

    /// Call when all padding that is due has left.
    pub fn on_padded(&mut self, now: Instant) {
        if let Some(burst) = &mut self.burst {
            burst.next = now + PADDING_STEP;
        }
    }

    /// Call when there is nothing to pad with yet. The probe is abandoned, and the next padding is due one interval
    /// later.
    pub fn cannot_pad(&mut self, now: Instant) {
        self.estimator.abandon_probe();
        self.burst = None;
        self.missing = self.missing.map(|_| now);
    }

    fn heartbeat(&self) -> Option<Instant> {
        let interval = if self.estimator.is_silent() { SILENT_HEARTBEAT } else { HEARTBEAT };
        self.missing.map(|last| last + interval)
    }

    /// Next time to [`poll`](Self::poll), or to send more if `waiting`.
    pub fn poll_timeout(&self, waiting: bool) -> Option<Instant> {
        let ready = waiting.then(|| self.ready_at());
        let burst = self.burst.as_ref().map(|burst| burst.next);
        let complete = self.complete.then_some(self.refilled);
        [self.estimator.poll_timeout(), ready, burst, self.heartbeat(), complete].into_iter().flatten().min()
    }

    fn pace(&self) -> Bitrate {
        let rate = self.estimate().max(self.allocated);
        let most = if self.estimator.is_policed() { POLICED_PACE_PERCENT } else { PACE_PERCENT };
        let percent = self.stood.map_or(most, |_| self.queued_pace().min(most));
        let pace = Bitrate::from_bps(rate.bps().saturating_mul(percent) / 100);
        self.burst.as_ref().map_or(pace, |burst| pace.max(burst.probe.rate))
    }

    fn queued_pace(&self) -> u64 {
        let (most, least) = QUEUED_PACE_PERCENT;
        let queue = self.queue_delay().min(LONG).as_micros();
        let less = u128::from(most - least) * queue / LONG.as_micros();
        most - u64::try_from(less).unwrap_or(most - least)
    }

    fn refill(&mut self, now: Instant) {
        // All packets of one flush ask at the same moment.
        if now <= self.refilled {
            return;
        }
        let pace = self.pace();
        let elapsed = now.saturating_duration_since(self.refilled).min(Duration::from_secs(1));
        let most = self.most_at_once();
        let gained = i64::try_from(pace.over(elapsed).bytes()).unwrap_or(i64::MAX);
        if gained > 0 {
            self.allowance = self.allowance.saturating_add(gained).min(most);
            self.refilled = now;
        }
    }

    /// Largest burst, in bytes.
    fn most_at_once(&self) -> i64 {
        let burst = if self.estimator.is_policed() { POLICED_BURST } else { BURST };
        i64::try_from(self.pace().over(burst).bytes()).unwrap_or(i64::MAX).max(LEAST_BURST)
    }

    /// When the allowance will be positive.
    fn ready_at(&self) -> Instant {
        let missing = u128::from((1 - self.allowance).max(0).unsigned_abs());
        let micros = missing * 8_000_000 / u128::from(self.pace().bps().max(1));
        self.refilled + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX).min(1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::test_epoch;

    fn bandwidth(now: Instant, kbps: u64) -> Bandwidth {
        let rate = Bitrate::from_kbps(kbps);
        Bandwidth::new(now, EstimatorConfig { start_rate: rate, min_rate: rate, max_rate: rate })
    }

    #[test]
    fn a_frame_leaves_at_once_and_a_long_burst_at_twice_the_estimate() {
        let start = test_epoch();
        let mut link = bandwidth(start, 2_000);
        let mut now = start + Duration::from_secs(1);
        let (mut sent, mut at_once) = (0_u64, None);
        let mut number = ExtendedSequence::first(0);
        while now < start + Duration::from_secs(2) {
            while link.may_send(now) {
                link.on_sent(now, number, 1172);
                link.spend(1172);
                number = number.plus(1);
                sent += 1200;
            }
            at_once.get_or_insert(sent);
            let next = link.poll_timeout(true).expect("more is to be sent");
            now = next.max(now + Duration::from_millis(1));
        }
        let at_once = at_once.expect("something was sent");
        assert!((20_000..=22_000).contains(&at_once), "40 ms at 4 Mbit/s, {at_once}");
        let second = sent - at_once;
        assert!((480_000..=520_000).contains(&second), "4 Mbit/s, {second}");
    }
}
