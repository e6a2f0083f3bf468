//! Header extensions that are negotiated, per direction. Adding one is one line here.

use sfu_protocol::MediaKind;

use super::description::{Direction, Section};
use crate::rtp::extension::Extension;

/// RFC 9143: the section that a packet belongs to.
pub const MID: &str = Extension::Mid.uri();
/// RFC 8852: the simulcast stream that a packet belongs to.
pub const RID: &str = Extension::Rid.uri();
/// RFC 8852: the simulcast stream that a retransmission repairs.
pub const REPAIRED_RID: &str = Extension::RepairedRid.uri();
/// RFC 6464: loudness.
pub const AUDIO_LEVEL: &str = Extension::AudioLevel.uri();
/// Transport-wide sequence numbers.
pub const TRANSPORT_CC: &str = Extension::TransportSequence.uri();
/// Time of sending, 24 bits.
pub const ABS_SEND_TIME: &str = Extension::AbsoluteSendTime.uri();
/// AV1 RTP specification, appendix A.
pub const DEPENDENCY_DESCRIPTOR: &str = Extension::DependencyDescriptor.uri();
/// Time of capture in the publisher's clock.
pub const ABS_CAPTURE_TIME: &str = Extension::AbsoluteCaptureTime.uri();
/// 3GPP TS 26.114: rotation.
pub const VIDEO_ORIENTATION: &str = Extension::VideoOrientation.uri();
/// Bounds of the receiver's delay.
pub const PLAYOUT_DELAY: &str = Extension::PlayoutDelay.uri();

/// What we read of published media; holds all that we send, too. `ABS_SEND_TIME` only stands in where `TRANSPORT_CC` is
/// not offered.
const PUBLISHED: &[&str] = &[
    MID,
    RID,
    REPAIRED_RID,
    AUDIO_LEVEL,
    TRANSPORT_CC,
    ABS_SEND_TIME,
    DEPENDENCY_DESCRIPTOR,
    ABS_CAPTURE_TIME,
    VIDEO_ORIENTATION,
    PLAYOUT_DELAY,
];

/// What we write on sound that we send, with the ids of our own offers.
const SENT_AUDIO: &[(u8, &str)] = &[(1, AUDIO_LEVEL), (2, ABS_CAPTURE_TIME), (7, MID)];

/// What we write on pictures that we send, with the ids of our own offers.
const SENT_VIDEO: &[(u8, &str)] = &[
    (2, ABS_CAPTURE_TIME),
    (3, VIDEO_ORIENTATION),
    (4, PLAYOUT_DELAY),
    (5, DEPENDENCY_DESCRIPTOR),
    (6, TRANSPORT_CC),
    (7, MID),
];

/// Ids above this need two-byte headers (RFC 8285 section 4.2), which we neither ask for nor send.
const LARGEST_ID: u8 = 14;

/// What we answer to a section, whoever sends in it, with the direction that it is offered for. Chromium
/// never offers again, in any section of the connection, what one answer left out: a section in which we send
/// must therefore keep RID and the like alive for those in which the client will.
pub(super) fn answered(section: &Section) -> Vec<(u8, &'static str, Direction)> {
    let mut accepted: Vec<(u8, &'static str, Direction)> = PUBLISHED
        .iter()
        .filter_map(|uri| {
            let offered = section.extensions.iter().find(|offered| offered.uri == *uri)?;
            (offered.id <= LARGEST_ID).then_some((offered.id, *uri, offered.direction))
        })
        .collect();
    if accepted.iter().any(|(_, uri, _)| *uri == TRANSPORT_CC) {
        accepted.retain(|(_, uri, _)| *uri != ABS_SEND_TIME);
    }
    accepted.sort_unstable_by_key(|(id, ..)| *id);
    accepted
}

/// Of what was answered to a section, what the client writes on packets that it sends in it.
pub(super) fn accept_published(section: &Section) -> Vec<(u8, &'static str)> {
    let sent = answered(section).into_iter().filter(|(.., direction)| direction.sends());
    sent.map(|(id, uri, _)| (id, uri)).collect()
}

/// Of what was answered to a section, what we write on packets that we send in it.
pub(super) fn accept_sent(section: &Section, kind: MediaKind) -> Vec<(u8, &'static str)> {
    let written = answered(section).into_iter().filter(|(_, uri, direction)| {
        direction.receives() && offered(kind).iter().any(|(_, written)| written == uri)
    });
    written.map(|(id, uri, _)| (id, uri)).collect()
}

/// What we offer in a section of our own.
pub(super) fn offered(kind: MediaKind) -> &'static [(u8, &'static str)] {
    match kind {
        MediaKind::Audio => SENT_AUDIO,
        MediaKind::Video => SENT_VIDEO,
    }
}

/// Of what we offered, what an answer's section kept.
pub(super) fn kept_by_answer(section: &Section, kind: MediaKind) -> Vec<(u8, &'static str)> {
    let theirs = |id: u8, uri: &str| {
        section.extensions.iter().any(|extension| extension.id == id && extension.uri == uri)
    };
    offered(kind).iter().copied().filter(|(id, uri)| theirs(*id, uri)).collect()
}
