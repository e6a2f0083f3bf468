//! Mailbox of a worker: all its input other than datagrams. It has two bounded lanes.
//!
//! *Requests* (commands, scrapes, inspections) wait for room or are returned to the sender; they are never dropped.
//!
//! *Fabric* messages come from other workers, in one ordered lane, in which media, control and user data each have
//! their own share. A message that exceeds its share is returned to the sender. The sender drops and counts media and
//! lossy user data; it queues control and reliable user data and tries again. User data is also limited in bytes,
//! because otherwise participants could make the process use memory without bound. The engine's credit between shards
//! bounds the total of reliable user data.
//!
//! A sender wakes the worker only if it sleeps, so the packet path between two busy workers makes no system call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::mpsc as lane;

use mio::Waker;
use sfu_engine::shard::{FabricClass, FabricMessage};
use sfu_protocol::inspect::Inspection;
use sfu_protocol::{Command, ParticipantSid};

use tokio::sync::{mpsc, oneshot};

use crate::worker::Report;

/// Message of the request lane.
#[derive(Debug)]
pub(crate) enum Request {
    /// Command for the shard.
    Command(Command),
    /// Request for the worker's statistics.
    Scrape(oneshot::Sender<Report>),
    /// Request for recent decisions about a participant.
    Inspect(ParticipantSid, oneshot::Sender<Option<Inspection>>),
}

/// Reason why a message was not accepted; returns the message.
#[derive(Debug, PartialEq)]
pub(crate) enum Refused<T> {
    /// The lane, or the message's share of it, is full.
    Full(T),
    /// The worker has ended.
    Closed(T),
}

/// Sending end of a mailbox; each sender has a clone.
#[derive(Debug, Clone)]
pub(crate) struct MailSender {
    requests: mpsc::Sender<Request>,
    fabric: lane::SyncSender<FabricMessage>,
    shared: Arc<Shared>,
}

/// Receiving end of a mailbox, used by the worker.
#[derive(Debug)]
pub(crate) struct Mailbox {
    requests: mpsc::Receiver<Request>,
    fabric: lane::Receiver<FabricMessage>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    waker: Waker,
    asleep: AtomicBool,
    stopped: AtomicBool,
    requests: AtomicUsize,
    media: AtomicUsize,
    control: AtomicUsize,
    data: AtomicUsize,
    data_bytes: AtomicUsize,
}

/// Makes a mailbox for a worker that sleeps in the poll of `waker`.
pub(crate) fn mailbox(waker: Waker) -> (MailSender, Mailbox) {
    let (request_sender, requests) = mpsc::channel(REQUESTS);
    let (fabric_sender, fabric) = lane::sync_channel(FABRIC_MEDIA + FABRIC_CONTROL + FABRIC_DATA);
    let shared = Arc::new(Shared {
        waker,
        asleep: AtomicBool::new(false),
        stopped: AtomicBool::new(false),
        requests: AtomicUsize::new(0),
        media: AtomicUsize::new(0),
        control: AtomicUsize::new(0),
        data: AtomicUsize::new(0),
        data_bytes: AtomicUsize::new(0),
    });
    let sender = MailSender { requests: request_sender, fabric: fabric_sender, shared: Arc::clone(&shared) };
    (sender, Mailbox { requests, fabric, shared })
}

impl MailSender {
    /// Sends a request; waits for room.
    pub(crate) async fn request(&self, request: Request) -> Result<(), Refused<Request>> {
        let Ok(permit) = self.requests.reserve().await else {
            return Err(Refused::Closed(request));
        };
        self.shared.requests.fetch_add(1, Ordering::Relaxed);
        permit.send(request);
        self.shared.wake();
        Ok(())
    }

    /// Asks the worker to stop. Works even if the mailbox is full.
    pub(crate) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.shared.wake();
    }

    /// Sends a request if there is room.
    pub(crate) fn try_request(&self, request: Request) -> Result<(), Refused<Request>> {
        self.shared.requests.fetch_add(1, Ordering::Relaxed);
        let outcome = self.requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(request) => Refused::Full(request),
            mpsc::error::TrySendError::Closed(request) => Refused::Closed(request),
        });
        match outcome {
            Ok(()) => self.shared.wake(),
            Err(_) => {
                self.shared.requests.fetch_sub(1, Ordering::Relaxed);
            }
        }
        outcome
    }

    /// Sends a fabric message if there is room. A refused control message must be sent again before any later one for
    /// this worker.
    pub(crate) fn fabric(&self, message: FabricMessage) -> Result<(), Refused<FabricMessage>> {
        let class = message.class();
        if !self.shared.admit(class) {
            return Err(Refused::Full(message));
        }
        let outcome = self.fabric.try_send(message).map_err(|error| match error {
            lane::TrySendError::Full(message) => Refused::Full(message),
            lane::TrySendError::Disconnected(message) => Refused::Closed(message),
        });
        match outcome {
            Ok(()) => self.shared.wake(),
            Err(_) => self.shared.leave(class),
        }
        outcome
    }
}

impl Mailbox {
    pub(crate) fn next_request(&mut self) -> Option<Request> {
        let request = self.requests.try_recv().ok()?;
        self.shared.requests.fetch_sub(1, Ordering::Relaxed);
        Some(request)
    }

    pub(crate) fn next_fabric(&mut self) -> Option<FabricMessage> {
        let message = self.fabric.try_recv().ok()?;
        self.shared.leave(message.class());
        Some(message)
    }

    /// Whether the worker was asked to stop.
    pub(crate) fn stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Relaxed)
    }

    /// Number of messages in both lanes.
    pub(crate) fn depth(&self) -> usize {
        self.shared.depth()
    }

    /// Announces that the worker is about to sleep. Returns false if it must not sleep, because a message is waiting or
    /// it was asked to stop.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.shared.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.shared.depth() > 0 || self.stopped() {
            self.wake_up();
            return false;
        }
        true
    }

    /// Announces that the worker is awake, so that senders need not wake it.
    pub(crate) fn wake_up(&self) {
        self.shared.asleep.store(false, Ordering::Relaxed);
    }
}

impl Shared {
    fn lane(&self, class: FabricClass) -> (&AtomicUsize, usize) {
        match class {
            FabricClass::Media => (&self.media, FABRIC_MEDIA),
            FabricClass::Data { .. } => (&self.data, FABRIC_DATA),
            FabricClass::Control => (&self.control, FABRIC_CONTROL),
        }
    }

    /// Counts a fabric message in. Returns false if its share is full.
    fn admit(&self, class: FabricClass) -> bool {
        let (count, most) = self.lane(class);
        if count.fetch_add(1, Ordering::Relaxed) >= most {
            count.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        if let FabricClass::Data { bytes, lossy } = class {
            let most = if lossy { FABRIC_LOSSY_BYTES } else { FABRIC_DATA_BYTES };
            if self.data_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > most {
                self.leave(class);
                return false;
            }
        }
        true
    }

    /// Counts a fabric message out.
    fn leave(&self, class: FabricClass) {
        self.lane(class).0.fetch_sub(1, Ordering::Relaxed);
        if let FabricClass::Data { bytes, .. } = class {
            self.data_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn depth(&self) -> usize {
        let counts = [&self.requests, &self.media, &self.control, &self.data];
        counts.into_iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn wake(&self) {
        // Pairs with the fence in `fall_asleep`: either the worker sees the raised count, or this sees it asleep.
        fence(Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::Relaxed)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "cannot wake a worker");
        }
    }
}

/// Capacity of the request lane.
const REQUESTS: usize = 4096;
/// Maximum number of queued media packets from other workers: some 50 ms of a core's work.
const FABRIC_MEDIA: usize = 8192;
/// Maximum number of queued control messages from other workers.
const FABRIC_CONTROL: usize = 4096;
/// Maximum number of queued user messages from other workers.
const FABRIC_DATA: usize = 4096;
/// Maximum size of these user messages together, in bytes.
const FABRIC_DATA_BYTES: usize = 8 << 20;
/// Total size of queued user messages above which lossy ones are refused, in bytes.
const FABRIC_LOSSY_BYTES: usize = FABRIC_DATA_BYTES / 2;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use mio::{Events, Poll, Token};
    use sfu_engine::media_packet::{EndToEndExtensions, MediaPacket, TrackId};
    use sfu_engine::room::data::{Destinations, UserData};
    use sfu_engine::rtp::codec::{Codec, PayloadFacts};
    use sfu_engine::units::{ExtendedSequence, ExtendedTimestamp};
    use sfu_protocol::{DataKind, Layer, LeaveReason, ParticipantSid, RoomSid};

    use super::*;

    fn leave(number: usize) -> Command {
        Command::Leave {
            participant: ParticipantSid::new(format!("PA_{number}")),
            reason: LeaveReason::ClientInitiated,
        }
    }

    fn request(number: usize) -> Request {
        Request::Command(leave(number))
    }

    fn media() -> FabricMessage {
        FabricMessage::Media(Arc::new(MediaPacket {
            track: TrackId(1),
            layer: Layer(0),
            codec: Codec::Opus,
            sequence: ExtendedSequence::first(1),
            timestamp: ExtendedTimestamp::first(1),
            marker: false,
            facts: PayloadFacts::default(),
            extensions: EndToEndExtensions::default(),
            arrival: crate::clock::now(),
            payload: Bytes::new(),
        }))
    }

    fn data(kind: DataKind, bytes: usize) -> FabricMessage {
        FabricMessage::Data(Arc::new(UserData {
            room: RoomSid::new("RM_1"),
            origin: 0,
            sender: ParticipantSid::new("PA_1"),
            kind,
            destinations: Destinations::Everyone,
            packet: Bytes::from(vec![0; bytes]),
        }))
    }

    fn control() -> FabricMessage {
        FabricMessage::FirstSubscriber { track: TrackId(1) }
    }

    fn pair() -> (Poll, MailSender, Mailbox) {
        let poll = Poll::new().expect("poll");
        let waker = Waker::new(poll.registry(), Token(9)).expect("waker");
        let (sender, mailbox) = mailbox(waker);
        (poll, sender, mailbox)
    }

    fn woken(poll: &mut Poll, within: Duration) -> bool {
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(within)).expect("poll");
        !events.is_empty()
    }

    #[test]
    fn a_full_command_lane_hands_the_command_back() {
        let (_poll, sender, mut mailbox) = pair();
        for number in 0..REQUESTS {
            assert!(sender.try_request(request(number)).is_ok());
        }
        let Err(Refused::Full(Request::Command(back))) = sender.try_request(request(7)) else {
            panic!("must be full");
        };
        assert_eq!(back, leave(7));
        assert_eq!(mailbox.depth(), REQUESTS);
        assert!(matches!(mailbox.next_request(), Some(Request::Command(first)) if first == leave(0)));
        assert!(sender.try_request(Request::Command(back)).is_ok());
    }

    #[test]
    fn media_beyond_its_share_of_the_lane_is_refused_until_some_is_taken() {
        let (_poll, sender, mut mailbox) = pair();
        for _ in 0..FABRIC_MEDIA {
            assert!(sender.fabric(media()).is_ok());
        }
        assert!(matches!(sender.fabric(media()), Err(Refused::Full(_))));
        assert!(sender.try_request(request(0)).is_ok(), "media takes no room from commands");
        assert!(mailbox.next_fabric().is_some());
        assert!(sender.fabric(media()).is_ok());
        assert_eq!(mailbox.depth(), FABRIC_MEDIA + 1);
    }

    #[test]
    fn user_data_is_bounded_in_bytes_and_in_number_and_takes_no_room_from_the_rest() {
        let (_poll, sender, mut mailbox) = pair();
        let most = |kind, bytes| (0..).take_while(|_| sender.fabric(data(kind, bytes)).is_ok()).count();
        const LARGE: usize = 64 * 1024;
        let lossy = most(DataKind::Lossy, LARGE);
        assert!((1..=FABRIC_LOSSY_BYTES / LARGE).contains(&lossy), "{lossy}");
        let reliable = most(DataKind::Reliable, LARGE);
        assert!(reliable > 0, "what is lossy leaves room");
        assert!((lossy + reliable) * LARGE <= FABRIC_DATA_BYTES);
        assert!(sender.fabric(control()).is_ok() && sender.fabric(media()).is_ok());
        assert!(sender.try_request(request(0)).is_ok());
        assert_eq!(mailbox.depth(), lossy + reliable + 3);
        assert!(mailbox.next_fabric().is_some());
        assert_eq!(most(DataKind::Reliable, LARGE), 1, "room again");
        while mailbox.next_fabric().is_some() {}
        let small = most(DataKind::Reliable, 0);
        assert!(small <= FABRIC_DATA && sender.fabric(control()).is_ok(), "{small}");
        while mailbox.next_fabric().is_some() {}
        assert_eq!(mailbox.depth(), 1);
        assert_eq!(most(DataKind::Lossy, LARGE), lossy, "nothing was counted twice");
    }

    #[test]
    fn only_a_sleeping_worker_is_woken_and_only_once() {
        let (mut poll, sender, mut mailbox) = pair();
        sender.try_request(request(0)).expect("room");
        assert!(!woken(&mut poll, Duration::ZERO), "awake: no system call");
        assert!(!mailbox.fall_asleep(), "something waits");
        assert!(matches!(mailbox.next_request(), Some(Request::Command(_))));
        assert!(mailbox.fall_asleep());
        sender.try_request(request(0)).expect("room");
        assert!(woken(&mut poll, Duration::from_secs(1)));
        sender.try_request(request(0)).expect("room");
        assert!(!woken(&mut poll, Duration::ZERO));
        mailbox.wake_up();
        assert_eq!(mailbox.depth(), 2);
        while mailbox.next_request().is_some() {}
        assert!(mailbox.fall_asleep());
        sender.stop();
        assert!(woken(&mut poll, Duration::from_secs(1)) && mailbox.stopped() && !mailbox.fall_asleep());
    }

    #[test]
    fn a_mailbox_whose_worker_is_gone_says_so() {
        let (_poll, sender, mailbox) = pair();
        drop(mailbox);
        assert!(matches!(sender.try_request(request(0)), Err(Refused::Closed(_))));
    }
}
