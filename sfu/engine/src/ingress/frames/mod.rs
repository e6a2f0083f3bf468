//! How each packet's frame relates to the other frames of its stream. This is determined once, here, for every
//! subscriber that selects among the stream's layers. The source is the dependency descriptor ([`dependency`]) if there
//! is one, so that nothing of an encrypted payload is needed; otherwise the payload descriptor of VP8 or VP9
//! ([`layered`]). Streams with neither have no layers to select.

mod dependency;
mod layered;

use crate::rtp::codec::{Codec, PayloadFacts};
use dependency::Dependencies;
use layered::{Vp8Layers, Vp9Layers};

/// Determines the frame relations of one stream.
#[derive(Debug, Default)]
pub struct FrameReader {
    numbers: Numbers,
    told: Told,
}

/// Source of the frame relations. It changes only when the stream changes its codec or its SSRC.
#[derive(Debug, Default)]
enum Told {
    #[default]
    Nothing,
    Dependencies(Box<Dependencies>),
    Vp8(Vp8Layers),
    Vp9(Box<Vp9Layers>),
}

impl FrameReader {
    /// Starts over, because the stream continues on another SSRC, whose frames are numbered from anywhere.
    pub fn begin_source(&mut self) {
        self.told = Told::Nothing;
        self.numbers.leap();
    }

    /// Adds to a packet's facts how its frame relates to others. A dependency descriptor has precedence, because
    /// Chromium omits picture ids and layers from VP8's payload descriptor then. If the track is `opaque`, the payload
    /// is not trusted beside a dependency descriptor.
    pub fn read(&mut self, codec: Codec, facts: &mut PayloadFacts, descriptor: Option<&[u8]>, opaque: bool) {
        match (codec, descriptor) {
            (Codec::Vp8, None) => self.read_vp8(facts),
            (Codec::Vp9, None) => self.read_vp9(facts),
            (Codec::Vp8 | Codec::Vp9 | Codec::H264 | Codec::Av1, Some(descriptor)) => {
                if opaque {
                    facts.key_frame = false;
                }
                self.read_dependencies(facts, descriptor);
            }
            _ => {}
        }
    }

    fn read_dependencies(&mut self, facts: &mut PayloadFacts, descriptor: &[u8]) {
        let Some(mandatory) = facts.dependency else { return };
        if !matches!(self.told, Told::Dependencies(_)) {
            self.change(Told::Dependencies(Box::default()));
        }
        let Told::Dependencies(dependencies) = &mut self.told else { return };
        facts.frame_start = mandatory.frame_start;
        facts.frame_end = mandatory.frame_end;
        facts.key_frame |= mandatory.has_structure;
        let number = self.numbers.extend(u32::from(mandatory.frame_number), 16);
        let Some(frame) = dependencies.read(number, descriptor) else { return };
        facts.spatial = frame.spatial;
        facts.temporal = frame.temporal;
        facts.key_frame = frame.is_key;
        facts.frame = Some(frame.facts);
    }

    fn read_vp8(&mut self, facts: &mut PayloadFacts) {
        let Some(picture) = facts.vp8 else { return };
        let (Some(temporal), Some(id)) = (picture.temporal(), picture.picture_id) else { return };
        if !matches!(self.told, Told::Vp8(_)) {
            self.change(Told::Vp8(Vp8Layers::default()));
        }
        let Told::Vp8(layers) = &mut self.told else { return };
        let number = self.numbers.extend(u32::from(id), if picture.long_picture_id { 15 } else { 7 });
        facts.frame = Some(layers.read(number, temporal, picture.layer_sync(), facts.key_frame));
    }

    fn read_vp9(&mut self, facts: &mut PayloadFacts) {
        let Some(picture) = facts.vp9 else { return };
        let Some(id) = picture.picture_id else { return };
        if !matches!(self.told, Told::Vp9(_)) {
            self.change(Told::Vp9(Box::default()));
        }
        let Told::Vp9(layers) = &mut self.told else { return };
        let number = self.numbers.extend(u32::from(id), if picture.long_picture_id { 15 } else { 7 });
        facts.frame = Some(layers.read(number, facts.spatial, facts.temporal, &picture));
    }

    fn change(&mut self, told: Told) {
        self.told = told;
        self.numbers.leap();
    }
}

/// Extends the wrapping frame numbers on the wire to one increasing sequence.
#[derive(Debug, Default)]
struct Numbers {
    newest: Option<u32>,
}

impl Numbers {
    /// The number nearest to the newest whose lower `bits` are `wire`.
    fn extend(&mut self, wire: u32, bits: u32) -> u32 {
        let range = 1_u32 << bits;
        let Some(newest) = self.newest else {
            // Above zero, so that a late frame from before the first has a number too.
            return *self.newest.insert(range.wrapping_add(wire));
        };
        let step = wire.wrapping_sub(newest) & (range - 1);
        if step < range / 2 {
            let number = newest.wrapping_add(step);
            self.newest = Some(number);
            return number;
        }
        newest.wrapping_sub(range - step)
    }

    /// Separates the following frames from all before, to which they have no relation.
    fn leap(&mut self) {
        self.newest = self.newest.map(|newest| newest.wrapping_add(LEAP));
    }
}

/// More than any range of numbers on the wire, and more than any reference reaches back.
const LEAP: u32 = 1 << 17;

#[cfg(test)]
mod tests;
