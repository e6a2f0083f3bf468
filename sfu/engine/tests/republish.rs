//! Tracks that are unpublished and published again dozens of times, and announcements whose media never arrives.

mod harness;

use std::time::Duration;

use harness::World;
use sfu_protocol::{Command, Event, TrackSid};
use str0m::format::Codec;

const NEAR: Duration = Duration::from_millis(10);
const LAYERS: [(&str, usize); 3] = [("q", 400), ("h", 900), ("f", 2000)];

/// Ana publishes a camera, ben receives it.
fn call(seed: u64) -> (World, usize, usize, TrackSid) {
    let mut world = World::new(seed, 2);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 1, NEAR);
    let camera = world.publish_video(ana, &LAYERS);
    world.connect(ben);
    assert!(seen(&mut world, ben, &camera), "the first camera");
    (world, ana, ben, camera)
}

fn seen(world: &mut World, who: usize, track: &TrackSid) -> bool {
    world.run_until(Duration::from_secs(10), |world| world.clients[who].frames_of(track).len() > 10)
}

#[test]
fn a_camera_published_again_is_received_whichever_comes_first() {
    let (mut world, ana, ben, mut camera) = call(1);
    for round in 0..12 {
        camera = world.publish_again(ana, &camera, "cid1", &LAYERS, round % 2 == 0);
        assert!(seen(&mut world, ben, &camera), "publication {round}");
    }
}

#[test]
fn the_sixtieth_camera_is_received_and_nothing_of_the_others_is_kept() {
    let (mut world, ana, ben, mut camera) = call(2);
    world.run(Duration::from_secs(1));
    let kept = |world: &mut World| {
        let stats = world.shards[0].stats();
        (stats.sources, stats.tracks_video)
    };
    let (sources, tracks) = kept(&mut world);
    assert_eq!(tracks, 1);
    for round in 2..=60 {
        world.clients[ana].cease(&camera);
        camera = world.publish_video(ana, &LAYERS);
        assert!(seen(&mut world, ben, &camera), "camera {round}");
    }
    world.run(Duration::from_secs(1));
    let (now, tracks) = kept(&mut world);
    assert_eq!(tracks, 1);
    // A few ended sources stay stored, so that late packets of theirs are not accepted as new streams.
    assert!(now <= sources + 16, "{sources} sources became {now}");
    let dropped = world.shards[0].stats().dropped(sfu_engine::stats::Drop::TooManyStreams);
    assert_eq!(dropped, 0);
}

#[test]
fn who_announces_what_never_comes_is_told() {
    let (mut world, ana, _, camera) = call(3);
    let (announced, _) = world.announcement(Codec::Vp8, &LAYERS);
    let (track, participant) = (announced.track.clone(), world.clients[ana].participant.clone());
    world.command(0, Command::AddTrack { participant, track: Box::new(announced) });
    let ended = |world: &World, track: &TrackSid| {
        world
            .events
            .iter()
            .any(|(_, event)| matches!(event, Event::TrackUnpublished { track: ended, .. } if ended == track))
    };
    world.run(Duration::from_secs(55));
    assert!(!ended(&world, &track), "its section may still come");
    assert!(world.run_until(Duration::from_secs(10), |world| ended(world, &track)));
    assert!(!ended(&world, &camera));
}
