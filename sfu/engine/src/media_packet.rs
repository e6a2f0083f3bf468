//! What crosses from ingress to egress, to another core, to another node and into recordings: one published
//! packet, decrypted and parsed once, immutable from then on.

use std::time::Instant;

use bytes::Bytes;
use sfu_protocol::Layer;

use crate::rtp::codec::{Codec, PayloadFacts};
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

/// Header extensions that a publisher sets and a subscriber reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndToEndExtensions {
    /// Audio level (RFC 6464): the raw byte, voice flag in the top bit, level in -dBov below it.
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
