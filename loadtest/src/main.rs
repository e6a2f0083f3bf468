//! `loadtest`: measures what the server costs, compared with the floor (the cost of encrypting and sending alone).

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use loadtest::client::publish::Stream;
use loadtest::crowd;
use loadtest::error::{Context, LoadError};
use loadtest::floor::{self, Pattern};
use loadtest::netem::proxy;
use loadtest::report::{self, Row};
use loadtest::scenario::{self, Forward};

#[derive(Parser)]
#[command(about = "Load and benchmark clients for Anytime")]
struct Arguments {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Measures the floor: encrypting and sending alone. Needs no server.
    Floor(Load),
    /// Measures the server's CPU time per forwarded packet, compared with the floor.
    Forward(ServerLoad),
    /// Measures resident memory per idle participant and per subscription.
    Memory(ServerOnly),
    /// Runs `forward`, then `memory`.
    Bench(ServerLoad),
    /// Fills a room of a running server with participants that have a camera and a microphone, until standard input
    /// ends.
    Fill(Crowd),
    /// Emulates a bad link in front of a UDP port. Reads changes as JSON lines on standard input; prints traffic
    /// statistics as JSON lines.
    Link(LinkShape),
}

#[derive(Args, Clone, Copy)]
struct Load {
    /// Participants that publish, one video track each.
    #[arg(long, default_value_t = 1)]
    publishers: usize,
    /// Participants that each receive all published tracks.
    #[arg(long, default_value_t = 100)]
    subscribers: usize,
    /// Packets per video frame.
    #[arg(long, default_value_t = 9)]
    burst: usize,
    /// Frames per second.
    #[arg(long, default_value_t = 30)]
    fps: u32,
    /// Duration of each measurement in seconds.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Number of runs; the result is the median run.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

#[derive(Args)]
struct ServerLoad {
    /// Path of the server binary, which is started with --dev on free ports.
    #[arg(long)]
    server: PathBuf,
    /// Worker threads of the server (default: the server's own default).
    #[arg(long)]
    workers: Option<u16>,
    /// Subscribers decrypt everything and send receiver feedback, as browsers do.
    #[arg(long)]
    reports: bool,
    #[command(flatten)]
    load: Load,
}

#[derive(Args)]
struct ServerOnly {
    /// Path of the server binary, which is started with --dev on free ports.
    #[arg(long)]
    server: PathBuf,
    /// Number of participants, and of subscriptions, to create.
    #[arg(long, default_value_t = 1000)]
    count: usize,
}

#[derive(Args)]
struct Crowd {
    /// URL of the server, such as ws://127.0.0.1:7880; the server must accept the keys of --dev.
    #[arg(long)]
    url: String,
    /// Room to join.
    #[arg(long)]
    room: String,
    /// Number of participants that join.
    #[arg(long, default_value_t = 99)]
    people: usize,
    /// File with one VP8 key frame of at most 1,100 bytes, which every camera sends repeatedly.
    #[arg(long)]
    frame: PathBuf,
    /// Frames per second.
    #[arg(long, default_value_t = 2)]
    fps: u32,
}

#[derive(Args)]
struct LinkShape {
    /// Address to which clients send.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// First order, in the format of the lines on standard input, such as
    /// {"to":"127.0.0.1:7882","down":{"rate_kbps":500}}. Fields per direction: rate_kbps (0: unlimited), bucket_bytes
    /// (0: no token bucket), queue_ms (0 together with a bucket: a policer), delay_ms, loss (0 to 1), loss_burst (mean
    /// number of consecutive packets lost), blocked.
    #[arg(long, default_value = "{}")]
    order: String,
    /// Seed of the random packet loss.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadtest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: What) -> Result<(), LoadError> {
    match what {
        What::Floor(load) => floors(load),
        What::Forward(asked) => forward(&asked),
        What::Memory(asked) => memory(&asked.server, asked.count),
        What::Bench(asked) => {
            forward(&asked)?;
            memory(&asked.server, MEMORY_COUNT)
        }
        What::Fill(asked) => {
            let frame = std::fs::read(&asked.frame).context("read the frame")?;
            crowd::run(&asked.url, &asked.room, asked.people, &frame, asked.fps)
        }
        What::Link(asked) => {
            let order =
                serde_json::from_str(&asked.order).map_err(io::Error::from).context("read the order")?;
            proxy::run(asked.listen, &order, asked.seed)
        }
    }
}

fn floors(load: Load) -> Result<(), LoadError> {
    let mut rows = Vec::new();
    for burst in [1, 3, load.burst] {
        // The packet rate stays the same for every burst length.
        let fps = load.fps * u32::try_from(load.burst).unwrap_or(1) / u32::try_from(burst).unwrap_or(1);
        let pattern = Pattern {
            receivers: load.subscribers,
            burst,
            fps,
            packet_bytes: PACKET_BYTES,
            streams: load.publishers,
        };
        eprintln!("floor: bursts of {burst}, {fps} a second, {} receivers", load.subscribers);
        rows.push((
            format!("bursts of {burst}"),
            floor::measure(pattern, Duration::from_secs(load.seconds))?,
        ));
    }
    println!("{}", report::floor(&rows));
    Ok(())
}

fn forward(asked: &ServerLoad) -> Result<(), LoadError> {
    let load = asked.load;
    let duration = Duration::from_secs(load.seconds);
    let stream = Stream { fps: load.fps, burst: load.burst, payload_bytes: PAYLOAD_BYTES };
    let scenario = Forward {
        publishers: load.publishers,
        subscribers: load.subscribers,
        stream,
        reports: asked.reports,
        duration,
        workers: asked.workers,
    };
    let mut runs = Vec::new();
    for number in 1..=load.runs {
        eprintln!("forward: run {number} of {}: floor, server, floor, {} s each", load.runs, load.seconds);
        let before = floor::measure(scenario.pattern(PACKET_BYTES), duration)?;
        let forwarded = scenario.run(&asked.server)?;
        if forwarded.undecrypted > 0 {
            eprintln!("forward: {} subscribers could not decrypt their sample", forwarded.undecrypted);
        }
        let packet_bytes = forwarded.packet_bytes.round() as usize;
        runs.push((before, forwarded, floor::measure(scenario.pattern(packet_bytes), duration)?));
    }
    let name = format!(
        "{} to {}, bursts of {} at {} a second{}",
        load.publishers,
        load.subscribers,
        load.burst,
        load.fps,
        if asked.reports { ", with reports" } else { "" }
    );
    println!("{}", report::forward(&[Row { name, runs }]));
    Ok(())
}

fn memory(server: &Path, count: usize) -> Result<(), LoadError> {
    eprintln!("memory: {count} participants and as many subscriptions");
    let (participants, subscriptions) = scenario::memory(server, count)?;
    println!("{}", report::memory(participants, subscriptions));
    Ok(())
}

/// Bytes of UDP payload of a video packet.
const PACKET_BYTES: usize = 1200;
/// Bytes of RTP payload that yield about `PACKET_BYTES` once header, extensions and authentication tag are added.
const PAYLOAD_BYTES: usize = 1150;
/// Number of participants and of subscriptions for which the documentation gives its figures.
const MEMORY_COUNT: usize = 1000;
