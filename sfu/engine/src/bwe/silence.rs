//! Lowers the sending rate step by step while a subscriber sends no feedback.

/// Detects missing feedback while packets are sent. Times in seconds.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// Whether any feedback ever arrived.
    heard: bool,
    /// Time of the first packet sent since the last feedback.
    since: Option<f64>,
    /// Number of times the rate was lowered in this silence; 0: no silence.
    steps: u32,
    /// When, in this silence, a receiver report first said that packets arrive.
    contradicted: Option<f64>,
}

impl Silence {
    /// Whether any feedback ever arrived.
    pub fn was_heard(&self) -> bool {
        self.heard
    }

    /// Whether feedback has been missing for so long that the rate is lowered.
    pub fn is_active(&self) -> bool {
        self.steps > 0
    }

    /// Handles a receiver report that says that packets arrive.
    pub fn on_arrived(&mut self, now: f64) {
        if self.is_active() {
            self.contradicted.get_or_insert(now);
        }
    }

    /// Whether receiver reports have shown for [`CONTRADICTED`] seconds that packets arrive, although the silence has
    /// lasted so long that the rate falls no further. The delay is needed because a receiver report may only arrive a
    /// little before the feedback that ends the silence.
    pub fn is_contradicted(&self, now: f64) -> bool {
        let said = self.contradicted.is_some_and(|first| now - first >= CONTRADICTED);
        said && self.steps >= MOST_SILENT_STEPS
    }

    /// Prefetch; see [`Estimator::touch`](super::Estimator::touch).
    pub fn touch(&self) -> usize {
        usize::from(self.heard)
    }

    /// Records a sent packet.
    pub fn on_sent(&mut self, now: f64) {
        self.since.get_or_insert(now);
    }

    /// Handles feedback: ends the silence. Returns the number of steps by which the rate was lowered, 0 without a
    /// silence.
    pub fn on_heard(&mut self) -> u32 {
        std::mem::replace(self, Self { heard: true, ..Self::default() }).steps
    }

    /// Time of the next step. `None` before any feedback, if no packet was sent since the last feedback, and after the
    /// last step.
    pub fn due(&self, rtt: f64) -> Option<f64> {
        let since = self.since.filter(|_| self.heard && self.steps < MOST_SILENT_STEPS)?;
        Some(since + rtt + SILENCE + f64::from(self.steps) * SILENCE_STEP)
    }

    /// Advances time. Returns whether the rate is lowered further.
    pub fn update(&mut self, now: f64, rtt: f64) -> bool {
        let before = self.steps;
        while self.due(rtt).is_some_and(|due| due <= now) {
            self.steps += 1;
        }
        self.steps != before
    }

    /// Share of the rate that may be sent: greater than 0, at most 1.
    pub fn share(&self) -> f64 {
        SILENT_SHARE.powi(self.steps as i32)
    }
}

/// Seconds without feedback, beyond the round trip, after which a silence begins.
const SILENCE: f64 = 0.5;
/// Seconds from one step of a silence to the next.
const SILENCE_STEP: f64 = 0.5;
/// Seconds in which feedback must follow a receiver report that says that packets arrive.
const CONTRADICTED: f64 = 0.5;
/// Share of the rate that remains after each step of a silence.
const SILENT_SHARE: f64 = 0.6;
/// Steps after which the rate falls no further.
const MOST_SILENT_STEPS: u32 = 8;
