//! `loadtest`: what the server costs, beside the floor.

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
    /// Sealing and sending alone; needs no server.
    Floor(Load),
    /// CPU per forwarded packet of a server, beside the floor.
    Forward(ServerLoad),
    /// Resident memory per idle participant and per subscription.
    Memory(ServerOnly),
    /// Forwarding, then memory.
    Bench(ServerLoad),
    /// Fills a room of a running server with people who have a camera and a microphone, until standard input ends.
    Fill(Crowd),
    /// A narrow link in front of a UDP port, changed by JSON lines on standard input; prints what passed as JSON lines.
    Link(LinkShape),
}

#[derive(Args, Clone, Copy)]
struct Load {
    /// Participants who publish one video each.
    #[arg(long, default_value_t = 1)]
    publishers: usize,
    /// Participants who receive all of them.
    #[arg(long, default_value_t = 100)]
    subscribers: usize,
    /// Packets of a frame.
    #[arg(long, default_value_t = 9)]
    burst: usize,
    /// Frames a second.
    #[arg(long, default_value_t = 30)]
    fps: u32,
    /// Seconds that each run is measured.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Runs; the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

#[derive(Args)]
struct ServerLoad {
    /// The server's binary; it is started with --dev on free ports.
    #[arg(long)]
    server: PathBuf,
    /// Worker threads of the server (default: its own).
    #[arg(long)]
    workers: Option<u16>,
    /// Subscribers decrypt everything and report what arrives, as browsers do.
    #[arg(long)]
    reports: bool,
    #[command(flatten)]
    load: Load,
}

#[derive(Args)]
struct ServerOnly {
    /// The server's binary; it is started with --dev on free ports.
    #[arg(long)]
    server: PathBuf,
    /// Participants, and subscriptions.
    #[arg(long, default_value_t = 1000)]
    count: usize,
}

#[derive(Args)]
struct Crowd {
    /// The server, such as ws://127.0.0.1:7880, with the keys of --dev.
    #[arg(long)]
    url: String,
    /// Their room.
    #[arg(long)]
    room: String,
    /// How many they are.
    #[arg(long, default_value_t = 99)]
    people: usize,
    /// What all cameras show: a file with one VP8 key frame of at most 1,100 bytes.
    #[arg(long)]
    frame: PathBuf,
    /// Frames a second.
    #[arg(long, default_value_t = 2)]
    fps: u32,
}

#[derive(Args)]
struct LinkShape {
    /// Where clients send to.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The first line as if on standard input, such as {"to":"127.0.0.1:7882","down":{"rate_kbps":500}}. Of each
    /// direction: rate_kbps (0: any), bucket_bytes (0: none), queue_ms (0 with a bucket: a policer), delay_ms, loss (0 to
    /// 1), loss_burst (packets), blocked.
    #[arg(long, default_value = "{}")]
    order: String,
    /// Of what is lost by chance.
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
        // As many packets a second, whatever the burst.
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
/// Bytes of RTP payload that make about that, with header, extensions and tag.
const PAYLOAD_BYTES: usize = 1150;
/// Of each, as the documented numbers are.
const MEMORY_COUNT: usize = 1000;
