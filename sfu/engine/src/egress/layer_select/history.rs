//! Records which of a stream's latest frames were sent to one subscriber.

use crate::rtp::codec::frame::{FARTHEST, OperatingPoint, References};

/// The latest frames. A frame of which no packet has arrived yet is neither sent nor left out: it may be on its way
/// again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct History {
    /// Number of the newest frame.
    newest: u32,
    /// Bit n is set if the frame n before the newest was sent.
    sent: u32,
    /// Bit n is set if the frame n before the newest was left out.
    left_out: u32,
    /// Frame with which the operating point changed last.
    changed: u32,
    /// Operating point before that change; `None` if the stream started with it. Frames that arrive late are judged by
    /// the operating point of their time.
    before: Option<OperatingPoint>,
}

/// What is known of the frame that a packet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// The frame is newer than all before.
    New,
    /// Other packets of the frame were sent.
    Sent,
    /// Other packets of the frame were left out.
    LeftOut,
    /// The frame is older than others, and this is its first packet to arrive. Holds the operating point of its time.
    Late(Option<OperatingPoint>),
}

impl History {
    /// A history that starts with this frame, which is sent.
    pub(super) fn beginning(number: u32) -> Self {
        Self { newest: number, sent: 1, left_out: 0, changed: number, before: None }
    }

    /// Looks up the frame of a packet. `current` is the operating point that is sent now.
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

    /// Makes a frame the newest one.
    pub(super) fn advance(&mut self, number: u32) {
        let step = number.wrapping_sub(self.newest);
        self.sent = self.sent.checked_shl(step).unwrap_or(0);
        self.left_out = self.left_out.checked_shl(step).unwrap_or(0);
        self.newest = number;
    }

    /// Records whether the newest frame is sent.
    pub(super) fn note(&mut self, sent: bool) {
        self.note_late(self.newest, sent);
    }

    /// Records whether a frame is sent.
    pub(super) fn note_late(&mut self, number: u32, sent: bool) {
        let bit = bit(self.newest.wrapping_sub(number));
        if sent {
            self.sent |= bit;
        } else {
            self.left_out |= bit;
        }
    }

    /// Records that the operating point changes with this frame; it was `before` until then.
    pub(super) fn change(&mut self, number: u32, before: OperatingPoint) {
        self.changed = number;
        self.before = Some(before);
    }

    /// Whether all frames referenced by the newest frame were sent.
    pub(super) fn has_all(&self, references: References) -> bool {
        references.bits() & !(self.sent & !1) == 0
    }

    /// Whether any frame referenced by the newest frame was left out.
    #[inline]
    pub(super) fn misses(&self, references: References) -> bool {
        references.bits() & self.left_out & !1 != 0
    }

    /// Whether any frame referenced by frame `number`, which arrives late, was left out.
    pub(super) fn missed(&self, number: u32, references: References) -> bool {
        let left_out = self.left_out.checked_shr(self.newest.wrapping_sub(number)).unwrap_or(0);
        references.bits() & left_out & !1 != 0
    }
}

/// Bitmap bit of a frame `back` frames before the newest; 0 if that is too far back.
fn bit(back: u32) -> u32 {
    if back > FARTHEST { 0 } else { 1 << back }
}
