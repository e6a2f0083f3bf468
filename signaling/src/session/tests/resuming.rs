//! Tests of a client that lost its signal connection and resumes its session.

use super::*;
use proto::leave_request::Action;
use sfu_protocol::{CodecDemand, ConnectionQuality, LayerQuality, ParticipantQuality, Speaker};

fn resumed() -> Resumed {
    Resumed {
        client: proto::ClientInfo { protocol: 17, ..Default::default() },
        offer: None,
        sync_state: None,
    }
}

fn resume(rig: &mut Rig) -> Got {
    rig.feed(Input::Resumed(Box::new(resumed())))
}

fn lost(rig: &mut Rig) -> Got {
    rig.feed(Input::SignalLost { leaving: false })
}

/// Kinds of the messages to the client, in order.
fn kinds(got: &Got) -> Vec<&'static str> {
    got.says()
        .into_iter()
        .map(|say| match say {
            Say::Reconnect(_) => "reconnect",
            Say::Update(_) => "update",
            Say::RoomUpdate(_) => "room",
            Say::TrackPublished(_) => "published",
            Say::SpeakersChanged(_) => "speakers",
            Say::SubscribedQualityUpdate(_) => "quality",
            Say::Offer(_) => "offer",
            Say::Answer(_) => "answer",
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn the_first_message_says_that_it_goes_on_and_then_comes_everything_that_is() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    for name in ["ann", "bob"] {
        rig.present(&somebody(name, 1, true));
    }
    lost(&mut rig);
    // While the client is away, one participant leaves, one joins, and one changes.
    rig.gone(&somebody("ann", 1, true), LeaveReason::ClientInitiated);
    rig.present(&somebody("eve", 1, false));
    assert!(rig.present(&somebody("bob", 2, false)).says().is_empty());
    let got = resume(&mut rig);
    assert_eq!(kinds(&got), ["reconnect", "update", "update", "room"]);
    let Say::Reconnect(reconnect) = got.says()[0] else { panic!("{got:?}") };
    assert!(reconnect.server_info.is_some());
    let configuration = reconnect.client_configuration.as_ref().unwrap();
    assert_eq!(configuration.resume_connection(), proto::ClientConfigSetting::Enabled);
    let told: Vec<_> =
        got.updates().iter().map(|info| (info.sid.as_str(), info.state(), info.version)).collect();
    use proto::participant_info::State::{Active, Disconnected};
    let me = got.updates()[1].version;
    assert_eq!(
        told,
        [("PA_ann", Disconnected, 2), ("PA_me", Active, me), ("PA_bob", Active, 2), ("PA_eve", Active, 1)]
    );
    assert!(got.refresh().is_some() && got.commands().is_empty());
    // The session continues normally.
    assert_eq!(rig.ask(Ask::Ping(1)).says().len(), 1);
    assert_eq!(rig.pass(Duration::from_secs(60)).ended(), None);
}

/// Sids of the participants that were reported as disconnected.
fn gone(got: &Got) -> Vec<&str> {
    let gone = |info: &&proto::ParticipantInfo| info.state() == proto::participant_info::State::Disconnected;
    got.updates().into_iter().filter(gone).map(|info| info.sid.as_str()).collect()
}

#[test]
fn who_went_before_the_loss_was_noticed_is_said_again() {
    for (noticed, before, away, expected) in [
        (false, 5, 0, &["PA_bob"][..]),
        (true, 5, 25, &["PA_bob"]),
        // The socket was used for so long that it cannot have been dead when bob left.
        (false, 22, 0, &[]),
        (true, 22, 0, &[]),
    ] {
        let mut rig = Rig::active(config(ConnectionMode::Single));
        rig.present(&somebody("ann", 1, true));
        rig.present(&somebody("bob", 1, true));
        assert_eq!(gone(&rig.gone(&somebody("bob", 1, true), LeaveReason::ClientInitiated)), ["PA_bob"]);
        // Messages after the first resume may be lost with the new socket in the same way.
        for _ in 0..2 {
            rig.pass(Duration::from_secs(before));
            rig.present(&somebody("ann", 2, true));
            if noticed {
                lost(&mut rig);
            }
            rig.pass(Duration::from_secs(away));
            rig.present(&somebody("ann", 3, true));
            let got = resume(&mut rig);
            assert_eq!(gone(&got), expected, "{noticed} {before} {away}");
            assert!(got.updates().iter().any(|info| info.sid == "PA_ann"));
        }
    }
}

#[test]
fn who_came_back_meanwhile_is_not_said_to_have_gone() {
    let again = || proto::ParticipantInfo { sid: "PA_bob2".into(), ..somebody("bob", 1, true) };
    for (protocol, expected) in [(17, &[][..]), (11, &["PA_bob"])] {
        for reason in [LeaveReason::ClientInitiated, LeaveReason::DuplicateIdentity] {
            let mut config = config(ConnectionMode::Single);
            config.client.protocol = protocol;
            let mut rig = Rig::active(config);
            rig.present(&somebody("bob", 1, true));
            rig.gone(&somebody("bob", 1, true), reason);
            rig.present(&again());
            let client = proto::ClientInfo { protocol, ..Default::default() };
            let resumed = Input::Resumed(Box::new(Resumed { client, ..resumed() }));
            let got = rig.feed(resumed.clone());
            assert_eq!(gone(&got), expected, "{protocol} {reason:?}");
            assert!(got.updates().iter().any(|info| info.sid == "PA_bob2"));
            rig.gone(&again(), LeaveReason::ClientInitiated);
            let got = rig.feed(resumed);
            assert_eq!(gone(&got).last(), Some(&"PA_bob2"), "now it has: {protocol} {reason:?}");
        }
    }
}

#[test]
fn what_may_have_been_lost_is_said_again() {
    let mut rig = Rig::active(config(DUAL));
    rig.present(&somebody("ann", 1, true));
    let camera = rig.publish("c", proto::TrackType::Video, proto::TrackSource::Camera);
    rig.ask(Ask::AddTrack(add_track("m", proto::TrackType::Audio, proto::TrackSource::Microphone)));
    let codecs = vec![CodecDemand { mime_type: "video/vp8".into(), highest: Some(LayerQuality::Low) }];
    rig.sfu(Event::SubscribedQuality { participant: me(), track: camera, codecs });
    let speakers = vec![Speaker { participant: ParticipantSid::new("PA_ann"), level: 0.5 }];
    rig.sfu(Event::Speakers { room: room(), speakers });
    let offered =
        |id| Event::Offer { participant: me(), id, sdp: "v=0".into(), mid_to_track: BTreeMap::new() };
    rig.sfu(offered(7));
    lost(&mut rig);
    let got = resume(&mut rig);
    assert_eq!(kinds(&got), ["reconnect", "update", "room", "published", "quality", "offer", "speakers"]);
    assert_eq!(got.published()[0].0, "m", "only what waits for its media");
    assert!(got.says().iter().any(|say| matches!(say, Say::Offer(offer) if offer.id == 7)));
    // Resumed again without a loss of the socket having been noticed. The offer is answered now, though at first by
    // an answer to an earlier offer.
    rig.ask(Ask::Answer(answer(6)));
    assert!(kinds(&resume(&mut rig)).contains(&"offer"));
    rig.ask(Ask::Answer(answer(7)));
    assert_eq!(kinds(&resume(&mut rig)), ["reconnect", "update", "room", "published", "quality", "speakers"]);
    // An offer made while the client is away is sent when it resumes.
    lost(&mut rig);
    assert!(rig.sfu(offered(8)).says().is_empty());
    assert!(kinds(&resume(&mut rig)).contains(&"offer"));
}

#[test]
fn an_offer_is_answered_by_a_client_that_does_not_number() {
    let offered = Event::Offer { participant: me(), id: 7, sdp: "v=0".into(), mid_to_track: BTreeMap::new() };
    for id in [0, 8] {
        let mut rig = Rig::active(config(DUAL));
        rig.sfu(offered.clone());
        rig.ask(Ask::Answer(answer(id)));
        assert!(!kinds(&resume(&mut rig)).contains(&"offer"), "{id}");
    }
}

/// An event after an offer was made.
#[derive(Debug, Clone, Copy)]
enum Step {
    Answer,
    Refused,
    Lost,
    Back,
}

#[test]
fn an_offer_waits_until_an_answer_was_not_refused() {
    use Step::{Answer, Back, Lost, Refused};
    let error = sfu_protocol::NegotiationError { field: "m=".into(), reason: "too few".into() };
    let failed = Event::NegotiationFailed { participant: me(), target: Target::Subscriber, id: 0, error };
    for (steps, offered, ended) in [
        (&[Lost, Back][..], true, true),
        (&[Answer, Lost, Back], false, false),
        // The answer is refused before the loss, while the client is away, and after it resumed.
        (&[Answer, Refused, Lost, Back], true, true),
        (&[Answer, Lost, Refused, Back], true, true),
        (&[Answer, Lost, Back, Refused], false, true),
        (&[Answer, Refused, Answer, Lost, Refused, Back], true, true),
        // The second of two answers is usable, in whichever order the refusal and the answer are seen.
        (&[Answer, Refused, Answer, Lost, Back], false, false),
        (&[Answer, Answer, Refused, Lost, Back], false, false),
        (&[Answer, Answer, Refused, Refused, Lost, Back], true, true),
        // The repeated offer is finally answered.
        (&[Answer, Lost, Refused, Back, Answer], true, false),
    ] {
        let mut rig = Rig::active(config(DUAL));
        let mids = BTreeMap::new();
        rig.sfu(Event::Offer { participant: me(), id: 7, sdp: "v=0".into(), mid_to_track: mids });
        let mut again = false;
        for step in steps {
            match step {
                Answer => drop(rig.ask(Ask::Answer(answer(0)))),
                Refused => drop(rig.sfu(failed.clone())),
                Lost => drop(lost(&mut rig)),
                Back => again = kinds(&resume(&mut rig)).contains(&"offer"),
            }
        }
        assert_eq!(again, offered, "{steps:?}");
        // Without a usable answer the client must start a new session, since nothing more could be offered.
        let mut got = Got::default();
        for _ in 0..20 {
            rig.ask(Ask::Ping(1));
            got.append(rig.pass(Duration::from_secs(1)));
        }
        assert_eq!(got.ended(), ended.then_some(EndCause::Broken), "{steps:?}");
    }
}

#[test]
fn who_may_be_received_is_said_again_where_publishers_choose() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    let choosing = |rig: &mut Rig, name: &str, version: u32, all_participants: bool| {
        let permission = proto::SubscriptionPermission { all_participants, track_permissions: vec![] };
        let participant = ParticipantSid::new(format!("PA_{name}"));
        let info = info::encode(&somebody(name, version, true), Some(&permission));
        let change = RosterChange::Present(RosterEntry { participant, info });
        rig.sfu(Event::Roster { room: room(), change })
    };
    rig.present(&somebody("ann", 1, true));
    choosing(&mut rig, "bob", 1, false);
    lost(&mut rig);
    choosing(&mut rig, "bob", 2, true);
    choosing(&mut rig, "eve", 1, false);
    let got = resume(&mut rig);
    let told: Vec<_> = got
        .says()
        .into_iter()
        .filter_map(|say| match say {
            Say::SubscriptionPermissionUpdate(update) => Some((update.track_sid.as_str(), update.allowed)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [("TR_AMbob", true), ("TR_VCbob", true), ("TR_AMeve", false), ("TR_VCeve", false)]);
}

#[test]
fn an_offer_and_the_client_s_state_may_come_with_the_request() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    rig.present(&somebody("ann", 1, true));
    lost(&mut rig);
    let sync_state = proto::SyncState { track_sids_disabled: vec!["TR_VCann".into()], ..Default::default() };
    let resumed = Resumed { offer: Some(offer(9)), sync_state: Some(sync_state), ..resumed() };
    let got = rig.feed(Input::Resumed(Box::new(resumed)));
    let [Command::SetDemand { track, demand, .. }, Command::Offer { id: 9, .. }] = got.commands()[..] else {
        panic!("{got:?}")
    };
    assert_eq!((track.as_str(), demand.enabled), ("TR_VCann", false));
}

#[test]
fn how_long_a_client_is_awaited_depends_on_how_it_went() {
    let quality = |quality| Event::ConnectionQuality {
        room: room(),
        changes: vec![ParticipantQuality { participant: me(), quality, score: 1.0 }],
    };
    let seconds = |rig: &mut Rig| {
        (1..100).find(|_| rig.pass(Duration::from_secs(1)).ended().is_some()).expect("it ends")
    };
    for (leaving, resumable, media_lost, expected) in
        [(false, true, false, 30), (true, true, false, 3), (false, false, false, 3), (false, true, true, 3)]
    {
        let mut config = config(ConnectionMode::Single);
        config.server = Arc::new(ServerDescription { resume: resumable, ..ServerDescription::default() });
        let mut rig = Rig::active(config);
        rig.feed(Input::SignalLost { leaving });
        rig.sfu(quality(ConnectionQuality::Poor));
        if media_lost {
            rig.sfu(quality(ConnectionQuality::Lost));
        }
        assert_eq!(seconds(&mut rig), expected, "{leaving} {resumable} {media_lost}");
    }
}

#[test]
fn a_client_that_missed_too_much_starts_anew() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    lost(&mut rig);
    for number in 0..1025 {
        let name = format!("n{number}");
        rig.present(&somebody(&name, 1, false));
        rig.gone(&somebody(&name, 1, false), LeaveReason::ClientInitiated);
    }
    let got = resume(&mut rig);
    assert_eq!(got.ended(), Some(EndCause::Broken));
    assert_eq!(got.leave().unwrap().action(), Action::Reconnect);
    assert_eq!(got.says().len(), 1, "nothing else");
}

#[test]
fn many_who_go_at_once_cost_a_client_that_stays_nothing() {
    for (seconds, ended) in [(1, Some(EndCause::Broken)), (30, None)] {
        let mut rig = Rig::active(config(ConnectionMode::Single));
        for number in 0..1025 {
            let info = somebody(&format!("n{number}"), 1, false);
            rig.present(&info);
            assert_eq!(gone(&rig.gone(&info, LeaveReason::ClientInitiated)), [info.sid.as_str()]);
        }
        rig.pass(Duration::from_secs(seconds));
        assert_eq!(resume(&mut rig).ended(), ended);
    }
}

#[test]
fn the_client_s_state_is_taken_as_far_as_it_agrees() {
    let published = |sid: &TrackSid| proto::TrackPublishedResponse {
        cid: "c".into(),
        track: Some(proto::TrackInfo { sid: sid.to_string(), ..Default::default() }),
    };
    let with = |publish_tracks| proto::SyncState { publish_tracks, ..Default::default() };
    let mut rig = Rig::active(config(ConnectionMode::Single));
    rig.present(&somebody("ann", 1, true));
    let camera = rig.publish("c", proto::TrackType::Video, proto::TrackSource::Camera);
    let waiting =
        rig.ask(Ask::AddTrack(add_track("m", proto::TrackType::Audio, proto::TrackSource::Microphone)));
    let waiting = TrackSid::new(waiting.published()[0].1.sid.as_str());
    let same = with(vec![published(&camera), published(&waiting)]);
    assert_eq!(rig.ask(Ask::SyncState(same)), Got::default());
    let subscription =
        proto::UpdateSubscription { track_sids: vec!["TR_AMann".into()], ..Default::default() };
    let state = proto::SyncState { subscription: Some(subscription), ..Default::default() };
    assert_eq!(unsubscribed(&rig.ask(Ask::SyncState(state))), ["TR_AMann"], "an exception to auto-subscribe");
    let state = proto::SyncState { track_sids_disabled: vec!["TR_nobody".into()], ..Default::default() };
    assert_eq!(rig.ask(Ask::SyncState(state)).discards(), [Discard::UnknownTrack]);
    let many = vec!["x".to_owned(); 5000];
    let state = proto::SyncState { track_sids_disabled: many, ..Default::default() };
    assert_eq!(rig.ask(Ask::SyncState(state)).refusals()[0].0, Reason::LimitExceeded);
    // A track that this session does not know can only be published in a new session.
    let got = rig.ask(Ask::SyncState(with(vec![published(&TrackSid::new("TR_VCother"))])));
    assert_eq!(got.leave().unwrap().action(), Action::Reconnect);
    assert_eq!(got.ended(), Some(EndCause::Broken));
}
