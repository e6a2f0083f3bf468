//! A thousand subscribers that request key frames all the time cause no more key frames than one subscriber that
//! requests two a second.

mod harness;

use std::time::Duration;

use harness::network::Path;
use harness::raw::person::{Publish, Setup};
use harness::raw::{RawWorld, announced, simulcast};
use sfu_engine::rtp::rtcp;
use sfu_engine::units::Ssrc;
use sfu_protocol::MediaKind;

const PICTURES: &str = "TR_VCana";
const NEAR: Path = Path {
    delay: Duration::from_millis(10),
    loss: 0.0,
    burst: 0.0,
    losing: false,
    duplicate: 0.0,
    reorder: 0.0,
    hold: Duration::ZERO,
    rate_bps: 0,
    queue: Duration::ZERO,
    bucket_bytes: 0,
    longest: None,
    free: None,
};

/// Number of subscribers. The default is lower than a thousand, since connecting them takes most of the time.
fn subscribers() -> usize {
    std::env::var("STORM_SUBSCRIBERS").ok().and_then(|count| count.parse().ok()).unwrap_or(100)
}

#[test]
fn key_frames_asked_of_a_publisher_keep_their_distance_whoever_asks() {
    let mut announced = announced(PICTURES, MediaKind::Video, "vp8");
    announced.layers = simulcast(3);
    let publish = Publish {
        announced,
        redundancy: 0,
        frame_bytes: vec![300, 600, 900],
        extensions: Default::default(),
    };
    let mut world = RawWorld::new(1, 1);
    world.join(Setup { name: "ana", publishes: vec![publish], ..Setup::default() }, NEAR);
    world.run(Duration::from_millis(500));
    let count = subscribers();
    for number in 0..count {
        let name = Box::leak(format!("person{number}").into_boxed_str());
        world.join(Setup { name, videos: 1, ..Setup::default() }, NEAR);
        world.run(Duration::from_millis(20));
        world.subscribe(number + 1, 0, PICTURES, MediaKind::Video);
    }
    world.run(Duration::from_secs(3));
    let connected = world.people.iter().filter(|person| person.connected.is_some()).count();
    assert_eq!(connected, count + 1);
    let from = world.now;
    let end = from + Duration::from_secs(10);
    let mut asked = 0_u64;
    while world.now < end {
        for who in 1..=count {
            let Some(ssrc) = world.people[who].pictures.first().map(|picture| picture.ssrc) else { continue };
            let mut compound = Vec::new();
            rtcp::write_pli(&mut compound, Ssrc(1), ssrc);
            world.people[who].send_rtcp(&compound);
            world.flush(who);
            asked += 1;
        }
        world.run(Duration::from_millis(20));
    }
    let mut layers = 0;
    for layer in 0..3 {
        let ssrc = world.people[0].sending[layer].ssrc;
        let floor = Duration::from_millis(if layer == 0 { 500 } else { 1000 });
        let at = world.people[0].asked.iter().filter(|(at, media)| *media == ssrc && *at >= from);
        let at: Vec<_> = at.map(|(at, _)| *at).collect();
        println!("{asked} requests by {count} became {} for layer {layer}", at.len());
        layers += usize::from(!at.is_empty());
        let nearest = at.windows(2).map(|pair| pair[1] - pair[0]).min();
        assert!(nearest.is_none_or(|nearest| nearest >= floor), "layer {layer}: {nearest:?}");
    }
    assert!(layers > 0, "somebody was heard");
}
