//! The STUN messages that ICE-lite needs (RFC 8489): parses Binding requests and writes responses. Requests are parsed
//! in place, without allocating, because this runs before authentication.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use smallvec::SmallVec;

/// A complete response.
pub(super) type Response = SmallVec<[u8; 128]>;

/// A well-formed Binding request, not authenticated yet. If it has a fingerprint, that matches.
#[derive(Debug)]
pub(super) struct Request<'a> {
    datagram: &'a [u8],
    transaction: [u8; 12],
    /// Local and remote ufrag.
    pub(super) username: (&'a str, &'a str),
    /// Offset at which MESSAGE-INTEGRITY begins, and its value.
    integrity: (usize, &'a [u8]),
    pub(super) use_candidate: bool,
    /// Whether the sender claims to be the controlled side.
    pub(super) controlled: bool,
    /// Unknown comprehension-required attributes, at most [`MAX_UNKNOWN`].
    pub(super) unknown: SmallVec<[u16; 4]>,
}

impl<'a> Request<'a> {
    /// Parses a request. `None` if it is another message, is malformed, or lacks USERNAME or MESSAGE-INTEGRITY, which
    /// ICE requires (RFC 8445 section 7.1).
    pub(super) fn parse(datagram: &'a [u8]) -> Option<Self> {
        let header = Header::parse(datagram)?;
        let (mut username, mut integrity) = (None, None);
        let (mut use_candidate, mut controlled) = (false, false);
        let mut unknown = SmallVec::new();
        for attribute in header.attributes(datagram) {
            let Attribute { kind, at, value } = attribute?;
            match kind {
                FINGERPRINT => {
                    let end = at.checked_add(ATTRIBUTE_HEADER + FINGERPRINT_LEN)?;
                    let expected = fingerprint(datagram.get(..at)?).to_be_bytes();
                    if end != datagram.len() || value != expected {
                        return None;
                    }
                }
                // Attributes after MESSAGE-INTEGRITY are not protected, and are ignored (RFC 8489 section 14.5).
                _ if integrity.is_some() => {}
                MESSAGE_INTEGRITY => integrity = Some((at, value)),
                USERNAME => username = Some(value),
                USE_CANDIDATE => use_candidate = true,
                ICE_CONTROLLED => controlled = true,
                PRIORITY | MESSAGE_INTEGRITY_SHA256 => {}
                // More unknown attributes than fit into the response are not listed.
                _ if kind < FIRST_OPTIONAL && unknown.len() < MAX_UNKNOWN => unknown.push(kind),
                _ => {}
            }
        }
        Some(Self {
            datagram,
            transaction: header.transaction,
            username: std::str::from_utf8(username?).ok()?.split_once(':')?,
            integrity: integrity?,
            use_candidate,
            controlled,
            unknown,
        })
    }

    /// Whether MESSAGE-INTEGRITY was computed with `key`.
    pub(super) fn is_authentic(&self, key: &hmac::Key) -> bool {
        let (at, value) = self.integrity;
        let Some(expected) = self.datagram.get(..at).and_then(|covered| integrity(covered, key)) else {
            return false;
        };
        verify_slices_are_equal(expected.as_ref(), value).is_ok()
    }

    /// The response to an accepted check; `mapped` is the source address of the check.
    pub(super) fn success(&self, key: &hmac::Key, mapped: SocketAddr) -> Response {
        let mut response = self.response(BINDING_SUCCESS);
        let mut value: SmallVec<[u8; 20]> = SmallVec::new();
        let cookie = MAGIC_COOKIE.to_be_bytes();
        let port = mapped.port() ^ (MAGIC_COOKIE >> 16) as u16;
        let mask = cookie.iter().chain(&self.transaction);
        match mapped.ip().to_canonical() {
            IpAddr::V4(ip) => {
                value.extend([0, 1]);
                value.extend(port.to_be_bytes());
                value.extend(ip.octets().iter().zip(mask).map(|(byte, mask)| byte ^ mask));
            }
            IpAddr::V6(ip) => {
                value.extend([0, 2]);
                value.extend(port.to_be_bytes());
                value.extend(ip.octets().iter().zip(mask).map(|(byte, mask)| byte ^ mask));
            }
        }
        push(&mut response, XOR_MAPPED_ADDRESS, &value);
        finish(response, key)
    }

    /// Error response 420 with the unknown attributes (RFC 8489 section 6.3.1).
    pub(super) fn unknown_attributes(&self, key: &hmac::Key) -> Response {
        let mut response = self.response(BINDING_ERROR);
        push(&mut response, ERROR_CODE, &[0, 0, 4, 20]);
        let kinds: SmallVec<[u8; 2 * MAX_UNKNOWN]> =
            self.unknown.iter().flat_map(|kind| kind.to_be_bytes()).collect();
        push(&mut response, UNKNOWN_ATTRIBUTES, &kinds);
        finish(response, key)
    }

    /// Error response 487: an ICE-lite agent is never the controlling side (RFC 8445 section 7.3.1.1).
    pub(super) fn role_conflict(&self, key: &hmac::Key) -> Response {
        let mut response = self.response(BINDING_ERROR);
        push(&mut response, ERROR_CODE, &[0, 0, 4, 87]);
        finish(response, key)
    }

    fn response(&self, kind: u16) -> Response {
        let mut response = Response::new();
        response.extend(kind.to_be_bytes());
        response.extend([0, 0]);
        response.extend(MAGIC_COOKIE.to_be_bytes());
        response.extend(self.transaction);
        response
    }
}

/// The user name of a Binding request.
pub(super) fn username(datagram: &[u8]) -> Option<&str> {
    let header = Header::parse(datagram)?;
    let attribute = header
        .attributes(datagram)
        .map_while(|attribute| attribute)
        .take(MAX_ATTRIBUTES_PEEKED)
        .find(|attribute| attribute.kind == USERNAME)?;
    std::str::from_utf8(attribute.value).ok()
}

struct Header {
    transaction: [u8; 12],
}

impl Header {
    /// Parses the header of a Binding request whose length field matches the datagram.
    fn parse(datagram: &[u8]) -> Option<Self> {
        let (kind, rest) = datagram.split_first_chunk::<2>()?;
        let (len, rest) = rest.split_first_chunk::<2>()?;
        let (cookie, rest) = rest.split_first_chunk::<4>()?;
        let (transaction, body) = rest.split_first_chunk::<12>()?;
        let len = usize::from(u16::from_be_bytes(*len));
        let fits = u16::from_be_bytes(*kind) == BINDING_REQUEST
            && u32::from_be_bytes(*cookie) == MAGIC_COOKIE
            && len == body.len()
            && len % 4 == 0;
        fits.then_some(Self { transaction: *transaction })
    }

    /// Iterates over the attributes. A malformed one yields `None` and ends the iteration.
    #[expect(clippy::unused_self, reason = "only a checked header has attributes")]
    fn attributes<'a>(&self, datagram: &'a [u8]) -> impl Iterator<Item = Option<Attribute<'a>>> {
        let mut at = HEADER;
        let mut ended = false;
        std::iter::from_fn(move || {
            let rest = datagram.get(at..).filter(|rest| !rest.is_empty() && !ended)?;
            let attribute = Attribute::parse(rest, at);
            match &attribute {
                Some(attribute) => at += ATTRIBUTE_HEADER + attribute.value.len().next_multiple_of(4),
                None => ended = true,
            }
            Some(attribute)
        })
    }
}

struct Attribute<'a> {
    kind: u16,
    /// Offset of the attribute's header in the datagram.
    at: usize,
    value: &'a [u8],
}

impl<'a> Attribute<'a> {
    fn parse(data: &'a [u8], at: usize) -> Option<Self> {
        let (kind, rest) = data.split_first_chunk::<2>()?;
        let (len, rest) = rest.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_be_bytes(*len));
        // The padding has to be present as well.
        rest.get(..len.next_multiple_of(4))?;
        Some(Self { kind: u16::from_be_bytes(*kind), at, value: rest.get(..len)? })
    }
}

fn push(message: &mut Response, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend((value.len() as u16).to_be_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
    set_len(message, message.len());
}

fn finish(mut message: Response, key: &hmac::Key) -> Response {
    if let Some(tag) = integrity(&message, key) {
        push(&mut message, MESSAGE_INTEGRITY, tag.as_ref());
    }
    let end = message.len();
    set_len(&mut message, end + ATTRIBUTE_HEADER + FINGERPRINT_LEN);
    let value = fingerprint(&message).to_be_bytes();
    push(&mut message, FINGERPRINT, &value);
    message
}

fn set_len(message: &mut Response, end: usize) {
    let len = (end.saturating_sub(HEADER)) as u16;
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&len.to_be_bytes());
    }
}

/// The tag over `covered`, with the header's length set as if the message ended after the tag (RFC 8489 section 14.5).
fn integrity(covered: &[u8], key: &hmac::Key) -> Option<hmac::Tag> {
    let (kind, rest) = covered.split_first_chunk::<2>()?;
    let (_, rest) = rest.split_first_chunk::<2>()?;
    let len = covered.len().checked_sub(HEADER)? + ATTRIBUTE_HEADER + INTEGRITY_LEN;
    let mut context = hmac::Context::with_key(key);
    context.update(kind);
    context.update(&(len as u16).to_be_bytes());
    context.update(rest);
    Some(context.sign())
}

/// FINGERPRINT value, RFC 8489 section 14.7.
fn fingerprint(covered: &[u8]) -> u32 {
    let crc = covered.iter().fold(u32::MAX, |crc, byte| {
        let at = (crc ^ u32::from(*byte)) & 0xff;
        (crc >> 8) ^ CRC_TABLE.get(at as usize).copied().unwrap_or_default()
    });
    !crc ^ 0x5354_554e
}

/// CRC-32 of ISO 3309, reflected.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut crc = at as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

const MAGIC_COOKIE: u32 = 0x2112_a442;
const HEADER: usize = 20;
const ATTRIBUTE_HEADER: usize = 4;
const INTEGRITY_LEN: usize = 20;
const FINGERPRINT_LEN: usize = 4;
const MAX_UNKNOWN: usize = 8;
/// Number of attributes searched for USERNAME. Every implementation puts it among the first. The limit avoids walking
/// through a datagram full of empty attributes.
const MAX_ATTRIBUTES_PEEKED: usize = 16;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
/// Attributes from this type on are comprehension-optional.
const FIRST_OPTIONAL: u16 = 0x8000;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
