//! Datagrams from strangers, and malformed datagrams, have no effect and get no answer, and the call continues.

mod harness;

use std::net::SocketAddr;
use std::time::Duration;

use harness::World;
use harness::network::Path;
use harness::raw::person::{Publish, Setup};
use harness::raw::{RawWorld, announced, simulcast};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sfu_protocol::{Command, Event, MediaKind};

const NEAR: Duration = Duration::from_millis(10);

fn stranger() -> SocketAddr {
    SocketAddr::from(([10, 9, 9, 9], 666))
}

/// Beginnings of all kinds of datagrams that arrive at the port (RFC 7983).
fn beginnings() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("STUN request", [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat()),
        ("STUN response", [&[1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat()),
        ("DTLS hello", vec![22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 1, 0, 0, 88, 0, 0]),
        ("DTLS alert", vec![21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40]),
        ("DTLS close", vec![21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 1, 0]),
        ("DTLS data", vec![23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 40]),
        ("DTLS CCS", vec![20, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 1]),
        ("RTP", vec![0x90, 96, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 0xbe, 0xde, 0, 1, 0x10, b'0', 0, 0]),
        ("RTCP", vec![0x80, 200, 0, 6, 1, 2, 3, 4]),
        ("RTCP PLI", vec![0x81, 206, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8]),
        ("TURN channel", vec![0x40, 0, 0, 4]),
        ("nothing known", vec![0xff; 4]),
    ]
}

#[test]
fn strangers_get_no_answer_during_set_up_and_after() {
    let mut world = World::new(70, 1);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 0, NEAR);
    let video = world.publish_video(ana, &[("", 3000)]);
    world.connect(ben);
    for round in 0..40 {
        for (_, bytes) in beginnings() {
            world.inject(0, stranger(), &bytes);
        }
        // The first rounds fall into the ICE and DTLS handshakes.
        world.run(Duration::from_millis(if round < 30 { 3 } else { 300 }));
    }
    assert_eq!(world.sent.get(&stranger()), None, "not one byte back");
    let frames = world.clients[ben].frames_of(&video);
    assert!(frames.len() > 60 && frames.iter().all(|frame| frame.intact && frame.contiguous));
}

#[test]
fn recorded_packets_from_another_address_have_no_effect() {
    let mut world = World::new(71, 1);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 0, NEAR);
    let video = world.publish_video(ana, &[("", 3000)]);
    world.connect(ben);
    world.run(Duration::from_secs(2));
    let stolen: Vec<Vec<u8>> =
        world.record(ana, 20).into_iter().flat_map(|(_, datagrams)| datagrams).collect();
    let media = stolen.iter().filter(|datagram| datagram[0] >= 128).collect::<Vec<_>>();
    assert!(media.len() > 30);
    let before = world.shards[0].stats().received.video;
    for datagram in media {
        world.inject(0, stranger(), datagram);
    }
    assert_eq!(world.shards[0].stats().received.video, before);
    assert_eq!(world.sent.get(&stranger()), None);
    let _ = video;
}

#[test]
fn any_length_of_anything_from_anywhere_changes_nothing() {
    let mut world = World::new(72, 1);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 0, NEAR);
    let video = world.publish_video(ana, &[("", 3000)]);
    world.connect(ben);
    world.run(Duration::from_secs(2));
    let mut rng = SmallRng::seed_from_u64(72);
    let sources = [stranger(), world.clients[ana].address, world.clients[ben].address];
    let mut injected = 0;
    for length in 0..=1500_usize {
        for (_, beginning) in beginnings() {
            let mut datagram = beginning;
            datagram.resize_with(length, || rng.random());
            // At each length every kind is sent once. Over all lengths, every source sends every kind.
            world.inject(0, sources[injected % 3], &datagram);
            injected += 1;
        }
        if length % 20 == 0 {
            world.run(Duration::from_millis(33));
        }
    }
    world.run(Duration::from_secs(2));
    assert_eq!(world.sent.get(&stranger()), None, "not one byte back");
    let ended = world.events.iter().any(|(_, event)| matches!(event, Event::Ended { .. }));
    assert!(!ended, "nobody was ended");
    assert_eq!(world.shards[0].stats().panics, 0);
    let frames = world.clients[ben].frames_of(&video);
    assert!(frames.len() > 130, "{}", frames.len());
    assert!(frames.iter().all(|frame| frame.intact && frame.contiguous), "and nothing of the call is lost");
}

#[test]
fn a_malformed_description_is_refused_by_name_and_the_call_goes_on() {
    let mut world = World::new(73, 1);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 0, NEAR);
    let video = world.publish_video(ana, &[("", 3000)]);
    world.connect(ben);
    world.run(Duration::from_secs(2));
    let participant = world.clients[ben].participant.clone();
    for sdp in [
        "",
        "nonsense",
        "v=0\r\n",
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n",
    ] {
        let command = Command::Offer { participant: participant.clone(), id: 9, sdp: sdp.to_owned() };
        world.command(0, command);
    }
    let refused: Vec<_> = world
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::NegotiationFailed { id: 9, error, .. } => Some(error.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(refused.len(), 4);
    assert!(refused.iter().all(|error| !error.field.is_empty() && !error.reason.is_empty()), "{refused:?}");
    let before = world.clients[ben].frames_of(&video).len();
    world.run(Duration::from_secs(2));
    assert!(world.clients[ben].frames_of(&video).len() > before + 50);
}

#[test]
fn sizes_that_no_picture_has_harm_nobody() {
    let mut announced = announced("TR_huge", MediaKind::Video, "vp8");
    announced.layers = simulcast(3);
    announced.layers.iter_mut().for_each(|layer| (layer.width, layer.height) = (u32::MAX, u32::MAX));
    let huge =
        Publish { announced, redundancy: 0, frame_bytes: vec![500; 3], extensions: Default::default() };
    let mut world = RawWorld::new(75, 1);
    world.join(Setup { name: "mallory", publishes: vec![huge], ..Setup::default() }, Path::with_delay(NEAR));
    world.join(Setup { name: "ben", videos: 1, ..Setup::default() }, Path::with_delay(NEAR));
    world.run(Duration::from_millis(500));
    world.subscribe(1, 0, "TR_huge", MediaKind::Video);
    world.run(Duration::from_secs(5));
    assert_eq!(world.shards[0].stats().panics, 0);
    assert!(!world.events.iter().any(|event| matches!(event, Event::Ended { .. })), "nobody was ended");
    assert!(!world.people[1].pictures[0].shown.is_empty(), "and it is seen");
}
