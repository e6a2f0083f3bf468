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
}

impl Pacer {
    /// A queue of at most `limit` packets.
    pub fn new(limit: usize) -> Self {
        Self { audio: VecDeque::new(), video: VecDeque::new(), video_bytes: 0, limit }
    }

    /// Adds a packet at the end of its kind. False if the queue is full; the packet is gone then.
    pub fn push(&mut self, queued: Queued, audio: bool) -> bool {
        if self.len() >= self.limit {
            return false;
        }
        if audio {
            self.audio.push_back(queued);
        } else {
            self.video_bytes += queued.packet.payload.len();
            self.video.push_back(queued);
        }
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

    fn retain(&mut self, keep: impl Fn(&Queued) -> bool) {
        self.audio.retain(&keep);
        self.video.retain(&keep);
        self.video_bytes = self.video.iter().map(|queued| queued.packet.payload.len()).sum();
    }
}
