//! Tests of the estimator on a simulated network in virtual time. They print the tables of `docs/bandwidth.md`.

mod changes;
mod hostile;
mod link;
mod media;
mod network;
mod report;
mod rfc8867;
mod signals;
mod tcp;
mod token_bucket;

use std::ops::RangeInclusive;

use crate::rtp::rtcp::{self, CongestionFeedback, Rtcp};

/// Seeds for each case. `BWE_SEEDS=10` in the environment gives the tables; the default is two, because unoptimised
/// code is slow.
fn seeds() -> RangeInclusive<u64> {
    let count = std::env::var("BWE_SEEDS").ok().and_then(|count| count.parse().ok());
    1..=count.unwrap_or(2)
}

/// Parses a congestion control feedback message (RFC 8888) with this body, as it would come out of SRTP.
fn read_congestion_feedback(body: &[u8]) -> Option<CongestionFeedback> {
    let words = u16::try_from(body.len() / 4).ok()?;
    let mut packet = vec![0x80 | 11, 205];
    packet.extend(words.to_be_bytes());
    packet.extend(body.iter().take(usize::from(words) * 4));
    match rtcp::parse(&packet).ok()?.pop()? {
        Rtcp::CongestionFeedback(feedback) => Some(feedback),
        _ => None,
    }
}
