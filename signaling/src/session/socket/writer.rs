//! The writing half of a WebSocket: a bounded queue and a task that empties it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::SinkExt;
use futures_util::stream::SplitSink;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::SocketLimits;

/// Queues messages. When the client does not take them in time, or the queue is full, the writer is gone.
pub(super) struct Writer {
    queue: mpsc::Sender<Message>,
    state: Arc<State>,
    most_bytes: usize,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    bytes: AtomicUsize,
    too_slow: AtomicBool,
}

impl Writer {
    pub(super) fn start(sink: SplitSink<WebSocket, Message>, limits: &SocketLimits) -> Self {
        let (queue, receiver) = mpsc::channel(limits.queued_messages.max(1));
        let state = Arc::new(State::default());
        let task = tokio::spawn(write_all(sink, receiver, Arc::clone(&state), limits.write));
        Self { queue, state, most_bytes: limits.queued_bytes, task }
    }

    /// Queues a message.
    pub(super) fn send(&self, message: Message) {
        let size = size(&message);
        let before = self.state.bytes.fetch_add(size, Ordering::Relaxed);
        let fits = before == 0 || before.saturating_add(size) <= self.most_bytes;
        if !fits || matches!(self.queue.try_send(message), Err(mpsc::error::TrySendError::Full(_))) {
            // A gap would leave the client in a wrong state: it is to come anew instead.
            self.state.too_slow.store(true, Ordering::Relaxed);
            self.task.abort();
        }
    }

    /// Queues the close; nothing is written after it.
    pub(super) fn close(&self, code: u16) {
        self.send(Message::Close(Some(CloseFrame { code, reason: "".into() })));
    }

    /// Whether nothing can be written any more.
    pub(super) fn is_gone(&self) -> bool {
        self.queue.is_closed() || self.was_too_slow()
    }

    /// Resolves when nothing can be written any more.
    pub(super) async fn gone(&self) {
        self.queue.closed().await;
    }

    /// Whether it is gone because the client did not read.
    pub(super) fn was_too_slow(&self) -> bool {
        self.state.too_slow.load(Ordering::Relaxed)
    }

    /// Waits until the queue is written.
    pub(super) async fn finish(self) {
        drop(self.queue);
        // It ends by itself: every message has its time, and the queue is bounded. An abort is an end, too.
        drop(self.task.await);
    }

    /// Stops writing.
    pub(super) fn abort(self) {
        self.task.abort();
    }
}

async fn write_all(
    mut sink: SplitSink<WebSocket, Message>,
    mut queue: mpsc::Receiver<Message>,
    state: Arc<State>,
    limit: Duration,
) {
    while let Some(message) = queue.recv().await {
        let size = size(&message);
        let last = matches!(message, Message::Close(_));
        match timeout(limit, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => return state.too_slow.store(true, Ordering::Relaxed),
        }
        state.bytes.fetch_sub(size, Ordering::Relaxed);
        if last {
            return;
        }
    }
}

fn size(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(_) => 0,
    }
}
