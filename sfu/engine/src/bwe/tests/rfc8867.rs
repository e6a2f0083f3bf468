//! Test cases of RFC 8867 sections 5.1 to 5.8. Unless a case says otherwise: one-way delay 50 ms, jitter of at most 30
//! ms, a queue of 300 ms.

use super::media::MediaSpec;
use super::network::{FlowKind, FlowSpec, Network, Scenario};
use super::report::Bound::{AtLeast, AtMost, None, Short};
use super::report::{Report, jain, longest};
use super::seeds;
use super::tcp::Growth;

fn scenario(seed: u64, seconds: f64, rates: &[(f64, f64)]) -> Scenario {
    let mut scenario = Scenario::new(seconds, rates);
    scenario.there.jitter_ms = 5.0;
    scenario.seed = seed;
    scenario
}

/// Start, end and rate of each step.
fn steps(rates: &[(f64, f64)], end: f64) -> Vec<(f64, f64, f64)> {
    let ends = rates.iter().skip(1).map(|(from, _)| *from).chain([end]);
    rates.iter().zip(ends).map(|((from, rate), to)| (*from, to, *rate)).collect()
}

#[test]
fn case_5_1_variable_capacity() {
    let rates = [(0.0, 1e6), (40.0, 2.5e6), (60.0, 0.6e6), (80.0, 1e6)];
    let mut report = Report::default();
    for seed in seeds() {
        report.seed(seed);
        let network = Network::run(scenario(seed, 100.0, &rates));
        let seen = &network.seen[0];
        for (from, to, rate) in steps(&rates, 100.0) {
            report.add("used from 8 s after a step", AtLeast(0.8), seen.rate(from + 8.0, to) / rate);
            report.add("loss in a step", AtMost(0.05), seen.loss(from, to));
            report.add(
                "p95 of the queue from 3 s after, ms",
                AtMost(100.0),
                network.queue_p95(from + 3.0, to),
            );
        }
        report.add("sent / link, 1.5 to 3 s after the drop", AtMost(1.0), seen.sent_rate(61.5, 63.0) / 0.6e6);
    }
    report.finish("5.1");
}

#[test]
fn case_5_2_variable_capacity_two_flows() {
    let rates = [(0.0, 4e6), (25.0, 2e6), (50.0, 3.5e6), (75.0, 1e6), (100.0, 2e6)];
    let mut report = Report::default();
    for seed in seeds() {
        report.seed(seed);
        let mut scenario = scenario(seed, 125.0, &rates);
        scenario.flows = vec![FlowSpec::media(), FlowSpec::media()];
        let network = Network::run(scenario);
        for (from, to, rate) in steps(&rates, 125.0) {
            let each: Vec<f64> = network.seen.iter().map(|seen| seen.rate(from + 10.0, to)).collect();
            report.add("Jain from 10 s after a step", Short(0.9, 0.8), jain(&each));
            report.add("used from 10 s after a step", None, each.iter().sum::<f64>() / rate);
        }
        report.add("p95 of the queue, ms", None, network.queue_p95(3.0, 125.0));
    }
    report.finish("5.2");
}

#[test]
fn case_5_3_congested_feedback() {
    let there = [(0.0, 2e6), (20.0, 1e6), (40.0, 0.5e6), (60.0, 2e6)];
    let back = [(0.0, 2e6), (35.0, 0.8e6), (70.0, 2e6)];
    let mut report = Report::default();
    for seed in seeds() {
        report.seed(seed);
        let mut scenario = scenario(seed, 100.0, &there);
        scenario.back.rates = back.to_vec();
        scenario.back.jitter_ms = 5.0;
        scenario.flows = vec![FlowSpec::media(), FlowSpec { back: true, ..FlowSpec::media() }];
        let network = Network::run(scenario);
        for (seen, link) in network.seen.iter().zip(&network.links) {
            let under = longest(3.0, 99.0, |at| seen.rate(at, at + 1.0) < 0.5 * link.spec.mean(at, at + 1.0));
            let over =
                longest(0.0, 99.0, |at| seen.sent_rate(at, at + 1.0) > 1.1 * link.spec.mean(at, at + 1.0));
            report.add("longest under 50 %, s", AtMost(8.0), under);
            report.add("longest over 110 %, s", AtMost(2.0), over);
            let carried: f64 = link.spec.mean(0.0, 100.0);
            report.add("used", None, seen.rate(0.0, 100.0) / carried);
        }
    }
    report.finish("5.3");
}

#[test]
fn case_5_4_competing_flows() {
    let mut report = Report::default();
    for seed in seeds() {
        report.seed(seed);
        let mut scenario = scenario(seed, 120.0, &[(0.0, 3.5e6)]);
        scenario.flows = [0.0, 20.0, 40.0].map(|at| FlowSpec::media().at(at)).to_vec();
        let network = Network::run(scenario);
        let each: Vec<f64> = network.seen.iter().map(|seen| seen.rate(100.0, 120.0)).collect();
        report.add("Jain of the last 20 s", AtLeast(0.85), jain(&each));
        report.add("used", None, each.iter().sum::<f64>() / 3.5e6);
        report.add("p95 of the queue, ms", None, network.queue_p95(3.0, 120.0));
    }
    report.finish("5.4");
}

#[test]
fn case_5_5_rtt_fairness() {
    let mut report = Report::default();
    for seed in seeds() {
        report.seed(seed);
        let mut scenario = scenario(seed, 300.0, &[(0.0, 4e6)]);
        let delays = [10.0, 25.0, 50.0, 100.0, 150.0];
        scenario.flows = (0..5).map(|n| FlowSpec::media().at(f64::from(n) * 10.0)).collect();
        scenario.flows.iter_mut().zip(delays).for_each(|(flow, delay)| flow.delay = delay);
        let network = Network::run(scenario);
        let each: Vec<f64> = network.seen.iter().map(|seen| seen.rate(200.0, 300.0)).collect();
        let most = each.iter().copied().fold(0.0, f64::max);
        let least = each.iter().copied().fold(f64::MAX, f64::min);
        report.add("max / min of the last 100 s", AtMost(2.0), most / least);
        report.add("used", None, each.iter().sum::<f64>() / 4e6);
        report.add("p95 of the queue, ms", None, network.queue_p95(3.0, 300.0));
    }
    report.finish("5.5");
}

fn long_tcp(case: &str, growth: Growth) {
    let mut report = Report::default();
    for seed in seeds() {
        report.seed(seed);
        let mut scenario = scenario(seed, 120.0, &[(0.0, 2e6)]);
        let tcp = FlowSpec { kind: FlowKind::Tcp(growth, Option::None), ..FlowSpec::media() };
        scenario.flows = vec![FlowSpec::media().at(5.0), tcp];
        let network = Network::run(scenario);
        let seen = &network.seen[0];
        report.add("share of the fair share", AtLeast(0.2), seen.rate(15.0, 120.0) / 1e6);
        report.add("TCP's share of its fair share", None, network.seen[1].rate(15.0, 120.0) / 1e6);
        report.add("lowest estimate, kbit/s", AtLeast(40.0), seen.least_estimate(6.0, 120.0) / 1e3);
        report.add("audio loss", AtMost(0.03), seen.audio_loss(15.0, 120.0));
    }
    report.finish(case);
}

#[test]
fn case_5_6_long_tcp_reno() {
    long_tcp("5.6 Reno", Growth::Reno);
}

#[test]
fn case_5_6_long_tcp_cubic() {
    long_tcp("5.6 Cubic", Growth::Cubic);
}

#[test]
fn case_5_7_short_tcp() {
    let mut report = Report::default();
    for seed in seeds() {
        report.seed(seed);
        let mut scenario = scenario(seed, 300.0, &[(0.0, 2e6)]);
        let short = FlowSpec { kind: FlowKind::ShortTcp, ..FlowSpec::media() };
        scenario.flows = vec![FlowSpec::media().at(5.0), FlowSpec::media().at(5.0)];
        scenario.flows.extend((0..10).map(|n| short.clone().at(f64::from(n))));
        let network = Network::run(scenario);
        let media: f64 = network.seen[..2].iter().map(|seen| seen.rate(10.0, 300.0)).sum();
        let tcp: f64 = network.seen[2..].iter().map(|seen| seen.rate(10.0, 300.0)).sum();
        report.add("share of what TCP leaves", AtLeast(0.6), media / (2e6 - tcp));
        report.add("both media flows, Mbit/s", None, media / 1e6);
        report.add("TCP, Mbit/s", None, tcp / 1e6);
        let audio = network.seen[0].audio_loss(10.0, 300.0);
        report.add("audio loss", None, audio);
    }
    report.finish("5.7");
}

#[test]
fn case_5_8_pause_and_resume() {
    let mut report = Report::default();
    for seed in seeds() {
        report.seed(seed);
        let mut scenario = scenario(seed, 120.0, &[(0.0, 3.5e6)]);
        let pausing = MediaSpec { pause: Some((40.0, 60.0)), ..MediaSpec::default() };
        scenario.flows = vec![FlowSpec::media(), FlowSpec::with(pausing), FlowSpec::media()];
        let network = Network::run(scenario);
        let rate = |flow: usize, from: f64, to: f64| network.seen[flow].rate(from, to);
        let rest = rate(0, 48.0, 60.0) + rate(2, 48.0, 60.0);
        report.add("used by the rest from 8 s after the pause", AtLeast(0.8), rest / 3.5e6);
        report.add("resumed / fair share from 8 s after", AtLeast(0.5), rate(1, 68.0, 80.0) * 3.0 / 3.5e6);
        report.add("Jain of the last 20 s", None, jain(&[0, 1, 2].map(|flow| rate(flow, 100.0, 120.0))));
    }
    report.finish("5.8");
}
