//! Recent decisions of the media plane about one participant, with their reasons, for people who debug the video that a
//! participant sees. Times are in milliseconds before the time of the request.

use serde::{Deserialize, Serialize};

use crate::{Layer, MediaKind, ParticipantSid, TrackSid};

/// State of everything that one participant receives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// Participant that was inspected.
    pub participant: ParticipantSid,
    /// State of the link to the participant; absent if the participant receives nothing or sends no feedback.
    pub link: Option<LinkState>,
    /// Tracks that the participant receives.
    pub subscriptions: Vec<SubscriptionState>,
    /// Recent decisions, oldest first.
    pub decisions: Vec<Decided>,
}

/// State of the link to one subscriber.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkState {
    /// Bandwidth estimate, in bit/s.
    pub estimate_bps: u64,
    /// Cause of the last change of the estimate.
    pub cause: String,
    /// Milliseconds since the last change of the estimate.
    pub changed_ms_ago: u64,
    /// Whether the estimate is based on information about the link.
    pub measured: bool,
    /// Rate that the last allocation decided to send, in bit/s.
    pub allocated_bps: u64,
    /// Rate of the probe that is being sent, in bit/s; absent if none is.
    pub burst_bps: Option<u64>,
    /// Queue delay in the network, in milliseconds.
    pub queue_ms: u64,
    /// Recent packet loss, 0 to 1.
    pub loss: f64,
    /// Number of packets in the pacer's queue.
    pub waiting: usize,
}

/// State of one subscription.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubscriptionState {
    /// Track that is received.
    pub track: TrackSid,
    /// Publisher of the track.
    pub publisher: ParticipantSid,
    /// Kind of media.
    pub kind: MediaKind,
    /// Layer that is sent; absent if none is.
    pub current: Option<Layer>,
    /// Layer that is to be sent; absent if none is.
    pub target: Option<Layer>,
    /// Layer that is requested from the publisher; absent if none is.
    pub demand: Option<Layer>,
    /// Whether the track is wanted but paused for lack of bandwidth.
    pub paused: bool,
    /// Reason for the target; absent before the first decision.
    pub reason: Option<String>,
}

/// Entry of the decision log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    /// Milliseconds since the decision.
    pub ms_ago: u64,
    /// Decision that was made.
    #[serde(flatten)]
    pub what: Decision,
}

/// One decision, with its reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decided", rename_all = "snake_case")]
pub enum Decision {
    /// The layer of a track, its pause or the reason for either has changed.
    Layer {
        /// Track that the decision is about.
        track: TrackSid,
        /// Layer to send; absent for none.
        target: Option<Layer>,
        /// Layer to request from the publisher; absent for none.
        demand: Option<Layer>,
        /// Whether the bandwidth suffices for no layer.
        paused: bool,
        /// Reason for the target.
        reason: String,
        /// Bandwidth estimate that the decision was based on, in bit/s; absent if there was none.
        estimate_bps: Option<u64>,
    },
    /// The current layer was dropped before the new one arrived, because its queued packets would have been sent too
    /// late.
    Dropped {
        /// Track whose layer was dropped.
        track: TrackSid,
        /// Layer that was dropped.
        layer: Layer,
        /// Number of queued packets that were dropped with the layer.
        waiting: usize,
    },
    /// More arrived than could be sent. Frames of the track are dropped until a key frame.
    Congested {
        /// Track whose frames are dropped.
        track: TrackSid,
        /// Number of queued packets of all tracks at that moment.
        waiting: usize,
    },
    /// The estimate changed by more than a tenth, or for another cause than before.
    Estimate {
        /// New estimate, in bit/s.
        estimate_bps: u64,
        /// Cause of the change.
        cause: String,
    },
    /// A probe for more bandwidth was started.
    Probe {
        /// Rate of the probe, in bit/s.
        rate_bps: u64,
    },
    /// The playout delay requested from the subscriber changed, because packets are lost at random or no longer are.
    Playout {
        /// Requested minimum playout delay, in milliseconds.
        least_delay_ms: u64,
    },
    /// A key frame was requested.
    KeyFrame {
        /// Track of the requested key frame.
        track: TrackSid,
        /// Layer of the requested key frame.
        layer: Layer,
        /// `switch` for a change of layer, or `lost` if the subscriber asked for the key frame.
        reason: String,
    },
}
