//! SRTP and SRTCP in place: AEAD_AES_128_GCM (RFC 7714) and AES_CM_128_HMAC_SHA1_80 (RFC 3711) over aws-lc-rs.
//!
//! Sending keeps no state per stream: the caller supplies sequence numbers extended beyond 16 bits. Receiving keeps a
//! replay window per SSRC. It is created only for an expected source, after an authentic packet.

mod derive;
mod window;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use smallvec::SmallVec;
use thiserror::Error;

use self::derive::{Label, derive};
use self::window::Window;
use crate::stats::Drop;
use crate::units::{ExtendedSequence, Ssrc};

/// A protection profile of DTLS-SRTP (RFC 5764 section 4.1.2, RFC 7714 section 14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// AEAD_AES_128_GCM, which every current browser accepts.
    AeadAes128Gcm,
    /// AES_CM_128_HMAC_SHA1_80, for clients that support nothing better.
    AesCm128HmacSha1_80,
}

impl Profile {
    /// Length of the master key, in bytes.
    pub const KEY_LEN: usize = 16;

    /// Length of the master salt, in bytes.
    pub fn salt_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm => 12,
            Self::AesCm128HmacSha1_80 => 14,
        }
    }

    /// Bytes that protection adds to an RTP packet.
    pub fn rtp_overhead(self) -> usize {
        match self {
            Self::AeadAes128Gcm => GCM_TAG,
            Self::AesCm128HmacSha1_80 => HMAC_TAG,
        }
    }

    /// Bytes that protection adds to an RTCP packet.
    pub fn rtcp_overhead(self) -> usize {
        self.rtp_overhead() + INDEX_LEN
    }
}

/// Master key and salt of one direction.
#[derive(Clone)]
pub struct MasterKey {
    /// Master key, 16 bytes.
    pub key: [u8; Profile::KEY_LEN],
    /// Master salt: 12 or 14 bytes, depending on the profile.
    pub salt: SmallVec<[u8; 14]>,
}

/// Reason that session keys could not be derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SrtpError {
    /// The salt does not have the length that the profile requires.
    #[error("master salt of {0} bytes")]
    SaltLength(usize),
    /// The cryptographic library rejected a key.
    #[error("key refused")]
    Key,
}

/// Encrypts and authenticates packets to send.
pub struct Sealer {
    cipher: Cipher,
    profile: Profile,
    /// One counter for all senders of RTCP: only uniqueness per key and SSRC matters (RFC 3711 section 3.2.1).
    rtcp_index: u32,
}

impl Sealer {
    /// Derives the session keys.
    pub fn new(profile: Profile, master: &MasterKey) -> Result<Self, SrtpError> {
        Ok(Self { cipher: Cipher::new(profile, master)?, profile, rtcp_index: 0 })
    }

    /// The profile in use.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Prefetches into the CPU cache; see [`Transport::touch`](super::Transport::touch).
    pub(super) fn touch(&self) -> usize {
        match &self.cipher {
            Cipher::Gcm(gcm) => usize::from(gcm.rtp_salt[0]) ^ self.rtcp_index as usize,
            Cipher::Cm(_) => self.rtcp_index as usize,
        }
    }

    /// Protects the RTP packet in the first `len` bytes of `buffer`, of which `header_len` are the header with
    /// extensions. The buffer needs space for the overhead after the packet. Returns the new length; `None` if the
    /// lengths do not fit.
    pub fn seal_rtp(
        &self,
        sequence: ExtendedSequence,
        buffer: &mut [u8],
        header_len: usize,
        len: usize,
    ) -> Option<usize> {
        let total = len.checked_add(self.profile.rtp_overhead())?;
        if header_len < RTP_HEADER || header_len > len || total > buffer.len() {
            return None;
        }
        let ssrc = read_u32(buffer, 8)?;
        let rollover = sequence.rollover();
        match &self.cipher {
            Cipher::Gcm(gcm) => {
                let nonce = gcm.rtp_nonce(ssrc, rollover, sequence.wire());
                let (header, rest) = buffer.split_at_mut_checked(header_len)?;
                let (payload, tail) = rest.split_at_mut_checked(len - header_len)?;
                let tag = gcm.rtp.seal_in_place_separate_tag(nonce, Aad::from(&*header), payload).ok()?;
                tail.get_mut(..GCM_TAG)?.copy_from_slice(tag.as_ref());
            }
            Cipher::Cm(cm) => {
                cm.rtp_stream(ssrc, rollover, sequence.wire(), buffer.get_mut(header_len..len)?)?;
                let tag = cm.rtp_tag(buffer.get(..len)?, rollover);
                buffer.get_mut(len..total)?.copy_from_slice(tag.as_ref().get(..HMAC_TAG)?);
            }
        }
        Some(total)
    }

    /// Protects the compound RTCP packet in the first `len` bytes of `buffer`, which needs space for the overhead after
    /// the packet. Returns the new length; `None` if the lengths do not fit.
    pub fn seal_rtcp(&mut self, buffer: &mut [u8], len: usize) -> Option<usize> {
        let total = len.checked_add(self.profile.rtcp_overhead())?;
        if len < RTCP_HEADER || total > buffer.len() {
            return None;
        }
        let ssrc = read_u32(buffer, 4)?;
        self.rtcp_index = (self.rtcp_index + 1) & INDEX_MASK;
        let index = self.rtcp_index;
        let word = (index | ENCRYPTED_FLAG).to_be_bytes();
        match &self.cipher {
            Cipher::Gcm(gcm) => {
                let nonce = gcm.rtcp_nonce(ssrc, index);
                let (header, rest) = buffer.split_at_mut_checked(RTCP_HEADER)?;
                let (body, tail) = rest.split_at_mut_checked(len - RTCP_HEADER)?;
                let aad = Aad::from(rtcp_aad(header, word)?);
                let tag = gcm.rtcp.seal_in_place_separate_tag(nonce, aad, body).ok()?;
                tail.get_mut(..GCM_TAG)?.copy_from_slice(tag.as_ref());
                tail.get_mut(GCM_TAG..GCM_TAG + INDEX_LEN)?.copy_from_slice(&word);
            }
            Cipher::Cm(cm) => {
                cm.rtcp_stream(ssrc, index, buffer.get_mut(RTCP_HEADER..len)?)?;
                buffer.get_mut(len..len + INDEX_LEN)?.copy_from_slice(&word);
                let tag = hmac::sign(&cm.rtcp_auth, buffer.get(..len + INDEX_LEN)?);
                buffer.get_mut(len + INDEX_LEN..total)?.copy_from_slice(tag.as_ref().get(..HMAC_TAG)?);
            }
        }
        Some(total)
    }
}

/// Authenticates and decrypts received packets.
pub struct Opener {
    cipher: Cipher,
    profile: Profile,
    /// RTP sources of which authentic packets have arrived, oldest first.
    sources: SmallVec<[(Ssrc, Window); 8]>,
    max_sources: usize,
    /// Senders of RTCP, with their replay windows.
    reporters: SmallVec<[Reporter; 4]>,
    /// Number of authentic RTCP packets so far.
    reports: u64,
}

/// A sender of RTCP. SRTCP packets carry their entire index, unlike SRTP packets, so this state may be dropped.
struct Reporter {
    ssrc: Ssrc,
    window: Window,
    /// Value of `reports` when this sender's last packet arrived.
    last: u64,
}

impl Opener {
    /// Derives the session keys. At most `max_sources` RTP sources get a replay window.
    pub fn new(profile: Profile, master: &MasterKey, max_sources: usize) -> Result<Self, SrtpError> {
        Ok(Self {
            cipher: Cipher::new(profile, master)?,
            profile,
            sources: SmallVec::new(),
            max_sources,
            reporters: SmallVec::new(),
            reports: 0,
        })
    }

    /// Authenticates and decrypts an RTP packet in place. Returns the length without the tag, and the extended sequence
    /// number. `is_expected` is called for a source without a replay window. On an error the packet's content may be
    /// destroyed; no other state has changed.
    pub fn open_rtp(
        &mut self,
        packet: &mut [u8],
        ssrc: Ssrc,
        sequence: u16,
        header_len: usize,
        is_expected: impl FnOnce(&[u8]) -> bool,
    ) -> Result<(usize, ExtendedSequence), Drop> {
        let place = self.place_of(ssrc);
        let window = place.and_then(|at| self.sources.get(at)).map(|(_, window)| window);
        let extended = match window {
            Some(window) => ExtendedSequence(window.highest()).extend(sequence),
            None if !is_expected(packet) => return Err(Drop::UnknownStream),
            None if self.is_full() => return Err(Drop::TooManyStreams),
            None => ExtendedSequence::first(sequence),
        };
        // Checked before any cryptography, because duplicates are cheap to send.
        if window.is_some_and(|window| window.seen(extended.0)) {
            return Err(Drop::Replayed);
        }
        let tag_len = self.profile.rtp_overhead();
        let len = packet.len().checked_sub(tag_len).filter(|len| *len >= header_len).ok_or(Drop::BadRtp)?;
        let extended = match window {
            Some(_) => self.cipher.open_rtp(packet, ssrc, extended, header_len, len).map(|()| extended),
            None => self.open_first(packet, ssrc, extended, header_len, len),
        };
        let extended = extended.ok_or(Drop::BadAuthentication)?;
        match place.and_then(|at| self.sources.get_mut(at)) {
            Some((_, window)) => window.mark(extended.0),
            None => self.sources.push((ssrc, Window::of(extended.0))),
        }
        Ok((len, extended))
    }

    /// Opens the first packet that arrives of a stream. A stream may begin with any sequence number (RFC 3550 section
    /// 5.1). If all packets before a wrap are lost, the sender's rollover counter is already 1, which the receiver
    /// cannot know (RFC 3711 section 3.3.1). So both counters are tried.
    #[cold]
    fn open_first(
        &self,
        packet: &mut [u8],
        ssrc: Ssrc,
        first: ExtendedSequence,
        header_len: usize,
        len: usize,
    ) -> Option<ExtendedSequence> {
        // A failed attempt destroys the content.
        let sealed: SmallVec<[u8; ONE_PACKET]> = SmallVec::from_slice(packet);
        if self.cipher.open_rtp(packet, ssrc, first, header_len, len).is_some() {
            return Some(first);
        }
        packet.copy_from_slice(&sealed);
        let wrapped = first.plus(1 << 16);
        self.cipher.open_rtp(packet, ssrc, wrapped, header_len, len).map(|()| wrapped)
    }

    /// Authenticates and decrypts a compound RTCP packet in place. Returns its length without index and tag.
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, Drop> {
        let len = packet
            .len()
            .checked_sub(self.profile.rtcp_overhead())
            .filter(|len| *len >= RTCP_HEADER)
            .ok_or(Drop::BadRtcp)?;
        let ssrc = Ssrc(read_u32(packet, 4).ok_or(Drop::BadRtcp)?);
        let index_at = match self.profile {
            Profile::AeadAes128Gcm => len + GCM_TAG,
            Profile::AesCm128HmacSha1_80 => len,
        };
        let word = read_u32(packet, index_at).ok_or(Drop::BadRtcp)?;
        // Unencrypted SRTCP has to be negotiated (RFC 4568 section 6.3.2), which DTLS-SRTP cannot.
        if word & ENCRYPTED_FLAG == 0 {
            return Err(Drop::BadAuthentication);
        }
        let index = word & INDEX_MASK;
        let place = self.reporters.iter().position(|reporter| reporter.ssrc == ssrc);
        let window = place.and_then(|at| self.reporters.get(at)).map(|reporter| &reporter.window);
        if window.is_some_and(|window| window.seen(u64::from(index))) {
            return Err(Drop::Replayed);
        }
        let opened = match &self.cipher {
            Cipher::Gcm(gcm) => gcm.open_rtcp(packet, ssrc, index, word, len),
            Cipher::Cm(cm) => cm.open_rtcp(packet, ssrc, index, len),
        };
        opened.ok_or(Drop::BadAuthentication)?;
        self.reports += 1;
        match place.and_then(|at| self.reporters.get_mut(at)) {
            Some(reporter) => {
                reporter.window.mark(u64::from(index));
                reporter.last = self.reports;
            }
            None => self.add_reporter(ssrc, index),
        }
        Ok(len)
    }

    /// Number of RTP sources with a replay window.
    pub fn sources(&self) -> usize {
        self.sources.len()
    }

    /// Whether an RTP source has a replay window.
    pub fn remembers(&self, ssrc: Ssrc) -> bool {
        self.place_of(ssrc).is_some()
    }

    fn place_of(&self, ssrc: Ssrc) -> Option<usize> {
        self.sources.iter().position(|(known, _)| *known == ssrc)
    }

    /// Whether the maximum number of RTP sources is reached.
    pub fn is_full(&self) -> bool {
        self.sources.len() >= self.max_sources
    }

    /// Removes RTP sources that have ended, except the last 16. Late or replayed packets of those are still recognised.
    pub fn forget(&mut self, lives: impl Fn(Ssrc) -> bool) {
        let ended = self.sources.iter().filter(|(ssrc, _)| !lives(*ssrc)).count();
        let mut excess = ended.saturating_sub(ENDED_SOURCES);
        self.sources.retain(|(ssrc, _)| {
            let goes = excess > 0 && !lives(*ssrc);
            excess -= usize::from(goes);
            !goes
        });
    }

    /// Adds a sender of RTCP. At the maximum, it replaces the one that has been silent the longest.
    fn add_reporter(&mut self, ssrc: Ssrc, index: u32) {
        if self.reporters.len() >= MAX_REPORTERS {
            let silent = self.reporters.iter().enumerate().min_by_key(|(_, reporter)| reporter.last);
            if let Some(at) = silent.map(|(at, _)| at) {
                self.reporters.swap_remove(at);
            }
        }
        self.reporters.push(Reporter { ssrc, window: Window::of(u64::from(index)), last: self.reports });
    }
}

/// Session keys of one direction. The variants' difference in size does not matter: there is one value per peer and
/// direction, and a box would cost a cache miss per packet.
#[expect(clippy::large_enum_variant, reason = "see above")]
enum Cipher {
    Gcm(Gcm),
    Cm(Cm),
}

impl Cipher {
    fn new(profile: Profile, master: &MasterKey) -> Result<Self, SrtpError> {
        if master.salt.len() != profile.salt_len() {
            return Err(SrtpError::SaltLength(master.salt.len()));
        }
        match profile {
            Profile::AeadAes128Gcm => Gcm::new(master).map(Self::Gcm),
            Profile::AesCm128HmacSha1_80 => Cm::new(master).map(Self::Cm),
        }
    }

    /// Opens an RTP packet of `len` bytes without the tag. Returns `None`, with the content destroyed, if it was not
    /// protected with this key and sequence number.
    fn open_rtp(
        &self,
        packet: &mut [u8],
        ssrc: Ssrc,
        extended: ExtendedSequence,
        header_len: usize,
        len: usize,
    ) -> Option<()> {
        match self {
            Self::Gcm(gcm) => gcm.open_rtp(packet, ssrc, extended, header_len),
            Self::Cm(cm) => cm.open_rtp(packet, ssrc, extended, header_len, len),
        }
    }
}

struct Gcm {
    rtp: LessSafeKey,
    rtp_salt: [u8; 12],
    rtcp: LessSafeKey,
    rtcp_salt: [u8; 12],
}

impl Gcm {
    fn new(master: &MasterKey) -> Result<Self, SrtpError> {
        let key = |label| {
            let key: [u8; 16] = derive(master, label)?;
            UnboundKey::new(&AES_128_GCM, &key).map(LessSafeKey::new).map_err(|_| SrtpError::Key)
        };
        Ok(Self {
            rtp: key(Label::RtpEncryption)?,
            rtp_salt: derive(master, Label::RtpSalt)?,
            rtcp: key(Label::RtcpEncryption)?,
            rtcp_salt: derive(master, Label::RtcpSalt)?,
        })
    }

    /// SRTP nonce, RFC 7714 section 8.1.
    fn rtp_nonce(&self, ssrc: u32, rollover: u32, sequence: u16) -> Nonce {
        let count = (u128::from(ssrc) << 48) | (u128::from(rollover) << 16) | u128::from(sequence);
        xor_nonce(self.rtp_salt, count)
    }

    /// SRTCP nonce, RFC 7714 section 9.1.
    fn rtcp_nonce(&self, ssrc: u32, index: u32) -> Nonce {
        xor_nonce(self.rtcp_salt, (u128::from(ssrc) << 48) | u128::from(index))
    }

    fn open_rtp(
        &self,
        packet: &mut [u8],
        ssrc: Ssrc,
        extended: ExtendedSequence,
        header_len: usize,
    ) -> Option<()> {
        let nonce = self.rtp_nonce(ssrc.0, extended.rollover(), extended.wire());
        let (header, body) = packet.split_at_mut_checked(header_len)?;
        self.rtp.open_in_place(nonce, Aad::from(&*header), body).ok().map(drop_result)
    }

    fn open_rtcp(&self, packet: &mut [u8], ssrc: Ssrc, index: u32, word: u32, len: usize) -> Option<()> {
        let nonce = self.rtcp_nonce(ssrc.0, index);
        let (header, body) = packet.split_at_mut_checked(RTCP_HEADER)?;
        let aad = Aad::from(rtcp_aad(header, word.to_be_bytes())?);
        let body = body.get_mut(..(len - RTCP_HEADER) + GCM_TAG)?;
        self.rtcp.open_in_place(nonce, aad, body).ok().map(drop_result)
    }
}

struct Cm {
    rtp: EncryptingKey,
    rtp_salt: [u8; 14],
    rtp_auth: hmac::Key,
    rtcp: EncryptingKey,
    rtcp_salt: [u8; 14],
    rtcp_auth: hmac::Key,
}

impl Cm {
    fn new(master: &MasterKey) -> Result<Self, SrtpError> {
        let key = |label| {
            let key: [u8; 16] = derive(master, label)?;
            counter_mode(&key).ok_or(SrtpError::Key)
        };
        let auth = |label| {
            let key: [u8; 20] = derive(master, label)?;
            Ok(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key))
        };
        Ok(Self {
            rtp: key(Label::RtpEncryption)?,
            rtp_salt: derive(master, Label::RtpSalt)?,
            rtp_auth: auth(Label::RtpAuthentication)?,
            rtcp: key(Label::RtcpEncryption)?,
            rtcp_salt: derive(master, Label::RtcpSalt)?,
            rtcp_auth: auth(Label::RtcpAuthentication)?,
        })
    }

    /// Encrypts or decrypts an RTP payload in counter mode, RFC 3711 section 4.1.1.
    fn rtp_stream(&self, ssrc: u32, rollover: u32, sequence: u16, data: &mut [u8]) -> Option<()> {
        let index = (u64::from(rollover) << 16) | u64::from(sequence);
        apply_stream(&self.rtp, &self.rtp_salt, ssrc, index, data)
    }

    fn rtcp_stream(&self, ssrc: u32, index: u32, data: &mut [u8]) -> Option<()> {
        apply_stream(&self.rtcp, &self.rtcp_salt, ssrc, u64::from(index), data)
    }

    /// Authentication tag. The rollover counter is authenticated but not sent (RFC 3711 section 4.2).
    fn rtp_tag(&self, packet: &[u8], rollover: u32) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.rtp_auth);
        context.update(packet);
        context.update(&rollover.to_be_bytes());
        context.sign()
    }

    fn open_rtp(
        &self,
        packet: &mut [u8],
        ssrc: Ssrc,
        extended: ExtendedSequence,
        header_len: usize,
        len: usize,
    ) -> Option<()> {
        let (data, tag) = packet.split_at_mut_checked(len)?;
        let expected = self.rtp_tag(data, extended.rollover());
        verify_slices_are_equal(expected.as_ref().get(..HMAC_TAG)?, tag).ok()?;
        self.rtp_stream(ssrc.0, extended.rollover(), extended.wire(), data.get_mut(header_len..)?)
    }

    fn open_rtcp(&self, packet: &mut [u8], ssrc: Ssrc, index: u32, len: usize) -> Option<()> {
        let (data, tag) = packet.split_at_mut_checked(len + INDEX_LEN)?;
        let expected = hmac::sign(&self.rtcp_auth, data);
        verify_slices_are_equal(expected.as_ref().get(..HMAC_TAG)?, tag).ok()?;
        self.rtcp_stream(ssrc.0, index, data.get_mut(RTCP_HEADER..len)?)
    }
}

fn counter_mode(key: &[u8; 16]) -> Option<EncryptingKey> {
    EncryptingKey::ctr(UnboundCipherKey::new(&AES_128, key).ok()?).ok()
}

/// XORs a packet's key stream into `data`, RFC 3711 section 4.1.1.
fn apply_stream(key: &EncryptingKey, salt: &[u8; 14], ssrc: u32, index: u64, data: &mut [u8]) -> Option<()> {
    let mut salted = [0; 16];
    salted.get_mut(..14)?.copy_from_slice(salt);
    let iv = u128::from_be_bytes(salted) ^ (u128::from(ssrc) << 64) ^ (u128::from(index) << 16);
    let context = EncryptionContext::Iv128(FixedLength::from(iv.to_be_bytes()));
    key.less_safe_encrypt(data, context).ok().map(drop_result)
}

fn xor_nonce(salt: [u8; 12], count: u128) -> Nonce {
    let mut nonce = salt;
    // The count takes the low ten of the nonce's twelve bytes. The top four of its sixteen bytes are zero.
    for (byte, with) in nonce.iter_mut().zip(count.to_be_bytes().into_iter().skip(4)) {
        *byte ^= with;
    }
    Nonce::assume_unique_for_key(nonce)
}

/// Data that SRTCP's tag covers in addition to the encrypted part: RFC 7714 section 17.
fn rtcp_aad(header: &[u8], word: [u8; INDEX_LEN]) -> Option<[u8; RTCP_HEADER + INDEX_LEN]> {
    let mut aad = [0; RTCP_HEADER + INDEX_LEN];
    aad.get_mut(..RTCP_HEADER)?.copy_from_slice(header);
    aad.get_mut(RTCP_HEADER..)?.copy_from_slice(&word);
    Some(aad)
}

fn read_u32(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_be_bytes)
}

fn drop_result<T>(_: T) {}

/// Number of RTP sources whose replay windows are kept after their end.
pub(super) const ENDED_SOURCES: usize = 16;
/// Maximum number of RTCP senders with a replay window. A client has one for each source that it sends, and one for its
/// receiver reports.
const MAX_REPORTERS: usize = 128;
const GCM_TAG: usize = 16;
const HMAC_TAG: usize = 10;
const INDEX_LEN: usize = 4;
const INDEX_MASK: u32 = 0x7fff_ffff;
const ENCRYPTED_FLAG: u32 = 0x8000_0000;
const RTP_HEADER: usize = 12;
const RTCP_HEADER: usize = 8;
/// Usual maximum packet size, in bytes. Copies of longer packets go to the heap.
const ONE_PACKET: usize = 1500;

#[cfg(test)]
mod tests;
