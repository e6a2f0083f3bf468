//! UDP sockets of one worker, for IPv4 and IPv6. Datagrams are received in batches with GRO and sent in runs with GSO.
//! This is the only module that uses quinn-udp.

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

/// Settings of a worker's sockets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UdpSettings {
    /// Receive buffer requested from the kernel, in bytes.
    pub receive_buffer_bytes: usize,
    /// Send buffer requested from the kernel, in bytes.
    pub send_buffer_bytes: usize,
    /// Maximum number of datagrams in one GSO send.
    pub send_train: usize,
}

/// Reason why a worker's sockets could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum UdpError {
    /// A socket could not be bound.
    #[error("cannot bind UDP {address}: {source}")]
    Bind {
        /// Address to bind.
        address: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// No address could be bound: neither IPv4 nor IPv6 is both configured and available.
    #[error("no address to bind: neither bind_v4 nor bind_v6 is set and available")]
    NoAddress,
    /// A socket could not be registered with the poll.
    #[error("cannot watch UDP {address}: {source}")]
    Watch {
        /// Local address of the socket.
        address: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// Received datagram.
#[derive(Debug)]
pub(crate) struct Datagram<'a> {
    /// Address of the sender.
    pub source: SocketAddr,
    /// Local address that the datagram was sent to, if the kernel reports it.
    pub local: Option<IpAddr>,
    /// UDP payload.
    pub data: &'a mut [u8],
}

/// Outcome of a send, in datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sent {
    /// Accepted by the kernel.
    pub sent: usize,
    /// Queued until the socket is writable.
    pub pending: usize,
    /// Dropped because the kernel refused them or the queue is full.
    pub refused: usize,
}

pub(crate) struct Udp {
    ports: Vec<Port>,
    buffers: Box<[u8]>,
    train: usize,
}

impl Udp {
    /// Binds a socket per address. An address is skipped if the machine does not support its IP version.
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

    pub(crate) fn local_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.ports.iter().map(|port| port.local)
    }

    /// Registers the sockets with a poll, under the tokens 0, 1, …
    pub(crate) fn register(&mut self, registry: &Registry) -> Result<(), UdpError> {
        for (index, port) in self.ports.iter_mut().enumerate() {
            registry
                .register(&mut SourceFd(&port.socket.as_raw_fd()), Token(index), Interest::READABLE)
                .map_err(|source| UdpError::Watch { address: port.local, source })?;
        }
        Ok(())
    }

    /// Records the readiness that the poll reported for a socket.
    pub(crate) fn note(&mut self, token: Token, readable: bool, writable: bool) {
        if let Some(port) = self.ports.get_mut(token.0) {
            port.readable |= readable;
            port.blocked &= !writable;
        }
    }

    /// Whether a socket may have datagrams to receive.
    pub(crate) fn readable(&self) -> bool {
        self.ports.iter().any(|port| port.readable)
    }

    /// Passes received datagrams to `take`. It stops once `budget` is reached, but passes the last batch completely.
    /// Returns the number of datagrams.
    pub(crate) fn receive(&mut self, budget: usize, mut take: impl FnMut(Datagram<'_>)) -> usize {
        let mut taken = 0;
        for port in &mut self.ports {
            while port.readable && taken < budget {
                taken += port.receive(&mut self.buffers, &mut take);
            }
        }
        taken
    }

    /// Sends a run of datagrams, or queues it in order if the socket is full.
    pub(crate) fn send(&mut self, transmit: &Transmit, contents: &[u8]) -> Sent {
        let run = Run::new(transmit, contents);
        let v4 = transmit.destination.is_ipv4();
        let Some(port) = self.ports.iter_mut().find(|port| port.local.is_ipv4() == v4) else {
            return Sent { refused: run.datagrams(), ..Sent::default() };
        };
        if port.pending.is_empty() { port.send(run, self.train) } else { port.keep(run) }
    }

    /// Sends queued datagrams until the sockets are full, and has the poll report writability while any remain. Must be
    /// called once per iteration of the worker's loop.
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

    /// Number of datagrams queued until a socket is writable.
    pub(crate) fn pending(&self) -> usize {
        self.ports.iter().map(|port| port.pending_datagrams).sum()
    }
}

/// One UDP socket, with the queue of runs that it could not send yet.
struct Port {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    readable: bool,
    /// Whether the last send would have blocked and the poll has not reported the socket as writable since.
    blocked: bool,
    watching_writable: bool,
    /// Whether runs are sent with GSO. False once the kernel refused a run but accepted its datagrams one by one.
    segmentation: bool,
    pending: VecDeque<Kept>,
    pending_datagrams: usize,
}

impl Port {
    fn bind(address: SocketAddr, settings: UdpSettings) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            // IPv4 has its own socket, so that no IPv4-mapped IPv6 address ever appears.
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
                // Any error but `WouldBlock` was queued for an earlier send, and this read has removed it.
                self.readable = error.kind() != io::ErrorKind::WouldBlock;
                return usize::from(self.readable);
            }
        };
        // Fewer messages than requested mean that the queue was empty. Later datagrams raise a new poll event.
        self.readable = count == RECEIVE_BATCH;
        let mut taken = 0;
        for (meta, slice) in metas.iter().zip(slices.iter_mut()).take(count) {
            let filled = slice.get_mut(..meta.len).unwrap_or_default();
            // An empty datagram is not passed on but counts towards the budget.
            taken += usize::from(filled.is_empty());
            for data in filled.chunks_mut(meta.stride.max(1)) {
                taken += 1;
                take(Datagram { source: meta.addr, local: meta.dst_ip, data });
            }
        }
        taken
    }

    /// Sends the run in trains of at most `train` datagrams. Queues the rest when the socket is full.
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
                    // If single datagrams are accepted, GSO was at fault; otherwise the destination is.
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
            // A socket that is bound to a specific address needs no source address.
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
            // The part that was not sent was queued at the end; this moves it back to the front.
            self.pending.rotate_left(behind);
        }
    }
}

/// Datagrams of equal size (the last may be shorter) to one destination.
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

    /// Splits off the first `train` datagrams, or fewer if they exceed [`MAX_SEND`]. Also returns the rest.
    fn split(self, train: usize) -> (Self, Self) {
        let fitting = (MAX_SEND / self.segment).max(1);
        let bytes = (train.min(fitting) * self.segment).min(self.contents.len());
        let (head, rest) = self.contents.split_at(bytes);
        (Self { contents: head, ..self }, Self { contents: rest, ..self })
    }
}

/// Run that is queued until the socket is writable.
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

/// Sets the buffer sizes. It first tries to exceed the system's limit, which needs a capability, then stays within it.
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

/// Whether binding failed because the machine does not support the address's IP version, or has IPv6 switched off. A
/// wrong address does not count.
fn family_is_absent(address: SocketAddr, error: &io::Error) -> bool {
    use nix::libc::{EADDRNOTAVAIL, EAFNOSUPPORT, EPROTONOSUPPORT};
    let every_machine_has_it = address.ip().is_loopback() || address.ip().is_unspecified();
    match error.raw_os_error() {
        Some(EAFNOSUPPORT | EPROTONOSUPPORT) => true,
        Some(EADDRNOTAVAIL) => address.is_ipv6() && every_machine_has_it,
        _ => false,
    }
}

/// Whether an error may mean that GSO is not supported. Devices without checksum offload return EIO, others EINVAL. A
/// wrong destination may return EINVAL as well.
fn may_mean_no_segmentation(error: &io::Error) -> bool {
    use nix::libc::{EINVAL, EIO, EMSGSIZE};
    matches!(error.raw_os_error(), Some(EIO | EINVAL | EMSGSIZE))
}

/// Messages received with one system call. With GRO each may hold several datagrams.
const RECEIVE_BATCH: usize = 16;
/// Maximum size of one GRO message, in bytes.
const RECEIVE_BUFFER: usize = 65_536;
/// Maximum number of datagrams in one GSO send: `UDP_MAX_SEGMENTS` of older kernels.
const MAX_TRAIN: usize = 64;
/// Maximum size of one GSO send, in bytes; valid for both IP versions.
const MAX_SEND: usize = 65_000;
/// Maximum number of datagrams queued per socket while it is full: some 10 MB.
const MAX_PENDING: usize = 8192;

#[cfg(test)]
mod tests;
