//! Counters of one shard: plain integers that the shard owns, the worker reads, and a metrics scrape sums up over
//! shards.

use std::time::Duration;

/// Reason for discarding a received packet or message, or one that was to be sent. Every discard has a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Drop {
    /// The datagram came from a source address that no peer has validated.
    UnknownSource,
    /// A peer validated an address that the maximum number of peers already share.
    AddressInUse,
    /// The first byte belongs to no supported protocol (RFC 7983).
    UnknownProtocol,
    /// A STUN message was malformed, or its integrity or fingerprint check failed.
    BadStun,
    /// A STUN message had a user name that belongs to no peer.
    UnknownUfrag,
    /// A DTLS record was ignored: plain text after the handshake, or not decodable.
    BadDtls,
    /// An SRTP or SRTCP packet before the keys were available, received or to be sent.
    NoKeys,
    /// Authentication of an SRTP or SRTCP packet failed.
    BadAuthentication,
    /// A packet was received before, or is too old to know; or a reliable user message was sent before.
    Replayed,
    /// An RTP packet was malformed.
    BadRtp,
    /// An RTCP packet was malformed.
    BadRtcp,
    /// An RTP packet matched no announced stream.
    UnknownStream,
    /// The payload type or codec was not negotiated.
    UnknownPayloadType,
    /// The limit of SSRCs or of published tracks was reached.
    TooManyStreams,
    /// The payload of a packet of a muted track.
    NotForwarded,
    /// A packet was older than packets already sent, or from a layer that is no longer selected.
    TooLate,
    /// A subscriber's pacer queue had no room for an audio packet or a retransmission.
    PacerFull,
    /// A packet of a video frame that was left out, because the subscriber's queue was too long.
    Congested,
    /// A queued packet was no longer needed, because its layer was left or its subscription ended.
    Withdrawn,
    /// Another shard's mailbox was full.
    MailboxFull,
    /// A retransmission exceeded the budget, or the packet was retransmitted too often.
    RetransmitBudget,
    /// A packet was requested again, but is no longer in memory.
    RetransmitGone,
    /// A user message was malformed, too long, or not permitted.
    BadData,
    /// A receiver of user data, or its shard, could not keep up. Lossy messages are dropped one by one. Reliable
    /// messages are dropped only when the receiver's session is restarted.
    DataBacklog,
    /// A receiver of user data had no data channel for it.
    NoChannel,
    /// A retransmission packet held only padding.
    Padding,
    /// A command or fabric message named something that no longer exists.
    StaleMessage,
    /// The operating system rejected a send.
    SendFailed,
}

impl Drop {
    /// All reasons, in the order of their values.
    pub const ALL: [Self; 28] = [
        Self::UnknownSource,
        Self::AddressInUse,
        Self::UnknownProtocol,
        Self::BadStun,
        Self::UnknownUfrag,
        Self::BadDtls,
        Self::NoKeys,
        Self::BadAuthentication,
        Self::Replayed,
        Self::BadRtp,
        Self::BadRtcp,
        Self::UnknownStream,
        Self::UnknownPayloadType,
        Self::TooManyStreams,
        Self::NotForwarded,
        Self::TooLate,
        Self::PacerFull,
        Self::Congested,
        Self::Withdrawn,
        Self::MailboxFull,
        Self::RetransmitBudget,
        Self::RetransmitGone,
        Self::BadData,
        Self::DataBacklog,
        Self::NoChannel,
        Self::Padding,
        Self::StaleMessage,
        Self::SendFailed,
    ];

    /// Value of the metric's `reason` label.
    pub fn label(self) -> &'static str {
        match self {
            Self::UnknownSource => "unknown_source",
            Self::AddressInUse => "address_in_use",
            Self::UnknownProtocol => "unknown_protocol",
            Self::BadStun => "bad_stun",
            Self::UnknownUfrag => "unknown_ufrag",
            Self::BadDtls => "bad_dtls",
            Self::NoKeys => "no_keys",
            Self::BadAuthentication => "bad_authentication",
            Self::Replayed => "replayed",
            Self::BadRtp => "bad_rtp",
            Self::BadRtcp => "bad_rtcp",
            Self::UnknownStream => "unknown_stream",
            Self::UnknownPayloadType => "unknown_payload_type",
            Self::TooManyStreams => "too_many_streams",
            Self::NotForwarded => "not_forwarded",
            Self::TooLate => "too_late",
            Self::PacerFull => "pacer_full",
            Self::Congested => "congested",
            Self::Withdrawn => "withdrawn",
            Self::MailboxFull => "mailbox_full",
            Self::RetransmitBudget => "retransmit_budget",
            Self::RetransmitGone => "retransmit_gone",
            Self::BadData => "bad_data",
            Self::DataBacklog => "data_backlog",
            Self::NoChannel => "no_channel",
            Self::Padding => "padding",
            Self::StaleMessage => "stale_message",
            Self::SendFailed => "send_failed",
        }
    }
}

/// Count of packets and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Volume {
    /// Number of packets.
    pub packets: u64,
    /// Bytes of UDP payload.
    pub bytes: u64,
}

impl Volume {
    /// Counts one packet.
    pub fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// Traffic in one direction, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Volumes {
    /// Audio, without retransmissions.
    pub audio: Volume,
    /// Video, without retransmissions.
    pub video: Volume,
    /// Retransmissions of audio and video.
    pub retransmitted: Volume,
    /// Padding that probes for bandwidth.
    pub padding: Volume,
    /// RTCP reports and feedback.
    pub rtcp: Volume,
    /// ICE, DTLS and data channels.
    pub other: Volume,
}

/// All counters of one shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Number of joins since the start.
    pub joins: u64,
    /// Current participants of this shard.
    pub participants: u64,
    /// Current rooms that have members on this shard or whose roster is kept here.
    pub rooms: u64,
    /// Current audio tracks that participants of this shard publish.
    pub tracks_audio: u64,
    /// Current video tracks that participants of this shard publish.
    pub tracks_video: u64,
    /// Current subscriptions that have a media section.
    pub subscriptions: u64,
    /// Media sections of the current connections, including unused ones.
    pub media_sections: u64,
    /// SSRCs of the current connections for which SRTP replay protection keeps state.
    pub sources: u64,
    /// Subscriptions that failed because no media section was free and no further one was allowed.
    pub subscriptions_refused: u64,
    /// Traffic received.
    pub received: Volumes,
    /// Traffic sent.
    pub sent: Volumes,
    /// Discards, indexed by [`Drop`].
    pub drops: [u64; Drop::ALL.len()],
    /// Sequence numbers in NACKs from subscribers.
    pub nacks_received: u64,
    /// Sequence numbers in NACKs to publishers.
    pub nacks_sent: u64,
    /// Key-frame requests received from subscribers.
    pub plis_received: u64,
    /// Key-frame requests sent to publishers.
    pub plis_sent: u64,
    /// Panics that were caught. Each ended a participant, unless the code ran for no single participant.
    pub panics: u64,
    /// Participants ended because ICE, DTLS or consent failed.
    pub transport_failures: u64,
    /// Time from arrival to departure of each forwarded packet.
    pub forwarding_delay: DelayHistogram,
    /// Packets now queued in pacers.
    pub pacer_queued: u64,
    /// Published audio packets that were not forwarded because other tracks were louder.
    pub audio_unheard: u64,
    /// User data messages forwarded.
    pub data_messages: u64,
    /// Bytes of reliable user data now in receivers' backlogs, without the data buffered in SCTP associations. A
    /// message that waits for several receivers counts once for each.
    pub data_waiting: u64,
    /// Participants ended because they could not get further reliable user data: too far behind, or a message was too
    /// long.
    pub data_receivers_ended: u64,
}

impl Stats {
    /// Counts one discard.
    pub fn drop(&mut self, reason: Drop) {
        self.drops[reason as usize] += 1;
    }

    /// Counts `count` discards.
    pub fn drop_many(&mut self, reason: Drop, count: u64) {
        self.drops[reason as usize] += count;
    }

    /// Number of discards for this reason.
    pub fn dropped(&self, reason: Drop) -> u64 {
        self.drops[reason as usize]
    }
}

/// Histogram of delays with fixed bucket bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DelayHistogram {
    /// Count per bucket; the last bucket has no upper bound.
    pub buckets: [u64; DelayHistogram::BOUNDS.len() + 1],
    /// Sum of all delays, in microseconds.
    pub sum_us: u64,
}

impl DelayHistogram {
    /// Upper bounds of the buckets, inclusive.
    pub const BOUNDS: [Duration; 10] = [
        Duration::from_micros(100),
        Duration::from_micros(250),
        Duration::from_micros(500),
        Duration::from_millis(1),
        Duration::from_micros(2500),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(25),
        Duration::from_millis(50),
        Duration::from_millis(100),
    ];

    /// Counts `n` packets with this delay.
    pub fn add(&mut self, delay: Duration, n: u64) {
        let place = Self::BOUNDS.iter().position(|bound| delay <= *bound).unwrap_or(Self::BOUNDS.len());
        self.buckets[place] += n;
        self.sum_us = self.sum_us.saturating_add(n.saturating_mul(delay.as_micros() as u64));
    }
}
