use std::convert::Infallible;

use axum::Extension;
use axum::extract::RawQuery;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use futures_util::stream;
use prometheus::Registry;
use tokio::io::DuplexStream;
use tokio::time::Instant;

use super::super::long_lines::{LongQuery, MAX_LONG_BYTES, query_of};
use super::*;

struct Peer {
    io: DuplexStream,
    gate: Arc<Gate>,
    metrics: Registry,
    server: tokio::task::JoinHandle<()>,
    stop: watch::Sender<bool>,
    since: Instant,
}

/// Connection to a small service over a pipe of `buffer` bytes. Time is virtual.
fn connect(buffer: usize) -> Peer {
    connect_within(buffer, LineBudget::default())
}

/// Handler that returns the lengths of the query and the `Authorization` field.
async fn lengths(query: RawQuery, long: Option<Extension<LongQuery>>, headers: HeaderMap) -> String {
    let token = headers.get("authorization").map_or(0, |token| token.len());
    format!("{} {token}", query_of(query.0.as_deref(), long.as_deref()).len())
}

fn connect_within(buffer: usize, long_lines: LineBudget) -> Peer {
    let router = Router::new()
        .route("/", get(async || "hello"))
        .route("/rtc/v1", get(async || "joined"))
        .route("/rtc", get(lengths))
        .route(
            "/slow",
            get(async || {
                sleep(Duration::from_secs(5)).await;
                "late"
            }),
        )
        .route("/echo", post(async |body: axum::body::Bytes| body))
        .route(
            "/endless",
            get(async || Body::from_stream(stream::repeat_with(|| Ok::<_, Infallible>(vec![b'x'; 4096])))),
        );
    let registry = Registry::new();
    let limits = SocketLimits {
        gate: Gate::new(10, 10),
        header: Duration::from_secs(5),
        long_lines,
        metrics: HttpMetrics::new(&registry).unwrap(),
    };
    let remote = IpAddr::from([192, 0, 2, 1]);
    let ticket = Arc::new(limits.gate.enter(remote).unwrap());
    let gate = Arc::clone(&limits.gate);
    let (io, far) = tokio::io::duplex(buffer);
    let (stop, stopped) = watch::channel(false);
    let server = tokio::spawn(async move {
        serve_connection(far, Connection { remote, ticket }, router, &limits, stopped).await;
    });
    Peer { io, gate, metrics: registry, server, stop, since: Instant::now() }
}

impl Peer {
    async fn send(&mut self, text: &str) {
        self.io.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until the server closes the connection.
    async fn rest(&mut self) -> String {
        let mut text = Vec::new();
        self.io.read_to_end(&mut text).await.unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Reads one response with a `Content-Length`; returns its head and body.
    async fn answer(&mut self) -> (String, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.io.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        let mut body = vec![0; length.parse().unwrap()];
        self.io.read_exact(&mut body).await.unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    fn failures(&self, reason: &str) -> f64 {
        let families = self.metrics.gather();
        let family = families.iter().find(|family| family.name() == "anytime_http_connections_failed_total");
        let metric = family.and_then(|family| {
            family.get_metric().iter().find(|metric| metric.get_label()[0].value() == reason)
        });
        metric.map_or(0.0, |metric| metric.get_counter().get_value())
    }

    fn seconds(&self) -> u64 {
        self.since.elapsed().as_secs()
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_and_the_connection_kept() {
    let mut peer = connect(4096);
    for _ in 0..3 {
        peer.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let (head, body) = peer.answer().await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(body, "hello");
    }
    assert_eq!(peer.gate.open(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_socket_is_closed_on_time() {
    let mut peer = connect(4096);
    peer.rest().await;
    assert_eq!(peer.seconds(), 5);
    (&mut peer.server).await.unwrap();
    assert_eq!(peer.gate.open(), 0);
    assert_eq!(peer.failures("header_timeout"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_dripping_header_is_closed_on_time() {
    let mut peer = connect(4096);
    let head = "GET / HTTP/1.1\r\nHost: example.com\r\nX-Padding: aaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n";
    for byte in head.bytes() {
        sleep(Duration::from_secs(1)).await;
        if peer.io.write_u8(byte).await.is_err() || peer.server.is_finished() {
            break;
        }
    }
    assert!((5..=6).contains(&peer.seconds()), "closed after {} s", peer.seconds());
}

#[tokio::test(start_paused = true)]
async fn a_dripping_second_request_is_closed_on_time_too() {
    let mut peer = connect(4096);
    peer.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    peer.answer().await;
    sleep(Duration::from_secs(3)).await;
    for byte in "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n".bytes() {
        sleep(Duration::from_secs(1)).await;
        if peer.io.write_u8(byte).await.is_err() || peer.server.is_finished() {
            break;
        }
    }
    assert!((5..=9).contains(&peer.seconds()), "closed after {} s", peer.seconds());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_its_last_answer() {
    let mut peer = connect(4096);
    peer.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    peer.answer().await;
    peer.rest().await;
    assert_eq!(peer.seconds(), 5);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_given_up() {
    let mut peer = connect(1024);
    peer.send("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await;
    (&mut peer.server).await.unwrap();
    assert_eq!(peer.seconds(), WRITE_PATIENCE.as_secs());
    assert_eq!(peer.gate.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_reads_a_byte_a_second_does_not_stay_for_ever() {
    let mut peer = connect(1024);
    peer.send("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await;
    while !peer.server.is_finished() {
        sleep(Duration::from_secs(1)).await;
        if peer.io.read_u8().await.is_err() {
            break;
        }
    }
    (&mut peer.server).await.unwrap();
    let longest = (MAX_LIFE + LAST_REQUEST).as_secs();
    assert!(peer.seconds() <= longest + 1, "{} s", peer.seconds());
}

#[tokio::test(start_paused = true)]
async fn long_lines_of_joins_pass_to_their_bound() {
    const REST: &str = " HTTP/1.1\r\nHost: x\r\n";
    // The size of a long query includes the rest of its line; that of a token includes spaces and the line end.
    let query = MAX_LONG_BYTES - " HTTP/1.1\r\n".len();
    let token = MAX_LONG_BYTES - " \r\n".len();
    for piece in [1000, 1024 * 1024] {
        for (size, is_taken) in
            [(MAX_LONG_BYTES - 1, true), (MAX_LONG_BYTES, true), (MAX_LONG_BYTES + 1, false)]
        {
            let (query, token) = (query + size - MAX_LONG_BYTES, token + size - MAX_LONG_BYTES);
            let half = size / 2 - 20;
            for (head, lengths) in [
                (format!("GET /rtc?{}{REST}\r\n", "q".repeat(query)), format!("{query} 0")),
                (format!("GET /rtc{REST}Authorization: {}\r\n\r\n", "t".repeat(token)), format!("0 {token}")),
                (
                    format!(
                        "GET /rtc?{}{REST}Authorization: {}\r\n\r\n",
                        "q".repeat(query - half - " \r\n".len()),
                        "t".repeat(half)
                    ),
                    format!("{} {half}", query - half - " \r\n".len()),
                ),
            ] {
                let mut peer = connect(piece);
                peer.send(&head).await;
                let (status, text) = peer.answer().await;
                if is_taken {
                    assert!(status.starts_with("HTTP/1.1 200") && text == lengths, "{size}: {status} {text}");
                } else {
                    assert!(status.starts_with("HTTP/1.1 431"), "{size}: {status}");
                    assert_eq!(text, "the token and the join request are longer than 393216 bytes\n");
                    assert_eq!(peer.rest().await, "");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_other_header_keeps_the_smaller_bound() {
    const PIECE: usize = 64;
    for (begin, status) in [
        ("GET /?", "200"),
        ("GET / HTTP/1.1\r\nAuthorization: ", "200"),
        ("GET /rtc HTTP/1.1\r\nX-Big: ", "200"),
        ("GET /rtcs?", "404"),
        ("POST /echo?", "200"),
    ] {
        let end = if begin.ends_with('?') { " HTTP/1.1\r\n\r\n" } else { "\r\n\r\n" };
        let fitting = MAX_HEADER_BYTES - 1 - begin.len() - end.len();
        // The library checks its limit after each piece that it reads.
        for (length, status) in [(fitting, status), (fitting + 1 + PIECE, "431")] {
            let mut peer = connect(PIECE);
            let head = format!("{begin}{}{end}", "x".repeat(length));
            // The server may respond before it has read everything.
            drop(peer.io.write_all(head.as_bytes()).await);
            let text = peer.answer().await.0;
            assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{begin} {length}: {text}");
        }
    }
    let mut peer = connect(256 * 1024);
    let fields: String = (0..MAX_HEADER_FIELDS + 1).map(|index| format!("X-{index}: y\r\n")).collect();
    peer.send(&format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n")).await;
    let text = peer.rest().await;
    assert!(text.starts_with("HTTP/1.1 431"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn long_lines_of_all_connections_share_one_budget() {
    const BUDGET: usize = 200 * 1024;
    let budget = LineBudget::new(BUDGET);
    let long = |length: usize| format!("GET /rtc?{}", "q".repeat(length));
    const END: &str = " HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut first = connect_within(1024 * 1024, budget.clone());
    first.send(&long(150 * 1024)).await;
    tokio::task::yield_now().await;
    // The budget has no room for a second long line. A request without a long line needs none.
    let mut second = connect_within(1024 * 1024, budget.clone());
    for (head, status) in [(long(100 * 1024), "503"), (long(100), "200"), (long(100 * 1024), "503")] {
        second.send(&format!("{head}{END}")).await;
        let (answer, text) = second.answer().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        if status == "503" {
            assert!(answer.contains("retry-after: 2\r\n"), "{answer}");
            assert_eq!(text, "too many long join requests at the moment\n");
        }
    }
    // An answered request no longer holds any budget.
    first.send(END).await;
    assert_eq!(first.answer().await.1, format!("{} 0", 150 * 1024));
    assert_eq!(budget.left(), BUDGET);
    second.send(&format!("{}{END}", long(100 * 1024))).await;
    assert_eq!(second.answer().await.1, format!("{} 0", 100 * 1024));
    // Neither does a request that never ends.
    second.send(&long(100 * 1024)).await;
    second.rest().await;
    (&mut second.server).await.unwrap();
    assert_eq!(budget.left(), BUDGET);
}

#[tokio::test(start_paused = true)]
async fn noise_is_answered_with_an_error_at_most() {
    for noise in [
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}",
        "GET / HTTP/9.9\r\n\r\n",
        "\r\n\r\n\r\n",
    ] {
        let mut peer = connect(4096);
        peer.send(noise).await;
        let text = peer.rest().await;
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 400"), "{noise:?}: {text}");
        (&mut peer.server).await.unwrap();
        assert_eq!(peer.gate.open(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn slashes_at_the_beginning_collapse() {
    for path in ["//rtc/v1", "///rtc/v1?a=b", "/rtc/v1"] {
        let mut peer = connect(4096);
        peer.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        assert_eq!(peer.answer().await.1, "joined", "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn stopping_lets_the_request_under_way_finish() {
    let mut peer = connect(4096);
    peer.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    sleep(Duration::from_secs(1)).await;
    peer.stop.send_replace(true);
    let text = peer.rest().await;
    assert!(text.ends_with("late"), "{text}");
    assert_eq!(peer.seconds(), 5);

    let mut idle = connect(4096);
    idle.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    idle.answer().await;
    idle.stop.send_replace(true);
    idle.rest().await;
    assert_eq!(idle.seconds(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_and_takes_a_second_at_most() {
    let (mut near, far) = tokio::io::duplex(4096);
    let refused = tokio::spawn(timeout(REFUSAL_TIME, refuse(far)));
    near.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    near.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 503") && text.ends_with("too many connections\n"), "{text}");
    let since = Instant::now();
    drop(refused.await.unwrap());
    assert!(since.elapsed() <= REFUSAL_TIME);
}

#[tokio::test]
async fn the_listener_turns_away_what_is_too_much_and_recovers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = SocketLimits {
        gate: Gate::new(2, 0),
        header: Duration::from_secs(5),
        long_lines: LineBudget::default(),
        metrics: HttpMetrics::new(&Registry::new()).unwrap(),
    };
    let (stop, stopped) = watch::channel(false);
    let gate = Arc::clone(&limits.gate);
    let router = Router::new().route("/", get(async || "hello"));
    let server = tokio::spawn(serve(listener, router, limits, stopped));
    let ask = async |stream: &mut TcpStream| {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        String::from_utf8_lossy(&head).into_owned()
    };
    let mut first = TcpStream::connect(address).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(&mut first).await, "HTTP/1.1 200");
    assert_eq!(ask(&mut second).await, "HTTP/1.1 200");
    let mut third = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(&mut third).await, "HTTP/1.1 503");
    drop(first);
    while gate.open() > 1 {
        tokio::task::yield_now().await;
    }
    let mut fourth = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(&mut fourth).await, "HTTP/1.1 200");
    stop.send_replace(true);
    server.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "the listener is closed");
}
