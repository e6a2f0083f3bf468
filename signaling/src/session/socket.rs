//! Runs a [`Session`] on its WebSocket: frames in and out, events of the media plane, timers, and the bounds of all.

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

/// Bounds of one WebSocket.
#[derive(Debug, Clone)]
pub struct SocketLimits {
    /// Bytes of one message of the client.
    pub frame: usize,
    /// Messages that may wait to be written.
    pub queued_messages: usize,
    /// Bytes that may wait to be written, unless they are one message.
    pub queued_bytes: usize,
    /// How long a batch of messages may take to be written: a client that does not read is given up.
    pub write: Duration,
    /// How long nothing may be heard of the client until it is asked with a WebSocket ping, and between two of those.
    pub ping: Duration,
    /// How long nothing at all may be heard of the client. It pings every 5 s itself, and a page in the background
    /// still answers our pings.
    pub idle: Duration,
    /// How long the client may take to answer our close.
    pub close: Duration,
    /// Messages a second that are taken from a client in the long run; more wait in the socket.
    pub rate: u32,
    /// Messages beyond that rate that are taken at once.
    pub burst: u32,
}

/// Read at a time. It is allocated for as long as the socket lives, and cleared whenever its session wakes; most
/// requests are some hundred bytes.
const READ_BUFFER: usize = 4096;

/// By how much a frame may be over the limit for its sender to be told, in bytes.
const OVER_LIMIT: usize = 256 * 1024;

impl Default for SocketLimits {
    fn default() -> Self {
        Self {
            // A description of 640 receive-only sections, as browsers write it, has 3.4 MB.
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
    /// Sets the frame limit on an upgrade, before it is answered. The socket takes somewhat more than the limit, so that
    /// who is just over it can be told; who is far over it loses the socket.
    pub fn apply<F>(&self, upgrade: WebSocketUpgrade<F>) -> WebSocketUpgrade<F> {
        let most = self.frame.saturating_add(OVER_LIMIT.min(self.frame));
        upgrade.max_message_size(most).max_frame_size(most).read_buffer_size(READ_BUFFER)
    }

    /// How long what is written may go nowhere until the loss of the socket is noticed: by the silence, and by a
    /// write under way then.
    pub(super) fn unnoticed(&self) -> Duration {
        self.idle.saturating_add(self.write)
    }
}

/// Runs an admitted session on its socket. Returns when the participant has gone.
pub async fn serve(socket: WebSocket, admitted: Admitted) {
    match admitted.0 {
        Admission::Session(driver) => driver.run(socket).await,
        Admission::Resume(resumption) => resumption.take_over(socket).await,
        Admission::StartAnew(rooms) => start_anew(&rooms, socket).await,
    }
}

/// Tells a client that there is nothing to go on with.
async fn start_anew(rooms: &Rooms, socket: WebSocket) {
    let limits = &rooms.0.config.socket;
    let mut socket = Socket::new(socket, limits, None);
    let leave = leaving::leave_request(
        proto::DisconnectReason::StateMismatch,
        proto::leave_request::Action::Reconnect,
    );
    // Anything else as first message would make the client wait for its time-out.
    let message = Some(signal_response::Message::Leave(leave));
    socket.writer.send(Wire::default().encode(&proto::SignalResponse { message }));
    socket.writer.close(leaving::CLOSE_NORMAL);
    socket.close(limits).await;
}

/// A session that waits for a client's new socket.
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
    /// Hands the socket to the session, and returns when that lets it go. A session that has ended meanwhile has
    /// nothing to go on with.
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

/// A session and all that it is connected to.
pub(super) struct Driver {
    session: Session,
    seat: Seat,
    issuer: Arc<dyn TokenIssuer>,
    wire: Wire,
    /// What came out before there was a socket.
    held: VecDeque<Output>,
    ended: Option<EndCause>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("session", &self.session).finish_non_exhaustive()
    }
}

/// How a session and its socket part.
enum Parting {
    /// The session is over.
    Ended,
    /// The socket is gone.
    Lost {
        /// Its client said that it is going away.
        leaving: bool,
    },
    /// The client has another socket.
    Resumed(Box<Takeover>),
}

/// What ended a wait.
enum Wake {
    Event(Option<Event>),
    Frame(Option<Result<Message, axum::Error>>),
    End(LeaveReason),
    Order(Order),
    /// Something is due.
    Alarm,
    /// What is to be waited for has changed.
    Again,
}

impl Driver {
    pub(super) fn new(session: Session, seat: Seat, issuer: Arc<dyn TokenIssuer>) -> Self {
        Self { session, seat, issuer, wire: Wire::default(), held: VecDeque::new(), ended: None }
    }

    /// Runs the session until its join response is ready; says how it ended if it did.
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
                // The old socket is gone, though nobody has noticed.
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

    /// Until the session ends or goes on with another socket, or the socket is lost.
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
            // To a later moment this costs next to nothing: the timer is moved when its old one comes.
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

    /// Writes what is queued and waits for the next thing to do.
    async fn wait(&mut self, socket: &mut Socket, alarm: Pin<&mut Sleep>, may_read: bool) -> Wake {
        tokio::select! {
            // What one input caused leaves before the next is taken. Then the client, whose rate is limited; so
            // whatever it says counts before its silence does.
            biased;
            Driven::Blocked | Driven::Gone = socket.writer.drive() => Wake::Again,
            Some(reason) = self.seat.end.recv() => Wake::End(reason),
            Some(order) = self.seat.orders.recv() => Wake::Order(order),
            frame = socket.stream.next(), if may_read => Wake::Frame(frame),
            event = self.seat.inbox.recv() => Wake::Event(event),
            () = alarm => Wake::Alarm,
        }
    }

    /// The participant without its socket, until its client is back, its time is over or its next session has taken
    /// its place.
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
                // What has come meanwhile is taken along, so that changes of many become one message.
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
            // Nobody resumes before its join response.
            Wake::Order(Order::Resume(_)) | Wake::Frame(_) | Wake::Again => {}
        }
    }

    /// Hands an input to the session. If its code panics, only this participant ends.
    fn feed(&mut self, input: Input) {
        if self.ended.is_some() || self.is_poisoned() {
            return;
        }
        let session = &mut self.session;
        let now = Instant::now();
        if catch_unwind(AssertUnwindSafe(|| session.handle(now, input))).is_err() {
            SessionStats::add(&self.seat.stats().panics);
            tracing::error!(participant = %self.seat.participant, "a session panicked and was ended");
            // Its state is not to be trusted: what comes out of it is made up here.
            self.held.extend(leaving::emergency(&self.seat.participant));
        }
    }

    /// Whether the last outputs are those of [`leaving::emergency`].
    fn is_poisoned(&self) -> bool {
        matches!(self.held.back(), Some(Output::Ended(_)))
    }

    /// Carries out what the session gave. Without a socket, what is for the client is held.
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
        // A media plane that is gone takes the inboxes with it, which ends the session.
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

/// A WebSocket, as a session uses it.
struct Socket {
    writer: Writer,
    stream: SplitStream<WebSocket>,
    /// Tells whoever brought the socket when it is let go.
    _kept: Option<oneshot::Sender<Infallible>>,
}

impl Socket {
    fn new(socket: WebSocket, limits: &SocketLimits, kept: Option<oneshot::Sender<Infallible>>) -> Self {
        let (sink, stream) = socket.split();
        Self { writer: Writer::new(sink, limits), stream, _kept: kept }
    }

    /// Writes what is queued, waits for the client's close, and lets the socket go.
    async fn close(mut self, limits: &SocketLimits) {
        self.writer.finish().await;
        let closed = timeout(limits.close, async { while let Some(Ok(_)) = self.stream.next().await {} });
        // Whether it answers or not, the socket is let go.
        drop(closed.await);
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// Events taken between two looks at the socket.
const EVENTS_AT_ONCE: usize = 64;
