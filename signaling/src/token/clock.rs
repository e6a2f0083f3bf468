//! The only place where the token code reads a clock; tests supply their own.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A point in time, on both clocks that tokens need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970, as dates in tokens.
    pub unix: u64,
    /// Monotonic time, for intervals.
    pub instant: Instant,
}

/// Source of [`Moment`]s.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Moment + Send + Sync>);

impl Clock {
    /// The system's clocks.
    pub fn system() -> Self {
        Self::from_fn(|| Moment {
            unix: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            instant: Instant::now(),
        })
    }

    /// A clock that returns what `read` returns.
    pub fn from_fn(read: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Current time.
    pub fn now(&self) -> Moment {
        (self.0)()
    }
}
