//! Reliable user data arrives completely and in order, or ends with a typed reason. A slow receiver does not delay
//! other receivers, and a sender is blocked only while no receiver can accept more.

mod harness;

use std::time::Duration;

use harness::World;
use harness::network::Path;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use sfu_engine::limits::Limits;
use sfu_engine::stats::Drop;
use sfu_protocol::{EndReason, Event};

const NEAR: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);

/// A simulation of a connected sender and receivers, with open data channels. `places` are the receivers' shards.
fn room(seed: u64, shards: u16, limits: &Limits, places: &[usize]) -> World {
    let mut world = World::with_limits(seed, shards, limits);
    world.join("sender", 0, NEAR);
    for (number, shard) in places.iter().enumerate() {
        world.join(&format!("receiver{number}"), *shard, NEAR);
    }
    for client in 0..=places.len() {
        world.connect(client);
    }
    let open = |world: &World| world.clients.iter().all(|client| client.channels.len() == 2);
    assert!(world.run_until(5 * SECOND, open), "all channels open");
    world
}

/// Numbered packets of `size` random payload bytes each, `bytes` in total.
fn packets(seed: u64, bytes: usize, size: usize) -> Vec<Vec<u8>> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut payload = vec![0; bytes];
    rng.fill_bytes(&mut payload);
    let pieces = payload.chunks(size).zip(1..);
    pieces.map(|(piece, sequence)| packet(piece, sequence)).collect()
}

fn packet(payload: &[u8], sequence: u32) -> Vec<u8> {
    use livekit_protocol::{DataPacket, UserPacket, data_packet};
    use prost::Message;

    let user = UserPacket { payload: payload.to_vec(), ..Default::default() };
    let value = Some(data_packet::Value::User(user));
    DataPacket { value, sequence, ..Default::default() }.encode_to_vec()
}

/// Packet of exactly `bytes` bytes.
fn packet_of(bytes: usize, sequence: u32) -> Vec<u8> {
    let around = packet(&vec![7; bytes], sequence).len() - bytes;
    let packet = packet(&vec![7; bytes - around], sequence);
    assert_eq!(packet.len(), bytes);
    packet
}

/// Packet that is addressed to certain participants only.
fn directed(packet: &[u8], identities: &[&str]) -> Vec<u8> {
    use livekit_protocol::DataPacket;
    use prost::Message;

    let mut packet = DataPacket::decode(packet).expect("a data packet");
    packet.destination_identities = identities.iter().map(|identity| (*identity).to_owned()).collect();
    packet.encode_to_vec()
}

/// Concatenated payloads of packets.
fn contents<'a>(packets: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    use livekit_protocol::{DataPacket, data_packet};
    use prost::Message;

    let packets = packets.into_iter();
    let payloads =
        packets.map(|packet| match DataPacket::decode(packet.as_slice()).expect("a data packet").value {
            Some(data_packet::Value::User(user)) => user.payload,
            other => panic!("{other:?}"),
        });
    payloads.flatten().collect()
}

fn received(world: &World, client: usize) -> Vec<u8> {
    contents(world.clients[client].messages.iter().map(|(_, message)| message))
}

fn ended(world: &World) -> Vec<(String, EndReason)> {
    let events = world.events.iter().filter_map(|(_, event)| match event {
        Event::Ended { participant, reason } => Some((participant.as_str().to_owned(), *reason)),
        _ => None,
    });
    events.collect()
}

fn count(world: &World, client: usize) -> usize {
    world.clients[client].messages.len()
}

/// Lets time pass until `holds` is true. Returns the largest backlog for receivers in bytes, over all shards.
fn run_watching(world: &mut World, time: Duration, holds: impl Fn(&World) -> bool) -> u64 {
    let (mut most, end) = (0, world.now + time);
    while world.now < end && !holds(world) {
        world.run(Duration::from_millis(20));
        let waiting = world.shards.iter_mut().map(|shard| shard.stats().data_waiting).sum();
        most = most.max(waiting);
    }
    assert!(holds(world), "it holds within {time:?}");
    most
}

#[test]
fn everything_reaches_a_slow_receiver_that_is_the_only_one() {
    for (shard, rate) in [(0, 200), (1, 200), (0, 2000)] {
        let mut world = room(1, 2, &Limits::default(), &[shard]);
        world.links[1].1 = Path::with_rate(NEAR, rate);
        let sent = packets(1, 1_000_000, 15_000);
        let number = sent.len();
        world.send_all(0, "_reliable", sent.clone());
        let begun = world.now;
        let most = run_watching(&mut world, 200 * SECOND, |world| count(world, 1) == number);
        assert!(received(&world, 1) == contents(&sent), "every byte, in order");
        let took = (world.now - begun).as_secs_f64();
        let fastest = 8_000_000.0 / (rate as f64 * 1000.0);
        println!("{rate} kbit/s: {took:.1} s, at least {fastest:.1}; {most} bytes waited");
        assert!(took < fastest * 1.4 + 2.0, "{took} s");
        assert!(most <= 800_000, "{most} bytes waited");
        assert_eq!(ended(&world), []);
    }
}

#[test]
fn many_small_messages_reach_a_slow_and_a_fast_receiver() {
    for (size, number) in [(15_000, 200), (1000, 3000)] {
        let mut world = room(2, 1, &Limits::default(), &[0, 0]);
        world.links[2].1 = Path::with_rate(NEAR, 500);
        let sent = packets(2, size * number, size);
        world.send_all(0, "_reliable", sent.clone());
        let begun = world.now;
        assert!(
            world.run_until(20 * SECOND, |world| count(world, 1) == number),
            "the fast one is not slowed"
        );
        println!("{number} of {size} bytes: {:?} to the fast one", world.now - begun);
        assert!(
            world.run_until(120 * SECOND, |world| count(world, 2) == number),
            "and the slow one gets all"
        );
        for client in [1, 2] {
            assert!(received(&world, client) == contents(&sent), "every byte, in order");
        }
        assert_eq!(ended(&world), []);
    }
}

/// Runs at full size with `ANYTIME_DATA_MEGABYTES=40`, otherwise with a tenth of the data and of the backlog limit.
#[test]
fn a_fast_a_slow_and_a_stalled_receiver() {
    let whole = std::env::var("ANYTIME_DATA_MEGABYTES").ok().and_then(|text| text.parse::<usize>().ok());
    let mut limits = Limits::default();
    let bytes = whole.unwrap_or(4) * 1_000_000;
    if whole.is_none() {
        limits.data_backlog_bytes /= 10;
    }
    for places in [[0, 0, 0], [1, 1, 2], [1, 0, 1]] {
        let sent = packets(3, bytes, 15_000);
        let number = sent.len();
        let alone = {
            let mut world = room(3, 3, &limits, &places[..1]);
            world.links[1].1 = Path::with_rate(NEAR, 50_000);
            world.send_all(0, "_reliable", sent.clone());
            let begun = world.now;
            run_watching(&mut world, 600 * SECOND, |world| count(world, 1) == number);
            world.now - begun
        };
        let mut world = room(3, 3, &limits, &places);
        world.links[1].1 = Path::with_rate(NEAR, 50_000);
        world.links[2].1 = Path::with_rate(NEAR, 200);
        world.links[3].1.longest = Some(300);
        world.send_all(0, "_reliable", sent.clone());
        let begun = world.now;
        let most = run_watching(&mut world, 600 * SECOND, |world| count(world, 1) == number);
        let took = world.now - begun;
        assert!(received(&world, 1) == contents(&sent), "every byte, in order");
        println!("{places:?}: {took:?}, alone {alone:?}; {most} bytes waited for both others");
        assert!(took < alone + Duration::from_millis(1500), "{took:?}, alone {alone:?}");
        let bound = 2 * (limits.data_backlog_bytes + 3 * limits.data_buffered_bytes) as u64;
        assert!(most < bound, "{most} bytes waited");
        let mut names = ended(&world);
        names.sort_by(|one, other| one.0.cmp(&other.0));
        let end = |name: &str| (format!("PA_receiver{name}"), EndReason::DataBacklog);
        assert_eq!(names, [end("1"), end("2")], "told, with the reason");
        // The data that the slow receiver got before has no gap.
        let slow = received(&world, 2);
        assert!(contents(&sent).starts_with(&slow));
        let lost: u64 = world.shards.iter_mut().map(|shard| shard.stats().dropped(Drop::DataBacklog)).sum();
        assert!(lost > 0, "and counted");
        assert_eq!(world.shards.iter_mut().map(|shard| shard.stats().data_receivers_ended).sum::<u64>(), 2);
    }
}

#[test]
fn a_receiver_that_takes_nothing_ends_and_its_sender_goes_on() {
    let mut world = room(4, 2, &Limits::default(), &[1, 0]);
    world.links[1].1.longest = Some(300);
    // Addressed to the stalled receiver only.
    let sent = packets(4, 1_000_000, 15_000);
    let number = sent.len() as u32;
    world.send_all(0, "_reliable", sent.iter().map(|packet| directed(packet, &["receiver0"])));
    world.send_all(0, "_reliable", [packet(b"to both", number + 1)]);
    world.run(15 * SECOND);
    assert_eq!(ended(&world), [], "not yet");
    assert!(!world.clients[0].outgoing.is_empty(), "the sender waits");
    assert!(world.run_until(20 * SECOND, |world| count(world, 2) == 1), "and goes on");
    assert_eq!(ended(&world), [("PA_receiver0".to_owned(), EndReason::DataBacklog)]);
    assert_eq!(received(&world, 2), b"to both");
}

#[test]
fn a_receiver_that_stands_still_for_a_while_gets_everything() {
    let mut world = room(5, 1, &Limits::default(), &[0]);
    let sent = packets(5, 3_000_000, 15_000);
    let number = sent.len();
    world.links[1].1 = Path::with_rate(NEAR, 10_000);
    world.send_all(0, "_reliable", sent.clone());
    for _ in 0..4 {
        world.run(Duration::from_millis(300));
        world.links[1].1.longest = Some(300);
        world.run(8 * SECOND);
        world.links[1].1.longest = None;
        // The retransmission timeout grows with each attempt.
        let before = count(&world, 1);
        assert!(world.run_until(16 * SECOND, |world| count(world, 1) > before));
    }
    assert!(world.run_until(120 * SECOND, |world| count(world, 1) == number));
    assert!(received(&world, 1) == contents(&sent), "every byte, in order");
    assert_eq!(ended(&world), []);
}

#[test]
fn of_two_senders_to_one_slow_receiver_both_come_through() {
    let mut world = room(6, 2, &Limits::default(), &[0, 1]);
    // The second receiver sends too. The slow receiver gets the data of both senders, and each sender gets the other's.
    world.links[1].1 = Path::with_rate(NEAR, 4000);
    let sent = packets(6, 2_000_000, 15_000);
    let number = sent.len();
    world.send_all(0, "_reliable", sent.clone());
    world.send_all(2, "_reliable", sent);
    assert!(world.run_until(120 * SECOND, |world| count(world, 1) == 2 * number));
    assert_eq!((count(&world, 0), count(&world, 2)), (number, number));
    assert_eq!(ended(&world), []);
}

#[test]
fn lossy_messages_are_dropped_where_they_would_be_late_and_counted() {
    let mut world = room(7, 1, &Limits::default(), &[0, 0]);
    world.links[2].1 = Path::with_rate(NEAR, 200);
    let sent = packets(7, 1_000_000, 1000);
    let number = sent.len();
    for message in sent {
        world.send_all(0, "_lossy", [message]);
        world.run(Duration::from_millis(2));
    }
    world.run(10 * SECOND);
    let dropped = world.shards[0].stats().dropped(Drop::DataBacklog) as usize;
    assert!(count(&world, 1) > number * 9 / 10, "{} of {number} to the fast one", count(&world, 1));
    assert!(dropped > number / 2, "{dropped}");
    assert!(count(&world, 2) <= number - dropped);
    assert_eq!(ended(&world), []);
}

#[test]
fn what_a_client_sends_again_arrives_once() {
    let mut world = room(8, 2, &Limits::default(), &[0, 1]);
    let numbers = [1, 2, 3, 2, 3, 4, 0, 0, 4, 5];
    world.send_all(0, "_reliable", numbers.map(|number| packet(&[number as u8], number)));
    world.run(SECOND);
    for client in [1, 2] {
        assert_eq!(received(&world, client), [1, 2, 3, 4, 0, 0, 5]);
    }
    assert_eq!(world.shards[0].stats().dropped(Drop::Replayed), 3);
}

#[test]
fn whoever_leaves_holds_up_nobody() {
    let mut world = room(9, 2, &Limits::default(), &[0, 1]);
    for client in [1, 2] {
        world.links[client].1 = Path::with_rate(NEAR, 50);
    }
    let sent = packets(9, 2_000_000, 15_000);
    world.send_all(0, "_reliable", sent);
    world.run(3 * SECOND);
    let waiting = world.clients[0].outgoing.len();
    assert!(waiting > 0, "the sender waits");
    world.leave(1);
    world.leave(2);
    world.run(3 * SECOND);
    assert!(world.clients[0].outgoing.is_empty(), "nobody is left to wait for");
    // A sender that leaves while it is blocked leaves no backlog behind.
    let again = world.join("again", 1, NEAR);
    world.connect(again);
    world.run(2 * SECOND);
    world.links[again].1 = Path::with_rate(NEAR, 50);
    world.send_all(0, "_reliable", packets(10, 2_000_000, 15_000));
    world.run(2 * SECOND);
    world.leave(0);
    world.run(60 * SECOND);
    assert_eq!(world.shards[1].stats().data_waiting, 0);
}

/// Sends a packet every millisecond to `one`, each in the same datagram with a short packet to `other`. Returns the
/// largest backlog for receivers until the first receiver has all packets or a participant was ended.
fn send_in_pairs(world: &mut World, sent: &[Vec<u8>], one: &str, other: &str) -> u64 {
    let short = directed(&packet(b"short", 0), &[other]);
    let waiting = |world: &mut World| world.shards.iter_mut().map(|shard| shard.stats().data_waiting).sum();
    let mut most = 0;
    for packet in sent {
        world.send_together(0, "_reliable", [directed(packet, &[one]), short.clone()]);
        world.run(Duration::from_millis(1));
        most = most.max(waiting(world));
    }
    let number = sent.len();
    let holds = |world: &World| !ended(world).is_empty() || count(world, 1) == number;
    most.max(run_watching(world, 30 * SECOND, holds))
}

#[test]
fn a_full_receiver_holds_up_its_sender_whomever_else_that_writes_to_in_between() {
    let limits = Limits { data_backlog_bytes: 500_000, ..Limits::default() };
    for places in [[0, 0], [1, 1], [1, 0], [1, 2]] {
        let mut world = room(11, 3, &limits, &places);
        world.links[1].1 = Path::with_rate(NEAR, 2000);
        let sent = packets(11, 2_400_000, 800);
        let most = send_in_pairs(&mut world, &sent, "receiver0", "receiver1");
        println!("{places:?}: {most} bytes waited");
        assert_eq!(ended(&world), []);
        world.run(SECOND);
        assert!(received(&world, 1) == contents(&sent), "every byte, in order");
        assert_eq!(received(&world, 2), b"short".repeat(sent.len()));
        let bound = (limits.data_backlog_bytes + limits.data_buffered_bytes) as u64;
        assert!((500_000..bound).contains(&most), "{most} bytes waited");
    }
}

#[test]
fn messages_that_reach_nobody_release_no_sender() {
    for shard in [0, 1] {
        let mut world = room(12, 2, &Limits::default(), &[shard]);
        world.links[1].1 = Path::with_rate(NEAR, 2000);
        let sent = packets(12, 2_400_000, 800);
        let most = send_in_pairs(&mut world, &sent, "receiver0", "somebody who has left");
        println!("{most} bytes waited");
        assert!(received(&world, 1) == contents(&sent), "every byte, in order");
        assert!(most <= 800_000, "{most} bytes waited");
        assert_eq!(ended(&world), []);
    }
}

#[test]
fn a_receiver_without_channels_releases_all_senders_whoever_notices_first() {
    let limits = Limits { ice_timeout: 60 * SECOND, ..Limits::default() };
    for shard in [0, 1] {
        let mut world = room(13, 2, &limits, &[0, 0]);
        let joined = world.now;
        world.join("late", shard, NEAR);
        let sent = packets(13, 1_000_000, 15_000);
        let number = sent.len() as u32;
        world.send_all(0, "_reliable", sent.iter().map(|packet| directed(packet, &["late"])));
        world.send_all(0, "_reliable", [packet(b"to all", number + 1)]);
        world.run(SECOND);
        // A second sender sends slowly and is not blocked, because one of its two receivers accepts the data.
        for sequence in 1..=1000 {
            let little = directed(&packet(b"a little", sequence), &["late", "receiver1"]);
            world.send_all(1, "_reliable", [little]);
            world.run(Duration::from_millis(10));
            if world.now < joined + 10 * SECOND {
                assert_eq!(count(&world, 1), 0, "the sender waits");
            }
        }
        assert_eq!(count(&world, 1), 1, "it has gone on");
        assert_eq!(ended(&world), []);
    }
}

#[test]
fn the_longest_message_arrives_with_its_sender_s_longest_name() {
    let identity = "i".repeat(256);
    for shard in [0, 1] {
        let mut world = World::new(14, 2);
        let sender = world.join(&identity, 0, NEAR);
        let receiver = world.join("receiver", shard, NEAR);
        for client in [sender, receiver] {
            world.connect(client);
        }
        let open = |world: &World| world.clients.iter().all(|client| client.channels.len() == 2);
        assert!(world.run_until(5 * SECOND, open), "all channels open");
        let sent = [packet_of(65_536, 1), directed(&packet_of(65_500, 2), &["receiver"]), packet(b"last", 3)];
        world.send_all(sender, "_reliable", sent.clone());
        world.run(2 * SECOND);
        assert_eq!(count(&world, receiver), 3);
        assert!(received(&world, receiver) == contents(&sent), "every byte, in order");
        // The forwarded message states the destination identities twice, and the added bytes are limited. So a message
        // that consists of identities only is too much.
        let mut names = vec!["n".repeat(100); 640];
        names.push("receiver".into());
        for (sequence, number, arrives) in [(4, 320, true), (5, 640, false)] {
            let names: Vec<&str> = names.iter().rev().take(number).map(String::as_str).collect();
            world.clients[receiver].messages.clear();
            world.send_all(sender, "_reliable", [directed(&packet(b"named", sequence), &names)]);
            world.run(SECOND);
            assert_eq!(count(&world, receiver), usize::from(arrives));
            assert_eq!(world.shards[0].stats().dropped(Drop::BadData), u64::from(!arrives));
        }
        assert_eq!(ended(&world), []);
    }
}

#[test]
fn a_receiver_that_takes_shorter_messages_only_is_told_that_it_misses_one() {
    let mut world = World::new(15, 1);
    for name in ["sender", "small", "receiver"] {
        world.join(name, 0, NEAR);
    }
    // A client that offers no `max-message-size` accepts 65,536 bytes (RFC 8841 section 6).
    world.clients[1].offers_without = &["max-message-size"];
    for client in 0..3 {
        world.connect(client);
    }
    let open = |world: &World| world.clients.iter().all(|client| client.channels.len() == 2);
    assert!(world.run_until(5 * SECOND, open), "all channels open");
    let lossy = packet_of(65_536, 0);
    world.send_all(0, "_lossy", [lossy]);
    world.run(SECOND);
    assert_eq!(ended(&world), [], "lossy messages may be lost");
    let dropped =
        world.shards[0].stats().dropped(Drop::BadData) + world.shards[0].stats().dropped(Drop::DataBacklog);
    assert_eq!(dropped as usize + count(&world, 2), 2, "and are counted");
    world.clients[2].messages.clear();
    let sent = [packet(b"first", 1), packet_of(65_536, 2), packet(b"last", 3)];
    world.send_all(0, "_reliable", sent.clone());
    world.run(2 * SECOND);
    assert!(received(&world, 2) == contents(&sent), "every byte, in order");
    assert_eq!(received(&world, 1), b"first", "nothing after what it missed");
    assert_eq!(ended(&world), [("PA_small".to_owned(), EndReason::DataTooLong)]);
    assert_eq!(world.shards[0].stats().data_receivers_ended, 1);
}
