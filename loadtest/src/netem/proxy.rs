//! UDP proxy that applies an emulated link. Clients send to one address. The proxy opens a socket towards the server
//! for each client. All clients share one [`Way`] per direction.

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Change, Shape, Tally, Way};
use crate::error::{Context, LoadError};

/// Line on standard input: a change of the link or of the server's address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// New address of the server, for clients that appear later; present clients keep theirs.
    pub to: Option<SocketAddr>,
    /// Change of the direction towards the clients.
    #[serde(default)]
    pub down: Change,
    /// Change of the direction towards the server.
    #[serde(default)]
    pub up: Change,
}

/// First line on standard output.
#[derive(Debug, Serialize)]
struct Ready {
    listen: SocketAddr,
}

/// Line on standard output: the counters of the last [`REPORT`] interval.
#[derive(Debug, Serialize)]
struct Report {
    /// Milliseconds since 1970, for comparison with the logs of other processes on the same machine.
    at: u64,
    down: Tally,
    up: Tally,
}

/// Line on standard output: reports an order that could not be parsed.
#[derive(Debug, Serialize)]
struct Refused {
    error: String,
}

/// Runs the proxy until standard input ends.
///
/// # Errors
/// A socket or standard output fails.
pub fn run(listen: SocketAddr, order: &Order, seed: u64) -> Result<(), LoadError> {
    let mut link = Link::new(listen, order, seed)?;
    let listen = link.door.local_addr().context("ask the link's address")?;
    print(&Ready { listen })?;
    let (to_link, orders) = channel();
    let waker = Arc::new(Waker::new(link.poll.registry(), ORDERS).context("make a waker")?);
    thread::spawn(move || read_orders(&to_link, &waker));
    link.serve(&orders)
}

struct Link {
    poll: Poll,
    door: UdpSocket,
    to: Option<SocketAddr>,
    clients: Vec<Client>,
    places: HashMap<SocketAddr, usize>,
    down: Way<Packet>,
    up: Way<Packet>,
}

/// Client that sends through the link.
struct Client {
    address: SocketAddr,
    /// This client's socket towards the server, connected to it.
    socket: UdpSocket,
}

#[derive(Debug)]
struct Packet {
    client: usize,
    bytes: Box<[u8]>,
}

impl Link {
    fn new(listen: SocketAddr, order: &Order, seed: u64) -> Result<Self, LoadError> {
        let poll = Poll::new().context("make a poll")?;
        let door = socket(listen)?;
        watch(&poll, &door, DOOR)?;
        let now = Instant::now();
        Ok(Self {
            poll,
            door,
            to: order.to,
            clients: Vec::new(),
            places: HashMap::new(),
            down: Way::new(now, Shape::default().with(&order.down), seed),
            up: Way::new(now, Shape::default().with(&order.up), seed.wrapping_add(1)),
        })
    }

    fn serve(&mut self, orders: &Receiver<io::Result<String>>) -> Result<(), LoadError> {
        let mut events = Events::with_capacity(64);
        let mut buffer = vec![0; LARGEST];
        let mut report_at = Instant::now() + REPORT;
        loop {
            let wake =
                [self.down.next_at(), self.up.next_at()].into_iter().flatten().fold(report_at, Instant::min);
            let wait = wake.saturating_duration_since(Instant::now());
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(error).context("wait");
                }
                _ => {}
            }
            while let Ok(line) = orders.try_recv() {
                let Ok(line) = line else { return Ok(()) };
                self.obey(&line)?;
            }
            self.take_from_clients(&mut buffer)?;
            for client in 0..self.clients.len() {
                self.take_from_server(client, &mut buffer);
            }
            self.hand_out();
            let now = Instant::now();
            if now >= report_at {
                let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
                print(&Report { at, down: self.down.take_tally(now), up: self.up.take_tally(now) })?;
                report_at = (report_at + REPORT).max(now);
            }
        }
    }

    fn obey(&mut self, line: &str) -> Result<(), LoadError> {
        match serde_json::from_str::<Order>(line) {
            Ok(order) => {
                let now = Instant::now();
                self.to = order.to.or(self.to);
                self.down.reshape(now, &order.down);
                self.up.reshape(now, &order.up);
                Ok(())
            }
            Err(error) => print(&Refused { error: error.to_string() }),
        }
    }

    fn take_from_clients(&mut self, buffer: &mut [u8]) -> Result<(), LoadError> {
        while let Ok((length, from)) = self.door.recv_from(buffer) {
            let client = match self.places.get(&from) {
                Some(client) => *client,
                None => match self.admit(from)? {
                    Some(client) => client,
                    None => continue,
                },
            };
            let bytes = buffer.get(..length).unwrap_or_default().into();
            self.up.offer(Instant::now(), Packet { client, bytes }, length);
        }
        Ok(())
    }

    /// Opens a socket for a new client; `None` if no order has given the server's address yet.
    fn admit(&mut self, address: SocketAddr) -> Result<Option<usize>, LoadError> {
        let Some(to) = self.to else { return Ok(None) };
        let socket = socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        socket.connect(to).context("connect to the server")?;
        let client = self.clients.len();
        watch(&self.poll, &socket, Token(FIRST_CLIENT + client))?;
        self.clients.push(Client { address, socket });
        self.places.insert(address, client);
        Ok(Some(client))
    }

    fn take_from_server(&mut self, client: usize, buffer: &mut [u8]) {
        let Some(socket) = self.clients.get(client).map(|client| &client.socket) else { return };
        // An error other than an empty queue reports that an earlier packet reached no socket. It is ignored; the
        // client will notice.
        while let Ok(length) = socket.recv(buffer) {
            let bytes = buffer.get(..length).unwrap_or_default().into();
            self.down.offer(Instant::now(), Packet { client, bytes }, length);
        }
    }

    /// Sends the packets that have arrived. A packet that a socket refuses is lost, as on any link.
    fn hand_out(&mut self) {
        let now = Instant::now();
        while let Some(packet) = self.down.poll(now) {
            if let Some(client) = self.clients.get(packet.client) {
                let _ = self.door.send_to(&packet.bytes, client.address);
            }
        }
        while let Some(packet) = self.up.poll(now) {
            if let Some(client) = self.clients.get(packet.client) {
                let _ = client.socket.send(&packet.bytes);
            }
        }
    }
}

/// Opens a socket without GRO: the kernel splits GSO batches and delivers single datagrams.
fn socket(address: SocketAddr) -> Result<UdpSocket, LoadError> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))
        .context("make a socket")?;
    socket.set_recv_buffer_size(SOCKET_BUFFER).context("size a receive buffer")?;
    socket.set_nonblocking(true).context("set up a socket")?;
    socket.bind(&address.into()).context("bind a socket")?;
    Ok(socket.into())
}

fn watch(poll: &Poll, socket: &UdpSocket, token: Token) -> Result<(), LoadError> {
    poll.registry()
        .register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)
        .context("watch a socket")
}

fn read_orders(link: &Sender<io::Result<String>>, waker: &Waker) {
    let end = io::Error::from(io::ErrorKind::UnexpectedEof);
    for line in io::stdin().lock().lines().chain([Err(end)]) {
        let last = line.is_err();
        if link.send(line).is_err() || waker.wake().is_err() || last {
            return;
        }
    }
}

fn print(line: &impl Serialize) -> Result<(), LoadError> {
    use std::io::Write;
    let mut text = serde_json::to_string(line).map_err(io::Error::from).context("write a line")?;
    text.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("write a line")
}

const DOOR: Token = Token(0);
const ORDERS: Token = Token(1);
const FIRST_CLIENT: usize = 2;
/// Interval of the reports on standard output.
const REPORT: Duration = Duration::from_millis(100);
/// Largest UDP datagram, in bytes.
const LARGEST: usize = 65_536;
/// Large enough not to lose packets while this process waits for the CPU.
const SOCKET_BUFFER: usize = 4 << 20;
