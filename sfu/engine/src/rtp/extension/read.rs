//! Parsing header extensions of received packets.

use super::{Extension, ExtensionMap, ONE_BYTE_LAST_ID, ONE_BYTE_PROFILE, TWO_BYTE_PROFILE};
use crate::rtp::packet::RtpHeader;
use crate::rtp::reader::Reader;

/// The header extensions of one packet that were negotiated and are well formed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeaderExtensions<'a> {
    /// Mid of the media section.
    pub mid: Option<&'a [u8]>,
    /// RID of the encoding.
    pub rid: Option<&'a [u8]>,
    /// RID of the encoding that a retransmission repairs.
    pub repaired_rid: Option<&'a [u8]>,
    /// Audio level: voice flag in the top bit, level in -dBov in the others.
    pub audio_level: Option<u8>,
    /// Transport-wide sequence number.
    pub transport_sequence: Option<u16>,
    /// Send time: 24 bits, 6.18 fixed-point seconds.
    pub absolute_send_time: Option<u32>,
    /// Video orientation: camera, flip and rotation bits.
    pub video_orientation: Option<u8>,
    /// Absolute capture time: 8 or 16 bytes.
    pub absolute_capture_time: Option<&'a [u8]>,
    /// Minimum and maximum playout delay: two 12-bit numbers in units of 10 ms.
    pub playout_delay: Option<[u8; 3]>,
    /// Dependency descriptor: at least 3 bytes.
    pub dependency_descriptor: Option<&'a [u8]>,
}

/// Parses those extensions of a packet that `map` contains, in the one-byte or the two-byte form (RFC 8285 sections
/// 4.2 and 4.3). A malformed block does not make the packet invalid: the elements before the error are returned. A
/// value of the wrong length counts as absent.
pub fn read<'a>(packet: &'a [u8], header: &RtpHeader, map: &ExtensionMap) -> HeaderExtensions<'a> {
    let mut found = HeaderExtensions::default();
    let Some(block) = header.extension else { return found };
    let Some(bytes) = packet.get(block.start..block.end) else { return found };
    match block.profile {
        ONE_BYTE_PROFILE => found.set_all(bytes, map, next_one_byte),
        profile if profile & 0xfff0 == TWO_BYTE_PROFILE => found.set_all(bytes, map, next_two_byte),
        _ => {}
    }
    found
}

impl<'a> HeaderExtensions<'a> {
    fn set_all(
        &mut self,
        bytes: &'a [u8],
        map: &ExtensionMap,
        next: impl Fn(&mut Reader<'a>) -> Option<(u8, &'a [u8])>,
    ) {
        let mut reader = Reader::new(bytes);
        while let Some((id, value)) = next(&mut reader) {
            if let Some(extension) = map.extension_of(id) {
                self.set(extension, value);
            }
        }
    }

    fn set(&mut self, extension: Extension, value: &'a [u8]) {
        match extension {
            Extension::Mid => self.mid = text(value),
            Extension::Rid => self.rid = text(value),
            Extension::RepairedRid => self.repaired_rid = text(value),
            // In the two-byte form of RFC 6464, padding bytes may follow the level.
            Extension::AudioLevel => self.audio_level = value.first().copied(),
            Extension::TransportSequence => {
                self.transport_sequence = value.try_into().ok().map(u16::from_be_bytes);
            }
            Extension::AbsoluteSendTime => {
                self.absolute_send_time =
                    <[u8; 3]>::try_from(value).ok().map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]));
            }
            Extension::VideoOrientation => self.video_orientation = value.first().copied(),
            Extension::AbsoluteCaptureTime => {
                self.absolute_capture_time = Some(value).filter(|value| matches!(value.len(), 8 | 16));
            }
            Extension::PlayoutDelay => self.playout_delay = value.try_into().ok(),
            Extension::DependencyDescriptor => {
                self.dependency_descriptor = Some(value).filter(|value| value.len() >= 3);
            }
        }
    }
}

/// Strips zero bytes: some senders terminate text values with a zero byte, or pad them to a fixed length. Empty text
/// counts as absent.
fn text(value: &[u8]) -> Option<&[u8]> {
    value.split(|byte| *byte == 0).next().filter(|text| !text.is_empty())
}

fn next_one_byte<'a>(reader: &mut Reader<'a>) -> Option<(u8, &'a [u8])> {
    loop {
        match reader.u8()? {
            0 => {}
            // Both id 0 with a nonzero length and id 15 end the block.
            head if head >> 4 == 0 || head >> 4 > ONE_BYTE_LAST_ID => return None,
            head => return Some((head >> 4, reader.bytes(usize::from(head & 0x0f) + 1)?)),
        }
    }
}

fn next_two_byte<'a>(reader: &mut Reader<'a>) -> Option<(u8, &'a [u8])> {
    loop {
        let id = reader.u8()?;
        if id != 0 {
            let len = usize::from(reader.u8()?);
            return Some((id, reader.bytes(len)?));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(profile: u16, elements: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x90, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
        packet.extend(profile.to_be_bytes());
        let padded = elements.len().next_multiple_of(4);
        packet.extend((padded as u16 / 4).to_be_bytes());
        packet.extend(elements);
        packet.resize(16 + padded, 0);
        packet.extend(*b"payload");
        packet
    }

    fn map() -> ExtensionMap {
        let mut map = ExtensionMap::new();
        for (index, extension) in Extension::ALL.into_iter().enumerate() {
            map.insert(index as u8 + 1, extension);
        }
        map
    }

    fn read_all(packet: &[u8]) -> HeaderExtensions<'_> {
        read(packet, &RtpHeader::parse(packet).unwrap(), &map())
    }

    #[test]
    fn every_extension_is_read_in_the_one_byte_form() {
        let mut elements = vec![0x10, b'0', 0x21, b'h', b'i', 0, 0x30, b'r', 0x40, 0x85, 0x51, 0xff, 0xfe];
        elements
            .extend([0x62, 1, 2, 3, 0x70, 9, 0x87, 1, 2, 3, 4, 5, 6, 7, 8, 0x92, 4, 5, 6, 0xa2, 0xc0, 0, 7]);
        let packet = packet(0xbede, &elements);
        assert_eq!(
            read_all(&packet),
            HeaderExtensions {
                mid: Some(b"0"),
                rid: Some(b"hi"),
                repaired_rid: Some(b"r"),
                audio_level: Some(0x85),
                transport_sequence: Some(0xfffe),
                absolute_send_time: Some(0x0001_0203),
                video_orientation: Some(9),
                absolute_capture_time: Some(&[1, 2, 3, 4, 5, 6, 7, 8]),
                playout_delay: Some([4, 5, 6]),
                dependency_descriptor: Some(&[0xc0, 0, 7]),
            }
        );
    }

    #[test]
    fn the_two_byte_form_takes_padding_long_values_and_any_application_bits() {
        let mut elements = vec![4, 1, 0x7f, 0, 0, 10, 40];
        elements.extend([3; 40]);
        elements.extend([99, 2, 1, 1, 1, 3, b'm', 0, 0, 5, 0]);
        let packet = packet(0x100f, &elements);
        let found = read_all(&packet);
        assert_eq!(found.audio_level, Some(0x7f));
        assert_eq!(found.dependency_descriptor, Some(&[3; 40][..]));
        assert_eq!(found.mid, Some(&b"m"[..]));
        assert_eq!(found.transport_sequence, None, "length 0 is not 2");
    }

    #[test]
    fn what_precedes_a_fault_is_kept() {
        let cases: [(&str, &[u8]); 4] = [
            ("identifier 15", &[0x10, b'a', 0xf0, 0, 0x40, 1]),
            ("identifier 0 with a length", &[0x10, b'a', 0x01, 0, 0x40, 1]),
            ("runs past the end", &[0x10, b'a', 0x4f, 1, 2, 3]),
            ("ends with a head", &[0x10, b'a', 0, 0x40]),
        ];
        for (name, elements) in cases {
            let packet = packet(0xbede, elements);
            let found = read_all(&packet);
            assert_eq!(found, HeaderExtensions { mid: Some(b"a"), ..Default::default() }, "{name}");
        }
    }

    #[test]
    fn unknown_profiles_identifiers_and_lengths_are_absent() {
        assert_eq!(read_all(&packet(0x1234, &[0x10, b'a'])), HeaderExtensions::default());
        assert_eq!(read_all(&packet(0xbede, &[0xb0, 1, 0x60, 1, 0x50, 1])), HeaderExtensions::default());
        assert_eq!(read_all(&packet(0xbede, &[0x85, 1, 2, 3, 4, 5, 6])), HeaderExtensions::default());
    }
}
