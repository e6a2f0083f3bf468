//! The queue between forwarding and sending, one per peer. Audio leaves before video.
//!
//! Runs are made from this queue: packets of equal size to one peer leave in one system call (GSO). Without runs, most
//! of the time would go into system calls.

use std::collections::VecDeque;
use std::sync::Arc;

use super::rewrite::Rewritten;
use crate::media_packet::MediaPacket;
use crate::units::ExtendedSequence;

/// A queue with fewer packets, a frame or two, is not checked any further.
const SHORT: usize = 16;

/// One packet for one subscription, waiting to be written.
#[derive(Debug)]
pub struct Queued {
    /// Slot of the subscription in its egress.
    pub slot: usize,
    /// The packet, shared with all other subscribers.
    pub packet: Arc<MediaPacket>,
    /// Header and descriptor values for this subscriber.
    pub rewritten: Rewritten,
    /// Number of times that a retransmission of the packet was decided (RFC 4588); 0 if it is sent for the first time.
    pub attempt: u8,
}

impl Queued {
    /// Whether the packet is a retransmission.
    pub fn is_repair(&self) -> bool {
        self.attempt > 0
    }
}

/// Number of packets of each kind.
#[derive(Debug, Clone, Copy, Default)]
struct Waiting {
    audio: usize,
    video: usize,
}

impl Waiting {
    fn of(&self, audio: bool) -> usize {
        if audio { self.audio } else { self.video }
    }

    fn of_mut(&mut self, audio: bool) -> &mut usize {
        if audio { &mut self.audio } else { &mut self.video }
    }
}

/// Send queue of one peer.
#[derive(Debug)]
pub struct Pacer {
    audio: VecDeque<Queued>,
    video: VecDeque<Queued>,
    /// Payload bytes of the queued video.
    video_bytes: usize,
    /// Number of retransmissions among the queued packets.
    repairs: Waiting,
    limit: usize,
    /// Packets removed unsent since the counter was last taken.
    forgotten: u64,
}

impl Pacer {
    /// A queue of at most `limit` packets of each kind, so that queued video does not cost audio, and of half as many
    /// retransmissions, which must cost neither.
    pub fn new(limit: usize) -> Self {
        Self {
            audio: VecDeque::new(),
            video: VecDeque::new(),
            video_bytes: 0,
            repairs: Waiting::default(),
            limit,
            forgotten: 0,
        }
    }

    /// Appends a packet to the queue of its kind. For media, the caller must check [`has_room`](Self::has_room) before
    /// the packet is numbered.
    pub fn push(&mut self, queued: Queued, audio: bool) {
        debug_assert!(queued.is_repair() || self.has_room(audio), "asked before it was numbered");
        *self.repairs.of_mut(audio) += usize::from(queued.is_repair());
        if !audio {
            self.video_bytes += queued.packet.payload.len();
        }
        let queue = if audio { &mut self.audio } else { &mut self.video };
        queue.push_back(queued);
    }

    /// Whether another media packet of this kind fits.
    pub fn has_room(&self, audio: bool) -> bool {
        self.media(audio) < self.limit
    }

    /// Whether so little is queued that no limit is near.
    #[inline]
    pub fn is_short(&self) -> bool {
        self.audio.len().max(self.video.len()) < SHORT.min(self.limit)
    }

    /// Whether another retransmission of this kind fits.
    pub fn has_room_for_repairs(&self, audio: bool) -> bool {
        self.repairs.of(audio) < self.limit / 2
    }

    /// Whether another video frame fits, besides the rest of the frames that have begun.
    pub fn has_room_for_frames(&self) -> bool {
        self.media(false) < self.limit / 4 * 3
    }

    /// Whether most of a full video queue has left.
    pub fn has_drained(&self) -> bool {
        self.media(false) < self.limit.div_ceil(8)
    }

    /// Number of queued packets that are sent for the first time.
    fn media(&self, audio: bool) -> usize {
        let waiting = if audio { self.audio.len() } else { self.video.len() };
        waiting.saturating_sub(self.repairs.of(audio))
    }

    /// The packet that leaves next.
    pub fn front(&self) -> Option<&Queued> {
        self.audio.front().or_else(|| self.video.front())
    }

    /// Whether the packet that leaves next is video, provided that the queue is not empty.
    pub fn is_video_next(&self) -> bool {
        self.audio.is_empty()
    }

    /// Removes the packet that [`front`](Self::front) returned.
    pub fn pop(&mut self) -> Option<Queued> {
        let audio = !self.audio.is_empty();
        let queued = if audio { self.audio.pop_front() } else { self.video.pop_front() }?;
        let repairs = self.repairs.of_mut(audio);
        *repairs = repairs.saturating_sub(usize::from(queued.is_repair()));
        if !audio {
            self.video_bytes = self.video_bytes.saturating_sub(queued.packet.payload.len());
        }
        Some(queued)
    }

    /// Number of queued packets.
    pub fn len(&self) -> usize {
        self.audio.len() + self.video.len()
    }

    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.audio.is_empty() && self.video.is_empty()
    }

    /// Payload bytes of the queued video.
    pub fn video_bytes(&self) -> usize {
        self.video_bytes
    }

    /// Removes queued retransmissions, because headers are written differently from now on: without a separate SSRC for
    /// retransmissions, one AES-GCM nonce would protect two headers.
    pub fn remove_repairs(&mut self) {
        self.retain(|queued| !queued.is_repair());
    }

    /// Removes the packets of a subscription that has ended.
    pub fn remove(&mut self, slot: usize) {
        self.retain(|queued| queued.slot != slot);
    }

    /// Removes a subscription's packets numbered above `left` (`None`: all), and its retransmissions. Late packets with
    /// lower numbers stay: they fill holes that the receiver knows of.
    pub fn withdraw(&mut self, slot: usize, left: Option<ExtendedSequence>) {
        let fills = |queued: &Queued| {
            !queued.is_repair() && left.is_some_and(|left| queued.rewritten.sequence < left)
        };
        self.retain(|queued| queued.slot != slot || fills(queued));
    }

    /// Removes a subscription's packets numbered above `left` (`None`: all). Retransmissions of packets that have left
    /// before stay: the receiver has requested them.
    pub fn withdraw_unsent(&mut self, slot: usize, left: Option<ExtendedSequence>) {
        let asked_for = |queued: &Queued| left.is_some_and(|left| queued.rewritten.sequence <= left);
        self.retain(|queued| queued.slot != slot || asked_for(queued));
    }

    /// Queued packets of a subscription.
    pub fn of(&self, slot: usize) -> impl Iterator<Item = &Queued> {
        self.audio.iter().chain(&self.video).filter(move |queued| queued.slot == slot)
    }

    /// Returns and resets the number of packets removed unsent.
    pub fn take_forgotten(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten)
    }

    fn retain(&mut self, keep: impl Fn(&Queued) -> bool) {
        let before = self.len();
        self.audio.retain(&keep);
        self.video.retain(&keep);
        self.forgotten += before.saturating_sub(self.len()) as u64;
        self.video_bytes = self.video.iter().map(|queued| queued.packet.payload.len()).sum();
        let repairs = |queue: &VecDeque<Queued>| queue.iter().filter(|queued| queued.is_repair()).count();
        self.repairs = Waiting { audio: repairs(&self.audio), video: repairs(&self.video) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media_packet::test_packet;
    use crate::units::test_epoch;

    fn queued(slot: usize) -> Queued {
        let rewritten =
            Rewritten { sequence: ExtendedSequence::first(0), timestamp: 0, marker: true, ids: None };
        Queued { slot, packet: Arc::new(test_packet(0, test_epoch())), rewritten, attempt: 0 }
    }

    #[test]
    fn pictures_that_wait_cost_no_sound_and_what_is_forgotten_is_counted() {
        let mut pacer = Pacer::new(3);
        (0..3).for_each(|_| pacer.push(queued(0), false));
        assert!(!pacer.has_room(false) && pacer.has_room(true), "its bound");
        pacer.push(queued(1), true);
        pacer.remove(0);
        assert_eq!((pacer.len(), pacer.video_bytes(), pacer.take_forgotten()), (1, 0, 3));
        assert_eq!(pacer.take_forgotten(), 0);
    }
}
