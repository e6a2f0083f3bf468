//! Worker thread that runs one shard. Its loop waits for a socket, the mailbox or a timer, handles the available input
//! within a budget, then sends the output.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};
use sfu_engine::Certificate;
use sfu_engine::shard::{
    FabricClass, FabricMessage, Input, Output, Shard, ShardConfig, ShardId, TRANSMIT_BUFFER,
};
use sfu_engine::stats::{Drop as DropReason, Stats};
use sfu_protocol::Event;
use tokio::sync::mpsc;

use crate::clock;
use crate::mailbox::{MailSender, Mailbox, Refused, Request, mailbox};
use crate::routes::Routes;
use crate::udp::{Sent, Udp};

/// Answer of a worker to a metrics scrape.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub worker: ShardId,
    pub stats: Stats,
    /// Share of the last measuring window (about a second) in which the worker was not waiting, 0 to 1.
    pub busy_ratio: f64,
    /// Total time since the start in which the worker was not waiting.
    pub busy: Duration,
    /// Messages in the worker's mailbox.
    pub mailbox_depth: usize,
    /// Datagrams queued until their socket is writable.
    pub send_pending: usize,
    /// Iterations of the worker's loop.
    pub turns: u64,
}

/// Worker that does not run yet. All workers are made before any starts, so that each knows the mailboxes of the
/// others.
pub(crate) struct Worker {
    id: ShardId,
    poll: Poll,
    udp: Udp,
    mailbox: Mailbox,
}

/// Parts of the node that a running worker uses.
pub(crate) struct Surroundings {
    /// Mailboxes of all workers, indexed by shard.
    pub peers: Vec<MailSender>,
    pub events: mpsc::Sender<Event>,
    /// Participant to worker. The worker removes participants that its shard has ended.
    pub routes: Arc<Routes>,
    /// Core to pin the thread to; absent if threads are not pinned.
    pub core: Option<core_affinity::CoreId>,
}

impl Worker {
    pub(crate) fn new(id: ShardId, mut udp: Udp) -> io::Result<(MailSender, Self)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), MAILBOX)?;
        udp.register(poll.registry()).map_err(io::Error::other)?;
        let (sender, mailbox) = mailbox(waker);
        Ok((sender, Self { id, poll, udp, mailbox }))
    }

    /// Starts the thread. If its loop panics, the process aborts: the shard's state is then unknown, and a node that
    /// silently lost a worker would keep assigning participants to it. The engine contains a panic in code that serves
    /// one participant, so such a panic does not end the loop.
    pub(crate) fn start(
        self,
        config: ShardConfig,
        certificate: Arc<Certificate>,
        surroundings: Surroundings,
    ) -> io::Result<thread::JoinHandle<()>> {
        let id = self.id;
        thread::Builder::new().name(format!("worker-{}", id.0)).spawn(move || {
            if let Some(core) = surroundings.core
                && !core_affinity::set_for_current(core)
            {
                tracing::warn!(worker = id.0, "cannot pin the worker to its core");
            }
            let work =
                std::panic::AssertUnwindSafe(|| Loop::new(self, config, certificate, surroundings).run());
            if std::panic::catch_unwind(work).is_err() {
                tracing::error!(worker = id.0, "the worker's loop panicked; aborting the process");
                std::process::abort();
            }
        })
    }
}

struct Loop {
    worker: Worker,
    shard: Shard,
    surroundings: Surroundings,
    buffer: Box<[u8]>,
    /// Messages that other workers' mailboxes had no room for, indexed by shard.
    fabric_outbox: Vec<Outbox>,
    /// Events that the event channel had no room for, in order.
    event_outbox: VecDeque<Event>,
    meter: Meter,
}

impl Loop {
    fn new(
        worker: Worker,
        config: ShardConfig,
        certificate: Arc<Certificate>,
        surroundings: Surroundings,
    ) -> Self {
        let now = clock::now();
        Self {
            shard: Shard::new(config, certificate),
            buffer: vec![0; TRANSMIT_BUFFER].into_boxed_slice(),
            fabric_outbox: surroundings.peers.iter().map(|_| Outbox::default()).collect(),
            event_outbox: VecDeque::new(),
            meter: Meter::new(now),
            worker,
            surroundings,
        }
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(8);
        let mut deadline = clock::now();
        let mut more = true;
        while !self.worker.mailbox.stopped() {
            let (slept, now) = self.wait(&mut events, deadline, more);
            self.meter.woke(slept, now);
            more = self.take(now, deadline);
            // The clock is read again, so that the time spent on the batch counts as delay.
            deadline = self.flush(clock::now());
        }
    }

    /// Waits for input or the deadline. Returns the times at which the wait began and ended.
    fn wait(&mut self, events: &mut Events, deadline: Instant, more: bool) -> (Instant, Instant) {
        let slept = clock::now();
        let mut timeout = deadline.saturating_duration_since(slept).min(LONGEST_SLEEP);
        if self.must_retry() {
            timeout = timeout.min(OUTBOX_RETRY);
        }
        let waiting = !self.worker.mailbox.fall_asleep() && self.backlog() < BACKLOG_LIMIT;
        if more || waiting || self.worker.udp.readable() {
            timeout = Duration::ZERO;
        }
        if let Err(error) = self.worker.poll.poll(events, Some(timeout))
            && error.kind() != io::ErrorKind::Interrupted
        {
            tracing::error!(%error, "cannot wait for the sockets");
        }
        self.worker.mailbox.wake_up();
        for event in events.iter().filter(|event| event.token() != MAILBOX) {
            self.worker.udp.note(event.token(), event.is_readable(), event.is_writable());
        }
        (slept, clock::now())
    }

    /// Passes the available input to the shard, within the budgets. Returns whether more input is available.
    fn take(&mut self, now: Instant, deadline: Instant) -> bool {
        let Self { worker, shard, .. } = self;
        for _ in 0..FABRIC_BUDGET {
            let Some(message) = worker.mailbox.next_fabric() else { break };
            shard.handle_input(now, Input::Fabric(message));
        }
        worker.udp.receive(DATAGRAM_BUDGET, |datagram| {
            let (source, local, data) = (datagram.source, datagram.local, datagram.data);
            shard.handle_input(now, Input::Datagram { source, local, data });
        });
        if now >= deadline {
            shard.handle_input(now, Input::Timeout);
        }
        self.take_requests(now);
        let blocked = self.backlog() >= BACKLOG_LIMIT;
        self.worker.udp.readable() || (self.worker.mailbox.depth() > 0 && !blocked)
    }

    /// Handles requests, unless the backlog of output that earlier ones caused has reached its limit.
    fn take_requests(&mut self, now: Instant) {
        if self.backlog() >= BACKLOG_LIMIT {
            return;
        }
        for _ in 0..REQUEST_BUDGET {
            match self.worker.mailbox.next_request() {
                Some(Request::Command(command)) => self.shard.handle_input(now, Input::Command(command)),
                Some(Request::Scrape(answer)) => {
                    // This fails only if the caller no longer waits for the answer.
                    let _ = answer.send(self.report(now));
                }
                Some(Request::Inspect(participant, answer)) => {
                    let _ = answer.send(self.shard.inspect(&participant, now));
                }
                None => break,
            }
        }
    }

    /// Delivers the shard's output. Returns the shard's next deadline.
    fn flush(&mut self, now: Instant) -> Instant {
        self.retry_outboxes();
        let deadline = loop {
            match self.shard.poll_output(now, &mut self.buffer) {
                Output::Transmit(transmit) => {
                    let sent = self.worker.udp.send(&transmit, &self.buffer);
                    self.count(sent);
                }
                Output::Event(event) => self.emit(event),
                Output::Fabric { to, message } => self.send_fabric(to, message),
                Output::Timeout(deadline) => break deadline,
            }
        };
        match self.worker.udp.flush(self.worker.poll.registry()) {
            Ok(sent) => self.count(sent),
            Err(error) => tracing::error!(%error, "cannot wait for a writable socket"),
        }
        deadline
    }

    fn count(&mut self, sent: Sent) {
        for _ in 0..sent.refused {
            self.shard.stats_mut().drop(DropReason::SendFailed);
        }
    }

    fn emit(&mut self, event: Event) {
        if let Event::Ended { participant, .. } = &event {
            self.surroundings.routes.remove(participant);
        }
        if self.event_outbox.is_empty() {
            match self.surroundings.events.try_send(event) {
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
                Err(mpsc::error::TrySendError::Full(event)) => self.event_outbox.push_back(event),
            }
        } else {
            self.event_outbox.push_back(event);
        }
    }

    fn send_fabric(&mut self, to: ShardId, message: FabricMessage) {
        let place = usize::from(to.0);
        let (Some(peer), Some(outbox)) =
            (self.surroundings.peers.get(place), self.fabric_outbox.get_mut(place))
        else {
            self.shard.stats_mut().drop(DropReason::StaleMessage);
            return;
        };
        if let Some(reason) = send_or_queue(peer, outbox, message) {
            self.shard.stats_mut().drop(reason);
        }
    }

    fn retry_outboxes(&mut self) {
        while let Some(event) = self.event_outbox.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(event)) = self.surroundings.events.try_send(event) {
                self.event_outbox.push_front(event);
                break;
            }
        }
        for (peer, outbox) in self.surroundings.peers.iter().zip(&mut self.fabric_outbox) {
            retry(peer, &mut outbox.control);
            retry(peer, &mut outbox.data);
        }
    }

    /// Number of control messages and events that could not be delivered yet.
    fn backlog(&self) -> usize {
        self.event_outbox.len() + self.fabric_outbox.iter().map(|outbox| outbox.control.len()).sum::<usize>()
    }

    /// Whether any message or event could not be delivered yet.
    fn must_retry(&self) -> bool {
        self.backlog() > 0 || self.fabric_outbox.iter().any(|outbox| !outbox.data.is_empty())
    }

    fn report(&mut self, now: Instant) -> Report {
        Report {
            worker: self.worker.id,
            stats: self.shard.stats().clone(),
            busy_ratio: self.meter.ratio(now),
            busy: self.meter.busy(now),
            mailbox_depth: self.worker.mailbox.depth(),
            send_pending: self.worker.udp.pending(),
            turns: self.meter.turns,
        }
    }
}

/// Messages that wait for room in another worker's mailbox, in order. Control messages and reliable user data do not
/// wait for each other, because no control message affects the delivery of user data.
#[derive(Debug, Default)]
struct Outbox {
    control: VecDeque<FabricMessage>,
    /// Reliable user data, bounded by the engine's credit between shards.
    data: VecDeque<FabricMessage>,
}

/// Sends queued messages until the mailbox is full again.
fn retry(peer: &MailSender, waiting: &mut VecDeque<FabricMessage>) {
    while let Some(message) = waiting.pop_front() {
        if let Err(Refused::Full(message)) = peer.fabric(message) {
            waiting.push_front(message);
            break;
        }
    }
}

/// Sends a message to another worker's mailbox. If the mailbox is full, or earlier messages still wait for room in it,
/// the message is queued in the outbox or, if it is media or lossy data, dropped; then the reason is returned. A
/// message to a worker that has ended is discarded.
fn send_or_queue(peer: &MailSender, outbox: &mut Outbox, message: FabricMessage) -> Option<DropReason> {
    let class = message.class();
    let overtakes_nothing = match class {
        FabricClass::Media | FabricClass::Control => outbox.control.is_empty(),
        FabricClass::Data { lossy, .. } => lossy || outbox.data.is_empty(),
    };
    let refused = if overtakes_nothing {
        match peer.fabric(message) {
            Ok(()) | Err(Refused::Closed(_)) => return None,
            Err(Refused::Full(message)) => message,
        }
    } else {
        message
    };
    match class {
        FabricClass::Media => Some(DropReason::MailboxFull),
        FabricClass::Data { lossy: true, .. } => Some(DropReason::DataBacklog),
        FabricClass::Data { lossy: false, .. } => {
            outbox.data.push_back(refused);
            None
        }
        FabricClass::Control => {
            outbox.control.push_back(refused);
            None
        }
    }
}

/// Measures the share of time in which the worker is not waiting.
#[derive(Debug)]
struct Meter {
    turns: u64,
    waited: Duration,
    woke: Instant,
    started: Instant,
    window_start: Instant,
    window_waited: Duration,
    last_ratio: Option<f64>,
}

impl Meter {
    fn new(now: Instant) -> Self {
        Self {
            turns: 0,
            waited: Duration::ZERO,
            woke: now,
            started: now,
            window_start: now,
            window_waited: Duration::ZERO,
            last_ratio: None,
        }
    }

    /// Records a wait that lasted from `slept` to `now`.
    fn woke(&mut self, slept: Instant, now: Instant) {
        let waited = now.saturating_duration_since(slept);
        self.turns += 1;
        self.waited += waited;
        self.window_waited += waited;
        self.woke = now;
        if now.saturating_duration_since(self.window_start) >= METER_WINDOW {
            self.last_ratio = Some(self.window_ratio(now));
            self.window_start = now;
            self.window_waited = Duration::ZERO;
        }
    }

    /// Busy share of the last complete window, or of the current window if none is complete.
    fn ratio(&self, now: Instant) -> f64 {
        self.last_ratio.unwrap_or_else(|| self.window_ratio(now))
    }

    fn busy(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started).saturating_sub(self.waited)
    }

    fn window_ratio(&self, now: Instant) -> f64 {
        let span = now.saturating_duration_since(self.window_start).as_secs_f64();
        if span <= 0.0 {
            return 0.0;
        }
        (1.0 - self.window_waited.as_secs_f64() / span).clamp(0.0, 1.0)
    }
}

/// Poll token of the mailbox; sockets have the tokens 0, 1, …
const MAILBOX: Token = Token(usize::MAX - 1);
/// Datagrams received before the resulting output is flushed.
const DATAGRAM_BUDGET: usize = 512;
/// Fabric messages handled before the resulting output is flushed.
const FABRIC_BUDGET: usize = 1024;
/// Requests handled before the resulting output is flushed.
const REQUEST_BUDGET: usize = 64;
/// Size of the backlog at which no further requests are handled.
const BACKLOG_LIMIT: usize = 1024;
/// Interval at which full channels are tried again, because they give no notice of free room.
const OUTBOX_RETRY: Duration = Duration::from_millis(2);
/// Longest wait, even if the shard has no earlier deadline.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Window over which the busy share is measured.
const METER_WINDOW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use sfu_engine::media_packet::TrackId;
    use sfu_engine::room::data::{Destinations, UserData};
    use sfu_protocol::{DataKind, ParticipantSid, RoomSid};

    use super::*;

    #[test]
    fn for_an_overloaded_worker_lossy_data_is_dropped_and_reliable_data_waits() {
        let poll = Poll::new().expect("poll");
        let (peer, mut mailbox) = mailbox(Waker::new(poll.registry(), MAILBOX).expect("waker"));
        let data = |kind, number: usize| {
            FabricMessage::Data(Arc::new(UserData {
                room: RoomSid::new("RM_1"),
                origin: 0,
                sender: ParticipantSid::new(format!("PA_{number}")),
                kind,
                destinations: Destinations::Everyone,
                packet: vec![0; 64 * 1024].into(),
            }))
        };
        let control = || FabricMessage::FirstSubscriber { track: TrackId(1) };
        let mut outbox = Outbox::default();
        let mut send_or_queue = |message| super::send_or_queue(&peer, &mut outbox, message);
        let lossy: Vec<_> = (0..1000).map(|number| send_or_queue(data(DataKind::Lossy, number))).collect();
        let taken = lossy.iter().take_while(|outcome| outcome.is_none()).count();
        assert!(taken > 0 && lossy[taken..].iter().all(|outcome| *outcome == Some(DropReason::DataBacklog)));
        assert!(
            (0..1000).all(|number| send_or_queue(data(DataKind::Reliable, number)).is_none()),
            "never dropped"
        );
        // Control messages fill their own share of the mailbox and are then queued.
        assert!((0..10_000).all(|_| send_or_queue(control()).is_none()));
        assert!(outbox.data.len() > 500 && outbox.control.len() > 5000);
        let (mut numbers, mut controls) = (Vec::new(), 0);
        while let Some(message) = mailbox.next_fabric() {
            match message {
                FabricMessage::Data(data) if data.kind == DataKind::Reliable => {
                    numbers.push(data.sender.as_str().to_owned());
                }
                FabricMessage::Data(_) => {}
                _ => controls += 1,
            }
            retry(&peer, &mut outbox.control);
            retry(&peer, &mut outbox.data);
        }
        assert_eq!(controls, 10_000, "no control message was lost");
        let sent: Vec<_> = (0..1000).map(|number| format!("PA_{number}")).collect();
        assert_eq!(numbers, sent, "all of what is reliable, in order");
    }

    #[test]
    fn the_busy_share_is_that_of_the_last_window() {
        let start = clock::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut meter = Meter::new(start);
        assert_eq!(meter.ratio(start), 0.0);
        meter.woke(at(100), at(400));
        assert!((meter.ratio(at(400)) - 0.25).abs() < 1e-9);
        meter.woke(at(500), at(1000));
        assert!((meter.ratio(at(1000)) - 0.2).abs() < 1e-9);
        // A fully busy second shows only at the end of its window.
        assert!((meter.ratio(at(1999)) - 0.2).abs() < 1e-9);
        meter.woke(at(2000), at(2000));
        assert!((meter.ratio(at(2000)) - 1.0).abs() < 1e-9);
        assert_eq!(meter.busy(at(2000)), Duration::from_millis(1200));
    }
}
