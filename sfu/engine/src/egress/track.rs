//! One subscription: a track that is sent to one peer.

use std::time::{Duration, Instant};

use sfu_protocol::{Layer, MediaKind, ParticipantSid, TrackDemand, TrackSid};

use super::allocate::{Decision, Standing};
use super::asked_in_vain::AskedInVain;
use super::layer_select::LayerSelect;
use super::overload::Shedding;
use super::redundancy::Redundancy;
use super::report::SenderReports;
use super::retransmit_budget::RetransmitBudget;
use super::rewrite::{Rewrite, Rewritten};
use super::section_name::SectionName;
use super::sent_log::SentLog;
use crate::handles::TrackHandle;
use crate::rtp::codec::Codec;
use crate::rtp::codec::format::{Format, Profile};
use crate::units::{ExtendedSequence, PayloadType, Ssrc};

/// Interval at which a subscription that waits for a key frame repeats its request: the first request, or the key
/// frame, may have been lost between shards.
pub const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Time after its start in which a subscription may be replayed from memory.
const BEGINNING: Duration = Duration::from_millis(1500);

/// Maximum number of replays of a subscription.
const MOST_REPEATS: u8 = 3;

/// A subscription that has a media section.
#[derive(Debug)]
pub struct Subscription {
    /// Sid of the track.
    pub sid: TrackSid,
    /// Sid of the participant that publishes the track.
    pub publisher: ParticipantSid,
    /// Audio or video.
    pub kind: MediaKind,
    /// Handle of the track; `None` until this shard has heard of the track.
    pub track: Option<TrackHandle>,
    /// Size, frame rate, quality and priority that the subscriber asked for.
    pub demand: TrackDemand,
    /// Outgoing SSRC.
    pub ssrc: Ssrc,
    /// Outgoing SSRC of retransmissions; `None` if retransmissions use `ssrc`.
    pub repair: Option<Ssrc>,
    pub(super) payload_types: Vec<EgressPayload>,
    /// Kind of report from which the link's capacity is estimated.
    pub(super) reporting: Reporting,
    /// Layer selection: which packets are sent.
    pub select: LayerSelect,
    pub(super) rewrite: Rewrite,
    pub(super) sent: SentLog,
    pub(super) budget: RetransmitBudget,
    pub(super) asked_in_vain: AskedInVain,
    /// Whether the video is dropped for now because too much is queued.
    pub(super) shedding: Shedding,
    /// Header values of the first packet of the last key frame.
    pub(super) key_frame: Option<Rewritten>,
    pub(super) reports: SenderReports,
    pub(super) section_name: SectionName,
    pub(super) repair_sequence: ExtendedSequence,
    /// Minimum playout delay requested from the subscriber, in milliseconds; `None` if none was requested.
    pub(super) least_delay_ms: Option<u32>,
    pub(super) asked: Option<(Layer, Instant)>,
    pub(super) clock_rate: u32,
    pub(super) began: Option<Beginning>,
    /// Redundancy state; only for audio, and only if the subscriber accepts RED.
    pub(super) redundancy: Option<Box<Redundancy>>,
    /// State of layer allocation from earlier decisions.
    pub standing: Standing,
    /// Last allocation decision; `None` before the first.
    pub decision: Option<Decision>,
    /// Layer requested from the publisher.
    pub(super) demanded: Option<Layer>,
}

/// Negotiated way in which a subscriber reports on its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reporting {
    /// No reports.
    None,
    /// The subscriber sends its own bandwidth estimate (REMB).
    Estimate,
    /// The subscriber reports when each packet arrived, by a sequence number common to all streams.
    TransportWide,
    /// The subscriber reports when each packet arrived, by SSRC and RTP sequence number (RFC 8888).
    ByStream,
}

impl Reporting {
    /// Whether the subscriber reports when each packet arrived.
    pub fn is_per_packet(self) -> bool {
        matches!(self, Self::TransportWide | Self::ByStream)
    }
}

/// Start of a subscription whose first packets came from memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginning {
    pub(super) at: Instant,
    pub(super) repeats: u8,
}

/// Parameters of a new subscription.
#[derive(Debug)]
pub struct NewSubscription {
    /// Sid of the track.
    pub sid: TrackSid,
    /// Sid of the participant that publishes the track.
    pub publisher: ParticipantSid,
    /// Audio or video.
    pub kind: MediaKind,
    /// Mid of the media section; `None` if packets may not carry it.
    pub mid: Option<String>,
    /// Size, frame rate, quality and priority that the subscriber asks for.
    pub demand: TrackDemand,
    /// Outgoing SSRC.
    pub ssrc: Ssrc,
    /// Outgoing SSRC of retransmissions, if they have their own.
    pub repair: Option<Ssrc>,
    /// Payload types that the subscriber accepts.
    pub payload_types: Vec<EgressPayload>,
    /// Kind of report from which the link's capacity is estimated.
    pub reporting: Reporting,
    /// Current time.
    pub began: Instant,
    /// First sequence number of the media and of the retransmissions: one of
    /// [`FIRST_SEQUENCES`](crate::units::FIRST_SEQUENCES).
    pub first_sequence: u16,
    /// First RTP timestamp.
    pub first_timestamp: u32,
    /// Retransmission limits in per cent of the media sent: the limit that allows spare copies, and the absolute one.
    pub retransmit_percents: (u32, u32),
}

/// Payload types of one codec towards one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EgressPayload {
    /// Codec of these payload types.
    pub codec: Codec,
    /// Codec profile that the payload type stands for.
    pub profile: Profile,
    /// Payload type of the media.
    pub payload_type: PayloadType,
    /// Payload type of the retransmissions, if they have their own.
    pub repair: Option<PayloadType>,
}

impl Subscription {
    /// A subscription to which nothing was sent yet.
    pub fn new(new: NewSubscription) -> Self {
        let clock_rate = new.payload_types.first().map_or(90_000, |payload| payload.codec.clock_rate());
        Self {
            sid: new.sid,
            publisher: new.publisher,
            kind: new.kind,
            track: None,
            demand: new.demand,
            ssrc: new.ssrc,
            repair: new.repair,
            redundancy: Redundancy::of(&new.payload_types),
            payload_types: new.payload_types,
            reporting: new.reporting,
            select: LayerSelect::new(new.kind),
            rewrite: Rewrite::new(new.first_sequence, new.first_timestamp),
            sent: SentLog::default(),
            budget: RetransmitBudget::new(new.retransmit_percents.0, new.retransmit_percents.1),
            asked_in_vain: AskedInVain::default(),
            shedding: Shedding::No,
            key_frame: None,
            reports: SenderReports::default(),
            section_name: SectionName::new(new.mid.as_deref()),
            repair_sequence: ExtendedSequence::first(new.first_sequence),
            least_delay_ms: None,
            asked: None,
            clock_rate,
            began: None,
            standing: Standing::new(new.began),
            decision: None,
            demanded: None,
        }
    }

    /// Prefetch: reads some of the state that forwarding a packet uses, so that it is in the cache by then.
    pub(crate) fn touch(&self) -> u64 {
        let here = u64::from(self.ssrc.0) ^ self.repair_sequence.0 ^ self.payload_types.len() as u64;
        here ^ self.rewrite.touch() ^ self.sent.touch() ^ self.budget.touch() ^ self.reports.touch()
    }

    /// Prefetch: reads the log entries, which lie elsewhere in memory, of the next `packets` packets.
    pub(crate) fn touch_log(&self, packets: usize) -> u64 {
        self.sent.touch_next(packets)
    }

    /// Replaces the payload types after a renegotiation. Returns true if they changed.
    pub(super) fn set_payload_types(&mut self, payload_types: Vec<EgressPayload>) -> bool {
        let changed = self.payload_types != payload_types;
        if changed {
            self.redundancy = Redundancy::of(&payload_types);
            self.payload_types = payload_types;
            self.forget_sent();
        }
        changed
    }

    /// Discards the record of sent packets because headers are written differently from now on. Those packets must not
    /// be sent again: without a separate SSRC for retransmissions, one AES-GCM nonce would protect two headers.
    pub(super) fn forget_sent(&mut self) {
        self.sent = SentLog::default();
    }

    /// Leaves the current source of packets: the next ones come from another codec of the track, from another
    /// publication of the same track, or not at all. What was sent is not sent again, because it is recorded under
    /// numbers that the next source uses too.
    pub fn leave_source(&mut self) {
        self.select.aim(None);
        self.rewrite.leave_source();
        self.forget_sent();
        self.asked = None;
        self.began = None;
    }

    /// Layer of which the subscription awaits a key frame, if any.
    pub fn wants_key_frame(&self) -> Option<Layer> {
        self.select.wants_key_frame()
    }

    /// Payload types of a codec, if the subscriber accepts it.
    pub fn payload(&self, codec: Codec) -> Option<EgressPayload> {
        self.payload_types.iter().find(|payload| payload.codec == codec).copied()
    }

    /// Whether the subscriber can decode this format.
    pub fn takes(&self, format: Format) -> bool {
        self.payload(format.codec).is_some_and(|payload| payload.profile.decodes(format.profile))
    }

    /// Handles a report that the subscriber cannot decode. Returns the layer of which it needs a key frame, at most
    /// once per [`ASK_AGAIN`] however often the report is repeated.
    pub fn on_picture_loss(&mut self, now: Instant) -> Option<Layer> {
        let layer = self.select.stream().or_else(|| self.select.target_stream())?;
        self.ask(layer, now)
    }

    /// Whether the first packets may be replayed, which counts as one replay. A browser takes up to a few hundred
    /// milliseconds to apply the answer that announces a track. Packets that reach it earlier are lost, and its first
    /// key frame request is the sign that it is ready.
    pub(super) fn may_begin_again(&mut self, now: Instant) -> bool {
        match &mut self.began {
            Some(began)
                if now.saturating_duration_since(began.at) < BEGINNING && began.repeats < MOST_REPEATS =>
            {
                began.repeats += 1;
                true
            }
            _ => false,
        }
    }

    /// Layer requested from the publisher.
    pub fn wanted(&self) -> Option<Layer> {
        self.demanded
    }

    /// Layer of which a key frame has to be requested now, at most once per [`ASK_AGAIN`].
    pub fn ask_key_frame(&mut self, now: Instant) -> Option<Layer> {
        let layer = self.select.wants_key_frame()?;
        self.ask(layer, now)
    }

    fn ask(&mut self, layer: Layer, now: Instant) -> Option<Layer> {
        let lately = self
            .asked
            .is_some_and(|(asked, at)| asked == layer && now.saturating_duration_since(at) < ASK_AGAIN);
        if lately || self.shedding != Shedding::No {
            return None;
        }
        self.asked = Some((layer, now));
        Some(layer)
    }
}
