//! The bandwidth estimator of one subscriber's link: packets sent, and reports about them in any order and with any
//! contents, at any time. The estimate stays within its bounds, and probes stay small.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use sfu_engine::bwe::{Estimator, EstimatorConfig};
use sfu_engine::rtp::rtcp::{self, Rtcp};
use sfu_engine::units::{Bitrate, ExtendedSequence, Ssrc};
use sfu_engine_fuzz::Script;

/// Upper bound on the size of a probe; real probes are far smaller.
const MOST_BURST_BYTES: u64 = 1_000_000;

fuzz_target!(|data: &[u8]| {
    let mut script = Script(data);
    let config = EstimatorConfig {
        start_rate: Bitrate::from_kbps(300),
        min_rate: Bitrate::from_kbps(40),
        max_rate: Bitrate::from_kbps(20_000),
    };
    let mut now = Instant::now();
    let mut estimator = Estimator::new(now, config);
    let mut sequence = ExtendedSequence::first(script.short());
    while !script.is_over() {
        step(&mut script, &mut estimator, &mut now, &mut sequence);
        if let Some(probe) = estimator.poll(now) {
            assert!(probe.rate <= config.max_rate && probe.size.bytes() < MOST_BURST_BYTES, "{probe:?}");
        }
        let estimate = estimator.estimate();
        assert!(config.min_rate <= estimate && estimate <= config.max_rate, "{estimate:?}");
        assert!((0.0..=1.0).contains(&estimator.loss()), "{}", estimator.loss());
    }
});

fn step(
    script: &mut Script<'_>,
    estimator: &mut Estimator,
    now: &mut Instant,
    sequence: &mut ExtendedSequence,
) {
    match script.byte() % 10 {
        // Sequence numbers ascend, as the caller's counter guarantees. Some are skipped.
        0..=2 => {
            for _ in 0..=script.byte() % 32 {
                let cluster = estimator.active_probe().map(|probe| probe.cluster);
                let bytes = usize::from(script.short() % 1500);
                *sequence = sequence.plus(1 + u64::from(script.byte() / 250));
                estimator.on_sent(*now, *sequence, bytes, cluster);
                estimator.on_sent_stream(Ssrc(u32::from(script.byte() % 3)), sequence.wire(), *sequence);
            }
        }
        3 => report(estimator, *now, 15, script.bytes(), None),
        // A report about packets that were sent, with arbitrary arrival times.
        4 => report(
            estimator,
            *now,
            15,
            script.bytes(),
            Some(sequence.wire().wrapping_sub(script.byte().into())),
        ),
        5 => report(estimator, *now, 11, script.bytes(), None),
        6 => match script.coin() {
            true => estimator
                .set_wanted(*now, Bitrate::from_bps(u64::from(script.word()) << (script.byte() % 40))),
            false => {
                estimator.on_remb(*now, Bitrate::from_bps(u64::from(script.word()) << (script.byte() % 40)))
            }
        },
        7 => match script.byte() % 4 {
            0 => estimator.set_starved(*now, script.coin()),
            1 => estimator.abandon_probe(),
            2 => estimator.rest(script.coin().then(|| *now + Duration::from_millis(script.short().into()))),
            _ => estimator.on_sending_less(),
        },
        8 => {
            estimator.on_arrived(*now);
            estimator.begin_anew(*now);
            estimator.on_sent_unreported(*now, usize::from(script.short() % 1500));
        }
        _ => {
            *now += match script.coin() {
                true => Duration::from_micros(script.short().into()),
                false => Duration::from_millis(script.short().into()),
            }
        }
    }
}

/// Inputs an RTCP packet of type 205 with the given format, as after SRTP decryption.
fn report(estimator: &mut Estimator, now: Instant, format: u8, body: &[u8], base: Option<u16>) {
    let words = body.len() / 4;
    let mut packet = vec![0x80 | format, 205, (words >> 8) as u8, words as u8];
    packet.extend_from_slice(&body[..words * 4]);
    if let (Some(base), Some(place)) = (base, packet.get_mut(12..14)) {
        place.copy_from_slice(&base.to_be_bytes());
    }
    for part in rtcp::parse(&packet).into_iter().flatten() {
        match part {
            Rtcp::TransportFeedback(feedback) => estimator.on_feedback(now, &feedback),
            Rtcp::CongestionFeedback(feedback) => estimator.on_congestion_feedback(now, &feedback),
            _ => {}
        }
    }
}
