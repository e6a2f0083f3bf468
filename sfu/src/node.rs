//! The crate's public API: starts the workers and routes commands to them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus::proto::MetricFamily;
use rand::TryRngCore;
use rand::rngs::OsRng;
use sfu_engine::shard::{ShardConfig, ShardId};
use sfu_engine::{Certificate, CertificateError};
use sfu_protocol::inspect::Inspection;
use sfu_protocol::{Command, Event, ParticipantSid};
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::config::NodeConfig;
use crate::mailbox::{MailSender, Refused, Request};
use crate::metrics;
use crate::routes::Routes;
use crate::udp::{Udp, UdpError, UdpSettings};
use crate::worker::{Report, Surroundings, Worker};

/// Reason why a node did not start, or no longer accepts commands.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A worker's sockets could not be opened.
    #[error(transparent)]
    Udp(#[from] UdpError),
    /// `udp_port` is too high for one port per worker.
    #[error("udp_port {port} and {workers} workers pass port 65535")]
    PortRange {
        /// Configured `udp_port`.
        port: u16,
        /// Number of workers.
        workers: u16,
    },
    /// A worker could not be set up or its thread not started.
    #[error("cannot start worker {worker}: {source}")]
    Worker {
        /// Index of the worker.
        worker: u16,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The DTLS certificate could not be generated.
    #[error("cannot make a DTLS certificate: {0}")]
    Certificate(CertificateError),
    /// The operating system supplied no random numbers.
    #[error("no random numbers from the system: {0}")]
    Random(String),
    /// The node was stopped.
    #[error("the media node has stopped")]
    Stopped,
}

/// Reason why [`Node::try_send`] did not accept a command.
#[derive(Debug)]
pub enum TrySendError {
    /// The worker's mailbox is full. [`Node::send`] waits for room instead.
    Full(Box<Command>),
    /// The node was stopped.
    Stopped,
}

/// Running media node. Dropping it stops the workers.
#[derive(Debug)]
pub struct Node {
    workers: Vec<MailSender>,
    candidates: Vec<Vec<SocketAddr>>,
    routes: Arc<Routes>,
    /// Number of ignored commands about unknown participants.
    stale: AtomicU64,
    threads: Threads,
}

impl Node {
    /// Binds the sockets and starts the workers. Events go to `events`. While that channel is full, the workers queue
    /// events in order; with a large backlog they handle no further commands.
    ///
    /// # Errors
    /// A socket cannot be bound, a thread cannot be started, or the certificate cannot be generated.
    pub fn start(config: &NodeConfig, events: &mpsc::Sender<Event>) -> Result<Self, NodeError> {
        let count = config.worker_count();
        let mut made = Vec::with_capacity(usize::from(count));
        for index in 0..count {
            made.push(make_worker(config, ShardId(index), count)?);
        }
        let workers: Vec<MailSender> = made.iter().map(|made| made.mail.clone()).collect();
        let candidates: Vec<_> = made.iter().map(|made| made.candidates.clone()).collect();
        let routes = Arc::new(Routes::new(count, config.members_at_home));
        let cores = cores_for(config, count);
        let clock = clock::pair();
        let certificate = Arc::new(Certificate::generate().map_err(NodeError::Certificate)?);
        let mut node =
            Self { workers, candidates, routes, stale: AtomicU64::new(0), threads: Threads::default() };
        for (index, made) in made.into_iter().enumerate() {
            let id = made.id;
            let shard = ShardConfig {
                id,
                shards: count,
                candidates: made.candidates,
                rng_seed: OsRng.try_next_u64().map_err(|error| NodeError::Random(error.to_string()))?,
                clock,
                limits: config.limits.clone(),
            };
            let surroundings = Surroundings {
                peers: node.workers.clone(),
                events: events.clone(),
                routes: Arc::clone(&node.routes),
                core: cores.get(index).copied(),
            };
            let thread = made
                .worker
                .start(shard, Arc::clone(&certificate), surroundings)
                .map_err(|source| NodeError::Worker { worker: id.0, source })?;
            node.threads.keep(thread);
        }
        Ok(node)
    }

    /// Sends a command to the worker that holds its participant. Waits while that worker's mailbox is full. Commands of
    /// one participant are carried out in the order of these calls. A command about an unknown participant is counted
    /// and ignored, because commands and events may cross in transit.
    ///
    /// # Errors
    /// [`NodeError::Stopped`] if the node was stopped.
    pub async fn send(&self, command: Command) -> Result<(), NodeError> {
        let Some(worker) = self.route(&command) else { return Ok(()) };
        worker.request(Request::Command(command)).await.map_err(|_| NodeError::Stopped)
    }

    /// Sends a command as [`Node::send`] does, but without waiting.
    ///
    /// # Errors
    /// The worker's mailbox is full, or the node was stopped.
    pub fn try_send(&self, command: Command) -> Result<(), TrySendError> {
        let leaves = matches!(command, Command::Leave { .. });
        let Some(worker) = self.find(&command) else { return Ok(()) };
        let participant = command.participant().clone();
        match worker.try_request(Request::Command(command)) {
            Ok(()) => {
                if leaves {
                    self.routes.remove(&participant);
                }
                Ok(())
            }
            Err(Refused::Full(Request::Command(command))) => Err(TrySendError::Full(Box::new(command))),
            Err(_) => Err(TrySendError::Stopped),
        }
    }

    /// Each worker's addresses, as advertised to clients in ICE candidates.
    pub fn candidates(&self) -> &[Vec<SocketAddr>] {
        &self.candidates
    }

    /// Current metrics, summed over the workers, without labels per participant. A worker that does not answer in time
    /// is missing from the sums and is counted in `anytime_scrape_missed_workers`.
    pub async fn metrics(&self) -> Vec<MetricFamily> {
        let mut asked = Vec::with_capacity(self.workers.len());
        for worker in &self.workers {
            let (answer, report) = oneshot::channel();
            // If the mailbox is full, the worker counts as missed.
            let _ = worker.try_request(Request::Scrape(answer));
            asked.push(report);
        }
        let mut reports: Vec<Report> = Vec::with_capacity(asked.len());
        for report in asked {
            if let Ok(Ok(report)) = tokio::time::timeout(SCRAPE_TIMEOUT, report).await {
                reports.push(report);
            }
        }
        metrics::families(&reports, self.workers.len(), self.stale.load(Ordering::Relaxed))
    }

    /// Recent decisions about a participant, with their reasons. `None` if the participant is unknown, or its worker's
    /// mailbox is full or the worker does not answer in time.
    pub async fn inspect(&self, participant: &ParticipantSid) -> Option<Inspection> {
        let worker = self.workers.get(usize::from(self.routes.find(participant)?.0))?;
        let (answer, inspection) = oneshot::channel();
        worker.try_request(Request::Inspect(participant.clone(), answer)).ok()?;
        tokio::time::timeout(SCRAPE_TIMEOUT, inspection).await.ok()?.ok()?
    }

    /// Stops the workers and waits for their threads. Commands that are still queued are lost, so disconnect
    /// participants first.
    pub fn stop(&self) {
        for worker in &self.workers {
            worker.stop();
        }
        self.threads.join();
    }

    /// Worker for a command. A join assigns the participant to a worker; a leave removes the assignment.
    fn route(&self, command: &Command) -> Option<&MailSender> {
        let worker = self.find(command)?;
        if matches!(command, Command::Leave { .. }) {
            self.routes.remove(command.participant());
        }
        Some(worker)
    }

    fn find(&self, command: &Command) -> Option<&MailSender> {
        let shard = match command {
            Command::Join(join) => Some(self.routes.join(&join.participant, &join.room)),
            other => self.routes.find(other.participant()),
        };
        let worker = shard.and_then(|shard| self.workers.get(usize::from(shard.0)));
        if worker.is_none() {
            self.stale.fetch_add(1, Ordering::Relaxed);
        }
        worker
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Worker threads to wait for when the node stops.
#[derive(Debug, Default)]
struct Threads(std::sync::Mutex<Vec<JoinHandle<()>>>);

impl Threads {
    fn keep(&mut self, thread: JoinHandle<()>) {
        self.0.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).push(thread);
    }

    fn join(&self) {
        let mut threads = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A worker that panics aborts the process, so no error can show here.
            let _ = thread.join();
        }
    }
}

/// Worker before its thread is started, with its mailbox and addresses.
struct Made {
    id: ShardId,
    worker: Worker,
    mail: MailSender,
    candidates: Vec<SocketAddr>,
}

fn make_worker(config: &NodeConfig, id: ShardId, count: u16) -> Result<Made, NodeError> {
    let range = || NodeError::PortRange { port: config.udp_port, workers: count };
    let port = match config.udp_port {
        0 => 0,
        base => base.checked_add(id.0).ok_or_else(range)?,
    };
    let addresses: Vec<_> = config.bind_ips().into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
    let settings = UdpSettings {
        receive_buffer_bytes: config.receive_buffer_bytes,
        send_buffer_bytes: config.send_buffer_bytes,
        send_train: config.send_train,
    };
    let udp = Udp::bind(&addresses, settings)?;
    let candidates = udp.local_addresses().flat_map(|local| advertised(config, local)).collect();
    let (mail, worker) = Worker::new(id, udp).map_err(|source| NodeError::Worker { worker: id.0, source })?;
    Ok(Made { id, worker, mail, candidates })
}

/// Addresses under which clients can reach a socket.
fn advertised(config: &NodeConfig, local: SocketAddr) -> Vec<SocketAddr> {
    let port = local.port();
    if config.loopback {
        return vec![local];
    }
    let named = config.node_ips.iter().filter(|ip| ip.is_ipv4() == local.is_ipv4());
    let named: Vec<_> = named.map(|ip| SocketAddr::new(*ip, port)).collect();
    if !named.is_empty() {
        return named;
    }
    if !local.ip().is_unspecified() {
        return vec![local];
    }
    match default_route(local.is_ipv4()) {
        Some(ip) => vec![SocketAddr::new(ip, port)],
        None => Vec::new(),
    }
}

/// Local address of the machine's default route. It is found by connecting a UDP socket, which sends nothing.
fn default_route(v4: bool) -> Option<IpAddr> {
    let (any, documentation): (IpAddr, IpAddr) = if v4 {
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into())
    } else {
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((documentation, 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

/// Cores to pin the workers to; empty if pinning is off or there are fewer cores than workers.
fn cores_for(config: &NodeConfig, count: u16) -> Vec<core_affinity::CoreId> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if config.pin_threads && cores.len() >= usize::from(count) { cores } else { Vec::new() }
}

/// Time that a scrape or an inspection waits for a worker.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use sfu_protocol::{
        ClientTraits, ConnectionMode, Join, LeaveReason, ParticipantSid, Permissions, RoomSid,
    };

    use super::*;

    fn loopback(workers: u16) -> NodeConfig {
        NodeConfig { workers, loopback: true, udp_port: 0, pin_threads: false, ..NodeConfig::default() }
    }

    fn join(participant: &str) -> Command {
        Command::Join(Box::new(Join {
            room: RoomSid::new("RM_a"),
            participant: ParticipantSid::new(participant),
            identity: participant.to_owned(),
            hidden: false,
            permissions: Permissions::default(),
            mode: ConnectionMode::Single,
            client: ClientTraits::default(),
            never_pause: false,
            info: bytes::Bytes::new(),
        }))
    }

    fn leave(participant: &str) -> Command {
        Command::Leave { participant: ParticipantSid::new(participant), reason: LeaveReason::ClientInitiated }
    }

    fn value(families: &[MetricFamily], name: &str) -> Option<f64> {
        let family = families.iter().find(|family| family.name() == name)?;
        Some(family.get_metric().iter().map(metrics::value).sum())
    }

    #[tokio::test]
    async fn workers_have_ports_of_their_own_and_answer_scrapes_until_stopped() {
        let (events, _receiver) = mpsc::channel(16);
        let node = Node::start(&loopback(3), &events).expect("loopback");
        let mut ports: Vec<u16> = node.candidates().iter().flatten().map(SocketAddr::port).collect();
        assert!(node.candidates().iter().flatten().all(|address| address.ip().is_loopback()));
        let all = ports.len();
        ports.sort_unstable();
        ports.dedup();
        assert!(ports.len() == all && all >= 3);
        let families = node.metrics().await;
        assert_eq!(value(&families, "anytime_workers"), Some(3.0));
        assert_eq!(value(&families, "anytime_scrape_missed_workers"), Some(0.0));
        node.stop();
        assert!(matches!(node.send(join("PA_1")).await, Err(NodeError::Stopped)));
        let families = node.metrics().await;
        assert_eq!(value(&families, "anytime_scrape_missed_workers"), Some(3.0));
    }

    #[tokio::test]
    async fn commands_about_nobody_are_counted_and_harm_nobody() {
        let (events, _receiver) = mpsc::channel(16);
        let node = Node::start(&loopback(1), &events).expect("loopback");
        node.send(leave("PA_nobody")).await.expect("ignored");
        node.send(join("PA_1")).await.expect("running");
        node.try_send(leave("PA_1")).expect("room");
        node.try_send(leave("PA_1")).expect("ignored");
        let families = node.metrics().await;
        let drops = families.iter().find(|family| family.name() == "anytime_drops_total").expect("drops");
        let stale = drops
            .get_metric()
            .iter()
            .find(|metric| metric.get_label().iter().any(|label| label.value() == "stale_message"));
        assert_eq!(stale.map(metrics::value), Some(2.0));
    }

    #[tokio::test]
    async fn what_was_decided_about_somebody_can_be_looked_at() {
        let (events, _receiver) = mpsc::channel(16);
        let node = Node::start(&loopback(2), &events).expect("loopback");
        assert_eq!(node.inspect(&ParticipantSid::new("PA_1")).await, None);
        node.send(join("PA_1")).await.expect("running");
        let seen = node.inspect(&ParticipantSid::new("PA_1")).await.expect("it is here");
        assert_eq!(seen.participant, ParticipantSid::new("PA_1"));
        assert!(seen.link.is_none() && seen.subscriptions.is_empty() && seen.decisions.is_empty());
        node.send(leave("PA_1")).await.expect("running");
        assert_eq!(node.inspect(&ParticipantSid::new("PA_1")).await, None);
    }

    #[tokio::test]
    async fn a_node_whose_ports_do_not_suffice_says_so() {
        let (events, _receiver) = mpsc::channel(16);
        let config = NodeConfig { udp_port: u16::MAX, ..loopback(2) };
        let error = Node::start(&config, &events).expect_err("one port too few");
        assert!(matches!(error, NodeError::PortRange { .. } | NodeError::Udp(_)), "{error}");
    }

    #[test]
    fn advertised_addresses_are_the_named_ones_of_the_sockets_family() {
        let any = SocketAddr::from(([0, 0, 0, 0], 7882));
        let named = IpAddr::from([203, 0, 113, 5]);
        let config =
            NodeConfig { node_ips: vec![named, Ipv6Addr::LOCALHOST.into()], ..NodeConfig::default() };
        assert_eq!(advertised(&config, any), [SocketAddr::new(named, 7882)]);
        let bound = SocketAddr::from(([127, 0, 0, 1], 7882));
        assert_eq!(advertised(&NodeConfig::default(), bound), [bound]);
        let dev = NodeConfig { loopback: true, ..config };
        assert_eq!(advertised(&dev, bound), [bound]);
    }
}
