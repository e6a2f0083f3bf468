//! Retransmits packets that the subscriber requested or reported as lost.

use std::sync::Arc;
use std::time::Instant;

use sfu_protocol::MediaKind;
use smallvec::SmallVec;

use super::Egress;
use super::link::Link;
use super::pacer::Queued;
use super::reported_losses::Lost;
use super::sent_log::{Retransmit, SentEntry};
use super::track::Subscription;
use crate::bwe::DEFAULT_RTT;
use crate::packet_memory::PacketMemory;
use crate::rtp::rtcp::TransportFeedback;
use crate::stats::{Drop, Stats};
use crate::units::ExtendedSequence;

impl Egress {
    /// Handles a NACK: retransmits the packets that are remembered and within budget.
    pub fn on_nack(
        &mut self,
        slot: usize,
        lost: &[u16],
        memory: &[PacketMemory],
        now: Instant,
        stats: &mut Stats,
    ) {
        let (link, rtt, most) = (
            Link::of(self.bandwidth.as_deref(), now),
            self.rtt.unwrap_or(DEFAULT_RTT),
            self.retransmit_per_packet,
        );
        for wire in lost {
            let Some(subscription) = self.subscriptions.get_mut(slot) else { return };
            match subscription.sent.lookup(*wire, now, rtt, most) {
                Retransmit::Send(entry) => {
                    self.resend(slot, &entry, link, memory, now, stats);
                }
                Retransmit::TooSoon => {}
                Retransmit::TooOften => stats.drop(Drop::RetransmitBudget),
                Retransmit::Gone => {
                    subscription.asked_in_vain.insert(*wire);
                    stats.drop(Drop::RetransmitGone);
                }
            }
        }
    }

    /// Returns the packets of all subscriptions that this report shows to be lost.
    pub fn lost(&mut self, feedback: &TransportFeedback) -> SmallVec<[Lost; 8]> {
        // The highest number that has left is the one before the next number.
        let newest = ExtendedSequence(self.transport_sequence.0.saturating_sub(1));
        self.losses.on_feedback(feedback, newest)
    }

    /// Retransmits a packet that was reported as lost. The subscriber's own request was lost or has yet to come.
    pub fn on_lost(&mut self, lost: Lost, memory: &[PacketMemory], now: Instant, stats: &mut Stats) {
        let link = Link::of(self.bandwidth.as_deref(), now);
        // On a full link a retransmission comes late anyway, and the subscriber may not want the packet any more.
        if link == Link::Full {
            return;
        }
        let Some(subscription) = self.subscriptions.get(lost.slot) else { return };
        // If the packet was sent again since, the fate of that transmission decides.
        if let Some(entry) = subscription.sent.lost(lost.sequence, lost.attempt, self.retransmit_per_packet) {
            self.resend(lost.slot, &entry, link, memory, now, stats);
        }
    }

    fn resend(
        &mut self,
        slot: usize,
        entry: &SentEntry,
        link: Link,
        memory: &[PacketMemory],
        now: Instant,
        stats: &mut Stats,
    ) {
        let Some(subscription) = self.subscriptions.get(slot) else { return };
        let audio = subscription.kind == MediaKind::Audio;
        if !self.has_room_for_repairs(audio) {
            stats.drop(Drop::PacerFull);
            return;
        }
        let Some(subscription) = self.subscriptions.get_mut(slot) else { return };
        let packet = memory.get(usize::from(entry.layer.0)).and_then(|memory| memory.get_low(entry.source));
        let Some(packet) = packet else {
            stats.drop(Drop::RetransmitGone);
            return;
        };
        let wire = entry.rewritten.sequence.wire();
        let mut sent = false;
        for copy in 0..subscription.copies(entry.resent, link) {
            if !self.pacer.has_room_for_repairs(audio) {
                stats.drop(Drop::PacerFull);
                break;
            }
            let bytes = packet.payload.len();
            if copy == 0 && !subscription.budget.take(bytes) {
                stats.drop(Drop::RetransmitBudget);
                break;
            }
            if copy > 0 && !subscription.budget.take_spare(bytes, link) {
                break;
            }
            let attempt = entry.resent.saturating_add(1);
            let queued = Queued { slot, packet: Arc::clone(packet), rewritten: entry.rewritten, attempt };
            self.pacer.push(queued, audio);
            sent = true;
        }
        if sent {
            subscription.sent.mark_resent(wire, now);
        }
        if let Some(redundancy) = subscription.redundancy.as_mut().filter(|_| entry.resent == 0) {
            redundancy.on_asked(wire);
        }
    }
}

impl Subscription {
    /// Number of copies of a packet that was retransmitted `resent` times before. One on a full or policed link.
    /// Otherwise two while at least half of the budget is left: video that waits for a second request is too late to
    /// look smooth. Receivers repeat a request only a few times, so a lost retransmission of video is followed by three
    /// copies, then by five. Audio is too late by then.
    fn copies(&self, resent: u8, link: Link) -> u8 {
        let first = if self.budget.is_plentiful(link) { 2 } else { 1 };
        match (resent, self.repair) {
            _ if matches!(link, Link::Full | Link::Policed) => 1,
            (0, _) | (_, None) => first,
            (1, Some(_)) => 3,
            (_, Some(_)) => 5,
        }
    }
}
