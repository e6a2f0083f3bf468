//! A client: a whole independent WebRTC stack (str0m) that publishes synthetic frames and notes what it receives.

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

/// What a client publishes on one media section.
pub struct Publisher {
    /// The section.
    pub mid: Mid,
    /// The announced track.
    pub track: TrackSid,
    /// Layers, lowest first; one entry without RID for a single encoding.
    pub layers: Vec<PublishedLayer>,
    /// Time between frames.
    pub interval: Duration,
    /// When the next frame is due.
    pub next: Instant,
    /// Frames made so far.
    pub frames: u32,
    /// Frames are made until this many.
    pub limit: u32,
    /// Opus or VP8.
    pub codec: Codec,
    /// Added to every media time, in clock ticks: to let timestamps wrap during a test.
    pub time_offset: u64,
    /// Nothing is sent while true.
    pub paused: bool,
    /// The level that the n-th packet of sound states, in dB below full scale; `None`: packets state none.
    pub loudness: Option<fn(u32) -> i8>,
}

/// One encoding.
pub struct PublishedLayer {
    /// Its RID.
    pub rid: Option<Rid>,
    /// Bytes of an ordinary frame; a key frame has four times as many.
    pub frame_bytes: usize,
    /// The next frame is a key frame.
    pub key_next: bool,
    /// It sends.
    pub active: bool,
}

/// A frame that came out of the client's depacketizer.
#[derive(Debug, Clone)]
pub struct ReceivedFrame {
    /// What its section carried when it came.
    pub track: Option<TrackSid>,
    /// When.
    pub at: Instant,
    /// Its RTP time.
    pub time: MediaTime,
    /// The publisher's number of it.
    pub number: u32,
    /// Which encoding it was made for.
    pub layer: u8,
    /// Whether it is a key frame.
    pub key: bool,
    /// Whether all its bytes are as they were made.
    pub intact: bool,
    /// Whether the client's stack saw a gap before it.
    pub contiguous: bool,
}

/// A whole client.
pub struct Client {
    /// Its name, also its identity.
    pub name: String,
    /// Its session.
    pub participant: ParticipantSid,
    /// Where its datagrams come from.
    pub address: SocketAddr,
    /// Where they seem to come from: elsewhere, if it forges them, or if there is a NAT between.
    pub appears_from: SocketAddr,
    /// Where datagrams reach it: elsewhere if there is a NAT between; `None`: nowhere.
    pub reached_at: Option<SocketAddr>,
    /// Which shard holds it.
    pub shard: usize,
    /// What it leaves out of its offers: an `a=` line that contains one of these.
    pub offers_without: &'static [&'static str],
    /// Its stack.
    pub rtc: Rtc,
    /// When its stack wants to be called.
    pub timeout: Instant,
    /// What it publishes.
    pub publishers: Vec<Publisher>,
    /// Frames received.
    pub frames: Vec<ReceivedFrame>,
    /// Scalable streams that it publishes.
    pub raw_publishers: Vec<RawPublisher>,
    /// Packets received, by one that works with packets.
    pub packets: Vec<ReceivedPacket>,
    /// User messages received, with their channel's label.
    pub messages: Vec<(String, Vec<u8>)>,
    /// User messages that leave as soon as the stack has room for them, with their channel's label.
    pub outgoing: VecDeque<(String, Vec<u8>)>,
    /// Key-frame requests received.
    pub key_frame_requests: Vec<Instant>,
    /// What comes in which section, by the answers.
    pub tracks: BTreeMap<String, TrackSid>,
    /// When ICE and DTLS were done.
    pub connected: Option<Instant>,
    /// The stack reported the connection lost.
    pub disconnected: bool,
    /// Open channels.
    pub channels: BTreeMap<String, ChannelId>,
    /// The time of the last input.
    pub last_input: Instant,
    /// What is done to a server's answer before the stack reads it.
    pub edit_answer: Option<fn(&str) -> String>,
    offered: bool,
    /// Sections that it is to send in no longer, from its next offer on.
    ceased: Vec<Mid>,
    /// Sections in which it offers to receive.
    receives: Vec<Mid>,
    /// It goes on offering to receive in sections that were answered as inactive, as browsers do. This stack does not by
    /// itself, and decodes nothing where another source follows in a section.
    pub receives_again: bool,
    pending: Option<SdpPendingOffer>,
    outbox: Vec<(SocketAddr, Vec<u8>)>,
    started: Instant,
}

impl Client {
    /// A client that has not said anything yet.
    pub fn new(name: &str, address: SocketAddr, shard: usize, now: Instant) -> Self {
        let rtc = Rtc::builder()
            .set_rtcp_report_interval_video(Duration::from_millis(500))
            .set_reordering_size_video(200)
            .set_reordering_size_audio(20)
            .build(now);
        Self::of(rtc, name, address, shard, now)
    }

    /// One that works with packets.
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

    /// Offers: what it publishes now, `audios` and `videos` more sections to receive in, and the first time
    /// the data channels. An offer that is not answered yet is given up.
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
            // Nothing changes in the client; it offers because it was asked to. Toggling nothing is not
            // something this stack can offer, so it adds a section that stays unused.
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

    /// Sends a track no longer, and says so in its next offer.
    pub fn cease(&mut self, track: &TrackSid) {
        let place = self.publishers.iter().position(|publisher| publisher.track == *track);
        let publisher = self.publishers.remove(place.expect("it is published"));
        self.ceased.push(publisher.mid);
    }

    /// Offers to send a scalable stream no longer.
    pub fn offer_without(&mut self, track: &TrackSid) -> String {
        let place = self.raw_publishers.iter().position(|publisher| publisher.track == *track);
        let publisher = self.raw_publishers.remove(place.expect("it is published"));
        let mut api = self.rtc.sdp_api();
        api.set_direction(publisher.mid, Direction::Inactive);
        let (offer, pending) = api.apply().expect("something changed");
        self.pending = Some(pending);
        offer.to_sdp_string()
    }

    /// Offers an ICE restart.
    pub fn restart_ice(&mut self) -> String {
        let mut api = self.rtc.sdp_api();
        api.ice_restart(true);
        let (offer, pending) = api.apply().expect("a restart is a change");
        self.pending = Some(pending);
        offer.to_sdp_string()
    }

    /// Whether it has made an offer.
    pub fn has_offered(&self) -> bool {
        self.offered
    }

    /// Takes the server's answer.
    pub fn answer(&mut self, sdp: &str, mid_to_track: BTreeMap<String, TrackSid>) {
        let edited = self.edit_answer.map(|edit| edit(sdp));
        let sdp = edited.as_deref().unwrap_or(sdp);
        let answer = SdpAnswer::from_sdp_string(sdp).expect("the server's answer parses");
        let pending = self.pending.take().expect("an offer was made");
        self.rtc.sdp_api().accept_answer(pending, answer).expect("the server's answer is acceptable");
        self.tracks = mid_to_track;
        self.answer_every_nack();
    }

    /// This stack ceases to answer NACKs above a share of retransmissions that ten per cent of loss comes close
    /// to. What is tested is the server's part.
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

    /// Takes the server's offer (subscriber connection) and answers it.
    pub fn take_offer(&mut self, sdp: &str, mid_to_track: BTreeMap<String, TrackSid>) -> String {
        let offer = SdpOffer::from_sdp_string(sdp).expect("the server's offer parses");
        let answer = self.rtc.sdp_api().accept_offer(offer).expect("the server's offer is acceptable");
        self.tracks = mid_to_track;
        answer.to_sdp_string()
    }

    /// When it wants to be called next.
    pub fn next(&self) -> Instant {
        let media = self.publishers.iter().filter(|publisher| self.connected.is_some() && publisher.due());
        let raw =
            self.raw_publishers.iter().filter(|_| self.connected.is_some()).map(|publisher| publisher.next);
        let media = media.map(|publisher| publisher.next).chain(raw).min();
        media.map_or(self.timeout, |media| media.min(self.timeout))
    }

    /// A datagram arrived.
    pub fn receive(&mut self, now: Instant, source: SocketAddr, data: &[u8]) {
        let Ok(contents) = data.try_into() else { return };
        let receive = Receive { proto: Protocol::Udp, source, destination: self.address, contents };
        self.input(Input::Receive(now, receive));
    }

    /// Time has passed: makes the frames that are due.
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

    /// Datagrams that leave, with their destinations.
    pub fn take_outbox(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        std::mem::take(&mut self.outbox)
    }

    /// Sends a user message.
    pub fn send(&mut self, label: &str, payload: &[u8]) {
        let channel = *self.channels.get(label).expect("the channel is open");
        let mut channel = self.rtc.channel(channel).expect("the channel is open");
        assert!(channel.write(true, payload).expect("the message is taken"), "no backlog");
        self.poll();
    }

    /// Asks for a key frame of a track.
    pub fn ask_for_picture(&mut self, track: &TrackSid) {
        let mid =
            self.tracks.iter().find(|(_, known)| *known == track).map(|(mid, _)| Mid::from(mid.as_str()));
        let mut api = self.rtc.direct_api();
        let stream = api.stream_rx_by_mid(mid.expect("the track has a section"), None).expect("it flows");
        stream.request_keyframe(KeyframeRequestKind::Pli);
        self.input(Input::Timeout(self.last_input));
    }

    /// Frames of a track.
    pub fn frames_of(&self, track: &TrackSid) -> Vec<&ReceivedFrame> {
        self.frames.iter().filter(|frame| frame.track.as_ref() == Some(track)).collect()
    }

    /// Packets of a track.
    pub fn packets_of(&self, track: &TrackSid) -> Vec<&ReceivedPacket> {
        let carries = |packet: &&ReceivedPacket| self.tracks.get(&*packet.mid.to_string()) == Some(track);
        self.packets.iter().filter(carries).collect()
    }

    /// What it has just offered is published as a scalable stream, after a while.
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

    /// Takes everything that the stack has to say, and gives it messages while it has room for them.
    pub fn poll(&mut self) {
        self.poll_stack();
        while self.write_next() {
            self.poll_stack();
        }
    }

    /// Gives the stack messages while it has room for them, which leave when it is polled.
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
            // The stack wants to be polled between two writes to one section.
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

/// What a client is about to publish.
#[derive(Debug, Clone)]
pub struct NewPublisher {
    /// The announced track.
    pub track: TrackSid,
    /// The client's id of it, which its section names.
    pub cid: String,
    /// RID and bytes of an ordinary frame for each layer, lowest first.
    pub layers: Vec<(String, usize)>,
    /// Time between frames.
    pub interval: Duration,
    /// Opus or VP8.
    pub codec: Codec,
    /// Added to every media time, in clock ticks.
    pub time_offset: u64,
}

const MARK: &[u8; 4] = b"any!";

/// A frame that tells what it is, and in which a flipped or missing byte shows. The first bit is VP8's: set in
/// frames that are no key frames (RFC 6386 section 9.1).
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
