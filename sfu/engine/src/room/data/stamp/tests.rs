use livekit_protocol::{ActiveSpeakerUpdate, ChatMessage, DataPacket, UserPacket, data_packet};
use prost::Message;
use sfu_protocol::ParticipantSid;

use super::*;

fn user(packet: UserPacket) -> Vec<u8> {
    DataPacket { value: Some(data_packet::Value::User(packet)), ..Default::default() }.encode_to_vec()
}

fn ana() -> ParticipantSid {
    ParticipantSid::new("PA_ana")
}

fn stamped(bytes: Vec<u8>, kind: DataKind) -> Result<Stamped, DataError> {
    let sid = ana();
    stamp(&Bytes::from(bytes), Sender { participant: &sid, identity: "ana", hidden: false }, kind)
}

fn decoded(bytes: Vec<u8>) -> DataPacket {
    let stamped = stamped(bytes, DataKind::Reliable).expect("valid");
    DataPacket::decode(stamped.packet).expect("a data packet")
}

fn of_user(packet: &DataPacket) -> &UserPacket {
    match &packet.value {
        Some(data_packet::Value::User(user)) => user,
        other => panic!("{other:?}"),
    }
}

/// Encodes a length-delimited field.
fn field(tag: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    encode_key(tag, WireType::LengthDelimited, &mut bytes);
    encode_varint(body.len() as u64, &mut bytes);
    bytes.extend_from_slice(body);
    bytes.to_vec()
}

#[test]
fn a_forged_sender_is_replaced_by_the_true_one() {
    let forged = DataPacket {
        participant_identity: "ben".into(),
        participant_sid: "PA_ben".into(),
        value: Some(data_packet::Value::User(UserPacket {
            participant_identity: "ben".into(),
            participant_sid: "PA_ben".into(),
            payload: b"hello".to_vec(),
            ..Default::default()
        })),
        ..Default::default()
    };
    let got = stamped(forged.encode_to_vec(), DataKind::Lossy).expect("valid");
    let packet = DataPacket::decode(got.packet).expect("valid");
    assert_eq!((packet.participant_identity.as_str(), packet.participant_sid.as_str()), ("ana", "PA_ana"));
    assert_eq!(packet.kind, data_packet::Kind::Lossy as i32);
    let user = of_user(&packet);
    assert_eq!((user.participant_identity.as_str(), user.participant_sid.as_str()), ("ana", "PA_ana"));
    assert_eq!(user.payload.as_slice(), b"hello");
    assert_eq!(got.destinations, Destinations::Everyone);
}

#[test]
fn a_sender_forged_again_and_again_in_any_place_is_removed_each_time() {
    let in_user =
        [field(1, b"PA_ben"), field(5, b"ben"), field(2, b"hi"), field(5, b"cy"), field(1, b"PA_cy")];
    let in_user = in_user.concat();
    let orders = [
        [field(4, b"ben"), field(2, &in_user), field(17, b"PA_ben"), field(4, b"cy")],
        [field(2, &in_user), field(4, b"ben"), field(4, b"cy"), field(17, b"PA_cy")],
        [field(17, b"PA_ben"), field(17, b"PA_cy"), field(4, b"ben"), field(2, &in_user)],
    ];
    for order in orders {
        let got = stamped(order.concat(), DataKind::Reliable).expect("valid");
        let text = String::from_utf8_lossy(&got.packet);
        assert!(!text.contains("ben") && !text.contains("cy"), "{text}");
        let packet = DataPacket::decode(got.packet).expect("valid");
        assert_eq!(
            (packet.participant_identity.as_str(), packet.participant_sid.as_str()),
            ("ana", "PA_ana")
        );
        let user = of_user(&packet);
        assert_eq!((user.participant_identity.as_str(), user.payload.as_slice()), ("ana", &b"hi"[..]));
    }
}

#[test]
fn what_the_schema_does_not_know_passes_in_both_messages_and_in_its_order() {
    let (inner, kind, outer) = (field(900, b"inner"), field(4000, b"a kind of message"), field(77, b"outer"));
    let in_user = [inner.clone(), field(2, b"hi")].concat();
    let number = [0xf8, 0x3f, 0x2a]; // field 1023, value 42
    let got = stamped(
        [outer.clone(), field(2, &in_user), kind.clone(), number.to_vec()].concat(),
        DataKind::Reliable,
    );
    let got = got.expect("valid");
    let at =
        |part: &[u8]| got.packet.windows(part.len()).position(|window| window == part).expect("it is there");
    assert!(at(&outer) < at(&inner) && at(&inner) < at(&kind) && at(&kind) < at(&number));
    let packet = DataPacket::decode(got.packet.clone()).expect("valid");
    assert_eq!(of_user(&packet).payload, b"hi");
    // Also when there is no other member of `value`.
    let alone = stamped(kind.clone(), DataKind::Reliable).expect("valid");
    assert!(alone.packet.starts_with(&kind));
    assert_eq!(DataPacket::decode(alone.packet).expect("valid").participant_identity, "ana");
}

#[test]
fn of_two_kinds_in_one_packet_the_last_counts_and_the_other_is_not_sent() {
    let chat = DataPacket {
        value: Some(data_packet::Value::ChatMessage(ChatMessage {
            message: "chat".into(),
            ..Default::default()
        })),
        ..Default::default()
    };
    let chat = chat.encode_to_vec();
    let hi = user(UserPacket { payload: b"hi".to_vec(), ..Default::default() });
    let packet = decoded([chat.clone(), hi.clone()].concat());
    assert_eq!(of_user(&packet).payload, b"hi");
    let got = stamped([hi.clone(), chat.clone()].concat(), DataKind::Reliable).expect("valid");
    assert!(!got.packet.windows(2).any(|window| window == b"hi"));
    let packet = DataPacket::decode(got.packet).expect("valid");
    assert!(matches!(packet.value, Some(data_packet::Value::ChatMessage(_))));
    // Pieces of a user packet merge into one message, in which the last value of each field wins.
    let topic = field(2, &field(4, b"topic"));
    let packet = decoded([field(2, &field(2, b"old")), topic, hi.clone()].concat());
    let user = of_user(&packet);
    assert_eq!((user.payload.as_slice(), user.topic.as_deref()), (&b"hi"[..], Some("topic")));
    // Pieces before another member of `value` are discarded.
    let packet = decoded([field(2, &field(4, b"topic")), chat, hi].concat());
    assert_eq!(of_user(&packet).topic, None);
}

#[test]
fn destinations_in_the_old_place_count() {
    let sid = ana();
    let sender = Sender { participant: &sid, identity: "ana", hidden: true };
    let bytes = user(UserPacket {
        destination_identities: vec!["ben".into()],
        destination_sids: vec!["PA_cy".into()],
        ..Default::default()
    });
    let got = stamp(&Bytes::from(bytes), sender, DataKind::Reliable).expect("valid");
    assert!(got.destinations.include(&ParticipantSid::new("PA_ben"), "ben"));
    assert!(got.destinations.include(&ParticipantSid::new("PA_cy"), "cy"));
    assert!(!got.destinations.include(&ParticipantSid::new("PA_dan"), "dan"));
    let packet = DataPacket::decode(got.packet).expect("valid");
    assert!(packet.participant_identity.is_empty() && of_user(&packet).participant_identity.is_empty());
    assert_eq!(packet.destination_identities, ["ben"]);
    assert_eq!(of_user(&packet).destination_sids, ["PA_cy"]);
}

#[test]
fn destinations_in_the_new_place_win_and_stand_in_both() {
    let mut packet =
        DataPacket { destination_identities: vec!["dan".into(), "cy".into()], ..Default::default() };
    packet.value = Some(data_packet::Value::User(UserPacket {
        destination_identities: vec!["ben".into()],
        ..Default::default()
    }));
    packet.sequence = 7;
    let got = stamped(packet.encode_to_vec(), DataKind::Reliable).expect("valid");
    assert_eq!(got.sequence, 7);
    assert!(!got.destinations.include(&ParticipantSid::new("PA_ben"), "ben"));
    assert!(got.destinations.include(&ParticipantSid::new("PA_cy"), "cy"));
    let packet = DataPacket::decode(got.packet).expect("valid");
    assert_eq!(
        (packet.sequence, packet.destination_identities.as_slice()),
        (7, &["dan".into(), "cy".into()][..])
    );
    assert_eq!(of_user(&packet).destination_identities, ["dan", "cy"]);
}

#[test]
fn speaker_lists_and_garbage_are_refused() {
    let speakers = DataPacket {
        value: Some(data_packet::Value::Speaker(ActiveSpeakerUpdate::default())),
        ..Default::default()
    };
    let speakers = speakers.encode_to_vec();
    assert_eq!(stamped(speakers.clone(), DataKind::Reliable).unwrap_err(), DataError::NotForParticipants);
    let covered = [speakers, field(4000, b"a kind of message")].concat();
    assert_eq!(stamped(covered, DataKind::Reliable).unwrap_err(), DataError::NotForParticipants);
    let garbage: [&[u8]; 6] = [
        &[0xff; 7],
        &[0x12, 0x05, 1],          // longer than the packet
        &[0x10, 0x01],             // a user packet that is a number
        &[0x2a, 0x02, 0xff, 0xfe], // a name that is not UTF-8
        &[0x12, 0x02, 0x32, 0x7f], // a name longer than the user packet
        &[0x83, 0x01, 0x80, 0x80], // a group without an end
    ];
    for bytes in garbage {
        assert_eq!(
            stamped(bytes.to_vec(), DataKind::Reliable).unwrap_err(),
            DataError::Malformed,
            "{bytes:?}"
        );
    }
    // Deeply nested groups do not overflow the stack.
    assert!(stamped(vec![0x4b; 60_000], DataKind::Reliable).is_err());
}

#[test]
fn no_piece_of_a_packet_and_no_changed_byte_does_harm() {
    let mut packet =
        DataPacket { destination_identities: vec!["ben".into()], sequence: 300, ..Default::default() };
    packet.value = Some(data_packet::Value::User(UserPacket {
        payload: vec![7; 20],
        destination_sids: vec!["PA_cy".into()],
        topic: Some("topic".into()),
        ..Default::default()
    }));
    let whole = [packet.encode_to_vec(), field(900, b"unknown")].concat();
    for len in 0..whole.len() {
        let _ = stamped(whole[..len].to_vec(), DataKind::Reliable);
    }
    for at in 0..whole.len() {
        for value in 0..=255 {
            let mut changed = whole.clone();
            changed[at] = value;
            // An accepted packet has the true sender.
            if let Ok(got) = stamped(changed, DataKind::Reliable)
                && let Ok(packet) = DataPacket::decode(got.packet)
            {
                assert_eq!(
                    (packet.participant_identity.as_str(), packet.participant_sid.as_str()),
                    ("ana", "PA_ana")
                );
            }
        }
    }
}

#[test]
fn a_packet_of_a_thousand_pieces_takes_no_longer_than_its_length() {
    // Quadratic time would take minutes here.
    let unknown = field(900, b"").repeat(10_000);
    let pieces = [field(2, b""), field(6, b"")].concat().repeat(8_000);
    assert!(stamped([unknown, pieces].concat(), DataKind::Reliable).is_ok());
    let names = field(5, b"n").repeat(20_000);
    let got = stamped(names, DataKind::Reliable).expect("valid");
    for _ in 0..10_000 {
        assert!(!got.destinations.include(&ana(), "nobody"));
    }
}
