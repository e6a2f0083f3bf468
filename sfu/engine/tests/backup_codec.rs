//! A track in two codecs. Each subscriber gets a codec that it can decode. The publisher is asked for the second codec
//! only while a subscriber needs it. Everybody sees a single track.

mod harness;

use std::collections::BTreeSet;
use std::time::Duration;

use harness::World;
use harness::packets::ReceivedPacket;
use harness::raw::announced;
use harness::scalable::mode_of;
use sfu_engine::limits::Limits;
use sfu_protocol::{
    BackupPolicy, Command, Event, LayerQuality, MediaKind, SubscriptionFailure, TrackDemand, TrackPart,
    TrackSid,
};
use str0m::format::Codec;

const NEAR: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);

const NO_VP9: &[&str] = &["VP9/90000"];
const NEITHER: &[&str] = &["VP9/90000", "VP8/90000"];

const HIGH: Option<LayerQuality> = Some(LayerQuality::High);

/// Ana publishes VP9 and offers VP8 as a backup. Ben decodes both; Cleo's browser has no VP9.
struct Call {
    world: World,
    video: TrackSid,
    ana: usize,
    ben: usize,
    cleo: usize,
}

impl Call {
    /// Starts the call with Cleo on shard `cleos_shard` of two; Ana and Ben are on the first.
    fn new(seed: u64, cleos_shard: usize, policy: BackupPolicy) -> Self {
        let mut world = World::new(seed, 2);
        let ana = world.join_raw("ana", 0, NEAR);
        let ben = world.join_raw("ben", 0, NEAR);
        let cleo = world.join_raw("cleo", cleos_shard, NEAR);
        world.clients[cleo].offers_without = NO_VP9;
        let video = world.publish_promising(ana, mode_of("L3T3_KEY"), Codec::Vp9, &["vp8"], policy);
        world.connect(ben);
        world.connect(cleo);
        world.run(3 * SECOND);
        Self { world, video, ana, ben, cleo }
    }

    /// Like [`new`](Self::new), and Ana publishes the backup. Returns the sid of the backup too.
    fn with_backup(seed: u64, cleos_shard: usize, policy: BackupPolicy) -> (Self, TrackSid) {
        let mut call = Self::new(seed, cleos_shard, policy);
        let backup = call.publish_backup();
        call.world.run(2 * SECOND);
        (call, backup)
    }

    fn publish_backup(&mut self) -> TrackSid {
        self.world.publish_backup(self.ana, &self.video, mode_of("L1T3"), Codec::Vp8)
    }

    /// Lets Dan join on `shard`, with a browser whose offers lack the lines in `without`.
    fn join_dan(&mut self, shard: usize, without: &'static [&'static str]) -> usize {
        let dan = self.world.join_raw("dan", shard, NEAR);
        self.world.clients[dan].offers_without = without;
        self.world.connect(dan);
        self.world.run(2 * SECOND);
        dan
    }

    fn wanted(&self) -> Option<Vec<(String, Option<LayerQuality>)>> {
        wanted(&self.world, &self.video)
    }

    /// Codecs of the packets that a client gets in the next second.
    fn codecs(&mut self, who: usize) -> BTreeSet<String> {
        let before = self.packets(who).len();
        self.world.run(SECOND);
        self.packets(who)[before..].iter().map(|packet| packet.codec.to_string()).collect()
    }

    fn packets(&self, who: usize) -> Vec<ReceivedPacket> {
        self.world.clients[who].packets_of(&self.video).into_iter().cloned().collect()
    }

    fn subscribe(&mut self, who: usize) {
        let [subscriber, publisher] = [who, self.ana].map(|who| self.world.clients[who].participant.clone());
        self.world.subscribe(&subscriber, &publisher, &self.video.clone(), MediaKind::Video);
    }

    /// Sids reported as unpublished or as failed publications, since event number `since`.
    fn refused(&self, since: usize) -> Vec<TrackSid> {
        let events = self.world.events[since..].iter();
        let refused = events.filter_map(|(_, event)| match event {
            Event::TrackUnpublished { track, .. } | Event::PublicationFailed { track, .. } => {
                Some(track.clone())
            }
            _ => None,
        });
        refused.collect()
    }

    fn announce_backup(&mut self, name: &str) {
        let backup = announced(name, MediaKind::Video, "vp8");
        let part = TrackPart::Backup { of: self.video.clone() };
        let participant = self.world.clients[self.ana].participant.clone();
        let track = Box::new(sfu_protocol::AddTrack { part, ..backup });
        self.world.command(0, Command::AddTrack { participant, track });
    }

    fn failures(&self) -> Vec<(String, SubscriptionFailure)> {
        let failed = self.world.events.iter().filter_map(|(_, event)| match event {
            Event::SubscriptionFailed { participant, track, reason } if *track == self.video => {
                Some((participant.to_string(), *reason))
            }
            _ => None,
        });
        failed.collect()
    }

    /// Checks the packets that arrived in one codec: sequence numbers have no gap, and video does not freeze.
    fn assert_whole(&self, who: usize, codec: Codec) {
        let packets = self.packets(who);
        let of_codec: Vec<_> = packets.iter().filter(|packet| packet.codec == codec).collect();
        assert!(of_codec.len() > 30, "{codec} flows");
        for pair in of_codec.windows(2) {
            assert_eq!(pair[1].sequence, pair[0].sequence + 1, "no hole in the numbering");
            assert!(pair[1].at - pair[0].at < Duration::from_millis(150), "no freeze");
        }
    }
}

/// Codecs and qualities that the publisher was last asked for.
fn wanted(world: &World, video: &TrackSid) -> Option<Vec<(String, Option<LayerQuality>)>> {
    world.events.iter().rev().find_map(|(_, event)| match event {
        Event::SubscribedQuality { track, codecs, .. } if track == video => {
            Some(codecs.iter().map(|codec| (codec.mime_type.clone(), codec.highest)).collect())
        }
        _ => None,
    })
}

fn both(vp9: Option<LayerQuality>, vp8: Option<LayerQuality>) -> Option<Vec<(String, Option<LayerQuality>)>> {
    Some(vec![("video/vp9".to_owned(), vp9), ("video/vp8".to_owned(), vp8)])
}

fn only(codec: &str) -> BTreeSet<String> {
    BTreeSet::from([codec.to_owned()])
}

/// Ana publishes AV1 and offers VP9 as a backup. Ben's browser has no AV1.
fn promised_vp9(seed: u64, bens_shard: usize) -> (World, usize, usize, TrackSid) {
    let mut world = World::new(seed, 2);
    let ana = world.join_raw("ana", 0, NEAR);
    let ben = world.join_raw("ben", bens_shard, NEAR);
    world.clients[ben].offers_without = &["AV1/90000"];
    let policy = BackupPolicy::SideBySide;
    let video = world.publish_promising(ana, mode_of("L1T3"), Codec::Av1, &["vp9"], policy);
    world.connect(ben);
    world.run(2 * SECOND);
    (world, ana, ben, video)
}

#[test]
fn who_cannot_decode_the_first_codec_makes_its_publisher_want_the_second() {
    for (seed, shard) in [(1, 0), (2, 1)] {
        let mut call = Call::new(seed, shard, BackupPolicy::SideBySide);
        assert_eq!(call.wanted(), both(HIGH, HIGH), "shard {shard}");
        assert_eq!(call.failures(), [], "what is not there yet is no error");
        assert_eq!(call.codecs(call.ben), only("VP9"));
        assert_eq!(call.codecs(call.cleo), BTreeSet::new());
        let paused = |event: &Event| matches!(event, Event::StreamState { .. });
        assert!(!call.world.events.iter().any(|(_, event)| paused(event)), "nor is it paused");
    }
}

#[test]
fn each_subscriber_gets_the_codec_that_it_can_decode() {
    for (seed, shard) in [(3, 0), (4, 1)] {
        let (mut call, _) = Call::with_backup(seed, shard, BackupPolicy::SideBySide);
        assert_eq!(call.codecs(call.ben), only("VP9"), "shard {shard}");
        assert_eq!(call.codecs(call.cleo), only("VP8"), "shard {shard}");
        call.assert_whole(call.ben, Codec::Vp9);
        call.assert_whole(call.cleo, Codec::Vp8);
        assert_eq!(call.wanted(), both(HIGH, HIGH));
        assert_eq!(call.failures(), []);
        let told =
            |event: &Event| matches!(event, Event::TrackSubscribed { track, .. } if *track == call.video);
        assert_eq!(call.world.events.iter().filter(|(_, event)| told(event)).count(), 1, "one track");
    }
}

#[test]
fn a_codec_that_nobody_needs_any_more_is_wanted_no_longer() {
    for (seed, shard) in [(5, 0), (6, 1)] {
        let (mut call, _) = Call::with_backup(seed, shard, BackupPolicy::SideBySide);
        call.world.leave(call.cleo);
        call.world.run(SECOND);
        assert_eq!(call.wanted(), both(HIGH, None), "shard {shard}");
        assert_eq!(call.codecs(call.ben), only("VP9"));
        call.world.leave(call.ben);
        call.world.run(SECOND);
        assert_eq!(call.wanted(), both(None, None), "shard {shard}");
    }
}

#[test]
fn key_frames_are_asked_of_the_codec_that_needs_one() {
    for (seed, shard) in [(7, 0), (8, 1)] {
        let (mut call, _) = Call::with_backup(seed, shard, BackupPolicy::SideBySide);
        // Until this time, requests would be answered from the packet memory.
        call.world.run(4 * SECOND);
        let keys = |call: &Call, place: usize| {
            let published = &call.world.clients[call.ana].raw_publishers[place].frames;
            published.iter().filter(|frame| frame.references.is_empty()).count()
        };
        let before = [0, 1].map(|place| keys(&call, place));
        call.world.ask_for_picture(call.cleo, &call.video);
        call.world.run(SECOND);
        assert_eq!([0, 1].map(|place| keys(&call, place) - before[place]), [0, 1], "shard {shard}");
        call.world.ask_for_picture(call.ben, &call.video);
        call.world.run(2 * SECOND);
        assert_eq!([0, 1].map(|place| keys(&call, place) - before[place]), [1, 1], "shard {shard}");
    }
}

#[test]
fn who_takes_other_codecs_than_before_gets_another() {
    for (seed, shard) in [(22, 0), (23, 1)] {
        let (mut call, _) = Call::with_backup(seed, 0, BackupPolicy::SideBySide);
        let dan = call.world.join_raw("dan", shard, NEAR);
        for (without, expected) in [(&[][..], "VP9"), (NO_VP9, "VP8"), (&[][..], "VP9")] {
            call.world.clients[dan].offers_without = without;
            call.world.connect(dan);
            call.world.run(2 * SECOND);
            assert_eq!(call.codecs(dan), only(expected), "shard {shard}");
        }
        let packets = call.packets(dan);
        assert!(packets.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1), "one stream");
        assert_eq!(call.codecs(call.ben), only("VP9"));
    }
}

#[test]
fn who_comes_later_finds_the_second_codec_flowing() {
    for (seed, shard) in [(9, 0), (10, 1)] {
        let (mut call, _) = Call::with_backup(seed, 0, BackupPolicy::SideBySide);
        let dan = call.join_dan(shard, NO_VP9);
        assert_eq!(call.codecs(dan), only("VP8"), "shard {shard}");
        assert_eq!(call.codecs(call.cleo), only("VP8"));
        call.assert_whole(dan, Codec::Vp8);
    }
}

#[test]
fn who_can_decode_neither_is_told_so_and_nobody_else_loses_anything() {
    for (seed, shard) in [(11, 0), (12, 1)] {
        let (mut call, _) = Call::with_backup(seed, 0, BackupPolicy::SideBySide);
        let dan = call.join_dan(shard, NEITHER);
        assert_eq!(call.failures(), [("PA_dan".to_owned(), SubscriptionFailure::CodecUnsupported)]);
        assert_eq!(call.codecs(dan), BTreeSet::new());
        assert_eq!(call.codecs(call.ben), only("VP9"));
        assert_eq!(call.codecs(call.cleo), only("VP8"));
        call.assert_whole(call.ben, Codec::Vp9);
        call.assert_whole(call.cleo, Codec::Vp8);
    }
}

#[test]
fn who_failed_and_asks_again_gets_the_track_or_is_told_again() {
    for (seed, shard) in [(26, 0), (27, 1)] {
        let (mut call, _) = Call::with_backup(seed, 0, BackupPolicy::SideBySide);
        let dan = call.join_dan(shard, NEITHER);
        assert_eq!(call.failures().len(), 1, "shard {shard}");
        call.subscribe(dan);
        call.world.run(2 * SECOND);
        assert_eq!(call.failures().len(), 2, "nothing has changed, shard {shard}");
        call.world.clients[dan].offers_without = NO_VP9;
        call.subscribe(dan);
        call.world.run(2 * SECOND);
        assert_eq!(call.failures().len(), 2, "shard {shard}");
        assert_eq!(call.codecs(dan), only("VP8"), "shard {shard}");
        // Subscribing again to a track that flows does not interrupt it.
        call.subscribe(dan);
        call.world.run(2 * SECOND);
        call.assert_whole(dan, Codec::Vp8);
    }
}

#[test]
fn who_failed_with_a_section_may_ask_again() {
    for (seed, shard) in [(28, 0), (29, 1)] {
        let mut world = World::new(seed, 2);
        world.auto_subscribe = false;
        let ana = world.join_raw("ana", 0, NEAR);
        let dan = world.join_raw("dan", shard, NEAR);
        world.clients[dan].offers_without = NO_VP9;
        world.connect(dan);
        world.run(SECOND);
        // A section is negotiated before the codec of the track is known.
        let mut call = Call { world, video: TrackSid::new("TR_1"), ana, ben: dan, cleo: dan };
        call.subscribe(dan);
        call.world.run(SECOND);
        call.world.publish_scalable(ana, mode_of("L1T3"), Codec::Vp9, false);
        call.world.run(2 * SECOND);
        assert_eq!(call.failures().len(), 1, "shard {shard}");
        call.subscribe(dan);
        call.world.run(2 * SECOND);
        assert_eq!(call.failures().len(), 2, "told again, shard {shard}");
        // The section whose subscription failed is reused for another track.
        call.video = call.world.publish_scalable(ana, mode_of("L1T3"), Codec::Vp8, false);
        call.world.run(SECOND);
        call.subscribe(dan);
        call.world.run(2 * SECOND);
        assert_eq!((call.failures().len(), call.codecs(dan)), (0, only("VP8")), "shard {shard}");
    }
}

#[test]
fn backups_announced_of_a_track_that_has_ended_are_refused_and_take_no_room() {
    let mut call = Call::new(30, 1, BackupPolicy::SideBySide);
    let video = call.video.clone();
    call.world.stop_publishing(call.ana, &video);
    let names: Vec<String> = (0..2 * Limits::default().pending_tracks).map(|n| format!("TR_b{n}")).collect();
    let before = call.world.events.len();
    names.iter().for_each(|name| call.announce_backup(name));
    let told: Vec<String> = call.refused(before).iter().map(ToString::to_string).collect();
    assert_eq!(told, names);
    let again = call.world.publish_scalable(call.ana, mode_of("L1T3"), Codec::Vp8, false);
    call.world.run(2 * SECOND);
    assert!(!call.world.clients[call.cleo].packets_of(&again).is_empty(), "the next one finds room");
}

#[test]
fn an_announcement_that_finds_no_room_is_refused_by_name() {
    let mut call = Call::new(31, 0, BackupPolicy::SideBySide);
    let most = Limits::default().pending_tracks;
    let before = call.world.events.len();
    (0..most).for_each(|number| call.announce_backup(&format!("TR_b{number}")));
    assert_eq!(call.refused(before), [], "their sections may come");
    call.announce_backup("TR_last");
    assert_eq!(call.refused(before), [TrackSid::new("TR_last")]);
}

#[test]
fn what_is_wanted_is_told_anew_when_a_backup_has_another_number_of_layers() {
    for (seed, shard) in [(32, 0), (33, 1)] {
        let (mut world, ana, ben, video) = promised_vp9(seed, shard);
        world.set_demand(ben, &video, TrackDemand { width: 160, height: 90, ..TrackDemand::default() });
        let of_vp9 = |world: &World| wanted(world, &video).and_then(|codecs| codecs.last()?.1);
        assert_eq!(of_vp9(&world), HIGH, "the only layer there is, shard {shard}");
        world.publish_backup(ana, &video, mode_of("L3T3_KEY"), Codec::Vp9);
        world.run(SECOND);
        assert_eq!(of_vp9(&world), Some(LayerQuality::Low), "the lowest of three, shard {shard}");
    }
}

#[test]
fn a_second_codec_that_ends_can_be_published_again() {
    for (seed, shard) in [(13, 0), (14, 1)] {
        let (mut call, backup) = Call::with_backup(seed, shard, BackupPolicy::SideBySide);
        call.world.stop_publishing(call.ana, &backup);
        call.world.run(SECOND);
        let ended = |(_, event): &(_, Event)| match event {
            Event::TrackUnpublished { track, .. } => Some(track.clone()),
            _ => None,
        };
        let ended: Vec<TrackSid> = call.world.events.iter().filter_map(ended).collect();
        assert_eq!(ended, [backup], "the track goes on");
        assert_eq!(call.codecs(call.cleo), BTreeSet::new());
        assert_eq!(call.codecs(call.ben), only("VP9"));
        assert_eq!(call.wanted(), both(HIGH, HIGH), "it is still needed");
        call.publish_backup();
        call.world.run(2 * SECOND);
        assert_eq!(call.codecs(call.cleo), only("VP8"), "shard {shard}");
        let packets = call.packets(call.cleo);
        let gaps = packets.windows(2).filter(|pair| pair[1].sequence != pair[0].sequence + 1).count();
        assert_eq!(gaps, 0, "one stream to its receiver");
        assert_eq!(call.codecs(call.ben), only("VP9"));
        call.assert_whole(call.ben, Codec::Vp9);
    }
}

#[test]
fn a_track_ends_with_all_its_codecs() {
    for (seed, shard) in [(15, 0), (16, 1)] {
        let (mut call, backup) = Call::with_backup(seed, shard, BackupPolicy::SideBySide);
        let video = call.video.clone();
        call.world.stop_publishing(call.ana, &video);
        call.world.run(SECOND);
        assert_eq!(call.codecs(call.ben), BTreeSet::new());
        assert_eq!(call.codecs(call.cleo), BTreeSet::new());
        let stats = call.world.shards[0].stats();
        assert_eq!((stats.tracks_video, stats.subscriptions), (0, 0), "shard {shard}");
        assert_eq!(call.world.shards[1].stats().subscriptions, 0);
        // The sid of the backup can be used again, and the section that still sends does no harm.
        let ended =
            |event: &Event| matches!(event, Event::TrackUnpublished { track, .. } if *track == backup);
        assert!(!call.world.events.iter().any(|(_, event)| ended(event)), "it went with its track");
        call.world.stop_publishing(call.ana, &backup);
        call.world.run(SECOND);
        let again = call.world.publish_scalable(call.ana, mode_of("L1T3"), Codec::Vp8, false);
        call.world.run(2 * SECOND);
        assert!(!call.world.clients[call.cleo].packets_of(&again).is_empty(), "shard {shard}");
    }
}

#[test]
fn muting_silences_every_codec() {
    for (seed, shard) in [(17, 0), (18, 1)] {
        let (mut call, _) = Call::with_backup(seed, shard, BackupPolicy::SideBySide);
        for muted in [true, false] {
            let participant = call.world.clients[call.ana].participant.clone();
            call.world.command(0, Command::SetMuted { participant, track: call.video.clone(), muted });
            call.world.run(2 * SECOND);
            let expected = |codec| if muted { BTreeSet::new() } else { only(codec) };
            assert_eq!(call.codecs(call.ben), expected("VP9"), "shard {shard}");
            assert_eq!(call.codecs(call.cleo), expected("VP8"), "shard {shard}");
        }
    }
}

#[test]
fn a_backup_may_take_the_place_of_the_first_codec() {
    for (seed, shard) in [(19, 0), (20, 1)] {
        let mut call = Call::new(seed, shard, BackupPolicy::Instead);
        let dan = call.world.join_raw("dan", shard, NEAR);
        call.world.connect(dan);
        call.world.run(2 * SECOND);
        assert_eq!(call.wanted(), both(HIGH, HIGH), "shard {shard}");
        assert_eq!(call.codecs(dan), only("VP9"));
        // The encoder of the backup takes a while to begin; until then no subscriber's video freezes.
        call.world.encoders_take = 2 * SECOND;
        let backup = call.publish_backup();
        call.world.run(SECOND);
        assert_eq!(call.codecs(dan), only("VP9"), "shard {shard}");
        call.world.run(2 * SECOND);
        for who in [call.ben, call.cleo, dan] {
            assert_eq!(call.codecs(who), only("VP8"), "shard {shard}");
        }
        assert_eq!(call.wanted(), both(None, HIGH), "shard {shard}");
        for who in [call.ben, dan] {
            let packets = call.packets(who);
            for pair in packets.windows(2) {
                assert_eq!(pair[1].sequence, pair[0].sequence + 1, "one stream to its receiver");
                assert!(pair[1].timestamp >= pair[0].timestamp, "time goes on");
                assert!(pair[1].timestamp - pair[0].timestamp < 90_000, "and does not leap");
                assert!(pair[1].at - pair[0].at < Duration::from_millis(150), "no freeze");
            }
        }
        call.world.stop_publishing(call.ana, &backup);
        call.world.run(2 * SECOND);
        assert_eq!(call.codecs(call.ben), only("VP9"), "back, shard {shard}");
        assert_eq!(call.codecs(dan), only("VP9"));
        assert_eq!(call.codecs(call.cleo), BTreeSet::new());
    }
}

#[test]
fn sections_that_no_track_promises_are_refused_and_cost_nobody_anything() {
    let (mut call, _) = Call::with_backup(21, 1, BackupPolicy::SideBySide);
    let ben_video = call.world.publish_scalable(call.ben, mode_of("L1T3"), Codec::Vp8, false);
    call.world.run(SECOND);
    let unknown = TrackSid::new("TR_unknown");
    // An unknown track; another participant's track; a track without backups; a codec that was not offered as a backup;
    // one that is published already.
    let cases = [
        (&unknown, Codec::Vp8),
        (&ben_video, Codec::Vp8),
        (&call.video, Codec::H264),
        (&call.video, Codec::Vp8),
    ];
    for (of, codec) in cases {
        let before = call.world.events.len();
        let refused = call.world.publish_backup(call.ana, of, mode_of("L1T3"), codec);
        call.world.run(SECOND);
        let told: Vec<&Event> = call.world.events[before..]
            .iter()
            .map(|(_, event)| event)
            .filter(|event| match event {
                Event::TrackPublished { track, .. } => track.track == refused,
                Event::TrackUnpublished { track, .. } => *track == refused,
                _ => false,
            })
            .collect();
        assert!(matches!(told[..], [Event::TrackUnpublished { .. }]), "{of:?} {codec:?}: {told:?}");
    }
    let own = call.world.publish_backup(call.ben, &ben_video, mode_of("L1T3"), Codec::Vp8);
    call.world.run(SECOND);
    let refused = |event: &Event| matches!(event, Event::TrackUnpublished { track, .. } if *track == own);
    assert!(call.world.events.iter().any(|(_, event)| refused(event)), "it promised nothing");
    assert_eq!(call.codecs(call.ben), only("VP9"));
    assert_eq!(call.codecs(call.cleo), only("VP8"));
    call.assert_whole(call.ben, Codec::Vp9);
    call.assert_whole(call.cleo, Codec::Vp8);
}

#[test]
fn a_backup_may_have_other_layers_than_were_promised() {
    for (seed, shard) in [(24, 0), (25, 1)] {
        let (mut world, ana, ben, video) = promised_vp9(seed, shard);
        world.publish_backup(ana, &video, mode_of("L3T3_KEY"), Codec::Vp9);
        world.run(4 * SECOND);
        for (width, height, top) in [(1280, 720, 2), (160, 90, 0), (1280, 720, 2)] {
            world.set_demand(ben, &video, TrackDemand { width, height, ..TrackDemand::default() });
            world.run(2 * SECOND);
            let before = world.clients[ben].packets_of(&video).len();
            world.run(SECOND);
            let published = &world.clients[ana].raw_publishers[1].frames;
            let packets = world.clients[ben].packets_of(&video);
            let numbers: BTreeSet<u64> =
                packets[before..].iter().map(|packet| packet.frame_number()).collect();
            let frames = published.iter().filter(|frame| numbers.contains(&frame.number));
            assert_eq!(frames.map(|frame| frame.spatial).max(), Some(top), "shard {shard}, {width} pixels");
        }
    }
}
