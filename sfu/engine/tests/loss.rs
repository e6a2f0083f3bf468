//! Lost, duplicated and reordered packets have no visible effect.

mod harness;

use std::time::Duration;

use harness::World;
use harness::network::Path;
use str0m::format::Codec;

/// Publishes 60 s of video over bad links, and checks that frames arrive intact and in order. Returns the number of
/// frames that did not arrive.
fn frames_missing(seed: u64, shards: u16, link: Path, time_offset: u64) -> usize {
    let mut world = World::new(seed, shards);
    let ana = world.join("ana", 0, link.delay);
    let ben = world.join("ben", usize::from(shards) - 1, link.delay);
    let video = world.publish(ana, Codec::Vp8, &[("", 4000)], Duration::from_micros(33_333), time_offset);
    world.connect(ben);
    world.run(Duration::from_secs(3));
    world.links[ana] = (link, link);
    world.links[ben] = (link, link);
    let requests_before = world.clients[ana].key_frame_requests.len();
    let first = world.clients[ana].publishers[0].frames;
    let last = first + 60 * 30;
    // The loss of the very last packet cannot be detected, so the stream continues a little longer.
    world.clients[ana].publishers[0].limit = last + 10;
    world.run(Duration::from_secs(65));
    let frames = world.clients[ben].frames_of(&video);
    let numbers: Vec<u32> =
        frames.iter().map(|frame| frame.number).filter(|number| (first..last).contains(number)).collect();
    let missing: Vec<u32> = (first..last).filter(|number| !numbers.contains(number)).collect();
    println!("frames that never came, of {first} to {last}: {missing:?}");
    assert!(numbers.is_sorted() && numbers.len() + missing.len() == 1800, "each once, in order");
    assert!(frames.iter().all(|frame| frame.intact), "every byte");
    let requests = world.clients[ana].key_frame_requests.len() - requests_before;
    assert!(requests <= 1, "{requests} key-frame requests");
    missing.len()
}

#[test]
fn ten_percent_loss_and_fifty_milliseconds_each_way() {
    // str0m requests a packet five times at most. A tenth of the requests is lost, so it gives up on about one packet
    // in a million, whatever the server does. A run has nine thousand packets, and there are ten runs. All other frames
    // must arrive.
    let link = Path { loss: 0.1, ..Path::with_delay(Duration::from_millis(50)) };
    let missing: usize = (10..20).map(|seed| frames_missing(seed, 1, link, 0)).sum();
    assert!(missing <= 3, "{missing} of 18,000 frames never came");
}

#[test]
fn duplicates_and_reordering_by_twenty() {
    // At 30 frames of five packets per second, a packet held back for 150 ms falls behind about twenty others.
    let link = Path {
        duplicate: 0.1,
        reorder: 0.05,
        hold: Duration::from_millis(150),
        ..Path::with_delay(Duration::from_millis(20))
    };
    assert_eq!(frames_missing(20, 2, link, 0), 0);
}

#[test]
fn sequence_numbers_and_timestamps_wrap() {
    // Timestamps wrap after 30 s. 60 s at 30 frames of five packets take 9,000 sequence numbers, which start at random,
    // so whether these wrap depends on the start.
    let link = Path { loss: 0.02, ..Path::with_delay(Duration::from_millis(20)) };
    assert_eq!(frames_missing(30, 1, link, u64::from(u32::MAX) - 33 * 90_000), 0);
}
