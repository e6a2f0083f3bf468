//! More comes for a subscriber than may leave. What is too much is left out before it is numbered, so that no hole tells
//! the subscriber to ask for it: of sound packets, of video whole frames, and after those everything up to the next key
//! frame, for it could not be decoded. That key frame is asked for once most of what waits has left.

use std::time::Duration;

use sfu_protocol::MediaKind;

use super::Egress;
use super::rewrite::Rewritten;
use crate::media_packet::MediaPacket;
use crate::stats::{Drop, Stats};

/// What waits longer than this for its turn comes too late to look like a call.
const TOO_LONG: Duration = Duration::from_secs(2);

/// What waits leaves in this time: there is room for a key frame.
const SOON: Duration = Duration::from_millis(250);

/// A packet that is sent again and waits for longer than this is of no use. A picture that begins again takes most of it.
const USEFUL: Duration = Duration::from_millis(500);

/// Payload of a packet that fits a datagram with any header.
const MOST_PAYLOAD: usize = 64_000;

/// Whether a subscription's video is left out for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Shedding {
    /// It is sent.
    #[default]
    No,
    /// It is left out until most of the queue has left.
    UntilDrained,
}

impl Egress {
    /// Whether a packet is left out because too much waits, or because it cannot be written for this subscriber. It has no
    /// number then, and the numbers close over it.
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

    /// Whether a packet of video that would be sent is too much.
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
        // A large key frame alone may take that long on a narrow link. What comes behind it does not, once it has left.
        let own = subscription.key_frame.is_some_and(|key_frame| subscription.rewrite.waits(&key_frame));
        !self.pacer.has_room_for_frames() || !own && !self.leaves_within(TOO_LONG)
    }

    /// Whether there is room for a packet that is sent again: it comes soon enough to be of use, and takes nothing from media.
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
        // What layers cost has changed, or this would not be.
        if self.allocated.is_some() {
            self.allocate_at = Some(packet.arrival);
        }
    }

    /// The subscription may go on, or ends.
    pub(super) fn end_shedding(&mut self, slot: usize) {
        let Some(subscription) = self.subscriptions.get_mut(slot) else { return };
        if std::mem::take(&mut subscription.shedding) != Shedding::No {
            self.shedding = self.shedding.saturating_sub(1);
        }
    }

    /// What waits of a subscription is not sent any more, and its numbers go to what comes next: nobody asks for what
    /// never left.
    pub(super) fn withdraw(&mut self, slot: usize) {
        let Some(subscription) = self.subscriptions.get_mut(slot) else { return };
        let left = subscription.rewrite.withdraw();
        subscription.sent.forget_above(left);
        self.pacer.withdraw(slot, left);
    }
}

impl super::track::Subscription {
    /// Whether a packet can be written for this subscriber. Asked before it is numbered.
    pub(super) fn can_carry(&self, packet: &MediaPacket) -> bool {
        packet.payload.len() <= MOST_PAYLOAD && self.payload(packet.codec).is_some()
    }

    /// Notes where a key frame begins.
    pub(super) fn note_key_frame(&mut self, packet: &MediaPacket, rewritten: &Rewritten) {
        if packet.facts.starts_key_frame() && self.kind == MediaKind::Video {
            self.key_frame = Some(*rewritten);
        }
    }
}
