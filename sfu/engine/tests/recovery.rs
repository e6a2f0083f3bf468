//! Lost packets are recovered in time, and excessive requests of one subscriber do not affect others.
//!
//! Prints its measurements as rows of the table in `docs/bandwidth.md`, which gives the command.

mod harness;

use std::time::{Duration, Instant};

use harness::network::Path;
use harness::raw::person::{Publish, Setup};
use harness::raw::video::Shown;
use harness::raw::{RawWorld, announced, simulcast};
use harness::report::{Bound, Report};
use sfu_engine::rtp::extension::{EndToEndExtensions, Extension, read_playout_delay};
use sfu_protocol::MediaKind;

const SOUND: &str = "TR_AMana";

/// One-way delay: half of the links' round-trip time.
const ONE_WAY: Duration = Duration::from_millis(40);
const NEAR: Duration = Duration::from_millis(10);

/// Audio that arrives later than this after its capture is useless.
const IN_TIME: Duration = Duration::from_millis(400);

fn sound() -> Publish {
    Publish {
        announced: announced(SOUND, MediaKind::Audio, "opus"),
        redundancy: 0,
        frame_bytes: vec![100],
        extensions: EndToEndExtensions::default(),
    }
}

fn lossy(loss: f64, burst: f64) -> Path {
    Path { loss, burst, ..Path::with_delay(ONE_WAY) }
}

/// Ana, who publishes `publishes`, and Ben, who subscribes to all of it. Both are connected, over links without loss.
fn two(seed: u64, shards: u16, publishes: Vec<Publish>, ben: Setup) -> RawWorld {
    let mut world = RawWorld::new(seed, shards);
    let tracks: Vec<_> = publishes.iter().map(|publish| publish.announced.clone()).collect();
    let extensions = ben.extensions.clone();
    let ana = Setup { name: "ana", publishes, extensions, nack: true, ..Setup::default() };
    world.join(ana, Path::with_delay(NEAR));
    world.run(Duration::from_millis(500));
    let shard = usize::from(shards) - 1;
    world.join(Setup { name: "ben", shard, audios: 1, videos: 1, ..ben }, Path::with_delay(ONE_WAY));
    world.run(Duration::from_millis(500));
    for track in &tracks {
        world.subscribe(1, 0, track.track.as_str(), track.kind);
    }
    world.run(Duration::from_secs(1));
    assert!(world.people.iter().all(|person| person.connected.is_some()), "both connect");
    world
}

/// Percentage of the audio frames that Ana made between `from` and `to` which Ben received in time.
fn in_time(world: &RawWorld, from: Instant, to: Instant) -> f64 {
    let began = world.people[0].connected.expect("connected");
    let number = |at: Instant| ((at - began).as_millis() / 20) as u32;
    let heard = &world.people[1].sounds[0].frames;
    let (first, last) = (number(from), number(to));
    let good = (first..last).filter(|number| {
        let captured = began + Duration::from_millis(20) * *number;
        heard.get(number).is_some_and(|heard| heard.at - captured <= IN_TIME)
    });
    100.0 * good.count() as f64 / f64::from(last - first)
}

/// Sends a minute of audio to Ben over bad links. Returns the percentage received in time.
fn sound_over(seed: u64, publish: Publish, ben: Setup, ana_link: Path, ben_link: Path) -> (f64, RawWorld) {
    let mut world = two(seed, 1, vec![publish], ben);
    world.links = vec![(ana_link, ana_link), (ben_link, ben_link)];
    let from = world.now;
    world.run(Duration::from_secs(60));
    let to = world.now;
    // Packets in flight arrive or are lost.
    world.run(Duration::from_secs(1));
    assert_eq!(world.people[1].sounds[0].broken, 0, "every byte and every time stamp");
    (in_time(&world, from, to), world)
}

/// Name, share of lost packets, and mean number of consecutive losses (0: independent losses).
const LOSSES: [(&str, f64, f64); 4] = [
    ("10 % loss", 0.1, 0.0),
    ("20 % loss", 0.2, 0.0),
    ("30 % loss", 0.3, 0.0),
    ("30 % loss in bursts of 4", 0.3, 4.0),
];

/// Participants whose links lose packets, in both directions.
#[derive(Clone, Copy, PartialEq)]
enum Loses {
    Publisher,
    Subscriber,
}

fn sound_table(case: &str, publish: &Publish, ben: &Setup, loses: Loses, required: [Bound; 4]) {
    for ((name, loss, burst), required) in LOSSES.into_iter().zip(required) {
        Report::over_seeds(&format!("{case}, {name}"), |seed, report| {
            let link = |bad| if bad { lossy(loss, burst) } else { Path::with_delay(ONE_WAY) };
            let (share, mut world) = sound_over(
                seed,
                publish.clone(),
                ben.clone(),
                link(loses == Loses::Publisher),
                link(loses == Loses::Subscriber),
            );
            report.add(seed, "frames in time, %", required, share);
            let sent = world.shards[0].stats().sent;
            let again = 100.0 * sent.retransmitted.bytes as f64 / sent.audio.bytes.max(1) as f64;
            report.add(seed, "sent again, % of bytes", Bound::Less, again);
            let packets = world.people[1].sounds[0].by_redundancy;
            let total: u64 = packets.iter().sum();
            let red = 100.0 * (total - packets[0]) as f64 / total as f64;
            report.add(seed, "packets with redundancy, %", Bound::Less, red);
        });
    }
}

#[test]
fn sound_to_a_subscriber_that_asks_again_and_takes_redundancy() {
    let ben = Setup { red: true, nack: true, ..Setup::default() };
    let required = [99.5, 98.5, 97.0, 95.0].map(Bound::AtLeast);
    sound_table("sound, loss to and from the subscriber", &sound(), &ben, Loses::Subscriber, required);
}

#[test]
fn sound_to_a_subscriber_that_only_asks_again() {
    let ben = Setup { red: false, nack: true, ..Setup::default() };
    let required = [Bound::AtLeast(99.5), Bound::More, Bound::More, Bound::More];
    sound_table("sound, the subscriber only asks again", &sound(), &ben, Loses::Subscriber, required);
}

#[test]
fn sound_to_a_subscriber_that_only_takes_redundancy() {
    // Chromium over a single connection: only its receiver reports, every five seconds, tell the server of loss.
    let ben = Setup { red: true, nack: false, ..Setup::default() };
    let case = "sound, the subscriber only takes redundancy";
    sound_table(case, &sound(), &ben, Loses::Subscriber, [Bound::More; 4]);
}

#[test]
fn sound_from_a_publisher_whose_link_loses() {
    // A browser whose first answer agreed on redundancy repeats one frame, and also answers NACKs.
    let publish = Publish { redundancy: 1, ..sound() };
    let ben = Setup { red: true, nack: true, ..Setup::default() };
    let [a, b, c] = [99.5, 98.5, 97.0].map(Bound::AtLeast);
    let case = "sound, loss to and from the publisher";
    sound_table(case, &publish, &ben, Loses::Publisher, [a, b, c, Bound::More]);
}

#[test]
fn sound_is_back_at_once_after_two_seconds_of_nothing() {
    Report::over_seeds("2 s of nothing", |seed, report| {
        let ben = Setup { red: true, nack: true, ..Setup::default() };
        let mut world = two(seed, 1, vec![sound(), picture(&[2500])], ben);
        world.run(Duration::from_secs(10));
        let before = world.shards[0].stats().sent;
        let dark = Path { loss: 1.0, ..Path::with_delay(ONE_WAY) };
        world.links[1] = (dark, dark);
        world.run(Duration::from_secs(2));
        world.links[1] = (Path::with_delay(ONE_WAY), Path::with_delay(ONE_WAY));
        let back = world.now;
        world.run(Duration::from_secs(5));
        let sound = &world.people[1].sounds[0];
        let fresh = sound.frames.values().filter(|heard| {
            let captured = world.people[0].started + Duration::from_micros(heard.capture_us);
            heard.at >= back && heard.at - captured <= Duration::from_millis(150)
        });
        let first = fresh.map(|heard| heard.at).min().expect("sound comes back");
        report.add(seed, "sound again after, ms", Bound::AtMost(300.0), (first - back).as_secs_f64() * 1e3);
        let stale = sound.frames.values().filter(|heard| {
            let captured = world.people[0].started + Duration::from_micros(heard.capture_us);
            heard.at >= back && heard.at - captured > Duration::from_millis(1500)
        });
        report.add(seed, "frames older than 1.5 s among what came", Bound::AtMost(0.0), stale.count() as f64);
        let picture = world.people[1].pictures[0].shown.iter().find(|shown| shown.at >= back);
        let picture = (picture.expect("pictures come back").at - back).as_secs_f64() * 1e3;
        report.add(seed, "a picture again after, ms", Bound::Less, picture);
        let after = world.shards[0].stats().sent;
        let media = (after.video.bytes + after.audio.bytes) - (before.video.bytes + before.audio.bytes);
        let again = 100.0 * (after.retransmitted.bytes - before.retransmitted.bytes) as f64 / media as f64;
        report.add(seed, "sent again, % of bytes", Bound::AtMost(50.0), again);
        assert!(
            !world.events.iter().any(|event| matches!(event, sfu_protocol::Event::Ended { .. })),
            "nobody was ended"
        );
    });
}

const PICTURES: &str = "TR_VCana";

fn picture(frame_bytes: &[usize]) -> Publish {
    let mut announced = announced(PICTURES, MediaKind::Video, "vp8");
    announced.layers = simulcast(frame_bytes.len());
    Publish { announced, redundancy: 0, frame_bytes: frame_bytes.to_vec(), extensions: Default::default() }
}

/// Seconds of frozen video, that is without a frame for more than 200 ms: the whole gaps, and only what exceeds 200 ms.
fn frozen(shown: &[Shown], from: Instant, to: Instant) -> (f64, f64) {
    let mut times: Vec<Instant> =
        shown.iter().map(|shown| shown.at).filter(|at| (from..to).contains(at)).collect();
    times.insert(0, from);
    times.push(to);
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > Duration::from_millis(200));
    gaps.fold((0.0, 0.0), |(whole, excess), gap| {
        (whole + gap.as_secs_f64(), excess + gap.as_secs_f64() - 0.2)
    })
}

fn pictures_table(case: &str, from_ben: bool, ben: &Setup, required: [Bound; 3]) {
    for ((name, loss), bound) in
        [("5 % loss", 0.05), ("10 % loss", 0.1), ("20 % loss", 0.2)].into_iter().zip(required)
    {
        Report::over_seeds(&format!("{case}, {name}"), |seed, report| {
            let mut world = two(seed, 1, vec![picture(&[2500])], ben.clone());
            world.run(Duration::from_secs(3));
            let up = if from_ben { lossy(loss, 0.0) } else { Path::with_delay(ONE_WAY) };
            world.links[1] = (up, lossy(loss, 0.0));
            let from = world.now;
            world.run(Duration::from_secs(60));
            let (whole, excess) = frozen(&world.people[1].pictures[0].shown, from, world.now);
            report.add(seed, "frozen, % (what exceeds 200 ms)", bound, excess / 0.6);
            report.add(seed, "frozen, % (whole gaps above 200 ms)", Bound::Less, whole / 0.6);
            let sent = world.shards[0].stats().sent;
            let again = 100.0 * sent.retransmitted.bytes as f64 / sent.video.bytes as f64;
            report.add(seed, "sent again, % of bytes", Bound::AtMost(50.0), again);
            let asked = world.people[0].asked.len();
            report.add(seed, "key frames asked of the publisher", Bound::Less, asked as f64);
        });
    }
}

#[test]
fn pictures_to_a_subscriber_whose_link_loses() {
    let required = [0.5, 2.0, 5.0].map(Bound::AtMost);
    pictures_table("pictures, loss to the subscriber", false, &Setup::default(), required);
}

#[test]
fn pictures_to_a_subscriber_whose_requests_are_lost_too() {
    // Not fully recoverable: up to a fifth of the requests is lost as well, and each lost request costs a round trip.
    let case = "pictures, loss to and from the subscriber";
    pictures_table(case, true, &Setup::default(), [Bound::Less; 3]);
}

#[test]
fn pictures_to_a_subscriber_that_reports_what_arrives() {
    let extensions = vec![(3, Extension::TransportSequence.uri())];
    let ben = Setup { extensions, ..Setup::default() };
    let required = [0.5, 2.0, 5.0].map(Bound::AtMost);
    pictures_table("pictures, loss to and from a subscriber that reports", true, &ben, required);
}

#[test]
fn a_subscriber_whose_link_loses_holds_pictures_back_until_it_does_not_lose_any_more() {
    let extensions = vec![(3, Extension::TransportSequence.uri()), (4, Extension::PlayoutDelay.uri())];
    let mut world = two(1, 1, vec![picture(&[2500])], Setup { extensions, ..Setup::default() });
    world.run(Duration::from_secs(5));
    let told = |world: &RawWorld| world.people[1].pictures[0].playout_delay.map(read_playout_delay);
    assert_eq!(told(&world), None, "there is no reason to");
    world.links[1] = (lossy(0.1, 0.0), lossy(0.1, 0.0));
    world.run(Duration::from_secs(10));
    let delay = told(&world).expect("it is told");
    assert!((200..=300).contains(&delay.min_ms) && delay.max_ms > 1000, "two round trips: {delay:?}");
    world.links[1] = (lossy(0.0, 0.0), lossy(0.0, 0.0));
    world.run(Duration::from_secs(15));
    assert_eq!(told(&world).map(|delay| delay.min_ms), Some(0));
}

#[test]
fn asking_for_everything_all_the_time_costs_the_others_nothing() {
    Report::over_seeds("a subscriber asks for every packet every 5 ms", |seed, report| {
        let ben = Setup { red: true, nack: true, ..Setup::default() };
        let mut world = two(seed, 1, vec![sound()], ben.clone());
        world.join(Setup { name: "cy", audios: 1, ..ben }, Path::with_delay(ONE_WAY));
        world.run(Duration::from_millis(500));
        world.subscribe(2, 0, SOUND, MediaKind::Audio);
        world.run(Duration::from_secs(2));
        // Audio bytes sent to both receivers in 10 s without requests. Three times this is one receiver's share of 60
        // s.
        let calm = world.shards[0].stats().sent.audio.bytes;
        world.run(Duration::from_secs(10));
        let calm = world.shards[0].stats().sent.audio.bytes - calm;
        world.people[1].sounds[0].storm = true;
        // The initial allowance of the retransmission budget is used up after this time.
        world.run(Duration::from_secs(60));
        let before = world.shards[0].stats().sent;
        let heard_before = world.people[2].sounds[0].frames.len();
        world.run(Duration::from_secs(60));
        let after = world.shards[0].stats().sent;
        let media = (after.audio.bytes - before.audio.bytes - calm * 3) as f64;
        let again = 100.0 * (after.retransmitted.bytes - before.retransmitted.bytes) as f64 / media;
        report.add(seed, "sent again, % of its bytes", Bound::AtMost(50.0), again);
        let heard = world.people[2].sounds[0].frames.len() - heard_before;
        report.add(seed, "frames that the other had, of 3,000", Bound::AtLeast(2999.0), heard as f64);
    });
}
