//! What must not reach rtc-sctp, which trusts its peer more than is good for us, and what has to reach it once more.

use bytes::Bytes;

use super::window;

/// Why an SCTP packet is not handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Chunk lengths do not add up.
    Malformed,
    /// An INIT where it would end or multiply associations.
    Init,
    /// Nothing but an error report, which rtc-sctp takes for the end.
    ErrorReport,
    /// A stream number that no WebRTC client uses: each number costs memory.
    StreamNumber,
    /// A number of a chunk farther ahead than can be on its way: rtc-sctp counts up to it one by one.
    Ahead,
}

/// Measures what a peer makes us hold: bytes of messages that are not complete, with what each piece costs
/// beside its bytes. rtc-sctp bounds the bytes only while the peer heeds the window.
#[derive(Debug)]
pub(super) struct Account {
    /// The last number below which nothing is missing, as far as we have acknowledged.
    acknowledged: Option<u32>,
    /// The highest number seen.
    highest: Option<u32>,
    held: usize,
    /// The window that we advertise when we hold nothing.
    window: u32,
    /// The window that we advertised last.
    advertised: u32,
    /// Bytes delivered since.
    delivered: u32,
}

impl Account {
    pub(super) fn new(window: u32) -> Self {
        Self { acknowledged: None, highest: None, held: 0, window, advertised: window, delivered: 0 }
    }

    /// Bytes held, roughly.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Counts the user data in a packet, except what is sent again. Says why if the packet is not acceptable.
    pub(super) fn receive(&mut self, packet: &[u8], takes_init: bool) -> Result<(), Refused> {
        let (mut acknowledged, mut highest, mut bytes) = (self.acknowledged, self.highest, 0);
        for (at, chunk) in chunks(packet).enumerate() {
            let chunk = chunk.ok_or(Refused::Malformed)?;
            match chunk.kind {
                DATA => {
                    let number = self.number(chunk.body)?;
                    if chunk.field::<2>(4).is_none_or(|id| u16::from_be_bytes(id) >= MAX_STREAM) {
                        return Err(Refused::StreamNumber);
                    }
                    if highest.is_none_or(|highest| ahead(number, highest) > 0) {
                        highest = Some(number);
                        bytes += chunk.body.len() + PIECE_COST;
                    }
                }
                FORWARD => {
                    self.number(chunk.body)?;
                }
                INIT if !takes_init => return Err(Refused::Init),
                INIT | INIT_ACK => {
                    let first = chunk.field(12).map(u32::from_be_bytes).ok_or(Refused::Malformed)?;
                    if chunk.kind == INIT || acknowledged.is_none() {
                        acknowledged = Some(first.wrapping_sub(1));
                        highest = acknowledged;
                    }
                }
                ABORT | ERROR if !causes_fit(chunk.body) => return Err(Refused::Malformed),
                ERROR if at == 0 => return Err(Refused::ErrorReport),
                _ => {}
            }
        }
        (self.acknowledged, self.highest) = (acknowledged, highest);
        self.held = self.held.saturating_add(bytes);
        Ok(())
    }

    /// The number at the beginning of a chunk, if it can be.
    fn number(&self, body: &[u8]) -> Result<u32, Refused> {
        let number = body.first_chunk().copied().map(u32::from_be_bytes).ok_or(Refused::Malformed)?;
        match self.acknowledged {
            Some(last) if ahead(number, last) <= MAX_AHEAD => Ok(number),
            _ => Err(Refused::Ahead),
        }
    }

    /// A message of so many bytes in so many pieces went out of our hands.
    pub(super) fn deliver(&mut self, bytes: usize, pieces: usize) {
        // The header of a piece is counted above as part of its chunk.
        self.held = self.held.saturating_sub(bytes + pieces * (PIECE_COST + 12));
        self.delivered = self.delivered.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// The last number below which nothing is missing, as far as we have acknowledged.
    pub(super) fn acknowledged(&self) -> Option<u32> {
        self.acknowledged
    }

    /// Whether the peer was told that there is no room for a chunk.
    pub(super) fn is_closed(&self) -> bool {
        self.advertised < CHUNK
    }

    /// Whether the peer believes the window nearly closed, and it has opened a good deal since (RFC 9260 section
    /// 6.2.1: not for every byte). `unread`: more may be delivered soon.
    pub(super) fn window_opened(&self, unread: bool) -> bool {
        self.advertised < self.window / 2
            && self.delivered > 0
            && (!unread || self.delivered >= self.window / 4)
    }

    /// Looks at a packet that we send: an acknowledgement with the whole window open means that nothing is
    /// held. So what is counted too high, of messages given up half-way, does not add up.
    pub(super) fn send(&mut self, packet: &[u8]) {
        for chunk in chunks(packet).map_while(|chunk| chunk).filter(|chunk| chunk.kind == SACK) {
            self.acknowledged = chunk.field(0).map(u32::from_be_bytes).or(self.acknowledged);
            let Some(advertised) = chunk.field(4).map(u32::from_be_bytes) else { continue };
            (self.advertised, self.delivered) = (advertised, 0);
            if advertised == self.window {
                self.held = 0;
            }
        }
    }
}

/// How far `number` is ahead of `other`, negative if behind (RFC 1982).
fn ahead(number: u32, other: u32) -> i32 {
    number.wrapping_sub(other) as i32
}

/// Whether the causes in an error report or abort end where it does. rtc-sctp cuts them out unchecked.
fn causes_fit(body: &[u8]) -> bool {
    let mut rest = body;
    while let Some((_, behind)) = rest.split_first_chunk::<2>() {
        let len = behind.first_chunk::<2>().map(|len| usize::from(u16::from_be_bytes(*len)));
        let Some(len) = len.filter(|len| *len >= 4 && *len <= rest.len()) else { return false };
        rest = rest.get(len..).unwrap_or_default();
    }
    rest.is_empty()
}

/// A packet of those data chunks of another that come after a number; `None` if there are none.
pub(super) fn data_after(packet: &[u8], number: u32) -> Option<Bytes> {
    let mut data = packet.get(..PACKET_HEADER)?.to_vec();
    for chunk in chunks(packet).map_while(|chunk| chunk).filter(|chunk| chunk.kind == DATA) {
        let is_after = chunk.field(0).is_some_and(|own| ahead(u32::from_be_bytes(own), number) > 0);
        if is_after {
            data.extend_from_slice(chunk.whole);
            data.resize(data.len().next_multiple_of(4), 0);
        }
    }
    let has_data = data.len() > PACKET_HEADER;
    has_data.then(|| window::with_checksum(data))
}

struct Chunk<'a> {
    kind: u8,
    body: &'a [u8],
    /// With its header, and without the bytes that fill it up.
    whole: &'a [u8],
}

impl Chunk<'_> {
    fn field<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.body.get(at..)?.first_chunk().copied()
    }
}

/// The chunks of a packet; a malformed one yields nothing and ends them.
fn chunks(packet: &[u8]) -> impl Iterator<Item = Option<Chunk<'_>>> {
    let mut rest = packet.get(PACKET_HEADER..);
    std::iter::from_fn(move || {
        let data = rest.filter(|data| !data.is_empty())?;
        let chunk = data.first_chunk::<CHUNK_HEADER>().and_then(|[kind, _, high, low]| {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            let (whole, body) = (data.get(..len)?, data.get(CHUNK_HEADER..len)?);
            Some((Chunk { kind: *kind, body, whole }, len.next_multiple_of(4)))
        });
        rest = chunk.as_ref().and_then(|(_, len)| data.get(*len..));
        Some(chunk.map(|(chunk, _)| chunk))
    })
}

const PACKET_HEADER: usize = 12;
const CHUNK_HEADER: usize = 4;
const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const ABORT: u8 = 6;
const ERROR: u8 = 9;
const FORWARD: u8 = 192;
/// Chromium and Firefox number their channels below this.
const MAX_STREAM: u16 = 1024;
/// Chunks on their way: more than the window has room for, were each of 32 bytes.
const MAX_AHEAD: i32 = 8192;
/// Bytes that a window has to have room for, to be of use.
const CHUNK: u32 = 1500;
/// A chunk in rtc-sctp's queues.
const PIECE_COST: usize = 200;
