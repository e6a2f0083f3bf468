//! Encoding of a participant's information in the authoritative roster.
//!
//! It is an encoded `livekit.ParticipantInfo`. Data that only sessions need is added in fields with numbers that
//! LiveKit does not use, so a decoder of `ParticipantInfo` skips them.

use bytes::{Bytes, BytesMut};
use livekit_protocol::{ParticipantInfo, SubscriptionPermission};
use prost::Message;

/// A participant as its own session describes it to other sessions.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Described {
    /// Information that clients see.
    pub(crate) info: ParticipantInfo,
    /// Who may subscribe to the participant's tracks; `None` allows everybody.
    pub(crate) permission: Option<SubscriptionPermission>,
}

/// The added fields. Their numbers are far above those of `ParticipantInfo`.
#[derive(Clone, PartialEq, prost::Message)]
struct Added {
    #[prost(message, optional, tag = "15001")]
    subscription_permission: Option<SubscriptionPermission>,
}

/// Encodes the information for `Join::info` and `Command::Announce`.
pub(crate) fn encode(info: &ParticipantInfo, permission: Option<&SubscriptionPermission>) -> Bytes {
    let added = Added { subscription_permission: permission.cloned() };
    let mut bytes = BytesMut::with_capacity(info.encoded_len().saturating_add(added.encoded_len()));
    // Encoding into a `BytesMut` cannot fail, because it grows. Two concatenated protobuf messages form one message.
    bytes.extend_from_slice(&info.encode_to_vec());
    bytes.extend_from_slice(&added.encode_to_vec());
    bytes.freeze()
}

/// Decodes the output of [`encode`], or a plain `ParticipantInfo`.
///
/// # Errors
/// If `bytes` is not a valid protobuf message of that type.
pub(crate) fn decode(bytes: &[u8]) -> Result<Described, prost::DecodeError> {
    let info = ParticipantInfo::decode(bytes)?;
    let added = Added::decode(bytes)?;
    Ok(Described { info, permission: added.subscription_permission })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_way_and_stays_a_participant_info() {
        let info = ParticipantInfo { sid: "PA_a".into(), version: 7, ..Default::default() };
        let permission = SubscriptionPermission { all_participants: false, track_permissions: vec![] };
        let bytes = encode(&info, Some(&permission));
        assert_eq!(decode(&bytes).unwrap(), Described { info: info.clone(), permission: Some(permission) });
        assert_eq!(ParticipantInfo::decode(bytes.as_ref()).unwrap(), info);
        assert_eq!(decode(&info.encode_to_vec()).unwrap().permission, None);
        assert!(decode(&[0xff, 1, 2]).is_err());
    }
}
