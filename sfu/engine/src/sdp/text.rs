//! Writing descriptions: the lines that answers and offers have in common.

use std::net::SocketAddr;

use rtc_sdp::description::common::{Address, Attribute, ConnectionInformation};
use rtc_sdp::description::media::{MediaDescription, MediaName, RangedPort};
use rtc_sdp::description::session::{Origin, SessionDescription, TimeDescription};
use sfu_protocol::{ParticipantSid, TrackSid};

use super::codecs::NegotiatedCodec;
use super::negotiation::LocalParameters;
use crate::units::Ssrc;

/// Track and SSRCs that a section states when we send in it.
pub(super) struct Source<'a> {
    pub track: &'a TrackSid,
    pub publisher: &'a ParticipantSid,
    pub ssrc: Ssrc,
    pub rtx: Option<Ssrc>,
}

/// Builder of one media section.
pub(super) struct SectionText {
    media: MediaDescription,
}

impl SectionText {
    /// An accepted section: its port is not zero.
    pub fn new(media: &str, protocol: &str, mid: &str) -> Self {
        let address = Address { address: "0.0.0.0".to_owned(), ttl: None, range: None };
        let media = MediaDescription {
            media_name: MediaName {
                media: media.to_owned(),
                port: RangedPort { value: 9, range: None },
                protos: protocol.split('/').map(str::to_owned).collect(),
                formats: Vec::new(),
            },
            connection_information: Some(ConnectionInformation {
                network_type: "IN".to_owned(),
                address_type: "IP4".to_owned(),
                address: Some(address),
            }),
            ..MediaDescription::default()
        };
        let mut section = Self { media };
        section.value("mid", mid);
        section
    }

    /// Adds `a=<key>`.
    pub fn flag(&mut self, key: &str) {
        self.media.attributes.push(Attribute::new(key.to_owned(), None));
    }

    /// Adds `a=<key>:<value>`.
    pub fn value(&mut self, key: &str, value: impl Into<String>) {
        self.media.attributes.push(Attribute::new(key.to_owned(), Some(value.into())));
    }

    /// Adds formats to the m-line without describing them.
    pub fn formats(&mut self, formats: &[String]) {
        self.media.media_name.formats.extend_from_slice(formats);
    }

    /// Sets port 0, which rejects the section (RFC 3264 section 6).
    pub fn reject(&mut self) {
        self.media.media_name.port.value = 0;
    }

    /// Adds ICE credentials, certificate fingerprint and DTLS role.
    pub fn transport(&mut self, local: &LocalParameters, setup: &str) {
        self.value("ice-ufrag", &local.ice.ufrag);
        self.value("ice-pwd", &local.ice.pwd);
        self.value("ice-options", "trickle");
        self.value("fingerprint", fingerprint_text(local));
        self.value("setup", setup);
    }

    /// Adds our host candidates and states that no others follow (RFC 8839, RFC 8840).
    pub fn candidates(&mut self, candidates: &[SocketAddr]) {
        for (index, address) in candidates.iter().enumerate() {
            // RFC 8445 section 5.1.2.1: type preference 126 for host candidates, component 1.
            let local_preference = u32::from(u16::MAX).saturating_sub(index as u32);
            let priority = (126 << 24) | (local_preference << 8) | 255;
            let (ip, port, foundation) = (address.ip(), address.port(), index + 1);
            self.value("candidate", format!("{foundation} 1 udp {priority} {ip} {port} typ host"));
        }
        self.flag("end-of-candidates");
    }

    /// Adds `a=rtcp-mux`, which BUNDLE requires, and optionally reduced-size RTCP (RFC 5506).
    pub fn rtcp(&mut self, reduced_size: bool) {
        self.flag("rtcp-mux");
        if reduced_size {
            self.flag("rtcp-rsize");
        }
    }

    /// Adds `a=extmap` lines.
    pub fn extensions(&mut self, extensions: &[(u8, &'static str)]) {
        for (id, uri) in extensions {
            self.value("extmap", format!("{id} {uri}"));
        }
    }

    /// Adds payload types with their RTX payload types, format parameters and feedback.
    pub fn codecs(&mut self, codecs: &[NegotiatedCodec]) {
        for codec in codecs {
            let number = codec.payload_type.0;
            self.media.media_name.formats.push(number.to_string());
            self.value("rtpmap", format!("{number} {}", codec.encoding));
            if !codec.fmtp.is_empty() {
                self.value("fmtp", format!("{number} {}", codec.fmtp));
            }
            for feedback in &codec.feedback {
                self.value("rtcp-fb", format!("{number} {feedback}"));
            }
            if let Some(rtx) = codec.rtx {
                self.media.media_name.formats.push(rtx.0.to_string());
                self.value("rtpmap", format!("{} rtx/90000", rtx.0));
                self.value("fmtp", format!("{} apt={number}", rtx.0));
            }
        }
    }

    /// Adds the stream and track ids and the SSRCs that we send with.
    pub fn source(&mut self, source: &Source<'_>) {
        let Source { track, publisher, ssrc, rtx } = source;
        self.value("msid", format!("{publisher}|{track} {track}"));
        if let Some(rtx) = rtx {
            self.value("ssrc-group", format!("FID {} {}", ssrc.0, rtx.0));
        }
        // All tracks of a participant share one canonical name, because they share one clock (RFC 3550 section
        // 6.5.1).
        for ssrc in [Some(*ssrc), *rtx].into_iter().flatten() {
            self.value("ssrc", format!("{} cname:{publisher}", ssrc.0));
        }
    }

    /// Adds the lines of a data channel section.
    pub fn data(&mut self) {
        self.formats(&["webrtc-datachannel".to_owned()]);
        self.value("sctp-port", SCTP_PORT.to_string());
        self.value("max-message-size", MAX_MESSAGE_SIZE.to_string());
    }

    pub fn finish(self) -> MediaDescription {
        self.media
    }
}

/// Writes a complete description. `id` is the session id and version of the origin line.
pub(super) fn session(
    id: (u64, u64),
    bundle: &[&str],
    extmap_allow_mixed: bool,
    sections: Vec<MediaDescription>,
) -> String {
    let mut session = SessionDescription {
        origin: Origin {
            username: "-".to_owned(),
            session_id: id.0,
            session_version: id.1,
            network_type: "IN".to_owned(),
            address_type: "IP4".to_owned(),
            unicast_address: "127.0.0.1".to_owned(),
        },
        session_name: "-".to_owned(),
        time_descriptions: vec![TimeDescription::default()],
        media_descriptions: sections,
        ..SessionDescription::default()
    };
    let mut value = |key: &str, value: Option<String>| {
        session.attributes.push(Attribute::new(key.to_owned(), value));
    };
    if !bundle.is_empty() {
        value("group", Some(format!("BUNDLE {}", bundle.join(" "))));
    }
    if extmap_allow_mixed {
        value("extmap-allow-mixed", None);
    }
    value("msid-semantic", Some(" WMS *".to_owned()));
    value("ice-lite", None);
    session.marshal()
}

fn fingerprint_text(local: &LocalParameters) -> String {
    let bytes: Vec<String> = local.fingerprint.value.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("{} {}", local.fingerprint.algorithm, bytes.join(":"))
}

/// SCTP port of both sides. It is not a UDP port: SCTP runs inside DTLS (RFC 8261).
const SCTP_PORT: u16 = 5000;
/// Clients limit their own messages to 64,000 bytes, and refuse to send if this value is below 65,535.
const MAX_MESSAGE_SIZE: u32 = 65_536;
