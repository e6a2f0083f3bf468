//! Authoritative roster of a room: its participants, what others see of them, and the shard of each. Only the room's
//! home shard has it.

use bytes::Bytes;
use sfu_protocol::{ParticipantSid, RosterEntry};

/// All participants of one room.
#[derive(Debug, Default)]
pub struct Roster {
    people: Vec<Person>,
    /// Shards with members of the room, each once.
    pub shards: Vec<u16>,
}

/// One participant of the roster.
#[derive(Debug, Clone)]
pub struct Person {
    /// Session id of the participant.
    pub participant: ParticipantSid,
    /// Identity of the participant, unique in the room.
    pub identity: String,
    /// Whether other participants do not see it.
    pub hidden: bool,
    /// Encoded information that other participants get; opaque here.
    pub info: Bytes,
    /// Shard of its peers.
    pub shard: u16,
}

impl Roster {
    /// Adds a participant. Removes and returns an earlier session with the same identity.
    pub fn join(&mut self, person: Person) -> Option<Person> {
        let earlier = self.people.iter().position(|other| other.identity == person.identity);
        let earlier = earlier.map(|place| self.people.swap_remove(place));
        self.people.push(person);
        earlier
    }

    /// Participants that `participant` may see: all others that are not hidden.
    pub fn seen_by(&self, participant: &ParticipantSid) -> Vec<RosterEntry> {
        self.people
            .iter()
            .filter(|person| !person.hidden && person.participant != *participant)
            .map(|person| RosterEntry { participant: person.participant.clone(), info: person.info.clone() })
            .collect()
    }

    /// Replaces what others see of a participant. False if the participant is hidden or not in the room.
    pub fn update(&mut self, participant: &ParticipantSid, info: Bytes) -> bool {
        let person = self.people.iter_mut().find(|person| person.participant == *participant);
        person.is_some_and(|person| {
            person.info = info;
            !person.hidden
        })
    }

    /// Whether a participant is in the room and not hidden.
    pub fn shows(&self, participant: &ParticipantSid) -> bool {
        self.people.iter().any(|person| person.participant == *participant && !person.hidden)
    }

    /// Removes a participant. `None` if it is not in the room.
    pub fn leave(&mut self, participant: &ParticipantSid) -> Option<Person> {
        let place = self.people.iter().position(|person| person.participant == *participant)?;
        Some(self.people.swap_remove(place))
    }

    /// Whether no shard has members.
    pub fn is_idle(&self) -> bool {
        self.shards.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(sid: &str, identity: &str, hidden: bool) -> Person {
        Person {
            participant: ParticipantSid::new(sid),
            identity: identity.into(),
            hidden,
            info: Bytes::copy_from_slice(sid.as_bytes()),
            shard: 0,
        }
    }

    #[test]
    fn a_second_session_of_an_identity_replaces_the_first() {
        let mut roster = Roster::default();
        assert!(roster.join(person("PA_1", "ana", false)).is_none());
        assert!(roster.join(person("PA_2", "ben", false)).is_none());
        let earlier = roster.join(person("PA_3", "ana", false)).expect("ana was there");
        assert_eq!(earlier.participant.as_str(), "PA_1");
        let seen = roster.seen_by(&ParticipantSid::new("PA_2"));
        assert_eq!(seen.iter().map(|entry| entry.participant.as_str()).collect::<Vec<_>>(), ["PA_3"]);
    }

    #[test]
    fn the_hidden_are_not_seen_and_their_changes_are_not_told() {
        let mut roster = Roster::default();
        roster.join(person("PA_1", "ana", false));
        roster.join(person("PA_2", "bot", true));
        assert!(roster.seen_by(&ParticipantSid::new("PA_1")).is_empty());
        assert!(!roster.update(&ParticipantSid::new("PA_2"), Bytes::from_static(b"new")));
        assert!(roster.update(&ParticipantSid::new("PA_1"), Bytes::from_static(b"new")));
    }
}
