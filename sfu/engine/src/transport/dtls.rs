//! DTLS 1.2 (RFC 6347) over rtc-dtls, hardened so that an attacker without the keys cannot disturb it.
//!
//! Plaintext handshake messages are reassembled here and verified before rtc-dtls sees them: the fingerprint first,
//! then the signature over the handshake. If forged messages were received, the peer's retransmission replaces them.
//! Other plaintext records, alerts and ChangeCipherSpec included, are ignored. No plaintext alert is ever sent. After
//! the handshake only records of the encrypted epoch reach rtc-dtls, which drops those that are not authentic.

mod certificate;
mod client;
mod cookie;
mod engine;
mod flight;
mod read;
mod record;
mod server;
mod verify;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

pub use self::certificate::{Certificate, CertificateError, Fingerprint};
pub(super) use self::engine::SrtpKeys;
use self::engine::{Engine, Progress};
use self::record::{ALERT, APPLICATION_DATA, HANDSHAKE, Record, fragments, records};
use crate::stats::Drop;

/// Local DTLS role (RFC 5763 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtlsRole {
    /// Server, because the remote description says `active` or `actpass`.
    Server,
    /// Client, because the remote description says `passive`.
    Client,
}

/// SRTP profiles that are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SrtpOffer {
    /// Only AEAD_AES_128_GCM.
    AeadOnly,
    /// AEAD_AES_128_GCM, and AES_CM_128_HMAC_SHA1_80 for peers that do not support the former.
    AesCm80Too,
}

/// Reason that a handshake message did not advance the handshake.
#[derive(Debug)]
enum Verdict {
    /// The message is not acceptable now. It may be forged.
    Ignored,
    /// The certificate is not the announced one. It may be forged.
    Mismatch,
    /// rtc-dtls rejected an unverified message, for this reason. The message may be forged.
    Complaint(String),
    /// The handshake cannot continue, for this reason.
    Failed(String),
}

/// An event of the DTLS association.
pub(super) enum DtlsEvent {
    /// The handshake is complete. With the SRTP keys, if the peer wants SRTP.
    Connected(Option<SrtpKeys>),
    /// The handshake cannot be completed.
    Failed(String),
    /// The peer closed or aborted the connection with an authentic alert.
    Closed,
    /// Decrypted user data: an SCTP packet.
    Data(Bytes),
}

/// The DTLS association of one peer.
pub(super) struct Dtls {
    certificate: Arc<Certificate>,
    fingerprint: Fingerprint,
    offer: SrtpOffer,
    stage: Stage,
    out: VecDeque<Bytes>,
    events: VecDeque<DtlsEvent>,
    /// Encrypted records that arrived before the keys are available.
    early: VecDeque<Vec<u8>>,
    mismatch: bool,
    complaint: Option<String>,
}

enum Stage {
    /// A client without an address to send to.
    Waiting,
    Lobby(server::Lobby),
    Server(server::Handshake),
    Client(client::Handshake),
    Connected {
        engine: Engine,
        answered: u32,
    },
    Ended,
}

impl Dtls {
    pub(super) fn new(
        role: DtlsRole,
        certificate: Arc<Certificate>,
        fingerprint: Fingerprint,
        offer: SrtpOffer,
    ) -> Self {
        let stage = match role {
            DtlsRole::Server => server::Lobby::new().map(Stage::Lobby),
            DtlsRole::Client => Some(Stage::Waiting),
        };
        let mut dtls = Self {
            certificate,
            fingerprint,
            offer,
            stage: Stage::Waiting,
            out: VecDeque::new(),
            events: VecDeque::new(),
            early: VecDeque::new(),
            mismatch: false,
            complaint: None,
        };
        match stage {
            Some(stage) => dtls.stage = stage,
            None => dtls.fail("no random bytes".to_owned()),
        }
        dtls
    }

    /// Called when there is a validated address to send to. A client starts the handshake.
    pub(super) fn start(&mut self, now: Instant) {
        if !matches!(self.stage, Stage::Waiting) {
            return;
        }
        let handshake = Engine::client(self.certificate.client(self.offer), now).and_then(|engine| {
            client::Handshake::new(now, engine, &mut self.out).ok_or_else(|| "no hello".to_owned())
        });
        match handshake {
            Ok(handshake) => self.stage = Stage::Client(handshake),
            Err(reason) => self.fail(reason),
        }
    }

    /// Handles a datagram from an address that ICE has validated. Returns an error if nothing in it was useful.
    pub(super) fn handle(&mut self, now: Instant, datagram: &[u8]) -> Result<(), Drop> {
        let mut useful = false;
        for record in records(datagram).take(MAX_RECORDS) {
            useful |= match record.epoch {
                0 if record.content == HANDSHAKE => self.plain(now, &record),
                1 if matches!(record.content, HANDSHAKE | ALERT | APPLICATION_DATA) => {
                    self.encrypted(now, record.bytes)
                }
                _ => false,
            };
        }
        if useful { Ok(()) } else { Err(Drop::BadDtls) }
    }

    fn plain(&mut self, now: Instant, record: &Record<'_>) -> bool {
        let mut useful = false;
        for fragment in fragments(record.body).take(MAX_RECORDS) {
            let result = match &mut self.stage {
                Stage::Lobby(lobby) => {
                    match lobby.handle(now, &fragment, &self.certificate, self.offer, &mut self.out) {
                        Ok(None) => Ok(None),
                        Ok(Some(handshake)) => {
                            self.stage = Stage::Server(handshake);
                            Ok(None)
                        }
                        Err(verdict) => Err(verdict),
                    }
                }
                Stage::Server(handshake) => {
                    handshake.handle(now, &fragment, &self.fingerprint, &mut self.out)
                }
                Stage::Client(handshake) => {
                    handshake.handle(now, &fragment, &self.fingerprint, &mut self.out)
                }
                Stage::Waiting | Stage::Connected { .. } | Stage::Ended => Err(Verdict::Ignored),
            };
            match result {
                Ok(None) => useful = true,
                Ok(Some(progress)) => {
                    useful = true;
                    self.advance(progress);
                    for record in std::mem::take(&mut self.early) {
                        self.encrypted(now, &record);
                    }
                }
                Err(Verdict::Ignored) => {}
                Err(Verdict::Mismatch) => self.mismatch = true,
                Err(Verdict::Complaint(reason)) => self.complaint = Some(reason),
                Err(Verdict::Failed(reason)) => self.fail(reason),
            }
        }
        useful
    }

    fn encrypted(&mut self, now: Instant, record: &[u8]) -> bool {
        let keyed = match &self.stage {
            Stage::Server(handshake) => handshake.is_keyed(),
            Stage::Client(handshake) => handshake.is_keyed(),
            Stage::Connected { .. } => true,
            Stage::Waiting | Stage::Lobby(_) | Stage::Ended => return false,
        };
        if !keyed {
            // The newest records are kept: the peer retransmits the authentic ones.
            if self.early.len() >= MAX_EARLY {
                self.early.pop_front();
            }
            self.early.push_back(record.to_vec());
            return true;
        }
        let engine = match &mut self.stage {
            Stage::Server(handshake) => &mut handshake.engine,
            Stage::Client(handshake) => &mut handshake.engine,
            Stage::Connected { engine, answered } => {
                // rtc-dtls accumulates state with each repeated Finished.
                if record.first() == Some(&HANDSHAKE) && *answered >= MAX_ANSWERED {
                    return false;
                }
                engine
            }
            Stage::Waiting | Stage::Lobby(_) | Stage::Ended => return false,
        };
        // An error means an authentic record that does not end the connection: a warning alert.
        let progress = engine.encrypted(now, record).unwrap_or_default();
        let before = self.out.len();
        self.out.extend(std::iter::from_fn(|| engine.transmit()));
        let sent = self.out.len() > before;
        if sent && let Stage::Connected { answered, .. } = &mut self.stage {
            *answered += 1;
        }
        let useful = sent || progress.complete || progress.closed || !progress.data.is_empty();
        self.advance(progress);
        useful
    }

    fn advance(&mut self, progress: Progress) {
        if progress.complete {
            self.connect();
        }
        self.events.extend(progress.data.into_iter().map(DtlsEvent::Data));
        if progress.closed && !matches!(self.stage, Stage::Ended) {
            self.stage = Stage::Ended;
            self.events.push_back(DtlsEvent::Closed);
        }
    }

    fn connect(&mut self) {
        let engine = match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Server(handshake) => handshake.engine,
            Stage::Client(handshake) => handshake.engine,
            other => {
                self.stage = other;
                return;
            }
        };
        // The certificate was verified before. This checks the one that rtc-dtls accepted.
        if !engine.peer_certificate().is_some_and(|certificate| self.fingerprint.is_of(certificate)) {
            self.mismatch = true;
            self.fail("fingerprint".to_owned());
            return;
        }
        self.events.push_back(DtlsEvent::Connected(engine.srtp_keys()));
        self.stage = Stage::Connected { engine, answered: 0 };
    }

    fn fail(&mut self, reason: String) {
        if !matches!(self.stage, Stage::Ended) {
            self.stage = Stage::Ended;
            self.events.push_back(DtlsEvent::Failed(reason));
        }
    }

    /// Encrypts and queues an SCTP packet. Has no effect before the handshake is complete.
    pub(super) fn write(&mut self, now: Instant, data: &[u8]) {
        if let Stage::Connected { engine, .. } = &mut self.stage {
            // It fails only on a closed connection, which would not be in this stage.
            if engine.write(now, data).is_ok() {
                self.out.extend(std::iter::from_fn(|| engine.transmit()));
            }
        }
    }

    /// Ends the association. Sends a close alert only after the handshake, because only then the alert is
    /// authenticated.
    #[cfg(test)]
    pub(super) fn close(&mut self, now: Instant) {
        if let Stage::Connected { mut engine, .. } = std::mem::replace(&mut self.stage, Stage::Ended) {
            engine.close(now);
            self.out.extend(std::iter::from_fn(|| engine.transmit()));
        }
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    pub(super) fn poll_event(&mut self) -> Option<DtlsEvent> {
        self.events.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Server(handshake) => handshake.timeout(),
            Stage::Client(handshake) => handshake.timeout(),
            _ => None,
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match &mut self.stage {
            Stage::Server(handshake) => handshake.handle_timeout(now, &mut self.out),
            Stage::Client(handshake) => handshake.handle_timeout(now, &mut self.out),
            _ => {}
        }
    }

    /// Whether a certificate was received that is not the announced one.
    pub(super) fn has_mismatch(&self) -> bool {
        self.mismatch
    }

    /// Reason that rtc-dtls rejected the last ClientHello that it rejected, if any.
    pub(super) fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }
}

/// Maximum number of records handled in a datagram, and of fragments in a record. A flight has at most eight.
const MAX_RECORDS: usize = 32;
/// Maximum number of encrypted records stored until the keys are available: Finished, and the first data after it.
const MAX_EARLY: usize = 8;
/// Maximum number of answers to a peer that repeats its last flight.
const MAX_ANSWERED: u32 = 7;

#[cfg(test)]
mod tests;
