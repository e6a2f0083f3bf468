use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const REST: &str = "Host: x\r\n\r\nwhat follows";

/// Sends `sent` in pieces of `piece` bytes. Returns the bytes that the reader gets, and the removed parts.
async fn through(sent: &str, piece: usize) -> (String, LongLines) {
    let (mut far, near) = tokio::io::duplex(piece);
    let (mut reader, taken) = ShortLines::new(near, LineBudget::default());
    let send = async {
        far.write_all(sent.as_bytes()).await.unwrap();
        drop(far);
    };
    let mut got = Vec::new();
    let receive = reader.read_to_end(&mut got);
    let ((), received) = tokio::join!(send, receive);
    received.unwrap();
    (String::from_utf8(got).unwrap(), taken)
}

/// Request as the HTTP library would parse it.
fn request(query: &str, tokens: &[&str]) -> Request<()> {
    let mut request = Request::builder().uri(format!("/rtc?{query}"));
    for token in tokens {
        request = request.header("authorization", *token);
    }
    request.body(()).unwrap()
}

fn query(request: &Request<()>) -> &str {
    query_of(request.uri().query(), request.extensions().get())
}

fn tokens(request: &Request<()>) -> Vec<&str> {
    request.headers().get_all("authorization").iter().map(|token| token.to_str().unwrap()).collect()
}

#[tokio::test]
async fn whatever_is_no_long_line_of_a_join_is_as_it_was() {
    let long = format!("a={}", "x".repeat(30_000));
    for piece in [1, 1000, 200_000] {
        for text in [
            format!("GET /rtc?a=b HTTP/1.1\r\n{REST}"),
            format!("GET /rtc?a=b HTTP/1.1\nAuthorization: Bearer x\n\n{REST}"),
            format!("GET /{long} HTTP/1.1\r\n{REST}"),
            format!("GET /rtcx?{long} HTTP/1.1\r\n{REST}"),
            format!("GET /rtc{long} HTTP/1.1\r\n{REST}"),
            format!("GET /rtc/{} HTTP/1.1\r\n{REST}", "y".repeat(30_000)),
            format!("GET {}rtc?{long} HTTP/1.1\r\n{REST}", "/".repeat(9)),
            format!("POST /rtc?{long} HTTP/1.1\r\n{REST}"),
            format!("GET /rtc HTTP/1.1\r\nAuthorizations: {long}\r\n{REST}"),
            format!("GET /rtc HTTP/1.1\r\nX: y\r\n\r\nAuthorization: {long}\r\n{REST}"),
            "GET /rtc HTTP/1.1\r\nHost: x".to_owned(),
            "GET".to_owned(),
            "no HTTP".to_owned(),
            String::new(),
        ] {
            let (got, taken) = through(&text, piece).await;
            assert!(got == text, "{piece} {:.40}", text);
            assert_eq!(taken.taken().length, 0, "{piece} {:.40}", text);
        }
    }
}

#[tokio::test]
async fn the_long_lines_of_a_join_are_taken_out_and_given_back() {
    let long = format!("access_token={}", "x".repeat(30_000));
    let token = format!("Bearer {}", "t".repeat(30_000));
    for piece in [1, 1000, 300_000] {
        for path in ["/rtc", "//rtc/v1", "/rtc/v1/validate"] {
            let (got, taken) = through(&format!("GET {path}?{long} HTTP/1.1\r\n{REST}"), piece).await;
            assert!(got == format!("GET {path}?anytime-moved HTTP/1.1\r\n{REST}"), "{got:.80}");
            let mut is = request(MARK, &["Bearer short"]);
            let held = taken.restore(&mut is).unwrap();
            assert!(query(&is) == long && tokens(&is) == ["Bearer short"]);
            drop(held);
        }
        let text = format!("GET /rtc?a=b HTTP/1.1\r\nX: y\r\nauthoriZation:  {token} \r\n{REST}");
        let (got, taken) = through(&text, piece).await;
        let expected = format!("GET /rtc?a=b HTTP/1.1\r\nX: y\r\nauthoriZation:anytime-moved\r\n{REST}");
        assert!(got == expected, "{got:.80}");
        let mut is = request("a=b", &[MARK]);
        taken.restore(&mut is).unwrap();
        assert!(query(&is) == "a=b" && tokens(&is) == [&token]);
        // A long query and a long token, in lines without carriage returns.
        let text = format!("GET /rtc?{long} HTTP/1.1\nAuthorization:{token}\n\nwhat follows");
        let (got, taken) = through(&text, piece).await;
        let marked = "GET /rtc?anytime-moved HTTP/1.1\nAuthorization:anytime-moved\r\n\nwhat follows";
        assert!(got == marked, "{got:.80}");
        let mut is = request(MARK, &[MARK]);
        taken.restore(&mut is).unwrap();
        assert!(query(&is) == long && tokens(&is) == [&token]);
    }
}

#[tokio::test]
async fn a_mark_alone_means_nothing() {
    let (_, taken) = through("", 100).await;
    let mut is = request(MARK, &[MARK]);
    assert!(taken.restore(&mut is).is_ok());
    assert_eq!((query(&is), tokens(&is)), (MARK, vec![MARK]));
    // Two tokens remain two, so the request will be refused.
    let token = "t".repeat(30_000);
    let (_, taken) = through(&format!("GET /rtc HTTP/1.1\r\nAuthorization: {token}\r\n{REST}"), 1000).await;
    let mut is = request("a=b", &[MARK, "Bearer x"]);
    assert!(taken.restore(&mut is).is_ok());
    assert_eq!(tokens(&is), [MARK, "Bearer x"]);
}

#[tokio::test]
async fn each_request_of_a_connection_is_looked_at_and_nothing_after_an_upgrade() {
    let (mut far, near) = tokio::io::duplex(1024 * 1024);
    let (mut server, _) = ShortLines::new(near, LineBudget::default());
    let request = format!("GET /rtc?{} HTTP/1.1\r\n\r\n", "x".repeat(30_000));
    let mut buffer = vec![0; 200_000];
    for (answer, is_moved) in [
        ("HTTP/1.1 200 OK\r\n", true),
        ("HTTP/1.1 100 Continue\r\n", true),
        ("HTTP/1.1 200 OK\r\n", false),
        ("HTTP/1.1 101 Switching\r\n", true),
        ("", false),
    ] {
        far.write_all(request.as_bytes()).await.unwrap();
        let mut got = 0;
        while !buffer[..got].ends_with(b"\r\n\r\n") {
            got += server.read(&mut buffer[got..]).await.unwrap();
        }
        assert_eq!(buffer.starts_with(b"GET /rtc?anytime-moved HTTP/1.1\r\n"), is_moved);
        server.write_all(answer.as_bytes()).await.unwrap();
    }
}
