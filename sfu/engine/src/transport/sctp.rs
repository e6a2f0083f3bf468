//! SCTP over DTLS (RFC 8261) and the data channels in it (RFC 8831), over rtc-sctp.
//!
//! A DTLS server waits for the peer's INIT; a DTLS client sends its own. In every WebRTC stack the DTLS client
//! initiates SCTP.
//!
//! Messages are read as soon as they are complete, until the owner suspends reading of the reliable ones
//! ([`Sctp::hold`]). These then stay in the association, its receive window closes, and the peer waits. When the window
//! opens again, the peer is notified at once (`window.rs`); rtc-sctp alone would wait for the peer's window probe.

mod channel;
mod scan;
mod window;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rtc_sctp::{
    Association, AssociationEvent, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig,
    Event, Payload, PayloadProtocolIdentifier, ServerConfig, TimerConfig, TransportConfig,
    max_payload_size_for_mtu,
};
use rtc_shared::TransportProtocol;
use smallvec::SmallVec;
use thiserror::Error;

pub use self::channel::ChannelId;
use self::channel::{Channel, Control, MAX_LABEL, Reliability, ack_message, open_message};
use self::scan::Account;
use super::dtls::DtlsRole;
use crate::limits::Limits;
use crate::stats::Drop;

/// Reason that a message cannot be sent or a channel cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DataError {
    /// The channel is not open: not yet, no longer, or it never existed.
    #[error("channel is not open")]
    NotOpen,
    /// The message is longer than the local limit or the peer's; with its length in bytes.
    #[error("message of {0} bytes")]
    TooLong(usize),
    /// The peer does not keep up: the send buffer is full.
    #[error("too much waits to be sent")]
    Backlog,
    /// The maximum number of channels is reached.
    #[error("too many channels")]
    TooManyChannels,
    /// The label is too long; with its length in bytes.
    #[error("label of {0} bytes")]
    Label(usize),
}

/// An event of the association or its channels.
#[derive(Debug, PartialEq, Eq)]
pub enum SctpEvent {
    /// A channel is open at both ends.
    Open {
        /// Channel that is open.
        channel: ChannelId,
        /// Label of the channel, which may be empty.
        label: String,
    },
    /// A complete message arrived.
    Message {
        /// Channel on which the message arrived.
        channel: ChannelId,
        /// Whether the message is binary instead of text.
        binary: bool,
        /// Content of the message.
        payload: Bytes,
    },
    /// A channel has closed.
    Closed {
        /// Channel that has closed.
        channel: ChannelId,
    },
}

/// The SCTP association and the data channels of one peer.
pub struct Sctp {
    role: DtlsRole,
    endpoint: Endpoint,
    /// The association. There may be several before one is established.
    associations: SmallVec<[(AssociationHandle, Association); 1]>,
    established: bool,
    inits: u32,
    /// The last INIT and the answer to it. A repeated INIT gets the same answer. rtc-sctp would start another
    /// association, with a tag that the peer does not know if it has received the first answer after all.
    last_init: Option<(Bytes, Vec<Bytes>)>,
    channels: Vec<Channel>,
    next_channel: u32,
    account: Account,
    /// Whether reading of reliable messages is suspended.
    held: bool,
    /// Whether there may be received messages that have not been read.
    unread: bool,
    /// Data chunks that arrived while the receive window was closed and that rtc-sctp may have discarded, as packets of
    /// data chunks only. The peer may always have one chunk in flight (RFC 9260 section 6.1). The peer retransmits it
    /// with exponential backoff, so without this copy the following data could be delayed for up to a minute after the
    /// window opens.
    refused: Vec<Bytes>,
    /// Number of discarded messages that have not been reported yet.
    discarded: u64,
    /// Common header of the last packet that belonged to an association.
    peer_header: Option<[u8; window::HEADER]>,
    max_channels: usize,
    /// Longest message accepted from the peer, in bytes.
    max_message: usize,
    /// Longest message sent, in bytes.
    max_sent: usize,
    /// Longest message that the peer accepts, in bytes.
    peer_max: usize,
    max_buffered: usize,
    out: VecDeque<Bytes>,
    events: VecDeque<SctpEvent>,
}

impl Sctp {
    /// SCTP state without an association. A server waits for the peer's INIT; a client initiates at
    /// [`start`](Self::start).
    pub fn new(role: DtlsRole, limits: &Limits) -> Self {
        let server = ServerConfig::new(transport_config(limits));
        let mut endpoint = EndpointConfig::new();
        endpoint.max_payload_size(max_payload_size_for_mtu(MTU));
        let server = matches!(role, DtlsRole::Server).then(|| Arc::new(server));
        Self {
            role,
            endpoint: Endpoint::new(HERE, TransportProtocol::UDP, Arc::new(endpoint), server),
            associations: SmallVec::new(),
            established: false,
            inits: 0,
            last_init: None,
            channels: Vec::new(),
            next_channel: 0,
            account: Account::new(receive_window(limits)),
            held: false,
            unread: false,
            refused: Vec::new(),
            discarded: 0,
            peer_header: None,
            max_channels: limits.data_streams,
            max_message: limits.data_message_bytes,
            max_sent: limits.stamped_message_bytes(),
            peer_max: usize::MAX,
            max_buffered: limits.data_buffered_bytes,
            out: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Called when DTLS is connected. A client initiates the association.
    pub fn start(&mut self, now: Instant, limits: &Limits) {
        if matches!(self.role, DtlsRole::Client) && self.associations.is_empty() {
            let config = ClientConfig::new(transport_config(limits));
            // This fails only for an invalid address, and `THERE` is valid.
            if let Ok(association) = self.endpoint.connect(now, config, THERE) {
                self.associations.push(association);
            }
            self.progress(now);
        }
    }

    /// Handles an SCTP packet from DTLS. Returns an error if the packet was discarded.
    pub fn handle(&mut self, now: Instant, packet: Bytes) -> Result<(), Drop> {
        self.contain(|sctp| sctp.handle_packet(now, packet)).unwrap_or(Err(Drop::BadData))
    }

    fn handle_packet(&mut self, now: Instant, packet: Bytes) -> Result<(), Drop> {
        let takes_init = matches!(self.role, DtlsRole::Server) && !self.established && self.inits < MAX_INITS;
        self.account.receive(&packet, takes_init).map_err(|_| Drop::BadData)?;
        if let Some((_, answer)) = self.last_init.as_ref().filter(|(init, _)| *init == packet && takes_init) {
            self.out.extend(answer.iter().cloned());
            return Ok(());
        }
        match self.endpoint.handle(now, THERE, None, packet.clone()) {
            Some((handle, DatagramEvent::NewAssociation(association))) if takes_init => {
                self.inits += 1;
                if self.associations.len() >= MAX_HANDSHAKES {
                    self.associations.remove(0);
                }
                self.associations.push((handle, association));
                let before = self.out.len();
                self.progress(now);
                self.last_init = Some((packet, self.out.iter().skip(before).cloned().collect()));
            }
            Some((handle, DatagramEvent::AssociationEvent(event))) => {
                self.peer_header = packet.first_chunk().copied();
                let is_closed = self.held && self.account.is_closed();
                self.dispatch(handle, event)?;
                self.progress(now);
                if is_closed {
                    self.keep_refused(&packet);
                }
            }
            _ => return Err(Drop::BadData),
        }
        if self.account.held() > HELD_FACTOR * self.max_buffered {
            self.abort(now);
            return Err(Drop::BadData);
        }
        Ok(())
    }

    /// Stores the data chunks of a packet that rtc-sctp may have discarded. The packet's acknowledgements are left out:
    /// they have been processed, and would be outdated later.
    fn keep_refused(&mut self, packet: &[u8]) {
        let Some(acknowledged) = self.account.acknowledged() else { return };
        self.refused.retain(|kept| scan::data_after(kept, acknowledged).is_some());
        if let Some(data) = scan::data_after(packet, acknowledged)
            && self.refused.len() < REFUSED
            && !self.refused.contains(&data)
        {
            self.refused.push(data);
        }
    }

    /// Runs code that calls rtc-sctp. An authenticated peer can make slices in rtc-sctp panic; it reads lengths so
    /// loosely that they cannot all be checked beforehand. A panic ends the association and nothing else.
    fn contain<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let result = catch_unwind(AssertUnwindSafe(|| work(&mut *self))).ok();
        if result.is_none() {
            self.unread = false;
            self.refused.clear();
            self.established = true;
            self.associations.clear();
            let closed = self.channels.drain(..).map(|channel| SctpEvent::Closed { channel: channel.id });
            self.events.extend(closed);
        }
        result
    }

    fn dispatch(&mut self, handle: AssociationHandle, event: AssociationEvent) -> Result<(), Drop> {
        let found = self.associations.iter_mut().find(|(known, _)| *known == handle);
        found.map(|(_, association)| association.handle_event(event)).ok_or(Drop::BadData)
    }

    /// Opens a channel in-band (RFC 8832) as soon as the association is established. [`SctpEvent::Open`] reports that
    /// the peer has confirmed it.
    pub fn open(
        &mut self,
        now: Instant,
        label: &str,
        ordered: bool,
        max_retransmits: Option<u16>,
    ) -> Result<ChannelId, DataError> {
        if label.len() > MAX_LABEL {
            return Err(DataError::Label(label.len()));
        }
        if self.channels.len() >= self.max_channels {
            return Err(DataError::TooManyChannels);
        }
        let id = self.new_id();
        let reliability = Reliability::new(ordered, max_retransmits);
        self.channels.push(Channel { id, stream: None, label: label.to_owned(), reliability, open: false });
        if self.established {
            self.open_pending(now);
            self.progress(now);
        }
        Ok(id)
    }

    /// Sets the longest message that the peer accepts, in bytes (RFC 8841 section 6); 0 for no limit.
    pub fn limit_messages(&mut self, bytes: u64) {
        self.peer_max = match bytes {
            0 => usize::MAX,
            bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
        };
    }

    /// Sends a message on an open channel.
    pub fn send(
        &mut self,
        now: Instant,
        channel: ChannelId,
        payload: &Bytes,
        binary: bool,
    ) -> Result<(), DataError> {
        if payload.len() > self.max_sent.min(self.peer_max) {
            return Err(DataError::TooLong(payload.len()));
        }
        let known = self.channels.iter().find(|known| known.id == channel && known.open);
        let (stream, lossy) = known
            .and_then(|known| Some((known.stream?, !known.reliability.is_full())))
            .ok_or(DataError::NotOpen)?;
        // Lossy messages get a smaller buffer: they are of no use when late.
        let most = if lossy { self.max_buffered / LOSSY_SHARE } else { self.max_buffered };
        let (_, association) = self.associations.first_mut().ok_or(DataError::NotOpen)?;
        let waiting = association.stream(stream).ok().and_then(|stream| stream.buffered_amount().ok());
        if waiting.ok_or(DataError::NotOpen)?.saturating_add(payload.len()) > most {
            return Err(DataError::Backlog);
        }
        use PayloadProtocolIdentifier as Kind;
        // SCTP has no empty messages. One ignored byte represents an empty message (RFC 8831 section 6.6).
        let (kind, payload) = match (payload.is_empty(), binary) {
            (false, true) => (Kind::Binary, payload),
            (false, false) => (Kind::String, payload),
            (true, true) => (Kind::BinaryEmpty, &Bytes::from_static(&[0])),
            (true, false) => (Kind::StringEmpty, &Bytes::from_static(&[0])),
        };
        let mut stream = association.stream(stream).map_err(|_| DataError::NotOpen)?;
        stream.write_chunk_with_ppi(now, payload, kind).map_err(|_| DataError::NotOpen)?;
        self.progress(now);
        Ok(())
    }

    /// User data that has not been sent or acknowledged yet, in bytes.
    pub fn buffered(&mut self) -> usize {
        let Some((_, association)) = self.associations.first_mut() else { return 0 };
        let streams = self.channels.iter().filter_map(|channel| channel.stream);
        streams.filter_map(|stream| association.stream(stream).ok()?.buffered_amount().ok()).sum()
    }

    /// Suspends or resumes reading reliable messages. While suspended, the peer has to wait.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Whether [`hold`](Self::hold), or the limit on one read, may have left messages unread.
    pub fn has_unread(&self) -> bool {
        self.unread
    }

    /// Reads further messages, and retries data that was refused while the window was closed.
    pub fn read_on(&mut self, now: Instant) {
        if !self.established {
            self.unread = false;
            return;
        }
        let read = self.contain(|sctp| {
            sctp.progress(now);
            sctp.take_refused(now);
        });
        self.discarded += u64::from(read.is_none());
    }

    /// Number of messages discarded since the last call, because they were malformed, too long, or on no channel.
    pub fn take_discarded(&mut self) -> u64 {
        std::mem::take(&mut self.discarded)
    }

    /// The next SCTP packet to send through DTLS.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<SctpEvent> {
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; `None` if no timer runs.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.associations.iter().filter_map(|(_, association)| association.poll_timeout()).min()
    }

    /// Runs the association timers if one has expired.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.contain(|sctp| {
                for (_, association) in &mut sctp.associations {
                    association.handle_timeout(now);
                }
                sctp.progress(now);
            });
        }
    }

    /// Collects messages, events and outgoing packets from the associations.
    fn progress(&mut self, now: Instant) {
        if !self.established {
            let connected = self.associations.iter_mut().position(|(_, association)| {
                std::iter::from_fn(|| association.poll()).any(|event| matches!(event, Event::Connected))
            });
            if let Some(at) = connected {
                let association = self.associations.remove(at);
                self.associations.clear();
                self.last_init = None;
                self.associations.push(association);
                self.established = true;
                self.open_pending(now);
            }
        }
        if self.established {
            self.read(now);
            self.take_events();
        }
        self.collect(now);
        if self.account.window_opened(self.unread) {
            self.tell_window(now);
        }
    }

    /// Reads available messages of all streams, up to [`READ_BYTES`]. Reliable streams are skipped while reading is
    /// suspended.
    fn read(&mut self, now: Instant) {
        let mut bytes = 0;
        self.unread = false;
        let Some((_, association)) = self.associations.first() else { return };
        for stream in association.stream_ids() {
            if self.held && self.holds(stream) {
                self.unread = true;
                continue;
            }
            while bytes < READ_BYTES {
                let Some((kind, payload)) = self.read_message(stream) else { break };
                bytes += payload.as_ref().map_or(0, Bytes::len) + READ_COST;
                let taken = payload.is_some_and(|payload| self.message(now, stream, kind, payload));
                self.discarded += u64::from(!taken);
            }
            self.unread |= bytes >= READ_BYTES;
        }
    }

    /// Feeds the stored data chunks that were refused while the window was closed to rtc-sctp again.
    fn take_refused(&mut self, now: Instant) {
        if self.held || self.refused.is_empty() {
            return;
        }
        for packet in std::mem::take(&mut self.refused) {
            if let Some((handle, DatagramEvent::AssociationEvent(event))) =
                self.endpoint.handle(now, THERE, None, packet)
            {
                // It fails only for an unknown association, and there is just one.
                let _ = self.dispatch(handle, event);
            }
        }
        self.progress(now);
    }

    /// Whether a stream belongs to a fully reliable channel, which is not read while reading is suspended.
    fn holds(&self, stream: u16) -> bool {
        let channel = self.channels.iter().find(|channel| channel.stream == Some(stream));
        channel.is_some_and(|channel| channel.open && channel.reliability.is_full())
    }

    /// Makes rtc-sctp advertise the receive window. It does so only when a packet arrives, so it is given a chunk that
    /// it has already had, with the flag that requests an immediate acknowledgement.
    fn tell_window(&mut self, now: Instant) {
        let (Some(header), Some(number)) = (self.peer_header, self.account.acknowledged()) else { return };
        let repeated = window::repeated_chunk(header, number);
        if let Some((handle, DatagramEvent::AssociationEvent(event))) =
            self.endpoint.handle(now, THERE, None, repeated)
            && self.dispatch(handle, event).is_ok()
        {
            self.collect(now);
        }
    }

    /// The next message of a stream; without its payload if that is longer than `max_message`.
    fn read_message(&mut self, stream: u16) -> Option<(PayloadProtocolIdentifier, Option<Bytes>)> {
        let (_, association) = self.associations.first_mut()?;
        let message = association.stream(stream).ok()?.read_sctp().ok()??;
        self.account.deliver(message.len(), message.chunks.len());
        let payload = message.to_payload(self.max_message).ok().map(bytes::BytesMut::freeze);
        Some((message.ppi, payload))
    }

    /// Handles a message. Returns false if it was discarded.
    fn message(
        &mut self,
        now: Instant,
        stream: u16,
        kind: PayloadProtocolIdentifier,
        payload: Bytes,
    ) -> bool {
        use PayloadProtocolIdentifier as Kind;
        let known = self.channels.iter_mut().find(|channel| channel.stream == Some(stream));
        let (binary, payload) = match kind {
            Kind::Dcep => return self.control(now, stream, &payload),
            Kind::Binary => (true, payload),
            Kind::String => (false, payload),
            Kind::BinaryEmpty => (true, Bytes::new()),
            Kind::StringEmpty => (false, Bytes::new()),
            _ => return false,
        };
        let Some(channel) = known else { return false };
        // Data on a channel that we opened confirms it: the ACK was overtaken (RFC 8832 section 6).
        if !std::mem::replace(&mut channel.open, true) {
            self.events.push_back(SctpEvent::Open { channel: channel.id, label: channel.label.clone() });
        }
        self.events.push_back(SctpEvent::Message { channel: channel.id, binary, payload });
        true
    }

    fn control(&mut self, now: Instant, stream: u16, message: &[u8]) -> bool {
        let has_room = self.channels.len() < self.max_channels;
        let known = self.channels.iter_mut().find(|channel| channel.stream == Some(stream));
        match (Control::parse(message), known) {
            (Some(Control::Ack), Some(channel)) => {
                if !std::mem::replace(&mut channel.open, true) {
                    self.events
                        .push_back(SctpEvent::Open { channel: channel.id, label: channel.label.clone() });
                }
                true
            }
            (Some(Control::Open { label, reliability }), None) if has_room => {
                let id = self.new_id();
                self.channels.push(Channel {
                    id,
                    stream: Some(stream),
                    label: label.clone(),
                    reliability,
                    open: true,
                });
                self.configure(now, stream, reliability, ack_message());
                self.events.push_back(SctpEvent::Open { channel: id, label });
                true
            }
            _ => false,
        }
    }

    /// Sets the reliability of a stream, and sends the first control message on it.
    fn configure(&mut self, now: Instant, stream: u16, reliability: Reliability, message: Option<Bytes>) {
        let Some((_, association)) = self.associations.first_mut() else { return };
        let Ok(mut stream) = association.stream(stream) else { return };
        let Reliability { ordered, kind, value } = reliability;
        // Both calls fail only on a closed stream, whose closing is reported as an event.
        let _ = stream.set_reliability_params(!ordered, kind, value);
        if let Some(message) = message {
            let _ = stream.write_chunk_with_ppi(now, &message, PayloadProtocolIdentifier::Dcep);
        }
    }

    /// Opens a stream for each local channel that has none. The DTLS client uses even stream numbers, the server odd
    /// ones (RFC 8832 section 6).
    fn open_pending(&mut self, now: Instant) {
        let first = u16::from(matches!(self.role, DtlsRole::Server));
        for at in 0..self.channels.len() {
            let Some(channel) = self.channels.get(at).filter(|channel| channel.stream.is_none()) else {
                continue;
            };
            let (label, reliability) = (channel.label.clone(), channel.reliability);
            let Some((_, association)) = self.associations.first_mut() else { return };
            let stream = (first..MAX_OWN_STREAM)
                .step_by(2)
                .find(|number| association.open_stream(*number, PayloadProtocolIdentifier::Binary).is_ok());
            if let Some(channel) = self.channels.get_mut(at) {
                channel.stream = stream;
            }
            if let Some(stream) = stream {
                self.configure(now, stream, reliability, open_message(&label, reliability));
            }
        }
    }

    fn take_events(&mut self) {
        let Some((_, association)) = self.associations.first_mut() else { return };
        while let Some(event) = association.poll() {
            if let Event::AssociationLost { id, .. } = event
                && let Some(at) = self.channels.iter().position(|channel| channel.stream == Some(id))
            {
                let channel = self.channels.swap_remove(at);
                self.events.push_back(SctpEvent::Closed { channel: channel.id });
            }
        }
        while association.poll_endpoint_event().is_some() {}
        if association.is_closed() {
            let closed = self.channels.drain(..).map(|channel| SctpEvent::Closed { channel: channel.id });
            self.events.extend(closed);
        }
    }

    fn collect(&mut self, now: Instant) {
        for (_, association) in &mut self.associations {
            while let Some(transmit) = association.poll_transmit(now) {
                let Payload::RawEncode(packets) = transmit.message else { continue };
                for packet in packets {
                    self.account.send(&packet);
                    self.out.push_back(packet);
                }
            }
        }
    }

    fn abort(&mut self, now: Instant) {
        for (_, association) in &mut self.associations {
            // It fails only if the association is closed already.
            let _ = association.abort();
        }
        self.progress(now);
    }

    fn new_id(&mut self) -> ChannelId {
        self.next_channel = self.next_channel.wrapping_add(1);
        ChannelId(self.next_channel)
    }
}

fn receive_window(limits: &Limits) -> u32 {
    u32::try_from(limits.data_buffered_bytes).unwrap_or(u32::MAX)
}

fn transport_config(limits: &Limits) -> TransportConfig {
    // SCTP never gives up by itself: ICE detects when the peer is gone. By default rtc-sctp would stop its timer after
    // five retransmissions and stall for ever.
    let timers = TimerConfig {
        max_t1_init_retrans: usize::MAX,
        max_t1_cookie_retrans: usize::MAX,
        max_t2_shutdown_retrans: usize::MAX,
        max_t3_rtx_retrans: usize::MAX,
        max_reconfig_retrans: usize::MAX,
        max_ack_retrans: usize::MAX,
    };
    TransportConfig::default()
        .with_max_receive_buffer_size(receive_window(limits))
        .with_max_message_size(u32::try_from(limits.stamped_message_bytes()).unwrap_or(u32::MAX))
        .with_timer_config(timers)
}

/// Maximum SCTP packet size, in bytes. DTLS adds 37 bytes: 1,197.
const MTU: u32 = 1160;
/// Maximum number of concurrent associations before one is established.
const MAX_HANDSHAKES: usize = 4;
/// Maximum number of associations that a peer may initiate in total.
const MAX_INITS: u32 = 8;
/// Maximum received data held for a peer, each chunk's overhead included, as a multiple of the receive window. It is
/// large because a waiting peer may fill the window with the smallest possible messages.
const HELD_FACTOR: usize = 48;
/// Bytes of messages read at a time, so that reading can be suspended in between.
const READ_BYTES: usize = 64 * 1024;
/// Bytes that each message counts toward [`READ_BYTES`] in addition to its payload.
const READ_COST: usize = 64;
/// Maximum number of stored packets whose data arrived while the window was closed.
const REFUSED: usize = 4;
/// Lossy messages may use the send buffer up to this fraction (one fourth) of the limit for reliable ones.
const LOSSY_SHARE: usize = 4;
/// Stream numbers of locally opened channels are below this.
const MAX_OWN_STREAM: u16 = 1024;
/// rtc-sctp distinguishes peers by address. Here each endpoint has one peer, with a made-up address.
const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);
const THERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5001);

#[cfg(test)]
mod tests;
