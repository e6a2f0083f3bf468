//! Reception of redundant audio (RED, RFC 2198). Each packet is forwarded with its primary frame alone; its redundant
//! frames replace packets lost before it. So subscribers get plain frames, and `egress/redundancy.rs` adds redundancy
//! again for those whose own loss requires it.

use std::time::Instant;

use bytes::Bytes;
use sfu_protocol::Layer;
use smallvec::SmallVec;

use super::stream::Stream;
use crate::media_packet::{EndToEndExtensions, MediaPacket, TrackId};
use crate::rtp::codec::red::Redundant;
use crate::rtp::codec::{Codec, PayloadFacts};
use crate::units::{ExtendedSequence, ExtendedTimestamp};

/// A lost frame that a later packet repeats.
struct Lost<'a> {
    sequence: ExtendedSequence,
    timestamp: ExtendedTimestamp,
    frame: &'a [u8],
}

/// Makes packets of the redundant frames whose own packets were lost, oldest first. `before` is the newest packet of
/// the stream before this one.
pub(super) fn recover(
    now: Instant,
    stream: &mut Stream,
    track: TrackId,
    before: Option<(ExtendedSequence, ExtendedTimestamp)>,
    own: (ExtendedSequence, ExtendedTimestamp),
    redundant: &Redundant<'_>,
) -> Vec<MediaPacket> {
    let Some(before) = before else { return Vec::new() };
    let lost = lost(before, own, redundant);
    let mut recovered = Vec::new();
    for Lost { sequence, timestamp, frame } in lost {
        // The packet itself may have arrived late, but before this one.
        if !stream.on_packet(now, sequence, timestamp.wire()).new {
            continue;
        }
        recovered.push(MediaPacket {
            track,
            layer: Layer(0),
            codec: Codec::Opus,
            sequence,
            timestamp,
            marker: false,
            facts: PayloadFacts { frame_start: true, ..PayloadFacts::default() },
            extensions: EndToEndExtensions::default(),
            arrival: now,
            payload: Bytes::copy_from_slice(frame),
        });
    }
    recovered
}

/// Assigns sequence numbers to the redundant frames. A block states its timestamp offset, not its sequence number: the
/// newest block is taken for the packet right before, unless it is not newer than the last packet before the gap.
fn lost<'a>(
    before: (ExtendedSequence, ExtendedTimestamp),
    own: (ExtendedSequence, ExtendedTimestamp),
    redundant: &Redundant<'a>,
) -> SmallVec<[Lost<'a>; 2]> {
    let gap = own.0.0.saturating_sub(before.0.0).saturating_sub(1);
    let mut lost = SmallVec::new();
    for (back, block) in (1..=gap).zip(redundant.repeated.iter().rev()) {
        let timestamp = ExtendedTimestamp(own.1.0.saturating_sub(u64::from(block.age)));
        if block.frame.is_empty() || block.age == 0 || timestamp <= before.1 {
            break;
        }
        lost.insert(0, Lost { sequence: ExtendedSequence(own.0.0 - back), timestamp, frame: block.frame });
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::codec::red;

    fn numbers(before: u64, own: u64, ages: &[u64]) -> Vec<(u64, u64)> {
        let at = |number: u64| (ExtendedSequence(number), ExtendedTimestamp(number * 960));
        let frame = [7; 4];
        let repeated: Vec<(u64, &[u8])> = ages.iter().map(|age| (*age, &frame[..])).collect();
        let payload = red::build(&repeated, &[1]).unwrap();
        let redundant = red::parse(&payload).unwrap();
        let lost = lost(at(before), at(own), &redundant);
        lost.iter().map(|lost| (lost.sequence.0, lost.timestamp.0 / 960)).collect()
    }

    #[test]
    fn only_what_lies_in_the_gap_is_taken() {
        assert_eq!(numbers(100, 101, &[1920, 960]), [], "nothing is missing");
        assert_eq!(numbers(100, 102, &[1920, 960]), [(101, 101)]);
        assert_eq!(numbers(100, 103, &[1920, 960]), [(101, 101), (102, 102)]);
        assert_eq!(numbers(100, 105, &[1920, 960]), [(103, 103), (104, 104)], "the others are asked for");
        assert_eq!(numbers(100, 102, &[1920]), [], "it is from before the gap");
        assert_eq!(numbers(102, 101, &[960]), [], "a packet that came late");
    }
}
