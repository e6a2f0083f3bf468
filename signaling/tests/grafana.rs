//! Checks that the dashboard and the alerting rules use only metrics that `/metrics` has.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{Server, TestClock, config, exchange, rooms};
use futures_util::FutureExt;
use prometheus::Registry;
use sfu::{Node, NodeConfig};
use signaling::app::{AppState, Parts};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../grafana")
}

fn read(name: &str) -> String {
    let path = folder().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All words in `text` that begin with `anytime_`.
fn metrics_named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("anytime_")).map(str::to_owned).collect()
}

/// Metrics page of a complete server: HTTP, sessions and a media node.
async fn shown() -> String {
    let (events, _receiver) = tokio::sync::mpsc::channel(16);
    let settings =
        NodeConfig { workers: 1, loopback: true, udp_port: 0, pin_threads: false, ..NodeConfig::default() };
    let node = Arc::new(Node::start(&settings, &events).expect("a node on loopback"));
    let media = Box::new(move || {
        let node = Arc::clone(&node);
        async move { node.metrics().await }.boxed()
    });
    let clock = TestClock::new();
    let parts = Parts {
        rooms: rooms(),
        registry: Registry::new(),
        media_metrics: Some(media),
        inspect: None,
        clock: clock.clock(),
    };
    let state = AppState::new(config("development: true"), parts).expect("set up");
    let server = Server { state, clock };
    let io = server.connect_to(signaling::http::metrics::router(server.state.clone()));
    let answer = exchange(io, "GET /metrics HTTP/1.1\r\nHost: x", b"").await;
    assert_eq!(answer.status, 200);
    answer.body
}

#[tokio::test]
async fn nobody_is_known_of_whom_nothing_was_decided_and_the_main_listener_tells_nothing() {
    let server = common::server("development: true");
    let ask = "GET /debug/participants/a%20room/ada HTTP/1.1\r\nHost: x";
    let io = server.connect_to(signaling::http::metrics::router(server.state.clone()));
    let answer = exchange(io, ask, b"").await;
    assert_eq!((answer.status, answer.body.as_str()), (404, "no such participant on this node"));
    let io = server.connect_to(signaling::http::router(server.state.clone()));
    let answer = exchange(io, ask, b"").await;
    assert_eq!(answer.status, 404);
    assert_ne!(answer.body, "no such participant on this node");
}

#[tokio::test]
async fn dashboard_and_rules_name_only_metrics_that_are_shown() {
    let text = shown().await;
    let shown: BTreeSet<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    for file in ["anytime.json", "alerts.yaml", "alerts.test.yaml"] {
        let named = metrics_named(&read(file));
        assert!(!named.is_empty(), "{file} names no metric");
        let missing: Vec<_> = named.iter().filter(|name| !shown.contains(name.as_str())).collect();
        assert!(missing.is_empty(), "{file} names {missing:?}; shown are {shown:#?}");
    }
}

#[test]
fn the_dashboard_is_whole_and_every_panel_asks_something() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("anytime.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let (rows, panels): (Vec<_>, Vec<_>) = panels.iter().partition(|panel| panel["type"] == "row");
    assert_eq!(rows.len(), 6);
    let mut ids = BTreeSet::new();
    for panel in rows.iter().chain(&panels) {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{} has an id twice", panel["title"]);
    }
    for panel in panels {
        let place = &panel["gridPos"];
        let (x, width) = (place["x"].as_u64().expect("x"), place["w"].as_u64().expect("w"));
        assert!(x + width <= 24, "{} is outside the grid", panel["title"]);
        let targets = panel["targets"].as_array().expect("targets");
        let asks =
            |target: &serde_json::Value| !metrics_named(target["expr"].as_str().unwrap_or("")).is_empty();
        assert!(!targets.is_empty() && targets.iter().all(asks), "{} asks nothing", panel["title"]);
    }
}
