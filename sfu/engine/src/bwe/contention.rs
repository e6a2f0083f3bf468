//! Whether flows that go by loss alone keep the queue filled. Giving way to them ends at nothing, so then the queue's
//! delay must not count.

/// Watches whether the queue empties after we gave way.
#[derive(Debug)]
pub(super) struct Contention {
    /// When the queue was last seen empty, in seconds.
    emptied: f64,
    decreases: u32,
    active: bool,
}

impl Contention {
    /// Nobody else there.
    pub fn new() -> Self {
        Self { emptied: 0.0, decreases: 0, active: false }
    }

    /// Whether somebody keeps the queue filled.
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// The queue has `millis` now; `decreased`: we have just given way to it.
    pub fn update(&mut self, now: f64, millis: f64, decreased: bool) {
        if millis < EMPTY {
            *self = Self { emptied: now, ..Self::new() };
            return;
        }
        self.decreases += u32::from(decreased);
        if self.decreases >= IN_VAIN && now - self.emptied > PATIENCE {
            self.active = true;
        }
    }
}

/// In milliseconds.
const EMPTY: f64 = 15.0;
/// How often we give way before we conclude that it is in vain.
const IN_VAIN: u32 = 3;
/// In seconds.
const PATIENCE: f64 = 2.0;
