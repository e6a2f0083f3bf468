//! More tracks than a subscriber has sections for. The subscriber is told which tracks it does not get, and the active
//! speaker is always shown.

mod harness;

use std::time::Duration;

use harness::World;
use sfu_engine::limits::Limits;
use sfu_protocol::{Command, Event, MediaKind, SubscriptionFailure, TrackSid};

const NEAR: Duration = Duration::from_millis(10);
const PEOPLE: usize = 6;
/// Number of cameras that ben's connection has sections for.
const SEATS: usize = 3;

/// Participants with a camera and a microphone each, and ben, whose connection has sections for all microphones and a
/// few cameras.
fn call(seed: u64) -> (World, usize, Vec<(TrackSid, TrackSid)>) {
    let limits = Limits { media_sections: SEATS + PEOPLE + 1, ..Limits::default() };
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
    world.clients[ben].receives_again = true;
    let me = world.clients[ben].participant.clone();
    for kind in [MediaKind::Audio, MediaKind::Video] {
        for (person, (sound, camera)) in tracks.iter().enumerate() {
            let track = if kind == MediaKind::Audio { sound } else { camera };
            let publisher = world.clients[person].participant.clone();
            world.subscribe(&me, &publisher, track, kind);
        }
    }
    // This stack adds an unused section to each offer that changes nothing, so ben subscribes to everything before
    // offering.
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

/// Video tracks sent to ben, as the server states. Ben's stack decodes nothing in a section that is reused for another
/// source.
fn is_sent(world: &World, ben: usize) -> Vec<TrackSid> {
    let client = &world.clients[ben];
    let inspection = world.shards[client.shard].inspect(&client.participant, world.now).expect("ben is here");
    let sent = inspection.subscriptions.into_iter();
    let sent = sent.filter(|state| state.kind == MediaKind::Video && state.current.is_some());
    sent.map(|state| state.track).collect()
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
    assert_eq!((shown.iter().filter(|shown| **shown).count(), missing), (SEATS, PEOPLE - SEATS), "{shown:?}");
    assert!(
        tracks.iter().all(|(sound, _)| !refused.contains(sound)),
        "sound comes first: {refused:?} of {tracks:?}"
    );
    let refusals: u64 = world.shards.iter_mut().map(|shard| shard.stats().subscriptions_refused).sum();
    assert!(refusals as usize >= missing);
    // A section becomes free and is used for another camera.
    let gone = shown.iter().position(|shown| *shown).unwrap();
    let (participant, track) = (world.clients[ben].participant.clone(), tracks[gone].1.clone());
    world.command(world.clients[ben].shard, Command::Unsubscribe { participant, track });
    world.run(Duration::from_secs(2));
    let sent = is_sent(&world, ben);
    assert!(sent.len() == SEATS && !sent.contains(&tracks[gone].1), "{sent:?}");
}

#[test]
fn who_speaks_is_seen() {
    let (mut world, ben, tracks) = call(2);
    let hidden =
        tracks.iter().position(|(_, camera)| !sees(&world, ben, camera)).expect("somebody is not seen");
    let speaker = world.clients.iter().position(|client| client.name == format!("p{hidden}")).unwrap();
    world.clients[speaker].publishers[0].loudness = Some(|_| 20);
    let camera = tracks[hidden].1.clone();
    world.run(Duration::from_secs(3));
    let sent = is_sent(&world, ben);
    assert!(sent.len() == SEATS && sent.contains(&camera), "{sent:?}");
}
