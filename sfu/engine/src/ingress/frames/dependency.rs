//! Frame relations from dependency descriptors (RTP Payload Format for AV1, version 1.0, appendix A).
//!
//! Decode targets become operating points, frame differences become references. Chains are not used: the differences
//! also tell whether a frame that a receiver needs is missing.

use smallvec::SmallVec;

use crate::rtp::codec::dependency_descriptor::{DecodeTarget, Descriptor, Indication, Structure};
use crate::rtp::codec::frame::{FrameFacts, OperatingPoint, OperatingPoints, References};

/// The current template dependency structure, and the one before it for frames that arrive late.
#[derive(Debug, Default)]
pub(super) struct Dependencies {
    holds: Option<Held>,
    before: Option<Held>,
}

/// A template dependency structure, and what its templates mean.
#[derive(Debug)]
struct Held {
    structure: Structure,
    /// Number of the frame that carried the structure.
    first: u32,
    /// Bitmask of the active decode targets, and the number of the frame that announced it.
    active: (u32, u32),
    /// Index of the decode target for each operating point.
    targets: SmallVec<[u8; 32]>,
    /// Frames that do not deviate from their template, in the order of the templates.
    templates: Vec<Frame>,
}

/// Layer and relations of one frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) spatial: u8,
    pub(super) temporal: u8,
    /// Whether the frame is of the lowest spatial layer, has no references, and carried the structure.
    pub(super) is_key: bool,
    pub(super) facts: FrameFacts,
}

impl Dependencies {
    /// Reads the frame of a packet. `None` if the structure that the frame needs has not arrived. A frame from before
    /// the current structure, whose own structure is no longer stored, is part of no operating point.
    pub(super) fn read(&mut self, number: u32, descriptor: &[u8]) -> Option<Frame> {
        let outdated = self.holds.as_ref().is_some_and(|held| is_before(number, held.first));
        self.look_up(number, descriptor).or_else(|| outdated.then(|| Frame::outdated(number)))
    }

    fn look_up(&mut self, number: u32, descriptor: &[u8]) -> Option<Frame> {
        let held = match &self.holds {
            Some(held) if is_before(number, held.first) => self.before.as_mut(),
            _ => self.holds.as_mut(),
        };
        if let ([first, _, _], Some(held)) = (descriptor, &held) {
            let index = first.wrapping_sub(held.structure.template_id_offset) & TEMPLATE_ID;
            let template = held.templates.get(usize::from(index))?;
            let is_key = template.is_key && number == held.first;
            return Some(Frame { is_key, facts: FrameFacts { number, ..template.facts }, ..*template });
        }
        let parsed = Descriptor::parse(descriptor, held.as_ref().map(|held| &held.structure)).ok()?;
        match (&parsed.structure, held) {
            (Some(structure), held) => {
                let known = held.is_some_and(|held| held.first == number);
                let active = parsed.active_decode_targets.unwrap_or(u32::MAX);
                let new = (!known).then(|| Held::new(structure.clone(), number, active));
                match (&self.holds, new) {
                    (_, None) => {}
                    (Some(holds), Some(late)) if is_before(number, holds.first) => self.before = Some(late),
                    (_, Some(new)) => self.before = self.holds.replace(new),
                }
            }
            (None, Some(held)) => {
                if let Some(active) = parsed.active_decode_targets {
                    held.set_active(active, number);
                }
            }
            (None, None) => return None,
        }
        let held = match &self.holds {
            Some(held) if is_before(number, held.first) => self.before.as_ref(),
            held => held.as_ref(),
        };
        let held = held?;
        let differences = parsed.frame_differences.iter().map(|back| u32::from(*back));
        let frame = held.frame(number, (parsed.spatial, parsed.temporal), &parsed.indications, differences);
        Some(Frame { is_key: frame.is_key && number == held.first, ..frame })
    }
}

impl Frame {
    /// A frame so old that its structure is no longer stored: no receiver waits for it.
    fn outdated(number: u32) -> Self {
        let none = OperatingPoints::default();
        let facts = FrameFacts {
            number,
            references: References::default(),
            part_of: none,
            switches: none,
            climbs: none,
        };
        Self { spatial: 0, temporal: 0, is_key: false, facts }
    }
}

impl Held {
    fn new(structure: Structure, first: u32, active: u32) -> Self {
        let active = (active, first);
        let mut held = Self { structure, first, active, targets: SmallVec::new(), templates: Vec::new() };
        held.lay_out();
        held
    }

    fn set_active(&mut self, active: u32, number: u32) {
        if active != self.active.0 && !is_before(number, self.active.1) {
            self.active = (active, number);
            self.lay_out();
        }
    }

    /// Recomputes what depends on the active decode targets.
    fn lay_out(&mut self) {
        let targets = &self.structure.decode_targets;
        let is_active = |place: usize| self.active.0 >> place & 1 != 0;
        let mut active: SmallVec<[(u8, DecodeTarget); 32]> = (0_u8..)
            .zip(targets.iter().copied())
            .filter(|(place, _)| is_active(usize::from(*place)))
            .collect();
        if active.is_empty() {
            active = (0_u8..).zip(targets.iter().copied()).collect();
        }
        self.targets = OperatingPoint::every().map(|point| nearest(point, &active)).collect();
        let templates = self.structure.templates.iter().map(|template| {
            let differences = template.frame_differences.iter().map(|back| u32::from(*back));
            self.frame(0, (template.spatial, template.temporal), &template.indications, differences)
        });
        self.templates = templates.collect();
    }

    fn frame(
        &self,
        number: u32,
        (spatial, temporal): (u8, u8),
        indications: &[Indication],
        differences: impl Iterator<Item = u32>,
    ) -> Frame {
        let points_that = |wanted: fn(Indication) -> bool| -> OperatingPoints {
            let points = OperatingPoint::every().zip(&self.targets);
            let of = |target: u8| indications.get(usize::from(target)).copied();
            points.filter(|(_, target)| of(**target).is_some_and(wanted)).map(|(point, _)| point).collect()
        };
        let switches = points_that(|indication| indication == Indication::Switch);
        let references = differences.fold(References::default(), References::and);
        Frame {
            spatial,
            temporal,
            is_key: references.is_empty() && spatial == 0,
            facts: FrameFacts {
                number,
                references,
                part_of: points_that(|indication| indication != Indication::NotPresent),
                switches,
                climbs: switches,
            },
        }
    }
}

/// Index of the decode target nearest to an operating point without exceeding it; the spatial layer has precedence. The
/// highest operating point stands for the highest decode target.
fn nearest(point: OperatingPoint, targets: &[(u8, DecodeTarget)]) -> u8 {
    let rank = |target: &DecodeTarget| {
        let spatial = within(target.spatial, point.spatial(), OperatingPoint::ALL.spatial());
        let temporal = within(target.temporal, point.temporal(), OperatingPoint::ALL.temporal());
        (spatial, temporal)
    };
    // The first of several equals.
    let best = targets.iter().rev().max_by_key(|(_, target)| rank(target));
    best.map_or(0, |(place, _)| *place)
}

/// Rank of a layer: up to `wanted` a higher one is better, beyond `wanted` a lower one. `all` sets no limit.
fn within(layer: u8, wanted: u8, all: u8) -> i16 {
    if layer <= wanted || wanted == all { i16::from(layer) } else { -i16::from(layer) }
}

/// Compares frame numbers, which may wrap.
fn is_before(number: u32, other: u32) -> bool {
    (number.wrapping_sub(other) as i32) < 0
}

const TEMPLATE_ID: u8 = 0x3f;
