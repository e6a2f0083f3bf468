//! The way to one subscriber: what it carries, and sending no faster than that.
//!
//! A video frame leaves at once as long as the link has kept up (one system call for all of it is what makes
//! forwarding cheap); what exceeds that is spread. Bursts of padding look for more where more is wanted.

use std::time::{Duration, Instant};

use crate::bwe::{Cause, Change, Estimator, EstimatorConfig, Probe};
use crate::rtp::rtcp::{CongestionFeedback, TransportFeedback};
use crate::units::{Bitrate, ExtendedSequence, Ssrc};

/// Of the estimate: media may leave this much faster, so that a key frame does not hold up what follows.
const PACE_PERCENT: u64 = 200;

/// Of the estimate, after a queue stood in the network: what leaves faster only waits there, before what is wanted more by
/// then. The pace falls from the first to the second as the queue grows to [`LONG`]. Steeper, or back to [`PACE_PERCENT`] as
/// soon as the queue is gone, the queue comes and goes for as long as packets wait here, for a report tells of it
/// only a round trip later.
const QUEUED_PACE_PERCENT: (u64, u64) = (125, 75);
const LONG: Duration = Duration::from_millis(100);

/// A queue that is longer than this stands. It counts for [`WARY`] after it was, and until no packets wait here.
const STANDING: Duration = Duration::from_millis(60);
const WARY: Duration = Duration::from_secs(1);

/// As [`PACE_PERCENT`] where what exceeds the rate is dropped at once: nothing may wait in the network, so it waits here.
const POLICED_PACE_PERCENT: u64 = 110;

/// How much may leave at once: what goes out in this time.
const BURST: Duration = Duration::from_millis(40);

/// As [`BURST`] where what exceeds the rate is dropped: a policer may let no more than three packets through at once.
const POLICED_BURST: Duration = Duration::from_millis(5);

/// As above, at least: two packets.
const LEAST_BURST: i64 = 2_400;

/// Of the estimate: with as much sent there may be room for copies.
const ROOM_PERCENT: u64 = 125;

/// IP and UDP headers, which the link carries too.
const DATAGRAM_OVERHEAD: usize = 28;

/// A subscriber that was sent something and reports nothing for this long never will.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where more is wanted than is sent, something leaves at least this often about which the subscriber reports: sound is
/// not in its reports, and without any nothing more would ever be known of the link.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// Time between two packets of padding while nothing is heard, so that the end of an outage is.
const SILENT_HEARTBEAT: Duration = Duration::from_millis(40);

/// Once nothing more is missing there is time before looking for what could be spared.
const SETTLING: Duration = Duration::from_secs(2);

/// Padding goes out in steps of this at least, or of one packet.
const PADDING_STEP: Duration = Duration::from_millis(2);

/// The state of one subscriber's link.
#[derive(Debug)]
pub struct Bandwidth {
    estimator: Estimator,
    /// Bytes that may leave now; below zero, what has left too early.
    allowance: i64,
    /// What was decided to be sent, which may be more than is known to pass.
    allocated: Bitrate,
    refilled: Instant,
    /// When a queue was last seen to stand, if that was lately.
    stood: Option<Instant>,
    /// Something was found out about the link. Growth from the rate to start with is not.
    measured: bool,
    unheard: Unheard,
    burst: Option<Burst>,
    /// A burst has just become complete: another may follow at once.
    complete: bool,
    /// More is wanted than is sent; when the last packet left that is reported about.
    missing: Option<Instant>,
}

/// Whether the subscriber does what it agreed to, and reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unheard {
    /// Nothing was sent yet.
    Unsent,
    /// It was sent something since, and has not said a word.
    Since(Instant),
    /// It reports.
    Heard,
}

/// A burst being sent.
#[derive(Debug)]
struct Burst {
    probe: Probe,
    began: Instant,
    sent: u64,
    next: Instant,
}

impl Bandwidth {
    /// Nothing is known yet.
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

    /// What may be sent.
    pub fn estimate(&self) -> Bitrate {
        self.estimator.estimate()
    }

    /// What may be sent once the queue is empty.
    pub fn settled(&self) -> Bitrate {
        self.estimator.settled()
    }

    /// What arrived while the queue that drains was made; not below [`settled`](Self::settled).
    pub fn delivered(&self, now: Instant) -> Bitrate {
        self.estimator.delivered(now)
    }

    /// What a burst has lately shown to pass, zero if none has.
    pub fn confirmed(&self, now: Instant) -> Bitrate {
        self.estimator.confirmed(now)
    }

    /// Until when bursts may show more than they just did, if they do.
    pub fn climbs_until(&self, now: Instant) -> Option<Instant> {
        self.estimator.climbs_until(now)
    }

    /// Whether an outage has just ended. Once each.
    pub fn take_outage(&mut self) -> bool {
        self.estimator.take_outage()
    }

    /// How long `bytes` take to leave.
    pub fn time_for(&self, bytes: usize) -> Duration {
        let micros = bytes as u128 * 8_000_000 / u128::from(self.pace().bps().max(1));
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// Whether the estimate says something about the link.
    pub fn is_measured(&self) -> bool {
        self.measured
    }

    /// Whether the subscriber agreed to report and never does: then nothing can be known.
    pub fn is_mute(&self, now: Instant) -> bool {
        matches!(self.unheard, Unheard::Since(since) if now.saturating_duration_since(since) > PATIENCE)
    }

    fn note(&mut self) {
        self.unheard = Unheard::Heard;
        self.measured |=
            !matches!(self.last_change().cause, Cause::Start | Cause::Growth | Cause::Drained | Cause::Heard);
    }

    /// The last change of the estimate, with its cause.
    pub fn last_change(&self) -> Change {
        self.estimator.last_change()
    }

    /// What was decided to be sent.
    pub fn allocated(&self) -> Bitrate {
        self.allocated
    }

    /// The rate of the burst being sent.
    pub fn burst(&self) -> Option<Bitrate> {
        self.burst.as_ref().map(|burst| burst.probe.rate)
    }

    /// How long packets wait in the network.
    pub fn queue_delay(&self) -> Duration {
        self.estimator.queue_delay()
    }

    /// Whether what exceeds a rate is dropped at once.
    pub fn is_policed(&self) -> bool {
        self.estimator.is_policed()
    }

    /// The share of packets lost lately, 0 to 1.
    pub fn loss(&self) -> f64 {
        self.estimator.loss()
    }

    /// The share of packets lost lately while no queue stood, 0 to 1.
    pub fn lost_by_chance(&self) -> f64 {
        self.estimator.lost_by_chance()
    }

    /// Whether not much more is sent than may be. The estimate counts what arrives, not what is lost on the way, and keeps
    /// some room free.
    pub fn has_room(&self, now: Instant) -> bool {
        let most = self.estimate().bps().saturating_mul(ROOM_PERCENT) / 100;
        self.estimator.sent_rate(now).bps() < most
    }

    /// What is sent by decision, and what would be sent if there was room. `missing`: something is left out for want of
    /// room.
    pub fn set_wanted(&mut self, now: Instant, allocated: Bitrate, wanted: Bitrate, missing: bool) {
        match (self.missing, missing) {
            // The key frame of the last step up is a burst of its own.
            (Some(_), false) => self.estimator.rest(Some(now + SETTLING)),
            (None, true) => self.estimator.rest(None),
            (None, false) | (Some(_), true) => {}
        }
        self.allocated = allocated;
        // What may leave at once falls at once, and not when something has been earned again.
        self.allowance = self.allowance.min(self.most_at_once());
        self.missing = missing.then(|| self.missing.unwrap_or(now));
        self.estimator.set_wanted(now, wanted);
    }

    /// Whether no picture is sent for want of room.
    pub fn set_starved(&mut self, now: Instant, starved: bool) {
        self.estimator.set_starved(now, starved);
    }

    /// The subscriber says what arrived.
    pub fn on_feedback(&mut self, now: Instant, feedback: &TransportFeedback) {
        self.estimator.on_feedback(now, feedback);
        self.relent();
        self.note();
    }

    /// The subscriber says what arrived, by source and number.
    pub fn on_congestion_feedback(&mut self, now: Instant, feedback: &CongestionFeedback) {
        self.estimator.on_congestion_feedback(now, feedback);
        self.relent();
        self.note();
    }

    /// Notes whether a queue stands in the network. `waiting`: packets wait for their turn here.
    pub fn watch_queue(&mut self, now: Instant, waiting: bool) {
        let over = |stood| now.saturating_duration_since(stood) > WARY && !waiting;
        if self.queue_delay() > STANDING {
            self.stood = Some(now);
        } else if self.stood.is_some_and(over) {
            self.stood = None;
        }
    }

    /// A burst that was seen to be too much ends.
    fn relent(&mut self) {
        if self.estimator.active_probe().is_none() && self.burst.take().is_some() {
            self.complete = true;
        }
    }

    /// A receiver report says that packets of some stream arrived, whatever is heard of the others.
    pub fn on_arrived(&mut self, now: Instant) {
        self.estimator.on_arrived(now);
    }

    /// The subscriber says what it takes.
    pub fn on_remb(&mut self, now: Instant, bitrate: Bitrate) {
        self.estimator.on_remb(now, bitrate);
        self.note();
    }

    /// What the subscriber said that it takes does not count any more.
    pub fn forget_remb(&mut self) {
        self.estimator.forget_remb();
    }

    /// A picture is not sent any more, by choice.
    pub fn on_sending_less(&mut self) {
        self.estimator.on_sending_less();
    }

    /// Lets time pass: a burst may begin. Returns its rate if one does.
    pub fn poll(&mut self, now: Instant) -> Option<Bitrate> {
        self.complete = false;
        if self.estimator.begin_anew(now) {
            self.measured = false;
        }
        let probe = self.estimator.poll(now)?;
        self.burst = Some(Burst { probe, began: now, sent: 0, next: now });
        Some(probe.rate)
    }

    /// Reads a little of everything that sending looks at, so that it is in the cache by then.
    pub fn touch(&self) -> usize {
        self.allowance as usize ^ usize::from(self.burst.is_some()) ^ self.estimator.touch()
    }

    /// Whether media may leave now.
    pub fn may_send(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.allowance > 0
    }

    /// A packet of media of `bytes` leaves. Padding takes nothing from what media may send: it fills up what they leave
    /// of a burst.
    pub fn spend(&mut self, bytes: usize) {
        self.allowance -= (bytes + DATAGRAM_OVERHEAD) as i64;
    }

    /// A packet of `bytes` left, under this number.
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

    /// Besides [`on_sent`](Self::on_sent), for a subscriber that reports by source and RTP sequence number: which packet
    /// has that number.
    pub fn on_sent_stream(&mut self, ssrc: Ssrc, sequence: u16, number: ExtendedSequence) {
        self.estimator.on_sent_stream(ssrc, sequence, number);
    }

    /// A packet left that has no number: sound.
    pub fn on_sent_unreported(&mut self, now: Instant, bytes: usize) {
        self.estimator.on_sent_unreported(now, bytes + DATAGRAM_OVERHEAD);
    }

    /// Whether a burst is being sent.
    pub fn is_bursting(&self) -> bool {
        self.burst.is_some()
    }

    /// Whether something is to be done at a time that nothing else leads to.
    pub fn is_stirring(&self) -> bool {
        self.is_bursting() || self.complete
    }

    /// Whether a packet of padding is due, for the burst to have its rate or for anything to be heard.
    pub fn wants_padding(&self, now: Instant) -> bool {
        if self.heartbeat().is_some_and(|at| at <= now) {
            return true;
        }
        self.burst.as_ref().is_some_and(|burst| {
            let due = burst.probe.rate.over(now.saturating_duration_since(burst.began) + PADDING_STEP);
            now >= burst.next && burst.sent < due.bytes()
        })
    }

    /// All padding that is due has left.
    pub fn on_padded(&mut self, now: Instant) {
        if let Some(burst) = &mut self.burst {
            burst.next = now + PADDING_STEP;
        }
    }

    /// There is nothing to pad with yet: the burst ends, and the next packet of padding is due an interval later.
    pub fn cannot_pad(&mut self, now: Instant) {
        self.estimator.abandon_probe();
        self.burst = None;
        self.missing = self.missing.map(|_| now);
    }

    fn heartbeat(&self) -> Option<Instant> {
        let interval = if self.estimator.is_silent() { SILENT_HEARTBEAT } else { HEARTBEAT };
        self.missing.map(|last| last + interval)
    }

    /// When to [`poll`](Self::poll), or to send more if something waits.
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

    /// In bytes.
    fn most_at_once(&self) -> i64 {
        let burst = if self.estimator.is_policed() { POLICED_BURST } else { BURST };
        i64::try_from(self.pace().over(burst).bytes()).unwrap_or(i64::MAX).max(LEAST_BURST)
    }

    /// When the allowance will be above zero.
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
