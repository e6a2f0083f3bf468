//! Many subscribers with different links. Each gets what its own link can carry, and does not affect the others.

mod harness;

use std::time::Duration;

use harness::World;
use harness::network::Path;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sfu_protocol::TrackSid;

/// Frame sizes in bytes that give 0.12, 0.48 and 1.7 Mbit/s at 30 frames per second.
const LAYERS: [(&str, usize); 3] = [("q", 500), ("h", 2000), ("f", 7000)];
/// Lowest link rate in kbit/s that sustains each layer: the layer's rate with headers, plus a tenth.
const NEEDED_KBPS: [u64; 3] = [160, 580, 2000];
const HALF_RTT: Duration = Duration::from_millis(25);

/// A publisher of three layers, and a subscriber over each of these links, in kbit/s.
fn room(seed: u64, links_kbps: &[u64]) -> (World, TrackSid, Vec<usize>) {
    let mut world = World::new(seed, 1);
    let ana = world.join("ana", 0, HALF_RTT);
    let video = world.publish_video(ana, &LAYERS);
    world.run(Duration::from_secs(2));
    let subscribers = links_kbps.iter().enumerate().map(|(number, kbps)| {
        let subscriber = world.join(&format!("subscriber-{number}"), 0, HALF_RTT);
        world.links[subscriber].1 = Path::with_rate(HALF_RTT, *kbps);
        world.connect(subscriber);
        subscriber
    });
    let subscribers = subscribers.collect();
    (world, video, subscribers)
}

#[test]
fn everyone_gets_within_one_layer_of_the_best_that_their_link_carries() {
    let links: Vec<u64> = (0..20).map(|number| 250 + 190 * number).collect();
    let (mut world, video, subscribers) = room(1, &links);
    world.run(Duration::from_secs(20));
    for (subscriber, kbps) in subscribers.iter().zip(&links) {
        let lately = world.layers_lately(*subscriber, &video, Duration::from_secs(3));
        let best = NEEDED_KBPS.iter().rposition(|needed| needed <= kbps).expect("all carry the lowest") as u8;
        let lowest = lately.iter().min().copied().expect("a picture");
        println!("{kbps} kbit/s: layer {lowest} of at best {best}, {} frames of 90", lately.len());
        assert!(lowest + 1 >= best, "{kbps} kbit/s: {lately:?}");
        assert!(lately.len() >= 85, "{kbps} kbit/s: {} frames of 90", lately.len());
    }
}

#[test]
fn one_bad_link_changes_nobody_else_s_picture() {
    let (mut world, video, subscribers) = room(2, &[10_000, 10_000, 10_000, 10_000]);
    world.run(Duration::from_secs(10));
    let (bad, others) = subscribers.split_first().expect("four");
    let mut link = Path::with_rate(HALF_RTT, 150);
    link.loss = 0.2;
    world.links[*bad].1 = link;
    let from = world.now;
    world.run(Duration::from_secs(10));
    let frames = world.layers_lately(*bad, &video, Duration::from_secs(5)).len();
    assert!(frames < 140, "the bad link is one: {frames} frames of 150");
    for other in others {
        let frames = world.clients[*other].frames_of(&video);
        let frames: Vec<_> = frames.iter().filter(|frame| frame.at >= from).collect();
        assert!(frames.len() >= 299, "{} frames of 300", frames.len());
        assert!(frames.iter().all(|frame| frame.layer == 2 && frame.intact), "the top layer, whole");
        let gap = frames.windows(2).map(|pair| pair[1].at - pair[0].at).max().expect("frames");
        assert!(gap <= Duration::from_millis(50), "{gap:?}");
    }
}

/// `LINKS=10 LINK_SECONDS=600` gives the figure in `docs/bandwidth.md`. The defaults are lower, because unoptimised
/// clients are slow.
#[test]
fn links_that_wander_change_the_layer_twice_a_minute_at_most() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let links = setting("LINKS").unwrap_or(2);
    let seconds = setting("LINK_SECONDS").unwrap_or(90);
    let mut switches = 0;
    for seed in 0..links {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut kbps: f64 = 1_500.0;
        let (mut world, video, subscribers) = room(seed, &[kbps as u64]);
        let subscriber = subscribers[0];
        // The initial ramp-up does not count as layer switches.
        world.run(Duration::from_secs(10));
        let from = world.now;
        for _ in 0..seconds / 2 {
            // Same random walk as in the unit test of the estimator.
            kbps = (kbps * random.random_range(0.8..1.25)).clamp(200.0, 5_000.0);
            world.links[subscriber].1.rate_bps = (kbps * 1000.0) as u64;
            world.run(Duration::from_secs(2));
        }
        let frames = world.clients[subscriber].frames_of(&video);
        let frames: Vec<_> = frames.iter().filter(|frame| frame.at >= from).collect();
        let changed = frames.windows(2).filter(|pair| pair[0].layer != pair[1].layer).count();
        let share = frames.len() as f64 / (seconds * 30) as f64;
        println!("| {seed} | {:.2} | {share:.3} |", changed as f64 * 60.0 / seconds as f64);
        assert!(share > 0.95, "{share} of the frames");
        switches += changed;
    }
    let each_minute = switches as f64 * 60.0 / (seconds * links) as f64;
    println!("{each_minute:.2} switches a minute");
    assert!(each_minute <= 2.0, "{each_minute} switches a minute");
}
