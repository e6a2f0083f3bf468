//! Limits on the resources that one participant can use. Exceeding a limit has a typed error or a counter, and harms
//! nobody else.

use std::time::Duration;

/// All limits of the media engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Maximum length of a client's first offer for a connection, in bytes.
    pub sdp_bytes: usize,
    /// Maximum length of a later offer, and of any answer, in bytes. They describe everything that the client receives;
    /// the first answer may already do so.
    pub later_sdp_bytes: usize,
    /// Maximum number of media sections of one connection. Sections in which the client sends do not count, so that a
    /// client that receives many tracks can still publish.
    pub media_sections: usize,
    /// Maximum number of tracks that one participant publishes.
    pub published_tracks: usize,
    /// Maximum number of announced tracks without a media section, and of media sections without an announcement.
    pub pending_tracks: usize,
    /// Maximum number of SSRCs that one media section describes.
    pub ssrcs: usize,
    /// Maximum number of data channels of one connection.
    pub data_streams: usize,
    /// Maximum length of a user message that a participant sends, in bytes.
    pub data_message_bytes: usize,
    /// Maximum number of bytes that the sender's identity and the recipients may add to a user message.
    pub data_stamp_bytes: usize,
    /// Maximum user data buffered in one SCTP association in each direction, in bytes. A receiver whose backlog exceeds
    /// the same size is behind.
    pub data_buffered_bytes: usize,
    /// Reliable user data in one receiver's backlog, in bytes, above which senders wait for the receiver. If the
    /// receiver takes data too slowly, or its backlog exceeds twice this size, its session is restarted instead.
    pub data_backlog_bytes: usize,
    /// Time without progress after which a receiver with a backlog of reliable user data is restarted.
    pub data_stall: Duration,
    /// Time that a reliable message may wait for a receiver before the receiver's session is restarted.
    pub data_lag: Duration,
    /// Maximum number of media packets queued for one subscriber, for audio and video each.
    pub pacer_packets: usize,
    /// Retransmissions of a stream, in percent of its media bytes, above which lost packets get no additional copies,
    /// unless packets are lost by chance.
    pub retransmit_percent: u32,
    /// Retransmissions of a stream, in percent of its media bytes, above which nothing is retransmitted.
    pub retransmit_hard_percent: u32,
    /// Maximum number of retransmissions of one packet.
    pub retransmit_per_packet: u8,
    /// Maximum time from join to the first authenticated connectivity check.
    pub ice_timeout: Duration,
    /// Maximum time from the first connectivity check to the end of the DTLS handshake.
    pub dtls_timeout: Duration,
    /// Time after the last authenticated connectivity check at which consent expires (RFC 7675 section 5.1).
    pub consent_timeout: Duration,
    /// Minimum time between two key-frame requests for the lowest layer.
    pub keyframe_interval_low: Duration,
    /// Minimum time between two key-frame requests for a higher layer.
    pub keyframe_interval: Duration,
    /// Maximum number of audio tracks of one room that are forwarded at a time, the loudest ones; 0: all.
    pub loudest_tracks: usize,
    /// Maximum number of peers on one shard.
    pub peers: usize,
}

impl Limits {
    /// Maximum length of a user message that is sent to a receiver, in bytes.
    pub fn stamped_message_bytes(&self) -> usize {
        self.data_message_bytes.saturating_add(self.data_stamp_bytes)
    }

    /// Maximum number of media sections in one description: [`media_sections`](Self::media_sections), and twice
    /// [`published_tracks`](Self::published_tracks) for sections in which the client sends or recently sent.
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
