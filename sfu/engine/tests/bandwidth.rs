//! What a subscriber receives over a link that cannot carry everything.

mod harness;

use std::time::{Duration, Instant};

use harness::World;
use harness::network::Path;
use sfu_protocol::inspect::Decision;
use sfu_protocol::{Event, Layer, TrackSid};

/// Frame sizes in bytes that give 0.12, 0.48 and 1.7 Mbit/s at 30 frames per second.
const LAYERS: [(&str, usize); 3] = [("q", 500), ("h", 2000), ("f", 7000)];
const HALF_RTT: Duration = Duration::from_millis(25);

/// A publisher of three layers that has run for a while, and a subscriber that joins over `link`.
fn joined(seed: u64, link: Path) -> (World, usize, TrackSid, usize) {
    let mut world = World::new(seed, 1);
    let ana = world.join("ana", 0, HALF_RTT);
    let video = world.publish_video(ana, &LAYERS);
    world.run(Duration::from_secs(5));
    let ben = world.join("ben", 0, HALF_RTT);
    world.links[ben].1 = link;
    world.connect(ben);
    assert!(world.run_until(Duration::from_secs(3), |world| world.clients[ben].connected.is_some()));
    (world, ben, video, ana)
}

/// Prints the logged decisions if TRACE is set.
fn trace(world: &World, client: usize, from: Instant) {
    if std::env::var_os("TRACE").is_none() {
        return;
    }
    let seen = world.shards[0].inspect(&world.clients[client].participant, world.now).expect("here");
    for decided in seen.decisions {
        println!("{} {:?}", (world.now - from).as_millis() as i64 - decided.ms_ago as i64, decided.what);
    }
}

#[test]
fn an_open_link_has_a_picture_at_once_and_the_top_layer_soon() {
    for seed in 0..10 {
        let (mut world, ben, video, _) = joined(seed, Path::with_rate(HALF_RTT, 10_000));
        let connected = world.clients[ben].connected.expect("connected");
        world.run(Duration::from_secs(5));
        let frames = world.clients[ben].frames_of(&video);
        let first = frames.first().expect("a picture").at - connected;
        let top = frames.iter().find(|frame| frame.layer == 2).map(|frame| frame.at - connected);
        println!("first picture {first:?}, top layer {top:?}");
        assert!(first <= Duration::from_millis(400), "{first:?}");
        assert!(top.is_some_and(|top| top <= Duration::from_secs(1)), "{top:?}");
        assert!(frames.iter().all(|frame| frame.intact), "nothing was lost by the climb");
    }
}

#[test]
fn a_narrow_link_has_a_picture_as_soon_and_is_not_flooded() {
    for seed in 0..10 {
        let (mut world, ben, video, _) = joined(seed, Path::with_rate(HALF_RTT, 600));
        let connected = world.clients[ben].connected.expect("connected");
        world.run(Duration::from_secs(10));
        let frames = world.clients[ben].frames_of(&video);
        let first = frames.first().expect("a picture").at - connected;
        assert!(first <= Duration::from_millis(400), "{first:?}");
        let gaps = frames.windows(2).map(|pair| pair[1].at - pair[0].at);
        let longest = gaps.max().expect("frames");
        println!("first picture {first:?}, longest gap {longest:?}");
        assert!(longest <= Duration::from_millis(500), "{longest:?}");
        let lately = world.layers_lately(ben, &video, Duration::from_secs(3));
        assert!(lately.len() > 80 && lately.iter().all(|layer| *layer <= 1), "{lately:?}");
    }
}

#[test]
fn a_link_that_narrows_gets_less_and_more_again_when_it_widens() {
    for seed in 0..5 {
        let (mut world, ben, video, _) = joined(seed, Path::with_rate(HALF_RTT, 3_000));
        world.run(Duration::from_secs(15));
        let before = world.layers_lately(ben, &video, Duration::from_secs(1));
        assert!(before.iter().all(|layer| *layer == 2), "{before:?}");
        world.links[ben].1 = Path::with_rate(HALF_RTT, 400);
        world.run(Duration::from_secs(6));
        let narrow = world.layers_lately(ben, &video, Duration::from_secs(2));
        assert!(narrow.len() > 50 && narrow.iter().all(|layer| *layer == 0), "{narrow:?}");
        world.links[ben].1 = Path::with_rate(HALF_RTT, 3_000);
        let top = |world: &World| world.layers_lately(ben, &video, Duration::from_millis(50)).contains(&2);
        let from = world.now;
        let again = world.run_until(Duration::from_secs(15), top);
        trace(&world, ben, from);
        assert!(again, "the top layer again");
        println!("top layer again after {:?}", world.now - from);
    }
}

#[test]
fn a_link_too_narrow_for_any_picture_keeps_the_sound_and_says_so() {
    let mut world = World::new(3, 1);
    let ana = world.join("ana", 0, HALF_RTT);
    let video = world.publish_video(ana, &[("", 4000)]);
    let audio = world.publish_audio(ana);
    world.run(Duration::from_secs(3));
    let ben = world.join("ben", 0, HALF_RTT);
    world.links[ben].1 = Path::with_rate(HALF_RTT, 250);
    world.connect(ben);
    world.run(Duration::from_secs(20));
    let paused = world
        .events
        .iter()
        .any(|(_, event)| matches!(event, Event::StreamState { track, paused: true, .. } if *track == video));
    assert!(paused, "the subscriber is told");
    let from = world.now - Duration::from_secs(5);
    let heard = world.clients[ben].frames_of(&audio).iter().filter(|frame| frame.at >= from).count();
    assert!(heard > 245, "{heard} of 250 packets of sound");
}

#[test]
fn a_publisher_is_told_what_is_wanted() {
    let (mut world, ben, video, _) = joined(7, Path::with_rate(HALF_RTT, 10_000));
    world.run(Duration::from_secs(5));
    let wanted = |world: &World| {
        let told = world.events.iter().rev().find_map(|(_, event)| match event {
            Event::SubscribedQuality { track, codecs, .. } if *track == video => Some(codecs[0].highest),
            _ => None,
        });
        told.expect("told")
    };
    assert_eq!(wanted(&world), Some(sfu_protocol::LayerQuality::High));
    let small = sfu_protocol::TrackDemand { width: 300, height: 170, ..Default::default() };
    world.set_demand(ben, &video, small);
    world.run(Duration::from_millis(500));
    assert_eq!(wanted(&world), Some(sfu_protocol::LayerQuality::Low));
    world.leave(ben);
    world.run(Duration::from_millis(500));
    assert_eq!(wanted(&world), None);
}

#[test]
fn a_client_that_knows_no_reports_gets_what_it_asks_for() {
    // The second client negotiates REMB, but has received nothing yet and so sent no REMB. The third would send
    // feedback, but has no RTX, without which its packets get no transport-wide sequence numbers.
    for without in [
        &["transport-wide-cc", "transport-cc", "goog-remb"][..],
        &["transport-wide-cc", "transport-cc"],
        &["rtx/90000", " apt="],
    ] {
        let mut world = World::new(8, 1);
        let ana = world.join("ana", 0, HALF_RTT);
        // 2.5 Mbit/s is more than the server sends before it has feedback.
        let video = world.publish_video(ana, &[("", 10_400)]);
        world.run(Duration::from_secs(2));
        let ben = world.join("ben", 0, HALF_RTT);
        world.clients[ben].offers_without = without;
        world.connect(ben);
        world.run(Duration::from_secs(6));
        let lately = world.layers_lately(ben, &video, Duration::from_secs(3));
        assert!(lately.len() > 85, "{} frames of 90, {without:?}", lately.len());
    }
}

/// Frame sizes that give 0.16, 0.45 and 1.7 Mbit/s at 30 frames per second, as browsers send for 720p.
const USUAL: [(&str, usize); 3] = [("q", 667), ("h", 1875), ("f", 7083)];

/// A subscriber to audio and three layers, whose link has had room for all of it for a while.
fn settled(seed: u64) -> (World, usize, TrackSid) {
    settled_over(seed, 3_000)
}

/// Like [`settled`], over a link of `kbps`.
fn settled_over(seed: u64, kbps: u64) -> (World, usize, TrackSid) {
    settled_with(seed, kbps, &USUAL)
}

/// Like [`settled_over`], with these layers.
fn settled_with(seed: u64, kbps: u64, layers: &[(&'static str, usize)]) -> (World, usize, TrackSid) {
    let mut world = World::new(seed, 1);
    let ana = world.join("ana", 0, HALF_RTT);
    let video = world.publish_video(ana, layers);
    world.publish_audio(ana);
    world.run(Duration::from_secs(2));
    let ben = world.join("ben", 0, HALF_RTT);
    world.links[ben].1 = Path::with_rate(HALF_RTT, kbps);
    world.connect(ben);
    world.run(Duration::from_secs(10));
    let before = world.layers_lately(ben, &video, Duration::from_secs(1));
    trace(&world, ben, world.now);
    let top = layers.len() - 1;
    assert!(before.len() > 25 && before.iter().all(|layer| usize::from(*layer) == top), "{before:?}");
    (world, ben, video)
}

/// Total time of frozen video between two times: the sum of all gaps longer than 200 ms.
fn still(world: &World, client: usize, video: &TrackSid, from: Instant, to: Instant) -> Duration {
    let frames = world.clients[client].frames_of(video);
    let times: Vec<_> =
        frames.iter().filter(|frame| frame.intact && frame.at <= to).map(|frame| frame.at).collect();
    let ends = times.iter().copied().skip(1).chain([to]);
    let gaps = times.iter().zip(ends).filter(|(_, next)| *next > from);
    gaps.map(|(at, next)| next - *at).filter(|gap| *gap > Duration::from_millis(200)).sum()
}

#[test]
fn a_link_that_narrows_under_sound_and_pictures_pauses_none_and_gets_all_back() {
    for (seed, kbps) in [(0, 500), (1, 400), (2, 300)] {
        let (mut world, ben, video) = settled(seed);
        let narrow = world.now;
        world.links[ben].1 = Path::with_rate(HALF_RTT, kbps);
        world.run(Duration::from_secs(15));
        let wide = world.now;
        world.links[ben].1 = Path::with_rate(HALF_RTT, 3_000);
        let top = |world: &World| world.layers_lately(ben, &video, Duration::from_millis(50)).contains(&2);
        let again = world.run_until(Duration::from_secs(8), top);
        trace(&world, ben, narrow);
        assert!(again, "{kbps} kbit/s: the top layer comes back");
        println!("{kbps} kbit/s: top layer again after {:?}", world.now - wide);
        world.run(Duration::from_secs(5));
        let settled = narrow + Duration::from_secs(3);
        let first = still(&world, ben, &video, narrow, settled);
        println!("{kbps} kbit/s: the picture stands still for {first:?}");
        // Most of this time passes until the client's stack gives up on the lost packets of the old layer.
        assert!(first <= Duration::from_secs(2), "{kbps} kbit/s: {first:?}");
        assert_eq!(
            still(&world, ben, &video, settled, world.now),
            Duration::ZERO,
            "{kbps} kbit/s: and never again"
        );
        let paused = |(_, event): &(Instant, Event)| matches!(event, Event::StreamState { paused: true, .. });
        assert!(!world.events.iter().any(paused), "{kbps} kbit/s: nothing is paused");
    }
}

#[test]
fn a_layer_that_is_too_much_is_left_soon_after_the_estimate_fell() {
    let (mut world, ben, _) = settled(4);
    let narrow = world.now;
    world.links[ben].1 = Path::with_rate(HALF_RTT, 500);
    world.run(Duration::from_secs(3));
    let seen = world.shards[0].inspect(&world.clients[ben].participant, world.now).expect("here");
    let since = |wanted: &dyn Fn(&Decision) -> bool| {
        let found = seen
            .decisions
            .iter()
            .find(|each| each.ms_ago <= (world.now - narrow).as_millis() as u64 && wanted(&each.what));
        found.map(|each| Duration::from_millis((world.now - narrow).as_millis() as u64 - each.ms_ago))
    };
    let fell =
        since(&|what| matches!(what, Decision::Estimate { estimate_bps, .. } if *estimate_bps < 1_500_000));
    let down = since(&|what| matches!(what, Decision::Layer { target: Some(Layer(0)), .. }));
    let left = since(&|what| matches!(what, Decision::Dropped { layer: Layer(2), .. }));
    let (fell, down, left) = (fell.expect("it falls"), down.expect("another layer"), left.expect("left"));
    assert!(fell <= Duration::from_secs(1), "{fell:?}");
    assert!(down - fell <= Duration::from_millis(10), "{down:?} after {fell:?}");
    assert!(left - fell <= Duration::from_millis(100), "{left:?} after {fell:?}");
}

/// A scene change exceeds the link's capacity. The following video nearly fills the link, so the backlog drains slowly.
#[test]
fn what_waits_behind_a_scene_change_does_not_fill_the_queue_again_and_again() {
    for seed in 0..5 {
        let (mut world, ben, _) = settled(seed);
        world.links[ben].1 = Path::with_rate(HALF_RTT, 500);
        world.run(Duration::from_secs(4));
        let ana = 0;
        for (bytes, millis) in [(3_000, 1_000), (1_500, 0)] {
            world.clients[ana].publishers[0].layers[0].frame_bytes = bytes;
            world.run(Duration::from_millis(millis));
        }
        let (mut filled, mut is_full) = (0, false);
        for _ in 0..250 {
            world.run(Duration::from_millis(20));
            let queue = world.links[ben].1.free.expect("in use").saturating_duration_since(world.now);
            if !is_full && queue > Duration::from_millis(100) {
                is_full = true;
                filled += 1;
            }
            is_full &= queue > Duration::from_millis(40);
        }
        println!("{filled} times");
        assert!(filled <= 1, "the queue filled {filled} times");
    }
}

#[test]
fn what_is_lost_here_and_there_costs_no_layer() {
    for seed in 0..5 {
        for kbps in [2_500, 8_000] {
            let (mut world, ben, video) = settled_over(seed, kbps);
            world.links[ben].1.loss = 0.2;
            let from = world.now;
            world.run(Duration::from_secs(20));
            trace(&world, ben, from);
            let lately = world.layers_lately(ben, &video, Duration::from_secs(20));
            let tops = lately.iter().filter(|layer| **layer == 2).count();
            let still = still(&world, ben, &video, from, world.now);
            println!("seed {seed}, {kbps} kbit/s: {tops} of {} frames, still for {still:?}", lately.len());
            assert_eq!(tops, lately.len(), "seed {seed}, {kbps} kbit/s");
            assert!(still <= Duration::from_secs(1), "seed {seed}, {kbps} kbit/s: {still:?}");
        }
    }
}

#[test]
fn a_picture_that_was_paused_comes_back_when_there_is_room_again() {
    let (mut world, ben, video) = settled(5);
    world.links[ben].1 = Path::with_rate(HALF_RTT, 110);
    world.run(Duration::from_secs(20));
    let paused = |(_, event): &(Instant, Event)| matches!(event, Event::StreamState { paused: true, .. });
    assert!(world.events.iter().any(paused), "there is room for sound only");
    world.links[ben].1 = Path::with_rate(HALF_RTT, 3_000);
    let from = world.now;
    let shown = |world: &World| !world.layers_lately(ben, &video, Duration::from_millis(50)).is_empty();
    assert!(world.run_until(Duration::from_secs(8), shown), "sound alone tells nothing of the link");
    println!("a picture after {:?}", world.now - from);
}

#[test]
fn a_receiver_that_does_not_report_padding_gets_its_picture_back() {
    // The second case has a single layer of 1 Mbit/s, more than the initial estimate of a link.
    for layers in [&USUAL[..], &[("f", 4_170)]] {
        let (mut world, ben, video) = settled_with(6, 3_000, layers);
        world.links[ben].1 = Path::with_rate(HALF_RTT, 110);
        world.run(Duration::from_secs(20));
        let paused = |(_, event): &(Instant, Event)| matches!(event, Event::StreamState { paused: true, .. });
        assert!(world.events.iter().any(paused), "there is room for sound only");
        // Padding packets have the RTP padding bit set (RFC 3550 section 5.1). Audio still arrives; no other packets
        // are sent.
        world.unseen = |data| data.first().is_some_and(|first| first & 0xe0 == 0xa0);
        world.links[ben].1 = Path::with_rate(HALF_RTT, 3_000);
        let widened = world.now;
        let shown = |world: &World| !world.layers_lately(ben, &video, Duration::from_millis(50)).is_empty();
        let again = world.run_until(Duration::from_secs(12), shown);
        println!("a picture after {:?}", world.now - widened);
        world.unseen = |_| false;
        world.run(Duration::from_secs(10));
        trace(&world, ben, widened);
        assert!(again, "sound arrives, so a picture may");
        let lately = world.layers_lately(ben, &video, Duration::from_secs(2));
        assert!(lately.len() > 50, "and it stays: {lately:?}");
    }
}

#[test]
fn after_heavy_loss_the_picture_is_back_soon() {
    for seed in 0..10 {
        let (mut world, ben, video) = settled(seed);
        world.links[ben].1.loss = 0.7;
        world.run(Duration::from_secs(4));
        world.links[ben].1.loss = 0.0;
        let better = world.now;
        let seen = |world: &World| {
            let frames = world.clients[ben].frames_of(&video);
            frames.iter().filter(|frame| frame.intact && frame.at > better).count() > 10
        };
        let back = world.run_until(Duration::from_secs(8), seen);
        trace(&world, ben, better);
        assert!(back, "the picture comes back");
        println!("back after {:?}", world.now - better);
    }
}

#[test]
fn after_three_seconds_of_nothing_the_picture_is_back_at_once() {
    for seed in 0..3 {
        let (mut world, ben, video) = settled(seed);
        let usual = world.links[ben];
        let nothing = Path { loss: 1.0, ..Path::with_delay(HALF_RTT) };
        world.links[ben] = (nothing, nothing);
        world.run(Duration::from_secs(3));
        world.links[ben] = usual;
        let from = world.now;
        let shown = |world: &World| !world.layers_lately(ben, &video, Duration::from_millis(20)).is_empty();
        assert!(world.run_until(Duration::from_secs(2), shown), "a picture");
        let took = world.now - from;
        trace(&world, ben, from);
        println!("a picture after {took:?}");
        // This client holds back a key frame behind a gap until thirty packets have arrived. A browser decodes the key
        // frame at once (`tests/recovery.rs`: 145 ms).
        assert!(took <= Duration::from_secs(1), "{took:?}");
        world.run(Duration::from_secs(2));
        let lately = world.layers_lately(ben, &video, Duration::from_millis(500));
        assert!(lately.contains(&2), "the top layer too: {lately:?}");
    }
}
