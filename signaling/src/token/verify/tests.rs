use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::*;
use crate::token::{Kind, VideoGrant, claims_from_permission};

const NOW: u64 = 1_750_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210";

fn keys() -> KeyStore {
    KeyStore::new(&[("key1".into(), SECRET.into()), ("key2".into(), OTHER.into())]).unwrap()
}

fn join(token: &str) -> Result<Grants, TokenError> {
    verify_join(&keys(), &TokenLimits::default(), token, NOW)
}

fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// Signs any header and payload, including invalid ones.
fn sign_text(header: &str, payload: &str, secret: &str) -> String {
    let message = format!("{}.{}", encode(header), encode(payload));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn sign(payload: &Value) -> String {
    sign_text(r#"{"alg":"HS256","typ":"JWT"}"#, &payload.to_string(), SECRET)
}

fn with_header(header: &str) -> String {
    sign_text(header, &good().to_string(), SECRET)
}

fn good() -> Value {
    json!({
        "iss": "key1", "sub": "ann", "nbf": NOW, "exp": NOW + 3600,
        "video": { "roomJoin": true, "room": "r" },
    })
}

/// A valid token, except that the claim at `pointer` is replaced.
fn with(pointer: &str, value: &Value) -> String {
    let mut payload = good();
    set(&mut payload, pointer, value);
    sign(&payload)
}

fn set(payload: &mut Value, pointer: &str, value: &Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    payload.pointer_mut(parent).unwrap()[name] = value.clone();
}

fn without(pointer: &str) -> String {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let mut payload = good();
    payload.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
    sign(&payload)
}

#[test]
fn a_good_token_is_taken() {
    let grants = join(&sign(&good())).unwrap();
    assert_eq!((grants.identity.as_str(), grants.room()), ("ann", "r"));
    assert!(grants.can_publish() && grants.can_subscribe() && grants.can_publish_data());
    assert!(!grants.can_update_own_metadata() && !grants.hidden());
}

#[test]
fn every_key_verifies_its_own() {
    let mut payload = good();
    payload["iss"] = json!("key2");
    let header = r#"{"alg":"HS256"}"#;
    assert!(join(&sign_text(header, &payload.to_string(), OTHER)).is_ok());
    assert_eq!(join(&sign_text(header, &payload.to_string(), SECRET)), Err(TokenError::BadSignature));
}

#[test]
fn absent_is_not_false() {
    let rights = |video: Value| {
        let mut payload = good();
        payload["video"] = video;
        payload["video"]["roomJoin"] = json!(true);
        payload["video"]["room"] = json!("r");
        let grants = join(&sign(&payload)).unwrap();
        (grants.can_publish(), grants.can_subscribe(), grants.can_publish_data())
    };
    assert_eq!(rights(json!({})), (true, true, true));
    assert_eq!(rights(json!({ "canPublish": null })), (true, true, true));
    assert_eq!(rights(json!({ "canPublish": false })), (false, true, false));
    assert_eq!(rights(json!({ "canPublish": false, "canPublishData": true })), (false, true, true));
    assert_eq!(rights(json!({ "canPublish": true, "canPublishData": false })), (true, true, false));
    assert_eq!(rights(json!({ "canSubscribe": false })), (true, false, true));
    assert_eq!(rights(json!({ "canpublish": false, "CANSUBSCRIBE": false })), (true, true, true));
}

#[test]
fn sources_limit_what_may_be_published() {
    use livekit_protocol::TrackSource::{Camera, Microphone, Unknown};
    let grants = join(&with("/video/canPublishSources", &json!(["microphone"]))).unwrap();
    assert!(grants.can_publish_source(Microphone) && !grants.can_publish_source(Camera));
    for all in [json!([]), Value::Null] {
        let grants = join(&with("/video/canPublishSources", &all)).unwrap();
        assert!(grants.can_publish_source(Microphone) && grants.can_publish_source(Camera), "{all}");
    }
    for (names, microphone) in [
        (json!(["Microphone"]), true),
        (json!(["MICROPHONE", "hologram"]), true),
        (json!(["hologram"]), false),
        (json!([""]), false),
        (json!(["unknown"]), false),
    ] {
        let mut grants = join(&with("/video/canPublishSources", &names)).unwrap();
        // A refreshed token must allow the same sources.
        for _ in 0..2 {
            assert_eq!(grants.can_publish_source(Microphone), microphone, "{names}");
            assert!(!grants.can_publish_source(Camera) && !grants.can_publish_source(Unknown), "{names}");
            let permission = grants.permission();
            claims_from_permission(&mut grants.video, &permission);
        }
    }
}

#[test]
fn a_permission_from_the_future_is_not_written_as_all() {
    let permission = livekit_protocol::ParticipantPermission {
        can_publish: true,
        can_publish_sources: vec![99],
        ..Default::default()
    };
    let mut video = VideoGrant::default();
    claims_from_permission(&mut video, &permission);
    assert_eq!(video.can_publish_sources, ["unknown"]);
}

#[test]
fn what_is_null_is_absent() {
    let grants = join(&with("/attributes", &json!({ "a": null, "b": "c" }))).unwrap();
    assert_eq!(grants.attributes, [("b".to_owned(), "c".to_owned())].into());
    for claim in [
        "/jti",
        "/nbf",
        "/iat",
        "/name",
        "/metadata",
        "/attributes",
        "/kind",
        "/kindDetails",
        "/roomPreset",
        "/roomConfig",
        "/video/canPublish",
        "/video/canPublishSources",
        "/video/hidden",
        "/video/destinationRoom",
    ] {
        assert_eq!(join(&with(claim, &Value::Null)), join(&without(claim)), "{claim}");
    }
}

#[test]
fn odd_but_good_tokens_are_taken() {
    let taken = [
        with("/unknown", &json!({ "deep": [1, 2, 3] })),
        with("/video/newerGrant", &json!(true)),
        with("/sip", &json!({ "admin": true })),
        with("/aud", &json!("anything")),
        with("/exp", &json!(NOW as f64 + 10.5)),
        with("/exp", &json!(NOW - 59)),
        with("/nbf", &json!(NOW + 60)),
        with("/nbf", &Value::Null),
        without("/nbf"),
        with("/metadata", &json!("x".repeat(40_000))),
        with_header(r#"{"alg":"HS256"}"#),
        with_header(r#"{"typ":"jwt","alg":"HS256","kid":"whatever","x":{"y":1}}"#),
    ];
    for (index, token) in taken.iter().enumerate() {
        assert!(join(token).is_ok(), "case {index}: {:?}", join(token));
    }
    let mut payload = good();
    payload["jti"] = json!("from jti");
    payload["sub"] = json!("");
    assert_eq!(join(&sign(&payload)).unwrap().identity, "from jti");
    for kind in ["agent", "AGENT", "Agent"] {
        assert_eq!(join(&with("/kind", &json!(kind))).unwrap().kind, Kind::Agent);
    }
    assert_eq!(join(&with("/kind", &json!("hologram"))).unwrap().kind, Kind::Standard);
}

type Case = (String, String, fn(&TokenError) -> bool);

macro_rules! case {
    ($cases:ident, $what:expr, $token:expr, $error:pat) => {
        $cases.push(($what.to_string(), $token, |error| matches!(error, $error)))
    };
}

fn wrong_forms(cases: &mut Vec<Case>) {
    let token = sign(&good());
    let parts: Vec<&str> = token.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    let no_jwt =
        ["", ".", "..", "...", "a", "a.b", "a.b.c", "a.b.c.d", " ", "null", "{}", "\u{1f4de}.\u{1f4de}.x"];
    for text in no_jwt {
        case!(
            cases,
            format!("no jwt {text:?}"),
            text.to_owned(),
            TokenError::Malformed(_) | TokenError::BadHeader(_)
        );
    }
    let reshaped = [
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!(".{payload}.{signature}"),
        format!("{header}..{signature}"),
        format!("{header}.{payload}.{signature}."),
        format!("{header}.{payload}.{signature}.{signature}"),
        format!("{payload}.{header}.{signature}"),
        format!("{header}.{signature}.{payload}"),
        format!(" {token}"),
        format!("{token} "),
        format!("{token}\n"),
        format!("Bearer {token}"),
        format!("{token}="),
        format!("{header}=.{payload}.{signature}"),
        format!("{}.{payload}.{signature}", URL_SAFE.encode(r#"{"alg":"HS256" }"#) + "="),
        format!("{header}.{payload}.{}", STANDARD.encode([0xfb; 32])),
        token.replace('.', "%2E"),
        token.replace('.', ","),
        token.to_uppercase(),
        token.chars().rev().collect(),
    ];
    for (index, token) in reshaped.into_iter().enumerate() {
        case!(cases, format!("reshaped {index}"), token, _);
    }
    case!(cases, "huge", "a".repeat(256 * 1024 + 1), TokenError::Oversized { .. });
}

fn wrong_headers(cases: &mut Vec<Case>) {
    let algorithms = [
        "none", "None", "NONE", "nOnE", "", "hs256", "Hs256", "HS256 ", " HS256", "HS384", "HS512", "RS256",
        "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES256K", "EdDSA", "HS1", "HMAC",
        "dir", "A128KW",
    ];
    for algorithm in algorithms {
        let header = json!({ "alg": algorithm, "typ": "JWT" }).to_string();
        case!(cases, format!("alg {algorithm:?}"), with_header(&header), TokenError::Algorithm { .. });
        let unsigned = format!("{}.{}.", encode(&header), encode(good().to_string()));
        case!(cases, format!("alg {algorithm:?} unsigned"), unsigned, TokenError::Algorithm { .. });
    }
    let critical = ["[]", "null", "[\"exp\"]", "[\"b64\"]", "\"exp\"", "{}", "[\"http://x\"]", "0", "false"];
    for value in critical {
        let header = format!(r#"{{"alg":"HS256","crit":{value}}}"#);
        case!(cases, format!("crit {value}"), with_header(&header), TokenError::Critical);
    }
    case!(cases, "b64", with_header(r#"{"alg":"HS256","b64":false}"#), TokenError::Critical);
    let unusable = [
        "",
        "x",
        "[]",
        "null",
        "1",
        "[\"HS256\",null,null,null,null,null,null]",
        "\"HS256\"",
        "{}",
        r#"{"typ":"JWT"}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":1}"#,
        r#"{"ALG":"HS256"}"#,
        r#"{"Alg":"HS256"}"#,
        r#"{"alg":"HS256""#,
        r#"{"alg":"HS256"}{}"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","typ":"JWE"}"#,
        r#"{"alg":"HS256","typ":"secevent+jwt"}"#,
        r#"{"alg":"HS256","typ":1}"#,
        r#"{"alg":"HS256","zip":"DEF"}"#,
        r#"{"alg":"HS256","enc":"A128GCM"}"#,
        "{\"alg\":\"HS256\"}\0",
        r#"{alg:"HS256"}"#,
        r#"{'alg':'HS256'}"#,
    ];
    for header in unusable {
        case!(cases, format!("header {header}"), with_header(header), TokenError::BadHeader(_));
    }
}

fn wrong_signatures(cases: &mut Vec<Case>) {
    let payload = good().to_string();
    let header = r#"{"alg":"HS256","typ":"JWT"}"#;
    for secret in ["", "secret", "key1", OTHER, &SECRET[..31], "0123456789ABCDEF0123456789abcdef"] {
        let token = sign_text(header, &payload, secret);
        case!(cases, format!("secret {secret:?}"), token, TokenError::BadSignature);
    }
    for issuer in
        ["key3", "KEY1", "Key1", "key1 ", " key1", "key", "key11", "devkey", "\u{212a}ey1", "key1\0"]
    {
        case!(cases, format!("iss {issuer:?}"), with("/iss", &json!(issuer)), TokenError::UnknownKey);
    }
    case!(cases, "iss of the other key", with("/iss", &json!("key2")), TokenError::BadSignature);
    for (what, token) in [
        ("absent", without("/iss")),
        ("empty", with("/iss", &json!(""))),
        ("null", with("/iss", &Value::Null)),
    ] {
        case!(cases, format!("iss {what}"), token, TokenError::NoIssuer);
    }
    for issuer in [json!(1), json!(["key1"]), json!({ "key1": 1 }), json!(true)] {
        case!(cases, format!("iss {issuer}"), with("/iss", &issuer), TokenError::BadClaims(_));
    }
    let message = format!("{}.{}", encode(header), encode(&payload));
    let right = URL_SAFE_NO_PAD.decode(sign(&good()).rsplit_once('.').unwrap().1).unwrap();
    for length in 0..right.len() {
        let token = format!("{message}.{}", encode(&right[..length]));
        case!(cases, format!("signature cut to {length}"), token, TokenError::BadSignature);
        let mut flipped = right.clone();
        flipped[length] ^= 1;
        let token = format!("{message}.{}", encode(&flipped));
        case!(cases, format!("signature bit in {length}"), token, TokenError::BadSignature);
    }
    let mut longer = right.clone();
    longer.push(0);
    case!(cases, "signature longer", format!("{message}.{}", encode(&longer)), TokenError::BadSignature);
    let mut admin = good();
    admin["video"]["roomAdmin"] = json!(true);
    let swapped = format!("{}.{}.{}", encode(header), encode(admin.to_string()), encode(&right));
    case!(cases, "payload swapped", swapped, TokenError::BadSignature);
}

fn wrong_times(cases: &mut Vec<Case>) {
    for exp in [0, 1, NOW / 2, NOW - 3600, NOW - 61, NOW - 60] {
        case!(cases, format!("exp {exp}"), with("/exp", &json!(exp)), TokenError::Expired { .. });
    }
    for nbf in [NOW + 61, NOW + 3600, NOW * 2] {
        case!(cases, format!("nbf {nbf}"), with("/nbf", &json!(nbf)), TokenError::NotYetValid { .. });
    }
    case!(cases, "exp absent", without("/exp"), TokenError::NoExpiry);
    case!(cases, "exp null", with("/exp", &Value::Null), TokenError::NoExpiry);
    let (seconds, text) = (json!(NOW + 3600), json!((NOW + 3600).to_string()));
    let capital =
        sign(&json!({ "iss": "key1", "sub": "a", "EXP": seconds, "Exp": seconds, "video": good()["video"] }));
    case!(cases, "EXP", capital, TokenError::NoExpiry);
    let no_date = [
        text,
        json!(""),
        json!("never"),
        json!(true),
        json!([seconds]),
        json!({ "at": seconds }),
        json!(-1),
        json!(-1.5),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e300),
        json!((NOW + 3600) * 1000),
    ];
    for value in &no_date {
        for claim in ["/exp", "/nbf", "/iat"] {
            case!(cases, format!("{claim} {value}"), with(claim, value), TokenError::BadClaims(_));
        }
    }
    let literal = good().to_string().replace(&(NOW + 3600).to_string(), "1e999");
    case!(cases, "exp 1e999", sign_text(r#"{"alg":"HS256"}"#, &literal, SECRET), TokenError::BadClaims(_));
}

fn wrong_claims(cases: &mut Vec<Case>) {
    let wrong_types = [
        ("/sub", json!(1)),
        ("/sub", json!(["ann"])),
        ("/sub", json!({})),
        ("/jti", json!(1)),
        ("/name", json!(7)),
        ("/name", json!(["x"])),
        ("/metadata", json!({ "a": 1 })),
        ("/metadata", json!(1)),
        ("/attributes", json!("a=b")),
        ("/attributes", json!(["a"])),
        ("/attributes", json!({ "a": 1 })),
        ("/attributes", json!({ "a": { "b": "c" } })),
        ("/kind", json!(1)),
        ("/kindDetails", json!("x")),
        ("/roomPreset", json!(1)),
        ("/roomConfig", json!("x")),
        ("/roomConfig", json!([1])),
        ("/roomConfig", json!(true)),
        ("/video", json!("all")),
        ("/video", json!(true)),
        ("/video", json!([1])),
        ("/video", json!([false, false, false, false, true, "r"])),
        ("/video", json!(1)),
        ("/video/room", json!(1)),
        ("/video/room", json!(["r"])),
        ("/video/room", json!({ "name": "r" })),
        ("/video/canPublishSources", json!("camera")),
        ("/video/canPublishSources", json!([1])),
        ("/video/canPublishSources", json!([null])),
        ("/video/canPublishSources", json!({ "camera": true })),
        ("/video/destinationRoom", json!(1)),
    ];
    for (pointer, value) in &wrong_types {
        case!(cases, format!("{pointer} {value}"), with(pointer, value), TokenError::BadClaims(_));
    }
    let rights = [
        "roomCreate",
        "roomList",
        "roomRecord",
        "roomAdmin",
        "roomJoin",
        "canPublish",
        "canSubscribe",
        "canPublishData",
        "canUpdateOwnMetadata",
        "ingressAdmin",
        "hidden",
        "recorder",
        "agent",
        "canSubscribeMetrics",
        "canManageAgentSession",
    ];
    for right in rights {
        for value in [json!("true"), json!(1), json!([true])] {
            let pointer = format!("/video/{right}");
            case!(cases, format!("{pointer} {value}"), with(&pointer, &value), TokenError::BadClaims(_));
        }
    }
    for payload in [
        "",
        "x",
        "[]",
        "1",
        "\"iss\"",
        "{",
        "{}{}",
        "{'iss':'key1'}",
        "\u{feff}{}",
        "[[[[",
        "{\"iss\":\"key1\"",
    ] {
        let token = sign_text(r#"{"alg":"HS256"}"#, payload, SECRET);
        case!(cases, format!("payload {payload:?}"), token, TokenError::BadClaims(_));
    }
    let not_utf8 =
        format!("{}.{}.{}", encode(r#"{"alg":"HS256"}"#), encode(b"{\"iss\":\"\xff\"}"), encode([0; 32]));
    case!(cases, "payload not utf-8", not_utf8, TokenError::BadClaims(_));
    let deep = format!("{{\"iss\":\"key1\",\"name\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    case!(cases, "payload deep", sign_text(r#"{"alg":"HS256"}"#, &deep, SECRET), TokenError::BadClaims(_));
    for claim in
        ["\"iss\":\"key1\"", "\"sub\":\"eve\"", "\"exp\":9999999999", "\"video\":{\"roomJoin\":true}"]
    {
        let twice = good().to_string().replacen('{', &format!("{{{claim},"), 1);
        let token = sign_text(r#"{"alg":"HS256"}"#, &twice, SECRET);
        case!(cases, format!("twice {claim}"), token, TokenError::BadClaims(_));
    }
}

fn wrong_grants(cases: &mut Vec<Case>) {
    case!(cases, "no video", without("/video"), TokenError::JoinNotGranted);
    case!(cases, "video null", with("/video", &Value::Null), TokenError::JoinNotGranted);
    case!(cases, "no roomJoin", without("/video/roomJoin"), TokenError::JoinNotGranted);
    for value in [json!(false), Value::Null] {
        case!(
            cases,
            format!("roomJoin {value}"),
            with("/video/roomJoin", &value),
            TokenError::JoinNotGranted
        );
    }
    for name in ["roomjoin", "RoomJoin", "room_join", "ROOMJOIN"] {
        let video = json!({ name: true, "room": "r" });
        case!(cases, format!("{name} for roomJoin"), with("/video", &video), TokenError::JoinNotGranted);
    }
    for other in ["roomAdmin", "roomCreate", "roomList", "agent", "recorder"] {
        let video = json!({ other: true, "room": "r" });
        case!(cases, format!("only {other}"), with("/video", &video), TokenError::JoinNotGranted);
    }
    let capital = with("/Video", &json!({ "roomJoin": true, "room": "r" })).len();
    assert!(capital > 0, "an unknown claim beside a good grant changes nothing");
    let mut no_grant = good();
    no_grant["Video"] = no_grant["video"].take();
    case!(cases, "Video for video", sign(&no_grant), TokenError::JoinNotGranted);
    case!(cases, "no room", without("/video/room"), TokenError::NoRoom);
    case!(cases, "empty room", with("/video/room", &json!("")), TokenError::NoRoom);
    case!(cases, "null room", with("/video/room", &Value::Null), TokenError::NoRoom);
    case!(
        cases,
        "Room for room",
        with("/video", &json!({ "roomJoin": true, "Room": "r" })),
        TokenError::NoRoom
    );
    case!(cases, "no identity", without("/sub"), TokenError::NoIdentity);
    case!(cases, "empty identity", with("/sub", &json!("")), TokenError::NoIdentity);
    case!(cases, "null identity", with("/sub", &Value::Null), TokenError::NoIdentity);
    case!(
        cases,
        "long identity",
        with("/sub", &json!("x".repeat(257))),
        TokenError::TooLong { field: "identity", .. }
    );
    case!(
        cases,
        "wide identity",
        with("/sub", &json!("\u{e9}".repeat(129))),
        TokenError::TooLong { field: "identity", .. }
    );
    case!(
        cases,
        "long room",
        with("/video/room", &json!("x".repeat(257))),
        TokenError::TooLong { field: "room", .. }
    );
    case!(
        cases,
        "long name",
        with("/name", &json!("x".repeat(257))),
        TokenError::TooLong { field: "name", .. }
    );
}

#[test]
fn bad_tokens_are_refused_each_for_its_own_reason() {
    let mut cases = Vec::new();
    wrong_forms(&mut cases);
    wrong_headers(&mut cases);
    wrong_signatures(&mut cases);
    wrong_times(&mut cases);
    wrong_claims(&mut cases);
    wrong_grants(&mut cases);
    assert!(cases.len() >= 250, "only {} cases", cases.len());
    for (what, token, expected) in &cases {
        let error = match join(token) {
            Ok(grants) => panic!("{what}: taken as {grants:?}"),
            Err(error) => error,
        };
        assert!(expected(&error), "{what}: {error:?}");
        let by_form =
            matches!(error, TokenError::NoIdentity | TokenError::NoRoom | TokenError::TooLong { .. });
        assert_eq!(error.status(), if by_form { 400 } else { 401 }, "{what}");
    }
}

#[test]
fn limits_of_metadata_and_attributes_count_together() {
    let limits = TokenLimits { metadata: 10, attributes: 10, ..TokenLimits::default() };
    let check = |token: &str| verify_join(&keys(), &limits, token, NOW);
    assert!(check(&with("/metadata", &json!("x".repeat(10)))).is_ok());
    let long = TokenError::TooLong { field: "metadata", length: 11, limit: 10 };
    assert_eq!(check(&with("/metadata", &json!("x".repeat(11)))), Err(long));
    assert!(check(&with("/attributes", &json!({ "aaaa": "b", "cc": "ddd" }))).is_ok());
    let long = TokenError::TooLong { field: "attributes", length: 11, limit: 10 };
    assert_eq!(check(&with("/attributes", &json!({ "aaaa": "b", "cc": "dddd" }))), Err(long));
}

#[test]
fn any_bytes_are_refused_without_panic() {
    let token = sign(&good());
    for length in 0..token.len() {
        assert!(join(&token[..length]).is_err(), "cut to {length}");
    }
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..2000 {
        let mut bytes = token.clone().into_bytes();
        for _ in 0..3 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let at = seed as usize % bytes.len();
            bytes[at] = b' ' + (seed >> 32) as u8 % 95;
        }
        if bytes == token.as_bytes() {
            continue;
        }
        assert!(join(std::str::from_utf8(&bytes).unwrap()).is_err());
    }
}
