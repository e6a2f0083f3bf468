//! Reliable messages that wait for one receiver, and when too many have waited too long.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::limits::Limits;

/// How a receiver, or all those of one shard, keep up with a sender: in order, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum BacklogLevel {
    /// There are none.
    #[default]
    Nobody,
    /// At least one takes more at once.
    Ready,
    /// So much waits for each that more would only wait, too.
    Behind,
    /// For one as much waits as may.
    Full,
}

impl BacklogLevel {
    /// Whether a sender may have to wait for it.
    pub fn holds_up(self) -> bool {
        matches!(self, Self::Behind | Self::Full)
    }

    /// That of both. Who is full holds up the sender; of the others the fastest sets the pace.
    pub fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Full, _) | (_, Self::Full) => Self::Full,
            (Self::Ready, _) | (_, Self::Ready) => Self::Ready,
            (Self::Behind, _) | (_, Self::Behind) => Self::Behind,
            (Self::Nobody, Self::Nobody) => Self::Nobody,
        }
    }
}

/// Reliable messages for one receiver for which its association has no room yet, or for which it has no channel yet, in
/// order. The messages themselves are shared with other receivers.
#[derive(Debug)]
pub struct Backlog {
    messages: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    behind: bool,
    /// The receiver had a channel.
    opened: bool,
    created: Instant,
    /// When the receiver last took something.
    progressed: Instant,
    /// What its association had buffered when last asked.
    buffered: usize,
    pace: Pace,
    level: BacklogLevel,
    /// The receiver has missed a message, and gets none of those after it.
    given_up: bool,
}

/// How fast a receiver takes what waits for it, second by second.
#[derive(Debug)]
struct Pace {
    since: Instant,
    bytes: usize,
    per_second: Option<f64>,
}

impl Backlog {
    /// Nothing waits.
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

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// What waits, in bytes, with what each message takes beside itself.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a message.
    pub fn push(&mut self, now: Instant, packet: Bytes, limits: &Limits) {
        if self.messages.is_empty() {
            self.progressed = now;
            self.pace = Pace { since: now, bytes: 0, per_second: None };
        }
        self.bytes = self.bytes.saturating_add(cost(&packet));
        self.messages.push_back((now, packet));
        self.behind |= self.bytes > limits.data_buffered_bytes;
    }

    /// The message that is next.
    pub fn front(&self) -> Option<&Bytes> {
        self.messages.front().map(|(_, packet)| packet)
    }

    /// The next message was taken.
    pub fn taken(&mut self, now: Instant, limits: &Limits) {
        if let Some(bytes) = self.pop(limits) {
            self.progressed = now;
            self.pace.bytes = self.pace.bytes.saturating_add(bytes);
        }
    }

    /// While there has been no channel: drops the oldest messages that are too many or came too long ago, so that what is
    /// left has no hole. Answers how many.
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

    /// How the receiver kept up when that was last looked at.
    pub fn level(&self) -> BacklogLevel {
        self.level
    }

    /// Looks at how the receiver keeps up now.
    pub fn update_level(&mut self, now: Instant, has_channel: bool, limits: &Limits) -> BacklogLevel {
        self.opened |= has_channel;
        // Who has had no channel for long is not going to have one, and is nobody to wait for.
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

    /// Who was full has to get rid of a part before it counts as less.
    fn full_above(&self, limits: &Limits) -> usize {
        let relief = if self.level == BacklogLevel::Full { limits.data_backlog_bytes / 8 } else { 0 };
        limits.data_backlog_bytes - relief
    }

    /// Whether the receiver has been behind for so long, or by so much, that it is to begin anew. `buffered`: what its
    /// association has buffered.
    pub fn is_overdue(&mut self, now: Instant, buffered: Option<usize>, limits: &Limits) -> bool {
        let Some(oldest) = self.messages.front().map(|(at, _)| *at) else { return false };
        let waits = |since: Instant| now.saturating_duration_since(since);
        let Some(buffered) = buffered else {
            // A channel that it had is gone: what waits is lost, and it has to know.
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

    /// Gives up what waits and what is still to come, since the receiver is to begin anew. Answers how many messages
    /// waited.
    pub fn give_up(&mut self) -> usize {
        (self.bytes, self.behind, self.given_up) = (0, false, true);
        std::mem::take(&mut self.messages).len()
    }

    /// Whether the receiver gets nothing any more.
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

/// What a message takes that waits, beside itself.
const MESSAGE: usize = 64;
/// How long a message waits for a channel: who joins has its channels sooner, and what is older belongs to what it
/// missed.
const HELD: Duration = Duration::from_secs(10);
/// Who is full and takes less than this, in bytes per second, holds up nobody: 1 Mbit/s.
const LEAST_PACE: f64 = 125_000.0;
/// How long the pace is measured.
const PACE_WINDOW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
