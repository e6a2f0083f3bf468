//! Audio and video of a participant stay synchronised, whichever layers the video switches through and on whichever
//! shard it is received.

mod harness;

use std::time::{Duration, Instant};

use harness::network::Path;
use harness::raw::person::{Publish, Setup};
use harness::raw::{RawWorld, announced, simulcast};
use sfu_engine::rtp::extension::EndToEndExtensions;
use sfu_engine::rtp::extension::Extension;
use sfu_protocol::{Command, LayerQuality, MediaKind, TrackDemand, TrackSid};

const SOUND: &str = "TR_AMana";
const PICTURES: &str = "TR_VCana";

fn link(ms: u64) -> Path {
    Path { loss: 0.02, ..Path::with_delay(Duration::from_millis(ms)) }
}

fn publishes() -> Vec<Publish> {
    let mut pictures = announced(PICTURES, MediaKind::Video, "vp8");
    pictures.layers = simulcast(3);
    vec![
        Publish {
            announced: announced(SOUND, MediaKind::Audio, "opus"),
            redundancy: 0,
            frame_bytes: vec![100],
            extensions: EndToEndExtensions::default(),
        },
        Publish {
            announced: pictures,
            redundancy: 0,
            frame_bytes: vec![400, 1200, 2500],
            extensions: EndToEndExtensions::default(),
        },
    ]
}

/// Publisher's capture time in seconds, as a receiver computes it from the last sender report.
fn captured(reported: (u64, u32, Instant), timestamp: u32, rate: f64) -> f64 {
    let ticks = timestamp.wrapping_sub(reported.1) as i32;
    reported.0 as f64 / 4_294_967_296.0 + f64::from(ticks) / rate
}

#[test]
fn sound_and_picture_stay_within_20_ms_through_switches_of_layer_and_on_another_shard() {
    for (seed, shards) in [(1, 1), (2, 2), (3, 2)] {
        let mut world = RawWorld::new(seed, shards);
        world.join(Setup { name: "ana", publishes: publishes(), ..Setup::default() }, link(30));
        world.run(Duration::from_secs(1));
        let shard = usize::from(shards) - 1;
        let ben =
            Setup { name: "ben", shard, audios: 1, videos: 1, red: true, nack: true, ..Setup::default() };
        world.join(ben, link(60));
        world.run(Duration::from_secs(1));
        world.subscribe(1, 0, SOUND, MediaKind::Audio);
        world.subscribe(1, 0, PICTURES, MediaKind::Video);
        world.run(Duration::from_secs(3));
        let (mut worst, mut layers) = (0.0_f64, Vec::new());
        for step in 0..12 {
            let quality = [LayerQuality::Low, LayerQuality::High, LayerQuality::Medium][step % 3];
            let command = Command::SetDemand {
                participant: world.people[1].sid.clone(),
                track: TrackSid::new(PICTURES),
                demand: TrackDemand { quality, ..TrackDemand::default() },
            };
            world.command(shard, command);
            for _ in 0..30 {
                world.run(Duration::from_millis(100));
                let ben = &world.people[1];
                let (Some(sound), Some(picture)) = (ben.sounds[0].reported, ben.pictures[0].reported) else {
                    panic!("seed {seed}: no sender report");
                };
                let heard = ben.sounds[0].frames.values().last().expect("sound");
                let shown = ben.pictures[0].shown.last().expect("pictures");
                layers.push(shown.layer);
                let error = |reported, timestamp, rate, capture_us: u64| {
                    captured(reported, timestamp, rate)
                        - (world.people[0].clock as f64 + capture_us as f64 / 1e6)
                };
                let apart = error(picture, shown.timestamp, 90_000.0, shown.capture_us)
                    - error(sound, heard.timestamp, 48_000.0, heard.capture_us);
                worst = worst.max(apart.abs());
            }
        }
        layers.dedup();
        println!("seed {seed}, {shards} shards: {:.1} ms apart at most, layers {layers:?}", worst * 1e3);
        assert!(layers.len() >= 8, "the picture did go through its layers: {layers:?}");
        assert!(worst < 0.02, "seed {seed}: {worst} s apart");
    }
}

#[test]
fn the_time_of_capture_and_the_bounds_of_delay_reach_those_who_take_them() {
    let mut publishes = publishes();
    let capture = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
    for publish in &mut publishes {
        publish.extensions.absolute_capture_time = Some(bytes::Bytes::copy_from_slice(&capture));
        publish.extensions.playout_delay = Some([0, 0x10, 0x20]);
    }
    let extensions = vec![(2, Extension::AbsoluteCaptureTime.uri()), (4, Extension::PlayoutDelay.uri())];
    let mut world = RawWorld::new(4, 2);
    let ana = Setup { name: "ana", publishes, extensions: extensions.clone(), ..Setup::default() };
    world.join(ana, link(10));
    world.run(Duration::from_secs(1));
    for (name, extensions) in [("ben", extensions), ("cy", Vec::new())] {
        let setup = Setup { name, shard: 1, audios: 1, videos: 1, extensions, ..Setup::default() };
        world.join(setup, link(10));
    }
    world.run(Duration::from_secs(1));
    for who in [1, 2] {
        world.subscribe(who, 0, SOUND, MediaKind::Audio);
        world.subscribe(who, 0, PICTURES, MediaKind::Video);
    }
    world.run(Duration::from_secs(3));
    for (who, takes) in [(1, true), (2, false)] {
        let (sound, picture) = (&world.people[who].sounds[0], &world.people[who].pictures[0]);
        assert!(!sound.frames.is_empty() && !picture.shown.is_empty());
        assert_eq!(sound.capture_time.as_deref(), takes.then_some(&capture[..]));
        assert_eq!(picture.capture_time.as_deref(), takes.then_some(&capture[..]));
        assert_eq!(picture.playout_delay, takes.then_some([0, 0x10, 0x20]));
    }
    // Forwarded sender reports use the publisher's clock, so that the offset in the capture-time extension stays
    // correct.
    let (ntp, ..) = world.people[1].sounds[0].reported.expect("a sender report");
    assert!((ntp >> 32).abs_diff(world.people[0].clock) < 60, "{}", ntp >> 32);
}
