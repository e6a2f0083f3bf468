//! What crosses from ingress to egress, to another core, to another node and into recordings: one published
//! packet, decrypted and parsed once, immutable from then on.

use std::time::Instant;

use bytes::Bytes;
use sfu_protocol::Layer;

use crate::rtp::codec::{Codec, PayloadFacts};
pub use crate::rtp::extension::EndToEndExtensions;
use crate::units::{ExtendedSequence, ExtendedTimestamp};

/// A track's number in this process, the same on every shard. Unlike the sid it is small and `Copy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId(pub u64);

/// One packet of one published encoding.
#[derive(Debug, Clone)]
pub struct MediaPacket {
    /// Whose track.
    pub track: TrackId,
    /// Which of its encodings.
    pub layer: Layer,
    /// The codec that its payload type stands for.
    pub codec: Codec,
    /// The publisher's sequence number, extended.
    pub sequence: ExtendedSequence,
    /// The publisher's timestamp, extended, in clock-rate units.
    pub timestamp: ExtendedTimestamp,
    /// The marker bit: last packet of a picture, or first of a talk spurt.
    pub marker: bool,
    /// What the payload's descriptor or the header extensions tell: key frame, temporal layer, picture ids.
    pub facts: PayloadFacts,
    /// Values of header extensions that travel end to end.
    pub extensions: EndToEndExtensions,
    /// When it reached this process, by the clock of the shard that received it.
    pub arrival: Instant,
    /// The RTP payload with padding removed.
    pub payload: Bytes,
}

/// What is known of one encoding of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerInfo {
    /// Width in pixels, 0 unknown.
    pub width: u32,
    /// Height in pixels, 0 unknown.
    pub height: u32,
    /// Whether packets of it have arrived lately.
    pub active: bool,
}

/// What the layers of a track are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrangement {
    /// Encodings, each a stream of its own (simulcast), of which a receiver takes one.
    Encodings,
    /// Spatial layers of a single stream (SVC): each builds on those below it, always or in key pictures only.
    Spatial,
}

/// A VP8 packet of a stream at 90 kHz, the `number`-th, for unit tests.
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
