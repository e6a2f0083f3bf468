//! A late joiner sees video at once.

mod harness;

use std::time::Duration;

use harness::World;

const NEAR: Duration = Duration::from_millis(10);

#[test]
fn a_late_joiner_starts_with_a_key_frame_and_soon() {
    for shard in [0, 1] {
        let mut world = World::new(40, 2);
        let ana = world.join("ana", 0, NEAR);
        let video = world.publish_video(ana, &[("", 4000)]);
        let cy = world.join("cy", 0, NEAR);
        world.connect(cy);
        world.run(Duration::from_secs(20));
        let ben = world.join("ben", shard, NEAR);
        world.connect(ben);
        let seen = |world: &World| !world.clients[ben].frames_of(&video).is_empty();
        assert!(world.run_until(Duration::from_secs(3), seen), "a picture");
        let connected = world.clients[ben].connected.expect("connected");
        let first = world.clients[ben].frames_of(&video)[0].clone();
        assert!(first.key && first.intact, "the first picture can be decoded");
        let waited = first.at - connected;
        println!("first picture {waited:?} after the transport was up");
        assert!(waited < Duration::from_millis(120), "{waited:?}");
        world.run(Duration::from_secs(2));
        let frames = world.clients[ben].frames_of(&video);
        assert!(frames[1..].iter().all(|frame| frame.contiguous && frame.intact));
    }
}

#[test]
fn the_second_joiner_within_a_second_does_not_wait_for_the_throttle() {
    let mut world = World::new(41, 1);
    let ana = world.join("ana", 0, NEAR);
    let video = world.publish_video(ana, &[("q", 500), ("h", 1500), ("f", 5000)]);
    world.run(Duration::from_secs(5));
    let ben = world.join("ben", 0, NEAR);
    world.connect(ben);
    world.run(Duration::from_millis(400));
    let cy = world.join("cy", 0, NEAR);
    world.connect(cy);
    let seen = |world: &World| !world.clients[cy].frames_of(&video).is_empty();
    assert!(world.run_until(Duration::from_secs(3), seen), "a picture");
    let waited = world.clients[cy].frames_of(&video)[0].at - world.clients[cy].connected.expect("connected");
    assert!(waited < Duration::from_millis(120), "{waited:?}");
}

#[test]
fn a_joiner_that_was_not_ready_for_its_first_packets_gets_them_again() {
    let mut world = World::new(42, 1);
    world.auto_subscribe = false;
    let ana = world.join("ana", 0, NEAR);
    let video = world.publish_video(ana, &[("", 4000)]);
    let ben = world.join("ben", 0, NEAR);
    world.connect(ben);
    world.run(Duration::from_secs(3));
    // Forces a key frame, so that the packet memory holds one.
    world.clients[ana].publishers[0].layers[0].key_next = true;
    world.run(Duration::from_millis(300));
    let asked = world.clients[ana].key_frame_requests.len();

    // Packets that arrive before the browser has applied the answer are lost.
    let participant = world.clients[ben].participant.clone();
    let publisher = world.clients[ana].participant.clone();
    world.links[ben].1.loss = 1.0;
    world.subscribe(&participant, &publisher, &video, sfu_protocol::MediaKind::Video);
    world.run(Duration::from_millis(150));
    world.links[ben].1.loss = 0.0;
    world.run(Duration::from_millis(100));
    let undecodable = world.clients[ben].frames_of(&video).len();
    let ready = world.now;
    world.ask_for_picture(ben, &video);
    let seen = |world: &World| world.clients[ben].frames_of(&video).iter().any(|frame| frame.key);
    assert!(world.run_until(Duration::from_secs(3), seen), "a picture");
    world.run(Duration::from_secs(2));
    let frames = &world.clients[ben].frames_of(&video)[undecodable..];
    let first = frames.iter().position(|frame| frame.key).expect("seen above");
    let frames = &frames[first..];
    assert!(frames[0].intact, "the first picture can be decoded");
    // Half a second of video is sent at twice its rate. This client holds frames back behind the gap of the first lost
    // packets until enough packets have followed; browsers begin with the key frame.
    assert!(frames[0].at - ready < Duration::from_millis(400), "{:?}", frames[0].at - ready);
    assert!(frames.len() > 60 && frames[1..].iter().all(|frame| frame.contiguous && frame.intact));
    assert!(frames.windows(2).all(|pair| pair[0].time < pair[1].time), "time goes on");
    assert_eq!(world.clients[ana].key_frame_requests.len(), asked, "its publisher was not asked");
}
