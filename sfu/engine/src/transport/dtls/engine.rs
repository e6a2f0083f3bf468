//! Wraps rtc-dtls, and feeds it only input that cannot harm it.
//!
//! The following would end or stall the session, or grow without bound, so rtc-dtls must never see it: a plaintext
//! alert; a second ChangeCipherSpec (also one of a later epoch, which it accepts without authentication); fragments
//! that never complete a message; a handshake message that does not verify; a plaintext record number far ahead, which
//! would make its replay window refuse all authentic records. So the plaintext records for rtc-dtls are written here,
//! with complete messages in order and new record numbers.

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
    /// Record number of the last plaintext record fed to rtc-dtls.
    number: u64,
    /// Record number of the next plaintext record sent to the peer.
    sent: u64,
}

/// Result of feeding records to rtc-dtls.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Whether the handshake has completed.
    pub(super) complete: bool,
    /// Whether the peer has closed or aborted the connection with an authentic alert.
    pub(super) closed: bool,
    pub(super) data: SmallVec<[Bytes; 2]>,
}

/// SRTP keys of both directions.
pub(in crate::transport) struct SrtpKeys {
    pub(in crate::transport) profile: Profile,
    /// Key for packets that are sent.
    pub(in crate::transport) local: MasterKey,
    /// Key for packets that are received.
    pub(in crate::transport) remote: MasterKey,
}

impl Engine {
    /// A DTLS server. `sent` is the record number of its first plaintext record.
    pub(super) fn server(config: Arc<HandshakeConfig>, sent: u64) -> Self {
        Self { endpoint: Endpoint::new(HERE, TransportProtocol::UDP, Some(config)), number: 0, sent }
    }

    /// A DTLS client. Its first flight is ready to [`transmit`](Self::transmit).
    pub(super) fn client(config: Arc<HandshakeConfig>, now: Instant) -> Result<Self, String> {
        let mut endpoint = Endpoint::new(HERE, TransportProtocol::UDP, None);
        endpoint.connect(now, THERE, config, None).map_err(|error| error.to_string())?;
        Ok(Self { endpoint, number: 0, sent: 0 })
    }

    /// Feeds complete messages in order. They have to be verified, because an error ends the handshake.
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

    /// Feeds a ChangeCipherSpec, after which rtc-dtls decrypts records of the next epoch. It is generated here when the
    /// keys are available, so that neither loss nor forgery of the peer's own ChangeCipherSpec matters.
    pub(super) fn change_cipher(&mut self, now: Instant) -> Result<Progress, String> {
        let mut datagram = Vec::new();
        self.number += 1;
        write_plain(&mut datagram, CHANGE_CIPHER_SPEC, self.number, &[1]);
        self.read(now, &datagram)
    }

    /// Feeds an encrypted record. If it is not authentic, it has no effect.
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

    /// The next datagram to send.
    pub(super) fn transmit(&mut self) -> Option<Bytes> {
        let datagram = self.endpoint.poll_transmit()?.message;
        Some(self.renumber(&datagram))
    }

    /// Returns a datagram with new record numbers in its plaintext records. Without them the peer would take a repeated
    /// datagram for a replay. All plaintext records get their numbers here, so the numbers keep increasing.
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

    /// When rtc-dtls has a flight to repeat; see [`handle_timeout`](Self::handle_timeout).
    pub(super) fn timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout(&THERE)
    }

    /// Repeats the last flight, encrypted parts included, if that is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        // It fails after the maximum number of repetitions. The owner has a time limit of its own.
        let _ = self.endpoint.handle_timeout(THERE, now);
    }

    /// Encrypts user data; [`transmit`](Self::transmit) returns the datagram afterwards.
    pub(super) fn write(&mut self, now: Instant, data: &[u8]) -> Result<(), String> {
        self.endpoint.write(now, THERE, data).map_err(|error| error.to_string())
    }

    /// Queues a close alert.
    #[cfg(test)]
    pub(super) fn close(&mut self, now: Instant) {
        self.endpoint.stop(now, THERE);
    }

    /// The peer's certificate, once the peer has proved possession of its key.
    pub(super) fn peer_certificate(&self) -> Option<&[u8]> {
        self.endpoint.get_connection_state(THERE)?.peer_certificates.first().map(Vec::as_slice)
    }

    /// The SRTP keys, exported as in RFC 5764 section 4.2; `None` if no SRTP profile was negotiated.
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

/// rtc-dtls distinguishes peers by address. Here each engine has one peer, with a made-up address.
const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
const THERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 2);
