//! Runs many clients on one thread: polls their sockets, their timers and the signaling inbox.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use tokio::runtime::{Builder, Runtime};

use crate::client::signal::{self, Inbox, Signal};
use crate::client::{Client, Role};
use crate::error::{Context, LoadError};
use crate::socket::ReceiveBuffers;

/// All clients of one server.
pub struct Drive {
    url: String,
    poll: Poll,
    events: Events,
    buffers: ReceiveBuffers,
    clients: Vec<Client>,
    inbox: Inbox,
    signals: Receiver<(usize, Signal)>,
    runtime: Runtime,
}

impl Drive {
    /// Starts without clients. `url` is `ws://host:port`.
    ///
    /// # Errors
    /// The poll, its waker or the signaling thread cannot be created.
    pub fn new(url: String) -> Result<Self, LoadError> {
        let poll = Poll::new().context("make a poll")?;
        let waker = Arc::new(Waker::new(poll.registry(), INBOX).context("make a waker")?);
        let (sender, signals) = channel();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Ok(Self {
            url,
            poll,
            events: Events::with_capacity(1024),
            buffers: ReceiveBuffers::default(),
            clients: Vec::new(),
            inbox: Inbox { sender, waker },
            signals,
            runtime: runtime.context("start the signaling thread")?,
        })
    }

    /// Adds a client, which begins to join the room in the background; returns the client's number.
    ///
    /// # Errors
    /// The client or its token cannot be created.
    pub fn join(&mut self, room: &str, name: &str, role: &Role) -> Result<usize, LoadError> {
        let number = self.clients.len();
        let (mut client, request) = Client::new(name.to_owned(), role, Instant::now())?;
        let token = signal::dev_token(room, name)
            .map_err(|error| LoadError::Signaling { who: name.to_owned(), what: error.to_string() })?;
        let inbox = self.inbox.clone();
        let signal = signal::connect(self.runtime.handle(), number, &self.url, &token, &request, inbox);
        client.signaled_by(signal);
        self.poll
            .registry()
            .register(&mut SourceFd(&client.socket().fd()), Token(number), Interest::READABLE)
            .context("watch a socket")?;
        self.clients.push(client);
        Ok(number)
    }

    /// All clients, indexed by number.
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// Lets the publisher with this number begin to send.
    pub fn start(&mut self, number: usize) {
        if let Some(client) = self.clients.get_mut(number) {
            client.start(Instant::now());
        }
    }

    /// Runs all clients for `duration`.
    ///
    /// # Errors
    /// Any client fails.
    pub fn run_for(&mut self, duration: Duration) -> Result<(), LoadError> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.step(end)?;
        }
        Ok(())
    }

    /// Runs until `done` holds for at least `wanted` clients. `what` names the goal in the timeout error.
    ///
    /// # Errors
    /// Any client fails, or `limit` passes first.
    pub fn run_until(
        &mut self,
        what: &str,
        wanted: usize,
        limit: Duration,
        done: impl Fn(&Client) -> bool,
    ) -> Result<(), LoadError> {
        let begin = Instant::now();
        loop {
            let count = self.clients.iter().filter(|client| done(client)).count();
            if count >= wanted {
                return Ok(());
            }
            if begin.elapsed() > limit {
                let state = format!("{count} of {wanted}");
                return Err(LoadError::Timeout { seconds: limit.as_secs(), what: what.to_owned(), state });
            }
            self.step(Instant::now() + Duration::from_millis(100))?;
        }
    }

    fn step(&mut self, end: Instant) -> Result<(), LoadError> {
        let due = self.clients.iter().map(Client::deadline).min().unwrap_or(end).min(end);
        let timeout = due.saturating_duration_since(Instant::now());
        if let Err(source) = self.poll.poll(&mut self.events, Some(timeout))
            && source.kind() != std::io::ErrorKind::Interrupted
        {
            return Err(LoadError::Io { what: "wait", source });
        }
        let now = Instant::now();
        for event in &self.events {
            if let Some(client) = self.clients.get_mut(event.token().0) {
                client.receive(&mut self.buffers, now)?;
            }
        }
        while let Ok((number, signal)) = self.signals.try_recv() {
            let Some(client) = self.clients.get_mut(number) else { continue };
            match signal {
                Signal::Message(message) => client.hear(*message, now)?,
                Signal::Closed(what) => {
                    return Err(LoadError::Signaling { who: client.name().to_owned(), what });
                }
            }
        }
        for client in self.clients.iter_mut().filter(|client| client.deadline() <= now) {
            client.wake(now)?;
        }
        Ok(())
    }
}

/// Poll token of the signaling inbox; clients have tokens 0, 1, …
const INBOX: Token = Token(usize::MAX - 1);
