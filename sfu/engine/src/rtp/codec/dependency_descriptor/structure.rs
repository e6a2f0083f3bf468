//! The template dependency structure: sent with a key frame, holds until the next.

use smallvec::SmallVec;

use super::DescriptorError;
use super::bits::BitReader;

/// What a frame is to a decode target (section A.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Indication {
    /// Not part of it.
    NotPresent,
    /// Part of it, and no other frame of it depends on this one.
    Discardable,
    /// A receiver can switch to the decode target here.
    Switch,
    /// Needed, without a promise.
    Required,
}

/// What frames of one kind have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Spatial layer.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// One for each decode target.
    pub indications: SmallVec<[Indication; 12]>,
    /// How far back the frames are that it is predicted from.
    pub frame_differences: SmallVec<[u8; 4]>,
    /// One for each chain: how far back the chain's previous frame is.
    pub chain_differences: SmallVec<[u8; 4]>,
}

/// An operating point: what a receiver decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeTarget {
    /// Its highest spatial layer.
    pub spatial: u8,
    /// Its highest temporal layer.
    pub temporal: u8,
    /// The chain that tells whether a frame of it was lost; None: there are no chains.
    pub chain: Option<u8>,
}

/// The greatest size of a spatial layer's pictures, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolution {
    /// 1 to 65536.
    pub width: u32,
    /// 1 to 65536.
    pub height: u32,
}

/// The templates of a stream and what they add up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Structure {
    /// The id of the first template; ids wrap at 64.
    pub template_id_offset: u8,
    /// 1 to 64.
    pub templates: Vec<Template>,
    /// 1 to 32.
    pub decode_targets: Vec<DecodeTarget>,
    /// How many chains there are, 0 to 32.
    pub chains: u8,
    /// One for each spatial layer, or none.
    pub resolutions: SmallVec<[Resolution; 4]>,
}

impl Structure {
    /// The template of that id, as a frame states it.
    pub fn template(&self, id: u8) -> Option<&Template> {
        let index = id.wrapping_sub(self.template_id_offset) & (MOST_TEMPLATES as u8 - 1);
        self.templates.get(usize::from(index))
    }

    /// The highest spatial layer of any template.
    pub fn highest_spatial(&self) -> u8 {
        self.templates.last().map_or(0, |template| template.spatial)
    }

    pub(super) fn read(bits: &mut BitReader<'_>) -> Result<Self, DescriptorError> {
        let template_id_offset = bits.bits(6, "template id offset")? as u8;
        let targets = bits.bits(5, "decode target count")? + 1;
        let mut templates = read_layers(bits)?;
        for template in &mut templates {
            for _ in 0..targets {
                let indication = bits.bits(2, "template decode target indications")?;
                template.indications.push(Indication::from_bits(indication));
            }
        }
        for template in &mut templates {
            while bits.flag("template frame differences")? {
                let difference = bits.bits(4, "template frame differences")? as u8 + 1;
                template.frame_differences.push(difference);
            }
        }
        let (chains, protected_by) = read_chains(bits, targets, &mut templates)?;
        let decode_targets = (0..targets as usize)
            .map(|target| decode_target(&templates, target, protected_by.get(target).copied()))
            .collect();
        let mut structure =
            Self { template_id_offset, templates, decode_targets, chains, resolutions: SmallVec::new() };
        if bits.flag("resolutions")? {
            for _ in 0..=structure.highest_spatial() {
                let width = bits.bits(16, "resolutions")? + 1;
                let height = bits.bits(16, "resolutions")? + 1;
                structure.resolutions.push(Resolution { width, height });
            }
        }
        Ok(structure)
    }
}

impl Indication {
    pub(super) fn from_bits(bits: u32) -> Self {
        match bits {
            0 => Self::NotPresent,
            1 => Self::Discardable,
            2 => Self::Switch,
            _ => Self::Required,
        }
    }
}

/// `template_layers`: templates are sorted by layer, each step says what comes next.
fn read_layers(bits: &mut BitReader<'_>) -> Result<Vec<Template>, DescriptorError> {
    let mut templates = Vec::new();
    let (mut spatial, mut temporal) = (0_u8, 0_u8);
    loop {
        if templates.len() == MOST_TEMPLATES {
            return Err(DescriptorError::TooMany("templates"));
        }
        templates.push(Template {
            spatial,
            temporal,
            indications: SmallVec::new(),
            frame_differences: SmallVec::new(),
            chain_differences: SmallVec::new(),
        });
        match bits.bits(2, "template layers")? {
            0 => {}
            1 => temporal += 1,
            2 => (spatial, temporal) = (spatial + 1, 0),
            _ => return Ok(templates),
        }
        if temporal > MOST_TEMPORAL {
            return Err(DescriptorError::TooMany("temporal layers"));
        }
        if spatial > MOST_SPATIAL {
            return Err(DescriptorError::TooMany("spatial layers"));
        }
    }
}

/// `template_chains`: the number of chains and which one protects each decode target.
fn read_chains(
    bits: &mut BitReader<'_>,
    targets: u32,
    templates: &mut [Template],
) -> Result<(u8, Vec<u8>), DescriptorError> {
    let chains = bits.non_symmetric(targets + 1, "chain count")?;
    let mut protected_by = Vec::new();
    if chains > 0 {
        for _ in 0..targets {
            protected_by.push(bits.non_symmetric(chains, "decode target protection")? as u8);
        }
        for template in templates {
            for _ in 0..chains {
                template.chain_differences.push(bits.bits(4, "template chains")? as u8);
            }
        }
    }
    Ok((chains as u8, protected_by))
}

/// `decode_target_layers`: the highest layers among the frames that are part of it.
fn decode_target(templates: &[Template], target: usize, chain: Option<u8>) -> DecodeTarget {
    let part = |template: &&Template| {
        template.indications.get(target).is_some_and(|indication| *indication != Indication::NotPresent)
    };
    let parts = || templates.iter().filter(part);
    DecodeTarget {
        spatial: parts().map(|template| template.spatial).max().unwrap_or(0),
        temporal: parts().map(|template| template.temporal).max().unwrap_or(0),
        chain,
    }
}

const MOST_TEMPLATES: usize = 64;
/// AV1 has 3 bits of temporal and 2 of spatial id; VP9's 3 of both are taken as well.
const MOST_TEMPORAL: u8 = 7;
const MOST_SPATIAL: u8 = 7;
