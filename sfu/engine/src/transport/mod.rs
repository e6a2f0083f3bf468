//! One peer connection's transport: ICE-lite, DTLS, SRTP and SCTP, sans-IO.
//!
//! A datagram is parsed only if it is a connectivity check or comes from an address that an authentic check has
//! validated. STUN, RTP and RTCP packets that are not authentic change no state and are not answered.

pub mod demux;
pub mod dtls;
mod event;
pub mod ice;
pub mod sctp;
pub mod srtp;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;
use thiserror::Error;

use self::demux::{Protocol, protocol};
use self::dtls::{Certificate, Dtls, DtlsEvent, DtlsRole, Fingerprint, SrtpKeys, SrtpOffer};
#[cfg(any(test, feature = "internals"))]
pub use self::event::AnySource;
pub use self::event::{Failure, Received, Sources, TransportEvent};
use self::ice::{Agent, IceCredentials, Path};
use self::sctp::{ChannelId, DataError, Sctp};
use self::srtp::{Opener, Profile, Sealer};
use crate::limits::Limits;
use crate::rtp::packet::RtpHeader;
use crate::stats::Drop;
use crate::units::ExtendedSequence;

/// Configuration of a transport.
#[derive(Debug, Clone)]
pub struct TransportConfig {
    /// Local ICE credentials, as named in the local description.
    pub local: IceCredentials,
    /// Local certificate, one per process.
    pub certificate: Arc<Certificate>,
    /// SRTP profiles that are accepted.
    pub srtp: SrtpOffer,
    /// Limits on what the peer can cost.
    pub limits: Limits,
}

/// Transport parameters from the remote description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteParameters {
    /// The peer's ICE credentials.
    pub ice: IceCredentials,
    /// Digest of the peer's certificate.
    pub fingerprint: Fingerprint,
    /// Local DTLS role, which follows from the peer's.
    pub dtls_role: DtlsRole,
}

/// Reason that a remote description cannot be used. The transport is then unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TransportError {
    /// `ice-ufrag` does not have 4 to 256 characters (RFC 8839 section 5.4).
    #[error("ice-ufrag of {0} characters")]
    Ufrag(usize),
    /// `ice-pwd` does not have 22 to 256 characters.
    #[error("ice-pwd of {0} characters")]
    Pwd(usize),
    /// The hash function is unknown, or the digest does not have the length of that function's digests.
    #[error("fingerprint {0}")]
    Fingerprint(Fingerprint),
    /// The certificate or the DTLS role differs from the earlier description. That would be another connection.
    #[error("fingerprint or setup changed")]
    Changed,
}

/// The transport of one peer connection.
pub struct Transport {
    config: TransportConfig,
    agent: Agent,
    /// DTLS and SCTP; `None` until the remote description is set.
    secure: Option<Secure>,
    sealer: Option<Sealer>,
    opener: Option<Opener>,
    /// Path of the last authentic check or DTLS datagram. It is used while the peer has not selected a path.
    fallback: Option<Path>,
    stage: Stage,
    replies: VecDeque<(Path, SmallVec<[u8; 128]>)>,
    events: VecDeque<TransportEvent>,
    /// Whether SCTP may have received messages that have not been read.
    unread: bool,
    /// Whether reading of reliable messages is suspended.
    held: bool,
}

struct Secure {
    remote: RemoteParameters,
    dtls: Dtls,
    sctp: Sctp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No authentic connectivity check has arrived yet.
    Checking {
        since: Instant,
    },
    Handshaking {
        since: Instant,
    },
    Connected,
    Ended,
}

impl Transport {
    /// A transport that waits for the remote description and the first connectivity check.
    pub fn new(config: TransportConfig, now: Instant) -> Self {
        Self {
            agent: Agent::new(config.local.clone()),
            config,
            secure: None,
            sealer: None,
            opener: None,
            fallback: None,
            stage: Stage::Checking { since: now },
            replies: VecDeque::new(),
            events: VecDeque::new(),
            unread: false,
            held: false,
        }
    }

    /// Sets the parameters of the first or a later remote description. New ICE credentials mean an ICE restart; call
    /// [`restart_ice`](Self::restart_ice) with new local ones before. Unchanged parameters have no effect.
    pub fn set_remote(&mut self, remote: RemoteParameters, now: Instant) -> Result<(), TransportError> {
        let IceCredentials { ufrag, pwd } = &remote.ice;
        if !(4..=256).contains(&ufrag.len()) {
            return Err(TransportError::Ufrag(ufrag.len()));
        }
        if !(22..=256).contains(&pwd.len()) {
            return Err(TransportError::Pwd(pwd.len()));
        }
        if !remote.fingerprint.is_usable() {
            return Err(TransportError::Fingerprint(remote.fingerprint));
        }
        match &mut self.secure {
            Some(secure)
                if secure.remote.fingerprint != remote.fingerprint
                    || secure.remote.dtls_role != remote.dtls_role =>
            {
                return Err(TransportError::Changed);
            }
            Some(secure) => secure.remote.ice = remote.ice.clone(),
            None => {
                let TransportConfig { certificate, srtp, limits, .. } = &self.config;
                let (role, fingerprint) = (remote.dtls_role, remote.fingerprint.clone());
                self.secure = Some(Secure {
                    dtls: Dtls::new(role, certificate.clone(), fingerprint, *srtp),
                    sctp: Sctp::new(role, limits),
                    remote: remote.clone(),
                });
            }
        }
        self.agent.set_remote(remote.ice);
        // No packet has arrived, so none can be discarded.
        let _ = self.pump(now);
        Ok(())
    }

    /// Sets new local ICE credentials for an ICE restart (RFC 8445 section 9). The old credentials stay valid until a
    /// check with the new ones succeeds. The selected path stays until the peer selects another.
    pub fn restart_ice(&mut self, local: IceCredentials) {
        self.agent.restart(local);
    }

    /// The current local ICE credentials.
    pub fn local_ice(&self) -> &IceCredentials {
        self.agent.local()
    }

    /// Handles a datagram that belongs to this peer by its source address or by the user name in it. It is decrypted in
    /// place. Afterwards [`poll_event`](Self::poll_event) and [`poll_transmit`](Self::poll_transmit) may return
    /// something, except after RTP and RTCP.
    pub fn handle_datagram<'a>(
        &mut self,
        now: Instant,
        source: SocketAddr,
        local: Option<IpAddr>,
        data: &'a mut [u8],
        sources: &impl Sources,
    ) -> Received<'a> {
        if self.stage == Stage::Ended {
            return Received::Ignored(Drop::UnknownSource);
        }
        let path = Path { remote: source, local };
        let result = match protocol(data) {
            Some(Protocol::Stun) => self.handle_check(now, path, data).map(|()| Received::Nothing),
            _ if !self.agent.is_validated(source) => Err(Drop::UnknownSource),
            Some(Protocol::Rtp) => return self.handle_rtp(data, sources).unwrap_or_else(Received::Ignored),
            Some(Protocol::Rtcp) => return self.handle_rtcp(data).unwrap_or_else(Received::Ignored),
            Some(Protocol::Dtls) => self.handle_dtls(now, path, data).map(|()| Received::Nothing),
            None => Err(Drop::UnknownProtocol),
        };
        result.unwrap_or_else(Received::Ignored)
    }

    fn handle_rtp<'a>(&mut self, data: &'a mut [u8], sources: &impl Sources) -> Result<Received<'a>, Drop> {
        let opener = self.opener.as_mut().ok_or(Drop::NoKeys)?;
        let header = RtpHeader::parse(data).map_err(|_| Drop::BadRtp)?;
        if opener.is_full() && !opener.remembers(header.ssrc) {
            opener.forget(|ssrc| sources.knows(ssrc));
        }
        let RtpHeader { ssrc, sequence, header_len, .. } = header;
        let is_expected = |packet: &[u8]| sources.expects(&header, packet);
        let (len, extended) = opener.open_rtp(data, ssrc, sequence, header_len, is_expected)?;
        let packet = data.get_mut(..len).ok_or(Drop::BadRtp)?;
        Ok(Received::Rtp { packet, header, extended })
    }

    fn handle_rtcp<'a>(&mut self, data: &'a mut [u8]) -> Result<Received<'a>, Drop> {
        let opener = self.opener.as_mut().ok_or(Drop::NoKeys)?;
        let len = opener.open_rtcp(data)?;
        Ok(Received::Rtcp { packet: data.get(..len).ok_or(Drop::BadRtcp)? })
    }

    fn handle_check(&mut self, now: Instant, path: Path, data: &[u8]) -> Result<(), Drop> {
        let checked = self.agent.handle(now, path, data)?;
        if self.replies.len() < MAX_REPLIES {
            self.replies.push_back((path, checked.response));
        }
        if let Some(new) = checked.selected {
            self.events.push_back(TransportEvent::PathChanged { new });
        }
        if self.agent.is_validated(path.remote) {
            self.fallback = Some(path);
            if let Stage::Checking { .. } = self.stage {
                self.stage = Stage::Handshaking { since: now };
            }
            if let Some(secure) = &mut self.secure {
                secure.dtls.start(now);
            }
            let _ = self.pump(now);
        }
        Ok(())
    }

    fn handle_dtls(&mut self, now: Instant, path: Path, data: &[u8]) -> Result<(), Drop> {
        let secure = self.secure.as_mut().ok_or(Drop::BadDtls)?;
        let handled = secure.dtls.handle(now, data);
        self.fallback = Some(path);
        let delivered = self.pump(now);
        handled.and(delivered)
    }

    /// Moves data between DTLS and SCTP until none is left. Returns an error if an SCTP packet was discarded.
    fn pump(&mut self, now: Instant) -> Result<(), Drop> {
        let mut result = Ok(());
        let Some(secure) = &mut self.secure else { return result };
        let mut ended = None;
        while let Some(event) = secure.dtls.poll_event() {
            match event {
                DtlsEvent::Connected(keys) => {
                    self.stage = Stage::Connected;
                    if let Some(SrtpKeys { profile, local, remote }) = keys {
                        let max_sources = max_sources(&self.config.limits);
                        self.sealer = Sealer::new(profile, &local).ok();
                        self.opener = Opener::new(profile, &remote, max_sources).ok();
                    }
                    self.events.push_back(TransportEvent::Connected);
                    secure.sctp.start(now, &self.config.limits);
                }
                DtlsEvent::Data(packet) => result = result.and(secure.sctp.handle(now, packet)),
                DtlsEvent::Failed(_) if secure.dtls.has_mismatch() => {
                    ended = Some(TransportEvent::Failed(Failure::FingerprintMismatch));
                }
                DtlsEvent::Failed(reason) => ended = Some(TransportEvent::Failed(Failure::Dtls(reason))),
                DtlsEvent::Closed => ended = Some(TransportEvent::Closed),
            }
        }
        while let Some(packet) = secure.sctp.poll_transmit() {
            secure.dtls.write(now, &packet);
        }
        while let Some(event) = secure.sctp.poll_event() {
            self.events.push_back(event.into());
        }
        match secure.sctp.take_discarded() {
            0 => {}
            messages => self.events.push_back(TransportEvent::DataDiscarded { messages }),
        }
        self.unread = secure.sctp.has_unread();
        if let Some(event) = ended {
            self.end(event);
        }
        result
    }

    fn end(&mut self, event: TransportEvent) {
        if self.stage != Stage::Ended {
            self.stage = Stage::Ended;
            self.events.push_back(event);
        }
    }

    /// Writes the next datagram to send: a reply to a check, a handshake message or data channel traffic, but never
    /// media. Returns its length, destination and source. `buffer` is at least 1,500 bytes.
    pub fn poll_transmit(
        &mut self,
        _now: Instant,
        buffer: &mut [u8],
    ) -> Option<(usize, SocketAddr, Option<IpAddr>)> {
        if let Some((path, reply)) = self.replies.pop_front() {
            return copy(&reply, buffer).map(|len| (len, path.remote, path.local));
        }
        let path = self.agent.selected().or(self.fallback)?;
        let datagram = self.secure.as_mut()?.dtls.poll_transmit()?;
        copy(&datagram, buffer).map(|len| (len, path.remote, path.local))
    }

    /// The next event. Reads further SCTP messages if none is pending.
    pub fn poll_event(&mut self, now: Instant) -> Option<TransportEvent> {
        while self.events.is_empty() && self.unread && !self.held && self.stage != Stage::Ended {
            if let Some(secure) = &mut self.secure {
                secure.sctp.read_on(now);
            }
            // No packet has arrived, so none can be discarded.
            let _ = self.pump(now);
        }
        self.events.pop_front()
    }

    /// Suspends or resumes reading the peer's reliable messages; while suspended, the peer has to wait. Messages read
    /// before still come out of [`poll_event`](Self::poll_event): at most 128 KiB.
    pub fn hold_data(&mut self, held: bool) {
        self.held = held;
        if let Some(secure) = &mut self.secure {
            secure.sctp.hold(held);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; `None` if no deadline is set.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.stage == Stage::Ended {
            return None;
        }
        let secure = self.secure.as_ref();
        [
            self.stage_timeout(),
            self.consent_timeout(),
            secure.and_then(|secure| secure.dtls.poll_timeout()),
            secure.and_then(|secure| secure.sctp.poll_timeout()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn stage_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Checking { since } => Some(since + self.config.limits.ice_timeout),
            Stage::Handshaking { since } => Some(since + self.config.limits.dtls_timeout),
            Stage::Connected | Stage::Ended => None,
        }
    }

    fn consent_timeout(&self) -> Option<Instant> {
        self.agent.last_check().map(|last| last + self.config.limits.consent_timeout)
    }

    /// Handles the deadlines that have passed: setup and consent timeouts, and those of DTLS and SCTP.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.stage == Stage::Ended {
            return;
        }
        if self.stage_timeout().is_some_and(|at| at <= now) {
            let failure = match (self.stage, &self.secure) {
                (Stage::Handshaking { .. }, Some(Secure { dtls, .. })) => match dtls.complaint() {
                    _ if dtls.has_mismatch() => Failure::FingerprintMismatch,
                    Some(reason) => Failure::Dtls(reason.to_owned()),
                    None => Failure::DtlsTimeout,
                },
                (Stage::Handshaking { .. }, None) => Failure::DtlsTimeout,
                _ => Failure::IceTimeout,
            };
            return self.end(TransportEvent::Failed(failure));
        }
        if self.consent_timeout().is_some_and(|at| at <= now) {
            return self.end(TransportEvent::Failed(Failure::ConsentExpired));
        }
        if let Some(secure) = &mut self.secure {
            secure.dtls.handle_timeout(now);
            secure.sctp.handle_timeout(now);
        }
        // No packet has arrived, so none can be discarded.
        let _ = self.pump(now);
    }

    /// The path that the peer selected: destination of media, and the local address to send from.
    pub fn destination(&self) -> Option<(SocketAddr, Option<IpAddr>)> {
        self.agent.selected().map(|path| (path.remote, path.local))
    }

    /// Time of the last authentic connectivity check from an address.
    pub fn last_check_from(&self, source: SocketAddr) -> Option<Instant> {
        self.agent.last_check_from(source)
    }

    /// Prefetches into the CPU cache the state that protecting and addressing a packet needs. The result has no
    /// meaning.
    pub fn touch(&self) -> usize {
        let port = self.destination().map_or(0, |(destination, _)| usize::from(destination.port()));
        port ^ self.sealer.as_ref().map_or(0, Sealer::touch) ^ usize::from(self.is_connected())
    }

    /// Whether an authentic connectivity check has validated an address as the peer's.
    pub fn is_validated(&self, source: SocketAddr) -> bool {
        self.agent.is_validated(source)
    }

    /// Whether the DTLS handshake is complete and the transport has not ended since.
    pub fn is_connected(&self) -> bool {
        self.stage == Stage::Connected
    }

    /// The SRTP profile in use; `None` until connected, or if the peer does not use SRTP.
    pub fn srtp_profile(&self) -> Option<Profile> {
        self.sealer.as_ref().map(Sealer::profile)
    }

    /// Bytes that protection adds to an RTP packet: 16, or 10 with AES_CM_128_HMAC_SHA1_80.
    pub fn srtp_overhead(&self) -> usize {
        self.srtp_profile().unwrap_or(Profile::AeadAes128Gcm).rtp_overhead()
    }

    /// Bytes that protection adds to an RTCP packet: 20, or 14 with AES_CM_128_HMAC_SHA1_80.
    #[cfg(test)]
    pub fn srtcp_overhead(&self) -> usize {
        self.srtp_profile().unwrap_or(Profile::AeadAes128Gcm).rtcp_overhead()
    }

    /// Protects the RTP packet in the first `len` bytes of `packet`, of which `header_len` are the header with
    /// extensions; [`srtp_overhead`](Self::srtp_overhead) bytes have to be free after them. Returns the new length;
    /// `None` without keys or if the lengths do not fit. A sequence number may be used only once per SSRC, except to
    /// send the identical packet again.
    pub fn protect_rtp(
        &self,
        sequence: ExtendedSequence,
        packet: &mut [u8],
        header_len: usize,
        len: usize,
    ) -> Option<usize> {
        self.sealer.as_ref()?.seal_rtp(sequence, packet, header_len, len)
    }

    /// Protects the compound RTCP packet in the first `len` bytes of `packet`; 20 bytes, or 14 with
    /// AES_CM_128_HMAC_SHA1_80, have to be free after them. Returns the new length; `None` without keys or if the lengths do not fit.
    pub fn protect_rtcp(&mut self, packet: &mut [u8], len: usize) -> Option<usize> {
        self.sealer.as_mut()?.seal_rtcp(packet, len)
    }

    /// Opens a data channel as soon as the SCTP association is established; [`TransportEvent::DataOpen`] then reports
    /// it. Fails with [`DataError::NotOpen`] before the remote description is set.
    pub fn open_channel(
        &mut self,
        now: Instant,
        label: &str,
        ordered: bool,
        max_retransmits: Option<u16>,
    ) -> Result<ChannelId, DataError> {
        let secure = self.secure.as_mut().ok_or(DataError::NotOpen)?;
        let channel = secure.sctp.open(now, label, ordered, max_retransmits)?;
        let _ = self.pump(now);
        Ok(channel)
    }

    /// Sets the longest message that the peer accepts, in bytes; 0 for no limit. Has no effect before the remote
    /// description is set.
    pub fn limit_messages(&mut self, bytes: u64) {
        if let Some(secure) = &mut self.secure {
            secure.sctp.limit_messages(bytes);
        }
    }

    /// Sends a message on an open channel, with the channel's declared reliability.
    pub fn send_data(
        &mut self,
        now: Instant,
        channel: ChannelId,
        payload: &Bytes,
        binary: bool,
    ) -> Result<(), DataError> {
        let secure =
            self.secure.as_mut().filter(|_| self.stage == Stage::Connected).ok_or(DataError::NotOpen)?;
        secure.sctp.send(now, channel, payload, binary)?;
        let _ = self.pump(now);
        Ok(())
    }

    /// User data that has not been sent or acknowledged yet, in bytes.
    pub fn buffered_data(&mut self) -> usize {
        self.secure.as_mut().map_or(0, |secure| secure.sctp.buffered())
    }

    /// Number of RTP sources with a replay window.
    pub fn sources(&self) -> usize {
        self.opener.as_ref().map_or(0, Opener::sources)
    }

    /// Removes the replay windows of RTP sources that have ended, except those of the last few.
    pub fn forget_sources(&mut self, sources: &impl Sources) {
        if let Some(opener) = &mut self.opener {
            opener.forget(|ssrc| sources.knows(ssrc));
        }
    }

    /// Closes the transport. [`poll_transmit`](Self::poll_transmit) then returns the DTLS close alert. Further
    /// datagrams are ignored.
    #[cfg(test)]
    pub fn close(&mut self, now: Instant) {
        if let Some(secure) = &mut self.secure {
            secure.dtls.close(now);
        }
        self.stage = Stage::Ended;
    }
}

fn copy(datagram: &[u8], buffer: &mut [u8]) -> Option<usize> {
    buffer.get_mut(..datagram.len())?.copy_from_slice(datagram);
    Some(datagram.len())
}

/// Maximum number of queued replies to checks. Further checks get no reply.
const MAX_REPLIES: usize = 64;
/// Maximum number of RTP sources of a track: 8 streams, each with its RTX stream.
const SOURCES_PER_TRACK: usize = 2 * 8;

/// Maximum number of RTP sources with a replay window: those of all tracks that may be published, and some that ended.
fn max_sources(limits: &Limits) -> usize {
    SOURCES_PER_TRACK.saturating_mul(limits.published_tracks).saturating_add(srtp::ENDED_SOURCES + 1)
}

#[cfg(test)]
mod tests;
