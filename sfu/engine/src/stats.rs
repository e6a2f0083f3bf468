//! Counters of one shard: plain numbers, owned by it, read by the worker and summed at scrape.

use std::time::Duration;

/// Why something that arrived or was to be sent was discarded. Every discard has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Drop {
    /// No peer has validated this source address.
    UnknownSource,
    /// An address that as many peers prove to be theirs as may share one.
    AddressInUse,
    /// The first byte belongs to no protocol that is spoken here (RFC 7983).
    UnknownProtocol,
    /// A STUN message that is malformed, or whose integrity or fingerprint fails.
    BadStun,
    /// A STUN user name of no peer here.
    UnknownUfrag,
    /// A DTLS record that was ignored: plain text after the handshake, or not decodable.
    BadDtls,
    /// SRTP or SRTCP before keys are there.
    NoKeys,
    /// Authentication failed.
    BadAuthentication,
    /// A packet seen before, or too old to tell; a reliable user message that was sent before.
    Replayed,
    /// An RTP packet that is malformed.
    BadRtp,
    /// An RTCP packet that is malformed.
    BadRtcp,
    /// No announced stream matches.
    UnknownStream,
    /// A payload type that was not negotiated.
    UnknownPayloadType,
    /// The participant's limit of SSRCs.
    TooManyStreams,
    /// Published, but nothing may be forwarded (muted, not permitted).
    NotForwarded,
    /// Older than what was sent already, or from a layer that is no longer selected.
    TooLate,
    /// A subscriber's queue has no room for a packet of sound, or for one that is sent again.
    PacerFull,
    /// Packets of video frames that were left out, since too much waits to be sent to a subscriber.
    Congested,
    /// It waited to be sent, and nobody needs it any more: its layer was left, its subscription ended.
    Withdrawn,
    /// Another shard's mailbox is full.
    MailboxFull,
    /// A retransmission over its budget.
    RetransmitBudget,
    /// Asked for again, but no longer in memory.
    RetransmitGone,
    /// A user message that is malformed, too long, or not permitted.
    BadData,
    /// A receiver of user data, or the shard that it is on, cannot keep up: what is lossy; what is reliable only with the
    /// receiver, whose session is made anew.
    DataBacklog,
    /// A receiver of user data has no channel for it.
    NoChannel,
    /// Padding only.
    Padding,
    /// A command or fabric message naming what is no longer there.
    StaleMessage,
    /// The operating system refused a send.
    SendFailed,
}

impl Drop {
    /// All reasons, in order.
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

    /// The value of the metric's `reason` label.
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

/// A count of packets with their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Volume {
    /// Packets.
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

/// Audio, video, RTCP, everything else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Volumes {
    /// Sound.
    pub audio: Volume,
    /// Pictures.
    pub video: Volume,
    /// Retransmissions, of either kind.
    pub retransmitted: Volume,
    /// Padding that probes for bandwidth.
    pub padding: Volume,
    /// Reports and feedback.
    pub rtcp: Volume,
    /// ICE, DTLS and data channels.
    pub other: Volume,
}

/// Everything that one shard counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Participants that ever joined.
    pub joins: u64,
    /// Participants here now.
    pub participants: u64,
    /// Rooms known here now: with members, or of which the roster is kept here.
    pub rooms: u64,
    /// Published tracks here now, audio.
    pub tracks_audio: u64,
    /// Published tracks here now, video.
    pub tracks_video: u64,
    /// Bound subscriptions here now.
    pub subscriptions: u64,
    /// Media sections of the connections here now, those out of use included.
    pub media_sections: u64,
    /// Sources of RTP whose packets are told from replayed ones, of the connections here now.
    pub sources: u64,
    /// Subscriptions for which there was no media section, nor room for another.
    pub subscriptions_refused: u64,
    /// What arrived.
    pub received: Volumes,
    /// What was sent.
    pub sent: Volumes,
    /// Discards, indexed by [`Drop`].
    pub drops: [u64; Drop::ALL.len()],
    /// NACKed sequence numbers received from subscribers.
    pub nacks_received: u64,
    /// NACKed sequence numbers sent to publishers.
    pub nacks_sent: u64,
    /// Key-frame requests received from subscribers.
    pub plis_received: u64,
    /// Key-frame requests sent to publishers.
    pub plis_sent: u64,
    /// Panics that were caught; each ended a participant, unless it was in nobody's path.
    pub panics: u64,
    /// Participants ended, for other reasons of the media plane: ICE, DTLS or consent.
    pub transport_failures: u64,
    /// Time from a packet's arrival to its leaving, per forwarded packet.
    pub forwarding_delay: DelayHistogram,
    /// Packets now waiting in pacers.
    pub pacer_queued: u64,
    /// Published packets of sound that were forwarded to nobody here, by choice: others were louder.
    pub audio_unheard: u64,
    /// User data messages forwarded.
    pub data_messages: u64,
    /// Bytes of reliable user data that now wait for receivers, beside what associations have buffered. What waits for
    /// several is counted for each.
    pub data_waiting: u64,
    /// Participants ended because they were too far behind with reliable user data.
    pub data_receivers_ended: u64,
}

impl Stats {
    /// Counts one discard.
    pub fn drop(&mut self, reason: Drop) {
        self.drops[reason as usize] += 1;
    }

    /// Counts that many.
    pub fn drop_many(&mut self, reason: Drop, count: u64) {
        self.drops[reason as usize] += count;
    }

    /// Discards for that reason so far.
    pub fn dropped(&self, reason: Drop) -> u64 {
        self.drops[reason as usize]
    }
}

/// A histogram with fixed bounds, cheap to add to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DelayHistogram {
    /// Counts per bucket; the last has no upper bound.
    pub buckets: [u64; DelayHistogram::BOUNDS.len() + 1],
    /// Sum of all, in microseconds.
    pub sum_us: u64,
}

impl DelayHistogram {
    /// Upper bounds of the buckets.
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

    /// Counts `n` packets of that delay.
    pub fn add(&mut self, delay: Duration, n: u64) {
        let place = Self::BOUNDS.iter().position(|bound| delay <= *bound).unwrap_or(Self::BOUNDS.len());
        self.buckets[place] += n;
        self.sum_us = self.sum_us.saturating_add(n.saturating_mul(delay.as_micros() as u64));
    }
}
