//! Initial sequence numbers, and streams whose sequence numbers wrap before any packet has arrived. SRTP's rollover
//! counter is not transmitted: a receiver guesses it from the first packet that it sees (RFC 3711 section 3.3.1).

mod harness;

use std::time::Duration;

use harness::network::Path;
use harness::raw::person::{Publish, Setup};
use harness::raw::{RawWorld, announced};
use sfu_engine::rtp::extension::EndToEndExtensions;
use sfu_engine::stats::Drop;
use sfu_engine::units::ExtendedSequence;
use sfu_protocol::MediaKind;

const SOUND: &str = "TR_AMana";
const PICTURE: &str = "TR_VCana";
const NEAR: Duration = Duration::from_millis(20);

fn publish(track: &str, kind: MediaKind, codec: &str, redundancy: usize, frame_bytes: usize) -> Publish {
    let announced = announced(track, kind, codec);
    Publish {
        announced,
        redundancy,
        frame_bytes: vec![frame_bytes],
        extensions: EndToEndExtensions::default(),
    }
}

/// Ana publishes audio and video, but has not begun to send; Ben receives both.
fn two(seed: u64) -> RawWorld {
    let mut world = RawWorld::new(seed, 1);
    let publishes = vec![
        publish(SOUND, MediaKind::Audio, "opus", (seed % 3) as usize, 100),
        publish(PICTURE, MediaKind::Video, "vp8", 0, 3000),
    ];
    let ana = Setup { name: "ana", publishes, nack: true, ..Setup::default() };
    world.join(ana, Path::with_delay(NEAR));
    for sending in &mut world.people[0].sending {
        sending.paused = true;
    }
    let ben = Setup { name: "ben", audios: 1, videos: 1, nack: true, red: true, ..Setup::default() };
    world.join(ben, Path::with_delay(NEAR));
    world.run(Duration::from_millis(500));
    world.subscribe(1, 0, SOUND, MediaKind::Audio);
    world.subscribe(1, 0, PICTURE, MediaKind::Video);
    world.run(Duration::from_millis(500));
    world
}

fn begin(world: &mut RawWorld) {
    for sending in &mut world.people[0].sending {
        sending.paused = false;
    }
}

/// A receiver that misses the first packets must not miss a wrap-around with them.
#[test]
fn what_is_sent_begins_in_the_lower_half_of_the_numbers_retransmissions_too() {
    for seed in 0..24 {
        let mut world = two(seed);
        begin(&mut world);
        world.run(Duration::from_millis(200));
        world.links[1].1.loss = 0.2;
        world.run(Duration::from_secs(1));
        let ben = &world.people[1];
        let (sound, picture) = (ben.sounds[0].ssrc, &ben.pictures[0]);
        for (stream, ssrc) in [("sound", sound), ("picture", picture.ssrc), ("repair", picture.repair)] {
            let first = ben.first_numbers.get(&ssrc).unwrap_or_else(|| panic!("seed {seed}: no {stream}"));
            // Packets before the first that arrived may have been lost.
            assert!(*first < (1 << 15) + 500, "seed {seed}: {stream} begins with {first}");
        }
    }
}

/// Publishers may start with any sequence number, and the first packets may be lost.
#[test]
fn a_publisher_whose_numbers_wrap_before_anything_has_arrived_is_heard() {
    for seed in 0..24_u16 {
        let mut world = two(u64::from(seed));
        for sending in &mut world.people[0].sending {
            sending.sequence = ExtendedSequence::first(u16::MAX - seed % 8);
            sending.repair_sequence = ExtendedSequence::first(u16::MAX - seed % 5);
        }
        let ana = &mut world.links[0].0;
        (ana.loss, ana.reorder, ana.hold) = (1.0, 0.1, Duration::from_millis(30));
        begin(&mut world);
        world.run(Duration::from_millis(u64::from(seed) * 10));
        world.links[0].0.loss = 0.3;
        world.run(Duration::from_secs(3));
        world.links[0].0.loss = 0.0;
        let before = (world.people[1].sounds[0].frames.len(), world.people[1].pictures[0].shown.len());
        world.run(Duration::from_secs(3));
        let after = (world.people[1].sounds[0].frames.len(), world.people[1].pictures[0].shown.len());
        assert_eq!(
            world.shards[0].stats().dropped(Drop::BadAuthentication),
            0,
            "seed {seed}: all can be read"
        );
        assert!(after.0 - before.0 > 140, "seed {seed}: {before:?} {after:?} frames of sound");
        assert!(after.1 - before.1 > 80, "seed {seed}: {before:?} {after:?} pictures");
    }
}
