//! The codecs that we relay, and which payload types of an offer are accepted. Answers use the offer's numbers.

use sfu_protocol::{AddTrack, ClientTraits, MediaKind};

use super::description::{CodecParameters, Section, SectionKind};
use crate::rtp::codec::Codec;
use crate::rtp::codec::format::{Format, Profile, parameter};
use crate::units::PayloadType;

/// A payload type that both sides have agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NegotiatedCodec {
    /// RTP payload type number.
    pub payload_type: PayloadType,
    /// Codec of the payload type.
    pub codec: Codec,
    /// Payload type of the retransmissions (RFC 4588); `None` without RTX.
    pub rtx: Option<PayloadType>,
    /// Format parameters, as in our own description.
    pub fmtp: String,
    /// Agreed `a=rtcp-fb` values.
    pub feedback: Vec<&'static str>,
    /// `<encoding name>/<clock rate>[/<channels>]`, as offered.
    pub encoding: String,
}

impl NegotiatedCodec {
    /// The codec profile that this payload type stands for.
    pub fn profile(&self) -> Profile {
        // Payload types with unsupported parameters were not accepted.
        Profile::of(self.codec, &self.fmtp).unwrap_or(Profile::Only)
    }

    /// Whether a receiver that agreed on `self` can decode what is published as `format`.
    pub fn decodes(&self, format: &Format) -> bool {
        self.codec == format.codec && self.profile().decodes(format.profile)
    }

    /// Whether `nack` was agreed.
    pub fn nack(&self) -> bool {
        self.feedback.contains(&"nack")
    }

    /// Whether the receiver's own estimate (`goog-remb`) was agreed.
    pub fn remb(&self) -> bool {
        self.feedback.contains(&"goog-remb")
    }

    /// Whether congestion control feedback (RFC 8888 section 6) was agreed.
    pub fn congestion_feedback(&self) -> bool {
        self.feedback.contains(&CONGESTION_FEEDBACK)
    }

    /// Whether `transport-cc` was agreed.
    pub fn transport_cc(&self) -> bool {
        self.feedback.contains(&"transport-cc")
    }
}

/// The codec with this MIME subtype, ignoring case; `None` if it is not relayed.
pub fn codec_named(name: &str) -> Option<Codec> {
    KNOWN.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name)).map(|(_, codec, _)| *codec)
}

/// `audio/opus`, `video/vp8`, …
pub fn mime_type(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "audio/opus",
        Codec::Red => "audio/red",
        Codec::Pcmu => "audio/pcmu",
        Codec::Pcma => "audio/pcma",
        Codec::Vp8 => "video/vp8",
        Codec::Vp9 => "video/vp9",
        Codec::H264 => "video/h264",
        Codec::Av1 => "video/av1",
    }
}

/// Payload types to accept in a section in which the client sends. The announced codecs come first (after RED, if
/// preferred). Without an announcement every known codec is accepted, so that the answer need not wait for it.
pub(super) fn accept_published(
    section: &Section,
    client: ClientTraits,
    announced: Option<&AddTrack>,
) -> Vec<NegotiatedCodec> {
    let red = PREFER_RED || announced.is_some_and(|track| track.codecs.iter().any(|codec| codec == "red"));
    let no_red = client.firefox || announced.is_some_and(|track| track.disable_red || track.encrypted);
    let wishes: &[String] = announced.map_or(&[], |track| &track.codecs);
    let mut preferred: Vec<Codec> = wishes.iter().filter_map(|name| codec_named(name)).collect();
    if red {
        preferred.insert(0, Codec::Red);
    }
    let feedback = match section.kind {
        SectionKind::Video => PUBLISHED_VIDEO_FEEDBACK,
        _ => PUBLISHED_AUDIO_FEEDBACK,
    };
    let mut codecs = accept(section, feedback);
    codecs.retain(|codec| codec.codec != Codec::Red || !no_red);
    prefer(&mut codecs, &preferred);
    // Firefox sends the first codec of its own order that both sides know, not the first in the answer.
    if let Some(first) = codecs.first().map(|codec| codec.codec)
        && client.firefox
        && preferred.contains(&first)
    {
        codecs.retain(|codec| codec.codec == first);
    }
    for codec in codecs.iter_mut().filter(|codec| codec.codec == Codec::Opus) {
        if announced.is_some_and(|track| !track.disable_dtx) {
            codec.fmtp.push_str(";usedtx=1");
        }
        if is_stereo(section, announced) {
            codec.fmtp.push_str(";stereo=1;maxaveragebitrate=510000");
        }
    }
    codecs
}

/// Whether the client sends stereo audio, by its announcement or its description (RFC 7587 section 6.1).
pub(super) fn is_stereo(section: &Section, announced: Option<&AddTrack>) -> bool {
    let says = |codec: &CodecParameters| {
        codec_of(codec, section.kind) == Some(Codec::Opus)
            && parameter(&codec.fmtp, "sprop-stereo") == Some("1")
    };
    announced.is_some_and(|track| track.stereo) || section.codecs.iter().any(says)
}

/// Payload types to accept in a section in which the client receives; the track's own codecs come first. All other
/// common codecs are accepted too, because a publisher may change its codec.
pub(super) fn accept_sent(
    section: &Section,
    client: ClientTraits,
    available: &[Format],
) -> Vec<NegotiatedCodec> {
    let feedback = match section.kind {
        SectionKind::Video => SENT_VIDEO_FEEDBACK,
        _ => SENT_AUDIO_FEEDBACK,
    };
    let mut codecs = accept(section, feedback);
    codecs.retain(|codec| codec.codec != Codec::Red || !client.firefox);
    fit(&mut codecs, available);
    codecs
}

/// Payload types that we offer in a section of our own, with our own numbers.
pub(super) fn offered(kind: MediaKind, client: ClientTraits, available: &[Format]) -> Vec<NegotiatedCodec> {
    let (table, feedback) = match kind {
        MediaKind::Audio => (OFFERED_AUDIO, SENT_AUDIO_FEEDBACK),
        MediaKind::Video => (OFFERED_VIDEO, SENT_VIDEO_FEEDBACK),
    };
    let mut codecs: Vec<NegotiatedCodec> = table
        .iter()
        .filter(|(_, codec, ..)| *codec != Codec::Red || !client.firefox)
        .map(|(payload_type, codec, rtx, encoding, fmtp)| NegotiatedCodec {
            payload_type: PayloadType(*payload_type),
            codec: *codec,
            rtx: rtx.map(PayloadType),
            fmtp: (*fmtp).to_owned(),
            feedback: if *codec == Codec::Red { Vec::new() } else { feedback.to_vec() },
            encoding: (*encoding).to_owned(),
        })
        .collect();
    fit(&mut codecs, available);
    codecs
}

/// The part of our offer that the answer accepted, in the answer's order.
pub(super) fn kept_by_answer(offered: &[NegotiatedCodec], section: &Section) -> Vec<NegotiatedCodec> {
    let mut kept = Vec::new();
    for answered in &section.codecs {
        let ours = offered.iter().find(|codec| codec.payload_type == answered.payload_type);
        let Some(ours) = ours.filter(|ours| codec_of(answered, section.kind) == Some(ours.codec)) else {
            continue;
        };
        let feedback = common_feedback(&ours.feedback, answered);
        let rtx = ours.rtx.filter(|rtx| answered.rtx == Some(*rtx));
        kept.push(NegotiatedCodec { rtx, feedback, ..ours.clone() });
    }
    kept
}

fn accept(section: &Section, feedback: &'static [&'static str]) -> Vec<NegotiatedCodec> {
    let mut accepted: Vec<NegotiatedCodec> = Vec::new();
    for offered in &section.codecs {
        let Some(codec) = codec_of(offered, section.kind) else { continue };
        let fmtp = match codec {
            Codec::Opus => OPUS_FMTP.to_owned(),
            _ => offered.fmtp.clone(),
        };
        let mut encoding = format!("{}/{}", offered.name, offered.clock_rate);
        if offered.channels > 1 {
            encoding.push_str(&format!("/{}", offered.channels));
        }
        accepted.push(NegotiatedCodec {
            payload_type: offered.payload_type,
            codec,
            rtx: offered.rtx.filter(|_| section.kind == SectionKind::Video),
            fmtp,
            feedback: if codec == Codec::Red { Vec::new() } else { common_feedback(feedback, offered) },
            encoding,
        });
    }
    // RED around anything but the Opus payload type accepted here cannot be parsed (RFC 2198 section 5).
    let opus = accepted.iter().find(|codec| codec.codec == Codec::Opus).map(|codec| codec.payload_type.0);
    accepted.retain(|codec| codec.codec != Codec::Red || opus.is_some_and(|opus| wraps(&codec.fmtp, opus)));
    accepted
}

fn wraps(red_fmtp: &str, opus: u8) -> bool {
    red_fmtp.is_empty() || red_fmtp.split('/').all(|block| block.trim().parse() == Ok(opus))
}

fn codec_of(offered: &CodecParameters, kind: SectionKind) -> Option<Codec> {
    let media = match kind {
        SectionKind::Audio => MediaKind::Audio,
        SectionKind::Video => MediaKind::Video,
        SectionKind::Data { .. } | SectionKind::Other => return None,
    };
    let codec = codec_named(&offered.name)?;
    let (_, _, (of, clock_rate)) = KNOWN.iter().find(|(_, known, _)| *known == codec)?;
    let usable = match codec {
        Codec::Opus => offered.channels == 2,
        _ => Profile::of(codec, &offered.fmtp).is_some(),
    };
    (*of == media && *clock_rate == offered.clock_rate && usable).then_some(codec)
}

/// Feedback types that both sides support. Only one type of congestion feedback is accepted: transport-wide feedback
/// if possible, because it is the most compact, then RFC 8888. The receiver's own estimate (REMB) is for clients that
/// support neither.
fn common_feedback(ours: &[&'static str], offered: &CodecParameters) -> Vec<&'static str> {
    let offers = |value: &str| offered.feedback.iter().any(|theirs| theirs == value);
    let wanted = |value: &str| match value {
        "goog-remb" => !offers("transport-cc") && !offers(CONGESTION_FEEDBACK),
        CONGESTION_FEEDBACK => !offers("transport-cc"),
        _ => true,
    };
    ours.iter().copied().filter(|value| offers(value) && wanted(value)).collect()
}

/// Sorts the payload types that fit the track's formats to the front, and signals stereo where the track is stereo.
fn fit(codecs: &mut [NegotiatedCodec], available: &[Format]) {
    codecs.sort_by_key(|codec| place(codec, available));
    if available.iter().any(|format| format.codec == Codec::Opus && format.stereo) {
        for opus in codecs.iter_mut().filter(|codec| codec.codec == Codec::Opus) {
            opus.fmtp.push_str(SENDS_STEREO);
        }
    }
}

/// Sort key of a payload type by how well it fits the formats of a track; lower is better. Among a codec's profiles,
/// an equal profile comes first, then one that may carry the track's profile, then one that can only decode it.
pub(crate) fn place(codec: &NegotiatedCodec, available: &[Format]) -> usize {
    let profile = codec.profile();
    let of_codec = |fits: fn(Profile, Profile) -> bool| {
        let fitting = |format: &Format| format.codec == codec.codec && fits(profile, format.profile);
        available.iter().position(fitting)
    };
    let steps = available.len();
    let rank = of_codec(|own, published| own == published);
    let rank = rank.or_else(|| Some(steps + of_codec(Profile::carries)?));
    let rank = rank.or_else(|| Some(2 * steps + of_codec(Profile::decodes)?));
    rank.unwrap_or(3 * steps)
}

/// Moves preferred codecs to the front. The sort is stable: other codecs keep their order.
fn prefer(codecs: &mut [NegotiatedCodec], preferred: &[Codec]) {
    codecs.sort_by_key(|codec| {
        preferred.iter().position(|wanted| *wanted == codec.codec).unwrap_or(preferred.len())
    });
}

/// Whether RED comes first in the answer to a microphone section, so that the publisher sends RED. RED doubles the
/// publisher's audio bitrate, but browsers on a single connection negotiate no other way to repair lost audio. Each
/// receiver is sent only as much redundancy as its own link needs.
const PREFER_RED: bool = true;

const OPUS_FMTP: &str = "minptime=10;useinbandfec=1";
/// RFC 7587 section 6.1. Clients ask for stereo when they read this.
const SENDS_STEREO: &str = ";sprop-stereo=1";

const PUBLISHED_VIDEO_FEEDBACK: &[&str] = &["nack", "nack pli", "ccm fir", "transport-cc"];
const PUBLISHED_AUDIO_FEEDBACK: &[&str] = &["nack", "transport-cc"];
const SENT_VIDEO_FEEDBACK: &[&str] =
    &["nack", "nack pli", "ccm fir", "goog-remb", "transport-cc", CONGESTION_FEEDBACK];

/// RFC 8888 section 6.
const CONGESTION_FEEDBACK: &str = "ack ccfb";
const SENT_AUDIO_FEEDBACK: &[&str] = &["nack"];

const KNOWN: &[(&str, Codec, (MediaKind, u32))] = &[
    ("opus", Codec::Opus, (MediaKind::Audio, 48_000)),
    ("red", Codec::Red, (MediaKind::Audio, 48_000)),
    ("PCMU", Codec::Pcmu, (MediaKind::Audio, 8_000)),
    ("PCMA", Codec::Pcma, (MediaKind::Audio, 8_000)),
    ("VP8", Codec::Vp8, (MediaKind::Video, 90_000)),
    ("VP9", Codec::Vp9, (MediaKind::Video, 90_000)),
    ("H264", Codec::H264, (MediaKind::Video, 90_000)),
    ("AV1", Codec::Av1, (MediaKind::Video, 90_000)),
];

type OfferedCodec = (u8, Codec, Option<u8>, &'static str, &'static str);

const OFFERED_AUDIO: &[OfferedCodec] = &[
    (111, Codec::Opus, None, "opus/48000/2", OPUS_FMTP),
    (63, Codec::Red, None, "red/48000/2", "111/111"),
    (0, Codec::Pcmu, None, "PCMU/8000", ""),
    (8, Codec::Pcma, None, "PCMA/8000", ""),
];

const OFFERED_VIDEO: &[OfferedCodec] = &[
    (96, Codec::Vp8, Some(97), "VP8/90000", ""),
    (98, Codec::Vp9, Some(99), "VP9/90000", "profile-id=0"),
    (100, Codec::Vp9, Some(101), "VP9/90000", "profile-id=1"),
    (112, Codec::Vp9, Some(113), "VP9/90000", "profile-id=2"),
    (
        125,
        Codec::H264,
        Some(126),
        "H264/90000",
        "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    ),
    (
        108,
        Codec::H264,
        Some(109),
        "H264/90000",
        "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f",
    ),
    (
        102,
        Codec::H264,
        Some(103),
        "H264/90000",
        "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f",
    ),
    (
        104,
        Codec::H264,
        Some(105),
        "H264/90000",
        "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f",
    ),
    (
        106,
        Codec::H264,
        Some(107),
        "H264/90000",
        "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f",
    ),
    (35, Codec::Av1, Some(36), "AV1/90000", "level-idx=5;profile=0;tier=0"),
];
