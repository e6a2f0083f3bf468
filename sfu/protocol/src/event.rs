//! What the SFU tells the signaling service.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{LeaveReason, MediaKind, ParticipantSid, RoomSid, Target, TrackSid};

/// One message to a signaling session, or ([`Event::Roster`]) to all sessions of a room at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The participant has its place; `roster` is everyone else who is visible at this moment. Every later
    /// change comes as [`Event::Roster`], none is missed in between.
    Joined {
        /// Who joined.
        participant: ParticipantSid,
        /// The others.
        roster: Vec<RosterEntry>,
    },
    /// Somebody came, changed or went. Emitted once per room and process; the signaling service hands it to
    /// its sessions in that room (to the subject's own session, too, which ignores it).
    Roster {
        /// Where.
        room: RoomSid,
        /// What.
        change: RosterChange,
    },
    /// The answer to `Command::Offer`. Carries the server's candidates and the end-of-candidates mark.
    Answer {
        /// For whom.
        participant: ParticipantSid,
        /// The number of the offer.
        id: u32,
        /// The session description.
        sdp: String,
        /// Media section id to the track that we send in it.
        mid_to_track: BTreeMap<String, TrackSid>,
    },
    /// An offer for the subscriber peer connection (dual mode). Never two at once.
    Offer {
        /// For whom.
        participant: ParticipantSid,
        /// Our number of the offer; the answer carries it.
        id: u32,
        /// The session description.
        sdp: String,
        /// Media section id to the track that we send in it.
        mid_to_track: BTreeMap<String, TrackSid>,
    },
    /// A description could not be used. Nothing changed.
    NegotiationFailed {
        /// Whose.
        participant: ParticipantSid,
        /// Of which connection.
        target: Target,
        /// The number of the offer or answer.
        id: u32,
        /// What is wrong with it.
        error: NegotiationError,
    },
    /// Single mode: subscriptions wait for that many additional receive-only sections (both may be 0: a free
    /// one is there, only a new offer is needed). Not repeated until the client has offered.
    MediaSectionsRequired {
        /// Of whom.
        participant: ParticipantSid,
        /// Additional audio sections.
        audios: u32,
        /// Additional video sections.
        videos: u32,
    },
    /// A transport is up: ICE answered, DTLS done, keys installed.
    TransportConnected {
        /// Whose.
        participant: ParticipantSid,
        /// Which.
        target: Target,
    },
    /// A published track has a media section; it can be subscribed to.
    TrackPublished {
        /// Who publishes.
        participant: ParticipantSid,
        /// What was negotiated.
        track: PublishedTrack,
    },
    /// A track's section was stopped, or removed by command.
    TrackUnpublished {
        /// Who published it.
        participant: ParticipantSid,
        /// Which.
        track: TrackSid,
    },
    /// The first visible subscriber of a track is bound; told to the publisher's session once per track.
    TrackSubscribed {
        /// The publisher.
        participant: ParticipantSid,
        /// Its track.
        track: TrackSid,
    },
    /// A subscription cannot be carried out.
    SubscriptionFailed {
        /// Who asked.
        participant: ParticipantSid,
        /// For what.
        track: TrackSid,
        /// Why.
        reason: SubscriptionFailure,
    },
    /// The participant was ended by the media plane. It is gone already.
    Ended {
        /// Who.
        participant: ParticipantSid,
        /// Why.
        reason: EndReason,
    },
}

/// One participant, as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterEntry {
    /// Who.
    pub participant: ParticipantSid,
    /// The encoded `livekit.ParticipantInfo` last announced.
    pub info: Bytes,
}

/// A change of the roster of record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RosterChange {
    /// New, or changed: the whole entry.
    Present(RosterEntry),
    /// Gone.
    Gone {
        /// Who.
        participant: ParticipantSid,
        /// The last information announced.
        info: Bytes,
        /// Why.
        reason: LeaveReason,
    },
}

/// What negotiation made of an announced track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedTrack {
    /// Which.
    pub track: TrackSid,
    /// Audio or video.
    pub kind: MediaKind,
    /// Its media section.
    pub mid: String,
    /// The `a=msid` track id in the offer; differs from the request's cid on stacks that rename.
    pub sdp_cid: String,
    /// `audio/opus`, `video/vp8`, … lower case.
    pub mime_type: String,
    /// RIDs, lowest layer first; empty for a single encoding.
    pub rids: Vec<String>,
}

/// Why a description was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NegotiationError {
    /// The attribute or line at fault, such as `a=fingerprint` or `m=video (mid 3)`.
    pub field: String,
    /// What is wrong with it, in plain words.
    pub reason: String,
}

/// Why a subscription cannot be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SubscriptionFailure {
    /// The subscriber's offer has no codec in common with the track.
    CodecUnsupported,
    /// Nobody publishes such a track.
    TrackNotFound,
    /// The participant's limit of subscriptions is reached.
    LimitExceeded,
}

/// Why the media plane ended a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EndReason {
    /// A newer session of the same identity took its place.
    DuplicateIdentity,
    /// ICE did not come up in time.
    IceTimeout,
    /// DTLS did not come up in time, or failed (wrong fingerprint, no common suite).
    DtlsFailed,
    /// The transport was up and consent expired (RFC 7675).
    ConsentExpired,
    /// The client closed its DTLS connection.
    TransportClosed,
    /// Its code path panicked; contained to this participant.
    Panicked,
    /// The node has no room for another.
    NodeFull,
}
