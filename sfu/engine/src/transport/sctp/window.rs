//! Packets written as if the peer had sent them. rtc-sctp answers a repeated chunk with an acknowledgement that
//! advertises the current receive window.

use bytes::Bytes;

/// Length of an SCTP packet's common header, in bytes.
pub(super) const HEADER: usize = 12;

/// A packet with a data chunk that was received and acknowledged before, with the flag that requests an immediate
/// acknowledgement (RFC 7053). `header` is the common header of any packet of the peer, for the ports and the tag.
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

/// Sets the checksum of a packet.
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

/// Offset of the checksum in the common header.
const CHECKSUM: usize = 8;
/// Length of a data chunk with one byte of data, padded.
const CHUNK: usize = 20;
/// Chunk type 0 (DATA); flags I, B and E; length 17; TSN, stream and stream sequence number 0; payload protocol 53
/// (binary); one byte of data, padded.
const TEMPLATE: [u8; CHUNK] = [0, 0b1011, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 53, 0, 0, 0, 0];
