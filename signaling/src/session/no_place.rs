//! Remembers for a moment that the media plane had no place for a participant. Whether it has one is known only by taking
//! it, and browsers ask in another request why their join failed.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::AdmitError;

/// Clients ask within a second or so.
const KNOWN_FOR: Duration = Duration::from_secs(5);

/// When somebody last found no place, and what that one was told.
#[derive(Debug, Default)]
pub(super) struct NoPlace(Mutex<Option<(Instant, AdmitError)>>);

impl NoPlace {
    pub(super) fn note(&self, now: Instant, refusal: AdmitError) {
        self.set(Some((now, refusal)));
    }

    /// Somebody has found one.
    pub(super) fn clear(&self) {
        self.set(None);
    }

    /// What whoever asks now would most likely hear.
    pub(super) fn lately(&self, now: Instant) -> Option<AdmitError> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = known.as_ref().filter(|(at, _)| now.saturating_duration_since(*at) < KNOWN_FOR);
        lately.map(|(_, refusal)| refusal.clone())
    }

    fn set(&self, refusal: Option<(Instant, AdmitError)>) {
        // It is one value, which is whole whoever panicked.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_known_until_its_time_is_over_or_somebody_comes_in() {
        let start = Instant::now();
        let refusal = AdmitError { status: axum::http::StatusCode::SERVICE_UNAVAILABLE, text: "full".into() };
        let no_place = NoPlace::default();
        assert_eq!(no_place.lately(start), None);
        no_place.note(start, refusal.clone());
        assert_eq!(no_place.lately(start + KNOWN_FOR / 2), Some(refusal.clone()));
        assert_eq!(no_place.lately(start + KNOWN_FOR), None);
        no_place.note(start, refusal);
        no_place.clear();
        assert_eq!(no_place.lately(start), None);
    }
}
