//! One peer connection's transport: ICE-lite, DTLS, SRTP and SCTP, sans-IO.
//!
//! The order of authority: a datagram from an address that no authentic connectivity check has proved is not
//! looked at, unless it is such a check. What is not authentic changes nothing and is not answered.

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
pub use self::event::{AnySource, Failure, Received, Sources, TransportEvent};
use self::ice::{Agent, IceCredentials, Path};
use self::sctp::{ChannelId, DataError, Sctp};
use self::srtp::{Opener, Profile, Sealer};
use crate::limits::Limits;
use crate::rtp::packet::RtpHeader;
use crate::stats::Drop;
use crate::units::ExtendedSequence;

/// What a transport is made with.
#[derive(Debug, Clone)]
pub struct TransportConfig {
    /// Our ICE credentials, to be named in the local description.
    pub local: IceCredentials,
    /// Our certificate: one per process.
    pub certificate: Arc<Certificate>,
    /// SRTP profiles that are taken.
    pub srtp: SrtpOffer,
    /// Bounds on what the peer can cost.
    pub limits: Limits,
}

/// What the remote description says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteParameters {
    /// The peer's ICE credentials.
    pub ice: IceCredentials,
    /// The digest of the peer's certificate.
    pub fingerprint: Fingerprint,
    /// What we are.
    pub dtls_role: DtlsRole,
}

/// A remote description that cannot be used. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TransportError {
    /// `ice-ufrag` is not of 4 to 256 characters (RFC 8839 section 5.4).
    #[error("ice-ufrag of {0} characters")]
    Ufrag(usize),
    /// `ice-pwd` is not of 22 to 256 characters.
    #[error("ice-pwd of {0} characters")]
    Pwd(usize),
    /// The hash function is unknown, or the digest is not as long as its digests are.
    #[error("fingerprint {0}")]
    Fingerprint(Fingerprint),
    /// Another certificate or DTLS side than before: that would be another connection.
    #[error("fingerprint or setup changed")]
    Changed,
}

/// The transport of one peer connection.
pub struct Transport {
    config: TransportConfig,
    agent: Agent,
    /// Nothing until the remote description is there.
    secure: Option<Secure>,
    sealer: Option<Sealer>,
    opener: Option<Opener>,
    /// Where an address is needed before the peer has chosen one.
    fallback: Option<Path>,
    stage: Stage,
    replies: VecDeque<(Path, SmallVec<[u8; 128]>)>,
    events: VecDeque<TransportEvent>,
    /// Messages of the peer may be there that have not been read.
    unread: bool,
    /// Reliable ones are not read.
    held: bool,
}

struct Secure {
    remote: RemoteParameters,
    dtls: Dtls,
    sctp: Sctp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No authentic check yet.
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
    /// A transport that waits for the remote description and the first check.
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

    /// The remote description, the first or a later one. New ICE credentials are a restart, before which
    /// [`restart_ice`](Self::restart_ice) gives ours; the same as before changes nothing.
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
        // Nothing has arrived that could be discarded.
        let _ = self.pump(now);
        Ok(())
    }

    /// New ICE credentials of ours, for an ICE restart (RFC 8445 section 9). The old ones count until a check
    /// with the new ones has succeeded, and so does the chosen path.
    pub fn restart_ice(&mut self, local: IceCredentials) {
        self.agent.restart(local);
    }

    /// Our ICE credentials now.
    pub fn local_ice(&self) -> &IceCredentials {
        self.agent.local()
    }

    /// A datagram that belongs to this peer by its source or by the user name in it. Decrypted in place.
    /// Afterwards [`poll_event`](Self::poll_event) and [`poll_transmit`](Self::poll_transmit) may have
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

    /// Moves things between DTLS and SCTP until nothing moves. An error if a packet was discarded.
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

    /// The next datagram to be sent: replies to checks, handshake, data channels. Media is not among them.
    /// Returns its length, and the addresses it goes to and from. `buffer` is at least 1,500 bytes.
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

    /// What happened.
    pub fn poll_event(&mut self, now: Instant) -> Option<TransportEvent> {
        while self.events.is_empty() && self.unread && !self.held && self.stage != Stage::Ended {
            if let Some(secure) = &mut self.secure {
                secure.sctp.read_on(now);
            }
            // Nothing arrives here.
            let _ = self.pump(now);
        }
        self.events.pop_front()
    }

    /// Whether reliable messages of the peer stay unread from now on, so that it has to wait. What was read before
    /// still comes out of [`poll_event`](Self::poll_event): at most 128 KiB.
    pub fn hold_data(&mut self, held: bool) {
        self.held = held;
        if let Some(secure) = &mut self.secure {
            secure.sctp.hold(held);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
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

    /// Time passed.
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
        // Nothing arrives here that could be discarded.
        let _ = self.pump(now);
    }

    /// The path that the peer chose: where media goes, and from which of our addresses.
    pub fn destination(&self) -> Option<(SocketAddr, Option<IpAddr>)> {
        self.agent.selected().map(|path| (path.remote, path.local))
    }

    /// When that address last proved to be the peer's.
    pub fn last_check_from(&self, source: SocketAddr) -> Option<Instant> {
        self.agent.last_check_from(source)
    }

    /// Reads a little of everything that protecting and addressing a packet looks at, so that it is in the cache by
    /// then.
    pub fn touch(&self) -> usize {
        let port = self.destination().map_or(0, |(destination, _)| usize::from(destination.port()));
        port ^ self.sealer.as_ref().map_or(0, Sealer::touch) ^ usize::from(self.is_connected())
    }

    /// Whether that address was proved to be the peer's.
    pub fn is_validated(&self, source: SocketAddr) -> bool {
        self.agent.is_validated(source)
    }

    /// Whether DTLS is complete and nothing has ended since.
    pub fn is_connected(&self) -> bool {
        self.stage == Stage::Connected
    }

    /// The SRTP profile in use, once connected to a peer that wants SRTP.
    pub fn srtp_profile(&self) -> Option<Profile> {
        self.sealer.as_ref().map(Sealer::profile)
    }

    /// How much longer an RTP packet becomes: 16 bytes, or 10 with AES_CM_128_HMAC_SHA1_80.
    pub fn srtp_overhead(&self) -> usize {
        self.srtp_profile().unwrap_or(Profile::AeadAes128Gcm).rtp_overhead()
    }

    /// How much longer an RTCP packet becomes: 20 bytes, or 14.
    pub fn srtcp_overhead(&self) -> usize {
        self.srtp_profile().unwrap_or(Profile::AeadAes128Gcm).rtcp_overhead()
    }

    /// Protects the RTP packet in the first `len` bytes of `packet`, of which `header_len` are the header with
    /// extensions; [`srtp_overhead`](Self::srtp_overhead) bytes have to be free behind. Returns the new length;
    /// nothing without keys, or if the lengths do not fit. A number may be used once per SSRC, except to send
    /// the very same packet again.
    pub fn protect_rtp(
        &self,
        sequence: ExtendedSequence,
        packet: &mut [u8],
        header_len: usize,
        len: usize,
    ) -> Option<usize> {
        self.sealer.as_ref()?.seal_rtp(sequence, packet, header_len, len)
    }

    /// Protects the compound RTCP packet in the first `len` bytes of `packet`, with
    /// [`srtcp_overhead`](Self::srtcp_overhead) bytes free behind. Returns the new length; nothing without
    /// keys, or if the lengths do not fit.
    pub fn protect_rtcp(&mut self, packet: &mut [u8], len: usize) -> Option<usize> {
        self.sealer.as_mut()?.seal_rtcp(packet, len)
    }

    /// Opens a data channel as soon as the association is there; [`TransportEvent::DataOpen`] tells. Needs the
    /// remote description.
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

    /// Notes the longest message that the peer takes, in bytes; 0: any. Needs the remote description.
    pub fn limit_messages(&mut self, bytes: u64) {
        if let Some(secure) = &mut self.secure {
            secure.sctp.limit_messages(bytes);
        }
    }

    /// Sends a message on an open channel, with the reliability that the channel was declared with.
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

    /// User data that waits to be sent or acknowledged, in bytes.
    pub fn buffered_data(&mut self) -> usize {
        self.secure.as_mut().map_or(0, |secure| secure.sctp.buffered())
    }

    /// Sources of RTP that are remembered, so that no packet of theirs is taken twice.
    pub fn sources(&self) -> usize {
        self.opener.as_ref().map_or(0, Opener::sources)
    }

    /// Forgets sources of RTP that have ended.
    pub fn forget_sources(&mut self, sources: &impl Sources) {
        if let Some(opener) = &mut self.opener {
            opener.forget(|ssrc| sources.knows(ssrc));
        }
    }

    /// Says goodbye, which [`poll_transmit`](Self::poll_transmit) has afterwards. Nothing is received any more.
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

/// Replies to checks that wait to be sent, beyond which checks get none.
const MAX_REPLIES: usize = 64;
/// Streams of a track, and with each its retransmissions.
const SOURCES_PER_TRACK: usize = 2 * 8;

/// Sources of RTP that may be remembered: those of as many tracks as may be published, and some that have ended.
fn max_sources(limits: &Limits) -> usize {
    SOURCES_PER_TRACK.saturating_mul(limits.published_tracks).saturating_add(srtp::ENDED_SOURCES + 1)
}

#[cfg(test)]
mod tests;
