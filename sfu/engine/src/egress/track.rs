//! One subscription: a track on its way to one peer.

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

/// A subscriber that waits for a key frame asks again after this long: its first request, or the key frame,
/// may have been lost between shards.
pub const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A subscription counts as beginning for this long.
const BEGINNING: Duration = Duration::from_millis(1500);

/// A subscription is begun again at most so often.
const MOST_REPEATS: u8 = 3;

/// A subscription that has a media section.
#[derive(Debug)]
pub struct Subscription {
    /// The track.
    pub sid: TrackSid,
    /// Who publishes it.
    pub publisher: ParticipantSid,
    /// Audio or video.
    pub kind: MediaKind,
    /// The track's place in the room; `None` until this shard has heard of it.
    pub track: Option<TrackHandle>,
    /// What is wanted of it.
    pub demand: TrackDemand,
    /// Our source.
    pub ssrc: Ssrc,
    /// Our source for retransmissions.
    pub repair: Option<Ssrc>,
    pub(super) payload_types: Vec<EgressPayload>,
    /// How the subscriber tells what its link carries.
    pub(super) reporting: Reporting,
    /// What is sent of it.
    pub select: LayerSelect,
    pub(super) rewrite: Rewrite,
    pub(super) sent: SentLog,
    pub(super) budget: RetransmitBudget,
    pub(super) asked_in_vain: AskedInVain,
    /// Too much waits: its video is left out for now.
    pub(super) shedding: Shedding,
    /// How the last key frame begins.
    pub(super) key_frame: Option<Rewritten>,
    pub(super) reports: SenderReports,
    pub(super) section_name: SectionName,
    pub(super) repair_sequence: ExtendedSequence,
    /// It holds pictures back for this long at least, in milliseconds; `None`: it was told nothing.
    pub(super) least_delay_ms: Option<u32>,
    pub(super) asked: Option<(Layer, Instant)>,
    pub(super) clock_rate: u32,
    pub(super) began: Option<Beginning>,
    /// Of sound, where the subscriber takes it.
    pub(super) redundancy: Option<Box<Redundancy>>,
    /// What was decided of its layer before.
    pub standing: Standing,
    /// The last decision.
    pub decision: Option<Decision>,
    /// The layer asked of its publisher.
    pub(super) demanded: Option<Layer>,
}

/// How a subscriber tells what its link carries, as agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reporting {
    /// Not at all.
    None,
    /// It says how much it takes (REMB).
    Estimate,
    /// It says when each packet arrived, by a number that is common to all streams.
    TransportWide,
    /// It says when each packet arrived, by source and RTP sequence number (RFC 8888).
    ByStream,
}

impl Reporting {
    /// Whether the subscriber says of each packet when it arrived.
    pub fn is_per_packet(self) -> bool {
        matches!(self, Self::TransportWide | Self::ByStream)
    }
}

/// The first packets of a subscription came from memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginning {
    pub(super) at: Instant,
    pub(super) repeats: u8,
}

/// What a subscription is made of.
#[derive(Debug)]
pub struct NewSubscription {
    /// The track.
    pub sid: TrackSid,
    /// Who publishes it.
    pub publisher: ParticipantSid,
    /// Audio or video.
    pub kind: MediaKind,
    /// The mid of its section, if packets may carry it.
    pub mid: Option<String>,
    /// What is wanted of it.
    pub demand: TrackDemand,
    /// Our source.
    pub ssrc: Ssrc,
    /// Our source for retransmissions.
    pub repair: Option<Ssrc>,
    /// Payload types that the subscriber takes.
    pub payload_types: Vec<EgressPayload>,
    /// How the subscriber tells what its link carries.
    pub reporting: Reporting,
    /// Now.
    pub began: Instant,
    /// Where its sequence numbers begin, and those of its retransmissions: one of
    /// [`FIRST_SEQUENCES`](crate::units::FIRST_SEQUENCES).
    pub first_sequence: u16,
    /// Where its timestamps begin.
    pub first_timestamp: u32,
    /// Retransmissions, in per cent of its media: with spare copies, and at most.
    pub retransmit_percents: (u32, u32),
}

/// A codec's payload types towards one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EgressPayload {
    /// The codec.
    pub codec: Codec,
    /// Profile of the codec that the payload type stands for.
    pub profile: Profile,
    /// Its payload type.
    pub payload_type: PayloadType,
    /// That of its retransmissions.
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

    /// Reads a little of everything that forwarding a packet looks at, so that it is in the cache by then.
    pub(crate) fn touch(&self) -> u64 {
        let here = u64::from(self.ssrc.0) ^ self.repair_sequence.0 ^ self.payload_types.len() as u64;
        here ^ self.rewrite.touch() ^ self.sent.touch() ^ self.budget.touch() ^ self.reports.touch()
    }

    /// The same of the log, which lies elsewhere, for that many packets to come.
    pub(crate) fn touch_log(&self, packets: usize) -> u64 {
        self.sent.touch_next(packets)
    }

    /// The subscriber's payload types, as negotiated anew. True if they are others than before.
    pub(super) fn set_payload_types(&mut self, payload_types: Vec<EgressPayload>) -> bool {
        let changed = self.payload_types != payload_types;
        if changed {
            self.redundancy = Redundancy::of(&payload_types);
            self.payload_types = payload_types;
            self.forget_sent();
        }
        changed
    }

    /// Headers read differently from now on. What was sent is not sent again: without a source of its own for
    /// retransmissions, one AES-GCM nonce would see two headers.
    pub(super) fn forget_sent(&mut self) {
        self.sent = SentLog::default();
    }

    /// Where its packets came from is left: from now on they come from another codec of the track, from another
    /// publication of the same, or not at all. What was sent is not sent again, for it is remembered by numbers that the
    /// next source has too.
    pub fn leave_source(&mut self) {
        self.select.aim(None);
        self.rewrite.leave_source();
        self.forget_sent();
        self.asked = None;
        self.began = None;
    }

    /// The layer whose key frame is waited for.
    pub fn wants_key_frame(&self) -> Option<Layer> {
        self.select.wants_key_frame()
    }

    /// The payload types of a codec, if this subscriber takes it.
    pub fn payload(&self, codec: Codec) -> Option<EgressPayload> {
        self.payload_types.iter().find(|payload| payload.codec == codec).copied()
    }

    /// Whether this subscriber can decode it.
    pub fn takes(&self, format: Format) -> bool {
        self.payload(format.codec).is_some_and(|payload| payload.profile.decodes(format.profile))
    }

    /// The subscriber cannot decode: the layer whose key frame it needs, at most once per [`ASK_AGAIN`] however
    /// often it says so.
    pub fn on_picture_loss(&mut self, now: Instant) -> Option<Layer> {
        let layer = self.select.stream().or_else(|| self.select.target_stream())?;
        self.ask(layer, now)
    }

    /// A browser takes up to a few hundred milliseconds to apply the answer that announces a track; what reaches it
    /// earlier is lost, and its first request for a key frame is the sign that it is ready.
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

    /// The layer wanted from the publisher.
    pub fn wanted(&self) -> Option<Layer> {
        self.demanded
    }

    /// The layer whose key frame has to be asked for now, at most once per [`ASK_AGAIN`].
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
