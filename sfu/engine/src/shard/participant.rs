//! A participant as its shard knows it: one or two peers, the tracks that it announced, and the tracks that it wants.

use std::time::Instant;

use sfu_protocol::{
    AddTrack, ConnectionMode, Join, MediaKind, ParticipantSid, Permissions, Target, TrackDemand, TrackSid,
};

use super::backlog::Backlog;
use super::flow::Sending;
use super::holds::Holds;
use crate::handles::{PeerIndex, RoomIndex};
use crate::peer::quality::Watch;

#[derive(Debug)]
pub struct Participant {
    pub sid: ParticipantSid,
    pub identity: String,
    /// Whether the participant is hidden from others.
    pub hidden: bool,
    pub permissions: Permissions,
    /// Whether the participant has one connection or two.
    pub mode: ConnectionMode,
    pub room: RoomIndex,
    /// The peer that publishes; in single mode also the peer that receives.
    pub publisher: PeerIndex,
    /// The peer that receives; only in dual mode.
    pub subscriber: Option<PeerIndex>,
    /// Announced tracks that have no media section yet.
    pub pending: Vec<Pending>,
    /// Time at which announcements and media sections that no id connects are matched by their kind; `None` if there
    /// are none.
    pub match_at: Option<Instant>,
    /// Time since which such unmatched announcements and sections have existed.
    pub unmatched_since: Option<Instant>,
    /// Wanted tracks, in the order of the requests, except that tracks of a dominant speaker may have been moved to the
    /// front.
    pub wishes: Vec<Wish>,
    /// Reliable user messages that wait to be sent to the participant.
    pub backlog: Backlog,
    /// Senders of reliable user messages that the participant holds up because it is a slow receiver.
    pub holds: Holds,
    /// Whether the participant is in the shard's `laggards`, because it has a backlog.
    pub lags: bool,
    /// State as a sender of reliable user messages.
    pub sending: Sending,
    /// Whether the room's home shard has confirmed the participant's entry.
    pub entered: bool,
    /// Whether the participant is in the shard's `unnegotiated`: its wanted tracks have changed since the last
    /// negotiation.
    pub unnegotiated: bool,
    /// Connection quality, and the schedule of its ratings.
    pub watch: Watch,
    /// The participant's deadline in the shard's timers; other entries there are stale.
    pub scheduled: Option<Instant>,
}

/// A track that a participant wants.
#[derive(Debug, Clone)]
pub struct Wish {
    pub track: TrackSid,
    pub publisher: ParticipantSid,
    pub kind: MediaKind,
    /// Wanted size, frame rate, quality and priority.
    pub demand: TrackDemand,
    /// The client has no codec in common with the track, so no media section is negotiated for it.
    pub hopeless: bool,
    /// The track has no media section and none can be added, which was reported to the client. The track gets the next
    /// section that becomes free.
    pub crowded: bool,
    /// The track's publisher became the dominant speaker, and another track has given up its media section for this
    /// one.
    pub seated: bool,
}

impl Wish {
    pub fn new(track: TrackSid, publisher: ParticipantSid, kind: MediaKind, demand: TrackDemand) -> Self {
        Self { track, publisher, kind, demand, hopeless: false, crowded: false, seated: false }
    }
}

/// An announced track that has no media section yet.
#[derive(Debug, Clone)]
pub struct Pending {
    /// The announcement.
    pub track: AddTrack,
    /// Time at which the announcement is given up and its publisher notified. `None` for backup codecs, which may never
    /// be needed.
    pub expires: Option<Instant>,
}

impl Participant {
    /// The announced tracks that have no media section yet.
    pub fn announced(&self) -> Vec<AddTrack> {
        self.pending.iter().map(|pending| pending.track.clone()).collect()
    }

    /// The next deadline of the announcements: an expiry, or matching by kind.
    pub fn announcements_due(&self) -> Option<Instant> {
        let expires = self.pending.iter().filter_map(|pending| pending.expires);
        expires.chain(self.match_at).min()
    }

    pub fn new(
        join: Join,
        room: RoomIndex,
        publisher: PeerIndex,
        subscriber: Option<PeerIndex>,
        now: Instant,
    ) -> Self {
        Self {
            sid: join.participant,
            identity: join.identity,
            hidden: join.hidden,
            permissions: join.permissions,
            mode: join.mode,
            room,
            publisher,
            subscriber,
            pending: Vec::new(),
            match_at: None,
            unmatched_since: None,
            wishes: Vec::new(),
            backlog: Backlog::new(now),
            holds: Holds::default(),
            lags: false,
            sending: Sending::default(),
            entered: false,
            unnegotiated: false,
            watch: Watch::new(now),
            scheduled: None,
        }
    }

    /// The peer that receives media.
    pub fn receiver(&self) -> PeerIndex {
        self.subscriber.unwrap_or(self.publisher)
    }

    pub fn peer(&self, target: Target) -> Option<PeerIndex> {
        match target {
            Target::Publisher => Some(self.publisher),
            Target::Subscriber => self.subscriber,
        }
    }

    pub fn peers(&self) -> impl Iterator<Item = PeerIndex> {
        [Some(self.publisher), self.subscriber].into_iter().flatten()
    }

    /// Adds a wanted track, or updates the demand of a known one. Returns true if it is new.
    pub fn wish(&mut self, wish: Wish) -> bool {
        if let Some(known) = self.wishes.iter_mut().find(|known| known.track == wish.track) {
            known.demand = wish.demand;
            return false;
        }
        self.wishes.push(wish);
        true
    }
}
