//! Commands from a signaling session to the SFU.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{ParticipantSid, RoomSid, TrackSid};

/// Request to the shard that holds `participant`. Commands of one participant are carried out in order. A command that
/// names an unknown participant, track or media section is counted and ignored, because commands and events may cross
/// in transit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Adds a participant to a room. Answered by [`Event::Joined`](crate::Event::Joined).
    Join(Box<Join>),
    /// Removes a participant with its transports, tracks, subscriptions and roster entry.
    Leave {
        /// Participant that leaves.
        participant: ParticipantSid,
        /// Reason for leaving; the other participants are told.
        reason: LeaveReason,
    },
    /// Publishes or replaces the information that others see about this participant. The information is opaque to the
    /// SFU. The room's home shard distributes it to every session in the room as
    /// [`Event::Roster`](crate::Event::Roster).
    Announce {
        /// Participant that the information is about.
        participant: ParticipantSid,
        /// An encoded `livekit.ParticipantInfo`, at most 256 KiB.
        info: Bytes,
    },
    /// Client's offer for the single peer connection or for the publisher peer connection. Answered by `Event::Answer`
    /// or `Event::NegotiationFailed`.
    Offer {
        /// Participant that offers.
        participant: ParticipantSid,
        /// Offer number chosen by the client; the answer repeats it.
        id: u32,
        /// Session description: at most 256 KiB for the first offer of a connection, 4 MiB for later ones.
        sdp: String,
    },
    /// The client's answer to an `Event::Offer` (subscriber peer connection only).
    Answer {
        /// Participant that answers.
        participant: ParticipantSid,
        /// Number of the answered offer, as sent by the client; 0 if the client does not number its answers. An answer
        /// to an earlier offer is ignored.
        id: u32,
        /// Session description, at most 4 MiB. The limit is high because it describes every track that the client
        /// receives.
        sdp: String,
    },
    /// Announces a track that the participant is about to publish. Its media section may be offered earlier or later.
    /// `Event::TrackPublished` reports that both have arrived. `Event::PublicationFailed` reports that the track cannot
    /// be published. `Event::TrackUnpublished` reports that the announcement expired without a media section, or that
    /// it is a backup codec of a track that is gone.
    AddTrack {
        /// Participant that publishes.
        participant: ParticipantSid,
        /// Description of the track.
        track: Box<AddTrack>,
    },
    /// Stops accepting a track, with its backup codecs, from its publisher, which lost the permission or withdrew the
    /// announcement.
    RemoveTrack {
        /// Participant that publishes the track.
        participant: ParticipantSid,
        /// Track that is no longer accepted.
        track: TrackSid,
    },
    /// The publisher (or a moderator) muted or unmuted a track, in all its codecs. No packet of a muted track is
    /// forwarded.
    SetMuted {
        /// Participant that publishes the track.
        participant: ParticipantSid,
        /// Track that was muted or unmuted.
        track: TrackSid,
        /// Whether the track is muted now.
        muted: bool,
    },
    /// Subscribes the participant to a track. The shard need not know the track yet.
    Subscribe {
        /// Participant that subscribes.
        participant: ParticipantSid,
        /// Track to receive.
        track: TrackSid,
        /// Publisher of the track; part of the media stream id (`PA_x|TR_y`).
        publisher: ParticipantSid,
        /// Audio or video. It tells which kind of media section is needed while the shard does not know the track yet.
        kind: MediaKind,
        /// Wanted quality and size.
        demand: TrackDemand,
    },
    /// Ends the participant's subscription to a track.
    Unsubscribe {
        /// Participant that subscribed.
        participant: ParticipantSid,
        /// Track to stop receiving.
        track: TrackSid,
    },
    /// Changes the demand for a subscribed track (tile size, quality, visibility).
    SetDemand {
        /// Participant that subscribes.
        participant: ParticipantSid,
        /// Track whose demand changes.
        track: TrackSid,
        /// New demand; replaces the previous one.
        demand: TrackDemand,
    },
    /// Changes the participant's permissions. They apply to user data and to new media sections. Tracks that the
    /// participant may no longer publish are removed by `RemoveTrack`.
    SetPermissions {
        /// Participant whose permissions change.
        participant: ParticipantSid,
        /// New permissions; they replace the previous ones.
        permissions: Permissions,
    },
}

impl Command {
    /// Participant that the command is about. Its shard receives the command.
    pub fn participant(&self) -> &ParticipantSid {
        match self {
            Self::Join(join) => &join.participant,
            Self::Leave { participant, .. }
            | Self::Announce { participant, .. }
            | Self::Offer { participant, .. }
            | Self::Answer { participant, .. }
            | Self::AddTrack { participant, .. }
            | Self::RemoveTrack { participant, .. }
            | Self::SetMuted { participant, .. }
            | Self::Subscribe { participant, .. }
            | Self::Unsubscribe { participant, .. }
            | Self::SetDemand { participant, .. }
            | Self::SetPermissions { participant, .. } => participant,
        }
    }
}

/// Parameters of [`Command::Join`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Room to join.
    pub room: RoomSid,
    /// New sid of this session.
    pub participant: ParticipantSid,
    /// Identity, unique in the room. An earlier session of the same identity is ended with
    /// [`EndReason::DuplicateIdentity`](crate::EndReason::DuplicateIdentity).
    pub identity: String,
    /// Whether the participant is neither shown to others nor counted.
    pub hidden: bool,
    /// Permissions at the time of joining.
    pub permissions: Permissions,
    /// Number of peer connections.
    pub mode: ConnectionMode,
    /// Known properties of the client's WebRTC stack.
    pub client: ClientTraits,
    /// Whether the client asked that no video is paused for lack of bandwidth. If so, the lowest layer of each video is
    /// sent whatever the bandwidth estimate.
    #[serde(default)]
    pub never_pause: bool,
    /// First roster entry (an encoded `livekit.ParticipantInfo`), shown to others at once.
    pub info: Bytes,
}

/// Number of peer connections that the client uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConnectionMode {
    /// One connection for both directions; the client always offers.
    Single,
    /// Two connections: the client offers the one on which it publishes, the SFU offers the one on which the client
    /// receives.
    Dual {
        /// Whether the SFU offers the subscriber connection at once and that connection is the primary transport.
        subscriber_primary: bool,
    },
}

/// One of a participant's peer connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Target {
    /// The single connection, or the one on which the client publishes.
    Publisher,
    /// In dual mode, the connection on which the client receives.
    Subscriber,
}

/// Properties of the client's WebRTC stack that the media plane needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClientTraits {
    /// The client is known to support AEAD_AES_128_GCM (Chromium, Firefox, libwebrtc), so no other SRTP profile is
    /// offered to it.
    pub aead_srtp: bool,
    /// The client is Firefox: it is sent no RED, and its stream ids have no sync groups.
    pub firefox: bool,
}

/// Permissions that the media plane enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions {
    /// Whether the participant may publish tracks.
    pub publish: bool,
    /// Whether the participant may receive tracks.
    pub subscribe: bool,
    /// Whether the participant may send user data.
    pub publish_data: bool,
}

impl Default for Permissions {
    fn default() -> Self {
        Self { publish: true, subscribe: true, publish_data: true }
    }
}

/// Reason why a participant leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaveReason {
    /// The client asked to leave.
    ClientInitiated,
    /// The signaling connection closed and was not resumed.
    SignalClosed,
    /// A newer session of the same identity joined.
    DuplicateIdentity,
    /// A moderator removed the participant.
    Removed,
    /// The room was deleted or closed.
    RoomClosed,
    /// The server process is stopping.
    ServerShutdown,
    /// The media plane ended the participant (transport lost, panic contained).
    MediaFailure,
}

/// Kind of media of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MediaKind {
    /// Audio.
    Audio,
    /// Video.
    Video,
}

/// Delivery of user data: reliable (data channel `_reliable`) or lossy (`_lossy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DataKind {
    /// Ordered and retransmitted.
    Reliable,
    /// Unordered and sent once.
    Lossy,
}

/// Announcement of a track that is about to be published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddTrack {
    /// Sid assigned by the signaling session.
    pub track: TrackSid,
    /// Client's own ids of the track: the id of the request and those of its `simulcast_codecs`. The second token of
    /// the media section's `a=msid` is one of them, unless the client's stack renames tracks.
    pub cids: Vec<String>,
    /// Audio or video.
    pub kind: MediaKind,
    /// Preferred codecs as lower-case MIME subtypes (`vp8`), first choice first. If empty, the client's order applies.
    pub codecs: Vec<String>,
    /// Layers that the request describes, lowest first. Their SSRCs, if any, identify the layers of simulcast without
    /// RIDs.
    pub layers: Vec<SimulcastLayer>,
    /// Whether the track starts muted: no packet is forwarded until it is unmuted.
    pub muted: bool,
    /// Whether the audio is stereo: the answer then has `stereo=1`.
    pub stereo: bool,
    /// Whether the answer must not ask for discontinuous transmission (DTX).
    pub disable_dtx: bool,
    /// Whether RED is not negotiated for this track.
    pub disable_red: bool,
    /// Whether the media is end-to-end encrypted, so that payload bytes are opaque.
    pub encrypted: bool,
    /// Whether the track is a shared screen or window, or its audio. The video gets bandwidth before cameras do. The
    /// audio never makes its publisher an active speaker.
    pub screen_share: bool,
    /// For video: playout delay sent to receivers that support the extension, in place of the publisher's.
    pub playout_delay: Option<PlayoutDelay>,
    /// Whether this announces a track of its own or a backup codec of another track.
    pub part: TrackPart,
}

/// Role of an announced media section in its track. A publisher may send one track in several codecs, each in its own
/// media section, for subscribers that cannot decode the first codec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrackPart {
    /// The track in its first codec.
    Main {
        /// Backup codecs as MIME subtypes (`vp8`), first choice first. The publisher sends one only once a subscriber
        /// needs it. Until then subscribers can subscribe to it as if it were published, which is how the publisher
        /// learns that it is needed.
        backups: Vec<String>,
        /// Rule that decides which subscriber gets which codec.
        policy: BackupPolicy,
    },
    /// A backup codec of a track that the participant publishes. `AddTrack::track` is then a sid that only the session
    /// and the SFU know. [`Event::TrackPublished`](crate::Event::TrackPublished) and
    /// [`Event::TrackUnpublished`](crate::Event::TrackUnpublished) use it for this media section. If the negotiated
    /// codec is not among the track's announced backups, `TrackUnpublished` comes at once.
    Backup {
        /// Sid of the track that this codec belongs to.
        of: TrackSid,
    },
}

impl Default for TrackPart {
    fn default() -> Self {
        Self::Main { backups: Vec::new(), policy: BackupPolicy::default() }
    }
}

/// Rule that decides which subscriber gets which codec of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum BackupPolicy {
    /// Each subscriber gets the first codec that it can decode. All codecs that are needed are published at the same
    /// time.
    #[default]
    SideBySide,
    /// Once a backup codec is published, every subscriber that can decode it gets it, so that the publisher encodes
    /// only once.
    Instead,
}

/// Bounds of the delay between capture and display that receivers are asked to keep, in milliseconds. Values above
/// 40,950 count as 40,950.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlayoutDelay {
    /// Minimum delay.
    pub min_ms: u32,
    /// Maximum delay; a value below the minimum counts as the minimum.
    pub max_ms: u32,
}

/// One simulcast layer, as its publisher describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimulcastLayer {
    /// Quality name of the layer.
    pub quality: LayerQuality,
    /// Width in pixels; 0 if unknown.
    pub width: u32,
    /// Height in pixels; 0 if unknown.
    pub height: u32,
    /// Target bitrate in bit/s; 0 if unknown.
    pub bitrate_bps: u32,
    /// SSRC of the layer; 0 if its RID identifies it.
    pub ssrc: u32,
    /// SSRC of its retransmissions (RTX); 0 if there are none or the RID identifies them.
    pub repair_ssrc: u32,
    /// RID of the layer (`q`, `h`, `f`); empty if unknown.
    pub rid: String,
}

/// LiveKit's three quality names for layers, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LayerQuality {
    /// RID `q`.
    Low,
    /// RID `h`.
    Medium,
    /// RID `f`.
    High,
}

/// Index of a layer among the layers of its track; the lowest layer is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Layer(pub u8);

/// Demand of one subscriber for one track (`track_setting`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackDemand {
    /// Whether packets are forwarded; false if the tile is hidden or the person switched the track off.
    pub enabled: bool,
    /// Highest quality wanted; it applies when no size is given.
    pub quality: LayerQuality,
    /// Width of the tile in pixels; 0 if unknown.
    pub width: u32,
    /// Height of the tile in pixels; 0 if unknown.
    pub height: u32,
    /// Highest frame rate wanted, in frames per second; 0 means any.
    pub fps: u32,
    /// Priority: 1 is the most important, 0 means unset.
    pub priority: u32,
}

impl Default for TrackDemand {
    fn default() -> Self {
        Self { enabled: true, quality: LayerQuality::High, width: 0, height: 0, fps: 0, priority: 0 }
    }
}
