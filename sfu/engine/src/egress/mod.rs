//! The sending half of a peer: selects layers, renumbers packets, remembers how they were sent, paces and writes them.

pub mod allocate;
mod asked_in_vain;
pub mod bandwidth;
mod carry_out;
mod decision_log;
pub mod layer_select;
mod link;
mod overload;
pub mod pacer;
mod padding;
mod playout;
pub mod quality;
pub mod redundancy;
pub mod report;
mod reported_losses;
mod resend;
pub mod retransmit_budget;
pub mod rewrite;
mod section_name;
pub mod sent_log;
mod sound;
pub mod track;
pub mod write;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sfu_protocol::{Layer, MediaKind, TrackSid};
use slab::Slab;

use crate::bwe::EstimatorConfig;
use crate::handles::TrackHandle;
use crate::limits::Limits;
use crate::media_packet::MediaPacket;
use crate::packet_memory::PacketMemory;
use crate::rtp::extension::ExtensionMap;
use crate::rtp::rtcp::{self, ReportBlock, SenderInfo};
use crate::stats::{Drop, Stats};
use crate::units::{Bitrate, ExtendedSequence, SenderClock, Ssrc};
use bandwidth::Bandwidth;
use carry_out::Allocated;
use decision_log::DecisionLog;
use layer_select::{Select, Selection};
use link::Link;
use pacer::{Pacer, Queued};
use playout::Playout;
use redundancy::Depths;
use reported_losses::ReportedLosses;
use sent_log::URGENT;
use track::{Beginning, EgressPayload, Reporting, Subscription};

/// Interval between the sender reports of a subscription.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The sending half of a peer.
#[derive(Debug)]
pub struct Egress {
    subscriptions: Slab<Subscription>,
    pacer: Pacer,
    extensions: ExtensionMap,
    /// Number of the next packet in transport-wide feedback.
    transport_sequence: ExtendedSequence,
    losses: ReportedLosses,
    playout: Playout,
    /// Whether the subscriber agreed, in at least one media section so far, to report when each packet arrived.
    reports: bool,
    /// Congestion control; absent until the first subscription for which the subscriber agreed to some kind of report.
    bandwidth: Option<Box<Bandwidth>>,
    /// Inputs of the last allocation; absent before the first.
    allocated: Option<Allocated>,
    /// Time at which an allocation is due even if the estimate does not change.
    allocate_at: Option<Instant>,
    /// Recent decisions, for debugging.
    log: DecisionLog,
    /// Number of subscriptions whose video is currently dropped because too much is queued.
    shedding: usize,
    next_report: Option<Instant>,
    rtt: Option<Duration>,
    /// Whether the lowest layer of each wanted video track is sent even if the link cannot carry it.
    pub never_pause: bool,
    retransmit_per_packet: u8,
}

/// Data about a track that forwarding its packets needs.
#[derive(Debug, Clone, Copy)]
pub struct PacketSource<'a> {
    /// Sender clocks from the publisher's sender reports, by layer.
    pub clocks: &'a [Option<SenderClock>],
    /// Recent packets: of video by layer, of audio by depth of redundancy.
    pub memory: &'a [PacketMemory],
    /// For audio: the packet being forwarded, with the packets before it that redundancy may repeat.
    pub depths: Option<&'a Depths<'a>>,
}

/// Result of offering a packet to one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accepted {
    /// Whether the packet was queued in the pacer.
    pub queued: bool,
    /// Layer of which a key frame has to be requested, if any.
    pub key_frame: Option<Layer>,
}

impl Egress {
    /// An egress without subscriptions.
    pub fn new(limits: &Limits) -> Self {
        Self {
            subscriptions: Slab::new(),
            pacer: Pacer::new(limits.pacer_packets),
            extensions: ExtensionMap::new(),
            transport_sequence: ExtendedSequence::first(0),
            losses: ReportedLosses::default(),
            playout: Playout::default(),
            reports: false,
            bandwidth: None,
            allocated: None,
            allocate_at: None,
            log: DecisionLog::default(),
            shedding: 0,
            next_report: None,
            rtt: None,
            never_pause: false,
            retransmit_per_packet: limits.retransmit_per_packet,
        }
    }

    /// Adds header extensions that this peer accepts in one of its media sections. An identifier means the same in all
    /// sections (RFC 9143 section 9).
    pub fn add_extensions(&mut self, extensions: &ExtensionMap) {
        let before = self.extensions;
        for (id, extension) in extensions.iter() {
            self.extensions.insert(id, extension);
        }
        if self.extensions != before {
            self.subscriptions.iter_mut().for_each(|(_, subscription)| subscription.forget_sent());
            self.pacer.remove_repairs();
        }
    }

    /// Replaces a subscription's payload types after a renegotiation.
    pub fn set_payload_types(&mut self, slot: usize, payload_types: Vec<EgressPayload>) {
        let Some(subscription) = self.subscriptions.get_mut(slot) else { return };
        if !subscription.set_payload_types(payload_types) {
            return;
        }
        self.pacer.remove_repairs();
        let can_carry = |queued: &Queued| subscription.can_carry(&queued.packet);
        if !self.pacer.of(slot).all(can_carry) {
            // Some queued packets cannot be written any more.
            subscription.select.restart();
            self.withdraw(slot);
        }
    }

    /// Adds a subscription that has its media section. Returns its slot.
    pub fn add(&mut self, now: Instant, mut subscription: Subscription) -> usize {
        self.begin_held_back(&mut subscription);
        if subscription.reporting != Reporting::None {
            self.bandwidth.get_or_insert_with(|| Box::new(Bandwidth::new(now, EstimatorConfig::default())));
        }
        if subscription.reporting.is_per_packet() && !std::mem::replace(&mut self.reports, true) {
            // A REMB received so far was about audio alone and says nothing about video.
            self.bandwidth.iter_mut().for_each(|bandwidth| bandwidth.forget_remb());
        }
        self.subscriptions.insert(subscription)
    }

    /// Whether the subscriber agreed, for any current subscription, to report when each packet arrived.
    fn is_reported(&self) -> bool {
        self.subscriptions.iter().any(|(_, subscription)| subscription.reporting.is_per_packet())
    }

    /// Handles the subscriber's own estimate (REMB). It is ignored once per-packet reports were agreed in any section:
    /// browsers send REMB even then, and far too low. Until they receive video, it covers audio alone.
    pub fn on_remb(&mut self, now: Instant, bitrate: Bitrate) {
        let reports = self.reports;
        if let Some(bandwidth) = self.bandwidth.as_mut().filter(|_| !reports) {
            bandwidth.on_remb(now, bitrate);
        }
    }

    /// Congestion control for the link to the subscriber; absent until the subscriber agrees to some kind of report.
    pub fn bandwidth(&mut self) -> Option<&mut Bandwidth> {
        self.bandwidth.as_deref_mut()
    }

    /// Removes a subscription that lost its media section.
    pub fn remove(&mut self, slot: usize) -> Option<Subscription> {
        self.end_shedding(slot);
        self.pacer.remove(slot);
        self.losses.remove(slot);
        self.subscriptions.try_remove(slot)
    }

    /// The subscription in a slot.
    pub fn get(&self, slot: usize) -> Option<&Subscription> {
        self.subscriptions.get(slot)
    }

    /// The subscription in a slot, mutable.
    pub fn get_mut(&mut self, slot: usize) -> Option<&mut Subscription> {
        self.subscriptions.get_mut(slot)
    }

    /// The slot of a track's subscription.
    pub fn slot_of(&self, sid: &TrackSid) -> Option<usize> {
        self.subscriptions.iter().find(|(_, subscription)| subscription.sid == *sid).map(|(slot, _)| slot)
    }

    /// All subscriptions with their slots.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Subscription)> {
        self.subscriptions.iter()
    }

    /// Advances time: a probe may begin. Call it at [`poll_timeout`](Self::poll_timeout) and after reports.
    pub fn poll_bandwidth(&mut self, now: Instant) {
        let Some(bandwidth) = &mut self.bandwidth else { return };
        if let Some(rate) = bandwidth.poll(now) {
            self.log.on_probe(now, rate);
        }
        self.note_estimate(now);
    }

    /// Call after the estimate may have changed or packets may have been reported lost.
    pub fn note_estimate(&mut self, now: Instant) {
        let Some(bandwidth) = self.bandwidth.as_deref_mut() else { return };
        bandwidth.watch_queue(now, !self.pacer.is_empty());
        self.log.on_estimate(bandwidth.last_change());
        self.hold_back(now);
    }

    /// Whether packets are queued or a probe is in progress, so that this peer must be polled as time passes.
    pub fn is_waiting(&self) -> bool {
        !self.pacer.is_empty() || self.bandwidth.as_ref().is_some_and(|bandwidth| bandwidth.is_stirring())
    }

    /// The layer of which a subscription has to request a key frame now, if any.
    pub fn ask_key_frame(&mut self, slot: usize, now: Instant) -> Option<Layer> {
        let subscription = self.subscriptions.get_mut(slot)?;
        let layer = subscription.ask_key_frame(now)?;
        self.log.on_key_frame(now, &subscription.sid, layer, "switch");
        Some(layer)
    }

    /// Starts a subscription with the remembered packets since the last key frame of its layer or a lower one, so that
    /// a late joiner sees video before a key frame request reaches the publisher. Returns false if no key frame is
    /// remembered.
    pub fn begin(&mut self, slot: usize, source: &PacketSource<'_>, now: Instant, stats: &mut Stats) -> bool {
        let target =
            self.subscriptions.get(slot).and_then(|subscription| subscription.select.target_stream());
        let Some(target) = target else { return false };
        let mut lower = (0..=usize::from(target.0)).rev().filter_map(|layer| source.memory.get(layer));
        let Some(first) = lower.find_map(|memory| memory.recent_key_frame(now)) else { return false };
        if let Some(subscription) = self.subscriptions.get_mut(slot) {
            subscription.began.get_or_insert(Beginning { at: now, repeats: 0 });
        }
        self.accept(slot, first, source, stats).queued
    }

    /// Handles a report that the subscriber cannot decode. If the subscription has just begun, the subscriber was not
    /// ready for its first packets and gets them again from memory. Otherwise returns the layer of which a key frame
    /// has to be requested.
    pub fn on_picture_loss(
        &mut self,
        slot: usize,
        source: &PacketSource<'_>,
        now: Instant,
        stats: &mut Stats,
    ) -> Option<Layer> {
        if self.begin_again(slot, source, now, stats) {
            return None;
        }
        let subscription = self.subscriptions.get_mut(slot)?;
        let layer = subscription.on_picture_loss(now)?;
        self.log.on_key_frame(now, &subscription.sid, layer, "lost");
        Some(layer)
    }

    fn begin_again(
        &mut self,
        slot: usize,
        source: &PacketSource<'_>,
        now: Instant,
        stats: &mut Stats,
    ) -> bool {
        let Some(subscription) = self.subscriptions.get_mut(slot) else { return false };
        let Some(stream) = subscription.select.stream() else { return false };
        let Some(memory) = source.memory.get(usize::from(stream.0)) else { return false };
        let first = memory.recent_key_frame(now).filter(|_| subscription.may_begin_again(now));
        let Some(first) = first else { return false };
        // Queued packets of the replay are removed, so that they are sent once only: repeated requests must not make
        // the queue longer.
        let left = subscription.rewrite.begin_again(first);
        subscription.sent.forget_above(left);
        self.pacer.withdraw_unsent(slot, left);
        self.accept_one(slot, first, source, stats);
        for behind in memory.behind(first.sequence) {
            self.accept_one(slot, behind, source, stats);
        }
        true
    }

    /// Prefetch: reads some of the state that [`accept`](Self::accept) uses, so that it is in the cache by then.
    pub fn touch(&self) -> usize {
        self.pacer.len() ^ self.subscriptions.len()
    }

    /// Prefetch: reads some of the state that writing queued packets uses.
    pub fn touch_queue(&self) -> usize {
        let link = self.bandwidth.as_ref().map_or(0, |bandwidth| bandwidth.touch());
        self.pacer.front().map_or(0, |queued| queued.slot) ^ link
    }

    /// Offers a packet of a track to a subscription. It is either queued in the pacer or dropped. If it starts another
    /// encoding, the remembered packets behind it follow: the first packet of a key frame may be the last to arrive.
    pub fn accept(
        &mut self,
        slot: usize,
        packet: &Arc<MediaPacket>,
        source: &PacketSource<'_>,
        stats: &mut Stats,
    ) -> Accepted {
        let (mut accepted, select) = self.accept_one(slot, packet, source, stats);
        let memory = source.memory.get(usize::from(packet.layer.0));
        if let (Select::Switch, Some(memory)) = (select, memory) {
            for behind in memory.behind(packet.sequence) {
                accepted.queued |= self.accept_one(slot, behind, source, stats).0.queued;
            }
        }
        accepted
    }

    fn accept_one(
        &mut self,
        slot: usize,
        packet: &Arc<MediaPacket>,
        source: &PacketSource<'_>,
        stats: &mut Stats,
    ) -> (Accepted, Select) {
        let none = (Accepted::default(), Select::Skip);
        self.give_up_if_late(slot, packet);
        if self.is_shed(slot, packet, stats) {
            if let Some(subscription) = self.subscriptions.get_mut(slot) {
                subscription.rewrite.skip(packet);
            }
            return none;
        }
        let Some(subscription) = self.subscriptions.get_mut(slot) else { return none };
        let Selection { select, marker } = subscription.select.on_packet(packet);
        match select {
            Select::Forward => {}
            Select::Switch => subscription.rewrite.switch(packet, source.clocks),
            Select::Skip => {
                subscription.rewrite.skip(packet);
                let key_frame = subscription.ask_key_frame(packet.arrival);
                if let Some(layer) = key_frame {
                    self.log.on_key_frame(packet.arrival, &subscription.sid, layer, "switch");
                }
                return (Accepted { queued: false, key_frame }, select);
            }
        }
        if packet.payload.is_empty() {
            subscription.rewrite.skip(packet);
            return none;
        }
        if !subscription.can_carry(packet) {
            subscription.rewrite.skip(packet);
            stats.drop(Drop::UnknownPayloadType);
            return none;
        }
        let Some(mut rewritten) = subscription.rewrite.forward(packet) else {
            stats.drop(Drop::TooLate);
            return none;
        };
        rewritten.marker = marker;
        subscription.note_key_frame(packet, &rewritten);
        let packet = match (&subscription.redundancy, source.depths) {
            (Some(redundancy), Some(depths)) => {
                depths.at(redundancy.depth(packet.facts.repeats)).unwrap_or(packet)
            }
            _ => packet,
        };
        subscription.sent.insert(packet, &rewritten);
        subscription.budget.on_media(packet.payload.len());
        let audio = subscription.kind == MediaKind::Audio;
        let twice = subscription.asked_in_vain.take(rewritten.sequence.wire())
            && subscription.repair.is_some()
            && subscription
                .budget
                .take_spare(packet.payload.len(), Link::of(self.bandwidth.as_deref(), packet.arrival));
        self.pacer.push(Queued { slot, packet: Arc::clone(packet), rewritten, attempt: 0 }, audio);
        if twice && self.has_room_for_repairs(audio) {
            // The receiver has spent requests on this packet already, so its next request counts like a third one.
            if let Some(subscription) = self.subscriptions.get_mut(slot) {
                subscription.sent.mark_urgent(rewritten.sequence.wire());
            }
            let again = Queued { slot, packet: Arc::clone(packet), rewritten, attempt: URGENT };
            self.pacer.push(again, audio);
        }
        (Accepted { queued: true, key_frame: None }, select)
    }

    /// The slot of the subscription that uses an SSRC, as its media or its retransmission source.
    pub fn slot_of_ssrc(&self, ssrc: Ssrc) -> Option<usize> {
        self.subscriptions
            .iter()
            .find(|(_, subscription)| subscription.ssrc == ssrc || subscription.repair == Some(ssrc))
            .map(|(slot, _)| slot)
    }

    /// Handles a receiver report block about one of our SSRCs. Returns the smoothed round-trip time if the block yields
    /// one.
    pub fn on_report_block(&mut self, block: &ReportBlock, now: Instant) -> Option<Duration> {
        let slot = self.slot_of_ssrc(block.ssrc)?;
        let subscription = self.subscriptions.get_mut(slot)?;
        if subscription.ssrc == block.ssrc {
            let arrived = subscription.reports.on_block(block);
            if let Some(bandwidth) = self.bandwidth.as_mut().filter(|_| arrived) {
                bandwidth.on_arrived(now);
            }
            if let Some(newest) = subscription.rewrite.newest() {
                subscription.section_name.media_reported(newest);
            }
        } else {
            subscription.section_name.repair_reported();
        }
        if let Some(redundancy) = &mut subscription.redundancy {
            redundancy.on_report(block.fraction_lost);
        }
        let rtt = subscription.reports.round_trip(block, now)?;
        // RFC 6298 smoothing: one late report does not change the timing of retransmissions.
        let smoothed = self.rtt.map_or(rtt, |before| (before * 7 + rtt) / 8);
        self.rtt = Some(smoothed);
        Some(smoothed)
    }

    /// Writes the sender reports that are due to `out`.
    pub fn poll_reports<'a>(
        &mut self,
        now: Instant,
        report_of: impl Fn(TrackHandle, Layer) -> Option<&'a SenderClock>,
        out: &mut Vec<u8>,
    ) {
        if self.subscriptions.is_empty() {
            self.next_report = None;
            return;
        }
        if self.next_report.is_some_and(|at| now < at) {
            return;
        }
        self.next_report = Some(now + REPORT_INTERVAL);
        for (_, subscription) in &mut self.subscriptions {
            if let Some(redundancy) = &mut subscription.redundancy {
                redundancy.tick(subscription.reports.packets());
            }
            let Some(track) = subscription.track else { continue };
            let Some(layer) = subscription.select.stream() else { continue };
            let (Some(source), Some(offset)) =
                (report_of(track, layer), subscription.rewrite.timestamp_offset())
            else {
                continue;
            };
            let report = subscription.reports.report(now, source, offset, subscription.clock_rate);
            let info = SenderInfo {
                ntp: report.ntp.0,
                rtp_timestamp: report.rtp_timestamp,
                packets: report.packets,
                octets: report.octets,
            };
            rtcp::write_sender_report(out, subscription.ssrc, &info, &[]);
        }
    }

    /// Next time at which this egress has to be polled.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.pacer.is_video_next() && !self.pacer.is_empty();
        // Without a subscription that the subscriber reports about, nothing is probed.
        let paced =
            self.subscriptions.iter().any(|(_, subscription)| subscription.reporting != Reporting::None);
        let bandwidth = self.bandwidth.as_ref().filter(|_| paced);
        let bandwidth = bandwidth.and_then(|bandwidth| bandwidth.poll_timeout(waiting));
        [self.next_report, bandwidth, self.allocate_at].into_iter().flatten().min()
    }

    /// Number of packets that wait to be written.
    pub fn queued(&self) -> usize {
        self.pacer.len()
    }
}
