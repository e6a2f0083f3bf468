//! Bounds on what one participant can cost. Each excess has a typed error or a counter and harms nobody else.

use std::time::Duration;

/// All bounds of the media plane. Times are of inactivity unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest first offer of a client for a connection, in bytes.
    pub sdp_bytes: usize,
    /// Longest later offer, and longest answer, in bytes. They describe all that the client receives; the first answer may
    /// do so already.
    pub later_sdp_bytes: usize,
    /// Most media sections of one connection, beside those in which its client sends: so that who receives very much can
    /// still publish.
    pub media_sections: usize,
    /// Most tracks one participant publishes.
    pub published_tracks: usize,
    /// Most announced tracks without a media section, and media sections without an announcement.
    pub pending_tracks: usize,
    /// Most SSRCs that one media section describes.
    pub ssrcs: usize,
    /// Most data channels of one participant.
    pub data_streams: usize,
    /// Longest user message taken of a participant, in bytes.
    pub data_message_bytes: usize,
    /// Most that naming its sender and its recipients may add to a user message, in bytes.
    pub data_stamp_bytes: usize,
    /// Most user data buffered in one association in each direction, in bytes. A receiver for which as much waits again
    /// is behind.
    pub data_buffered_bytes: usize,
    /// Most reliable user data waiting for one receiver, in bytes. Senders wait for a receiver that has reached it, if
    /// it is not too slow; if it is, its session is made anew.
    pub data_backlog_bytes: usize,
    /// A receiver of reliable user data that has taken nothing for so long begins anew.
    pub data_stall: Duration,
    /// A receiver for which a reliable message has waited for so long begins anew.
    pub data_lag: Duration,
    /// Most media waiting to be sent to one subscriber, in packets of sound and of video each.
    pub pacer_packets: usize,
    /// Retransmissions of a stream, as a share of its media, in percent: above it a lost packet gets no spare
    /// copies, unless packets are lost by chance.
    pub retransmit_percent: u32,
    /// The same, above which nothing is sent again.
    pub retransmit_hard_percent: u32,
    /// How often one packet is retransmitted.
    pub retransmit_per_packet: u8,
    /// From join to the first authenticated connectivity check.
    pub ice_timeout: Duration,
    /// From the first check to the end of the DTLS handshake.
    pub dtls_timeout: Duration,
    /// Consent expires that long after the last authenticated check (RFC 7675 section 5.1).
    pub consent_timeout: Duration,
    /// Least time between two key-frame requests for the lowest layer.
    pub keyframe_interval_low: Duration,
    /// The same for higher layers.
    pub keyframe_interval: Duration,
    /// Most tracks of sound of one room that are sent at a time: the loudest; 0: all.
    pub loudest_tracks: usize,
    /// Most peers on one shard.
    pub peers: usize,
}

impl Limits {
    /// Longest user message that is sent, in bytes.
    pub fn stamped_message_bytes(&self) -> usize {
        self.data_message_bytes.saturating_add(self.data_stamp_bytes)
    }

    /// Most media sections in one description: what its client sends in, or did so lately, has room besides.
    pub fn described_sections(&self) -> usize {
        self.media_sections.saturating_add(self.published_tracks.saturating_mul(2))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sdp_bytes: 256 * 1024,
            later_sdp_bytes: 4 * 1024 * 1024,
            media_sections: 640,
            published_tracks: 32,
            pending_tracks: 20,
            ssrcs: 32,
            data_streams: 64,
            data_message_bytes: 64 * 1024,
            data_stamp_bytes: 64 * 1024,
            data_buffered_bytes: 256 * 1024,
            data_backlog_bytes: 8 * 1024 * 1024,
            data_stall: Duration::from_secs(20),
            data_lag: Duration::from_secs(180),
            pacer_packets: 2048,
            retransmit_percent: 15,
            retransmit_hard_percent: 50,
            retransmit_per_packet: 5,
            ice_timeout: Duration::from_secs(15),
            dtls_timeout: Duration::from_secs(10),
            consent_timeout: Duration::from_secs(15),
            keyframe_interval_low: Duration::from_millis(500),
            keyframe_interval: Duration::from_secs(1),
            loudest_tracks: 16,
            peers: 20_000,
        }
    }
}
