//! SCTP packets of a hostile client that has the keys: valid verification tag and checksum, and arbitrary chunks.
#![no_main]

use std::time::{Duration, Instant};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sfu_engine::limits::Limits;
use sfu_engine::transport::dtls::DtlsRole;
use sfu_engine::transport::sctp::{Sctp, SctpEvent};
use sfu_engine_fuzz::{Script, epoch, with_checksum};

fuzz_target!(|data: &[u8]| {
    let (mut now, limits) = (epoch(), Limits::default());
    let mut server = Sctp::new(DtlsRole::Server, &limits);
    let mut client = Sctp::new(DtlsRole::Client, &limits);
    server.start(now, &limits);
    client.start(now, &limits);
    let channel = client.open(now, "_reliable", true, None).expect("a first channel");
    let mut script = Script(data);
    // Header of the last packet to the server: the ports, and the verification tag that the server accepts.
    let mut header = vec![0x13, 0x88, 0x13, 0x88, 0, 0, 0, 0, 0, 0, 0, 0];
    while !script.is_over() {
        match script.byte() % 6 {
            0 => {
                let mut packet = header.clone();
                packet.extend(chunks(&mut script));
                let _ = server.handle(now, Bytes::from(with_checksum(packet)));
            }
            1 => {
                let _ = server.handle(now, Bytes::copy_from_slice(script.bytes()));
            }
            2 => {
                let _ = client.send(now, channel, &Bytes::copy_from_slice(script.bytes()), true);
            }
            3 => {
                now += Duration::from_millis(u64::from(script.byte()) * 10);
                server.handle_timeout(now);
                client.handle_timeout(now);
            }
            _ => cross(now, &mut server, &mut client, &mut header),
        }
        while let Some(event) = server.poll_event() {
            if let SctpEvent::Message { payload, .. } = event {
                assert!(payload.len() <= limits.data_message_bytes);
            }
        }
        let _ = server.buffered();
        let _ = server.poll_timeout();
    }
});

fn cross(now: Instant, server: &mut Sctp, client: &mut Sctp, header: &mut Vec<u8>) {
    // Bounded: both ends limit how often they answer each other, but a forged chunk may make them disagree for long.
    for _ in 0..20 {
        let (to_server, to_client) = (client.poll_transmit(), server.poll_transmit());
        if to_server.is_none() && to_client.is_none() {
            return;
        }
        if let Some(packet) = to_server {
            if packet.len() >= 12 && packet[4..8] != [0; 4] {
                *header = packet[..12].to_vec();
            }
            let _ = server.handle(now, packet);
        }
        if let Some(packet) = to_client {
            let _ = client.handle(now, packet);
        }
    }
}

/// Makes chunks, mostly with correct lengths.
fn chunks(script: &mut Script<'_>) -> Vec<u8> {
    let mut chunks = Vec::new();
    for _ in 0..=script.byte() & 3 {
        let kind = script.one_of(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 64, 130, 192, 193, 200]);
        let flags = script.byte();
        let body = script.bytes();
        let len = body.len() + 4 + usize::from(flags == 0xff);
        chunks.extend([kind, flags]);
        chunks.extend((len as u16).to_be_bytes());
        chunks.extend_from_slice(body);
        chunks.resize(chunks.len().next_multiple_of(4), 0);
    }
    chunks
}
