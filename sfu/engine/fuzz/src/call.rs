//! Connected endpoints for fuzz targets: two transports on a line, and an entire shard with two people in a room.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use sfu_engine::limits::Limits;
use sfu_engine::rtp::packet::RtpHeader;
use sfu_engine::shard::{
    FabricMessage, Input, Output, Shard, ShardConfig, ShardId, TRANSMIT_BUFFER, home_of,
};
use sfu_engine::transport::demux::{Protocol, protocol};
use sfu_engine::transport::dtls::{DtlsRole, Fingerprint, SrtpOffer};
use sfu_engine::transport::ice::IceCredentials;
use sfu_engine::transport::sctp::ChannelId;
use sfu_engine::transport::{AnySource, Received, RemoteParameters, Transport, TransportConfig};
use sfu_engine::units::ExtendedSequence;
use sfu_protocol::{
    AddTrack, ClientTraits, Command, ConnectionMode, Event, Join, LayerQuality, MediaKind, ParticipantSid,
    Permissions, RoomSid, SimulcastLayer, TrackDemand, TrackSid,
};

use crate::{certificate, check, credentials, epoch, offers};

const USE_CANDIDATE: [u8; 4] = [0, 0x25, 0, 0];

fn transport(name: &str, which: usize) -> Transport {
    let config = TransportConfig {
        local: credentials(name),
        certificate: certificate(which),
        srtp: SrtpOffer::AeadOnly,
        limits: Limits::default(),
    };
    Transport::new(config, epoch())
}

/// A server's and a client's transport, with validated ICE, before the DTLS handshake.
pub struct Line {
    now: Instant,
    server: (Transport, SocketAddr),
    client: (Transport, SocketAddr),
}

impl Line {
    /// A line on which no DTLS record has been sent.
    #[expect(clippy::new_without_default, reason = "it is not a value")]
    pub fn new() -> Self {
        let now = epoch();
        let (mut server, mut client) = (transport("server", 0), transport("client", 1));
        let remote = |name: &str, which, dtls_role| RemoteParameters {
            ice: credentials(name),
            fingerprint: certificate(which).fingerprint().clone(),
            dtls_role,
        };
        server.set_remote(remote("client", 1, DtlsRole::Server), now).expect("good parameters");
        client.set_remote(remote("server", 0, DtlsRole::Client), now).expect("good parameters");
        let mut line = Self {
            now,
            server: (server, ([10, 1, 0, 1], 7000).into()),
            client: (client, ([10, 0, 0, 1], 5000).into()),
        };
        line.inject(true, &check(&credentials("server"), &credentials("client"), &USE_CANDIDATE, &[]));
        line.inject(false, &check(&credentials("client"), &credentials("server"), &USE_CANDIDATE, &[]));
        line
    }

    /// Delivers a datagram that the other end has not sent.
    pub fn inject(&mut self, to_server: bool, datagram: &[u8]) {
        let mut datagram = datagram.to_vec();
        let (to, from) = match to_server {
            true => (&mut self.server.0, self.client.1),
            false => (&mut self.client.0, self.server.1),
        };
        to.handle_datagram(self.now, from, None, &mut datagram, &AnySource);
    }

    /// Delivers the next datagram of the other end, modified by `edit`. Skips STUN. False if there is none.
    pub fn pass(&mut self, to_server: bool, edit: impl FnOnce(&mut [u8])) -> bool {
        let mut buffer = [0; 1500];
        let from = if to_server { &mut self.client.0 } else { &mut self.server.0 };
        while let Some((len, ..)) = from.poll_transmit(self.now, &mut buffer) {
            if protocol(&buffer[..len]) == Some(Protocol::Stun) {
                continue;
            }
            edit(&mut buffer[..len]);
            self.inject(to_server, &buffer[..len]);
            return true;
        }
        false
    }

    /// Delivers everything for up to eight seconds, so that retransmissions after one, two and four seconds arrive.
    pub fn settle(&mut self) {
        let end = self.now + Duration::from_secs(8);
        loop {
            while self.pass(true, |_| {}) | self.pass(false, |_| {}) {}
            let next =
                [self.server.0.poll_timeout(), self.client.0.poll_timeout()].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end && !self.is_connected()) else { return };
            self.now = self.now.max(next);
            self.server.0.handle_timeout(self.now);
            self.client.0.handle_timeout(self.now);
        }
    }

    /// Whether both ends have finished the handshake.
    pub fn is_connected(&self) -> bool {
        self.server.0.is_connected() && self.client.0.is_connected()
    }
}

/// A participant of the room, with its client transport.
pub struct Person {
    /// Session id of the participant.
    pub sid: ParticipantSid,
    /// Source address of its datagrams.
    pub address: SocketAddr,
    /// SSRCs that the answers announce to this participant.
    pub sources: Vec<u32>,
    name: &'static str,
    offer: String,
    transport: Transport,
    server: Option<IceCredentials>,
    channels: Vec<ChannelId>,
    numbers: BTreeMap<u32, ExtendedSequence>,
}

/// A shard with one room, in which Ana publishes and Ben receives.
pub struct Call {
    /// Current virtual time.
    pub now: Instant,
    /// Ana and Ben, in this order.
    pub people: [Person; 2],
    shard: Shard,
    buffer: Vec<u8>,
}

/// Sids of Ana's audio and video track.
pub const TRACKS: [&str; 2] = ["TR_AMana", "TR_VCana"];
/// Sids of the audio and video track of a participant on another shard.
pub const REMOTE_TRACKS: [&str; 2] = ["TR_AMfar", "TR_VCfar"];

impl Call {
    /// A call in which both are connected, and Ben is subscribed to all tracks of Ana.
    #[expect(clippy::new_without_default, reason = "it is not a value")]
    pub fn new() -> Self {
        let now = epoch();
        let config = ShardConfig {
            id: ShardId(0),
            shards: 2,
            candidates: vec![server()],
            rng_seed: 1,
            clock: (now, SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
            limits: Limits::default(),
        };
        let people = [Person::new("ana", 1, &offers()[1]), Person::new("ben", 2, &offers()[0])];
        let shard = Shard::new(config, certificate(0));
        let buffer = vec![0; TRANSMIT_BUFFER];
        let mut call = Self { now, people, shard, buffer };
        for who in 0..2 {
            call.join(who);
        }
        call.announce(0);
        call.announce(1);
        for who in 0..2 {
            call.offer(who);
        }
        for which in 0..2 {
            call.subscribe(1, which, TrackDemand::default());
        }
        call.settle();
        call.offer(1);
        call.settle();
        call
    }

    /// Joins or rejoins a participant.
    pub fn join(&mut self, who: usize) {
        let person = &mut self.people[who];
        person.transport = transport(person.name, 1);
        (person.server, person.channels, person.numbers) = (None, Vec::new(), BTreeMap::new());
        let person = &self.people[who];
        self.command(Command::Join(Box::new(Join {
            room: room(),
            participant: person.sid.clone(),
            identity: person.name.to_owned(),
            hidden: false,
            permissions: Permissions::default(),
            mode: ConnectionMode::Single,
            client: ClientTraits { aead_srtp: true, firefox: false },
            never_pause: false,
            info: Bytes::new(),
        })));
    }

    /// Announces one of Ana's tracks.
    pub fn announce(&mut self, which: usize) {
        let names = [("q", LayerQuality::Low), ("h", LayerQuality::Medium), ("f", LayerQuality::High)];
        let layers = names.into_iter().zip([320, 640, 1280]).map(|((rid, quality), width)| SimulcastLayer {
            quality,
            width,
            height: width * 9 / 16,
            bitrate_bps: 0,
            ssrc: 0,
            repair_ssrc: 0,
            rid: rid.to_owned(),
        });
        let cid = ["066b2f98-408a-4868-8452-d09bad3a6157", "e513cf29-2c8a-479f-84e2-95dbb42b0241"][which];
        let track = AddTrack {
            track: TrackSid::new(TRACKS[which]),
            cids: vec![cid.to_owned()],
            kind: [MediaKind::Audio, MediaKind::Video][which],
            codecs: vec![["opus", "vp8"][which].to_owned()],
            layers: if which == 1 { layers.collect() } else { Vec::new() },
            muted: false,
            stereo: false,
            disable_dtx: false,
            disable_red: false,
            encrypted: false,
            screen_share: false,
            playout_delay: None,
            part: sfu_protocol::TrackPart::default(),
        };
        let participant = self.people[0].sid.clone();
        self.command(Command::AddTrack { participant, track: Box::new(track) });
    }

    /// Sends the participant's usual offer.
    pub fn offer(&mut self, who: usize) {
        let sdp = self.people[who].offer.clone();
        self.offer_text(who, sdp);
    }

    /// Sends an offer with the given SDP.
    pub fn offer_text(&mut self, who: usize, sdp: String) {
        self.command(Command::Offer { participant: self.people[who].sid.clone(), id: 0, sdp });
        self.check(who);
    }

    /// Subscribes a participant to a track of Ana.
    pub fn subscribe(&mut self, who: usize, which: usize, demand: TrackDemand) {
        self.command(Command::Subscribe {
            participant: self.people[who].sid.clone(),
            track: TrackSid::new(TRACKS[which]),
            publisher: self.people[0].sid.clone(),
            kind: [MediaKind::Audio, MediaKind::Video][which],
            demand,
        });
    }

    /// Inputs a command to the shard.
    pub fn command(&mut self, command: Command) {
        self.shard.handle_input(self.now, Input::Command(command));
        self.drain();
    }

    /// Inputs a message of another shard.
    pub fn fabric(&mut self, message: FabricMessage) {
        self.shard.handle_input(self.now, Input::Fabric(message));
        self.drain();
    }

    /// Inputs a datagram from any address.
    pub fn datagram(&mut self, source: SocketAddr, datagram: &[u8]) {
        let mut data = datagram.to_vec();
        self.shard.handle_input(self.now, Input::Datagram { source, local: None, data: &mut data });
        self.drain();
    }

    /// Sends an RTP packet, encrypted with the participant's key. Ignored if it is not valid RTP.
    pub fn rtp(&mut self, who: usize, packet: &[u8]) {
        let Ok(header) = RtpHeader::parse(packet) else { return };
        let person = &mut self.people[who];
        let number = match person.numbers.get(&header.ssrc.0) {
            Some(last) => last.extend(header.sequence),
            None => ExtendedSequence::first(header.sequence),
        };
        person.numbers.insert(header.ssrc.0, number);
        let mut buffer = packet.to_vec();
        buffer.resize(packet.len() + 32, 0);
        let sealed = person.transport.protect_rtp(number, &mut buffer, header.header_len, packet.len());
        if let Some(len) = sealed {
            self.datagram(self.people[who].address, &buffer[..len]);
        }
    }

    /// Sends an RTCP packet, encrypted with the participant's key.
    pub fn rtcp(&mut self, who: usize, packet: &[u8]) {
        let mut buffer = packet.to_vec();
        buffer.resize(packet.len() + 32, 0);
        if let Some(len) = self.people[who].transport.protect_rtcp(&mut buffer, packet.len()) {
            self.datagram(self.people[who].address, &buffer[..len]);
        }
    }

    /// Sends a user message on a data channel: 0 is reliable, 1 is lossy.
    pub fn message(&mut self, who: usize, channel: usize, payload: &[u8]) {
        let (now, person) = (self.now, &mut self.people[who]);
        if let Some(channel) = person.channels.get(channel) {
            let _ = person.transport.send_data(now, *channel, &Bytes::copy_from_slice(payload), true);
        }
        self.cross();
    }

    /// Advances the time. If `with_checks`, the participants send connectivity checks.
    pub fn wait(&mut self, time: Duration, with_checks: bool) {
        self.now += time;
        self.shard.handle_input(self.now, Input::Timeout);
        self.drain();
        for who in 0..2 {
            self.people[who].transport.handle_timeout(self.now);
            if with_checks {
                self.check(who);
            }
        }
        self.cross();
    }

    /// Number of contained panics.
    pub fn panics(&mut self) -> u64 {
        self.shard.stats().panics
    }

    fn check(&mut self, who: usize) {
        let person = &mut self.people[who];
        let Some(server_side) = person.server.clone() else { return };
        let own = credentials(person.name);
        let mut to_client = check(&own, &server_side, &USE_CANDIDATE, &[]);
        person.transport.handle_datagram(self.now, server(), None, &mut to_client, &AnySource);
        let to_server = check(&server_side, &own, &USE_CANDIDATE, &[]);
        let source = person.address;
        self.datagram(source, &to_server);
    }

    fn settle(&mut self) {
        for _ in 0..40 {
            self.wait(Duration::from_millis(50), true);
            if self.people.iter().all(|person| person.transport.is_connected()) {
                break;
            }
        }
        assert!(self.people.iter().all(|person| person.transport.is_connected()), "both connect");
        self.wait(Duration::from_millis(50), true);
    }

    fn drain(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            match self.shard.poll_output(self.now, &mut buffer) {
                Output::Transmit(transmit) => {
                    let segment = transmit.segment_size.unwrap_or(transmit.size).max(1);
                    let to = self.people.iter_mut().find(|person| person.address == transmit.destination);
                    let Some(person) = to else { continue };
                    for datagram in buffer[..transmit.size].chunks_mut(segment) {
                        person.receive(self.now, datagram);
                    }
                }
                // Processed at once, since media may follow on the SSRCs that the answer announces.
                Output::Event(Event::Answer { participant, sdp, .. }) => {
                    let person = self.people.iter_mut().find(|person| person.sid == participant);
                    if let Some(person) = person {
                        person.take_answer(self.now, &sdp);
                    }
                }
                Output::Event(_) => {}
                Output::Fabric { .. } => {}
                Output::Timeout(_) => break,
            }
        }
        self.buffer = buffer;
    }

    /// Delivers what the clients' transports send, until they send nothing, for at most 50 rounds.
    fn cross(&mut self) {
        for _ in 0..50 {
            let mut moved = false;
            for who in 0..2 {
                let mut buffer = [0; 1500];
                while let Some((len, ..)) = self.people[who].transport.poll_transmit(self.now, &mut buffer) {
                    if protocol(&buffer[..len]) != Some(Protocol::Stun) {
                        moved = true;
                        self.datagram(self.people[who].address, &buffer[..len]);
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }
}

impl Person {
    fn new(name: &'static str, which: u8, fixture: &str) -> Self {
        let own = credentials(name);
        let Fingerprint { value, .. } = certificate(1).fingerprint().clone();
        let digest: Vec<String> = value.iter().map(|byte| format!("{byte:02X}")).collect();
        let lines = fixture.lines().map(|line| match line.split_once(':') {
            Some(("a=ice-ufrag", _)) => format!("a=ice-ufrag:{}\r\n", own.ufrag),
            Some(("a=ice-pwd", _)) => format!("a=ice-pwd:{}\r\n", own.pwd),
            Some(("a=fingerprint", _)) => format!("a=fingerprint:sha-256 {}\r\n", digest.join(":")),
            _ => format!("{line}\r\n"),
        });
        Self {
            sid: ParticipantSid::new(format!("PA_{name}")),
            address: SocketAddr::from(([10, 0, 0, which], 5000)),
            sources: Vec::new(),
            name,
            offer: lines.collect(),
            transport: transport(name, 1),
            server: None,
            channels: Vec::new(),
            numbers: BTreeMap::new(),
        }
    }

    /// The participant's usual offer, as SDP.
    pub fn description(&self) -> &str {
        &self.offer
    }

    fn take_answer(&mut self, now: Instant, sdp: &str) {
        let value = |name: &str| sdp.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let sources =
            sdp.lines().filter_map(|line| line.strip_prefix("a=ssrc:")?.split(' ').next()?.parse().ok());
        self.sources = sources.collect();
        self.sources.dedup();
        let (Some(ufrag), Some(pwd)) = (value("a=ice-ufrag:"), value("a=ice-pwd:")) else { return };
        let ice = IceCredentials { ufrag, pwd };
        self.server = Some(ice.clone());
        let fingerprint = certificate(0).fingerprint().clone();
        let _ = self
            .transport
            .set_remote(RemoteParameters { ice, fingerprint, dtls_role: DtlsRole::Client }, now);
        if self.channels.is_empty() {
            for (label, ordered, most) in [("_reliable", true, None), ("_lossy", false, Some(0))] {
                self.channels.extend(self.transport.open_channel(now, label, ordered, most));
            }
        }
    }

    fn receive(&mut self, now: Instant, datagram: &mut [u8]) {
        let received = self.transport.handle_datagram(now, server(), None, datagram, &AnySource);
        if let Received::Rtp { header, .. } = received {
            assert!(self.sources.contains(&header.ssrc.0), "media comes under the names of the answer");
        }
    }
}

fn server() -> SocketAddr {
    ([10, 1, 0, 1], 7000).into()
}

/// A room whose home is the shard of the call.
pub fn room() -> RoomSid {
    let names = (0..).map(|number| RoomSid::new(format!("RM_{number}")));
    names.into_iter().find(|name| home_of(name, 2) == ShardId(0)).expect("half of all names")
}
