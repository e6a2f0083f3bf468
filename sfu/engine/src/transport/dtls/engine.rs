//! rtc-dtls, behind a door that only lets in what cannot harm it.
//!
//! What it must never see, because it would end or stall the session, or grow without bound: a plain alert; a
//! second ChangeCipherSpec (also one of a later epoch, which it takes without authentication); fragments that
//! never make a message; a handshake message that does not verify; a plain record number far ahead, which
//! would make its replay window refuse all true ones. So the plain records it gets are written here, with
//! whole messages in order and numbers of our own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rtc_dtls::config::HandshakeConfig;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;
use smallvec::SmallVec;

use super::super::srtp::{MasterKey, Profile};
use super::record::{CHANGE_CIPHER_SPEC, HANDSHAKE, Message, records, write_plain};

pub(super) struct Engine {
    endpoint: Endpoint,
    /// The number of the last plain record fed in.
    number: u64,
    /// The number of the next plain record sent.
    sent: u64,
}

/// What came of something fed in.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The handshake is complete.
    pub(super) complete: bool,
    /// The peer closed or gave up, and proved that it was the peer.
    pub(super) closed: bool,
    pub(super) data: SmallVec<[Bytes; 2]>,
}

/// SRTP keys of both directions.
pub(in crate::transport) struct SrtpKeys {
    pub(in crate::transport) profile: Profile,
    /// For what we send.
    pub(in crate::transport) local: MasterKey,
    /// For what we receive.
    pub(in crate::transport) remote: MasterKey,
}

impl Engine {
    /// A server. `sent` is the number of the next plain record.
    pub(super) fn server(config: Arc<HandshakeConfig>, sent: u64) -> Self {
        Self { endpoint: Endpoint::new(HERE, TransportProtocol::UDP, Some(config)), number: 0, sent }
    }

    /// Begins a handshake: the first flight is ready.
    pub(super) fn client(config: Arc<HandshakeConfig>, now: Instant) -> Result<Self, String> {
        let mut endpoint = Endpoint::new(HERE, TransportProtocol::UDP, None);
        endpoint.connect(now, THERE, config, None).map_err(|error| error.to_string())?;
        Ok(Self { endpoint, number: 0, sent: 0 })
    }

    /// Whole messages, verified and in order. An error ends the handshake.
    pub(super) fn messages<'a>(
        &mut self,
        now: Instant,
        messages: impl IntoIterator<Item = &'a Message>,
    ) -> Result<Progress, String> {
        let mut datagram = Vec::new();
        for message in messages {
            let mut body = Vec::new();
            message.write(&mut body);
            self.number += 1;
            write_plain(&mut datagram, HANDSHAKE, self.number, &body);
        }
        self.read(now, &datagram)
    }

    /// From here on, records of the next epoch are decrypted. Said by us when the keys are there, so that
    /// neither loss nor forgery of the peer's own message matters.
    pub(super) fn change_cipher(&mut self, now: Instant) -> Result<Progress, String> {
        let mut datagram = Vec::new();
        self.number += 1;
        write_plain(&mut datagram, CHANGE_CIPHER_SPEC, self.number, &[1]);
        self.read(now, &datagram)
    }

    /// An encrypted record. Without authentication nothing comes of it.
    pub(super) fn encrypted(&mut self, now: Instant, record: &[u8]) -> Result<Progress, String> {
        self.read(now, record)
    }

    fn read(&mut self, now: Instant, datagram: &[u8]) -> Result<Progress, String> {
        let mut progress = Progress::default();
        match self.endpoint.read(now, THERE, None, BytesMut::from(datagram)) {
            Ok(events) => {
                for event in events {
                    match event {
                        EndpointEvent::HandshakeComplete => progress.complete = true,
                        EndpointEvent::ApplicationData(data) => progress.data.push(data.freeze()),
                        EndpointEvent::PeerClosed => progress.closed = true,
                        _ => {}
                    }
                }
                Ok(progress)
            }
            Err(Error::ErrAlertFatalOrClose) => {
                progress.closed = true;
                Ok(progress)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// The next datagram to be sent.
    pub(super) fn transmit(&mut self) -> Option<Bytes> {
        let datagram = self.endpoint.poll_transmit()?.message;
        Some(self.renumber(&datagram))
    }

    /// The same datagram with new numbers in its plain records, without which the peer would take it for a
    /// replay. All plain records get theirs here, so that they keep rising.
    pub(super) fn renumber(&mut self, datagram: &[u8]) -> Bytes {
        let mut renumbered = Vec::with_capacity(datagram.len());
        for record in records(datagram) {
            if record.epoch == 0 {
                write_plain(&mut renumbered, record.content, self.sent, record.body);
                self.sent += 1;
            } else {
                renumbered.extend_from_slice(record.bytes);
            }
        }
        renumbered.into()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to repeat.
    pub(super) fn timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout(&THERE)
    }

    /// Repeats the last flight, encrypted parts included, if it is time.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        // It fails when it has repeated often enough. The owner has its own limit of time.
        let _ = self.endpoint.handle_timeout(THERE, now);
    }

    /// Encrypts user data; [`transmit`](Self::transmit) has it afterwards.
    pub(super) fn write(&mut self, now: Instant, data: &[u8]) -> Result<(), String> {
        self.endpoint.write(now, THERE, data).map_err(|error| error.to_string())
    }

    /// Says goodbye.
    pub(super) fn close(&mut self, now: Instant) {
        self.endpoint.stop(now, THERE);
    }

    /// The peer's certificate, once its possession is proved.
    pub(super) fn peer_certificate(&self) -> Option<&[u8]> {
        self.endpoint.get_connection_state(THERE)?.peer_certificates.first().map(Vec::as_slice)
    }

    /// Keys exported as RFC 5764 section 4.2 says; nothing if the peer wanted no SRTP.
    pub(super) fn srtp_keys(&self) -> Option<SrtpKeys> {
        let state = self.endpoint.get_connection_state(THERE)?;
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => Profile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => Profile::AesCm128HmacSha1_80,
            _ => return None,
        };
        let (key_len, salt_len) = (Profile::KEY_LEN, profile.salt_len());
        let material =
            state.export_keying_material("EXTRACTOR-dtls_srtp", &[], 2 * (key_len + salt_len)).ok()?;
        let (keys, salts) = material.as_ref().split_at_checked(2 * key_len)?;
        let (client_key, server_key) = keys.split_at_checked(key_len)?;
        let (client_salt, server_salt) = salts.split_at_checked(salt_len)?;
        let client = MasterKey { key: client_key.try_into().ok()?, salt: client_salt.into() };
        let server = MasterKey { key: server_key.try_into().ok()?, salt: server_salt.into() };
        let (local, remote) = if state.is_client() { (client, server) } else { (server, client) };
        Some(SrtpKeys { profile, local, remote })
    }
}

/// rtc-dtls tells its peers apart by address; here each engine has one.
const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
const THERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 2);
