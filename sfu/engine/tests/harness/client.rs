//! A client: a complete independent WebRTC stack (str0m) that publishes synthetic frames and records what it receives.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::packets::{self, RawPublisher, ReceivedPacket};
use super::scalable::Mode;
use sfu_protocol::{ParticipantSid, TrackSid};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::format::Codec;
use str0m::media::{
    Direction, Frequency, KeyframeRequestKind, MediaKind, MediaTime, Mid, Rid, Simulcast, SimulcastLayer,
};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc};

/// Track that a client publishes in one media section.
pub struct Publisher {
    pub mid: Mid,
    pub track: TrackSid,
    /// Layers, lowest first; a single entry without RID if there is no simulcast.
    pub layers: Vec<PublishedLayer>,
    /// Time between frames.
    pub interval: Duration,
    /// Time at which the next frame is due.
    pub next: Instant,
    /// Frames produced so far.
    pub frames: u32,
    /// Number of frames after which production stops.
    pub limit: u32,
    /// Opus or VP8.
    pub codec: Codec,
    /// Offset of every media time, in clock ticks, to let timestamps wrap around during a test.
    pub time_offset: u64,
    /// Whether sending is paused.
    pub paused: bool,
    /// Audio level of the n-th packet, in dB below full scale; `None`: packets state no level.
    pub loudness: Option<fn(u32) -> i8>,
}

/// One encoding of a track.
pub struct PublishedLayer {
    /// RID; `None` without simulcast.
    pub rid: Option<Rid>,
    /// Bytes of a delta frame; a key frame has four times as many.
    pub frame_bytes: usize,
    /// Whether the next frame is a key frame.
    pub key_next: bool,
    /// Whether this encoding is sent.
    pub active: bool,
}

/// Frame from the client's depacketizer.
#[derive(Debug, Clone)]
pub struct ReceivedFrame {
    /// Track that the frame's section was assigned to on arrival.
    pub track: Option<TrackSid>,
    /// Arrival time.
    pub at: Instant,
    /// RTP media time.
    pub time: MediaTime,
    /// Frame number assigned by the publisher.
    pub number: u32,
    /// Index of the simulcast layer for which the frame was made.
    pub layer: u8,
    pub key: bool,
    /// Whether all bytes are as the publisher made them.
    pub intact: bool,
    /// Whether the client's stack saw no gap between the previous frame and this one.
    pub contiguous: bool,
}

/// A client with its WebRTC stack and everything it received.
pub struct Client {
    /// Name, also the participant's identity.
    pub name: String,
    pub participant: ParticipantSid,
    /// Address of the client's socket.
    pub address: SocketAddr,
    /// Source address that the server sees; differs from `address` if the client forges it or is behind a NAT.
    pub appears_from: SocketAddr,
    /// Address at which datagrams reach the client; differs from `address` behind a NAT. `None`: unreachable.
    pub reached_at: Option<SocketAddr>,
    /// Index of the shard that serves the client.
    pub shard: usize,
    /// Offer lines that contain one of these strings are left out.
    pub offers_without: &'static [&'static str],
    /// WebRTC stack of the client.
    pub rtc: Rtc,
    /// Next timeout of the stack.
    pub timeout: Instant,
    /// Frame-based tracks that the client publishes.
    pub publishers: Vec<Publisher>,
    /// Frames received.
    pub frames: Vec<ReceivedFrame>,
    /// Scalable streams that the client publishes.
    pub raw_publishers: Vec<RawPublisher>,
    /// Packets received, if the client works with packets.
    pub packets: Vec<ReceivedPacket>,
    /// User messages received, each with the label of its channel.
    pub messages: Vec<(String, Vec<u8>)>,
    /// User messages to be sent as soon as the stack has room, each with the label of its channel.
    pub outgoing: VecDeque<(String, Vec<u8>)>,
    /// Arrival times of key-frame requests.
    pub key_frame_requests: Vec<Instant>,
    /// Track in each media section, from the server's descriptions.
    pub tracks: BTreeMap<String, TrackSid>,
    /// Time at which ICE and DTLS were connected.
    pub connected: Option<Instant>,
    /// Whether the stack reported the connection lost.
    pub disconnected: bool,
    /// Open data channels by label.
    pub channels: BTreeMap<String, ChannelId>,
    /// Time of the last input to the stack.
    pub last_input: Instant,
    /// Edit of each server answer before the stack parses it.
    pub edit_answer: Option<fn(&str) -> String>,
    offered: bool,
    /// Sections that the client stops sending in with its next offer.
    ceased: Vec<Mid>,
    /// Receive-only sections of the client's offers.
    receives: Vec<Mid>,
    /// Whether offers set sections that were answered as inactive back to receive-only, as browsers do. The stack does
    /// not do this by itself, and decodes nothing if another source follows in such a section.
    pub receives_again: bool,
    pending: Option<SdpPendingOffer>,
    outbox: Vec<(SocketAddr, Vec<u8>)>,
    started: Instant,
}

impl Client {
    /// Creates a client that has sent nothing yet.
    pub fn new(name: &str, address: SocketAddr, shard: usize, now: Instant) -> Self {
        let rtc = Rtc::builder()
            .set_rtcp_report_interval_video(Duration::from_millis(500))
            .set_reordering_size_video(200)
            .set_reordering_size_audio(20)
            .build(now);
        Self::of(rtc, name, address, shard, now)
    }

    /// Creates a client that works with RTP packets instead of frames.
    pub fn raw(name: &str, address: SocketAddr, shard: usize, now: Instant) -> Self {
        Self::of(packets::stack(now), name, address, shard, now)
    }

    fn of(mut rtc: Rtc, name: &str, address: SocketAddr, shard: usize, now: Instant) -> Self {
        let candidate = Candidate::host(address, "udp").expect("a host candidate");
        rtc.add_local_candidate(candidate);
        Self {
            name: name.to_owned(),
            participant: ParticipantSid::new(format!("PA_{name}")),
            address,
            appears_from: address,
            reached_at: Some(address),
            shard,
            offers_without: &[],
            rtc,
            timeout: now,
            publishers: Vec::new(),
            frames: Vec::new(),
            raw_publishers: Vec::new(),
            packets: Vec::new(),
            messages: Vec::new(),
            outgoing: VecDeque::new(),
            key_frame_requests: Vec::new(),
            tracks: BTreeMap::new(),
            connected: None,
            disconnected: false,
            channels: BTreeMap::new(),
            last_input: now,
            edit_answer: None,
            offered: false,
            ceased: Vec::new(),
            receives: Vec::new(),
            receives_again: false,
            pending: None,
            outbox: Vec::new(),
            started: now,
        }
    }

    /// Makes an offer of new tracks, of `audios` and `videos` more receive-only sections, and of data channels in the
    /// first offer. A pending offer is abandoned.
    pub fn offer(&mut self, publish: &[NewPublisher], audios: u32, videos: u32, now: Instant) -> String {
        let first = !std::mem::replace(&mut self.offered, true);
        let silent =
            |mid: &Mid| self.rtc.media(*mid).is_some_and(|media| media.direction() == Direction::Inactive);
        let receives = self.receives.iter().copied().filter(|_| self.receives_again);
        let silenced: Vec<Mid> = receives.filter(silent).collect();
        let mut api = self.rtc.sdp_api();
        for mid in &silenced {
            api.set_direction(*mid, Direction::RecvOnly);
        }
        for mid in self.ceased.drain(..) {
            api.set_direction(mid, Direction::Inactive);
        }
        let mut mids = Vec::new();
        for new in publish {
            let kind = if new.codec == Codec::Opus { MediaKind::Audio } else { MediaKind::Video };
            let simulcast = (new.layers.len() > 1).then(|| {
                let mut simulcast = Simulcast::new();
                for (rid, _) in &new.layers {
                    simulcast.add_send_layer(SimulcastLayer::new(rid));
                }
                simulcast
            });
            mids.push(api.add_media(kind, Direction::SendOnly, None, Some(new.cid.clone()), simulcast));
        }
        for _ in 0..audios {
            self.receives.push(api.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None));
        }
        for _ in 0..videos {
            self.receives.push(api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None));
        }
        if first {
            api.add_channel("_reliable".to_owned());
            api.add_channel_with_config(ChannelConfig {
                label: "_lossy".to_owned(),
                ordered: false,
                reliability: Reliability::MaxRetransmits { retransmits: 0 },
                ..ChannelConfig::default()
            });
        }
        if publish.is_empty() && audios == 0 && videos == 0 && silenced.is_empty() && !first {
            // No change is needed; the client offers because it was asked to. The stack cannot repeat an unchanged
            // offer, so this one adds a section that stays unused.
            api.add_media(MediaKind::Video, Direction::Inactive, None, None, None);
        }
        let (offer, pending) = api.apply().expect("something changed");
        self.pending = Some(pending);
        for (mid, new) in mids.into_iter().zip(publish) {
            let simulcast = new.layers.len() > 1;
            let layers = new.layers.iter().map(|(rid, frame_bytes)| PublishedLayer {
                rid: simulcast.then(|| Rid::from(rid.as_str())),
                frame_bytes: *frame_bytes,
                key_next: true,
                active: true,
            });
            self.publishers.push(Publisher {
                mid,
                track: new.track.clone(),
                layers: layers.collect(),
                interval: new.interval,
                next: now,
                frames: 0,
                limit: u32::MAX,
                codec: new.codec,
                time_offset: new.time_offset,
                paused: false,
                loudness: None,
            });
        }
        let without = self.offers_without;
        let kept = |line: &&str| !without.iter().any(|part| line.contains(part));
        offer.to_sdp_string().lines().filter(kept).map(|line| format!("{line}\r\n")).collect()
    }

    /// Stops sending a track; the next offer tells the server.
    pub fn cease(&mut self, track: &TrackSid) {
        let place = self.publishers.iter().position(|publisher| publisher.track == *track);
        let publisher = self.publishers.remove(place.expect("it is published"));
        self.ceased.push(publisher.mid);
    }

    /// Makes an offer that stops sending a scalable stream.
    pub fn offer_without(&mut self, track: &TrackSid) -> String {
        let place = self.raw_publishers.iter().position(|publisher| publisher.track == *track);
        let publisher = self.raw_publishers.remove(place.expect("it is published"));
        let mut api = self.rtc.sdp_api();
        api.set_direction(publisher.mid, Direction::Inactive);
        let (offer, pending) = api.apply().expect("something changed");
        self.pending = Some(pending);
        offer.to_sdp_string()
    }

    /// Makes an offer that restarts ICE.
    pub fn restart_ice(&mut self) -> String {
        let mut api = self.rtc.sdp_api();
        api.ice_restart(true);
        let (offer, pending) = api.apply().expect("a restart is a change");
        self.pending = Some(pending);
        offer.to_sdp_string()
    }

    pub fn has_offered(&self) -> bool {
        self.offered
    }

    /// Applies the server's answer.
    pub fn answer(&mut self, sdp: &str, mid_to_track: BTreeMap<String, TrackSid>) {
        let edited = self.edit_answer.map(|edit| edit(sdp));
        let sdp = edited.as_deref().unwrap_or(sdp);
        let answer = SdpAnswer::from_sdp_string(sdp).expect("the server's answer parses");
        let pending = self.pending.take().expect("an offer was made");
        self.rtc.sdp_api().accept_answer(pending, answer).expect("the server's answer is acceptable");
        self.tracks = mid_to_track;
        self.answer_every_nack();
    }

    /// Removes the stack's limit on answered NACKs. By default it stops above a share of retransmissions that 10 % loss
    /// nearly reaches, and the tests are about the server.
    fn answer_every_nack(&mut self) {
        for publisher in &self.publishers {
            for layer in &publisher.layers {
                let mut api = self.rtc.direct_api();
                if let Some(stream) = api.stream_tx_by_mid(publisher.mid, layer.rid) {
                    stream.set_rtx_cache(4096, Duration::from_secs(3), None);
                }
            }
        }
    }

    /// Applies the server's offer (subscriber connection). Returns the answer.
    pub fn take_offer(&mut self, sdp: &str, mid_to_track: BTreeMap<String, TrackSid>) -> String {
        let offer = SdpOffer::from_sdp_string(sdp).expect("the server's offer parses");
        let answer = self.rtc.sdp_api().accept_offer(offer).expect("the server's offer is acceptable");
        self.tracks = mid_to_track;
        answer.to_sdp_string()
    }

    /// Time at which [`advance`](Self::advance) must be called next.
    pub fn next(&self) -> Instant {
        let media = self.publishers.iter().filter(|publisher| self.connected.is_some() && publisher.due());
        let raw =
            self.raw_publishers.iter().filter(|_| self.connected.is_some()).map(|publisher| publisher.next);
        let media = media.map(|publisher| publisher.next).chain(raw).min();
        media.map_or(self.timeout, |media| media.min(self.timeout))
    }

    /// Handles a datagram that arrived.
    pub fn receive(&mut self, now: Instant, source: SocketAddr, data: &[u8]) {
        let Ok(contents) = data.try_into() else { return };
        let receive = Receive { proto: Protocol::Udp, source, destination: self.address, contents };
        self.input(Input::Receive(now, receive));
    }

    /// Handles the stack's timeout and sends the frames that are due.
    pub fn advance(&mut self, now: Instant) {
        self.input(Input::Timeout(now));
        if self.connected.is_none() {
            return;
        }
        for place in 0..self.raw_publishers.len() {
            while self.raw_publishers[place].next <= now {
                self.raw_publishers[place].publish(&mut self.rtc, now);
                self.poll();
                self.input(Input::Timeout(now));
            }
        }
        for place in 0..self.publishers.len() {
            while self.publishers[place].due() && self.publishers[place].next <= now {
                self.publish_frame(place, now);
            }
        }
        self.poll();
    }

    /// Takes the datagrams to be sent, with their destinations.
    pub fn take_outbox(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        std::mem::take(&mut self.outbox)
    }

    pub fn send(&mut self, label: &str, payload: &[u8]) {
        let channel = *self.channels.get(label).expect("the channel is open");
        let mut channel = self.rtc.channel(channel).expect("the channel is open");
        assert!(channel.write(true, payload).expect("the message is taken"), "no backlog");
        self.poll();
    }

    /// Requests a key frame of a track (PLI).
    pub fn ask_for_picture(&mut self, track: &TrackSid) {
        let mid =
            self.tracks.iter().find(|(_, known)| *known == track).map(|(mid, _)| Mid::from(mid.as_str()));
        let mut api = self.rtc.direct_api();
        let stream = api.stream_rx_by_mid(mid.expect("the track has a section"), None).expect("it flows");
        stream.request_keyframe(KeyframeRequestKind::Pli);
        self.input(Input::Timeout(self.last_input));
    }

    /// Received frames of a track.
    pub fn frames_of(&self, track: &TrackSid) -> Vec<&ReceivedFrame> {
        self.frames.iter().filter(|frame| frame.track.as_ref() == Some(track)).collect()
    }

    /// Received packets of a track.
    pub fn packets_of(&self, track: &TrackSid) -> Vec<&ReceivedPacket> {
        let carries = |packet: &&ReceivedPacket| self.tracks.get(&*packet.mid.to_string()) == Some(track);
        self.packets.iter().filter(carries).collect()
    }

    /// Turns the track that was offered last into a scalable stream, which begins after the time `after`.
    pub fn publish_raw(&mut self, mode: Mode, codec: Codec, after: Duration) {
        let offered = self.publishers.pop().expect("a track was offered");
        let publisher = RawPublisher::new(offered.mid, offered.track, mode, codec, offered.next + after);
        self.raw_publishers.push(publisher);
    }

    fn input(&mut self, input: Input<'_>) {
        self.last_input = match &input {
            Input::Timeout(now) | Input::Receive(now, _) => *now,
        };
        if self.rtc.is_alive() {
            self.rtc.handle_input(input).expect("the client's stack takes its input");
        }
        self.poll();
    }

    /// Handles all output of the stack, and writes outgoing messages while the stack has room.
    pub fn poll(&mut self) {
        self.poll_stack();
        while self.write_next() {
            self.poll_stack();
        }
    }

    /// Writes outgoing messages while the stack has room. They are sent with the next poll.
    pub fn write_outgoing(&mut self) {
        while self.write_next() {}
    }

    fn write_next(&mut self) -> bool {
        let Some((label, payload)) = self.outgoing.front() else { return false };
        let Some(channel) = self.channels.get(label).and_then(|id| self.rtc.channel(*id)) else {
            return false;
        };
        let mut channel = channel;
        let taken = channel.write(true, payload).expect("the message can be sent");
        if taken {
            self.outgoing.pop_front();
        }
        taken
    }

    fn poll_stack(&mut self) {
        loop {
            if !self.rtc.is_alive() {
                self.disconnected = true;
                self.timeout = self.started + Duration::from_secs(1_000_000);
                return;
            }
            match self.rtc.poll_output().expect("the client's stack works") {
                Output::Timeout(at) => {
                    self.timeout = at;
                    return;
                }
                Output::Transmit(transmit) => {
                    self.outbox.push((transmit.destination, transmit.contents.to_vec()));
                }
                Output::Event(event) => self.on_event(event),
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected => self.connected = Some(self.last_input),
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) => self.disconnected = true,
            Event::ChannelOpen(id, label) => {
                self.channels.insert(label, id);
            }
            Event::ChannelData(data) => {
                let label = self.channels.iter().find(|(_, id)| **id == data.id);
                let label = label.map(|(label, _)| label.clone()).unwrap_or_default();
                self.messages.push((label, data.data.clone()));
            }
            Event::KeyframeRequest(request) => {
                self.key_frame_requests.push(self.last_input);
                let raw = self.raw_publishers.iter_mut().filter(|known| known.mid == request.mid);
                raw.for_each(|publisher| publisher.encoder.want_key());
                for publisher in self.publishers.iter_mut().filter(|known| known.mid == request.mid) {
                    for layer in &mut publisher.layers {
                        layer.key_next |= request.rid.is_none() || layer.rid == request.rid;
                    }
                }
            }
            Event::RtpPacket(packet) => {
                let mut api = self.rtc.direct_api();
                let stream = api.stream_rx(&packet.header.ssrc).map(|stream| stream.mid());
                let known = self.rtc.codec_config().find(|params| params.pt() == packet.header.payload_type);
                if let (Some(mid), Some(params)) = (stream, known) {
                    let codec = params.spec().codec;
                    self.packets.push(packets::received(&packet, codec, mid, self.last_input));
                }
            }
            Event::MediaData(data) => {
                let (number, layer, key, intact) = read_frame(&data.data);
                self.frames.push(ReceivedFrame {
                    track: self.tracks.get(&*data.mid.to_string()).cloned(),
                    at: self.last_input,
                    time: data.time,
                    number,
                    layer,
                    key,
                    intact,
                    contiguous: data.contiguous,
                });
            }
            _ => {}
        }
    }

    fn publish_frame(&mut self, place: usize, now: Instant) {
        let publisher = &mut self.publishers[place];
        let at = publisher.next;
        publisher.next += publisher.interval;
        let number = publisher.frames;
        publisher.frames += 1;
        if publisher.paused {
            return;
        }
        let (mid, codec) = (publisher.mid, publisher.codec);
        let clock = if codec == Codec::Opus { Frequency::FORTY_EIGHT_KHZ } else { Frequency::NINETY_KHZ };
        let elapsed = (at - self.started).as_micros() as u64 * u64::from(clock.get()) / 1_000_000;
        let time = MediaTime::new(publisher.time_offset + elapsed, clock);
        for layer in 0..self.publishers[place].layers.len() {
            let entry = &mut self.publishers[place].layers[layer];
            if !entry.active {
                continue;
            }
            let key = codec == Codec::Vp8 && std::mem::take(&mut entry.key_next);
            let bytes = if key { entry.frame_bytes * 4 } else { entry.frame_bytes };
            let (rid, frame) = (entry.rid, make_frame(number, layer as u8, key, bytes));
            let loudness = self.publishers[place].loudness.map(|loudness| loudness(number));
            let Some(mut writer) = self.rtc.writer(mid) else { return };
            let params = writer.payload_params().find(|params| params.spec().codec == codec);
            let Some(pt) = params.map(|params| params.pt()) else { return };
            if let Some(rid) = rid {
                writer = writer.rid(rid);
            }
            if let Some(below) = loudness {
                writer = writer.audio_level(-below, false);
            }
            writer.write(pt, at, time, frame).expect("the client's stack takes a frame");
            // The stack must be polled between two writes to one section.
            self.poll();
            self.input(Input::Timeout(now));
        }
    }
}

impl Publisher {
    fn due(&self) -> bool {
        self.frames < self.limit
    }
}

/// Track that a client is about to publish.
#[derive(Debug, Clone)]
pub struct NewPublisher {
    pub track: TrackSid,
    /// Client-side track id, which the section names too.
    pub cid: String,
    /// RID and bytes of a delta frame for each layer, lowest first.
    pub layers: Vec<(String, usize)>,
    /// Time between frames.
    pub interval: Duration,
    /// Opus or VP8.
    pub codec: Codec,
    /// Offset of every media time, in clock ticks.
    pub time_offset: u64,
}

const MARK: &[u8; 4] = b"any!";

/// Frame that states its number, layer and length, and in which a changed or missing byte is detected. The first bit
/// has its VP8 meaning: it is set in delta frames (RFC 6386 section 9.1).
fn make_frame(number: u32, layer: u8, key: bool, bytes: usize) -> Vec<u8> {
    let mut frame = vec![u8::from(!key), layer];
    frame.extend_from_slice(MARK);
    frame.extend_from_slice(&number.to_be_bytes());
    frame.extend_from_slice(&(bytes.max(20) as u32).to_be_bytes());
    while frame.len() < bytes.max(20) {
        frame.push((frame.len() as u32).wrapping_mul(31).wrapping_add(number) as u8);
    }
    frame
}

fn read_frame(frame: &[u8]) -> (u32, u8, bool, bool) {
    if frame.len() < 20 {
        return (0, 0, false, false);
    }
    let word = |at: usize| u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
    let number = word(6);
    let key = frame[0] & 1 == 0;
    let intact = *frame == make_frame(number, frame[1], key, word(10) as usize);
    (number, frame[1], key, intact)
}
