use super::*;
use proto::participant_info::State;

#[test]
fn the_first_output_takes_the_place_and_nothing_is_said_before_it_is_taken() {
    let mut rig = Rig::new(config(ConnectionMode::Single));
    let got = rig.drain();
    let [Output::Sfu(Command::Join(join))] = got.all.as_slice() else { panic!("{got:?}") };
    assert_eq!((join.room.as_str(), join.participant.as_str()), ("RM_hall", "PA_me"));
    assert_eq!((join.identity.as_str(), join.mode, join.hidden), ("me", ConnectionMode::Single, false));
    let shown = info::decode(&join.info).unwrap().info;
    assert_eq!((shown.state(), shown.sid.as_str(), shown.name.as_str()), (State::Joining, "PA_me", "Me"));

    let early = rig.ask(Ask::Ping(1));
    assert_eq!(early.all, [Output::Discarded(Discard::EarlyRequest)]);
    let early = rig.present(&somebody("a", 1, true));
    assert_eq!(early.all, [Output::Discarded(Discard::EarlyEvent)]);
}

#[test]
fn the_join_response_has_all_that_clients_rely_on() {
    let mut rig = Rig::new(config(ConnectionMode::Single));
    rig.drain();
    let roster = vec![entry(&somebody("a", 3, true)), entry(&somebody("b", 1, false))];
    let got = rig.sfu(Event::Joined { participant: me(), roster });
    let join = got.join();
    let server = join.server_info.as_ref().unwrap();
    assert_eq!((server.version.as_str(), server.protocol, server.agent_protocol), ("1.13.5", 17, 1));
    assert_eq!(join.server_version, "1.13.5");
    assert_eq!((join.ping_interval, join.ping_timeout), (5, 15));
    assert_eq!(join.sif_trailer, b"trailer");
    assert!(!join.subscriber_primary && join.fast_publish);
    let codecs: Vec<_> = join.enabled_publish_codecs.iter().map(|codec| codec.mime.as_str()).collect();
    assert_eq!(codecs[0], "video/VP8");
    assert!(codecs.contains(&"audio/opus") && codecs.contains(&"audio/red"));
    assert!(codecs.iter().all(|codec| !codec.contains("rtx")));
    let room = join.room.as_ref().unwrap();
    assert_eq!((room.sid.as_str(), room.name.as_str()), ("RM_hall", "hall"));
    assert_eq!((room.num_participants, room.num_publishers), (3, 1));
    let own = join.participant.as_ref().unwrap();
    assert_eq!((own.sid.as_str(), own.identity.as_str()), ("PA_me", "me"));
    assert_eq!(own.attributes["colour"], "red");
    assert_eq!((own.joined_at, own.joined_at_ms), (1_800_000_000, 1_800_000_000_000));
    assert!(own.permission.as_ref().unwrap().can_publish);
    let others: Vec<_> = join.other_participants.iter().map(|other| other.sid.as_str()).collect();
    assert_eq!(others, ["PA_a", "PA_b"]);
    assert_eq!(join.other_participants[0].tracks.len(), 2);
    let resume = join.client_configuration.as_ref().unwrap().resume_connection();
    assert_eq!(resume, proto::ClientConfigSetting::Enabled);
}

#[test]
fn what_overtakes_the_place_is_said_after_it() {
    let quality = sfu_protocol::ParticipantQuality {
        participant: me(),
        quality: sfu_protocol::ConnectionQuality::Good,
        score: 4.0,
    };
    let speaker = sfu_protocol::Speaker { participant: me(), level: 0.5 };
    // Two events of the room's home shard in order, one of the participant's shard, and two of any shard.
    let joined = Event::Joined { participant: me(), roster: vec![] };
    let present =
        Event::Roster { room: room(), change: RosterChange::Present(entry(&somebody("a", 1, false))) };
    let offer = Event::Offer { participant: me(), id: 1, sdp: "v=0".into(), mid_to_track: BTreeMap::new() };
    let measured = [
        Event::Speakers { room: room(), speakers: vec![speaker] },
        Event::ConnectionQuality { room: room(), changes: vec![quality] },
    ];
    let others = [offer, measured[0].clone(), measured[1].clone()];
    for order in permutations(5) {
        let mut rig = Rig::new(config(DUAL));
        let mut says = rig.drain();
        // The two events of the home shard keep their order.
        let mut home = [&joined, &present].into_iter();
        for place in &order {
            let event = others.get(*place).unwrap_or_else(|| home.next().expect("two of the home"));
            says.append(rig.sfu(event.clone()));
        }
        assert!(says.discards().is_empty(), "{order:?}: {says:?}");
        says.join();
        let count = |is: fn(&Say) -> bool| says.says().into_iter().filter(|say| is(say)).count();
        assert_eq!(count(|say| matches!(say, Say::Offer(offer) if offer.id == 1)), 1, "{order:?}");
        assert_eq!(count(|say| matches!(say, Say::SpeakersChanged(_))), 1, "{order:?}");
        assert_eq!(count(|say| matches!(say, Say::ConnectionQuality(_))), 1, "{order:?}");
        assert!(says.updates().iter().any(|info| info.sid == "PA_a"), "{order:?}");
    }
}

#[test]
fn what_waits_for_the_place_is_bounded() {
    let mut rig = Rig::new(config(DUAL));
    rig.drain();
    let event = || Event::Speakers { room: room(), speakers: vec![] };
    assert!((0..EARLY_EVENTS).all(|_| rig.sfu(event()).all.is_empty()));
    let got = rig.sfu(event());
    assert_eq!(got.ended(), Some(EndCause::Broken));
    assert!(matches!(got.commands()[..], [Command::Leave { .. }]), "the place is given back");
}

/// All permutations of `0..count`.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else { return vec![vec![]] };
    let shorter = permutations(last);
    let with_last = |order: &Vec<usize>| {
        (0..=order.len())
            .map(|place| {
                let mut longer = order.clone();
                longer.insert(place, last);
                longer
            })
            .collect::<Vec<_>>()
    };
    shorter.iter().flat_map(with_last).collect()
}

#[test]
fn subscriber_primary_follows_the_mode() {
    for (mode, primary) in [(ConnectionMode::Single, false), (DUAL, true), (DUAL_PUBLISHER, false)] {
        let mut rig = Rig::new(config(mode));
        rig.drain();
        let got = rig.sfu(Event::Joined { participant: me(), roster: vec![] });
        assert_eq!(got.join().subscriber_primary, primary, "{mode:?}");
    }
}

#[test]
fn what_came_with_the_request_follows_the_join_in_order() {
    let mut config = config(ConnectionMode::Single);
    config.add_tracks =
        vec![camera("cam"), add_track("mic", proto::TrackType::Audio, proto::TrackSource::Microphone)];
    config.offer = Some(offer(1));
    let mut rig = Rig::new(config);
    rig.drain();
    let got = rig.sfu(Event::Joined { participant: me(), roster: vec![entry(&somebody("a", 1, true))] });
    let kinds: Vec<_> = got
        .all
        .iter()
        .map(|output| match output {
            Output::Signal(response) => match response.message.as_ref().unwrap() {
                Say::Join(_) => "join",
                Say::TrackPublished(published) => published.cid.as_str(),
                other => panic!("{other:?}"),
            },
            Output::RefreshToken(_) => "token",
            Output::Sfu(Command::AddTrack { .. }) => "add",
            Output::Sfu(Command::Subscribe { .. }) => "subscribe",
            Output::Sfu(Command::Offer { id: 1, .. }) => "offer",
            other => panic!("{other:?}"),
        })
        .collect();
    // Tracks and subscriptions come before the offer, so that its answer can include them.
    let expected = ["join", "token", "cam", "add", "mic", "add", "subscribe", "subscribe", "offer"];
    assert_eq!(kinds, expected);
    // The other participants are told of the tracks only when they have media.
    assert!(got.announced().is_empty());
}

#[test]
fn other_sessions_of_the_same_identity_are_not_shown() {
    let mut double = somebody("me", 1, true);
    double.sid = "PA_older".into();
    let mut rig = Rig::new(config(ConnectionMode::Single));
    rig.drain();
    let got = rig.sfu(Event::Joined { participant: me(), roster: vec![entry(&double)] });
    assert!(got.join().other_participants.is_empty());
    assert!(subscribed(&got).is_empty());
    double.version = 2;
    assert!(rig.present(&double).all.is_empty());
}

#[test]
fn states_go_forward_and_every_announcement_has_a_higher_version() {
    for (mode, primary, other) in [
        (ConnectionMode::Single, Target::Publisher, None),
        (DUAL, Target::Subscriber, Some(Target::Publisher)),
        (DUAL_PUBLISHER, Target::Publisher, Some(Target::Subscriber)),
    ] {
        let mut rig = Rig::joined(config(mode));
        let got = rig.pass(Duration::from_secs(1));
        let [joined]: [info::Described; 1] = got.announced().try_into().unwrap();
        assert_eq!((joined.info.state(), joined.info.version), (State::Joined, 2));
        if let Some(target) = other {
            let got = rig.sfu(Event::TransportConnected { participant: me(), target });
            assert!(got.all.is_empty(), "{got:?}");
        }
        let got = rig.sfu(Event::TransportConnected { participant: me(), target: primary });
        assert_eq!(got.announced()[0].info.state(), State::Active);
        assert_eq!(got.announced()[0].info.version, 3);
        assert_eq!(got.updates()[0].state(), State::Active, "the client learns it of itself");
        let again = rig.sfu(Event::TransportConnected { participant: me(), target: primary });
        assert!(again.all.is_empty());
    }
}

#[test]
fn connecting_at_once_saves_the_announcement_of_having_joined() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    assert!(rig.pass(Duration::from_secs(4)).announced().is_empty());
}

#[test]
fn tokens_are_refreshed_at_the_start_and_every_five_minutes() {
    let mut rig = Rig::new(config(ConnectionMode::Single));
    rig.drain();
    let got = rig.sfu(Event::Joined { participant: me(), roster: vec![] });
    assert_eq!(got.refresh().unwrap().metadata, "my metadata");
    rig.sfu(Event::TransportConnected { participant: me(), target: Target::Publisher });
    assert_eq!(rig.pass(Duration::from_secs(299)).refresh(), None);
    assert!(rig.pass(Duration::from_secs(1)).refresh().is_some());
    assert_eq!(rig.pass(Duration::from_secs(299)).refresh(), None);
    assert!(rig.pass(Duration::from_secs(1)).refresh().is_some());
}

#[test]
fn pings_are_answered_with_the_time() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    rig.now += Duration::from_millis(1500);
    assert_eq!(rig.ask(Ask::Ping(5)).says(), [&Say::Pong(1_800_000_001_500)]);
    let got = rig.ask(Ask::PingReq(proto::Ping { timestamp: 77, rtt: 12 }));
    let pong = proto::Pong { last_ping_timestamp: 77, timestamp: 1_800_000_001_500 };
    assert_eq!(got.says(), [&Say::PongResp(pong)]);
}

#[test]
fn the_room_s_counts_follow_five_seconds_after_a_change() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    rig.present(&somebody("a", 1, false));
    let mut bot = somebody("bot", 1, false);
    bot.kind = proto::participant_info::Kind::Agent as i32;
    rig.present(&bot);
    rig.now += Duration::from_secs(2);
    rig.present(&somebody("b", 1, true));
    let got = rig.pass(Duration::from_secs(3));
    let [Say::RoomUpdate(update)] = got.says()[..] else { panic!("{got:?}") };
    let room = update.room.as_ref().unwrap();
    assert_eq!((room.num_participants, room.num_publishers), (3, 1));
    // A participant that came and left in between is not reported.
    rig.present(&somebody("c", 1, false));
    rig.gone(&somebody("c", 1, false), LeaveReason::ClientInitiated);
    assert!(rig.pass(Duration::from_secs(6)).says().is_empty());
}
