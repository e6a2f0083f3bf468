//! Metrics of the HTTP server, and the endpoints of the metrics listener.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use crate::app::AppState;
use crate::session::SessionStats;

/// Metrics of the HTTP server. Label values are fixed words only.
#[derive(Debug)]
pub struct HttpMetrics {
    connections: IntGauge,
    refused: IntCounterVec,
    closed: IntCounterVec,
    joins: IntCounterVec,
    tokens: IntCounterVec,
}

impl HttpMetrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// A metric of the same name is already registered.
    pub fn new(registry: &Registry) -> Result<Arc<Self>, prometheus::Error> {
        // Usual label values exist from the start. A series that appears only with its first event would show no rate
        // for that event.
        let counter = |name: &str, help: &str, label: &str, usual: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), &[label])?;
            for value in usual {
                counter.with_label_values(&[value]);
            }
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let connections =
            IntGauge::new("anytime_http_connections", "Connections open now, WebSockets included.")?;
        registry.register(Box::new(connections.clone()))?;
        Ok(Arc::new(Self {
            connections,
            refused: counter(
                "anytime_http_connections_refused_total",
                "Connections turned away at the door, by reason.",
                "reason",
                &["full", "address", "accept"],
            )?,
            closed: counter(
                "anytime_http_connections_failed_total",
                "Connections that ended in an error, by reason.",
                "reason",
                &["header_timeout", "malformed", "broken"],
            )?,
            joins: counter(
                "anytime_join_requests_total",
                "Join requests answered, by outcome.",
                "outcome",
                &["admitted"],
            )?,
            tokens: counter(
                "anytime_token_requests_total",
                "Requests to the token endpoint answered, by outcome.",
                "outcome",
                &["issued"],
            )?,
        }))
    }

    pub(super) fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    pub(super) fn closed(&self, reason: &str) {
        self.closed.with_label_values(&[reason]).inc();
    }

    pub(super) fn join(&self, outcome: &str) {
        self.joins.with_label_values(&[outcome]).inc();
    }

    pub(super) fn token(&self, outcome: &str) {
        self.tokens.with_label_values(&[outcome]).inc();
    }
}

/// Router of the metrics listener.
pub fn router(state: AppState) -> Router {
    Router::new()
        .route("/metrics", get(show))
        .route("/debug/participants/{room}/{identity}", get(inspect))
        .with_state(state)
}

/// Shows the recent decisions about a participant, with their reasons. Not on the main listener, because the response
/// is about individual people.
async fn inspect(State(app): State<AppState>, Path((room, identity)): Path<(String, String)>) -> Response {
    let found = match app.rooms().find(&room, &identity) {
        Some(participant) => app.inspect(participant).await,
        None => None,
    };
    match found {
        Some(inspection) => axum::Json(inspection).into_response(),
        None => (StatusCode::NOT_FOUND, "no such participant on this node").into_response(),
    }
}

async fn show(State(app): State<AppState>) -> Response {
    app.http_metrics().connections.set(i64::try_from(app.gate().open()).unwrap_or(i64::MAX));
    let mut families = app.registry().gather();
    families.extend(app.media_metrics().await);
    families.extend(sessions(app.rooms().stats()));
    families.sort_by(|one, other| one.name().cmp(other.name()));
    let mut text = Vec::new();
    match TextEncoder::new().encode(&families, &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Metric families of the sessions, made from their plain counters.
fn sessions(stats: &SessionStats) -> Vec<MetricFamily> {
    let registry = Registry::new();
    let open = IntGauge::new("anytime_sessions", "Signaling sessions open now.");
    if let Ok(gauge) = open {
        gauge.set(i64::try_from(stats.open.load(Ordering::Relaxed)).unwrap_or(i64::MAX));
        registry.register(Box::new(gauge)).ok();
    }
    for (name, help, counter) in [
        ("anytime_sessions_joined_total", "Sessions that got their place.", &stats.joined),
        ("anytime_sessions_refused_total", "Joins refused after the token was found good.", &stats.refused),
        ("anytime_sessions_resumed_total", "Sessions that went on with a new socket.", &stats.resumed),
        (
            "anytime_sessions_resumes_refused_total",
            "Resumes refused; clients start anew.",
            &stats.resumes_refused,
        ),
        ("anytime_sessions_panics_total", "Sessions ended by a contained panic.", &stats.panics),
        (
            "anytime_sessions_behind_total",
            "Sessions ended for being behind on events.",
            &stats.inbox_overflows,
        ),
        ("anytime_sessions_slow_total", "Sockets given up for not reading.", &stats.slow_clients),
        ("anytime_sessions_silent_total", "Sockets given up for being silent.", &stats.silent_clients),
        ("anytime_sessions_throttled_total", "Times a client was made to wait.", &stats.throttled),
    ] {
        if let Ok(metric) = IntCounter::new(name, help) {
            metric.inc_by(counter.load(Ordering::Relaxed));
            registry.register(Box::new(metric)).ok();
        }
    }
    labelled(&registry, "anytime_sessions_ended_total", "Sessions ended, by cause.", "cause", stats.ended());
    let help = "Messages and events without effect, by reason.";
    labelled(&registry, "anytime_sessions_discarded_total", help, "reason", stats.discarded());
    registry.gather()
}

fn labelled(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
    values: impl Iterator<Item = (&'static str, u64)>,
) {
    let Ok(metric) = IntCounterVec::new(Opts::new(name, help), &[label]) else { return };
    for (value, count) in values {
        metric.with_label_values(&[value]).inc_by(count);
    }
    registry.register(Box::new(metric)).ok();
}
