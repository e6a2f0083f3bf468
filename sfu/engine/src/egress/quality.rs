//! What the subscriber says of what it receives, as far as that tells how well it is connected.

use std::time::Duration;

use sfu_protocol::{Layer, MediaKind};

use super::Egress;
use super::allocate::Reason;
use crate::handles::TrackHandle;
use crate::units::Losses;

/// One subscription that is wanted, and does not get what is wanted of it for want of bandwidth, or does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// Its track.
    pub track: TrackHandle,
    /// The layer that is sent.
    pub sent: Option<Layer>,
    /// More is wanted than the link carries.
    pub short: bool,
}

impl Egress {
    /// What was lost since the last call, as receiver reports tell.
    pub fn take_losses(&mut self) -> Losses {
        let taken = self.subscriptions.iter_mut().map(|(_, subscription)| subscription.reports.take_losses());
        taken.fold(Losses::default(), |mut sum, losses| {
            sum.add(losses);
            sum
        })
    }

    /// The round trip, if it was measured.
    pub fn round_trip(&self) -> Option<Duration> {
        self.rtt
    }

    /// What of the pictures that are wanted is sent.
    pub fn pictures(&self) -> impl Iterator<Item = (usize, Picture)> {
        self.subscriptions.iter().filter_map(|(slot, subscription)| {
            let decision = subscription.decision.filter(|_| subscription.kind == MediaKind::Video)?;
            let short = match decision.reason {
                Reason::Ideal | Reason::LayerInactive | Reason::Hysteresis | Reason::Climbing => false,
                Reason::NoBandwidth | Reason::NoHeadroom => true,
                Reason::Demand | Reason::Muted => return None,
            };
            Some((slot, Picture { track: subscription.track?, sent: decision.target, short }))
        })
    }
}
