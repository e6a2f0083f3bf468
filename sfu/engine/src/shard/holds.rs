//! Which receivers on one shard hold up which senders of reliable data.
//!
//! A sender waits for everyone to whom it has sent something that would only wait, whomever it has written to since. A
//! receiver holds it up until it keeps up better. What others send to that receiver meanwhile does not count.

use std::collections::{BTreeMap, HashMap};

use sfu_protocol::ParticipantSid;
use smallvec::SmallVec;

use super::ShardId;
use super::backlog::BacklogLevel;

/// One sender to receivers on this shard. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(u64);

/// Senders of reliable data to receivers on this shard, wherever they are.
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
    /// The level that the sender's shard knows of.
    told: BacklogLevel,
    /// Somebody takes more at once: a receiver of the last message, or one that has caught up since.
    ready: bool,
    /// Receivers that are behind.
    behind: usize,
    /// Receivers that are full.
    full: usize,
}

/// Senders that one receiver holds up, or would if others were not faster, with its level for each.
#[derive(Debug, Default)]
pub struct Holds(BTreeMap<FlowId, BacklogLevel>);

/// A level that a sender's shard is to be told.
#[derive(Debug, PartialEq, Eq)]
pub struct LevelNews {
    /// The sender.
    pub sender: ParticipantSid,
    /// Its shard.
    pub origin: ShardId,
    /// The level of all its receivers here together.
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
    /// A message of a sender has been handed to its receivers here, each of which is [noted](Self::note) next. `None` if it
    /// has no receivers here, nor had any before.
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

    /// Notes how a receiver of the last message keeps up.
    pub fn note(&mut self, id: FlowId, holds: &mut Holds, level: BacklogLevel) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        let before = if level.holds_up() { holds.0.insert(id, level) } else { holds.0.remove(&id) };
        flow.uncount(before.unwrap_or_default());
        flow.count(level);
    }

    /// A receiver keeps up better than before. Answers whose senders that concerns.
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

    /// The level of a sender's receivers, if its shard does not know it.
    pub fn news(&mut self, id: FlowId) -> Option<LevelNews> {
        let flow = self.flows.get_mut(&id)?;
        let level = flow.level();
        let is_new = std::mem::replace(&mut flow.told, level) != level;
        is_new.then(|| LevelNews { sender: flow.sender.clone(), origin: flow.origin, level })
    }

    /// A sender has gone.
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
        /// A message of `sender` finds receivers so; what its shard is told.
        fn message(&mut self, sender: &str, found: &[(usize, BacklogLevel)]) -> Option<BacklogLevel> {
            let id = self.flows.on_message(&ParticipantSid::new(sender), HERE, !found.is_empty())?;
            for (receiver, level) in found {
                self.flows.note(id, &mut self.holds[*receiver], *level);
            }
            self.flows.news(id).map(|news| news.level)
        }

        /// A receiver keeps up better; what is told of which senders.
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
        // Whoever goes sets no pace.
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
        // A sender that has gone is forgotten.
        assert_eq!(all.message("ana", &[(0, Full)]), Some(Full));
        all.flows.forget(&ParticipantSid::new("ana"));
        assert_eq!(all.eases(0, Ready), []);
        assert!(all.holds[0].0.is_empty());
        assert_eq!(all.message("ana", &[]), None);
    }
}
