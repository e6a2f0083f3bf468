//! User data: who sent it is stamped by the server, who receives it is decided here. Contents stay opaque.

use bytes::Bytes;
use livekit_protocol::{DataPacket, data_packet};
use prost::Message;
use sfu_protocol::{DataKind, ParticipantSid, RoomSid};

/// A user message on its way through the room.
#[derive(Debug, Clone)]
pub struct UserData {
    /// The room.
    pub room: RoomSid,
    /// Who sent it; never receives it.
    pub sender: ParticipantSid,
    /// The channel that it came by and leaves by.
    pub kind: DataKind,
    /// For whom.
    pub destinations: Destinations,
    /// The encoded `livekit.DataPacket` with its sender stamped.
    pub packet: Bytes,
}

/// For whom a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destinations {
    /// All others in the room.
    Everyone,
    /// Participants of these identities or sids.
    Only {
        /// Identities.
        identities: Vec<String>,
        /// Sids, as older clients name them.
        sids: Vec<String>,
    },
}

impl Destinations {
    /// Whether a participant is meant.
    pub fn include(&self, participant: &ParticipantSid, identity: &str) -> bool {
        match self {
            Self::Everyone => true,
            Self::Only { identities, sids } => {
                identities.iter().any(|name| name == identity)
                    || sids.iter().any(|sid| sid == participant.as_str())
            }
        }
    }
}

/// Who a message is from, as the server knows it.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// Its session.
    pub participant: &'a ParticipantSid,
    /// Its identity.
    pub identity: &'a str,
    /// Its name is left out.
    pub hidden: bool,
}

/// Why a message is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// Not a `livekit.DataPacket`.
    #[error("data packet: not a livekit.DataPacket")]
    Malformed,
    /// A kind of message that participants may not send.
    #[error("data packet: value: participants may not send this kind of message")]
    NotForParticipants,
}

/// Reads a message as a participant sent it, puts the truth about its sender in, and tells for whom it is.
///
/// # Errors
/// When the bytes are no data packet, or one of a kind that only servers send.
#[expect(deprecated, reason = "older clients read and write the deprecated places, so both are kept true")]
pub fn stamp(bytes: &[u8], sender: Sender<'_>, kind: DataKind) -> Result<(Bytes, Destinations), DataError> {
    let mut packet = DataPacket::decode(bytes).map_err(|_| DataError::Malformed)?;
    let (identity, sid) =
        if sender.hidden { ("", "") } else { (sender.identity, sender.participant.as_str()) };
    let mut sids = Vec::new();
    match &mut packet.value {
        Some(data_packet::Value::User(user)) => {
            sids.clone_from(&user.destination_sids);
            if packet.destination_identities.is_empty() {
                packet.destination_identities.clone_from(&user.destination_identities);
            } else {
                user.destination_identities.clone_from(&packet.destination_identities);
            }
            identity.clone_into(&mut user.participant_identity);
            sid.clone_into(&mut user.participant_sid);
        }
        Some(data_packet::Value::Speaker(_)) => return Err(DataError::NotForParticipants),
        _ => {}
    }
    identity.clone_into(&mut packet.participant_identity);
    sid.clone_into(&mut packet.participant_sid);
    packet.kind = match kind {
        DataKind::Reliable => data_packet::Kind::Reliable,
        DataKind::Lossy => data_packet::Kind::Lossy,
    } as i32;
    let destinations = if packet.destination_identities.is_empty() && sids.is_empty() {
        Destinations::Everyone
    } else {
        Destinations::Only { identities: packet.destination_identities.clone(), sids }
    };
    Ok((Bytes::from(packet.encode_to_vec()), destinations))
}

#[cfg(test)]
#[expect(deprecated, reason = "the deprecated places are what some of these tests are about")]
mod tests {
    use super::*;
    use livekit_protocol::{ActiveSpeakerUpdate, UserPacket};

    fn user(packet: UserPacket) -> Vec<u8> {
        DataPacket { value: Some(data_packet::Value::User(packet)), ..Default::default() }.encode_to_vec()
    }

    fn ana() -> ParticipantSid {
        ParticipantSid::new("PA_ana")
    }

    #[test]
    fn a_forged_sender_is_replaced_by_the_true_one() {
        let forged = DataPacket {
            participant_identity: "ben".into(),
            participant_sid: "PA_ben".into(),
            value: Some(data_packet::Value::User(UserPacket {
                participant_identity: "ben".into(),
                payload: b"hello".to_vec(),
                ..Default::default()
            })),
            ..Default::default()
        };
        let sid = ana();
        let sender = Sender { participant: &sid, identity: "ana", hidden: false };
        let (bytes, destinations) = stamp(&forged.encode_to_vec(), sender, DataKind::Lossy).expect("valid");
        let packet = DataPacket::decode(bytes).expect("valid");
        assert_eq!(
            (packet.participant_identity.as_str(), packet.participant_sid.as_str()),
            ("ana", "PA_ana")
        );
        assert_eq!(packet.kind, data_packet::Kind::Lossy as i32);
        let Some(data_packet::Value::User(user)) = packet.value else { panic!("a user packet") };
        assert_eq!((user.participant_identity.as_str(), user.payload.as_slice()), ("ana", &b"hello"[..]));
        assert_eq!(destinations, Destinations::Everyone);
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
        let (bytes, destinations) = stamp(&bytes, sender, DataKind::Reliable).expect("valid");
        assert!(destinations.include(&ParticipantSid::new("PA_ben"), "ben"));
        assert!(destinations.include(&ParticipantSid::new("PA_cy"), "cy"));
        assert!(!destinations.include(&ParticipantSid::new("PA_dan"), "dan"));
        assert!(DataPacket::decode(bytes).expect("valid").participant_identity.is_empty());
    }

    #[test]
    fn speaker_lists_and_garbage_are_refused() {
        let sid = ana();
        let sender = Sender { participant: &sid, identity: "ana", hidden: false };
        let speakers = DataPacket {
            value: Some(data_packet::Value::Speaker(ActiveSpeakerUpdate::default())),
            ..Default::default()
        };
        assert_eq!(
            stamp(&speakers.encode_to_vec(), sender, DataKind::Reliable).unwrap_err(),
            DataError::NotForParticipants
        );
        assert_eq!(stamp(&[0xff; 7], sender, DataKind::Reliable).unwrap_err(), DataError::Malformed);
    }
}
