//! Payload descriptors: what can be read of a packet without decoding it, and how it is rewritten for one
//! subscriber.

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

/// What a payload's descriptor tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PayloadFacts {
    /// First packet of a key frame can be found here; every packet of a key frame says so where the codec tells.
    pub key_frame: bool,
    /// First packet of a frame.
    pub frame_start: bool,
    /// Temporal layer, 0 is the base.
    pub temporal: u8,
    /// Spatial layer within one SVC stream, 0 is the base.
    pub spatial: u8,
    /// VP8 picture facts.
    pub vp8: Option<Vp8Picture>,
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
    /// Bytes of the descriptor.
    pub descriptor_len: u8,
}
