//! Converts a client's track request into the track information and into commands for the media plane.

use livekit_protocol as proto;
use proto::{AudioTrackFeature, TrackSource, TrackType, VideoQuality};
use rand::Rng;
use rand::rngs::SmallRng;
use sfu_protocol::{
    AddTrack, BackupPolicy, LayerQuality, MediaKind, PlayoutDelay, PublishedTrack, SimulcastLayer, TrackPart,
    TrackSid,
};

use super::{PublishCodec, SessionLimits};

/// Media kind of a track type; `None` for data tracks.
pub(super) fn media_kind(track_type: TrackType) -> Option<MediaKind> {
    match track_type {
        TrackType::Audio => Some(MediaKind::Audio),
        TrackType::Video => Some(MediaKind::Video),
        TrackType::Data => None,
    }
}

/// A new track sid whose letters show kind and source (`TR_VC…` for a camera).
pub(super) fn new_sid(kind: MediaKind, source: TrackSource, rng: &mut SmallRng) -> TrackSid {
    let kind = match kind {
        MediaKind::Audio => "A",
        MediaKind::Video => "V",
    };
    let source = match source {
        TrackSource::Unknown => "",
        TrackSource::Camera => "C",
        TrackSource::Microphone => "M",
        TrackSource::ScreenShare => "S",
        TrackSource::ScreenShareAudio => "s",
    };
    TrackSid::new(format!("{}{kind}{source}{}", TrackSid::PREFIX, random_word(rng)))
}

/// Twelve random letters and digits, 70 bits. Characters that look alike are left out.
pub(crate) fn random_word(rng: &mut impl Rng) -> String {
    const LETTERS: &[u8; 56] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz";
    (0..12)
        .filter_map(|_| LETTERS.get(rng.random_range(0..LETTERS.len())).map(|&letter| letter as char))
        .collect()
}

/// Checks the sizes in a request. The error names the first field that exceeds its limit.
pub(super) fn check_sizes(
    request: &proto::AddTrackRequest,
    limits: &SessionLimits,
) -> Result<(), &'static str> {
    let codecs = &request.simulcast_codecs;
    let checks = [
        ("add_track.cid", request.cid.len(), limits.track_id),
        ("add_track.name", request.name.len(), limits.name),
        ("add_track.stream", request.stream.len(), limits.track_id),
        ("add_track.layers", request.layers.len(), limits.layers),
        ("add_track.simulcast_codecs", codecs.len(), limits.codecs),
        ("add_track.audio_features", request.audio_features.len(), MAX_FEATURES),
        ("add_track.packet_trailer_features", request.packet_trailer_features.len(), MAX_FEATURES),
    ];
    let inner = codecs.iter().flat_map(|codec| {
        [
            ("add_track.simulcast_codecs.cid", codec.cid.len(), limits.track_id),
            ("add_track.simulcast_codecs.codec", codec.codec.len(), limits.track_id),
            ("add_track.simulcast_codecs.layers", codec.layers.len(), limits.layers),
        ]
    });
    let pixels = |side: u32| usize::try_from(side).unwrap_or(usize::MAX);
    let layers = request.layers.iter().chain(codecs.iter().flat_map(|codec| &codec.layers));
    let layers = layers.flat_map(|layer| {
        [
            ("add_track.layers.rid", layer.rid.len(), MAX_RID),
            ("add_track.layers.width", pixels(layer.width), MAX_SIDE),
            ("add_track.layers.height", pixels(layer.height), MAX_SIDE),
        ]
    });
    match checks.into_iter().chain(inner).chain(layers).find(|(_, size, limit)| size > limit) {
        Some((field, ..)) => Err(field),
        None => Ok(()),
    }
}

/// Track information for an accepted request. It is sent to the requesting client at once, and stored.
pub(super) fn track_info(
    sid: &TrackSid,
    request: &proto::AddTrackRequest,
    enabled: &[PublishCodec],
) -> proto::TrackInfo {
    let source = request.source();
    let mut features = request.audio_features.clone();
    #[expect(deprecated, reason = "older clients send and read these")]
    let (stereo, disable_dtx) = (request.stereo, request.disable_dtx);
    let mut mirror = |flag: bool, feature: AudioTrackFeature| {
        if flag && !features.contains(&(feature as i32)) {
            features.push(feature as i32);
        }
    };
    mirror(stereo, AudioTrackFeature::TfStereo);
    mirror(disable_dtx, AudioTrackFeature::TfNoDtx);
    let has = |feature: AudioTrackFeature| features.contains(&(feature as i32));
    let stream = match source {
        _ if !request.stream.is_empty() => request.stream.as_str(),
        TrackSource::Camera | TrackSource::Microphone => "camera",
        TrackSource::ScreenShare | TrackSource::ScreenShareAudio => "screen",
        TrackSource::Unknown => "",
    };
    #[expect(deprecated, reason = "older clients read these")]
    proto::TrackInfo {
        sid: sid.to_string(),
        r#type: request.r#type,
        name: request.name.clone(),
        muted: request.muted,
        width: request.width,
        height: request.height,
        simulcast: false,
        disable_dtx: has(AudioTrackFeature::TfNoDtx),
        source: request.source,
        layers: request.layers.clone(),
        mime_type: String::new(),
        mid: String::new(),
        codecs: codec_infos(request, enabled),
        stereo: has(AudioTrackFeature::TfStereo),
        disable_red: request.disable_red,
        encryption: request.encryption,
        stream: stream.to_owned(),
        version: None,
        audio_features: features,
        backup_codec_policy: request.backup_codec_policy,
        packet_trailer_features: request.packet_trailer_features.clone(),
    }
}

/// Command argument that announces a track to the media plane.
pub(super) fn add_track(
    sid: TrackSid,
    kind: MediaKind,
    info: &proto::TrackInfo,
    request: &proto::AddTrackRequest,
    playout_delay: Option<PlayoutDelay>,
) -> AddTrack {
    let mut cids = Vec::new();
    let of_backups = named_backups(&request.cid, info);
    for cid in std::iter::once(&request.cid).chain(request.simulcast_codecs.iter().map(|codec| &codec.cid)) {
        let of_backup = of_backups.iter().any(|(_, named)| named == cid);
        if !cid.is_empty() && !of_backup && !cids.contains(cid) {
            cids.push(cid.clone());
        }
    }
    let subtypes = info.codecs.iter().filter_map(|codec| codec.mime_type.split_once('/'));
    let described = info.codecs.first().map(|codec| codec.layers.as_slice()).filter(|l| !l.is_empty());
    let layers = described.unwrap_or(&request.layers).iter().filter_map(simulcast_layer).collect();
    let has = |feature: AudioTrackFeature| info.audio_features.contains(&(feature as i32));
    AddTrack {
        track: sid,
        cids,
        kind,
        codecs: subtypes.map(|(_, subtype)| subtype.to_owned()).collect(),
        layers: sorted(layers),
        muted: info.muted,
        stereo: has(AudioTrackFeature::TfStereo),
        disable_dtx: has(AudioTrackFeature::TfNoDtx),
        disable_red: info.disable_red,
        encrypted: info.encryption() != proto::encryption::Type::None,
        screen_share: matches!(info.source(), TrackSource::ScreenShare | TrackSource::ScreenShareAudio),
        playout_delay: playout_delay.filter(|_| kind == MediaKind::Video),
        part: TrackPart::Main { backups: backups(kind, info), policy: policy(info.backup_codec_policy()) },
    }
}

/// Subtypes of all codecs but the first. Audio has no backup codecs.
fn backups(kind: MediaKind, info: &proto::TrackInfo) -> Vec<String> {
    let others = info.codecs.iter().skip(1).filter(|_| kind == MediaKind::Video);
    others.map(|codec| subtype(&codec.mime_type).to_owned()).collect()
}

/// MIME type and cid of each backup codec whose media section the request names already.
pub(super) fn named_backups(cid: &str, info: &proto::TrackInfo) -> Vec<(String, String)> {
    let Some((first, others)) = info.codecs.split_first() else { return Vec::new() };
    let others = others.iter().filter(|codec| {
        let own = !codec.cid.is_empty() && codec.cid != cid && codec.cid != first.cid;
        own && info.r#type() == TrackType::Video
    });
    others.map(|codec| (codec.mime_type.clone(), codec.cid.clone())).collect()
}

/// Backup policy for the media plane. "Prefer regression" leaves the choice to the server, which sends both codecs:
/// subscribers that can decode the first codec keep it. Otherwise one old device in a large call would cost everybody
/// the better video, only to save its publisher a second encoding.
fn policy(asked: proto::BackupCodecPolicy) -> BackupPolicy {
    match asked {
        proto::BackupCodecPolicy::PreferRegression | proto::BackupCodecPolicy::Simulcast => {
            BackupPolicy::SideBySide
        }
        proto::BackupCodecPolicy::Regression => BackupPolicy::Instead,
    }
}

/// Command argument that announces a backup codec of a published track. Mute, encryption and source are those of the
/// track.
pub(super) fn add_backup(
    section: TrackSid,
    info: &proto::TrackInfo,
    codec: &proto::SimulcastCodecInfo,
    playout_delay: Option<PlayoutDelay>,
) -> AddTrack {
    AddTrack {
        track: section,
        cids: vec![codec.cid.clone()],
        kind: MediaKind::Video,
        codecs: vec![subtype(&codec.mime_type).to_owned()],
        layers: sorted(codec.layers.iter().filter_map(simulcast_layer).collect()),
        muted: info.muted,
        stereo: false,
        disable_dtx: false,
        disable_red: true,
        encrypted: info.encryption() != proto::encryption::Type::None,
        screen_share: info.source() == TrackSource::ScreenShare,
        playout_delay,
        part: TrackPart::Backup { of: TrackSid::new(info.sid.as_str()) },
    }
}

/// Subtype of a MIME type: `vp8` of `video/vp8`.
pub(super) fn subtype(mime_type: &str) -> &str {
    mime_type.split_once('/').map_or(mime_type, |(_, subtype)| subtype)
}

/// Fills in what negotiation decided about a track: codec, mid, layers and RIDs.
pub(super) fn negotiated(info: &mut proto::TrackInfo, cid: &str, track: &PublishedTrack, now_ms: i64) {
    info.mime_type.clone_from(&track.mime_type);
    info.mid.clone_from(&track.mid);
    info.version = Some(proto::TimedVersion { unix_micro: now_ms.saturating_mul(1000), ticks: 0 });
    let simulcast = track.rids.len() > 1;
    #[expect(deprecated, reason = "older clients read this")]
    {
        info.simulcast = simulcast;
    }
    if info.codecs.is_empty() {
        #[expect(deprecated, reason = "older clients describe their layers here")]
        let layers = info.layers.clone();
        info.codecs.push(proto::SimulcastCodecInfo { cid: cid.to_owned(), layers, ..Default::default() });
    }
    let place = info.codecs.iter().position(|codec| codec.mime_type == track.mime_type).unwrap_or_default();
    let Some(codec) = info.codecs.get_mut(place) else { return };
    codec.mime_type.clone_from(&track.mime_type);
    fill_in(codec, track);
}

/// Fills in what negotiation decided about a backup codec.
pub(super) fn backup_negotiated(info: &mut proto::TrackInfo, track: &PublishedTrack, now_ms: i64) {
    info.version = Some(proto::TimedVersion { unix_micro: now_ms.saturating_mul(1000), ticks: 0 });
    if let Some(codec) = info.codecs.iter_mut().find(|codec| codec.mime_type == track.mime_type) {
        fill_in(codec, track);
    }
}

fn fill_in(codec: &mut proto::SimulcastCodecInfo, track: &PublishedTrack) {
    codec.mid.clone_from(&track.mid);
    if codec.cid != track.sdp_cid && !track.sdp_cid.is_empty() {
        codec.sdp_cid.clone_from(&track.sdp_cid);
    }
    if track.kind == MediaKind::Video {
        describe_layers(codec, &track.rids);
    }
}

/// Sets how layers are transported and which RID belongs to which layer. Both layers and `rids` are sorted from
/// lowest to highest.
fn describe_layers(codec: &mut proto::SimulcastCodecInfo, rids: &[String]) {
    use proto::video_layer::Mode;
    let scalable = matches!(codec.mime_type.as_str(), "video/vp9" | "video/av1");
    if codec.video_layer_mode() == Mode::Unused {
        let mode = if scalable && rids.len() <= 1 {
            Mode::MultipleSpatialLayersPerStream
        } else {
            Mode::OneSpatialLayerPerStream
        };
        codec.video_layer_mode = mode as i32;
    }
    codec.layers.sort_by_key(|layer| layer.quality);
    for (place, layer) in codec.layers.iter_mut().enumerate() {
        layer.spatial_layer = i32::try_from(place).unwrap_or_default();
        if let Some(rid) = rids.get(place).filter(|_| layer.rid.is_empty()) {
            layer.rid.clone_from(rid);
        }
    }
}

/// Codecs of a request. A codec that is not enabled is replaced by the first one that is enabled; clients accept the
/// replacement.
fn codec_infos(request: &proto::AddTrackRequest, enabled: &[PublishCodec]) -> Vec<proto::SimulcastCodecInfo> {
    let prefix = if request.r#type() == TrackType::Audio { "audio/" } else { "video/" };
    let of_kind = || enabled.iter().map(|codec| codec.mime_type).filter(|mime| mime.starts_with(prefix));
    let mut infos: Vec<proto::SimulcastCodecInfo> = Vec::new();
    for codec in request.simulcast_codecs.iter().filter(|codec| !codec.codec.is_empty()) {
        let name = mime_type(&codec.codec, prefix);
        let known = of_kind().find(|mime| *mime == name).or_else(|| of_kind().next());
        let Some(mime) = known.filter(|mime| infos.iter().all(|info| info.mime_type != *mime)) else {
            continue;
        };
        let layers = if codec.layers.is_empty() { &request.layers } else { &codec.layers };
        infos.push(proto::SimulcastCodecInfo {
            mime_type: mime.to_owned(),
            cid: codec.cid.clone(),
            layers: layers.clone(),
            video_layer_mode: codec.video_layer_mode,
            ..Default::default()
        });
    }
    infos
}

/// Lower-case MIME type of a codec name: `video/vp8` for `VP8` or `video/VP8`.
pub(super) fn mime_type(name: &str, prefix: &str) -> String {
    let name = name.to_ascii_lowercase();
    if name.contains('/') { name } else { format!("{prefix}{name}") }
}

fn simulcast_layer(layer: &proto::VideoLayer) -> Option<SimulcastLayer> {
    Some(SimulcastLayer {
        quality: layer_quality(layer.quality())?,
        width: layer.width,
        height: layer.height,
        bitrate_bps: layer.bitrate,
        ssrc: layer.ssrc,
        repair_ssrc: layer.repair_ssrc,
        rid: layer.rid.clone(),
    })
}

/// Quality in the media plane's terms; `None` for `Off`.
pub(super) fn layer_quality(quality: VideoQuality) -> Option<LayerQuality> {
    match quality {
        VideoQuality::Low => Some(LayerQuality::Low),
        VideoQuality::Medium => Some(LayerQuality::Medium),
        VideoQuality::High => Some(LayerQuality::High),
        VideoQuality::Off => None,
    }
}

pub(super) fn video_quality(quality: LayerQuality) -> VideoQuality {
    match quality {
        LayerQuality::Low => VideoQuality::Low,
        LayerQuality::Medium => VideoQuality::Medium,
        LayerQuality::High => VideoQuality::High,
    }
}

fn sorted(mut layers: Vec<SimulcastLayer>) -> Vec<SimulcastLayer> {
    layers.sort_by_key(|layer| layer.quality);
    layers
}

const MAX_FEATURES: usize = 16;
const MAX_RID: usize = 16;
/// Longest side of a video frame in pixels. VP8 allows one pixel less, and no screen is that large.
const MAX_SIDE: usize = 16_384;
