//! Missing packets of one received encoding: which they are, and when to ask for them (RFC 4585 section 6.2.1).
//!
//! A packet counts as missing as soon as a later one arrives. It is asked for once the stream's own reordering
//! no longer explains its absence: 5 ms at first, more where packets were seen to come later than that. It is
//! asked for again a round trip later, and given up when it could no longer be shown in time.

use std::time::{Duration, Instant};

use super::window::{Seen, SeenWindow};
use crate::units::{ExtendedSequence, RESTART_GAP};

/// How long, how often and for how many packets of an encoding to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// A packet that is missing for longer is given up.
    pub give_up: Duration,
    /// Requests for one packet.
    pub tries: u8,
    /// Most packets missing at once; when there would be more, all are given up.
    pub missing: usize,
    /// Requests for one packet in the time of a round trip.
    pub per_round_trip: u32,
    /// Whether decoding stops at a packet given up until the next key frame.
    pub needs_key_frame: bool,
}

impl Patience {
    /// Worth up to a second of waiting, since the alternative is a key frame.
    pub const VIDEO: Self = Self {
        give_up: Duration::from_secs(1),
        tries: 10,
        missing: 256,
        per_round_trip: 1,
        needs_key_frame: true,
    };
    /// What a receiver's jitter buffer may still use; afterwards concealment is the better answer. There is time for
    /// two answers or three, so a request that is lost must not cost a whole round trip; publishers leave a second one
    /// within a round trip unanswered.
    pub const AUDIO: Self = Self {
        give_up: Duration::from_millis(400),
        tries: 16,
        missing: 32,
        per_round_trip: 4,
        needs_key_frame: false,
    };
}

/// What an arriving packet is to its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Newer than all before.
    New,
    /// Newer by so much that the stream is taken to have started anew: nothing in between is asked for.
    Restarted,
    /// It was missing: late, or retransmitted.
    Recovered,
    /// It came before.
    Duplicate,
    /// Too old to tell.
    Old,
}

/// What became of the packets that were missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Nothing was given up since the last call.
    Complete,
    /// Some packets are no longer asked for, and the codec can do without.
    GaveUp,
    /// Some packets are no longer asked for, and only a key frame helps. Said once per loss.
    NeedKeyFrame,
}

/// The packets of one encoding that have not come yet. Bounded by [`Patience::missing`].
#[derive(Debug)]
pub struct MissingPackets {
    patience: Patience,
    window: SeenWindow<WINDOW_WORDS>,
    /// In order of sequence number.
    missing: Vec<Missing>,
    /// When [`Self::poll`] next has something to do; may be early, never late.
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
    /// When it was last asked for, if it was.
    asked: Option<Instant>,
    tries: u8,
}

/// The time from a request to its answer, as far as known.
#[derive(Debug, Clone, Copy)]
enum RoundTrip {
    Unknown,
    /// From answered requests.
    Observed(Duration),
    /// From reports, by the caller.
    Told(Duration),
}

impl MissingPackets {
    /// For one encoding.
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

    /// Takes note of a packet of the stream, received as such or unwrapped from a retransmission.
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

    /// Appends to `out` the sequence numbers to ask for now, in order, at most [`Patience::missing`] of them.
    /// `round_trip` is the time to the publisher and back; without it, it is learnt from answered requests.
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

    /// When to poll next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// How many packets are missing now.
    pub fn len(&self) -> usize {
        self.missing.len()
    }

    /// Whether nothing is missing.
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
            return; // given up before
        };
        let found = self.missing.remove(place);
        if self.missing.is_empty() && !self.gave_up {
            self.due = None;
        }
        let late_by = now.saturating_duration_since(found.noticed);
        let answered_in = found.asked.map(|asked| now.saturating_duration_since(asked));
        match answered_in {
            // Too quick for an answer, so it was under way already.
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
        // An eighth on top, so that an answer just under way is not asked for again.
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

/// 2,048 packets: more than a second of the fastest stream that is expected.
const WINDOW_WORDS: usize = 32;
/// Waiting for reordered packets costs every lost one as much delay.
const REORDERING_MIN: Duration = Duration::from_millis(5);
const REORDERING_MAX: Duration = Duration::from_millis(40);
const ASK_INTERVAL_MIN: Duration = Duration::from_millis(20);
const ROUND_TRIP_DEFAULT: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
