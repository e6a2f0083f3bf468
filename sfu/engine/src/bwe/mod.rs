//! How much the way to one subscriber carries: estimated at the sender, from what the subscriber says arrived and when.
//!
//! ```text
//!  on_sent ──► sent_history ◄── on_feedback, on_congestion_feedback
//!                   │ PacketResult
//!      ┌────────┬───┴────┬────────┬────────┐
//!      ▼        ▼        ▼        ▼        ▼
//!    acked    delay    queue    loss     probe ──► poll: a burst to send
//!      │     (trend)     ├► contention     │
//!      │        └───┬────┘        │        │
//!      │            ▼             ▼        ▼
//!      └──────► rate_control ◄── verdict, outcome ──► min(.., REMB, limits) ──► estimate
//! ```
//!
//! `docs/bandwidth.md` says where each box comes from and what was measured.

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

/// What an estimator begins with and stays within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EstimatorConfig {
    /// What is sent before anything is known.
    pub start_rate: Bitrate,
    /// Never less: sound needs it.
    pub min_rate: Bitrate,
    /// Never more.
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

/// Why the estimate is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Nothing is known yet.
    Start,
    /// A burst showed that there is more, or less.
    Probe,
    /// Nothing spoke against a little more.
    Growth,
    /// A queue grew, or stood too long.
    Queue,
    /// The queue has drained.
    Drained,
    /// Packets were lost for lack of room.
    Loss,
    /// Loss did not fall with the rate, so the rate is not its cause.
    LossUnrelated,
    /// Nothing was heard from the subscriber for too long.
    Silence,
    /// The subscriber was heard again.
    Heard,
    /// The subscriber asked for this much at most.
    Remb,
}

/// A change of the estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: Instant,
    /// Why.
    pub cause: Cause,
    /// To what.
    pub estimate: Bitrate,
}

/// Something that drops what exceeds a rate.
#[derive(Debug, Clone, Copy)]
struct Policer {
    /// When it was last seen, in seconds.
    at: f64,
    /// Its rate is known, not only that there is one.
    measured: bool,
    /// What the rate was before, in bits per second.
    before: f64,
}

/// A rate that passed, in bits per second, and when, in seconds.
#[derive(Debug, Clone, Copy)]
struct Shown {
    rate: f64,
    at: f64,
}

/// The bandwidth towards one subscriber. Inside, rates are bits per second and times seconds since `epoch`, both as
/// floating point numbers: it is all arithmetic. At its doors they have their types.
#[derive(Debug)]
pub struct Estimator {
    config: EstimatorConfig,
    epoch: Instant,
    history: SentHistory,
    /// For subscribers that report by source and RTP sequence number.
    streams: StreamIndex,
    /// Of the message being read; kept for its memory.
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
    /// What is sent that the subscriber reports about,
    sent: SentRate,
    /// and what it does not. That is taken to arrive: there is little of it.
    unreported: SentRate,
    app: AppLimited,
    silence: Silence,
    /// Packets reported as lost since one was last reported as received.
    lost_unheard: usize,
    remb: Option<(Bitrate, Instant)>,
    rtt: Option<f64>,
    /// The shortest of late: a queue that grows makes the other longer.
    shortest_rtt: Option<f64>,
    /// When the newest packet left that the subscriber told of, in seconds.
    told: Option<f64>,
    /// When the last report came, in seconds.
    heard: f64,
    wanted: Bitrate,
    /// Where the estimate stood before it fell.
    before_drop: Option<Shown>,
    /// What a burst, or a trial of loss, showed to pass.
    confirmed: Option<Shown>,
    disturbed_until: f64,
    /// What was sent before that time, in microseconds, is not judged by its loss: the rate was cut since, or nothing got through.
    cut: i64,
    /// Nothing got through for a while, and then something did.
    outage: bool,
    /// The estimate has begun anew, and no report has come since.
    anew: bool,
    /// When it was last polled, in seconds.
    polled: Option<f64>,
    last: Change,
}

impl Estimator {
    /// Begins at the rate to start with.
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

    /// What may be sent now, all of it: sound, pictures, repair and padding.
    pub fn estimate(&self) -> Bitrate {
        self.last.estimate
    }

    /// The last change of the estimate.
    pub fn last_change(&self) -> Change {
        self.last
    }

    /// What may be sent once the queue that stands is empty: less leaves meanwhile, so that it becomes so.
    pub fn settled(&self) -> Bitrate {
        self.bounded(self.rate.rate() * self.silence.share())
    }

    /// What arrived while the queue that drains was made; not below [`settled`](Self::settled).
    pub fn delivered(&self, now: Instant) -> Bitrate {
        self.bounded(self.rate.delivered(self.seconds(now)) * self.silence.share())
    }

    /// What a burst of the last ten seconds has shown to pass, or passed before less was sent in vain, if nothing has
    /// spoken against it since; else zero.
    pub fn confirmed(&self, now: Instant) -> Bitrate {
        let now = self.seconds(now);
        let recent = self.confirmed.filter(|shown| now - shown.at < CONFIRMED);
        recent.map_or(Bitrate::ZERO, |shown| self.bounded(shown.rate))
    }

    /// Until when bursts may show more than they just did, if they do.
    pub fn climbs_until(&self, now: Instant) -> Option<Instant> {
        let until = self.probe.climbs_until();
        (until > self.seconds(now)).then(|| self.epoch + Duration::from_secs_f64(until.clamp(0.0, 1e9)))
    }

    /// No burst before that time, whatever happens; `None`: as soon as one is due.
    pub fn rest(&mut self, until: Option<Instant>) {
        let until = until.map_or(0.0, |until| self.seconds(until));
        self.probe.rest(until);
    }

    /// From sending a packet to hearing of it, smoothed.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt.map(Duration::from_secs_f64)
    }

    /// The share of packets lost, 0 to 1, over about a second.
    pub fn loss(&self) -> f64 {
        self.loss.ratio()
    }

    /// The share of packets lost while no queue stood, 0 to 1, over about a second of that.
    pub fn lost_by_chance(&self) -> f64 {
        self.loss.by_chance()
    }

    /// How long packets wait in the network.
    pub fn queue_delay(&self) -> Duration {
        Duration::from_secs_f64(self.queue.millis().clamp(0.0, 1e6) / 1000.0)
    }

    /// What is sent, over half a second: sound, pictures, repair and padding.
    pub fn sent_rate(&self, now: Instant) -> Bitrate {
        let now = self.seconds(now);
        Bitrate::from_bps((self.sent.at(now) + self.unreported.at(now)).max(0.0) as u64)
    }

    /// Whether what exceeds a rate is dropped at once, and nothing may wait in the network.
    pub fn is_policed(&self) -> bool {
        self.policer.is_some()
    }

    /// Bytes sent that nothing was heard of.
    pub fn in_flight(&self) -> u64 {
        self.history.in_flight()
    }

    /// What would be sent if there was room. Bursts look for it, and no further.
    pub fn set_wanted(&mut self, now: Instant, wanted: Bitrate) {
        let more = wanted.bps() > self.wanted.bps().saturating_add(self.wanted.bps() / 10);
        self.wanted = wanted;
        if more && wanted > self.last.estimate {
            let now = self.seconds(now);
            self.probe.hurry(now);
        }
    }

    /// Whether no picture is sent for want of room.
    pub fn set_starved(&mut self, now: Instant, starved: bool) {
        let now = self.seconds(now);
        self.probe.set_starved(now, starved);
    }

    /// A receiver report says that packets of some stream arrived.
    pub fn on_arrived(&mut self, now: Instant) {
        let seconds = self.seconds(now);
        self.silence.on_arrived(seconds);
    }

    /// Begins anew, as for a receiver that has just come, if packets arrive and for long nothing has been heard of those that
    /// this estimates by, and no picture is sent. Those were padding then: some receivers throw it away unreported, and only a
    /// picture will be reported. Returns whether it did.
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

    /// A picture is not sent any more, by choice: that less arrives from now on says nothing of the link.
    pub fn on_sending_less(&mut self) {
        self.sent.clear();
        self.app.on_choice();
    }

    /// Reads a little of everything that [`on_sent`](Self::on_sent) looks at, so that it is in the cache by then.
    pub fn touch(&self) -> usize {
        self.history.touch() ^ self.sent.touch() ^ self.silence.touch()
    }

    /// A packet leaves, `bytes` long with its headers. Numbers ascend.
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

    /// A packet leaves that has no number: sound.
    pub fn on_sent_unreported(&mut self, now: Instant, bytes: usize) {
        let seconds = self.seconds(now);
        self.unreported.on_sent(seconds, bytes);
    }

    /// Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    pub fn on_feedback(&mut self, now: Instant, feedback: &TransportFeedback) {
        let Some(base) = self.history.extend(feedback.base_sequence) else { return };
        let end = base.plus(u64::from(feedback.status_count));
        self.results.clear();
        if self.order.follows(feedback.feedback_count) {
            // No message is missing: what neither of the two tells of was lost. Some receivers begin each message
            // with the next packet that they have.
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

    /// Besides [`on_sent`](Self::on_sent), for subscribers that send congestion control feedback: which source and
    /// RTP sequence number the packet has.
    pub fn on_sent_stream(&mut self, ssrc: Ssrc, rtp_sequence: u16, sequence: ExtendedSequence) {
        self.streams.insert(ssrc, rtp_sequence, sequence);
    }

    /// Congestion control feedback (RFC 8888).
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
                // Arrived, but nobody knows when: no measure of anything.
                None if report.received => self.history.dismiss(sequence),
                None => self.history.lose(sequence, &mut self.results),
            }
        }
        self.results.sort_unstable_by_key(|result| result.sent);
        self.digest(now);
    }

    /// What the subscriber itself estimates that it can take (draft-alvestrand-rmcat-remb-03). An upper bound for as
    /// long as it is fresh; the estimate itself while there is no other feedback.
    pub fn on_remb(&mut self, now: Instant, bitrate: Bitrate) {
        self.remb = Some((bitrate, now));
        if !self.silence.was_heard() {
            self.rate.set(bitrate.bps().min(MOST) as f64);
        }
        self.conclude(now, Cause::Remb);
    }

    /// The subscriber's own estimate bounds nothing any more.
    pub fn forget_remb(&mut self) {
        self.remb = None;
    }

    /// Whether nothing was heard for too long.
    pub fn is_silent(&self) -> bool {
        self.silence.is_active()
    }

    /// Whether an outage has just ended: nothing got through until now, and what was sent meanwhile is gone. Once each.
    pub fn take_outage(&mut self) -> bool {
        std::mem::take(&mut self.outage)
    }

    /// Lets time pass. A burst that should be sent from now on.
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

    /// Whether what the subscriber told of left long ago: reports are held up, or what they tell of waits in a queue.
    fn is_told_late(&self, now: f64) -> bool {
        let rtt = self.shortest_rtt.unwrap_or(DEFAULT_RTT.as_secs_f64());
        let late = |told: f64| now - told > 1.5 * rtt + TOLD_LATE;
        self.in_flight() > 0 && self.told.is_some_and(late)
    }

    /// Whether the queue would have grown by now if the link were as narrow as it was.
    fn is_calm(&self, now: f64) -> bool {
        let since = now - self.rate.decreased();
        // Whoever sends little takes nothing from others, and a picture may wait for what there is.
        since > CALM_AFTER
            || since > SOONEST_CALM && (self.rate.is_beyond_capacity() || self.app.is_limited())
    }

    /// The burst being sent, until it is complete.
    pub fn active_probe(&self) -> Option<Probe> {
        self.probe.active()
    }

    /// The burst being sent cannot be completed: nothing is to be learnt from it.
    pub fn abandon_probe(&mut self) {
        self.probe.abandon();
    }

    /// When to [`poll`](Self::poll) next if nothing is heard before. It is also to be polled after feedback and
    /// after [`set_wanted`](Self::set_wanted): a burst that waits for the queue to empty waits for those.
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

    /// In seconds.
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

/// In bits per second; beyond it nothing is told apart.
const MOST: u64 = 10_000_000_000;
/// Packets that one message is read for at most.
const MOST_REPORTS: usize = 8192;
const MICROS_PER_TICK: i64 = DELTA_TICK.as_micros() as i64;
/// What a round trip is taken for until one is measured.
pub const DEFAULT_RTT: Duration = Duration::from_millis(100);
const REMB_LIFE: Duration = Duration::from_secs(10);
/// In seconds: how long what a burst showed is relied on.
const CONFIRMED: f64 = 10.0;
/// In seconds: so long after the last sign of a policer one is reckoned with, also where more passes.
const POLICED: f64 = 120.0;
/// In seconds, beyond one and a half round trips. Where reports are further apart, a burst begins as one comes.
const TOLD_LATE: f64 = 0.15;
const CALM_AFTER: f64 = 6.0;
const SOONEST_CALM: f64 = 1.5;
/// A queue of fewer milliseconds, and some jitter, is none.
const CALM: f64 = 12.0;

#[cfg(test)]
mod tests;
