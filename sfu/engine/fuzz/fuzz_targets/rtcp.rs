//! Compound RTCP packets with parts of every kind.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu_engine::rtp::rtcp::{self, Rtcp};

fuzz_target!(|data: &[u8]| {
    let Ok(parts) = rtcp::parse(data) else { return };
    assert!(parts.len() <= data.len() / 4 + 1 && parts.len() <= rtcp::MOST_PARTS + 1);
    for part in &parts {
        match part {
            Rtcp::Nack { lost, .. } => assert!(lost.len() <= data.len() * 5),
            Rtcp::SenderReport { reports, .. } | Rtcp::ReceiverReport { reports, .. } => {
                assert!(reports.len() <= 31);
            }
            Rtcp::CongestionFeedback(feedback) => assert!(feedback.packets().count() <= data.len()),
            _ => {}
        }
    }
});
