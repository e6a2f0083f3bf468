//! The others, as the roster of record describes them.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use bytes::Bytes;
use livekit_protocol as proto;
use livekit_protocol::participant_info::State;
use sfu_protocol::{LeaveReason, MediaKind, ParticipantSid, RosterChange, RosterEntry, TrackSid};

use super::info::{self, Described};
use super::join::is_counted_kind;
use super::timers::Timer;
use super::{Discard, Session, leaving, track};

/// From this protocol number on a client understands that a participant's new sid replaces its old one.
const PROTOCOL_REPLACE_BY_IDENTITY: i32 = 12;

/// Somebody else. Kept as it came: the bytes are shared by all sessions of the process that hear of it, so that a
/// large room costs each of them little.
#[derive(Debug)]
pub(super) struct Other {
    info: Bytes,
    version: u32,
    counted: bool,
    is_publisher: bool,
    /// What it publishes.
    pub(super) tracks: Box<[(TrackSid, MediaKind)]>,
    /// Who may subscribe to that; `None`: everybody.
    pub(super) permission: Option<Box<proto::SubscriptionPermission>>,
}

impl Other {
    fn new(info: Bytes, described: &Described, known: Option<&Self>) -> Self {
        let tracks = described.info.tracks.iter().filter_map(|track| {
            let kind = track::media_kind(track.r#type())?;
            let known =
                known.and_then(|known| known.tracks.iter().find(|(sid, _)| sid.as_str() == track.sid));
            Some((known.map_or_else(|| TrackSid::new(track.sid.as_str()), |(sid, _)| sid.clone()), kind))
        });
        Self {
            info,
            version: described.info.version,
            counted: is_counted_kind(described.info.kind()),
            is_publisher: described.info.is_publisher,
            tracks: tracks.collect(),
            permission: described.permission.clone().map(Box::new),
        }
    }

    fn publishes(&self, track: &TrackSid) -> bool {
        self.tracks.iter().any(|(sid, _)| sid == track)
    }

    /// What people see of it. It was decoded before it was kept, so it can be again.
    fn info(&self) -> proto::ParticipantInfo {
        info::decode(&self.info).map(|described| described.info).unwrap_or_default()
    }
}

/// Somebody who has gone. Kept as it came, too.
#[derive(Debug)]
pub(super) struct Departure {
    sid: ParticipantSid,
    identity: Box<str>,
    info: Bytes,
    version: u32,
    reason: i32,
}

impl Departure {
    /// `last` is what was known at the end.
    fn new(sid: &ParticipantSid, old: &Other, last: &proto::ParticipantInfo, reason: LeaveReason) -> Self {
        let reason = match last.disconnect_reason() {
            proto::DisconnectReason::UnknownReason => leaving::disconnect_reason(reason) as i32,
            _ => last.disconnect_reason,
        };
        Self {
            sid: sid.clone(),
            identity: last.identity.as_str().into(),
            info: old.info.clone(),
            version: last.version.saturating_add(1),
            reason,
        }
    }

    /// What the client is told.
    pub(super) fn info(&self) -> proto::ParticipantInfo {
        let described = info::decode(&self.info).unwrap_or_default();
        proto::ParticipantInfo {
            state: State::Disconnected as i32,
            version: self.version,
            tracks: Vec::new(),
            disconnect_reason: self.reason,
            ..described.info
        }
    }
}

/// Everybody else in the room.
#[derive(Debug, Default)]
pub(super) struct Roster {
    others: BTreeMap<ParticipantSid, Other>,
    /// Which session is whose.
    identities: HashMap<Box<str>, ParticipantSid>,
    /// Which participant publishes a track.
    publishers: HashMap<TrackSid, ParticipantSid>,
    /// Replaced by their own new session, which has not shown up yet.
    departures: Vec<(Instant, Departure)>,
    counts: Counts,
    /// As the client knows them.
    pub(super) told_counts: Counts,
}

/// How many there are of those who count.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) participants: u32,
    pub(super) publishers: u32,
}

impl Counts {
    pub(super) fn add(&mut self, counted: bool, is_publisher: bool) {
        self.participants = self.participants.saturating_add(u32::from(counted));
        self.publishers = self.publishers.saturating_add(u32::from(counted && is_publisher));
    }

    fn remove(&mut self, other: &Other) {
        self.participants = self.participants.saturating_sub(u32::from(other.counted));
        self.publishers = self.publishers.saturating_sub(u32::from(other.counted && other.is_publisher));
    }
}

impl Roster {
    /// What the client is shown, decoded one by one.
    pub(super) fn infos(&self) -> impl Iterator<Item = proto::ParticipantInfo> {
        self.others.values().map(Other::info)
    }

    pub(super) fn sids(&self) -> Vec<ParticipantSid> {
        self.others.keys().cloned().collect()
    }

    pub(super) fn get(&self, sid: &ParticipantSid) -> Option<&Other> {
        self.others.get(sid)
    }

    /// Who publishes `track`.
    pub(super) fn publisher(&self, track: &TrackSid) -> Option<&ParticipantSid> {
        self.publishers.get(track)
    }

    /// Whether somebody who went is there again. A client that knows people by their identity would take what it is
    /// told of the earlier session for the end of the new one.
    pub(super) fn is_back(&self, departure: &Departure, by_identity: bool) -> bool {
        let same_identity = by_identity && self.identities.contains_key(&departure.identity);
        same_identity || self.others.contains_key(&departure.sid)
    }

    /// The others, without ourselves.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    fn insert(&mut self, sid: &ParticipantSid, info: Bytes, described: &Described) -> Option<Other> {
        let other = Other::new(info, described, self.others.get(sid));
        for (track, _) in &other.tracks {
            self.publishers.insert(track.clone(), sid.clone());
        }
        self.identities.insert(described.info.identity.as_str().into(), sid.clone());
        self.counts.add(other.counted, other.is_publisher);
        let old = self.others.insert(sid.clone(), other)?;
        self.counts.remove(&old);
        let new = self.others.get(sid);
        for (track, _) in old.tracks.iter().filter(|(track, _)| !new.is_some_and(|new| new.publishes(track)))
        {
            self.publishers.remove(track);
        }
        Some(old)
    }

    fn remove(&mut self, sid: &ParticipantSid) -> Option<(Other, proto::ParticipantInfo)> {
        let old = self.others.remove(sid)?;
        self.counts.remove(&old);
        for (track, _) in &old.tracks {
            self.publishers.remove(track);
        }
        let info = old.info();
        if self.identities.get(info.identity.as_str()) == Some(sid) {
            self.identities.remove(info.identity.as_str());
        }
        Some((old, info))
    }
}

impl Session {
    /// The others at the moment of joining.
    pub(super) fn fill_roster(&mut self, roster: Vec<RosterEntry>) {
        for entry in roster {
            if let Some(described) = self.decode_other(&entry) {
                self.roster.insert(&entry.participant, entry.info, &described);
            }
        }
    }

    pub(super) fn on_roster(&mut self, now: Instant, change: RosterChange) {
        match change {
            RosterChange::Present(entry) => {
                if let Some(described) = self.decode_other(&entry) {
                    self.on_present(now, entry, described);
                }
            }
            RosterChange::Gone { participant, info, reason } => {
                self.on_gone(now, &participant, &info, reason);
            }
        }
        self.note_counts(now);
    }

    fn on_present(&mut self, now: Instant, entry: RosterEntry, described: Described) {
        let RosterEntry { participant: sid, info } = entry;
        match self.roster.get(&sid) {
            Some(known) if known.version > described.info.version => {
                return self.discard(Discard::StaleRoster);
            }
            Some(_) => {}
            None => self.replace_earlier_session(now, &sid, &described.info.identity),
        }
        let old = self.roster.insert(&sid, info, &described);
        // Sent before anything that follows from it: a client drops media of somebody it does not know.
        if old.as_ref().is_none_or(|old| differs(old.info(), &described.info)) {
            self.update(described.info);
        }
        self.reconcile_publisher(&sid, old.as_ref());
    }

    /// Somebody new has the identity of somebody known: its earlier session is over, whether we heard so or not.
    fn replace_earlier_session(&mut self, now: Instant, sid: &ParticipantSid, identity: &str) {
        self.roster.departures.retain(|(_, departure)| *departure.identity != *identity);
        let earlier = self.roster.identities.get(identity).filter(|earlier| *earlier != sid).cloned();
        let Some(earlier) = earlier else { return };
        if let Some((old, info)) = self.roster.remove(&earlier) {
            self.measured.forget(&earlier);
            self.forget_publisher(&old);
            if !self.replaces_by_identity() {
                let reason = LeaveReason::DuplicateIdentity;
                self.depart(now, Departure::new(&earlier, &old, &info, reason));
                // The two must not be merged into one message where the order is lost.
                self.flush_updates();
            }
        }
    }

    pub(super) fn replaces_by_identity(&self) -> bool {
        self.config.client.protocol >= PROTOCOL_REPLACE_BY_IDENTITY
    }

    fn on_gone(&mut self, now: Instant, sid: &ParticipantSid, last: &[u8], reason: LeaveReason) {
        let Some((old, mut info)) = self.roster.remove(sid) else { return };
        if let Ok(last) = info::decode(last)
            && last.info.version >= info.version
        {
            info.disconnect_reason = last.info.disconnect_reason;
            info.version = last.info.version;
        }
        self.measured.forget(sid);
        self.forget_publisher(&old);
        let departure = Departure::new(sid, &old, &info, reason);
        if reason == LeaveReason::DuplicateIdentity && self.replaces_by_identity() {
            let due = now + self.config.limits.replacement;
            self.roster.departures.push((due, departure));
            return self.timers.set_earliest(Timer::Departures, due);
        }
        self.depart(now, departure);
    }

    /// A new session that we cannot see (hidden) does not make the old one stay.
    pub(super) fn on_departures_due(&mut self, now: Instant) {
        let departures = std::mem::take(&mut self.roster.departures);
        let (due, waiting): (Vec<_>, Vec<_>) = departures.into_iter().partition(|(due, _)| *due <= now);
        self.roster.departures = waiting;
        for (_, departure) in due {
            self.depart(now, departure);
        }
        if let Some(next) = self.roster.departures.iter().map(|(due, _)| *due).min() {
            self.timers.set(Timer::Departures, next);
        }
    }

    /// Looks at the room's counts again before long.
    pub(super) fn note_counts(&mut self, now: Instant) {
        if self.count_room() != self.roster.told_counts {
            self.timers.set_earliest(Timer::RoomCounts, now + self.config.limits.room_counts);
        }
    }

    /// Decodes somebody's information; `None` for ourselves and for other sessions of our identity.
    fn decode_other(&mut self, entry: &RosterEntry) -> Option<Described> {
        if entry.participant == self.config.sid {
            return None;
        }
        match info::decode(&entry.info) {
            Ok(described) if described.info.sid != entry.participant.as_str() => {
                self.discard(Discard::BadRosterInfo);
                None
            }
            Ok(described) if described.info.identity == self.config.participant.identity => None,
            Ok(described) => Some(described),
            Err(_) => {
                self.discard(Discard::BadRosterInfo);
                None
            }
        }
    }
}

/// Whether the client has something to learn.
fn differs(mut old: proto::ParticipantInfo, new: &proto::ParticipantInfo) -> bool {
    old.version = new.version;
    old != *new
}
