//! Cost of forwarding one packet inside the engine, compared with the cost of the cipher alone in the same run.
//!
//! Encrypted packets of a real client, recorded beforehand, pass through one shard to 1, 10, 100 and 1,000 connected
//! subscribers: decrypted, parsed, forwarded, rewritten, encrypted, written into the send buffer. The cipher alone
//! encrypts packets of the same size, alternating between as many keys. Both measurements alternate, and the best of
//! several rounds counts. The machines are shared, so only the ratio is meaningful.

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use harness::{World, server_address};
use sfu_engine::shard::{Input, Output, TRANSMIT_BUFFER};
use str0m::format::Codec;

/// About 2.5 Mbit/s: nine packets a frame, thirty frames a second.
const FRAME_BYTES: usize = 10_200;
const ROUNDS: usize = 5;

fn main() {
    println!("ns per forwarded packet (best of {ROUNDS} rounds, alternating)");
    println!(
        "{:>8} {:>10} {:>12} {:>8} {:>12} {:>10}",
        "fan-out", "engine", "cipher alone", "ratio", "bytes/packet", "packets/run"
    );
    for (subscribers, fan_outs) in [
        (Subscribers::Silent, &[1, 10, 100, 1000][..]),
        (Subscribers::Receiving, &[10, 100]),
        (Subscribers::Reporting, &[10, 100]),
    ] {
        println!("{subscribers:?} subscribers");
        fan_outs.iter().for_each(|fan_out| measure(*fan_out, subscribers));
    }
}

/// What subscribers do between two frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subscribers {
    /// Nothing, so the shard's state stays in the CPU cache.
    Silent,
    /// They receive and decrypt, which evicts the shard's state from the cache, as a kernel's network stack would.
    Receiving,
    /// They also report arrivals. The shard processes these reports in measured time.
    Reporting,
}

fn measure(fan_out: usize, subscribers: Subscribers) {
    let mut world = World::new(7, 1);
    world.quiet = true;
    let publisher = world.join("publisher", 0, Duration::from_millis(1));
    world.publish(publisher, Codec::Vp8, &[("", FRAME_BYTES)], Duration::from_micros(33_333), 0);
    for number in 0..fan_out {
        let subscriber = world.join(&format!("s{number}"), 0, Duration::from_millis(1));
        if subscribers != Subscribers::Reporting {
            world.clients[subscriber].offers_without = &["transport-wide-cc", "transport-cc", "goog-remb"];
        }
        world.connect(subscriber);
        if number % 50 == 49 {
            world.run(Duration::from_millis(300));
        }
    }
    world.run(Duration::from_secs(3));
    let rounds = if fan_out >= 1000 { ROUNDS.min(3) } else { ROUNDS };
    let mut best = (f64::MAX, f64::MAX);
    let (mut size, mut run) = (0.0, 0.0);
    for _ in 0..rounds {
        let frames = world.record(publisher, if fan_out >= 1000 { 6 } else { 40 });
        let cost = forward(&mut world, publisher, frames, subscribers);
        size = cost.bytes as f64 / cost.packets as f64;
        run = cost.packets as f64 / cost.sends as f64;
        best.0 = best.0.min(cost.time.as_nanos() as f64 / cost.packets as f64);
        best.1 = best.1.min(cipher_alone(fan_out, size as usize, cost.packets));
    }
    let (engine, cipher) = best;
    println!("{fan_out:>8} {engine:>10.0} {cipher:>12.0} {:>8.2} {size:>12.0} {run:>10.1}", engine / cipher);
}

struct Cost {
    time: Duration,
    packets: u64,
    sends: u64,
    bytes: u64,
}

/// Inputs the packets to the shard, one frame at a time as they would arrive, and takes what it sends. Unless silent,
/// the subscribers receive this outside the measured time. What they send in response is input to the shard within the
/// measured time.
fn forward(
    world: &mut World,
    publisher: usize,
    frames: Vec<(Instant, Vec<Vec<u8>>)>,
    subscribers: Subscribers,
) -> Cost {
    let mut cost = Cost { time: Duration::ZERO, packets: 0, sends: 0, bytes: 0 };
    for (now, mut datagrams) in frames {
        let source = world.clients[publisher].address;
        for data in &mut datagrams {
            input(world, now, source, data, &mut cost);
        }
        let sent = output(world, now, &mut cost);
        for (destination, segment, data) in sent {
            // Time for reports and feedback counts, but not their packets.
            if data.len() > 300 && destination != source {
                cost.sends += 1;
                cost.packets += data.len().div_ceil(segment) as u64;
                cost.bytes += data.len() as u64;
            }
            if subscribers == Subscribers::Silent {
                continue;
            }
            let client = world.clients.iter_mut().find(|client| client.address == destination);
            if let Some(client) = client.filter(|_| destination != source) {
                data.chunks(segment).for_each(|datagram| client.receive(now, server_address(0), datagram));
            }
        }
        for client in 0..world.clients.len() {
            if client == publisher || subscribers == Subscribers::Silent {
                continue;
            }
            world.clients[client].advance(now);
            let source = world.clients[client].address;
            for (_, mut data) in world.clients[client].take_outbox() {
                input(world, now, source, &mut data, &mut cost);
            }
        }
        output(world, now, &mut cost);
    }
    cost
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn input(world: &mut World, now: Instant, source: SocketAddr, data: &mut [u8], cost: &mut Cost) {
    let begin = Instant::now();
    world.shards[0].handle_input(now, Input::Datagram { source, local: None, data });
    cost.time += begin.elapsed();
}

/// Polls the shard's output: destination, segment length and data of each transmit.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn output(world: &mut World, now: Instant, cost: &mut Cost) -> Vec<(SocketAddr, usize, Vec<u8>)> {
    let mut buffer = vec![0; TRANSMIT_BUFFER];
    let mut sent = Vec::new();
    loop {
        let begin = Instant::now();
        let output = world.shards[0].poll_output(now, &mut buffer);
        cost.time += begin.elapsed();
        match output {
            Output::Transmit(transmit) => {
                let segment = transmit.segment_size.unwrap_or(transmit.size);
                sent.push((transmit.destination, segment, buffer[..transmit.size].to_vec()));
            }
            Output::Timeout(_) => return sent,
            Output::Event(_) | Output::Fabric { .. } => {}
        }
        black_box(&buffer);
    }
}

/// Nanoseconds to encrypt one packet of `size` bytes in place.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn cipher_alone(keys: usize, size: usize, packets: u64) -> f64 {
    let keys: Vec<LessSafeKey> = (0..keys)
        .map(|number| {
            let bytes = [number as u8; 16];
            LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &bytes).expect("a key"))
        })
        .collect();
    let mut buffer = vec![0_u8; TRANSMIT_BUFFER];
    let body = size.saturating_sub(28);
    let begin = Instant::now();
    for number in 0..packets {
        let key = &keys[number as usize % keys.len()];
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&number.to_be_bytes());
        let at = (number as usize % 40) * 1400;
        let (header, rest) = buffer[at..].split_at_mut(12);
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(&*header),
                &mut rest[..body],
            )
            .expect("sealed");
        black_box(tag.as_ref());
    }
    begin.elapsed().as_nanos() as f64 / packets as f64
}
