//! More tracks than a subscriber may have sections for: it is told of those that it does not get, and who speaks is seen.

mod harness;

use std::time::Duration;

use harness::World;
use sfu_engine::limits::Limits;
use sfu_protocol::{Command, Event, MediaKind, SubscriptionFailure, TrackSid};

const NEAR: Duration = Duration::from_millis(10);
const PEOPLE: usize = 6;

/// Six people with a camera and a microphone each, and ben, whose connection has room for three cameras beside all
/// microphones.
fn call(seed: u64) -> (World, usize, Vec<(TrackSid, TrackSid)>) {
    let limits = Limits { media_sections: 3 + PEOPLE + 1, ..Limits::default() };
    let mut world = World::with_limits(seed, 2, &limits);
    world.auto_subscribe = false;
    let mut tracks = Vec::new();
    for number in 0..PEOPLE {
        let person = world.join(&format!("p{number}"), number % 2, NEAR);
        let sound = world.publish_audio(person);
        world.clients[person].publishers[0].loudness = Some(|_| 90);
        tracks.push((sound, world.publish_video(person, &[("", 600)])));
    }
    world.run(Duration::from_secs(2));
    let ben = world.join("ben", 0, NEAR);
    let me = world.clients[ben].participant.clone();
    for kind in [MediaKind::Audio, MediaKind::Video] {
        for (person, (sound, camera)) in tracks.iter().enumerate() {
            let track = if kind == MediaKind::Audio { sound } else { camera };
            let publisher = world.clients[person].participant.clone();
            world.subscribe(&me, &publisher, track, kind);
        }
    }
    // This stack adds a section to each offer in which it has nothing to say, so it has to ask for everything at once.
    world.connect(ben);
    world.run(Duration::from_secs(4));
    (world, ben, tracks)
}

fn refused(world: &World, who: usize) -> Vec<TrackSid> {
    let me = &world.clients[who].participant;
    let failures = world.events.iter().filter_map(|(_, event)| match event {
        Event::SubscriptionFailed { participant, track, reason: SubscriptionFailure::TooManyTracks } => {
            (participant == me).then(|| track.clone())
        }
        _ => None,
    });
    failures.collect()
}

fn sees(world: &World, who: usize, track: &TrackSid) -> bool {
    let from = world.now - Duration::from_secs(1);
    world.clients[who].frames_of(track).iter().any(|frame| frame.at >= from)
}

#[test]
fn who_does_not_fit_is_named_and_the_others_arrive() {
    let (mut world, ben, tracks) = call(1);
    world.run(Duration::from_secs(1));
    let refused = refused(&world, ben);
    let shown: Vec<bool> = tracks.iter().map(|(_, camera)| sees(&world, ben, camera)).collect();
    let missing = tracks.iter().filter(|(_, camera)| refused.contains(camera)).count();
    assert_eq!(shown.iter().filter(|shown| **shown).count(), PEOPLE - missing, "{shown:?}, {refused:?}");
    assert!(
        missing > 0 && tracks.iter().all(|(sound, _)| !refused.contains(sound)),
        "sound comes first: {refused:?} of {tracks:?}"
    );
    let refusals: u64 = world.shards.iter_mut().map(|shard| shard.stats().subscriptions_refused).sum();
    assert!(refusals as usize >= missing);
    // A place becomes free: somebody else has it.
    let gone = shown.iter().position(|shown| *shown).unwrap();
    let before: Vec<_> = tracks.iter().filter(|(_, camera)| !sees(&world, ben, camera)).collect();
    let (participant, track) = (world.clients[ben].participant.clone(), tracks[gone].1.clone());
    world.command(world.clients[ben].shard, Command::Unsubscribe { participant, track });
    assert!(world.run_until(Duration::from_secs(10), |world| {
        before.iter().any(|(_, camera)| sees(world, ben, camera))
    }));
}

#[test]
fn who_speaks_is_seen() {
    let (mut world, ben, tracks) = call(2);
    let hidden =
        tracks.iter().position(|(_, camera)| !sees(&world, ben, camera)).expect("somebody is not seen");
    let speaker = world.clients.iter().position(|client| client.name == format!("p{hidden}")).unwrap();
    world.clients[speaker].publishers[0].loudness = Some(|_| 20);
    let camera = tracks[hidden].1.clone();
    assert!(world.run_until(Duration::from_secs(10), |world| sees(world, ben, &camera)));
    let shown = tracks.iter().filter(|(_, camera)| sees(&world, ben, camera)).count();
    world.run(Duration::from_secs(2));
    assert!(tracks.iter().filter(|(_, camera)| sees(&world, ben, camera)).count() >= shown - 1);
}
