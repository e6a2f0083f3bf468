use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};

use super::*;

struct Pair {
    now: Instant,
    limits: Limits,
    server: Sctp,
    client: Sctp,
}

#[expect(clippy::disallowed_methods, reason = "virtual time needs an origin")]
fn pair() -> Pair {
    let limits = Limits::default();
    let server = Sctp::new(DtlsRole::Server, &limits);
    let client = Sctp::new(DtlsRole::Client, &limits);
    let mut pair = Pair { now: Instant::now(), limits, server, client };
    pair.server.start(pair.now, &pair.limits);
    pair.client.start(pair.now, &pair.limits);
    pair
}

impl Pair {
    /// Runs the pair for `time`. Packets for which `lost` returns true are dropped.
    fn run(&mut self, time: Duration, lost: &mut dyn FnMut() -> bool) {
        let end = self.now + time;
        loop {
            loop {
                let (to_server, to_client) = (self.client.poll_transmit(), self.server.poll_transmit());
                if to_server.is_none() && to_client.is_none() {
                    break;
                }
                for (packet, receiver) in [(to_server, &mut self.server), (to_client, &mut self.client)] {
                    let Some(packet) = packet else { continue };
                    assert!(packet.len() <= MTU as usize);
                    if !lost() {
                        let _ = receiver.handle(self.now, packet);
                        while receiver.has_unread() && !receiver.held {
                            receiver.read_on(self.now);
                        }
                    }
                }
            }
            let next = [self.server.poll_timeout(), self.client.poll_timeout()].into_iter().flatten().min();
            match next {
                Some(next) if next <= end => self.now = self.now.max(next),
                _ => break,
            }
            self.server.handle_timeout(self.now);
            self.client.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn settle(&mut self) {
        self.run(Duration::from_secs(5), &mut || false);
    }
}

fn events(sctp: &mut Sctp) -> Vec<SctpEvent> {
    std::iter::from_fn(|| sctp.poll_event()).collect()
}

fn opened(sctp: &mut Sctp) -> (ChannelId, String) {
    match sctp.poll_event() {
        Some(SctpEvent::Open { channel, label }) => (channel, label),
        other => panic!("{other:?}"),
    }
}

#[test]
fn channels_open_in_both_directions_with_what_they_were_declared_as() {
    let mut pair = pair();
    let theirs = pair.client.open(pair.now, "_reliable", true, None).unwrap();
    let ours = pair.server.open(pair.now, "_lossy", false, Some(0)).unwrap();
    pair.settle();
    let mut at_client = [opened(&mut pair.client), opened(&mut pair.client)];
    at_client.sort();
    assert!(at_client.contains(&(theirs, "_reliable".to_owned())));
    assert!(at_client.iter().any(|(_, label)| label == "_lossy"));
    let at_server = [opened(&mut pair.server), opened(&mut pair.server)];
    assert!(at_server.contains(&(ours, "_lossy".to_owned())));
    // The server uses odd stream numbers, the client even ones, and both ends use the declared reliability.
    for sctp in [&pair.server, &pair.client] {
        let find = |label: &str| sctp.channels.iter().find(|channel| channel.label == label).unwrap();
        assert_eq!(find("_lossy").stream.map(|stream| stream % 2), Some(1));
        assert_eq!(find("_reliable").stream.map(|stream| stream % 2), Some(0));
        assert_eq!(find("_lossy").reliability, Reliability::new(false, Some(0)));
        assert_eq!(find("_reliable").reliability, Reliability::new(true, None));
    }
}

/// A pair with one channel opened by the client, and the channel's id at the client and at the server.
fn with_channel(label: &str, ordered: bool, max_retransmits: Option<u16>) -> (Pair, ChannelId, ChannelId) {
    let mut pair = pair();
    let at_client = pair.client.open(pair.now, label, ordered, max_retransmits).unwrap();
    pair.settle();
    assert_eq!(opened(&mut pair.client).0, at_client);
    let at_server = opened(&mut pair.server).0;
    (pair, at_client, at_server)
}

#[test]
fn messages_of_all_kinds_and_sizes_arrive_in_order() {
    let (mut pair, at_client, at_server) = with_channel("_reliable", true, None);
    let sizes = [0, 1, 1100, 1200, 5000, 65_000, 65_536];
    let mut rng = SmallRng::seed_from_u64(1);
    let mut expected = Vec::new();
    for (at, size) in sizes.into_iter().enumerate() {
        let mut payload = vec![0; size];
        rng.fill_bytes(&mut payload);
        let (payload, binary) = (Bytes::from(payload), at % 2 == 0);
        pair.client.send(pair.now, at_client, &payload, binary).unwrap();
        expected.push(SctpEvent::Message { channel: at_server, binary, payload });
    }
    pair.settle();
    assert_eq!(events(&mut pair.server), expected);
    pair.server.send(pair.now, at_server, &Bytes::from_static(b"back"), false).unwrap();
    pair.settle();
    let payload = Bytes::from_static(b"back");
    assert_eq!(events(&mut pair.client), [SctpEvent::Message { channel: at_client, binary: false, payload }]);
    assert_eq!(pair.server.account.held(), 0);
}

#[test]
fn everything_arrives_over_a_network_that_loses_a_fifth() {
    let (mut pair, at_client, _) = with_channel("_reliable", true, None);
    let mut rng = SmallRng::seed_from_u64(2);
    let mut sent = 0_u32;
    let mut received = Vec::new();
    for _ in 0..400 {
        let mut payload = vec![0; rng.random_range(4..4000)];
        payload[..4].copy_from_slice(&sent.to_be_bytes());
        match pair.client.send(pair.now, at_client, &payload.into(), true) {
            Ok(()) => sent += 1,
            Err(DataError::Backlog) => {}
            Err(error) => panic!("{error}"),
        }
        pair.run(Duration::from_millis(100), &mut || rng.random_bool(0.2));
        received.extend(events(&mut pair.server));
    }
    pair.run(Duration::from_secs(300), &mut || false);
    received.extend(events(&mut pair.server));
    let numbers: Vec<u32> = received
        .iter()
        .map(|event| match event {
            SctpEvent::Message { payload, .. } => u32::from_be_bytes(payload[..4].try_into().unwrap()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(sent > 200, "{sent}");
    assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
}

#[test]
fn a_channel_without_retransmissions_loses_and_goes_on() {
    let (mut pair, at_client, at_server) = with_channel("_lossy", false, Some(0));
    let mut rng = SmallRng::seed_from_u64(3);
    for _ in 0..200 {
        pair.client.send(pair.now, at_client, &Bytes::from_static(&[1; 500]), true).unwrap();
        pair.run(Duration::from_millis(200), &mut || rng.random_bool(0.2));
    }
    pair.run(Duration::from_secs(60), &mut || false);
    let received = events(&mut pair.server).len();
    assert!((100..200).contains(&received), "{received}");
    pair.client.send(pair.now, at_client, &Bytes::from_static(b"last"), true).unwrap();
    pair.settle();
    let payload = Bytes::from_static(b"last");
    assert_eq!(events(&mut pair.server), [SctpEvent::Message { channel: at_server, binary: true, payload }]);
}

#[test]
fn data_survives_a_minute_without_network() {
    let (mut pair, at_client, _) = with_channel("_reliable", true, None);
    pair.client.send(pair.now, at_client, &Bytes::from_static(b"patience"), true).unwrap();
    pair.run(Duration::from_secs(60), &mut || true);
    assert_eq!(events(&mut pair.server), []);
    pair.run(Duration::from_secs(61), &mut || false);
    assert_eq!(events(&mut pair.server).len(), 1);
}

#[test]
fn what_waits_is_bounded_and_flows_off_again() {
    let (mut pair, at_client, _) = with_channel("_reliable", true, None);
    let message = Bytes::from(vec![7; 60_000]);
    let mut sent = 0;
    // No packet is delivered meanwhile.
    let refused = loop {
        match pair.client.send(pair.now, at_client, &message, true) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        pair.run(Duration::from_millis(10), &mut || true);
    };
    assert_eq!(refused, DataError::Backlog);
    assert_eq!(sent, 4);
    assert!(pair.client.buffered() <= pair.limits.data_buffered_bytes);
    pair.run(Duration::from_secs(120), &mut || false);
    assert_eq!(events(&mut pair.server).len(), 4);
    assert_eq!(pair.client.buffered(), 0);
    assert!(pair.client.send(pair.now, at_client, &message, true).is_ok());
}

#[test]
fn a_peer_waits_while_it_is_not_read_and_goes_on_at_once_when_it_is() {
    for bytes in [40, 1000, 60_000] {
        let (mut pair, at_client, at_server) = with_channel("_reliable", true, None);
        let message = |number: u32| {
            let mut payload = vec![7; bytes];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            Bytes::from(payload)
        };
        let (mut sent, mut received) = (0, 0);
        for round in 0..20 {
            pair.server.hold(true);
            // The client sends as much as fits, for a minute in which the server reads nothing.
            for _ in 0..60 {
                while pair.client.send(pair.now, at_client, &message(sent), true).is_ok() {
                    sent += 1;
                }
                pair.run(Duration::from_secs(1), &mut || false);
            }
            assert!(events(&mut pair.server).is_empty(), "round {round}");
            let waiting = sent - received;
            assert!(waiting as usize * bytes > pair.limits.data_buffered_bytes, "{waiting} wait");
            assert!(
                waiting as usize * bytes <= pair.limits.data_buffered_bytes * 2 + MTU as usize,
                "{waiting} wait: in the window, and as much with who sends"
            );
            assert!(!pair.server.associations[0].1.is_closed());
            pair.server.hold(false);
            let released = pair.now;
            while pair.server.has_unread() {
                pair.server.read_on(pair.now);
            }
            pair.run(Duration::from_millis(1), &mut || false);
            let got = events(&mut pair.server);
            for event in &got {
                let payload = message(received);
                assert_eq!(*event, SctpEvent::Message { channel: at_server, binary: true, payload });
                received += 1;
            }
            assert!(
                got.len() * bytes > pair.limits.data_buffered_bytes * 3 / 4,
                "round {round}: {}",
                got.len()
            );
            assert!(
                pair.client.buffered() < pair.limits.data_buffered_bytes / 2,
                "round {round}: told at once"
            );
            pair.run(Duration::from_secs(5), &mut || false);
            received += events(&mut pair.server).len() as u32;
            assert_eq!(received, sent, "round {round}, {:?} later", pair.now - released);
        }
        assert_eq!(pair.server.account.held(), 0);
    }
}

#[test]
fn lossy_messages_are_read_while_reliable_ones_wait() {
    let (mut pair, reliable, _) = with_channel("_reliable", true, None);
    let lossy = pair.client.open(pair.now, "_lossy", false, Some(0)).unwrap();
    pair.settle();
    opened(&mut pair.client);
    opened(&mut pair.server);
    pair.server.hold(true);
    for _ in 0..3 {
        pair.client.send(pair.now, reliable, &Bytes::from_static(b"later"), true).unwrap();
        pair.client.send(pair.now, lossy, &Bytes::from_static(b"now"), true).unwrap();
    }
    pair.settle();
    let got = events(&mut pair.server);
    assert_eq!(got.len(), 3);
    let now =
        |event: &SctpEvent| matches!(event, SctpEvent::Message { payload, .. } if &payload[..] == b"now");
    assert!(got.iter().all(now));
    pair.server.hold(false);
    pair.server.read_on(pair.now);
    assert_eq!(events(&mut pair.server).len(), 3);
}

/// A pair whose client has sent on a channel until the receive window of the server, which does not read, was closed.
/// Also returns the channel's ids at client and server, and the number of messages sent.
fn with_closed_window() -> (Pair, ChannelId, ChannelId, usize) {
    let (mut pair, at_client, at_server) = with_channel("_reliable", true, None);
    let sent = close_window(&mut pair, at_client);
    (pair, at_client, at_server, sent)
}

fn close_window(pair: &mut Pair, at_client: ChannelId) -> usize {
    pair.server.hold(true);
    let mut sent = 0;
    for _ in 0..10 {
        while pair.client.send(pair.now, at_client, &Bytes::from(vec![7; 1000]), true).is_ok() {
            sent += 1;
        }
        pair.run(Duration::from_millis(100), &mut || false);
    }
    assert!(pair.server.account.is_closed());
    sent
}

#[test]
fn a_peer_that_waits_goes_on_at_once_though_it_was_sent_messages_meanwhile() {
    let (mut pair, _, at_server, sent) = with_closed_window();
    // The client's window probe is refused. After it come the client's acknowledgements.
    for _ in 0..20 {
        pair.server.send(pair.now, at_server, &Bytes::from(vec![9; 1000]), true).unwrap();
        pair.run(Duration::from_millis(300), &mut || false);
    }
    assert_eq!(events(&mut pair.client).len(), 20);
    pair.server.hold(false);
    while pair.server.has_unread() {
        pair.server.read_on(pair.now);
    }
    pair.run(Duration::from_millis(1), &mut || false);
    assert_eq!(events(&mut pair.server).len(), sent, "all of it, without waiting for a timer");
}

#[test]
fn only_data_that_is_not_acknowledged_is_kept_of_what_is_refused() {
    let (mut pair, at_client, at_server, _) = with_closed_window();
    for _ in 0..50 {
        let _ = pair.client.send(pair.now, at_client, &Bytes::from(vec![7; 1000]), true);
        pair.server.send(pair.now, at_server, &Bytes::from(vec![9; 100]), true).unwrap();
        pair.run(Duration::from_secs(5), &mut || false);
    }
    assert!(!pair.server.refused.is_empty());
    let acknowledged = pair.server.account.acknowledged().unwrap();
    let mut numbers = Vec::new();
    for packet in &pair.server.refused {
        assert_eq!(packet[12], 0, "a data chunk");
        let number = u32::from_be_bytes(packet[16..20].try_into().unwrap());
        assert!(number.wrapping_sub(acknowledged) as i32 > 0, "not acknowledged");
        assert!(
            usize::from(u16::from_be_bytes([packet[14], packet[15]])) + 12 + 3 >= packet.len(),
            "and nothing else"
        );
        numbers.push(number);
    }
    numbers.dedup();
    assert_eq!(numbers.len(), pair.server.refused.len(), "each once");
}

/// All channels of an association share one receive window.
#[test]
fn lossy_messages_wait_with_the_reliable_ones_that_fill_the_window_and_then_flow() {
    let (mut pair, reliable, _) = with_channel("_reliable", true, None);
    let lossy = pair.client.open(pair.now, "_lossy", false, Some(0)).unwrap();
    pair.settle();
    opened(&mut pair.client);
    let at_lossy = opened(&mut pair.server).0;
    let sent = close_window(&mut pair, reliable);
    for text in ["1", "2", "3"] {
        pair.client.send(pair.now, lossy, &Bytes::from_static(text.as_bytes()), true).unwrap();
        pair.run(Duration::from_secs(10), &mut || false);
        assert_eq!(events(&mut pair.server), [], "the client has no leave to send anything");
    }
    pair.server.hold(false);
    while pair.server.has_unread() {
        pair.server.read_on(pair.now);
    }
    pair.run(Duration::from_millis(1), &mut || false);
    let got = events(&mut pair.server);
    let of_lossy =
        |event: &&SctpEvent| matches!(event, SctpEvent::Message { channel, .. } if *channel == at_lossy);
    assert_eq!(got.len(), sent + 3, "late, but nothing hangs");
    assert_eq!(got.iter().filter(of_lossy).count(), 3);
    pair.client.send(pair.now, lossy, &Bytes::from_static(b"after"), true).unwrap();
    pair.run(Duration::from_millis(1), &mut || false);
    assert_eq!(events(&mut pair.server).len(), 1);
}

#[test]
fn wrong_uses_are_told() {
    let (mut pair, at_client, _) = with_channel("_reliable", true, None);
    // The longest accepted message, plus what stamping adds.
    let longest = 128 * 1024;
    let long = Bytes::from(vec![0; longest + 1]);
    assert_eq!(pair.client.send(pair.now, at_client, &long, true), Err(DataError::TooLong(longest + 1)));
    // The peer accepts less, or declares no limit.
    for (theirs, most) in [(65_536, 65_536), (0, longest)] {
        pair.client.limit_messages(theirs);
        let refused = pair.client.send(pair.now, at_client, &long.slice(..=most), true);
        assert_eq!(refused, Err(DataError::TooLong(most + 1)));
    }
    // A message longer than the receive limit is read and discarded.
    pair.client.send(pair.now, at_client, &long.slice(..65_537), true).unwrap();
    pair.client.send(pair.now, at_client, &long.slice(..65_536), true).unwrap();
    pair.settle();
    assert_eq!(pair.server.take_discarded(), 1);
    assert_eq!(events(&mut pair.server).len(), 1);
    let unknown = ChannelId(999);
    assert_eq!(pair.client.send(pair.now, unknown, &Bytes::new(), true), Err(DataError::NotOpen));
    let label = "x".repeat(257);
    assert_eq!(pair.client.open(pair.now, &label, true, None), Err(DataError::Label(257)));
    for at in 1..pair.limits.data_streams {
        pair.client.open(pair.now, &at.to_string(), true, None).unwrap();
    }
    assert_eq!(pair.client.open(pair.now, "more", true, None), Err(DataError::TooManyChannels));
    pair.settle();
    assert_eq!(events(&mut pair.server).len(), pair.limits.data_streams - 1);
}

#[test]
fn more_channels_than_the_limit_are_not_taken_and_harm_none() {
    let (mut pair, at_client, _) = with_channel("_reliable", true, None);
    pair.client.max_channels = 300;
    let others: Vec<_> =
        (0..200).map(|at| pair.client.open(pair.now, &at.to_string(), true, None).unwrap()).collect();
    pair.settle();
    assert_eq!(pair.server.channels.len(), pair.limits.data_streams);
    assert_eq!(events(&mut pair.server).len(), pair.limits.data_streams - 1);
    // Data on all of them: messages on no channel are read and discarded, the others are delivered.
    for channel in &mut pair.client.channels {
        channel.open = true;
    }
    for channel in others {
        pair.client.send(pair.now, channel, &Bytes::from_static(&[1; 1000]), true).unwrap();
    }
    pair.client.send(pair.now, at_client, &Bytes::from_static(b"still"), true).unwrap();
    pair.settle();
    assert_eq!(events(&mut pair.server).len(), pair.limits.data_streams);
    assert_eq!(pair.client.buffered(), 0);
}

#[test]
fn every_message_that_is_discarded_is_counted_also_of_many_that_are_read_at_a_time() {
    let (mut pair, _, _) = with_channel("_reliable", true, None);
    let stream = pair.client.channels[0].stream.unwrap();
    for held in [false, true] {
        pair.server.hold(held);
        for _ in 0..30 {
            let now = pair.now;
            let mut stream = pair.client.associations[0].1.stream(stream).unwrap();
            let senseless = Bytes::from_static(&[99]);
            stream.write_chunk_with_ppi(now, &senseless, PayloadProtocolIdentifier::Dcep).unwrap();
        }
        pair.client.progress(pair.now);
        pair.settle();
        pair.server.hold(false);
        pair.server.read_on(pair.now);
        assert_eq!(pair.server.take_discarded(), 30);
        assert_eq!(events(&mut pair.server), []);
    }
}

#[test]
fn a_closed_channel_is_told_and_its_place_free() {
    let (mut pair, at_client, at_server) = with_channel("_reliable", true, None);
    let stream = pair.client.channels[0].stream.unwrap();
    let now = pair.now;
    let (_, association) = &mut pair.client.associations[0];
    association.stream(stream).unwrap().close(now).unwrap();
    pair.client.progress(now);
    pair.settle();
    assert_eq!(events(&mut pair.server), [SctpEvent::Closed { channel: at_server }]);
    assert_eq!(events(&mut pair.client), [SctpEvent::Closed { channel: at_client }]);
    let again = pair.client.open(pair.now, "again", true, None).unwrap();
    assert_ne!(again, at_client);
    pair.settle();
    assert_eq!(opened(&mut pair.server).1, "again");
}

#[test]
fn a_repeated_init_after_the_start_does_not_end_the_association() {
    let mut pair = pair();
    let init = pair.client.out.front().cloned().unwrap();
    pair.client.open(pair.now, "_reliable", true, None).unwrap();
    pair.settle();
    assert_eq!(pair.server.handle(pair.now, init), Err(Drop::BadData));
    let channel = opened(&mut pair.server).0;
    pair.server.send(pair.now, channel, &Bytes::from_static(b"alive"), true).unwrap();
    pair.settle();
    assert_eq!(events(&mut pair.client).len(), 2);
}

#[test]
fn repeated_inits_before_the_start_end_in_one_association() {
    let mut pair = pair();
    let init = pair.client.out.front().cloned().unwrap();
    for _ in 0..50 {
        let _ = pair.server.handle(pair.now, init.clone());
    }
    assert_eq!(pair.server.associations.len(), 1);
    pair.client.open(pair.now, "_reliable", true, None).unwrap();
    pair.settle();
    assert!(pair.server.established);
    assert_eq!(pair.server.associations.len(), 1);
    assert_eq!(opened(&mut pair.server).1, "_reliable");
}

#[test]
fn a_message_without_end_is_cut_off() {
    let (mut pair, at_client, _) = with_channel("_reliable", true, None);
    // Removes the client's own limits.
    pair.client.max_sent = usize::MAX;
    pair.client.max_buffered = usize::MAX;
    let refused = pair.client.send(pair.now, at_client, &Bytes::from(vec![0; 10_000_000]), true);
    assert_eq!(refused, Err(DataError::NotOpen), "rtc-sctp itself refuses it");
    // So packets are made by hand: real ones with the end flag cleared, in sequence, without end.
    pair.client.send(pair.now, at_client, &Bytes::from(vec![0; 1000]), true).unwrap();
    let template = pair.client.poll_transmit().unwrap().to_vec();
    let first = u32::from_be_bytes(template[16..20].try_into().unwrap());
    let mut cut_off = None;
    for number in 0..20_000_u32 {
        let mut packet = template.clone();
        packet[13] = if number == 0 { 2 } else { 0 };
        packet[16..20].copy_from_slice(&(first.wrapping_add(number)).to_be_bytes());
        packet[8..12].fill(0);
        let checksum = crc32c(&packet);
        packet[8..12].copy_from_slice(&checksum.to_le_bytes());
        let _ = pair.server.handle(pair.now, packet.into());
        if pair.server.associations[0].1.is_closed() {
            cut_off = Some(number);
            break;
        }
    }
    let cut_off = cut_off.expect("cut off");
    assert!((200..12_000).contains(&cut_off), "{cut_off}");
    assert!(events(&mut pair.server).iter().any(|event| matches!(event, SctpEvent::Closed { .. })));
}

fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 },
        )
    })
}

#[test]
fn packets_of_every_length_do_no_harm() {
    let mut rng = SmallRng::seed_from_u64(4);
    let (mut pair, at_client, at_server) = with_channel("_reliable", true, None);
    pair.client.send(pair.now, at_client, &Bytes::from_static(b"template"), true).unwrap();
    let template = pair.client.poll_transmit().unwrap();
    for len in 0..1500 {
        let mut noise = vec![0; len];
        rng.fill_bytes(&mut noise);
        assert!(pair.server.handle(pair.now, noise.into()).is_err());
        let cut: Vec<u8> = template.iter().copied().cycle().take(len).collect();
        if cut != template {
            assert!(pair.server.handle(pair.now, cut.into()).is_err());
        }
    }
    pair.server.handle(pair.now, template).unwrap();
    let payload = Bytes::from_static(b"template");
    assert_eq!(events(&mut pair.server), [SctpEvent::Message { channel: at_server, binary: true, payload }]);
}

/// An authenticated peer may end its own association, but can do no other harm.
#[test]
fn packets_with_the_right_tag_and_checksum_end_at_most_the_association() {
    let mut rng = SmallRng::seed_from_u64(5);
    for round in 0..150 {
        let (mut pair, at_client, _) = with_channel("_reliable", true, None);
        pair.client.send(pair.now, at_client, &Bytes::from_static(b"template"), true).unwrap();
        let template = pair.client.poll_transmit().unwrap();
        for _ in 0..5 {
            let len = rng.random_range(16..1500);
            let mut noise = vec![0; len];
            rng.fill_bytes(&mut noise);
            noise[..8].copy_from_slice(&template[..8]);
            noise[12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 130, 192][round % 15];
            noise[14..16].copy_from_slice(&((len - 12) as u16).to_be_bytes());
            if rng.random() && len > 24 {
                // A plausible parameter or TSN.
                noise[16..20].copy_from_slice(&template[16..20]);
                noise[18..20].copy_from_slice(&((len - 16) as u16).to_be_bytes());
            }
            noise[8..12].fill(0);
            let checksum = crc32c(&noise);
            noise[8..12].copy_from_slice(&checksum.to_le_bytes());
            let _ = pair.server.handle(pair.now, noise.into());
        }
        pair.run(Duration::from_secs(2), &mut || false);
        if pair.server.associations.is_empty() {
            assert!(events(&mut pair.server).iter().any(|event| matches!(event, SctpEvent::Closed { .. })));
            assert!(pair.server.open(pair.now, "more", true, None).is_ok());
            assert_eq!(pair.server.poll_timeout(), None);
        }
    }
}
