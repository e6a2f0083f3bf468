//! Cost of a NACK storm: one subscriber requests every packet of the last second, every 5 ms. Measures the time that a
//! shard takes for a room, with and without the storm, in one run.

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::time::{Duration, Instant};

use harness::network::Path;
use harness::raw::person::{Publish, Setup};
use harness::raw::{RawWorld, announced};
use sfu_protocol::MediaKind;

const SOUND: &str = "TR_AMana";
const PICTURES: &str = "TR_VCana";
const ROUNDS: usize = 5;
/// Virtual time measured in each round, with and without the storm.
const SPAN: Duration = Duration::from_secs(5);

fn main() {
    println!(
        "a shard's time for a second of a room's sound and pictures (2.5 Mbit/s to each), best of {ROUNDS}"
    );
    println!(
        "{:>12} {:>10} {:>10} {:>8} {:>16}",
        "subscribers", "calm, us", "storm, us", "ratio", "of a core, %"
    );
    [10, 50, 200].into_iter().for_each(measure);
}

fn measure(subscribers: usize) {
    let mut world = room(subscribers);
    world.stopwatch = Some(clock);
    let mut best = [f64::MAX; 2];
    for _ in 0..ROUNDS {
        for (best, storm) in best.iter_mut().zip([false, true]) {
            world.people[1].sounds[0].storm = storm;
            // Spend the retransmission budget that was saved before the storm.
            world.run(Duration::from_secs(2));
            world.spent = Duration::ZERO;
            world.run(SPAN);
            *best = best.min(world.spent.as_secs_f64() * 1e6 / SPAN.as_secs_f64());
        }
    }
    let [calm, storm] = best;
    let share = (storm - calm) / 1e4;
    println!("{subscribers:>12} {calm:>10.0} {storm:>10.0} {:>8.2} {share:>16.3}", storm / calm);
}

fn room(subscribers: usize) -> RawWorld {
    let publish = |track, kind, codec, bytes| Publish {
        announced: announced(track, kind, codec),
        redundancy: 0,
        frame_bytes: vec![bytes],
        extensions: Default::default(),
    };
    let publishes = vec![
        publish(SOUND, MediaKind::Audio, "opus", 100),
        publish(PICTURES, MediaKind::Video, "vp8", 10_200),
    ];
    let near = Path::with_delay(Duration::from_millis(10));
    let mut world = RawWorld::new(1, 1);
    world.join(Setup { name: "ana", publishes, ..Setup::default() }, near);
    world.run(Duration::from_millis(500));
    for number in 1..=subscribers {
        let name = Box::leak(format!("person{number}").into_boxed_str());
        let setup = Setup { name, audios: 1, videos: 1, nack: true, ..Setup::default() };
        world.join(setup, near);
        world.run(Duration::from_millis(20));
        world.subscribe(number, 0, SOUND, MediaKind::Audio);
        world.subscribe(number, 0, PICTURES, MediaKind::Video);
    }
    world.run(Duration::from_secs(3));
    assert!(world.people.iter().all(|person| person.connected.is_some()), "all connect");
    world
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn clock() -> Instant {
    Instant::now()
}
