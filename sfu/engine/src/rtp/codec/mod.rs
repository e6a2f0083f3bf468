//! Payload descriptors: what can be read of a packet without decoding it, and how it is rewritten for one
//! subscriber. Of an end-to-end encrypted payload only its descriptor is read, so it is relayed like any other.

pub mod av1;
pub mod dependency_descriptor;
pub mod format;
pub mod frame;
pub mod h264;
pub mod opus;
pub mod red;
pub mod vp8;
pub mod vp9;

use sfu_protocol::MediaKind;
use thiserror::Error;

use dependency_descriptor::DescriptorError;
use frame::FrameFacts;

/// A codec that can be relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// RFC 7587.
    Opus,
    /// Redundant audio (RFC 2198) around Opus.
    Red,
    /// G.711 µ-law (RFC 3551).
    Pcmu,
    /// G.711 A-law (RFC 3551).
    Pcma,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184.
    H264,
    /// AV1 RTP specification 1.0.
    Av1,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Opus, Self::Red, Self::Pcmu, Self::Pcma, Self::Vp8, Self::Vp9, Self::H264, Self::Av1];

    /// The codec of a MIME type such as `video/VP8`, in any case; None if it is not relayed.
    pub fn from_mime(mime: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.mime().eq_ignore_ascii_case(mime))
    }

    /// The MIME type in lower case.
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

    /// Sound or pictures.
    pub const fn kind(self) -> MediaKind {
        match self {
            Self::Opus | Self::Red | Self::Pcmu | Self::Pcma => MediaKind::Audio,
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 => MediaKind::Video,
        }
    }

    /// Ticks of the RTP timestamp per second.
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Opus | Self::Red => 48_000,
            Self::Pcmu | Self::Pcma => 8_000,
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 => 90_000,
        }
    }
}

/// What a payload's descriptor tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PayloadFacts {
    /// First packet of a key frame can be found here; every packet of a key frame says so where the codec tells.
    pub key_frame: bool,
    /// First packet of a frame. H.264 tells less: a packet that can begin one, so the parameter sets and the first
    /// slice of one frame each say so. Always true of sound.
    pub frame_start: bool,
    /// Last packet of a frame, where the payload or the dependency descriptor tells; elsewhere only the marker does.
    pub frame_end: bool,
    /// Temporal layer, 0 is the base.
    pub temporal: u8,
    /// Spatial layer within one SVC stream, 0 is the base.
    pub spatial: u8,
    /// Of sound: how many frames before its own the packet repeated as its publisher sent it (RFC 2198).
    pub repeats: u8,
    /// VP8 picture facts.
    pub vp8: Option<Vp8Picture>,
    /// VP9 picture facts.
    pub vp9: Option<Vp9Picture>,
    /// What the dependency descriptor says without its template structure, which only the stream's receiver keeps.
    pub dependency: Option<DependencyFacts>,
    /// The frame among those of its stream, which only the stream's receiver can tell. `None`: not known, or there is
    /// nothing to choose.
    pub frame: Option<FrameFacts>,
}

impl PayloadFacts {
    /// Whether a receiver that has seen nothing can begin with this packet.
    pub fn starts_key_frame(&self) -> bool {
        self.key_frame && self.frame_start
    }
}

/// What VP8's payload descriptor says (RFC 7741 section 4.2), with where it stands in the payload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vp8Picture {
    /// PictureID, 7 or 15 bits.
    pub picture_id: Option<u16>,
    /// Whether PictureID has 15 bits.
    pub long_picture_id: bool,
    /// TL0PICIDX.
    pub tl0_picture_index: Option<u8>,
    /// KEYIDX, with TID and Y in the same byte.
    pub tid_key_index: Option<u8>,
    /// Whether TID and Y of that byte count.
    pub has_temporal: bool,
    /// Whether KEYIDX of that byte counts.
    pub has_key_index: bool,
    /// Bytes of the descriptor.
    pub descriptor_len: u8,
}

/// What VP9's payload descriptor says (RFC 9628 section 4.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vp9Picture {
    /// Picture ID, 7 or 15 bits.
    pub picture_id: Option<u16>,
    /// Whether Picture ID has 15 bits.
    pub long_picture_id: bool,
    /// TL0PICIDX; only in non-flexible mode with layers.
    pub tl0_picture_index: Option<u8>,
    /// P: predicted from an earlier picture.
    pub inter_picture: bool,
    /// D: predicted from the spatial layer below of the same picture.
    pub inter_layer: bool,
    /// U: from here on, higher temporal layers do not look back past this picture.
    pub switching_up: bool,
    /// F: references are listed in each descriptor.
    pub flexible: bool,
    /// P_DIFF: how many pictures back the frames of the same spatial layer are that it is predicted from, in flexible
    /// mode; 0: no such frame.
    pub references: [u8; 3],
    /// Z: no higher spatial layer of any picture is predicted from this frame.
    pub not_reference_for_upper: bool,
    /// The number of spatial layers, where this packet carries the scalability structure.
    pub spatial_layers: Option<u8>,
    /// Bytes of the descriptor.
    pub descriptor_len: u16,
}

/// The mandatory part of a dependency descriptor (AV1 RTP specification section A.8.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DependencyFacts {
    /// First packet of a frame.
    pub frame_start: bool,
    /// Last packet of a frame.
    pub frame_end: bool,
    /// The template that the frame follows, 0 to 63, counted from the structure's offset.
    pub template_id: u8,
    /// The frame's number, 16 bits.
    pub frame_number: u16,
    /// Whether a new template structure is attached: the first packet of a key frame.
    pub has_structure: bool,
}

/// Why a payload's descriptor cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CodecError {
    /// There is no payload.
    #[error("payload: empty")]
    Empty,
    /// The payload ends within the named field.
    #[error("{0}: runs past the end of the payload")]
    Truncated(&'static str),
    /// The dependency descriptor of the header extension is malformed.
    #[error("dependency descriptor: {0}")]
    DependencyDescriptor(#[from] DescriptorError),
}

/// Reads what the payload, and the dependency descriptor if the packet has one, tell without decoding.
///
/// # Errors
/// If the payload is empty or a descriptor is malformed. What is behind the descriptor may be encrypted end to end
/// and is never an error.
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
        // VP8 and VP9 tell exactly by themselves; these two do not.
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
        // Its first byte behind the aggregation header would pass for a sequence header.
        let told = facts(Codec::Av1, &[0x10, 0x08, 0, 0], Some(&[0xc0, 0, 9])).unwrap();
        assert!(!told.key_frame && told.frame_start);
    }
}
