//! The template dependency structure. It is sent with a key frame and applies until the next one.

use smallvec::SmallVec;

use super::DescriptorError;
use super::bits::BitReader;

/// Decode target indication: role of a frame in a decode target (section A.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Indication {
    /// The frame is not part of the decode target.
    NotPresent,
    /// The frame is part of the decode target, and no other frame of the target depends on it.
    Discardable,
    /// A receiver can switch to the decode target at this frame.
    Switch,
    /// The frame is needed, but is not a switch point.
    Required,
}

/// Properties that frames of one kind have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Spatial layer of the frames.
    pub spatial: u8,
    /// Temporal layer of the frames.
    pub temporal: u8,
    /// Role of the frames in each decode target.
    pub indications: SmallVec<[Indication; 12]>,
    /// Distances, in frame numbers, to the frames that they are predicted from.
    pub frame_differences: SmallVec<[u8; 4]>,
    /// For each chain, the distance to the chain's previous frame.
    pub chain_differences: SmallVec<[u8; 4]>,
}

/// A decode target: an operating point that a receiver can decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeTarget {
    /// Highest spatial layer of the target.
    pub spatial: u8,
    /// Highest temporal layer of the target.
    pub temporal: u8,
    /// Chain that shows whether a frame of the target was lost; `None` if there are no chains.
    pub chain: Option<u8>,
}

/// Largest picture size of a spatial layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolution {
    /// Width in pixels, 1 to 65536.
    pub width: u32,
    /// Height in pixels, 1 to 65536.
    pub height: u32,
}

/// The templates of a stream and its decode targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Structure {
    /// Id of the first template; ids wrap at 64.
    pub template_id_offset: u8,
    /// 1 to 64 templates, sorted by layer.
    pub templates: Vec<Template>,
    /// 1 to 32 decode targets.
    pub decode_targets: Vec<DecodeTarget>,
    /// Number of chains, 0 to 32.
    pub chains: u8,
    /// One resolution for each spatial layer, or empty if not stated.
    pub resolutions: SmallVec<[Resolution; 4]>,
}

impl Structure {
    /// The template with an id as stated by a frame; `None` if the structure does not have it.
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

/// `template_layers`: templates are sorted by layer, and each step says where the next template is.
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

/// `decode_target_layers`: the highest layers among the templates that are part of the target.
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
/// AV1 has 3 bits of temporal id and 2 of spatial id. VP9's 3 bits of both are accepted as well.
const MOST_TEMPORAL: u8 = 7;
const MOST_SPATIAL: u8 = 7;
