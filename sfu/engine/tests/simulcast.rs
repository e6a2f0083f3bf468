//! Three simulcast layers: each subscriber gets the layer that fits its tile, and switches layers without a freeze.

mod harness;

use std::time::Duration;

use harness::World;
use harness::client::ReceivedFrame;
use sfu_protocol::{LayerQuality, TrackDemand};

const NEAR: Duration = Duration::from_millis(10);
const LAYERS: [(&str, usize); 3] = [("q", 500), ("h", 1500), ("f", 5000)];

fn tile(width: u32, height: u32) -> TrackDemand {
    TrackDemand { width, height, ..TrackDemand::default() }
}

fn longest_gap(frames: &[&ReceivedFrame]) -> Duration {
    frames.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap_or_default()
}

#[test]
fn a_change_of_tile_changes_the_layer_without_a_freeze() {
    for shard in [0, 1] {
        let mut world = World::new(50, 2);
        let ana = world.join("ana", 0, NEAR);
        let ben = world.join("ben", shard, NEAR);
        let video = world.publish_video(ana, &LAYERS);
        world.connect(ben);
        world.run(Duration::from_secs(4));
        for (demand, expected) in
            [(tile(320, 180), 0), (tile(1280, 720), 2), (tile(640, 360), 1), (tile(1280, 720), 2)]
        {
            let before = world.clients[ben].frames_of(&video).len();
            world.set_demand(ben, &video, demand);
            let changed = |world: &World| {
                world.clients[ben].frames_of(&video)[before..].iter().any(|frame| frame.layer == expected)
            };
            assert!(world.run_until(Duration::from_millis(1200), changed), "layer {expected} within 1.2 s");
            world.run(Duration::from_secs(2));
        }
        let frames = world.clients[ben].frames_of(&video);
        assert!(longest_gap(&frames[30..]) < Duration::from_millis(100), "{:?}", longest_gap(&frames[30..]));
        assert!(frames.iter().all(|frame| frame.intact && frame.contiguous), "no hole in the numbering");
        let times: Vec<u64> = frames.iter().map(|frame| frame.time.numer()).collect();
        assert!(times.windows(2).all(|pair| pair[1] > pair[0]), "time goes on");
    }
}

#[test]
fn a_hidden_tile_costs_nothing_and_comes_back() {
    let mut world = World::new(51, 1);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 0, NEAR);
    let video = world.publish_video(ana, &LAYERS);
    world.connect(ben);
    world.run(Duration::from_secs(4));
    world.set_demand(ben, &video, TrackDemand { enabled: false, ..TrackDemand::default() });
    world.run(Duration::from_millis(100));
    let before = world.clients[ben].frames_of(&video).len();
    world.run(Duration::from_secs(2));
    assert_eq!(world.clients[ben].frames_of(&video).len(), before);
    world.set_demand(ben, &video, TrackDemand { quality: LayerQuality::Low, ..TrackDemand::default() });
    world.run(Duration::from_secs(2));
    let frames = world.clients[ben].frames_of(&video);
    assert!(frames.len() > before + 30);
    assert_eq!(frames.last().map(|frame| frame.layer), Some(0));
    assert!(frames.iter().all(|frame| frame.contiguous));
}

#[test]
fn a_layer_that_its_publisher_stops_is_replaced() {
    let mut world = World::new(52, 2);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 1, NEAR);
    let video = world.publish_video(ana, &LAYERS);
    world.connect(ben);
    world.run(Duration::from_secs(4));
    assert_eq!(world.clients[ben].frames_of(&video).last().map(|frame| frame.layer), Some(2));
    world.clients[ana].publishers[0].layers[2].active = false;
    world.run(Duration::from_secs(4));
    assert_eq!(world.clients[ben].frames_of(&video).last().map(|frame| frame.layer), Some(1));
    world.clients[ana].publishers[0].layers[2].active = true;
    world.run(Duration::from_secs(4));
    assert_eq!(world.clients[ben].frames_of(&video).last().map(|frame| frame.layer), Some(2));
}
