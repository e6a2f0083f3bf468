//! Simulcast without RIDs: layers are distinguished by their SSRCs, which the offer or the announcement names.

mod harness;

use std::time::Duration;

use harness::World;
use harness::client::NewPublisher;
use sfu_protocol::{AddTrack, Command, LayerQuality, MediaKind, SimulcastLayer, TrackDemand, TrackSid};
use str0m::format::Codec;

const NEAR: Duration = Duration::from_millis(10);
const TRACK: &str = "TR_ssrc";
const CID: &str = "camera";
const LAYERS: [(&str, usize); 3] = [("q", 500), ("h", 1500), ("f", 5000)];
const WIDTHS: [u32; 3] = [320, 640, 1280];

/// Place where the SSRCs of the layers are named.
#[derive(Clone, Copy, PartialEq)]
enum Named {
    /// In the offer, as `a=ssrc-group:SIM` and `FID`, as older browsers did.
    Description,
    /// In the layers of the announcement, as some native clients do; the offer has no SSRC groups.
    Announcement,
}

/// Ana publishes three layers, ben receives.
fn call(seed: u64, named: Named) -> (World, usize, usize, TrackSid) {
    let mut world = World::new(seed, 2);
    let ana = world.join("ana", 0, NEAR);
    let ben = world.join("ben", 1, NEAR);
    let track = publish(&mut world, ana, named);
    world.connect(ben);
    world.run(Duration::from_secs(4));
    (world, ana, ben, track)
}

fn publish(world: &mut World, client: usize, named: Named) -> TrackSid {
    let track = TrackSid::new(TRACK);
    let new = NewPublisher {
        track: track.clone(),
        cid: CID.to_owned(),
        layers: LAYERS.iter().map(|(rid, bytes)| ((*rid).to_owned(), *bytes)).collect(),
        interval: Duration::from_micros(33_333),
        codec: Codec::Vp8,
        time_offset: 0,
    };
    let now = world.now;
    let ana = &mut world.clients[client];
    ana.edit_answer = Some(with_rids);
    let offer = ana.offer(&[new], 3, 3, now);
    let mid = ana.publishers[0].mid;
    let sources = sources_of(&offer, &mid.to_string());
    let (participant, shard) = (ana.participant.clone(), ana.shard);
    let announced = announcement(&track, (named == Named::Announcement).then_some(&sources));
    let sdp = without_rids(&offer, &mid.to_string(), (named == Named::Description).then_some(&sources));
    world.command(shard, Command::AddTrack { participant: participant.clone(), track: Box::new(announced) });
    world.command(shard, Command::Offer { participant, id: 0, sdp });
    track
}

fn announcement(track: &TrackSid, sources: Option<&Vec<(u32, u32)>>) -> AddTrack {
    let qualities = [LayerQuality::Low, LayerQuality::Medium, LayerQuality::High];
    let layers = (0..3).map(|place| {
        let (ssrc, repair_ssrc) = sources.map_or((0, 0), |sources| sources[place]);
        SimulcastLayer {
            quality: qualities[place],
            width: WIDTHS[place],
            height: WIDTHS[place] * 9 / 16,
            bitrate_bps: 0,
            ssrc,
            repair_ssrc,
            rid: String::new(),
        }
    });
    AddTrack {
        track: track.clone(),
        cids: vec![CID.to_owned()],
        kind: MediaKind::Video,
        codecs: vec!["vp8".to_owned()],
        layers: layers.collect(),
        muted: false,
        stereo: false,
        disable_dtx: false,
        disable_red: true,
        encrypted: false,
        screen_share: false,
        playout_delay: None,
        part: sfu_protocol::TrackPart::default(),
    }
}

/// Media and retransmission SSRC of each layer, lowest first. The client's stack writes them next to the RIDs.
fn sources_of(offer: &str, mid: &str) -> Vec<(u32, u32)> {
    let this_section = format!("a=mid:{mid}");
    let section = offer.split("\r\nm=").find(|section| section.lines().any(|line| line == this_section));
    let groups =
        section.expect("the section").lines().filter_map(|line| line.strip_prefix("a=ssrc-group:FID "));
    let sources: Vec<(u32, u32)> = groups
        .map(|pair| {
            let (media, repair) = pair.trim().split_once(' ').expect("a pair");
            (media.parse().expect("a number"), repair.parse().expect("a number"))
        })
        .collect();
    assert_eq!(sources.len(), LAYERS.len());
    sources
}

/// The offer of a client without RIDs: their lines and header extensions are removed.
fn without_rids(offer: &str, mid: &str, sources: Option<&Vec<(u32, u32)>>) -> String {
    let this_section = format!("a=mid:{mid}");
    let sections: Vec<&str> = offer.split("\r\nm=").collect();
    let edited = sections.iter().map(|section| {
        let here = section.lines().any(|line| line == this_section);
        let kept = section.lines().filter(|line| {
            let about_rids = ["a=rid:", "a=simulcast:"].iter().any(|start| line.starts_with(start))
                || line.contains("rtp-stream-id");
            let about_sources = here && line.starts_with("a=ssrc");
            !about_rids && !about_sources
        });
        let mut lines: Vec<String> = kept.map(str::to_owned).collect();
        if let Some(sources) = sources.filter(|_| here) {
            let media: Vec<String> = sources.iter().map(|(media, _)| media.to_string()).collect();
            lines.push(format!("a=ssrc-group:SIM {}", media.join(" ")));
            for (media, repair) in sources {
                lines.push(format!("a=ssrc-group:FID {media} {repair}"));
                lines.push(format!("a=ssrc:{media} cname:ana"));
                lines.push(format!("a=ssrc:{repair} cname:ana"));
            }
        }
        lines.join("\r\n")
    });
    edited.collect::<Vec<_>>().join("\r\nm=") + "\r\n"
}

/// Adds RIDs to an answer for the client's stack, which sends no layer whose RID was not accepted.
fn with_rids(answer: &str) -> String {
    assert!(
        !answer.contains("a=rid:") && !answer.contains("rtp-stream-id"),
        "the server speaks of no RIDs either"
    );
    let accepted = "a=rid:q recv\r\na=rid:h recv\r\na=rid:f recv\r\na=simulcast:recv q;h;f\r\n";
    let sections = answer.split_inclusive("\r\nm=");
    // In an answer, only the sections in which the client publishes are receive-only.
    sections.map(|section| section.replace("a=recvonly\r\n", &format!("a=recvonly\r\n{accepted}"))).collect()
}

fn tile(layer: usize) -> TrackDemand {
    TrackDemand { width: WIDTHS[layer], height: WIDTHS[layer] * 9 / 16, ..TrackDemand::default() }
}

#[test]
fn three_layers_arrive_and_the_tile_chooses_among_them() {
    for (seed, named) in [(80, Named::Description), (81, Named::Announcement)] {
        let (mut world, _, ben, track) = call(seed, named);
        for layer in [0, 2, 1, 0] {
            let before = world.clients[ben].frames_of(&track).len();
            world.set_demand(ben, &track, tile(layer));
            let changed = |world: &World| {
                let frames = world.clients[ben].frames_of(&track);
                frames[before..].iter().any(|frame| usize::from(frame.layer) == layer)
            };
            assert!(world.run_until(Duration::from_millis(1200), changed), "layer {layer} within 1.2 s");
            world.run(Duration::from_secs(2));
            let last = world.clients[ben].frames_of(&track).last().map(|frame| usize::from(frame.layer));
            assert_eq!(last, Some(layer), "and it stays");
        }
        let frames = world.clients[ben].frames_of(&track);
        assert!(frames.len() > 200, "{}", frames.len());
        assert!(frames.iter().all(|frame| frame.intact && frame.contiguous), "no hole in the numbering");
    }
}

#[test]
fn losses_of_each_layer_are_repaired() {
    for (seed, named) in [(82, Named::Description), (83, Named::Announcement)] {
        let (mut world, ana, ben, track) = call(seed, named);
        for layer in [0, 1, 2] {
            world.set_demand(ben, &track, tile(layer));
            world.run(Duration::from_secs(2));
            let repaired = world.shards[0].stats().received.retransmitted.packets;
            let before = world.clients[ben].frames_of(&track).len();
            let asked = world.clients[ana].key_frame_requests.len();
            world.links[ana].0.loss = 0.1;
            world.run(Duration::from_secs(6));
            world.links[ana].0.loss = 0.0;
            world.run(Duration::from_secs(1));
            let frames = &world.clients[ben].frames_of(&track)[before..];
            let numbers: Vec<u32> = frames.iter().map(|frame| frame.number).collect();
            assert!(
                frames.len() > 200 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
                "none is missing"
            );
            assert!(
                frames
                    .iter()
                    .all(|frame| usize::from(frame.layer) == layer && frame.intact && frame.contiguous)
            );
            let repaired = world.shards[0].stats().received.retransmitted.packets - repaired;
            assert_eq!(world.clients[ana].key_frame_requests.len(), asked, "no key frame had to help");
            assert!(repaired > 10, "layer {layer}: {repaired} packets repaired");
        }
    }
}
