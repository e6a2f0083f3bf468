//! Very large rooms: only the loudest few participants are forwarded, and nobody's first syllable is missing.

mod harness;

use std::collections::BTreeSet;
use std::time::Duration;

use harness::World;
use harness::network::Path;
use sfu_engine::limits::Limits;
use sfu_protocol::TrackSid;

const NEAR: Duration = Duration::from_millis(10);
const LOUDEST: usize = 3;

fn talking(n: u32) -> i8 {
    20 + (n % 3) as i8 * 2
}

fn listening(_: u32) -> i8 {
    75
}

struct Room {
    world: World,
    speakers: Vec<usize>,
    tracks: Vec<TrackSid>,
    /// Index of the client that only listens.
    ears: usize,
}

/// Eight microphones, distributed over the shards, and a listener on the last shard.
fn room(seed: u64, shards: u16, loudest_tracks: usize) -> Room {
    let limits = Limits { loudest_tracks, ..Limits::default() };
    let mut world = World::with_limits(seed, shards, &limits);
    // The speakers' own reception is of no interest, so they subscribe to nothing.
    world.auto_subscribe = false;
    let ears = world.join("ears", usize::from(shards) - 1, NEAR);
    world.connect(ears);
    let mut room = Room { world, speakers: Vec::new(), tracks: Vec::new(), ears };
    for n in 0..8 {
        let client = room.world.join(&format!("s{n}"), n % usize::from(shards), NEAR);
        let track = room.world.publish_audio(client);
        room.world.clients[client].publishers[0].loudness = Some(listening);
        room.speakers.push(client);
        room.tracks.push(track);
    }
    room.world.run(Duration::from_secs(1));
    for n in 0..8 {
        let (listener, speaker) = (&room.world.clients[room.ears], &room.world.clients[room.speakers[n]]);
        let (listener, speaker) = (listener.participant.clone(), speaker.participant.clone());
        let track = room.tracks[n].clone();
        room.world.subscribe(&listener, &speaker, &track, sfu_protocol::MediaKind::Audio);
    }
    room.world.run(Duration::from_secs(5));
    room
}

impl Room {
    fn set(&mut self, speaker: usize, loudness: fn(u32) -> i8) {
        self.world.clients[self.speakers[speaker]].publishers[0].loudness = Some(loudness);
    }

    /// Number of audio frames that the speaker has produced so far.
    fn made(&self, speaker: usize) -> u32 {
        self.world.clients[self.speakers[speaker]].publishers[0].frames
    }

    /// Speakers whose audio arrived in the last second.
    fn heard(&self) -> BTreeSet<usize> {
        let lately = self.world.now - Duration::from_secs(1);
        let arrived = |track: &TrackSid| {
            let frames = self.world.clients[self.ears].frames_of(track);
            frames.iter().any(|frame| frame.at >= lately)
        };
        (0..8).filter(|speaker| arrived(&self.tracks[*speaker])).collect()
    }

    fn nacks(&mut self) -> u64 {
        self.world.shards.iter_mut().map(|shard| shard.stats().nacks_received).sum()
    }
}

#[test]
fn who_begins_to_speak_is_heard_from_the_first_packet() {
    for (seed, shards) in [(500, 1), (501, 3)] {
        let mut room = room(seed, shards, LOUDEST);
        assert!(room.heard().len() <= LOUDEST, "{:?}", room.heard());
        // The participants speak one after the other, each more than once.
        for turn in 0..12 {
            let speaker = turn * 3 % 8;
            let first = room.made(speaker);
            room.set(speaker, |_| 58); // a soft beginning, which could be noise
            room.world.run(Duration::from_millis(60));
            room.set(speaker, talking);
            room.world.run(Duration::from_secs(2));
            let last = room.made(speaker);
            room.set(speaker, listening);
            assert!(room.heard().contains(&speaker) && room.heard().len() <= LOUDEST, "{:?}", room.heard());
            let frames = room.world.clients[room.ears].frames_of(&room.tracks[speaker]);
            let spoken: Vec<u32> =
                frames.iter().map(|frame| frame.number).filter(|n| (first..last - 5).contains(n)).collect();
            let expected: Vec<u32> = (first..last - 5).collect();
            assert_eq!(spoken, expected, "turn {turn} of {speaker} on {shards} shards");
            room.world.run(Duration::from_secs(1));
        }
        assert_eq!(room.nacks(), 0, "what was kept back leaves no holes");
        for track in &room.tracks {
            let frames = room.world.clients[room.ears].frames_of(track);
            assert!(frames.iter().all(|frame| frame.intact && frame.contiguous));
            for pair in frames.windows(2) {
                let ticks = pair[1].time.numer() as i64 - pair[0].time.numer() as i64;
                let numbers = i64::from(pair[1].number) - i64::from(pair[0].number);
                assert!((ticks - numbers * 960).abs() <= 1, "{ticks} ticks in {numbers} packets");
            }
        }
        let unheard: u64 = room.world.shards.iter_mut().map(|shard| shard.stats().audio_unheard).sum();
        assert!(unheard > 8 * 50 * 15, "{unheard} packets kept back");
    }
}

#[test]
fn more_talkers_than_places_never_make_more_streams() {
    let mut room = room(503, 2, LOUDEST);
    for speaker in 0..8 {
        room.set(speaker, talking);
    }
    for second in 0..20 {
        let before = room.world.clients[room.ears].frames.len();
        room.world.run(Duration::from_secs(1));
        let packets = room.world.clients[room.ears].frames.len() - before;
        // A speaker that replaces another is sent with its last 60 ms. In the first second many do.
        assert!((145..=200).contains(&packets), "{packets} packets in second {second}");
        let heard = room.heard();
        assert!(second == 0 || (LOUDEST..=LOUDEST + 1).contains(&heard.len()), "{second}: {heard:?}");
    }
}

#[test]
fn sound_that_is_not_sent_takes_no_room_from_pictures() {
    // All audio together would take 580 kbit/s; the layers take 255, 1000 and 2500 kbit/s.
    for (seed, rate_kbps, layer) in [(505, 700, 0), (506, 2_000, 1), (507, 4_500, 2)] {
        let limits = Limits { loudest_tracks: LOUDEST, ..Limits::default() };
        let mut world = World::with_limits(seed, 2, &limits);
        let ears = world.join("ears", 1, NEAR);
        world.links[ears].1 = Path::with_rate(NEAR, rate_kbps);
        let painter = world.join("painter", 0, NEAR);
        let picture = world.publish_video(painter, &[("q", 1000), ("h", 4000), ("f", 10_000)]);
        for n in 0..10 {
            let client = world.join(&format!("s{n}"), 0, NEAR);
            world.publish_audio(client);
            world.clients[client].publishers[0].loudness = Some(listening);
        }
        world.connect(ears);
        world.run(Duration::from_secs(20));
        let layers = world.layers_lately(ears, &picture, Duration::from_secs(10));
        assert!(layers.len() > 280, "{} pictures in 10 s at {rate_kbps} kbit/s", layers.len());
        // A probe may have suggested more than the link can carry. Then a higher layer is tried for half a second.
        let wanted = layers.iter().filter(|sent| **sent == layer).count();
        assert!(
            wanted * 10 >= layers.len() * 9,
            "{wanted} of {} at {rate_kbps} kbit/s: {layers:?}",
            layers.len()
        );
    }
}

#[test]
fn small_rooms_and_rooms_without_the_limit_are_heard_whole() {
    for loudest in [0, 8] {
        let mut room = room(504, 2, loudest);
        room.world.run(Duration::from_secs(10));
        assert_eq!(room.heard().len(), 8, "{loudest}");
        let unheard: u64 = room.world.shards.iter_mut().map(|shard| shard.stats().audio_unheard).sum();
        assert_eq!(unheard, 0);
    }
}
