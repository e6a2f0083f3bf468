//! Tests of the emulated link, in virtual time.

use super::*;

const MS: Duration = Duration::from_millis(1);

/// Shape with a rate of `kbps` and a queue of 250 ms.
fn narrow(kbps: u64) -> Shape {
    Shape { rate_bps: kbps * 1000, ..Shape::default() }
}

/// Offers a packet of `bytes` every `every` during `time`; returns arrival times, in ms since `begin`, and packets.
fn run(
    way: &mut Way<usize>,
    begin: Instant,
    bytes: usize,
    every: Duration,
    time: Duration,
) -> Vec<(f64, usize)> {
    let mut arrivals = Vec::new();
    let (mut now, mut next, mut number) = (begin, begin, 0);
    while now < begin + time {
        if now >= next {
            way.offer(now, number, bytes);
            number += 1;
            next += every;
        }
        while let Some(packet) = way.poll(now) {
            arrivals.push(((now - begin).as_secs_f64() * 1000.0, packet));
        }
        let wake = way.next_at().unwrap_or(next).min(next);
        now = wake.max(now + MS / 100);
    }
    arrivals
}

#[test]
fn a_wide_enough_link_only_delays() {
    let begin = Instant::now();
    let mut way = Way::new(begin, Shape { delay: 20 * MS, ..narrow(1_000) }, 1);
    // 1,000 bytes, headers included, take 8 ms at 1 Mbit/s.
    let arrivals = run(&mut way, begin, 972, 10 * MS, 100 * MS);
    assert!(arrivals.len() >= 7, "{arrivals:?}");
    for (n, (at, packet)) in arrivals.iter().enumerate() {
        assert_eq!(*packet, n);
        assert!((at - (n as f64 * 10.0 + 28.0)).abs() < 0.1, "packet {n} at {at}");
    }
}

#[test]
fn a_narrow_link_passes_its_rate_and_drops_at_the_tail_of_its_queue() {
    let begin = Instant::now();
    let mut way = Way::new(begin, narrow(500), 1);
    // The offered rate is 2 Mbit/s.
    let arrivals = run(&mut way, begin, 972, 4 * MS, 2_000 * MS);
    let tally = way.take_tally(begin + 2_000 * MS);
    assert!(
        (124..=126).contains(&arrivals.len()),
        "500 kbit/s are 62.5 packets a second: {}",
        arrivals.len()
    );
    assert!((234.0..=250.0).contains(&tally.queue_ms), "{tally:?}");
    let waiting = tally.in_packets - tally.out_packets - tally.full;
    assert!((14..=16).contains(&waiting), "16 ms each: {tally:?}");
    assert_eq!(arrivals[0].1, 0, "the oldest come first");
}

#[test]
fn packets_that_come_together_pass_one_by_one() {
    let begin = Instant::now();
    let mut way = Way::new(begin, narrow(1_000), 1);
    (0..5).for_each(|n| way.offer(begin, n, 972));
    let mut arrivals = Vec::new();
    while let Some(at) = way.next_at() {
        while way.poll(at).is_some() {
            arrivals.push((at - begin).as_secs_f64() * 1000.0);
        }
    }
    assert_eq!(arrivals.len(), 5);
    assert!(arrivals.iter().zip(1..).all(|(at, n)| (at - 8.0 * f64::from(n)).abs() < 0.01), "{arrivals:?}");
}

#[test]
fn a_change_of_rate_is_for_what_waits_too() {
    let begin = Instant::now();
    let mut way = Way::new(begin, narrow(1_000), 1);
    (0..3).for_each(|n| way.offer(begin, n, 972));
    let later = begin + 4 * MS;
    way.reshape(later, &Change { rate_kbps: Some(100), ..Change::default() });
    // Half of the first packet has passed; the rest takes ten times as long.
    let at = way.next_at().expect("three wait");
    assert!(((at - begin).as_secs_f64() * 1000.0 - 44.0).abs() < 0.01, "{:?}", at - begin);
    way.reshape(later, &Change { rate_kbps: Some(0), ..Change::default() });
    assert_eq!(std::iter::from_fn(|| way.poll(later)).count(), 3, "without a limit all pass");
}

#[test]
fn whoever_polls_late_gets_all_that_passed_meanwhile() {
    let begin = Instant::now();
    let mut way = Way::new(begin, Shape { delay: 5 * MS, ..narrow(1_000) }, 1);
    (0..10).for_each(|n| way.offer(begin, n, 972));
    assert_eq!(std::iter::from_fn(|| way.poll(begin + 50 * MS)).count(), 5, "8 ms each, and 5");
}

#[test]
fn loss_has_its_share_and_its_length() {
    for (burst, seed) in [(1.0, 3), (4.0, 4)] {
        let begin = Instant::now();
        let mut way = Way::new(begin, Shape { loss: 0.1, loss_burst: burst, ..Shape::default() }, seed);
        (0..100_000_usize).for_each(|n| way.offer(begin, n, 100));
        let passed: Vec<usize> = std::iter::from_fn(|| way.poll(begin)).collect();
        let lost = 100_000 - passed.len();
        let gaps = passed.windows(2).filter(|pair| pair[1] > pair[0] + 1).count();
        let length = lost as f64 / gaps as f64;
        let expected = if burst > 1.0 { burst } else { 1.0 / 0.9 };
        assert!((9_000..=11_000).contains(&lost), "{lost} of 100,000 at a burst of {burst}");
        assert!((length / expected - 1.0).abs() < 0.1, "{length} in a row, {expected} asked");
    }
}

#[test]
fn nothing_gets_into_a_blocked_link_and_what_is_in_it_passes() {
    let begin = Instant::now();
    let mut way = Way::new(begin, narrow(1_000), 1);
    way.offer(begin, 1, 972);
    way.reshape(begin, &Change { blocked: Some(true), ..Change::default() });
    way.offer(begin, 2, 972);
    assert_eq!(way.poll(begin + 9 * MS), Some(1));
    way.reshape(begin + 9 * MS, &Change { blocked: Some(false), ..Change::default() });
    way.offer(begin + 9 * MS, 3, 972);
    assert_eq!(way.poll(begin + 18 * MS), Some(3));
    let tally = way.take_tally(begin + 18 * MS);
    assert_eq!((tally.in_packets, tally.out_packets, tally.lost), (3, 2, 1));
}

/// Shape of 400 kbit/s with a token bucket of 15,000 bytes.
fn bucket(queue_ms: u32) -> Shape {
    Shape { bucket_bytes: 15_000, queue: MS * queue_ms, ..narrow(400) }
}

#[test]
fn a_bucket_passes_its_depth_at_once_and_then_its_rate() {
    let begin = Instant::now();
    let mut way = Way::new(begin, bucket(250), 1);
    (0..40).for_each(|n| way.offer(begin, n, 972));
    assert_eq!(std::iter::from_fn(|| way.poll(begin)).count(), 15, "the tokens of 15 packets");
    let tally = way.take_tally(begin);
    assert_eq!((tally.out_packets, tally.full), (15, 13), "12 of 20 ms each wait, the rest finds no room");
    assert!((239.0..=241.0).contains(&tally.queue_ms), "{tally:?}");
    assert_eq!(std::iter::from_fn(|| way.poll(begin + 101 * MS)).count(), 5);
    // The queue is empty after 240 ms. The bucket is full again 300 ms later, and holds no more than its depth.
    assert_eq!(std::iter::from_fn(|| way.poll(begin + 300 * MS)).count(), 7);
    let later = begin + 5_000 * MS;
    (0..40).for_each(|n| way.offer(later, n, 972));
    assert_eq!(std::iter::from_fn(|| way.poll(later)).count(), 15);
}

#[test]
fn a_policer_delays_nothing_and_drops_what_exceeds_its_tokens() {
    let begin = Instant::now();
    let mut way = Way::new(begin, bucket(0), 1);
    // 800 kbit/s are offered for ten seconds.
    let arrivals = run(&mut way, begin, 972, 10 * MS, 10_000 * MS);
    let tally = way.take_tally(begin + 10_000 * MS);
    assert!(arrivals.iter().all(|(at, packet)| (at - *packet as f64 * 10.0).abs() < 0.1), "at once or never");
    assert!((512..=516).contains(&tally.out_packets), "the bucket and 50 a second: {tally:?}");
    assert_eq!(tally.full + tally.out_packets, tally.in_packets);
    let first = arrivals.iter().zip(0..).find(|((_, packet), n)| packet != n).expect("some are dropped");
    assert!((28..=30).contains(&first.1), "the bucket lasts twice its own length: {first:?}");
}

#[test]
fn a_bucket_that_is_taken_away_saves_nothing_up() {
    let begin = Instant::now();
    let mut way = Way::new(begin, bucket(250), 1);
    way.reshape(begin, &Change { bucket_bytes: Some(0), ..Change::default() });
    (0..3).for_each(|n| way.offer(begin, n, 972));
    assert_eq!(std::iter::from_fn(|| way.poll(begin + 41 * MS)).count(), 2, "20 ms each");
}
