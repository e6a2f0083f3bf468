//! What the media plane has decided about one participant, and why: for people who look for the reason of a picture.
//! Times are milliseconds before the moment of asking.

use serde::{Deserialize, Serialize};

use crate::{Layer, MediaKind, ParticipantSid, TrackSid};

/// Everything that one participant receives, as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// Participant that receives.
    pub participant: ParticipantSid,
    /// The way to it; absent where nothing is known: it receives nothing, or does not report.
    pub link: Option<LinkState>,
    /// What it receives.
    pub subscriptions: Vec<SubscriptionState>,
    /// What was decided lately, oldest first.
    pub decisions: Vec<Decided>,
}

/// The way to one subscriber.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkState {
    /// What may be sent, in bit/s.
    pub estimate_bps: u64,
    /// Reason for the estimate.
    pub cause: String,
    /// Since when.
    pub changed_ms_ago: u64,
    /// Whether it says something about the link.
    pub measured: bool,
    /// What was decided to be sent, in bit/s.
    pub allocated_bps: u64,
    /// A burst is being sent, at this rate.
    pub burst_bps: Option<u64>,
    /// How long packets wait in the network.
    pub queue_ms: u64,
    /// The share of packets lost lately.
    pub loss: f64,
    /// Packets that wait to be sent.
    pub waiting: usize,
}

/// One track on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubscriptionState {
    /// The track.
    pub track: TrackSid,
    /// Who publishes it.
    pub publisher: ParticipantSid,
    /// Sound or picture.
    pub kind: MediaKind,
    /// The layer that is sent.
    pub current: Option<Layer>,
    /// The layer that is to be sent.
    pub target: Option<Layer>,
    /// The layer that is asked of the publisher.
    pub demand: Option<Layer>,
    /// It is wanted, and there is no bandwidth for it.
    pub paused: bool,
    /// Why the target is what it is.
    pub reason: Option<String>,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    /// Milliseconds since the decision.
    pub ms_ago: u64,
    /// The decision.
    #[serde(flatten)]
    pub what: Decision,
}

/// What was decided, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decided", rename_all = "snake_case")]
pub enum Decision {
    /// A track gets another layer, is paused, or is what it was for another reason.
    Layer {
        /// Track that gets the layer.
        track: TrackSid,
        /// The layer to send.
        target: Option<Layer>,
        /// The layer to ask of the publisher.
        demand: Option<Layer>,
        /// No bandwidth for any.
        paused: bool,
        /// Reason for the target.
        reason: String,
        /// The estimate it was decided by, in bit/s; absent: none is known.
        estimate_bps: Option<u64>,
    },
    /// The layer that was sent is given up before the new one is there: it was too much.
    Dropped {
        /// Track whose layer is given up.
        track: TrackSid,
        /// The layer given up.
        layer: Layer,
        /// Packets of it that were still waiting.
        waiting: usize,
    },
    /// More came than could leave: the track's frames are left out up to a key frame.
    Congested {
        /// Track whose frames are left out.
        track: TrackSid,
        /// Packets of all tracks that were waiting.
        waiting: usize,
    },
    /// The estimate has changed for another reason than before, or much.
    Estimate {
        /// The estimate now, in bit/s.
        estimate_bps: u64,
        /// Reason for the estimate.
        cause: String,
    },
    /// A burst looks for more.
    Probe {
        /// Its rate, in bit/s.
        rate_bps: u64,
    },
    /// Packets are lost by chance, or are not any more: the subscriber is told how long to hold pictures back.
    Playout {
        /// At least, in milliseconds.
        least_delay_ms: u64,
    },
    /// A key frame is asked for.
    KeyFrame {
        /// Track whose key frame it is.
        track: TrackSid,
        /// Layer whose key frame it is.
        layer: Layer,
        /// `switch`, or `lost` as its receiver says.
        reason: String,
    },
}
