use std::net::Ipv4Addr;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use rtc_stun::message::BINDING_SUCCESS;

use super::ice::tests::{Check, read_response};
use super::*;
use crate::rtp::packet::RtpHeader;

/// A server and a client. Both are this crate's transport and ICE-lite, so the test sends the checks.
struct Net {
    now: Instant,
    limits: Limits,
    server: End,
    client: End,
}

struct End {
    transport: Transport,
    address: SocketAddr,
    ice: IceCredentials,
    events: Vec<TransportEvent>,
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::new(192, 0, 2, 1), port).into()
}

#[expect(clippy::disallowed_methods, reason = "virtual time needs an origin")]
fn net(srtp: SrtpOffer) -> Net {
    let now = Instant::now();
    let limits = Limits::default();
    let certificates = [Certificate::generate().unwrap(), Certificate::generate().unwrap()].map(Arc::new);
    let [server, client] = [(0, 1), (1, 2)].map(|(at, port): (usize, u16)| {
        let ice = IceCredentials::generate().unwrap();
        let config = TransportConfig {
            local: ice.clone(),
            certificate: certificates[at].clone(),
            srtp,
            limits: limits.clone(),
        };
        End { transport: Transport::new(config, now), address: address(port), ice, events: vec![] }
    });
    let mut net = Net { now, limits, server, client };
    let parameters = |end: &End, at: usize, dtls_role| RemoteParameters {
        ice: end.ice.clone(),
        fingerprint: certificates[at].fingerprint().clone(),
        dtls_role,
    };
    let (of_client, of_server) =
        (parameters(&net.client, 1, DtlsRole::Server), parameters(&net.server, 0, DtlsRole::Client));
    net.server.transport.set_remote(of_client, now).unwrap();
    net.client.transport.set_remote(of_server, now).unwrap();
    net
}

impl Net {
    fn check(&self) -> Check {
        Check::new(&self.server.ice, &self.client.ice)
    }

    /// Sends a check from the client's address, and one from the server's.
    fn checks(&mut self) {
        let to_server = self.check().nominating().bytes();
        let mut to_client = Check::new(&self.client.ice, &self.server.ice).nominating().bytes();
        let (server, client) = (self.server.address, self.client.address);
        assert_eq!(self.send_to_server(client, &to_server), Ok(()));
        let received =
            self.client.transport.handle_datagram(self.now, server, None, &mut to_client, &AnySource);
        assert_eq!(received, Received::Nothing);
    }

    fn send_to_server(&mut self, source: SocketAddr, data: &[u8]) -> Result<(), Drop> {
        let mut data = data.to_vec();
        match self.server.transport.handle_datagram(self.now, source, None, &mut data, &AnySource) {
            Received::Ignored(reason) => Err(reason),
            _ => Ok(()),
        }
    }

    /// Delivers all queued datagrams in both directions, except replies to checks, which are only verified.
    fn cross(&mut self) {
        loop {
            let mut moved = false;
            for at_server in [true, false] {
                let (from, to) = if at_server {
                    (&mut self.server, &mut self.client)
                } else {
                    (&mut self.client, &mut self.server)
                };
                let mut buffer = [0; 1500];
                while let Some((len, destination, _)) = from.transport.poll_transmit(self.now, &mut buffer) {
                    moved = true;
                    assert!(len <= 1200);
                    assert_eq!(destination, to.address);
                    let data = &mut buffer[..len];
                    if protocol(data) == Some(Protocol::Stun) {
                        assert_eq!(read_response(data, &from.ice.pwd).typ, BINDING_SUCCESS);
                    } else {
                        to.transport.handle_datagram(self.now, from.address, None, data, &AnySource);
                    }
                }
            }
            if !moved {
                break;
            }
        }
        for end in [&mut self.server, &mut self.client] {
            end.events.extend(std::iter::from_fn(|| end.transport.poll_event(self.now)));
        }
    }

    /// Advances time, with checks every two seconds if `with_checks`.
    fn pass(&mut self, time: Duration, with_checks: bool) {
        let end = self.now + time;
        let mut next_check = self.now;
        loop {
            if with_checks && next_check <= self.now {
                self.checks();
                next_check = self.now + Duration::from_secs(2);
            }
            self.cross();
            let timeouts = [self.server.transport.poll_timeout(), self.client.transport.poll_timeout()];
            let next = timeouts.into_iter().flatten().chain(with_checks.then_some(next_check)).min();
            match next {
                Some(next) if next <= end => self.now = self.now.max(next),
                _ => break,
            }
            self.server.transport.handle_timeout(self.now);
            self.client.transport.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn connect(&mut self) {
        self.checks();
        self.pass(Duration::from_millis(100), false);
        assert!(self.server.transport.is_connected() && self.client.transport.is_connected());
        let path = |end: &End| Path { remote: end.address, local: None };
        let expected =
            |end: &End| vec![TransportEvent::PathChanged { new: path(end) }, TransportEvent::Connected];
        assert_eq!(self.server.events, expected(&self.client));
        assert_eq!(self.client.events, expected(&self.server));
        self.server.events.clear();
        self.client.events.clear();
    }

    /// Asserts that media and data still pass, and that nothing else has happened.
    fn assert_alive(&mut self, sequence: u64) {
        self.server.events.clear();
        let mut packet = rtp(sequence);
        let len = packet.len() - 16;
        let extended = ExtendedSequence::first(0).plus(sequence);
        assert_eq!(self.client.transport.protect_rtp(extended, &mut packet, 12, len), Some(packet.len()));
        assert_eq!(self.send_to_server(self.client.address, &packet), Ok(()));
        self.client.transport.open_channel(self.now, "alive", true, None).unwrap();
        self.pass(Duration::from_secs(1), true);
        let label = "alive".to_owned();
        assert!(
            matches!(self.server.events.as_slice(), [TransportEvent::DataOpen { label: l, .. }] if *l == label)
        );
        self.server.events.clear();
        self.client.events.clear();
    }
}

/// An RTP packet with space for the tag.
fn rtp(sequence: u64) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend((sequence as u16).to_be_bytes());
    packet.extend([0, 0, 0, 9, 0, 0, 0, 5]);
    packet.extend([7; 100]);
    packet.extend([0; 16]);
    packet
}

/// Random datagrams, each with the first bytes of a protocol.
fn hostile(rng: &mut SmallRng, len: usize) -> Vec<Vec<u8>> {
    let firsts: [&[u8]; 9] = [
        &[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42],
        &[22, 0xfe, 0xfd, 0, 0],
        &[21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 0],
        &[20, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 1, 1],
        &[23, 0xfe, 0xfd, 0, 1],
        &[0x80, 96],
        &[0x9f, 96],
        &[0x80, 200],
        &[100],
    ];
    firsts
        .iter()
        .map(|first| {
            let mut datagram = vec![0; len];
            rng.fill_bytes(&mut datagram);
            let take = first.len().min(len);
            datagram[..take].copy_from_slice(&first[..take]);
            datagram
        })
        .collect()
}

#[test]
fn two_transports_connect_and_exchange_media_and_data() {
    for offer in [SrtpOffer::AeadOnly, SrtpOffer::AesCm80Too] {
        let mut net = net(offer);
        net.connect();
        assert_eq!(net.server.transport.srtp_profile(), Some(Profile::AeadAes128Gcm));
        assert_eq!(net.server.transport.destination(), Some((net.client.address, None)));
        let mut packet = rtp(1);
        let plain = packet[..packet.len() - 16].to_vec();
        let first = ExtendedSequence::first(1);
        net.client.transport.protect_rtp(first, &mut packet, 12, plain.len()).unwrap();
        let from = net.client.address;
        let received = net.server.transport.handle_datagram(net.now, from, None, &mut packet, &AnySource);
        let mut expected = plain.clone();
        assert_eq!(
            received,
            Received::Rtp {
                packet: &mut expected,
                header: RtpHeader::parse(&plain).unwrap(),
                extended: first
            }
        );
        let mut report = vec![0x80, 201, 0, 1, 0, 0, 0, 5];
        report.resize(8 + net.server.transport.srtcp_overhead(), 0);
        net.server.transport.protect_rtcp(&mut report, 8).unwrap();
        let from = net.server.address;
        let received = net.client.transport.handle_datagram(net.now, from, None, &mut report, &AnySource);
        assert_eq!(received, Received::Rtcp { packet: &[0x80, 201, 0, 1, 0, 0, 0, 5] });
        net.assert_alive(2);
    }
}

#[test]
fn data_passes_both_ways() {
    let mut net = net(SrtpOffer::AeadOnly);
    let ours = net.server.transport.open_channel(net.now, "_lossy", false, Some(0)).unwrap();
    let early = net.server.transport.send_data(net.now, ours, &Bytes::from_static(b"early"), true);
    assert_eq!(early, Err(DataError::NotOpen));
    net.checks();
    net.pass(Duration::from_secs(1), false);
    assert!(
        net.server.events.contains(&TransportEvent::DataOpen { channel: ours, label: "_lossy".to_owned() })
    );
    let Some(TransportEvent::DataOpen { channel, .. }) = net.client.events.last().cloned() else { panic!() };
    net.client.events.clear();
    let payload = Bytes::from(vec![3; 20_000]);
    net.server.transport.send_data(net.now, ours, &payload, true).unwrap();
    net.pass(Duration::from_secs(1), false);
    assert_eq!(net.client.events, [TransportEvent::Data { channel, binary: true, payload }]);
    assert_eq!(net.server.transport.buffered_data(), 0);
}

#[test]
fn of_messages_that_are_discarded_together_each_is_told() {
    let mut net = net(SrtpOffer::AeadOnly);
    let theirs = net.client.transport.open_channel(net.now, "_reliable", true, None).unwrap();
    net.checks();
    net.pass(Duration::from_secs(1), false);
    for held in [false, true] {
        net.server.events.clear();
        net.server.transport.hold_data(held);
        let too_long = Bytes::from(vec![3; net.limits.data_message_bytes + 1]);
        for _ in 0..3 {
            net.client.transport.send_data(net.now, theirs, &too_long, true).unwrap();
        }
        net.pass(Duration::from_secs(1), false);
        net.server.transport.hold_data(false);
        net.pass(Duration::from_secs(1), false);
        let told = net.server.events.iter().map(|event| match event {
            TransportEvent::DataDiscarded { messages } => *messages,
            other => panic!("{other:?}"),
        });
        assert_eq!(told.sum::<u64>(), 3);
    }
}

#[test]
fn without_checks_ice_fails_and_without_handshake_dtls() {
    let mut net = net(SrtpOffer::AeadOnly);
    net.pass(net.limits.ice_timeout - Duration::from_millis(1), false);
    assert_eq!(net.server.events, []);
    net.pass(Duration::from_millis(1), false);
    assert_eq!(net.server.events, [TransportEvent::Failed(Failure::IceTimeout)]);
    assert_eq!(net.server.transport.poll_timeout(), None);

    let mut net = self::net(SrtpOffer::AeadOnly);
    let check = net.check().bytes();
    net.send_to_server(net.client.address, &check).unwrap();
    let end = net.now + net.limits.dtls_timeout;
    net.server.transport.handle_timeout(end - Duration::from_millis(1));
    assert_eq!(net.server.transport.poll_event(net.now), None);
    net.server.transport.handle_timeout(end);
    assert_eq!(net.server.transport.poll_event(net.now), Some(TransportEvent::Failed(Failure::DtlsTimeout)));
}

#[test]
fn a_wrong_fingerprint_is_named() {
    let mut net = net(SrtpOffer::AeadOnly);
    let other = Arc::new(Certificate::generate().unwrap());
    let config = TransportConfig {
        local: net.server.ice.clone(),
        certificate: net.server.transport.config.certificate.clone(),
        srtp: SrtpOffer::AeadOnly,
        limits: net.limits.clone(),
    };
    net.server.transport = Transport::new(config, net.now);
    let remote = RemoteParameters {
        ice: net.client.ice.clone(),
        fingerprint: other.fingerprint().clone(),
        dtls_role: DtlsRole::Server,
    };
    net.server.transport.set_remote(remote, net.now).unwrap();
    net.checks();
    net.pass(Duration::from_secs(12), false);
    assert_eq!(net.server.events.last(), Some(&TransportEvent::Failed(Failure::FingerprintMismatch)));
    assert!(!net.server.events.contains(&TransportEvent::Connected));
}

#[test]
fn consent_is_kept_by_checks_and_expires_without() {
    let mut net = net(SrtpOffer::AeadOnly);
    net.connect();
    net.pass(Duration::from_secs(120), true);
    assert_eq!(net.server.events, []);
    net.pass(Duration::from_secs(40), false);
    assert_eq!(net.server.events, [TransportEvent::Failed(Failure::ConsentExpired)]);
    assert!(!net.server.transport.is_connected());
}

#[test]
fn a_goodbye_reaches_the_other_end() {
    let mut net = net(SrtpOffer::AeadOnly);
    net.connect();
    net.client.transport.close(net.now);
    net.cross();
    assert_eq!(net.server.events, [TransportEvent::Closed]);
    assert_eq!(net.client.events, []);
}

#[test]
fn the_path_follows_the_client_and_unproved_addresses_get_nothing() {
    let mut net = net(SrtpOffer::AeadOnly);
    net.connect();
    let moved = address(77);
    let mut packet = rtp(1);
    let len = packet.len() - 16;
    net.client.transport.protect_rtp(ExtendedSequence::first(1), &mut packet, 12, len).unwrap();
    assert_eq!(net.send_to_server(moved, &packet), Err(Drop::UnknownSource));
    let check = net.check().nominating().bytes();
    assert_eq!(net.send_to_server(moved, &check), Ok(()));
    assert_eq!(net.send_to_server(moved, &packet), Ok(()));
    assert_eq!(net.server.transport.destination(), Some((moved, None)));
    let new = Path { remote: moved, local: None };
    assert_eq!(net.server.transport.poll_event(net.now), Some(TransportEvent::PathChanged { new }));
}

#[test]
fn remote_descriptions_are_checked_and_a_restart_is_followed() {
    let mut net = net(SrtpOffer::AeadOnly);
    net.connect();
    let good = net.server.transport.secure.as_ref().unwrap().remote.clone();
    let mut short_ufrag = good.clone();
    short_ufrag.ice.ufrag = "abc".to_owned();
    let mut short_pwd = good.clone();
    short_pwd.ice.pwd = "x".repeat(21);
    let mut unknown = good.clone();
    unknown.fingerprint.algorithm = "md5".to_owned();
    let mut other = good.clone();
    other.fingerprint.value[0] ^= 1;
    let mut role = good.clone();
    role.dtls_role = DtlsRole::Client;
    let cases = [
        (short_ufrag, TransportError::Ufrag(3)),
        (short_pwd, TransportError::Pwd(21)),
        (unknown.clone(), TransportError::Fingerprint(unknown.fingerprint)),
        (other, TransportError::Changed),
        (role, TransportError::Changed),
    ];
    for (remote, error) in cases {
        assert_eq!(net.server.transport.set_remote(remote, net.now), Err(error));
    }
    assert_eq!(net.server.transport.set_remote(good.clone(), net.now), Ok(()));
    net.assert_alive(1);
    // A restart: new credentials at both ends.
    net.server.ice = IceCredentials::generate().unwrap();
    net.client.ice = IceCredentials::generate().unwrap();
    net.server.transport.restart_ice(net.server.ice.clone());
    let mut remote = good;
    remote.ice = net.client.ice.clone();
    net.server.transport.set_remote(remote, net.now).unwrap();
    net.client.transport.restart_ice(net.client.ice.clone());
    let mut remote = net.client.transport.secure.as_ref().unwrap().remote.clone();
    remote.ice = net.server.ice.clone();
    net.client.transport.set_remote(remote, net.now).unwrap();
    assert_eq!(net.server.transport.local_ice(), &net.server.ice);
    net.assert_alive(2);
}

#[test]
fn strangers_get_not_one_byte_in_any_stage() {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut net = net(SrtpOffer::AeadOnly);
    // Authentic datagrams of this and of another connection, from the wrong address.
    let mut true_ones = vec![];
    let mut other = self::net(SrtpOffer::AeadOnly);
    other.checks();
    let mut buffer = [0; 1500];
    while let Some((len, ..)) = other.client.transport.poll_transmit(other.now, &mut buffer) {
        true_ones.push(buffer[..len].to_vec());
    }
    assert!(true_ones.iter().any(|datagram| protocol(datagram) == Some(Protocol::Dtls)));
    true_ones.push(other.check().nominating().bytes());
    let stranger = address(666);
    for stage in 0..3 {
        match stage {
            0 => {}
            1 => net.send_to_server(net.client.address, &net.check().bytes()).unwrap(),
            _ => {
                while net.server.transport.poll_transmit(net.now, &mut buffer).is_some() {}
                net.connect();
            }
        }
        while net.server.transport.poll_transmit(net.now, &mut buffer).is_some() {}
        for len in 0..1500 {
            let datagrams = hostile(&mut rng, len).into_iter().chain(true_ones.iter().cloned());
            for datagram in datagrams.take(if len == 0 { 99 } else { 9 }) {
                assert!(net.send_to_server(stranger, &datagram).is_err());
                assert!(net.server.transport.poll_transmit(net.now, &mut buffer).is_none());
                assert_eq!(net.server.transport.poll_event(net.now), None);
            }
        }
        assert!(!net.server.transport.is_validated(stranger));
    }
    net.assert_alive(1);
}

#[test]
fn hostile_bytes_from_the_clients_own_address_change_nothing() {
    let mut rng = SmallRng::seed_from_u64(2);
    let mut net = net(SrtpOffer::AeadOnly);
    let check = net.check().nominating().bytes();
    net.send_to_server(net.client.address, &check).unwrap();
    let mut buffer = [0; 1500];
    while net.server.transport.poll_transmit(net.now, &mut buffer).is_some() {}
    net.server.events.extend(std::iter::from_fn(|| net.server.transport.poll_event(net.now)));
    for connected in [false, true] {
        for len in 0..1500 {
            for datagram in hostile(&mut rng, len) {
                let result = net.send_to_server(net.client.address, &datagram);
                assert!(!connected || result.is_err(), "{datagram:?}");
                assert!(net.server.transport.poll_transmit(net.now, &mut buffer).is_none());
                assert_eq!(net.server.transport.poll_event(net.now), None);
            }
        }
        if !connected {
            net.pass(Duration::from_secs(1), true);
            assert!(net.server.transport.is_connected());
        }
    }
    net.server.events.clear();
    net.client.events.clear();
    net.assert_alive(1);
}

#[test]
fn replies_to_checks_are_bounded() {
    let mut net = net(SrtpOffer::AeadOnly);
    let check = net.check().bytes();
    for _ in 0..1000 {
        net.send_to_server(net.client.address, &check).unwrap();
    }
    let mut buffer = [0; 1500];
    let replies = std::iter::from_fn(|| net.server.transport.poll_transmit(net.now, &mut buffer)).count();
    assert_eq!(replies, MAX_REPLIES);
}

#[test]
fn transports_can_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Transport>();
    is_send::<Arc<Certificate>>();
}
