//! Complete HTTP server without sockets: requests go over pipes.

#![allow(dead_code, reason = "each test file uses its part")]

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::Registry;
use sfu_protocol::{Command, EndReason, Event};
use signaling::app::{AppState, Parts};
use signaling::config::{Config, ServeFlags};
use signaling::directory::MemoryDirectory;
use signaling::http::serve::{Connection, serve_connection};
use signaling::nodes::Direct;
use signaling::session::{Rooms, RoomsConfig};
use signaling::token::{Clock, Moment};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, watch};

/// Start time of every test, in Unix seconds.
pub const BEGIN: u64 = 1_750_000_000;

/// Clock that stands still until a test advances it.
#[derive(Clone)]
pub struct TestClock {
    origin: Instant,
    seconds: Arc<AtomicU64>,
}

impl TestClock {
    pub fn new() -> Self {
        Self { origin: Instant::now(), seconds: Arc::default() }
    }

    pub fn advance(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    pub fn unix(&self) -> u64 {
        BEGIN + self.seconds.load(Ordering::SeqCst)
    }

    pub fn clock(&self) -> Clock {
        let clock = self.clone();
        Clock::from_fn(move || {
            let seconds = clock.seconds.load(Ordering::SeqCst);
            Moment { unix: BEGIN + seconds, instant: clock.origin + Duration::from_secs(seconds) }
        })
    }
}

/// Parses a configuration from YAML.
pub fn config(yaml: &str) -> Config {
    let flags = ServeFlags { config_body: Some(yaml.to_owned()), ..ServeFlags::default() };
    Config::load(&flags, |_| None).unwrap_or_else(|error| panic!("{error}")).config
}

pub struct Server {
    pub state: AppState,
    pub clock: TestClock,
}

pub fn server(yaml: &str) -> Server {
    server_with_clock(yaml, TestClock::new())
}

pub fn server_with_clock(yaml: &str, clock: TestClock) -> Server {
    let parts = Parts {
        rooms: rooms(),
        registry: Registry::new(),
        media_metrics: None,
        inspect: None,
        clock: clock.clock(),
    };
    let state = AppState::new(config(yaml), parts).unwrap_or_else(|error| panic!("{error}"));
    Server { state, clock }
}

/// Identity whose join the media plane of the tests refuses.
pub const UNPLACED: &str = "unplaced";

/// Rooms with a media plane that accepts every join, except that of [`UNPLACED`], and does nothing else.
pub fn rooms() -> Rooms {
    let (commands, mut asked) = mpsc::channel(16);
    let link = Arc::new(Direct::new(commands));
    let media = Arc::clone(&link);
    tokio::spawn(async move {
        while let Some(command) = asked.recv().await {
            if let Command::Join(join) = command {
                let (participant, is_unplaced) = (join.participant, join.identity == UNPLACED);
                media.deliver(match is_unplaced {
                    true => Event::Ended { participant, reason: EndReason::NodeFull },
                    false => Event::Joined { participant, roster: Vec::new() },
                });
            }
        }
    });
    Rooms::new(RoomsConfig::default(), Arc::new(MemoryDirectory::default()), link)
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Server {
    /// Opens a connection to the main router. All connections have the same client address.
    pub fn connect(&self) -> DuplexStream {
        self.connect_to(signaling::http::router(self.state.clone()))
    }

    /// Opens a connection to `router`.
    pub fn connect_to(&self, router: axum::Router) -> DuplexStream {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let limits = self.state.socket_limits();
        let remote = IpAddr::from([192, 0, 2, 1]);
        let ticket = Arc::new(limits.gate.enter(remote).expect("a place"));
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(async move {
            let _never_stops = stop;
            serve_connection(far, Connection { remote, ticket }, router, &limits, stopped).await;
        });
        near
    }

    /// Sends `head` (request line and header fields, without the final empty line) and `body` on a new connection.
    pub async fn ask(&self, head: &str, body: &[u8]) -> Answer {
        exchange(self.connect(), head, body).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: calls.example"), b"").await
    }

    pub async fn post_token(&self, fields: &str, body: &str) -> Answer {
        let head = format!(
            "POST /v1/token HTTP/1.1\r\nHost: calls.example\r\nContent-Type: application/json{fields}"
        );
        self.ask(&head, body.as_bytes()).await
    }
}

/// Sends one request on a connection and reads the response.
pub async fn exchange(mut io: DuplexStream, head: &str, body: &[u8]) -> Answer {
    let mut request = format!("{head}\r\nConnection: close\r\n").replace("\r\n\r\n", "\r\n");
    if !body.is_empty() {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    let (mut read, mut write) = tokio::io::split(&mut io);
    let send = async {
        // The server may close the connection before it has read the whole request.
        let _may_fail = write.write_all(request.as_bytes()).await;
        let _may_fail = write.write_all(body).await;
    };
    let receive = async {
        let mut bytes = Vec::new();
        read.read_to_end(&mut bytes).await.expect("an answer");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let ((), text) = tokio::join!(send, receive);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}
