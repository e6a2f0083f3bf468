//! Audio and video over links with a token bucket or a policer, which pass bursts above their sustained rate. Video
//! must use the sustained rate without freezing.
//!
//! Prints its measurements as rows of the table in `docs/bandwidth.md`, which gives the command and says how far the
//! requirements are missed. For buckets of 15 kB the bounds are what is reached at present; the other sizes are for
//! information.

mod harness;

use std::time::{Duration, Instant};

use harness::network::Path;
use harness::raw::person::{Publish, Setup};
use harness::raw::{RawWorld, announced, simulcast};
use harness::report::{Bound, Report};
use sfu_engine::rtp::extension::{EndToEndExtensions, Extension};
use sfu_protocol::MediaKind;

const SOUND: &str = "TR_AMana";
const PICTURES: &str = "TR_VCana";

/// One-way delay: half of the round-trip time.
const ONE_WAY: Duration = Duration::from_millis(20);

/// Bucket sizes in kB: all of the table with `BUCKETS` set in the environment, otherwise one size, because unoptimised
/// clients are slow. Nothing is random here, so one seed is as good as ten.
fn buckets() -> Vec<u64> {
    if std::env::var_os("BUCKETS").is_some() { vec![5, 15, 40, 100] } else { vec![15] }
}

/// Bytes of the RTP, SRTP, UDP and IP headers, RTP header extensions included.
const HEADERS: usize = 70;
/// Payload bytes of an audio frame, as published below.
const SOUND_BYTES: usize = 100;
const SOUND_BPS: usize = (SOUND_BYTES + HEADERS) * 8 * 50;

/// Frame sizes that give 0.16, 0.45 and 1.7 Mbit/s at 30 frames per second, as browsers send for 720p.
const USUAL: [usize; 3] = [667, 1875, 7083];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Bucket,
    Policer,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Bucket => "token bucket",
            Self::Policer => "policer",
        }
    }

    fn path(self, kbps: u64, bucket_kb: u64) -> Path {
        match self {
            Self::Bucket => Path::with_bucket(ONE_WAY, kbps, bucket_kb * 1000),
            Self::Policer => Path::with_policer(ONE_WAY, kbps, bucket_kb * 1000),
        }
    }
}

/// Bits per second that a layer takes on the link, headers included.
fn cost_bps(frame_bytes: usize) -> usize {
    (frame_bytes + frame_bytes.div_ceil(1100) * HEADERS) * 8 * 30
}

/// Three layers for a link of `kbps`. The second layer and audio together fill four fifths of the link. The third layer
/// needs more than twice the link's rate.
fn fitting(kbps: u64) -> [usize; 3] {
    let rate = kbps as usize * 1000;
    let picture = |share: usize| {
        let bps = rate * share / 100 - SOUND_BPS;
        let payload = bps / 240;
        payload - payload.div_ceil(1100 + HEADERS) * HEADERS
    };
    [picture(if kbps < 500 { 40 } else { 25 }), picture(80), picture(220)]
}

/// Ana publishes audio and video with these layers; Ben subscribes over `link`.
fn joined(seed: u64, frame_bytes: &[usize], link: Path) -> RawWorld {
    let mut world = RawWorld::new(seed, 1);
    let mut picture = announced(PICTURES, MediaKind::Video, "vp8");
    picture.layers = simulcast(frame_bytes.len());
    let extensions = EndToEndExtensions::default();
    let publishes = vec![
        Publish {
            announced: announced(SOUND, MediaKind::Audio, "opus"),
            redundancy: 0,
            frame_bytes: vec![SOUND_BYTES],
            extensions: extensions.clone(),
        },
        Publish { announced: picture, redundancy: 0, frame_bytes: frame_bytes.to_vec(), extensions },
    ];
    let offered = vec![(3, Extension::TransportSequence.uri())];
    let ana = Setup { name: "ana", publishes, extensions: offered.clone(), nack: true, ..Setup::default() };
    world.join(ana, Path::with_delay(ONE_WAY));
    world.run(Duration::from_secs(2));
    let ben =
        Setup { name: "ben", extensions: offered, nack: true, audios: 1, videos: 1, ..Setup::default() };
    let ben = world.join(ben, Path::with_delay(ONE_WAY));
    world.links[ben].1 = link;
    world.subscribe(ben, 0, SOUND, MediaKind::Audio);
    world.subscribe(ben, 0, PICTURES, MediaKind::Video);
    while world.people[ben].connected.is_none() {
        world.run(Duration::from_millis(5));
    }
    world
}

/// What Ben received between two times.
#[derive(Debug)]
struct Seen {
    /// Seconds of frozen video: the sum of all gaps longer than 200 ms between frames.
    frozen: f64,
    /// Bits per second of audio and of the video frames that were shown.
    rate: f64,
    /// Share of the audio frames that arrived.
    sound: f64,
}

fn seen(world: &RawWorld, frame_bytes: &[usize], from: Instant, to: Instant) -> Seen {
    let ben = &world.people[1];
    let shown = ben.pictures.iter().flat_map(|picture| &picture.shown);
    let shown: Vec<_> = shown.filter(|shown| (from..to).contains(&shown.at)).collect();
    let mut times = vec![from];
    times.extend(shown.iter().map(|shown| shown.at));
    times.push(to);
    let gaps = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64());
    let mut layers = [0; 3];
    shown.iter().for_each(|shown| layers[usize::from(shown.layer)] += 1);
    let frames = ben.sounds.iter().flat_map(|sound| sound.frames.values());
    let heard = frames.filter(|heard| (from..to).contains(&heard.at)).count();
    let seconds = (to - from).as_secs_f64();
    let pictures: usize =
        layers.iter().zip(frame_bytes).map(|(count, bytes)| count * cost_bps(*bytes) / 30).sum();
    Seen {
        frozen: gaps.filter(|gap| *gap > 0.2).sum(),
        rate: (pictures as f64 + (heard * SOUND_BPS / 50) as f64) / seconds,
        sound: heard as f64 / (seconds * 50.0),
    }
}

/// Prints the logged decisions if TRACE is set.
fn trace(world: &RawWorld) {
    if std::env::var_os("TRACE").is_none() {
        return;
    }
    let connected = world.people[1].connected.expect("connected");
    let inspected = world.shards[0].inspect(&world.people[1].sid, world.now).expect("here");
    let age = (world.now - connected).as_millis() as i64;
    for decided in inspected.decisions {
        println!("{} {:?}", age - decided.ms_ago as i64, decided.what);
    }
    let mut last = connected;
    for shown in &world.people[1].pictures[0].shown {
        if shown.at - last > Duration::from_millis(200) {
            let at = |moment: Instant| (moment - connected).as_millis();
            println!("still from {} to {}", at(last), at(shown.at));
        }
        last = shown.at;
    }
}

/// Upper bound of frozen video in seconds, and lower bound of the used share of the link.
fn bounds(kind: Kind, kbps: u64, bucket_kb: u64) -> (Bound, Bound) {
    match (kind, kbps, bucket_kb) {
        // The bucket holds 24 ms of the link's rate; frames of the second layer do not fit into it.
        (Kind::Policer, 5000, 15) => (Bound::AtMost(1.0), Bound::AtLeast(0.25)),
        (_, _, 15) => (Bound::AtMost(1.0), Bound::AtLeast(0.6)),
        _ => (Bound::Less, Bound::More),
    }
}

fn table(kind: Kind, kbps: u64) {
    for bucket in buckets() {
        let case = format!("{}, {kbps} kbit/s, {bucket} kB", kind.name());
        Report::over_seeds(&case, |seed, report| {
            let layers = fitting(kbps);
            let mut world = joined(seed, &layers, kind.path(kbps, bucket));
            let connected = world.people[1].connected.expect("connected");
            world.run(connected + Duration::from_secs(40) - world.now);
            trace(&world);
            let second = Duration::from_secs(1);
            let later = seen(&world, &layers, connected + 2 * second, world.now);
            let first = world.people[1].pictures[0].shown.first().map_or(world.now, |shown| shown.at);
            report.add(
                seed,
                "first picture after, ms",
                Bound::AtMost(1000.0),
                (first - connected).as_secs_f64() * 1e3,
            );
            let (still, least) = bounds(kind, kbps, bucket);
            report.add(seed, "stands still from 2 s on, s", still, later.frozen);
            let used = seen(&world, &layers, connected + 3 * second, world.now);
            report.add(seed, "of the link used from 3 s on", least, used.rate / kbps as f64 / 1e3);
            report.add(seed, "sound that came, from 2 s on", Bound::More, later.sound);
        });
    }
}

/// Layers with the bitrates of browsers: how much of a link is used depends on which of them fits.
fn usual_table(kind: Kind, kbps: u64) {
    for bucket in buckets() {
        let case = format!("{}, {kbps} kbit/s, {bucket} kB, layers of a browser", kind.name());
        Report::over_seeds(&case, |seed, report| {
            let mut world = joined(seed, &USUAL, kind.path(kbps, bucket));
            let connected = world.people[1].connected.expect("connected");
            world.run(connected + Duration::from_secs(40) - world.now);
            trace(&world);
            let later = seen(&world, &USUAL, connected + Duration::from_secs(2), world.now);
            let fits = |bytes: &&usize| (cost_bps(**bytes) + SOUND_BPS) as u64 * 108 / 100 <= kbps * 1000;
            let best = USUAL.iter().rev().find(fits).unwrap_or(&USUAL[0]);
            let (still, least) = bounds(kind, kbps, bucket);
            // Losses that a long probe causes lower nothing: they cost a freeze of 0.3 s here when they did.
            let still = if kind == Kind::Bucket && bucket == 15 { Bound::AtMost(0.25) } else { still };
            report.add(seed, "stands still from 2 s on, s", still, later.frozen);
            let best = (cost_bps(*best) + SOUND_BPS) as f64;
            report.add(seed, "shown, of the best layer that fits", least, later.rate / best);
        });
    }
}

macro_rules! cases {
    ($($name:ident: $table:ident, $kind:ident, $kbps:literal;)*) => {
        $(#[test]
        fn $name() {
            $table(Kind::$kind, $kbps);
        })*
    };
}

cases! {
    token_bucket_300: table, Bucket, 300;
    token_bucket_400: table, Bucket, 400;
    token_bucket_800: table, Bucket, 800;
    token_bucket_2000: table, Bucket, 2000;
    token_bucket_5000: table, Bucket, 5000;
    policer_300: table, Policer, 300;
    policer_400: table, Policer, 400;
    policer_800: table, Policer, 800;
    policer_2000: table, Policer, 2000;
    policer_5000: table, Policer, 5000;
    usual_layers_token_bucket_400: usual_table, Bucket, 400;
    usual_layers_token_bucket_800: usual_table, Bucket, 800;
    usual_layers_policer_400: usual_table, Policer, 400;
    usual_layers_policer_800: usual_table, Policer, 800;
}
