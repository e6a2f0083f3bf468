//! Connectivity checks: those of strangers have no effect, those of the peer carry arbitrary attributes.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use sfu_engine::limits::Limits;
use sfu_engine::transport::dtls::{DtlsRole, SrtpOffer};
use sfu_engine::transport::ice::peek_local_ufrag;
use sfu_engine::transport::{AnySource, Received, RemoteParameters, Transport, TransportConfig};
use sfu_engine_fuzz::{Script, certificate, check, credentials, epoch};

fuzz_target!(|data: &[u8]| {
    let now = epoch();
    let (local, remote) = (credentials("server"), credentials("client"));
    let config = TransportConfig {
        local: local.clone(),
        certificate: certificate(0),
        srtp: SrtpOffer::AeadOnly,
        limits: Limits::default(),
    };
    let mut transport = Transport::new(config, now);
    let parameters = RemoteParameters {
        ice: remote.clone(),
        fingerprint: certificate(1).fingerprint().clone(),
        dtls_role: DtlsRole::Server,
    };
    transport.set_remote(parameters, now).expect("the parameters are right");
    let source = SocketAddr::from(([10, 0, 0, 1], 5000));
    let mut buffer = [0; 1500];
    let mut script = Script(data);
    while !script.is_over() {
        let authentic = script.coin();
        let mut datagram = match authentic {
            true => {
                let before = script.bytes();
                check(&local, &remote, before, script.bytes())
            }
            false => script.bytes().to_vec(),
        };
        let _ = peek_local_ufrag(&datagram);
        let received = transport.handle_datagram(now, source, None, &mut datagram, &AnySource);
        let accepted = received == Received::Nothing;
        assert!(authentic || !accepted, "nothing but a check of the peer has an effect");
        let mut answers = 0;
        while let Some((len, to, _)) = transport.poll_transmit(now, &mut buffer) {
            answers += 1;
            assert_eq!(to, source);
            assert!(len <= 128 && len % 4 == 0);
            assert_eq!(usize::from(u16::from_be_bytes([buffer[2], buffer[3]])) + 20, len);
        }
        assert_eq!(answers, usize::from(accepted));
        if !authentic && !transport.is_validated(source) {
            assert!(transport.poll_event(now).is_none());
        }
    }
});
