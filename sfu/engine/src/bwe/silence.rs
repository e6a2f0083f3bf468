//! When nothing is heard from a subscriber, less and less is sent to it.

/// Whether the subscriber is heard of while packets go out to it. Times in seconds.
#[derive(Debug, Default)]
pub(super) struct Silence {
    heard: bool,
    /// The first packet sent since something was heard.
    since: Option<f64>,
    steps: u32,
    /// When a receiver report first said, during this silence, that something arrives.
    contradicted: Option<f64>,
}

impl Silence {
    /// Whether anything ever was heard.
    pub fn was_heard(&self) -> bool {
        self.heard
    }

    /// Whether it has been silent for too long.
    pub fn is_active(&self) -> bool {
        self.steps > 0
    }

    /// A receiver report says that something arrives.
    pub fn on_arrived(&mut self, now: f64) {
        if self.is_active() {
            self.contradicted.get_or_insert(now);
        }
    }

    /// Whether a receiver report has said for a while that something arrives, although the silence has lasted so long that the
    /// rate falls no further. Such a report alone may only have come sooner than what ends the silence.
    pub fn is_contradicted(&self, now: f64) -> bool {
        let said = self.contradicted.is_some_and(|first| now - first >= CONTRADICTED);
        said && self.steps >= MOST_SILENT_STEPS
    }

    /// Reads a little of it; see [`Estimator::touch`](super::Estimator::touch).
    pub fn touch(&self) -> usize {
        usize::from(self.heard)
    }

    /// A packet is sent.
    pub fn on_sent(&mut self, now: f64) {
        self.since.get_or_insert(now);
    }

    /// Something is heard. Returns by how many steps the rate was lowered before, 0 if it was not silent.
    pub fn on_heard(&mut self) -> u32 {
        std::mem::replace(self, Self { heard: true, ..Self::default() }).steps
    }

    /// When the next step is due.
    pub fn due(&self, rtt: f64) -> Option<f64> {
        let since = self.since.filter(|_| self.heard && self.steps < MOST_SILENT_STEPS)?;
        Some(since + rtt + SILENCE + f64::from(self.steps) * SILENCE_STEP)
    }

    /// Lets time pass. True: less may be sent than before.
    pub fn update(&mut self, now: f64, rtt: f64) -> bool {
        let before = self.steps;
        while self.due(rtt).is_some_and(|due| due <= now) {
            self.steps += 1;
        }
        self.steps != before
    }

    /// The share of the rate that may be sent.
    pub fn share(&self) -> f64 {
        SILENT_SHARE.powi(self.steps as i32)
    }
}

/// Seconds beyond the round trip after which nothing heard is a silence.
const SILENCE: f64 = 0.5;
/// Seconds from one step of a silence to the next.
const SILENCE_STEP: f64 = 0.5;
/// Seconds in which what ends a silence must follow a receiver report that says that something arrives.
const CONTRADICTED: f64 = 0.5;
/// Share of the rate that each step of a silence leaves.
const SILENT_SHARE: f64 = 0.6;
/// Steps after which the rate falls no further.
const MOST_SILENT_STEPS: u32 = 8;
