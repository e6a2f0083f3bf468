//! What each packet's frame is among the frames of its stream: told once, here, for everyone who chooses among the
//! stream's layers. From the dependency descriptor ([`dependency`]) where there is one, so that nothing of an encrypted
//! payload is needed; from VP8's and VP9's payload descriptors ([`layered`]) otherwise. Streams that tell neither have
//! nothing to choose.

mod dependency;
mod layered;

use crate::rtp::codec::{Codec, PayloadFacts};
use dependency::Dependencies;
use layered::{Vp8Layers, Vp9Layers};

/// Reads one stream.
#[derive(Debug, Default)]
pub struct FrameReader {
    numbers: Numbers,
    told: Told,
}

/// By what the frames are told. A stream changes it only with its codec.
#[derive(Debug, Default)]
enum Told {
    #[default]
    Nothing,
    Dependencies(Box<Dependencies>),
    Vp8(Vp8Layers),
    Vp9(Box<Vp9Layers>),
}

impl FrameReader {
    /// Another source carries the stream from now on; its frames are numbered from anywhere.
    pub fn begin_source(&mut self) {
        self.told = Told::Nothing;
        self.numbers.leap();
    }

    /// Adds to a packet's facts what can be told of its frame: by the dependency descriptor wherever there is one (Chromium
    /// leaves picture ids and layers out of VP8's own then). The payload of an `opaque` track is not believed beside it.
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

/// Makes one line of the numbers that frames have on the wire.
#[derive(Debug, Default)]
struct Numbers {
    newest: Option<u32>,
}

impl Numbers {
    /// The number nearest to the newest that reads so in its lower `bits`.
    fn extend(&mut self, wire: u32, bits: u32) -> u32 {
        let range = 1_u32 << bits;
        let Some(newest) = self.newest else {
            // Above zero, so that what comes late of what was before has a number.
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

    /// What follows has nothing to do with what was before.
    fn leap(&mut self) {
        self.newest = self.newest.map(|newest| newest.wrapping_add(LEAP));
    }
}

/// More than any range of numbers on the wire, and than anybody looks back.
const LEAP: u32 = 1 << 17;

#[cfg(test)]
mod tests;
