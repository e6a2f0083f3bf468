//! Meetings in which everybody has a microphone and a camera, over links without loss. Every requested layer arrives,
//! no receiver has to send a NACK, and the sequence numbers that leave the server have no gap, however narrow a link
//! is.

mod harness;

use std::time::Duration;

use harness::network::Path;
use harness::raw::person::{Publish, Setup};
use harness::raw::{Late, RawWorld, announced, simulcast};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use sfu_engine::limits::Limits;
use sfu_engine::rtp::extension::{EndToEndExtensions, Extension};
use sfu_protocol::inspect::Decision;
use sfu_protocol::{Command, LayerQuality, MediaKind, ParticipantSid, TrackDemand, TrackSid};

const NEAR: Duration = Duration::from_millis(10);

/// Frame sizes in bytes that give 160, 480 and 1,400 kbit/s.
const LAYERS: [usize; 3] = [600, 1_900, 5_700];
/// Frame size in bytes that gives 600 kbit/s.
const SINGLE: [usize; 1] = [2_400];

const TALKING: u8 = 25;
const LISTENING: u8 = 75;

/// Time until the bandwidth estimates have reached the capacity of the links.
const SETTLED: Duration = Duration::from_secs(6);
const MEASURED: Duration = Duration::from_secs(4);

fn limits() -> Limits {
    Limits { media_sections: 600, pending_tracks: 600, published_tracks: 64, ssrcs: 256, ..Limits::default() }
}

fn microphone(name: &str) -> Publish {
    Publish {
        announced: announced(&format!("TR_AM{name}"), MediaKind::Audio, "opus"),
        redundancy: 0,
        frame_bytes: vec![80],
        extensions: EndToEndExtensions { audio_level: Some(LISTENING), ..EndToEndExtensions::default() },
    }
}

fn camera(name: &str, frame_bytes: &[usize]) -> Publish {
    let mut announced = announced(&format!("TR_VC{name}"), MediaKind::Video, "vp8");
    announced.layers = simulcast(frame_bytes.len());
    Publish { announced, redundancy: 0, frame_bytes: frame_bytes.to_vec(), extensions: Default::default() }
}

fn extensions() -> Vec<(u8, &'static str)> {
    vec![(1, Extension::AudioLevel.uri()), (3, Extension::TransportSequence.uri())]
}

fn setup(name: &str, publishes: Vec<Publish>) -> Setup {
    let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
    Setup { name, publishes, extensions: extensions(), nack: true, ..Setup::default() }
}

fn tile(width: u32, height: u32) -> TrackDemand {
    TrackDemand { width, height, ..TrackDemand::default() }
}

/// Demand of a receiver for a publisher's camera, and the layer that it asks for: one video in five is large, the
/// others are small.
fn demand_of(receiver: usize, publisher: usize) -> (TrackDemand, usize) {
    if publisher == (receiver + 1) % 5 { (tile(1280, 720), 2) } else { (tile(320, 180), 0) }
}

struct Meeting {
    world: RawWorld,
    people: usize,
    /// Indices of the participants that receive everything.
    receivers: Vec<usize>,
    layers: usize,
    rng: SmallRng,
}

/// Special properties of the receivers.
#[derive(Debug, Clone, Copy, Default)]
struct Habits {
    /// Whether the first receiver reads its socket late, and how late.
    late: Option<Late>,
    /// Whether the receivers' video must not be paused.
    never_pause: bool,
}

/// A room of `people` with a microphone and a camera each. The last `receivers` of them receive everything.
fn meeting(
    seed: u64,
    shards: u16,
    (people, receivers): (usize, usize),
    frame_bytes: &[usize],
    habits: Habits,
) -> Meeting {
    println!("seed {seed}");
    let mut world = RawWorld::with_limits(seed, shards, &limits());
    let receivers: Vec<usize> = (people - receivers..people).collect();
    for who in 0..people {
        let name = format!("p{who}");
        let mut setup = setup(&name, vec![microphone(&name), camera(&name, frame_bytes)]);
        setup.shard = who % usize::from(shards);
        if receivers.contains(&who) {
            (setup.audios, setup.videos) = (people - 1, people - 1);
            setup.never_pause = habits.never_pause;
        }
        world.join(setup, Path::with_delay(NEAR));
        world.run(Duration::from_millis(10));
    }
    world.run(Duration::from_millis(500));
    assert!(world.people.iter().all(|person| person.connected.is_some()));
    Meeting { world, people, receivers, layers: frame_bytes.len(), rng: SmallRng::seed_from_u64(seed) }
}

impl Meeting {
    /// Subscribes the receivers to everything.
    fn begin(&mut self) {
        for receiver in self.receivers.clone() {
            for publisher in (0..self.people).filter(|publisher| *publisher != receiver) {
                let (sound, picture) = (format!("TR_AMp{publisher}"), format!("TR_VCp{publisher}"));
                self.world.want(receiver, publisher, &sound, MediaKind::Audio, TrackDemand::default());
                let (demand, _) = demand_of(receiver, publisher);
                self.world.want(receiver, publisher, &picture, MediaKind::Video, demand);
            }
            self.world.offer(receiver);
            self.run(Duration::from_millis(50));
        }
    }

    /// Lets time pass while the participants speak one after the other.
    fn run(&mut self, time: Duration) {
        let end = self.world.now + time;
        while self.world.now < end {
            let speaks = self.rng.random_range(0..self.people);
            for (who, person) in self.world.people.iter_mut().enumerate() {
                let level = if who == speaks || who % 7 == 3 { TALKING } else { LISTENING };
                for sending in person.sending.iter_mut().filter(|each| each.kind == MediaKind::Audio) {
                    sending.publish.extensions.audio_level = Some(level);
                }
            }
            let step = Duration::from_millis(400).min(end - self.world.now);
            self.world.run(step);
        }
    }

    fn nacks(&mut self) -> u64 {
        self.world.shards.iter_mut().map(|shard| shard.stats().nacks_received).sum()
    }

    fn video_bytes(&self, receiver: usize) -> u64 {
        self.world.people[receiver].pictures.iter().map(|picture| picture.bytes).sum()
    }

    /// Bytes of video payload that a receiver should get within `time`.
    fn asked(&self, receiver: usize, frame_bytes: &[usize], time: Duration) -> f64 {
        let publishers = (0..self.people).filter(|publisher| *publisher != receiver);
        let layers = publishers.map(|publisher| demand_of(receiver, publisher).1.min(self.layers - 1));
        let frames = time.as_secs_f64() * 30.0;
        layers.map(|layer| frame_bytes[layer] as f64 * frames).sum()
    }

    fn print(&self, receiver: usize) {
        let person = &self.world.people[receiver].sid;
        for shard in &self.world.shards {
            let Some(told) = shard.inspect(person, self.world.now) else { continue };
            println!("{person:?}: {:?}", told.link);
            for decided in told.decisions {
                println!("  {} ms ago: {:?}", decided.ms_ago, decided.what);
            }
        }
    }
}

/// Runs a meeting over links without a rate limit, and checks that everything arrives and no packet is requested again.
fn everything_arrives(
    seed: u64,
    shards: u16,
    (people, receivers): (usize, usize),
    frame_bytes: &[usize],
    habits: Habits,
) {
    let mut meeting = meeting(seed, shards, (people, receivers), frame_bytes, habits);
    let first = meeting.receivers[0];
    if let Some(late) = habits.late {
        meeting.world.late.insert(first, late);
    }
    meeting.begin();
    meeting.run(SETTLED);
    let before: Vec<u64> = meeting.receivers.iter().map(|receiver| meeting.video_bytes(*receiver)).collect();
    meeting.run(MEASURED);
    let mut worst: f64 = 1.0;
    for (receiver, before) in meeting.receivers.clone().into_iter().zip(before) {
        let arrived = (meeting.video_bytes(receiver) - before) as f64;
        let share = arrived / meeting.asked(receiver, frame_bytes, MEASURED);
        if (share - 1.0).abs() > (worst - 1.0).abs() {
            worst = share;
        }
        if !(0.95..1.05).contains(&share) {
            meeting.print(receiver);
        }
    }
    let nacks = meeting.nacks();
    let sent: Vec<_> = meeting.world.shards.iter_mut().map(|shard| shard.stats().clone()).collect();
    let again: u64 = sent.iter().map(|stats| stats.sent.retransmitted.packets).sum();
    let media: u64 = sent.iter().map(|stats| stats.sent.video.packets + stats.sent.audio.packets).sum();
    println!(
        "{people} people, {receivers} receive, {} layers: {worst:.3} of what was asked, {nacks} NACKs, {again} of {media} again",
        frame_bytes.len()
    );
    let holes = meeting.world.tap.holes();
    assert_eq!((holes, meeting.world.tap.reused()), (0, 0), "holes in the numbers, numbers used twice");
    assert_eq!(nacks, 0, "nothing was lost");
    assert!(again * 100 < media, "{again} of {media} sent again");
    assert!((0.95..1.05).contains(&worst), "{worst} of what was asked arrived");
}

#[test]
fn seventeen_with_simulcast() {
    everything_arrives(1, 1, (17, 3), &LAYERS, Habits::default());
}

#[test]
fn seventeen_without_simulcast() {
    everything_arrives(2, 2, (17, 3), &SINGLE, Habits::default());
}

#[test]
fn twenty_with_simulcast() {
    everything_arrives(3, 2, (20, 3), &LAYERS, Habits::default());
}

#[test]
fn twenty_without_simulcast() {
    everything_arrives(4, 1, (20, 3), &SINGLE, Habits::default());
}

#[test]
fn twenty_of_whom_one_reads_late() {
    let late = Late { every: Duration::from_millis(700), stalls: Duration::from_millis(150) };
    everything_arrives(5, 1, (20, 2), &LAYERS, Habits { late: Some(late), ..Habits::default() });
}

/// The total bitrate is higher than the estimate can become.
#[test]
fn twenty_whose_pictures_may_not_be_paused() {
    everything_arrives(8, 1, (20, 1), &[4_800], Habits { never_pause: true, ..Habits::default() });
}

#[test]
fn fifty() {
    everything_arrives(6, 2, (50, 2), &LAYERS, Habits::default());
}

#[test]
fn a_hundred() {
    everything_arrives(7, 3, (100, 1), &LAYERS, Habits::default());
}

/// The total bitrate is within the range of the estimate.
#[test]
fn fifty_without_simulcast() {
    everything_arrives(9, 2, (50, 2), &[1_200], Habits::default());
}

#[test]
fn a_hundred_without_simulcast() {
    everything_arrives(10, 3, (100, 1), &[500], Habits::default());
}

/// A published track of a random room, and its number of layers.
struct Drawn {
    publisher: usize,
    track: String,
    kind: MediaKind,
    layers: usize,
}

fn draw_publishes(rng: &mut SmallRng, who: usize, most: usize, scale: f64) -> (Vec<Publish>, Vec<Drawn>) {
    let (mut publishes, mut drawn) = (Vec::new(), Vec::new());
    for number in 0..rng.random_range(1..=most) {
        let name = format!("p{who}n{number}");
        let bytes = |bytes: &[usize]| -> Vec<usize> {
            bytes.iter().map(|bytes| (*bytes as f64 * scale) as usize).collect()
        };
        let mut publish = match rng.random_range(0..10) {
            0..5 => microphone(&name),
            5..7 => camera(&name, &bytes(&LAYERS)),
            7 => camera(&name, &bytes(&LAYERS[..2])),
            8 => camera(&name, &bytes(&SINGLE)),
            _ => {
                let mut screen = camera(&name, &bytes(&[3_000]));
                screen.announced.screen_share = true;
                screen
            }
        };
        publish.announced.muted = rng.random_bool(0.1);
        let (kind, layers) = (publish.announced.kind, publish.frame_bytes.len());
        drawn.push(Drawn {
            publisher: who,
            track: publish.announced.track.as_str().to_owned(),
            kind,
            layers,
        });
        publishes.push(publish);
    }
    (publishes, drawn)
}

/// In rooms of any size and with any tracks, audio level does not influence video: each subscriber gets the layer that
/// it asks for, as long as nothing is known of its link.
#[test]
fn pictures_are_not_compared_by_their_loudness() {
    let sizes = [1, 2, 5, 17, 18, 40, 90, 300];
    for (seed, size) in (100..).zip(sizes) {
        println!("seed {seed}");
        let mut rng = SmallRng::seed_from_u64(seed);
        let limits = Limits { loudest_tracks: rng.random_range(1..=16), ..limits() };
        let shards = rng.random_range(1..=3);
        let mut world = RawWorld::with_limits(seed, shards, &limits);
        let mut all = Vec::new();
        let mut muted = Vec::new();
        // Publishers need no connection, so their links lose everything.
        let dead = Path { loss: 1.0, ..Path::with_delay(NEAR) };
        for who in 0..size {
            let (publishes, drawn) = draw_publishes(&mut rng, who, 3, 1.0);
            let are_muted = publishes.iter().filter(|publish| publish.announced.muted);
            muted.extend(are_muted.map(|publish| publish.announced.track.clone()));
            let mut setup = setup(&format!("p{who}"), publishes);
            setup.shard = rng.random_range(0..usize::from(shards));
            world.join(setup, dead);
            all.extend(drawn);
        }
        let wanted: Vec<&Drawn> = all.choose_multiple(&mut rng, 60).collect();
        let mut ears = setup("ears", Vec::new());
        ears.extensions.clear();
        (ears.audios, ears.videos) = (60, 60);
        ears.shard = rng.random_range(0..usize::from(shards));
        let ears = world.join(ears, Path::with_delay(NEAR));
        world.run(Duration::from_millis(300));
        let mut expected: Vec<(TrackSid, Option<u8>)> = Vec::new();
        for drawn in wanted {
            let (demand, layer) = *[
                (TrackDemand::default(), 2),
                (TrackDemand { quality: LayerQuality::Medium, ..TrackDemand::default() }, 1),
                (tile(320, 180), 0),
                (TrackDemand { enabled: false, ..TrackDemand::default() }, 9),
            ]
            .choose(&mut rng)
            .expect("one of four");
            let track = TrackSid::new(&*drawn.track);
            world.want(ears, drawn.publisher, &drawn.track, drawn.kind, demand);
            let layer = layer_of(layer, drawn.layers);
            expected.push((track.clone(), layer.filter(|_| !muted.contains(&track))));
        }
        world.offer(ears);
        world.run(Duration::from_millis(700));
        let person = world.people[ears].sid.clone();
        let told =
            world.shards.iter().find_map(|shard| shard.inspect(&person, world.now)).expect("it is here");
        assert_eq!(told.subscriptions.len(), expected.len());
        for (track, layer) in expected {
            let state = told.subscriptions.iter().find(|state| state.track == track).expect("subscribed");
            assert_eq!(state.target.map(|layer| layer.0), layer, "{size} people, {state:?}");
            assert!(!state.paused);
        }
    }
}

/// Layer that demand `layer` selects from `layers`; `None` if `layer` is 9.
fn layer_of(layer: u8, layers: usize) -> Option<u8> {
    (layer != 9).then(|| layer.min(layers as u8 - 1))
}

/// Events that can occur in a random room.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Troubles {
    /// Whether links have limited rates, receivers read late, and tracks are muted, hidden and left.
    any: bool,
    /// Whether receivers keep requesting everything.
    storm: bool,
}

#[derive(Debug, Default)]
struct Outcome {
    holes: usize,
    reused: u64,
    shown: usize,
    first: u64,
    again: u64,
    congested: u64,
    told: usize,
}

fn random_room(seed: u64, troubles: Troubles) -> Outcome {
    println!("seed {seed}, {troubles:?}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let limits = Limits {
        loudest_tracks: rng.random_range(1..=6),
        // Even the smallest pacer queue has room for a key frame, unless `troubles.any` is set.
        pacer_packets: *[if troubles.any { 40 } else { 300 }, 500, 2048]
            .choose(&mut rng)
            .expect("one of three"),
        ..limits()
    };
    let shards = rng.random_range(1..=3);
    let mut world = RawWorld::with_limits(seed, shards, &limits);
    let (mut all, people) = (Vec::new(), rng.random_range(2..=5));
    let receivers = people..people + 2;
    let scale = rng.random_range(0.5..4.0);
    for who in 0..receivers.end {
        let (publishes, drawn) = if receivers.contains(&who) {
            (Vec::new(), Vec::new())
        } else {
            draw_publishes(&mut rng, who, 4, scale)
        };
        let mut setup = setup(&format!("p{who}"), publishes);
        setup.shard = rng.random_range(0..usize::from(shards));
        if rng.random_bool(0.2) {
            setup.extensions.retain(|(id, _)| *id != 3);
        }
        setup.never_pause = rng.random_bool(0.3);
        (setup.audios, setup.videos) = if receivers.contains(&who) { (60, 60) } else { (0, 0) };
        let rate = rng.random_range(100..6_000);
        let narrow = troubles.any && rng.random_bool(0.6);
        let link = if narrow && receivers.contains(&who) {
            Path::with_rate(NEAR, rate)
        } else {
            Path::with_delay(NEAR)
        };
        world.join(setup, link);
        world.links[who].0 = Path::with_delay(NEAR);
        all.extend(drawn);
    }
    world.run(Duration::from_millis(500));
    for receiver in receivers.clone() {
        for drawn in &all {
            world.want(receiver, drawn.publisher, &drawn.track, drawn.kind, TrackDemand::default());
        }
        world.offer(receiver);
        world.run(Duration::from_millis(20));
    }
    for step in 0..40 {
        if troubles.any {
            trouble(&mut world, &mut rng, &all, receivers.clone());
        }
        // A key-frame request while video begins restarts it from memory, as a browser that was not ready needs.
        if troubles.storm && (troubles.any || step >= 20) {
            for _ in 0..10 {
                receivers.clone().for_each(|receiver| ask_for_everything(&mut world, receiver));
                world.run(Duration::from_millis(10));
            }
        } else {
            world.run(Duration::from_millis(100));
        }
    }
    let stats: Vec<_> = world.shards.iter_mut().map(|shard| shard.stats().clone()).collect();
    let congested = stats.iter().map(|stats| stats.dropped(sfu_engine::stats::Drop::Congested)).sum();
    let people = receivers.clone().map(|receiver| world.people[receiver].sid.clone());
    let told = people.map(|person| told_of_congestion(&world, &person)).sum();
    Outcome {
        holes: world.tap.holes(),
        reused: world.tap.reused(),
        shown: receivers
            .flat_map(|receiver| &world.people[receiver].pictures)
            .map(|each| each.shown.len())
            .sum(),
        first: stats.iter().map(|stats| stats.sent.video.bytes + stats.sent.audio.bytes).sum(),
        again: stats.iter().map(|stats| stats.sent.retransmitted.bytes).sum(),
        congested,
        told,
    }
}

fn told_of_congestion(world: &RawWorld, person: &ParticipantSid) -> usize {
    let told = world.shards.iter().filter_map(|shard| shard.inspect(person, world.now));
    let decisions = told.flat_map(|told| told.decisions);
    decisions.filter(|decided| matches!(decided.what, Decision::Congested { .. })).count()
}

fn trouble(world: &mut RawWorld, rng: &mut SmallRng, all: &[Drawn], receivers: std::ops::Range<usize>) {
    let receiver = rng.random_range(receivers);
    let Some(drawn) = all.choose(rng) else { return };
    let (participant, track) = (world.people[receiver].sid.clone(), TrackSid::new(&*drawn.track));
    let shard = world.people[receiver].shard;
    match rng.random_range(0..10) {
        0 | 1 => {
            let demand = if rng.random_bool(0.4) {
                TrackDemand { enabled: false, ..TrackDemand::default() }
            } else {
                *[tile(1280, 720), tile(320, 180), TrackDemand::default()].choose(rng).expect("one of three")
            };
            world.command(shard, Command::SetDemand { participant, track, demand });
        }
        2 => {
            let muted = rng.random_bool(0.5);
            let publisher = &world.people[drawn.publisher];
            let (participant, shard) = (publisher.sid.clone(), publisher.shard);
            world.command(shard, Command::SetMuted { participant, track, muted });
        }
        3 => {
            let rate = rng.random_range(60..4_000);
            world.links[receiver].1 = Path::with_rate(NEAR, rate);
        }
        4 => world.links[receiver].1 = Path::with_delay(NEAR),
        5 => {
            let late = Late { every: Duration::from_millis(500), stalls: Duration::from_millis(200) };
            world.late.insert(receiver, late);
        }
        6 => {
            world.late.clear();
        }
        7 => {
            // The video changes between high and low motion.
            let factor = *[1, 6].choose(rng).expect("one of two");
            for sending in &mut world.people[drawn.publisher].sending {
                if sending.kind == MediaKind::Video {
                    sending.publish.frame_bytes = vec![2_000 * factor; sending.publish.frame_bytes.len()];
                }
            }
        }
        8 => {
            world.command(shard, Command::Unsubscribe { participant, track });
            world.want(receiver, drawn.publisher, &drawn.track, drawn.kind, TrackDemand::default());
            world.offer(receiver);
        }
        _ => {
            let level = *[TALKING, LISTENING].choose(rng).expect("one of two");
            for sending in &mut world.people[drawn.publisher].sending {
                sending.publish.extensions.audio_level = Some(level);
            }
        }
    }
}

/// Requests all packets of the last second, and a key frame, of every track.
fn ask_for_everything(world: &mut RawWorld, receiver: usize) {
    let mut compound = Vec::new();
    for picture in &world.people[receiver].pictures {
        picture.ask_for_everything(&mut compound);
    }
    for sound in &world.people[receiver].sounds {
        sound.ask_for_everything(&mut compound);
    }
    world.people[receiver].send_rtcp(&compound);
    world.flush(receiver);
}

fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("MEETING_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(12);
    1_000..1_000 + count
}

#[test]
fn what_cannot_be_sent_leaves_no_hole() {
    let (mut congested, mut told) = (0, 0);
    for seed in seeds() {
        for storm in [false, true] {
            let outcome = random_room(seed, Troubles { any: true, storm });
            println!("{outcome:?}");
            assert_eq!((outcome.holes, outcome.reused), (0, 0), "seed {seed}: {outcome:?}");
            congested += outcome.congested;
            told += outcome.told;
        }
    }
    assert!(congested > 0 && told > 0, "no queue was ever full, so nothing was shown: {congested}, {told}");
}

#[test]
fn a_storm_of_requests_makes_nothing_worse() {
    for seed in seeds() {
        let calm = random_room(seed, Troubles { any: false, storm: false });
        let storm = random_room(seed, Troubles { any: false, storm: true });
        println!("{calm:?}\n{storm:?}");
        assert_eq!((calm.holes, storm.holes, storm.reused), (0, 0, 0));
        assert!(storm.again > calm.again, "requests are answered");
        assert!(storm.shown * 10 >= calm.shown * 9, "pictures, seed {seed}: {calm:?}, {storm:?}");
        assert!(storm.first * 10 >= calm.first * 9, "bytes, seed {seed}: {calm:?}, {storm:?}");
    }
}
