//! Tests of permissions that change during a session.

use super::*;
use proto::TrackSource::{Camera, Microphone, ScreenShare};
use proto::TrackType::{Audio, Video};
use sfu_protocol::Permissions;

fn rights(publish: bool, sources: &[proto::TrackSource], subscribe: bool) -> proto::ParticipantPermission {
    proto::ParticipantPermission {
        can_publish: publish,
        can_publish_sources: sources.iter().map(|&source| source as i32).collect(),
        can_publish_data: true,
        can_subscribe: subscribe,
        ..Default::default()
    }
}

fn change(rig: &mut Rig, rights: proto::ParticipantPermission) -> Got {
    rig.feed(Input::SetPermission(Box::new(rights)))
}

fn removed(got: &Got) -> Vec<TrackSid> {
    let commands = got.commands().into_iter();
    commands
        .filter_map(|c| if let Command::RemoveTrack { track, .. } = c { Some(track.clone()) } else { None })
        .collect()
}

fn unpublished(got: &Got) -> Vec<&str> {
    let says = got.says().into_iter();
    says.filter_map(|s| if let Say::TrackUnpublished(u) = s { Some(u.track_sid.as_str()) } else { None })
        .collect()
}

#[test]
fn what_may_no_longer_be_published_ends_and_the_rest_stays() {
    // Whether publishing remains allowed, the sources that remain, and which of camera, microphone and the announced
    // screen share end.
    let cases: [(bool, &[proto::TrackSource], [bool; 3]); 5] = [
        (true, &[], [false, false, false]),
        (true, &[Camera, Microphone, ScreenShare], [false, false, false]),
        (true, &[Microphone], [true, false, true]),
        (true, &[Camera, ScreenShare], [false, true, false]),
        (false, &[], [true, true, true]),
    ];
    for (publish, sources, ends) in cases {
        let mut rig = Rig::active(config(ConnectionMode::Single));
        let camera = rig.publish("c", Video, Camera);
        let microphone = rig.publish("m", Audio, Microphone);
        let got = rig.ask(Ask::AddTrack(add_track("s", Video, ScreenShare)));
        let screen = TrackSid::new(got.published()[0].1.sid.as_str());
        // Data is forbidden as well, so that something changes in every case.
        let new = proto::ParticipantPermission { can_publish_data: false, ..rights(publish, sources, true) };
        let got = change(&mut rig, new.clone());
        let permissions = Permissions { publish, subscribe: true, publish_data: false };
        assert_eq!(got.commands()[0], &Command::SetPermissions { participant: me(), permissions });
        let mut ended = removed(&got);
        ended.sort();
        let all = [&camera, &microphone, &screen];
        let mut expected: Vec<_> =
            all.iter().zip(ends).filter(|(_, ends)| *ends).map(|(sid, _)| (*sid).clone()).collect();
        expected.sort();
        assert_eq!(ended, expected, "{sources:?}");
        // A track without media ends at once; the others end when the media plane reports it.
        assert_eq!(unpublished(&got), if ends[2] { vec![screen.as_str()] } else { vec![] });
        for (sid, _) in [&camera, &microphone].iter().zip(ends).filter(|(_, ends)| *ends) {
            let event = Event::TrackUnpublished { participant: me(), track: (*sid).clone() };
            let got = rig.sfu(event);
            assert_eq!(unpublished(&got), [sid.as_str()]);
            assert!(got.announced()[0].info.tracks.iter().all(|track| track.sid != sid.as_str()));
        }
        assert_eq!(got.announced()[0].info.permission.as_ref(), Some(&new), "everybody is told");
        assert_eq!(got.updates()[0].permission.as_ref(), Some(&new), "the client, too");
        assert_eq!(got.refresh().unwrap().permission, new, "and its next token says so");
        let again = rig.ask(Ask::AddTrack(add_track("s2", Video, ScreenShare)));
        assert_eq!(again.published().is_empty(), ends[2], "{sources:?}");
    }
}

#[test]
fn requests_that_wait_are_refused_when_their_source_is_forbidden() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    let camera = rig.publish("c", Video, Camera);
    assert_eq!(rig.ask(Ask::AddTrack(add_track("c", Video, Camera))).refusals()[0].0, Reason::Queued);
    let got = change(&mut rig, rights(true, &[Microphone], true));
    assert_eq!(got.refusals().iter().map(|(reason, _)| *reason).collect::<Vec<_>>(), [Reason::NotAllowed]);
    let got = rig.sfu(Event::TrackUnpublished { participant: me(), track: camera });
    assert!(got.published().is_empty() && got.refusals().is_empty(), "it does not come up again");
}

#[test]
fn subscriptions_end_with_the_right_and_come_back_with_it() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    rig.present(&somebody("ann", 1, true));
    let got = change(&mut rig, rights(true, &[], false));
    assert_eq!(unsubscribed(&got), ["TR_AMann", "TR_VCann"]);
    assert!(matches!(got.commands()[0], Command::SetPermissions { .. }));
    assert!(subscribed(&rig.present(&somebody("bob", 1, true))).is_empty());
    let got = change(&mut rig, rights(true, &[], true));
    assert_eq!(subscribed(&got).len(), 4);
    assert!(matches!(got.commands()[0], Command::SetPermissions { .. }), "before the media plane is asked");
}

#[test]
fn the_same_rights_again_are_no_news_and_hidden_stays_as_it_was() {
    let mut rig = Rig::active(config(ConnectionMode::Single));
    assert_eq!(change(&mut rig, rights(true, &[], true)), Got::default());
    let hidden = proto::ParticipantPermission { hidden: true, ..rights(true, &[], true) };
    assert_eq!(change(&mut rig, hidden), Got::default());
}
