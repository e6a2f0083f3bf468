use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType};
use rtc_dtls::crypto_provider::default_provider;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;

use super::*;
use crate::transport::srtp::Profile;

/// A server and a client of this implementation. Tests can watch, drop or add datagrams between them.
struct Pair {
    now: Instant,
    server: Dtls,
    client: Dtls,
    events: [Vec<DtlsEvent>; 2],
}

#[expect(clippy::disallowed_methods, reason = "virtual time needs an origin")]
fn start_time() -> Instant {
    Instant::now()
}

fn certificate() -> Arc<Certificate> {
    Arc::new(Certificate::generate().unwrap())
}

fn pair(offer: SrtpOffer) -> Pair {
    let (ours, theirs) = (certificate(), certificate());
    let server = Dtls::new(DtlsRole::Server, ours.clone(), theirs.fingerprint().clone(), offer);
    let client = Dtls::new(DtlsRole::Client, theirs, ours.fingerprint().clone(), offer);
    let now = start_time();
    let mut pair = Pair { now, server, client, events: [vec![], vec![]] };
    pair.client.start(now);
    pair
}

impl Pair {
    /// Delivers datagrams until none are left. `filter` gets each datagram, with whether it goes to the server, and
    /// returns the datagrams that arrive in its place.
    fn cross(&mut self, filter: &mut dyn FnMut(bool, Bytes) -> Vec<Vec<u8>>) {
        loop {
            let (to_server, to_client) = (self.client.poll_transmit(), self.server.poll_transmit());
            if to_server.is_none() && to_client.is_none() {
                break;
            }
            for (is_to_server, datagram) in [(true, to_server), (false, to_client)] {
                let Some(datagram) = datagram else { continue };
                assert!(datagram.len() <= 1200, "{} bytes", datagram.len());
                for arriving in filter(is_to_server, datagram) {
                    let dtls = if is_to_server { &mut self.server } else { &mut self.client };
                    let _ = dtls.handle(self.now, &arriving);
                }
            }
        }
        while let Some(event) = self.server.poll_event() {
            self.events[0].push(event);
        }
        while let Some(event) = self.client.poll_event() {
            self.events[1].push(event);
        }
    }

    fn run(&mut self, filter: &mut dyn FnMut(bool, Bytes) -> Vec<Vec<u8>>) {
        let end = self.now + Duration::from_secs(20);
        loop {
            self.cross(filter);
            let next = [self.server.poll_timeout(), self.client.poll_timeout()].into_iter().flatten().min();
            match next {
                Some(next) if next <= end => self.now = self.now.max(next),
                _ => break,
            }
            self.server.handle_timeout(self.now);
            self.client.handle_timeout(self.now);
        }
    }

    fn connect(&mut self) {
        self.run(&mut deliver);
        assert!(self.is_connected());
    }

    fn is_connected(&self) -> bool {
        let connected = |events: &[DtlsEvent]| matches!(events.first(), Some(DtlsEvent::Connected(_)));
        connected(&self.events[0]) && connected(&self.events[1])
    }

    /// Asserts that data still passes both ways, and that nothing else has happened.
    fn assert_alive(&mut self) {
        self.events = [vec![], vec![]];
        self.server.write(self.now, b"from the server");
        self.client.write(self.now, b"from the client");
        self.cross(&mut deliver);
        let [server, client] = &self.events;
        assert!(matches!(server.as_slice(), [DtlsEvent::Data(data)] if &data[..] == b"from the client"));
        assert!(matches!(client.as_slice(), [DtlsEvent::Data(data)] if &data[..] == b"from the server"));
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a filter, which may keep what it gets")]
fn deliver(_: bool, datagram: Bytes) -> Vec<Vec<u8>> {
    vec![datagram.to_vec()]
}

fn record(content: u8, epoch: u16, number: u64, body: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    record::write_plain(&mut record, content, number, body);
    record[3..5].copy_from_slice(&epoch.to_be_bytes());
    record
}

fn message(kind: u8, sequence: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    record::Message { kind, sequence, body: body.to_vec() }.write(&mut bytes);
    bytes
}

/// Records that an attacker without the keys may send, with record numbers before, around and far beyond the real ones.
fn forgeries(rng: &mut SmallRng) -> Vec<Vec<u8>> {
    let mut forged = Vec::new();
    for number in [0, 1, 2, 3, 5, 8, 40, 1000, (1 << 48) - 1] {
        for epoch in [0, 1, 2] {
            // close_notify as a warning, and fatal alerts.
            for alert in [[1, 0], [2, 0], [2, 10], [2, 40], [2, 51], [1, 90]] {
                forged.push(record(ALERT, epoch, number, &alert));
            }
            forged.push(record(record::CHANGE_CIPHER_SPEC, epoch, number, &[1]));
            forged.push(record(APPLICATION_DATA, epoch, number, b"data without keys"));
            let mut noise = vec![0; rng.random_range(0..200)];
            rng.fill_bytes(&mut noise);
            for content in [ALERT, HANDSHAKE, APPLICATION_DATA, 24, 25, 255] {
                forged.push(record(content, epoch, number, &noise));
            }
            // Messages of every kind, empty and with noise, for every message number in use.
            for kind in 0..=24 {
                for sequence in 0..7 {
                    forged.push(record(HANDSHAKE, epoch, number, &message(kind, sequence, &[])));
                    forged.push(record(HANDSHAKE, epoch, number, &message(kind, sequence, &noise)));
                }
            }
        }
    }
    forged
}

#[test]
fn two_of_ours_agree_on_keys_and_exchange_data() {
    for (offer, expected) in
        [(SrtpOffer::AeadOnly, Profile::AeadAes128Gcm), (SrtpOffer::AesCm80Too, Profile::AeadAes128Gcm)]
    {
        let mut pair = pair(offer);
        pair.connect();
        let [DtlsEvent::Connected(Some(server)), DtlsEvent::Connected(Some(client))] =
            [&pair.events[0][0], &pair.events[1][0]]
        else {
            panic!("no keys");
        };
        assert_eq!((server.profile, client.profile), (expected, expected));
        assert_eq!((server.local.key, &server.local.salt), (client.remote.key, &client.remote.salt));
        assert_eq!((server.remote.key, &server.remote.salt), (client.local.key, &client.local.salt));
        assert_ne!(server.local.key, server.remote.key);
        pair.assert_alive();
    }
}

#[test]
fn the_handshake_survives_heavy_loss() {
    let mut done = 0;
    for seed in 0..30 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut pair = pair(SrtpOffer::AeadOnly);
        pair.run(&mut |_, datagram| if rng.random_bool(0.3) { vec![] } else { vec![datagram.to_vec()] });
        done += u32::from(pair.is_connected());
        if pair.is_connected() {
            pair.assert_alive();
        }
    }
    assert!(done >= 29, "{done} of 30");
}

#[test]
fn each_lost_datagram_alone_is_made_good() {
    for lost in 0..12 {
        let mut pair = pair(SrtpOffer::AeadOnly);
        let mut number = 0;
        pair.run(&mut |_, datagram| {
            number += 1;
            if number - 1 == lost { vec![] } else { vec![datagram.to_vec()] }
        });
        assert!(pair.is_connected(), "datagram {lost}");
        pair.assert_alive();
    }
}

#[test]
fn duplicated_and_reversed_datagrams_do_no_harm() {
    let mut pair = pair(SrtpOffer::AeadOnly);
    pair.run(&mut |_, datagram| vec![datagram.to_vec(), datagram.to_vec()]);
    assert!(pair.is_connected());
    pair.assert_alive();
}

#[test]
fn forged_records_during_the_handshake_have_no_effect_on_the_server() {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut pair = pair(SrtpOffer::AeadOnly);
    // Forgeries arrive before and after every authentic datagram to the server.
    pair.run(&mut |to_server, datagram| {
        let mut arriving = if to_server { forgeries(&mut rng) } else { vec![] };
        arriving.push(datagram.to_vec());
        if to_server {
            arriving.extend(forgeries(&mut rng));
        }
        arriving
    });
    assert!(pair.is_connected());
    pair.assert_alive();
}

#[test]
fn changed_copies_before_the_true_flights_have_no_lasting_effect_on_the_server() {
    // An attacker who sees all traffic and is faster could do this to all client messages except the hellos.
    for at in (0..600).step_by(7) {
        let mut pair = pair(SrtpOffer::AeadOnly);
        pair.run(&mut |to_server, datagram| {
            let mut changed = datagram.to_vec();
            let kind = changed.get(13).copied();
            match changed.get_mut(at) {
                Some(byte) if to_server && kind != Some(record::CLIENT_HELLO) => *byte ^= 0x55,
                _ => return vec![datagram.to_vec()],
            }
            vec![changed, datagram.to_vec()]
        });
        assert!(pair.is_connected(), "byte {at}");
    }
}

#[test]
fn forged_records_during_the_handshake_have_no_effect_on_the_client() {
    let mut rng = SmallRng::seed_from_u64(2);
    let mut pair = pair(SrtpOffer::AeadOnly);
    pair.run(&mut |to_server, datagram| {
        let mut arriving = vec![datagram.to_vec()];
        if !to_server {
            arriving.extend(forgeries(&mut rng).into_iter().filter(|forged| {
                // A DTLS 1.2 client cannot detect a forged HelloVerifyRequest.
                forged.get(13) != Some(&record::HELLO_VERIFY_REQUEST)
            }));
        }
        arriving
    });
    assert!(pair.is_connected());
    pair.assert_alive();
}

#[test]
fn a_malformed_request_for_a_cookie_does_not_end_the_clients_handshake() {
    let bodies: [&[u8]; 5] = [&[], &[0xfe, 0xff], &[0xfe, 0xff, 2, 1], &[0xfe, 0xff, 1, 1, 1], &[3, 3, 1, 1]];
    for body in bodies {
        let mut message = vec![record::HELLO_VERIFY_REQUEST, 0, 0, body.len() as u8, 0, 0, 0, 0, 0];
        message.extend([0, 0, body.len() as u8]);
        message.extend_from_slice(body);
        let mut forged = Vec::new();
        record::write_plain(&mut forged, HANDSHAKE, 0, &message);
        let mut pair = pair(SrtpOffer::AeadOnly);
        assert_eq!(pair.client.handle(pair.now, &forged), Err(Drop::BadDtls), "{body:?}");
        pair.run(&mut |_, datagram| vec![datagram.to_vec()]);
        assert!(pair.is_connected(), "{body:?}");
        pair.assert_alive();
    }
}

#[test]
fn forged_records_after_the_handshake_are_counted_and_have_no_effect() {
    let mut rng = SmallRng::seed_from_u64(3);
    let mut pair = pair(SrtpOffer::AeadOnly);
    pair.connect();
    for forged in forgeries(&mut rng) {
        assert_eq!(pair.server.handle(pair.now, &forged), Err(Drop::BadDtls));
        assert_eq!(pair.client.handle(pair.now, &forged), Err(Drop::BadDtls));
    }
    assert!(pair.server.poll_transmit().is_none() && pair.client.poll_transmit().is_none());
    pair.assert_alive();
}

#[test]
fn a_forged_record_beside_a_true_one_does_not_take_it_along() {
    let mut rng = SmallRng::seed_from_u64(4);
    let mut pair = pair(SrtpOffer::AeadOnly);
    pair.connect();
    pair.events = [vec![], vec![]];
    for forged in forgeries(&mut rng) {
        pair.client.write(pair.now, b"x");
        pair.cross(&mut |_, datagram| vec![[forged.as_slice(), &datagram].concat()]);
    }
    let received = pair.events[0].iter().filter(|event| matches!(event, DtlsEvent::Data(_))).count();
    assert_eq!(received, forgeries(&mut SmallRng::seed_from_u64(4)).len());
}

#[test]
fn a_tampered_or_replayed_record_is_dropped_alone() {
    let mut pair = pair(SrtpOffer::AeadOnly);
    pair.connect();
    pair.client.write(pair.now, b"one");
    let sealed = pair.client.poll_transmit().unwrap();
    for at in 0..sealed.len() {
        let mut changed = sealed.to_vec();
        changed[at] ^= 1;
        assert_eq!(pair.server.handle(pair.now, &changed), Err(Drop::BadDtls), "byte {at}");
    }
    assert_eq!(pair.server.handle(pair.now, &sealed), Ok(()));
    assert_eq!(pair.server.handle(pair.now, &sealed), Err(Drop::BadDtls));
    assert!(matches!(pair.server.poll_event(), Some(DtlsEvent::Data(data)) if &data[..] == b"one"));
    pair.assert_alive();
}

#[test]
fn a_replayed_handshake_has_no_effect() {
    let mut pair = pair(SrtpOffer::AeadOnly);
    let mut seen = Vec::new();
    pair.run(&mut |to_server, datagram| {
        seen.push((to_server, datagram.to_vec()));
        vec![datagram.to_vec()]
    });
    for _ in 0..50 {
        for (to_server, datagram) in &seen {
            let dtls = if *to_server { &mut pair.server } else { &mut pair.client };
            assert_eq!(dtls.handle(pair.now, datagram), Err(Drop::BadDtls));
        }
    }
    assert!(pair.server.poll_transmit().is_none() && pair.client.poll_transmit().is_none());
    pair.assert_alive();
}

#[test]
fn hellos_of_others_do_not_keep_the_true_client_out() {
    let mut pair = pair(SrtpOffer::AeadOnly);
    // Other clients' hellos, each with its own random bytes, arrive from the same address. The answers to them reach
    // the real client first.
    let others: Vec<Vec<u8>> = (0..3)
        .map(|_| {
            let mut other = Dtls::new(
                DtlsRole::Client,
                certificate(),
                certificate().fingerprint().clone(),
                SrtpOffer::AeadOnly,
            );
            other.start(pair.now);
            other.poll_transmit().unwrap().to_vec()
        })
        .collect();
    let mut first = true;
    pair.run(&mut |to_server, datagram| {
        let mut arriving = if to_server && std::mem::take(&mut first) { others.clone() } else { vec![] };
        arriving.push(datagram.to_vec());
        if to_server {
            arriving.extend(others.clone());
        }
        arriving
    });
    assert!(pair.is_connected());
    pair.assert_alive();
}

#[test]
fn a_certificate_that_is_not_announced_never_connects_and_is_told() {
    let (ours, theirs, other) = (certificate(), certificate(), certificate());
    for (at_server, at_client) in [(&other, &ours), (&theirs, &other)] {
        let fingerprint = at_server.fingerprint().clone();
        let server = Dtls::new(DtlsRole::Server, ours.clone(), fingerprint, SrtpOffer::AeadOnly);
        let fingerprint = at_client.fingerprint().clone();
        let client = Dtls::new(DtlsRole::Client, theirs.clone(), fingerprint, SrtpOffer::AeadOnly);
        let mut pair = Pair { now: start_time(), server, client, events: [vec![], vec![]] };
        pair.client.start(pair.now);
        pair.run(&mut deliver);
        assert!(pair.events[0].is_empty());
        assert!(!pair.events[1].iter().any(|event| matches!(event, DtlsEvent::Connected(_))));
        assert!(pair.server.has_mismatch() || pair.client.has_mismatch());
    }
}

#[test]
fn a_goodbye_with_keys_ends_the_session() {
    let mut pair = pair(SrtpOffer::AeadOnly);
    pair.connect();
    pair.events = [vec![], vec![]];
    pair.client.close(pair.now);
    pair.cross(&mut deliver);
    assert!(matches!(pair.events[0].as_slice(), [DtlsEvent::Closed]));
}

#[test]
fn datagrams_of_every_length_do_no_harm_in_any_stage() {
    let mut rng = SmallRng::seed_from_u64(5);
    let mut noise = |len: usize| {
        let mut noise = vec![0; len];
        rng.fill_bytes(&mut noise);
        let mut framed = noise.clone();
        if let Some(header) = framed.get_mut(..13) {
            header.copy_from_slice(&record(HANDSHAKE, (len % 2) as u16, 3, &[]));
            header[11..].copy_from_slice(&((len - 13) as u16).to_be_bytes());
        }
        [noise, framed]
    };
    let mut pair = pair(SrtpOffer::AeadOnly);
    for _ in 0..2 {
        for len in 0..1500 {
            for datagram in noise(len) {
                let _ = pair.server.handle(pair.now, &datagram);
                let _ = pair.client.handle(pair.now, &datagram);
            }
        }
        pair.connect();
    }
    pair.assert_alive();
}

const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

/// Connects rtc-dtls itself as a client to this server implementation, with these certificate and SRTP profiles.
fn foreign(
    algorithm: Option<&str>,
    profiles: &[SrtpProtectionProfile],
    ems: bool,
) -> Option<Option<Profile>> {
    let provider = default_provider().unwrap();
    let theirs =
        rtc_dtls::crypto::Certificate::generate_self_signed(vec!["client".to_owned()], provider.crypto())
            .unwrap();
    let der = theirs.certificate[0].as_ref().to_vec();
    let (name, value) = match algorithm {
        Some("sha-512") => ("SHA-512", aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, &der)),
        Some("sha-1") => {
            ("sha-1", aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &der))
        }
        _ => ("sha-256", aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der)),
    };
    let fingerprint = Fingerprint { algorithm: name.to_owned(), value: value.as_ref().to_vec() };
    assert!(fingerprint.is_usable());
    let mut server = Dtls::new(DtlsRole::Server, certificate(), fingerprint, SrtpOffer::AesCm80Too);
    let ems = if ems { ExtendedMasterSecretType::Require } else { ExtendedMasterSecretType::Disable };
    let config = ConfigBuilder::default()
        .with_crypto_provider(provider)
        .with_certificates(vec![theirs])
        .with_srtp_protection_profiles(profiles.to_vec())
        .with_client_auth(ClientAuthType::RequireAnyClientCert)
        .with_extended_master_secret(ems)
        .with_insecure_skip_verify(true)
        .with_server_name("server".to_owned())
        // Splits every message into several fragments.
        .with_mtu(100)
        .build(true, None)
        .unwrap();
    let now = start_time();
    let mut client = Endpoint::new(HERE, TransportProtocol::UDP, None);
    client.connect(now, HERE, Arc::new(config), None).unwrap();
    let mut connected = None;
    for _ in 0..20 {
        while let Some(transmit) = client.poll_transmit() {
            let _ = server.handle(now, &transmit.message);
        }
        while let Some(datagram) = server.poll_transmit() {
            let events = client.read(now, HERE, None, BytesMut::from(&datagram[..])).ok()?;
            for event in events {
                if let EndpointEvent::ApplicationData(data) = event {
                    assert_eq!(&data[..], b"hello");
                    return connected;
                }
            }
        }
        if let Some(DtlsEvent::Connected(keys)) = server.poll_event() {
            connected = Some(keys.map(|keys| keys.profile));
            server.write(now, b"hello");
        }
    }
    None
}

#[test]
fn another_client_with_small_fragments_connects() {
    use SrtpProtectionProfile::{Srtp_Aead_Aes_128_Gcm as Gcm, Srtp_Aes128_Cm_Hmac_Sha1_80 as Cm};
    assert_eq!(foreign(None, &[Gcm], true), Some(Some(Profile::AeadAes128Gcm)));
    assert_eq!(foreign(Some("sha-512"), &[Cm], true), Some(Some(Profile::AesCm128HmacSha1_80)));
    // The order in which Chromium lists them: the faster one is selected all the same.
    assert_eq!(foreign(Some("sha-1"), &[Cm, Gcm], true), Some(Some(Profile::AeadAes128Gcm)));
    assert_eq!(foreign(None, &[], true), Some(None), "data only");
}

#[test]
fn a_client_without_extended_master_secret_is_refused() {
    use SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm as Gcm;
    assert_eq!(foreign(None, &[Gcm], false), None);
}

#[test]
fn fingerprints_print_as_in_session_descriptions() {
    let certificate = certificate();
    let text = certificate.fingerprint().to_string();
    let (algorithm, digits) = text.split_once(' ').unwrap();
    assert_eq!(algorithm, "sha-256");
    assert_eq!(digits.split(':').count(), 32);
    assert!(digits.split(':').all(|byte| byte.len() == 2 && u8::from_str_radix(byte, 16).is_ok()));
    let unknown = Fingerprint { algorithm: "md5".to_owned(), value: vec![0; 16] };
    assert!(!unknown.is_usable());
}
