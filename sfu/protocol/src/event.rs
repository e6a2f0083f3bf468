//! What the SFU tells the signaling service.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{LayerQuality, LeaveReason, MediaKind, ParticipantSid, RoomSid, Target, TrackSid};

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
        /// Room whose roster changed.
        room: RoomSid,
        /// Entry that appeared, changed or went.
        change: RosterChange,
    },
    /// The answer to `Command::Offer`. Carries the server's candidates and the end-of-candidates mark.
    Answer {
        /// Participant that offered.
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
        /// Participant that is to answer.
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
        /// Participant whose description was refused.
        participant: ParticipantSid,
        /// Connection that the description is of.
        target: Target,
        /// The number of the offer or answer.
        id: u32,
        /// What is wrong with it.
        error: NegotiationError,
    },
    /// Single mode: subscriptions wait for that many additional receive-only sections (both may be 0: a free
    /// one is there, only a new offer is needed). Not repeated until the client has offered.
    MediaSectionsRequired {
        /// Participant that is to offer the sections.
        participant: ParticipantSid,
        /// Additional audio sections.
        audios: u32,
        /// Additional video sections.
        videos: u32,
    },
    /// A transport is up: ICE answered, DTLS done, keys installed.
    TransportConnected {
        /// Participant whose transport is up.
        participant: ParticipantSid,
        /// Connection that is up.
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
        /// Track that is gone.
        track: TrackSid,
    },
    /// An announced track cannot be published. It is forgotten; there was nothing to be seen of it.
    PublicationFailed {
        /// Participant that announced the track.
        participant: ParticipantSid,
        /// The announced track.
        track: TrackSid,
        /// Reason that its client is told.
        reason: PublicationFailure,
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
        /// Participant that subscribed.
        participant: ParticipantSid,
        /// Track that it does not get.
        track: TrackSid,
        /// Reason that its client is told.
        reason: SubscriptionFailure,
    },
    /// Who speaks in a room at this moment, all of them, loudest first. Emitted when that changed, once per room and
    /// process like [`Event::Roster`]; each session tells its client of those that it receives.
    Speakers {
        /// Room in which they speak.
        room: RoomSid,
        /// Everyone who speaks; empty: silence.
        speakers: Vec<Speaker>,
    },
    /// How well participants of a room are connected: those for whom that changed. Emitted once per room and process;
    /// each session tells its client of itself and of those that it receives. `Lost` makes a publishing client start
    /// anew after 10 s: never while media flows, is muted or paused.
    ConnectionQuality {
        /// Room of the participants.
        room: RoomSid,
        /// Whose connection changed, and to what.
        changes: Vec<ParticipantQuality>,
    },
    /// A subscription was paused for want of bandwidth, or goes on.
    StreamState {
        /// The subscriber.
        participant: ParticipantSid,
        /// The track that it receives.
        track: TrackSid,
        /// Whether nothing is sent of it.
        paused: bool,
    },
    /// What subscribers want of a published video track at this moment, so that its publisher encodes nothing else.
    /// The session waits with news of less, for subscribers often come back.
    SubscribedQuality {
        /// The publisher.
        participant: ParticipantSid,
        /// Its track.
        track: TrackSid,
        /// Each codec of the track, the main one first.
        codecs: Vec<CodecDemand>,
    },
    /// The participant was ended by the media plane. It is gone already.
    Ended {
        /// Participant that is gone.
        participant: ParticipantSid,
        /// Reason; it decides whether the client is to join again.
        reason: EndReason,
    },
}

/// One participant, as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterEntry {
    /// Participant that the information is about.
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
        /// Participant that went.
        participant: ParticipantSid,
        /// The last information announced.
        info: Bytes,
        /// Reason that the others are told.
        reason: LeaveReason,
    },
}

/// What negotiation made of an announced track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedTrack {
    /// Sid of the announced track.
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

/// Somebody who speaks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Speaker {
    /// Participant that speaks.
    pub participant: ParticipantSid,
    /// How loud, above 0 to 1.
    pub level: f32,
}

/// How well somebody is connected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParticipantQuality {
    /// Participant whose connection was measured.
    pub participant: ParticipantSid,
    /// Quality in one word, as clients show it.
    pub quality: ConnectionQuality,
    /// Mean opinion score, 1 to 5.
    pub score: f32,
}

/// A connection in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConnectionQuality {
    /// Nothing comes.
    Lost,
    /// It can be noticed.
    Poor,
    /// It can hardly be noticed.
    Good,
    /// Nothing is wrong.
    Excellent,
}

/// What is wanted of one codec of a track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodecDemand {
    /// `video/vp8`, … lower case, as in [`PublishedTrack::mime_type`].
    pub mime_type: String,
    /// The highest quality that anybody wants; `None`: nobody wants any.
    pub highest: Option<LayerQuality>,
}

/// Why a description was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NegotiationError {
    /// The attribute or line at fault, such as `a=fingerprint` or `m=video (mid 3)`.
    pub field: String,
    /// What is wrong with it, in plain words.
    pub reason: String,
}

/// Why an announced track cannot be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PublicationFailure {
    /// Its media section offers no codec, or no profile of one, that can be forwarded.
    CodecUnsupported,
    /// The participant has as many tracks as it may have.
    TooManyTracks,
}

/// Why a subscription cannot be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SubscriptionFailure {
    /// The subscriber's offer has no codec in common with the track.
    CodecUnsupported,
    /// The subscriber has as many media sections as it may have, all in use. It gets the next one that is free.
    TooManyTracks,
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
    /// It was too far behind with reliable user data, by bytes or for time. It has missed some, and is to begin anew.
    DataBacklog,
    /// A reliable message was longer than its client takes. It has missed that one, and is to begin anew.
    DataTooLong,
}
