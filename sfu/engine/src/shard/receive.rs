//! Receive path of a datagram: find its peer, open it in the peer's transport, handle the media, RTCP or data in it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sfu_protocol::{EndReason, Event, Layer, Target};
use smallvec::SmallVec;

use super::demux::Claims;
use super::membership::Ending;
use super::{FabricMessage, Shard, ShardId, track_in, track_in_mut};
use crate::egress::PacketSource;
use crate::egress::bandwidth::Bandwidth;
use crate::handles::{PeerIndex, TrackHandle};
use crate::ingress::Published;
use crate::room::Origin;
use crate::rtp::rtcp::{self, Rtcp, TransportFeedback};
use crate::stats::Drop;
use crate::transport::demux::{Protocol, protocol};
use crate::transport::ice::peek_local_ufrag;
use crate::transport::{Failure, Received, TransportEvent};
use crate::units::{NtpTime, Ssrc};

/// A peer keeps a contested address for this long after each connectivity check from that address: two of the longest
/// check intervals that clients use.
const ADDRESS_HELD: Duration = Duration::from_secs(12);

/// Usual maximum datagram size, in bytes. Copies of longer datagrams go to the heap.
const ONE_DATAGRAM: usize = 1500;

impl Shard {
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        source: SocketAddr,
        local: Option<IpAddr>,
        data: &mut [u8],
    ) {
        // A connectivity check names its peer by ufrag. Any other datagram belongs to the peer that validated its
        // address.
        let peer = if protocol(data) == Some(Protocol::Stun) {
            peek_local_ufrag(data).and_then(|ufrag| self.demux.by_ufrag(ufrag)).ok_or(Drop::UnknownUfrag)
        } else {
            match self.demux.by_address(&source) {
                [] => Err(Drop::UnknownSource),
                [peer] => Ok(*peer),
                _ => return self.receive_of_several(now, source, local, data),
            }
        };
        let received = match peer {
            Ok(peer) => self.contained_peer(peer, |shard| shard.receive(now, peer, source, local, data)),
            Err(reason) => Some(Err(reason)),
        };
        if let Some(Err(reason)) = received {
            self.stats.drop(reason);
        }
    }

    /// Handles a datagram from an address that several peers validated, because it passed from one to another or
    /// because somebody forges it. The packet belongs to the peer whose keys open it. DTLS handshakes begin without
    /// keys, so each peer gets a copy of a DTLS datagram and picks out its own records.
    #[cold]
    fn receive_of_several(&mut self, now: Instant, source: SocketAddr, local: Option<IpAddr>, data: &[u8]) {
        let claims = Claims::from_slice(self.demux.by_address(&source));
        let is_dtls = protocol(data) == Some(Protocol::Dtls);
        let (mut taken, mut refused) = (false, None);
        for peer in claims {
            // A failed attempt to decrypt in place destroys the packet, so each peer gets a copy.
            let mut copy: SmallVec<[u8; ONE_DATAGRAM]> = SmallVec::from_slice(data);
            let received =
                self.contained_peer(peer, |shard| shard.receive(now, peer, source, local, &mut copy));
            match received {
                Some(Err(reason)) => refused = refused.or(Some(reason)),
                Some(Ok(())) | None => taken = true,
            }
            if taken && !is_dtls {
                return self.demux.put_first(&source, peer);
            }
        }
        if let Some(reason) = refused.filter(|_| !taken) {
            self.stats.drop(reason);
        }
    }

    /// Handles a datagram as one peer's. Returns an error if the peer's transport ignored it.
    fn receive(
        &mut self,
        now: Instant,
        index: PeerIndex,
        source: SocketAddr,
        local: Option<IpAddr>,
        data: &mut [u8],
    ) -> Result<(), Drop> {
        let kind = protocol(data);
        if kind != Some(Protocol::Rtp) {
            self.flush_batch();
        }
        let Some(peer) = self.peers.get_mut(index.0) else { return Ok(()) };
        #[cfg(feature = "fault-injection")]
        peer.fail_at(crate::peer::Fault::Receive);
        let size = data.len();
        let mut published = None;
        let mut reports = Vec::new();
        let mut result = Ok(());
        let received = peer.transport.handle_datagram(now, source, local, data, &peer.ingress);
        if !matches!(received, Received::Ignored(_)) {
            peer.heard.on_datagram(now, kind == Some(Protocol::Stun));
        }
        match received {
            Received::Nothing => {
                self.stats.received.other.add(size);
                if peer.transport.is_validated(source) {
                    self.claim_address(now, source, index);
                }
            }
            Received::Ignored(reason) => result = Err(reason),
            Received::Rtp { packet, header, extended } => {
                published = peer.ingress.handle_rtp(now, packet, &header, extended, &mut self.stats);
            }
            Received::Rtcp { packet } => {
                self.stats.received.rtcp.add(size);
                match rtcp::parse(packet) {
                    Ok(parts) => reports = parts,
                    Err(_) => self.stats.drop(Drop::BadRtcp),
                }
            }
        }
        self.touch(index);
        if let Some(published) = published {
            self.publish_packet(now, published);
        }
        for report in reports {
            self.handle_rtcp(now, index, report);
        }
        self.drain_transport(now, index);
        if kind == Some(Protocol::Dtls) {
            self.send_waiting_of(now, index);
        }
        result
    }

    /// Records that a peer validated an address. If too many peers share the address already, the one whose last check
    /// is oldest gives it up if that check is at least [`ADDRESS_HELD`] ago. Otherwise the new peer does not get it.
    fn claim_address(&mut self, now: Instant, source: SocketAddr, index: PeerIndex) {
        if self.demux.add_address(source, index).is_ok() {
            return;
        }
        let checked = |peer: &PeerIndex| self.peers.get(peer.0)?.transport.last_check_from(source);
        let oldest = self.demux.by_address(&source).iter().min_by_key(|peer| checked(peer)).copied();
        let left = oldest
            .filter(|peer| checked(peer).is_none_or(|at| now.saturating_duration_since(at) >= ADDRESS_HELD));
        if let Some(left) = left {
            self.demux.remove_address(source, left);
        }
        if self.demux.add_address(source, index).is_err() {
            self.stats.drop(Drop::AddressInUse);
        }
    }

    fn publish_packet(&mut self, now: Instant, published: Published) {
        if published.came_alive {
            self.flush_batch();
            self.set_layer_active(now, published.handle, published.packet.layer, true);
        }
        for packet in published.recovered {
            self.forward(published.handle, Arc::new(packet));
        }
        self.forward(published.handle, Arc::new(published.packet));
    }

    fn handle_rtcp(&mut self, now: Instant, index: PeerIndex, report: Rtcp) {
        match report {
            Rtcp::SenderReport { ssrc, ntp, rtp_timestamp, reports, .. } => {
                self.on_sender_report(now, index, ssrc, ntp, rtp_timestamp);
                self.on_report_blocks(now, index, &reports);
            }
            Rtcp::ReceiverReport { reports, .. } => self.on_report_blocks(now, index, &reports),
            Rtcp::Nack { media, lost, .. } => {
                self.stats.nacks_received += lost.len() as u64;
                self.on_nack(now, index, media, &lost);
            }
            Rtcp::Pli { media, .. } => self.on_key_frame_request(now, index, media),
            Rtcp::Fir { entries, .. } => {
                for entry in entries {
                    self.on_key_frame_request(now, index, entry.ssrc);
                }
            }
            Rtcp::TransportFeedback(feedback) => {
                self.on_bandwidth(now, index, |bandwidth| bandwidth.on_feedback(now, &feedback));
                self.resend_lost(now, index, &feedback);
            }
            Rtcp::CongestionFeedback(feedback) => {
                self.on_bandwidth(now, index, |bandwidth| bandwidth.on_congestion_feedback(now, &feedback));
            }
            Rtcp::Remb { bitrate, .. } => {
                if let Some(peer) = self.peers.get_mut(index.0) {
                    peer.egress.on_remb(now, bitrate);
                    self.on_estimate(now, index);
                }
            }
            // A BYE needs no handling: the end of a stream is signaled by its media section.
            Rtcp::Malformed(_) => self.stats.drop(Drop::BadRtcp),
            Rtcp::Goodbye { .. } | Rtcp::SourceDescription | Rtcp::Other { .. } => {}
        }
    }

    fn on_bandwidth(&mut self, now: Instant, index: PeerIndex, take: impl FnOnce(&mut Bandwidth)) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        if let Some(bandwidth) = peer.egress.bandwidth() {
            take(bandwidth);
            peer.egress.note_estimate(now);
            self.on_estimate(now, index);
        }
        // Only now may a probe begin: it is for the bandwidth that is still missing after the new allocation.
        if let Some(peer) = self.peers.get_mut(index.0) {
            peer.egress.poll_bandwidth(now);
        }
    }

    fn on_report_blocks(&mut self, now: Instant, index: PeerIndex, blocks: &[rtcp::ReportBlock]) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        for block in blocks {
            if let Some(rtt) = peer.egress.on_report_block(block, now) {
                peer.ingress.set_rtt(rtt);
            }
        }
    }

    fn on_sender_report(&mut self, now: Instant, index: PeerIndex, ssrc: Ssrc, ntp: u64, timestamp: u32) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let Some((handle, layer, report)) = peer.ingress.on_sender_report(now, ssrc, NtpTime(ntp), timestamp)
        else {
            return;
        };
        let Some(track) = track_in_mut(&mut self.rooms, handle) else { return };
        if let Some(place) = track.reports.get_mut(usize::from(layer.0)) {
            *place = Some(report);
        }
        let id = track.facts.id;
        let shards: Vec<u16> = track.routes.iter().map(|route| route.shard).collect();
        for shard in shards {
            self.send_fabric(ShardId(shard), FabricMessage::SenderClock { track: id, layer, report });
        }
    }

    fn on_nack(&mut self, now: Instant, index: PeerIndex, media: Ssrc, lost: &[u16]) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let Some(slot) = peer.egress.slot_of_ssrc(media) else { return };
        let Some(handle) = peer.egress.get(slot).and_then(|subscription| subscription.track) else { return };
        let track = track_in(&self.rooms, handle);
        if let Some(track) = track {
            peer.egress.on_nack(slot, lost, &track.memory, now, &mut self.stats);
        }
    }

    /// Retransmits the packets that transport-wide feedback reports as lost.
    fn resend_lost(&mut self, now: Instant, index: PeerIndex, feedback: &TransportFeedback) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        for lost in peer.egress.lost(feedback) {
            let handle = peer.egress.get(lost.slot).and_then(|subscription| subscription.track);
            let track = handle.and_then(|handle| track_in(&self.rooms, handle));
            if let Some(track) = track {
                peer.egress.on_lost(lost, &track.memory, now, &mut self.stats);
            }
        }
    }

    fn on_key_frame_request(&mut self, now: Instant, index: PeerIndex, media: Ssrc) {
        self.stats.plis_received += 1;
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let Some(slot) = peer.egress.slot_of_ssrc(media) else { return };
        let Some(handle) = peer.egress.get(slot).and_then(|subscription| subscription.track) else { return };
        let track = track_in(&self.rooms, handle);
        let Some(track) = track else { return };
        let source = PacketSource { clocks: &track.reports, memory: &track.memory, depths: None };
        if let Some(layer) = peer.egress.on_picture_loss(slot, &source, now, &mut self.stats) {
            self.ask_key_frame(now, handle, layer);
        }
    }

    /// Passes a subscriber's key frame request to the track's origin: its publisher here, or another shard.
    pub(super) fn ask_key_frame(&mut self, now: Instant, handle: TrackHandle, layer: Layer) {
        let track = track_in(&self.rooms, handle);
        let Some(track) = track else { return };
        let id = track.facts.id;
        match track.origin {
            Origin::Here(publisher) => {
                if let Some(peer) = self.peers.get_mut(publisher.0) {
                    peer.ingress.want_key_frame(now, id, layer);
                    self.touch(publisher);
                }
            }
            Origin::Shard(shard) => {
                self.send_fabric(ShardId(shard), FabricMessage::KeyFrame { track: id, layer });
            }
        }
    }

    /// Handles the pending events of a peer's transport.
    pub(super) fn drain_transport(&mut self, now: Instant, index: PeerIndex) {
        while let Some(peer) = self.peers.get_mut(index.0) {
            let (participant, target) = (peer.participant, peer.target);
            let Some(event) = peer.transport.poll_event(now) else { return };
            let Some(sid) = self.participants.get(participant.0).map(|entry| entry.sid.clone()) else {
                return;
            };
            match event {
                TransportEvent::Connected => {
                    self.events.push_back(Event::TransportConnected { participant: sid, target });
                    if target == Target::Subscriber {
                        self.open_channels(now, index);
                    }
                    self.start_subscriptions(now, index);
                }
                TransportEvent::Data { channel, payload, .. } => {
                    let label = peer.label(channel).map(str::to_owned);
                    self.on_user_data(now, index, label.as_deref().unwrap_or_default(), &payload);
                }
                TransportEvent::DataOpen { channel, label } => {
                    peer.add_channel(channel, label);
                    self.send_waiting_of(now, index);
                }
                TransportEvent::DataDiscarded { messages } => self.stats.drop_many(Drop::BadData, messages),
                TransportEvent::DataClosed { channel } => peer.remove_channel(channel),
                TransportEvent::PathChanged { .. } => {}
                TransportEvent::Closed => {
                    self.doomed.push((participant, Ending::closed()));
                    return;
                }
                TransportEvent::Failed(failure) => {
                    let reason = match failure {
                        Failure::IceTimeout => EndReason::IceTimeout,
                        Failure::ConsentExpired => EndReason::ConsentExpired,
                        Failure::Dtls(_) | Failure::DtlsTimeout | Failure::FingerprintMismatch => {
                            EndReason::DtlsFailed
                        }
                    };
                    self.doomed.push((participant, Ending::failure(reason)));
                    return;
                }
            }
        }
    }
}
