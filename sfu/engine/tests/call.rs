//! Two and three participants in one room: video, audio, messages, joining and leaving.

mod harness;

use std::time::Duration;

use harness::World;
use sfu_engine::media_packet::TrackId;
use sfu_engine::shard::{FabricMessage, Input, ShardId};
use sfu_engine::stats::Drop;
use sfu_protocol::{
    Command, Event, Layer, LeaveReason, MediaKind, Permissions, RosterChange, TrackDemand, TrackSid,
};

const NEAR: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn two_people_see_and_hear_each_other() {
    let mut world = World::new(1, 1);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 0, NEAR);
    let video = world.publish_video(ana, &[("", 4000)]);
    let audio = world.publish_audio(ben);
    world.run(Duration::from_secs(5));
    let frames = world.clients[ben].frames_of(&video);
    assert!(frames.len() > 120, "{} frames in 5 s", frames.len());
    assert!(frames[0].key && frames.iter().all(|frame| frame.intact));
    let sound = world.clients[ana].frames_of(&audio);
    assert!(sound.len() > 200, "{} packets of sound in 5 s", sound.len());
    assert!(sound.iter().all(|frame| frame.intact));
}

#[test]
fn a_message_reaches_the_others_with_its_true_sender() {
    use livekit_protocol::{DataPacket, UserPacket, data_packet};
    use prost::Message;

    let mut world = World::new(2, 2);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 0, NEAR);
    let cy = world.join("cy", 1, NEAR);
    for client in [ana, ben, cy] {
        world.connect(client);
    }
    let open = |world: &World| world.clients.iter().all(|client| client.channels.len() == 2);
    assert!(world.run_until(Duration::from_secs(5), open), "all channels open");
    let packet = |destinations: &[&str]| DataPacket {
        participant_identity: "forged".into(),
        destination_identities: destinations.iter().map(|name| (*name).to_owned()).collect(),
        value: Some(data_packet::Value::User(UserPacket {
            payload: b"hello".to_vec(),
            ..Default::default()
        })),
        ..Default::default()
    };
    let everyone = packet(&[]).encode_to_vec();
    world.send(ana, "_reliable", &everyone);
    let only_cy = packet(&["cy"]).encode_to_vec();
    world.send(ana, "_lossy", &only_cy);
    world.run(Duration::from_secs(1));
    assert!(world.clients[ana].messages.is_empty(), "never back to its sender");
    assert_eq!(world.clients[ben].messages.len(), 1);
    assert_eq!(world.clients[cy].messages.len(), 2, "on another shard too");
    for (label, message) in &world.clients[cy].messages {
        let packet = DataPacket::decode(message.as_slice()).expect("a data packet");
        assert_eq!(packet.participant_identity, "ana");
        assert!(label == "_reliable" || label == "_lossy");
    }
}

#[test]
fn nothing_of_a_muted_track_arrives_and_unmuting_brings_it_back_without_a_hole() {
    let mut world = World::new(3, 1);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 0, NEAR);
    let video = world.publish_video(ana, &[("", 3000)]);
    world.connect(ben);
    world.run(Duration::from_secs(3));
    let participant = world.clients[ana].participant.clone();
    let mute = |muted| Command::SetMuted { participant: participant.clone(), track: video.clone(), muted };
    world.command(0, mute(true));
    world.run(Duration::from_millis(200));
    let before = world.clients[ben].frames_of(&video).len();
    world.run(Duration::from_secs(2));
    assert_eq!(world.clients[ben].frames_of(&video).len(), before, "muted");
    world.command(0, mute(false));
    world.run(Duration::from_secs(3));
    let after = world.clients[ben].frames_of(&video);
    assert!(after.len() > before + 60, "{} frames after", after.len() - before);
    assert!(after[before].key, "what comes first can be decoded");
    assert!(after[before + 1..].iter().all(|frame| frame.contiguous), "no hole");
}

#[test]
fn whoever_leaves_is_gone_for_the_others_and_may_come_back() {
    let mut world = World::new(4, 2);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 1, NEAR);
    world.publish_video(ana, &[("", 2000)]);
    world.connect(ben);
    world.run(Duration::from_secs(2));
    world.leave(ana);
    world.run(Duration::from_secs(1));
    let gone = world.events.iter().any(|(_, event)| {
        matches!(event, Event::Roster { change: RosterChange::Gone { participant, .. }, .. }
            if participant.as_str() == "PA_ana")
    });
    assert!(gone);
    let frames = world.clients[ben].frames.len();
    world.run(Duration::from_secs(1));
    assert_eq!(world.clients[ben].frames.len(), frames, "nothing more");
    let again = world.join("ana2", 0, NEAR);
    let video = world.publish_video(again, &[("", 2000)]);
    world.run(Duration::from_secs(3));
    assert!(world.clients[ben].frames_of(&video).len() > 60);
}

#[test]
fn members_of_a_room_may_be_on_different_shards() {
    let mut world = World::new(5, 3);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 1, NEAR);
    let cy = world.join("cy", 2, NEAR);
    let tracks = [
        world.publish_video(ana, &[("q", 500), ("h", 1500), ("f", 5000)]),
        world.publish_video(ben, &[("", 3000)]),
        world.publish_audio(cy),
    ];
    world.run(Duration::from_secs(5));
    for (publisher, track) in tracks.iter().enumerate() {
        for client in [ana, ben, cy] {
            let frames = world.clients[client].frames_of(track);
            if client == publisher {
                assert!(frames.is_empty());
                continue;
            }
            assert!(frames.len() > 100, "client {client}, track {track}: {} frames", frames.len());
            assert!(frames.iter().all(|frame| frame.intact));
        }
    }
}

#[test]
fn a_track_in_a_codec_that_is_not_forwarded_is_told_to_have_failed() {
    use sfu_protocol::PublicationFailure::CodecUnsupported;
    let mut world = World::new(9, 1);
    let ana = world.join("ana", 0, NEAR);
    // The server identifies codecs by their `a=rtpmap`, so these offers name none that it forwards.
    world.clients[ana].offers_without = &["VP8/90000", "VP9/90000", "H264/90000", "AV1/90000", "H265/90000"];
    world.clients[ana].edit_answer = Some(with_names_of_formats);
    let video = world.publish_video(ana, &[("", 2000)]);
    world.run(Duration::from_millis(100));
    let told: Vec<_> = world
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::PublicationFailed { track, reason, .. } => Some((track.clone(), *reason)),
            Event::TrackPublished { track, .. } => panic!("{track:?}"),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(video, CodecUnsupported)]);
}

/// Adds `a=rtpmap` lines to rejected sections. Such sections need none, but the client's stack requires them.
fn with_names_of_formats(sdp: &str) -> String {
    let mut formats = Vec::new();
    let mut text = String::new();
    for line in sdp.lines() {
        text.push_str(&format!("{line}\r\n"));
        if let Some(rest) = line.strip_prefix("m=") {
            formats = rest.strip_prefix("video 0 ").iter().flat_map(|rest| rest.split(' ').skip(1)).collect();
        } else if line.starts_with("a=mid:") {
            let names = formats.iter().map(|format| format!("a=rtpmap:{format} VP8/90000\r\n"));
            text.extend(names);
        }
    }
    text
}

#[test]
fn an_ice_restart_goes_unnoticed_by_everyone() {
    let mut world = World::new(6, 1);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 0, NEAR);
    let video = world.publish_video(ana, &[("", 3000)]);
    world.connect(ben);
    world.run(Duration::from_secs(3));
    for _ in 0..3 {
        for client in [ana, ben] {
            let sdp = world.clients[client].restart_ice();
            let participant = world.clients[client].participant.clone();
            world.command(0, Command::Offer { participant, id: 7, sdp });
        }
        world.run(Duration::from_secs(20));
    }
    assert!(!world.events.iter().any(|(_, event)| matches!(event, Event::Ended { .. })), "nobody was ended");
    let frames = world.clients[ben].frames_of(&video);
    assert!(frames.len() > 60 * 29, "{} frames", frames.len());
    assert!(frames.iter().all(|frame| frame.intact && frame.contiguous));
}

#[test]
fn reliable_messages_wait_for_a_channel_and_lossy_ones_do_not() {
    let mut world = World::new(7, 2);
    let ana = world.join("ana", 0, NEAR);
    world.connect(ana);
    world.run(2 * SECOND);
    let ben = world.join("ben", 1, NEAR);
    world.send(ana, "_lossy", &message(0, 10));
    (1..=3).for_each(|number| world.send(ana, "_reliable", &message(number, 10)));
    world.run(SECOND);
    world.connect(ben);
    world.run(2 * SECOND);
    world.send(ana, "_reliable", &message(4, 10));
    world.run(SECOND);
    assert_eq!(numbers(&world, ben), [1, 2, 3, 4]);
    assert_eq!(world.shards[1].stats().dropped(Drop::NoChannel), 1, "the lossy one");
    assert_eq!(world.shards[1].stats().data_messages, 4);
}

#[test]
fn what_waits_for_a_channel_is_bounded_in_bytes_and_in_time() {
    let mut world = World::new(8, 1);
    let ana = world.join("ana", 0, NEAR);
    world.connect(ana);
    world.run(2 * SECOND);
    let late = world.join("late", 0, NEAR);
    world.send_all(ana, "_reliable", (0..20).map(|number| message(number, 60_000)));
    world.run(9 * SECOND);
    assert!(!world.clients[ana].outgoing.is_empty(), "the sender waits");
    assert!(world.shards[0].stats().data_waiting < 500_000);
    assert_eq!(world.shards[0].stats().dropped(Drop::NoChannel), 0);
    world.run(2 * SECOND);
    assert!(world.clients[ana].outgoing.is_empty(), "not for ever");
    let late_ones = world.shards[0].stats().dropped(Drop::NoChannel);
    assert!((5..10).contains(&late_ones), "{late_ones} are too old");
    world.connect(late);
    world.run(2 * SECOND);
    assert_eq!(
        numbers(&world, late),
        (late_ones as u8..20).collect::<Vec<_>>(),
        "the others, without a hole"
    );
    // The message that is pending for a participant whose channels never open is counted as well.
    world.join("gone", 0, NEAR);
    world.send(ana, "_reliable", &message(20, 10));
    world.run(20 * SECOND);
    assert_eq!(world.shards[0].stats().dropped(Drop::NoChannel), late_ones + 1);
}

fn message(number: u8, bytes: usize) -> Vec<u8> {
    use livekit_protocol::{DataPacket, UserPacket, data_packet};
    use prost::Message;

    let user = UserPacket { payload: vec![number; bytes], ..Default::default() };
    DataPacket { value: Some(data_packet::Value::User(user)), ..Default::default() }.encode_to_vec()
}

fn numbers(world: &World, client: usize) -> Vec<u8> {
    use livekit_protocol::{DataPacket, data_packet};
    use prost::Message;

    let messages = world.clients[client].messages.iter();
    let packets = messages.map(|(_, message)| DataPacket::decode(message.as_slice()).expect("a data packet"));
    let numbers = packets.map(|packet| match packet.value {
        Some(data_packet::Value::User(user)) => user.payload[0],
        other => panic!("{other:?}"),
    });
    numbers.collect()
}

#[test]
fn commands_and_messages_about_what_is_not_there_are_counted() {
    let mut world = World::new(9, 1);
    let ana = world.join("ana", 0, NEAR);
    world.connect(ana);
    world.run(SECOND);
    let participant = world.clients[ana].participant.clone();
    let (track, demand) = (TrackSid::new("TR_unknown"), TrackDemand::default());
    let none = Permissions { subscribe: false, ..Permissions::default() };
    let subscribe = Command::Subscribe {
        participant: participant.clone(),
        track: track.clone(),
        publisher: participant.clone(),
        kind: MediaKind::Video,
        demand,
    };
    world.command(0, Command::SetPermissions { participant: participant.clone(), permissions: none });
    let commands = [
        Command::RemoveTrack { participant: participant.clone(), track: track.clone() },
        Command::SetMuted { participant: participant.clone(), track: track.clone(), muted: true },
        Command::Unsubscribe { participant: participant.clone(), track: track.clone() },
        Command::SetDemand { participant, track, demand },
        subscribe,
    ];
    for command in commands {
        let before = world.shards[0].stats().dropped(Drop::StaleMessage);
        world.command(0, command.clone());
        assert_eq!(world.shards[0].stats().dropped(Drop::StaleMessage), before + 1, "{command:?}");
    }
    let track = TrackId(7);
    let messages = [
        FabricMessage::Demand { track, from: ShardId(1), highest: None },
        FabricMessage::KeyFrame { track, layer: Layer(0) },
        FabricMessage::FirstSubscriber { track },
    ];
    for message in messages {
        let before = world.shards[0].stats().dropped(Drop::StaleMessage);
        world.shards[0].handle_input(world.now, Input::Fabric(message.clone()));
        assert_eq!(world.shards[0].stats().dropped(Drop::StaleMessage), before + 1, "{message:?}");
    }
    // Messages about existing peers and tracks are not counted as stale.
    let before = world.shards[0].stats().dropped(Drop::StaleMessage);
    let video = world.publish_video(ana, &[("", 3000)]);
    let ben = world.join("ben", 0, NEAR);
    world.connect(ben);
    world.run(2 * SECOND);
    world.set_demand(ben, &video, TrackDemand { width: 160, height: 90, ..demand });
    world.run(SECOND);
    assert_eq!(world.shards[0].stats().dropped(Drop::StaleMessage), before);
}

#[test]
fn a_track_that_comes_again_goes_on_without_a_hole() {
    use harness::network::Path;
    use harness::raw::person::{Publish, Setup};
    use harness::raw::{RawWorld, announced, simulcast};

    for (seed, shard) in [(10, 0), (11, 1)] {
        let mut announced = announced("TR_again", MediaKind::Video, "vp8");
        announced.layers = simulcast(1);
        let publish =
            Publish { announced, redundancy: 0, frame_bytes: vec![3000], extensions: Default::default() };
        let publisher = |name| Setup { name, publishes: vec![publish.clone()], ..Setup::default() };
        let mut world = RawWorld::new(seed, 2);
        let ana = world.join(publisher("ana"), Path::with_delay(NEAR));
        let ben =
            world.join(Setup { name: "ben", shard, videos: 1, ..Setup::default() }, Path::with_delay(NEAR));
        world.run(SECOND);
        world.subscribe(ben, ana, "TR_again", MediaKind::Video);
        world.run(3 * SECOND);
        let participant = world.people[ana].sid.clone();
        world.command(0, Command::Leave { participant, reason: LeaveReason::ClientInitiated });
        world.run(SECOND);
        let seen = world.people[ben].pictures[0].shown.len();
        // Publishes the same track sid with other SSRCs and sequence numbers, as after any change of its path.
        world.join(publisher("cy"), Path::with_delay(NEAR));
        world.run(5 * SECOND);
        let pictures = &world.people[ben].pictures[0];
        assert!(pictures.shown.len() > seen + 100, "shard {shard}: {} pictures", pictures.shown.len() - seen);
    }
}
