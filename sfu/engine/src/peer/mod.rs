//! A peer: one WebRTC connection, with its transport, what it publishes and what it receives.

pub mod quality;
pub mod setup;

use std::collections::VecDeque;
use std::time::Instant;

use sfu_protocol::Target;

use crate::egress::Egress;
use crate::handles::{ParticipantIndex, RoomIndex};
use crate::ingress::Ingress;
use crate::sdp::Negotiation;
use crate::stats::Stats;
use crate::transmit::Transmit;
use crate::transport::Transport;
use crate::transport::sctp::ChannelId;
use quality::Heard;

/// Maximum size of an RTCP datagram in bytes, before encryption.
const RTCP_BYTES: usize = 1200;

/// Maximum number of queued RTCP datagrams. While the peer has no network path, the oldest are dropped.
const RTCP_QUEUE: usize = 64;

/// One WebRTC connection.
pub struct Peer {
    /// Participant that owns the connection.
    pub participant: ParticipantIndex,
    /// Which of the participant's connections this is.
    pub target: Target,
    /// Room of the participant.
    pub room: RoomIndex,
    /// ICE, DTLS, SRTP and SCTP.
    pub transport: Transport,
    /// State of the SDP negotiation.
    pub negotiation: Negotiation,
    /// Tracks that the peer publishes.
    pub ingress: Ingress,
    /// Tracks that the peer receives.
    pub egress: Egress,
    /// Local ICE user fragments by which its connectivity checks are found, newest last. Two after an ICE restart, so
    /// that checks with the old one still arrive.
    pub ufrags: Vec<String>,
    /// Whether the peer is in the shard's list of dirty peers.
    pub touched: bool,
    /// What may have changed since the peer was last flushed.
    pub stirred: Stirred,
    /// Earliest deadline of the peer in the shard's timers.
    pub scheduled: Option<Instant>,
    /// Arrival times, to detect that the client is gone.
    pub heard: Heard,
    /// Open data channels with their labels.
    channels: Vec<(ChannelId, String)>,
    rtcp: VecDeque<Vec<u8>>,
    #[cfg(feature = "fault-injection")]
    fault: Option<Fault>,
}

/// What may have changed in a peer since its last flush. Media is a hundred times as frequent as everything else.
/// Sending media alone must not read the state of handshakes, data channels and deadlines, which is in cold memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stirred {
    /// Only media may be queued in the pacer; nothing else has changed.
    Media,
    /// Anything may have changed. Expired deadlines are already served; the next deadline must be computed.
    Settled,
    /// Anything may have changed, and deadlines may have expired.
    Wholly,
}

/// Point in the processing of a peer at which it panics, in tests of panic containment.
#[cfg(feature = "fault-injection")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// When a datagram arrives from the peer.
    Receive,
    /// When a packet is delivered to the peer's egress.
    Deliver,
    /// When packets to the peer are written.
    Transmit,
    /// When packets that the peer published are stored for retransmission, after they were forwarded.
    Remember,
    /// When the peer is removed from its room.
    End,
    /// When a room determines its speakers. This belongs to no single participant.
    Speakers,
}

impl Peer {
    /// Makes a peer that has not negotiated anything.
    pub fn new(participant: ParticipantIndex, target: Target, room: RoomIndex, parts: setup::Parts) -> Self {
        Self {
            participant,
            target,
            room,
            transport: parts.transport,
            negotiation: parts.negotiation,
            ingress: parts.ingress,
            egress: parts.egress,
            ufrags: vec![parts.ufrag],
            touched: false,
            stirred: Stirred::Wholly,
            scheduled: None,
            heard: Heard::default(),
            channels: Vec::new(),
            rtcp: VecDeque::new(),
            #[cfg(feature = "fault-injection")]
            fault: None,
        }
    }

    /// Makes the peer panic once, at that point.
    #[cfg(feature = "fault-injection")]
    pub fn inject(&mut self, fault: Fault) {
        self.fault = Some(fault);
    }

    /// Panics if `inject` requested it for this point.
    #[cfg(feature = "fault-injection")]
    pub fn fail_at(&mut self, place: Fault) {
        if self.fault == Some(place) {
            self.fault = None;
            panic!("injected fault: {place:?}");
        }
    }

    /// Whether the client has not sent a description yet.
    pub fn is_new(&self) -> bool {
        !self.negotiation.has_remote()
    }

    /// Next deadline of transport, ingress or egress; of the transport alone until it is connected.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let transport = self.transport.poll_timeout();
        if !self.transport.is_connected() {
            return transport;
        }
        [transport, self.ingress.poll_timeout(), self.egress.poll_timeout()].into_iter().flatten().min()
    }

    /// Records an open data channel.
    pub fn add_channel(&mut self, channel: ChannelId, label: String) {
        self.channels.push((channel, label));
    }

    /// Removes a closed data channel.
    pub fn remove_channel(&mut self, channel: ChannelId) {
        self.channels.retain(|(known, _)| *known != channel);
    }

    /// Open data channel with that label.
    pub fn channel(&self, label: &str) -> Option<ChannelId> {
        self.channels.iter().find(|(_, known)| known == label).map(|(channel, _)| *channel)
    }

    /// Label of an open data channel.
    pub fn label(&self, channel: ChannelId) -> Option<&str> {
        self.channels.iter().find(|(known, _)| *known == channel).map(|(_, label)| label.as_str())
    }

    /// Queues a compound RTCP packet, split between its parts into datagrams of at most [`RTCP_BYTES`].
    pub fn queue_rtcp(&mut self, compound: &[u8]) {
        let mut rest = compound;
        let mut datagram = Vec::new();
        while let Some(len) = part_len(rest) {
            let (part, behind) = rest.split_at(len.min(rest.len()));
            if !datagram.is_empty() && datagram.len() + part.len() > RTCP_BYTES {
                self.push_rtcp(std::mem::take(&mut datagram));
            }
            datagram.extend_from_slice(part);
            rest = behind;
        }
        if !datagram.is_empty() {
            self.push_rtcp(datagram);
        }
    }

    fn push_rtcp(&mut self, datagram: Vec<u8>) {
        if self.rtcp.len() >= RTCP_QUEUE {
            self.rtcp.pop_front();
        }
        self.rtcp.push_back(datagram);
    }

    /// Writes the next datagrams to send: control first, then media. Media datagrams of equal size are written in one
    /// run, to be sent with one system call.
    pub fn poll_transmit(&mut self, now: Instant, buffer: &mut [u8], stats: &mut Stats) -> Option<Transmit> {
        #[cfg(feature = "fault-injection")]
        self.fail_at(Fault::Transmit);
        if self.stirred != Stirred::Media
            && let Some(control) = self.poll_control(now, buffer, stats)
        {
            return Some(control);
        }
        if !self.transport.is_connected() {
            return None;
        }
        let (destination, source) = self.transport.destination()?;
        let run = self.egress.poll_run(now, &mut self.transport, buffer, stats)?;
        let segment_size = (run.segments > 1).then_some(run.segment);
        Some(Transmit { destination, source, size: run.size, segment_size })
    }

    fn poll_control(&mut self, now: Instant, buffer: &mut [u8], stats: &mut Stats) -> Option<Transmit> {
        if let Some((size, destination, source)) = self.transport.poll_transmit(now, buffer) {
            stats.sent.other.add(size);
            return Some(Transmit { destination, source, size, segment_size: None });
        }
        if !self.transport.is_connected() {
            return None;
        }
        let (destination, source) = self.transport.destination()?;
        while let Some(datagram) = self.rtcp.pop_front() {
            let Some(space) = buffer.get_mut(..datagram.len()) else { continue };
            space.copy_from_slice(&datagram);
            if let Some(size) = self.transport.protect_rtcp(buffer, datagram.len()) {
                stats.sent.rtcp.add(size);
                return Some(Transmit { destination, source, size, segment_size: None });
            }
        }
        None
    }
}

/// Length in bytes of the first part of a compound RTCP packet. Its header states the length in words, less one (RFC
/// 3550 section 6.4.1).
fn part_len(compound: &[u8]) -> Option<usize> {
    let length = compound.get(2..4)?;
    Some((usize::from(u16::from_be_bytes([length[0], length[1]])) + 1) * 4)
}
