//! The binary `anytime`. This is the only file that links both the signaling service and the media node.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use futures_util::future::BoxFuture;
use rand::Rng;
use sfu::{Node, NodeConfig};
use sfu_protocol::PlayoutDelay;
use signaling::app::{self, AppState, Inspect, MediaMetrics, Parts};
use signaling::config::{Config, HumanDuration, ServeFlags};
use signaling::directory::MemoryDirectory;
use signaling::http::serve::bind;
use signaling::nodes::{CommandSink, Direct, LinkClosed};
use signaling::session::{Rooms, RoomsConfig};
use signaling::token::keys::{DEV_KEY, DEV_SECRET, Key, parse_keys};
use signaling::token::{Clock, Grants, Kind, VideoGrant, issue};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Capacity of the event channel from the media node to signaling. While it is full, the workers queue their events.
const EVENTS: usize = 4096;

/// The call service of a chat app: signaling and selective forwarding for WebRTC.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs signaling and media in one process.
    Serve(Box<ServeFlags>),
    /// Access tokens.
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Makes an access token and prints it.
    Create(Box<CreateToken>),
}

#[derive(Args)]
struct CreateToken {
    /// Identity of the participant, unique in the room.
    #[arg(long)]
    identity: String,
    /// Name of the room.
    #[arg(long)]
    room: String,
    /// Name of the participant, shown to others.
    #[arg(long, default_value = "")]
    name: String,
    /// Metadata of the participant: any text of the app.
    #[arg(long, default_value = "")]
    metadata: String,
    /// Attribute of the participant; may be given several times.
    #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = key_value)]
    attributes: Vec<(String, String)>,
    /// Lifetime of the token, for example 15m or 6h.
    #[arg(long, default_value = "6h")]
    valid_for: HumanDuration,
    /// Name of the API key.
    #[arg(long, requires = "secret", conflicts_with = "dev")]
    key: Option<String>,
    /// Secret of the API key. Without --key and --secret, the first key of ANYTIME_KEYS or LIVEKIT_KEYS is used.
    #[arg(long, requires = "key")]
    secret: Option<String>,
    /// Uses the key of `anytime serve --dev`.
    #[arg(long)]
    dev: bool,
    /// Forbids publishing tracks.
    #[arg(long)]
    no_publish: bool,
    /// Forbids receiving tracks.
    #[arg(long)]
    no_subscribe: bool,
    /// Forbids sending data.
    #[arg(long)]
    no_data: bool,
    /// Allows publishing only this source (camera, microphone, screen_share, screen_share_audio); may be given several
    /// times.
    #[arg(long = "source", value_parser = ["camera", "microphone", "screen_share", "screen_share_audio"])]
    sources: Vec<String>,
    /// Hides the participant from others.
    #[arg(long)]
    hidden: bool,
    /// Allows moderating the room.
    #[arg(long)]
    admin: bool,
    /// Allows the participant to change its own name, metadata and attributes.
    #[arg(long)]
    update_own_metadata: bool,
    /// Marks the participant as an agent.
    #[arg(long)]
    agent: bool,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(flags) => serve(&flags),
        Command::Token(TokenCommand::Create(create)) => create_token(*create),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("anytime: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(flags: &ServeFlags) -> Result<(), Failure> {
    let loaded = Config::load(flags, |name| std::env::var(name).ok())?;
    start_logging(&loaded.config)?;
    for warning in &loaded.warnings {
        tracing::warn!("configuration: {warning}");
    }
    // Media runs on threads of its own, and tasks of this runtime mostly wait for sockets, so few threads suffice.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(1, 4))
        .thread_name("anytime-control")
        .enable_all()
        .build()?;
    runtime.block_on(serve_in_runtime(loaded.config))
}

async fn serve_in_runtime(config: Config) -> Result<(), Failure> {
    let listeners = bind(&config.listen_ips(), config.port).await?;
    let metrics_address = config.metrics_address();
    let metrics_listener = TcpListener::bind(metrics_address)
        .await
        .map_err(|error| format!("cannot serve metrics on {metrics_address}: {error}"))?;
    let (events_in, events_out) = mpsc::channel(EVENTS);
    let node = Arc::new(Node::start(&node_config(&config)?, &events_in)?);
    drop(events_in);
    let link = Arc::new(Direct::new(ToNode(Arc::clone(&node))));
    tokio::spawn({
        let link = Arc::clone(&link);
        async move { link.run(events_out).await }
    });
    let rooms = Rooms::new(rooms_config(&config), Arc::new(MemoryDirectory::default()), link);
    tokio::spawn({
        let rooms = rooms.clone();
        async move { rooms.keep_house().await }
    });
    let parts = Parts {
        rooms,
        registry: prometheus::Registry::new(),
        media_metrics: Some(media_metrics(&node)),
        inspect: Some(inspect(&node)),
        clock: Clock::system(),
    };
    let state = AppState::new(config, parts)?;
    let addresses: Result<Vec<_>, _> = listeners.iter().map(TcpListener::local_addr).collect();
    announce(state.config(), &addresses?, metrics_listener.local_addr()?, &node);
    app::run(state, listeners, Some(metrics_listener), stop_requested()?).await;
    tokio::task::spawn_blocking(move || node.stop()).await?;
    println!("Stopped.");
    Ok(())
}

/// Sends commands to the media node in this process.
struct ToNode(Arc<Node>);

impl CommandSink for ToNode {
    fn send(&self, command: sfu_protocol::Command) -> BoxFuture<'_, Result<(), LinkClosed>> {
        Box::pin(async { self.0.send(command).await.map_err(|_| LinkClosed) })
    }
}

fn media_metrics(node: &Arc<Node>) -> MediaMetrics {
    let node = Arc::clone(node);
    Box::new(move || {
        let node = Arc::clone(&node);
        Box::pin(async move { node.metrics().await })
    })
}

fn inspect(node: &Arc<Node>) -> Inspect {
    let node = Arc::clone(node);
    Box::new(move |participant| {
        let node = Arc::clone(&node);
        Box::pin(async move { node.inspect(&participant).await })
    })
}

fn node_config(config: &Config) -> Result<NodeConfig, Failure> {
    let mut node = NodeConfig {
        workers: u16::try_from(config.rtc.workers)?,
        udp_port: config.rtc.udp_port,
        node_ips: config.rtc.node_ip.clone(),
        pin_threads: config.rtc.pin_threads,
        members_at_home: config.rtc.members_at_home,
        send_train: config.rtc.send_train,
        receive_buffer_bytes: config.rtc.receive_buffer_bytes,
        send_buffer_bytes: config.rtc.send_buffer_bytes,
        ..NodeConfig::default()
    };
    node.limits.published_tracks = config.limit.published_tracks;
    node.limits.pending_tracks = config.limit.pending_tracks;
    node.limits.loudest_tracks = config.limit.loudest_tracks;
    node.limits.media_sections = config.limit.media_sections;
    if config.development && node.node_ips.is_empty() {
        // Firefox sends to no loopback address, so all addresses are advertised. Media on them needs credentials, which
        // are given out on loopback only.
        node.node_ips = sfu::machine_addresses();
    }
    // The address of the HTTP listener does not matter: behind a reverse proxy, HTTP may listen on loopback while media
    // must not.
    node.loopback = config.development && node.node_ips.iter().all(IpAddr::is_loopback);
    Ok(node)
}

fn rooms_config(config: &Config) -> RoomsConfig {
    let mut rooms = RoomsConfig { auto_create: config.room.auto_create, ..RoomsConfig::default() };
    rooms.server.node_id = format!("ND_{:016x}", rand::rng().random::<u64>());
    rooms.room.empty_timeout_s = config.room.empty_timeout;
    rooms.room.departure_timeout_s = config.room.departure_timeout;
    rooms.room.max_participants = config.room.max_participants;
    let delay = &config.room.playout_delay;
    rooms.room.playout_delay = delay.enabled.then_some(PlayoutDelay { min_ms: delay.min, max_ms: delay.max });
    rooms.limits.dynacast_pause_delay = config.video.dynacast_pause_delay.into();
    rooms.limits.metadata = config.limit.max_metadata_size;
    rooms.limits.attributes = config.limit.max_attributes_size;
    rooms.limits.published_tracks = config.limit.published_tracks;
    rooms.limits.pending_tracks = config.limit.pending_tracks;
    rooms.limits.name = config
        .limit
        .max_participant_name_length
        .max(config.limit.max_participant_identity_length)
        .max(config.limit.max_room_name_length);
    rooms
}

/// Prints the addresses of the server for the person who starts it.
fn announce(config: &Config, listening: &[SocketAddr], metrics: SocketAddr, node: &Node) {
    let page = listening.iter().map(|address| address_to_open(*address)).next().unwrap_or_default();
    println!("Anytime {}", env!("CARGO_PKG_VERSION"));
    println!("  Call page   {page}");
    println!("  Clients     {}", page.replacen("http", "ws", 1));
    for (index, addresses) in node.candidates().iter().enumerate() {
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        println!("  Media {index}     UDP {}", addresses.join(", "));
    }
    println!("  Metrics     http://{metrics}/metrics");
    if config.development {
        println!(
            "  DEVELOPMENT MODE: API key `{DEV_KEY}`, secret `{DEV_SECRET}`, tokens for everybody who asks,"
        );
        println!("  from this machine only. Not for production.");
    }
}

fn address_to_open(address: SocketAddr) -> String {
    if address.ip().is_unspecified() || address.ip() == IpAddr::from([127, 0, 0, 1]) {
        // Browsers let pages of `localhost` use camera and microphone without a certificate.
        return format!("http://localhost:{}/", address.port());
    }
    format!("http://{address}/")
}

fn start_logging(config: &Config) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(config.logging.filter())
        .map_err(|error| format!("configuration: `logging.level`: {error}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    if config.logging.json {
        builder.json().init();
    } else {
        builder.init();
    }
    Ok(())
}

/// Future that completes at the first SIGINT or SIGTERM. A second signal ends the process at once.
fn stop_requested() -> Result<impl Future<Output = ()>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        println!("Stopping: participants are told. Once more to stop at once.");
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            std::process::exit(130);
        });
    })
}

fn create_token(create: CreateToken) -> Result<(), Failure> {
    let key = signing_key(&create)?;
    if create.identity.is_empty() || create.room.is_empty() {
        return Err("--identity and --room must not be empty".into());
    }
    let clock = Clock::system().now();
    let deny = |denied: bool| denied.then_some(false);
    let grants = Grants {
        identity: create.identity,
        name: create.name,
        metadata: create.metadata,
        attributes: create.attributes.into_iter().collect::<BTreeMap<_, _>>(),
        kind: if create.agent { Kind::Agent } else { Kind::Standard },
        kind_details: Vec::new(),
        video: VideoGrant {
            room_join: true,
            room: Some(create.room),
            can_publish: deny(create.no_publish),
            can_subscribe: deny(create.no_subscribe),
            can_publish_data: deny(create.no_data),
            can_publish_sources: create.sources,
            can_update_own_metadata: create.update_own_metadata.then_some(true),
            room_admin: create.admin,
            hidden: create.hidden,
            ..VideoGrant::default()
        },
        room_preset: String::new(),
        room_config: None,
        expires_at: clock.unix.saturating_add(create.valid_for.0.as_secs()),
    };
    let token = issue::issue(&key, &grants, clock.unix)?;
    println!("{token}");
    Ok(())
}

fn signing_key(create: &CreateToken) -> Result<Key, Failure> {
    if create.dev {
        return Ok(Key::new(DEV_KEY, DEV_SECRET));
    }
    if let (Some(key), Some(secret)) = (&create.key, &create.secret) {
        return Ok(Key::new(key, secret));
    }
    let lines = ["ANYTIME_KEYS", "LIVEKIT_KEYS"].into_iter().find_map(|name| std::env::var(name).ok());
    let pairs = parse_keys(&lines.unwrap_or_default())?;
    let (key, secret) =
        pairs.first().ok_or("say which key signs: --key and --secret, or ANYTIME_KEYS, or --dev")?;
    Ok(Key::new(key, secret))
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("{text:?} is not KEY=VALUE"))
}
