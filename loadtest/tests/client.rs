//! A publisher and a subscriber against a substitute for the server: a WebRTC stack that answers their offers, on real
//! sockets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use livekit_protocol::{JoinRequest, SessionDescription, signal_response};
use loadtest::client::publish::Stream;
use loadtest::client::{Client, Role, State};
use loadtest::socket::{ReceiveBuffers, Socket};
use str0m::change::SdpOffer;
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc};

/// Substitute for the server: an ICE-lite stack with its own socket.
struct Answerer {
    rtc: Rtc,
    socket: Socket,
    packets: Vec<(u64, usize, bool)>,
}

impl Answerer {
    fn new() -> Self {
        let now = Instant::now();
        let mut rtc =
            Rtc::builder().clear_codecs().enable_vp8(true).set_rtp_mode(true).set_ice_lite(true).build(now);
        let socket = Socket::bind().expect("loopback");
        rtc.add_local_candidate(Candidate::host(socket.local(), "udp").expect("an address"));
        Self { rtc, socket, packets: Vec::new() }
    }

    fn answer(&mut self, join: &JoinRequest) -> signal_response::Message {
        let offer = join.publisher_offer.as_ref().expect("bundled");
        let parsed = SdpOffer::from_sdp_string(&offer.sdp).expect("an offer");
        let answer = self.rtc.sdp_api().accept_offer(parsed).expect("acceptable");
        signal_response::Message::Answer(SessionDescription {
            r#type: "answer".to_owned(),
            sdp: answer.to_sdp_string(),
            id: offer.id,
            ..SessionDescription::default()
        })
    }

    fn step(&mut self, buffers: &mut ReceiveBuffers) {
        let mut got: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
        self.socket
            .receive(buffers, |source, datagram| got.push((source, datagram.to_vec())))
            .expect("receives");
        for (source, datagram) in got {
            let input =
                Receive::new(Protocol::Udp, source, self.socket.local(), &datagram).expect("known protocol");
            self.rtc.handle_input(Input::Receive(Instant::now(), input)).expect("takes it");
            self.pump();
        }
        self.rtc.handle_input(Input::Timeout(Instant::now())).expect("takes the time");
        self.pump();
    }

    fn pump(&mut self) {
        loop {
            match self.rtc.poll_output().expect("goes on") {
                Output::Timeout(_) => return,
                Output::Transmit(transmit) => {
                    let (contents, to) = (&transmit.contents, transmit.destination);
                    assert!(self.socket.send(to, contents, contents.len()).expect("sends"));
                }
                Output::Event(Event::RtpPacket(packet)) => {
                    self.packets.push((*packet.seq_no, packet.payload.len(), packet.header.marker));
                }
                Output::Event(_) => {}
            }
        }
    }
}

fn run(client: &mut Client, server: &mut Answerer, done: impl Fn(&Client, &Answerer) -> bool) {
    let mut buffers = ReceiveBuffers::default();
    let begin = Instant::now();
    while !done(client, server) {
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", client.state());
        let now = Instant::now();
        client.receive(&mut buffers, now).expect("receives");
        if client.deadline() <= now {
            client.wake(now).expect("wakes");
        }
        server.step(&mut buffers);
        std::thread::yield_now();
    }
}

#[test]
fn a_publisher_connects_and_its_frames_arrive_whole() {
    let stream = Stream { fps: 100, burst: 5, payload_bytes: 1150 };
    let (mut client, join) =
        Client::new("ada".to_owned(), &Role::Publish(stream), Instant::now()).expect("made");
    assert_eq!(join.add_track_requests.len(), 1);
    assert!(
        join.publisher_offer
            .as_ref()
            .is_some_and(|offer| offer.sdp.contains(&join.add_track_requests[0].cid))
    );
    let mut server = Answerer::new();
    let answer = server.answer(&join);
    client.hear(answer, Instant::now()).expect("takes the answer");
    run(&mut client, &mut server, |client, _| client.state() == State::Connected);
    assert_eq!(client.published(), 0, "not before it is told to");
    client.start(Instant::now());
    run(&mut client, &mut server, |_, server| server.packets.len() >= 20);
    let first = server.packets[0].0;
    for (place, (sequence, bytes, marker)) in server.packets.iter().enumerate() {
        assert_eq!(*sequence, first + place as u64);
        assert_eq!(*bytes, 1150);
        assert_eq!(*marker, place % 5 == 4);
    }
}

#[test]
fn a_subscriber_offers_its_sections_and_a_stale_answer_changes_nothing() {
    let (mut client, join) =
        Client::new("ben".to_owned(), &Role::Subscribe { sections: 3, reports: false }, Instant::now())
            .expect("made");
    let offer = join.publisher_offer.clone().expect("bundled");
    assert_eq!(offer.sdp.matches("m=video").count(), 3);
    assert!(join.connection_settings.is_some_and(|settings| settings.auto_subscribe));
    let mut server = Answerer::new();
    let signal_response::Message::Answer(answer) = server.answer(&join) else { panic!("an answer") };
    let stale = SessionDescription { id: 7, ..answer.clone() };
    client.hear(signal_response::Message::Answer(stale), Instant::now()).expect("ignored");
    client.hear(signal_response::Message::Answer(answer), Instant::now()).expect("taken");
    run(&mut client, &mut server, |client, _| client.state() == State::Connected);
    assert_eq!(client.received().packets, 0);
}
