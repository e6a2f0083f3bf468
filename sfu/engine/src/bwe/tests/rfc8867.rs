//! The cases of RFC 8867 sections 5.1 to 5.8.

use super::network::{Network, Scenario};

#[test]
fn case_5_1_variable_capacity() {
    for seed in 1..=3 {
        let mut scenario = Scenario::new(100.0, &[(0.0, 1e6), (40.0, 2.5e6), (60.0, 0.6e6), (80.0, 1e6)]);
        scenario.there.jitter_ms = 5.0;
        scenario.seed = seed;
        let network = Network::run(scenario);
        let seen = &network.seen[0];
        for second in 0..100 {
            let at = f64::from(second);
            println!(
                "{second:3} link {:5.0} est {:5.0} sent {:5.0} recv {:5.0} loss {:.3} q95 {:4.0}",
                network.links[0].spec.rate_at(at) / 1e3,
                seen.estimate_at(at) / 1e3,
                seen.sent_rate(at, at + 1.0) / 1e3,
                seen.rate(at, at + 1.0) / 1e3,
                seen.loss(at, at + 1.0),
                network.queue_p95(at, at + 1.0)
            );
        }
        if seed == 1 {
            for (at, cause, rate) in &network.media(0).unwrap().causes {
                println!("{:8.3} {:?} {}", *at as f64 / 1e6, cause, rate / 1000);
            }
        }
    }
}
