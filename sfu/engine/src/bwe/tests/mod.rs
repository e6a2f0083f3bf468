//! The estimator against a simulated network in virtual time.

mod link;
mod media;
mod network;
mod rfc8867;
mod tcp;
