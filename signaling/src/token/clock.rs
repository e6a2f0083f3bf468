//! The one place where the token code reads a clock; tests hand in their own.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A point in time, on both clocks that tokens need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970, as token dates count.
    pub unix: u64,
    /// For intervals; never jumps.
    pub instant: Instant,
}

/// Where [`Moment`]s come from.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Moment + Send + Sync>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::from_fn(|| Moment {
            unix: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            instant: Instant::now(),
        })
    }

    /// A clock that answers whatever `read` says.
    pub fn from_fn(read: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Reads it.
    pub fn now(&self) -> Moment {
        (self.0)()
    }
}
