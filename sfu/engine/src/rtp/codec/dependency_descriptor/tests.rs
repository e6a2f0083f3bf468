use super::*;

/// Writes the bit format that `BitReader` reads, for descriptors that no encoder produced.
#[derive(Default)]
struct BitWriter {
    bits: Vec<bool>,
}

impl BitWriter {
    fn put(&mut self, value: u32, count: u32) -> &mut Self {
        self.bits.extend((0..count).rev().map(|place| value >> place & 1 != 0));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        self.bits
            .chunks(8)
            .map(|chunk| {
                chunk.iter().enumerate().fold(0, |byte, (place, bit)| byte | u8::from(*bit) << (7 - place))
            })
            .collect()
    }
}

/// Two temporal layers, two decode targets, one chain: the L1T2 of the specification's section A.10, template
/// offset 60, with its resolution.
fn l1t2(custom: u32) -> BitWriter {
    let mut bits = BitWriter::default();
    bits.put(0b10, 2).put(60, 6).put(100, 16);
    bits.put(0b10, 2).put(custom, 3);
    bits.put(60, 6).put(1, 5);
    // Templates: key frame (0,0), delta (0,0), temporal layer 1.
    bits.put(0, 2).put(1, 2).put(3, 2);
    for indication in [2, 2, 2, 2, 0, 1] {
        bits.put(indication, 2);
    }
    // Frame differences: none, 2, 1.
    bits.put(0, 1).put(1, 1).put(1, 4).put(0, 1).put(1, 1).put(0, 4).put(0, 1);
    // ns(3): one chain is 10; ns(1) takes no bits.
    bits.put(0b10, 2);
    bits.put(0, 4).put(2, 4).put(1, 4);
    bits.put(1, 1).put(639, 16).put(359, 16);
    bits
}

fn structure() -> Structure {
    Descriptor::parse(&l1t2(0).bytes(), None).unwrap().structure.unwrap()
}

#[test]
fn an_attached_structure_is_read_whole() {
    let descriptor = Descriptor::parse(&l1t2(0).bytes(), None).unwrap();
    assert!(descriptor.facts.frame_start && !descriptor.facts.frame_end && descriptor.facts.has_structure);
    assert_eq!(descriptor.active_decode_targets, Some(0b11));
    assert_eq!((descriptor.spatial, descriptor.temporal), (0, 0));
    assert!(descriptor.frame_differences.is_empty(), "a key frame");
    let structure = descriptor.structure.unwrap();
    assert_eq!((structure.templates.len(), structure.chains), (3, 1));
    assert_eq!(structure.templates[2].temporal, 1);
    assert_eq!(
        structure.decode_targets,
        [
            DecodeTarget { spatial: 0, temporal: 0, chain: Some(0) },
            DecodeTarget { spatial: 0, temporal: 1, chain: Some(0) },
        ]
    );
    assert_eq!(structure.resolutions.as_slice(), [Resolution { width: 640, height: 360 }]);
}

#[test]
fn a_later_frame_follows_its_template_across_the_wrap_of_ids() {
    let held = structure();
    let descriptor = Descriptor::parse(&[0xc0 | 62, 0x01, 0x02], Some(&held)).unwrap();
    assert_eq!((descriptor.facts.frame_number, descriptor.temporal), (0x0102, 1));
    assert_eq!(descriptor.indications.as_slice(), [Indication::NotPresent, Indication::Discardable]);
    assert_eq!(descriptor.frame_differences.as_slice(), [1]);
    assert_eq!(descriptor.chain_differences.as_slice(), [1]);
    assert!(descriptor.structure.is_none() && descriptor.active_decode_targets.is_none());
    let wrapped = Structure { template_id_offset: 63, ..held };
    assert_eq!(wrapped.template(1).unwrap().temporal, 1);
    assert_eq!(Descriptor::parse(&[2, 0, 0], Some(&wrapped)), Err(DescriptorError::UnknownTemplate(2)));
    assert_eq!(Descriptor::parse(&[62, 0, 0], None), Err(DescriptorError::NoStructure));
}

#[test]
fn custom_values_take_the_place_of_the_template() {
    let mut bits = BitWriter::default();
    bits.put(0b11, 2).put(61, 6).put(7, 16);
    bits.put(0b01, 2).put(0b111, 3).put(0b01, 2);
    bits.put(3, 2).put(1, 2);
    bits.put(1, 2).put(4, 4).put(3, 2).put(4095, 12).put(0, 2);
    bits.put(200, 8);
    let held = structure();
    let descriptor = Descriptor::parse(&bits.bytes(), Some(&held)).unwrap();
    assert_eq!(descriptor.active_decode_targets, Some(1));
    assert_eq!(descriptor.indications.as_slice(), [Indication::Required, Indication::Discardable]);
    assert_eq!(descriptor.frame_differences.as_slice(), [5, 4096]);
    assert_eq!(descriptor.chain_differences.as_slice(), [200]);
}

#[test]
fn a_descriptor_cut_anywhere_is_refused_and_the_peek_agrees() {
    let whole = l1t2(0).bytes();
    for len in 0..whole.len() {
        let cut = Descriptor::parse(&whole[..len], None);
        assert!(cut.is_err(), "{len}");
        assert_eq!(peek(&whole[..len]).is_err(), len < 3);
    }
    assert_eq!(peek(&whole).unwrap(), Descriptor::parse(&whole, None).unwrap().facts);
}

#[test]
fn more_templates_than_ids_are_refused() {
    let mut bits = BitWriter::default();
    bits.put(0x80, 8).put(0, 16).put(0b10000, 5).put(0, 11);
    bits.put(0, 32).put(0, 32).put(0, 32).put(0, 32);
    assert_eq!(Descriptor::parse(&bits.bytes(), None), Err(DescriptorError::TooMany("templates")));
    let mut bits = BitWriter::default();
    bits.put(0x80, 8).put(0, 16).put(0b10000, 5).put(0, 11).put(0x5555_5555, 32);
    assert_eq!(Descriptor::parse(&bits.bytes(), None), Err(DescriptorError::TooMany("temporal layers")));
}
