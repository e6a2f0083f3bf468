//! The estimator against a simulated network in virtual time. The tables of `docs/bandwidth.md` are what these print.

mod changes;
mod link;
mod media;
mod network;
mod report;
mod rfc8867;
mod tcp;
mod trace;

use std::ops::RangeInclusive;

const SEEDS: RangeInclusive<u64> = 1..=10;
