//! Remembers for a few seconds that the media plane refused a participant for lack of capacity. Only an attempt to
//! join shows whether there is capacity, and browsers ask in a separate request why their join failed.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::AdmitError;

/// How long a refusal is remembered. Clients ask within about a second.
const KNOWN_FOR: Duration = Duration::from_secs(5);

/// Time of the last refusal, and the error that the refused client received.
#[derive(Debug, Default)]
pub(super) struct NoPlace(Mutex<Option<(Instant, AdmitError)>>);

impl NoPlace {
    pub(super) fn note(&self, now: Instant, refusal: AdmitError) {
        self.set(Some((now, refusal)));
    }

    /// A participant has joined, so there is capacity again.
    pub(super) fn clear(&self) {
        self.set(None);
    }

    /// The error that a client joining now would most likely receive.
    pub(super) fn lately(&self, now: Instant) -> Option<AdmitError> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = known.as_ref().filter(|(at, _)| now.saturating_duration_since(*at) < KNOWN_FOR);
        lately.map(|(_, refusal)| refusal.clone())
    }

    fn set(&self, refusal: Option<(Instant, AdmitError)>) {
        // The lock may be poisoned. The single value in it is consistent even after a panic.
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
