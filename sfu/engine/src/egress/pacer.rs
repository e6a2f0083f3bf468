//! The queue between forwarding and sending, one per peer. Audio leaves before video.
//!
//! It is also the place from which runs are made: packets of equal size to one peer leave in one system call
//! (GSO), and that is where the time goes otherwise.

use std::collections::VecDeque;
use std::sync::Arc;

use super::rewrite::Rewritten;
use crate::media_packet::MediaPacket;

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

/// The queue.
#[derive(Debug)]
pub struct Pacer {
    audio: VecDeque<Queued>,
    video: VecDeque<Queued>,
    /// Payload of what waits of video.
    video_bytes: usize,
    limit: usize,
    /// Forgotten since this was last asked.
    forgotten: u64,
}

impl Pacer {
    /// A queue of at most `limit` packets of each kind: pictures that wait must not cost sound.
    pub fn new(limit: usize) -> Self {
        Self { audio: VecDeque::new(), video: VecDeque::new(), video_bytes: 0, limit, forgotten: 0 }
    }

    /// Adds a packet at the end of its kind. False if the queue is full; the packet is gone then.
    pub fn push(&mut self, queued: Queued, audio: bool) -> bool {
        let queue = if audio { &mut self.audio } else { &mut self.video };
        if queue.len() >= self.limit {
            return false;
        }
        if !audio {
            self.video_bytes += queued.packet.payload.len();
        }
        queue.push_back(queued);
        true
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
        self.audio.pop_front().or_else(|| {
            let queued = self.video.pop_front()?;
            self.video_bytes = self.video_bytes.saturating_sub(queued.packet.payload.len());
            Some(queued)
        })
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

    /// Forgets what waits for a subscription.
    pub fn remove(&mut self, slot: usize) {
        self.retain(|queued| queued.slot != slot);
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media_packet::test_packet;
    use crate::units::{ExtendedSequence, test_epoch};

    fn queued(slot: usize) -> Queued {
        let rewritten =
            Rewritten { sequence: ExtendedSequence::first(0), timestamp: 0, marker: true, ids: None };
        Queued { slot, packet: Arc::new(test_packet(0, test_epoch())), rewritten, attempt: 0 }
    }

    #[test]
    fn pictures_that_wait_cost_no_sound_and_what_is_forgotten_is_counted() {
        let mut pacer = Pacer::new(3);
        assert!((0..3).all(|_| pacer.push(queued(0), false)));
        assert!(!pacer.push(queued(0), false), "its bound");
        assert!(pacer.push(queued(1), true));
        pacer.remove(0);
        assert_eq!((pacer.len(), pacer.video_bytes(), pacer.take_forgotten()), (1, 0, 3));
        assert_eq!(pacer.take_forgotten(), 0);
    }
}
