use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::units::test_epoch;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn sequence(n: u64) -> ExtendedSequence {
    ExtendedSequence(n)
}

#[test]
fn a_loss_is_asked_for_at_once_then_a_round_trip_apart_then_given_up() {
    let start = test_epoch();
    let mut missing = MissingPackets::new(Patience::VIDEO);
    assert_eq!(missing.on_packet(sequence(65_535), start), Arrival::New);
    assert_eq!(missing.on_packet(sequence(65_538), start), Arrival::New);
    let mut asked = Vec::new();
    let mut outcome = Vec::new();
    while let Some(due) = missing.poll_timeout() {
        let mut out = Vec::new();
        let repair = missing.poll(due, Some(ms(80)), &mut out);
        if !out.is_empty() {
            assert_eq!(out, [0, 1]);
            asked.push((due - start).as_millis());
        }
        outcome.push(repair);
    }
    assert_eq!(asked, [5, 95, 185, 275, 365, 455, 545, 635, 725, 815]);
    assert_eq!(outcome.pop(), Some(Repair::NeedKeyFrame));
    assert!(outcome.iter().all(|repair| *repair == Repair::Complete));
    assert!(missing.is_empty());
    assert_eq!(missing.on_packet(sequence(65_536), start + ms(2000)), Arrival::Recovered);
    assert_eq!(missing.on_packet(sequence(65_536), start + ms(2001)), Arrival::Duplicate);
}

#[test]
fn audio_gives_up_sooner_and_without_a_key_frame() {
    let start = test_epoch();
    let mut missing = MissingPackets::new(Patience::AUDIO);
    missing.on_packet(sequence(100_000), start);
    missing.on_packet(sequence(100_002), start);
    let mut requests = Vec::new();
    let mut last = Repair::Complete;
    let mut ended = start;
    while let Some(due) = missing.poll_timeout() {
        last = missing.poll(due, None, &mut requests);
        ended = due;
    }
    assert_eq!((requests.len(), last), (15, Repair::GaveUp));
    assert!(ended - start <= ms(400));
}

#[test]
fn gaps_are_bounded_and_a_jump_is_a_new_start() {
    let start = test_epoch();
    // (numbers skipped, arrival, number of requests, repair)
    let table = [
        (0, Arrival::New, 0, Repair::Complete),
        (1, Arrival::New, 1, Repair::Complete),
        (256, Arrival::New, 256, Repair::Complete),
        (257, Arrival::New, 0, Repair::NeedKeyFrame),
        (1000, Arrival::New, 0, Repair::NeedKeyFrame),
        (1001, Arrival::Restarted, 0, Repair::NeedKeyFrame),
        (30_000, Arrival::Restarted, 0, Repair::NeedKeyFrame),
        (u64::MAX - 70_001, Arrival::Restarted, 0, Repair::NeedKeyFrame),
    ];
    for (gap, arrival, requests, repair) in table {
        let mut missing = MissingPackets::new(Patience::VIDEO);
        missing.on_packet(sequence(70_000), start);
        assert_eq!(missing.on_packet(sequence(70_001 + gap), start), arrival, "gap {gap}");
        let mut out = Vec::new();
        let later = start + ms(10);
        assert_eq!(missing.poll(later, None, &mut out), repair, "gap {gap}");
        assert_eq!(out.len(), requests, "gap {gap}");
        assert_eq!(missing.poll(later, None, &mut out), Repair::Complete, "said once");
    }
}

#[test]
fn many_gaps_together_are_bounded_too() {
    let start = test_epoch();
    let mut missing = MissingPackets::new(Patience::VIDEO);
    let mut gave_up = 0;
    for n in 0..2000u64 {
        missing.on_packet(sequence(70_000 + 3 * n), start);
        assert!(missing.len() <= 256);
        let mut out = Vec::new();
        gave_up += u32::from(missing.poll(start, None, &mut out) == Repair::NeedKeyFrame);
        assert!(out.is_empty(), "nothing is due yet");
    }
    assert!((15..=16).contains(&gave_up), "{gave_up}");
}

#[test]
fn old_packets_are_told_from_duplicates() {
    let start = test_epoch();
    let mut missing = MissingPackets::new(Patience::VIDEO);
    for n in 0..4000 {
        missing.on_packet(sequence(70_000 + n), start);
    }
    assert_eq!(missing.on_packet(sequence(70_000 + 3999 - 2047), start), Arrival::Duplicate);
    assert_eq!(missing.on_packet(sequence(70_000 + 3999 - 2048), start), Arrival::Old);
}

/// Counts of a simulated uplink.
#[derive(Debug, Default)]
struct Report {
    packets: u64,
    lost: u64,
    requests: u64,
    unrepaired: usize,
    key_frame_requests: u32,
    worst_repair: Duration,
}

/// Simulates a publisher of 30 frames per second, each of `burst` packets, on a link with one-way delay `delay`. Media
/// and requests are lost with probability `loss`. Packets are reordered by up to `shuffle` places.
fn run(seed: u64, seconds: u64, burst: u64, loss: f64, delay: Duration, shuffle: u64) -> Report {
    enum Event {
        Packet(u64),
        Request(Vec<u16>),
    }
    let start = test_epoch();
    let mut random = SmallRng::seed_from_u64(seed);
    let mut events: BTreeMap<(Instant, u64), Event> = BTreeMap::new();
    let mut order = 0;
    let mut missing = MissingPackets::new(Patience::VIDEO);
    let mut report = Report::default();
    let mut received: BTreeMap<u64, Instant> = BTreeMap::new();
    let mut sent_at: BTreeMap<u64, Instant> = BTreeMap::new();
    let mut lost = BTreeSet::new();
    let spacing = Duration::from_micros(33_333) / burst as u32;
    let first = 65_536 + 65_000;
    for n in 0..seconds * 30 * burst {
        let at = start + spacing * n as u32;
        sent_at.insert(first + n, at);
        report.packets += 1;
        if n > 0 && random.random_bool(loss) {
            report.lost += 1;
            lost.insert(first + n);
            continue;
        }
        let displaced = spacing * random.random_range(0..=shuffle) as u32;
        order += 1;
        events.insert((at + delay + displaced, order), Event::Packet(first + n));
    }
    let end = start + Duration::from_secs(seconds + 2);
    loop {
        let next = events.first_key_value().map(|(key, _)| key.0);
        let due = missing.poll_timeout();
        let Some(now) = [next, due].into_iter().flatten().min().filter(|now| *now < end) else { break };
        if next == Some(now) {
            match events.pop_first().map(|(_, event)| event) {
                Some(Event::Packet(n)) => {
                    let arrival = missing.on_packet(sequence(n), now);
                    let before = received.insert(n, now);
                    assert_eq!(before.is_some(), arrival == Arrival::Duplicate, "seed {seed}");
                    if let (Some(_), None) = (lost.get(&n), before) {
                        report.worst_repair = report.worst_repair.max(now - sent_at[&n]);
                    }
                }
                Some(Event::Request(numbers)) => {
                    for wire in numbers {
                        let n = sequence(first + seconds * 30 * burst / 2).extend(wire).0;
                        if !random.random_bool(loss) {
                            order += 1;
                            events.insert((now + delay, order), Event::Packet(n));
                        }
                    }
                }
                None => {}
            }
        }
        let mut out = Vec::new();
        report.key_frame_requests +=
            u32::from(missing.poll(now, Some(delay * 2), &mut out) == Repair::NeedKeyFrame);
        report.requests += out.len() as u64;
        if !out.is_empty() && !random.random_bool(loss) {
            order += 1;
            events.insert((now + delay, order), Event::Request(out));
        }
    }
    report.unrepaired = sent_at.keys().filter(|n| !received.contains_key(n)).count();
    report
}

#[test]
fn ten_percent_loss_in_every_direction_is_repaired_completely() {
    for seed in 0..5 {
        let report = run(seed, 60, 6, 0.10, ms(50), 0);
        // No later packet reveals the loss of the very last one.
        assert!(report.unrepaired <= 1, "seed {seed}: {report:?}");
        assert_eq!(report.key_frame_requests, 0, "seed {seed}: {report:?}");
        assert!(report.requests * 10 <= report.lost * 14, "seed {seed}: {report:?}");
        assert!(report.worst_repair < ms(1000), "seed {seed}: {report:?}");
    }
}

#[test]
fn reordering_alone_causes_few_requests() {
    for (burst, most_percent) in [(30, 1), (20, 2), (10, 100)] {
        for seed in 0..5 {
            let report = run(seed, 10, burst, 0.0, ms(50), 20);
            assert_eq!((report.unrepaired, report.key_frame_requests), (0, 0), "seed {seed}: {report:?}");
            assert!(report.requests * 100 <= report.packets * most_percent, "seed {seed}: {report:?}");
        }
    }
}

#[test]
fn the_round_trip_is_learnt_from_answers() {
    let start = test_epoch();
    let mut missing = MissingPackets::new(Patience::VIDEO);
    let mut out = Vec::new();
    let mut now = start;
    for n in 0..40u64 {
        missing.on_packet(sequence(70_000 + 2 * n), now);
        now += ms(10);
        missing.poll(now, None, &mut out);
        missing.on_packet(sequence(70_000 + 2 * n - 1), now + ms(60));
        now += ms(100);
    }
    // The estimate went from the default of 100 ms towards the true 60 ms, so the repeat comes before 112 ms.
    missing.on_packet(sequence(70_000 + 90), now);
    let first = missing.poll_timeout().unwrap();
    missing.poll(first, None, &mut out);
    let second = missing.poll_timeout().unwrap();
    assert!((ms(66)..ms(75)).contains(&(second - first)), "{:?}", second - first);
}
