//! Active speakers: what clients are told, and which video a narrow link then carries.

mod harness;

use std::time::Duration;

use harness::World;
use harness::network::Path;
use sfu_engine::limits::Limits;
use sfu_engine::shard::home_of;
use sfu_protocol::{Command, Event, RoomSid, TrackSid};

const NEAR: Duration = Duration::from_millis(10);

/// Audio level of speech: syllables of 180 ms at about -20 dBov, 60 ms between them, and a pause of 300 ms every two
/// seconds.
fn speech(n: u32) -> i8 {
    let pause = n % 100 >= 85;
    if pause || n % 12 >= 9 { 65 } else { 20 + (n % 3) as i8 * 2 }
}

fn silence(_: u32) -> i8 {
    127
}

fn fan(n: u32) -> i8 {
    30 + (n * 7 % 3) as i8
}

/// Publishes an audio track whose n-th packet has the level `loudness(n)`.
fn microphone(world: &mut World, client: usize, loudness: fn(u32) -> i8) -> TrackSid {
    let track = world.publish_audio(client);
    set_loudness(world, client, &track, loudness);
    track
}

fn set_loudness(world: &mut World, client: usize, track: &TrackSid, loudness: fn(u32) -> i8) {
    let mut publishers = world.clients[client].publishers.iter_mut();
    publishers.find(|known| known.track == *track).expect("it publishes that").loudness = Some(loudness);
}

/// Speaker lists sent since `from`, as time since the simulation began and names, loudest first.
fn lists(world: &World, from: Duration) -> Vec<(Duration, Vec<String>)> {
    let told = world.events.iter().filter_map(|(at, event)| match event {
        Event::Speakers { speakers, .. } => {
            assert!(speakers.iter().all(|speaker| speaker.level > 0.0 && speaker.level <= 1.0));
            let eighths = speakers.iter().map(|speaker| speaker.level * 8.0);
            assert!(eighths.clone().all(|level| level == level.round()), "levels are eighths");
            let names = speakers.iter().map(|speaker| speaker.participant.to_string());
            Some((*at - world.start, names.collect()))
        }
        _ => None,
    });
    told.filter(|(at, _)| *at >= from).collect()
}

#[test]
fn the_room_hears_who_speaks_and_when_that_ends_whichever_shards_they_are_on() {
    for shards in [1, 2] {
        let mut world = World::new(300, shards);
        let last = usize::from(shards) - 1;
        let ana = world.join("ana", last, NEAR);
        let ben = world.join("ben", 0, NEAR);
        let cy = world.join("cy", 0, NEAR);
        let voice = microphone(&mut world, ana, silence);
        microphone(&mut world, ben, silence);
        microphone(&mut world, cy, fan);
        world.run(Duration::from_secs(20));
        let began = world.elapsed();
        assert!(lists(&world, Duration::from_secs(15)).is_empty(), "a fan is no speaker");
        set_loudness(&mut world, ana, &voice, speech);
        world.run(Duration::from_secs(20));
        let told = lists(&world, began);
        assert_eq!(told[0].1, ["PA_ana"]);
        let after = told[0].0 - began;
        assert!(after < Duration::from_millis(1000), "told after {after:?}");
        assert!(told.len() <= 5, "a steady speaker is told of {} times in 20 s", told.len());
        let ended = world.elapsed();
        set_loudness(&mut world, ana, &voice, silence);
        world.run(Duration::from_secs(5));
        let told = lists(&world, ended);
        assert_eq!(told.last().map(|(_, names)| names.len()), Some(0), "silence: {told:?}");
        assert!(told.last().is_some_and(|(at, _)| *at < ended + Duration::from_secs(3)));
        let close = |pair: &[(Duration, Vec<String>)]| pair[1].0 - pair[0].0 < Duration::from_millis(400);
        assert!(!lists(&world, Duration::ZERO).windows(2).any(close), "at most one list in 400 ms");
    }
}

#[test]
fn whoever_mutes_or_leaves_or_unpublishes_is_silent_at_once() {
    type End = fn(&mut World, usize, &TrackSid);
    let ends: [End; 3] = [
        |world, client, track| {
            let participant = world.clients[client].participant.clone();
            let command = Command::SetMuted { participant, track: track.clone(), muted: true };
            world.command(1, command);
        },
        |world, client, track| {
            let participant = world.clients[client].participant.clone();
            world.command(1, Command::RemoveTrack { participant, track: track.clone() });
        },
        |world, client, _| world.leave(client),
    ];
    for end in ends {
        let mut world = World::new(301, 2);
        let ana = world.join("ana", 1, NEAR);
        let ben = world.join("ben", 0, NEAR);
        world.connect(ben);
        let voice = microphone(&mut world, ana, |_| 15);
        world.run(Duration::from_secs(3));
        assert_eq!(lists(&world, Duration::ZERO).last().map(|(_, names)| names.len()), Some(1));
        let ended = world.elapsed();
        end(&mut world, ana, &voice);
        world.run(Duration::from_secs(3));
        let told = lists(&world, ended);
        assert_eq!(told.len(), 1, "{told:?}");
        let after = told[0].0 - ended;
        assert!(told[0].1.is_empty() && after < Duration::from_millis(1000), "after {after:?}: {told:?}");
    }
}

#[test]
fn a_newcomer_hears_who_speaks() {
    let mut world = World::new(302, 2);
    let ana = world.join("ana", 1, NEAR);
    microphone(&mut world, ana, speech);
    let ben = world.join("ben", 0, NEAR);
    world.connect(ben);
    world.run(Duration::from_secs(10));
    let joined = world.elapsed();
    world.join("cy", 1, NEAR);
    assert_eq!(lists(&world, joined).first().map(|(_, names)| names.len()), Some(1));
}

#[test]
fn the_sound_of_a_screen_is_nobodys_voice() {
    let mut world = World::new(303, 1);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 0, NEAR);
    world.connect(ben);
    world.screen_share = true;
    microphone(&mut world, ana, speech);
    world.run(Duration::from_secs(5));
    assert!(lists(&world, Duration::ZERO).is_empty());
}

#[test]
fn on_a_narrow_link_the_speakers_picture_is_the_one_that_stays() {
    let home = usize::from(home_of(&RoomSid::new(harness::ROOM), 2).0);
    let mut world = World::with_limits(304, 2, &Limits::default());
    // The publishers are on the room's home shard, the subscriber is on the other shard.
    let names = ["ana", "ben", "cy"];
    let publishers = names.map(|name| world.join(name, home, NEAR));
    let dan = world.join("dan", 1 - home, NEAR);
    let videos =
        publishers.map(|client| world.publish_video(client, &[("q", 1500), ("h", 3000), ("f", 6000)]));
    let voices = publishers.map(|client| microphone(&mut world, client, silence));
    world.connect(dan);
    world.links[dan].1 = Path::with_rate(NEAR, 1200);
    world.run(Duration::from_secs(15));
    // Three layers of 390 kbit/s do not fit beside the audio. Which of them is sent must follow the active speaker.
    for speaker in [2, 0, 1, 2] {
        for (client, voice) in publishers.iter().zip(&voices) {
            let loudness = if *client == publishers[speaker] { speech } else { silence };
            set_loudness(&mut world, *client, voice, loudness);
        }
        world.run(Duration::from_secs(10));
        let before = world.clients[dan].frames_of(&videos[speaker]).len();
        world.run(Duration::from_secs(10));
        let frames = world.clients[dan].frames_of(&videos[speaker]).len() - before;
        assert!(frames > 250, "{frames} pictures of {} in 10 s", names[speaker]);
    }
}
