//! Bandwidth estimation for the link to one subscriber: done at the sender, from the subscriber's reports of which
//! packets arrived and when.
//!
//! ```text
//!  on_sent ──► sent_history ◄── on_feedback, on_congestion_feedback
//!                   │ PacketResult
//!      ┌────────┬───┴────┬────────┬────────┐
//!      ▼        ▼        ▼        ▼        ▼
//!    acked    delay    queue    loss     probe ──► poll: a probe to send
//!      │     (trend)     ├► contention     │
//!      │        └───┬────┘        │        │
//!      │            ▼             ▼        ▼
//!      └──────► rate_control ◄── verdict, outcome ──► min(.., REMB, limits) ──► estimate
//! ```
//!
//! `docs/bandwidth.md` gives the origin of each box and the measured results.

mod acked;
mod app_limited;
mod cluster;
mod contention;
mod delay;
mod digest;
mod loss;
mod policing;
mod probe;
mod queue;
mod rate_control;
mod report_order;
mod sent_history;
mod sent_rate;
mod silence;
mod stream_index;
mod train;

use std::time::{Duration, Instant};

use crate::rtp::rtcp::{CongestionFeedback, DELTA_TICK, TransportFeedback};
use crate::units::{Bitrate, ExtendedSequence, Ssrc};

use acked::AckedRate;
use app_limited::AppLimited;
use contention::Contention;
use delay::DelayDetector;
use loss::LossControl;
use policing::Policing;
pub use probe::{ClusterId, Probe};
use probe::{ProbeControl, Situation};
use queue::QueueDelay;
use rate_control::RateControl;
pub use report_order::ReportOrder;
use sent_history::{PacketResult, RemoteClock, SentHistory};
use sent_rate::SentRate;
use silence::Silence;
use stream_index::StreamIndex;

/// Start value and bounds of an estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EstimatorConfig {
    /// Estimate until something is known about the link.
    pub start_rate: Bitrate,
    /// Lower bound of the estimate: audio needs this much.
    pub min_rate: Bitrate,
    /// Upper bound of the estimate.
    pub max_rate: Bitrate,
}

impl Default for EstimatorConfig {
    fn default() -> Self {
        Self {
            start_rate: Bitrate::from_kbps(300),
            min_rate: Bitrate::from_kbps(40),
            max_rate: Bitrate::from_kbps(20_000),
        }
    }
}

/// Reason for the last change of an estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The estimate is still the start rate.
    Start,
    /// A probe showed that the link has more capacity, or less.
    Probe,
    /// No signal of congestion: the estimate grows gradually.
    Growth,
    /// The queue grew, stood above its limit, or is still draining.
    Queue,
    /// The queue has drained, so the estimate is no longer lowered for it.
    Drained,
    /// Packets were lost to congestion or to a policer.
    Loss,
    /// Loss is not caused by the rate: it did not fall with it, or fits no policer. The lowered rate is given back.
    LossUnrelated,
    /// No feedback arrived for too long.
    Silence,
    /// Feedback arrived again after a silence, or the estimator was restarted.
    Heard,
    /// The subscriber's REMB limits the estimate, or is the estimate while there is no other feedback.
    Remb,
}

/// A change of the estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Time of the change.
    pub at: Instant,
    /// Reason for the change.
    pub cause: Cause,
    /// Estimate after the change.
    pub estimate: Bitrate,
}

/// A policer on the path: it drops packets that exceed its rate instead of queueing them.
#[derive(Debug, Clone, Copy)]
struct Policer {
    /// When the policer was last detected, in seconds.
    at: f64,
    /// Whether the policer's rate was measured, not only its presence inferred from heavy loss.
    measured: bool,
    /// The sender's rate before it was lowered for the policer, in bits per second.
    before: f64,
}

/// A rate that the link carried, in bits per second, and the time at which that was seen, in seconds.
#[derive(Debug, Clone, Copy)]
struct Shown {
    rate: f64,
    at: f64,
}

/// Bandwidth estimator for the link to one subscriber. Internally, rates are bits per second and times are seconds
/// since `epoch`, both as `f64`, because the code is all arithmetic. The public API uses unit types.
#[derive(Debug)]
pub struct Estimator {
    config: EstimatorConfig,
    epoch: Instant,
    history: SentHistory,
    /// Maps SSRC and RTP sequence number to the transport-wide number, for subscribers that send RFC 8888 feedback.
    streams: StreamIndex,
    /// Results of the feedback message being processed. Kept between messages to reuse the allocation.
    results: Vec<PacketResult>,
    clock: RemoteClock,
    order: ReportOrder,
    acked: AckedRate,
    delay: DelayDetector,
    queue: QueueDelay,
    contention: Contention,
    loss: LossControl,
    policing: Policing,
    policer: Option<Policer>,
    rate: RateControl,
    probe: ProbeControl,
    /// Rate of the packets that the subscriber reports about.
    sent: SentRate,
    /// Rate of the packets that the subscriber does not report about. They are assumed to arrive: there are few.
    unreported: SentRate,
    app: AppLimited,
    silence: Silence,
    /// Number of packets reported as lost since a packet was last reported as received.
    lost_unheard: usize,
    remb: Option<(Bitrate, Instant)>,
    rtt: Option<f64>,
    /// Shortest recent round-trip time, in seconds. Unlike `rtt` it does not include a growing queue.
    shortest_rtt: Option<f64>,
    /// Send time of the newest packet that was reported as received, in seconds.
    told: Option<f64>,
    /// Arrival time of the last report that listed a received packet, in seconds.
    heard: f64,
    wanted: Bitrate,
    /// The rate before a recent fall: of falls less than 10 s after the recorded one, the highest. Probing takes smaller
    /// steps near it.
    before_drop: Option<Shown>,
    /// Rate that a probe, or a failed loss trial, has shown to pass; cleared when the rate falls.
    confirmed: Option<Shown>,
    disturbed_until: f64,
    /// Packets sent before this time, in microseconds, are not counted for the loss: the rate was cut since then, or
    /// nothing got through.
    cut: i64,
    /// An outage has ended and [`take_outage`](Self::take_outage) has not reported that yet.
    outage: bool,
    /// The estimator was restarted ([`begin_anew`](Self::begin_anew)), and no packet was reported as received since.
    anew: bool,
    /// Time of the last poll, in seconds.
    polled: Option<f64>,
    last: Change,
}

impl Estimator {
    /// An estimator at `config.start_rate`.
    pub fn new(now: Instant, config: EstimatorConfig) -> Self {
        let bps = |rate: Bitrate| rate.bps().min(MOST) as f64;
        let (min, max) = (bps(config.min_rate).max(1000.0), bps(config.max_rate).max(1000.0));
        let max = max.max(min);
        let start = bps(config.start_rate).clamp(min, max);
        Self {
            config,
            epoch: now,
            history: SentHistory::new(),
            streams: StreamIndex::new(),
            results: Vec::new(),
            clock: RemoteClock::default(),
            order: ReportOrder::default(),
            acked: AckedRate::new(),
            delay: DelayDetector::new(),
            queue: QueueDelay::new(),
            contention: Contention::new(),
            loss: LossControl::new(),
            policing: Policing::default(),
            policer: None,
            rate: RateControl::new(start, min, max),
            probe: ProbeControl::new(),
            sent: SentRate::default(),
            unreported: SentRate::default(),
            app: AppLimited::default(),
            silence: Silence::default(),
            lost_unheard: 0,
            remb: None,
            rtt: None,
            shortest_rtt: None,
            told: None,
            heard: 0.0,
            wanted: config.max_rate,
            before_drop: None,
            confirmed: None,
            disturbed_until: 0.0,
            cut: 0,
            outage: false,
            anew: false,
            polled: None,
            last: Change { at: now, cause: Cause::Start, estimate: Bitrate::from_bps(start as u64) },
        }
    }

    /// Rate that may be sent now: audio, video, retransmissions and padding together.
    pub fn estimate(&self) -> Bitrate {
        self.last.estimate
    }

    /// The last change of the estimate.
    pub fn last_change(&self) -> Change {
        self.last
    }

    /// Rate that may be sent once the standing queue is empty. [`estimate`](Self::estimate) is lower until then, so
    /// that the queue drains.
    pub fn settled(&self) -> Bitrate {
        self.bounded(self.rate.rate() * self.silence.share())
    }

    /// Rate that arrived while the draining queue was built up; not below [`settled`](Self::settled).
    pub fn delivered(&self, now: Instant) -> Bitrate {
        self.bounded(self.rate.delivered(self.seconds(now)) * self.silence.share())
    }

    /// Rate that a probe of the last ten seconds has shown to pass, or that passed before a loss trial lowered the rate
    /// in vain. Zero if there is none, or if the rate has fallen since.
    pub fn confirmed(&self, now: Instant) -> Bitrate {
        let now = self.seconds(now);
        let recent = self.confirmed.filter(|shown| now - shown.at < CONFIRMED);
        recent.map_or(Bitrate::ZERO, |shown| self.bounded(shown.rate))
    }

    /// Time until which probes may show more capacity than they just did; `None` if no more is expected.
    pub fn climbs_until(&self, now: Instant) -> Option<Instant> {
        let until = self.probe.climbs_until();
        (until > self.seconds(now)).then(|| self.epoch + Duration::from_secs_f64(until.clamp(0.0, 1e9)))
    }

    /// Allows no probe before `until`, however urgent. `None` removes the restriction.
    pub fn rest(&mut self, until: Option<Instant>) {
        let until = until.map_or(0.0, |until| self.seconds(until));
        self.probe.rest(until);
    }

    /// Smoothed time from sending a packet to receiving the feedback about it; `None` before the first feedback.
    #[cfg(test)]
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt.map(Duration::from_secs_f64)
    }

    /// Share of packets lost, 0 to 1, over about a second.
    pub fn loss(&self) -> f64 {
        self.loss.ratio()
    }

    /// Share of packets lost while no queue stood, 0 to 1, over about a second of such time.
    pub fn lost_by_chance(&self) -> f64 {
        self.loss.by_chance()
    }

    /// Queueing delay in the network.
    pub fn queue_delay(&self) -> Duration {
        Duration::from_secs_f64(self.queue.millis().clamp(0.0, 1e6) / 1000.0)
    }

    /// Sent rate over about half a second: audio, video, retransmissions and padding.
    pub fn sent_rate(&self, now: Instant) -> Bitrate {
        let now = self.seconds(now);
        Bitrate::from_bps((self.sent.at(now) + self.unreported.at(now)).max(0.0) as u64)
    }

    /// Whether the link is policed: it drops at once what exceeds a rate, and queues nothing.
    pub fn is_policed(&self) -> bool {
        self.policer.is_some()
    }

    /// Bytes sent for which feedback is pending.
    pub fn in_flight(&self) -> u64 {
        self.history.in_flight()
    }

    /// Sets the rate that would be sent with enough capacity. Probing stops once the estimate reaches it.
    pub fn set_wanted(&mut self, now: Instant, wanted: Bitrate) {
        let more = wanted.bps() > self.wanted.bps().saturating_add(self.wanted.bps() / 10);
        self.wanted = wanted;
        if more && wanted > self.last.estimate {
            let now = self.seconds(now);
            self.probe.hurry(now);
        }
    }

    /// Records whether no video is sent for lack of bandwidth.
    pub fn set_starved(&mut self, now: Instant, starved: bool) {
        let now = self.seconds(now);
        self.probe.set_starved(now, starved);
    }

    /// Handles a receiver report that says that packets of some stream arrived.
    pub fn on_arrived(&mut self, now: Instant) {
        let seconds = self.seconds(now);
        self.silence.on_arrived(seconds);
    }

    /// Restarts at the start rate, as for a new receiver, if no video is sent and receiver reports show arrivals
    /// although transport-wide feedback has been missing for long. The unreported packets were padding then: some
    /// receivers discard padding without reporting it, and only video will be reported. Returns whether the estimator
    /// was restarted.
    pub fn begin_anew(&mut self, now: Instant) -> bool {
        let seconds = self.seconds(now);
        if !self.probe.is_starved() || !self.silence.is_contradicted(seconds) {
            return false;
        }
        self.silence.on_heard();
        self.anew = true;
        self.rate.set(self.config.start_rate.bps().min(MOST) as f64);
        self.conclude(now, Cause::Heard);
        true
    }

    /// Call when a video track stops being sent by choice: that less arrives then says nothing about the link.
    pub fn on_sending_less(&mut self) {
        self.sent.clear();
        self.app.on_choice();
    }

    /// Prefetch: reads some of the state that [`on_sent`](Self::on_sent) uses, so that it is in the cache by then.
    pub fn touch(&self) -> usize {
        self.history.touch() ^ self.sent.touch() ^ self.silence.touch()
    }

    /// Records a sent packet of `bytes` including its headers. `sequence`, the transport-wide number, must ascend;
    /// `cluster` is the probe that the packet belongs to.
    pub fn on_sent(
        &mut self,
        now: Instant,
        sequence: ExtendedSequence,
        bytes: usize,
        cluster: Option<ClusterId>,
    ) {
        let (micros, seconds) = (self.micros(now), self.seconds(now));
        self.history.insert(sequence, micros, bytes, cluster);
        self.sent.on_sent(seconds, bytes);
        self.silence.on_sent(seconds);
        if let Some(cluster) = cluster {
            self.probe.on_sent(cluster, micros, bytes);
        }
    }

    /// Records a sent packet that has no transport-wide number: audio.
    pub fn on_sent_unreported(&mut self, now: Instant, bytes: usize) {
        let seconds = self.seconds(now);
        self.unreported.on_sent(seconds, bytes);
    }

    /// Handles transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    pub fn on_feedback(&mut self, now: Instant, feedback: &TransportFeedback) {
        let Some(base) = self.history.extend(feedback.base_sequence) else { return };
        let end = base.plus(u64::from(feedback.status_count));
        self.results.clear();
        if self.order.follows(feedback.feedback_count) {
            // No message is missing between the last one and this one, so packets that neither reports were lost.
            // Some receivers begin each message with the next packet that they received.
            self.history.lose_before(base, &mut self.results);
        }
        let clock = &mut self.clock;
        let arrivals = feedback.arrivals().map(|(wire, ticks)| {
            let offset = wire.wrapping_sub(feedback.base_sequence);
            (base.plus(u64::from(offset)), clock.extend(ticks as u32).saturating_mul(MICROS_PER_TICK))
        });
        let unknown = self.history.resolve(base, end, arrivals, &mut self.results);
        if unknown > 0
            && let Some(arrival) = self.results.iter().find_map(|result| result.arrival)
        {
            self.acked.on_gap(arrival, unknown);
            self.policing.forget_window();
        }
        self.digest(now);
    }

    /// Records the SSRC and RTP sequence number of a sent packet, in addition to [`on_sent`](Self::on_sent). Needed
    /// only for subscribers that send congestion control feedback (RFC 8888).
    pub fn on_sent_stream(&mut self, ssrc: Ssrc, rtp_sequence: u16, sequence: ExtendedSequence) {
        self.streams.insert(ssrc, rtp_sequence, sequence);
    }

    /// Handles congestion control feedback (RFC 8888).
    pub fn on_congestion_feedback(&mut self, now: Instant, feedback: &CongestionFeedback) {
        self.results.clear();
        let written = self.clock.extend(feedback.timestamp);
        for report in feedback.packets().take(MOST_REPORTS) {
            let Some(sequence) = self.streams.find(report.ssrc, report.sequence) else { continue };
            match report.age {
                Some(age) => {
                    let units = written.saturating_sub(i64::from(age) * 64);
                    let arrival = units.saturating_mul(15_625) / 1024;
                    self.history.receive(sequence, arrival, &mut self.results);
                }
                // Arrived at an unknown time: nothing can be measured from it.
                None if report.received => self.history.dismiss(sequence),
                None => self.history.lose(sequence, &mut self.results),
            }
        }
        self.results.sort_unstable_by_key(|result| result.sent);
        self.digest(now);
    }

    /// Handles the subscriber's own estimate (REMB, draft-alvestrand-rmcat-remb-03). It is an upper bound for ten
    /// seconds, and the estimate itself until there is other feedback.
    pub fn on_remb(&mut self, now: Instant, bitrate: Bitrate) {
        self.remb = Some((bitrate, now));
        if !self.silence.was_heard() {
            self.rate.set(bitrate.bps().min(MOST) as f64);
        }
        self.conclude(now, Cause::Remb);
    }

    /// Discards the subscriber's own estimate (REMB).
    pub fn forget_remb(&mut self) {
        self.remb = None;
    }

    /// Whether feedback has been missing for too long, so that the estimate is lowered.
    pub fn is_silent(&self) -> bool {
        self.silence.is_active()
    }

    /// Whether an outage has just ended: nothing got through for a while, and the packets sent in that time are lost.
    /// True once per outage.
    pub fn take_outage(&mut self) -> bool {
        std::mem::take(&mut self.outage)
    }

    /// Advances time. Returns a probe if one should begin now.
    pub fn poll(&mut self, now: Instant) -> Option<Probe> {
        let seconds = self.seconds(now);
        self.polled = Some(seconds);
        if self.policer.take_if(|policer| seconds - policer.at >= POLICED).is_some() {
            self.rate.lift_ceiling();
        }
        if self.remb.is_some_and(|(_, at)| now.saturating_duration_since(at) >= REMB_LIFE) {
            self.remb = None;
            self.conclude(now, Cause::Growth);
        }
        if self.silence.update(seconds, self.rtt_or_default()) {
            self.conclude(now, Cause::Silence);
        }
        let quiet = self.queue.sure_millis() < CALM
            && !self.rate.is_draining()
            && !self.silence.is_active()
            && !self.contention.is_active()
            && !self.is_told_late(seconds);
        let situation = Situation {
            now: seconds,
            estimate: self.last.estimate.bps() as f64,
            wanted: self.wanted.min(self.config.max_rate).bps().min(MOST) as f64,
            max: self.config.max_rate.bps().min(MOST) as f64,
            quiet,
            calm: quiet && self.is_calm(seconds),
            beyond: self.rate.is_beyond_capacity(),
            jitter: self.queue.jitter_millis(),
            loss: self.loss.ratio(),
            capacity: self.rate.capacity(),
            before_drop: self.before_drop.map(|shown| shown.rate),
            policed: self.policer.is_some_and(|policer| policer.measured),
        };
        self.probe.poll(&situation)
    }

    /// Whether the newest packet that was reported as received left long ago: reports are delayed, or the packets wait
    /// in a queue.
    fn is_told_late(&self, now: f64) -> bool {
        let rtt = self.shortest_rtt.unwrap_or(DEFAULT_RTT.as_secs_f64());
        let late = |told: f64| now - told > 1.5 * rtt + TOLD_LATE;
        self.in_flight() > 0 && self.told.is_some_and(late)
    }

    /// Whether enough time has passed since the rate last fell that a queue would have grown again if the link were
    /// still as narrow.
    fn is_calm(&self, now: f64) -> bool {
        let since = now - self.rate.decreased();
        // A flow that sends little takes nothing from other flows, and video may be waiting for the capacity.
        since > CALM_AFTER
            || since > SOONEST_CALM && (self.rate.is_beyond_capacity() || self.app.is_limited())
    }

    /// The probe being sent, until all of it was sent.
    pub fn active_probe(&self) -> Option<Probe> {
        self.probe.active()
    }

    /// Cancels the probe being sent: it cannot be completed, and its results are ignored.
    pub fn abandon_probe(&mut self) {
        self.probe.abandon();
    }

    /// When to [`poll`](Self::poll) next if no feedback arrives before. Poll also after feedback and after
    /// [`set_wanted`](Self::set_wanted), because a probe that waits for the queue to empty has no timer.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let silence = self.silence.due(self.rtt_or_default());
        let probe = Some(self.probe.due()).filter(|due| self.polled.is_none_or(|polled| *due > polled));
        let at = |seconds: f64| self.epoch + Duration::from_secs_f64(seconds.clamp(0.0, 1e9));
        let remb = self.remb.map(|(_, at)| at + REMB_LIFE);
        [silence.map(at), probe.map(at), remb].into_iter().flatten().min()
    }

    fn conclude(&mut self, now: Instant, cause: Cause) {
        let rate = self.rate.target() * self.silence.share();
        let cause = if self.remb_bound() < rate { Cause::Remb } else { cause };
        let estimate = self.bounded(rate);
        if estimate != self.last.estimate {
            self.last = Change { at: now, cause, estimate };
        }
    }

    fn bounded(&self, rate: f64) -> Bitrate {
        let (min, max) = (self.config.min_rate, self.config.max_rate.max(self.config.min_rate));
        Bitrate::from_bps(rate.min(self.remb_bound()) as u64).clamp(min, max)
    }

    /// Smoothed round-trip time in seconds, or [`DEFAULT_RTT`].
    fn rtt_or_default(&self) -> f64 {
        self.rtt.unwrap_or(DEFAULT_RTT.as_secs_f64())
    }

    fn remb_bound(&self) -> f64 {
        self.remb.map_or(f64::MAX, |(remb, _)| remb.bps().min(MOST) as f64)
    }

    fn micros(&self, now: Instant) -> i64 {
        i64::try_from(now.saturating_duration_since(self.epoch).as_micros()).unwrap_or(i64::MAX)
    }

    fn seconds(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.epoch).as_secs_f64()
    }
}

/// Highest rate used in calculations, in bits per second: 10 Gbit/s. Higher configured or reported rates count as this.
const MOST: u64 = 10_000_000_000;
/// Packet reports that are read from one RFC 8888 message at most.
const MOST_REPORTS: usize = 8192;
const MICROS_PER_TICK: i64 = DELTA_TICK.as_micros() as i64;
/// Round-trip time that is assumed until one is measured.
pub const DEFAULT_RTT: Duration = Duration::from_millis(100);
const REMB_LIFE: Duration = Duration::from_secs(10);
/// Seconds for which the rate that a probe showed is relied on.
const CONFIRMED: f64 = 10.0;
/// Seconds after the last detection of a policer until the link counts as unpoliced, even if more passes before.
const POLICED: f64 = 120.0;
/// Seconds, beyond one and a half round trips, after which the newest reported packet is too old for a probe to begin.
/// Where reports arrive less often than that, a probe begins when a report has just arrived.
const TOLD_LATE: f64 = 0.15;
/// Seconds after a decrease of the rate until the link counts as calm.
const CALM_AFTER: f64 = 6.0;
/// [`CALM_AFTER`] where the rate exceeds the known capacity, no capacity is known, or little is sent.
const SOONEST_CALM: f64 = 1.5;
/// Queueing delay in milliseconds, less the jitter, below which no queue stands.
const CALM: f64 = 12.0;

#[cfg(test)]
mod tests;
