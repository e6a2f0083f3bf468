//! A panic in one participant's path ends that participant, and nobody else loses a packet.

mod harness;

use std::time::Duration;

use harness::World;
use sfu_engine::peer::Fault;
use sfu_protocol::{EndReason, Event};

const NEAR: Duration = Duration::from_millis(10);

fn one_goes_and_the_others_stay(fault: Fault) {
    let mut world = World::new(60, 1);
    let ana = world.join("ana", 0, NEAR);
    let victim = world.join("victim", 0, NEAR);
    let ben = world.join("ben", 0, NEAR);
    let video = world.publish_video(ana, &[("", 3000)]);
    world.connect(victim);
    world.connect(ben);
    world.run(Duration::from_secs(3));
    assert!(!world.clients[victim].frames_of(&video).is_empty());
    let participant = world.clients[victim].participant.clone();
    world.shards[0].inject(&participant, fault);
    world.run(Duration::from_secs(5));
    let ended = world.events.iter().filter_map(|(_, event)| match event {
        Event::Ended { participant, reason } => Some((participant.as_str(), *reason)),
        _ => None,
    });
    assert_eq!(ended.collect::<Vec<_>>(), [("PA_victim", EndReason::Panicked)]);
    assert_eq!(world.shards[0].stats().panics, 1);
    assert_eq!(world.shards[0].stats().participants, 2);
    let numbers: Vec<u32> = world.clients[ben].frames_of(&video).iter().map(|frame| frame.number).collect();
    let first = numbers[0];
    let expected: Vec<u32> = (first..first + numbers.len() as u32).collect();
    assert_eq!(numbers, expected, "every frame reached the other one");
    assert!(numbers.len() > 200);
    assert_eq!(
        world.clients[ana].key_frame_requests.len(),
        world.clients[ana].key_frame_requests.len().min(3)
    );
}

#[test]
fn in_receiving() {
    one_goes_and_the_others_stay(Fault::Receive);
}

#[test]
fn in_delivery() {
    one_goes_and_the_others_stay(Fault::Deliver);
}

#[test]
fn in_sending() {
    one_goes_and_the_others_stay(Fault::Transmit);
}
