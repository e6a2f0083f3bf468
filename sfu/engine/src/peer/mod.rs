//! One WebRTC connection: a transport with what is published and what is received over it.

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

/// Largest RTCP datagram written, before its protection.
const RTCP_BYTES: usize = 1200;

/// RTCP datagrams that wait at most; a peer without a path collects no more.
const RTCP_QUEUE: usize = 64;

/// One peer.
pub struct Peer {
    /// Whose it is.
    pub participant: ParticipantIndex,
    /// Which of its connections.
    pub target: Target,
    /// Where.
    pub room: RoomIndex,
    /// ICE, DTLS, SRTP, SCTP.
    pub transport: Transport,
    /// What was agreed.
    pub negotiation: Negotiation,
    /// What it publishes.
    pub ingress: Ingress,
    /// What it receives.
    pub egress: Egress,
    /// The local ICE user fragments by which its checks are found: the newest last, and the one before a restart.
    pub ufrags: Vec<String>,
    /// Whether it stands in the shard's list of peers to be flushed.
    pub touched: bool,
    /// Which of its parts may have something to do since it was last flushed.
    pub stirred: Stirred,
    /// The deadline that stands in the shard's timers for it.
    pub scheduled: Option<Instant>,
    /// Whether anything comes from it.
    pub heard: Heard,
    /// Open data channels with their labels.
    channels: Vec<(ChannelId, String)>,
    rtcp: VecDeque<Vec<u8>>,
    #[cfg(feature = "fault-injection")]
    fault: Option<Fault>,
}

/// What of a peer may have something to do. Media alone is what happens a hundred times for each other thing, and
/// must not look at the state of handshakes, data channels and deadlines, which lies in cold memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stirred {
    /// Media waits in the pacer, nothing else has changed.
    Media,
    /// Anything may have changed. Deadlines that have come are served now and looked up again.
    Settled,
    /// Anything may have changed, and deadlines may have come.
    Wholly,
}

/// Where a peer's path is to panic, in tests of panic containment.
#[cfg(feature = "fault-injection")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// When a datagram of it arrives.
    Receive,
    /// When a packet is handed to it.
    Deliver,
    /// When something is written for it.
    Transmit,
    /// When packets that it published were handed out and are remembered.
    Remember,
    /// When it is taken out of its room.
    End,
    /// When a room decides who speaks: nobody's path.
    Speakers,
}

impl Peer {
    /// Puts together a peer that has negotiated nothing.
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

    /// Makes the peer's path panic once, at that place.
    #[cfg(feature = "fault-injection")]
    pub fn inject(&mut self, fault: Fault) {
        self.fault = Some(fault);
    }

    /// Panics if that was asked for.
    #[cfg(feature = "fault-injection")]
    pub fn fail_at(&mut self, place: Fault) {
        if self.fault == Some(place) {
            self.fault = None;
            panic!("injected fault: {place:?}");
        }
    }

    /// Whether the other side has not described itself yet.
    pub fn is_new(&self) -> bool {
        !self.negotiation.has_remote()
    }

    /// When something of it is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let transport = self.transport.poll_timeout();
        if !self.transport.is_connected() {
            return transport;
        }
        [transport, self.ingress.poll_timeout(), self.egress.poll_timeout()].into_iter().flatten().min()
    }

    /// A data channel is open.
    pub fn add_channel(&mut self, channel: ChannelId, label: String) {
        self.channels.push((channel, label));
    }

    /// A data channel is no more.
    pub fn remove_channel(&mut self, channel: ChannelId) {
        self.channels.retain(|(known, _)| *known != channel);
    }

    /// The open channel of that label.
    pub fn channel(&self, label: &str) -> Option<ChannelId> {
        self.channels.iter().find(|(_, known)| known == label).map(|(channel, _)| *channel)
    }

    /// The label of an open channel.
    pub fn label(&self, channel: ChannelId) -> Option<&str> {
        self.channels.iter().find(|(known, _)| *known == channel).map(|(_, label)| label.as_str())
    }

    /// Queues a compound RTCP packet, cut into datagrams between its parts.
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

    /// Writes what is to be sent next: control first, then media in runs.
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

/// Length of the first part of a compound RTCP packet (RFC 3550 section 6.4.1: length in words less one).
fn part_len(compound: &[u8]) -> Option<usize> {
    let length = compound.get(2..4)?;
    Some((usize::from(u16::from_be_bytes([length[0], length[1]])) + 1) * 4)
}
