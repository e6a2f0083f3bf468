//! One worker's sockets, IPv4 and IPv6: batched receive with GRO, runs sent with GSO. Nothing else names quinn-udp.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use sfu_engine::shard::Transmit;
use socket2::{Domain, Protocol, Socket, Type};
use std::os::fd::AsRawFd;

/// How sockets are made and used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UdpSettings {
    /// Receive buffer asked of the kernel, in bytes.
    pub receive_buffer_bytes: usize,
    /// Send buffer asked of the kernel, in bytes.
    pub send_buffer_bytes: usize,
    /// Most datagrams in one send.
    pub send_train: usize,
}

/// Why a worker has no sockets.
#[derive(Debug, thiserror::Error)]
pub enum UdpError {
    /// An address could not be bound.
    #[error("cannot bind UDP {address}: {source}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Neither IPv4 nor IPv6 is configured and available.
    #[error("no address to bind: neither bind_v4 nor bind_v6 is set and available")]
    NoAddress,
    /// A socket could not be watched.
    #[error("cannot watch UDP {address}: {source}")]
    Watch {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A datagram that arrived.
#[derive(Debug)]
pub(crate) struct Datagram<'a> {
    /// From whom.
    pub source: SocketAddr,
    /// The local address that it was sent to, if the kernel tells.
    pub local: Option<IpAddr>,
    /// Its payload.
    pub data: &'a mut [u8],
}

/// What became of one transmit, in datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sent {
    /// Taken by the kernel.
    pub sent: usize,
    /// Kept until the socket is writable.
    pub pending: usize,
    /// Dropped: the kernel refused them, or too much waits already.
    pub refused: usize,
}

/// One worker's sockets.
pub(crate) struct Udp {
    ports: Vec<Port>,
    buffers: Box<[u8]>,
    train: usize,
}

impl Udp {
    /// Binds every address that the machine has. A family that the machine lacks is left out.
    pub(crate) fn bind(addresses: &[SocketAddr], settings: UdpSettings) -> Result<Self, UdpError> {
        let mut ports = Vec::with_capacity(addresses.len());
        for &address in addresses {
            match Port::bind(address, settings) {
                Ok(port) => ports.push(port),
                Err(error) if family_is_absent(address, &error) => {
                    tracing::warn!(%address, %error, "not available here, going on without");
                }
                Err(source) => return Err(UdpError::Bind { address, source }),
            }
        }
        if ports.is_empty() {
            return Err(UdpError::NoAddress);
        }
        let buffers = vec![0; RECEIVE_BATCH * RECEIVE_BUFFER].into_boxed_slice();
        Ok(Self { ports, buffers, train: settings.send_train.clamp(1, MAX_TRAIN) })
    }

    /// The addresses that were bound.
    pub(crate) fn local_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.ports.iter().map(|port| port.local)
    }

    /// Watches the sockets under tokens 0, 1, … of this poll.
    pub(crate) fn register(&mut self, registry: &Registry) -> Result<(), UdpError> {
        for (index, port) in self.ports.iter_mut().enumerate() {
            registry
                .register(&mut SourceFd(&port.socket.as_raw_fd()), Token(index), Interest::READABLE)
                .map_err(|source| UdpError::Watch { address: port.local, source })?;
        }
        Ok(())
    }

    /// Notes what the poll said of a socket.
    pub(crate) fn note(&mut self, token: Token, readable: bool, writable: bool) {
        if let Some(port) = self.ports.get_mut(token.0) {
            port.readable |= readable;
            port.blocked &= !writable;
        }
    }

    /// Whether something may be waiting to be received.
    pub(crate) fn readable(&self) -> bool {
        self.ports.iter().any(|port| port.readable)
    }

    /// Hands out what waits, at most `budget` datagrams and what the last batch holds beyond. Returns how many.
    pub(crate) fn receive(&mut self, budget: usize, mut take: impl FnMut(Datagram<'_>)) -> usize {
        let mut taken = 0;
        for port in &mut self.ports {
            while port.readable && taken < budget {
                taken += port.receive(&mut self.buffers, &mut take);
            }
        }
        taken
    }

    /// Sends, or keeps it in order if the socket is full.
    pub(crate) fn send(&mut self, transmit: &Transmit, contents: &[u8]) -> Sent {
        let run = Run::new(transmit, contents);
        let v4 = transmit.destination.is_ipv4();
        let Some(port) = self.ports.iter_mut().find(|port| port.local.is_ipv4() == v4) else {
            return Sent { refused: run.datagrams(), ..Sent::default() };
        };
        if port.pending.is_empty() { port.send(run, self.train) } else { port.keep(run) }
    }

    /// Sends what was kept, as far as the sockets take it, and asks to be woken for the rest. Call once per turn.
    pub(crate) fn flush(&mut self, registry: &Registry) -> io::Result<Sent> {
        let mut total = Sent::default();
        for (index, port) in self.ports.iter_mut().enumerate() {
            port.flush_pending(self.train, &mut total);
            let waiting = !port.pending.is_empty();
            if waiting != port.watching_writable {
                let interest =
                    if waiting { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
                registry.reregister(&mut SourceFd(&port.socket.as_raw_fd()), Token(index), interest)?;
                port.watching_writable = waiting;
            }
        }
        Ok(total)
    }

    /// Datagrams kept until a socket is writable.
    pub(crate) fn pending(&self) -> usize {
        self.ports.iter().map(|port| port.pending_datagrams).sum()
    }
}

/// One socket.
struct Port {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    readable: bool,
    /// The last send would have blocked, and the poll has not said writable since.
    blocked: bool,
    watching_writable: bool,
    /// False once the kernel refused segmentation for runs whose single datagrams it took.
    segmentation: bool,
    pending: VecDeque<Kept>,
    pending_datagrams: usize,
}

impl Port {
    fn bind(address: SocketAddr, settings: UdpSettings) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            // IPv4 has its own socket, so that no address is ever seen mapped.
            socket.set_only_v6(true)?;
        }
        size_buffers(&socket, settings);
        socket.bind(&address.into())?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let socket = UdpSocket::from(socket);
        let local = socket.local_addr()?;
        let segmentation = state.max_gso_segments() > 1;
        Ok(Self {
            socket,
            state,
            local,
            readable: true,
            blocked: false,
            watching_writable: false,
            segmentation,
            pending: VecDeque::new(),
            pending_datagrams: 0,
        })
    }

    fn receive(&mut self, buffers: &mut [u8], take: &mut impl FnMut(Datagram<'_>)) -> usize {
        let mut metas = [RecvMeta::default(); RECEIVE_BATCH];
        let mut chunks = buffers.chunks_exact_mut(RECEIVE_BUFFER);
        let mut slices: [IoSliceMut<'_>; RECEIVE_BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        let count = match self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut metas) {
            Ok(count) => count,
            Err(error) => {
                // Anything but "nothing there" is an error queued for an earlier send; reading took it away.
                self.readable = error.kind() != io::ErrorKind::WouldBlock;
                return usize::from(self.readable);
            }
        };
        // Fewer than asked for: the queue was empty at that moment, and what comes later raises a new edge.
        self.readable = count == RECEIVE_BATCH;
        let mut taken = 0;
        for (meta, slice) in metas.iter().zip(slices.iter_mut()).take(count) {
            let filled = slice.get_mut(..meta.len).unwrap_or_default();
            // An empty datagram is handed to nobody but costs budget.
            taken += usize::from(filled.is_empty());
            for data in filled.chunks_mut(meta.stride.max(1)) {
                taken += 1;
                take(Datagram { source: meta.addr, local: meta.dst_ip, data });
            }
        }
        taken
    }

    /// Sends the run in trains; keeps the rest when the socket is full.
    fn send(&mut self, mut run: Run<'_>, train: usize) -> Sent {
        let mut outcome = Sent::default();
        while !run.contents.is_empty() {
            if outcome.pending > 0 {
                outcome += self.keep(run);
                return outcome;
            }
            let (head, rest) = run.split(if self.segmentation { train } else { 1 });
            let datagrams = head.datagrams();
            match self.send_train(&head) {
                Ok(()) => outcome.sent += datagrams,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    outcome += self.keep(run);
                    return outcome;
                }
                Err(error) if datagrams > 1 && may_mean_no_segmentation(&error) => {
                    let singly = self.send(head, 1);
                    // Singly it goes: it was the segmentation. Otherwise the destination is at fault.
                    self.segmentation = singly.sent == 0 && self.segmentation;
                    outcome += singly;
                }
                Err(_) => outcome.refused += datagrams,
            }
            run = rest;
        }
        outcome
    }

    fn send_train(&self, run: &Run<'_>) -> io::Result<()> {
        let transmit = quinn_udp::Transmit {
            destination: run.destination,
            ecn: None,
            contents: run.contents,
            segment_size: (run.segment < run.contents.len()).then_some(run.segment),
            // A socket bound to one address needs no lookup of the address to send from.
            src_ip: run.source.filter(|_| self.local.ip().is_unspecified()),
        };
        self.state.try_send(UdpSockRef::from(&self.socket), &transmit)
    }

    fn keep(&mut self, run: Run<'_>) -> Sent {
        let datagrams = run.datagrams();
        if self.pending_datagrams + datagrams > MAX_PENDING {
            return Sent { refused: datagrams, ..Sent::default() };
        }
        self.pending_datagrams += datagrams;
        self.pending.push_back(Kept {
            destination: run.destination,
            source: run.source,
            segment: run.segment,
            contents: run.contents.into(),
        });
        Sent { pending: datagrams, ..Sent::default() }
    }

    fn flush_pending(&mut self, train: usize, total: &mut Sent) {
        while !self.blocked
            && let Some(kept) = self.pending.pop_front()
        {
            self.pending_datagrams -= kept.run().datagrams();
            let behind = self.pending.len();
            let outcome = self.send(kept.run(), train);
            total.sent += outcome.sent;
            total.refused += outcome.refused;
            // What did not fit was kept at the end; its place is the front.
            self.pending.rotate_left(behind);
        }
    }
}

/// Equal datagrams (the last may be shorter) to one destination.
#[derive(Debug, Clone, Copy)]
struct Run<'a> {
    destination: SocketAddr,
    source: Option<IpAddr>,
    segment: usize,
    contents: &'a [u8],
}

impl<'a> Run<'a> {
    fn new(transmit: &Transmit, contents: &'a [u8]) -> Self {
        let contents = contents.get(..transmit.size).unwrap_or(contents);
        let segment = transmit.segment_size.unwrap_or(contents.len()).max(1);
        Self { destination: transmit.destination, source: transmit.source, segment, contents }
    }

    fn datagrams(&self) -> usize {
        self.contents.len().div_ceil(self.segment)
    }

    /// The first `train` datagrams, fewer if they exceed what one send may carry, and the rest.
    fn split(self, train: usize) -> (Self, Self) {
        let fitting = (MAX_SEND / self.segment).max(1);
        let bytes = (train.min(fitting) * self.segment).min(self.contents.len());
        let (head, rest) = self.contents.split_at(bytes);
        (Self { contents: head, ..self }, Self { contents: rest, ..self })
    }
}

/// A run that waits for the socket to be writable.
struct Kept {
    destination: SocketAddr,
    source: Option<IpAddr>,
    segment: usize,
    contents: Box<[u8]>,
}

impl Kept {
    fn run(&self) -> Run<'_> {
        Run {
            destination: self.destination,
            source: self.source,
            segment: self.segment,
            contents: &self.contents,
        }
    }
}

impl std::ops::AddAssign for Sent {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.pending += other.pending;
        self.refused += other.refused;
    }
}

/// Asks past the system's limit first, which takes a capability, then within it.
fn size_buffers(socket: &Socket, settings: UdpSettings) {
    if setsockopt(socket, sockopt::RcvBufForce, &settings.receive_buffer_bytes).is_err()
        && let Err(error) = socket.set_recv_buffer_size(settings.receive_buffer_bytes)
    {
        tracing::warn!(%error, "cannot size the receive buffer");
    }
    if setsockopt(socket, sockopt::SndBufForce, &settings.send_buffer_bytes).is_err()
        && let Err(error) = socket.set_send_buffer_size(settings.send_buffer_bytes)
    {
        tracing::warn!(%error, "cannot size the send buffer");
    }
}

/// Whether the machine lacks IPv6, either in the kernel or switched off. A wrong address is not that.
fn family_is_absent(address: SocketAddr, error: &io::Error) -> bool {
    use nix::libc::{EADDRNOTAVAIL, EAFNOSUPPORT, EPROTONOSUPPORT};
    let every_machine_has_it = address.ip().is_loopback() || address.ip().is_unspecified();
    match error.raw_os_error() {
        Some(EAFNOSUPPORT | EPROTONOSUPPORT) => true,
        Some(EADDRNOTAVAIL) => address.is_ipv6() && every_machine_has_it,
        _ => false,
    }
}

/// Devices without checksum offload answer EIO, others EINVAL; a wrong destination may be EINVAL as well.
fn may_mean_no_segmentation(error: &io::Error) -> bool {
    use nix::libc::{EINVAL, EIO, EMSGSIZE};
    matches!(error.raw_os_error(), Some(EIO | EINVAL | EMSGSIZE))
}

/// Messages taken with one system call; each may be a train of datagrams.
const RECEIVE_BATCH: usize = 16;
/// The longest train that GRO hands over.
const RECEIVE_BUFFER: usize = 65_536;
/// `UDP_MAX_SEGMENTS` of older kernels.
const MAX_TRAIN: usize = 64;
/// What one send may carry, whatever the IP version.
const MAX_SEND: usize = 65_000;
/// Datagrams kept while a socket is full, per socket: some 10 MB.
const MAX_PENDING: usize = 8192;

#[cfg(test)]
mod tests;
