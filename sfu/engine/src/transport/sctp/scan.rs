//! Filters and accounts received SCTP packets before they reach rtc-sctp, which trusts its peer too much. Also extracts
//! the data chunks that have to be fed to it again.

use bytes::Bytes;

use super::window;

/// Reason that an SCTP packet is not passed to rtc-sctp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Chunk lengths do not add up.
    Malformed,
    /// An INIT at a time when it would end the association or start a further one.
    Init,
    /// The packet begins with an error report, which rtc-sctp takes for the end of the association.
    ErrorReport,
    /// A stream number that no WebRTC client uses. Each number costs memory.
    StreamNumber,
    /// A TSN farther ahead than can be in flight. rtc-sctp counts up to it one by one.
    Ahead,
}

/// Measures how much received data is held for a peer: bytes that have not been delivered, plus the overhead of each
/// chunk. rtc-sctp bounds this only while the peer respects the receive window.
#[derive(Debug)]
pub(super) struct Account {
    /// Cumulative TSN of the last acknowledgement sent.
    acknowledged: Option<u32>,
    /// Highest TSN seen.
    highest: Option<u32>,
    held: usize,
    /// Receive window that is advertised when nothing is held, in bytes.
    window: u32,
    /// Receive window that was advertised last, in bytes.
    advertised: u32,
    /// Bytes delivered since that advertisement.
    delivered: u32,
}

impl Account {
    pub(super) fn new(window: u32) -> Self {
        Self { acknowledged: None, highest: None, held: 0, window, advertised: window, delivered: 0 }
    }

    /// Approximate number of bytes held.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Checks a received packet and counts its user data, except retransmissions. Returns the reason if the packet must
    /// not be passed to rtc-sctp.
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

    /// The TSN at the beginning of a chunk, if it is in a plausible range.
    fn number(&self, body: &[u8]) -> Result<u32, Refused> {
        let number = body.first_chunk().copied().map(u32::from_be_bytes).ok_or(Refused::Malformed)?;
        match self.acknowledged {
            Some(last) if ahead(number, last) <= MAX_AHEAD => Ok(number),
            _ => Err(Refused::Ahead),
        }
    }

    /// Counts a delivered message of `bytes` bytes in `pieces` chunks.
    pub(super) fn deliver(&mut self, bytes: usize, pieces: usize) {
        // `receive` has counted the 12-byte header of each chunk as part of the chunk.
        self.held = self.held.saturating_sub(bytes + pieces * (PIECE_COST + 12));
        self.delivered = self.delivered.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// Cumulative TSN of the last acknowledgement sent; `None` before the association begins.
    pub(super) fn acknowledged(&self) -> Option<u32> {
        self.acknowledged
    }

    /// Whether the last advertised window is too small for a chunk.
    pub(super) fn is_closed(&self) -> bool {
        self.advertised < CHUNK
    }

    /// Whether to advertise the window again: the last advertised one was below half, and it has opened considerably
    /// since (RFC 9260 section 6.2.1: not for every byte). `unread`: more may be delivered soon.
    pub(super) fn window_opened(&self, unread: bool) -> bool {
        self.advertised < self.window / 2
            && self.delivered > 0
            && (!unread || self.delivered >= self.window / 4)
    }

    /// Inspects a packet that is sent. An acknowledgement that advertises the entire window means that nothing is held,
    /// so the count is reset. Without that, partly received messages that the peer gave up would accumulate in it.
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

/// How far `number` is ahead of `other`; negative if behind (RFC 1982).
fn ahead(number: u32, other: u32) -> i32 {
    number.wrapping_sub(other) as i32
}

/// Whether the causes in an error report or abort end exactly at its end. rtc-sctp slices them unchecked.
fn causes_fit(body: &[u8]) -> bool {
    let mut rest = body;
    while let Some((_, behind)) = rest.split_first_chunk::<2>() {
        let len = behind.first_chunk::<2>().map(|len| usize::from(u16::from_be_bytes(*len)));
        let Some(len) = len.filter(|len| *len >= 4 && *len <= rest.len()) else { return false };
        rest = rest.get(len..).unwrap_or_default();
    }
    rest.is_empty()
}

/// A packet with only those data chunks of `packet` whose TSN is after `number`; `None` if there are none.
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
    /// The chunk with its header, without padding.
    whole: &'a [u8],
}

impl Chunk<'_> {
    fn field<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.body.get(at..)?.first_chunk().copied()
    }
}

/// Iterates over the chunks of a packet. A malformed one yields `None` and ends the iteration.
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
/// Maximum distance of a TSN ahead of the acknowledged one: more chunks than the window holds, even if each has only 32
/// bytes.
const MAX_AHEAD: i32 = 8192;
/// Smallest useful receive window, in bytes: space for one full chunk.
const CHUNK: u32 = 1500;
/// Overhead of a chunk in rtc-sctp's queues, in bytes.
const PIECE_COST: usize = 200;
