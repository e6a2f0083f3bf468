//! Load-test scenarios: forwarding and memory.

use std::path::Path;
use std::time::Duration;

use crate::client::publish::Stream;
use crate::client::{Role, SAMPLE, State};
use crate::drive::Drive;
use crate::error::LoadError;
use crate::floor::{Cost, Pattern};
use crate::server::Server;

/// Scenario with one or more publishers in one room, and many subscribers that each receive all of them.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// Number of participants that publish.
    pub publishers: usize,
    /// Number of participants that subscribe.
    pub subscribers: usize,
    /// Stream that each publisher sends.
    pub stream: Stream,
    /// Whether subscribers send receiver feedback.
    pub reports: bool,
    /// Duration of the measurement, without setup and warm-up.
    pub duration: Duration,
    /// Worker threads of the server; `None` leaves the server's default.
    pub workers: Option<u16>,
}

/// Result of a forwarding run.
#[derive(Debug, Clone, Copy)]
pub struct Forwarded {
    /// Packets that reached subscribers, and CPU time that the server process spent.
    pub cost: Cost,
    /// Packets that should have reached subscribers.
    pub expected: u64,
    /// Video packets sent according to the server's metrics.
    pub server_says: f64,
    /// Mean UDP payload of a received packet, in bytes.
    pub packet_bytes: f64,
    /// Subscribers that received media but decrypted fewer than [`SAMPLE`] packets.
    pub undecrypted: usize,
}

/// Resident memory of all participants, or of all subscriptions.
#[derive(Debug, Clone, Copy)]
pub struct Resident {
    /// Number of participants or subscriptions.
    pub count: usize,
    /// Memory of all of them together, in bytes.
    pub bytes: u64,
}

impl Forward {
    /// Pattern with which the floor for this scenario is measured.
    pub fn pattern(&self, packet_bytes: usize) -> Pattern {
        Pattern {
            receivers: self.subscribers,
            burst: self.stream.burst,
            fps: self.stream.fps,
            packet_bytes,
            streams: self.publishers,
        }
    }

    /// Starts a server from `binary` and runs the scenario against it.
    ///
    /// # Errors
    /// Any failure of the server or of a client before or during the measurement.
    pub fn run(&self, binary: &Path) -> Result<Forwarded, LoadError> {
        let server = Server::start(binary, self.workers)?;
        let mut drive = Drive::new(server.url())?;
        let publishers = publishers(&mut drive, "forward", self.publishers, self.stream)?;
        for number in 0..self.subscribers {
            let role = Role::Subscribe { sections: self.publishers, reports: self.reports };
            drive.join("forward", &format!("subscriber-{number}"), &role)?;
            if number % JOINS_AT_ONCE == 0 {
                drive.run_for(Duration::from_millis(20))?;
            }
        }
        let everyone = self.publishers + self.subscribers;
        drive.run_until("transports", everyone, SETUP, |client| client.state() == State::Connected)?;
        publishers.iter().for_each(|number| drive.start(*number));
        let sample = SAMPLE.max(self.stream.burst as u64);
        drive.run_until("media", self.subscribers, SETUP, |client| client.received().packets > sample)?;
        drive.run_for(WARM_UP)?;
        self.measured(&server, &mut drive)
    }

    fn measured(&self, server: &Server, drive: &mut Drive) -> Result<Forwarded, LoadError> {
        let totals = |drive: &Drive| {
            let clients = drive.clients().iter();
            let all = clients
                .map(|client| (client.received().packets, client.received().bytes, client.published()));
            all.fold((0, 0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1, sum.2 + one.2))
        };
        let (before, from) = (totals(drive), server.sample()?);
        drive.run_for(self.duration)?;
        let (after, to) = (totals(drive), server.sample()?);
        let packets = after.0 - before.0;
        let expected = (after.2 - before.2) * self.subscribers as u64;
        let short = |client: &&crate::client::Client| {
            client.received().packets > 0 && client.received().decrypted < SAMPLE
        };
        Ok(Forwarded {
            cost: Cost { packets, sent: expected, cpu: to.cpu.saturating_sub(from.cpu) },
            expected,
            server_says: to.video_sent - from.video_sent,
            packet_bytes: (after.1 - before.1) as f64 / packets.max(1) as f64,
            undecrypted: drive.clients().iter().filter(short).count(),
        })
    }
}

/// Measures resident memory of idle participants and of subscriptions, `count` of each, in rooms of ten. The same
/// participants join two servers. On the second server one participant per room publishes before the others join.
///
/// # Errors
/// Any failure of the server or of a client.
pub fn memory(binary: &Path, count: usize) -> Result<(Resident, Resident), LoadError> {
    let rooms = count.div_ceil(PER_ROOM);
    let mut totals = [0_u64; 2];
    let mut empty = [0_u64; 2];
    let mut subscriptions = 0;
    for (publish, (total, empty)) in [false, true].into_iter().zip(totals.iter_mut().zip(&mut empty)) {
        let server = Server::start(binary, None)?;
        let mut drive = Drive::new(server.url())?;
        // Filling one room first excludes what the process allocates only once.
        fill(&mut drive, usize::MAX, publish)?;
        *empty = server.resident_bytes()?;
        for room in 0..rooms {
            fill(&mut drive, room, publish)?;
        }
        drive.run_for(SETTLE)?;
        *total = server.resident_bytes()?;
        if publish {
            subscriptions = server.metric("anytime_subscriptions", &[])? as usize;
        }
    }
    let grown =
        |place: usize| totals.get(place).zip(empty.get(place)).map_or(0, |(all, none)| all - none.min(all));
    let subscriptions = subscriptions.saturating_sub(PER_ROOM);
    let participants = Resident { count: rooms * (PER_ROOM + 1), bytes: grown(0) };
    Ok((participants, Resident { count: subscriptions, bytes: grown(1).saturating_sub(grown(0)) }))
}

/// Adds a room of one participant, which publishes if `publish` is set, and ten participants that subscribe.
fn fill(drive: &mut Drive, room: usize, publish: bool) -> Result<(), LoadError> {
    let room = format!("memory-{room}");
    let stream = Stream { fps: 1, burst: 1, payload_bytes: 100 };
    let first = if publish { Role::Publish(stream) } else { Role::Idle };
    let connected = |client: &crate::client::Client| client.state() == State::Connected;
    drive.join(&room, &format!("{room}-first"), &first)?;
    drive.run_until("transports", drive.clients().len(), SETUP, connected)?;
    for number in 0..PER_ROOM {
        drive.join(&room, &format!("{room}-{number}"), &Role::Subscribe { sections: 1, reports: false })?;
    }
    drive.run_until("transports", drive.clients().len(), SETUP, connected)
}

fn publishers(drive: &mut Drive, room: &str, count: usize, stream: Stream) -> Result<Vec<usize>, LoadError> {
    let joined =
        (0..count).map(|number| drive.join(room, &format!("publisher-{number}"), &Role::Publish(stream)));
    let numbers = joined.collect::<Result<Vec<_>, _>>()?;
    drive.run_until("publishers", count, SETUP, |client| client.state() == State::Connected)?;
    Ok(numbers)
}

/// Joins between two calls that process the server's answers.
const JOINS_AT_ONCE: usize = 10;
/// Subscribers per room in the memory scenario.
const PER_ROOM: usize = 10;
/// Timeout for all clients to connect.
const SETUP: Duration = Duration::from_secs(60);
/// Time before the measurement begins.
const WARM_UP: Duration = Duration::from_secs(2);
/// Time after which the server has freed its handshake buffers.
const SETTLE: Duration = Duration::from_secs(3);
