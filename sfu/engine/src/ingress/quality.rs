//! Inputs of the publisher's connection quality: packet loss and which layers arrive.

use std::time::Instant;

use sfu_protocol::Layer;

use super::{Ingress, IngressTrack};
use crate::units::Losses;

impl Ingress {
    /// Packets lost on all streams since the last call, counted before retransmission.
    pub fn take_losses(&mut self) -> Losses {
        let streams = self.tracks.iter_mut().flat_map(|track| &mut track.streams);
        streams.fold(Losses::default(), |mut sum, stream| {
            sum.add(stream.take_losses());
            sum
        })
    }
}

impl IngressTrack {
    /// Arrival of the track's last packet; `None` before the first.
    pub fn last_packet(&self) -> Option<Instant> {
        self.streams.iter().filter_map(|stream| stream.liveness.last()).max()
    }

    /// Highest layer that is active; `None` if none is.
    pub fn highest_active(&self) -> Option<Layer> {
        let active = self.streams.iter().filter(|stream| stream.liveness.is_active());
        active.map(|stream| stream.layer).max()
    }

    /// Whether the track is muted, so that its media is not forwarded.
    pub fn is_muted(&self) -> bool {
        self.muted
    }
}
