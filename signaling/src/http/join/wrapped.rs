//! Newer form of the join URL: one query parameter, the base64url of a `WrappedJoinRequest`. That holds a
//! `JoinRequest`, which may be compressed with gzip.

use std::io::Read;

use base64::Engine;
use flate2::read::MultiGzDecoder;
use livekit_protocol::{JoinRequest, ReconnectReason, WrappedJoinRequest, wrapped_join_request};
use prost::Message;

use super::query::BASE64URL;
use super::{JoinError, JoinParameters, Resume, SignalMode};

/// Maximum size of the uncompressed `JoinRequest`, in bytes.
const MAX_INFLATED: usize = 256 * 1024;
/// Maximum size of the `JoinRequest` as sent, in bytes. It equals [`MAX_INFLATED`], because not all clients compress.
const MAX_COMPRESSED: usize = MAX_INFLATED;
/// Maximum number of announced tracks, equal to the default limit of a session for tracks announced and not yet
/// published.
const MAX_ADD_TRACKS: usize = 20;

/// Decodes the value of `join_request`.
pub(super) fn decode(text: &str) -> Result<JoinParameters, JoinError> {
    // Base64 has four characters for three bytes; 64 bytes are for the wrapping message.
    if text.len() / 4 * 3 > MAX_COMPRESSED + 64 {
        return Err(JoinError::TooLarge { field: "join_request", limit: MAX_COMPRESSED });
    }
    let bytes = BASE64URL.decode(text).map_err(|error| JoinError::Base64(error.to_string()))?;
    let wrapped = WrappedJoinRequest::decode(bytes.as_slice())
        .map_err(|error| JoinError::Protobuf { field: "WrappedJoinRequest", reason: error.to_string() })?;
    if wrapped.join_request.len() > MAX_COMPRESSED {
        return Err(JoinError::TooLarge { field: "join_request", limit: MAX_COMPRESSED });
    }
    let bytes = match wrapped_join_request::Compression::try_from(wrapped.compression) {
        Ok(wrapped_join_request::Compression::None) => wrapped.join_request,
        Ok(wrapped_join_request::Compression::Gzip) => inflate(&wrapped.join_request)?,
        Err(_) => return Err(JoinError::Compression(wrapped.compression)),
    };
    let request = JoinRequest::decode(bytes.as_slice())
        .map_err(|error| JoinError::Protobuf { field: "JoinRequest", reason: error.to_string() })?;
    parameters(request)
}

fn inflate(compressed: &[u8]) -> Result<Vec<u8>, JoinError> {
    let mut bytes = Vec::new();
    let limit = MAX_INFLATED as u64 + 1;
    MultiGzDecoder::new(compressed)
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| JoinError::Gzip(error.to_string()))?;
    if bytes.len() > MAX_INFLATED {
        return Err(JoinError::TooLarge { field: "join_request inflated", limit: MAX_INFLATED });
    }
    Ok(bytes)
}

fn parameters(request: JoinRequest) -> Result<JoinParameters, JoinError> {
    let settings = request.connection_settings.unwrap_or_default();
    if request.add_track_requests.len() > MAX_ADD_TRACKS {
        return Err(JoinError::Field { field: "add_track_requests", reason: "more than 20" });
    }
    if let Some(offer) = &request.publisher_offer {
        if !matches!(offer.r#type.as_str(), "" | "offer") {
            return Err(JoinError::Field { field: "publisher_offer.type", reason: "it must be `offer`" });
        }
        if offer.sdp.is_empty() {
            return Err(JoinError::Field { field: "publisher_offer.sdp", reason: "it is empty" });
        }
    }
    let reason = ReconnectReason::try_from(request.reconnect_reason).unwrap_or(ReconnectReason::RrUnknown);
    Ok(JoinParameters {
        mode: SignalMode::Single,
        client_info: request.client_info.unwrap_or_default(),
        auto_subscribe: settings.auto_subscribe,
        auto_subscribe_data_track: settings.auto_subscribe_data_track.unwrap_or(false),
        adaptive_stream: settings.adaptive_stream,
        subscriber_allow_pause: settings.subscriber_allow_pause,
        disable_ice_lite: settings.disable_ice_lite,
        metadata: request.metadata,
        attributes: request.participant_attributes.into_iter().collect(),
        add_track_requests: request.add_track_requests,
        publisher_offer: request.publisher_offer,
        resume: request.reconnect.then_some(Resume { participant_sid: request.participant_sid, reason }),
        sync_state: request.sync_state,
        publish_only: None,
    })
}

#[cfg(test)]
mod tests;
