//! A panic in one participant's path ends that participant, and nobody else loses a packet.

mod harness;

use std::time::Duration;

use harness::World;
use sfu_engine::peer::Fault;
use sfu_protocol::{EndReason, Event, RosterChange, TrackSid};

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
    assert_eq!(ended(&world), [("PA_victim".to_owned(), EndReason::Panicked)]);
    assert_eq!(world.shards[0].stats().panics, 1);
    assert_eq!(world.shards[0].stats().participants, 2);
    assert_whole(&world, ben, &video);
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

#[test]
fn in_remembering_what_was_published() {
    for shards in [1, 2] {
        let mut world = World::new(61, shards);
        let ana = world.join("ana", 0, NEAR);
        let ben = world.join("ben", usize::from(shards) - 1, NEAR);
        let victim = world.join("victim", 0, NEAR);
        let video = world.publish_video(ana, &[("", 3000)]);
        world.publish_video(victim, &[("", 3000)]);
        world.connect(ben);
        world.run(Duration::from_secs(3));
        let participant = world.clients[victim].participant.clone();
        world.shards[0].inject(&participant, Fault::Remember);
        world.run(Duration::from_secs(5));
        assert_eq!(
            ended(&world),
            [("PA_victim".to_owned(), EndReason::Panicked)],
            "whoever's datagram came next"
        );
        assert_eq!(world.shards[0].stats().panics, 1);
        assert_whole(&world, ben, &video);
    }
}

#[test]
fn in_remembering_what_came_from_another_shard() {
    let mut world = World::new(62, 2);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 1, NEAR);
    let video = world.publish_video(ana, &[("", 3000)]);
    world.connect(ben);
    world.run(Duration::from_secs(3));
    world.shards[1].inject_for_nobody(Fault::Remember);
    world.run(Duration::from_secs(5));
    assert_eq!((ended(&world), world.shards[1].stats().panics), (vec![], 1));
    assert_whole(&world, ben, &video);
}

#[test]
fn in_ending_somebody() {
    let mut world = World::new(63, 2);
    let ana = world.join("ana", 0, NEAR);
    let victim = world.join("victim", 0, NEAR);
    let ben = world.join("ben", 1, NEAR);
    let video = world.publish_video(ana, &[("", 3000)]);
    let gone = world.publish_video(victim, &[("", 3000)]);
    world.connect(ben);
    world.run(Duration::from_secs(3));
    assert!(!world.clients[ben].frames_of(&gone).is_empty());
    let participant = world.clients[victim].participant.clone();
    world.shards[0].inject(&participant, Fault::End);
    world.leave(victim);
    world.run(Duration::from_secs(1));
    let left = |event: &Event| {
        matches!(event, Event::Roster { change: RosterChange::Gone { participant, .. }, .. }
            if participant.as_str() == "PA_victim")
    };
    assert!(world.events.iter().any(|(_, event)| left(event)), "others hear that it left");
    let stats = world.shards[0].stats();
    assert_eq!((stats.panics, stats.participants, stats.tracks_video, stats.subscriptions), (1, 1, 1, 0));
    assert_eq!(world.shards[1].stats().subscriptions, 1, "its track is gone there as well");
    // The victim's handles are reused for dan, who gets nothing meant for the victim.
    let dan = world.join("dan", 0, NEAR);
    let again = world.publish_video(dan, &[("", 3000)]);
    world.run(Duration::from_secs(5));
    assert_whole(&world, ben, &video);
    assert!(!world.clients[ben].frames_of(&again).is_empty());
    assert!(world.clients[dan].frames_of(&video).iter().all(|frame| frame.intact && frame.contiguous));
    assert_eq!(ended(&world), []);
}

#[test]
fn in_deciding_who_speaks() {
    let mut world = World::new(64, 1);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 0, NEAR);
    let video = world.publish_video(ana, &[("", 3000)]);
    world.publish_audio(ana);
    world.connect(ben);
    world.run(Duration::from_secs(3));
    world.clients[ana].publishers[1].loudness = Some(|_| -10);
    world.shards[0].inject_for_nobody(Fault::Speakers);
    world.run(Duration::from_secs(5));
    assert_eq!((ended(&world), world.shards[0].stats().panics), (vec![], 1));
    assert_whole(&world, ben, &video);
    let speaks = |event: &Event| matches!(event, Event::Speakers { speakers, .. } if !speakers.is_empty());
    assert!(world.events.iter().any(|(_, event)| speaks(event)), "it is heard all the same");
}

fn ended(world: &World) -> Vec<(String, EndReason)> {
    let ended = world.events.iter().filter_map(|(_, event)| match event {
        Event::Ended { participant, reason } => Some((participant.to_string(), *reason)),
        _ => None,
    });
    ended.collect()
}

/// Checks that every frame of a track reached a client, from the first that it received until now.
fn assert_whole(world: &World, client: usize, video: &TrackSid) {
    let numbers: Vec<u32> = world.clients[client].frames_of(video).iter().map(|frame| frame.number).collect();
    let first = numbers[0];
    assert_eq!(numbers, (first..first + numbers.len() as u32).collect::<Vec<_>>());
    assert!(numbers.len() > 200, "{} frames", numbers.len());
}
