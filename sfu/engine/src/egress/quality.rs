//! Reception data of a subscriber from which its connection quality is rated.

use std::time::Duration;

use sfu_protocol::{Layer, MediaKind};

use super::Egress;
use super::allocate::Reason;
use crate::handles::TrackHandle;
use crate::units::Losses;

/// A video subscription that is wanted, and whether the link's capacity suffices for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// The subscribed track.
    pub track: TrackHandle,
    /// Layer that is sent; `None` if none is.
    pub sent: Option<Layer>,
    /// Whether the link's capacity is too low for the wanted layer.
    pub short: bool,
}

impl Egress {
    /// Packets lost since the last call, according to receiver reports.
    pub fn take_losses(&mut self) -> Losses {
        let taken = self.subscriptions.iter_mut().map(|(_, subscription)| subscription.reports.take_losses());
        taken.fold(Losses::default(), |mut sum, losses| {
            sum.add(losses);
            sum
        })
    }

    /// Smoothed round-trip time; `None` until measured.
    pub fn round_trip(&self) -> Option<Duration> {
        self.rtt
    }

    /// All wanted video subscriptions with their slots.
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
