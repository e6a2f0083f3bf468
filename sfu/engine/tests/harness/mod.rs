//! Simulation in virtual time: shards and clients on a seeded network, without clock or sockets. Hours pass in seconds,
//! and a seed reproduces a failure.

#![allow(dead_code, reason = "every test file uses its part of the harness")]

pub mod client;
pub mod network;
pub mod packets;
pub mod raw;
pub mod report;
pub mod scalable;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use sfu_engine::limits::Limits;
use sfu_engine::shard::{FabricMessage, Input, Output, Shard, ShardConfig, ShardId, TRANSMIT_BUFFER};
use sfu_engine::transport::dtls::Certificate;
use sfu_protocol::{
    AddTrack, BackupPolicy, ClientTraits, Command, ConnectionMode, Event, Join, LayerQuality, LeaveReason,
    MediaKind, ParticipantSid, Permissions, RoomSid, RosterChange, SimulcastLayer, TrackDemand, TrackPart,
    TrackSid,
};
use str0m::format::Codec;

use client::{Client, NewPublisher};
use network::Path;
use scalable::Mode;

/// Whole simulation: shards, clients and the network between them.
pub struct World {
    /// Present virtual time.
    pub now: Instant,
    /// Virtual time at which the simulation began.
    pub start: Instant,
    /// Shards of one server process.
    pub shards: Vec<Shard>,
    pub clients: Vec<Client>,
    /// Link of each client: the direction towards the server, then the direction from the server.
    pub links: Vec<(Path, Path)>,
    /// All events from the shards, with their times.
    pub events: Vec<(Instant, Event)>,
    /// Number of datagrams that the server sent, by destination.
    pub sent: BTreeMap<SocketAddr, u64>,
    /// Selects datagrams that receivers drop after they have passed the link.
    pub unseen: fn(&[u8]) -> bool,
    /// Whether every client subscribes to every track of other clients.
    pub auto_subscribe: bool,
    /// How often a shard was called because its timeout expired.
    pub wakeups: u64,
    /// Whether tracks announced from now on are screen shares; has no effect on scalable streams.
    pub screen_share: bool,
    /// Delay between the offer of a scalable stream and its first frame.
    pub encoders_take: Duration,
    /// Whether events are discarded, as benchmarks want.
    pub quiet: bool,
    published: Vec<(ParticipantSid, TrackSid, MediaKind)>,
    /// Sids of backup-codec tracks, to which no client subscribes.
    backups: Vec<TrackSid>,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    rng: SmallRng,
    timeouts: Vec<Instant>,
    buffer: Vec<u8>,
    next_track: u32,
}

enum Delivery {
    ToShard { shard: usize, source: SocketAddr, data: Vec<u8> },
    ToClient { client: usize, source: SocketAddr, data: Vec<u8> },
}

struct Scheduled {
    at: Instant,
    order: u64,
    delivery: Delivery,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Room that all tests use.
pub const ROOM: &str = "RM_test";

impl World {
    /// Creates a process of `shards` shards with the default limits.
    pub fn new(seed: u64, shards: u16) -> Self {
        Self::with_limits(seed, shards, &Limits::default())
    }

    /// Creates a process of `shards` shards.
    pub fn with_limits(seed: u64, shards: u16, limits: &Limits) -> Self {
        println!("seed {seed}");
        #[expect(clippy::disallowed_methods, reason = "virtual time starts from some moment")]
        let start = Instant::now();
        let certificate = Arc::new(Certificate::generate().expect("a certificate"));
        let make = |id: u16| {
            let config = ShardConfig {
                id: ShardId(id),
                shards,
                candidates: vec![server_address(usize::from(id))],
                rng_seed: seed ^ (u64::from(id) << 32),
                clock: (start, SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
                limits: limits.clone(),
            };
            Shard::new(config, Arc::clone(&certificate))
        };
        Self {
            now: start,
            start,
            shards: (0..shards).map(make).collect(),
            clients: Vec::new(),
            links: Vec::new(),
            events: Vec::new(),
            sent: BTreeMap::new(),
            unseen: |_| false,
            auto_subscribe: true,
            wakeups: 0,
            screen_share: false,
            encoders_take: Duration::ZERO,
            quiet: false,
            published: Vec::new(),
            backups: Vec::new(),
            queue: BinaryHeap::new(),
            order: 0,
            rng: SmallRng::seed_from_u64(seed),
            timeouts: vec![start; usize::from(shards)],
            buffer: vec![0; TRANSMIT_BUFFER],
            next_track: 0,
        }
    }

    /// Lets a new client join the room on `shard`, over a link with `delay` in each direction. Returns the client's
    /// index.
    pub fn join(&mut self, name: &str, shard: usize, delay: Duration) -> usize {
        self.enter(name, shard, delay, Client::new)
    }

    /// Like [`join`](Self::join), for a client that works with RTP packets instead of frames.
    pub fn join_raw(&mut self, name: &str, shard: usize, delay: Duration) -> usize {
        self.enter(name, shard, delay, Client::raw)
    }

    fn enter(
        &mut self,
        name: &str,
        shard: usize,
        delay: Duration,
        make: impl Fn(&str, SocketAddr, usize, Instant) -> Client,
    ) -> usize {
        let index = self.clients.len();
        let address = SocketAddr::from(([10, 0, (index / 250) as u8, (index % 250) as u8 + 1], 5000));
        let client = make(name, address, shard, self.now);
        let participant = client.participant.clone();
        self.clients.push(client);
        self.links.push((Path::with_delay(delay), Path::with_delay(delay)));
        self.command(
            shard,
            Command::Join(Box::new(Join {
                room: RoomSid::new(ROOM),
                participant,
                identity: name.to_owned(),
                hidden: false,
                permissions: Permissions::default(),
                mode: ConnectionMode::Single,
                client: ClientTraits { aead_srtp: true, firefox: false },
                never_pause: false,
                info: Bytes::copy_from_slice(name.as_bytes()),
            })),
        );
        index
    }

    /// Announces and offers a video track with these layers: RID and frame bytes of each. Returns the track.
    pub fn publish_video(&mut self, client: usize, layers: &[(&str, usize)]) -> TrackSid {
        self.publish(client, Codec::Vp8, layers, Duration::from_micros(33_333), 0)
    }

    /// Announces and offers an audio track. Returns the track.
    pub fn publish_audio(&mut self, client: usize) -> TrackSid {
        self.publish(client, Codec::Opus, &[("", 80)], Duration::from_millis(20), 0)
    }

    /// Announces and offers a track. Returns the track.
    pub fn publish(
        &mut self,
        client: usize,
        codec: Codec,
        layers: &[(&str, usize)],
        interval: Duration,
        time_offset: u64,
    ) -> TrackSid {
        let (announced, new) = self.announcement(codec, layers);
        let track = announced.track.clone();
        let new = NewPublisher { interval, time_offset, ..new };
        let participant = self.clients[client].participant.clone();
        let shard = self.clients[client].shard;
        self.command(shard, Command::AddTrack { participant, track: Box::new(announced) });
        self.offer(client, &[new]);
        track
    }

    /// Stops a video track and publishes it again, both in one offer. The new section has another id than the announced
    /// one, as with browsers; the announcement repeats `cid`, the id of the first publication.
    pub fn publish_again(
        &mut self,
        client: usize,
        before: &TrackSid,
        cid: &str,
        layers: &[(&str, usize)],
        announced_first: bool,
    ) -> TrackSid {
        let (mut announced, new) = self.announcement(Codec::Vp8, layers);
        let track = announced.track.clone();
        announced.cids = vec![cid.to_owned()];
        self.clients[client].cease(before);
        let participant = self.clients[client].participant.clone();
        let shard = self.clients[client].shard;
        let announce = Command::AddTrack { participant, track: Box::new(announced) };
        if announced_first {
            self.command(shard, announce);
            self.offer(client, &[new]);
        } else {
            self.offer(client, &[new]);
            self.command(shard, announce);
        }
        track
    }

    /// Sends an offer that adds these tracks to what the client offered before.
    pub fn offer(&mut self, client: usize, publish: &[NewPublisher]) {
        let (audios, videos) = self.spare_sections(client);
        let sdp = self.clients[client].offer(publish, audios, videos, self.now);
        let participant = self.clients[client].participant.clone();
        self.command(self.clients[client].shard, Command::Offer { participant, id: 0, sdp });
    }

    /// Makes a new track: its announcement, and what the client publishes.
    pub fn announcement(&mut self, codec: Codec, layers: &[(&str, usize)]) -> (AddTrack, NewPublisher) {
        self.next_track += 1;
        let track = TrackSid::new(format!("TR_{}", self.next_track));
        let cid = format!("cid{}", self.next_track);
        let kind = if codec == Codec::Opus { MediaKind::Audio } else { MediaKind::Video };
        let qualities = [LayerQuality::Low, LayerQuality::Medium, LayerQuality::High];
        let described = layers.iter().zip(qualities).enumerate().map(|(place, ((rid, _), quality))| {
            let scale = 1 << (layers.len() - 1 - place);
            SimulcastLayer {
                quality,
                width: 1280 / scale,
                height: 720 / scale,
                bitrate_bps: 0,
                ssrc: 0,
                repair_ssrc: 0,
                rid: (*rid).to_owned(),
            }
        });
        let announced = AddTrack {
            track: track.clone(),
            cids: vec![cid.clone()],
            kind,
            codecs: vec![if codec == Codec::Opus { "opus" } else { "vp8" }.to_owned()],
            layers: described.collect(),
            muted: false,
            stereo: false,
            disable_dtx: false,
            disable_red: true,
            encrypted: false,
            screen_share: self.screen_share,
            playout_delay: None,
            part: TrackPart::default(),
        };
        let interval = if kind == MediaKind::Audio { 20_000 } else { 33_333 };
        let new = NewPublisher {
            track,
            cid,
            layers: layers.iter().map(|(rid, bytes)| ((*rid).to_owned(), *bytes)).collect(),
            interval: Duration::from_micros(interval),
            codec,
            time_offset: 0,
        };
        (announced, new)
    }

    /// Announces and offers a scalable stream of a client that works with packets. Returns the track.
    pub fn publish_scalable(&mut self, client: usize, mode: Mode, codec: Codec, encrypted: bool) -> TrackSid {
        self.publish_part(client, mode, codec, encrypted, TrackPart::default())
    }

    /// Like [`publish_scalable`](Self::publish_scalable), for a track that is also available in the codecs `backups`.
    pub fn publish_promising(
        &mut self,
        client: usize,
        mode: Mode,
        codec: Codec,
        backups: &[&str],
        policy: BackupPolicy,
    ) -> TrackSid {
        let backups = backups.iter().map(|codec| (*codec).to_owned()).collect();
        self.publish_part(client, mode, codec, false, TrackPart::Main { backups, policy })
    }

    /// Publishes a track in another codec. Returns the sid of this backup, which is known only to the publisher's
    /// session.
    pub fn publish_backup(&mut self, client: usize, of: &TrackSid, mode: Mode, codec: Codec) -> TrackSid {
        self.publish_part(client, mode, codec, false, TrackPart::Backup { of: of.clone() })
    }

    fn publish_part(
        &mut self,
        client: usize,
        mode: Mode,
        codec: Codec,
        encrypted: bool,
        part: TrackPart,
    ) -> TrackSid {
        self.next_track += 1;
        let track = TrackSid::new(format!("TR_{}", self.next_track));
        if let TrackPart::Backup { .. } = part {
            self.backups.push(track.clone());
        }
        let cid = format!("cid{}", self.next_track);
        let (participant, shard) = (self.clients[client].participant.clone(), self.clients[client].shard);
        let qualities = [LayerQuality::Low, LayerQuality::Medium, LayerQuality::High];
        let layers = (0..mode.spatial).zip(qualities).map(|(spatial, quality)| SimulcastLayer {
            quality,
            width: 1280 >> (mode.spatial - 1 - spatial),
            height: 720 >> (mode.spatial - 1 - spatial),
            bitrate_bps: 0,
            ssrc: 0,
            repair_ssrc: 0,
            rid: String::new(),
        });
        let announced = AddTrack {
            track: track.clone(),
            cids: vec![cid.clone()],
            kind: MediaKind::Video,
            codecs: vec![codec.to_string().to_lowercase()],
            layers: layers.collect(),
            muted: false,
            stereo: false,
            disable_dtx: false,
            disable_red: true,
            encrypted,
            screen_share: false,
            playout_delay: None,
            part,
        };
        let announce = Command::AddTrack { participant: participant.clone(), track: Box::new(announced) };
        self.command(shard, announce);
        let new = NewPublisher {
            track: track.clone(),
            cid,
            layers: vec![(String::new(), 0)],
            interval: Duration::from_secs(1),
            codec,
            time_offset: 0,
        };
        let (audios, videos) = self.spare_sections(client);
        let sdp = self.clients[client].offer(&[new], audios, videos, self.now);
        self.clients[client].publish_raw(mode, codec, self.encoders_take);
        self.command(shard, Command::Offer { participant, id: 0, sdp });
        track
    }

    /// Stops publishing the section of a track or of a backup codec.
    pub fn stop_publishing(&mut self, client: usize, track: &TrackSid) {
        let (participant, shard) = (self.clients[client].participant.clone(), self.clients[client].shard);
        let sdp = self.clients[client].offer_without(track);
        self.command(shard, Command::Offer { participant, id: 0, sdp });
    }

    /// Connects the client without publishing.
    pub fn connect(&mut self, client: usize) {
        let (audios, videos) = self.spare_sections(client);
        let sdp = self.clients[client].offer(&[], audios, videos, self.now);
        let participant = self.clients[client].participant.clone();
        self.command(self.clients[client].shard, Command::Offer { participant, id: 0, sdp });
    }

    /// Numbers of receive-only audio and video sections to offer. Real clients include three of each in their first
    /// offer.
    fn spare_sections(&self, client: usize) -> (u32, u32) {
        if self.clients[client].has_offered() { (0, 0) } else { (3, 3) }
    }

    /// Passes a command to a shard immediately.
    pub fn command(&mut self, shard: usize, command: Command) {
        self.shards[shard].handle_input(self.now, Input::Command(command));
        self.drain(shard);
    }

    /// Lets a client produce `frames` frames. Returns their datagrams, by time, and does not send them.
    pub fn record(&mut self, client: usize, frames: u32) -> Vec<(Instant, Vec<Vec<u8>>)> {
        let first = self.clients[client].publishers[0].frames;
        let mut recorded: Vec<(Instant, Vec<Vec<u8>>)> = Vec::new();
        while self.clients[client].publishers[0].frames < first + frames {
            self.now = self.now.max(self.clients[client].next());
            self.clients[client].advance(self.now);
            let datagrams: Vec<Vec<u8>> =
                self.clients[client].take_outbox().into_iter().map(|(_, data)| data).collect();
            if !datagrams.is_empty() {
                recorded.push((self.now, datagrams));
            }
        }
        recorded
    }

    /// Changes the demand of a client for a track.
    pub fn set_demand(&mut self, client: usize, track: &TrackSid, demand: TrackDemand) {
        let participant = self.clients[client].participant.clone();
        let command = Command::SetDemand { participant, track: track.clone(), demand };
        self.command(self.clients[client].shard, command);
    }

    /// Sends a user message of a client.
    pub fn send(&mut self, client: usize, label: &str, payload: &[u8]) {
        self.clients[client].send(label, payload);
        self.send_from(client);
    }

    /// Sends user messages of a client as fast as its stack accepts them.
    pub fn send_all(&mut self, client: usize, label: &str, messages: impl IntoIterator<Item = Vec<u8>>) {
        let messages = messages.into_iter().map(|message| (label.to_owned(), message));
        self.clients[client].outgoing.extend(messages);
        self.clients[client].poll();
        self.send_from(client);
    }

    pub fn leave(&mut self, client: usize) {
        let participant = self.clients[client].participant.clone();
        let command = Command::Leave { participant, reason: LeaveReason::ClientInitiated };
        self.command(self.clients[client].shard, command);
    }

    /// Changes the public address that the NAT assigns to a client. A client that had the address before is no longer
    /// reachable there.
    pub fn map_to(&mut self, client: usize, address: SocketAddr) {
        for other in &mut self.clients {
            other.reached_at = other.reached_at.filter(|reached| *reached != address);
        }
        self.clients[client].appears_from = address;
        self.clients[client].reached_at = Some(address);
    }

    /// Passes a datagram from any source to a shard immediately.
    pub fn inject(&mut self, shard: usize, source: SocketAddr, data: &[u8]) {
        let mut data = data.to_vec();
        let input = Input::Datagram { source, local: None, data: &mut data };
        self.shards[shard].handle_input(self.now, input);
        self.drain(shard);
    }

    pub fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Lets time pass until `holds` is true, for at most `time`. Returns whether it became true.
    pub fn run_until(&mut self, time: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + time;
        loop {
            if holds(self) {
                return true;
            }
            let next = self.next_moment();
            if next > end {
                self.now = end;
                return holds(self);
            }
            self.now = self.now.max(next);
            self.step();
        }
    }

    /// Layers of the frames of a track that reached a client within the last `while_`.
    pub fn layers_lately(&self, client: usize, video: &TrackSid, while_: Duration) -> Vec<u8> {
        let from = self.now - while_;
        let frames = self.clients[client].frames_of(video);
        frames.iter().filter(|frame| frame.at >= from).map(|frame| frame.layer).collect()
    }

    /// Like [`send_all`](Self::send_all), with as many messages in one datagram as fit.
    pub fn send_together(&mut self, client: usize, label: &str, messages: impl IntoIterator<Item = Vec<u8>>) {
        let messages = messages.into_iter().map(|message| (label.to_owned(), message));
        self.clients[client].outgoing.extend(messages);
        self.clients[client].write_outgoing();
        self.send_all(client, label, []);
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    fn next_moment(&self) -> Instant {
        let queued = self.queue.peek().map(|Reverse(scheduled)| scheduled.at);
        let shards = self.timeouts.iter().copied();
        let clients = self.clients.iter().map(Client::next);
        queued.into_iter().chain(shards).chain(clients).min().unwrap_or(self.now)
    }

    fn step(&mut self) {
        while self.queue.peek().is_some_and(|Reverse(scheduled)| scheduled.at <= self.now) {
            let Some(Reverse(scheduled)) = self.queue.pop() else { break };
            match scheduled.delivery {
                Delivery::ToShard { shard, source, mut data } => {
                    let input = Input::Datagram { source, local: None, data: &mut data };
                    self.shards[shard].handle_input(self.now, input);
                    self.drain(shard);
                }
                Delivery::ToClient { client, source, data } => {
                    self.clients[client].receive(self.now, source, &data);
                    self.send_from(client);
                }
            }
        }
        for shard in 0..self.shards.len() {
            if self.timeouts[shard] <= self.now {
                self.wakeups += 1;
                self.shards[shard].handle_input(self.now, Input::Timeout);
                self.drain(shard);
            }
        }
        for client in 0..self.clients.len() {
            if self.clients[client].next() <= self.now {
                self.clients[client].advance(self.now);
                self.send_from(client);
            }
        }
    }

    fn send_from(&mut self, client: usize) {
        let (source, shard) = (self.clients[client].appears_from, self.clients[client].shard);
        for (destination, data) in self.clients[client].take_outbox() {
            let shard =
                (0..self.shards.len()).find(|shard| server_address(*shard) == destination).unwrap_or(shard);
            for delay in self.links[client].0.carry(&mut self.rng, self.now, counted_bytes(&data)) {
                self.schedule(delay, Delivery::ToShard { shard, source, data: data.clone() });
            }
        }
    }

    fn schedule(&mut self, delay: Duration, delivery: Delivery) {
        self.order += 1;
        self.queue.push(Reverse(Scheduled { at: self.now + delay, order: self.order, delivery }));
    }

    /// Handles all pending output of a shard.
    fn drain(&mut self, shard: usize) {
        let mut fabric: Vec<(usize, FabricMessage)> = Vec::new();
        let mut events = Vec::new();
        loop {
            let mut buffer = std::mem::take(&mut self.buffer);
            let output = self.shards[shard].poll_output(self.now, &mut buffer);
            match output {
                Output::Transmit(transmit) => {
                    let segment = transmit.segment_size.unwrap_or(transmit.size).max(1);
                    for datagram in buffer[..transmit.size].chunks(segment) {
                        self.transmit(shard, transmit.destination, datagram);
                    }
                }
                Output::Event(event) => events.push(event),
                Output::Fabric { to, message } => fabric.push((usize::from(to.0), message)),
                Output::Timeout(at) => {
                    self.timeouts[shard] = at;
                    self.buffer = buffer;
                    break;
                }
            }
            self.buffer = buffer;
        }
        for (to, message) in fabric {
            self.shards[to].handle_input(self.now, Input::Fabric(message));
            self.drain(to);
        }
        for event in events {
            self.on_event(event);
        }
    }

    fn transmit(&mut self, shard: usize, destination: SocketAddr, data: &[u8]) {
        *self.sent.entry(destination).or_default() += 1;
        let reached = self.clients.iter().position(|client| client.reached_at == Some(destination));
        let Some(client) = reached else { return };
        for delay in self.links[client].1.carry(&mut self.rng, self.now, counted_bytes(data)) {
            if (self.unseen)(data) {
                continue;
            }
            let source = server_address(shard);
            self.schedule(delay, Delivery::ToClient { client, source, data: data.to_vec() });
        }
    }

    fn client_of(&self, participant: &ParticipantSid) -> Option<usize> {
        self.clients.iter().position(|client| client.participant == *participant)
    }

    /// Acts for the signaling sessions of all clients, as far as these tests need them.
    fn on_event(&mut self, event: Event) {
        if !self.quiet {
            self.events.push((self.now, event.clone()));
        }
        match event {
            Event::Answer { participant, sdp, mid_to_track, .. } => {
                let Some(client) = self.client_of(&participant) else { return };
                self.clients[client].answer(&sdp, mid_to_track);
                self.clients[client].advance(self.now);
                self.send_from(client);
            }
            Event::MediaSectionsRequired { participant, audios, videos } => {
                let Some(client) = self.client_of(&participant) else { return };
                let sdp = self.clients[client].offer(&[], audios, videos, self.now);
                let shard = self.clients[client].shard;
                self.command(shard, Command::Offer { participant, id: 0, sdp });
            }
            Event::Joined { participant, .. } if self.auto_subscribe => {
                for (publisher, track, kind) in self.published.clone() {
                    self.subscribe(&participant, &publisher, &track, kind);
                }
            }
            Event::TrackPublished { participant, track } if !self.backups.contains(&track.track) => {
                self.published.push((participant.clone(), track.track.clone(), track.kind));
                if self.auto_subscribe {
                    let all: Vec<_> = self.clients.iter().map(|client| client.participant.clone()).collect();
                    for subscriber in all {
                        self.subscribe(&subscriber, &participant, &track.track, track.kind);
                    }
                }
            }
            Event::TrackUnpublished { track, .. } => {
                self.published.retain(|(_, known, _)| *known != track);
                let all: Vec<_> = self.clients.iter().map(|client| client.participant.clone()).collect();
                for participant in all {
                    let Some(client) = self.client_of(&participant) else { continue };
                    let command = Command::Unsubscribe { participant, track: track.clone() };
                    self.command(self.clients[client].shard, command);
                }
            }
            Event::Roster { change: RosterChange::Gone { participant, .. }, .. } => {
                self.published.retain(|(publisher, _, _)| *publisher != participant);
            }
            _ => {}
        }
    }

    /// Requests a key frame of a track, as a client that cannot decode its video does (PLI).
    pub fn ask_for_picture(&mut self, client: usize, track: &TrackSid) {
        self.clients[client].ask_for_picture(track);
        self.send_from(client);
    }

    /// Subscribes a client to a track; no effect if the client publishes the track itself.
    pub fn subscribe(
        &mut self,
        subscriber: &ParticipantSid,
        publisher: &ParticipantSid,
        track: &TrackSid,
        kind: MediaKind,
    ) {
        if subscriber == publisher {
            return;
        }
        let Some(client) = self.client_of(subscriber) else { return };
        let command = Command::Subscribe {
            participant: subscriber.clone(),
            track: track.clone(),
            publisher: publisher.clone(),
            kind,
            demand: TrackDemand::default(),
        };
        self.command(self.clients[client].shard, command);
    }
}

/// Address of a shard's socket.
pub fn server_address(shard: usize) -> SocketAddr {
    SocketAddr::from(([10, 1, 0, 1], 7000 + shard as u16))
}

/// Length of a datagram as a link counts it. DTLS handshake messages (RFC 6347 content types 20 to 22) contain
/// signatures of random length. They all count 1,000 bytes, so that the same seed gives the same times.
fn counted_bytes(data: &[u8]) -> usize {
    match data.first() {
        Some(20..=22) => 1_000,
        _ => data.len(),
    }
}
