//! One core's peers and rooms. Its whole API is [`Shard::handle_input`] and [`Shard::poll_output`]. The shard is the
//! only module that knows both peers and rooms. It makes no decisions: it passes values between the modules that do.

pub mod fabric;
pub mod io;

mod allocate;
mod announce;
mod backlog;
mod commands;
mod contain;
mod data;
mod demux;
mod flow;
mod forward;
mod hear;
mod holds;
mod membership;
mod negotiate;
mod participant;
mod publish;
mod quality;
mod receive;
mod rendition;
mod replicate;
mod service;
mod speak;
mod subscribe;
mod timers;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use sfu_protocol::inspect::Inspection;
use sfu_protocol::{Event, ParticipantSid, RoomSid};
use slab::Slab;

pub use backlog::BacklogLevel;
pub use fabric::{FabricClass, FabricMessage, RoomMessage};
pub use io::{Input, Output, ShardConfig, ShardId};

use crate::handles::{ParticipantIndex, PeerIndex, RoomIndex, TrackHandle};
use crate::media_packet::TrackId;
use crate::peer::{Peer, Stirred};
use crate::room::{Room, Track};
use crate::stats::Stats;
pub use crate::transmit::Transmit;
use crate::transport::dtls::Certificate;
use demux::Demux;
use participant::Participant;
use timers::Timers;

/// Minimum size of the buffer passed to [`Shard::poll_output`], in bytes: the largest UDP send.
pub const TRANSMIT_BUFFER: usize = 65_535;

/// [`Output::Timeout`] asks for a call after this time when no deadline is scheduled.
const IDLE: Duration = Duration::from_secs(1);

/// Timer resolution: a peer's deadline is never scheduled sooner than this from now.
const TIMER_GRAIN: Duration = Duration::from_millis(1);

/// The media engine of one core. It shares no mutable state with other shards.
pub struct Shard {
    config: ShardConfig,
    certificate: Arc<Certificate>,
    peers: Slab<Peer>,
    participants: Slab<Participant>,
    participant_by_sid: HashMap<ParticipantSid, ParticipantIndex>,
    rooms: Slab<Room>,
    room_by_sid: HashMap<RoomSid, RoomIndex>,
    tracks: HashMap<TrackId, TrackHandle>,
    next_track: u64,
    demux: Demux,
    timers: Timers<PeerIndex>,
    room_timers: Timers<RoomIndex>,
    participant_timers: Timers<ParticipantIndex>,
    touched: VecDeque<PeerIndex>,
    /// Number of peers at the front of `touched` whose state has been prefetched into the CPU cache.
    fetched: usize,
    batch: forward::Batch,
    allocation: allocate::Allocation,
    events: VecDeque<Event>,
    fabric: VecDeque<(ShardId, FabricMessage)>,
    /// Fabric messages from this shard to itself. They are common: a room's home is often the sending shard.
    loopback: VecDeque<FabricMessage>,
    doomed: Vec<(ParticipantIndex, membership::Ending)>,
    /// Participants whose wanted tracks have changed since media sections were last negotiated.
    unnegotiated: Vec<ParticipantIndex>,
    /// Senders of reliable data to receivers on this shard.
    flows: holds::Flows,
    credit: flow::Credit,
    /// Peers whose received data is read again because their sender no longer has to wait.
    released: VecDeque<PeerIndex>,
    /// Participants with a backlog of reliable data.
    laggards: Vec<ParticipantIndex>,
    laggards_due: Option<Instant>,
    rng: SmallRng,
    stats: Stats,
    #[cfg(feature = "fault-injection")]
    fault: Option<crate::peer::Fault>,
}

impl Shard {
    /// An empty shard. All shards of a process share one certificate.
    pub fn new(config: ShardConfig, certificate: Arc<Certificate>) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(config.rng_seed),
            certificate,
            peers: Slab::new(),
            participants: Slab::new(),
            participant_by_sid: HashMap::new(),
            rooms: Slab::new(),
            room_by_sid: HashMap::new(),
            tracks: HashMap::new(),
            next_track: u64::from(config.id.0) << 48,
            demux: Demux::default(),
            timers: Timers::default(),
            room_timers: Timers::default(),
            participant_timers: Timers::default(),
            touched: VecDeque::new(),
            fetched: 0,
            batch: forward::Batch::default(),
            allocation: allocate::Allocation::default(),
            events: VecDeque::new(),
            fabric: VecDeque::new(),
            loopback: VecDeque::new(),
            doomed: Vec::new(),
            unnegotiated: Vec::new(),
            flows: holds::Flows::default(),
            credit: flow::Credit::new(config.shards),
            released: VecDeque::new(),
            laggards: Vec::new(),
            laggards_due: None,
            stats: Stats::default(),
            #[cfg(feature = "fault-injection")]
            fault: None,
            config,
        }
    }

    /// Handles one input. Afterwards call [`poll_output`](Self::poll_output) until it returns [`Output::Timeout`].
    /// Several inputs may be passed in first; batching them gives longer send runs.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        if !matches!(input, Input::Datagram { .. } | Input::Fabric(FabricMessage::Media(_))) {
            self.flush_batch();
        }
        match input {
            Input::Datagram { source, local, data } => self.handle_datagram(now, source, local, data),
            Input::Command(command) => self.handle_command(now, command),
            Input::Fabric(message) => self.handle_fabric(now, message),
            Input::Timeout => self.handle_timeout(now),
        }
        self.settle(now);
    }

    /// Returns the next action for the caller to carry out. `buffer` is at least [`TRANSMIT_BUFFER`] bytes.
    pub fn poll_output(&mut self, now: Instant, buffer: &mut [u8]) -> Output {
        self.flush_batch();
        self.negotiate_all();
        self.settle(now);
        if let Some(event) = self.events.pop_front() {
            return Output::Event(event);
        }
        if let Some((to, message)) = self.fabric.pop_front() {
            return Output::Fabric { to, message };
        }
        while let Some(peer) = self.touched.front().copied() {
            self.fetch_transports();
            if let Some(transmit) = self.poll_peer(now, peer, buffer) {
                return Output::Transmit(transmit);
            }
            self.touched.pop_front();
            self.fetched = self.fetched.saturating_sub(1);
            self.reschedule(now, peer);
        }
        if let Some(event) = self.events.pop_front() {
            return Output::Event(event);
        }
        if let Some((to, message)) = self.fabric.pop_front() {
            return Output::Fabric { to, message };
        }
        if !self.unnegotiated.is_empty() {
            // Work done above has queued more negotiations.
            return Output::Timeout(now);
        }
        let next = [self.timers.next(), self.room_timers.next(), self.participant_timers.next()];
        let next = next.into_iter().chain([self.laggards_due]).flatten().min();
        Output::Timeout(next.unwrap_or(now + IDLE))
    }

    /// Counters so far, with the gauges brought up to date.
    pub fn stats(&mut self) -> &Stats {
        self.stats.participants = self.participants.len() as u64;
        self.stats.rooms = self.rooms.len() as u64;
        let peers = || self.peers.iter().map(|(_, peer)| peer);
        self.stats.media_sections = peers().map(|peer| peer.negotiation.sections() as u64).sum();
        self.stats.sources = peers().map(|peer| peer.transport.sources() as u64).sum();
        self.stats.pacer_queued = self.peers.iter().map(|(_, peer)| peer.egress.queued() as u64).sum();
        let waiting = self.laggards.iter().filter_map(|index| self.participants.get(index.0));
        self.stats.data_waiting = waiting.map(|entry| entry.backlog.bytes() as u64).sum();
        &self.stats
    }

    /// Decisions about what a participant receives, with their reasons; `None` if it is not on this shard.
    pub fn inspect(&self, participant: &ParticipantSid, now: Instant) -> Option<Inspection> {
        let entry = self.participants.get(self.participant(participant)?.0)?;
        let peer = self.peers.get(entry.receiver().0)?;
        Some(peer.egress.inspect(participant.clone(), now))
    }

    /// Counters for the worker to increment on the shard's behalf: refused sends, full mailboxes.
    pub fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }

    /// Makes a participant's peers panic once at the place `fault`, for tests of panic containment.
    #[cfg(feature = "fault-injection")]
    pub fn inject(&mut self, participant: &ParticipantSid, fault: crate::peer::Fault) {
        let peers = self.participant(participant).and_then(|index| self.participants.get(index.0));
        for index in peers.into_iter().flat_map(Participant::peers) {
            if let Some(peer) = self.peers.get_mut(index.0) {
                peer.inject(fault);
            }
        }
    }

    /// Makes the shard panic once at the place `fault`, in code that runs for no participant of this shard.
    #[cfg(feature = "fault-injection")]
    pub fn inject_for_nobody(&mut self, fault: crate::peer::Fault) {
        self.fault = Some(fault);
    }

    #[cfg(feature = "fault-injection")]
    fn fail_at(&mut self, place: crate::peer::Fault) {
        if self.fault == Some(place) {
            self.fault = None;
            panic!("injected fault: {place:?}");
        }
    }

    /// Does the work that inputs left queued: messages to this shard itself, participants to end, peers to read from.
    fn settle(&mut self, now: Instant) {
        loop {
            if let Some(message) = self.loopback.pop_front() {
                self.handle_fabric(now, message);
            } else if let Some((participant, ending)) = self.doomed.pop() {
                self.end(now, participant, ending);
            } else if let Some(peer) = self.released.pop_front() {
                self.contained_peer(peer, |shard| shard.drain_transport(now, peer));
                self.touch(peer);
            } else {
                return;
            }
        }
    }

    fn send_fabric(&mut self, to: ShardId, message: FabricMessage) {
        if to == self.config.id {
            self.loopback.push_back(message);
        } else {
            self.fabric.push_back((to, message));
        }
    }

    fn send_home(&mut self, room: RoomIndex, message: RoomMessage) {
        let Some(room) = self.rooms.get(room.0) else { return };
        let sid = room.sid.clone();
        self.send_fabric(home_of(&sid, self.config.shards), FabricMessage::Room { room: sid, message });
    }

    /// Marks a peer as dirty: it may have something to send, or its deadline may have moved.
    fn touch(&mut self, index: PeerIndex) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        peer.stirred = Stirred::Wholly;
        if !std::mem::replace(&mut peer.touched, true) {
            self.touched.push_back(index);
        }
    }
}

fn track_in(rooms: &Slab<Room>, handle: TrackHandle) -> Option<&Track> {
    rooms.get(handle.room.0)?.tracks.get(handle.track)
}

fn track_in_mut(rooms: &mut Slab<Room>, handle: TrackHandle) -> Option<&mut Track> {
    rooms.get_mut(handle.room.0)?.tracks.get_mut(handle.track)
}

/// The room's home shard, which keeps its authoritative roster. Every shard of a process computes the same one.
pub fn home_of(room: &RoomSid, shards: u16) -> ShardId {
    // FNV-1a is stable across processes and versions; the standard library's hasher does not promise that.
    let hash = room.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    ShardId((hash % u64::from(shards.max(1))) as u16)
}
