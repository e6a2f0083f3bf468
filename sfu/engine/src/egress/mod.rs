//! What one peer receives: select, rewrite, remember, pace, protect.

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

/// Time between sender reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The sending half of a peer.
#[derive(Debug)]
pub struct Egress {
    subscriptions: Slab<Subscription>,
    pacer: Pacer,
    extensions: ExtensionMap,
    /// The number of the next packet in transport-wide feedback.
    transport_sequence: ExtendedSequence,
    losses: ReportedLosses,
    playout: Playout,
    /// The subscriber has agreed to say of each packet when it arrived, in one section or another.
    reports: bool,
    /// Once something is sent about which the subscriber reports.
    bandwidth: Option<Box<Bandwidth>>,
    /// What was last decided by.
    allocated: Option<Allocated>,
    /// When a step up becomes possible that was not.
    allocate_at: Option<Instant>,
    /// What was decided lately.
    log: DecisionLog,
    /// Subscriptions whose video is left out because too much waits.
    shedding: usize,
    next_report: Option<Instant>,
    rtt: Option<Duration>,
    /// The lowest layer of each picture that is wanted is sent whatever the link carries.
    pub never_pause: bool,
    retransmit_per_packet: u8,
}

/// What is known of a track where its packets are handed out.
#[derive(Debug, Clone, Copy)]
pub struct PacketSource<'a> {
    /// The publisher's sender reports, by layer.
    pub clocks: &'a [Option<SenderClock>],
    /// Recent packets, by layer; of sound, by depth of redundancy.
    pub memory: &'a [PacketMemory],
    /// Of sound: the packet that is handed out, with what came before it.
    pub depths: Option<&'a Depths<'a>>,
}

/// What became of a packet for one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accepted {
    /// It waits in the pacer.
    pub queued: bool,
    /// A key frame of this layer is needed.
    pub key_frame: Option<Layer>,
}

impl Egress {
    /// Nothing subscribed yet.
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

    /// Header extensions that this peer takes in one of its sections. An identifier means the same in all of
    /// them (RFC 9143 section 9).
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

    /// A subscription's payload types, as negotiated anew.
    pub fn set_payload_types(&mut self, slot: usize, payload_types: Vec<EgressPayload>) {
        let Some(subscription) = self.subscriptions.get_mut(slot) else { return };
        if !subscription.set_payload_types(payload_types) {
            return;
        }
        self.pacer.remove_repairs();
        let can_carry = |queued: &Queued| subscription.can_carry(&queued.packet);
        if !self.pacer.of(slot).all(can_carry) {
            // It cannot be written any more.
            subscription.select.restart();
            self.withdraw(slot);
        }
    }

    /// A subscription has its media section. Returns its place.
    pub fn add(&mut self, now: Instant, mut subscription: Subscription) -> usize {
        self.begin_held_back(&mut subscription);
        if subscription.reporting != Reporting::None {
            self.bandwidth.get_or_insert_with(|| Box::new(Bandwidth::new(now, EstimatorConfig::default())));
        }
        if subscription.reporting.is_per_packet() && !std::mem::replace(&mut self.reports, true) {
            // What it said of sound alone does not count for pictures.
            self.bandwidth.iter_mut().for_each(|bandwidth| bandwidth.forget_remb());
        }
        self.subscriptions.insert(subscription)
    }

    /// Whether the subscriber agreed to report what arrives.
    fn is_reported(&self) -> bool {
        self.subscriptions.iter().any(|(_, subscription)| subscription.reporting.is_per_packet())
    }

    /// The subscriber says what it takes. Browsers say so, and far too little, even where they report what arrives: it
    /// counts only where nothing better was ever agreed: for as long as no picture is received, it is about sound.
    pub fn on_remb(&mut self, now: Instant, bitrate: Bitrate) {
        let reports = self.reports;
        if let Some(bandwidth) = self.bandwidth.as_mut().filter(|_| !reports) {
            bandwidth.on_remb(now, bitrate);
        }
    }

    /// The way to the subscriber, if that reports about it.
    pub fn bandwidth(&mut self) -> Option<&mut Bandwidth> {
        self.bandwidth.as_deref_mut()
    }

    /// A subscription has lost its media section.
    pub fn remove(&mut self, slot: usize) -> Option<Subscription> {
        self.end_shedding(slot);
        self.pacer.remove(slot);
        self.losses.remove(slot);
        self.subscriptions.try_remove(slot)
    }

    /// One subscription.
    pub fn get(&self, slot: usize) -> Option<&Subscription> {
        self.subscriptions.get(slot)
    }

    /// One subscription, to be changed.
    pub fn get_mut(&mut self, slot: usize) -> Option<&mut Subscription> {
        self.subscriptions.get_mut(slot)
    }

    /// The place of a track's subscription.
    pub fn slot_of(&self, sid: &TrackSid) -> Option<usize> {
        self.subscriptions.iter().find(|(_, subscription)| subscription.sid == *sid).map(|(slot, _)| slot)
    }

    /// All subscriptions with their places.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Subscription)> {
        self.subscriptions.iter()
    }

    /// Lets time pass: a burst may begin. Call it at [`poll_timeout`](Self::poll_timeout) and after reports.
    pub fn poll_bandwidth(&mut self, now: Instant) {
        let Some(bandwidth) = &mut self.bandwidth else { return };
        if let Some(rate) = bandwidth.poll(now) {
            self.log.on_probe(now, rate);
        }
        self.note_estimate(now);
    }

    /// The estimate may be another, and packets may have been lost.
    pub fn note_estimate(&mut self, now: Instant) {
        let Some(bandwidth) = self.bandwidth.as_deref_mut() else { return };
        bandwidth.watch_queue(now, !self.pacer.is_empty());
        self.log.on_estimate(bandwidth.last_change());
        self.hold_back(now);
    }

    /// Whether something waits that only time lets go.
    pub fn is_waiting(&self) -> bool {
        !self.pacer.is_empty() || self.bandwidth.as_ref().is_some_and(|bandwidth| bandwidth.is_stirring())
    }

    /// The layer whose key frame a subscription has to ask for now.
    pub fn ask_key_frame(&mut self, slot: usize, now: Instant) -> Option<Layer> {
        let subscription = self.subscriptions.get_mut(slot)?;
        let layer = subscription.ask_key_frame(now)?;
        self.log.on_key_frame(now, &subscription.sid, layer, "switch");
        Some(layer)
    }

    /// Begins a subscription with what is remembered since the last key frame of its layer or one below, so that
    /// a late joiner sees a picture before the publisher has even heard of it. False if nothing fits.
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

    /// The subscriber cannot decode. If it has only just begun it was not ready for its first packets, and gets
    /// them again from memory; otherwise returns the layer whose key frame it needs.
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
        // What waits of it goes out once, not twice: a storm of requests must not make the queue longer.
        let left = subscription.rewrite.begin_again(first);
        subscription.sent.forget_above(left);
        self.pacer.withdraw_unsent(slot, left);
        self.accept_one(slot, first, source, stats);
        for behind in memory.behind(first.sequence) {
            self.accept_one(slot, behind, source, stats);
        }
        true
    }

    /// Reads a little of everything that [`accept`](Self::accept) looks at, so that it is in the cache by then.
    pub fn touch(&self) -> usize {
        self.pacer.len() ^ self.subscriptions.len()
    }

    /// The same of what waits to be written.
    pub fn touch_queue(&self) -> usize {
        let link = self.bandwidth.as_ref().map_or(0, |bandwidth| bandwidth.touch());
        self.pacer.front().map_or(0, |queued| queued.slot) ^ link
    }

    /// A packet of a track that a subscription receives. Straight to the pacer, or nowhere. If an encoding
    /// begins with it, what is remembered behind it follows: the first packet of a key frame may be the last
    /// to arrive.
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
            // Its receiver has spent requests on it already; the next one counts like a third.
            if let Some(subscription) = self.subscriptions.get_mut(slot) {
                subscription.sent.mark_urgent(rewritten.sequence.wire());
            }
            let again = Queued { slot, packet: Arc::clone(packet), rewritten, attempt: URGENT };
            self.pacer.push(again, audio);
        }
        (Accepted { queued: true, key_frame: None }, select)
    }

    /// The subscription that a source, or its repair source, belongs to.
    pub fn slot_of_ssrc(&self, ssrc: Ssrc) -> Option<usize> {
        self.subscriptions
            .iter()
            .find(|(_, subscription)| subscription.ssrc == ssrc || subscription.repair == Some(ssrc))
            .map(|(slot, _)| slot)
    }

    /// A receiver report's block about one of our sources.
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
        // RFC 6298 smoothing: one late report does not change the pace of retransmission.
        let smoothed = self.rtt.map_or(rtt, |before| (before * 7 + rtt) / 8);
        self.rtt = Some(smoothed);
        Some(smoothed)
    }

    /// Writes the sender reports that are due.
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

    /// When to poll next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.pacer.is_video_next() && !self.pacer.is_empty();
        // With nothing to send there is nothing to look for.
        let paced =
            self.subscriptions.iter().any(|(_, subscription)| subscription.reporting != Reporting::None);
        let bandwidth = self.bandwidth.as_ref().filter(|_| paced);
        let bandwidth = bandwidth.and_then(|bandwidth| bandwidth.poll_timeout(waiting));
        [self.next_report, bandwidth, self.allocate_at].into_iter().flatten().min()
    }

    /// Whether packets wait to be written.
    pub fn has_queued(&self) -> bool {
        !self.pacer.is_empty()
    }

    /// Packets that wait to be written.
    pub fn queued(&self) -> usize {
        self.pacer.len()
    }
}
