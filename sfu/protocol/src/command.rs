//! What a signaling session asks of the SFU.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{ParticipantSid, RoomSid, TrackSid};

/// One request to the shard that holds `participant`. Commands of one participant are carried out in order.
/// A command naming a participant, track or section that the shard does not know is counted and ignored:
/// the two sides may cross on the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Opens a participant's place in a room. Answered by [`Event::Joined`](crate::Event::Joined).
    Join(Box<Join>),
    /// Ends a participant: its transports, tracks and subscriptions go, and its roster entry with them.
    Leave {
        /// Who goes.
        participant: ParticipantSid,
        /// Why; others are told.
        reason: LeaveReason,
    },
    /// Publishes or replaces what others see of this participant. Opaque to the SFU; the room's roster of
    /// record hands it to every other session as [`Event::Roster`](crate::Event::Roster).
    Announce {
        /// Participant that the information is about.
        participant: ParticipantSid,
        /// An encoded `livekit.ParticipantInfo`, at most 256 KiB.
        info: Bytes,
    },
    /// A remote offer for the single or the publisher peer connection. Answered by `Event::Answer` or
    /// `Event::NegotiationFailed`.
    Offer {
        /// Participant that offers.
        participant: ParticipantSid,
        /// The client's number of this offer, echoed in the answer.
        id: u32,
        /// The session description: at most 256 KiB for the first of a connection, 4 MiB for later ones.
        sdp: String,
    },
    /// The client's answer to an `Event::Offer` (subscriber peer connection only).
    Answer {
        /// Participant that answers.
        participant: ParticipantSid,
        /// The number of the offer that this answers, as the client says: 0 if it does not number. An answer to an
        /// earlier offer is ignored.
        id: u32,
        /// The session description, at most 4 MiB: it describes all that is received.
        sdp: String,
    },
    /// Announces a track that the participant is about to publish. The media section may have been offered
    /// before or may come later; `Event::TrackPublished` tells when both have met, `Event::TrackUnpublished` that it is
    /// not taken: there are too many, or it is a backup of what is gone.
    AddTrack {
        /// Participant that publishes.
        participant: ParticipantSid,
        /// What is to come.
        track: Box<AddTrack>,
    },
    /// Stops taking a track, with its backup codecs, from its publisher (permission lost, or the request withdrawn).
    RemoveTrack {
        /// Participant that publishes the track.
        participant: ParticipantSid,
        /// Track that is no longer taken.
        track: TrackSid,
    },
    /// The publisher (or a moderator) muted or unmuted a track, in all its codecs: nothing of a muted track is forwarded.
    SetMuted {
        /// Participant that publishes the track.
        participant: ParticipantSid,
        /// Track that was muted or unmuted.
        track: TrackSid,
        /// The new state.
        muted: bool,
    },
    /// The participant wants a track. It may be one that the shard has not heard of yet.
    Subscribe {
        /// Participant that subscribes.
        participant: ParticipantSid,
        /// Track that it wants.
        track: TrackSid,
        /// Who publishes it; stands in the stream id (`PA_x|TR_y`).
        publisher: ParticipantSid,
        /// Audio or video; decides which kind of media section is needed before the track is known here.
        kind: MediaKind,
        /// What is wanted of it.
        demand: TrackDemand,
    },
    /// The participant no longer wants a track.
    Unsubscribe {
        /// Participant that subscribed.
        participant: ParticipantSid,
        /// Track that it no longer wants.
        track: TrackSid,
    },
    /// Changes what is wanted of a track (tile size, quality, visibility).
    SetDemand {
        /// Participant that subscribes.
        participant: ParticipantSid,
        /// Track whose demand changes.
        track: TrackSid,
        /// The new wish; replaces the old one.
        demand: TrackDemand,
    },
    /// Changes what the participant may do. Tracks that it may no longer publish are removed by
    /// `RemoveTrack`; this one governs data and new sections.
    SetPermissions {
        /// Participant whose rights change.
        participant: ParticipantSid,
        /// The new rights.
        permissions: Permissions,
    },
}

impl Command {
    /// The participant that the command is about; routes it to its shard.
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

/// A participant's entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The room.
    pub room: RoomSid,
    /// The session's new sid.
    pub participant: ParticipantSid,
    /// Who it is, unique in the room: an earlier session of the same identity is ended with
    /// [`EndReason::DuplicateIdentity`](crate::EndReason::DuplicateIdentity).
    pub identity: String,
    /// Not shown to others, not counted.
    pub hidden: bool,
    /// What it may do.
    pub permissions: Permissions,
    /// One peer connection or two.
    pub mode: ConnectionMode,
    /// What is known of the client's stack.
    pub client: ClientTraits,
    /// It asked that no picture is paused for want of bandwidth: the lowest layer of each is sent whatever its link is known
    /// to carry.
    #[serde(default)]
    pub never_pause: bool,
    /// The first roster entry (an encoded `livekit.ParticipantInfo`), shown to others at once.
    pub info: Bytes,
}

/// How many peer connections the client uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConnectionMode {
    /// One for both directions; the client always offers.
    Single,
    /// One that the client offers to publish, one that we offer to subscribe.
    Dual {
        /// Whether our subscriber offer goes out at once and counts as the primary transport.
        subscriber_primary: bool,
    },
}

/// One of a participant's peer connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Target {
    /// The single one, or the one that publishes.
    Publisher,
    /// The one that receives, in dual mode.
    Subscriber,
}

/// What the media plane must know of the client's stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClientTraits {
    /// Known to take AEAD_AES_128_GCM (Chromium, Firefox, libwebrtc): nothing else is offered to it.
    pub aead_srtp: bool,
    /// Firefox: no RED towards it, stream ids without sync groups.
    pub firefox: bool,
}

/// What a participant may do, as far as the media plane is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions {
    /// May publish tracks.
    pub publish: bool,
    /// May receive tracks.
    pub subscribe: bool,
    /// May send user data.
    pub publish_data: bool,
}

impl Default for Permissions {
    fn default() -> Self {
        Self { publish: true, subscribe: true, publish_data: true }
    }
}

/// Why a participant leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaveReason {
    /// It said so.
    ClientInitiated,
    /// Its signal connection is gone for good.
    SignalClosed,
    /// A newer session of its identity.
    DuplicateIdentity,
    /// A moderator's decision.
    Removed,
    /// The room was deleted or closed.
    RoomClosed,
    /// The process ends.
    ServerShutdown,
    /// The media plane ended it (transport lost, panic contained).
    MediaFailure,
}

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MediaKind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

/// Reliable or lossy user data (`_reliable`, `_lossy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DataKind {
    /// Ordered, retransmitted.
    Reliable,
    /// Unordered, sent once.
    Lossy,
}

/// A track about to be published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddTrack {
    /// The sid that the session gave it.
    pub track: TrackSid,
    /// The client's own ids of it: that of the request and those of its `simulcast_codecs`. The second token
    /// of the section's `a=msid` is one of them, or, from stacks that rename, none.
    pub cids: Vec<String>,
    /// Audio or video.
    pub kind: MediaKind,
    /// Preferred codec as a lower-case MIME subtype (`vp8`), first choice first; empty: the client's order.
    pub codecs: Vec<String>,
    /// Layers that the request describes, lowest first. Their SSRCs, if any, describe simulcast without RIDs.
    pub layers: Vec<SimulcastLayer>,
    /// Nothing is forwarded until unmuted.
    pub muted: bool,
    /// Stereo sound: answer `stereo=1`.
    pub stereo: bool,
    /// Do not ask for discontinuous transmission.
    pub disable_dtx: bool,
    /// Do not negotiate RED for it.
    pub disable_red: bool,
    /// End-to-end encrypted: payload bytes are opaque.
    pub encrypted: bool,
    /// A screen or window, or the sound of one: layers are chosen for sharpness, and it is nobody's voice.
    pub screen_share: bool,
    /// Of pictures: what receivers that understand it are told, in place of what the publisher says.
    pub playout_delay: Option<PlayoutDelay>,
    /// Whether it is a track of its own or another codec of one.
    pub part: TrackPart,
}

/// What an announced section is of its track. A publisher may send one track in several codecs, each in a section of
/// its own, so that those who cannot decode the first see it too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrackPart {
    /// The track itself, in its first codec.
    Main {
        /// MIME subtypes (`vp8`) that the publisher sends as well once somebody needs one, first choice first. Until it
        /// does, they can be subscribed to like a codec that is published: that is how it learns of the need.
        backups: Vec<String>,
        /// Who gets which.
        policy: BackupPolicy,
    },
    /// A backup codec of a track that the participant publishes. `AddTrack::track` is a sid that only the session and the
    /// SFU know, by which [`Event::TrackPublished`](crate::Event::TrackPublished) and
    /// [`Event::TrackUnpublished`](crate::Event::TrackUnpublished) tell of this section. Where the track does not promise
    /// the codec that was negotiated, the latter comes at once.
    Backup {
        /// Track that this is a codec of.
        of: TrackSid,
    },
}

impl Default for TrackPart {
    fn default() -> Self {
        Self::Main { backups: Vec::new(), policy: BackupPolicy::default() }
    }
}

/// Who gets which codec of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum BackupPolicy {
    /// Each subscriber the first codec that it can decode; all that are needed are published side by side.
    #[default]
    SideBySide,
    /// Once a backup is published, everybody who can decode it, so that its publisher encodes once.
    Instead,
}

/// The least and the greatest delay between capture and display that receivers are asked to keep, in milliseconds.
/// What exceeds 40,950 counts as that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlayoutDelay {
    /// The least.
    pub min_ms: u32,
    /// The greatest; less than the least counts as that.
    pub max_ms: u32,
}

/// One encoding, as its publisher describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimulcastLayer {
    /// Place of the encoding among the others.
    pub quality: LayerQuality,
    /// Width in pixels, 0 unknown.
    pub width: u32,
    /// Height in pixels, 0 unknown.
    pub height: u32,
    /// Target rate in bit/s, 0 unknown.
    pub bitrate_bps: u32,
    /// The encoding's SSRC, 0 if it is known by its RID.
    pub ssrc: u32,
    /// The SSRC of its retransmissions, 0 if none or known by RID.
    pub repair_ssrc: u32,
    /// Its RID (`q`, `h`, `f`), empty if unknown.
    pub rid: String,
}

/// The ecosystem's three names for layers, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LayerQuality {
    /// `q`.
    Low,
    /// `h`.
    Medium,
    /// `f`.
    High,
}

/// A layer's place among the layers of its track, lowest is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Layer(pub u8);

/// What one subscriber wants of one track (`track_setting`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackDemand {
    /// False: nothing is forwarded (tile hidden, or the person switched it off).
    pub enabled: bool,
    /// The highest quality wanted when no size is given.
    pub quality: LayerQuality,
    /// Width in pixels of the tile, 0 unknown.
    pub width: u32,
    /// Height in pixels of the tile, 0 unknown.
    pub height: u32,
    /// Highest frame rate wanted, 0 any.
    pub fps: u32,
    /// 1 is most important; 0 unset.
    pub priority: u32,
}

impl Default for TrackDemand {
    fn default() -> Self {
        Self { enabled: true, quality: LayerQuality::High, width: 0, height: 0, fps: 0, priority: 0 }
    }
}
