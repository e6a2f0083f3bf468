//! UDP socket of a client. Receives with GRO and sends with GSO.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use crate::error::{Context, LoadError};

/// Non-blocking UDP socket on 127.0.0.1.
pub struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
}

/// Buffers for the datagrams that one system call receives; shared by all sockets of a thread.
pub struct ReceiveBuffers(Box<[u8]>);

impl Default for ReceiveBuffers {
    fn default() -> Self {
        Self(vec![0; BATCH * TRAIN_BYTES].into_boxed_slice())
    }
}

impl Socket {
    /// Binds a free port.
    ///
    /// # Errors
    /// [`LoadError::Io`].
    pub fn bind() -> Result<Self, LoadError> {
        let socket =
            RawSocket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).context("make a socket")?;
        socket.set_recv_buffer_size(SOCKET_BUFFER).context("size a receive buffer")?;
        socket.set_send_buffer_size(SOCKET_BUFFER).context("size a send buffer")?;
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        socket.bind(&any.into()).context("bind a socket")?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket)).context("set up a socket")?;
        let socket = UdpSocket::from(socket);
        let local = socket.local_addr().context("ask a socket's address")?;
        Ok(Self { socket, state, local })
    }

    /// The bound address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// File descriptor, for registration with a poll.
    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Passes every datagram in the socket's queue to `take`, with its source address.
    ///
    /// # Errors
    /// [`LoadError::Io`] for any error except an empty queue.
    pub fn receive(
        &self,
        buffers: &mut ReceiveBuffers,
        mut take: impl FnMut(SocketAddr, &mut [u8]),
    ) -> Result<(), LoadError> {
        loop {
            let mut metas = [RecvMeta::default(); BATCH];
            let mut chunks = buffers.0.chunks_exact_mut(TRAIN_BYTES);
            let mut slices: [IoSliceMut<'_>; BATCH] =
                std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
            let count = match self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut metas) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(source) => return Err(LoadError::Io { what: "receive", source }),
            };
            for (meta, slice) in metas.iter().zip(slices.iter_mut()).take(count) {
                let filled = slice.get_mut(..meta.len).unwrap_or_default();
                for datagram in filled.chunks_mut(meta.stride.max(1)) {
                    take(meta.addr, datagram);
                }
            }
            if count < BATCH {
                return Ok(());
            }
        }
    }

    /// Sends `contents` as datagrams of `segment` bytes each; the last may be shorter. Returns false, and sends
    /// nothing, if the socket's send buffer is full.
    ///
    /// # Errors
    /// [`LoadError::Io`] for any other error.
    pub fn send(&self, destination: SocketAddr, contents: &[u8], segment: usize) -> Result<bool, LoadError> {
        let segment_size = (segment < contents.len()).then_some(segment);
        let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
        match self.state.try_send(UdpSockRef::from(&self.socket), &transmit) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(source) => Err(LoadError::Io { what: "send", source }),
        }
    }
}

/// GRO batches received with one system call.
const BATCH: usize = 4;
/// Longest GRO batch.
const TRAIN_BYTES: usize = 65_536;
/// Size of the kernel's send buffer, and of its receive buffer.
const SOCKET_BUFFER: usize = 1 << 20;
