//! Encodes and decodes messages in WebSocket frames.

use axum::extract::ws::Message;
use livekit_protocol::{SignalRequest, SignalResponse};
use prost::Message as _;

/// Responses use the format of the client's last message: binary protobuf or JSON. Binary before the first message.
#[derive(Debug, Default)]
pub(super) struct Wire {
    json: bool,
}

impl Wire {
    /// Decodes one data frame. The error says what is wrong, and in which field.
    pub(super) fn decode(&mut self, frame: &Message, limit: usize) -> Result<SignalRequest, String> {
        match frame {
            Message::Binary(bytes) if bytes.len() <= limit => {
                self.json = false;
                SignalRequest::decode(bytes.as_ref()).map_err(|error| error.to_string())
            }
            Message::Text(text) if text.len() <= limit => {
                self.json = true;
                serde_json::from_str(text.as_str()).map_err(|error| format!("SignalRequest: {error}"))
            }
            _ => Err(format!("SignalRequest: larger than {limit} bytes")),
        }
    }

    pub(super) fn encode(&self, response: &SignalResponse) -> Message {
        if self.json
            && let Ok(text) = serde_json::to_string(response)
        {
            return Message::Text(text.into());
        }
        Message::Binary(response.encode_to_vec().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use livekit_protocol::{signal_request, signal_response};

    #[test]
    fn answers_in_the_form_of_the_last_request() {
        let mut wire = Wire::default();
        let response = SignalResponse { message: Some(signal_response::Message::Pong(9)) };
        let request = SignalRequest { message: Some(signal_request::Message::Ping(7)) };
        assert!(matches!(wire.encode(&response), Message::Binary(_)));
        assert_eq!(
            wire.decode(&Message::Text(r#"{"ping":"7","later":{}}"#.into()), 100),
            Ok(request.clone())
        );
        assert_eq!(wire.encode(&response), Message::Text(r#"{"pong":"9"}"#.into()));
        assert_eq!(wire.decode(&Message::Binary(request.encode_to_vec().into()), 100), Ok(request));
        assert!(matches!(wire.encode(&response), Message::Binary(_)));
    }

    #[test]
    fn an_error_names_the_field() {
        let mut wire = Wire::default();
        // Member 1 (offer), length 3, its field 2 (sdp) says 9 bytes.
        let error = wire.decode(&Message::Binary(vec![0x0a, 3, 0x12, 9, 1].into()), 100).unwrap_err();
        assert!(error.contains("SignalRequest"), "{error}");
        let error = wire.decode(&Message::Text("{\"mute\":7}".into()), 100).unwrap_err();
        assert!(error.contains("MuteTrackRequest"), "{error}");
        let error = wire.decode(&Message::Binary(vec![0; 101].into()), 100).unwrap_err();
        assert!(error.contains("larger than 100 bytes"), "{error}");
    }
}
