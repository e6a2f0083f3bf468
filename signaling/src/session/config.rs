//! What a session is told when it begins, and the bounds it keeps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use livekit_protocol as proto;
use sfu_protocol::{ClientTraits, ConnectionMode, ParticipantSid, PlayoutDelay, RoomSid};

/// Everything a [`Session`](super::Session) knows at its beginning.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// The server as clients see it.
    pub server: Arc<ServerDescription>,
    /// Bounds on what this client may make us keep.
    pub limits: Arc<SessionLimits>,
    /// The room it joins.
    pub room: RoomDescription,
    /// This session's sid.
    pub sid: ParticipantSid,
    /// Who joins, and what it may do.
    pub participant: ParticipantDescription,
    /// What the client says of itself.
    pub client: proto::ClientInfo,
    /// One peer connection or two.
    pub mode: ConnectionMode,
    /// Subscribe to everything that is published.
    pub auto_subscribe: bool,
    /// The client will say how large its tiles are: start with the lowest layer.
    pub adaptive_stream: bool,
    /// The client asked that none of its pictures is paused.
    pub never_pause: bool,
    /// Tracks that came with the join request.
    pub add_tracks: Vec<proto::AddTrackRequest>,
    /// The offer that came with the join request.
    pub offer: Option<proto::SessionDescription>,
    /// How long what is written may go nowhere until the loss of the signal connection is noticed.
    pub unnoticed: Duration,
    /// Ties instants to the calendar.
    pub clock: WallClock,
    /// Seeds the random part of track sids.
    pub seed: u64,
}

/// The server as clients see it. Shared by all sessions of the process.
#[derive(Debug, Clone)]
pub struct ServerDescription {
    /// What clients compare their feature switches with; not the product's own version.
    pub version: String,
    /// The highest protocol number whose rules we keep.
    pub protocol: i32,
    /// The region, may be empty.
    pub region: String,
    /// This process.
    pub node_id: String,
    /// STUN and TURN servers for clients, may be empty.
    pub ice_servers: Vec<proto::IceServer>,
    /// What may be published, most wanted first.
    pub publish_codecs: Vec<PublishCodec>,
    /// Clients may go on with a session after losing the signal connection. False: they are told to start anew
    /// at once instead of trying, and whoever tries nevertheless is told so, too.
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
    /// As clients are told (`video/VP8`).
    pub name: &'static str,
    /// As it stands in track information (`video/vp8`).
    pub mime_type: &'static str,
}

impl PublishCodec {
    /// All that the media plane forwards, in the order of preference. Video comes first: a client that finds no
    /// video codec waits for its first track before it offers.
    pub const ALL: [Self; 6] = [
        Self { name: "video/VP8", mime_type: "video/vp8" },
        Self { name: "video/H264", mime_type: "video/h264" },
        Self { name: "video/VP9", mime_type: "video/vp9" },
        Self { name: "video/AV1", mime_type: "video/av1" },
        Self { name: "audio/opus", mime_type: "audio/opus" },
        Self { name: "audio/red", mime_type: "audio/red" },
    ];
}

/// Bounds on what one client may make us keep, and how long we wait for it.
#[derive(Debug, Clone)]
pub struct SessionLimits {
    /// Bytes of a participant's name, of a track's name.
    pub name: usize,
    /// Bytes of metadata.
    pub metadata: usize,
    /// Bytes of all attribute keys and values together.
    pub attributes: usize,
    /// Bytes of a client's own id of a track, of a stream's name.
    pub track_id: usize,
    /// Encoded bytes of the list of those who may subscribe.
    pub subscription_permission: usize,
    /// Codecs of one track.
    pub codecs: usize,
    /// Layers of one codec.
    pub layers: usize,
    /// Tracks published at a time.
    pub published_tracks: usize,
    /// Tracks announced whose media has not come, and repeated requests for a cid that is in use.
    pub pending_tracks: usize,
    /// Tracks that a client waits for without the server knowing them yet.
    pub track_wishes: usize,
    /// Tracks named in one request.
    pub sids: usize,
    /// Bytes of a sid.
    pub sid: usize,
    /// How long a track that nobody publishes is waited for.
    pub track_wait: Duration,
    /// From the join response to the primary transport.
    pub connect: Duration,
    /// From an offer of ours to its answer: without one, nothing more can be offered.
    pub answer: Duration,
    /// How long a participant stays whose signal connection is lost, while its media is up, so that its client can
    /// come back and go on.
    pub resume: Duration,
    /// The same if it hardly comes back: the page was left, or media is lost, too. It spans the client's way to a
    /// full reconnect.
    pub linger: Duration,
    /// Between two fresh access tokens.
    pub token_refresh: Duration,
    /// How long a change that nobody is waiting for may wait for others to share its announcement.
    pub announce_delay: Duration,
    /// How long fewer layers must be wanted of a track before its publisher is told.
    pub less_wanted: Duration,
    /// How long nothing must be wanted of a track before its publisher is told to send nothing.
    pub dynacast_pause_delay: Duration,
    /// Between two reports of the room's counts.
    pub room_counts: Duration,
    /// How long a participant replaced by its own new session is kept from being shown as gone.
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
    /// Bytes of all keys and values of `attributes`.
    pub(crate) fn attribute_bytes<'a>(
        attributes: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> usize {
        attributes
            .into_iter()
            .fold(0, |sum, (key, value)| sum.saturating_add(key.len()).saturating_add(value.len()))
    }
}

/// The room, as far as clients are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomDescription {
    /// Its sid; a room opened anew under its name has another.
    pub sid: RoomSid,
    /// Its name.
    pub name: String,
    /// When it was opened, in milliseconds since 1970.
    pub created_ms: i64,
    /// The app's own text about it.
    pub metadata: String,
    /// Ends every frame that the server makes itself, so that end-to-end encrypting clients tell them apart.
    pub sif_trailer: Bytes,
    /// Seconds that it waits for its first participant.
    pub empty_timeout_s: u32,
    /// Seconds that it stays after its last participant.
    pub departure_timeout_s: u32,
    /// Most participants, 0 any.
    pub max_participants: u32,
    /// What receivers of pictures are told of the delay to play at.
    pub playout_delay: Option<PlayoutDelay>,
}

/// Who joins, and what it may do.
#[derive(Debug, Clone)]
pub struct ParticipantDescription {
    /// Who, unique in the room.
    pub identity: String,
    /// Shown to others.
    pub name: String,
    /// The app's own text about it.
    pub metadata: String,
    /// The app's own keys and values about it.
    pub attributes: BTreeMap<String, String>,
    /// Person, agent, …
    pub kind: proto::participant_info::Kind,
    /// More about the kind.
    pub kind_details: Vec<proto::participant_info::KindDetail>,
    /// Its rights.
    pub permission: proto::ParticipantPermission,
}

/// Ties the instants that a session is told to the calendar.
#[derive(Debug, Clone, Copy)]
pub struct WallClock {
    /// A moment …
    pub origin: Instant,
    /// … and its place in the calendar, in milliseconds since 1970.
    pub unix_ms: i64,
}

impl WallClock {
    /// Milliseconds since 1970 at `now`.
    pub fn unix_ms(&self, now: Instant) -> i64 {
        let passed = now.saturating_duration_since(self.origin).as_millis();
        self.unix_ms.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }
}

/// What the media plane must know of a client, as far as what it says of itself can be relied on. A wrong `true`
/// for AEAD would keep a client out, so only stacks that are known to take it are listed.
pub fn client_traits(client: &proto::ClientInfo) -> ClientTraits {
    use proto::client_info::Sdk;
    let browser = client.browser.to_ascii_lowercase();
    // Every browser on iOS is WebKit whatever it calls itself.
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
