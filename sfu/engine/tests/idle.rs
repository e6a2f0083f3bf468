//! Idle participants and rooms cost nothing: silence, participants that only subscribe, rooms that everyone left.

mod harness;

use std::time::Duration;

use harness::World;
use str0m::format::Codec;

const NEAR: Duration = Duration::from_millis(10);

#[test]
fn silence_does_not_keep_the_shard_awake() {
    let mut world = World::new(80, 1);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 0, NEAR);
    world.publish_audio(ana);
    world.connect(ben);
    world.run(Duration::from_secs(3));
    world.clients[ana].publishers[0].paused = true;
    world.run(Duration::from_secs(5));
    let before = world.wakeups;
    world.run(Duration::from_secs(60));
    let wakeups = world.wakeups - before;
    assert!(wakeups < 60 * 10, "{wakeups} wake-ups in a silent minute");
}

#[test]
fn a_track_that_ended_does_not_keep_the_shard_awake() {
    let mut world = World::new(81, 1);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 0, NEAR);
    let video = world.publish(ana, Codec::Vp8, &[("", 3000)], Duration::from_millis(33), 0);
    world.connect(ben);
    world.run(Duration::from_secs(3));
    let participant = world.clients[ana].participant.clone();
    world.command(0, sfu_protocol::Command::RemoveTrack { participant, track: video });
    world.run(Duration::from_secs(1));
    world.clients[ana].publishers[0].paused = true;
    world.run(Duration::from_secs(4));
    let before = world.wakeups;
    world.run(Duration::from_secs(60));
    let wakeups = world.wakeups - before;
    assert!(wakeups < 60 * 10, "{wakeups} wake-ups in a minute without tracks");
}

#[test]
fn someone_who_only_watches_gets_reports_and_is_measured() {
    let mut world = World::new(82, 1);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 0, NEAR);
    world.publish_video(ana, &[("", 3000)]);
    world.connect(ben);
    world.run(Duration::from_secs(2));
    let before = world.shards[0].stats().sent.rtcp.packets;
    world.run(Duration::from_secs(10));
    let reports = world.shards[0].stats().sent.rtcp.packets - before;
    assert!(reports > 10, "{reports} compound reports in 10 s");
}

#[test]
fn nothing_is_left_of_a_room_that_everybody_left() {
    let mut world = World::new(83, 3);
    for round in 0..3 {
        let names = [format!("ana{round}"), format!("ben{round}"), format!("cy{round}")];
        let clients: Vec<usize> =
            names.iter().enumerate().map(|(shard, name)| world.join(name, shard, NEAR)).collect();
        for client in &clients {
            world.publish_video(*client, &[("", 2000)]);
        }
        world.run(Duration::from_secs(2));
        for client in clients {
            world.leave(client);
        }
        world.run(Duration::from_secs(1));
        for shard in &mut world.shards {
            let stats = shard.stats();
            assert_eq!((stats.rooms, stats.participants, stats.subscriptions), (0, 0, 0), "round {round}");
            assert_eq!(stats.tracks_video, 0);
        }
    }
}
