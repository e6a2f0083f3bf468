//! Link to a media node in the same process: two bounded channels and a table of session inboxes.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sfu_protocol::{Command, Event, ParticipantSid, RoomSid};
use tokio::sync::mpsc;

use super::{Link, LinkClosed};

/// Maximum number of queued events for one session. Every session of a large room gets each roster change, so this is
/// roughly the number of changes by which a session may be behind.
const INBOX: usize = 4096;

/// Receiver of commands. The binary, which alone links both halves, implements it for its media node.
pub trait CommandSink: Send + Sync {
    /// Sends a command; waits while the queue of the participant's worker is full.
    fn send(&self, command: Command) -> BoxFuture<'_, Result<(), LinkClosed>>;
}

impl CommandSink for mpsc::Sender<Command> {
    fn send(&self, command: Command) -> BoxFuture<'_, Result<(), LinkClosed>> {
        async { mpsc::Sender::send(self, command).await.map_err(|_| LinkClosed) }.boxed()
    }
}

/// Link to a media node in this process.
pub struct Direct {
    commands: Box<dyn CommandSink>,
    inboxes: DashMap<ParticipantSid, mpsc::Sender<Event>>,
    rooms: DashMap<RoomSid, HashMap<ParticipantSid, mpsc::Sender<Event>>>,
    inbox_size: usize,
    overflows: AtomicU64,
    unclaimed: AtomicU64,
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direct").field("sessions", &self.inboxes.len()).finish_non_exhaustive()
    }
}

impl Direct {
    /// Makes a link that sends commands to `commands`. The caller passes events to [`Direct::deliver`] one by one, or a
    /// channel of them to [`Direct::run`].
    pub fn new(commands: impl CommandSink + 'static) -> Self {
        Self::with_inbox_size(commands, INBOX)
    }

    fn with_inbox_size(commands: impl CommandSink + 'static, inbox_size: usize) -> Self {
        Self {
            commands: Box::new(commands),
            inboxes: DashMap::new(),
            rooms: DashMap::new(),
            inbox_size,
            overflows: AtomicU64::new(0),
            unclaimed: AtomicU64::new(0),
        }
    }

    /// Delivers events until the media plane ends. Never waits for a session.
    pub async fn run(&self, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            self.deliver(event);
        }
        // No more events will come. Closing the inboxes ends the sessions.
        self.inboxes.clear();
        self.rooms.clear();
    }

    /// Puts an event into the inbox of its participant, or into the inboxes of its whole room. Never waits.
    pub fn deliver(&self, event: Event) {
        let participant = match &event {
            Event::Roster { room, .. }
            | Event::Speakers { room, .. }
            | Event::ConnectionQuality { room, .. } => {
                let room = room.clone();
                return self.deliver_to_room(&room, &event);
            }
            Event::Joined { participant, .. }
            | Event::Answer { participant, .. }
            | Event::Offer { participant, .. }
            | Event::NegotiationFailed { participant, .. }
            | Event::MediaSectionsRequired { participant, .. }
            | Event::TransportConnected { participant, .. }
            | Event::TrackPublished { participant, .. }
            | Event::TrackUnpublished { participant, .. }
            | Event::PublicationFailed { participant, .. }
            | Event::TrackSubscribed { participant, .. }
            | Event::SubscriptionFailed { participant, .. }
            | Event::StreamState { participant, .. }
            | Event::SubscribedQuality { participant, .. }
            | Event::Ended { participant, .. } => participant.clone(),
        };
        let inbox = self.inboxes.get(&participant).map(|inbox| inbox.clone());
        match inbox {
            Some(inbox) => {
                if put(&inbox, event) == Put::Overflow {
                    self.cut_off(&participant);
                }
            }
            None => {
                self.unclaimed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn deliver_to_room(&self, room: &RoomSid, event: &Event) {
        let Some(members) = self.rooms.get(room) else { return };
        let behind: Vec<ParticipantSid> = members
            .iter()
            .filter(|(_, inbox)| put(inbox, event.clone()) == Put::Overflow)
            .map(|(participant, _)| participant.clone())
            .collect();
        drop(members);
        for participant in behind {
            self.cut_off(&participant);
        }
    }

    /// Removes a session's inbox, which ends the session. An event was lost, so later events would have a gap before
    /// them.
    fn cut_off(&self, participant: &ParticipantSid) {
        if self.inboxes.remove(participant).is_some() {
            self.overflows.fetch_add(1, Ordering::Relaxed);
        }
        for mut room in self.rooms.iter_mut() {
            room.remove(participant);
        }
    }

    /// Number of sessions that were ended because their inbox was full.
    pub fn overflows(&self) -> u64 {
        self.overflows.load(Ordering::Relaxed)
    }

    /// Number of events for sessions that no longer existed.
    pub fn unclaimed(&self) -> u64 {
        self.unclaimed.load(Ordering::Relaxed)
    }
}

impl Link for Direct {
    fn open(&self, room: &RoomSid, participant: &ParticipantSid) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(self.inbox_size);
        self.inboxes.insert(participant.clone(), sender.clone());
        self.rooms.entry(room.clone()).or_default().insert(participant.clone(), sender);
        receiver
    }

    fn close(&self, room: &RoomSid, participant: &ParticipantSid) {
        self.inboxes.remove(participant);
        if let Some(mut members) = self.rooms.get_mut(room) {
            members.remove(participant);
        }
        self.rooms.remove_if(room, |_, members| members.is_empty());
    }

    fn send(&self, command: Command) -> BoxFuture<'_, Result<(), LinkClosed>> {
        self.commands.send(command)
    }
}

#[derive(PartialEq, Eq)]
enum Put {
    Done,
    Overflow,
}

fn put(inbox: &mpsc::Sender<Event>, event: Event) -> Put {
    match inbox.try_send(event) {
        // A closed receiver belongs to a session that is ending.
        Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Put::Done,
        Err(mpsc::error::TrySendError::Full(_)) => Put::Overflow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sfu_protocol::{LeaveReason, RosterChange, Target};

    fn connected(participant: &str) -> Event {
        Event::TransportConnected { participant: ParticipantSid::new(participant), target: Target::Publisher }
    }

    fn change(room: &str) -> Event {
        let change = RosterChange::Gone {
            participant: ParticipantSid::new("PA_x"),
            info: bytes::Bytes::new(),
            reason: LeaveReason::ClientInitiated,
        };
        Event::Roster { room: RoomSid::new(room), change }
    }

    fn drain(inbox: &mut mpsc::Receiver<Event>) -> Vec<Event> {
        std::iter::from_fn(|| inbox.try_recv().ok()).collect()
    }

    #[test]
    fn events_reach_their_session_or_their_room_in_order() {
        let link = Direct::new(mpsc::channel(1).0);
        let [hall, attic] = ["RM_hall", "RM_attic"].map(RoomSid::new);
        let mut a = link.open(&hall, &ParticipantSid::new("PA_a"));
        let mut b = link.open(&hall, &ParticipantSid::new("PA_b"));
        let mut c = link.open(&attic, &ParticipantSid::new("PA_c"));
        for event in [connected("PA_a"), change("RM_hall"), connected("PA_b"), connected("PA_nobody")] {
            link.deliver(event);
        }
        assert_eq!(drain(&mut a), [connected("PA_a"), change("RM_hall")]);
        assert_eq!(drain(&mut b), [change("RM_hall"), connected("PA_b")]);
        assert_eq!(drain(&mut c), []);
        assert_eq!(link.unclaimed(), 1);
        let speakers = Event::Speakers { room: hall.clone(), speakers: vec![] };
        link.deliver(speakers.clone());
        assert_eq!((drain(&mut a), drain(&mut b)), (vec![speakers.clone()], vec![speakers]));
        link.close(&hall, &ParticipantSid::new("PA_a"));
        link.close(&hall, &ParticipantSid::new("PA_b"));
        link.deliver(change("RM_hall"));
        assert!(a.try_recv().is_err() && b.try_recv().is_err());
        assert_eq!(link.rooms.len(), 1);
    }

    #[test]
    fn a_session_that_does_not_keep_up_is_cut_off_alone_and_without_a_gap() {
        let link = Direct::with_inbox_size(mpsc::channel(1).0, 3);
        let hall = RoomSid::new("RM_hall");
        let mut slow = link.open(&hall, &ParticipantSid::new("PA_slow"));
        let mut quick = link.open(&hall, &ParticipantSid::new("PA_quick"));
        for _ in 0..5 {
            link.deliver(change("RM_hall"));
            assert_eq!(drain(&mut quick).len(), 1);
        }
        link.deliver(connected("PA_slow"));
        assert_eq!(drain(&mut slow).len(), 3);
        assert_eq!(slow.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        assert_eq!(link.overflows(), 1);
        assert_eq!(link.unclaimed(), 1);
    }

    #[tokio::test]
    async fn sessions_end_when_the_media_plane_has_gone() {
        let (commands, plane) = mpsc::channel(1);
        let link = Direct::new(commands);
        let participant = ParticipantSid::new("PA_a");
        let mut inbox = link.open(&RoomSid::new("RM_hall"), &participant);
        let (events, receiver) = mpsc::channel(1);
        drop(events);
        drop(plane);
        link.run(receiver).await;
        assert_eq!(inbox.recv().await, None);
        let leave = Command::Leave { participant, reason: LeaveReason::SignalClosed };
        assert_eq!(link.send(leave).await, Err(LinkClosed));
    }
}
