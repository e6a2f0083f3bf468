//! A participant as its shard knows it: one or two peers, and what it wants that has no media section yet.

use std::time::Instant;

use sfu_protocol::{
    AddTrack, ConnectionMode, Join, MediaKind, ParticipantSid, Permissions, Target, TrackDemand, TrackSid,
};

use super::backlog::Backlog;
use super::flow::Sending;
use super::holds::Holds;
use crate::handles::{PeerIndex, RoomIndex};
use crate::peer::quality::Watch;

/// One participant.
#[derive(Debug)]
pub struct Participant {
    /// Its sid.
    pub sid: ParticipantSid,
    /// Its identity.
    pub identity: String,
    /// Not shown to others.
    pub hidden: bool,
    /// What it may do.
    pub permissions: Permissions,
    /// One connection or two.
    pub mode: ConnectionMode,
    /// Where it is.
    pub room: RoomIndex,
    /// The single connection, or the one that publishes.
    pub publisher: PeerIndex,
    /// The one that receives, in dual mode.
    pub subscriber: Option<PeerIndex>,
    /// Announced tracks that have no media section yet.
    pub pending: Vec<Pending>,
    /// When announcements and sections that no id brings together are to be matched by their kind.
    pub match_at: Option<Instant>,
    /// Since when there are some.
    pub unmatched_since: Option<Instant>,
    /// What it wants, in the order in which it asked.
    pub wishes: Vec<Wish>,
    /// Reliable user messages that wait for it.
    pub backlog: Backlog,
    /// Senders of such messages that it holds up.
    pub holds: Holds,
    /// Whether the shard looks after it, since messages wait for it.
    pub lags: bool,
    /// What it is as a sender of reliable user messages.
    pub sending: Sending,
    /// Whether the room's home has answered its entry.
    pub entered: bool,
    /// Whether it waits to be asked for sections, or to be offered some.
    pub unnegotiated: bool,
    /// How well it is connected.
    pub watch: Watch,
    /// The deadline that stands in the shard's timers for it.
    pub scheduled: Option<Instant>,
}

/// One wanted track.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Which.
    pub track: TrackSid,
    /// Who publishes it.
    pub publisher: ParticipantSid,
    /// Audio or video.
    pub kind: MediaKind,
    /// What is wanted of it.
    pub demand: TrackDemand,
    /// No codec in common: not asked for again.
    pub hopeless: bool,
    /// There is no media section for it, nor room for another, as the client was told. It gets the next that is free.
    pub crowded: bool,
    /// Its publisher speaks, and another track has given up its section for it.
    pub seated: bool,
}

impl Wish {
    /// A wish that nothing is known of yet.
    pub fn new(track: TrackSid, publisher: ParticipantSid, kind: MediaKind, demand: TrackDemand) -> Self {
        Self { track, publisher, kind, demand, hopeless: false, crowded: false, seated: false }
    }
}

/// An announced track that has no media section yet.
#[derive(Debug, Clone)]
pub struct Pending {
    /// As it was announced.
    pub track: AddTrack,
    /// When it is given up, and its publisher told. Backup codecs are not: they may never be needed.
    pub expires: Option<Instant>,
}

impl Participant {
    /// The announced tracks that have no media section yet.
    pub fn announced(&self) -> Vec<AddTrack> {
        self.pending.iter().map(|pending| pending.track.clone()).collect()
    }

    /// When something is due for its announcements.
    pub fn announcements_due(&self) -> Option<Instant> {
        let expires = self.pending.iter().filter_map(|pending| pending.expires);
        expires.chain(self.match_at).min()
    }

    /// Takes a participant in.
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

    /// The peer of a connection.
    pub fn peer(&self, target: Target) -> Option<PeerIndex> {
        match target {
            Target::Publisher => Some(self.publisher),
            Target::Subscriber => self.subscriber,
        }
    }

    /// Its peers.
    pub fn peers(&self) -> impl Iterator<Item = PeerIndex> {
        [Some(self.publisher), self.subscriber].into_iter().flatten()
    }

    /// Notes or changes a wish. True if it is new.
    pub fn wish(&mut self, wish: Wish) -> bool {
        if let Some(known) = self.wishes.iter_mut().find(|known| known.track == wish.track) {
            known.demand = wish.demand;
            return false;
        }
        self.wishes.push(wish);
        true
    }
}
