//! Packets name their media section (MID, RFC 9143 section 15) until the receiver has shown that it associates the
//! stream with the section.

mod harness;

use std::collections::BTreeMap;
use std::time::Duration;

use harness::network::Path;
use harness::raw::person::{Publish, SeenHeader, Setup};
use harness::raw::{RawWorld, announced};
use sfu_engine::rtp::extension::{EndToEndExtensions, Extension, read};
use sfu_engine::rtp::packet::RtpHeader;
use sfu_engine::transport::demux::{Protocol, protocol};
use sfu_protocol::MediaKind;

const ONE_WAY: Duration = Duration::from_millis(40);
/// Interval of this harness's receiver reports for audio.
const REPORTS: Duration = Duration::from_secs(5);
const PICTURE_REPORTS: Duration = Duration::from_secs(1);
/// Extension ids in the offers of a client.
const OFFERED: [(u8, Extension); 3] =
    [(1, Extension::AudioLevel), (3, Extension::TransportSequence), (4, Extension::Mid)];
/// Extension ids in the offers of the server.
const OURS: [(u8, Extension); 3] =
    [(1, Extension::AudioLevel), (6, Extension::TransportSequence), (7, Extension::Mid)];

fn publish(track: &str, kind: MediaKind) -> Publish {
    let codec = if kind == MediaKind::Audio { "opus" } else { "vp8" };
    let level = (kind == MediaKind::Audio).then_some(0x92);
    Publish {
        announced: announced(track, kind, codec),
        redundancy: 0,
        frame_bytes: vec![if kind == MediaKind::Audio { 100 } else { 3000 }],
        extensions: EndToEndExtensions { audio_level: level, ..EndToEndExtensions::default() },
    }
}

/// Ana publishes two audio and two video tracks; Ben receives all four.
fn two(is_offered: bool, extensions: [(u8, Extension); 3], link: Path) -> RawWorld {
    let uris = extensions.map(|(id, extension)| (id, extension.uri())).to_vec();
    let mut world = RawWorld::new(11, 1);
    let tracks = [
        ("TR_A1", MediaKind::Audio),
        ("TR_V1", MediaKind::Video),
        ("TR_A2", MediaKind::Audio),
        ("TR_V2", MediaKind::Video),
    ];
    let publishes = tracks.iter().map(|(track, kind)| publish(track, *kind)).collect();
    let ana = Setup { name: "ana", publishes, extensions: uris.clone(), nack: true, ..Setup::default() };
    world.join(ana, Path::with_delay(Duration::from_millis(10)));
    world.run(Duration::from_millis(500));
    let sections = if is_offered { 0 } else { 2 };
    let ben = Setup {
        name: "ben",
        audios: sections,
        videos: sections,
        extensions: uris,
        nack: true,
        is_offered,
        notes_headers: true,
        ..Setup::default()
    };
    world.join(ben, Path::with_delay(ONE_WAY));
    world.run(Duration::from_millis(500));
    for (track, kind) in tracks {
        world.subscribe(1, 0, track, kind);
    }
    world.links[1] = (Path::with_delay(ONE_WAY), link);
    world
}

/// Headers of the packets that Ben received, by SSRC.
fn by_source(world: &RawWorld) -> BTreeMap<u32, Vec<&SeenHeader>> {
    let mut sources: BTreeMap<u32, Vec<&SeenHeader>> = BTreeMap::new();
    for header in &world.people[1].headers {
        sources.entry(header.ssrc.0).or_default().push(header);
    }
    sources
}

#[test]
fn the_first_packet_of_each_section_names_it_and_those_after_a_report_do_not() {
    for (is_offered, extensions) in [(false, OFFERED), (true, OURS)] {
        let mut world = two(is_offered, extensions, Path::with_delay(ONE_WAY));
        world.run(REPORTS * 3);
        let ben = &world.people[1];
        let media: Vec<u32> = ben.sounds.iter().map(|sound| sound.ssrc.0).collect();
        let media = [media, ben.pictures.iter().map(|picture| picture.ssrc.0).collect()].concat();
        assert_eq!(media.len(), 4);
        let sources = by_source(&world);
        for ssrc in media {
            let (headers, mid) = (&sources[&ssrc], &ben.sections[&ssrc]);
            assert_eq!(headers[0].mid.as_ref(), Some(mid), "its first packet (offered: {is_offered})");
            let named = headers.iter().take_while(|header| header.mid.is_some()).count();
            assert!(headers[..named].iter().all(|header| header.mid.as_ref() == Some(mid)));
            assert!(headers[named..].iter().all(|header| header.mid.is_none()), "once, at a number");
            let took = headers[named].at - headers[0].at;
            assert!(took <= REPORTS + ONE_WAY * 3, "{took:?} until the first report has told");
        }
    }
}

#[test]
fn a_number_that_goes_out_twice_is_the_same_to_the_last_byte() {
    let loss = Path { loss: 0.25, ..Path::with_delay(ONE_WAY) };
    let mut world = two(false, OFFERED, loss);
    world.run(REPORTS * 6);
    let map = &world.people[1].map;
    let (mut twice, mut across) = (0, 0);
    for sound in &world.people[1].sounds {
        let (mut sent, mut unnamed) = (BTreeMap::new(), false);
        for datagram in world.sent.iter().filter(|datagram| protocol(datagram) == Some(Protocol::Rtp)) {
            let Ok(header) = RtpHeader::parse(datagram) else { continue };
            if header.ssrc != sound.ssrc {
                continue;
            }
            // Headers are not encrypted. Equal cipher text means that all of the cipher's input was equal.
            let named = read(datagram, &header, map).mid.is_some();
            let known = sent.entry(header.sequence).or_insert(datagram);
            assert_eq!(*known, datagram, "number {}", header.sequence);
            let again = !std::ptr::eq(*known, datagram);
            twice += u32::from(again);
            across += u32::from(again && named && unnamed);
            unnamed |= !named;
        }
    }
    assert!(twice > 0 && across > 0, "{twice} went out again, {across} of them behind the report");
}

#[test]
fn retransmissions_and_padding_name_their_section_until_then() {
    let loss = Path { loss: 0.1, ..Path::with_delay(ONE_WAY) };
    let mut world = two(false, OFFERED, loss);
    world.run(REPORTS * 2);
    let sources = by_source(&world);
    let (mut again, mut padding, mut behind) = (0, 0, 0);
    for picture in &world.people[1].pictures {
        let (media, repairs) = (&sources[&picture.ssrc.0], &sources[&picture.repair.0]);
        let mid = &world.people[1].sections[&picture.repair.0];
        let reported = media[0].at.min(repairs[0].at) + PICTURE_REPORTS;
        for header in repairs {
            if header.at < reported {
                assert_eq!(header.mid.as_ref(), Some(mid));
                again += u32::from(header.payload > 0);
                padding += u32::from(header.payload == 0);
            } else if header.at > reported + ONE_WAY * 3 {
                assert_eq!(header.mid, None);
                behind += 1;
            }
        }
    }
    assert!(behind > 0, "some went out behind the report");
    assert!(again > 0 && padding > 0, "{again} sent again, {padding} of padding");
}

#[test]
fn a_receiver_that_does_not_agree_gets_no_names() {
    let without = [OFFERED[0], OFFERED[1], (5, Extension::AbsoluteCaptureTime)];
    let mut world = two(false, without, Path::with_delay(ONE_WAY));
    world.people[1].map.insert(OFFERED[2].0, Extension::Mid);
    world.run(Duration::from_secs(1));
    assert!(world.people[1].headers.len() > 100);
    assert!(world.people[1].headers.iter().all(|header| header.mid.is_none()));
}
