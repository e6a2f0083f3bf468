//! Backlog of reliable messages for one receiver, and the rules for giving up a receiver that is too slow.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::limits::Limits;

/// How a receiver, or all receivers on one shard, keep up with a sender. Ordered: the worst level is last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum BacklogLevel {
    /// There is no receiver to wait for.
    #[default]
    Nobody,
    /// At least one receiver can take more now.
    Ready,
    /// Every receiver has such a backlog that further messages would only be queued.
    Behind,
    /// At least one receiver's backlog exceeds its limit.
    Full,
}

impl BacklogLevel {
    /// Whether a receiver at this level can make a sender wait.
    pub fn holds_up(self) -> bool {
        matches!(self, Self::Behind | Self::Full)
    }

    /// The combined level of two sets of receivers. A full receiver holds up the sender; otherwise the fastest receiver
    /// sets the pace.
    pub fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Full, _) | (_, Self::Full) => Self::Full,
            (Self::Ready, _) | (_, Self::Ready) => Self::Ready,
            (Self::Behind, _) | (_, Self::Behind) => Self::Behind,
            (Self::Nobody, Self::Nobody) => Self::Nobody,
        }
    }
}

/// Reliable messages for one receiver, in order, that wait for space in its SCTP association or for its data channel to
/// open. The message bytes are shared with other receivers.
#[derive(Debug)]
pub struct Backlog {
    messages: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    behind: bool,
    /// Whether the receiver has ever had a channel.
    opened: bool,
    created: Instant,
    /// Time of the receiver's last progress: a message left the backlog, or the association's buffer shrank.
    progressed: Instant,
    /// Bytes buffered in the receiver's association when last checked.
    buffered: usize,
    pace: Pace,
    level: BacklogLevel,
    /// Whether the receiver has missed a message. It then gets none of the later ones.
    given_up: bool,
}

/// Rate at which a receiver drains its backlog, measured over at least [`PACE_WINDOW`].
#[derive(Debug)]
struct Pace {
    since: Instant,
    bytes: usize,
    per_second: Option<f64>,
}

impl Backlog {
    pub fn new(now: Instant) -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            behind: false,
            opened: false,
            created: now,
            progressed: now,
            buffered: 0,
            pace: Pace { since: now, bytes: 0, per_second: None },
            level: BacklogLevel::Nobody,
            given_up: false,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Size of the backlog in bytes, including [`MESSAGE`] bytes of overhead for each message.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a message.
    pub fn push(&mut self, now: Instant, packet: Bytes, limits: &Limits) {
        if self.messages.is_empty() {
            self.progressed = now;
            self.pace = Pace { since: now, bytes: 0, per_second: None };
        }
        self.bytes = self.bytes.saturating_add(cost(&packet));
        self.messages.push_back((now, packet));
        self.behind |= self.bytes > limits.data_buffered_bytes;
    }

    pub fn front(&self) -> Option<&Bytes> {
        self.messages.front().map(|(_, packet)| packet)
    }

    /// Removes the first message after the association took it.
    pub fn taken(&mut self, now: Instant, limits: &Limits) {
        if let Some(bytes) = self.pop(limits) {
            self.progressed = now;
            self.pace.bytes = self.pace.bytes.saturating_add(bytes);
        }
    }

    /// If the receiver has never had a channel: drops the oldest messages while the backlog is too large, and those
    /// older than [`HELD`]. Only the oldest go, so the rest has no gap. Returns the number dropped.
    pub fn forget(&mut self, now: Instant, limits: &Limits) -> usize {
        let before = self.messages.len();
        while !self.opened
            && (self.bytes > limits.data_backlog_bytes
                || self.messages.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > HELD))
        {
            if self.pop(limits).is_none() {
                break;
            }
        }
        before - self.messages.len()
    }

    fn pop(&mut self, limits: &Limits) -> Option<usize> {
        let (_, packet) = self.messages.pop_front()?;
        let bytes = cost(&packet);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.behind &= self.bytes > limits.data_buffered_bytes / 2;
        Some(bytes)
    }

    /// The level at the last [update](Self::update_level).
    pub fn level(&self) -> BacklogLevel {
        self.level
    }

    /// Determines the receiver's level now.
    pub fn update_level(&mut self, now: Instant, has_channel: bool, limits: &Limits) -> BacklogLevel {
        self.opened |= has_channel;
        // A receiver that has had no channel for this long will not get one. Nobody waits for it.
        let never = !self.opened && now.saturating_duration_since(self.created) > HELD;
        self.level = if self.given_up || never {
            BacklogLevel::Nobody
        } else if self.bytes > self.full_above(limits) {
            BacklogLevel::Full
        } else if self.behind {
            BacklogLevel::Behind
        } else {
            BacklogLevel::Ready
        };
        self.level
    }

    /// Bytes above which the receiver is full. Hysteresis: a full receiver has to drain an eighth of the limit first.
    fn full_above(&self, limits: &Limits) -> usize {
        let relief = if self.level == BacklogLevel::Full { limits.data_backlog_bytes / 8 } else { 0 };
        limits.data_backlog_bytes - relief
    }

    /// Whether the receiver has been behind for so long, or by so much, that its session has to be restarted.
    /// `buffered`: bytes buffered in its association; `None` without a channel.
    pub fn is_overdue(&mut self, now: Instant, buffered: Option<usize>, limits: &Limits) -> bool {
        let Some(oldest) = self.messages.front().map(|(at, _)| *at) else { return false };
        let waits = |since: Instant| now.saturating_duration_since(since);
        let Some(buffered) = buffered else {
            // The receiver's channel has closed. The backlog is lost, and the receiver has to be notified.
            return self.opened && waits(oldest) > HELD;
        };
        if buffered < self.buffered {
            self.progressed = now;
        }
        self.buffered = buffered;
        self.pace.look(now);
        let slow = self.pace.per_second.is_some_and(|rate| rate < LEAST_PACE);
        let full = self.bytes > self.full_above(limits);
        (full && slow)
            || self.bytes > limits.data_backlog_bytes.saturating_mul(2)
            || waits(self.progressed) > limits.data_stall
            || waits(oldest) > limits.data_lag
    }

    /// Discards the backlog, and all further messages, because the receiver's session is going to be restarted. Returns
    /// the number of discarded messages.
    pub fn give_up(&mut self) -> usize {
        (self.bytes, self.behind, self.given_up) = (0, false, true);
        std::mem::take(&mut self.messages).len()
    }

    /// Whether the receiver gets no further messages.
    pub fn is_given_up(&self) -> bool {
        self.given_up
    }
}

impl Pace {
    fn look(&mut self, now: Instant) {
        let span = now.saturating_duration_since(self.since);
        if span >= PACE_WINDOW {
            self.per_second = Some(self.bytes as f64 / span.as_secs_f64());
            (self.since, self.bytes) = (now, 0);
        }
    }
}

fn cost(packet: &Bytes) -> usize {
    packet.len().saturating_add(MESSAGE)
}

/// Overhead of a queued message, in bytes.
const MESSAGE: usize = 64;
/// Time that a message waits for a receiver's channel. Channels open sooner than this after a join; older messages
/// count as sent before the receiver joined.
const HELD: Duration = Duration::from_secs(10);
/// Minimum drain rate of a full receiver, in bytes per second (1 Mbit/s). A slower one is given up instead of holding
/// up its senders.
const LEAST_PACE: f64 = 125_000.0;
/// Minimum time over which the drain rate is measured.
const PACE_WINDOW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
