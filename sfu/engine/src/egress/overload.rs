//! Drops packets when more arrives for a subscriber than may leave. They are dropped before they are numbered, so that
//! no hole makes the subscriber request them. Audio is dropped by packets. Video is dropped by whole frames, and then
//! up to the next key frame, since the frames in between could not be decoded. That key frame is requested once most of
//! the queue has left.

use std::time::Duration;

use sfu_protocol::MediaKind;

use super::Egress;
use super::rewrite::Rewritten;
use crate::media_packet::MediaPacket;
use crate::stats::{Drop, Stats};

/// Video that would wait longer than this in the queue is too late for a call.
const TOO_LONG: Duration = Duration::from_secs(2);

/// If the queue leaves within this time, there is room for a key frame.
const SOON: Duration = Duration::from_millis(250);

/// A retransmission that would wait longer than this is useless. A replay of video from memory takes most of this time.
const USEFUL: Duration = Duration::from_millis(500);

/// Payload of a packet that fits into a datagram with any header, in bytes.
const MOST_PAYLOAD: usize = 64_000;

/// Whether a subscription's video is dropped for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Shedding {
    /// The video is sent.
    #[default]
    No,
    /// The video is dropped until most of the queue has left.
    UntilDrained,
}

impl Egress {
    /// Whether a packet is dropped because too much is queued. It gets no number then, and the numbers close over it.
    #[inline]
    pub(super) fn is_shed(&mut self, slot: usize, packet: &MediaPacket, stats: &mut Stats) -> bool {
        let plain = self.pacer.is_short() && self.shedding == 0;
        !plain && self.sheds(slot, packet, stats)
    }

    #[cold]
    fn sheds(&mut self, slot: usize, packet: &MediaPacket, stats: &mut Stats) -> bool {
        let Some(subscription) = self.subscriptions.get(slot) else { return false };
        let (kind, shedding) = (subscription.kind, subscription.shedding);
        if subscription.select.target().is_none() {
            return false;
        }
        if kind == MediaKind::Audio {
            let full = !self.pacer.has_room(true);
            if full {
                stats.drop(Drop::PacerFull);
            }
            return full;
        }
        if shedding == Shedding::UntilDrained {
            if self.pacer.has_drained() && self.leaves_within(SOON) {
                self.end_shedding(slot);
                return false;
            }
        } else if !self.is_too_much(slot, packet) {
            return false;
        } else {
            self.begin_shedding(slot, packet);
        }
        let subscription = self.subscriptions.get(slot);
        if subscription.is_some_and(|each| each.select.target_stream() == Some(packet.layer)) {
            stats.drop(Drop::Congested);
        }
        true
    }

    /// Whether a video packet that would be sent exceeds what may be queued.
    fn is_too_much(&self, slot: usize, packet: &MediaPacket) -> bool {
        let Some(subscription) = self.subscriptions.get(slot) else { return false };
        let select = &subscription.select;
        let begins = packet.facts.starts_key_frame() && select.wants_key_frame().is_some();
        if !begins && select.stream() != Some(packet.layer) {
            return false;
        }
        if !self.pacer.has_room(false) {
            return true;
        }
        if !begins && !subscription.rewrite.begins_frame(packet) {
            return false;
        }
        // A large key frame alone may take that long on a narrow link, so its own wait does not count. Once it has
        // left, the packets behind it have no such excuse.
        let own = subscription.key_frame.is_some_and(|key_frame| subscription.rewrite.waits(&key_frame));
        !self.pacer.has_room_for_frames() || !own && !self.leaves_within(TOO_LONG)
    }

    /// Whether there is room for a retransmission that leaves early enough to be useful. Media keep their own room.
    pub(super) fn has_room_for_repairs(&self, audio: bool) -> bool {
        self.pacer.has_room_for_repairs(audio) && (audio || self.leaves_within(USEFUL))
    }

    fn leaves_within(&self, time: Duration) -> bool {
        let bandwidth = self.bandwidth.as_deref();
        bandwidth.is_none_or(|bandwidth| bandwidth.time_for(self.pacer.video_bytes()) <= time)
    }

    fn begin_shedding(&mut self, slot: usize, packet: &MediaPacket) {
        let waiting = self.pacer.len();
        let Some(subscription) = self.subscriptions.get_mut(slot) else { return };
        subscription.select.restart();
        subscription.shedding = Shedding::UntilDrained;
        self.shedding += 1;
        self.log.on_congested(packet.arrival, &subscription.sid, waiting);
        // The costs of the layers must have changed, or there would be no congestion.
        if self.allocated.is_some() {
            self.allocate_at = Some(packet.arrival);
        }
    }

    /// Ends shedding because the subscription may continue or is removed.
    pub(super) fn end_shedding(&mut self, slot: usize) {
        let Some(subscription) = self.subscriptions.get_mut(slot) else { return };
        if std::mem::take(&mut subscription.shedding) != Shedding::No {
            self.shedding = self.shedding.saturating_sub(1);
        }
    }

    /// Removes queued packets of a subscription and gives their numbers to the next packets: nobody requests packets
    /// that never left.
    pub(super) fn withdraw(&mut self, slot: usize) {
        let Some(subscription) = self.subscriptions.get_mut(slot) else { return };
        let left = subscription.rewrite.withdraw();
        subscription.sent.forget_above(left);
        self.pacer.withdraw(slot, left);
    }
}

impl super::track::Subscription {
    /// Whether a packet can be written for this subscriber. Checked before the packet is numbered.
    pub(super) fn can_carry(&self, packet: &MediaPacket) -> bool {
        packet.payload.len() <= MOST_PAYLOAD && self.payload(packet.codec).is_some()
    }

    /// Records where a key frame begins.
    pub(super) fn note_key_frame(&mut self, packet: &MediaPacket, rewritten: &Rewritten) {
        if packet.facts.starts_key_frame() && self.kind == MediaKind::Video {
            self.key_frame = Some(*rewritten);
        }
    }
}
