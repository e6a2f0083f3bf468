//! Missing packets of one received encoding: which packets are missing, and when to request them by NACK (RFC 4585
//! section 6.2.1).
//!
//! A packet counts as missing as soon as a later one arrives. It is requested once reordering no longer explains its
//! absence: after 5 ms at first, later after the delay seen for reordered packets. The request is repeated after a
//! round trip. The packet is given up when it could no longer be rendered in time.

use std::time::{Duration, Instant};

use super::window::{Seen, SeenWindow};
use crate::units::{ExtendedSequence, RESTART_GAP};

/// Bounds on requests for the lost packets of an encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Time after which a missing packet is given up, counted from its detection.
    pub give_up: Duration,
    /// Maximum number of requests for one packet.
    pub tries: u8,
    /// Maximum number of packets missing at once. A gap that would exceed it gives up all missing packets.
    pub missing: usize,
    /// Maximum number of requests for one packet per round-trip time.
    pub per_round_trip: u32,
    /// Whether the decoder needs a key frame to continue after a packet was given up.
    pub needs_key_frame: bool,
}

impl Patience {
    /// Waits up to a second, since the alternative is a key frame.
    pub const VIDEO: Self = Self {
        give_up: Duration::from_secs(1),
        tries: 10,
        missing: 256,
        per_round_trip: 1,
        needs_key_frame: true,
    };
    /// Gives up when a receiver's jitter buffer could no longer use the packet; then concealment is better. There is
    /// time for two or three answers, so a lost request must not cost a whole round trip. Publishers leave a second
    /// request within one round trip unanswered.
    pub const AUDIO: Self = Self {
        give_up: Duration::from_millis(400),
        tries: 16,
        missing: 32,
        per_round_trip: 4,
        needs_key_frame: false,
    };
}

/// How an arriving packet relates to the packets before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Newer than all before.
    New,
    /// Newer by more than [`RESTART_GAP`]: the stream counts as restarted, and packets in between are not requested.
    Restarted,
    /// The packet was missing, and arrived late or as a retransmission.
    Recovered,
    /// The packet has arrived before.
    Duplicate,
    /// Below the window: whether the packet has arrived before is unknown.
    Old,
}

/// Whether missing packets have been given up since the last call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// No packet was given up.
    Complete,
    /// Some packets were given up; the decoder conceals them.
    GaveUp,
    /// Some packets were given up and the decoder needs a key frame. Returned once per loss.
    NeedKeyFrame,
}

/// The missing packets of one encoding, at most [`Patience::missing`].
#[derive(Debug)]
pub struct MissingPackets {
    patience: Patience,
    window: SeenWindow<WINDOW_WORDS>,
    /// Sorted by sequence number.
    missing: Vec<Missing>,
    /// Time of the next work for [`Self::poll`]; may be early, never late.
    due: Option<Instant>,
    gave_up: bool,
    round_trip: RoundTrip,
    reordering: Duration,
}

#[derive(Debug)]
struct Missing {
    sequence: ExtendedSequence,
    noticed: Instant,
    due: Instant,
    /// Time of the last request; `None` before the first.
    asked: Option<Instant>,
    tries: u8,
}

/// Estimate of the time from a request to its answer.
#[derive(Debug, Clone, Copy)]
enum RoundTrip {
    Unknown,
    /// Smoothed over answered requests.
    Observed(Duration),
    /// Given by the caller, who measures it from RTCP reports.
    Told(Duration),
}

impl MissingPackets {
    /// A tracker for one encoding.
    pub fn new(patience: Patience) -> Self {
        Self {
            patience,
            window: SeenWindow::new(),
            missing: Vec::new(),
            due: None,
            gave_up: false,
            round_trip: RoundTrip::Unknown,
            reordering: REORDERING_MIN,
        }
    }

    /// Processes a packet of the stream, original or retransmitted.
    pub fn on_packet(&mut self, sequence: ExtendedSequence, now: Instant) -> Arrival {
        match self.window.mark(sequence.0) {
            Seen::First | Seen::Ahead(0) => Arrival::New,
            Seen::Ahead(gap) if gap > RESTART_GAP => {
                self.give_up_all(now);
                Arrival::Restarted
            }
            Seen::Ahead(gap) => {
                self.add_gap(sequence, gap, now);
                Arrival::New
            }
            Seen::Filled => {
                self.fill(sequence, now);
                Arrival::Recovered
            }
            Seen::Already => Arrival::Duplicate,
            Seen::TooOld => Arrival::Old,
        }
    }

    /// Appends the sequence numbers to request now to `out`, in order, at most [`Patience::missing`] of them.
    /// `round_trip` is the round-trip time to the publisher; if `None`, it is estimated from answered requests.
    pub fn poll(&mut self, now: Instant, round_trip: Option<Duration>, out: &mut Vec<u16>) -> Repair {
        if let Some(time) = round_trip {
            self.round_trip = RoundTrip::Told(time);
        }
        if self.due.is_some_and(|due| due <= now) {
            self.ask(now, out);
        }
        match std::mem::take(&mut self.gave_up) {
            false => Repair::Complete,
            true if self.patience.needs_key_frame => Repair::NeedKeyFrame,
            true => Repair::GaveUp,
        }
    }

    /// Time of the next call to `poll`; `None` while nothing is missing.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Number of packets missing now.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.missing.len()
    }

    /// Whether no packet is missing.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
    }

    fn add_gap(&mut self, next: ExtendedSequence, gap: u64, now: Instant) {
        if gap.saturating_add(self.missing.len() as u64) > self.patience.missing as u64 {
            self.give_up_all(now);
            return;
        }
        let due = now + self.reordering;
        let numbers = next.0.saturating_sub(gap)..next.0;
        self.missing.extend(numbers.map(|number| Missing {
            sequence: ExtendedSequence(number),
            noticed: now,
            due,
            asked: None,
            tries: 0,
        }));
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    fn fill(&mut self, sequence: ExtendedSequence, now: Instant) {
        let Ok(place) = self.missing.binary_search_by_key(&sequence, |missing| missing.sequence) else {
            return; // already given up
        };
        let found = self.missing.remove(place);
        if self.missing.is_empty() && !self.gave_up {
            self.due = None;
        }
        let late_by = now.saturating_duration_since(found.noticed);
        let answered_in = found.asked.map(|asked| now.saturating_duration_since(asked));
        match answered_in {
            // Too soon to answer the request, so the original packet was only reordered.
            Some(time) if time < self.round_trip.or_default() / 2 => self.learn_reordering(late_by),
            None => self.learn_reordering(late_by),
            Some(time) => {
                self.reordering -= (self.reordering - REORDERING_MIN) / 16;
                if found.tries == 1 {
                    self.round_trip.observe(time);
                }
            }
        }
    }

    fn learn_reordering(&mut self, late_by: Duration) {
        self.reordering = self.reordering.max(late_by * 5 / 4).min(REORDERING_MAX);
    }

    fn ask(&mut self, now: Instant, out: &mut Vec<u16>) {
        let round_trip = self.round_trip.or_default();
        // An eighth longer than a round trip, so that a packet whose answer is just arriving is not requested again.
        let interval = (round_trip + round_trip / 8) / self.patience.per_round_trip.max(1);
        let interval = interval.max(ASK_INTERVAL_MIN);
        let Self { patience, missing, gave_up, .. } = self;
        let mut next: Option<Instant> = None;
        missing.retain_mut(|missing| {
            let end = missing.noticed + patience.give_up;
            let asks = missing.due <= now;
            if end <= now || (asks && missing.tries >= patience.tries) {
                *gave_up = true;
                return false;
            }
            if asks {
                missing.tries += 1;
                missing.asked = Some(now);
                missing.due = now + interval;
                out.push(missing.sequence.wire());
            }
            let due = missing.due.min(end);
            next = Some(next.map_or(due, |earlier| earlier.min(due)));
            true
        });
        self.due = next;
    }

    fn give_up_all(&mut self, now: Instant) {
        self.missing.clear();
        self.gave_up = true;
        self.due = Some(now);
    }
}

impl RoundTrip {
    fn or_default(self) -> Duration {
        match self {
            Self::Unknown => ROUND_TRIP_DEFAULT,
            Self::Observed(time) | Self::Told(time) => time,
        }
    }

    fn observe(&mut self, time: Duration) {
        *self = match *self {
            Self::Unknown => Self::Observed(time),
            Self::Observed(before) => Self::Observed((before * 7 + time) / 8),
            Self::Told(_) => return,
        };
    }
}

/// 2,048 packets: more than a second of the fastest expected stream.
const WINDOW_WORDS: usize = 32;
/// Waiting for reordered packets delays the repair of every lost packet by as much.
const REORDERING_MIN: Duration = Duration::from_millis(5);
const REORDERING_MAX: Duration = Duration::from_millis(40);
const ASK_INTERVAL_MIN: Duration = Duration::from_millis(20);
const ROUND_TRIP_DEFAULT: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
