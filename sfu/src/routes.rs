//! Assignment of participants to workers.

use dashmap::DashMap;
use sfu_engine::shard::{ShardId, home_of};
use sfu_protocol::{ParticipantSid, RoomSid};

/// Worker of each participant, and the counts by which the next participant is placed.
#[derive(Debug)]
pub(crate) struct Routes {
    workers: u16,
    members_at_home: usize,
    participants: DashMap<ParticipantSid, Route>,
    /// Number of members on each room's home worker.
    at_home: DashMap<RoomSid, usize>,
}

#[derive(Debug, Clone)]
struct Route {
    worker: ShardId,
    room: RoomSid,
}

impl Routes {
    pub(crate) fn new(workers: u16, members_at_home: usize) -> Self {
        Self { workers, members_at_home, participants: DashMap::new(), at_home: DashMap::new() }
    }

    /// Worker for a participant that joins: the one it is already assigned to, or a new assignment. The first
    /// `members_at_home` members of a room get the room's home worker, later ones the least loaded worker.
    pub(crate) fn join(&self, participant: &ParticipantSid, room: &RoomSid) -> ShardId {
        if let Some(worker) = self.find(participant) {
            return worker;
        }
        let home = home_of(room, self.workers);
        // The count is raised while the entry is locked, so that two concurrent joins cannot both take the last place.
        let full = {
            let mut members = self.at_home.entry(room.clone()).or_default();
            let full = *members >= self.members_at_home;
            *members += usize::from(!full);
            full
        };
        let worker = if full { least_loaded(&self.loads()) } else { home };
        if full && worker == home {
            *self.at_home.entry(room.clone()).or_default() += 1;
        }
        self.participants.insert(participant.clone(), Route { worker, room: room.clone() });
        worker
    }

    pub(crate) fn find(&self, participant: &ParticipantSid) -> Option<ShardId> {
        self.participants.get(participant).map(|route| route.worker)
    }

    /// Removes a participant. Returns the worker that held it.
    pub(crate) fn remove(&self, participant: &ParticipantSid) -> Option<ShardId> {
        let (_, route) = self.participants.remove(participant)?;
        if route.worker == home_of(&route.room, self.workers) {
            if let Some(mut members) = self.at_home.get_mut(&route.room) {
                *members = members.saturating_sub(1);
            }
            self.at_home.remove_if(&route.room, |_, members| *members == 0);
        }
        Some(route.worker)
    }

    /// Number of participants per worker. This iterates over all participants, but only for joins to large rooms.
    fn loads(&self) -> Vec<usize> {
        let mut loads = vec![0; usize::from(self.workers)];
        for route in &self.participants {
            if let Some(load) = loads.get_mut(usize::from(route.worker.0)) {
                *load += 1;
            }
        }
        loads
    }
}

/// First worker with the fewest participants. Each join raises its load, so equally loaded workers are chosen in turn.
fn least_loaded(loads: &[usize]) -> ShardId {
    let place = loads.iter().enumerate().min_by_key(|(_, load)| **load).map_or(0, |(place, _)| place);
    ShardId(u16::try_from(place).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn someone(number: usize) -> ParticipantSid {
        ParticipantSid::new(format!("PA_{number}"))
    }

    #[test]
    fn a_small_room_shares_its_home_and_a_large_one_spreads_to_the_least_loaded() {
        let routes = Routes::new(4, 8);
        let room = RoomSid::new("RM_big");
        let home = home_of(&room, 4);
        let places: Vec<ShardId> = (0..20).map(|number| routes.join(&someone(number), &room)).collect();
        assert!(places.iter().take(8).all(|worker| *worker == home));
        let others = |worker: u16| places.iter().skip(8).filter(|place| place.0 == worker).count();
        for worker in (0..4).filter(|worker| *worker != home.0) {
            assert_eq!(others(worker), 4);
        }
        assert_eq!(others(home.0), 0);
    }

    #[test]
    fn joining_again_stays_and_whoever_leaves_makes_room_at_home() {
        let routes = Routes::new(4, 2);
        let room = RoomSid::new("RM_a");
        let home = home_of(&room, 4);
        assert_eq!(routes.join(&someone(0), &room), home);
        assert_eq!(routes.join(&someone(0), &room), home);
        assert_eq!(routes.join(&someone(1), &room), home, "the second join of 0 took no place");
        assert_ne!(routes.join(&someone(2), &room), home);
        assert_eq!(routes.remove(&someone(1)), Some(home));
        assert_eq!(routes.remove(&someone(1)), None);
        assert_eq!(routes.find(&someone(1)), None);
        assert_eq!(routes.join(&someone(3), &room), home);
    }

    #[test]
    fn an_empty_room_leaves_nothing_behind() {
        let routes = Routes::new(2, 1);
        let room = RoomSid::new("RM_a");
        for number in 0..10 {
            routes.join(&someone(number), &room);
        }
        for number in 0..10 {
            routes.remove(&someone(number));
        }
        assert!(routes.participants.is_empty() && routes.at_home.is_empty());
    }
}
