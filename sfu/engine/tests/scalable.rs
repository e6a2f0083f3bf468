//! Layer selection within one scalable stream, tested alone. Whatever the demand and the loss before the server, no
//! frame is sent that references a frame that was left out, and the wanted frames are sent.

mod harness;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use harness::scalable::{Encoder, Frame, MODES, Mode, Spatial, mode_of};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sfu_engine::egress::layer_select::{LayerSelect, Select, Target};
use sfu_engine::ingress::frames::FrameReader;
use sfu_engine::media_packet::{Arrangement, MediaPacket, TrackId};
use sfu_engine::rtp::codec::{self, Codec};
use sfu_engine::rtp::extension::EndToEndExtensions;
use sfu_engine::units::{ExtendedSequence, ExtendedTimestamp};
use sfu_protocol::{Layer, MediaKind};

/// Source of the information about a stream's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Dependency descriptors only; the payload is noise.
    Dependency,
    Vp9,
    Vp8,
}

/// A stream on its way through frame parsing and one subscriber's layer selection.
struct Path {
    mode: Mode,
    told: Told,
    reader: FrameReader,
    select: LayerSelect,
    now: Instant,
    /// Number of the frame at which the selection last switched.
    began: u64,
    sent: BTreeMap<u64, Frame>,
    marked: BTreeSet<u64>,
    /// Frames that arrived, in any order.
    arrived: BTreeMap<u64, Frame>,
}

impl Path {
    fn new(mode: Mode, told: Told) -> Self {
        let mut select = LayerSelect::new(MediaKind::Video);
        select.arrange(if mode.spatial > 1 { Arrangement::Spatial } else { Arrangement::Encodings });
        #[expect(clippy::disallowed_methods, reason = "virtual time starts from some moment")]
        let now = Instant::now();
        Self {
            mode,
            told,
            reader: FrameReader::default(),
            select,
            now,
            began: 0,
            sent: BTreeMap::new(),
            marked: BTreeSet::new(),
            arrived: BTreeMap::new(),
        }
    }

    fn packet(&mut self, frame: &Frame) -> MediaPacket {
        let (codec, payload, descriptor) = match self.told {
            Told::Dependency => (Codec::Av1, vec![0xff; 8], Some(frame.descriptor.clone())),
            Told::Vp9 => (Codec::Vp9, frame.vp9_payload(self.mode), None),
            Told::Vp8 => (Codec::Vp8, frame.vp8_payload(), None),
        };
        let mut facts = codec::facts(codec, &payload, descriptor.as_deref()).expect("readable");
        self.reader.read(codec, &mut facts, descriptor.as_deref(), self.told == Told::Dependency);
        MediaPacket {
            track: TrackId(1),
            layer: Layer(0),
            codec,
            sequence: ExtendedSequence::first(0).plus(frame.number),
            timestamp: ExtendedTimestamp(frame.picture * 3000),
            marker: frame.ends_picture,
            facts,
            extensions: EndToEndExtensions::default(),
            arrival: self.now,
            payload: Bytes::from(payload),
        }
    }

    /// Passes an arriving frame to the selection. Checks that every frame it references was sent or never arrived.
    fn take(&mut self, frame: &Frame, what: &str) {
        let before = self.select.current().zip(self.select.target());
        let packet = self.packet(frame);
        self.arrived.insert(frame.number, frame.clone());
        let selection = self.select.on_packet(&packet);
        if selection.select == Select::Switch {
            self.began = frame.number;
        }
        // Packets from before the switch have no sequence number in the subscriber's stream.
        if selection.select == Select::Skip || frame.number < self.began {
            return;
        }
        // A frame older than a key frame that was sent is not decoded, so its references do not matter.
        let key = self.sent.values().rev().find(|sent| sent.references.is_empty());
        let counts = key.is_none_or(|key| key.number < frame.number);
        for reference in frame.references.iter().filter(|_| counts) {
            let fine = self.sent.contains_key(reference) || !self.arrived.contains_key(reference);
            assert!(fine, "{what}: frame {} needs {reference}, which was left out; {before:?}", frame.number);
        }
        let layer = |at: Option<(Layer, Target)>| at.map(|(layer, _)| layer);
        if layer(before) < self.select.current() && self.mode.spatial > 1 {
            let closed = frame.references.iter().all(|reference| self.sent.contains_key(reference));
            assert!(closed, "{what}: up with frame {}, whose references never came", frame.number);
        }
        if selection.marker {
            self.marked.insert(frame.number);
        }
        self.sent.insert(frame.number, frame.clone());
        if selection.select == Select::Switch {
            // Frames after the switch that arrived before it follow from memory, since the first packet may arrive
            // last.
            let behind: Vec<Frame> =
                self.arrived.range(frame.number + 1..).map(|(_, frame)| frame.clone()).collect();
            behind.iter().for_each(|frame| self.take(frame, what));
        }
    }

    /// Whether a subscriber with that target should get the frame.
    fn expects(&self, frame: &Frame, target: Target) -> bool {
        let top = target.layer.0.min(self.mode.spatial - 1);
        let spatial = match self.mode.inter_layer {
            Spatial::KeyOnly if !frame.key => frame.spatial == top,
            _ => frame.spatial <= top,
        };
        (spatial || self.mode.spatial == 1) && frame.temporal <= target.temporal
    }
}

fn target(layer: u8, temporal: u8) -> Target {
    Target { layer: Layer(layer), temporal }
}

fn cases() -> impl Iterator<Item = (Mode, Told)> {
    MODES.into_iter().flat_map(|mode| {
        let vp8 = (mode.spatial == 1).then_some((mode, Told::Vp8));
        [(mode, Told::Dependency), (mode, Told::Vp9)].into_iter().chain(vp8)
    })
}

#[test]
fn every_target_of_every_mode_is_reached_and_is_all_that_comes() {
    for (mode, told) in cases() {
        for from in 0..mode.spatial * mode.temporal {
            for to in 0..mode.spatial * mode.temporal {
                let what = format!("{} {told:?} {from} to {to}", mode.name);
                let targets = [from, to].map(|at| target(at / mode.temporal, at % mode.temporal));
                let mut encoder = Encoder::new(mode, 65_000);
                let mut path = Path::new(mode, told);
                for wanted in targets {
                    path.select.aim(Some(wanted));
                    run(&mut path, &mut encoder, 24, &what);
                    assert!(path.select.is_settled(), "{what}: {:?}", path.select);
                    let pictures: Vec<Frame> = (0..8).flat_map(|_| encoder.picture()).collect();
                    pictures.iter().for_each(|frame| path.take(frame, &what));
                    for frame in &pictures {
                        let expected = path.expects(frame, wanted);
                        assert_eq!(path.sent.contains_key(&frame.number), expected, "{what}: {frame:?}");
                    }
                    assert_marked(&path, &pictures, &what);
                }
            }
        }
    }
}

/// Checks that the last frame sent of each picture has the marker, and no other frame.
fn assert_marked(path: &Path, pictures: &[Frame], what: &str) {
    let sent: Vec<&Frame> = pictures.iter().filter(|frame| path.sent.contains_key(&frame.number)).collect();
    for (place, frame) in sent.iter().enumerate() {
        let last = sent.get(place + 1).is_none_or(|next| next.picture != frame.picture);
        assert_eq!(path.marked.contains(&frame.number), last, "{what}: {frame:?}");
    }
}

/// Runs pictures without loss. A requested key frame is the second picture after the request.
fn run(path: &mut Path, encoder: &mut Encoder, pictures: u32, what: &str) {
    let mut asked = 0;
    for _ in 0..pictures {
        for frame in encoder.picture() {
            path.take(&frame, what);
        }
        asked = if path.select.wants_key_frame().is_some() { asked + 1 } else { 0 };
        if asked == 2 {
            encoder.want_key();
        }
    }
}

#[test]
fn fewer_temporal_layers_and_lower_spatial_ones_where_they_are_sent_anyway_need_no_key_frame() {
    for (mode, from, to, needs_key) in [
        ("L1T3", target(0, 2), target(0, 0), false),
        ("L1T3", target(0, 0), target(0, 2), false),
        ("L3T3", target(2, 2), target(0, 2), false),
        ("L3T3", target(2, 2), target(1, 1), false),
        ("L3T3", target(1, 0), target(1, 2), false),
        ("L3T3", target(0, 2), target(2, 2), true),
        ("L3T3_KEY", target(2, 2), target(2, 0), false),
        ("L3T3_KEY", target(2, 2), target(1, 2), true),
        ("L3T3_KEY", target(0, 2), target(2, 2), true),
    ] {
        let mode = mode_of(mode);
        let mut encoder = Encoder::new(mode, 7);
        let mut path = Path::new(mode, Told::Dependency);
        path.select.aim(Some(from));
        run(&mut path, &mut encoder, 9, mode.name);
        path.select.aim(Some(to));
        let mut asked = false;
        for _ in 0..6 {
            for frame in encoder.picture() {
                path.take(&frame, mode.name);
                asked |= path.select.wants_key_frame().is_some();
            }
        }
        assert_eq!(
            (asked, path.select.is_settled()),
            (needs_key, !needs_key),
            "{} {from:?} {to:?}",
            mode.name
        );
        let flows = path.sent.keys().next_back();
        assert!(flows.is_some_and(|newest| newest + 12 > 7 + 15 * u64::from(mode.spatial)), "no freeze");
    }
}

#[test]
fn a_sender_that_stops_its_upper_layers_leaves_nobody_without_a_picture() {
    for name in ["L2T2", "L2T2_KEY", "L3T3", "L3T3_KEY"] {
        for told in [Told::Dependency, Told::Vp9] {
            let what = format!("{name} {told:?}");
            let mode = mode_of(name);
            let mut encoder = Encoder::new(mode, 0);
            let mut path = Path::new(mode, told);
            let top = mode.spatial - 1;
            path.select.aim(Some(Target::whole(Layer(top))));
            run(&mut path, &mut encoder, 10, &what);
            encoder.set_active(top);
            run(&mut path, &mut encoder, 14, &what);
            let frames: Vec<Frame> = (0..8).flat_map(|_| encoder.picture()).collect();
            frames.iter().for_each(|frame| path.take(frame, &what));
            let sent = frames.iter().filter(|frame| path.sent.contains_key(&frame.number));
            assert_eq!(
                sent.filter(|frame| frame.spatial + 1 == top).count(),
                8,
                "{what}: all of the next layer"
            );
            assert_marked(&path, &frames, &what);
            encoder.set_active(mode.spatial);
            run(&mut path, &mut encoder, 14, &what);
            let newest = path.sent.values().next_back().map(|frame| frame.spatial);
            assert_eq!(newest, Some(top), "{what}: back");
        }
    }
}

#[test]
fn nothing_is_sent_that_builds_on_what_was_left_out_whatever_is_wanted_and_lost() {
    for (mode, told) in cases() {
        for seed in 0..24_u64 {
            let loss = [0.0, 0.02, 0.1][(seed % 3) as usize];
            let what = format!("{} {told:?} seed {seed}", mode.name);
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut encoder = Encoder::new(mode, rng.random_range(0..70_000));
            let mut path = Path::new(mode, told);
            let mut late: VecDeque<(u32, Frame)> = VecDeque::new();
            path.select.aim(Some(Target::whole(Layer(mode.spatial - 1))));
            let mut stuck = 0;
            for picture in 0..300_u32 {
                if rng.random_bool(0.06) {
                    let wanted =
                        target(rng.random_range(0..mode.spatial), rng.random_range(0..mode.temporal));
                    path.select.aim((!rng.random_bool(0.05)).then_some(wanted));
                }
                // VP9's payload descriptor states the number of layers in one packet only, which may be lost.
                if mode.spatial > 1 && (told == Told::Dependency || loss == 0.0) && rng.random_bool(0.01) {
                    encoder.set_active(rng.random_range(1..=mode.spatial));
                }
                for frame in encoder.picture() {
                    if picture > 0 && rng.random_bool(loss) {
                        // Half of the lost packets are retransmitted and arrive late.
                        if rng.random_bool(0.5) {
                            late.push_back((picture + rng.random_range(0..6), frame));
                        }
                        continue;
                    }
                    path.take(&frame, &what);
                }
                let due: Vec<Frame> =
                    late.iter().filter(|(at, _)| *at <= picture).map(|(_, frame)| frame.clone()).collect();
                late.retain(|(at, _)| *at > picture);
                due.iter().for_each(|frame| path.take(frame, &what));
                stuck = if path.select.wants_key_frame().is_some() { stuck + 1 } else { 0 };
                if stuck == 4 || loss > 0.0 && rng.random_bool(0.02) {
                    stuck = 0;
                    encoder.want_key();
                }
            }
            path.select.aim(Some(Target::whole(Layer(mode.spatial - 1))));
            encoder.set_active(mode.spatial);
            encoder.want_key();
            run(&mut path, &mut encoder, 24, &what);
            assert!(path.select.is_settled(), "{what}: {:?}", path.select);
        }
    }
}
