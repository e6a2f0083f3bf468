//! A published packet as it crosses from ingress to egress, to another core, to another node and into recordings:
//! decrypted and parsed once, and immutable from then on.

use std::time::Instant;

use bytes::Bytes;
use sfu_protocol::Layer;

use crate::rtp::codec::{Codec, PayloadFacts};
pub use crate::rtp::extension::EndToEndExtensions;
use crate::units::{ExtendedSequence, ExtendedTimestamp};

/// Number of a track in this process, identical on every shard. Unlike the sid it is small and `Copy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId(pub u64);

/// One packet of one published encoding.
#[derive(Debug, Clone)]
pub struct MediaPacket {
    /// Track that the packet belongs to.
    pub track: TrackId,
    /// Encoding of the track that the packet belongs to.
    pub layer: Layer,
    /// Codec of the packet's payload type.
    pub codec: Codec,
    /// The publisher's extended sequence number.
    pub sequence: ExtendedSequence,
    /// The publisher's extended RTP timestamp, in clock-rate units.
    pub timestamp: ExtendedTimestamp,
    /// The RTP marker bit: last packet of a video frame, or first packet of a talk spurt.
    pub marker: bool,
    /// Facts from the payload descriptor or header extensions: key frame, temporal layer, picture ids.
    pub facts: PayloadFacts,
    /// Values of the header extensions that are forwarded end to end.
    pub extensions: EndToEndExtensions,
    /// Time of arrival in this process, by the clock of the shard that received the packet.
    pub arrival: Instant,
    /// The RTP payload with padding removed.
    pub payload: Bytes,
}

/// Properties of one encoding of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerInfo {
    /// Width in pixels; 0 if unknown.
    pub width: u32,
    /// Height in pixels; 0 if unknown.
    pub height: u32,
    /// Whether packets of this encoding have arrived recently.
    pub active: bool,
}

/// How the layers of a track relate to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrangement {
    /// Each layer is a separate stream (simulcast). A receiver gets one of them.
    Encodings,
    /// The layers are spatial layers of one stream (SVC). Each depends on those below it, always or in key frames only.
    Spatial,
}

/// The `number`-th packet of a VP8 stream at 90 kHz, for unit tests.
#[cfg(test)]
pub(crate) fn test_packet(number: u64, arrival: Instant) -> MediaPacket {
    MediaPacket {
        track: TrackId(1),
        layer: Layer(0),
        codec: Codec::Vp8,
        sequence: ExtendedSequence::first(0).plus(number),
        timestamp: ExtendedTimestamp::first(number as u32 * 3000),
        marker: true,
        facts: PayloadFacts::default(),
        extensions: EndToEndExtensions::default(),
        arrival,
        payload: Bytes::from_static(&[0x10, 1, 2, 3]),
    }
}
