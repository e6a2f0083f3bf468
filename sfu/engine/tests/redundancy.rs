//! Redundant audio (RED, RFC 2198): which receivers get it and which must not, and the effects of a redundant publisher
//! and of pauses in speech.

mod harness;

use std::time::Duration;

use harness::network::Path;
use harness::raw::person::{Publish, Setup};
use harness::raw::{RawWorld, announced};
use sfu_engine::rtp::extension::EndToEndExtensions;
use sfu_protocol::MediaKind;

const SOUND: &str = "TR_AMana";
const NEAR: Duration = Duration::from_millis(20);

fn sound(redundancy: usize, encrypted: bool) -> Publish {
    let mut announced = announced(SOUND, MediaKind::Audio, "opus");
    announced.encrypted = encrypted;
    Publish { announced, redundancy, frame_bytes: vec![100], extensions: EndToEndExtensions::default() }
}

/// Ana publishes; Ben accepts RED, Cy does not. All are connected, over links without loss.
fn three(seed: u64, publish: Publish) -> RawWorld {
    let mut world = RawWorld::new(seed, 2);
    let ana = Setup { name: "ana", publishes: vec![publish], nack: true, ..Setup::default() };
    world.join(ana, Path::with_delay(NEAR));
    world.run(Duration::from_millis(500));
    for (name, shard, red) in [("ben", 0, true), ("cy", 1, false)] {
        let setup = Setup { name, shard, audios: 1, red, nack: true, ..Setup::default() };
        world.join(setup, Path::with_delay(NEAR));
    }
    world.run(Duration::from_millis(500));
    for who in [1, 2] {
        world.subscribe(who, 0, SOUND, MediaKind::Audio);
    }
    world.run(Duration::from_secs(1));
    world
}

fn lossy(loss: f64) -> Path {
    Path { loss, ..Path::with_delay(NEAR) }
}

#[test]
fn who_loses_much_and_takes_redundancy_gets_it_and_nobody_else() {
    let mut world = three(1, sound(0, false));
    for link in &mut world.links[1..] {
        link.1 = lossy(0.15);
    }
    world.run(Duration::from_secs(20));
    let [ben, cy] = [1, 2].map(|who| world.people[who].sounds[0].by_redundancy);
    assert!(ben[2] > 700, "two frames repeated in most packets: {ben:?}");
    assert_eq!(cy[1..], [0; 3], "not agreed");
    // The link is good again, so redundancy is no longer needed.
    world.links[1].1 = Path::with_delay(NEAR);
    world.run(Duration::from_secs(40));
    let before = world.people[1].sounds[0].by_redundancy;
    world.run(Duration::from_secs(5));
    let after = world.people[1].sounds[0].by_redundancy;
    assert_eq!(before[1..], after[1..], "plain again");
    for who in [1, 2] {
        assert_eq!(world.people[who].sounds[0].broken, 0, "every byte and every time stamp");
    }
}

#[test]
fn what_is_encrypted_end_to_end_is_never_repeated() {
    let mut world = three(2, sound(0, true));
    for link in &mut world.links[1..] {
        link.1 = lossy(0.2);
    }
    world.run(Duration::from_secs(20));
    let ben = &world.people[1].sounds[0];
    assert!(ben.by_redundancy[0] > 900 && ben.broken == 0);
    assert_eq!(ben.by_redundancy[1..], [0; 3]);
}

#[test]
fn a_publishers_redundancy_goes_to_those_who_take_it_and_repairs_for_the_others() {
    let mut world = three(3, sound(1, false));
    let passed_on = world.people[1].sounds[0].by_redundancy;
    assert!(passed_on[1] > 30 && passed_on[0] <= 2, "{passed_on:?}");
    let plain = world.people[2].sounds[0].by_redundancy;
    assert!(plain[0] > 30 && plain[1..] == [0; 3], "{plain:?}");
    // A tenth of Ana's packets is lost. The server does not request frames that the next packet repeats.
    world.links[0].0 = lossy(0.1);
    let asked = world.shards[0].stats().nacks_sent;
    world.run(Duration::from_secs(20));
    let asked = world.shards[0].stats().nacks_sent - asked;
    assert!(asked < 60, "{asked} packets asked for of about a hundred that were lost");
    for who in [1, 2] {
        let heard = &world.people[who].sounds[0];
        assert_eq!(heard.broken, 0);
        let numbers: Vec<u32> = heard.frames.keys().copied().collect();
        let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
        let missing = (last - first + 1) as usize - numbers.len();
        assert!(missing <= 3, "person {who} misses {missing} of {}", last - first + 1);
    }
    let worst = world.people[0].reports.iter().map(|block| block.fraction_lost).max();
    assert!(worst.is_some_and(|worst| worst > 10), "Ana is told of her loss: {worst:?}");
}

#[test]
fn pauses_in_speech_pass_through() {
    let mut world = three(4, sound(0, false));
    for link in &mut world.links[1..] {
        link.1 = lossy(0.1);
    }
    world.run(Duration::from_secs(5));
    // One packet every 400 ms, as Opus sends without speech (DTX). A RED block header cannot express so large an
    // offset.
    world.people[0].sending[0].sparse = Some((20, 1));
    world.run(Duration::from_secs(1));
    let redundant = world.people[1].sounds[0].by_redundancy;
    let number = world.people[0].sending[0].frames;
    world.run(Duration::from_secs(40));
    let after = world.people[1].sounds[0].by_redundancy;
    assert_eq!(redundant[1..], after[1..], "nothing to repeat");
    for who in [1, 2] {
        let heard = world.people[who].sounds[0].frames.range(number..).count();
        assert!((85..=101).contains(&heard), "person {who}: {heard} of 100");
    }
    assert!(world.people[0].connected.is_some());
    // Speech resumes, and is received at once.
    world.people[0].sending[0].sparse = None;
    let number = world.people[0].sending[0].frames;
    world.run(Duration::from_secs(1));
    assert!(world.people[2].sounds[0].frames.range(number..).count() >= 42);
}
