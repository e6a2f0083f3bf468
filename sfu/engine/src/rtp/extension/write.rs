//! Writing the RTP header of an outgoing packet. Runs once per packet per subscriber.

use bytes::Bytes;

use super::{
    Extension, ExtensionMap, ONE_BYTE_LAST_ID, ONE_BYTE_LONGEST, ONE_BYTE_PROFILE, TWO_BYTE_PROFILE,
};
use crate::rtp::extension::EndToEndExtensions;
use crate::rtp::packet::FIXED_HEADER_LEN;
use crate::units::{PayloadType, Ssrc};

/// RTP header fields of a packet as sent to one subscriber.
#[derive(Debug, Clone, Copy)]
pub struct OutgoingHeader<'a> {
    /// Marker bit.
    pub marker: bool,
    /// Payload type negotiated with the subscriber.
    pub payload_type: PayloadType,
    /// Sequence number in the subscriber's stream.
    pub sequence: u16,
    /// RTP timestamp in the subscriber's stream.
    pub timestamp: u32,
    /// SSRC announced to the subscriber.
    pub ssrc: Ssrc,
    /// Transport-wide sequence number, which counts all packets sent to this subscriber; `None`: not written.
    pub transport_sequence: Option<u16>,
    /// Mid of the media section (RFC 9143 section 15); `None`: not written.
    pub mid: Option<&'a [u8]>,
    /// Extension values set by the publisher. Only the extensions that the subscriber negotiated are written.
    pub extensions: &'a EndToEndExtensions,
    /// Playout delay that replaces the publisher's; `None` keeps the publisher's.
    pub playout_delay: Option<[u8; 3]>,
    /// Frame number in the subscriber's stream, for the dependency descriptor; `None` keeps the publisher's.
    pub frame_number: Option<u16>,
}

impl OutgoingHeader<'_> {
    #[inline]
    fn playout_delay(&self) -> Option<[u8; 3]> {
        self.playout_delay.or(self.extensions.playout_delay)
    }
}

/// Writes the header and returns its length, which is 12 bytes if there are no extensions to write. Extensions use
/// the one-byte form if all ids and values fit, otherwise the two-byte form. Values that are empty or longer than 255
/// bytes fit neither form and are omitted. Returns `None` if the buffer is too small.
#[inline]
pub fn write_header(buffer: &mut [u8], header: &OutgoingHeader<'_>, map: &ExtensionMap) -> Option<usize> {
    let (fixed, rest) = buffer.split_first_chunk_mut::<FIXED_HEADER_LEN>()?;
    let [s0, s1] = header.sequence.to_be_bytes();
    let [t0, t1, t2, t3] = header.timestamp.to_be_bytes();
    let [i0, i1, i2, i3] = header.ssrc.0.to_be_bytes();
    let second = u8::from(header.marker) << 7 | header.payload_type.0 & 0x7f;
    *fixed = [VERSION_2, second, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3];
    let own = header.transport_sequence.is_some() || header.playout_delay.is_some() || header.mid.is_some();
    if !own && carries_nothing(header.extensions) {
        return Some(FIXED_HEADER_LEN);
    }
    let block = Block::measure(header, map);
    if block.body == 0 {
        return Some(FIXED_HEADER_LEN);
    }
    let written = block.write(rest, header)?;
    fixed[0] |= HAS_EXTENSION;
    Some(FIXED_HEADER_LEN + written)
}

#[inline]
fn carries_nothing(extensions: &EndToEndExtensions) -> bool {
    extensions.audio_level.is_none()
        && extensions.video_orientation.is_none()
        && extensions.absolute_capture_time.is_none()
        && extensions.playout_delay.is_none()
        && extensions.dependency_descriptor.is_none()
}

/// The id of each value to write (0 if the value is not written), and their total size. Values are handled one by one
/// instead of in a list: lengths known at compile time save a third of the time.
#[derive(Debug, Clone, Copy)]
struct Block {
    transport_sequence: u8,
    mid: u8,
    audio_level: u8,
    video_orientation: u8,
    absolute_capture_time: u8,
    playout_delay: u8,
    dependency_descriptor: u8,
    one_byte: bool,
    /// Size of all elements in bytes, without padding.
    body: usize,
}

impl Block {
    #[inline]
    fn measure(header: &OutgoingHeader<'_>, map: &ExtensionMap) -> Self {
        let extensions = header.extensions;
        let (mut one_byte, mut count, mut values) = (true, 0, 0);
        let mut id = |extension, len: Option<usize>| {
            let Some(len) = len.filter(|len| (1..=LONGEST).contains(len)) else { return 0 };
            let Some(id) = map.id_of(extension) else { return 0 };
            one_byte &= id <= ONE_BYTE_LAST_ID && len <= ONE_BYTE_LONGEST;
            count += 1;
            values += len;
            id
        };
        Self {
            transport_sequence: id(Extension::TransportSequence, header.transport_sequence.map(|_| 2)),
            mid: id(Extension::Mid, header.mid.map(<[u8]>::len)),
            audio_level: id(Extension::AudioLevel, extensions.audio_level.map(|_| 1)),
            video_orientation: id(Extension::VideoOrientation, extensions.video_orientation.map(|_| 1)),
            absolute_capture_time: id(
                Extension::AbsoluteCaptureTime,
                extensions.absolute_capture_time.as_ref().map(Bytes::len),
            ),
            playout_delay: id(Extension::PlayoutDelay, header.playout_delay().map(|_| 3)),
            dependency_descriptor: id(
                Extension::DependencyDescriptor,
                extensions.dependency_descriptor.as_ref().map(Bytes::len),
            ),
            one_byte,
            body: values + if one_byte { count } else { 2 * count },
        }
    }

    #[inline]
    fn write(self, buffer: &mut [u8], header: &OutgoingHeader<'_>) -> Option<usize> {
        let extensions = header.extensions;
        let filled = self.body.next_multiple_of(4);
        let (announce, rest) = buffer.split_first_chunk_mut::<4>()?;
        let [p0, p1] = if self.one_byte { ONE_BYTE_PROFILE } else { TWO_BYTE_PROFILE }.to_be_bytes();
        // At most seven elements of 257 bytes.
        let [w0, w1] = ((filled / 4) as u16).to_be_bytes();
        *announce = [p0, p1, w0, w1];
        let mut rest = rest.get_mut(..filled)?;
        if let (id @ 1.., Some(number)) = (self.transport_sequence, header.transport_sequence) {
            self.put_array(&mut rest, id, number.to_be_bytes())?;
        }
        if let (id @ 1.., Some(mid)) = (self.mid, header.mid) {
            self.put(&mut rest, id, mid)?;
        }
        if let (id @ 1.., Some(level)) = (self.audio_level, extensions.audio_level) {
            self.put_array(&mut rest, id, [level])?;
        }
        if let (id @ 1.., Some(orientation)) = (self.video_orientation, extensions.video_orientation) {
            self.put_array(&mut rest, id, [orientation])?;
        }
        if let (id @ 1.., Some(time)) = (self.absolute_capture_time, &extensions.absolute_capture_time) {
            self.put(&mut rest, id, time)?;
        }
        if let (id @ 1.., Some(delay)) = (self.playout_delay, header.playout_delay()) {
            self.put_array(&mut rest, id, delay)?;
        }
        if let (id @ 1.., Some(descriptor)) = (self.dependency_descriptor, &extensions.dependency_descriptor)
        {
            self.put_descriptor(&mut rest, id, descriptor, header.frame_number)?;
        }
        rest.fill(0);
        Some(announce.len() + filled)
    }

    #[inline]
    fn put_head(self, rest: &mut &mut [u8], id: u8, len: usize) -> Option<()> {
        // 1 to 255, as ensured by `measure`.
        let len = len as u8;
        if self.one_byte {
            *rest.split_off_first_mut()? = id << 4 | (len - 1);
        } else {
            *rest.split_off_first_mut()? = id;
            *rest.split_off_first_mut()? = len;
        }
        Some(())
    }

    #[inline]
    fn put_array<const N: usize>(self, rest: &mut &mut [u8], id: u8, value: [u8; N]) -> Option<()> {
        self.put_head(rest, id, N)?;
        *rest.split_off_mut(..N)?.first_chunk_mut::<N>()? = value;
        Some(())
    }

    /// Writes a dependency descriptor. The frame number is in its second and third byte (AV1 RTP specification
    /// section A.8.3).
    #[inline]
    fn put_descriptor(self, rest: &mut &mut [u8], id: u8, value: &[u8], number: Option<u16>) -> Option<()> {
        self.put_head(rest, id, value.len())?;
        let written = rest.split_off_mut(..value.len())?;
        written.copy_from_slice(value);
        if let (Some([_, high, low, ..]), Some(number)) = (written.first_chunk_mut::<3>(), number) {
            [*high, *low] = number.to_be_bytes();
        }
        Some(())
    }

    #[inline]
    fn put(self, rest: &mut &mut [u8], id: u8, value: &[u8]) -> Option<()> {
        self.put_head(rest, id, value.len())?;
        rest.split_off_mut(..value.len())?.copy_from_slice(value);
        Some(())
    }
}

const VERSION_2: u8 = 0x80;
const HAS_EXTENSION: u8 = 0x10;
/// Largest length that the two-byte form can express.
const LONGEST: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::extension::{HeaderExtensions, read};
    use crate::rtp::packet::RtpHeader;

    fn header(extensions: &EndToEndExtensions) -> OutgoingHeader<'_> {
        OutgoingHeader {
            marker: true,
            payload_type: PayloadType(111),
            sequence: 0xfffe,
            timestamp: 0x0102_0304,
            ssrc: Ssrc(0xdead_beef),
            transport_sequence: None,
            mid: None,
            extensions,
            playout_delay: None,
            frame_number: None,
        }
    }

    fn map(entries: &[(u8, Extension)]) -> ExtensionMap {
        let mut map = ExtensionMap::new();
        for (id, extension) in entries {
            map.insert(*id, *extension);
        }
        map
    }

    fn full() -> EndToEndExtensions {
        EndToEndExtensions {
            audio_level: Some(0x92),
            video_orientation: Some(3),
            absolute_capture_time: Some(Bytes::from_static(&[5; 16])),
            playout_delay: Some([1, 2, 3]),
            dependency_descriptor: Some(Bytes::from_static(&[0xc1, 0, 9])),
        }
    }

    fn everything() -> [(u8, Extension); 5] {
        [
            (1, Extension::AudioLevel),
            (2, Extension::VideoOrientation),
            (3, Extension::AbsoluteCaptureTime),
            (4, Extension::PlayoutDelay),
            (5, Extension::DependencyDescriptor),
        ]
    }

    #[test]
    fn without_extensions_the_header_is_twelve_bytes() {
        let mut buffer = [0xff; 40];
        let nothing = EndToEndExtensions::default();
        assert_eq!(write_header(&mut buffer, &header(&nothing), &map(&everything())), Some(12));
        let written = RtpHeader::parse(&buffer[..12]).unwrap();
        assert_eq!(
            (written.marker, written.payload_type, written.sequence),
            (true, PayloadType(111), 0xfffe)
        );
        assert_eq!((written.timestamp, written.ssrc), (0x0102_0304, Ssrc(0xdead_beef)));
        let unwanted = full();
        assert_eq!(write_header(&mut buffer, &header(&unwanted), &ExtensionMap::new()), Some(12));
        assert_eq!(RtpHeader::parse(&buffer).unwrap().extension, None);
    }

    #[test]
    fn what_is_written_is_read_in_either_form() {
        let extensions = full();
        let mut long = everything();
        long[2].0 = 15;
        for (entries, profile) in [(everything(), ONE_BYTE_PROFILE), (long, TWO_BYTE_PROFILE)] {
            let map = map(&entries);
            let mut buffer = [0xff; 80];
            let len = write_header(&mut buffer, &header(&extensions), &map).unwrap();
            let packet = &buffer[..len];
            let parsed = RtpHeader::parse(packet).unwrap();
            assert_eq!(parsed.header_len, len);
            assert_eq!(parsed.extension.unwrap().profile, profile);
            let found = read(packet, &parsed, &map);
            let expected = HeaderExtensions {
                audio_level: Some(0x92),
                video_orientation: Some(3),
                absolute_capture_time: Some(&[5; 16]),
                playout_delay: Some([1, 2, 3]),
                dependency_descriptor: Some(&[0xc1, 0, 9]),
                ..Default::default()
            };
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_subscribers_frame_number_takes_the_place_of_the_publishers() {
        let map = map(&everything());
        let extensions = EndToEndExtensions {
            dependency_descriptor: Some(Bytes::from_static(&[0xc1, 0, 9, 0x55])),
            ..Default::default()
        };
        let header = OutgoingHeader { frame_number: Some(0x1234), ..header(&extensions) };
        let mut buffer = [0; 40];
        let len = write_header(&mut buffer, &header, &map).unwrap();
        let parsed = RtpHeader::parse(&buffer[..len]).unwrap();
        let found = read(&buffer[..len], &parsed, &map).dependency_descriptor;
        assert_eq!(found, Some(&[0xc1, 0x12, 0x34, 0x55][..]));
    }

    #[test]
    fn a_long_descriptor_takes_the_two_byte_form_and_an_oversized_one_is_left_out() {
        for (len, carried) in [(16, true), (17, true), (255, true), (256, false), (0, false)] {
            let extensions = EndToEndExtensions {
                audio_level: Some(1),
                dependency_descriptor: Some(Bytes::from(vec![7; len])),
                ..Default::default()
            };
            let map = map(&everything());
            let mut buffer = [0; 400];
            let written = write_header(&mut buffer, &header(&extensions), &map).unwrap();
            let parsed = RtpHeader::parse(&buffer[..written]).unwrap();
            let found = read(&buffer, &parsed, &map);
            assert_eq!(found.audio_level, Some(1));
            assert_eq!(found.dependency_descriptor.map(<[u8]>::len), carried.then_some(len));
        }
    }

    #[test]
    fn only_what_the_subscriber_negotiated_is_written() {
        let extensions = full();
        let map = map(&[(9, Extension::VideoOrientation), (1, Extension::Mid)]);
        let mut buffer = [0xff; 80];
        let len = write_header(&mut buffer, &header(&extensions), &map).unwrap();
        assert_eq!(&buffer[12..len], [0xbe, 0xde, 0, 1, 0x90, 3, 0, 0]);
    }

    #[test]
    fn a_delay_of_our_own_takes_the_place_of_the_publishers() {
        let published = EndToEndExtensions { playout_delay: Some([1, 2, 3]), ..Default::default() };
        for extensions in [EndToEndExtensions::default(), published] {
            let header = OutgoingHeader { playout_delay: Some([7, 8, 9]), ..header(&extensions) };
            let mut buffer = [0; 100];
            let map = map(&[(4, Extension::PlayoutDelay)]);
            let len = write_header(&mut buffer, &header, &map).unwrap();
            let again = RtpHeader::parse(&buffer[..len]).unwrap();
            assert_eq!(read(&buffer[..len], &again, &map).playout_delay, Some([7, 8, 9]));
        }
    }

    #[test]
    fn the_transport_wide_number_is_written_where_it_was_negotiated() {
        let nothing = EndToEndExtensions::default();
        let header = OutgoingHeader { transport_sequence: Some(0xabcd), ..header(&nothing) };
        let mut buffer = [0xff; 80];
        let negotiated = map(&[(6, Extension::TransportSequence)]);
        let len = write_header(&mut buffer, &header, &negotiated).unwrap();
        assert_eq!(&buffer[12..len], [0xbe, 0xde, 0, 1, 0x61, 0xab, 0xcd, 0]);
        assert_eq!(write_header(&mut buffer, &header, &map(&everything())), Some(12));
    }

    #[test]
    fn the_section_is_named_where_that_was_negotiated() {
        let nothing = EndToEndExtensions::default();
        let header = OutgoingHeader { mid: Some(b"v12"), ..header(&nothing) };
        let mut buffer = [0xff; 80];
        let negotiated = map(&[(7, Extension::Mid)]);
        let len = write_header(&mut buffer, &header, &negotiated).unwrap();
        assert_eq!(&buffer[12..len], [0xbe, 0xde, 0, 1, 0x72, b'v', b'1', b'2']);
        assert_eq!(write_header(&mut buffer, &header, &map(&everything())), Some(12));
    }

    #[test]
    fn a_buffer_that_is_too_small_is_refused_at_every_length() {
        let extensions = full();
        let map = map(&everything());
        let mut buffer = [0; 80];
        let needed = write_header(&mut buffer, &header(&extensions), &map).unwrap();
        for len in 0..needed {
            assert_eq!(write_header(&mut buffer[..len], &header(&extensions), &map), None);
        }
        assert_eq!(write_header(&mut buffer[..needed], &header(&extensions), &map), Some(needed));
    }
}
