//! Tests with offers of real clients, and with offers composed of single sections.
//!
//! The fixtures come from Chromium 156, Firefox ESR 153, livekit-client 2.23.0 and @livekit/rtc-node 1.1.0 (native
//! libwebrtc). `chromium-subscriber-answer` answers the offer that `subscriber::offered_to_chromium` makes.

mod answer;
mod hostile;
mod matching;
mod parse;
mod sections;
mod subscriber;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use sfu_protocol::{AddTrack, ClientTraits, MediaKind, ParticipantSid, Permissions, TrackSid};

use super::*;
use crate::limits::Limits;
use crate::rtp::codec::Codec;
use crate::rtp::codec::format::{Format, Profile};

const LIVEKIT_CLIENT: &str = include_str!("fixtures/livekit-client-initial.sdp");
const CHROMIUM_PUBLISH: &str = include_str!("fixtures/chromium-single-publish.sdp");
const CHROMIUM_DUAL: &str = include_str!("fixtures/chromium-dual-publisher.sdp");
const FIREFOX_PUBLISH: &str = include_str!("fixtures/firefox-single-publish.sdp");
const RTC_NODE: &str = include_str!("fixtures/rtc-node-initial.sdp");
const CHROMIUM_ANSWER: &str = include_str!("fixtures/chromium-subscriber-answer.sdp");
const OFFERS: [&str; 5] = [LIVEKIT_CLIENT, CHROMIUM_PUBLISH, CHROMIUM_DUAL, FIREFOX_PUBLISH, RTC_NODE];

/// One section of a composed offer, in Chromium's form.
#[derive(Clone, Copy)]
enum Part {
    /// Receives audio: mid.
    Hear(&'static str),
    /// Receives video: mid.
    See(&'static str),
    /// Sends audio: mid, track id.
    Speak(&'static str, &'static str),
    /// Sends video in three simulcast layers: mid, track id.
    Show(&'static str, &'static str),
    /// Data channels: mid.
    Data(&'static str),
    /// An inactive section of this kind: kind, mid.
    Idle(MediaKind, &'static str),
    /// A stopped section (port 0) of this kind: kind, mid.
    Stopped(MediaKind, &'static str),
    /// Sends and receives: mid, track id.
    Both(&'static str, &'static str),
}

fn offer(parts: &[Part]) -> String {
    let (head, sections) = split(CHROMIUM_PUBLISH);
    let template = |index: usize| sections[index].clone();
    let mut bundle = Vec::new();
    let mut text = String::new();
    for part in parts {
        let (section, mid, direction, cid) = match *part {
            Part::Hear(mid) => (template(0), mid, "recvonly", None),
            Part::See(mid) => (template(3), mid, "recvonly", None),
            Part::Speak(mid, cid) => (template(6), mid, "sendonly", Some(cid)),
            Part::Show(mid, cid) => (template(7), mid, "sendonly", Some(cid)),
            Part::Both(mid, cid) => (template(6), mid, "sendrecv", Some(cid)),
            Part::Data(mid) => (template(8), mid, "", None),
            Part::Idle(kind, mid) | Part::Stopped(kind, mid) => {
                (template(if kind == MediaKind::Audio { 0 } else { 3 }), mid, "inactive", None)
            }
        };
        let stopped = matches!(part, Part::Stopped(..));
        if !stopped {
            bundle.push(mid);
        }
        for line in section.lines() {
            let line = match line {
                _ if line.starts_with("a=mid:") => format!("a=mid:{mid}"),
                "a=recvonly" | "a=sendonly" => format!("a={direction}"),
                _ if line.starts_with("a=msid:") => format!("a=msid:stream {}", cid.unwrap_or("")),
                _ if line.starts_with("a=ssrc:") => continue,
                _ if stopped && line.starts_with("m=") => line.replacen(" 9 ", " 0 ", 1),
                _ => line.to_owned(),
            };
            text.push_str(&line);
            text.push_str("\r\n");
        }
    }
    let head: String = head
        .lines()
        .map(|line| match line.starts_with("a=group:") {
            true => format!("a=group:BUNDLE {}\r\n", bundle.join(" ")),
            false => format!("{line}\r\n"),
        })
        .collect();
    head + &text
}

/// Session part and media sections of a description.
fn split(sdp: &str) -> (String, Vec<String>) {
    let mut pieces = sdp.split("\r\nm=").map(|piece| format!("{}\r\n", piece.trim_end()));
    let head = pieces.next().unwrap_or_default();
    (head, pieces.map(|section| format!("m={section}")).collect())
}

/// The lines of one section of a description, by mid.
fn lines<'a>(sections: &'a [String], mid: &str) -> Vec<&'a str> {
    let named = format!("a=mid:{mid}");
    let section = sections.iter().find(|section| section.lines().any(|line| line == named));
    section.map(|section| section.lines().collect()).unwrap_or_default()
}

fn local() -> LocalParameters {
    LocalParameters {
        ice: IceCredentials { ufrag: "serv".to_owned(), pwd: "0123456789abcdefghijkl".to_owned() },
        fingerprint: Fingerprint { algorithm: "sha-256".to_owned(), value: (0..32).collect() },
        candidates: vec!["192.0.2.1:7882".parse().unwrap(), "[2001:db8::1]:7882".parse().unwrap()],
    }
}

fn announced(track: &str, cid: &str, kind: MediaKind) -> AddTrack {
    AddTrack {
        track: TrackSid::new(track),
        cids: vec![cid.to_owned()],
        kind,
        codecs: Vec::new(),
        layers: Vec::new(),
        muted: false,
        stereo: false,
        disable_dtx: false,
        disable_red: false,
        encrypted: false,
        screen_share: false,
        playout_delay: None,
        part: sfu_protocol::TrackPart::default(),
    }
}

fn wanted(track: &str, kind: MediaKind) -> WantedTrack {
    WantedTrack {
        track: TrackSid::new(track),
        publisher: ParticipantSid::new("PA_other"),
        kind,
        available: Vec::new(),
    }
}

/// A connection with what is needed to apply offers to it.
struct Connection {
    negotiation: Negotiation,
    local: LocalParameters,
    permissions: Permissions,
    rng: SmallRng,
}

impl Connection {
    fn new(role: Role) -> Self {
        Self::of(role, ClientTraits::default())
    }

    fn of(role: Role, client: ClientTraits) -> Self {
        Self {
            negotiation: Negotiation::new(role, client, Limits::default()),
            local: local(),
            permissions: Permissions::default(),
            rng: SmallRng::seed_from_u64(7),
        }
    }

    fn try_offer(
        &mut self,
        sdp: &str,
        pending: &[AddTrack],
        wanted: &[WantedTrack],
    ) -> Result<Outcome, SdpError> {
        let Self { negotiation, local, permissions, rng } = self;
        let offer = negotiation.read(sdp)?;
        negotiation.apply_offer(&offer, local, pending, wanted, *permissions, rng)
    }

    fn is_bound(&self, track: &str) -> bool {
        self.negotiation.bound_tracks().contains(&TrackSid::new(track))
    }

    /// Matches a single announcement, with no others pending.
    fn announce(&mut self, track: AddTrack) -> Option<PublishedSection> {
        self.negotiation.match_parked(&[track]).pop()
    }

    fn offer(&mut self, sdp: &str, pending: &[AddTrack], wanted: &[WantedTrack]) -> Outcome {
        self.try_offer(sdp, pending, wanted).unwrap()
    }
}
