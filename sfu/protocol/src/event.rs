//! Events from the SFU to the signaling service.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{LayerQuality, LeaveReason, MediaKind, ParticipantSid, RoomSid, Target, TrackSid};

/// Message to one signaling session, or to all sessions of a room at once ([`Event::Roster`], [`Event::Speakers`],
/// [`Event::ConnectionQuality`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The participant has joined. Every later change of the roster comes as [`Event::Roster`]; none is lost in
    /// between.
    Joined {
        /// Participant that joined.
        participant: ParticipantSid,
        /// All other visible participants at this moment.
        roster: Vec<RosterEntry>,
    },
    /// A participant appeared, changed or left. Emitted once per room and process. The signaling service delivers it to
    /// all its sessions in that room; the session of the participant concerned ignores it.
    Roster {
        /// Room whose roster changed.
        room: RoomSid,
        /// Entry that appeared, changed or was removed.
        change: RosterChange,
    },
    /// Answer to `Command::Offer`, with the server's ICE candidates and the end-of-candidates mark.
    Answer {
        /// Participant that offered.
        participant: ParticipantSid,
        /// Number of the answered offer.
        id: u32,
        /// Session description.
        sdp: String,
        /// Media section id (MID) to the track that the SFU sends in that section.
        mid_to_track: BTreeMap<String, TrackSid>,
    },
    /// Offer for the subscriber peer connection (dual mode). At most one offer is outstanding.
    Offer {
        /// Participant that must answer.
        participant: ParticipantSid,
        /// Offer number chosen by the SFU; the answer repeats it.
        id: u32,
        /// Session description.
        sdp: String,
        /// Media section id (MID) to the track that the SFU sends in that section.
        mid_to_track: BTreeMap<String, TrackSid>,
    },
    /// A session description was refused. The state before it remains in force.
    NegotiationFailed {
        /// Participant whose description was refused.
        participant: ParticipantSid,
        /// Peer connection that the description was for.
        target: Target,
        /// Number of the refused offer or answer.
        id: u32,
        /// Reason for the refusal.
        error: NegotiationError,
    },
    /// Single mode: subscriptions wait until the client offers additional receive-only media sections. Both counts may
    /// be 0: a free section exists then, and only a new offer is needed. Not repeated until the client has offered.
    MediaSectionsRequired {
        /// Participant that must offer the sections.
        participant: ParticipantSid,
        /// Number of additional audio sections.
        audios: u32,
        /// Number of additional video sections.
        videos: u32,
    },
    /// A transport is connected: ICE and DTLS have completed and the SRTP keys are installed.
    TransportConnected {
        /// Participant whose transport connected.
        participant: ParticipantSid,
        /// Peer connection that connected.
        target: Target,
    },
    /// A published track has its media section, so it can be subscribed to.
    TrackPublished {
        /// Publisher of the track.
        participant: ParticipantSid,
        /// Negotiated properties of the track.
        track: PublishedTrack,
    },
    /// A track ended: its media section was stopped, it was removed by command, or its announcement expired.
    TrackUnpublished {
        /// Former publisher of the track.
        participant: ParticipantSid,
        /// Track that ended.
        track: TrackSid,
    },
    /// An announced track cannot be published. Its announcement is dropped; other participants have not seen the track.
    PublicationFailed {
        /// Participant that announced the track.
        participant: ParticipantSid,
        /// Sid of the announced track.
        track: TrackSid,
        /// Reason reported to the client.
        reason: PublicationFailure,
    },
    /// A track got its first subscriber that is not hidden. Sent to the publisher's session once per track.
    TrackSubscribed {
        /// Publisher of the track.
        participant: ParticipantSid,
        /// Track that has a subscriber.
        track: TrackSid,
    },
    /// A subscription cannot be served.
    SubscriptionFailed {
        /// Participant that subscribed.
        participant: ParticipantSid,
        /// Track that the participant does not receive.
        track: TrackSid,
        /// Reason reported to the client.
        reason: SubscriptionFailure,
    },
    /// The active speakers of a room have changed. Emitted once per room and process, as [`Event::Roster`] is. Each
    /// session tells its client only about the speakers that the client receives.
    Speakers {
        /// Room of the speakers.
        room: RoomSid,
        /// Everyone who speaks now, loudest first; empty if nobody speaks.
        speakers: Vec<Speaker>,
    },
    /// The connection quality of some participants of a room has changed. Emitted once per room and process. Each
    /// session tells its client about the client itself and about the participants that it receives. `Lost` makes a
    /// publishing client reconnect after 10 s, so it is never sent while media flows, is muted or is paused.
    ConnectionQuality {
        /// Room of the participants.
        room: RoomSid,
        /// Participants whose quality changed, with the new quality.
        changes: Vec<ParticipantQuality>,
    },
    /// A subscription was paused for lack of bandwidth, or was resumed.
    StreamState {
        /// Subscriber of the track.
        participant: ParticipantSid,
        /// Track that was paused or resumed.
        track: TrackSid,
        /// Whether the track is paused, so that no packet of it is sent.
        paused: bool,
    },
    /// The demand of all subscribers for a published video track has changed. The publisher then encodes only the
    /// layers in demand. The session delays the report of a lower demand, because subscribers often come back.
    SubscribedQuality {
        /// Publisher of the track.
        participant: ParticipantSid,
        /// Track whose demand changed.
        track: TrackSid,
        /// Demand for each codec of the track, the main codec first.
        codecs: Vec<CodecDemand>,
    },
    /// The media plane ended the participant. The participant is already removed.
    Ended {
        /// Participant that was removed.
        participant: ParticipantSid,
        /// Reason for the end; it decides whether the client is told to join again.
        reason: EndReason,
    },
}

/// Information about one participant, as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterEntry {
    /// Participant that the entry describes.
    pub participant: ParticipantSid,
    /// Encoded `livekit.ParticipantInfo` that was announced last.
    pub info: Bytes,
}

/// Change of a room's authoritative roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RosterChange {
    /// A participant is new or has changed. Holds the whole entry.
    Present(RosterEntry),
    /// A participant left the room.
    Gone {
        /// Participant that left.
        participant: ParticipantSid,
        /// Encoded `livekit.ParticipantInfo` that was announced last.
        info: Bytes,
        /// Reason reported to the other participants.
        reason: LeaveReason,
    },
}

/// Negotiated properties of an announced track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedTrack {
    /// Sid of the announced track.
    pub track: TrackSid,
    /// Kind of media.
    pub kind: MediaKind,
    /// MID of its media section.
    pub mid: String,
    /// Track id in the offer's `a=msid`. It differs from the cid of the request if the client's stack renames tracks.
    pub sdp_cid: String,
    /// MIME type in lower case, such as `audio/opus` or `video/vp8`.
    pub mime_type: String,
    /// RIDs of the simulcast layers, lowest layer first; empty for a single encoding.
    pub rids: Vec<String>,
}

/// An active speaker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Speaker {
    /// Participant that speaks.
    pub participant: ParticipantSid,
    /// Audio level, above 0 and up to 1.
    pub level: f32,
}

/// Connection quality of one participant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParticipantQuality {
    /// Participant whose connection was measured.
    pub participant: ParticipantSid,
    /// Quality category that clients display.
    pub quality: ConnectionQuality,
    /// Mean opinion score, 1 to 5.
    pub score: f32,
}

/// Category of connection quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConnectionQuality {
    /// No media arrives.
    Lost,
    /// The impairment is noticeable.
    Poor,
    /// The impairment is hardly noticeable.
    Good,
    /// No impairment.
    Excellent,
}

/// Demand of all subscribers for one codec of a track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodecDemand {
    /// MIME type in lower case, such as `video/vp8`, as in [`PublishedTrack::mime_type`].
    pub mime_type: String,
    /// Highest quality that any subscriber wants; `None` if no subscriber wants this codec.
    pub highest: Option<LayerQuality>,
}

/// Reason why a session description was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NegotiationError {
    /// Attribute or line at fault, such as `a=fingerprint` or `m=video (mid 3)`.
    pub field: String,
    /// Explanation of the fault, as a sentence for people.
    pub reason: String,
}

/// Reason why an announced track cannot be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PublicationFailure {
    /// The media section offers no codec, or no codec profile, that can be forwarded.
    CodecUnsupported,
    /// The participant has reached its limit of pending or published tracks.
    TooManyTracks,
}

/// Reason why a subscription cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SubscriptionFailure {
    /// The subscriber's offer has no codec in common with the track.
    CodecUnsupported,
    /// The subscriber has reached its limit of media sections, and all are in use. The subscription gets the next
    /// section that becomes free.
    TooManyTracks,
}

/// Reason why the media plane ended a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EndReason {
    /// A newer session of the same identity replaced it.
    DuplicateIdentity,
    /// ICE did not connect in time.
    IceTimeout,
    /// DTLS did not connect in time, or failed (wrong fingerprint, no common cipher suite).
    DtlsFailed,
    /// The transport was connected, and ICE consent expired (RFC 7675).
    ConsentExpired,
    /// The client closed its DTLS connection.
    TransportClosed,
    /// Code that served this participant panicked. No other participant is affected.
    Panicked,
    /// The node has reached its limit of participants.
    NodeFull,
    /// The participant's backlog of reliable user data was too large or too old. Some data is lost, so the client must
    /// join again.
    DataBacklog,
    /// A reliable message was longer than the client accepts. That message is lost, so the client must join again.
    DataTooLong,
}
