//! DTLS 1.2 records and handshake fragments (RFC 6347 sections 4.1 and 4.2.2).

use smallvec::SmallVec;

use super::read::Reader;

/// A record, not decrypted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) content: u8,
    pub(super) epoch: u16,
    pub(super) body: &'a [u8],
    /// The record with its header.
    pub(super) bytes: &'a [u8],
}

/// The records of a datagram, up to the first malformed one.
pub(super) fn records(datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = Reader(datagram);
    std::iter::from_fn(move || {
        let start = rest.0;
        let content = rest.number(1)?;
        let version = rest.number(2)?;
        let epoch = rest.number(2)?;
        rest.take(6)?;
        let body = rest.field(2)?;
        let bytes = start.get(..RECORD_HEADER + body.len())?;
        let known = version == 0xfefd || version == 0xfeff;
        known.then_some(Record { content: content as u8, epoch: epoch as u16, body, bytes })
    })
}

/// Writes a plaintext record (epoch 0).
pub(super) fn write_plain(out: &mut Vec<u8>, content: u8, number: u64, body: &[u8]) {
    out.extend([content, 0xfe, 0xfd, 0, 0]);
    out.extend(number.to_be_bytes().into_iter().skip(2));
    out.extend((body.len() as u16).to_be_bytes());
    out.extend_from_slice(body);
}

/// A fragment of a handshake message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fragment<'a> {
    pub(super) kind: u8,
    /// Length of the complete message.
    pub(super) len: usize,
    pub(super) sequence: u16,
    pub(super) offset: usize,
    pub(super) body: &'a [u8],
}

/// The fragments in a handshake record, up to the first malformed one.
pub(super) fn fragments(record: &[u8]) -> impl Iterator<Item = Fragment<'_>> {
    let mut rest = Reader(record);
    std::iter::from_fn(move || {
        let kind = rest.number(1)? as u8;
        let len = rest.number(3)? as usize;
        let sequence = rest.number(2)? as u16;
        let offset = rest.number(3)? as usize;
        let body = rest.field(3)?;
        (offset + body.len() <= len).then_some(Fragment { kind, len, sequence, offset, body })
    })
}

/// A complete handshake message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) sequence: u16,
    pub(super) body: Vec<u8>,
}

impl Message {
    /// Writes the message as one fragment: the form on the wire and in the handshake hash (RFC 6347 section 4.2.6).
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let len = (self.body.len() as u32).to_be_bytes();
        out.push(self.kind);
        out.extend(len.into_iter().skip(1));
        out.extend(self.sequence.to_be_bytes());
        out.extend([0; 3]);
        out.extend(len.into_iter().skip(1));
        out.extend_from_slice(&self.body);
    }
}

/// Reassembles messages from fragments, up to [`MESSAGES`] at a time. Its size is bounded by [`MESSAGES`] times
/// [`MAX_MESSAGE`], whatever arrives.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    slots: SmallVec<[Slot; 3]>,
    changed: bool,
}

#[derive(Debug)]
struct Slot {
    message: Message,
    /// Ranges of bytes that have arrived, disjoint and in order.
    have: SmallVec<[(usize, usize); 4]>,
    suspect: bool,
}

impl Inbox {
    /// Adds a fragment. Bytes that arrived earlier are kept. But the message is restarted by a fragment that has
    /// another kind or length, or that differs from the bytes of a suspect message. So a forged message cannot block
    /// the retransmission of the authentic one. Returns false if the fragment is refused.
    pub(super) fn push(&mut self, fragment: &Fragment<'_>) -> bool {
        if fragment.len > MAX_MESSAGE {
            return false;
        }
        let fits = |slot: &Slot| {
            slot.message.kind == fragment.kind
                && slot.message.body.len() == fragment.len
                && !(slot.suspect && slot.disagrees(fragment))
        };
        match self.slots.iter().position(|slot| slot.message.sequence == fragment.sequence) {
            Some(at) if self.slots.get(at).is_some_and(fits) => {}
            Some(at) => {
                self.slots.swap_remove(at);
                self.slots.push(Slot::new(fragment));
            }
            None if self.slots.len() < MESSAGES => self.slots.push(Slot::new(fragment)),
            None => return false,
        }
        let slot = self.slots.iter_mut().find(|slot| slot.message.sequence == fragment.sequence);
        let added = slot.map_or(Added::Refused, |slot| slot.add(fragment));
        self.changed |= added == Added::New;
        added != Added::Refused
    }

    /// Whether new bytes have arrived since the last call. Callers use it to avoid checking signatures again, which is
    /// costly.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The message `sequence`, if it is complete.
    pub(super) fn complete(&self, sequence: u16) -> Option<&Message> {
        let slot = self.slots.iter().find(|slot| slot.message.sequence == sequence)?;
        slot.is_complete().then_some(&slot.message)
    }

    /// Removes and returns the message `sequence`, if it is complete.
    pub(super) fn take(&mut self, sequence: u16) -> Option<Message> {
        self.complete(sequence)?;
        let at = self.slots.iter().position(|slot| slot.message.sequence == sequence)?;
        Some(self.slots.swap_remove(at).message)
    }

    /// Marks a message as suspect: it, or another message verified together with it, is forged.
    pub(super) fn suspect(&mut self, sequence: u16) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.message.sequence == sequence) {
            slot.suspect = true;
        }
    }
}

impl Slot {
    fn new(fragment: &Fragment<'_>) -> Self {
        let body = vec![0; fragment.len];
        let message = Message { kind: fragment.kind, sequence: fragment.sequence, body };
        Self { message, have: SmallVec::new(), suspect: false }
    }

    fn is_complete(&self) -> bool {
        matches!(self.have.as_slice(), [only] if *only == (0, self.message.body.len()))
    }

    /// Whether the fragment differs in a byte that has arrived already.
    fn disagrees(&self, fragment: &Fragment<'_>) -> bool {
        let there = self.message.body.iter().enumerate().skip(fragment.offset);
        there.zip(fragment.body).any(|((at, old), new)| old != new && self.has(at))
    }

    fn has(&self, at: usize) -> bool {
        self.have.iter().any(|(from, to)| (*from..*to).contains(&at))
    }

    fn add(&mut self, fragment: &Fragment<'_>) -> Added {
        let (start, end) = (fragment.offset, fragment.offset + fragment.body.len());
        let known = self.have.iter().any(|(from, to)| *from <= start && end <= *to);
        if known || (fragment.body.is_empty() && fragment.len > 0) {
            return Added::Nothing;
        }
        if self.have.len() >= MAX_RANGES {
            // No honest peer uses so many fragments, or loses so many.
            self.have.clear();
        }
        for (at, new) in (start..end).zip(fragment.body) {
            if !self.has(at)
                && let Some(byte) = self.message.body.get_mut(at)
            {
                *byte = *new;
            }
        }
        self.have.push((start, end));
        self.have.sort_unstable();
        let mut merged: SmallVec<[(usize, usize); 4]> = SmallVec::new();
        for (from, to) in &self.have {
            match merged.last_mut() {
                Some(last) if *from <= last.1 => last.1 = last.1.max(*to),
                _ => merged.push((*from, *to)),
            }
        }
        self.have = merged;
        Added::New
    }
}

#[derive(PartialEq, Eq)]
enum Added {
    New,
    Nothing,
    Refused,
}

pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;

pub(super) const CLIENT_HELLO: u8 = 1;
pub(super) const SERVER_HELLO: u8 = 2;
pub(super) const HELLO_VERIFY_REQUEST: u8 = 3;
pub(super) const CERTIFICATE: u8 = 11;
pub(super) const SERVER_KEY_EXCHANGE: u8 = 12;
pub(super) const CERTIFICATE_REQUEST: u8 = 13;
pub(super) const SERVER_HELLO_DONE: u8 = 14;
pub(super) const CERTIFICATE_VERIFY: u8 = 15;
pub(super) const CLIENT_KEY_EXCHANGE: u8 = 16;

const RECORD_HEADER: usize = 13;
/// Maximum length of a message, in bytes: longer than any certificate chain of a WebRTC client.
const MAX_MESSAGE: usize = 16 * 1024;
/// Maximum number of messages reassembled at a time. A server's flight has five.
const MESSAGES: usize = 5;
/// Maximum number of separate ranges of a message. A message of the maximum length has 14 fragments.
const MAX_RANGES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(sequence: u16, len: usize, offset: usize, body: &[u8]) -> Fragment<'_> {
        Fragment { kind: CERTIFICATE, len, sequence, offset, body }
    }

    #[test]
    fn a_message_comes_together_in_any_order_and_once_per_byte() {
        let mut inbox = Inbox::default();
        assert!(inbox.push(&fragment(2, 6, 4, &[5, 6])));
        assert!(inbox.push(&fragment(2, 6, 0, &[1, 2])));
        assert!(inbox.complete(2).is_none());
        // Overlaps both: the bytes that arrived earlier stay.
        assert!(inbox.push(&fragment(2, 6, 1, &[9, 3, 4, 9])));
        assert_eq!(inbox.take(2).unwrap().body, [1, 2, 3, 4, 5, 6]);
        assert!(inbox.complete(2).is_none());
    }

    #[test]
    fn an_empty_message_is_complete_at_once() {
        let mut inbox = Inbox::default();
        assert!(inbox.push(&Fragment { kind: SERVER_HELLO_DONE, len: 0, sequence: 5, offset: 0, body: &[] }));
        assert_eq!(inbox.take(5).unwrap().body, []);
    }

    #[test]
    fn a_fragment_that_disagrees_begins_anew() {
        let mut inbox = Inbox::default();
        inbox.push(&fragment(0, 4, 0, &[1]));
        inbox.push(&fragment(0, 2, 0, &[7, 8]));
        assert_eq!(inbox.take(0).unwrap().body, [7, 8]);
    }

    #[test]
    fn a_suspect_message_gives_way_to_another_and_to_no_repetition() {
        let mut inbox = Inbox::default();
        inbox.push(&fragment(0, 4, 0, &[1, 2, 3, 4]));
        inbox.push(&fragment(0, 4, 0, &[5, 6, 7, 8]));
        assert_eq!(inbox.complete(0).unwrap().body, [1, 2, 3, 4]);
        inbox.suspect(0);
        inbox.push(&fragment(0, 4, 0, &[1, 2]));
        assert_eq!(inbox.complete(0).unwrap().body, [1, 2, 3, 4]);
        inbox.push(&fragment(0, 4, 0, &[5, 6]));
        assert!(inbox.complete(0).is_none());
        inbox.push(&fragment(0, 4, 2, &[7, 8]));
        assert_eq!(inbox.complete(0).unwrap().body, [5, 6, 7, 8]);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut inbox = Inbox::default();
        assert!(!inbox.push(&fragment(0, MAX_MESSAGE + 1, 0, &[1])));
        for sequence in 0..=u16::MAX {
            inbox.push(&fragment(sequence, MAX_MESSAGE, 0, &[1]));
        }
        assert_eq!(inbox.slots.len(), MESSAGES);
        for offset in (0..MAX_MESSAGE).step_by(2) {
            inbox.push(&fragment(0, MAX_MESSAGE, offset, &[1]));
        }
        assert!(inbox.slots.iter().all(|slot| slot.have.len() <= MAX_RANGES));
    }

    #[test]
    fn fragments_that_reach_past_their_message_are_not_read() {
        let header = [CERTIFICATE, 0, 0, 4, 0, 0, 0, 0, 3, 0, 0, 2, 1, 2];
        assert_eq!(fragments(&header).count(), 0);
        let good = [CERTIFICATE, 0, 0, 4, 0, 0, 0, 0, 2, 0, 0, 2, 1, 2];
        assert_eq!(fragments(&good).count(), 1);
    }
}
