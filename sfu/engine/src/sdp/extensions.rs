//! The header extensions that we negotiate, for each direction. To add one, add a line here.

use sfu_protocol::MediaKind;

use super::description::{Direction, Section};
use crate::rtp::extension::Extension;

/// Mid of the section that a packet belongs to (RFC 9143).
pub const MID: &str = Extension::Mid.uri();
/// RID of the simulcast stream that a packet belongs to (RFC 8852).
pub const RID: &str = Extension::Rid.uri();
/// RID of the simulcast stream that a retransmission repairs (RFC 8852).
pub const REPAIRED_RID: &str = Extension::RepairedRid.uri();
/// Audio level (RFC 6464).
pub const AUDIO_LEVEL: &str = Extension::AudioLevel.uri();
/// Transport-wide sequence number, for congestion control feedback.
pub const TRANSPORT_CC: &str = Extension::TransportSequence.uri();
/// Absolute send time, 24 bits.
pub const ABS_SEND_TIME: &str = Extension::AbsoluteSendTime.uri();
/// Dependency descriptor (AV1 RTP specification, appendix A).
pub const DEPENDENCY_DESCRIPTOR: &str = Extension::DependencyDescriptor.uri();
/// Absolute capture time in the publisher's clock.
pub const ABS_CAPTURE_TIME: &str = Extension::AbsoluteCaptureTime.uri();
/// Video orientation (3GPP TS 26.114).
pub const VIDEO_ORIENTATION: &str = Extension::VideoOrientation.uri();
/// Playout delay: minimum and maximum of the receiver's delay.
pub const PLAYOUT_DELAY: &str = Extension::PlayoutDelay.uri();

/// Extensions that we accept on published media. The list also contains all extensions that we send. `ABS_SEND_TIME`
/// is used only where `TRANSPORT_CC` is not offered.
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

/// Extensions that we write on audio, with the ids of our own offers.
const SENT_AUDIO: &[(u8, &str)] = &[(1, AUDIO_LEVEL), (2, ABS_CAPTURE_TIME), (7, MID)];

/// Extensions that we write on video, with the ids of our own offers.
const SENT_VIDEO: &[(u8, &str)] = &[
    (2, ABS_CAPTURE_TIME),
    (3, VIDEO_ORIENTATION),
    (4, PLAYOUT_DELAY),
    (5, DEPENDENCY_DESCRIPTOR),
    (6, TRANSPORT_CC),
    (7, MID),
];

/// Larger ids need two-byte headers (RFC 8285 section 4.2), which we neither ask for nor send.
const LARGEST_ID: u8 = 14;

/// Extensions that our answer accepts in a section, with the offered direction, whichever side sends there. If one
/// answer leaves out an extension, Chromium never offers it again in any section of the connection. A section in
/// which we send must therefore also accept RID and other extensions that only the client uses.
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

/// Accepted extensions that the client writes on packets it sends in the section.
pub(super) fn accept_published(section: &Section) -> Vec<(u8, &'static str)> {
    let sent = answered(section).into_iter().filter(|(.., direction)| direction.sends());
    sent.map(|(id, uri, _)| (id, uri)).collect()
}

/// Accepted extensions that we write on packets we send in the section.
pub(super) fn accept_sent(section: &Section, kind: MediaKind) -> Vec<(u8, &'static str)> {
    let written = answered(section).into_iter().filter(|(_, uri, direction)| {
        direction.receives() && offered(kind).iter().any(|(_, written)| written == uri)
    });
    written.map(|(id, uri, _)| (id, uri)).collect()
}

/// Extensions in our own offers.
pub(super) fn offered(kind: MediaKind) -> &'static [(u8, &'static str)] {
    match kind {
        MediaKind::Audio => SENT_AUDIO,
        MediaKind::Video => SENT_VIDEO,
    }
}

/// Extensions of our offer that the answer accepted.
pub(super) fn kept_by_answer(section: &Section, kind: MediaKind) -> Vec<(u8, &'static str)> {
    let theirs = |id: u8, uri: &str| {
        section.extensions.iter().any(|extension| extension.id == id && extension.uri == uri)
    };
    offered(kind).iter().copied().filter(|(id, uri)| theirs(*id, uri)).collect()
}
