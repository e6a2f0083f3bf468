//! The other participants, as the authoritative roster describes them.

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

/// From this protocol number on, clients understand that a participant's new sid replaces its old one.
const PROTOCOL_REPLACE_BY_IDENTITY: i32 = 12;

/// Another participant. Its information is stored as the received bytes, which all sessions of the process share, so
/// that a large room costs each session little memory.
#[derive(Debug)]
pub(super) struct Other {
    info: Bytes,
    version: u32,
    counted: bool,
    is_publisher: bool,
    /// Tracks that the participant publishes.
    pub(super) tracks: Box<[(TrackSid, MediaKind)]>,
    /// Who may subscribe to those tracks; `None` allows everybody.
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

    /// Decoded information as shown to clients. The bytes were decoded before they were stored, so decoding them
    /// again succeeds.
    fn info(&self) -> proto::ParticipantInfo {
        info::decode(&self.info).map(|described| described.info).unwrap_or_default()
    }
}

/// A participant that has left. Its information is stored as the received bytes.
#[derive(Debug)]
pub(super) struct Departure {
    sid: ParticipantSid,
    identity: Box<str>,
    info: Bytes,
    version: u32,
    reason: i32,
}

impl Departure {
    /// `last` is the last known information about the participant.
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

    /// Information for the client: the participant is disconnected and has no tracks.
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

/// All other participants in the room.
#[derive(Debug, Default)]
pub(super) struct Roster {
    others: BTreeMap<ParticipantSid, Other>,
    /// Sid of the current session of each identity.
    identities: HashMap<Box<str>, ParticipantSid>,
    /// Publisher of each track.
    publishers: HashMap<TrackSid, ParticipantSid>,
    /// Departures held back until the given time, of participants that were replaced by their own new session, which
    /// has not appeared yet.
    departures: Vec<(Instant, Departure)>,
    counts: Counts,
    /// Counts including this participant, as last told to the client.
    pub(super) told_counts: Counts,
}

/// Participant counts of the room, without agents and recorders.
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
    /// Information about the other participants, decoded one at a time.
    pub(super) fn infos(&self) -> impl Iterator<Item = proto::ParticipantInfo> {
        self.others.values().map(Other::info)
    }

    pub(super) fn sids(&self) -> Vec<ParticipantSid> {
        self.others.keys().cloned().collect()
    }

    pub(super) fn get(&self, sid: &ParticipantSid) -> Option<&Other> {
        self.others.get(sid)
    }

    pub(super) fn publisher(&self, track: &TrackSid) -> Option<&ParticipantSid> {
        self.publishers.get(track)
    }

    /// Whether a participant that left is present again. A client that knows participants by identity would take the
    /// departure of the earlier session for the end of the new one.
    pub(super) fn is_back(&self, departure: &Departure, by_identity: bool) -> bool {
        let same_identity = by_identity && self.identities.contains_key(&departure.identity);
        same_identity || self.others.contains_key(&departure.sid)
    }

    /// Counts of the other participants, without this one.
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
    /// Fills in the other participants at the time of joining.
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
        // Sent before anything that follows from it: clients drop media of participants that they do not know.
        if old.as_ref().is_none_or(|old| differs(old.info(), &described.info)) {
            self.update(described.info);
        }
        self.reconcile_publisher(&sid, old.as_ref());
    }

    /// Removes the earlier session of an identity, because a new session with it has appeared. The departure of the
    /// earlier session may not have been reported.
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
                // Two messages, because the order within one message is not preserved.
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

    /// Announces held-back departures that are due. The new session may never appear, for example if it is hidden.
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

    /// Schedules a report of the room's counts if they have changed.
    pub(super) fn note_counts(&mut self, now: Instant) {
        if self.count_room() != self.roster.told_counts {
            self.timers.set_earliest(Timer::RoomCounts, now + self.config.limits.room_counts);
        }
    }

    /// Decodes information about another participant. Returns `None` for this session, for other sessions of the same
    /// identity, and for invalid information.
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

/// Whether information differs in more than its version.
fn differs(mut old: proto::ParticipantInfo, new: &proto::ParticipantInfo) -> bool {
    old.version = new.version;
    old != *new
}
