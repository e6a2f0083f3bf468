//! The server's side of a handshake, up to where rtc-dtls has verified messages only.

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

/// Before a client has repeated our cookie. Anybody may have sent the hello: it is answered and forgotten.
pub(super) struct Lobby {
    cookie: Cookie,
    inbox: Inbox,
    /// The number of the next record.
    sent: u64,
}

impl Lobby {
    /// The cookie is as good as random: nothing if there is no randomness.
    pub(super) fn new() -> Option<Self> {
        let mut cookie = [0; COOKIE_LEN];
        aws_lc_rs::rand::fill(&mut cookie).ok()?;
        Some(Self { cookie, inbox: Inbox::default(), sent: 0 })
    }

    /// A part of a hello. Answers with a handshake once a client proved that it sees our answers.
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
        // rtc-dtls goes by the client's order of profiles, and browsers name the slow one first: so it is
        // offered only to who knows no other.
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
        // DTLS 1.0 whatever follows (RFC 6347 section 4.2.1).
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

/// After the cookie, until the keys are there.
pub(super) struct Handshake {
    pub(super) engine: Engine,
    flight: Flight,
    inbox: Inbox,
    /// The messages so far, as CertificateVerify signs them.
    transcript: Vec<u8>,
    /// Whether the client's plain messages are verified and taken.
    keyed: bool,
}

impl Handshake {
    /// The hello is given as it was before the cookie, for rtc-dtls to make its own answer to, and with it.
    fn new(
        now: Instant,
        mut engine: Engine,
        [first, hello]: [&Message; 2],
        expected: &Cookie,
        out: &mut VecDeque<Bytes>,
    ) -> Result<Self, Verdict> {
        // Complaints are not sent: as plain text a client would have to believe forged ones.
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
        // With the keys there, it is the client that repeats.
        if self.keyed { None } else { self.flight.timeout() }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut VecDeque<Bytes>) {
        if !self.keyed {
            self.flight.handle_timeout(now, &mut self.engine, out);
        }
    }

    /// A part of a plain message. Answers with what became of the handshake once all are there and verified.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        fragment: &Fragment<'_>,
        fingerprint: &Fingerprint,
        out: &mut VecDeque<Bytes>,
    ) -> Result<Option<Progress>, Verdict> {
        match (fragment.kind, fragment.sequence) {
            (CLIENT_HELLO, 1) => {
                // The last fragment of the repeated hello stands for all of it.
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
            // One of the two is forged. The client repeats itself, having no answer.
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

/// What is read of a ClientHello (RFC 6347 section 4.2.1, RFC 5764 section 4.1.1).
struct Hello<'a> {
    cookie: &'a [u8],
    behind_cookie: &'a [u8],
    takes_gcm: bool,
}

impl<'a> Hello<'a> {
    fn parse(body: &'a [u8]) -> Option<Self> {
        let mut fields = Reader(body);
        // Version and random bytes, then the session.
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

    /// The same hello as it was before there was a cookie.
    fn without_cookie(&self, body: &[u8]) -> Result<Vec<u8>, Verdict> {
        let at = body.len() - self.behind_cookie.len();
        let before = body.get(..at - self.cookie.len() - 1).ok_or(Verdict::Ignored)?;
        Ok([before, &[0], self.behind_cookie].concat())
    }
}

/// The messages of a flight of our own: in order and unencrypted.
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
/// Numbers of the client's messages after its two hellos.
const AT_CERTIFICATE: u16 = 2;
const AT_KEY_EXCHANGE: u16 = 3;
const AT_VERIFY: u16 = 4;
/// Answers waiting to be sent, beyond which hellos get none.
const MAX_WAITING: usize = 32;
