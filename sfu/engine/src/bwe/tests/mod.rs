//! The estimator against a simulated network in virtual time. The tables of `docs/bandwidth.md` are what these print.

mod changes;
mod hostile;
mod link;
mod media;
mod network;
mod report;
mod rfc8867;
mod signals;
mod tcp;

use std::ops::RangeInclusive;

/// Which seeds each case runs under. `BWE_SEEDS=10` in the environment for the tables; fewer in every run, because
/// unoptimised code is slow.
fn seeds() -> RangeInclusive<u64> {
    let count = std::env::var("BWE_SEEDS").ok().and_then(|count| count.parse().ok());
    1..=count.unwrap_or(2)
}
