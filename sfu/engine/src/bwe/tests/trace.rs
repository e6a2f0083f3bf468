use super::network::*;
pub fn trace(network: &Network, seconds: usize, causes: Option<usize>) {
    for second in 0..seconds {
        let at = second as f64;
        print!(
            "{second:3} link {:5.0} q95 {:4.0}",
            network.links[0].spec.rate_at(at) / 1e3,
            network.queue_p95(at, at + 1.0)
        );
        for seen in &network.seen {
            print!(
                " | est {:5.0} recv {:5.0} loss {:.3}",
                seen.estimate_at(at) / 1e3,
                seen.rate(at, at + 1.0) / 1e3,
                seen.loss(at, at + 1.0)
            );
        }
        println!();
    }
    if let Some(flow) = causes {
        for (at, cause, rate) in &network.media(flow).unwrap().causes {
            println!("{:8.3} {:?} {}", *at as f64 / 1e6, cause, rate / 1000);
        }
    }
}
