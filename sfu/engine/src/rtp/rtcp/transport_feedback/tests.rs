use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rtc_rtcp::transport_feedbacks::transport_layer_cc::{PacketStatusChunk, SymbolTypeTcc, TransportLayerCc};
use rtc_shared::marshal::Unmarshal;

use super::*;
use crate::rtp::rtcp::{Rtcp, parse};

type Status = (u16, Option<Duration>);

fn builder_of(statuses: &[Status]) -> FeedbackBuilder {
    let mut builder = FeedbackBuilder::new(statuses[0].0);
    for (sequence, arrival) in statuses {
        assert!(builder.push(*sequence, *arrival));
    }
    builder
}

fn built(statuses: &[Status]) -> Vec<u8> {
    let builder = builder_of(statuses);
    let mut out = Vec::new();
    assert!(write_transport_feedback(&mut out, Ssrc(1), Ssrc(2), 7, &builder));
    out
}

fn read(packet: &[u8]) -> TransportFeedback {
    match parse(packet).unwrap().as_slice() {
        [Rtcp::TransportFeedback(feedback)] => feedback.clone(),
        other => panic!("{other:?}"),
    }
}

fn ticks(arrival: Duration) -> i64 {
    (arrival.as_micros() / 250) as i64
}

/// Parses with `rtc-rtcp`: sequence numbers with arrival times in ticks.
fn read_by_oracle(packet: &[u8]) -> Vec<(u16, i64)> {
    let feedback = TransportLayerCc::unmarshal(&mut &packet[..]).unwrap();
    let mut symbols = Vec::new();
    for chunk in &feedback.packet_chunks {
        match chunk {
            PacketStatusChunk::RunLengthChunk(run) => {
                symbols.extend(std::iter::repeat_n(run.packet_status_symbol, usize::from(run.run_length)));
            }
            PacketStatusChunk::StatusVectorChunk(vector) => symbols.extend(&vector.symbol_list),
        }
    }
    let mut time = i64::from(feedback.reference_time) * 256;
    let mut deltas = feedback.recv_deltas.iter();
    let mut found = Vec::new();
    for index in 0..feedback.packet_status_count {
        if symbols[usize::from(index)] != SymbolTypeTcc::PacketNotReceived {
            time += deltas.next().unwrap().delta / 250;
            found.push((feedback.base_sequence_number.wrapping_add(index), time));
        }
    }
    found
}

#[test]
fn random_statuses_are_read_back_by_both_stacks() {
    let mut rng = SmallRng::seed_from_u64(3);
    let (mut ended, mut gathered) = (0, 0);
    for round in 0..200 {
        let loss = rng.random_range(0..100);
        let jump = rng.random_range(0..100);
        let mut sequence: u16 = rng.random();
        let mut arrival = Duration::from_micros(rng.random_range(20_000_000..4_000_000_000));
        let mut statuses = Vec::new();
        for _ in 0..rng.random_range(1..300) {
            let lost = !statuses.is_empty() && rng.random_range(0..100) < loss;
            let status = (sequence, (!lost).then_some(arrival));
            // A long silence ends a feedback packet.
            if !statuses.is_empty() && !builder_of(&statuses).push(status.0, status.1) {
                ended += 1;
                break;
            }
            statuses.push(status);
            let step: i64 = if rng.random_range(0..100) < jump {
                rng.random_range(-200_000..2_000_000)
            } else {
                rng.random_range(0..60_000)
            };
            arrival = Duration::from_micros(arrival.as_micros().saturating_add_signed(step.into()) as u64);
            sequence =
                sequence.wrapping_add(if rng.random_bool(0.02) { rng.random_range(1..2000) } else { 1 });
        }
        let packet = built(&statuses);
        assert_eq!(packet.len() % 4, 0);
        let expected: Vec<(u16, i64)> =
            statuses.iter().filter_map(|(sequence, arrival)| Some((*sequence, ticks((*arrival)?)))).collect();
        let feedback = read(&packet);
        assert_eq!(feedback.arrivals().collect::<Vec<_>>(), expected, "round {round}");
        assert_eq!(read_by_oracle(&packet), expected, "round {round}");
        assert_eq!(feedback.base_sequence, statuses[0].0);
        let last = statuses.last().unwrap().0;
        assert_eq!(feedback.base_sequence.wrapping_add(feedback.status_count), last.wrapping_add(1));
        assert_eq!((feedback.sender, feedback.media, feedback.feedback_count), (Ssrc(1), Ssrc(2), 7));
        gathered += statuses.len();
    }
    assert!(ended < 100 && gathered > 10_000, "{ended} ended early, {gathered} statuses");
}

#[test]
fn equal_statuses_take_one_run_and_mixed_ones_one_bit_each() {
    let arrival = |index: u64| Some(Duration::from_millis(100 + index));
    let all: Vec<Status> = (0..500).map(|index| (index as u16, arrival(index))).collect();
    // Header, one chunk, 500 deltas, padding.
    assert_eq!(built(&all).len(), (20 + 2 + 500_usize).next_multiple_of(4));
    let mixed: Vec<Status> =
        (0..140).map(|index| (index as u16, arrival(index).filter(|_| index % 2 == 0))).collect();
    assert_eq!(built(&mixed).len(), (20 + 2 * 10 + 70_usize).next_multiple_of(4));
}

#[test]
fn a_large_gap_is_a_few_runs_over_the_wrap_of_numbers() {
    let statuses =
        [(65_000, Some(Duration::from_secs(1))), (20_000, None), (20_001, Some(Duration::from_millis(1001)))];
    let packet = built(&statuses);
    assert!(packet.len() <= 36, "{}", packet.len());
    let feedback = read(&packet);
    assert_eq!(feedback.received.iter().map(|packet| packet.sequence).collect::<Vec<_>>(), [65_000, 20_001]);
    assert_eq!(feedback.status_count, 20_538);
}

#[test]
fn a_status_that_does_not_fit_is_refused_and_begins_the_next_packet() {
    let mut builder = FeedbackBuilder::new(10);
    assert!(builder.push(10, Some(Duration::from_secs(20))));
    let refused = [
        ("behind", 9, Duration::from_secs(20)),
        ("far behind", 65_000, Duration::from_secs(20)),
        ("the same again", 10, Duration::from_secs(20)),
        ("over 8 s later", 11, Duration::from_millis(28_192)),
        ("over 8 s earlier", 11, Duration::from_millis(11_807)),
    ];
    for (name, sequence, arrival) in refused {
        let before = format!("{builder:?}");
        assert!(!builder.push(sequence, Some(arrival)), "{name}");
        assert_eq!(format!("{builder:?}"), before, "{name}");
        assert!(FeedbackBuilder::new(sequence).push(sequence, Some(arrival)), "{name}");
    }
    assert!(builder.push(11, Some(Duration::from_micros(28_191_750))));
}

#[test]
fn packets_stay_within_their_length_however_much_is_pushed() {
    let mut builder = FeedbackBuilder::new(0);
    let mut pushed = 0;
    let mut arrival = Duration::from_secs(1);
    while builder.push(pushed, Some(arrival)) {
        pushed += 1;
        arrival += Duration::from_millis(if pushed.is_multiple_of(3) { 100 } else { 1 });
    }
    let mut out = Vec::new();
    write_transport_feedback(&mut out, Ssrc(1), Ssrc(2), 0, &builder);
    assert!((900..=1000).contains(&out.len()), "{}", out.len());
    assert_eq!(read(&out).received.len(), usize::from(pushed));
}

#[test]
fn padding_is_announced_and_only_where_there_is_any() {
    // Header, one run, one byte of arrival time each.
    for (count, padding) in [(2, 0), (3, 3), (4, 2), (5, 1)] {
        let statuses: Vec<Status> = (0..count).map(|index| (index, Some(Duration::from_secs(1)))).collect();
        let packet = built(&statuses);
        assert_eq!(packet[0], if padding > 0 { 0xaf } else { 0x8f });
        let last = usize::from(*packet.last().unwrap());
        assert_eq!(if padding > 0 { last } else { 0 }, padding);
        assert_eq!(packet.len(), 22 + usize::from(count) + padding);
    }
}

#[test]
fn statuses_past_the_count_are_ignored() {
    for chunk in [[0xbf, 0xff], [0xd5, 0x55], [0x3f, 0xff]] {
        let mut packet = vec![0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xff, 0, 2, 0, 0, 1, 0];
        packet.extend(chunk);
        packet.extend([4, 6]);
        let received =
            [ReceivedPacket { sequence: 0xffff, delta: 4 }, ReceivedPacket { sequence: 0, delta: 6 }];
        assert_eq!(read(&packet).received, received, "{chunk:?}");
    }
}

#[test]
fn without_an_arrival_nothing_is_written() {
    let mut builder = FeedbackBuilder::new(5);
    builder.push(6, None);
    let mut out = Vec::new();
    assert!(!write_transport_feedback(&mut out, Ssrc(1), Ssrc(2), 0, &builder));
    assert!(out.is_empty());
}

#[test]
fn a_few_bytes_cannot_claim_many_packets() {
    let mut packet = vec![0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0xff, 0xff, 0, 0, 1, 0];
    // This count needs eight runs of received packets. There is one, followed by a chunk with the reserved symbol.
    packet.extend([0x3f, 0xff, 0x7f, 0xff]);
    let error = RtcpError::Truncated("packet status chunks");
    assert_eq!(parse(&packet).unwrap(), [Rtcp::Malformed(error)]);
    packet[14] = 0x1f;
    let error = RtcpError::Truncated("receive deltas");
    assert_eq!(parse(&packet).unwrap(), [Rtcp::Malformed(error)]);
    packet[20] = 0x7f;
    let error = RtcpError::Undefined("packet status symbol");
    assert_eq!(parse(&packet).unwrap(), [Rtcp::Malformed(error)]);
    packet[20] = 0x1f;
    assert!(matches!(parse(&packet).unwrap()[..], [Rtcp::TransportFeedback(_)]), "none received");
}
