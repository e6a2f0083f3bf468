//! Which receivers on one shard hold up which senders of reliable data.
//!
//! A receiver that was behind or full when a sender's message reached it counts for that sender until its level
//! improves, even if the sender has since written to others. What other senders send to that receiver meanwhile does
//! not count.

use std::collections::{BTreeMap, HashMap};

use sfu_protocol::ParticipantSid;
use smallvec::SmallVec;

use super::ShardId;
use super::backlog::BacklogLevel;

/// Identifies one sender to receivers on this shard. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(u64);

/// Senders of reliable data to receivers on this shard. The senders may be on any shard.
#[derive(Debug, Default)]
pub struct Flows {
    flows: HashMap<FlowId, Flow>,
    by_sender: HashMap<ParticipantSid, FlowId>,
    next: u64,
}

#[derive(Debug)]
struct Flow {
    sender: ParticipantSid,
    origin: ShardId,
    /// Level that was last reported to the sender's shard.
    told: BacklogLevel,
    /// Whether a receiver can take more now: a receiver of the last message, or one that has caught up since.
    ready: bool,
    /// Number of receivers that are behind.
    behind: usize,
    /// Number of receivers that are full.
    full: usize,
}

/// Senders for which one receiver is behind or full, with its level for each. It holds them up unless other receivers
/// are faster.
#[derive(Debug, Default)]
pub struct Holds(BTreeMap<FlowId, BacklogLevel>);

/// A changed level, to be reported to the sender's shard.
#[derive(Debug, PartialEq, Eq)]
pub struct LevelNews {
    pub sender: ParticipantSid,
    /// Shard of the sender.
    pub origin: ShardId,
    /// Combined level of the sender's receivers on this shard.
    pub level: BacklogLevel,
}

impl Flow {
    fn level(&self) -> BacklogLevel {
        if self.full > 0 {
            BacklogLevel::Full
        } else if self.ready {
            BacklogLevel::Ready
        } else if self.behind > 0 {
            BacklogLevel::Behind
        } else {
            BacklogLevel::Nobody
        }
    }

    fn count(&mut self, level: BacklogLevel) {
        match level {
            BacklogLevel::Nobody => {}
            BacklogLevel::Ready => self.ready = true,
            BacklogLevel::Behind => self.behind += 1,
            BacklogLevel::Full => self.full += 1,
        }
    }

    fn uncount(&mut self, level: BacklogLevel) {
        match level {
            BacklogLevel::Nobody | BacklogLevel::Ready => {}
            BacklogLevel::Behind => self.behind = self.behind.saturating_sub(1),
            BacklogLevel::Full => self.full = self.full.saturating_sub(1),
        }
    }
}

impl Flows {
    /// Called when a message has been delivered to its receivers on this shard; the caller [notes](Self::note) each of
    /// them next. `None` if the sender has no receivers on this shard and never had any.
    pub fn on_message(
        &mut self,
        sender: &ParticipantSid,
        origin: ShardId,
        has_receivers: bool,
    ) -> Option<FlowId> {
        let id = match self.by_sender.get(sender) {
            Some(id) => *id,
            None if has_receivers => self.add(sender, origin),
            None => return None,
        };
        if let Some(flow) = self.flows.get_mut(&id) {
            flow.ready = false;
        }
        Some(id)
    }

    fn add(&mut self, sender: &ParticipantSid, origin: ShardId) -> FlowId {
        self.next += 1;
        let (id, sender) = (FlowId(self.next), sender.clone());
        self.by_sender.insert(sender.clone(), id);
        let told = BacklogLevel::Nobody;
        self.flows.insert(id, Flow { sender, origin, told, ready: false, behind: 0, full: 0 });
        id
    }

    /// Records the level of a receiver of the last message.
    pub fn note(&mut self, id: FlowId, holds: &mut Holds, level: BacklogLevel) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        let before = if level.holds_up() { holds.0.insert(id, level) } else { holds.0.remove(&id) };
        flow.uncount(before.unwrap_or_default());
        flow.count(level);
    }

    /// Applies the improved level of a receiver. Returns the senders for which the receiver's level was worse before.
    pub fn ease(&mut self, holds: &mut Holds, level: BacklogLevel) -> SmallVec<[FlowId; 4]> {
        let mut eased = SmallVec::new();
        holds.0.retain(|id, known| {
            let Some(flow) = self.flows.get_mut(id) else { return false };
            if level < *known {
                flow.uncount(std::mem::replace(known, level));
                flow.count(level);
                eased.push(*id);
            }
            known.holds_up()
        });
        eased
    }

    /// The level of a sender's receivers, if it differs from the one last reported. It then counts as reported.
    pub fn news(&mut self, id: FlowId) -> Option<LevelNews> {
        let flow = self.flows.get_mut(&id)?;
        let level = flow.level();
        let is_new = std::mem::replace(&mut flow.told, level) != level;
        is_new.then(|| LevelNews { sender: flow.sender.clone(), origin: flow.origin, level })
    }

    /// Removes a sender that has left.
    pub fn forget(&mut self, sender: &ParticipantSid) {
        if let Some(id) = self.by_sender.remove(sender) {
            self.flows.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use BacklogLevel::{Behind, Full, Nobody, Ready};

    use super::*;

    const HERE: ShardId = ShardId(0);

    struct Receivers {
        flows: Flows,
        holds: [Holds; 3],
    }

    impl Receivers {
        /// Delivers a message of `sender` to receivers at these levels. Returns the level reported to the sender's
        /// shard.
        fn message(&mut self, sender: &str, found: &[(usize, BacklogLevel)]) -> Option<BacklogLevel> {
            let id = self.flows.on_message(&ParticipantSid::new(sender), HERE, !found.is_empty())?;
            for (receiver, level) in found {
                self.flows.note(id, &mut self.holds[*receiver], *level);
            }
            self.flows.news(id).map(|news| news.level)
        }

        /// Improves a receiver's level. Returns the levels reported, by sender.
        fn eases(&mut self, receiver: usize, level: BacklogLevel) -> Vec<(String, BacklogLevel)> {
            let eased = self.flows.ease(&mut self.holds[receiver], level);
            let news = eased.into_iter().filter_map(|id| self.flows.news(id));
            news.map(|news| (news.sender.as_str().to_owned(), news.level)).collect()
        }
    }

    fn receivers() -> Receivers {
        Receivers { flows: Flows::default(), holds: Default::default() }
    }

    #[test]
    fn whoever_is_full_holds_up_a_sender_until_it_is_less_whomever_that_writes_to() {
        let mut all = receivers();
        assert_eq!(all.message("ana", &[(0, Behind), (1, Ready)]), Some(Ready));
        assert_eq!(all.message("ana", &[(0, Full)]), Some(Full));
        for others in [&[(1, Ready)][..], &[], &[(1, Ready), (2, Behind)]] {
            assert_eq!(all.message("ana", others), None, "still full");
        }
        assert_eq!(all.eases(2, Ready), []);
        assert_eq!(all.eases(0, Behind), [("ana".to_owned(), Ready)], "another takes more");
        assert_eq!(all.message("ana", &[]), Some(Behind));
        assert_eq!(all.eases(0, Nobody), [("ana".to_owned(), Nobody)]);
        assert!(all.holds.iter().all(|holds| holds.0.is_empty()));
    }

    #[test]
    fn while_all_of_the_last_message_are_behind_the_first_that_catches_up_sets_the_pace() {
        let mut all = receivers();
        assert_eq!(all.message("ana", &[(0, Behind)]), Some(Behind));
        assert_eq!(all.message("ana", &[(1, Behind), (2, Behind)]), None);
        assert_eq!(all.eases(1, Ready), [("ana".to_owned(), Ready)]);
        assert_eq!(all.message("ana", &[(1, Behind)]), Some(Behind));
        // A receiver that leaves does not set the pace.
        assert_eq!(all.eases(1, Nobody), []);
        assert_eq!(all.eases(2, Nobody), []);
        assert_eq!(all.eases(0, Nobody), [("ana".to_owned(), Nobody)]);
    }

    #[test]
    fn what_one_sender_does_to_a_receiver_holds_up_no_other() {
        let mut all = receivers();
        assert_eq!(all.message("ana", &[(0, Behind), (1, Ready)]), Some(Ready));
        assert_eq!(all.message("ben", &[(0, Full)]), Some(Full));
        assert_eq!(all.message("ana", &[(1, Ready)]), None);
        assert_eq!(all.eases(0, Behind), [("ben".to_owned(), Behind)]);
        assert_eq!(all.message("ana", &[(0, Behind)]), Some(Behind));
        let both = [("ana".to_owned(), Ready), ("ben".to_owned(), Ready)];
        assert_eq!(all.eases(0, Ready), both, "both go on");
        // A sender that has left is removed.
        assert_eq!(all.message("ana", &[(0, Full)]), Some(Full));
        all.flows.forget(&ParticipantSid::new("ana"));
        assert_eq!(all.eases(0, Ready), []);
        assert!(all.holds[0].0.is_empty());
        assert_eq!(all.message("ana", &[]), None);
    }
}
