//! RTP header extensions (RFC 8285): the mapping of ids to extensions, zero-copy parsing of a publisher's values, and
//! writing the header of an outgoing packet.

mod playout_delay;
mod read;
mod write;

use bytes::Bytes;

pub use playout_delay::{read_playout_delay, write_playout_delay};
pub use read::{HeaderExtensions, read};
pub use write::{OutgoingHeader, write_header};

/// Header extensions that are forwarded from the publisher to the subscribers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndToEndExtensions {
    /// Audio level (RFC 6464) as the raw byte: voice flag in the top bit, level in -dBov in the others.
    pub audio_level: Option<u8>,
    /// Video orientation (3GPP TS 26.114 section 7.4.5).
    pub video_orientation: Option<u8>,
    /// Absolute capture time: 8 or 16 bytes, as sent.
    pub absolute_capture_time: Option<Bytes>,
    /// Playout delay: 3 bytes, as sent.
    pub playout_delay: Option<[u8; 3]>,
    /// AV1 dependency descriptor, as sent.
    pub dependency_descriptor: Option<Bytes>,
}

/// A supported header extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Extension {
    /// Mid of the media section that a packet belongs to (RFC 9143 section 15).
    Mid,
    /// RID of the encoding that a packet belongs to (RFC 8852 section 3.1).
    Rid,
    /// RID of the encoding that a retransmission repairs (RFC 8852 section 3.2).
    RepairedRid,
    /// Audio level and voice activity from client to server (RFC 6464).
    AudioLevel,
    /// Transport-wide sequence number: counts all packets of a sender, for transport-wide feedback.
    TransportSequence,
    /// Send time of the packet, 24 bits of 6.18 fixed-point seconds.
    AbsoluteSendTime,
    /// Rotation of the video (3GPP TS 26.114 section 7.4.5).
    VideoOrientation,
    /// Capture time of a frame, by the clock of the device that captured it.
    AbsoluteCaptureTime,
    /// Minimum and maximum playout delay requested from the receiver.
    PlayoutDelay,
    /// AV1 dependency descriptor, also used with other codecs.
    DependencyDescriptor,
}

impl Extension {
    /// All supported extensions, in the order of their discriminants.
    pub const ALL: [Self; COUNT] = [
        Self::Mid,
        Self::Rid,
        Self::RepairedRid,
        Self::AudioLevel,
        Self::TransportSequence,
        Self::AbsoluteSendTime,
        Self::VideoOrientation,
        Self::AbsoluteCaptureTime,
        Self::PlayoutDelay,
        Self::DependencyDescriptor,
    ];

    /// URI that identifies the extension in `a=extmap`.
    pub const fn uri(self) -> &'static str {
        match self {
            Self::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Self::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Self::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            Self::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Self::TransportSequence => {
                "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
            }
            Self::AbsoluteSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            Self::VideoOrientation => "urn:3gpp:video-orientation",
            Self::AbsoluteCaptureTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
            Self::PlayoutDelay => "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
            Self::DependencyDescriptor => {
                "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
            }
        }
    }

    /// The extension with this URI; `None` if it is not supported.
    pub fn from_uri(uri: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|extension| extension.uri() == uri)
    }
}

/// The negotiated extension ids. Ids below 16 are looked up by index, others by a linear search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExtensionMap {
    ids: [u8; COUNT],
    small: [Option<Extension>; SMALL],
}

impl ExtensionMap {
    /// An empty map.
    pub const fn new() -> Self {
        Self { ids: [0; COUNT], small: [None; SMALL] }
    }

    /// Maps `id` to `extension`, replacing earlier mappings of either. Returns false and changes nothing for id 0,
    /// which RFC 8285 reserves for padding.
    pub fn insert(&mut self, id: u8, extension: Extension) -> bool {
        if id == 0 {
            return false;
        }
        if let Some(before) = self.extension_of(id) {
            self.ids[before as usize] = 0;
        }
        let old = std::mem::replace(&mut self.ids[extension as usize], id);
        if let Some(slot) = self.small.get_mut(usize::from(old)) {
            *slot = None;
        }
        if let Some(slot) = self.small.get_mut(usize::from(id)) {
            *slot = Some(extension);
        }
        true
    }

    /// The id of an extension; `None` if it was not negotiated.
    pub fn id_of(&self, extension: Extension) -> Option<u8> {
        Some(self.ids[extension as usize]).filter(|id| *id != 0)
    }

    /// The extension with this id; `None` if the id was not negotiated.
    pub fn extension_of(&self, id: u8) -> Option<Extension> {
        match self.small.get(usize::from(id)) {
            Some(found) => *found,
            None => Extension::ALL.into_iter().find(|extension| self.ids[*extension as usize] == id),
        }
    }

    /// All negotiated extensions as (id, extension).
    pub fn iter(&self) -> impl Iterator<Item = (u8, Extension)> + '_ {
        self.ids.iter().copied().zip(Extension::ALL).filter(|(id, _)| *id != 0)
    }
}

const COUNT: usize = 10;
const SMALL: usize = 16;
/// RFC 8285 section 4.2.
const ONE_BYTE_PROFILE: u16 = 0xbede;
/// RFC 8285 section 4.3; the low four bits are for the application.
const TWO_BYTE_PROFILE: u16 = 0x1000;
/// Id 15 ends a block in the one-byte form.
const ONE_BYTE_LAST_ID: u8 = 14;
const ONE_BYTE_LONGEST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_extension() {
        for (index, extension) in Extension::ALL.into_iter().enumerate() {
            assert_eq!(extension as usize, index);
            assert_eq!(Extension::from_uri(extension.uri()), Some(extension));
        }
        assert_eq!(Extension::from_uri("urn:ietf:params:rtp-hdrext:toffset"), None);
    }

    #[test]
    fn identifiers_map_both_ways_over_the_whole_range() {
        for id in 1..=255 {
            let mut map = ExtensionMap::new();
            assert!(map.insert(id, Extension::Rid));
            assert_eq!(map.id_of(Extension::Rid), Some(id));
            assert_eq!(map.extension_of(id), Some(Extension::Rid));
            assert_eq!(map.id_of(Extension::Mid), None);
            assert_eq!(map.iter().collect::<Vec<_>>(), [(id, Extension::Rid)]);
            assert_eq!((1..=255).filter_map(|id| map.extension_of(id)).count(), 1);
        }
    }

    #[test]
    fn a_second_use_of_an_identifier_or_extension_replaces_the_first() {
        let mut map = ExtensionMap::new();
        map.insert(3, Extension::Mid);
        map.insert(3, Extension::Rid);
        assert_eq!((map.id_of(Extension::Mid), map.extension_of(3)), (None, Some(Extension::Rid)));
        map.insert(200, Extension::Rid);
        assert_eq!((map.extension_of(3), map.extension_of(200)), (None, Some(Extension::Rid)));
        map.insert(200, Extension::Mid);
        assert_eq!(map.iter().collect::<Vec<_>>(), [(200, Extension::Mid)]);
        assert!(!map.insert(0, Extension::Rid));
        assert_eq!(map.extension_of(0), None);
    }
}
