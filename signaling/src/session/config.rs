//! Configuration of a session: what it knows when it begins, and its limits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use livekit_protocol as proto;
use sfu_protocol::{ClientTraits, ConnectionMode, ParticipantSid, PlayoutDelay, RoomSid};

/// Everything that a [`Session`](super::Session) knows when it begins.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Description of the server for clients.
    pub server: Arc<ServerDescription>,
    /// Limits on what this client may make the server store.
    pub limits: Arc<SessionLimits>,
    /// The room that the participant joins.
    pub room: RoomDescription,
    /// Sid of this session's participant; every session has its own.
    pub sid: ParticipantSid,
    /// The joining participant and its permissions.
    pub participant: ParticipantDescription,
    /// The client's description of itself.
    pub client: proto::ClientInfo,
    /// Whether the client uses one peer connection or two.
    pub mode: ConnectionMode,
    /// Subscribe to every published track unless the client says otherwise.
    pub auto_subscribe: bool,
    /// The client will report the size of its video tiles. Subscriptions to video start with the lowest layer until
    /// it does.
    pub adaptive_stream: bool,
    /// The client asked that none of the video it receives is ever paused for lack of bandwidth.
    pub never_pause: bool,
    /// Tracks announced in the join request.
    pub add_tracks: Vec<proto::AddTrackRequest>,
    /// SDP offer from the join request, if it had one.
    pub offer: Option<proto::SessionDescription>,
    /// Longest time after which a lost signal connection is noticed. Messages sent within that time before the loss
    /// may not have arrived.
    pub unnoticed: Duration,
    /// Converts `Instant`s to wall-clock time.
    pub clock: WallClock,
    /// Seed for the random part of track sids.
    pub seed: u64,
}

/// Description of the server for clients, shared by all sessions of the process.
#[derive(Debug, Clone)]
pub struct ServerDescription {
    /// Server version that clients check to enable features. This is not the product's own version.
    pub version: String,
    /// Highest signaling protocol number that the server implements.
    pub protocol: i32,
    /// Region of the server; may be empty.
    pub region: String,
    /// Identifier of this process.
    pub node_id: String,
    /// STUN and TURN servers for clients; may be empty.
    pub ice_servers: Vec<proto::IceServer>,
    /// Codecs that clients may publish, most preferred first.
    pub publish_codecs: Vec<PublishCodec>,
    /// Whether clients may resume a session after losing the signal connection. If false, clients are told to start a
    /// new session at once, and resume attempts are answered with that, too.
    pub resume: bool,
}

impl Default for ServerDescription {
    fn default() -> Self {
        Self {
            version: "1.13.5".to_owned(),
            protocol: 17,
            region: String::new(),
            node_id: "ND_local".to_owned(),
            ice_servers: Vec::new(),
            publish_codecs: PublishCodec::ALL.to_vec(),
            resume: true,
        }
    }
}

impl ServerDescription {
    pub(crate) fn client_configuration(&self) -> proto::ClientConfiguration {
        let resume = if self.resume {
            proto::ClientConfigSetting::Enabled
        } else {
            proto::ClientConfigSetting::Disabled
        };
        proto::ClientConfiguration { resume_connection: resume as i32, ..Default::default() }
    }

    pub(crate) fn to_proto(&self) -> proto::ServerInfo {
        proto::ServerInfo {
            edition: proto::server_info::Edition::Standard as i32,
            version: self.version.clone(),
            protocol: self.protocol,
            region: self.region.clone(),
            node_id: self.node_id.clone(),
            debug_info: String::new(),
            agent_protocol: 1,
        }
    }
}

/// A codec that clients may publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishCodec {
    /// Name in the join response's list of enabled codecs, for example `video/VP8`.
    pub name: &'static str,
    /// Lower-case MIME type used in track information, for example `video/vp8`.
    pub mime_type: &'static str,
}

impl PublishCodec {
    /// Every codec that the media plane forwards, most preferred first. Video comes first: a client that finds no
    /// video codec waits for its first track before it sends an offer.
    pub const ALL: [Self; 6] = [
        Self { name: "video/VP8", mime_type: "video/vp8" },
        Self { name: "video/H264", mime_type: "video/h264" },
        Self { name: "video/VP9", mime_type: "video/vp9" },
        Self { name: "video/AV1", mime_type: "video/av1" },
        Self { name: "audio/opus", mime_type: "audio/opus" },
        Self { name: "audio/red", mime_type: "audio/red" },
    ];
}

/// Limits on what one client may make the server store, and on how long the server waits for it.
#[derive(Debug, Clone)]
pub struct SessionLimits {
    /// Longest name of a participant, track or room, and longest identity, in bytes.
    pub name: usize,
    /// Longest metadata of a participant or room, in bytes.
    pub metadata: usize,
    /// Total size of all attribute keys and values, in bytes.
    pub attributes: usize,
    /// Longest client-chosen track id (cid), stream name or codec name, in bytes.
    pub track_id: usize,
    /// Encoded size of a subscription permission (the list of who may subscribe), in bytes.
    pub subscription_permission: usize,
    /// Most codecs of one track.
    pub codecs: usize,
    /// Most layers of one codec.
    pub layers: usize,
    /// Most media sections that one participant's tracks may use, including tracks that wait for media. Each backup
    /// codec counts as one.
    pub published_tracks: usize,
    /// Most tracks and backup codecs that are announced but have no media yet, including queued requests for a cid
    /// that is in use.
    pub pending_tracks: usize,
    /// Most tracks that a client may subscribe to before anybody publishes them.
    pub track_wishes: usize,
    /// Most track sids in one request.
    pub sids: usize,
    /// Longest sid in a request, in bytes.
    pub sid: usize,
    /// How long a subscription waits for a track that nobody publishes.
    pub track_wait: Duration,
    /// Time from the join response until the primary transport must be connected.
    pub connect: Duration,
    /// Time that the client has to answer an offer of the server. Until it does, no further offer can be sent.
    pub answer: Duration,
    /// How long the participant stays in the room after its signal connection was lost, while its media is connected,
    /// so that its client can resume.
    pub resume: Duration,
    /// How long the participant stays in the room after its signal connection was lost, if its client is unlikely to
    /// resume: the page was left, its media connection is lost as well, or resuming is disabled. Long enough for a
    /// full reconnect.
    pub linger: Duration,
    /// Interval between fresh access tokens.
    pub token_refresh: Duration,
    /// How long the participant's first announcement after the join response may be delayed, so that it can be merged
    /// with later changes.
    pub announce_delay: Duration,
    /// How long the demand for a track must stay lower before its publisher is told.
    pub less_wanted: Duration,
    /// How long nobody must demand a track before its publisher is told to stop sending it.
    pub dynacast_pause_delay: Duration,
    /// Shortest interval between reports of the room's participant counts.
    pub room_counts: Duration,
    /// How long the departure of a participant that was replaced by its own new session is held back, until the new
    /// session appears.
    pub replacement: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            name: 256,
            metadata: 64 * 1024,
            attributes: 64 * 1024,
            track_id: 128,
            subscription_permission: 32 * 1024,
            codecs: 3,
            layers: 3,
            published_tracks: 32,
            pending_tracks: 20,
            track_wishes: 1024,
            sids: 4096,
            sid: 64,
            track_wait: Duration::from_secs(60),
            connect: Duration::from_secs(60),
            answer: Duration::from_secs(15),
            resume: Duration::from_secs(30),
            linger: Duration::from_secs(3),
            token_refresh: Duration::from_secs(300),
            announce_delay: Duration::from_millis(500),
            less_wanted: Duration::from_secs(5),
            dynacast_pause_delay: Duration::from_secs(10),
            room_counts: Duration::from_secs(5),
            replacement: Duration::from_secs(1),
        }
    }
}

impl SessionLimits {
    pub(crate) fn attribute_bytes<'a>(
        attributes: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> usize {
        attributes
            .into_iter()
            .fold(0, |sum, (key, value)| sum.saturating_add(key.len()).saturating_add(value.len()))
    }
}

/// Description of the room for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomDescription {
    /// Sid of the room. A room that is reopened under the same name has another sid.
    pub sid: RoomSid,
    /// Name of the room.
    pub name: String,
    /// When the room was opened, in milliseconds since 1970.
    pub created_ms: i64,
    /// Application-defined metadata of the room.
    pub metadata: String,
    /// Trailer of every frame that the server itself inserts, so that clients with end-to-end encryption can
    /// recognize those frames.
    pub sif_trailer: Bytes,
    /// How long the room waits for its first participant, in seconds.
    pub empty_timeout_s: u32,
    /// How long the room stays open after its last participant left, in seconds.
    pub departure_timeout_s: u32,
    /// Most participants; 0 means unlimited.
    pub max_participants: u32,
    /// Playout delay that receivers of video are told to use; `None` if they choose themselves.
    pub playout_delay: Option<PlayoutDelay>,
}

/// A joining participant and its permissions.
#[derive(Debug, Clone)]
pub struct ParticipantDescription {
    /// Identity, unique in the room.
    pub identity: String,
    /// Display name.
    pub name: String,
    /// Application-defined metadata.
    pub metadata: String,
    /// Application-defined attributes.
    pub attributes: BTreeMap<String, String>,
    /// Kind of participant: a person (standard), an agent, a recorder and so on.
    pub kind: proto::participant_info::Kind,
    /// Further details about the kind.
    pub kind_details: Vec<proto::participant_info::KindDetail>,
    /// What the participant may do.
    pub permission: proto::ParticipantPermission,
}

/// Converts `Instant`s to wall-clock time. The two fields describe the same moment.
#[derive(Debug, Clone, Copy)]
pub struct WallClock {
    /// Reference moment.
    pub origin: Instant,
    /// Milliseconds between 1970 and the reference moment.
    pub unix_ms: i64,
}

impl WallClock {
    /// Milliseconds since 1970 at `now`.
    pub fn unix_ms(&self, now: Instant) -> i64 {
        let passed = now.saturating_duration_since(self.origin).as_millis();
        self.unix_ms.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }
}

/// Traits of a client that the media plane must know, derived from the client's description of itself only where that
/// is reliable. A wrong `true` for `aead_srtp` would keep a client out, so only stacks that are known to support AEAD
/// are listed.
pub fn client_traits(client: &proto::ClientInfo) -> ClientTraits {
    use proto::client_info::Sdk;
    let browser = client.browser.to_ascii_lowercase();
    // Every browser on iOS is WebKit, whatever it calls itself.
    let webkit_only = client.os.eq_ignore_ascii_case("ios") || client.os.eq_ignore_ascii_case("ipados");
    let firefox = browser.contains("firefox") && !webkit_only;
    let chromium = ["chrom", "edge", "opera", "brave", "samsung"].iter().any(|name| browser.contains(name));
    let aead_srtp = match client.sdk() {
        Sdk::Js | Sdk::UnityWeb | Sdk::Flutter if !browser.is_empty() => {
            !webkit_only && (firefox || chromium)
        }
        Sdk::ReactNative | Sdk::Swift | Sdk::Android | Sdk::Flutter | Sdk::Unity => true,
        Sdk::Rust | Sdk::Python | Sdk::Cpp | Sdk::Node => true,
        _ => false,
    };
    ClientTraits { aead_srtp, firefox }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::client_info::Sdk;

    #[test]
    fn aead_is_promised_only_by_stacks_that_take_it() {
        let cases = [
            (Sdk::Js, "Chrome", "Windows", true, false),
            (Sdk::Js, "Chrome", "iOS", false, false),
            (Sdk::Js, "Firefox", "Linux", true, true),
            (Sdk::Js, "Firefox", "iOS", false, false),
            (Sdk::Js, "Safari", "macOS", false, false),
            (Sdk::Js, "", "", false, false),
            (Sdk::ReactNative, "", "iOS", true, false),
            (Sdk::Flutter, "", "android", true, false),
            (Sdk::Flutter, "safari", "", false, false),
            (Sdk::Python, "", "", true, false),
            (Sdk::Go, "", "", false, false),
            (Sdk::Esp32, "", "", false, false),
        ];
        for (sdk, browser, os, aead_srtp, firefox) in cases {
            let client = proto::ClientInfo {
                sdk: sdk as i32,
                browser: browser.into(),
                os: os.into(),
                ..Default::default()
            };
            assert_eq!(client_traits(&client), ClientTraits { aead_srtp, firefox }, "{sdk:?} {browser} {os}");
        }
    }
}
