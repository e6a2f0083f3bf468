//! Connection quality of participants, as reported to others.

mod harness;

use std::time::Duration;

use harness::World;
use harness::network::Path;
use sfu_protocol::ConnectionQuality::{self, Excellent, Good, Lost, Poor};
use sfu_protocol::{Command, Event};

const NEAR: Duration = Duration::from_millis(10);
const SIMULCAST: [(&str, usize); 3] = [("q", 500), ("h", 1500), ("f", 4000)];

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Connection qualities reported of a client, each with the time since the simulation began.
fn told(world: &World, client: usize) -> Vec<(Duration, ConnectionQuality)> {
    let participant = &world.clients[client].participant;
    let changes = world.events.iter().filter_map(|(at, event)| match event {
        Event::ConnectionQuality { changes, .. } => Some((*at, changes)),
        _ => None,
    });
    let of_client = changes.flat_map(|(at, changes)| {
        let own = changes.iter().filter(|change| change.participant == *participant);
        own.map(move |change| {
            assert!((1.0..=4.5).contains(&change.score), "{change:?}");
            (at, change.quality)
        })
    });
    of_client.map(|(at, quality)| (at - world.start, quality)).collect()
}

fn last(world: &World, client: usize) -> Option<ConnectionQuality> {
    told(world, client).last().map(|(_, quality)| *quality)
}

/// Two participants on different shards that see and hear each other.
fn call(seed: u64) -> (World, usize, usize) {
    let mut world = World::new(seed, 2);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 1, NEAR);
    for client in [ana, ben] {
        world.publish_video(client, &SIMULCAST);
        world.publish_audio(client);
    }
    (world, ana, ben)
}

#[test]
fn on_a_clean_link_everyone_is_told_once_that_all_is_well() {
    let (mut world, ana, ben) = call(400);
    world.run(secs(60));
    for client in [ana, ben] {
        let told = told(&world, client);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].1 == Excellent && told[0].0 < secs(6), "{told:?}");
    }
}

#[test]
fn loss_is_told_of_whose_link_it_is_in_either_direction() {
    for up in [true, false] {
        let (mut world, ana, ben) = call(401);
        world.run(secs(12));
        let link = &mut world.links[ana];
        if up {
            link.0.loss = 0.2;
        } else {
            link.1.loss = 0.2;
        }
        world.run(secs(15));
        // This client counts a packet that was retransmitted as received.
        assert!(matches!(last(&world, ana), Some(Good | Poor)), "up: {up}, {:?}", told(&world, ana));
        assert_eq!(last(&world, ben), Some(Excellent), "up: {up}");
        let link = &mut world.links[ana];
        if up {
            link.0.loss = 0.0;
        } else {
            link.1.loss = 0.0;
        }
        world.run(secs(40));
        assert_eq!(last(&world, ana), Some(Excellent), "up: {up}, {:?}", told(&world, ana));
        let times: Vec<Duration> = told(&world, ana).into_iter().map(|(at, _)| at).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= secs(5)), "{times:?}");
    }
}

#[test]
fn a_long_way_is_told_of() {
    let mut world = World::new(402, 1);
    let ana = world.join("ana", 0, Duration::from_millis(450));
    let ben = world.join("ben", 0, NEAR);
    world.publish_audio(ben);
    world.connect(ana);
    world.run(secs(40));
    assert!(matches!(last(&world, ana), Some(Poor | Good)), "{:?}", told(&world, ana));
    assert_eq!(last(&world, ben), Some(Excellent));
}

#[test]
fn pictures_that_do_not_fit_are_told_of() {
    let mut world = World::new(403, 1);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 0, NEAR);
    world.publish_video(ana, &SIMULCAST);
    world.links[ben].1 = Path::with_rate(NEAR, 350);
    world.connect(ben);
    world.run(secs(40));
    assert!(matches!(last(&world, ben), Some(Good | Poor)), "{:?}", told(&world, ben));
    assert_eq!(last(&world, ana), Some(Excellent));
}

#[test]
fn layers_that_are_wanted_and_do_not_come_are_told_of() {
    let (mut world, ana, ben) = call(404);
    world.run(secs(12));
    for layer in &mut world.clients[ana].publishers[0].layers[1..] {
        layer.active = false;
    }
    world.run(secs(20));
    assert_eq!(last(&world, ana), Some(Good), "{:?}", told(&world, ana));
    assert_eq!(last(&world, ben), Some(Excellent), "{:?}", told(&world, ben));
}

#[test]
fn whoever_vanishes_is_lost_after_five_seconds_and_found_again_at_once() {
    let (mut world, ana, ben) = call(405);
    world.run(secs(12));
    let gone = world.elapsed();
    let link = world.links[ana];
    (world.links[ana].0.loss, world.links[ana].1.loss) = (1.0, 1.0);
    world.run(secs(8));
    let lost = *told(&world, ana).last().expect("something was told");
    assert_eq!(lost.1, Lost);
    let after = lost.0 - gone;
    assert!(after > Duration::from_millis(4900) && after < secs(6), "lost after {after:?}");
    world.links[ana] = link;
    world.run(secs(2));
    assert_ne!(last(&world, ana), Some(Lost), "a client that is lost for 10 s starts anew");
    world.run(secs(40));
    assert_eq!(last(&world, ana), Some(Excellent));
    assert_eq!(last(&world, ben), Some(Excellent));
}

#[test]
fn nobody_is_lost_who_is_muted_or_only_listens_or_whom_nobody_watches() {
    let mut world = World::new(406, 2);
    world.auto_subscribe = false;
    let [muted, unwatched, listener] =
        ["muted", "unwatched", "listener"].map(|name| world.join(name, 0, NEAR));
    let sound = world.publish_audio(muted);
    world.publish_video(unwatched, &SIMULCAST);
    world.connect(listener);
    world.run(secs(12));
    let participant = world.clients[muted].participant.clone();
    world.command(0, Command::SetMuted { participant, track: sound, muted: true });
    for client in [muted, unwatched] {
        world.clients[client].publishers[0].paused = true;
    }
    world.run(secs(60));
    for client in [muted, unwatched, listener] {
        let told = told(&world, client);
        assert_eq!(told.last().map(|(_, quality)| *quality), Some(Excellent));
        assert!(told.iter().all(|(_, quality)| *quality == Excellent), "{client}: {told:?}");
    }
}

#[test]
fn a_newcomer_is_told_of_everyone() {
    let (mut world, ana, ben) = call(407);
    world.run(secs(20));
    let before = [ana, ben].map(|client| told(&world, client).len());
    let cy = world.join("cy", 1, NEAR);
    world.connect(cy);
    world.run(secs(6));
    let after = [ana, ben].map(|client| told(&world, client).len());
    assert_eq!(after, before.map(|times| times + 1));
    assert_eq!(told(&world, cy).len(), 1);
}
