//! What does not arrive from the publisher, as far as that tells how well it is connected.

use std::time::Instant;

use sfu_protocol::Layer;

use super::{Ingress, IngressTrack};
use crate::units::Losses;

impl Ingress {
    /// What was lost since the last call, before it was repaired.
    pub fn take_losses(&mut self) -> Losses {
        let streams = self.tracks.iter_mut().flat_map(|track| &mut track.streams);
        streams.fold(Losses::default(), |mut sum, stream| {
            sum.add(stream.take_losses());
            sum
        })
    }
}

impl IngressTrack {
    /// When its last packet arrived.
    pub fn last_packet(&self) -> Option<Instant> {
        self.streams.iter().filter_map(|stream| stream.liveness.last()).max()
    }

    /// The highest of its encodings that flows.
    pub fn highest_active(&self) -> Option<Layer> {
        let active = self.streams.iter().filter(|stream| stream.liveness.is_active());
        active.map(|stream| stream.layer).max()
    }

    /// Whether nothing of it is forwarded.
    pub fn is_muted(&self) -> bool {
        self.muted
    }
}
