//! Directory of rooms for a single process.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dashmap::DashMap;
use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use rand::Rng;
use sfu_protocol::{ParticipantSid, RoomSid};

use super::{ClosedRoom, Directory, DirectoryError, Entrant, RoomSettings};
use crate::session::{RoomDescription, random_word};

/// Directory that holds the rooms of this process in memory, by name.
#[derive(Debug, Default)]
pub struct MemoryDirectory {
    rooms: DashMap<String, Room>,
}

#[derive(Debug)]
struct Room {
    description: RoomDescription,
    members: HashMap<ParticipantSid, Entrant>,
    /// Time at which the last counted participant left, or the room was opened; meaningful only while the room is
    /// empty.
    empty_since: Instant,
    entered_once: bool,
}

impl Room {
    fn new(now: Instant, name: &str, settings: RoomSettings) -> Self {
        let mut rng = rand::rng();
        let mut sif_trailer = [0_u8; SIF_TRAILER_BYTES];
        rng.fill(&mut sif_trailer);
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let description = RoomDescription {
            sid: RoomSid::new(format!("{}{}", RoomSid::PREFIX, random_word(&mut rng))),
            name: name.to_owned(),
            created_ms: i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX),
            metadata: settings.metadata,
            sif_trailer: Bytes::copy_from_slice(&sif_trailer),
            empty_timeout_s: settings.empty_timeout_s,
            departure_timeout_s: settings.departure_timeout_s,
            max_participants: settings.max_participants,
            playout_delay: settings.playout_delay,
        };
        Self { description, members: HashMap::new(), empty_since: now, entered_once: false }
    }

    fn is_empty(&self) -> bool {
        !self.members.values().any(|member| member.counted)
    }

    fn is_over(&self, now: Instant) -> bool {
        let timeout = if self.entered_once {
            self.description.departure_timeout_s
        } else {
            self.description.empty_timeout_s
        };
        let empty_for = now.saturating_duration_since(self.empty_since);
        self.is_empty() && empty_for >= Duration::from_secs(u64::from(timeout))
    }

    /// Whether a join enters this room instead of opening a new one. A room that is due to close but still has
    /// uncounted members, such as agents, stays open until the sweep closes it and returns those members.
    fn is_open(&self, now: Instant) -> bool {
        !self.is_over(now) || !self.members.is_empty()
    }

    fn admits(&self, entrant: &Entrant) -> Result<(), DirectoryError> {
        let others: HashSet<&str> = self
            .members
            .values()
            .filter(|member| member.counted && member.identity != entrant.identity)
            .map(|member| member.identity.as_str())
            .collect();
        let most = usize::try_from(self.description.max_participants).unwrap_or(usize::MAX);
        if entrant.counted && most > 0 && others.len() >= most {
            return Err(DirectoryError::RoomFull);
        }
        Ok(())
    }

    fn enter(&mut self, entrant: Entrant) -> Result<RoomDescription, DirectoryError> {
        self.admits(&entrant)?;
        self.entered_once |= entrant.counted;
        self.members.insert(entrant.participant.clone(), entrant);
        Ok(self.description.clone())
    }

    fn leave(&mut self, now: Instant, participant: &ParticipantSid) {
        let was_counted = self.members.remove(participant).is_some_and(|member| member.counted);
        if was_counted && self.is_empty() {
            self.empty_since = now;
        }
    }
}

impl MemoryDirectory {
    fn enter_now(
        &self,
        now: Instant,
        name: &str,
        entrant: Entrant,
        create: Option<RoomSettings>,
    ) -> Result<RoomDescription, DirectoryError> {
        use dashmap::mapref::entry::Entry;
        match self.rooms.entry(name.to_owned()) {
            Entry::Occupied(mut known) if known.get().is_open(now) => known.get_mut().enter(entrant),
            entry => {
                let settings = create.ok_or(DirectoryError::NoSuchRoom)?;
                let mut room = Room::new(now, name, settings);
                let description = room.enter(entrant);
                entry.insert(room);
                description
            }
        }
    }

    fn admits_now(
        &self,
        now: Instant,
        name: &str,
        entrant: &Entrant,
        create: bool,
    ) -> Result<(), DirectoryError> {
        match self.rooms.get(name).filter(|room| room.is_open(now)) {
            Some(room) => room.admits(entrant),
            // A new room always admits its first participant.
            None if create => Ok(()),
            None => Err(DirectoryError::NoSuchRoom),
        }
    }

    fn sweep_now(&self, now: Instant) -> Vec<ClosedRoom> {
        let over: Vec<String> =
            self.rooms.iter().filter(|room| room.is_over(now)).map(|room| room.key().clone()).collect();
        // Each room is checked again under its lock, because a participant may have entered meanwhile.
        let closed = over.iter().filter_map(|name| self.rooms.remove_if(name, |_, room| room.is_over(now)));
        closed
            .map(|(_, room)| ClosedRoom { room: room.description, left: room.members.into_keys().collect() })
            .collect()
    }

    /// Number of rooms that have not been closed by [`sweep`](Directory::sweep).
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether there are no such rooms.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }
}

impl Directory for MemoryDirectory {
    fn enter<'a>(
        &'a self,
        now: Instant,
        name: &'a str,
        entrant: Entrant,
        create: Option<RoomSettings>,
    ) -> BoxFuture<'a, Result<RoomDescription, DirectoryError>> {
        future::ready(self.enter_now(now, name, entrant, create)).boxed()
    }

    fn admits<'a>(
        &'a self,
        now: Instant,
        name: &'a str,
        entrant: &'a Entrant,
        create: bool,
    ) -> BoxFuture<'a, Result<(), DirectoryError>> {
        future::ready(self.admits_now(now, name, entrant, create)).boxed()
    }

    fn leave<'a>(
        &'a self,
        now: Instant,
        room: &'a RoomSid,
        name: &'a str,
        participant: &'a ParticipantSid,
    ) -> BoxFuture<'a, ()> {
        if let Some(mut known) = self.rooms.get_mut(name)
            && known.description.sid == *room
        {
            known.leave(now, participant);
        }
        future::ready(()).boxed()
    }

    fn find<'a>(&'a self, now: Instant, name: &'a str) -> BoxFuture<'a, Option<RoomDescription>> {
        let known = self.rooms.get(name).filter(|room| !room.is_over(now));
        future::ready(known.map(|room| room.description.clone())).boxed()
    }

    fn sweep(&self, now: Instant) -> BoxFuture<'_, Vec<ClosedRoom>> {
        future::ready(self.sweep_now(now)).boxed()
    }
}

const SIF_TRAILER_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn entrant(sid: &str, identity: &str, counted: bool) -> Entrant {
        Entrant { participant: ParticipantSid::new(sid), identity: identity.to_owned(), counted }
    }

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_room_is_opened_once_and_keeps_its_sid_and_trailer() {
        let start = Instant::now();
        let directory = MemoryDirectory::default();
        let create = || Some(RoomSettings { metadata: "first".to_owned(), ..RoomSettings::default() });
        let first = directory.enter_now(start, "hall", entrant("PA_1", "a", true), create()).unwrap();
        assert!(first.sid.as_str().starts_with("RM_"));
        assert_eq!(first.sif_trailer.len(), SIF_TRAILER_BYTES);
        let other = Some(RoomSettings { metadata: "second".to_owned(), ..RoomSettings::default() });
        let second = directory.enter_now(start, "hall", entrant("PA_2", "b", true), other).unwrap();
        assert_eq!(first, second);
        let elsewhere = directory.enter_now(start, "attic", entrant("PA_3", "c", true), create()).unwrap();
        assert_ne!(elsewhere.sid, first.sid);
        assert_ne!(elsewhere.sif_trailer, first.sif_trailer);
    }

    #[test]
    fn without_leave_to_open_there_must_be_a_room() {
        let directory = MemoryDirectory::default();
        let refused = directory.enter_now(Instant::now(), "hall", entrant("PA_1", "a", true), None);
        assert_eq!(refused, Err(DirectoryError::NoSuchRoom));
        assert!(directory.is_empty());
    }

    #[test]
    fn closes_after_the_last_has_been_gone_for_its_time() {
        let start = Instant::now();
        let directory = MemoryDirectory::default();
        let create = || Some(RoomSettings::default());
        let first = directory.enter_now(start, "hall", entrant("PA_1", "a", true), create()).unwrap();
        assert_eq!(directory.sweep_now(at(start, 1000)), []);
        directory.leave(at(start, 1000), &first.sid, "hall", &ParticipantSid::new("PA_1")).now_or_never();
        assert_eq!(directory.sweep_now(at(start, 1019)), []);
        let again = directory.enter_now(at(start, 1019), "hall", entrant("PA_2", "a", true), None).unwrap();
        assert_eq!(again.sid, first.sid);
        directory.leave(at(start, 1030), &first.sid, "hall", &ParticipantSid::new("PA_2")).now_or_never();
        assert_eq!(directory.find(at(start, 1050), "hall").now_or_never().unwrap(), None);
        let closed = directory.sweep_now(at(start, 1050));
        assert_eq!(closed, [ClosedRoom { room: first.clone(), left: vec![] }]);
        let anew =
            directory.enter_now(at(start, 1050), "hall", entrant("PA_3", "a", true), create()).unwrap();
        assert_ne!(anew.sid, first.sid);
    }

    #[test]
    fn agents_neither_count_nor_keep_a_room_open() {
        let start = Instant::now();
        let directory = MemoryDirectory::default();
        let create = || Some(RoomSettings { max_participants: 1, ..RoomSettings::default() });
        let room = directory.enter_now(start, "hall", entrant("PA_bot", "bot", false), create()).unwrap();
        directory.enter_now(start, "hall", entrant("PA_1", "a", true), create()).unwrap();
        let full = directory.enter_now(start, "hall", entrant("PA_2", "b", true), create());
        assert_eq!(full, Err(DirectoryError::RoomFull));
        // A new session of the same identity takes no second place.
        directory.enter_now(start, "hall", entrant("PA_3", "a", true), create()).unwrap();
        for sid in ["PA_1", "PA_3"] {
            directory.leave(start, &room.sid, "hall", &ParticipantSid::new(sid)).now_or_never();
        }
        let closed = directory.sweep_now(at(start, 20));
        assert_eq!(closed, [ClosedRoom { room, left: vec![ParticipantSid::new("PA_bot")] }]);
    }

    #[test]
    fn nobody_came() {
        let start = Instant::now();
        let directory = MemoryDirectory::default();
        let bot = entrant("PA_bot", "bot", false);
        directory.enter_now(start, "hall", bot, Some(RoomSettings::default())).unwrap();
        assert_eq!(directory.sweep_now(at(start, 299)), []);
        assert_eq!(directory.sweep_now(at(start, 300)).len(), 1);
    }
}
