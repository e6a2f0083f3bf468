//! Which of a stream's latest frames went to one subscriber.

use crate::rtp::codec::frame::{FARTHEST, OperatingPoint, References};

/// The latest frames. One of which no packet has come yet is neither sent nor left out: it may be on its way again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct History {
    /// The newest frame.
    newest: u32,
    /// Bit n: the frame n before the newest was sent.
    sent: u32,
    /// Bit n: it was left out.
    left_out: u32,
    /// The frame with which the choice changed last.
    changed: u32,
    /// The choice before that, `None` if it began then: frames that come late are judged by what held in their time.
    before: Option<OperatingPoint>,
}

/// What is known of a packet's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Newer than all before.
    New,
    /// Its other packets were sent.
    Sent,
    /// Its other packets were left out.
    LeftOut,
    /// Older than others, and its first packet to come. What was to be sent in its time.
    Late(Option<OperatingPoint>),
}

impl History {
    /// It begins with this frame, which is sent.
    pub(super) fn beginning(number: u32) -> Self {
        Self { newest: number, sent: 1, left_out: 0, changed: number, before: None }
    }

    /// `current` is what is to be sent now.
    #[inline]
    pub(super) fn look_up(&self, number: u32, current: OperatingPoint) -> Seen {
        let ahead = number.wrapping_sub(self.newest) as i32;
        if ahead > 0 {
            return Seen::New;
        }
        let bit = bit(ahead.unsigned_abs());
        if self.sent & bit != 0 {
            Seen::Sent
        } else if self.left_out & bit != 0 {
            Seen::LeftOut
        } else if (number.wrapping_sub(self.changed) as i32) < 0 {
            Seen::Late(self.before)
        } else {
            Seen::Late(Some(current))
        }
    }

    /// A frame is newer than all before.
    pub(super) fn advance(&mut self, number: u32) {
        let step = number.wrapping_sub(self.newest);
        self.sent = self.sent.checked_shl(step).unwrap_or(0);
        self.left_out = self.left_out.checked_shl(step).unwrap_or(0);
        self.newest = number;
    }

    /// What became of the newest frame.
    pub(super) fn note(&mut self, sent: bool) {
        self.note_late(self.newest, sent);
    }

    /// What became of a frame.
    pub(super) fn note_late(&mut self, number: u32, sent: bool) {
        let bit = bit(self.newest.wrapping_sub(number));
        if sent {
            self.sent |= bit;
        } else {
            self.left_out |= bit;
        }
    }

    /// From this frame on something else is sent than `before`.
    pub(super) fn change(&mut self, number: u32, before: OperatingPoint) {
        self.changed = number;
        self.before = Some(before);
    }

    /// Whether all of these, counted back from the newest frame, were sent.
    pub(super) fn has_all(&self, references: References) -> bool {
        references.bits() & !(self.sent & !1) == 0
    }

    /// Whether one of these, counted back from the newest frame, was left out.
    #[inline]
    pub(super) fn misses(&self, references: References) -> bool {
        references.bits() & self.left_out & !1 != 0
    }

    /// The same of a frame that comes late.
    pub(super) fn missed(&self, number: u32, references: References) -> bool {
        let left_out = self.left_out.checked_shr(self.newest.wrapping_sub(number)).unwrap_or(0);
        references.bits() & left_out & !1 != 0
    }
}

/// 0 for a frame that is too far back.
fn bit(back: u32) -> u32 {
    if back > FARTHEST { 0 } else { 1 << back }
}
