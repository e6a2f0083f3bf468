//! The information about a participant that the roster of record carries.
//!
//! It is an encoded `livekit.ParticipantInfo`, with what only sessions need of each other in fields that the
//! ecosystem does not use: whoever decodes it as a `ParticipantInfo` skips them.

use bytes::{Bytes, BytesMut};
use livekit_protocol::{ParticipantInfo, SubscriptionPermission};
use prost::Message;

/// A participant as its own session describes it to the others.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Described {
    /// What people see.
    pub(crate) info: ParticipantInfo,
    /// Who may subscribe to its tracks; `None`: everybody.
    pub(crate) permission: Option<SubscriptionPermission>,
}

/// The added fields. Their numbers lie far above those of `ParticipantInfo`.
#[derive(Clone, PartialEq, prost::Message)]
struct Added {
    #[prost(message, optional, tag = "15001")]
    subscription_permission: Option<SubscriptionPermission>,
}

/// Encodes for `Join::info` and `Command::Announce`.
pub(crate) fn encode(info: &ParticipantInfo, permission: Option<&SubscriptionPermission>) -> Bytes {
    let added = Added { subscription_permission: permission.cloned() };
    let mut bytes = BytesMut::with_capacity(info.encoded_len().saturating_add(added.encoded_len()));
    // A `BytesMut` grows: encoding into it cannot fail. Concatenated messages are one message.
    bytes.extend_from_slice(&info.encode_to_vec());
    bytes.extend_from_slice(&added.encode_to_vec());
    bytes.freeze()
}

/// Decodes what [`encode`] made, or a bare `ParticipantInfo`.
///
/// # Errors
/// When it is not a protobuf message of that shape.
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
