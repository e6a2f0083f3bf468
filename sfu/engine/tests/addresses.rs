//! Addresses that NATs reassign from one client to another, and forged source addresses.

mod harness;

use std::net::SocketAddr;
use std::time::Duration;

use harness::World;
use harness::network::Path;
use harness::raw::person::{Publish, Setup};
use harness::raw::{RawWorld, announced};
use sfu_engine::rtp::extension::EndToEndExtensions;
use sfu_engine::stats::Drop;
use sfu_protocol::{Event, MediaKind, TrackSid};

const NEAR: Duration = Duration::from_millis(10);

/// The client's stack sends a connectivity check at least every 3 s. Datagrams to an old address are lost until then.
const BETWEEN_CHECKS: Duration = Duration::from_millis(3100);

fn port(number: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], number))
}

/// Longest time between two frames of a track, from `from` on.
fn longest_gap(world: &World, client: usize, video: &TrackSid, from: Duration) -> Duration {
    let frames = world.clients[client].frames_of(video);
    let arrivals = frames.iter().map(|frame| frame.at).filter(|at| *at >= world.start + from);
    let mut last = world.start + from;
    let mut longest = Duration::ZERO;
    for at in arrivals.chain([world.now]) {
        longest = longest.max(at - last);
        last = at;
    }
    longest
}

/// Ben subscribes; ana publishes from port 1 of a NAT.
fn one_behind_a_nat(seed: u64) -> (World, usize, usize, TrackSid) {
    let mut world = World::new(seed, 1);
    let ben = world.join("ben", 0, NEAR);
    world.connect(ben);
    let ana = world.join("ana", 0, NEAR);
    world.map_to(ana, port(1));
    let video = world.publish_video(ana, &[("", 3000)]);
    world.run(Duration::from_secs(3));
    assert!(world.clients[ben].frames_of(&video).len() > 50);
    (world, ben, ana, video)
}

#[test]
fn a_port_that_passes_to_a_newcomer_serves_both_at_once() {
    let (mut world, ben, ana, anas) = one_behind_a_nat(1);
    let passed = world.elapsed();
    world.map_to(ana, port(2));
    let cleo = world.join("cleo", 0, NEAR);
    world.map_to(cleo, port(1));
    let cleos = world.publish_video(cleo, &[("", 3000)]);
    let heard =
        world.run_until(Duration::from_secs(1), |world| world.clients[ben].frames_of(&cleos).len() > 3);
    assert!(heard, "the newcomer is seen within a second, whatever the owner of before does");
    world.run(Duration::from_secs(20));
    let ana_silent = longest_gap(&world, ben, &anas, passed);
    assert!(ana_silent < BETWEEN_CHECKS, "ana is seen again with her next check: {ana_silent:?}");
    let cleo_silent = longest_gap(&world, ben, &cleos, passed + Duration::from_secs(1));
    assert!(cleo_silent < Duration::from_millis(100), "{cleo_silent:?}");
    let watched = longest_gap(&world, cleo, &anas, passed + BETWEEN_CHECKS + Duration::from_millis(200));
    assert!(watched < Duration::from_millis(100), "the newcomer watches: {watched:?}");
    assert_eq!(world.shards[0].stats().dropped(Drop::AddressInUse), 0);
}

#[test]
fn two_callers_whose_ports_change_places_are_served_at_once() {
    let (mut world, ben, ana, anas) = one_behind_a_nat(2);
    let cleo = world.join("cleo", 0, NEAR);
    world.map_to(cleo, port(2));
    let cleos = world.publish_video(cleo, &[("", 3000)]);
    world.run(Duration::from_secs(3));
    for turn in 0..4_u16 {
        let changed = world.elapsed();
        world.map_to(ana, port(2 - turn % 2));
        world.map_to(cleo, port(1 + turn % 2));
        world.run(Duration::from_secs(5));
        for (who, video) in [("ana", &anas), ("cleo", &cleos)] {
            let silent = longest_gap(&world, ben, video, changed);
            assert!(silent < BETWEEN_CHECKS, "turn {turn}: {who} was silent for {silent:?}");
        }
        for (client, video) in [(cleo, &anas), (ana, &cleos)] {
            let watched = longest_gap(&world, client, video, changed);
            // Lost packets have to be retransmitted first.
            assert!(watched < BETWEEN_CHECKS + Duration::from_millis(700), "turn {turn}: {watched:?}");
        }
    }
}

#[test]
fn the_port_of_somebody_who_is_gone_without_a_word_serves_the_next_at_once() {
    let (mut world, ben, ana, _) = one_behind_a_nat(3);
    world.links[ana].0.loss = 1.0;
    let cleo = world.join("cleo", 0, NEAR);
    world.map_to(cleo, port(1));
    let cleos = world.publish_video(cleo, &[("", 3000)]);
    let begun = world.elapsed();
    assert!(world.run_until(Duration::from_secs(1), |world| world.clients[ben].frames_of(&cleos).len() > 3));
    // The vanished client is ended by its timeout, which does not affect the client that has its address now.
    world.run(Duration::from_secs(20));
    let ended: Vec<_> =
        world.events.iter().filter(|(_, event)| matches!(event, Event::Ended { .. })).collect();
    assert_eq!(ended.len(), 1, "{ended:?}");
    let silent = longest_gap(&world, ben, &cleos, begun + Duration::from_secs(1));
    assert!(silent < Duration::from_millis(100), "{silent:?}");
}

/// Mallory has valid credentials and sends all datagrams with ana's source address.
#[test]
fn nobody_takes_an_address_from_its_owner() {
    let mut world = World::new(4, 1);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 0, NEAR);
    let mallory = world.join("mallory", 0, NEAR);
    let anas = world.publish_video(ana, &[("", 3000)]);
    world.connect(ben);
    let mallorys = world.publish_video(mallory, &[("", 3000)]);
    world.run(Duration::from_secs(2));
    let forged = world.elapsed();
    world.clients[mallory].appears_from = world.clients[ana].address;
    world.run(Duration::from_secs(20));
    for frames in [world.clients[ben].frames_of(&anas), world.clients[mallory].frames_of(&anas)] {
        assert!(frames.iter().all(|frame| frame.intact && frame.contiguous), "ana is seen as before");
    }
    let silent = longest_gap(&world, ben, &anas, forged);
    assert!(silent < Duration::from_millis(100), "ana is seen as before: {silent:?}");
    let frames = world.clients[ben].frames_of(&mallorys);
    assert!(
        frames.len() > 50 && frames.iter().all(|frame| frame.intact),
        "what she sends is hers, wherever it comes from"
    );
    let watched = longest_gap(&world, ana, &mallorys, forged);
    assert!(watched < Duration::from_secs(4), "ana watches as before: {watched:?}");
}

/// Clients that validated an address first keep it, however many others try. Room for another client becomes free when
/// one leaves.
#[test]
fn an_address_is_shared_by_a_few_and_those_who_came_first_keep_it() {
    let (mut world, ben, _, anas) = one_behind_a_nat(5);
    let forged = world.elapsed();
    for name in ["m1", "m2", "m3", "m4", "m5"] {
        let mallory = world.join(name, 0, NEAR);
        world.connect(mallory);
        world.run(Duration::from_secs(1));
        world.clients[mallory].appears_from = port(1);
    }
    world.run(Duration::from_secs(20));
    let silent = longest_gap(&world, ben, &anas, forged);
    assert!(silent < Duration::from_millis(100), "ana is seen as before: {silent:?}");
    assert!(world.shards[0].stats().dropped(Drop::AddressInUse) > 2, "some were refused");
}

fn picture() -> Publish {
    let announced = announced("TR_VCana", MediaKind::Video, "vp8");
    Publish { announced, redundancy: 0, frame_bytes: vec![3000], extensions: EndToEndExtensions::default() }
}

/// Firefox and pion nominate a path only once. When their NAT assigns another port, they do not notice.
#[test]
fn media_follows_a_client_that_names_its_path_once() {
    let mut world = RawWorld::new(6, 1);
    let ana = Setup { name: "ana", publishes: vec![picture()], ..Setup::default() };
    world.join(ana, Path::with_delay(NEAR));
    world.join(Setup { name: "ben", videos: 1, ..Setup::default() }, Path::with_delay(NEAR));
    world.people[1].nominates_once = true;
    world.run(Duration::from_millis(500));
    world.subscribe(1, 0, "TR_VCana", MediaKind::Video);
    world.run(Duration::from_secs(3));
    world.people[1].address = port(9);
    world.run(Duration::from_secs(6));
    let before = world.people[1].pictures[0].shown.len();
    world.run(Duration::from_secs(2));
    let after = world.people[1].pictures[0].shown.len();
    assert!(after - before > 50, "{before} {after}");
}
