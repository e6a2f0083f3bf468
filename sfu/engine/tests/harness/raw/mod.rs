//! Participants whose RTP and RTCP packets a test makes and parses itself, above encryption. They can do what complete
//! clients do not, such as requesting lost audio or sending arbitrary packets.

pub mod audio;
pub mod person;
mod reports;
pub mod stun;
pub mod tap;
pub mod video;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use sfu_engine::limits::Limits;
use sfu_engine::shard::{FabricMessage, Input, Output, Shard, ShardConfig, ShardId, TRANSMIT_BUFFER};
use sfu_engine::transport::dtls::Certificate;
use sfu_protocol::{
    AddTrack, Command, Event, LayerQuality, MediaKind, ParticipantSid, SimulcastLayer, TrackDemand, TrackSid,
};

use super::network::Path;
use super::{ROOM, server_address};
use person::{Person, Setup};
use tap::Tap;

/// Interval at which participants handle their timers.
const TICK: Duration = Duration::from_millis(5);

/// Simulation of shards and packet-level participants in one room.
pub struct RawWorld {
    /// Present virtual time.
    pub now: Instant,
    /// Virtual time at which the simulation began.
    pub start: Instant,
    /// Shards of one server process.
    pub shards: Vec<Shard>,
    /// Participants.
    pub people: Vec<Person>,
    /// Link of each participant: the direction towards the server, then the direction from the server.
    pub links: Vec<(Path, Path)>,
    /// Participants that read their sockets late, by index.
    pub late: BTreeMap<usize, Late>,
    /// Sequence numbers of the packets that the server sent.
    pub tap: Tap,
    /// All events from the shards.
    pub events: Vec<Event>,
    /// Datagrams sent to participants with `notes_headers`, including those lost in the network.
    pub sent: Vec<Vec<u8>>,
    /// Real clock with which the CPU time of shards is measured, if any.
    pub stopwatch: Option<fn() -> Instant>,
    /// Time measured by `stopwatch`.
    pub spent: Duration,
    certificates: [Arc<Certificate>; 2],
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    flying: BTreeMap<u64, Flying>,
    order: u64,
    rng: SmallRng,
    timeouts: Vec<Instant>,
    tick: Instant,
    buffer: Vec<u8>,
}

/// Participant that does not read its socket for the first `stalls` of each period `every`.
#[derive(Debug, Clone, Copy)]
pub struct Late {
    pub every: Duration,
    pub stalls: Duration,
}

/// Datagram in flight.
struct Flying {
    person: usize,
    up: bool,
    data: Vec<u8>,
}

impl RawWorld {
    /// Creates a process of `shards` shards and an empty room, with the default limits.
    pub fn new(seed: u64, shards: u16) -> Self {
        Self::with_limits(seed, shards, &Limits::default())
    }

    /// Creates a process of `shards` shards and an empty room.
    pub fn with_limits(seed: u64, shards: u16, limits: &Limits) -> Self {
        #[expect(clippy::disallowed_methods, reason = "virtual time starts from some moment")]
        let start = Instant::now();
        let certificates = [(); 2].map(|()| Arc::new(Certificate::generate().expect("a certificate")));
        let make = |id: u16| {
            let config = ShardConfig {
                id: ShardId(id),
                shards,
                candidates: vec![server_address(usize::from(id))],
                rng_seed: seed ^ (u64::from(id) << 32),
                clock: (start, SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
                limits: limits.clone(),
            };
            Shard::new(config, Arc::clone(&certificates[0]))
        };
        Self {
            now: start,
            start,
            shards: (0..shards).map(make).collect(),
            people: Vec::new(),
            links: Vec::new(),
            late: BTreeMap::new(),
            tap: Tap::default(),
            events: Vec::new(),
            sent: Vec::new(),
            stopwatch: None,
            spent: Duration::ZERO,
            certificates,
            queue: BinaryHeap::new(),
            flying: BTreeMap::new(),
            order: 0,
            rng: SmallRng::seed_from_u64(seed),
            timeouts: vec![start; usize::from(shards)],
            tick: start,
            buffer: vec![0; TRANSMIT_BUFFER],
        }
    }

    /// Lets a participant join, announce its tracks, and make its offer. Returns the participant's index.
    pub fn join(&mut self, setup: Setup, link: Path) -> usize {
        let index = self.people.len();
        let certificates = [Arc::clone(&self.certificates[0]), Arc::clone(&self.certificates[1])];
        let person = Person::new(index, setup, certificates, self.now);
        let shard = person.shard;
        let commands = person.entrance(ROOM);
        self.people.push(person);
        self.links.push((link, link));
        for command in commands {
            self.command(shard, command);
        }
        if !self.people[index].setup.is_offered {
            self.offer(index);
        }
        index
    }

    /// Sends the participant's offer, which is always the same.
    pub fn offer(&mut self, who: usize) {
        let person = &self.people[who];
        let command = Command::Offer { participant: person.sid.clone(), id: 0, sdp: person.offer.clone() };
        self.command(person.shard, command);
    }

    /// Subscribes a participant to a track, and sends an offer so that the answer describes the track.
    pub fn subscribe(&mut self, who: usize, publisher: usize, track: &str, kind: MediaKind) {
        self.want(who, publisher, track, kind, TrackDemand::default());
        if !self.people[who].setup.is_offered {
            self.offer(who);
        }
    }

    /// Subscribes a participant to a track without an offer. One offer then serves several subscriptions.
    pub fn want(&mut self, who: usize, publisher: usize, track: &str, kind: MediaKind, demand: TrackDemand) {
        let participant = self.people[who].sid.clone();
        let publisher = self.people[publisher].sid.clone();
        let track = TrackSid::new(track);
        let command = Command::Subscribe { participant, track, publisher, kind, demand };
        self.command(self.people[who].shard, command);
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let queued = self.queue.peek().map(|Reverse((at, _))| *at);
            let next = self.timeouts.iter().copied().chain(queued).chain([self.tick]).min();
            let next = next.unwrap_or(end);
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            self.step();
        }
    }

    /// Passes a command to a shard immediately.
    pub fn command(&mut self, shard: usize, command: Command) {
        self.shards[shard].handle_input(self.now, Input::Command(command));
        self.drain(shard);
    }

    /// Sends the participant's pending datagrams.
    pub fn flush(&mut self, who: usize) {
        for data in std::mem::take(&mut self.people[who].outbox) {
            let delays = self.links[who].0.carry(&mut self.rng, self.now, data.len());
            for delay in delays {
                self.fly(delay, Flying { person: who, up: true, data: data.clone() });
            }
        }
    }

    fn fly(&mut self, delay: Duration, flying: Flying) {
        self.order += 1;
        self.queue.push(Reverse((self.now + delay, self.order)));
        self.flying.insert(self.order, flying);
    }

    fn step(&mut self) {
        while let Some(Reverse((_, order))) = self.queue.peek().filter(|Reverse((at, _))| *at <= self.now) {
            let order = *order;
            self.queue.pop();
            let Some(Flying { person, up, mut data }) = self.flying.remove(&order) else { continue };
            if up {
                let (source, shard) = (self.people[person].address, self.people[person].shard);
                let began = self.stopwatch.map(|read| read());
                let input = Input::Datagram { source, local: None, data: &mut data };
                self.shards[shard].handle_input(self.now, input);
                self.measure(began);
                self.drain(shard);
            } else {
                self.people[person].receive(self.now, &mut data);
                self.flush(person);
            }
        }
        for shard in 0..self.shards.len() {
            if self.timeouts[shard] <= self.now {
                self.shards[shard].handle_input(self.now, Input::Timeout);
                self.drain(shard);
            }
        }
        if self.tick <= self.now {
            self.tick = self.now + TICK;
            for who in 0..self.people.len() {
                self.people[who].advance(self.now);
                self.flush(who);
            }
        }
    }

    /// Handles all pending output of a shard.
    fn drain(&mut self, shard: usize) {
        let mut fabric: Vec<(usize, FabricMessage)> = Vec::new();
        let mut events = Vec::new();
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let began = self.stopwatch.map(|read| read());
            let output = self.shards[shard].poll_output(self.now, &mut buffer);
            self.measure(began);
            match output {
                Output::Transmit(transmit) => {
                    let segment = transmit.segment_size.unwrap_or(transmit.size).max(1);
                    let to = self.people.iter().position(|person| person.address == transmit.destination);
                    let Some(person) = to else { continue };
                    for datagram in buffer[..transmit.size].chunks(segment) {
                        if self.people[person].setup.notes_headers {
                            self.sent.push(datagram.to_vec());
                        }
                        self.tap.note(person, datagram);
                        let delays = self.links[person].1.carry(&mut self.rng, self.now, datagram.len());
                        for delay in delays {
                            let delay = delay + self.unread(person, self.now + delay);
                            self.fly(delay, Flying { person, up: false, data: datagram.to_vec() });
                        }
                    }
                }
                Output::Event(event) => events.push(event),
                Output::Fabric { to, message } => fabric.push((usize::from(to.0), message)),
                Output::Timeout(at) => {
                    self.timeouts[shard] = at;
                    break;
                }
            }
        }
        self.buffer = buffer;
        for (to, message) in fabric {
            self.shards[to].handle_input(self.now, Input::Fabric(message));
            self.drain(to);
        }
        for event in events {
            if let Event::Answer { participant, sdp, mid_to_track, .. } = &event
                && let Some(who) = self.person_of(participant)
            {
                self.people[who].answer(self.now, sdp, mid_to_track);
                self.flush(who);
            }
            if let Event::Offer { participant, id, sdp, mid_to_track } = &event
                && let Some(who) = self.person_of(participant)
            {
                let answer = self.people[who].take_offer(self.now, sdp, mid_to_track);
                self.flush(who);
                let (participant, shard) = (participant.clone(), self.people[who].shard);
                self.command(shard, Command::Answer { participant, id: *id, sdp: answer });
            }
            self.events.push(event);
        }
    }

    /// Time that a datagram arriving at `at` waits until the participant reads it.
    fn unread(&self, person: usize, at: Instant) -> Duration {
        let Some(Late { every, stalls }) = self.late.get(&person) else { return Duration::ZERO };
        let since = (at - self.start).as_nanos() % every.as_nanos();
        stalls.saturating_sub(Duration::from_nanos(since as u64))
    }

    fn measure(&mut self, began: Option<Instant>) {
        if let Some((read, began)) = self.stopwatch.zip(began) {
            self.spent += read() - began;
        }
    }

    fn person_of(&self, participant: &ParticipantSid) -> Option<usize> {
        self.people.iter().position(|person| person.sid == *participant)
    }
}

/// Announcement of a track.
pub fn announced(track: &str, kind: MediaKind, codec: &str) -> AddTrack {
    AddTrack {
        track: TrackSid::new(track),
        cids: vec![format!("cid-{track}")],
        kind,
        codecs: vec![codec.to_owned()],
        layers: Vec::new(),
        muted: false,
        stereo: false,
        disable_dtx: false,
        disable_red: false,
        encrypted: false,
        screen_share: false,
        playout_delay: None,
        part: sfu_protocol::TrackPart::default(),
    }
}

/// Announcement of `count` layers, each twice as wide as the previous one.
pub fn simulcast(count: usize) -> Vec<SimulcastLayer> {
    let qualities = [LayerQuality::Low, LayerQuality::Medium, LayerQuality::High];
    let layer = |(place, quality)| SimulcastLayer {
        quality,
        width: 320_u32 << place,
        height: 180_u32 << place,
        bitrate_bps: 0,
        ssrc: 0,
        repair_ssrc: 0,
        rid: String::new(),
    };
    qualities.into_iter().take(count).enumerate().map(layer).collect()
}
