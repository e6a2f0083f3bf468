//! Two and three people in one room: pictures, sound, messages, coming and going.

mod harness;

use std::time::Duration;

use harness::World;
use sfu_protocol::{Command, Event, RosterChange};

const NEAR: Duration = Duration::from_millis(10);

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
