//! DTLS records and handshake messages from an attacker who can send from the other end's address: forged messages
//! between genuine ones, and genuine ones modified on the way. The handshake must succeed nevertheless, with two
//! exceptions: modified genuine messages, and a forged HelloVerifyRequest to the client, which the client has to
//! believe.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu_engine_fuzz::{Line, Script};

const HELLO_VERIFY_REQUEST: u8 = 3;

fuzz_target!(|data: &[u8]| {
    let mut script = Script(data);
    let mut line = Line::new();
    let mut changed = false;
    while !script.is_over() {
        let choice = script.byte();
        let to_server = choice & 0x80 == 0;
        match choice & 3 {
            0 => {
                let datagram = script.bytes();
                changed |= !to_server && datagram.contains(&HELLO_VERIFY_REQUEST);
                line.inject(to_server, datagram);
            }
            1 => {
                let datagram = record(&mut script);
                let asks = datagram.get(13) == Some(&HELLO_VERIFY_REQUEST) && datagram.len() >= 28;
                changed |= !to_server && asks;
                line.inject(to_server, &datagram);
            }
            2 => {
                line.pass(to_server, |_| {});
            }
            _ => {
                changed = true;
                let (at, mask) = (usize::from(script.short()), script.byte());
                line.pass(to_server, |datagram| {
                    let at = at % datagram.len().max(1);
                    if let Some(byte) = datagram.get_mut(at) {
                        *byte ^= mask;
                    }
                });
            }
        }
    }
    if !changed {
        line.settle();
        assert!(line.is_connected(), "what is forged changes nothing");
    }
});

/// A record of epoch 0 with a handshake message, with correct lengths.
fn record(script: &mut Script<'_>) -> Vec<u8> {
    let kind = script.one_of(&[1, 2, 3, 4, 11, 12, 13, 14, 15, 16, 20]);
    let (sequence, offset, more) = (u16::from(script.byte() & 7), script.byte(), script.byte());
    let body = script.bytes();
    let body = &body[..body.len().min(1100)];
    let number = |value: usize| [(value >> 16) as u8, (value >> 8) as u8, value as u8];
    let total = body.len() + usize::from(offset) + usize::from(more);
    let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9];
    record.extend((body.len() as u16 + 12).to_be_bytes());
    record.push(kind);
    record.extend(number(total));
    record.extend(sequence.to_be_bytes());
    record.extend(number(usize::from(offset)));
    record.extend(number(body.len()));
    record.extend_from_slice(body);
    record
}
