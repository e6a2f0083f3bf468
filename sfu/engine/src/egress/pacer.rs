//! The queue between forwarding and sending, one per peer. Audio leaves before video.
//!
//! It is also the place from which runs are made: packets of equal size to one peer leave in one system call
//! (GSO), and that is where the time goes otherwise.

use std::collections::VecDeque;
use std::sync::Arc;

use super::rewrite::Rewritten;
use crate::media_packet::MediaPacket;
use crate::units::ExtendedSequence;

/// A queue of fewer packets is looked at no further: a frame or two.
const SHORT: usize = 16;

/// One packet for one subscription, waiting to be written.
#[derive(Debug)]
pub struct Queued {
    /// The subscription's place in its egress.
    pub slot: usize,
    /// What is sent; shared with every other subscriber.
    pub packet: Arc<MediaPacket>,
    /// How its header and descriptor read for this subscriber.
    pub rewritten: Rewritten,
    /// How often it was decided to send it again (RFC 4588); 0: it is sent for the first time.
    pub attempt: u8,
}

impl Queued {
    /// Whether it is sent again.
    pub fn is_repair(&self) -> bool {
        self.attempt > 0
    }
}

/// Packets of each kind.
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

/// The queue.
#[derive(Debug)]
pub struct Pacer {
    audio: VecDeque<Queued>,
    video: VecDeque<Queued>,
    /// Payload of what waits of video.
    video_bytes: usize,
    /// How much of each kind is sent again.
    repairs: Waiting,
    limit: usize,
    /// Forgotten since this was last asked.
    forgotten: u64,
}

impl Pacer {
    /// A queue of at most `limit` packets of each kind, for pictures that wait must not cost sound; and of half as many that
    /// are sent again, which must not cost either.
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

    /// Adds a packet at the end of its kind. A packet that has its number must find [room](Self::has_room).
    pub fn push(&mut self, queued: Queued, audio: bool) {
        debug_assert!(queued.is_repair() || self.has_room(audio), "asked before it was numbered");
        *self.repairs.of_mut(audio) += usize::from(queued.is_repair());
        if !audio {
            self.video_bytes += queued.packet.payload.len();
        }
        let queue = if audio { &mut self.audio } else { &mut self.video };
        queue.push_back(queued);
    }

    /// Whether another packet of its kind fits.
    pub fn has_room(&self, audio: bool) -> bool {
        self.media(audio) < self.limit
    }

    /// Whether so little waits that nothing is full.
    #[inline]
    pub fn is_short(&self) -> bool {
        self.audio.len().max(self.video.len()) < SHORT.min(self.limit)
    }

    /// Whether there is room for what is sent again.
    pub fn has_room_for_repairs(&self, audio: bool) -> bool {
        self.repairs.of(audio) < self.limit / 2
    }

    /// Whether there is room for one more frame of video, besides what is left to come of those that have begun.
    pub fn has_room_for_frames(&self) -> bool {
        self.media(false) < self.limit / 4 * 3
    }

    /// Whether most of a video queue that was full has left.
    pub fn has_drained(&self) -> bool {
        self.media(false) < self.limit.div_ceil(8)
    }

    /// What waits to be sent for the first time.
    fn media(&self, audio: bool) -> usize {
        let waiting = if audio { self.audio.len() } else { self.video.len() };
        waiting.saturating_sub(self.repairs.of(audio))
    }

    /// The packet to leave next.
    pub fn front(&self) -> Option<&Queued> {
        self.audio.front().or_else(|| self.video.front())
    }

    /// Whether the packet to leave next is of video.
    pub fn is_video_next(&self) -> bool {
        self.audio.is_empty()
    }

    /// Takes the packet that [`front`](Self::front) showed.
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

    /// Packets waiting.
    pub fn len(&self) -> usize {
        self.audio.len() + self.video.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.audio.is_empty() && self.video.is_empty()
    }

    /// How much video waits, in bytes of payload.
    pub fn video_bytes(&self) -> usize {
        self.video_bytes
    }

    /// Forgets what waits to be sent again. Headers read differently from now on: without a source of its own for
    /// retransmissions, one AES-GCM nonce would see two.
    pub fn remove_repairs(&mut self) {
        self.retain(|queued| !queued.is_repair());
    }

    /// Forgets what waits for a subscription that has ended.
    pub fn remove(&mut self, slot: usize) {
        self.retain(|queued| queued.slot != slot);
    }

    /// Forgets what waits for a subscription and has a higher number than this (`None`: any), and what waits to be sent
    /// again. What came late and has a lower number fills a hole that its receiver knows of: it stays.
    pub fn withdraw(&mut self, slot: usize, left: Option<ExtendedSequence>) {
        let fills = |queued: &Queued| {
            !queued.is_repair() && left.is_some_and(|left| queued.rewritten.sequence < left)
        };
        self.retain(|queued| queued.slot != slot || fills(queued));
    }

    /// Forgets what waits for a subscription and has a higher number than this (`None`: any). What waits to be sent again
    /// and has left before stays: its receiver has asked for it.
    pub fn withdraw_unsent(&mut self, slot: usize, left: Option<ExtendedSequence>) {
        let asked_for = |queued: &Queued| left.is_some_and(|left| queued.rewritten.sequence <= left);
        self.retain(|queued| queued.slot != slot || asked_for(queued));
    }

    /// What waits for a subscription.
    pub fn of(&self, slot: usize) -> impl Iterator<Item = &Queued> {
        self.audio.iter().chain(&self.video).filter(move |queued| queued.slot == slot)
    }

    /// How many packets were forgotten since this was last asked.
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
