//! State shared by all requests, and the service's run from start to shutdown.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use prometheus::Registry;
use prometheus::proto::MetricFamily;
use sfu_protocol::ParticipantSid;
use sfu_protocol::inspect::Inspection;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::{Config, ConfigError};
use crate::http;
use crate::http::gate::Gate;
use crate::http::metrics::{self, HttpMetrics};
use crate::http::serve::{LineBudget, SocketLimits, serve};
use crate::http::tokens::TokenPolicy;
use crate::session::Rooms;
use crate::token::Clock;
use crate::token::idp::{IdentityProvider, ProviderConfigError};
use crate::token::keys::KeyStore;
use crate::token::policy::{Policy, PolicyConfigError};

/// Time that sessions have to close at shutdown.
const GOODBYE: Duration = Duration::from_secs(5);
/// Maximum number of connections of the metrics listener.
const METRICS_CONNECTIONS: usize = 64;

/// Reason why the service cannot be set up.
#[derive(Debug, Error)]
pub enum SetupError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The identity provider's configuration is invalid.
    #[error(transparent)]
    Provider(#[from] ProviderConfigError),
    /// The token policy's configuration is invalid.
    #[error(transparent)]
    Policy(#[from] PolicyConfigError),
    /// Metrics could not be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Function that asks the media node for its metrics.
pub type MediaMetrics = Box<dyn Fn() -> BoxFuture<'static, Vec<MetricFamily>> + Send + Sync>;

/// Function that asks the media node for its recent decisions about a participant. `None` if the participant is
/// unknown.
pub type Inspect = Box<dyn Fn(ParticipantSid) -> BoxFuture<'static, Option<Inspection>> + Send + Sync>;

/// State shared by all requests. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<App>);

struct App {
    config: Config,
    keys: KeyStore,
    rooms: Rooms,
    token_policy: TokenPolicy,
    clock: Clock,
    gate: Arc<Gate>,
    long_lines: LineBudget,
    registry: Registry,
    media_metrics: Option<MediaMetrics>,
    inspect: Option<Inspect>,
    http_metrics: Arc<HttpMetrics>,
    is_stopping: AtomicBool,
}

/// Arguments of [`AppState::new`] besides the configuration.
pub struct Parts {
    /// Rooms of this process, with their link to the media plane.
    pub rooms: Rooms,
    /// Registry for the metrics of the signaling service.
    pub registry: Registry,
    /// Source of the media node's metrics; absent if no node runs in this process.
    pub media_metrics: Option<MediaMetrics>,
    /// Source of the media node's decisions; absent if no node runs in this process.
    pub inspect: Option<Inspect>,
    /// Source of the time.
    pub clock: Clock,
}

impl AppState {
    /// Sets up the state. Nothing listens yet.
    ///
    /// # Errors
    /// The configuration is invalid, or a metric cannot be registered.
    pub fn new(config: Config, parts: Parts) -> Result<Self, SetupError> {
        let token_policy = token_policy(&config, &parts.clock)?;
        let http_metrics = HttpMetrics::new(&parts.registry)?;
        let gate = Gate::new(config.limit.connections, config.limit.connections_per_ip);
        Ok(Self(Arc::new(App {
            keys: config.key_store()?,
            rooms: parts.rooms,
            token_policy,
            clock: parts.clock,
            gate,
            long_lines: LineBudget::default(),
            registry: parts.registry,
            media_metrics: parts.media_metrics,
            inspect: parts.inspect,
            http_metrics,
            is_stopping: AtomicBool::new(false),
            config,
        })))
    }

    /// Configuration of the service.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Configured API keys.
    pub fn keys(&self) -> &KeyStore {
        &self.0.keys
    }

    /// Rooms of this process.
    pub fn rooms(&self) -> &Rooms {
        &self.0.rooms
    }

    /// Rule that decides who gets a token from `POST /v1/token`.
    pub fn token_policy(&self) -> &TokenPolicy {
        &self.0.token_policy
    }

    /// Source of the time.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Connection counter and limits of the main listeners.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.0.gate
    }

    /// Registry for the metrics of the signaling service.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Metrics of the HTTP server.
    pub fn http_metrics(&self) -> &Arc<HttpMetrics> {
        &self.0.http_metrics
    }

    /// Current metrics of the media node; empty if no node runs in this process.
    pub async fn media_metrics(&self) -> Vec<MetricFamily> {
        match &self.0.media_metrics {
            Some(ask) => ask().await,
            None => Vec::new(),
        }
    }

    /// Recent decisions of the media node about a participant. `None` if the participant is unknown or no node runs in
    /// this process.
    pub async fn inspect(&self, participant: ParticipantSid) -> Option<Inspection> {
        let ask = self.0.inspect.as_ref()?;
        ask(participant).await
    }

    /// Whether shutdown has begun.
    pub fn is_stopping(&self) -> bool {
        self.0.is_stopping.load(Ordering::Relaxed)
    }

    /// Limits for connections of the main listeners.
    pub fn socket_limits(&self) -> SocketLimits {
        SocketLimits {
            gate: Arc::clone(&self.0.gate),
            header: self.0.config.limit.header_timeout.into(),
            long_lines: self.0.long_lines.clone(),
            metrics: Arc::clone(&self.0.http_metrics),
        }
    }
}

fn token_policy(config: &Config, clock: &Clock) -> Result<TokenPolicy, SetupError> {
    if config.identity_provider.issuer.is_empty() {
        return Ok(if config.development { TokenPolicy::Everybody } else { TokenPolicy::Nobody });
    }
    let provider = IdentityProvider::new(&config.identity_provider, clock.clone())?;
    Ok(TokenPolicy::Checked(Box::new((provider, Policy::new(&config.identity_provider)?))))
}

/// Serves until `stop` completes. Then it accepts no new connections, tells every session to close and lets pending
/// requests finish.
pub async fn run(
    state: AppState,
    listeners: Vec<TcpListener>,
    metrics_listener: Option<TcpListener>,
    stop: impl Future<Output = ()>,
) {
    let (stopping, stopped) = watch::channel(false);
    let router = http::router(state.clone());
    let mut servers: Vec<_> = listeners
        .into_iter()
        .map(|listener| tokio::spawn(serve(listener, router.clone(), state.socket_limits(), stopped.clone())))
        .collect();
    if let Some(listener) = metrics_listener {
        let limits = SocketLimits { gate: Gate::new(METRICS_CONNECTIONS, 0), ..state.socket_limits() };
        servers.push(tokio::spawn(serve(listener, metrics::router(state.clone()), limits, stopped)));
    }
    let warm_up = tokio::spawn({
        let state = state.clone();
        async move {
            if let TokenPolicy::Checked(checked) = state.token_policy() {
                checked.0.warm_up().await;
            }
        }
    });
    stop.await;
    warm_up.abort();
    state.0.is_stopping.store(true, Ordering::Relaxed);
    stopping.send_replace(true);
    if !state.rooms().shutdown(GOODBYE).await {
        tracing::warn!("some participants did not take their goodbye in time");
    }
    for ended in join_all(servers).await {
        if let Err(error) = ended {
            tracing::error!(%error, "a listener did not end as it should");
        }
    }
}
