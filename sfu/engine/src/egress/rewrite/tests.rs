use std::collections::BTreeSet;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use sfu_protocol::Layer;

use super::*;
use crate::media_packet::test_packet;
use crate::rtp::codec::{DependencyFacts, Vp8Picture, Vp9Picture};
use crate::units::{ExtendedTimestamp, NtpTime, test_epoch};

fn start() -> Instant {
    test_epoch()
}

/// Packet `number` of a stream with one packet per frame at 30 frames per second.
fn packet(layer: u8, number: u64, at: Instant) -> MediaPacket {
    let mut packet = test_packet(number, at);
    packet.layer = Layer(layer);
    packet.facts.vp8 = Some(Vp8Picture {
        picture_id: Some((number as u16 + 32_760) & 0x7fff),
        long_picture_id: true,
        tl0_picture_index: Some((number as u8).wrapping_add(250)),
        ..Vp8Picture::default()
    });
    packet
}

fn frame_time(start: Instant, number: u64) -> Instant {
    start + Duration::from_micros(33_333 * number)
}

#[test]
fn numbers_go_on_over_a_switch_and_wrap() {
    let start = start();
    let mut rewrite = Rewrite::new(65_530, u32::MAX - 10_000);
    let mut out = Vec::new();
    let first = packet(0, 100, start);
    rewrite.switch(&first, &[]);
    for number in 100..110 {
        let at = frame_time(start, number - 100);
        out.push(rewrite.forward(&packet(0, number, at)).expect("of this encoding"));
    }
    let other = packet(2, 7, frame_time(start, 10));
    rewrite.switch(&other, &[]);
    for number in 7..17 {
        let at = frame_time(start, number - 7 + 10);
        out.push(rewrite.forward(&packet(2, number, at)).expect("of this encoding"));
    }
    for (before, after) in out.iter().zip(&out[1..]) {
        assert_eq!(after.sequence.0, before.sequence.0 + 1);
        let ticks = after.timestamp.wrapping_sub(before.timestamp);
        assert!((2_990..=3_010).contains(&ticks), "{ticks} ticks");
        let (before, after) = (before.ids.expect("VP8"), after.ids.expect("VP8"));
        assert_eq!(after.picture_id, (before.picture_id + 1) & 0x7fff);
        assert_eq!(after.tl0_picture_index, before.tl0_picture_index.wrapping_add(1));
    }
    assert!(rewrite.forward(&packet(0, 111, frame_time(start, 21))).is_none(), "the old encoding is over");
    assert!(rewrite.forward(&packet(2, 6, frame_time(start, 21))).is_none(), "from before the switch");
}

#[test]
fn timestamps_follow_the_publishers_clock_where_reports_cover_both_encodings() {
    let start = start();
    let mut rewrite = Rewrite::new(0, 0);
    let low = packet(0, 0, start);
    rewrite.switch(&low, &[]);
    let before = rewrite.forward(&low).expect("of this encoding");
    // The high encoding's clock is 12,345 ticks ahead, and its packet is delayed by 80 ms on the way.
    let mut high = packet(1, 1, frame_time(start, 1) + Duration::from_millis(80));
    high.timestamp = ExtendedTimestamp::first(3000 + 12_345);
    let clock = |timestamp| Some(SenderClock { ntp: NtpTime(1 << 40), timestamp, arrival: start });
    rewrite.switch(&high, &[clock(0), clock(12_345)]);
    let after = rewrite.forward(&high).expect("of this encoding");
    let ticks = after.timestamp.wrapping_sub(before.timestamp);
    assert!((2_999..=3_001).contains(&ticks), "{ticks} ticks, one frame");
    // An implausible clock is ignored.
    let mut third = packet(0, 2, frame_time(start, 2));
    third.timestamp = ExtendedTimestamp::first(90_000 * 60);
    rewrite.switch(&third, &[clock(0), clock(12_345)]);
    let ticks = rewrite.forward(&third).expect("sent").timestamp.wrapping_sub(after.timestamp);
    assert!(ticks < 90_000, "{ticks} ticks");
}

#[test]
fn what_is_left_out_leaves_no_hole_and_what_is_lost_does() {
    let start = start();
    let mut rewrite = Rewrite::new(10, 0);
    rewrite.switch(&packet(0, 0, start), &[]);
    let mut sequence = |number: u64, sent: bool| {
        let packet = packet(0, number, frame_time(start, number));
        if sent {
            return rewrite.forward(&packet).map(|rewritten| rewritten.sequence.wire());
        }
        rewrite.skip(&packet);
        None
    };
    assert_eq!(sequence(0, true), Some(10));
    assert_eq!(sequence(1, false), None, "padding");
    assert_eq!(sequence(2, true), Some(11));
    assert_eq!(sequence(4, true), Some(13), "3 is lost");
    assert_eq!(sequence(3, true), Some(12), "and comes late");
    assert_eq!(sequence(6, false), None, "behind a loss, which keeps its number");
    assert_eq!(sequence(7, true), Some(15));
    assert_eq!(sequence(5, true), Some(14));
    assert_eq!(sequence(1, true), None, "was left out already");
    assert_eq!(sequence(0, true), Some(10), "from before the padding: its old number");
}

#[test]
fn any_mixture_gives_every_packet_a_number_of_its_own() {
    for seed in 0..20 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let start = start();
        let mut rewrite = Rewrite::new(rng.random(), rng.random());
        let mut numbers = [0_u64; 3];
        let mut seen = BTreeSet::new();
        let mut highest_timestamp: Option<(u64, u32)> = None;
        let mut frame = 0;
        for _ in 0..30 {
            let layer = rng.random_range(0..3_u8);
            let mut burst: Vec<MediaPacket> = (0..rng.random_range(2..60))
                .map(|_| {
                    frame += 1;
                    numbers[usize::from(layer)] += 1;
                    packet(layer, numbers[usize::from(layer)], frame_time(start, frame))
                })
                .collect();
            rewrite.switch(&burst[0], &[]);
            let first = burst[0].clone();
            burst[1..].chunks_mut(20).for_each(|chunk| chunk.shuffle(&mut rng));
            for packet in std::iter::once(&first).chain(&burst[1..]) {
                if rng.random_bool(0.05) && packet.sequence != first.sequence {
                    continue;
                }
                let Some(rewritten) = rewrite.forward(packet) else { panic!("seed {seed}: refused") };
                assert!(seen.insert(rewritten.sequence), "seed {seed}: {:?} twice", rewritten.sequence);
                if let Some((highest, timestamp)) = highest_timestamp
                    && rewritten.sequence.0 > highest
                {
                    let ahead = rewritten.timestamp.wrapping_sub(timestamp);
                    assert!(ahead < 1 << 31, "seed {seed}: timestamps go back");
                }
                if highest_timestamp.is_none_or(|(highest, _)| rewritten.sequence.0 > highest) {
                    highest_timestamp = Some((rewritten.sequence.0, rewritten.timestamp));
                }
            }
        }
    }
}

/// A publisher with three encodings at 30 frames per second, with several packets per frame, two temporal layers and
/// padding in between. A subscriber switches encodings and, with `base_only`, gets temporal layer 0 only.
struct Scenario {
    seed: u64,
    loss: f64,
    shuffle: usize,
    padding: f64,
    base_only: bool,
    long_ids: bool,
    clocks: bool,
}

#[derive(Debug, Clone)]
struct Sent {
    layer: u8,
    /// Number of the switch since which the packet was sent.
    part: u32,
    frame: u64,
    packet: MediaPacket,
    padding: bool,
    rewritten: Option<Rewritten>,
}

/// Packets of all encodings in order of arrival.
fn arrivals(scenario: &Scenario, rng: &mut SmallRng, start: Instant) -> Vec<Sent> {
    let mut numbers = [65_400_u64, 65_500, 131_000].map(|number| number + rng.random_range(0..50));
    let clock_offsets: [u32; 3] = rng.random();
    let ids: [u16; 3] = rng.random();
    let mut all = Vec::new();
    for frame in 0..600_u64 {
        let temporal = (frame % 2) as u8;
        let key_frame = frame % 50 == 0;
        for layer in 0..3_u8 {
            let place = usize::from(layer);
            let packets = rng.random_range(1..3 + u64::from(layer));
            let padding = if rng.random_bool(scenario.padding) { rng.random_range(1..4) } else { 0 };
            for n in 0..packets + padding {
                let at = frame_time(start, frame) + Duration::from_micros(200 * n + 1000 * u64::from(layer));
                let mut packet = test_packet(numbers[place], at);
                numbers[place] += 1;
                packet.layer = Layer(layer);
                packet.timestamp =
                    ExtendedTimestamp((3 << 32) + u64::from(clock_offsets[place]) + 3000 * frame);
                packet.facts.frame_start = n == 0;
                packet.facts.key_frame = key_frame;
                packet.facts.temporal = temporal;
                let id = ids[place].wrapping_add(frame as u16);
                packet.facts.vp8 = (n < packets).then(|| Vp8Picture {
                    picture_id: Some(id & if scenario.long_ids { 0x7fff } else { 0x7f }),
                    long_picture_id: scenario.long_ids,
                    tl0_picture_index: Some((u64::from(ids[place]) + frame / 2) as u8),
                    has_temporal: true,
                    has_key_index: true,
                    tid_key_index: Some(temporal << 6 | ((frame / 50) as u8 & 0x1f)),
                    ..Vp8Picture::default()
                });
                let padding = n >= packets;
                all.push(Sent { layer, part: 0, frame, packet, padding, rewritten: None });
            }
        }
    }
    let mut at = Vec::new();
    for (place, sent) in all.into_iter().enumerate() {
        let key_frame = sent.packet.facts.key_frame;
        let late =
            if !key_frame && rng.random_bool(0.3) { rng.random_range(0..=scenario.shuffle) } else { 0 };
        if key_frame || !rng.random_bool(scenario.loss) {
            at.push((place + late, sent));
        }
    }
    at.sort_by_key(|(place, _)| *place);
    at.into_iter().map(|(_, sent)| sent).collect()
}

/// Runs a scenario. Returns the packets sent, in order.
fn run(scenario: &Scenario) -> Vec<Sent> {
    let start = start();
    let mut rng = SmallRng::seed_from_u64(scenario.seed);
    let arrivals = arrivals(scenario, &mut rng, start);
    let clock = |layer: u8| {
        // The publisher's clock reads 2^40 when the first picture is taken.
        let first = arrivals.iter().find(|sent| sent.layer == layer && sent.frame == 0)?;
        let timestamp = first.packet.timestamp.wire();
        Some(SenderClock { ntp: NtpTime(1 << 40), timestamp, arrival: start }).filter(|_| scenario.clocks)
    };
    let clocks = [clock(0), clock(1), clock(2)];
    let mut rewrite = Rewrite::new(rng.random(), rng.random());
    let (mut current, mut part) = (None, 0);
    let mut out = Vec::new();
    for mut sent in arrivals {
        let begins = sent.packet.facts.starts_key_frame() && !sent.padding;
        if begins && (current.is_none() || rng.random_bool(0.4)) {
            rewrite.switch(&sent.packet, &clocks);
            current = Some(sent.layer);
            part += 1;
        }
        sent.part = part;
        if current == Some(sent.layer) {
            if sent.padding || scenario.base_only && sent.packet.facts.temporal > 0 {
                rewrite.skip(&sent.packet);
                continue;
            }
            let before = rewrite.source.as_ref().is_some_and(|source| sent.packet.sequence < source.first);
            sent.rewritten = rewrite.forward(&sent.packet);
            assert_eq!(sent.rewritten.is_some(), !before, "seed {}: {sent:?}", scenario.seed);
            out.extend(sent.rewritten.is_some().then_some(sent));
        } else {
            assert_eq!(rewrite.forward(&sent.packet), None, "seed {}: of another encoding", scenario.seed);
            rewrite.skip(&sent.packet);
        }
    }
    out
}

#[test]
fn a_clean_stream_counts_on_through_switches_pauses_of_layers_and_padding() {
    for seed in 0..12 {
        let scenario = Scenario {
            seed,
            loss: 0.0,
            shuffle: 0,
            padding: 0.2,
            base_only: seed % 2 == 0,
            long_ids: seed % 3 != 0,
            clocks: seed % 4 < 2,
        };
        let sent = run(&scenario);
        assert!(sent.len() > 500 && sent.last().unwrap().part > 5, "seed {seed}");
        let ids = if scenario.long_ids { 0x7fff } else { 0x7f };
        for pair in sent.windows(2) {
            let (before, after) = (&pair[0], &pair[1]);
            let (old, new) = (before.rewritten.unwrap(), after.rewritten.unwrap());
            assert_eq!(new.sequence.0, old.sequence.0 + 1, "seed {seed}: {before:?} {after:?}");
            let same_picture = before.frame == after.frame && before.part == after.part;
            let (old_ids, new_ids) = (old.ids.unwrap(), new.ids.unwrap());
            let pictures = new_ids.picture_id.wrapping_sub(old_ids.picture_id) & ids;
            assert_eq!(pictures, u16::from(!same_picture), "seed {seed}: {before:?} {after:?}");
            let base = new_ids.tl0_picture_index.wrapping_sub(old_ids.tl0_picture_index);
            let is_base = after.packet.facts.temporal == 0;
            assert_eq!(base, u8::from(!same_picture && is_base), "seed {seed}: {before:?} {after:?}");
            let key = new_ids.key_index.wrapping_sub(old_ids.key_index) & 0x1f;
            let new_key = !same_picture && after.packet.facts.key_frame;
            assert_eq!(key, u8::from(new_key), "seed {seed}: {before:?} {after:?}");
            let ticks = new.timestamp.wrapping_sub(old.timestamp);
            match same_picture {
                true => assert_eq!(ticks, 0, "seed {seed}"),
                false => assert!((1..=9000).contains(&ticks), "seed {seed}: {ticks}, {before:?} {after:?}"),
            }
        }
    }
}

#[test]
fn many_switches_do_not_carry_the_timestamps_away_from_the_publishers_clock() {
    for seed in 0..10 {
        let scenario = Scenario {
            seed,
            loss: 0.0,
            shuffle: 0,
            padding: 0.0,
            base_only: false,
            long_ids: true,
            clocks: true,
        };
        let sent = run(&scenario);
        let first = &sent[0];
        for sent in &sent {
            let frames = (sent.frame - first.frame) as u32;
            let expected = first.rewritten.unwrap().timestamp.wrapping_add(frames * 3000);
            let off = sent.rewritten.unwrap().timestamp.wrapping_sub(expected) as i32;
            assert!((0..=3).contains(&off), "seed {seed}: {off} ticks off in frame {}", sent.frame);
        }
    }
}

#[test]
fn a_bad_link_leaves_holes_for_what_is_lost_and_nothing_else() {
    for seed in 0..12 {
        let scenario = Scenario {
            seed,
            loss: 0.05,
            shuffle: 20,
            padding: 0.1,
            base_only: seed % 2 == 0,
            long_ids: seed % 3 != 0,
            clocks: seed % 4 < 2,
        };
        let sent = run(&scenario);
        let mut numbers = BTreeSet::new();
        for one in &sent {
            let sequence = one.rewritten.unwrap().sequence;
            assert!(numbers.insert(sequence), "seed {seed}: {sequence:?} twice");
        }
        // In the order of outgoing numbers, the publisher's numbers ascend too, by at least as much as the outgoing
        // ones.
        let mut ordered: Vec<&Sent> = sent.iter().collect();
        ordered.sort_by_key(|sent| sent.rewritten.unwrap().sequence);
        for pair in ordered.windows(2) {
            let (before, after) = (pair[0], pair[1]);
            let (old, new) = (before.rewritten.unwrap(), after.rewritten.unwrap());
            let ours = new.sequence.0 - old.sequence.0;
            if before.part == after.part {
                let theirs = after.packet.sequence.0.checked_sub(before.packet.sequence.0);
                assert!(theirs.is_some_and(|theirs| ours <= theirs), "seed {seed}: {before:?} {after:?}");
            } else {
                assert_eq!(ours, 1, "seed {seed}: {before:?} {after:?}");
            }
            let ticks = new.timestamp.wrapping_sub(old.timestamp) as i32;
            let same_picture = before.part == after.part && before.frame == after.frame;
            assert!(ticks > 0 || same_picture && ticks == 0, "seed {seed}: {ticks} {before:?} {after:?}");
            let (old, new) = (old.ids.unwrap(), new.ids.unwrap());
            let ids = if scenario.long_ids { 0x7fff } else { 0x7f };
            let pictures = new.picture_id.wrapping_sub(old.picture_id) & ids;
            let most = if before.part == after.part { after.frame - before.frame } else { 1 };
            assert!(u64::from(pictures) <= most, "seed {seed}: {pictures} {before:?} {after:?}");
            assert_eq!(pictures == 0, same_picture, "seed {seed}: {before:?} {after:?}");
        }
    }
}

#[test]
fn a_new_start_of_the_publishers_numbers_is_no_hole() {
    let start = start();
    let mut rewrite = Rewrite::new(10, 0);
    rewrite.switch(&packet(0, 0, start), &[]);
    assert!(rewrite.forward(&packet(0, 0, start)).is_some());
    let far = rewrite.forward(&packet(0, 20_000, frame_time(start, 1))).expect("sent");
    assert_eq!((far.sequence.wire(), far.timestamp), (11, 2999));
    assert!(rewrite.forward(&packet(0, 1, frame_time(start, 2))).is_none());
}

#[test]
fn frame_numbers_and_vp9_ids_go_on_over_a_switch_and_keep_the_holes_of_what_was_left_out() {
    let start = start();
    let scalable = |layer: u8, number: u16, picture: u16| {
        // Frame numbers and sequence numbers need not match.
        let mut packet = test_packet(u64::from(number.wrapping_add(1000)), start);
        packet.layer = Layer(layer);
        packet.facts.vp9 =
            Some(Vp9Picture { picture_id: Some(picture), long_picture_id: true, ..Vp9Picture::default() });
        packet.facts.dependency =
            Some(DependencyFacts { frame_number: number, ..DependencyFacts::default() });
        packet
    };
    let mut rewrite = Rewrite::new(0, 0);
    let ids = |rewritten: Option<Rewritten>| {
        let ids = rewritten.and_then(|rewritten| rewritten.ids).expect("it has ids");
        (ids.frame_number, ids.picture_id)
    };
    rewrite.switch(&scalable(0, 65_534, 32_766), &[]);
    assert_eq!(ids(rewrite.forward(&scalable(0, 65_534, 32_766))), (65_534, 32_766), "as published");
    rewrite.skip(&scalable(0, 65_535, 32_767));
    assert_eq!(ids(rewrite.forward(&scalable(0, 0, 0))), (0, 0), "references are counted in them");
    rewrite.switch(&scalable(2, 500, 90), &[]);
    assert_eq!(ids(rewrite.forward(&scalable(2, 500, 90))), (1, 1));
    rewrite.skip(&scalable(2, 501, 91));
    assert_eq!(ids(rewrite.forward(&scalable(2, 502, 92))), (3, 3));
}

/// Two publications use unrelated numbers and clocks, however close the values are by chance.
#[test]
fn another_publication_goes_on_by_arrival_and_nothing_of_the_one_before_follows() {
    let start = start();
    let mut rewrite = Rewrite::new(1, 1);
    rewrite.switch(&packet(0, 100, start), &[]);
    let last = rewrite.forward(&packet(0, 100, start)).expect("of this publication");
    rewrite.leave_source();
    assert!(rewrite.forward(&packet(0, 101, frame_time(start, 1))).is_none(), "that is over");
    // By its RTP timestamp, a third of a second has passed.
    let next = packet(0, 110, frame_time(start, 3));
    rewrite.switch(&next, &[]);
    let next = rewrite.forward(&next).expect("of the next publication");
    assert_eq!(next.sequence.0, last.sequence.0 + 1);
    let ticks = next.timestamp.wrapping_sub(last.timestamp);
    assert!((8_990..=9_010).contains(&ticks), "{ticks} ticks");
}
