//! A packet as the peer could send it, to which the answer is an acknowledgement with the window as it is now.

use bytes::Bytes;

/// Bytes of an SCTP packet's common header.
pub(super) const HEADER: usize = 12;

/// A data chunk that has been received and acknowledged before, with the request to be answered at once (RFC 7053).
/// `header` is that of any packet of the peer: ports and tag are the association's.
pub(super) fn repeated_chunk(header: [u8; HEADER], number: u32) -> Bytes {
    let mut packet = [0; HEADER + CHUNK];
    let (common, chunk) = packet.split_at_mut(HEADER);
    common.copy_from_slice(&header);
    chunk.copy_from_slice(&TEMPLATE);
    if let Some(place) = chunk.get_mut(4..8) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    with_checksum(packet.to_vec())
}

/// A packet with its checksum set.
pub(super) fn with_checksum(mut packet: Vec<u8>) -> Bytes {
    set_checksum(&mut packet, [0; 4]);
    let sum = crc32c::crc32c(&packet).to_le_bytes();
    set_checksum(&mut packet, sum);
    packet.into()
}

fn set_checksum(packet: &mut [u8], sum: [u8; 4]) {
    if let Some(place) = packet.get_mut(CHECKSUM..HEADER) {
        place.copy_from_slice(&sum);
    }
}

/// Where the checksum is in the common header.
const CHECKSUM: usize = 8;
/// A data chunk with one byte of data, padded.
const CHUNK: usize = 20;
/// Kind 0; bits I, B and E; 17 bytes long; number, stream and sequence number 0; binary (53); one byte of data.
const TEMPLATE: [u8; CHUNK] = [0, 0b1011, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 53, 0, 0, 0, 0];
