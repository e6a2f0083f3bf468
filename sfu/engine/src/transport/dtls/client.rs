//! The client side of a handshake: verifies the server's plaintext messages before rtc-dtls sees them.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::Verdict;
use super::certificate::Fingerprint;
use super::engine::{Engine, Progress};
use super::flight::Flight;
use super::read::Reader;
use super::record::{
    CERTIFICATE, CERTIFICATE_REQUEST, CLIENT_HELLO, Fragment, HELLO_VERIFY_REQUEST, Inbox, Message,
    SERVER_HELLO, SERVER_HELLO_DONE, SERVER_KEY_EXCHANGE,
};
use super::server::whole_messages;
use super::verify::{is_signed, leaf};

pub(super) struct Handshake {
    pub(super) engine: Engine,
    flight: Flight,
    inbox: Inbox,
    /// Sequence number of the server's next message.
    next: u16,
    cookies: u32,
    random: Vec<u8>,
    keyed: bool,
}

impl Handshake {
    pub(super) fn new(now: Instant, mut engine: Engine, out: &mut VecDeque<Bytes>) -> Option<Self> {
        let datagrams: Vec<Bytes> = std::iter::from_fn(|| engine.transmit()).collect();
        let hello = whole_messages(&datagrams).into_iter().find(|message| message.kind == CLIENT_HELLO)?;
        let random = random(&hello.body)?.to_vec();
        out.extend(datagrams.iter().cloned());
        let flight = Flight::new(now, datagrams);
        Some(Self { engine, flight, inbox: Inbox::default(), next: 0, cookies: 0, random, keyed: false })
    }

    pub(super) fn is_keyed(&self) -> bool {
        self.keyed
    }

    pub(super) fn timeout(&self) -> Option<Instant> {
        if self.keyed { self.engine.timeout() } else { self.flight.timeout() }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut VecDeque<Bytes>) {
        if self.keyed {
            // The last flight has an encrypted part, so only rtc-dtls can repeat it.
            self.engine.handle_timeout(now);
            out.extend(std::iter::from_fn(|| self.engine.transmit()));
        } else {
            self.flight.handle_timeout(now, &mut self.engine, out);
        }
    }

    /// Handles a fragment of a plaintext message. Returns the handshake's progress once all messages are complete and
    /// verified; until then `None`.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        fragment: &Fragment<'_>,
        fingerprint: &Fingerprint,
        out: &mut VecDeque<Bytes>,
    ) -> Result<Option<Progress>, Verdict> {
        let place = fragment.sequence.checked_sub(self.next);
        let expected = match place {
            Some(0) => &[SERVER_HELLO, HELLO_VERIFY_REQUEST][..],
            Some(place) => FLIGHT.get(usize::from(place)).map_or(&[][..], std::slice::from_ref),
            None => &[],
        };
        if self.keyed || !expected.contains(&fragment.kind) || !self.inbox.push(fragment) {
            return Err(Verdict::Ignored);
        }
        // The flight is handled as a whole, when its last message arrives: not all messages are signed, so they are not
        // accepted one by one.
        if fragment.kind == SERVER_HELLO_DONE {
            return if self.inbox.take_changed() {
                self.server_flight(now, fingerprint, out)
            } else {
                Ok(None)
            };
        }
        let Some(request) = self.inbox.complete(self.next).filter(|first| first.kind == HELLO_VERIFY_REQUEST)
        else {
            return Ok(None);
        };
        if !asks_for_cookie(&request.body) {
            // rtc-dtls would give up the handshake on such a message.
            self.inbox.suspect(self.next);
            return Err(Verdict::Ignored);
        }
        if self.cookies >= MAX_COOKIES {
            return Err(Verdict::Ignored);
        }
        self.cookies += 1;
        self.engine.messages(now, [request]).map_err(Verdict::Failed)?;
        self.next += 1;
        self.inbox = Inbox::default();
        self.send(now, out);
        Ok(None)
    }

    fn server_flight(
        &mut self,
        now: Instant,
        fingerprint: &Fingerprint,
        out: &mut VecDeque<Bytes>,
    ) -> Result<Option<Progress>, Verdict> {
        let complete: Vec<&Message> =
            (self.next..).take(FLIGHT.len()).map_while(|number| self.inbox.complete(number)).collect();
        let &[hello, certificate, exchange, _, _] = complete.as_slice() else { return Ok(None) };
        let leaf = leaf(&certificate.body).filter(|leaf| fingerprint.is_of(leaf));
        let signed = (|| {
            let (params, signed) = key_exchange(&exchange.body)?;
            let content = [self.random.as_slice(), random(&hello.body)?, params].concat();
            Some(is_signed(leaf?, signed, &content))
        })();
        if signed != Some(true) {
            let verdict = if leaf.is_none() { Verdict::Mismatch } else { Verdict::Ignored };
            (self.next..).take(FLIGHT.len()).for_each(|number| self.inbox.suspect(number));
            return Err(verdict);
        }
        let progress = self.engine.messages(now, complete).map_err(Verdict::Failed)?;
        self.keyed = true;
        self.inbox = Inbox::default();
        self.send(now, out);
        let changed = self.engine.change_cipher(now).map_err(Verdict::Failed)?;
        Ok(Some(if progress.closed { progress } else { changed }))
    }

    fn send(&mut self, now: Instant, out: &mut VecDeque<Bytes>) {
        self.flight = Flight::new(now, std::iter::from_fn(|| self.engine.transmit()).collect());
        out.extend(self.flight.datagrams().iter().cloned());
    }
}

/// Whether a HelloVerifyRequest is well-formed: version DTLS 1.0 or 1.2, a cookie, nothing else (RFC 6347 section
/// 4.2.1).
fn asks_for_cookie(body: &[u8]) -> bool {
    let mut fields = Reader(body);
    let version = fields.number(2);
    matches!(version, Some(0xfeff | 0xfefd)) && fields.field(1).is_some() && fields.0.is_empty()
}

/// The random bytes of a ClientHello or ServerHello.
fn random(hello: &[u8]) -> Option<&[u8]> {
    hello.get(2..34)
}

/// Splits a ServerKeyExchange into its parameters and their signature (RFC 8422 section 5.4).
fn key_exchange(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = Reader(body);
    fields.take(3)?;
    fields.field(1)?;
    body.split_at_checked(body.len() - fields.0.len())
}

/// The messages of a server's flight, in order. WebRTC requires the client's certificate (RFC 8827 section 6.5).
const FLIGHT: [u8; 5] =
    [SERVER_HELLO, CERTIFICATE, SERVER_KEY_EXCHANGE, CERTIFICATE_REQUEST, SERVER_HELLO_DONE];
/// Maximum number of HelloVerifyRequests that are answered, for servers that change their cookie.
const MAX_COOKIES: u32 = 3;
