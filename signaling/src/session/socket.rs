//! Runs a [`Session`] on its WebSocket: reads and writes frames, feeds in events of the media plane, drives timers,
//! and enforces the socket's limits.

mod seat;
mod watch;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use livekit_protocol as proto;
use livekit_protocol::signal_response;
use sfu_protocol::{Command, Event, LeaveReason};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Sleep, sleep_until, timeout};

use super::admit::{Admission, Admitted, TokenIssuer};
use super::wire::Wire;
use super::{EndCause, Input, Output, RefreshClaims, Resumed, Rooms, Session, SessionStats, leaving};
pub(super) use seat::{Doors, Order, Seat, Takeover};
use watch::Watch;
use writer::{Driven, Writer};

/// Limits of one WebSocket.
#[derive(Debug, Clone)]
pub struct SocketLimits {
    /// Largest message accepted from the client, in bytes.
    pub frame: usize,
    /// Most messages in the write queue. A client whose queue would exceed it loses the socket.
    pub queued_messages: usize,
    /// Most bytes in the write queue. A message that is alone in the queue may exceed this limit.
    pub queued_bytes: usize,
    /// How long a batch of messages may take to be written. A client that does not read for so long loses the socket.
    pub write: Duration,
    /// How long the client may be silent before it is sent a WebSocket ping, and the interval between pings.
    pub ping: Duration,
    /// How long the client may be silent before its connection counts as lost. Clients ping every 5 s themselves, and
    /// a page in the background still answers our pings.
    pub idle: Duration,
    /// How long to wait for the client's answer to our close.
    pub close: Duration,
    /// Sustained rate of messages read from the client, per second. Further messages wait in the socket.
    pub rate: u32,
    /// Messages that may be read at once, beyond the sustained rate.
    pub burst: u32,
}

/// Size of the read buffer in bytes. The buffer lives as long as the socket and is cleared whenever its session
/// wakes; most requests are a few hundred bytes long.
const READ_BUFFER: usize = 4096;

/// How far a frame may exceed the frame limit, in bytes, so that its sender is told instead of losing the socket.
const OVER_LIMIT: usize = 256 * 1024;

impl Default for SocketLimits {
    fn default() -> Self {
        Self {
            // An SDP with 640 receive-only sections, as browsers write it, is 3.4 MB long.
            frame: 4 * 1024 * 1024 + 64 * 1024,
            queued_messages: 1024,
            queued_bytes: 4 * 1024 * 1024,
            write: Duration::from_secs(5),
            ping: Duration::from_secs(10),
            idle: Duration::from_secs(16),
            close: Duration::from_secs(2),
            rate: 128,
            burst: 512,
        }
    }
}

impl SocketLimits {
    /// Sets the frame limit on an upgrade before it is answered. The socket accepts somewhat more than `frame`: a
    /// client slightly above that limit is told so, a client far above it loses the socket.
    pub fn apply<F>(&self, upgrade: WebSocketUpgrade<F>) -> WebSocketUpgrade<F> {
        let most = self.frame.saturating_add(OVER_LIMIT.min(self.frame));
        upgrade.max_message_size(most).max_frame_size(most).read_buffer_size(READ_BUFFER)
    }

    /// Longest time after which a lost socket is noticed: the idle limit, plus a write in progress at that moment.
    pub(super) fn unnoticed(&self) -> Duration {
        self.idle.saturating_add(self.write)
    }
}

/// Runs an admitted session on its socket. Returns when the session has ended or no longer uses this socket.
pub async fn serve(socket: WebSocket, admitted: Admitted) {
    match admitted.0 {
        Admission::Session(driver) => driver.run(socket).await,
        Admission::Resume(resumption) => resumption.take_over(socket).await,
        Admission::StartAnew(rooms) => start_anew(&rooms, socket).await,
    }
}

/// Tells a client that there is no session to resume.
async fn start_anew(rooms: &Rooms, socket: WebSocket) {
    let limits = &rooms.0.config.socket;
    let mut socket = Socket::new(socket, limits, None);
    let leave = leaving::leave_request(
        proto::DisconnectReason::StateMismatch,
        proto::leave_request::Action::Reconnect,
    );
    // With any other first message the client would wait for its timeout.
    let message = Some(signal_response::Message::Leave(leave));
    socket.writer.send(Wire::default().encode(&proto::SignalResponse { message }));
    socket.writer.close(leaving::CLOSE_NORMAL);
    socket.close(limits).await;
}

/// The client's request to resume a session on a new socket.
pub(super) struct Resumption {
    pub(super) rooms: Rooms,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) resumed: Resumed,
}

impl std::fmt::Debug for Resumption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resumption").field("resumed", &self.resumed).finish_non_exhaustive()
    }
}

impl Resumption {
    /// Passes the socket to the session, and returns when the session no longer uses it. If the session has ended
    /// meanwhile, the client is told to start a new one.
    async fn take_over(self, socket: WebSocket) {
        let (kept, let_go) = oneshot::channel();
        let order = Order::Resume(Box::new(Takeover { socket, resumed: self.resumed, kept }));
        match self.orders.send(order).await {
            Ok(()) => {
                let Err(oneshot::error::RecvError { .. }) = let_go.await;
            }
            Err(mpsc::error::SendError(Order::Resume(takeover))) => {
                SessionStats::add(&self.rooms.0.stats.resumes_refused);
                start_anew(&self.rooms, takeover.socket).await;
            }
            Err(_) => {}
        }
    }
}

/// A session with everything that it is connected to.
pub(super) struct Driver {
    session: Session,
    seat: Seat,
    issuer: Arc<dyn TokenIssuer>,
    wire: Wire,
    /// Outputs that are not yet written because there is no socket.
    held: VecDeque<Output>,
    ended: Option<EndCause>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("session", &self.session).finish_non_exhaustive()
    }
}

/// Why a session stops using its socket.
enum Parting {
    Ended,
    Lost {
        /// The client said that it is going away.
        leaving: bool,
    },
    /// The client has a new socket.
    Resumed(Box<Takeover>),
}

/// What ended a wait.
enum Wake {
    Event(Option<Event>),
    Frame(Option<Result<Message, axum::Error>>),
    End(LeaveReason),
    Order(Order),
    /// A timer is due.
    Alarm,
    /// The set of things to wait for has changed.
    Again,
}

impl Driver {
    pub(super) fn new(session: Session, seat: Seat, issuer: Arc<dyn TokenIssuer>) -> Self {
        Self { session, seat, issuer, wire: Wire::default(), held: VecDeque::new(), ended: None }
    }

    /// Runs the session until its join response is ready. Returns the cause if the session ended instead.
    pub(super) async fn until_joined(&mut self) -> Option<EndCause> {
        loop {
            self.carry_out(None).await;
            if self.ended.is_some() || self.session.is_joined() {
                return self.ended;
            }
            let wake = tokio::select! {
                event = self.seat.inbox.recv() => Wake::Event(event),
                Some(reason) = self.seat.end.recv() => Wake::End(reason),
                Some(order) = self.seat.orders.recv() => Wake::Order(order),
            };
            self.take(wake);
        }
    }

    async fn run(mut self: Box<Self>, socket: WebSocket) {
        let limits = self.seat.rooms().0.config.socket.clone();
        let mut next = Some(Socket::new(socket, &limits, None));
        while let Some(mut socket) = next.take() {
            let takeover = match self.converse(&mut socket, &limits).await {
                Parting::Ended => return socket.close(&limits).await,
                Parting::Lost { leaving } => {
                    drop(socket);
                    self.feed(Input::SignalLost { leaving });
                    self.linger().await
                }
                // The old socket is dead, although its loss was not noticed.
                Parting::Resumed(takeover) => Some(takeover),
            };
            next = takeover.map(|takeover| self.take_over(*takeover, &limits));
        }
    }

    fn take_over(&mut self, takeover: Takeover, limits: &SocketLimits) -> Socket {
        let Takeover { socket, resumed, kept } = takeover;
        SessionStats::add(&self.seat.stats().resumed);
        self.wire = Wire::default();
        self.feed(Input::Resumed(Box::new(resumed)));
        Socket::new(socket, limits, Some(kept))
    }

    /// Runs the session on a socket until the session ends, continues on another socket, or the socket is lost.
    async fn converse(&mut self, socket: &mut Socket, limits: &SocketLimits) -> Parting {
        let mut watch = Watch::new(Instant::now(), limits);
        let mut alarm = std::pin::pin!(sleep_until(tokio::time::Instant::now()));
        loop {
            self.carry_out(Some(&mut socket.writer)).await;
            if self.ended.is_some() {
                return Parting::Ended;
            }
            if socket.writer.is_gone() {
                return self.give_up(&socket.writer);
            }
            let due = watch.next_due(self.session.poll_timeout(), socket.writer.deadline());
            // Moving the alarm to a later time costs next to nothing: the timer is moved when its old time comes.
            if alarm.deadline() != due.into() {
                alarm.as_mut().reset(due.into());
            }
            match self.wait(socket, alarm.as_mut(), watch.may_read()).await {
                Wake::Frame(None | Some(Err(_))) => return Parting::Lost { leaving: false },
                Wake::Frame(Some(Ok(Message::Close(close)))) => {
                    let leaving = close.is_some_and(|close| close.code == leaving::CLOSE_GOING_AWAY);
                    return Parting::Lost { leaving };
                }
                Wake::Order(Order::Resume(takeover)) => return Parting::Resumed(takeover),
                Wake::Alarm => {
                    let now = Instant::now();
                    watch.may_read_at(now);
                    if watch.is_silent(now) {
                        SessionStats::add(&self.seat.stats().silent_clients);
                        return Parting::Lost { leaving: false };
                    }
                    if watch.is_ping_due(now) {
                        socket.writer.send(Message::Ping(bytes::Bytes::new()));
                    }
                    if socket.writer.deadline().is_some_and(|due| due <= now) {
                        socket.writer.give_up();
                    }
                    self.take(Wake::Alarm);
                }
                wake => {
                    if matches!(wake, Wake::Frame(_)) && watch.heard(Instant::now()) {
                        SessionStats::add(&self.seat.stats().throttled);
                    }
                    self.take_frame_or(wake, limits);
                }
            }
        }
    }

    /// Writes what is queued and waits for the next event.
    async fn wait(&mut self, socket: &mut Socket, alarm: Pin<&mut Sleep>, may_read: bool) -> Wake {
        tokio::select! {
            // Everything that the last input caused is written first. Frames of the client come before events and the
            // alarm: their rate is limited, and a frame that has arrived counts before the client's silence does.
            biased;
            Driven::Blocked | Driven::Gone = socket.writer.drive() => Wake::Again,
            Some(reason) = self.seat.end.recv() => Wake::End(reason),
            Some(order) = self.seat.orders.recv() => Wake::Order(order),
            frame = socket.stream.next(), if may_read => Wake::Frame(frame),
            event = self.seat.inbox.recv() => Wake::Event(event),
            () = alarm => Wake::Alarm,
        }
    }

    /// Runs the session without a socket until the client resumes, its time is over, or its next session replaces
    /// this one. Returns the new socket if the client resumes.
    async fn linger(&mut self) -> Option<Box<Takeover>> {
        loop {
            self.carry_out(None).await;
            if self.ended.is_some() {
                return None;
            }
            let timer = self.session.poll_timeout();
            let wake = tokio::select! {
                event = self.seat.inbox.recv() => Wake::Event(event),
                Some(reason) = self.seat.end.recv() => Wake::End(reason),
                Some(order) = self.seat.orders.recv() => Wake::Order(order),
                () = until(timer) => Wake::Alarm,
            };
            if let Wake::Order(Order::Resume(takeover)) = wake {
                return Some(takeover);
            }
            self.take(wake);
        }
    }

    fn take_frame_or(&mut self, wake: Wake, limits: &SocketLimits) {
        match wake {
            Wake::Frame(Some(Ok(frame @ (Message::Binary(_) | Message::Text(_))))) => {
                match self.wire.decode(&frame, limits.frame) {
                    Ok(request) => self.feed(Input::Signal(Box::new(request))),
                    Err(error) => self.feed(Input::Malformed(error)),
                }
            }
            wake => self.take(wake),
        }
    }

    fn take(&mut self, wake: Wake) {
        match wake {
            Wake::Event(Some(event)) => {
                self.feed(Input::Sfu(event));
                // Further pending events are taken as well, so that changes of many participants become one message.
                for _ in 1..EVENTS_AT_ONCE {
                    let Ok(event) = self.seat.inbox.try_recv() else { break };
                    self.feed(Input::Sfu(event));
                }
            }
            Wake::Event(None) => {
                SessionStats::add(&self.seat.stats().inbox_overflows);
                self.feed(Input::Broken);
            }
            Wake::End(reason) => self.feed(Input::End(reason)),
            Wake::Order(Order::SetPermission(permission)) => self.feed(Input::SetPermission(permission)),
            Wake::Alarm => {
                let now = Instant::now();
                if self.session.poll_timeout().is_some_and(|due| due <= now) {
                    self.feed(Input::Timeout);
                }
            }
            // No client can resume before its join response.
            Wake::Order(Order::Resume(_)) | Wake::Frame(_) | Wake::Again => {}
        }
    }

    /// Passes an input to the session. If its code panics, only this participant's session ends.
    fn feed(&mut self, input: Input) {
        if self.ended.is_some() || self.is_poisoned() {
            return;
        }
        let session = &mut self.session;
        let now = Instant::now();
        if catch_unwind(AssertUnwindSafe(|| session.handle(now, input))).is_err() {
            SessionStats::add(&self.seat.stats().panics);
            tracing::error!(participant = %self.seat.participant, "a session panicked and was ended");
            // Its state cannot be trusted, so its last outputs are created here.
            self.held.extend(leaving::emergency(&self.seat.participant));
        }
    }

    /// Whether the last pending outputs are those of [`leaving::emergency`].
    fn is_poisoned(&self) -> bool {
        matches!(self.held.back(), Some(Output::Ended(_)))
    }

    /// Carries out the session's outputs. Without a socket, outputs for the client are held back if the session is
    /// joined, and dropped otherwise.
    async fn carry_out(&mut self, mut writer: Option<&mut Writer>) {
        let mut held = std::mem::take(&mut self.held);
        let poisoned = matches!(held.back(), Some(Output::Ended(_)));
        while let Some(output) =
            held.pop_front().or_else(|| (!poisoned).then(|| self.session.poll()).flatten())
        {
            match output {
                Output::Sfu(command) => self.send(command).await,
                Output::Discarded(reason) => self.seat.stats().note_discard(reason),
                Output::Ended(cause) => {
                    self.seat.stats().note_end(cause);
                    tracing::debug!(participant = %self.seat.participant, ?cause, "session ended");
                    self.seat.left = true;
                    self.ended = Some(cause);
                }
                other => match writer.as_deref_mut() {
                    Some(writer) => self.write(writer, other),
                    None if self.session.is_joined() => self.held.push_back(other),
                    None => {}
                },
            }
        }
    }

    fn write(&mut self, writer: &mut Writer, output: Output) {
        match output {
            Output::Signal(response) => writer.send(self.wire.encode(&response)),
            Output::RefreshToken(claims) => {
                if let Some(token) = self.fresh_token(&claims) {
                    let message = Some(signal_response::Message::RefreshToken(token));
                    writer.send(self.wire.encode(&proto::SignalResponse { message }));
                }
            }
            Output::CloseSocket { code } => writer.close(code),
            Output::Sfu(_) | Output::Discarded(_) | Output::Ended(_) => {}
        }
    }

    fn fresh_token(&self, claims: &RefreshClaims) -> Option<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.issuer.issue(claims, now.as_secs())
    }

    async fn send(&mut self, command: Command) {
        if matches!(command, Command::Leave { .. }) {
            self.seat.left = true;
        }
        // If the media plane is gone, so are the inboxes, which ends the session.
        if self.seat.rooms().0.link.send(command).await.is_err() {
            self.seat.left = true;
        }
    }

    fn give_up(&self, writer: &Writer) -> Parting {
        if writer.was_too_slow() {
            SessionStats::add(&self.seat.stats().slow_clients);
        }
        Parting::Lost { leaving: false }
    }
}

/// A WebSocket as a session uses it.
struct Socket {
    writer: Writer,
    stream: SplitStream<WebSocket>,
    /// Dropped with the socket, which tells the task that brought it that the session no longer uses it.
    _kept: Option<oneshot::Sender<Infallible>>,
}

impl Socket {
    fn new(socket: WebSocket, limits: &SocketLimits, kept: Option<oneshot::Sender<Infallible>>) -> Self {
        let (sink, stream) = socket.split();
        Self { writer: Writer::new(sink, limits), stream, _kept: kept }
    }

    /// Writes what is queued, waits for the client's close, and drops the socket.
    async fn close(mut self, limits: &SocketLimits) {
        self.writer.finish().await;
        let closed = timeout(limits.close, async { while let Some(Ok(_)) = self.stream.next().await {} });
        // The socket is dropped whether the client answered or not.
        drop(closed.await);
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// Most events handled before the socket is checked again.
const EVENTS_AT_ONCE: usize = 64;
