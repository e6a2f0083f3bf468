//! Random and inconsistent feedback: the estimate stays within its bounds and nothing panics.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};

use super::read_congestion_feedback;
use crate::bwe::{Estimator, EstimatorConfig};
use crate::rtp::rtcp::{ReceivedPacket, TransportFeedback};
use crate::units::{Bitrate, ExtendedSequence, Ssrc, test_epoch};

const MIN: Bitrate = Bitrate::from_kbps(40);
const MAX: Bitrate = Bitrate::from_kbps(20_000);

fn any_feedback(random: &mut SmallRng, newest: u16, honest: bool) -> TransportFeedback {
    let count: u16 = if random.random_bool(0.1) { random.random() } else { random.random_range(0..120) };
    let base = if honest { newest.wrapping_sub(count) } else { random.random() };
    let mut received = Vec::new();
    for n in 0..count.min(300) {
        if random.random_bool(0.8) {
            let sequence = if honest { base.wrapping_add(n) } else { random.random() };
            let delta = match random.random_range(0..20) {
                0 => random.random(),
                1 => i16::MAX,
                2 => i16::MIN,
                _ => random.random_range(0..40),
            };
            received.push(ReceivedPacket { sequence, delta });
        }
    }
    TransportFeedback {
        sender: Ssrc(1),
        media: Ssrc(2),
        base_sequence: base,
        status_count: count,
        reference_time: random.random::<u32>() >> if honest { 24 } else { 8 },
        feedback_count: random.random(),
        received,
    }
}

fn any_congestion_feedback(random: &mut SmallRng, newest: u16, honest: bool) -> Vec<u8> {
    let mut bytes = vec![0; random.random_range(0..400)];
    random.fill_bytes(&mut bytes);
    if honest && bytes.len() >= 20 {
        let metrics = (bytes.len() - 16) / 4 * 2;
        bytes.truncate(16 + metrics * 2);
        bytes[4..8].copy_from_slice(&2_u32.to_be_bytes());
        bytes[8..10].copy_from_slice(&newest.wrapping_sub(metrics as u16).to_be_bytes());
        bytes[10..12].copy_from_slice(&(metrics as u16).to_be_bytes());
    }
    bytes
}

fn any_rate(random: &mut SmallRng) -> Bitrate {
    match random.random_range(0..4) {
        0 => Bitrate::ZERO,
        1 => Bitrate::MAX,
        _ => Bitrate::from_bps(random.random_range(0..10_000_000)),
    }
}

#[test]
fn any_feedback_in_any_order_leaves_the_estimate_within_its_bounds() {
    let mut bytes = 0;
    for seed in 0..60 {
        let mut random = SmallRng::seed_from_u64(seed);
        let config = EstimatorConfig { start_rate: any_rate(&mut random), min_rate: MIN, max_rate: MAX };
        let mut now = test_epoch();
        let mut estimator = Estimator::new(now, config);
        let mut sequence = ExtendedSequence::first(random.random());
        let honesty = f64::from(random.random_range(0..4)) / 3.0;
        for _ in 0..1500 {
            let honest = random.random_bool(honesty);
            match random.random_range(0..12) {
                0..5 => {
                    for _ in 0..random.random_range(1..20) {
                        let cluster = estimator.active_probe().map(|probe| probe.cluster);
                        estimator.on_sent(now, sequence, random.random_range(0..70_000), cluster);
                        estimator.on_sent_stream(Ssrc(2), sequence.wire(), sequence);
                        sequence = sequence.plus(if random.random_bool(0.01) {
                            random.random_range(0..20_000)
                        } else {
                            1
                        });
                        now += Duration::from_micros(random.random_range(0..3000));
                    }
                }
                5..8 => {
                    let feedback = any_feedback(&mut random, sequence.wire(), honest);
                    bytes += feedback.received.len() * 2 + 20;
                    estimator.on_feedback(now, &feedback);
                }
                8 => {
                    let body = any_congestion_feedback(&mut random, sequence.wire(), honest);
                    bytes += body.len();
                    if let Some(feedback) = read_congestion_feedback(&body) {
                        estimator.on_congestion_feedback(now, &feedback);
                    }
                }
                9 => estimator.on_remb(now, any_rate(&mut random)),
                10 => estimator.set_wanted(now, any_rate(&mut random)),
                _ => now += Duration::from_millis(random.random_range(0..3000)),
            }
            if let Some(probe) = estimator.poll(now) {
                assert!(probe.rate <= MAX && probe.size.bytes() < 1_000_000, "seed {seed}: {probe:?}");
            }
            let estimate = estimator.estimate();
            assert!(MIN <= estimate && estimate <= MAX, "seed {seed}: {estimate:?}");
            assert!((0.0..=1.0).contains(&estimator.loss()), "seed {seed}: {}", estimator.loss());
            assert!(estimator.rtt().is_none_or(|rtt| rtt <= Duration::from_secs(5)), "seed {seed}");
            assert!(estimator.queue_delay() < Duration::from_secs(3600), "seed {seed}");
        }
    }
    assert!(bytes > 2_000_000, "{bytes}");
}
