//! Older form of the join URL: one query parameter per setting. Also chooses between the two forms.

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use livekit_protocol::{ClientInfo, ReconnectReason, client_info};

use super::{JoinError, JoinParameters, Resume, SignalMode, user_agent, wrapped};
use crate::token::object;

/// Base64url, with or without padding.
pub(super) const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Maximum number of query parameters; no client sends as many.
const MAX_PARAMETERS: usize = 64;
/// Maximum length of a value in [`ClientInfo`], in bytes; the rest is cut off.
const MAX_INFO_BYTES: usize = 256;
const MAX_CAPABILITIES: usize = 32;

/// Decoded query parameters of a join URL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinQuery(Vec<(String, String)>);

impl JoinQuery {
    /// Parses a query string (`application/x-www-form-urlencoded`).
    ///
    /// # Errors
    /// There are more than 64 parameters, an escape is invalid, or a name or value is not UTF-8.
    pub fn parse(query: &str) -> Result<Self, JoinError> {
        let mut pairs = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            if pairs.len() == MAX_PARAMETERS {
                return Err(JoinError::Query(format!("more than {MAX_PARAMETERS} parameters")));
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            pairs.push((unescape(name)?, unescape(value)?));
        }
        Ok(Self(pairs))
    }

    /// Value of the parameter `name`; `None` if it is missing or empty.
    ///
    /// # Errors
    /// The parameter occurs more than once, so it is ambiguous.
    pub fn value(&self, name: &'static str) -> Result<Option<&str>, JoinError> {
        let mut values = self.0.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str());
        let first = values.next();
        if values.next().is_some() {
            return Err(JoinError::Repeated(name));
        }
        Ok(first.filter(|value| !value.is_empty()))
    }

    /// Parameters of the join. `agent` is the client's `User-Agent`.
    ///
    /// # Errors
    /// A parameter is invalid; the error names the first one.
    pub fn join_parameters(&self, agent: Option<&str>) -> Result<JoinParameters, JoinError> {
        let mut parameters = match self.value("join_request")? {
            Some(text) => wrapped::decode(text)?,
            None => self.spread()?,
        };
        user_agent::complete(&mut parameters.client_info, agent.unwrap_or_default());
        Ok(parameters)
    }

    fn spread(&self) -> Result<JoinParameters, JoinError> {
        let resume = match self.flag("reconnect")?.unwrap_or(false) {
            false => None,
            true => Some(Resume {
                participant_sid: self.value("sid")?.unwrap_or_default().to_owned(),
                reason: self.reconnect_reason()?,
            }),
        };
        Ok(JoinParameters {
            mode: SignalMode::Dual,
            client_info: self.client_info()?,
            auto_subscribe: self.flag("auto_subscribe")?.unwrap_or(true),
            auto_subscribe_data_track: self.flag("auto_subscribe_data_track")?.unwrap_or(false),
            adaptive_stream: self.flag("adaptive_stream")?.unwrap_or(false),
            subscriber_allow_pause: self.flag("subscriber_allow_pause")?,
            disable_ice_lite: self.flag("disable_ice_lite")?.unwrap_or(false),
            metadata: String::new(),
            attributes: self.attributes()?,
            add_track_requests: Vec::new(),
            publisher_offer: None,
            resume,
            sync_state: None,
            publish_only: self.value("publish")?.map(str::to_owned),
        })
    }

    fn client_info(&self) -> Result<ClientInfo, JoinError> {
        let text = |name| Ok::<_, JoinError>(cut(self.value(name)?.unwrap_or_default(), MAX_INFO_BYTES));
        Ok(ClientInfo {
            sdk: sdk(self.value("sdk")?.unwrap_or_default()) as i32,
            version: text("version")?,
            protocol: self.number("protocol")?.unwrap_or(0),
            os: text("os")?,
            os_version: text("os_version")?,
            device_model: text("device_model")?,
            browser: text("browser")?,
            browser_version: text("browser_version")?,
            address: String::new(),
            network: text("network")?,
            other_sdks: text("other_sdks")?,
            client_protocol: self.number("client_protocol")?.unwrap_or(0),
            capabilities: self
                .value("capabilities")?
                .unwrap_or_default()
                .split(',')
                .filter_map(|name| client_info::Capability::from_str_name(name.trim()))
                .map(|capability| capability as i32)
                .take(MAX_CAPABILITIES)
                .collect(),
        })
    }

    fn attributes(&self) -> Result<BTreeMap<String, String>, JoinError> {
        let Some(text) = self.value("attributes")? else { return Ok(BTreeMap::new()) };
        let wrong = |reason: String| JoinError::Parameter { parameter: "attributes", reason };
        let json = BASE64URL.decode(text).map_err(|error| wrong(format!("not base64url: {error}")))?;
        let mut json = serde_json::Deserializer::from_slice(&json);
        let texts = object::texts(&mut json).and_then(|texts| json.end().map(|()| texts));
        let texts = texts.map_err(|error| wrong(format!("not a JSON object of strings: {error}")))?;
        Ok(texts.unwrap_or_default())
    }

    fn reconnect_reason(&self) -> Result<ReconnectReason, JoinError> {
        // A reason that only newer clients know must not make the join fail.
        let number = self.number("reconnect_reason")?.unwrap_or(0);
        Ok(ReconnectReason::try_from(number).unwrap_or(ReconnectReason::RrUnknown))
    }

    fn number(&self, name: &'static str) -> Result<Option<i32>, JoinError> {
        let Some(text) = self.value(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| JoinError::Parameter {
            parameter: name,
            reason: format!("{:?} is not a number", cut(text, 40)),
        })
    }

    fn flag(&self, name: &'static str) -> Result<Option<bool>, JoinError> {
        match self.value(name)? {
            None => Ok(None),
            Some("1") => Ok(Some(true)),
            Some("0") => Ok(Some(false)),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(text) => Err(JoinError::Parameter {
                parameter: name,
                reason: format!("{:?} is none of 1, true, 0, false", cut(text, 40)),
            }),
        }
    }
}

fn sdk(name: &str) -> client_info::Sdk {
    use client_info::Sdk;
    match name {
        "js" => Sdk::Js,
        "ios" | "swift" => Sdk::Swift,
        "android" => Sdk::Android,
        "flutter" => Sdk::Flutter,
        "go" => Sdk::Go,
        "unity" => Sdk::Unity,
        "reactnative" => Sdk::ReactNative,
        "rust" => Sdk::Rust,
        "python" => Sdk::Python,
        "cpp" => Sdk::Cpp,
        "unityweb" => Sdk::UnityWeb,
        "node" => Sdk::Node,
        "unreal" => Sdk::Unreal,
        "esp32" => Sdk::Esp32,
        "dotnet" => Sdk::Dotnet,
        _ => Sdk::Unknown,
    }
}

/// Beginning of `text`, at most `limit` bytes, cut between characters.
pub(super) fn cut(text: &str, limit: usize) -> String {
    let end = (0..=limit.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

fn unescape(text: &str) -> Result<String, JoinError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = rest.next().and_then(hex).zip(rest.next().and_then(hex));
                let (high, low) = digits.ok_or_else(|| JoinError::Query("an escape (%) is cut".into()))?;
                bytes.push(high << 4 | low);
            }
            other => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).map_err(|_| JoinError::Query("not UTF-8".into()))
}

fn hex(digit: &u8) -> Option<u8> {
    char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(query: &str) -> Result<JoinParameters, JoinError> {
        JoinQuery::parse(query)?.join_parameters(None)
    }

    #[test]
    fn an_empty_query_is_a_dual_client_that_subscribes_to_all() {
        let join = parameters("").unwrap();
        assert_eq!((join.mode, join.auto_subscribe, join.adaptive_stream), (SignalMode::Dual, true, false));
        assert_eq!((join.subscriber_allow_pause, join.resume, join.publish_only), (None, None, None));
    }

    #[test]
    fn the_query_of_a_phone_is_understood() {
        let join = parameters(
            "auto_subscribe=0&adaptive_stream=True&reconnect=1&sid=PA_x&reconnect_reason=3&sdk=android&version=2.1%2E0\
             &protocol=13&os=android&os_version=14&device_model=Pixel+8&network=wifi&client_protocol=1\
             &capabilities=CAP_PACKET_TRAILER,CAP_FROM_THE_FUTURE&attributes=eyJhIjoiYiIsImMiOm51bGx9&unknown=1",
        )
        .unwrap();
        let info = &join.client_info;
        assert_eq!(
            (info.sdk(), info.version.as_str(), info.protocol),
            (client_info::Sdk::Android, "2.1.0", 13)
        );
        assert_eq!((info.device_model.as_str(), info.network.as_str()), ("Pixel 8", "wifi"));
        assert_eq!(info.capabilities, [client_info::Capability::CapPacketTrailer as i32]);
        assert!(!join.auto_subscribe && join.adaptive_stream);
        let reason = ReconnectReason::RrSubscriberFailed;
        assert_eq!(join.resume, Some(Resume { participant_sid: "PA_x".into(), reason }));
        assert_eq!(join.attributes, [("a".to_owned(), "b".to_owned())].into(), "what is null is absent");
    }

    #[test]
    fn each_bad_parameter_is_named() {
        for (query, name) in [
            ("auto_subscribe=yes", "auto_subscribe"),
            ("protocol=x", "protocol"),
            ("protocol=99999999999", "protocol"),
            ("reconnect=2", "reconnect"),
            ("reconnect=1&reconnect_reason=x", "reconnect_reason"),
            ("attributes=!!", "attributes"),
            ("attributes=eyJhIjoxfQ", "attributes"),
            ("protocol=1&protocol=2", "protocol"),
            ("join_request=a&join_request=b", "join_request"),
        ] {
            let error = parameters(query).unwrap_err();
            assert!(error.to_string().contains(&format!("`{name}`")), "{query}: {error}");
        }
        for query in ["a=%", "a=%4", "a=%zz", "a=%ff", &"a&".repeat(65)] {
            assert!(matches!(parameters(query), Err(JoinError::Query(_))), "{query}");
        }
    }

    #[test]
    fn long_descriptions_are_cut_at_a_character() {
        let join = parameters(&format!("os={}", "%C3%A9".repeat(200))).unwrap();
        assert_eq!(join.client_info.os, "\u{e9}".repeat(128));
        let join = parameters(&format!("os=x{}", "%C3%A9".repeat(200))).unwrap();
        assert_eq!(join.client_info.os.len(), 255);
    }
}
