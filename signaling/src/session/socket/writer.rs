//! The write half of a WebSocket: a bounded queue, drained by the task that fills it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::stream::SplitSink;
use futures_util::{Sink, SinkExt};
use tokio::time::timeout;

use super::SocketLimits;

/// Queues messages and writes them in batches. If the client does not accept a batch in time, or the queue overflows,
/// nothing more is written.
pub(super) struct Writer<S = SplitSink<WebSocket, Message>> {
    sink: S,
    queue: VecDeque<Message>,
    /// Bytes that are queued, or passed to the sink and not flushed.
    bytes: usize,
    /// Bytes that the sink has accepted and not flushed.
    taken: usize,
    /// Whether the sink holds messages that are not flushed.
    unflushed: bool,
    /// When the client stopped accepting the batch in progress; `None` while it accepts data.
    blocked: Option<Instant>,
    closing: bool,
    state: State,
    most_messages: usize,
    most_bytes: usize,
    patience: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The close frame is written; nothing is written after it.
    Closed,
    Broken,
    TooSlow,
}

/// Why [`Writer::drive`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driven {
    /// The client does not accept more at the moment, and [`Writer::deadline`] has changed.
    Blocked,
    /// Nothing can be written any more.
    Gone,
}

impl<S: Sink<Message> + Unpin> Writer<S> {
    pub(super) fn new(sink: S, limits: &SocketLimits) -> Self {
        Self {
            sink,
            queue: VecDeque::new(),
            bytes: 0,
            taken: 0,
            unflushed: false,
            blocked: None,
            closing: false,
            state: State::Open,
            most_messages: limits.queued_messages.max(1),
            most_bytes: limits.queued_bytes,
            patience: limits.write,
        }
    }

    /// Queues a message, or gives up the client if the queue is full. Ignored after the close.
    pub(super) fn send(&mut self, message: Message) {
        if self.is_gone() || self.closing {
            return;
        }
        let size = size(&message);
        let fits = self.bytes == 0 || self.bytes.saturating_add(size) <= self.most_bytes;
        if !fits || self.queue.len() >= self.most_messages {
            // A gap would leave the client in a wrong state. It must reconnect instead.
            self.state = State::TooSlow;
            return self.queue.clear();
        }
        self.closing = matches!(message, Message::Close(_));
        self.bytes = self.bytes.saturating_add(size);
        self.queue.push_back(message);
    }

    /// Queues the close frame; later messages are ignored.
    pub(super) fn close(&mut self, code: u16) {
        self.send(Message::Close(Some(CloseFrame { code, reason: "".into() })));
    }

    pub(super) fn is_gone(&self) -> bool {
        self.state != State::Open
    }

    /// Whether the writer was given up because the client did not read.
    pub(super) fn was_too_slow(&self) -> bool {
        self.state == State::TooSlow
    }

    /// When the client must have accepted the batch in progress; `None` while nothing is blocked.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.blocked.map(|since| since + self.patience)
    }

    /// Gives up the client, because its [`Writer::deadline`] has passed.
    pub(super) fn give_up(&mut self) {
        self.state = State::TooSlow;
    }

    /// Writes what is queued, and returns only when there is something to report. Cancel-safe.
    pub(super) async fn drive(&mut self) -> Driven {
        poll_fn(|cx| {
            while self.has_work() {
                match self.poll_batch(cx) {
                    Poll::Ready(()) => {}
                    Poll::Pending if self.blocked.is_none() => {
                        self.blocked = Some(Instant::now());
                        return Poll::Ready(Driven::Blocked);
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.is_gone() { Poll::Ready(Driven::Gone) } else { Poll::Pending }
        })
        .await
    }

    /// Writes everything that is queued, or gives up if the client does not accept a batch in time.
    pub(super) async fn finish(&mut self) {
        while self.has_work() {
            if timeout(self.patience, poll_fn(|cx| self.poll_batch(cx))).await.is_err() {
                self.give_up();
            }
        }
    }

    fn has_work(&self) -> bool {
        !self.is_gone() && (self.unflushed || !self.queue.is_empty())
    }

    /// Passes messages of about [`BATCH`] bytes in total to the sink and flushes them, so that many small messages
    /// cost one system call.
    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let written = ready!(self.poll_batch_written(cx));
        self.blocked = None;
        self.unflushed = false;
        self.bytes = self.bytes.saturating_sub(std::mem::take(&mut self.taken));
        if written.is_err() {
            self.state = State::Broken;
        } else if self.closing && self.queue.is_empty() {
            self.state = State::Closed;
        }
        Poll::Ready(())
    }

    fn poll_batch_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        while self.taken < BATCH && !self.queue.is_empty() {
            ready!(self.sink.poll_ready_unpin(cx))?;
            let Some(message) = self.queue.pop_front() else { break };
            self.taken = self.taken.saturating_add(size(&message));
            self.unflushed = true;
            self.sink.start_send_unpin(message)?;
        }
        self.sink.poll_flush_unpin(cx)
    }
}

/// Bytes per flush, if that many are queued.
const BATCH: usize = 16 * 1024;

fn size(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use super::*;

    #[derive(Default)]
    struct Client {
        open: bool,
        got: Vec<usize>,
        flushes: Vec<usize>,
    }

    impl Sink<Message> for Client {
        type Error = ();

        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
            Poll::Ready(Ok(()))
        }

        fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), ()> {
            self.got.push(size(&message));
            Ok(())
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
            if !self.open {
                return Poll::Pending;
            }
            let written = self.got.len();
            self.flushes.push(written);
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn writer(open: bool) -> Writer<Client> {
        let limits = SocketLimits { queued_messages: 4, queued_bytes: 40 * 1024, ..SocketLimits::default() };
        Writer::new(Client { open, ..Client::default() }, &limits)
    }

    fn message(size: usize) -> Message {
        Message::Binary(vec![0; size].into())
    }

    fn drive(writer: &mut Writer<Client>) -> Poll<Driven> {
        let future = std::pin::pin!(writer.drive());
        future.poll(&mut Context::from_waker(std::task::Waker::noop()))
    }

    #[test]
    fn small_messages_are_flushed_together_and_large_ones_one_by_one() {
        let mut writer = writer(true);
        for size in [10, 20, 30 * 1024, 5] {
            writer.send(message(size));
        }
        assert_eq!(drive(&mut writer), Poll::Pending);
        assert_eq!(writer.sink.got, [10, 20, 30 * 1024, 5]);
        assert_eq!(writer.sink.flushes, [3, 4]);
        assert!(!writer.is_gone() && writer.bytes == 0);
        writer.close(1000);
        writer.send(message(1));
        assert_eq!(drive(&mut writer), Poll::Ready(Driven::Gone));
        assert_eq!(writer.sink.got.len(), 5, "nothing after the close");
        assert!(!writer.was_too_slow());
    }

    #[test]
    fn a_client_that_does_not_take_a_batch_has_a_deadline_until_it_does() {
        let mut writer = writer(false);
        assert_eq!(drive(&mut writer), Poll::Pending);
        assert_eq!(writer.deadline(), None);
        writer.send(message(10));
        assert_eq!(drive(&mut writer), Poll::Ready(Driven::Blocked));
        assert!(writer.deadline().is_some());
        assert_eq!(drive(&mut writer), Poll::Pending, "said once");
        writer.sink.open = true;
        assert_eq!(drive(&mut writer), Poll::Pending);
        assert_eq!(writer.deadline(), None);
    }

    #[test]
    fn what_waits_is_bounded_by_messages_and_by_bytes() {
        // A single message may exceed the byte limit if nothing else is queued.
        for (sizes, fits) in [
            (&[41 * 1024][..], true),
            (&[41 * 1024, 1], false),
            (&[39 * 1024, 1024], true),
            (&[1, 1, 1, 1], true),
            (&[1, 1, 1, 1, 1], false),
        ] {
            let mut writer = writer(false);
            sizes.iter().for_each(|size| writer.send(message(*size)));
            assert_eq!(writer.was_too_slow(), !fits, "{sizes:?}");
        }
    }
}
