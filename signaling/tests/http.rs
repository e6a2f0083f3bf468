//! Tests of the HTTP endpoints with real requests.

mod common;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use common::{BEGIN, Server, UNPLACED, server};
use livekit_protocol::{JoinRequest, WrappedJoinRequest};
use prost::Message;
use signaling::token::keys::Key;
use signaling::token::{Grants, Kind, TokenLimits, VideoGrant, issue, verify};
use tokio_tungstenite::tungstenite;

const DEV: &str = "development: true";

fn grants() -> Grants {
    Grants {
        identity: "ann".into(),
        name: String::new(),
        metadata: String::new(),
        attributes: [].into(),
        kind: Kind::Standard,
        kind_details: Vec::new(),
        video: VideoGrant { room_join: true, room: Some("r".into()), ..VideoGrant::default() },
        room_preset: String::new(),
        room_config: None,
        expires_at: BEGIN + 3600,
    }
}

fn token(grants: &Grants) -> String {
    issue::issue(&Key::new("devkey", "secret"), grants, BEGIN).unwrap()
}

fn join_request(request: &JoinRequest) -> String {
    let wrapped = WrappedJoinRequest { compression: 0, join_request: request.encode_to_vec() };
    URL_SAFE.encode(wrapped.encode_to_vec())
}

/// Opens a WebSocket and closes it. Returns the status and, if refused, the text.
async fn open_socket(server: &Server, path: &str, bearer: Option<&str>) -> (u16, String) {
    match keep_socket(server, path, bearer).await {
        Ok(_socket) => (101, String::new()),
        Err(refused) => refused,
    }
}

type Socket = tokio_tungstenite::WebSocketStream<tokio::io::DuplexStream>;

/// Opens a WebSocket. Returns it, or the status and text of the refusal.
async fn keep_socket(server: &Server, path: &str, bearer: Option<&str>) -> Result<Socket, (u16, String)> {
    let mut request = tungstenite::http::Request::builder()
        .uri(format!("ws://calls.example{path}"))
        .header("Host", "calls.example")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    if let Some(token) = bearer {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    match tokio_tungstenite::client_async(request.body(()).unwrap(), server.connect()).await {
        Ok((socket, _response)) => Ok(socket),
        Err(tungstenite::Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            Err((response.status().as_u16(), String::from_utf8_lossy(&body).into_owned()))
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn the_page_is_there_and_says_so_by_head_too() {
    let server = server(DEV);
    let page = server.get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    assert!(page.body.contains("<html"), "{}", page.body);
    let tag = page.header("etag").unwrap();
    let head = server.ask("HEAD / HTTP/1.1\r\nHost: x\r\nOrigin: https://chat.example", b"").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("access-control-allow-origin"), Some("*"));
    let again = server.ask(&format!("GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}"), b"").await;
    assert_eq!(again.status, 304);
    for path in
        ["/assets/none.js", "/../Cargo.toml", "/%2e%2e/Cargo.toml", "/.sources-hash", "/settings/regions"]
    {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn preflights_allow_what_clients_send() {
    let server = server(DEV);
    for path in ["/v1/token", "/rtc/v1/validate", "/"] {
        let head = format!(
            "OPTIONS {path} HTTP/1.1\r\nHost: x\r\nOrigin: https://chat.example\r\n\
             Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,content-type"
        );
        let answer = server.ask(&head, b"").await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.header("access-control-allow-headers"), Some("authorization,content-type"));
        assert_eq!(answer.header("access-control-max-age"), Some("86400"));
        let methods = answer.header("access-control-allow-methods").unwrap();
        for method in ["OPTIONS", "HEAD", "GET", "POST", "PATCH", "DELETE"] {
            assert!(methods.contains(method), "{method}");
        }
    }
}

#[tokio::test]
async fn a_request_without_upgrade_is_not_found() {
    let server = server(DEV);
    let token = token(&grants());
    for path in ["/rtc", "/rtc/v1", "//rtc"] {
        assert_eq!(server.get(&format!("{path}?access_token={token}")).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn validate_says_what_join_would() {
    let server = server(DEV);
    let good = token(&grants());
    for path in ["/rtc/validate", "/rtc/v1/validate", "//rtc/v1/validate"] {
        let answer = server.get(&format!("{path}?access_token={good}")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "success"), "{path}");
    }
    let answer = server
        .ask(
            &format!(
                "GET /rtc/validate?access_token=bad HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {good}"
            ),
            b"",
        )
        .await;
    assert_eq!(answer.status, 200, "the header wins");

    let no_room = Grants { video: VideoGrant { room: None, ..grants().video }, ..grants() };
    let no_join = Grants { video: VideoGrant { room_join: false, ..grants().video }, ..grants() };
    let nobody = Grants { identity: String::new(), ..grants() };
    let expired = Grants { expires_at: BEGIN - 100, ..grants() };
    for (token, status, word) in [
        ("garbage".to_owned(), 401, "JWT"),
        (token(&expired), 401, "expired 100 seconds ago"),
        (token(&no_join), 401, "video.roomJoin"),
        (token(&no_room), 400, "room"),
        (token(&nobody), 400, "participant"),
    ] {
        for door in ["/rtc/validate", "/rtc/v1/validate"] {
            let answer = server.get(&format!("{door}?access_token={token}")).await;
            assert_eq!(answer.status, status, "{}", answer.body);
            assert!(answer.body.contains(word), "{}", answer.body);
        }
        for door in ["/rtc", "/rtc/v1"] {
            let (refused, text) = open_socket(&server, &format!("{door}?access_token={token}"), None).await;
            assert_eq!(refused, status, "{text}");
            assert!(text.contains(word), "{text}");
        }
    }
    let answer = server.get("/rtc/validate").await;
    assert_eq!(answer.status, 401);
    assert!(answer.body.contains("access_token"), "{}", answer.body);
}

#[tokio::test]
async fn a_full_room_and_a_full_server_are_told_by_validate_as_by_join() {
    let server = server(DEV);
    let small = Some(serde_json::json!({ "maxParticipants": 1 }));
    let of = |identity: &str, room: &str| {
        let video = VideoGrant { room: Some(room.into()), ..grants().video };
        token(&Grants { identity: identity.into(), room_config: small.clone(), video, ..grants() })
    };
    let both = async |token: String| {
        let join = open_socket(&server, &format!("/rtc?access_token={token}"), None).await;
        let answer = server.get(&format!("/rtc/v1/validate?access_token={token}")).await;
        (join, (answer.status, answer.body))
    };
    let _ann = keep_socket(&server, "/rtc", Some(&of("ann", "small"))).await.expect("the first one fits");
    let (join, validate) = both(of("ben", "small")).await;
    assert_eq!(join, (429, "the room is full".to_owned()));
    assert_eq!(validate, join);
    let (join, validate) = both(of("ann", "small")).await;
    assert_eq!((join.0, validate.0), (101, 200), "her new session takes the place of the old one");

    let (join, validate) = both(of(UNPLACED, "large")).await;
    assert_eq!(join, (503, "this server has no room for another participant".to_owned()));
    assert_eq!(validate, join);
    let _cy = keep_socket(&server, "/rtc", Some(&of("cy", "other"))).await.expect("there is room again");
    let answer = server.get(&format!("/rtc/validate?access_token={}", of("dan", "another"))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn a_good_token_opens_a_socket_in_both_forms() {
    let server = server(DEV);
    let token = token(&grants());
    let request = join_request(&JoinRequest::default());
    assert_eq!(open_socket(&server, &format!("/rtc?access_token={token}"), None).await.0, 101);
    for query in ["protocol=16", "protocol=1&sdk=esp32&auto_subscribe=false", ""] {
        assert_eq!(open_socket(&server, &format!("/rtc?{query}"), Some(&token)).await.0, 101, "{query}");
    }
    let path = format!("/rtc/v1?access_token={token}&join_request={request}");
    assert_eq!(open_socket(&server, &path, None).await.0, 101);
}

#[tokio::test]
async fn the_largest_metadata_fits_into_a_join() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = server(DEV);
    for size in [40, 48, 56, 64] {
        let metadata = "m".repeat(size * 1024);
        let attributes = [("k".to_owned(), "v".repeat(size * 1024 - 1))];
        let token = token(&Grants {
            metadata: metadata.clone(),
            attributes: attributes.clone().into(),
            video: VideoGrant { can_update_own_metadata: Some(true), ..grants().video },
            ..grants()
        });
        let request = join_request(&JoinRequest {
            metadata,
            participant_attributes: attributes.into(),
            ..JoinRequest::default()
        });
        let query = format!("access_token={token}&join_request={request}");
        for target in [
            format!("/rtc/validate?access_token={token}"),
            format!("/rtc/v1/validate?auto_subscribe=1&{query}"),
        ] {
            let answer = server.get(&target).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, "success"), "{size} KiB");
        }
        // These requests are written by hand, because the client library of these tests does not support URLs of this
        // length. Native clients send the token in a header field.
        for (query, token) in [
            (query, String::new()),
            (format!("join_request={request}"), format!("Authorization: Bearer {token}\r\n")),
        ] {
            let mut io = server.connect();
            let head = format!(
                "GET /rtc/v1?{query} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{token}\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            );
            io.write_all(head.as_bytes()).await.unwrap();
            let mut status = [0; 12];
            io.read_exact(&mut status).await.unwrap();
            assert_eq!(&status, b"HTTP/1.1 101", "{size} KiB");
        }
    }
}

#[tokio::test]
async fn a_malformed_join_is_named_and_only_after_the_token() {
    let server = server(DEV);
    let token = token(&grants());
    for (query, word) in [
        ("join_request=%21%21", "`join_request`"),
        ("join_request=_____w", "`WrappedJoinRequest`"),
        ("protocol=x", "`protocol`"),
        ("auto_subscribe=maybe", "`auto_subscribe`"),
        ("attributes=e30x", "`attributes`"),
        ("sdk=%zz", "query"),
    ] {
        for door in ["/rtc", "/rtc/v1"] {
            let (status, text) = open_socket(&server, &format!("{door}?{query}"), Some(&token)).await;
            assert_eq!(status, 400, "{query}: {text}");
            assert!(text.contains(word), "{query}: {text}");
        }
    }
    assert_eq!(open_socket(&server, "/rtc/v1?join_request=%21%21", Some("bad")).await.0, 401);
}

#[tokio::test]
async fn a_publish_only_connection_has_a_name_of_its_own() {
    let server = server(DEV);
    let long = Grants { identity: "x".repeat(250), ..grants() };
    let path = |grants: &Grants| format!("/rtc/validate?publish=screen-share&access_token={}", token(grants));
    assert_eq!(server.get(&path(&grants())).await.status, 200);
    let answer = server.get(&path(&long)).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("`publish`"), "{}", answer.body);
}

#[tokio::test]
async fn development_hands_out_tokens_freely() {
    let server = server(DEV);
    let answer = server
        .post_token(
            "",
            r#"{"room_name":"r","participant_identity":"ann","participant_name":"Ann","participant_metadata":"m",
                "participant_attributes":{"a":"b"},"room_config":{"agents":[{"agentName":"x"}]},"new_field":1}"#,
        )
        .await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let json = answer.json();
    assert_eq!(json["server_url"], "ws://calls.example");
    let token = json["participant_token"].as_str().unwrap();
    let limits = TokenLimits::default();
    let grants = verify::verify_join(server.state.keys(), &limits, token, BEGIN).unwrap();
    assert_eq!((grants.identity.as_str(), grants.room(), grants.name.as_str()), ("ann", "r", "Ann"));
    assert_eq!((grants.metadata.as_str(), grants.attributes["a"].as_str()), ("m", "b"));
    assert_eq!(grants.room_config.unwrap()["agents"][0]["agentName"], "x");
    assert_eq!(grants.expires_at, BEGIN + 6 * 3600);

    for body in ["", "{}", r#"{"roomName":"r","participantIdentity":""}"#] {
        let json = server.post_token("", body).await.json();
        let token = json["participant_token"].as_str().unwrap();
        let grants = verify::verify_join(server.state.keys(), &limits, token, BEGIN).unwrap();
        assert!(grants.identity.starts_with("guest-"), "{body}");
    }
    let answer = server.post_token("\r\nX-Forwarded-Proto: https", "{}").await;
    assert_eq!(answer.json()["server_url"], "wss://calls.example");
}

#[tokio::test]
async fn bad_token_requests_name_their_field() {
    let server = server(DEV);
    for body in
        ["[]", "x", r#"{"room_name":1}"#, r#"{"participant_attributes":{"a":1}}"#, r#"{"room_config":[]}"#]
    {
        let answer = server.post_token("", body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.json()["error"]["field"], "body", "{body}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "a page must be able to read it");
    }
    let answer = server.post_token("", r#"{"room_config":{"agents":7}}"#).await;
    assert_eq!((answer.status, answer.json()["error"]["field"].as_str()), (400, Some("room_config")));
    let long = format!(r#"{{"room_name":"{}"}}"#, "x".repeat(257));
    let answer = server.post_token("", &long).await;
    assert_eq!((answer.status, answer.json()["error"]["field"].as_str()), (400, Some("room_name")));
    let large = format!(r#"{{"participant_metadata":"{}"}}"#, "x".repeat(1024 * 1024));
    let answer = server.post_token("", &large).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (413, Some("body_too_large")));
    assert_eq!(server.get("/v1/token").await.status, 405);
}

#[tokio::test(start_paused = true)]
async fn a_dripping_body_is_let_go() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = server(DEV);
    let mut io = server.connect();
    io.write_all(b"POST /v1/token HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n").await.unwrap();
    let since = tokio::time::Instant::now();
    let (mut read, mut write) = tokio::io::split(io);
    let drip = async {
        loop {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            if write.write_u8(b' ').await.is_err() {
                break;
            }
        }
    };
    let mut text = Vec::new();
    let read_all = read.read_to_end(&mut text);
    tokio::select! {
        () = drip => {}
        read = read_all => { read.unwrap(); }
    }
    assert!(since.elapsed().as_secs() <= 30, "{} s", since.elapsed().as_secs());
    assert!(String::from_utf8_lossy(&text).starts_with("HTTP/1.1 408"), "{}", String::from_utf8_lossy(&text));
}

#[tokio::test]
async fn nobody_gets_a_token_without_an_identity_provider() {
    let server = server("keys: {k: 0123456789abcdef0123456789abcdef}");
    let answer = server.post_token("", r#"{"room_name":"r"}"#).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (503, Some("no_identity_provider")));
}
