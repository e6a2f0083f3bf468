//! Subscribers that send other feedback than transport-wide: REMB, RFC 8888, or none.

use std::time::Duration;

use super::media::MediaSpec;
use super::network::{FlowSpec, Network, Scenario};
use super::report::Bound::{AtLeast, AtMost};
use super::report::Report;
use super::seeds;
use crate::bwe::{Cause, Estimator, EstimatorConfig};
use crate::units::{Bitrate, ExtendedSequence, test_epoch};

#[test]
fn rfc_8888_feedback_serves_as_well() {
    let mut report = Report::default();
    for seed in seeds() {
        report.seed(seed);
        let mut scenario = Scenario::new(60.0, &[(0.0, 2e6), (30.0, 0.8e6)]);
        scenario.seed = seed;
        scenario.there.jitter_ms = 2.0;
        scenario.flows = vec![FlowSpec::with(MediaSpec { rfc8888: true, ..MediaSpec::default() })];
        let network = Network::run(scenario);
        let seen = &network.seen[0];
        report.add("used at 2 Mbit/s", AtLeast(0.8), seen.rate(8.0, 30.0) / 2e6);
        report.add("used at 800 kbit/s", AtLeast(0.8), seen.rate(38.0, 60.0) / 0.8e6);
        report.add("sent / link, 1.5 to 3 s after the drop", AtMost(1.0), seen.sent_rate(31.5, 33.0) / 0.8e6);
    }
    report.finish("RFC 8888 feedback");
}

#[test]
fn remb_is_the_estimate_of_a_client_without_other_feedback_and_expires_as_a_bound() {
    let mut now = test_epoch();
    let mut estimator = Estimator::new(now, EstimatorConfig::default());
    estimator.on_remb(now, Bitrate::from_kbps(900));
    assert_eq!(estimator.estimate(), Bitrate::from_kbps(900));
    estimator.on_remb(now, Bitrate::from_kbps(100));
    assert_eq!(estimator.estimate(), Bitrate::from_kbps(100));
    assert_eq!(estimator.last_change().cause, Cause::Remb);
    estimator.on_remb(now, Bitrate::ZERO);
    assert_eq!(estimator.estimate(), EstimatorConfig::default().min_rate);
    now += Duration::from_secs(11);
    estimator.poll(now);
    assert_eq!(estimator.estimate(), EstimatorConfig::default().min_rate);
}

#[test]
fn a_client_that_was_never_heard_keeps_the_first_rate() {
    let mut now = test_epoch();
    let mut estimator = Estimator::new(now, EstimatorConfig::default());
    for n in 0..500 {
        estimator.on_sent(now, ExtendedSequence(n + 1), 1000, None);
        now += Duration::from_millis(10);
        estimator.poll(now);
    }
    assert_eq!(estimator.estimate(), EstimatorConfig::default().start_rate);
    assert!(estimator.rtt().is_none());
}

#[test]
fn the_next_time_to_poll_is_never_one_that_has_passed() {
    let mut now = test_epoch();
    let mut estimator = Estimator::new(now, EstimatorConfig::default());
    estimator.on_remb(now, Bitrate::from_kbps(500));
    for n in 0..2000 {
        estimator.poll(now);
        if estimator.active_probe().is_none() || n > 2 {
            let next = estimator.poll_timeout();
            assert!(next.is_none_or(|next| next > now), "round {n}");
        }
        now += Duration::from_millis(7);
    }
}
