//! SCTP over DTLS (RFC 8261) and the data channels in it (RFC 8831), over rtc-sctp.
//!
//! As DTLS server we wait for the peer's INIT, as client we send ours: every WebRTC stack whose DTLS side is
//! the client initiates.
//!
//! Messages are read as soon as they are whole, until the owner holds the reliable ones: then these stay in the
//! association, its receive window closes, and the peer waits. That the window is open again the peer is told at once
//! ([`window`]); rtc-sctp would leave it to the peer to ask.

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

/// A message or channel that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DataError {
    /// The channel is not open: not yet, no longer, or never was.
    #[error("channel is not open")]
    NotOpen,
    /// The message is longer than the limit.
    #[error("message of {0} bytes")]
    TooLong(usize),
    /// The peer does not keep up: more than the limit waits to be sent.
    #[error("too much waits to be sent")]
    Backlog,
    /// The limit of channels.
    #[error("too many channels")]
    TooManyChannels,
    /// The label is too long.
    #[error("label of {0} bytes")]
    Label(usize),
}

/// Something that the owner has to know.
#[derive(Debug, PartialEq, Eq)]
pub enum SctpEvent {
    /// Both ends know of a channel.
    Open {
        /// Which.
        channel: ChannelId,
        /// Its label, which may be empty.
        label: String,
    },
    /// A whole message.
    Message {
        /// On which channel.
        channel: ChannelId,
        /// As bytes, not as text.
        binary: bool,
        /// What it says.
        payload: Bytes,
    },
    /// A channel is gone.
    Closed {
        /// Which.
        channel: ChannelId,
    },
}

/// Associations and channels of one peer.
pub struct Sctp {
    role: DtlsRole,
    endpoint: Endpoint,
    /// More than one only before one is established.
    associations: SmallVec<[(AssociationHandle, Association); 1]>,
    established: bool,
    inits: u32,
    /// The last INIT and our answer: repeated, it gets the same again. rtc-sctp would begin anew, with a tag
    /// that the peer, having the first answer after all, does not know.
    last_init: Option<(Bytes, Vec<Bytes>)>,
    channels: Vec<Channel>,
    next_channel: u32,
    account: Account,
    /// Reliable messages are not read.
    held: bool,
    /// Messages may be there that have not been read.
    unread: bool,
    /// Data chunks that came while the window was closed, as packets of nothing else, and may not have been taken. The peer
    /// may always have one on its way (RFC 9260 section 6.1), which rtc-sctp discards then; sent again only after a time
    /// that doubles each time, it would hold up what follows for up to a minute after the window is open again.
    refused: Vec<Bytes>,
    /// Messages discarded that have not been told.
    discarded: u64,
    /// The common header of the last packet that was for the association.
    peer_header: Option<[u8; window::HEADER]>,
    max_channels: usize,
    /// Longest message that is taken.
    max_message: usize,
    /// Longest message that is sent.
    max_sent: usize,
    /// Longest message that the peer takes.
    peer_max: usize,
    max_buffered: usize,
    out: VecDeque<Bytes>,
    events: VecDeque<SctpEvent>,
}

impl Sctp {
    /// Nothing is there until DTLS is. A server waits, a client begins at [`start`](Self::start).
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

    /// DTLS is there. A client begins.
    pub fn start(&mut self, now: Instant, limits: &Limits) {
        if matches!(self.role, DtlsRole::Client) && self.associations.is_empty() {
            let config = ClientConfig::new(transport_config(limits));
            // It fails for a bad address only, and this one is good.
            if let Ok(association) = self.endpoint.connect(now, config, THERE) {
                self.associations.push(association);
            }
            self.progress(now);
        }
    }

    /// A packet out of DTLS. An error if it was discarded.
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

    /// Keeps the data chunks of a packet that may not have been taken. Acknowledgements have been: later they would say
    /// what is no longer so.
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

    /// rtc-sctp has slices that a peer with the keys can make panic, and reads lengths so loosely that they
    /// cannot all be checked before. Then the association is over, and nothing else.
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

    /// Opens a channel, in-band, as soon as the association is there. [`SctpEvent::Open`] tells when the peer
    /// knows of it.
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

    /// Notes the longest message that the peer takes, in bytes (RFC 8841 section 6); 0: any.
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
        // What may be lost is of no use late.
        let most = if lossy { self.max_buffered / LOSSY_SHARE } else { self.max_buffered };
        let (_, association) = self.associations.first_mut().ok_or(DataError::NotOpen)?;
        let waiting = association.stream(stream).ok().and_then(|stream| stream.buffered_amount().ok());
        if waiting.ok_or(DataError::NotOpen)?.saturating_add(payload.len()) > most {
            return Err(DataError::Backlog);
        }
        use PayloadProtocolIdentifier as Kind;
        // SCTP has no empty messages: a byte that is not looked at stands for one (RFC 8831 section 6.6).
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

    /// User data that waits to be sent or acknowledged, in bytes.
    pub fn buffered(&mut self) -> usize {
        let Some((_, association)) = self.associations.first_mut() else { return 0 };
        let streams = self.channels.iter().filter_map(|channel| channel.stream);
        streams.filter_map(|stream| association.stream(stream).ok()?.buffered_amount().ok()).sum()
    }

    /// Whether reliable messages stay unread, so that the peer has to wait.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Whether messages may be there that [`hold`](Self::hold) or the share of one turn left unread.
    pub fn has_unread(&self) -> bool {
        self.unread
    }

    /// Reads on.
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

    /// How many messages were discarded since this was asked last: they are malformed, too long, or on no channel.
    pub fn take_discarded(&mut self) -> u64 {
        std::mem::take(&mut self.discarded)
    }

    /// The next SCTP packet, to be sent through DTLS.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<SctpEvent> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.associations.iter().filter_map(|(_, association)| association.poll_timeout()).min()
    }

    /// Time passed.
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

    /// Takes out of the associations what they have.
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

    /// Reads what can be read of all streams, up to the share of one turn, and of those that are held nothing.
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

    /// Takes what came while the window was closed.
    fn take_refused(&mut self, now: Instant) {
        if self.held || self.refused.is_empty() {
            return;
        }
        for packet in std::mem::take(&mut self.refused) {
            if let Some((handle, DatagramEvent::AssociationEvent(event))) =
                self.endpoint.handle(now, THERE, None, packet)
            {
                // The association is there: this is it.
                let _ = self.dispatch(handle, event);
            }
        }
        self.progress(now);
    }

    /// Whether a stream carries what may wait but not be lost.
    fn holds(&self, stream: u16) -> bool {
        let channel = self.channels.iter().find(|channel| channel.stream == Some(stream));
        channel.is_some_and(|channel| channel.open && channel.reliability.is_full())
    }

    /// Makes rtc-sctp say how much room there is, which it does only when something arrives: a chunk that it has had
    /// already, with the request to be answered at once.
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

    /// The next message of a stream, without its bytes if there are too many.
    fn read_message(&mut self, stream: u16) -> Option<(PayloadProtocolIdentifier, Option<Bytes>)> {
        let (_, association) = self.associations.first_mut()?;
        let message = association.stream(stream).ok()?.read_sctp().ok()??;
        self.account.deliver(message.len(), message.chunks.len());
        let payload = message.to_payload(self.max_message).ok().map(bytes::BytesMut::freeze);
        Some((message.ppi, payload))
    }

    /// Takes a message. False if it is not acceptable.
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
        // Data on a channel that we opened is as good as an ACK that was overtaken (RFC 8832 section 6).
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

    /// Sets how a stream sends, and sends the first control message on it.
    fn configure(&mut self, now: Instant, stream: u16, reliability: Reliability, message: Option<Bytes>) {
        let Some((_, association)) = self.associations.first_mut() else { return };
        let Ok(mut stream) = association.stream(stream) else { return };
        let Reliability { ordered, kind, value } = reliability;
        // Both fail on a closed stream only; then its closing is told as an event.
        let _ = stream.set_reliability_params(!ordered, kind, value);
        if let Some(message) = message {
            let _ = stream.write_chunk_with_ppi(now, &message, PayloadProtocolIdentifier::Dcep);
        }
    }

    /// Gives a stream to each channel of ours that has none: even numbers are the DTLS client's, odd ones the
    /// server's (RFC 8832 section 6).
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
            // Nothing is left to be done if it is closed already.
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
    // Giving up is not SCTP's business here: ICE knows when the peer is gone. rtc-sctp would stop its timer
    // after five retransmissions and stall for ever.
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

/// An SCTP packet, which gains 37 bytes from DTLS: 1,197.
const MTU: u32 = 1160;
/// Associations that a peer may begin at a time before one is there.
const MAX_HANDSHAKES: usize = 4;
/// And in all.
const MAX_INITS: u32 = 8;
/// How much more than the window a peer may make us hold, each piece's cost included: a peer that has to wait may fill
/// the window with the smallest messages there are.
const HELD_FACTOR: usize = 48;
/// Messages read in one turn, in bytes, so that who sends can be held in between; and what each counts beside its bytes.
const READ_BYTES: usize = 64 * 1024;
const READ_COST: usize = 64;
/// Packets of which data is kept that came while the window was closed.
const REFUSED: usize = 4;
/// Of what reliable messages may buffer, lossy ones may buffer this part.
const LOSSY_SHARE: usize = 4;
/// Stream numbers of our own are below this.
const MAX_OWN_STREAM: u16 = 1024;
/// rtc-sctp tells its peers apart by address; here there is one.
const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);
const THERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5001);

#[cfg(test)]
mod tests;
