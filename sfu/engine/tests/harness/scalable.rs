//! Simulated encoder that produces the frames of a scalable stream, with their dependency descriptors and references,
//! but no media.

/// Prediction between the spatial layers of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spatial {
    /// Inter-layer prediction in every picture (`L3T3`).
    Every,
    /// Inter-layer prediction in key pictures only (`L3T3_KEY`).
    KeyOnly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// Name as in the WebRTC-SVC specification.
    pub name: &'static str,
    /// Spatial layers, 1 to 3.
    pub spatial: u8,
    /// Temporal layers, 1 to 3.
    pub temporal: u8,
    /// Prediction between the spatial layers.
    pub inter_layer: Spatial,
}

const fn mode(name: &'static str, spatial: u8, temporal: u8, inter_layer: Spatial) -> Mode {
    Mode { name, spatial, temporal, inter_layer }
}

pub const MODES: [Mode; 8] = [
    mode("L1T2", 1, 2, Spatial::Every),
    mode("L1T3", 1, 3, Spatial::Every),
    mode("L2T1", 2, 1, Spatial::Every),
    mode("L2T2", 2, 2, Spatial::Every),
    mode("L2T2_KEY", 2, 2, Spatial::KeyOnly),
    mode("L3T1_KEY", 3, 1, Spatial::KeyOnly),
    mode("L3T3", 3, 3, Spatial::Every),
    mode("L3T3_KEY", 3, 3, Spatial::KeyOnly),
];

/// Mode with this name; panics if it is not one of [`MODES`].
pub fn mode_of(name: &str) -> Mode {
    MODES.into_iter().find(|mode| mode.name == name).expect("a mode that is tested")
}

/// Frame of one spatial layer.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Frame number, consecutive throughout the stream.
    pub number: u64,
    /// Number of the frame's picture.
    pub picture: u64,
    pub spatial: u8,
    pub temporal: u8,
    /// Numbers of the frames that this frame is predicted from.
    pub references: Vec<u64>,
    /// Whether the frame belongs to a key picture.
    pub key: bool,
    /// Whether the frame is the last of its picture.
    pub ends_picture: bool,
    /// Position in the pattern of temporal layers, 0 to 3.
    pub picture_in_pattern: u64,
    /// Number of pictures of temporal layer 0 up to this frame's picture.
    pub base: u64,
    /// Number of spatial layers, present in key pictures' base frames and in the first frame after the number changed.
    pub spatial_layers: Option<u8>,
    /// Dependency descriptor of the frame's only packet.
    pub descriptor: Vec<u8>,
}

impl Frame {
    /// VP9 payload of the frame (RFC 9628 section 4.2), in non-flexible mode.
    pub fn vp9_payload(&self, mode: Mode) -> Vec<u8> {
        let inter_picture =
            self.references.iter().any(|reference| *reference + u64::from(self.spatial) < self.number);
        let inter_layer = self.spatial > 0 && self.references.contains(&(self.number - 1));
        let is_top = self.spatial + 1 == mode.spatial;
        let reference_for_upper = !is_top && (self.key || mode.inter_layer == Spatial::Every);
        let mut first = 0x80 | 0x20 | 0x08 | 0x04;
        for (bit, set) in
            [(0x40, inter_picture), (0x02, self.spatial_layers.is_some()), (0x01, !reference_for_upper)]
        {
            first |= if set { bit } else { 0 };
        }
        let [high, low] = (self.picture as u16).to_be_bytes();
        // Browsers mark every frame above the base layer as a switching-up point.
        let switching_up = u8::from(self.temporal > 0);
        let layers = self.temporal << 5 | switching_up << 4 | self.spatial << 1 | u8::from(inter_layer);
        let mut payload = vec![first, high | 0x80, low, layers, self.base as u8];
        payload.extend(self.spatial_layers.map(|layers| (layers - 1) << 5));
        payload.extend([0xaa; 4]);
        payload
    }

    /// VP8 payload of the frame (RFC 7741 section 4.2).
    pub fn vp8_payload(&self) -> Vec<u8> {
        let [high, low] = (self.picture as u16).to_be_bytes();
        // Layer sync: the frame references the base layer only, in the previous picture or the one before it.
        let sync = self.temporal == 1 || self.temporal == 2 && self.picture_in_pattern == 1;
        let tid = self.temporal << 6 | u8::from(sync) << 5;
        vec![0x90, 0xe0, high | 0x80, low, self.base as u8, tid, u8::from(!self.key), 0xaa]
    }
}

#[derive(Debug, Clone)]
pub struct Encoder {
    mode: Mode,
    /// Number of spatial layers that are encoded at present.
    active: u8,
    told_active: u8,
    picture: u64,
    since_key: u64,
    key_next: bool,
    next: u64,
    base: u64,
    /// Numbers of the last frames, by spatial and temporal layer.
    last: [[Option<u64>; 3]; 3],
    template_offset: u8,
}

impl Encoder {
    /// Creates an encoder whose first picture is a key picture.
    pub fn new(mode: Mode, first_number: u64) -> Self {
        Self {
            mode,
            active: mode.spatial,
            told_active: mode.spatial,
            picture: 0,
            since_key: 0,
            key_next: true,
            next: first_number,
            base: 0,
            last: [[None; 3]; 3],
            template_offset: 60,
        }
    }

    /// Makes the next picture a key picture.
    pub fn want_key(&mut self) {
        self.key_next = true;
    }

    /// Sets the number of encoded spatial layers. A larger number makes the next picture a key picture.
    pub fn set_active(&mut self, spatial: u8) {
        self.key_next |= spatial > self.active;
        self.active = spatial;
    }

    /// Produces the frames of the next picture, lowest layer first.
    pub fn picture(&mut self) -> Vec<Frame> {
        let key = std::mem::take(&mut self.key_next);
        if key {
            self.since_key = 0;
            self.last = [[None; 3]; 3];
            self.template_offset = (self.template_offset + self.templates().len() as u8) % 64;
        }
        let temporal = match (self.mode.temporal, self.since_key % 4) {
            (2, 1 | 3) | (3, 2) => 1,
            (3, 1 | 3) => 2,
            _ => 0,
        };
        self.base += u64::from(temporal == 0);
        let frames = (0..self.active).map(|spatial| self.frame(spatial, temporal, key)).collect();
        self.picture += 1;
        self.since_key += 1;
        frames
    }

    fn frame(&mut self, spatial: u8, temporal: u8, key: bool) -> Frame {
        let number = self.next;
        self.next += 1;
        let mut references = Vec::new();
        let layer = &self.last[usize::from(spatial)];
        if !key {
            // A base frame references the last base frame; other frames reference the newest frame of a lower temporal
            // layer.
            let below = &layer[..usize::from(temporal.max(1))];
            references.extend(below.iter().flatten().max());
        }
        if spatial > 0 && (key || self.mode.inter_layer == Spatial::Every) {
            references.push(number - 1);
        }
        self.last[usize::from(spatial)][usize::from(temporal)] = Some(number);
        let structure = key && spatial == 0;
        let active = std::mem::replace(&mut self.told_active, self.active) != self.active || structure;
        let descriptor = self.descriptor(number, (spatial, temporal), key, &references, structure, active);
        let ends_picture = spatial + 1 == self.active;
        Frame {
            number,
            picture: self.picture,
            spatial,
            temporal,
            references,
            key,
            ends_picture,
            picture_in_pattern: self.since_key % 4,
            base: self.base,
            spatial_layers: active.then_some(self.active),
            descriptor,
        }
    }

    /// Templates in the order of the descriptor's structure: spatial layer, temporal layer, whether for key pictures,
    /// frame differences.
    fn templates(&self) -> Vec<(u8, u8, bool, Vec<u64>)> {
        let Mode { spatial: layers, temporal: temporals, inter_layer, .. } = self.mode;
        let every = inter_layer == Spatial::Every;
        let wide = u64::from(layers);
        let mut templates = Vec::new();
        for spatial in 0..layers {
            let below = |wanted: bool| if wanted && spatial > 0 { vec![1] } else { Vec::new() };
            templates.push((spatial, 0, true, below(true)));
            for temporal in 0..temporals {
                let back = match (temporals, temporal) {
                    (1, _) => wide,
                    (2, 0) | (3, 1) => 2 * wide,
                    (3, 0) => 4 * wide,
                    _ => wide,
                };
                let differences = std::iter::once(back).chain(below(every)).collect();
                templates.push((spatial, temporal, false, differences));
            }
        }
        templates
    }

    /// Decode target indication of a frame: 0 not present, 1 discardable, 2 switch, 3 required.
    fn indication(&self, frame: (u8, u8), target: (u8, u8), key: bool) -> u32 {
        let ((spatial, temporal), (target_spatial, target_temporal)) = (frame, target);
        if temporal > target_temporal || spatial > target_spatial {
            return 0;
        }
        if key {
            return 2;
        }
        match self.mode.inter_layer {
            Spatial::KeyOnly if spatial != target_spatial => 0,
            Spatial::Every if spatial != target_spatial => 3,
            _ if temporal == target_temporal && temporal > 0 => 1,
            _ => 2,
        }
    }

    fn targets(&self) -> impl Iterator<Item = (u8, u8)> + use<> {
        let Mode { spatial, temporal, .. } = self.mode;
        (0..spatial).flat_map(move |layer| (0..temporal).map(move |temporal| (layer, temporal)))
    }

    fn descriptor(
        &self,
        number: u64,
        (spatial, temporal): (u8, u8),
        key: bool,
        references: &[u64],
        structure: bool,
        active: bool,
    ) -> Vec<u8> {
        let templates = self.templates();
        let differences: Vec<u64> = references.iter().map(|reference| number - reference).collect();
        let place =
            templates.iter().position(|known| (known.0, known.1, known.2) == (spatial, temporal, key));
        let place = place.expect("every frame has a template");
        let custom = templates[place].3 != differences;
        let mut bits = Bits::default();
        let template = (usize::from(self.template_offset) + place) % 64;
        bits.put(0b11, 2).put(template as u32, 6).put(number as u32 & 0xffff, 16);
        if !(structure || active || custom) {
            return bits.bytes();
        }
        bits.put(u32::from(structure), 1).put(u32::from(active), 1);
        bits.put(0, 1).put(u32::from(custom), 1).put(0, 1);
        if structure {
            self.put_structure(&mut bits, &templates);
        }
        if active {
            let active = |target: &(u8, u8)| u32::from(target.0 < self.active);
            let targets: Vec<_> = self.targets().collect();
            // The lowest target is in the lowest bit.
            targets.iter().rev().for_each(|target| {
                bits.put(active(target), 1);
            });
        }
        if custom {
            for difference in differences {
                bits.put(2, 2).put(difference as u32 - 1, 8);
            }
            bits.put(0, 2);
        }
        bits.bytes()
    }

    fn put_structure(&self, bits: &mut Bits, templates: &[(u8, u8, bool, Vec<u64>)]) {
        let targets: Vec<(u8, u8)> = self.targets().collect();
        bits.put(u32::from(self.template_offset), 6).put(targets.len() as u32 - 1, 5);
        for (place, template) in templates.iter().enumerate() {
            bits.put(
                match templates.get(place + 1) {
                    None => 3,
                    Some(next) if next.0 != template.0 => 2,
                    Some(next) if next.1 != template.1 => 1,
                    Some(_) => 0,
                },
                2,
            );
        }
        for template in templates {
            for target in &targets {
                bits.put(self.indication((template.0, template.1), *target, template.2), 2);
            }
        }
        for template in templates {
            for difference in &template.3 {
                bits.put(1, 1).put(*difference as u32 - 1, 4);
            }
            bits.put(0, 1);
        }
        // No chains: ns(targets + 1) of 0. No resolutions.
        let width = u32::BITS - (targets.len() as u32 + 1).leading_zeros();
        bits.put(0, width - 1).put(0, 1);
    }
}

/// Bit writer, most significant bit first.
#[derive(Default)]
struct Bits {
    bits: Vec<bool>,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) -> &mut Self {
        self.bits.extend((0..count).rev().map(|place| value >> place & 1 != 0));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let byte = |chunk: &[bool]| {
            (0..8).fold(0, |byte, place| byte << 1 | u8::from(chunk.get(place) == Some(&true)))
        };
        self.bits.chunks(8).map(byte).collect()
    }
}
