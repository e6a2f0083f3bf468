//! SVC, a stream of several spatial layers. Each subscriber gets the layers that fit its tile, selected by the
//! dependency descriptor alone, and never a packet whose references it did not get.

mod harness;

use std::collections::BTreeSet;
use std::time::Duration;

use harness::World;
use harness::packets::ReceivedPacket;
use harness::scalable::{Frame, mode_of};
use sfu_protocol::{TrackDemand, TrackSid};
use str0m::format::Codec;

const NEAR: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);

fn tile(width: u32, height: u32) -> TrackDemand {
    TrackDemand { width, height, ..TrackDemand::default() }
}

/// Ana publishes; Ben and Cleo receive.
struct Call {
    world: World,
    video: TrackSid,
    ana: usize,
    ben: usize,
    cleo: usize,
}

impl Call {
    fn new(seed: u64, mode: &str, codec: Codec, encrypted: bool) -> Self {
        let mut world = World::new(seed, 2);
        let ana = world.join_raw("ana", 0, NEAR);
        let ben = world.join_raw("ben", 0, NEAR);
        let cleo = world.join_raw("cleo", 1, NEAR);
        let video = world.publish_scalable(ana, mode_of(mode), codec, encrypted);
        world.connect(ben);
        world.connect(cleo);
        world.run(4 * SECOND);
        Self { world, video, ana, ben, cleo }
    }

    fn packets(&self, who: usize, from: usize) -> Vec<(ReceivedPacket, Frame)> {
        let published = &self.world.clients[self.ana].raw_publishers[0].frames;
        let packets = self.world.clients[who].packets_of(&self.video);
        let frame = |packet: &ReceivedPacket| {
            published.iter().find(|frame| frame.number == packet.frame_number()).cloned().expect("published")
        };
        packets[from..].iter().map(|packet| ((*packet).clone(), frame(packet))).collect()
    }

    /// Packets that arrive in one second, after two seconds for the change to settle.
    fn settled(&mut self, who: usize, demand: TrackDemand) -> Vec<(ReceivedPacket, Frame)> {
        self.world.set_demand(who, &self.video, demand);
        self.world.run(2 * SECOND);
        let before = self.world.clients[who].packets_of(&self.video).len();
        self.world.run(SECOND);
        self.packets(who, before)
    }

    /// Checks the whole call: the references of every frame arrived too, sequence numbers have no gap, pictures end
    /// with a marker, and video does not freeze.
    fn assert_whole(&self, who: usize) {
        let packets = self.packets(who, 0);
        let mut got = BTreeSet::new();
        for (packet, frame) in &packets {
            let whole = frame.references.iter().all(|reference| got.contains(reference));
            assert!(whole, "{frame:?} came without what it builds on");
            got.insert(frame.number);
            let number = u16::from_be_bytes([packet.descriptor[1], packet.descriptor[2]]);
            let (first, first_frame) = &packets[0];
            let first_number = u16::from_be_bytes([first.descriptor[1], first.descriptor[2]]);
            let step = (frame.number - first_frame.number) as u16;
            assert_eq!(number, first_number.wrapping_add(step), "frame numbers as published");
        }
        for pair in packets.windows(2) {
            let ((before, earlier), (after, later)) = (&pair[0], &pair[1]);
            assert_eq!(after.sequence, before.sequence + 1, "no hole in the numbering");
            assert_eq!(
                before.marker,
                earlier.picture != later.picture,
                "{earlier:?} ends its picture: {later:?}"
            );
            assert!(after.at - before.at < Duration::from_millis(150), "no freeze");
        }
    }
}

fn layers_of(packets: &[(ReceivedPacket, Frame)]) -> BTreeSet<(u8, u8)> {
    packets.iter().map(|(_, frame)| (frame.spatial, frame.temporal)).collect()
}

fn top_of(packets: &[(ReceivedPacket, Frame)]) -> Option<u8> {
    packets.iter().map(|(_, frame)| frame.spatial).max()
}

fn bytes_of(packets: &[(ReceivedPacket, Frame)]) -> usize {
    packets.iter().map(|(packet, _)| packet.payload.len()).sum()
}

#[test]
fn a_change_of_tile_changes_the_spatial_layer_without_a_freeze_and_the_small_one_costs_less() {
    for (seed, mode) in [(70, "L3T3"), (71, "L3T3_KEY"), (72, "L2T2_KEY")] {
        for codec in [Codec::Av1, Codec::Vp9] {
            let mut call = Call::new(seed, mode, codec, false);
            let top = mode_of(mode).spatial - 1;
            for who in [call.ben, call.cleo] {
                let large = call.settled(who, tile(1280, 720));
                assert_eq!(top_of(&large), Some(top), "{mode}");
                let small = call.settled(who, tile(160, 90));
                assert_eq!(top_of(&small), Some(0), "{mode}");
                assert!(bytes_of(&small) * 2 < bytes_of(&large), "{mode}: a small tile costs less");
                let again = call.settled(who, tile(1280, 720));
                assert_eq!(top_of(&again), Some(top), "{mode}");
                call.assert_whole(who);
            }
        }
    }
}

#[test]
fn a_lower_frame_rate_leaves_out_temporal_layers() {
    for (seed, mode) in [(73, "L3T3"), (74, "L3T3_KEY"), (75, "L1T3")] {
        let mut call = Call::new(seed, mode, Codec::Av1, false);
        let ben = call.ben;
        for (fps, temporal, pictures) in
            [(7, 0, 7..9), (15, 1, 14..17), (0, 2, 29..32), (15, 1, 14..17), (60, 2, 29..32)]
        {
            let packets = call.settled(ben, TrackDemand { fps, ..TrackDemand::default() });
            let seen: BTreeSet<u64> = packets.iter().map(|(_, frame)| frame.picture).collect();
            assert!(pictures.contains(&seen.len()), "{mode}, {fps} a second: {}", seen.len());
            assert_eq!(
                layers_of(&packets).iter().map(|(_, temporal)| *temporal).max(),
                Some(temporal),
                "{mode}"
            );
        }
    }
}

#[test]
fn loss_and_changing_wishes_leave_nobody_without_a_picture() {
    for seed in 0..4 {
        let (mode, codec) =
            [("L3T3_KEY", Codec::Av1), ("L3T3", Codec::Av1), ("L3T3_KEY", Codec::Vp9), ("L1T3", Codec::Vp8)]
                [seed as usize % 4];
        let mut call = Call::new(100 + seed, mode, codec, false);
        for path in call.world.links.iter_mut().flat_map(|(up, down)| [up, down]) {
            path.loss = 0.1;
        }
        for (fps, width) in [(5, 1280), (30, 160), (5, 640), (30, 1280)] {
            for who in [call.ben, call.cleo] {
                call.settled(who, TrackDemand { fps, ..tile(width, width * 9 / 16) });
            }
        }
        for path in call.world.links.iter_mut().flat_map(|(up, down)| [up, down]) {
            path.loss = 0.0;
        }
        call.world.run(2 * SECOND);
        for who in [call.ben, call.cleo] {
            let packets = call.settled(who, tile(1280, 720));
            let top = mode_of(mode).spatial - 1;
            let pictures: BTreeSet<u64> = packets
                .iter()
                .filter(|(_, frame)| frame.spatial == top)
                .map(|(_, frame)| frame.picture)
                .collect();
            assert!((28..=32).contains(&pictures.len()), "{mode} {codec:?} seed {seed}: {}", pictures.len());
        }
    }
}

#[test]
fn vp8_pictures_that_are_left_out_leave_no_hole_in_their_ids() {
    let mut call = Call::new(80, "L1T3", Codec::Vp8, false);
    for who in [call.ben, call.cleo] {
        for (fps, pictures) in [(15, 14..17), (7, 7..9), (0, 29..32)] {
            let packets = call.settled(who, TrackDemand { fps, ..TrackDemand::default() });
            assert!(pictures.contains(&packets.len()), "{fps} a second: {}", packets.len());
        }
        let packets = call.packets(who, 0);
        let ids = |packet: &ReceivedPacket| {
            (u16::from_be_bytes([packet.payload[2], packet.payload[3]]) & 0x7fff, packet.payload[4])
        };
        for pair in packets.windows(2) {
            let ((before, _), (after, frame)) = (&pair[0], &pair[1]);
            let ((picture, base), (next, next_base)) = (ids(before), ids(after));
            assert_eq!(next, (picture + 1) & 0x7fff, "{frame:?}");
            assert_eq!(next_base, base.wrapping_add(u8::from(frame.temporal == 0)), "{frame:?}");
            assert_eq!(after.sequence, before.sequence + 1);
        }
    }
}

#[test]
fn encrypted_payloads_are_selected_by_the_header_extension_and_arrive_as_they_were() {
    for (seed, mode, codec) in [
        (76, "L3T3_KEY", Codec::Vp9),
        (77, "L3T3_KEY", Codec::Av1),
        (78, "L1T3", Codec::Vp8),
        (79, "L1T3", Codec::H264),
    ] {
        let mut call = Call::new(seed, mode, codec, true);
        let ben = call.ben;
        let demand = TrackDemand { fps: 15, ..tile(160, 90) };
        let packets = call.settled(ben, demand);
        assert!(packets.len() > 10, "{codec:?}");
        assert!(
            layers_of(&packets).iter().all(|layers| layers.0 == 0 && layers.1 <= 1),
            "{codec:?}: {packets:?}"
        );
        let large = call.settled(ben, tile(1280, 720));
        assert_eq!(top_of(&large), Some(mode_of(mode).spatial - 1), "{codec:?}");
        assert_eq!(layers_of(&large).iter().map(|layers| layers.1).max(), Some(2), "{codec:?}");
        for (packet, frame) in packets.iter().chain(&large) {
            // Bytes from the sixth on follow the payload descriptor and must be unchanged.
            let sent = call.world.clients[call.ana].raw_publishers[0].payload_of(frame);
            assert_eq!(packet.payload[6..], sent[6..], "{codec:?}");
        }
    }
}
