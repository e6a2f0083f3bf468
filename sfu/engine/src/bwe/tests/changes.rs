//! Starts, drops of capacity, loss, outages, and links whose capacity changes all the time.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::link::Loss;
use super::media::MediaSpec;
use super::network::{FlowSpec, Network, Scenario};
use super::report::Bound::{AtLeast, AtMost, None};
use super::report::{Report, longest};
use super::seeds;

fn scenario(seed: u64, seconds: f64, rates: &[(f64, f64)], spec: MediaSpec) -> Scenario {
    let mut scenario = Scenario::new(seconds, rates);
    scenario.seed = seed;
    scenario.flows = vec![FlowSpec::with(spec).delay(25.0)];
    scenario
}

/// Three layers of a 720p track.
fn three_layers() -> MediaSpec {
    MediaSpec { most: 2.7e6, first_picture: 40_000, ..MediaSpec::default() }
}

#[test]
fn open_link_permits_the_top_layer_within_600_ms() {
    let mut report = Report::default();
    for seed in seeds() {
        report.seed(seed);
        let network = Network::run(scenario(seed, 10.0, &[(0.0, 10e6)], three_layers()));
        let causes = &network.media(0).expect("media").causes;
        let first = causes.first().map_or(0, |(at, ..)| *at);
        let enough = causes.iter().find(|(_, _, rate)| *rate >= 2_600_000).map_or(u64::MAX, |(at, ..)| *at);
        report.add("2.5 Mbit/s and sound permitted after, ms", AtMost(600.0), (enough - first) as f64 / 1e3);
        report.add("lost", AtMost(0.0), network.seen[0].loss(0.0, 10.0));
        report.add(
            "lowest estimate from 1 s on, Mbit/s",
            AtLeast(2.6),
            network.seen[0].least_estimate(1.0, 10.0) / 1e6,
        );
    }
    report.finish("start, 10 Mbit/s");
}

#[test]
fn narrow_link_is_not_flooded_while_it_is_found_out() {
    let mut report = Report::default();
    for seed in seeds() {
        report.seed(seed);
        let network = Network::run(scenario(seed, 20.0, &[(0.0, 600e3)], three_layers()));
        let seen = &network.seen[0];
        let over = longest(0.0, 10.0, |at| seen.sent_rate(at, at + 0.2) > 720e3);
        let half =
            (0..100).map(|n| f64::from(n) / 10.0).map(|at| seen.sent_rate(at, at + 0.5)).fold(0.0, f64::max);
        report.add("longest above 120 % of the link, s", AtMost(0.5), over);
        report.add("most in any 500 ms / link", None, half / 600e3);
        report.add("lost", None, seen.loss(0.0, 5.0));
        report.add("used from 3 s on", AtLeast(0.75), seen.rate(3.0, 20.0) / 600e3);
    }
    report.finish("start, 600 kbit/s");
}

#[test]
fn drop_and_return() {
    let rates = [(0.0, 2e6), (20.0, 0.3e6), (40.0, 2e6)];
    let mut report = Report::default();
    for seed in seeds() {
        report.seed(seed);
        let network = Network::run(scenario(seed, 80.0, &rates, MediaSpec::default()));
        let seen = &network.seen[0];
        report.add("sent / link, 1.5 to 3 s after the drop", AtMost(1.0), seen.sent_rate(21.5, 23.0) / 0.3e6);
        report.add("audio loss in the 20 s of the drop", AtMost(0.02), seen.audio_loss(20.0, 40.0));
        report.add("used during the drop, from 5 s", None, seen.rate(25.0, 40.0) / 0.3e6);
        let back =
            (0..400).map(|n| 40.0 + f64::from(n) / 10.0).find(|at| seen.rate(*at, at + 1.0) > 0.85 * 2e6);
        report.add("85 % used after the return, s", AtMost(12.0), back.map_or(99.0, |at| at + 1.0 - 40.0));
        report.add("used from 12 s after the return", AtLeast(0.85), seen.rate(52.0, 80.0) / 2e6);
    }
    report.finish("2 Mbit/s - 300 kbit/s - 2 Mbit/s");
}

fn with_loss(case: &str, loss: Loss, least: f64) {
    let mut report = Report::default();
    for seed in seeds() {
        report.seed(seed);
        let clean = Network::run(scenario(seed, 60.0, &[(0.0, 3e6)], MediaSpec::default()));
        let mut lossy = scenario(seed, 60.0, &[(0.0, 3e6)], MediaSpec::default());
        lossy.there.loss = loss;
        let lossy = Network::run(lossy);
        let mean = |network: &Network| {
            (100..600).map(|n| network.seen[0].estimate_at(f64::from(n) / 10.0)).sum::<f64>() / 500.0
        };
        report.add("mean estimate / without loss", AtLeast(least), mean(&lossy) / mean(&clean));
        let lowest = lossy.seen[0].least_estimate(10.0, 60.0) / mean(&clean);
        report.add(
            "lowest estimate from 10 s on / mean without loss",
            AtLeast(if least > 0.6 { 0.6 } else { 0.4 }),
            lowest,
        );
    }
    report.finish(case);
}

#[test]
fn ten_percent_random_loss() {
    with_loss("10 % random loss", Loss::Random(0.1), 0.7);
}

#[test]
fn twenty_percent_random_loss() {
    with_loss("20 % random loss", Loss::Random(0.2), 0.6);
}

#[test]
fn ten_percent_bursty_loss() {
    with_loss("10 % bursty loss", Loss::Burst { share: 0.1, mean: 4.0 }, 0.6);
}

#[test]
fn outage() {
    let mut report = Report::default();
    for seed in seeds() {
        report.seed(seed);
        let rates = [(0.0, 3e6), (20.0, 0.0), (23.0, 3e6)];
        let network = Network::run(scenario(seed, 60.0, &rates, MediaSpec::default()));
        let seen = &network.seen[0];
        let before = seen.rate(10.0, 20.0);
        report.add("sent in the third second / before", AtMost(0.3), seen.sent_rate(22.0, 23.0) / before);
        let back =
            (0..300).map(|n| 23.0 + f64::from(n) / 10.0).find(|at| seen.estimate_at(*at) > 0.6 * before);
        report.add("60 % of the estimate again after, s", AtMost(1.0), back.map_or(99.0, |at| at - 23.0));
        report.add("used from 5 s after", AtLeast(0.7), seen.rate(28.0, 60.0) / 3e6);
    }
    report.finish("3 s of nothing");
}

#[test]
fn feedback_lost() {
    let mut report = Report::default();
    for seed in seeds() {
        report.seed(seed);
        let spec = MediaSpec { feedback_loss: 0.3, ..MediaSpec::default() };
        let network = Network::run(scenario(seed, 60.0, &[(0.0, 2e6), (30.0, 1e6)], spec));
        let seen = &network.seen[0];
        report.add("used at 2 Mbit/s", AtLeast(0.75), seen.rate(10.0, 30.0) / 2e6);
        report.add("used at 1 Mbit/s", AtLeast(0.75), seen.rate(35.0, 60.0) / 1e6);
        report.add("sent / link, 1.5 to 3 s after the drop", AtMost(1.0), seen.sent_rate(31.5, 33.0) / 1e6);
    }
    report.finish("30 % of feedback lost");
}

#[test]
fn random_walk() {
    let mut report = Report::default();
    for seed in seeds() {
        report.seed(seed);
        let mut random = SmallRng::seed_from_u64(seed * 77);
        let mut rate: f64 = random.random_range(5e5..3e6);
        let mut rates = Vec::new();
        for n in 0..300 {
            rates.push((f64::from(n) * 2.0, rate));
            rate = (rate * random.random_range(0.8..1.25)).clamp(2e5, 5e6);
        }
        let mut scenario = scenario(seed, 600.0, &rates, MediaSpec::default());
        scenario.there.jitter_ms = 3.0;
        let network = Network::run(scenario);
        let seen = &network.seen[0];
        report.add("used", AtLeast(0.7), seen.rate(5.0, 600.0) / network.links[0].spec.mean(5.0, 600.0));
        report.add("p95 of the queue, ms", AtMost(200.0), network.queue_p95(5.0, 600.0));
        report.add("lost", AtMost(0.02), seen.loss(5.0, 600.0));
    }
    report.finish("random walk, 10 min");
}
