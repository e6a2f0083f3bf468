//! Tests of the token endpoint. The identity provider and the authorization service are real servers; tests set the
//! clock.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeys, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaPublicKeyComponents,
};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use common::{Answer, BEGIN, Server, TestClock, server_with_clock};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use signaling::token::{Grants, TokenLimits, verify};

/// Signing key of the identity provider, with its public half as the provider publishes it.
struct ProviderKey {
    algorithm: Algorithm,
    private: EncodingKey,
    public: Value,
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa() -> ProviderKey {
    let keys = RsaKeys::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = keys.as_der().unwrap();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der.as_ref())
    );
    let parts = RsaPublicKeyComponents::<Vec<u8>>::from(keys.public_key());
    ProviderKey {
        algorithm: Algorithm::RS256,
        private: EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(),
        public: json!({ "kty": "RSA", "n": base64url(parts.n), "e": base64url(parts.e) }),
    }
}

fn ec() -> ProviderKey {
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let keys = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref()).unwrap();
    let point = keys.public_key().as_ref().to_vec();
    ProviderKey {
        algorithm: Algorithm::ES256,
        private: EncodingKey::from_ec_der(der.as_ref()),
        public: json!({ "kty": "EC", "crv": "P-256", "x": base64url(&point[1..33]), "y": base64url(&point[33..]) }),
    }
}

fn ed() -> ProviderKey {
    let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let keys = Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap();
    ProviderKey {
        algorithm: Algorithm::EdDSA,
        private: EncodingKey::from_ed_der(der.as_ref()),
        public: json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(keys.public_key()) }),
    }
}

static RSA: LazyLock<ProviderKey> = LazyLock::new(rsa);
static EC: LazyLock<ProviderKey> = LazyLock::new(ec);
static ED: LazyLock<ProviderKey> = LazyLock::new(ed);

fn published(key: &ProviderKey, id: &str) -> Value {
    let mut public = key.public.clone();
    public["kid"] = json!(id);
    public["use"] = json!("sig");
    public
}

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// `Authorization` header and body of a request to the authorization service.
type Question = (Option<String>, Value);

/// Configured responses of the chat app's two services, and the requests that they got.
#[derive(Clone, Default)]
struct ChatApp {
    jwks: Arc<Mutex<(u16, String)>>,
    jwks_asked: Arc<AtomicUsize>,
    decision: Arc<Mutex<(u16, String)>>,
    questions: Arc<Mutex<Vec<Question>>>,
}

impl ChatApp {
    fn publish(&self, keys: &[Value]) {
        *self.jwks.lock().unwrap() = (200, set(keys));
    }

    fn break_jwks(&self, status: u16, body: &str) {
        *self.jwks.lock().unwrap() = (status, body.to_owned());
    }

    fn decide(&self, status: u16, body: &str) {
        *self.decision.lock().unwrap() = (status, body.to_owned());
    }

    fn asked(&self) -> usize {
        self.jwks_asked.load(Ordering::SeqCst)
    }

    /// Starts both services. Returns their URL.
    async fn start(&self) -> String {
        let router = Router::new()
            .route(
                "/jwks",
                get(async |State(app): State<ChatApp>| {
                    app.jwks_asked.fetch_add(1, Ordering::SeqCst);
                    answer(&app.jwks)
                }),
            )
            .route(
                "/authorize",
                post(async |State(app): State<ChatApp>, headers: HeaderMap, body: String| {
                    let secret = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
                    app.questions.lock().unwrap().push((secret, serde_json::from_str(&body).unwrap()));
                    answer(&app.decision)
                }),
            )
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }
}

fn answer(set: &Mutex<(u16, String)>) -> (StatusCode, String) {
    let (status, body) = set.lock().unwrap().clone();
    (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body)
}

const BASE: &str = "keys: {k: 0123456789abcdef0123456789abcdef}\nserver_url: wss://calls.example\n";

struct Setup {
    app: ChatApp,
    server: Server,
    clock: TestClock,
}

/// Server that reads a caller's rooms from the claim `rooms`. `more` is added to the section `identity_provider`.
async fn with_claims(more: &str) -> Setup {
    setup(|url| {
        format!(
            "{BASE}identity_provider:\n  issuer: https://id.example\n  audience: calls\n  jwks_url: {url}/jwks\n  \
             rooms_claim: rooms\n{more}"
        )
    })
    .await
}

/// Server that asks the chat app's authorization service.
async fn with_question() -> Setup {
    setup(|url| {
        format!(
            "{BASE}identity_provider:\n  issuer: https://id.example\n  audience: calls\n  jwks_url: {url}/jwks\n  \
             authorization: {{url: '{url}/authorize', bearer_token: hush, timeout: 500ms}}\n\
             token_endpoint: {{accept_from_request: [metadata]}}\n"
        )
    })
    .await
}

async fn setup(yaml: impl FnOnce(&str) -> String) -> Setup {
    let app = ChatApp::default();
    app.publish(&[published(&RSA, "rsa-1")]);
    let url = app.start().await;
    let clock = TestClock::new();
    Setup { server: server_with_clock(&yaml(&url), clock.clone()), app, clock }
}

fn claims() -> Value {
    json!({
        "iss": "https://id.example", "aud": "calls", "sub": "user-7", "name": "Ann", "exp": BEGIN + 1_000_000,
        "rooms": ["lobby", "team-*"],
    })
}

fn sign(key: &ProviderKey, id: Option<&str>, claims: &Value) -> String {
    let header = Header { kid: id.map(str::to_owned), ..Header::new(key.algorithm) };
    jsonwebtoken::encode(&header, claims, &key.private).unwrap()
}

impl Setup {
    async fn ask(&self, token: &str, body: &Value) -> Answer {
        self.server.post_token(&format!("\r\nAuthorization: Bearer {token}"), &body.to_string()).await
    }

    async fn lobby(&self, token: &str) -> Answer {
        self.ask(token, &json!({ "room_name": "lobby" })).await
    }

    fn grants(&self, answer: &Answer) -> Grants {
        assert_eq!(answer.status, 201, "{}", answer.body);
        let json = answer.json();
        let token = json["participant_token"].as_str().unwrap();
        verify::verify_join(self.server.state.keys(), &TokenLimits::default(), token, self.clock.unix())
            .unwrap()
    }
}

fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn the_identity_comes_from_the_token_and_never_from_the_request() {
    let setup = with_claims("").await;
    let body = json!({
        "room_name": "team-4", "participant_identity": "admin", "participant_name": "Boss",
        "participant_metadata": "m", "participant_attributes": { "role": "admin" },
        "room_config": { "agents": [{ "agentName": "spy" }] },
    });
    let answer = setup.ask(&sign(&RSA, Some("rsa-1"), &claims()), &body).await;
    assert_eq!(answer.json()["server_url"], "wss://calls.example");
    let grants = setup.grants(&answer);
    assert_eq!((grants.identity.as_str(), grants.name.as_str(), grants.room()), ("user-7", "Ann", "team-4"));
    assert!(grants.metadata.is_empty() && grants.attributes.is_empty() && grants.room_config.is_none());
    assert!(!grants.video.room_admin && !grants.hidden());
}

#[tokio::test]
async fn what_may_be_chosen_is_taken_from_the_request() {
    let setup =
        with_claims("  name_claim: nickname\ntoken_endpoint: {accept_from_request: [name, attributes]}\n")
            .await;
    let body = json!({
        "room_name": "lobby", "participant_identity": "admin", "participant_name": "Annie",
        "participant_metadata": "m", "participant_attributes": { "a": "b" },
    });
    let grants = setup.grants(&setup.ask(&sign(&RSA, Some("rsa-1"), &claims()), &body).await);
    assert_eq!(
        (grants.identity.as_str(), grants.name.as_str(), grants.metadata.as_str()),
        ("user-7", "Annie", "")
    );
    assert_eq!(grants.attributes["a"], "b");
}

#[tokio::test]
async fn rooms_are_those_of_the_claim() {
    let setup = with_claims("").await;
    let token = sign(&RSA, Some("rsa-1"), &claims());
    for (room, status) in
        [("lobby", 201), ("team-", 201), ("team-x", 201), ("other", 403), ("Lobby", 403), ("*", 403)]
    {
        assert_eq!(setup.ask(&token, &json!({ "room_name": room })).await.status, status, "{room}");
    }
    let answer = setup.ask(&token, &json!({ "room_name": "other" })).await;
    assert_eq!(answer.json()["error"]["field"], "room_name");
    assert_eq!(code(&setup.ask(&token, &json!({})).await), refused(400, "no_room"));
    let mut none = claims();
    none.as_object_mut().unwrap().remove("rooms");
    assert_eq!(code(&setup.lobby(&sign(&RSA, Some("rsa-1"), &none)).await), refused(403, "room_denied"));
}

#[tokio::test]
async fn all_three_algorithms_work_and_no_other() {
    let setup = with_claims("").await;
    setup.app.publish(&[published(&RSA, "r"), published(&EC, "c"), published(&ED, "d")]);
    for (key, id) in [(&RSA, "r"), (&EC, "c"), (&ED, "d")] {
        assert_eq!(setup.lobby(&sign(key, Some(id), &claims())).await.status, 201, "{id}");
        assert_eq!(setup.lobby(&sign(key, None, &claims())).await.status, 201, "{id} without kid");
        let other = if id == "r" { "c" } else { "r" };
        assert_eq!(
            code(&setup.lobby(&sign(key, Some(other), &claims())).await),
            refused(401, "token_unknown_key")
        );
    }
    let narrow = with_claims("  algorithms: [ES256]\n").await;
    narrow.app.publish(&[published(&RSA, "r"), published(&EC, "c")]);
    assert_eq!(narrow.lobby(&sign(&EC, Some("c"), &claims())).await.status, 201);
    assert_eq!(code(&narrow.lobby(&sign(&RSA, Some("r"), &claims())).await), refused(401, "token_algorithm"));
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    let setup = with_claims("").await;
    let n = RSA.public["n"].as_str().unwrap();
    let modulus = URL_SAFE_NO_PAD.decode(n).unwrap();
    let document = set(&[published(&RSA, "rsa-1")]);
    for secret in [n.as_bytes(), modulus.as_slice(), document.as_bytes(), b""] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let header = Header { kid: Some("rsa-1".into()), ..Header::new(algorithm) };
            let token = jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(secret)).unwrap();
            assert_eq!(code(&setup.lobby(&token).await), refused(401, "token_algorithm"));
        }
    }
    // A published symmetric key is not accepted either.
    setup.app.publish(&[
        json!({ "kty": "oct", "k": base64url("0123456789abcdef"), "kid": "o" }),
        published(&RSA, "rsa-1"),
    ]);
    setup.clock.advance(3600);
    let header = Header { kid: Some("o".into()), ..Header::new(Algorithm::HS256) };
    let key = EncodingKey::from_secret(b"0123456789abcdef");
    let token = jsonwebtoken::encode(&header, &claims(), &key).unwrap();
    assert_eq!(code(&setup.lobby(&token).await), refused(401, "token_algorithm"));
    let none =
        format!("{}.{}.", base64url(r#"{"alg":"none","kid":"rsa-1"}"#), base64url(claims().to_string()));
    assert_eq!(code(&setup.lobby(&none).await), refused(401, "token_algorithm"));
}

#[tokio::test]
async fn tokens_of_others_for_others_and_of_other_times_are_refused() {
    let setup = with_claims("").await;
    let cases = [
        ("iss", json!("https://id.example/"), "token_issuer"),
        ("iss", json!(["https://id.example"]), "token_claims"),
        ("iss", Value::Null, "token_issuer"),
        ("aud", json!("other"), "token_audience"),
        ("aud", json!([]), "token_audience"),
        ("aud", json!(["a", "b"]), "token_audience"),
        ("aud", Value::Null, "token_audience"),
        ("aud", json!({ "calls": 1 }), "token_claims"),
        ("exp", json!(BEGIN - 61), "token_expired"),
        ("exp", Value::Null, "token_no_expiry"),
        ("exp", json!("soon"), "token_claims"),
        ("nbf", json!(BEGIN + 120), "token_not_yet_valid"),
        ("sub", json!(""), "no_identity"),
        ("sub", Value::Null, "no_identity"),
        ("sub", json!(["user-7"]), "no_identity"),
        ("sub", json!("x".repeat(257)), "no_identity"),
        ("sub", json!(1.5), "no_identity"),
    ];
    for (claim, value, expected) in cases {
        let mut changed = claims();
        changed[claim] = value.clone();
        let answer = setup.lobby(&sign(&RSA, Some("rsa-1"), &changed)).await;
        assert_eq!(code(&answer), refused(401, expected), "{claim} {value}");
        assert!(answer.header("www-authenticate").is_some());
    }
    let mut many = claims();
    many["aud"] = json!(["other", "calls"]);
    many["sub"] = json!(7);
    let grants = setup.grants(&setup.lobby(&sign(&RSA, Some("rsa-1"), &many)).await);
    assert_eq!(grants.identity, "7");
    let answer = setup.server.post_token("", r#"{"room_name":"lobby"}"#).await;
    assert_eq!(code(&answer), refused(401, "token_missing"));
    assert_eq!(answer.json()["error"]["field"], "Authorization");
    let own = setup.grants(&setup.lobby(&sign(&RSA, Some("rsa-1"), &claims())).await);
    assert_eq!(own.room(), "lobby");
    let call_token = setup.lobby(&sign(&RSA, Some("rsa-1"), &claims())).await.json();
    let call_token = call_token["participant_token"].as_str().unwrap().to_owned();
    assert_eq!(
        code(&setup.lobby(&call_token).await),
        refused(401, "token_algorithm"),
        "not a way to stay for ever"
    );
}

#[tokio::test]
async fn claims_may_lie_deep() {
    let setup = with_claims("  identity_claim: /realm/user\n  name_claim: https://id.example/nick\n").await;
    let mut deep = claims();
    deep["realm"] = json!({ "user": "deep-7" });
    deep["https://id.example/nick"] = json!("Nick");
    let grants = setup.grants(&setup.lobby(&sign(&RSA, Some("rsa-1"), &deep)).await);
    assert_eq!((grants.identity.as_str(), grants.name.as_str()), ("deep-7", "Nick"));
}

#[tokio::test]
async fn new_keys_are_found_and_the_provider_is_not_flooded() {
    let setup = with_claims("").await;
    let old = sign(&RSA, Some("rsa-1"), &claims());
    let new = sign(&EC, Some("ec-2"), &claims());
    for _ in 0..5 {
        assert_eq!(setup.lobby(&old).await.status, 201);
    }
    assert_eq!(setup.app.asked(), 1, "keys are kept");
    setup.app.publish(&[published(&RSA, "rsa-1"), published(&EC, "ec-2")]);
    for _ in 0..5 {
        assert_eq!(code(&setup.lobby(&new).await), refused(401, "token_unknown_key"));
    }
    assert_eq!(setup.app.asked(), 1, "not before 10 s have passed");
    setup.clock.advance(10);
    assert_eq!(setup.lobby(&new).await.status, 201);
    assert_eq!((setup.lobby(&old).await.status, setup.app.asked()), (201, 2));
    // Tokens with invented key ids cause at most one request to the provider in 10 s.
    for index in 0..20 {
        setup.lobby(&sign(&RSA, Some(&format!("made-up-{index}")), &claims())).await;
    }
    assert_eq!(setup.app.asked(), 2);
}

#[tokio::test]
async fn a_withdrawn_key_stops_working() {
    let setup = with_claims("").await;
    let old = sign(&RSA, Some("rsa-1"), &claims());
    assert_eq!(setup.lobby(&old).await.status, 201);
    setup.app.publish(&[published(&EC, "ec-2")]);
    assert_eq!(setup.lobby(&old).await.status, 201, "kept for a while");
    setup.clock.advance(10 * 60);
    assert_eq!(code(&setup.lobby(&old).await), refused(401, "token_unknown_key"));
}

#[tokio::test]
async fn an_outage_of_the_provider_ends_nothing() {
    let setup = with_claims("").await;
    let token = sign(&RSA, Some("rsa-1"), &claims());
    assert_eq!(setup.lobby(&token).await.status, 201);
    for (status, body) in
        [(500, ""), (200, "<html>"), (200, "{\"keys\":[]}"), (302, ""), (200, &"x".repeat(300_000))]
    {
        setup.app.break_jwks(status, body);
        setup.clock.advance(20 * 60);
        let before = setup.app.asked();
        for _ in 0..3 {
            assert_eq!(setup.lobby(&token).await.status, 201, "{status} {}", body.len());
        }
        assert_eq!(setup.app.asked(), before + 1, "asked once in 10 s");
    }
}

#[tokio::test]
async fn without_any_keys_nobody_is_let_in_until_the_provider_answers() {
    let setup = with_claims("").await;
    setup.app.break_jwks(503, "");
    let token = sign(&RSA, Some("rsa-1"), &claims());
    assert_eq!(code(&setup.lobby(&token).await), refused(503, "identity_provider_unavailable"));
    setup.app.publish(&[published(&RSA, "rsa-1")]);
    assert_eq!(setup.lobby(&token).await.status, 503, "not asked again at once");
    setup.clock.advance(10);
    assert_eq!(setup.lobby(&token).await.status, 201);
}

#[tokio::test]
async fn callers_at_once_share_one_fetch() {
    let setup = with_claims("").await;
    let token = sign(&RSA, Some("rsa-1"), &claims());
    let (a, b, c, d) =
        tokio::join!(setup.lobby(&token), setup.lobby(&token), setup.lobby(&token), setup.lobby(&token));
    assert_eq!([a.status, b.status, c.status, d.status], [201; 4]);
    assert_eq!(setup.app.asked(), 1);
}

#[tokio::test]
async fn unusable_keys_are_left_out() {
    let setup = with_claims("").await;
    let mut encryption = published(&RSA, "enc");
    encryption["use"] = json!("enc");
    let mut other = published(&RSA, "other");
    other["alg"] = json!("RS512");
    let mut signing_only = published(&RSA, "ops");
    signing_only["key_ops"] = json!(["sign"]);
    let short = json!({ "kty": "RSA", "kid": "short", "n": base64url([0xff; 128]), "e": "AQAB" });
    let damaged = json!({ "kty": "EC", "crv": "P-256", "kid": "damaged", "x": "!", "y": "!" });
    setup.app.publish(&[encryption, other, signing_only, short, damaged, json!(7), published(&RSA, "good")]);
    assert_eq!(setup.lobby(&sign(&RSA, Some("good"), &claims())).await.status, 201);
    for id in ["enc", "other", "ops", "short"] {
        setup.clock.advance(11);
        let answer = setup.lobby(&sign(&RSA, Some(id), &claims())).await;
        assert_eq!(code(&answer), refused(401, "token_unknown_key"), "{id}");
    }
    assert_eq!(
        code(&setup.lobby(&sign(&EC, Some("damaged"), &claims())).await),
        refused(401, "token_unknown_key")
    );
}

#[tokio::test]
async fn keys_may_stand_in_the_configuration() {
    let jwks = set(&[published(&ED, "d")]);
    let yaml = format!(
        "{BASE}identity_provider: {{issuer: 'https://id.example', audience: [calls], jwks: {jwks}, rooms_claim: rooms}}"
    );
    let clock = TestClock::new();
    let server = server_with_clock(&yaml, clock.clone());
    let setup = Setup { app: ChatApp::default(), server, clock };
    assert_eq!(setup.lobby(&sign(&ED, Some("d"), &claims())).await.status, 201);
    assert_eq!(
        code(&setup.lobby(&sign(&RSA, Some("d"), &claims())).await),
        refused(401, "token_unknown_key")
    );
}

#[tokio::test]
async fn the_chat_app_decides_who_may_enter_and_how() {
    let setup = with_question().await;
    let token = sign(&RSA, Some("rsa-1"), &claims());
    setup.app.decide(
        200,
        r#"{"allowed":true,"grants":{"canPublish":false,"canPublishData":true,"hidden":true},"name":"Auditor",
            "attributes":{"role":"audit"}}"#,
    );
    let body = json!({ "room_name": "any room", "participant_metadata": "m", "participant_identity": "x" });
    let grants = setup.grants(&setup.ask(&token, &body).await);
    assert_eq!((grants.identity.as_str(), grants.name.as_str()), ("user-7", "Auditor"));
    assert!(!grants.can_publish() && grants.can_publish_data() && grants.can_subscribe() && grants.hidden());
    assert_eq!((grants.metadata.as_str(), grants.attributes["role"].as_str()), ("m", "audit"));
    let (secret, question) = setup.app.questions.lock().unwrap().pop().unwrap();
    assert_eq!(secret.as_deref(), Some("Bearer hush"));
    assert_eq!((&question["subject"], &question["room"]), (&json!("user-7"), &json!("any room")));
    assert_eq!(question["claims"]["rooms"], json!(["lobby", "team-*"]));

    setup.app.decide(200, r#"{"allowed":false,"reason":"the meeting is over"}"#);
    let answer = setup.lobby(&token).await;
    assert_eq!(code(&answer), refused(403, "room_denied"));
    assert!(answer.json()["error"]["message"].as_str().unwrap().contains("the meeting is over"));
    setup.app.decide(403, "");
    assert_eq!(code(&setup.lobby(&token).await), refused(403, "room_denied"));
    assert_eq!(code(&setup.lobby("bad.bad.bad").await).0, 401);
    assert_eq!(setup.app.questions.lock().unwrap().len(), 2, "nobody is asked about a bad token");
}

#[tokio::test]
async fn no_usable_answer_is_a_refusal() {
    let setup = with_question().await;
    let token = sign(&RSA, Some("rsa-1"), &claims());
    for (status, body) in [
        (500, r#"{"allowed":true}"#),
        (201, r#"{"allowed":true}"#),
        (302, r#"{"allowed":true}"#),
        (200, ""),
        (200, "yes"),
        (200, "true"),
        (200, "[true]"),
        (200, r#"{"allowed":true,"grants":[]}"#),
        (200, "{}"),
        (200, r#"{"allowed":"true"}"#),
        (200, r#"{"allowed":1}"#),
        (200, r#"{"Allowed":true}"#),
        (200, r#"{"allowed":true,"grants":{"canPublsh":false}}"#),
        (200, r#"{"allowed":true,"grants":{"canPublishSources":["nothing"]}}"#),
        (200, r#"{"allowed":true,"identity":"admin"}"#),
    ] {
        setup.app.decide(status, body);
        assert_eq!(
            code(&setup.lobby(&token).await),
            refused(503, "authorization_unavailable"),
            "{status} {body}"
        );
    }
    setup.app.decide(200, &format!(r#"{{"allowed":true,"metadata":"{}"}}"#, "x".repeat(300_000)));
    assert_eq!(setup.lobby(&token).await.status, 503);
    setup.app.decide(200, &format!(r#"{{"allowed":true,"metadata":"{}"}}"#, "x".repeat(70_000)));
    assert_eq!(setup.lobby(&token).await.status, 400);
}

#[tokio::test]
async fn an_authorization_service_that_is_away_or_silent_is_a_refusal() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_url = format!("http://{}", silent.local_addr().unwrap());
    for url in [silent_url.as_str(), "http://127.0.0.1:1"] {
        let setup = setup(|provider| {
            format!(
                "{BASE}identity_provider:\n  issuer: https://id.example\n  audience: calls\n  jwks_url: {provider}/jwks\n  \
                 authorization: {{url: '{url}', timeout: 100ms}}\n"
            )
        })
        .await;
        let answer = setup.lobby(&sign(&RSA, Some("rsa-1"), &claims())).await;
        assert_eq!(code(&answer), refused(503, "authorization_unavailable"), "{url}");
    }
}
