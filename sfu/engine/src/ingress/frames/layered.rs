//! Frame relations from the payload descriptors of VP8 (RFC 7741) and VP9 (RFC 9628), for streams without a dependency
//! descriptor. These descriptors do not list the frames that a frame is predicted from; VP9's flexible mode lists them
//! only within the spatial layer. So the references here are those frames without which a layer switch would be wrong:
//! a frame at which a receiver may switch up to its temporal layer references the layer below.

use crate::rtp::codec::Vp9Picture;
use crate::rtp::codec::frame::{FrameFacts, OperatingPoints, References};

/// State of a VP8 stream, which has temporal layers only.
#[derive(Debug, Default)]
pub(super) struct Vp8Layers {
    layers: Temporal,
}

impl Vp8Layers {
    /// `sync` is the Y bit: the frame depends on the base layer alone.
    pub(super) fn read(&mut self, number: u32, temporal: u8, sync: bool, key: bool) -> FrameFacts {
        let layers = &mut self.layers;
        let mut references = References::default();
        let mut switches = OperatingPoints::default();
        if key {
            switches = OperatingPoints::ALL;
        } else if temporal == 0 {
            switches = layers.up_to(ANY_SPATIAL, 0);
        } else if sync {
            references = layers.reference(number, temporal - 1, references);
            switches = layers.up_to(ANY_SPATIAL, temporal);
        }
        layers.note(number, temporal);
        let part_of = OperatingPoints::block(ANY_SPATIAL.0, ANY_SPATIAL.1, temporal);
        FrameFacts { number, references, part_of, switches, climbs: switches }
    }
}

/// State of a VP9 stream, with temporal and spatial layers.
#[derive(Debug)]
pub(super) struct Vp9Layers {
    layers: [Temporal; SPATIAL],
    /// Highest spatial layer, from the last scalability structure or from the frames since then.
    top: u8,
}

impl Default for Vp9Layers {
    fn default() -> Self {
        Self { layers: std::array::from_fn(|_| Temporal::default()), top: 0 }
    }
}

impl Vp9Layers {
    /// Reads one frame. `picture_number` counts pictures; each picture takes [`SPATIAL`] frame numbers.
    pub(super) fn read(
        &mut self,
        picture_number: u32,
        spatial: u8,
        temporal: u8,
        picture: &Vp9Picture,
    ) -> FrameFacts {
        let spatial = spatial.min(SPATIAL as u8 - 1);
        let number = picture_number.wrapping_mul(SPATIAL as u32).wrapping_add(u32::from(spatial));
        let key = !picture.inter_picture && spatial == 0;
        match picture.spatial_layers {
            Some(count) => self.top = count.saturating_sub(1).max(spatial),
            None => self.top = self.top.max(spatial),
        }
        // Operating points above the highest spatial layer stand for the highest layer.
        let last = if spatial >= self.top { SPATIAL as u8 - 1 } else { spatial };
        let Some(layers) = self.layers.get_mut(usize::from(spatial)) else { return everything(number) };
        // Highest spatial layer whose operating points contain this frame.
        let above = if picture.not_reference_for_upper { last } else { SPATIAL as u8 - 1 };
        let mut references = References::default();
        let mut switches = OperatingPoints::default();
        let mut climbs = OperatingPoints::default();
        if picture.inter_layer && spatial > 0 {
            references = references.and(1);
        }
        if key {
            switches = OperatingPoints::ALL;
        } else if !picture.inter_picture {
            switches = OperatingPoints::block(spatial, last, temporal);
        } else {
            references = layers.inter_picture(number, temporal, picture, references);
            if temporal == 0 {
                switches = layers.up_to((spatial, last), 0);
            }
            if picture.switching_up || layers.top == 0 {
                if temporal > 0 {
                    references = layers.reference(number, temporal - 1, references);
                }
                // The frames of the upper spatial layers in this picture build on this frame.
                climbs = layers.up_to((spatial, above), temporal);
            }
        }
        layers.note(number, temporal);
        layers.note_base(number, temporal, picture.tl0_picture_index);
        let all = OperatingPoints::block(SPATIAL as u8 - 1, SPATIAL as u8 - 1, temporal);
        let part_of = OperatingPoints::block(spatial, above, temporal).or(all);
        FrameFacts { number, references, part_of, switches, climbs }
    }
}

/// Newest frames of the temporal layers of one spatial layer.
#[derive(Debug, Default)]
struct Temporal {
    newest: [Option<u32>; TEMPORAL],
    /// Second newest frames, so that later packets of the newest frame get the references that its first packet got.
    before: [Option<u32>; TEMPORAL],
    top: u8,
    /// Number and TL0PICIDX of the newest base frame.
    base: Option<(u32, u8)>,
}

impl Temporal {
    fn note_base(&mut self, number: u32, temporal: u8, index: Option<u8>) {
        if let (0, Some(index)) = (temporal, index)
            && self.base.is_none_or(|(newest, _)| (number.wrapping_sub(newest) as i32) > 0)
        {
            self.base = Some((number, index));
        }
    }

    /// Adds the frames of earlier pictures: in flexible mode those listed, otherwise the last base frame. If a base
    /// frame is missing, which may still be retransmitted, adds an unknown frame (0).
    fn inter_picture(
        &self,
        number: u32,
        temporal: u8,
        picture: &Vp9Picture,
        references: References,
    ) -> References {
        if picture.flexible {
            let listed = picture.references.iter().filter(|back| **back > 0);
            return listed
                .fold(references, |references, back| references.and(u32::from(*back) * SPATIAL as u32));
        }
        let gap = match (self.base, picture.tl0_picture_index) {
            (Some((newest, index)), Some(own)) if (number.wrapping_sub(newest) as i32) > 0 => {
                own.wrapping_sub(index) != u8::from(temporal == 0)
            }
            _ => false,
        };
        if gap { references.and(0) } else { self.reference(number, 0, references) }
    }

    fn note(&mut self, number: u32, temporal: u8) {
        let place = usize::from(temporal.min(TEMPORAL as u8 - 1));
        self.top = self.top.max(temporal);
        let (Some(newest), Some(before)) = (self.newest.get_mut(place), self.before.get_mut(place)) else {
            return;
        };
        if newest.is_none_or(|newest| (number.wrapping_sub(newest) as i32) > 0) {
            *before = newest.replace(number);
        }
    }

    /// Adds the newest frame of a temporal layer that is older than `number`, if there is one.
    fn reference(&self, number: u32, temporal: u8, references: References) -> References {
        let place = usize::from(temporal.min(TEMPORAL as u8 - 1));
        let known = |frames: &[Option<u32>; TEMPORAL]| frames.get(place).copied().flatten();
        let older = |frame: &u32| (number.wrapping_sub(*frame) as i32) > 0;
        let last = known(&self.newest).filter(older).or_else(|| known(&self.before).filter(older));
        last.map_or(references, |last| references.and(number.wrapping_sub(last)))
    }

    /// Operating points with exactly this temporal layer; the highest layer seen so far stands for all above it.
    fn up_to(&self, rows: (u8, u8), temporal: u8) -> OperatingPoints {
        if temporal >= self.top {
            OperatingPoints::block(rows.0, rows.1, temporal)
        } else {
            only(rows, temporal)
        }
    }
}

/// Points of these spatial layers with exactly this temporal layer.
fn only(rows: (u8, u8), temporal: u8) -> OperatingPoints {
    let at_least = OperatingPoints::block(rows.0, rows.1, temporal);
    if temporal >= TEMPORAL as u8 - 1 {
        return at_least;
    }
    at_least.without(OperatingPoints::block(rows.0, rows.1, temporal + 1))
}

fn everything(number: u32) -> FrameFacts {
    let none = OperatingPoints::default();
    let references = References::default();
    FrameFacts { number, references, part_of: OperatingPoints::ALL, switches: none, climbs: none }
}

const SPATIAL: usize = 4;
const TEMPORAL: usize = 8;
const ANY_SPATIAL: (u8, u8) = (0, SPATIAL as u8 - 1);
