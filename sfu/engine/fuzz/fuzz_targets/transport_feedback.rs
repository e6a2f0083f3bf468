//! Transport-wide feedback: arbitrary packets are parsed, and built packets read back unchanged.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use sfu_engine::rtp::rtcp::{self, FeedbackBuilder, Rtcp, write_transport_feedback};
use sfu_engine::units::Ssrc;
use sfu_engine_fuzz::Script;

fuzz_target!(|data: &[u8]| {
    let mut script = Script(data);
    match script.coin() {
        true => build(&mut script),
        false => read(script.0),
    }
});

/// Parses the input as the body of a packet, after the first four bytes.
fn read(body: &[u8]) {
    let mut packet = vec![0x8f, 205, 0, 0];
    packet.extend_from_slice(&body[..body.len().min(1400) / 4 * 4]);
    let words = (packet.len() / 4 - 1) as u16;
    packet[2..4].copy_from_slice(&words.to_be_bytes());
    let Ok(parts) = rtcp::parse(&packet) else { return };
    for part in parts {
        let Rtcp::TransportFeedback(feedback) = part else { continue };
        assert!(feedback.received.len() <= packet.len());
        assert!(feedback.received.len() <= usize::from(feedback.status_count));
        assert_eq!(feedback.arrivals().count(), feedback.received.len());
    }
}

fn build(script: &mut Script<'_>) {
    let mut sequence = script.short();
    let mut builder = FeedbackBuilder::new(sequence);
    let mut arrived = Vec::new();
    let mut at = Duration::from_millis(u64::from(script.short()) * 64);
    while !script.is_over() {
        sequence = sequence.wrapping_add(u16::from(script.byte() >> 6));
        let late = Duration::from_micros(u64::from(script.short()) * 50);
        let arrival = script.coin().then(|| match script.coin() {
            true => at + late,
            false => at.saturating_sub(late),
        });
        if builder.push(sequence, arrival)
            && let Some(arrival) = arrival
        {
            at = arrival;
            arrived.push(sequence);
        }
        sequence = sequence.wrapping_add(1);
    }
    let mut packet = Vec::new();
    if !write_transport_feedback(&mut packet, Ssrc(1), Ssrc(2), 3, &builder) {
        assert!(arrived.is_empty());
        return;
    }
    let parts = rtcp::parse(&packet).expect("what we write can be read");
    let [Rtcp::TransportFeedback(feedback)] = parts.as_slice() else { panic!("{parts:?}") };
    let read: Vec<u16> = feedback.received.iter().map(|packet| packet.sequence).collect();
    assert_eq!(read, arrived);
}
