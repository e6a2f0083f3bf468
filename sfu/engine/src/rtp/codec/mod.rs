//! Payload descriptors: parsing them without decoding the media, and rewriting them for one subscriber. Of an
//! end-to-end encrypted payload only the descriptor is read, so it is forwarded like any other.

pub mod av1;
pub mod dependency_descriptor;
pub mod format;
pub mod frame;
pub mod h264;
pub mod red;
pub mod vp8;
pub mod vp9;

use sfu_protocol::MediaKind;
use thiserror::Error;

use dependency_descriptor::DescriptorError;
use frame::FrameFacts;

/// A codec that can be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Opus (RFC 7587).
    Opus,
    /// Redundant audio (RFC 2198) around Opus.
    Red,
    /// G.711 µ-law (RFC 3551).
    Pcmu,
    /// G.711 A-law (RFC 3551).
    Pcma,
    /// VP8 (RFC 7741).
    Vp8,
    /// VP9 (RFC 9628).
    Vp9,
    /// H.264 (RFC 6184).
    H264,
    /// AV1 (AV1 RTP specification 1.0).
    Av1,
}

impl Codec {
    /// All codecs.
    pub const ALL: [Self; 8] =
        [Self::Opus, Self::Red, Self::Pcmu, Self::Pcma, Self::Vp8, Self::Vp9, Self::H264, Self::Av1];

    /// The codec with a MIME type such as `video/VP8`, ignoring case; `None` if it is not forwarded.
    pub fn from_mime(mime: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.mime().eq_ignore_ascii_case(mime))
    }

    /// MIME type in lower case.
    pub const fn mime(self) -> &'static str {
        match self {
            Self::Opus => "audio/opus",
            Self::Red => "audio/red",
            Self::Pcmu => "audio/pcmu",
            Self::Pcma => "audio/pcma",
            Self::Vp8 => "video/vp8",
            Self::Vp9 => "video/vp9",
            Self::H264 => "video/h264",
            Self::Av1 => "video/av1",
        }
    }

    /// Whether the codec is for audio or video.
    pub const fn kind(self) -> MediaKind {
        match self {
            Self::Opus | Self::Red | Self::Pcmu | Self::Pcma => MediaKind::Audio,
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 => MediaKind::Video,
        }
    }

    /// RTP timestamp units per second.
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Opus | Self::Red => 48_000,
            Self::Pcmu | Self::Pcma => 8_000,
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 => 90_000,
        }
    }
}

/// Facts about a packet from its payload descriptor and dependency descriptor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PayloadFacts {
    /// The packet belongs to a key frame. Set on a key frame's first packet; on its other packets only where the
    /// codec shows it.
    pub key_frame: bool,
    /// First packet of a frame. For H.264 this only means that a frame can begin here: the parameter sets and the
    /// first slice of one frame all set it. Always true for audio.
    pub frame_start: bool,
    /// Last packet of a frame, if the payload or the dependency descriptor shows it; otherwise only the marker bit
    /// does.
    pub frame_end: bool,
    /// Temporal layer; 0 is the base layer.
    pub temporal: u8,
    /// Spatial layer within one SVC stream; 0 is the base layer.
    pub spatial: u8,
    /// For audio: number of earlier frames that the packet repeated when its publisher sent it (RFC 2198).
    pub repeats: u8,
    /// Fields of the VP8 payload descriptor; `None` for other codecs.
    pub vp8: Option<Vp8Picture>,
    /// Fields of the VP9 payload descriptor; `None` for other codecs.
    pub vp9: Option<Vp9Picture>,
    /// Mandatory fields of the dependency descriptor. The template structure is kept only by the stream's receiver.
    pub dependency: Option<DependencyFacts>,
    /// Relation of the frame to other frames of its stream, set by the stream's receiver. `None` if unknown, or if
    /// the stream has no layers to choose from.
    pub frame: Option<FrameFacts>,
}

impl PayloadFacts {
    /// Whether a receiver without any earlier packets can start decoding with this packet.
    pub fn starts_key_frame(&self) -> bool {
        self.key_frame && self.frame_start
    }
}

/// Fields of the VP8 payload descriptor (RFC 7741 section 4.2), and its length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vp8Picture {
    /// PictureID, 7 or 15 bits; `None` if absent.
    pub picture_id: Option<u16>,
    /// Whether PictureID has 15 bits.
    pub long_picture_id: bool,
    /// TL0PICIDX; `None` if absent.
    pub tl0_picture_index: Option<u8>,
    /// The byte with TID, Y and KEYIDX; `None` if absent.
    pub tid_key_index: Option<u8>,
    /// Whether TID and Y in that byte are valid.
    pub has_temporal: bool,
    /// Whether KEYIDX in that byte is valid.
    pub has_key_index: bool,
    /// Length of the descriptor in bytes.
    pub descriptor_len: u8,
}

/// Fields of the VP9 payload descriptor (RFC 9628 section 4.2), and its length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vp9Picture {
    /// Picture ID, 7 or 15 bits; `None` if absent.
    pub picture_id: Option<u16>,
    /// Whether Picture ID has 15 bits.
    pub long_picture_id: bool,
    /// TL0PICIDX; present only in non-flexible mode with layers.
    pub tl0_picture_index: Option<u8>,
    /// P: the frame is predicted from an earlier picture.
    pub inter_picture: bool,
    /// D: the frame is predicted from the next lower spatial layer of the same picture.
    pub inter_layer: bool,
    /// U: from here on, higher temporal layers are not predicted from pictures before this one.
    pub switching_up: bool,
    /// F: flexible mode, in which each descriptor lists its references.
    pub flexible: bool,
    /// P_DIFF: distances, in pictures, to the frames of the same spatial layer that this frame is predicted from, in
    /// flexible mode; 0 for unused entries.
    pub references: [u8; 3],
    /// Z: no higher spatial layer of any picture is predicted from this frame.
    pub not_reference_for_upper: bool,
    /// Number of spatial layers; `None` if the packet carries no scalability structure.
    pub spatial_layers: Option<u8>,
    /// Length of the descriptor in bytes.
    pub descriptor_len: u16,
}

/// Mandatory fields of a dependency descriptor (AV1 RTP specification section A.8.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DependencyFacts {
    /// First packet of a frame.
    pub frame_start: bool,
    /// Last packet of a frame.
    pub frame_end: bool,
    /// Id of the frame's template, 0 to 63, counted from the structure's offset.
    pub template_id: u8,
    /// Frame number, 16 bits.
    pub frame_number: u16,
    /// Whether a new template structure is attached, as in the first packet of a key frame.
    pub has_structure: bool,
}

/// Why a payload descriptor cannot be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CodecError {
    /// The payload is empty.
    #[error("payload: empty")]
    Empty,
    /// The payload ends within the named field.
    #[error("{0}: runs past the end of the payload")]
    Truncated(&'static str),
    /// The dependency descriptor of the header extension is malformed.
    #[error("dependency descriptor: {0}")]
    DependencyDescriptor(#[from] DescriptorError),
}

/// Parses the payload descriptor, and the dependency descriptor if the packet has one, without decoding the media.
///
/// # Errors
/// If the payload is empty or a descriptor is malformed. The data after the descriptor may be end-to-end encrypted
/// and never causes an error.
pub fn facts(
    codec: Codec,
    payload: &[u8],
    dependency_descriptor: Option<&[u8]>,
) -> Result<PayloadFacts, CodecError> {
    if payload.is_empty() {
        return Err(CodecError::Empty);
    }
    let dependency = dependency_descriptor.map(dependency_descriptor::peek).transpose()?;
    let mut facts = match codec {
        Codec::Opus | Codec::Red | Codec::Pcmu | Codec::Pcma => {
            PayloadFacts { frame_start: true, frame_end: true, ..PayloadFacts::default() }
        }
        Codec::Vp8 => vp8::facts(payload)?,
        Codec::Vp9 => vp9::facts(payload)?,
        Codec::H264 => h264::facts(payload)?,
        Codec::Av1 if dependency.is_some() => av1::aggregation_facts(payload)?,
        Codec::Av1 => av1::facts(payload)?,
    };
    if let Some(dependency) = dependency {
        facts.key_frame |= dependency.has_structure;
        // VP8 and VP9 descriptors mark frame boundaries exactly. H.264 and AV1 payloads do not.
        if matches!(codec, Codec::H264 | Codec::Av1) {
            facts.frame_start = dependency.frame_start;
            facts.frame_end = dependency.frame_end;
        }
        facts.dependency = Some(dependency);
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mime_types_are_found_in_any_case_and_lead_back() {
        for codec in Codec::ALL {
            assert_eq!(Codec::from_mime(codec.mime()), Some(codec));
            assert_eq!(Codec::from_mime(&codec.mime().to_uppercase()), Some(codec));
            assert_eq!(codec.mime(), codec.mime().to_lowercase());
            let kind = if codec.mime().starts_with("audio/") { MediaKind::Audio } else { MediaKind::Video };
            assert_eq!(codec.kind(), kind);
        }
        assert_eq!(Codec::from_mime("video/VP8"), Some(Codec::Vp8));
        assert_eq!(Codec::from_mime("video/rtx"), None);
        assert_eq!(
            (Codec::Opus.clock_rate(), Codec::Pcmu.clock_rate(), Codec::Av1.clock_rate()),
            (48_000, 8_000, 90_000)
        );
    }

    #[test]
    fn sound_is_never_refused_but_for_being_empty() {
        for codec in [Codec::Opus, Codec::Red, Codec::Pcmu, Codec::Pcma] {
            let facts = facts(codec, &[0xff], None).unwrap();
            assert!(facts.frame_start && !facts.key_frame);
            assert_eq!(super::facts(codec, &[], None), Err(CodecError::Empty));
        }
    }

    #[test]
    fn a_dependency_descriptor_tells_of_frames_where_the_payload_does_not() {
        // The middle of a fragmented slice.
        let middle = [0x7c, 0x01, 0xaa];
        let told = facts(Codec::H264, &middle, Some(&[0x43, 0, 9])).unwrap();
        assert!(!told.frame_start && told.frame_end && !told.key_frame);
        let dependency = told.dependency.unwrap();
        assert_eq!((dependency.template_id, dependency.frame_number), (3, 9));
        // A structure is attached.
        let told = facts(Codec::Av1, &[0x10, 0xaa], Some(&[0x80, 0, 9, 0x80])).unwrap();
        assert!(told.starts_key_frame() && !told.frame_end);
        assert!(matches!(
            facts(Codec::Av1, &[0x10], Some(&[0x80, 0])),
            Err(CodecError::DependencyDescriptor(_))
        ));
    }

    #[test]
    fn an_encrypted_av1_payload_with_a_descriptor_is_not_searched() {
        // The first byte after the aggregation header looks like a sequence header.
        let told = facts(Codec::Av1, &[0x10, 0x08, 0, 0], Some(&[0xc0, 0, 9])).unwrap();
        assert!(!told.key_frame && told.frame_start);
    }
}
