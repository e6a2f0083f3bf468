//! The server side of a handshake: verifies the client's plaintext messages before rtc-dtls sees them.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::certificate::{Certificate, Fingerprint};
use super::cookie::{COOKIE_LEN, Cookie};
use super::engine::{Engine, Progress};
use super::flight::Flight;
use super::read::Reader;
use super::record::{
    CERTIFICATE, CERTIFICATE_VERIFY, CLIENT_HELLO, CLIENT_KEY_EXCHANGE, Fragment, HANDSHAKE,
    HELLO_VERIFY_REQUEST, Inbox, Message, fragments, records, write_plain,
};
use super::verify::{is_signed, leaf};
use super::{SrtpOffer, Verdict};
use crate::transport::srtp::Profile;

/// Server state until a client has repeated the cookie. Anybody may have sent a hello without the cookie, so such a
/// hello is answered and no state is kept for it.
pub(super) struct Lobby {
    cookie: Cookie,
    inbox: Inbox,
    /// Record number of the next record sent.
    sent: u64,
}

impl Lobby {
    /// Draws a random cookie. `None` if the system provides no random bytes.
    pub(super) fn new() -> Option<Self> {
        let mut cookie = [0; COOKIE_LEN];
        aws_lc_rs::rand::fill(&mut cookie).ok()?;
        Some(Self { cookie, inbox: Inbox::default(), sent: 0 })
    }

    /// Handles a fragment of a ClientHello. Returns a handshake once a client has repeated the cookie, which proves
    /// that it receives the answers.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        fragment: &Fragment<'_>,
        certificate: &Certificate,
        offer: SrtpOffer,
        out: &mut VecDeque<Bytes>,
    ) -> Result<Option<Handshake>, Verdict> {
        if fragment.kind != CLIENT_HELLO || fragment.sequence > 1 || !self.inbox.push(fragment) {
            return Err(Verdict::Ignored);
        }
        if let Some(message) = self.inbox.take(0) {
            Hello::parse(&message.body).ok_or(Verdict::Ignored)?;
            self.verify_request(out);
        }
        let Some(message) = self.inbox.take(1) else { return Ok(None) };
        let hello = Hello::parse(&message.body).ok_or(Verdict::Ignored)?;
        if hello.cookie != self.cookie {
            return Err(Verdict::Ignored);
        }
        // rtc-dtls follows the client's order of profiles, and browsers list the slow one first. So the slow one is
        // accepted only from clients that do not list the other.
        let profile = match offer {
            SrtpOffer::AesCm80Too if !hello.takes_gcm => Profile::AesCm128HmacSha1_80,
            SrtpOffer::AesCm80Too | SrtpOffer::AeadOnly => Profile::AeadAes128Gcm,
        };
        let config = certificate.server(profile, self.cookie).map_err(Verdict::Complaint)?;
        let engine = Engine::server(config, self.sent);
        let first = Message { kind: CLIENT_HELLO, sequence: 0, body: hello.without_cookie(&message.body)? };
        Handshake::new(now, engine, [&first, &message], &self.cookie, out).map(Some)
    }

    fn verify_request(&mut self, out: &mut VecDeque<Bytes>) {
        // The version is DTLS 1.0, whatever is negotiated later (RFC 6347 section 4.2.1).
        let mut body = vec![0xfe, 0xff, COOKIE_LEN as u8];
        body.extend(self.cookie);
        let mut message = Vec::new();
        Message { kind: HELLO_VERIFY_REQUEST, sequence: 0, body }.write(&mut message);
        let mut record = Vec::new();
        write_plain(&mut record, HANDSHAKE, self.sent, &message);
        self.sent += 1;
        if out.len() < MAX_WAITING {
            out.push_back(record.into());
        }
    }
}

/// Server state from the repeated cookie until the handshake is complete.
pub(super) struct Handshake {
    pub(super) engine: Engine,
    flight: Flight,
    inbox: Inbox,
    /// Handshake messages so far, in the form that CertificateVerify signs.
    transcript: Vec<u8>,
    /// Whether the client's plaintext messages have been verified and the keys are available.
    keyed: bool,
}

impl Handshake {
    /// `first` is the ClientHello without the cookie, to which rtc-dtls makes its own HelloVerifyRequest. `hello` is
    /// the ClientHello with the cookie.
    fn new(
        now: Instant,
        mut engine: Engine,
        [first, hello]: [&Message; 2],
        expected: &Cookie,
        out: &mut VecDeque<Bytes>,
    ) -> Result<Self, Verdict> {
        // No alerts are sent here: in plaintext, a client could not tell them from forged ones.
        engine.messages(now, [first]).map_err(Verdict::Complaint)?;
        let answer = engine.transmit().and_then(|datagram| cookie(&datagram));
        if answer.as_deref() != Some(expected.as_slice()) {
            return Err(Verdict::Complaint("not our cookie".to_owned()));
        }
        engine.messages(now, [hello]).map_err(Verdict::Complaint)?;
        let datagrams: Vec<Bytes> = std::iter::from_fn(|| engine.transmit()).collect();
        let mut transcript = Vec::new();
        hello.write(&mut transcript);
        for message in whole_messages(&datagrams) {
            message.write(&mut transcript);
        }
        out.extend(datagrams.iter().cloned());
        let flight = Flight::new(now, datagrams);
        Ok(Self { engine, flight, inbox: Inbox::default(), transcript, keyed: false })
    }

    pub(super) fn is_keyed(&self) -> bool {
        self.keyed
    }

    pub(super) fn timeout(&self) -> Option<Instant> {
        // Once the keys are available, the client repeats its flight instead.
        if self.keyed { None } else { self.flight.timeout() }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut VecDeque<Bytes>) {
        if !self.keyed {
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
        match (fragment.kind, fragment.sequence) {
            (CLIENT_HELLO, 1) => {
                // The last fragment of a repeated hello counts as the repetition.
                if fragment.offset + fragment.body.len() == fragment.len {
                    self.flight.answer(&mut self.engine, out);
                }
                return Ok(None);
            }
            (CERTIFICATE, AT_CERTIFICATE)
            | (CLIENT_KEY_EXCHANGE, AT_KEY_EXCHANGE)
            | (CERTIFICATE_VERIFY, AT_VERIFY)
                if !self.keyed => {}
            _ => return Err(Verdict::Ignored),
        }
        if !self.inbox.push(fragment) {
            return Err(Verdict::Ignored);
        }
        if !self.inbox.take_changed() {
            return Ok(None);
        }
        let Some(certificate) = self.inbox.complete(AT_CERTIFICATE) else { return Ok(None) };
        if !leaf(&certificate.body).is_some_and(|leaf| fingerprint.is_of(leaf)) {
            self.inbox.suspect(AT_CERTIFICATE);
            return Err(Verdict::Mismatch);
        }
        let (Some(exchange), Some(verify)) =
            (self.inbox.complete(AT_KEY_EXCHANGE), self.inbox.complete(AT_VERIFY))
        else {
            return Ok(None);
        };
        let mut content = self.transcript.clone();
        certificate.write(&mut content);
        exchange.write(&mut content);
        let signed = leaf(&certificate.body).is_some_and(|leaf| is_signed(leaf, &verify.body, &content));
        if !signed {
            // One of the two messages is forged. The client gets no answer, so it repeats them.
            self.inbox.suspect(AT_KEY_EXCHANGE);
            self.inbox.suspect(AT_VERIFY);
            return Err(Verdict::Ignored);
        }
        let progress = self.engine.messages(now, [certificate, exchange, verify]).map_err(Verdict::Failed)?;
        let changed = self.engine.change_cipher(now).map_err(Verdict::Failed)?;
        self.keyed = true;
        self.inbox = Inbox::default();
        Ok(Some(if progress.closed { progress } else { changed }))
    }
}

/// Parsed parts of a ClientHello (RFC 6347 section 4.2.1, RFC 5764 section 4.1.1).
struct Hello<'a> {
    cookie: &'a [u8],
    behind_cookie: &'a [u8],
    takes_gcm: bool,
}

impl<'a> Hello<'a> {
    fn parse(body: &'a [u8]) -> Option<Self> {
        let mut fields = Reader(body);
        // Version and random bytes, then the session id.
        fields.take(2 + 32)?;
        fields.field(1)?;
        let cookie = fields.field(1)?;
        let behind_cookie = fields.0;
        fields.field(2)?;
        fields.field(1)?;
        let mut extensions = Reader(fields.field(2).unwrap_or_default());
        let mut takes_gcm = false;
        while let Some(kind) = extensions.number(2) {
            let value = extensions.field(2)?;
            if kind == USE_SRTP {
                takes_gcm =
                    Reader(value).field(2)?.chunks_exact(2).any(|profile| profile == AEAD_AES_128_GCM);
            }
        }
        Some(Self { cookie, behind_cookie, takes_gcm })
    }

    /// The body of this hello with an empty cookie.
    fn without_cookie(&self, body: &[u8]) -> Result<Vec<u8>, Verdict> {
        let at = body.len() - self.behind_cookie.len();
        let before = body.get(..at - self.cookie.len() - 1).ok_or(Verdict::Ignored)?;
        Ok([before, &[0], self.behind_cookie].concat())
    }
}

/// The plaintext handshake messages of a flight that this side has written, in order.
pub(super) fn whole_messages(datagrams: &[Bytes]) -> Vec<Message> {
    let mut inbox = Inbox::default();
    let mut messages = Vec::new();
    let plain = datagrams.iter().flat_map(|datagram| records(datagram));
    for record in plain.filter(|record| record.content == HANDSHAKE && record.epoch == 0) {
        for fragment in fragments(record.body) {
            inbox.push(&fragment);
            messages.extend(inbox.take(fragment.sequence));
        }
    }
    messages
}

fn cookie(datagram: &[u8]) -> Option<Vec<u8>> {
    let record = records(datagram).find(|record| record.content == HANDSHAKE)?;
    let message = fragments(record.body).find(|message| message.kind == HELLO_VERIFY_REQUEST)?;
    let mut fields = Reader(message.body);
    fields.take(2)?;
    fields.field(1).map(<[u8]>::to_vec)
}

const USE_SRTP: u32 = 14;
const AEAD_AES_128_GCM: [u8; 2] = [0, 7];
/// Sequence number of the client's Certificate, the first message after its two hellos.
const AT_CERTIFICATE: u16 = 2;
const AT_KEY_EXCHANGE: u16 = 3;
const AT_VERIFY: u16 = 4;
/// Maximum number of queued datagrams. Beyond it, hellos get no answer.
const MAX_WAITING: usize = 32;
