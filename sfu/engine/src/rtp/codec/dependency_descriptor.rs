//! The AV1 dependency descriptor (RTP Payload Format for AV1, version 1.0, appendix A), also used with other codecs.
//! It tells which frames a frame depends on, and which operating points of the stream include the frame.

mod bits;
mod structure;

use smallvec::SmallVec;
use thiserror::Error;

use super::DependencyFacts;
use bits::BitReader;
pub use structure::{DecodeTarget, Indication, Structure};
#[cfg(any(test, feature = "internals"))]
pub use structure::{Resolution, Template};

/// Why a dependency descriptor cannot be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DescriptorError {
    /// Shorter than the three bytes of the mandatory fields.
    #[error("mandatory fields: {0} bytes are less than 3")]
    Mandatory(usize),
    /// The descriptor ends within the named field.
    #[error("{0}: runs past the end")]
    Truncated(&'static str),
    /// More items of the named kind than the format allows.
    #[error("{0}: too many")]
    TooMany(&'static str),
    /// No structure is attached, and none has been received before.
    #[error("template structure: not received")]
    NoStructure,
    /// The frame's template is not in the structure.
    #[error("template {0}: not in the structure")]
    UnknownTemplate(u8),
}

/// A fully parsed descriptor, with the template's values and the frame's custom values combined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The mandatory fields.
    pub facts: DependencyFacts,
    /// The attached structure; `None` if there is none. It applies to this frame and the following ones.
    pub structure: Option<Structure>,
    /// Decode targets that the sender continues to produce, one bit each, lowest first; `None` means unchanged.
    pub active_decode_targets: Option<u32>,
    /// Spatial layer of the frame.
    pub spatial: u8,
    /// Temporal layer of the frame.
    pub temporal: u8,
    /// Role of the frame in each decode target.
    pub indications: SmallVec<[Indication; 12]>,
    /// Distances, in frame numbers, to the frames that this frame is predicted from.
    pub frame_differences: SmallVec<[u16; 4]>,
    /// For each chain, the distance to the chain's previous frame; 0 means that this frame begins the chain.
    pub chain_differences: SmallVec<[u8; 4]>,
}

/// Parses the mandatory fields and whether a structure is attached. Cheap and stateless.
///
/// # Errors
/// If the descriptor has less than three bytes.
pub fn peek(descriptor: &[u8]) -> Result<DependencyFacts, DescriptorError> {
    let Some(([first, high, low], rest)) = descriptor.split_first_chunk::<3>() else {
        return Err(DescriptorError::Mandatory(descriptor.len()));
    };
    Ok(DependencyFacts {
        frame_start: first & 0x80 != 0,
        frame_end: first & 0x40 != 0,
        template_id: first & 0x3f,
        frame_number: u16::from_be_bytes([*high, *low]),
        has_structure: rest.first().is_some_and(|flags| flags & 0x80 != 0),
    })
}

impl Descriptor {
    /// Parses a descriptor. `held` is the structure from the stream's last key frame; an attached structure is used
    /// instead.
    ///
    /// # Errors
    /// If the descriptor is malformed, or its template is unknown.
    pub fn parse(descriptor: &[u8], held: Option<&Structure>) -> Result<Self, DescriptorError> {
        let facts = peek(descriptor)?;
        let mut bits = BitReader::new(descriptor.get(3..).unwrap_or_default());
        let mut flags = Flags::default();
        let mut attached = None;
        let mut active_decode_targets = None;
        if descriptor.len() > 3 {
            flags = Flags::read(&mut bits)?;
            if flags.structure {
                let structure = Structure::read(&mut bits)?;
                active_decode_targets = Some(all_ones(structure.decode_targets.len()));
                attached = Some(structure);
            }
        }
        let structure = attached.as_ref().or(held).ok_or(DescriptorError::NoStructure)?;
        if flags.active_decode_targets {
            active_decode_targets =
                Some(bits.bits(structure.decode_targets.len() as u32, "active decode targets")?);
        }
        let template = structure
            .template(facts.template_id)
            .ok_or(DescriptorError::UnknownTemplate(facts.template_id))?
            .clone();
        let mut found = Self {
            facts,
            structure: None,
            active_decode_targets,
            spatial: template.spatial,
            temporal: template.temporal,
            indications: template.indications,
            frame_differences: template.frame_differences.into_iter().map(u16::from).collect(),
            chain_differences: template.chain_differences,
        };
        found.read_custom(&mut bits, &flags)?;
        found.structure = attached;
        Ok(found)
    }

    /// Parses the values that the frame states instead of its template's (`frame_dependency_definition`).
    fn read_custom(&mut self, bits: &mut BitReader<'_>, flags: &Flags) -> Result<(), DescriptorError> {
        if flags.custom_indications {
            for indication in &mut self.indications {
                *indication = Indication::from_bits(bits.bits(2, "frame decode target indications")?);
            }
        }
        if flags.custom_frame_differences {
            self.frame_differences.clear();
            loop {
                let nibbles = bits.bits(2, "frame differences")?;
                if nibbles == 0 {
                    break;
                }
                // At most 12 bits, plus one.
                let difference = bits.bits(4 * nibbles, "frame differences")? as u16 + 1;
                self.frame_differences.push(difference);
            }
        }
        if flags.custom_chains {
            for difference in &mut self.chain_differences {
                *difference = bits.bits(8, "frame chains")? as u8;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Flags {
    structure: bool,
    active_decode_targets: bool,
    custom_indications: bool,
    custom_frame_differences: bool,
    custom_chains: bool,
}

impl Flags {
    fn read(bits: &mut BitReader<'_>) -> Result<Self, DescriptorError> {
        let mut flag = || bits.flag("extended descriptor flags");
        Ok(Self {
            structure: flag()?,
            active_decode_targets: flag()?,
            custom_indications: flag()?,
            custom_frame_differences: flag()?,
            custom_chains: flag()?,
        })
    }
}

fn all_ones(count: usize) -> u32 {
    u32::try_from((1_u64 << count.min(32)) - 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
