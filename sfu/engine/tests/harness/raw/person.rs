//! Participant whose client side uses the engine's own transport: what it publishes, what it receives, and its SDP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sfu_engine::ingress::feedback::TransportFeedback;
use sfu_engine::limits::Limits;
use sfu_engine::rtp::extension::{EndToEndExtensions, ExtensionMap, OutgoingHeader, write_header};
use sfu_engine::rtp::packet::{RtpHeader, payload};
use sfu_engine::rtp::rtcp::{self, Rtcp, SenderInfo};
use sfu_engine::transport::demux::{Protocol, protocol};
use sfu_engine::transport::dtls::{Certificate, DtlsRole, SrtpOffer};
use sfu_engine::transport::ice::IceCredentials;
use sfu_engine::transport::{AnySource, Received, RemoteParameters, Transport, TransportConfig};
use sfu_engine::units::{ExtendedSequence, PayloadType, Ssrc};
use sfu_protocol::{
    AddTrack, ClientTraits, Command, ConnectionMode, Join, MediaKind, ParticipantSid, Permissions, RoomSid,
    TrackSid,
};

use super::audio::{self, SoundReceiver};
use super::stun::check;
use super::video::{self, PictureReceiver};
use crate::harness::server_address;

/// Interval of connectivity checks, as browsers use it on a lossy path.
const CHECKS: Duration = Duration::from_millis(1000);

/// Round-trip time that a publisher assumes for its link.
const ROUND_TRIP: Duration = Duration::from_millis(75);

/// Number of packets that a publisher can retransmit. Browsers store 1.3 s of audio.
const HISTORY: u64 = 1500;

/// Maximum bytes of RTCP per datagram.
const RTCP_BYTES: usize = 1200;

pub const OPUS: u8 = 111;
pub const RED: u8 = 63;
pub const VP8: u8 = 96;
pub const RTX: u8 = 97;

/// Configuration of a participant: identity, tracks, and offered sections.
#[derive(Clone, Default)]
pub struct Setup {
    pub name: &'static str,
    /// Index of the shard that serves the participant.
    pub shard: usize,
    /// Tracks to publish.
    pub publishes: Vec<Publish>,
    /// Number of receive-only audio sections.
    pub audios: usize,
    /// Number of receive-only video sections.
    pub videos: usize,
    /// Whether audio is offered with RED (redundant audio, RFC 2198).
    pub red: bool,
    /// Whether lost audio packets are requested again.
    pub nack: bool,
    /// Whether the server must not pause video for this participant.
    pub never_pause: bool,
    /// Offered header extensions: id and URI.
    pub extensions: Vec<(u8, &'static str)>,
    /// Whether the server makes the offer (subscriber connection). Such a participant publishes nothing.
    pub is_offered: bool,
    /// Whether [`Person::headers`] records every packet that arrives.
    pub notes_headers: bool,
}

/// Header fields of a packet that arrived.
#[derive(Debug, Clone)]
pub struct SeenHeader {
    pub at: Instant,
    pub ssrc: Ssrc,
    pub mid: Option<String>,
    /// Bytes of the payload without padding.
    pub payload: usize,
}

/// Track to be published.
#[derive(Clone)]
pub struct Publish {
    /// Announcement of the track.
    pub announced: AddTrack,
    /// Number of earlier frames that each packet repeats (RFC 2198).
    pub redundancy: usize,
    /// Bytes of a delta frame or audio frame, for each layer.
    pub frame_bytes: Vec<usize>,
    /// Header extensions set on every packet.
    pub extensions: EndToEndExtensions,
}

/// Sending state of one layer of a track.
pub struct Sending {
    pub publish: Publish,
    pub kind: MediaKind,
    pub layer: u8,
    pub ssrc: Ssrc,
    repair: Ssrc,
    pub sequence: ExtendedSequence,
    pub repair_sequence: ExtendedSequence,
    timestamp: u32,
    pub frames: u32,
    next: Instant,
    began: Instant,
    next_report: Instant,
    history: BTreeMap<u64, (Instant, Vec<u8>)>,
    recent: Vec<(u32, Vec<u8>)>,
    pub key_next: bool,
    pub paused: bool,
    /// Pattern of sent and skipped frames (DTX) as `(of, kept)`: of each `of` frames the first `kept` are sent.
    pub sparse: Option<(u32, u32)>,
    packets: u32,
}

/// Participant with its packet-level client.
pub struct Person {
    pub sid: ParticipantSid,
    pub address: SocketAddr,
    pub shard: usize,
    pub offer: String,
    pub outbox: Vec<Vec<u8>>,
    pub sending: Vec<Sending>,
    pub sounds: Vec<SoundReceiver>,
    pub pictures: Vec<PictureReceiver>,
    /// Key-frame requests that arrived, each with the SSRC it is for.
    pub asked: Vec<(Instant, Ssrc)>,
    /// First sequence number that arrived, by SSRC.
    pub first_numbers: BTreeMap<Ssrc, u16>,
    /// RTCP report blocks that arrived.
    pub reports: Vec<rtcp::ReportBlock>,
    pub headers: Vec<SeenHeader>,
    /// Media section of each SSRC, from the server's descriptions.
    pub sections: BTreeMap<u32, String>,
    pub map: ExtensionMap,
    /// This participant's clock at the beginning, in seconds since 1900.
    pub clock: u64,
    pub started: Instant,
    pub setup: Setup,
    pub connected: Option<Instant>,
    transport: Transport,
    /// Transport-wide feedback on the packets of all video tracks together.
    feedback: TransportFeedback,
    own: IceCredentials,
    server: Option<IceCredentials>,
    certificates: [Arc<Certificate>; 2],
    next_check: Instant,
    /// Whether only the first connectivity check after the connection nominates the path.
    pub nominates_once: bool,
    nominated: bool,
}

impl Person {
    pub fn new(index: usize, setup: Setup, certificates: [Arc<Certificate>; 2], now: Instant) -> Self {
        let own = IceCredentials {
            ufrag: format!("{}fragment", setup.name),
            pwd: format!("{}0123456789abcdefghijklmn", setup.name),
        };
        let config = TransportConfig {
            local: own.clone(),
            certificate: Arc::clone(&certificates[1]),
            srtp: SrtpOffer::AeadOnly,
            // A client accepts everything that is sent to it.
            limits: Limits { published_tracks: 256, ..Limits::default() },
        };
        let mut sending = Vec::new();
        for (place, publish) in setup.publishes.iter().enumerate() {
            for layer in 0..publish.frame_bytes.len() {
                let ssrc = ssrc_of(index, place, layer);
                sending.push(Sending {
                    kind: publish.announced.kind,
                    publish: publish.clone(),
                    layer: layer as u8,
                    ssrc,
                    repair: Ssrc(ssrc.0 + 500),
                    sequence: ExtendedSequence::first(60_000 + layer as u16 * 777),
                    repair_sequence: ExtendedSequence::first(100),
                    timestamp: 0xffff_0000_u32.wrapping_add(layer as u32 * 123_456_789),
                    frames: 0,
                    next: now,
                    began: now,
                    next_report: now,
                    history: BTreeMap::new(),
                    recent: Vec::new(),
                    key_next: true,
                    paused: false,
                    sparse: None,
                    packets: 0,
                });
            }
        }
        let mut map = ExtensionMap::new();
        for (id, uri) in &setup.extensions {
            map.insert(*id, sfu_engine::rtp::extension::Extension::from_uri(uri).expect("known"));
        }
        let mut person = Self {
            sid: ParticipantSid::new(format!("PA_{}", setup.name)),
            address: SocketAddr::from(([10, 2, (index / 250) as u8, (index % 250) as u8 + 1], 5000)),
            shard: setup.shard,
            offer: String::new(),
            outbox: Vec::new(),
            sending,
            sounds: Vec::new(),
            pictures: Vec::new(),
            asked: Vec::new(),
            first_numbers: BTreeMap::new(),
            reports: Vec::new(),
            headers: Vec::new(),
            sections: BTreeMap::new(),
            map,
            clock: 3_900_000_000 + index as u64 * 1_000,
            started: now,
            transport: Transport::new(config, now),
            feedback: TransportFeedback::new(),
            own,
            server: None,
            certificates,
            next_check: now,
            nominates_once: false,
            nominated: false,
            connected: None,
            setup,
        };
        person.offer = person.description(index);
        person
    }

    pub fn entrance(&self, room: &str) -> Vec<Command> {
        let mut commands = vec![Command::Join(Box::new(Join {
            room: RoomSid::new(room),
            participant: self.sid.clone(),
            identity: self.setup.name.to_owned(),
            hidden: false,
            permissions: Permissions::default(),
            mode: match self.setup.is_offered {
                true => ConnectionMode::Dual { subscriber_primary: true },
                false => ConnectionMode::Single,
            },
            client: ClientTraits { aead_srtp: true, firefox: false },
            never_pause: self.setup.never_pause,
            info: Bytes::new(),
        }))];
        commands.extend(self.setup.publishes.iter().map(|publish| Command::AddTrack {
            participant: self.sid.clone(),
            track: Box::new(publish.announced.clone()),
        }));
        commands
    }

    fn description(&self, index: usize) -> String {
        let mut media = Vec::new();
        for (place, publish) in self.setup.publishes.iter().enumerate() {
            let cid = &publish.announced.cids[0];
            let mut lines = format!("a=sendonly\r\na=msid:- {cid}\r\n");
            let ssrcs: Vec<u32> =
                (0..publish.frame_bytes.len()).map(|layer| ssrc_of(index, place, layer).0).collect();
            if publish.announced.kind == MediaKind::Video {
                if ssrcs.len() > 1 {
                    let all: Vec<String> = ssrcs.iter().map(u32::to_string).collect();
                    lines += &format!("a=ssrc-group:SIM {}\r\n", all.join(" "));
                }
                for ssrc in &ssrcs {
                    lines += &format!("a=ssrc-group:FID {ssrc} {}\r\n", ssrc + 500);
                }
            }
            for ssrc in &ssrcs {
                lines += &format!("a=ssrc:{ssrc} cname:{}\r\n", self.setup.name);
                if publish.announced.kind == MediaKind::Video {
                    lines += &format!("a=ssrc:{} cname:{}\r\n", ssrc + 500, self.setup.name);
                }
            }
            let red = self.setup.red || publish.redundancy > 0;
            media.push((publish.announced.kind, lines, red));
        }
        for _ in 0..self.setup.audios {
            media.push((MediaKind::Audio, "a=recvonly\r\n".to_owned(), self.setup.red));
        }
        for _ in 0..self.setup.videos {
            media.push((MediaKind::Video, "a=recvonly\r\n".to_owned(), false));
        }
        let mids: Vec<String> = (0..media.len()).map(|mid| mid.to_string()).collect();
        let digest: Vec<String> =
            self.certificates[1].fingerprint().value.iter().map(|byte| format!("{byte:02X}")).collect();
        let mut sdp = format!(
            "v=0\r\no=- 77 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\na=extmap-allow-mixed\r\n",
            mids.join(" ")
        );
        for (mid, (kind, lines, red)) in media.iter().enumerate() {
            let (name, types) = match kind {
                MediaKind::Audio if *red => ("audio", format!("{OPUS} {RED}")),
                MediaKind::Audio => ("audio", format!("{OPUS}")),
                MediaKind::Video => ("video", format!("{VP8} {RTX}")),
            };
            sdp += &format!(
                "m={name} 9 UDP/TLS/RTP/SAVPF {types}\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\n\
                 a=fingerprint:sha-256 {}\r\na=setup:actpass\r\na=mid:{mid}\r\na=rtcp-mux\r\n",
                self.own.ufrag,
                self.own.pwd,
                digest.join(":")
            );
            for (id, uri) in &self.setup.extensions {
                sdp += &format!("a=extmap:{id} {uri}\r\n");
            }
            sdp += lines;
            match kind {
                MediaKind::Audio => {
                    sdp += &format!(
                        "a=rtpmap:{OPUS} opus/48000/2\r\na=fmtp:{OPUS} minptime=10;useinbandfec=1\r\n"
                    );
                    if self.setup.nack {
                        sdp += &format!("a=rtcp-fb:{OPUS} nack\r\n");
                    }
                    if *red {
                        sdp += &format!("a=rtpmap:{RED} red/48000/2\r\na=fmtp:{RED} {OPUS}/{OPUS}\r\n");
                    }
                }
                MediaKind::Video => {
                    sdp += &format!(
                        "a=rtpmap:{VP8} VP8/90000\r\na=rtpmap:{RTX} rtx/90000\r\na=fmtp:{RTX} apt={VP8}\r\n"
                    );
                    for feedback in ["nack", "nack pli", "ccm fir", "transport-cc"] {
                        sdp += &format!("a=rtcp-fb:{VP8} {feedback}\r\n");
                    }
                }
            }
        }
        sdp
    }

    /// Applies the server's offer. Returns an answer that accepts everything.
    pub fn take_offer(&mut self, now: Instant, sdp: &str, tracks: &BTreeMap<String, TrackSid>) -> String {
        self.answer(now, sdp, tracks);
        let digest: Vec<String> =
            self.certificates[1].fingerprint().value.iter().map(|byte| format!("{byte:02X}")).collect();
        let swap = |line: &str| match line.split(':').next()? {
            "a=sendonly" => Some("a=recvonly".to_owned()),
            "a=setup" => Some("a=setup:active".to_owned()),
            "a=ice-ufrag" => Some(format!("a=ice-ufrag:{}", self.own.ufrag)),
            "a=ice-pwd" => Some(format!("a=ice-pwd:{}", self.own.pwd)),
            "a=fingerprint" => Some(format!("a=fingerprint:sha-256 {}", digest.join(":"))),
            "a=ssrc" | "a=ssrc-group" | "a=msid" | "a=candidate" | "a=end-of-candidates" | "a=ice-lite" => {
                None
            }
            _ => Some(line.to_owned()),
        };
        sdp.lines().filter_map(swap).map(|line| line + "\r\n").collect()
    }

    /// Applies the server's description of what it sends.
    pub fn answer(&mut self, now: Instant, sdp: &str, tracks: &BTreeMap<String, TrackSid>) {
        let mut mid = String::new();
        let (mut ice, mut audio) = (IceCredentials { ufrag: String::new(), pwd: String::new() }, false);
        let mut sources: BTreeMap<String, (bool, Vec<u32>)> = BTreeMap::new();
        for line in sdp.lines() {
            if let Some(value) = line.strip_prefix("a=ice-ufrag:") {
                ice.ufrag = value.to_owned();
            } else if let Some(value) = line.strip_prefix("a=ice-pwd:") {
                ice.pwd = value.to_owned();
            } else if line.starts_with("m=") {
                audio = line.starts_with("m=audio");
            } else if let Some(value) = line.strip_prefix("a=mid:") {
                mid = value.to_owned();
            } else if let Some(rest) = line.strip_prefix("a=ssrc:")
                && let Some(ssrc) = rest.split(' ').next().and_then(|ssrc| ssrc.parse().ok())
            {
                let known = &mut sources.entry(mid.clone()).or_insert((audio, Vec::new())).1;
                if !known.contains(&ssrc) {
                    known.push(ssrc);
                }
            }
        }
        for (mid, (_, ssrcs)) in &sources {
            self.sections.extend(ssrcs.iter().map(|ssrc| (*ssrc, mid.clone())));
        }
        for (mid, (audio, ssrcs)) in sources {
            let Some(track) = tracks.get(&mid) else { continue };
            match ssrcs[..] {
                [ssrc, ..] if audio && self.sounds.iter().all(|known| known.ssrc.0 != ssrc) => {
                    let nack = self.setup.nack;
                    self.sounds.push(SoundReceiver::new(track.clone(), Ssrc(ssrc), nack));
                }
                [ssrc, repair, ..] if !audio && self.pictures.iter().all(|known| known.ssrc.0 != ssrc) => {
                    self.pictures.push(PictureReceiver::new(track.clone(), Ssrc(ssrc), Ssrc(repair)));
                }
                _ => {}
            }
        }
        self.server = Some(ice.clone());
        let fingerprint = self.certificates[0].fingerprint().clone();
        let remote = RemoteParameters { ice, fingerprint, dtls_role: DtlsRole::Client };
        self.transport.set_remote(remote, now).expect("good parameters");
        self.check(now);
        self.collect(now);
    }

    fn check(&mut self, now: Instant) {
        let Some(server) = &self.server else { return };
        // The engine's ICE agent only answers checks and never sends any. So the server's check is simulated here.
        let mut own = check(&self.own, server, true);
        let request = check(server, &self.own, !(self.nominates_once && self.nominated));
        self.nominated |= self.connected.is_some();
        self.transport.handle_datagram(now, server_address(self.shard), None, &mut own, &AnySource);
        self.outbox.push(request);
        self.next_check = now + CHECKS;
    }

    fn collect(&mut self, now: Instant) {
        let mut buffer = [0; 1500];
        while let Some((len, ..)) = self.transport.poll_transmit(now, &mut buffer) {
            if protocol(&buffer[..len]) != Some(Protocol::Stun) {
                self.outbox.push(buffer[..len].to_vec());
            }
        }
        if self.transport.is_connected() && self.connected.is_none() {
            self.connected = Some(now);
            for sending in &mut self.sending {
                sending.next = now;
                sending.began = now;
                sending.next_report = now + Duration::from_millis(50);
            }
        }
    }

    /// Handles a datagram that arrived.
    pub fn receive(&mut self, now: Instant, data: &mut [u8]) {
        let source = server_address(self.shard);
        let mut compound = Vec::new();
        match self.transport.handle_datagram(now, source, None, data, &AnySource) {
            Received::Rtp { packet, header, .. } => {
                self.first_numbers.entry(header.ssrc).or_insert(header.sequence);
                let found = sfu_engine::rtp::extension::read(packet, &header, &self.map);
                let Ok(body) = payload(packet, &header) else { return };
                if self.setup.notes_headers {
                    self.headers.push(SeenHeader {
                        at: now,
                        ssrc: header.ssrc,
                        mid: found.mid.map(|mid| String::from_utf8_lossy(mid).into_owned()),
                        payload: body.len(),
                    });
                }
                if let Some(number) = found.transport_sequence {
                    self.feedback.on_packet(number, now);
                }
                for sound in self.sounds.iter_mut().filter(|sound| sound.ssrc == header.ssrc) {
                    sound.receive(now, &header, &found, body, &mut compound);
                }
                for picture in &mut self.pictures {
                    if picture.ssrc == header.ssrc || picture.repair == header.ssrc {
                        picture.receive(now, &header, &found, body, &mut compound);
                    }
                }
            }
            Received::Rtcp { packet } => {
                for part in rtcp::parse(packet).unwrap_or_default() {
                    self.on_rtcp(now, part);
                }
            }
            Received::Nothing | Received::Ignored(_) => {}
        }
        self.send_rtcp(&compound);
        self.collect(now);
    }

    fn on_rtcp(&mut self, now: Instant, part: Rtcp) {
        match part {
            Rtcp::Nack { media, lost, .. } => {
                for wire in lost {
                    self.send_again(now, media, wire);
                }
            }
            Rtcp::Pli { media, .. } => {
                self.asked.push((now, media));
                for sending in self.sending.iter_mut().filter(|sending| sending.ssrc == media) {
                    sending.key_next = true;
                }
            }
            Rtcp::SenderReport { ssrc, ntp, rtp_timestamp, .. } => {
                for sound in self.sounds.iter_mut().filter(|sound| sound.ssrc == ssrc) {
                    sound.reported = Some((ntp, rtp_timestamp, now));
                }
                for picture in self.pictures.iter_mut().filter(|picture| picture.ssrc == ssrc) {
                    picture.reported = Some((ntp, rtp_timestamp, now));
                }
            }
            Rtcp::ReceiverReport { reports, .. } => self.reports.extend(reports),
            _ => {}
        }
    }

    fn send_again(&mut self, now: Instant, media: Ssrc, wire: u16) {
        let Some(sending) = self.sending.iter_mut().find(|sending| sending.ssrc == media) else { return };
        let number = sending.sequence.extend(wire);
        let Some((last, packet)) = sending.history.get_mut(&number.0) else { return };
        // Like browsers, do not resend what was sent less than a round trip ago, as it may still be in flight.
        if now - *last < ROUND_TRIP {
            return;
        }
        *last = now;
        let packet = packet.clone();
        if sending.kind == MediaKind::Audio {
            self.seal(number, packet);
            return;
        }
        sending.repair_sequence = sending.repair_sequence.plus(1);
        let (repair, repair_sequence) = (sending.repair, sending.repair_sequence);
        let header = RtpHeader::parse(&packet).expect("own packet");
        let mut again = packet[..header.header_len].to_vec();
        again[1] = again[1] & 0x80 | RTX;
        again[2..4].copy_from_slice(&repair_sequence.wire().to_be_bytes());
        again[8..12].copy_from_slice(&repair.0.to_be_bytes());
        again.extend(wire.to_be_bytes());
        again.extend_from_slice(&packet[header.header_len..]);
        self.seal(repair_sequence, again);
    }

    fn seal(&mut self, number: ExtendedSequence, packet: Vec<u8>) {
        let (len, header) = (packet.len(), RtpHeader::parse(&packet).expect("own packet"));
        let mut buffer = packet;
        buffer.resize(len + 32, 0);
        if let Some(sealed) = self.transport.protect_rtp(number, &mut buffer, header.header_len, len) {
            buffer.truncate(sealed);
            self.outbox.push(buffer);
        }
    }

    /// Sends a compound RTCP packet, split between its parts into datagrams of limited length.
    pub fn send_rtcp(&mut self, compound: &[u8]) {
        let (mut rest, mut datagram) = (compound, Vec::new());
        while rest.len() >= 4 {
            let len = (usize::from(u16::from_be_bytes([rest[2], rest[3]])) + 1) * 4;
            let (part, behind) = rest.split_at(len);
            if datagram.len() + part.len() > RTCP_BYTES {
                self.send_rtcp_datagram(&std::mem::take(&mut datagram));
            }
            datagram.extend_from_slice(part);
            rest = behind;
        }
        self.send_rtcp_datagram(&datagram);
    }

    fn send_rtcp_datagram(&mut self, compound: &[u8]) {
        if compound.is_empty() {
            return;
        }
        let mut buffer = compound.to_vec();
        buffer.resize(compound.len() + 32, 0);
        if let Some(len) = self.transport.protect_rtcp(&mut buffer, compound.len()) {
            buffer.truncate(len);
            self.outbox.push(buffer);
        }
    }

    /// Handles timers and sends the frames and reports that are due.
    pub fn advance(&mut self, now: Instant) {
        self.transport.handle_timeout(now);
        if self.next_check <= now {
            self.check(now);
        }
        self.collect(now);
        if self.connected.is_none() {
            return;
        }
        let mut compound = Vec::new();
        for sound in &mut self.sounds {
            sound.advance(now, &mut compound);
        }
        for picture in &mut self.pictures {
            picture.advance(now, &mut compound);
        }
        if let Some(picture) = self.pictures.first() {
            self.feedback.poll(now, Ssrc(1), picture.ssrc, &mut compound);
        }
        self.send_rtcp(&compound);
        for place in 0..self.sending.len() {
            while self.sending[place].next <= now {
                self.publish_frame(place);
            }
            if self.sending[place].next_report <= now {
                self.report(place, now);
            }
        }
    }

    fn report(&mut self, place: usize, now: Instant) {
        let ntp = self.ntp(now);
        let sending = &mut self.sending[place];
        sending.next_report = now + Duration::from_secs(1);
        let rate = rate(sending.kind);
        let ticks = (now - sending.began).as_micros() * u128::from(rate) / 1_000_000;
        let info = SenderInfo {
            ntp,
            rtp_timestamp: sending.timestamp.wrapping_add(ticks as u32),
            packets: sending.packets,
            octets: 0,
        };
        let mut compound = Vec::new();
        rtcp::write_sender_report(&mut compound, sending.ssrc, &info, &[]);
        self.send_rtcp(&compound);
    }

    /// Time of this participant's clock, as an NTP timestamp.
    pub fn ntp(&self, now: Instant) -> u64 {
        let since = now - self.started;
        ((self.clock + since.as_secs()) << 32) | ((u64::from(since.subsec_nanos()) << 32) / 1_000_000_000)
    }

    fn publish_frame(&mut self, place: usize) {
        let started = self.started;
        let map = self.map;
        let sending = &mut self.sending[place];
        let at = sending.next;
        let number = sending.frames;
        sending.frames += 1;
        sending.next = sending.began + interval(sending.kind) * (number + 1);
        let silent = sending.sparse.is_some_and(|(of, kept)| number % of >= kept);
        if sending.paused || silent {
            return;
        }
        let ticks = (at - sending.began).as_micros() * u128::from(rate(sending.kind)) / 1_000_000;
        let timestamp = sending.timestamp.wrapping_add(ticks as u32);
        let capture = (at - started).as_micros() as u64;
        let bytes = sending.publish.frame_bytes[usize::from(sending.layer)];
        let (payload_type, bodies) = match sending.kind {
            MediaKind::Audio => {
                let frame = audio::make(number, capture, bytes);
                let (payload_type, body) = audio::with_redundancy(&sending.recent, timestamp, &frame);
                sending.recent.push((timestamp, frame));
                let most = sending.publish.redundancy;
                let excess = sending.recent.len().saturating_sub(most);
                sending.recent.drain(..excess);
                let payload_type = if most > 0 { RED } else { payload_type };
                let body = if most > 0 && sending.packets == 0 { [vec![OPUS], body].concat() } else { body };
                (payload_type, vec![body])
            }
            MediaKind::Video => {
                let key = std::mem::take(&mut sending.key_next);
                let bytes = if key { bytes * 3 } else { bytes };
                (VP8, video::make(number, capture, sending.layer, key, bytes))
            }
        };
        let last = bodies.len() - 1;
        for (index, body) in bodies.into_iter().enumerate() {
            let sending = &mut self.sending[place];
            let sequence = sending.sequence;
            sending.sequence = sequence.plus(1);
            sending.packets += 1;
            let header = OutgoingHeader {
                marker: index == last && sending.kind == MediaKind::Video,
                payload_type: PayloadType(payload_type),
                sequence: sequence.wire(),
                timestamp,
                ssrc: sending.ssrc,
                transport_sequence: None,
                mid: None,
                extensions: &sending.publish.extensions,
                playout_delay: None,
                frame_number: None,
            };
            let mut packet = vec![0; 100];
            let len = write_header(&mut packet, &header, &map).expect("room enough");
            packet.truncate(len);
            packet.extend_from_slice(&body);
            sending.history.insert(sequence.0, (at, packet.clone()));
            sending.history.remove(&(sequence.0.wrapping_sub(HISTORY)));
            self.seal(sequence, packet);
        }
    }
}

fn interval(kind: MediaKind) -> Duration {
    match kind {
        MediaKind::Audio => Duration::from_millis(20),
        MediaKind::Video => Duration::from_micros(33_333),
    }
}

fn rate(kind: MediaKind) -> u32 {
    match kind {
        MediaKind::Audio => 48_000,
        MediaKind::Video => 90_000,
    }
}

fn ssrc_of(person: usize, place: usize, layer: usize) -> Ssrc {
    Ssrc(1_000_000 + person as u32 * 10_000 + place as u32 * 1_000 + layer as u32 * 10)
}
