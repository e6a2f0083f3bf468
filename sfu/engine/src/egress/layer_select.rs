//! Which of a track's encodings goes to one subscriber, packet by packet. A change of layer waits for a key frame
//! of the new one, and until that is there the old one goes on: no freeze.

use sfu_protocol::{Layer, LayerQuality, MediaKind, TrackDemand};

use crate::media_packet::{LayerInfo, MediaPacket};

/// A tile that is this much larger than a layer, in per cent, is still covered by it: nobody sees the difference,
/// and the next layer costs three times as much.
const SLACK_PERCENT: u32 = 10;

/// Where one subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is wanted.
    Paused,
    /// Nothing is sent yet: a key frame of the target, or of anything below it, begins.
    Waiting { target: Layer },
    /// One layer is sent, and it is the one wanted.
    Steady { current: Layer },
    /// One layer is sent, another is wanted.
    Switching { current: Layer, target: Layer },
}

/// The choice for one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerSelect {
    state: State,
    kind: MediaKind,
}

/// What happens to one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Select {
    /// It is sent.
    Forward,
    /// It is sent, and is the first of another encoding, or the first after a pause.
    Switch,
    /// It is not sent.
    Skip,
}

impl LayerSelect {
    /// Nothing is wanted yet.
    pub fn new(kind: MediaKind) -> Self {
        Self { state: State::Paused, kind }
    }

    /// What is wanted from now on.
    pub fn set_target(&mut self, target: Option<Layer>) {
        self.state = match (target, self.current()) {
            (None, _) => State::Paused,
            (Some(target), None) => State::Waiting { target },
            (Some(target), Some(current)) if target == current => State::Steady { current },
            (Some(target), Some(current)) => State::Switching { current, target },
        };
    }

    /// The layer that is sent.
    pub fn current(&self) -> Option<Layer> {
        match self.state {
            State::Paused | State::Waiting { .. } => None,
            State::Steady { current } | State::Switching { current, .. } => Some(current),
        }
    }

    /// The layer that is wanted.
    pub fn target(&self) -> Option<Layer> {
        match self.state {
            State::Paused => None,
            State::Waiting { target } | State::Switching { target, .. } => Some(target),
            State::Steady { current } => Some(current),
        }
    }

    /// The layer that is sent, if a lower one is to replace it.
    pub fn stepping_down(&self) -> Option<Layer> {
        match self.state {
            State::Switching { current, target } if target < current => Some(current),
            _ => None,
        }
    }

    /// What was sent is of no use any more: begins again at the next key frame.
    pub fn restart(&mut self) {
        if let Some(target) = self.target() {
            self.state = State::Waiting { target };
        }
    }

    /// The layer whose key frame is waited for.
    pub fn wants_key_frame(&self) -> Option<Layer> {
        match self.state {
            State::Waiting { target } | State::Switching { target, .. } if self.kind == MediaKind::Video => {
                Some(target)
            }
            _ => None,
        }
    }

    /// Decides about a packet, and moves on if it is one to move on at.
    pub fn on_packet(&mut self, packet: &MediaPacket) -> Select {
        let layer = packet.layer;
        let begins = match self.kind {
            MediaKind::Audio => !packet.payload.is_empty(),
            MediaKind::Video => packet.facts.starts_key_frame(),
        };
        match self.state {
            State::Waiting { target } if begins && layer <= target => self.switch(layer, target),
            State::Steady { current } if layer == current => Select::Forward,
            State::Switching { current, target } if begins && is_nearer(layer, current, target) => {
                self.switch(layer, target)
            }
            State::Switching { current, .. } if layer == current => Select::Forward,
            _ => Select::Skip,
        }
    }

    fn switch(&mut self, layer: Layer, target: Layer) -> Select {
        self.state = if layer == target {
            State::Steady { current: layer }
        } else {
            State::Switching { current: layer, target }
        };
        Select::Switch
    }
}

/// Whether `layer` lies on the way from `current` to `target`, and not where we are.
fn is_nearer(layer: Layer, current: Layer, target: Layer) -> bool {
    if current < target { current < layer && layer <= target } else { target <= layer && layer < current }
}

/// The layer that serves a wish best, whether or not it flows: the smallest that covers the tile, or the quality asked
/// for. `None` when nothing is wanted.
pub fn ideal_layer(demand: &TrackDemand, layers: &[LayerInfo]) -> Option<Layer> {
    if !demand.enabled || layers.is_empty() {
        return None;
    }
    let top = layers.len() - 1;
    let sizes_known = layers.iter().all(|layer| layer.width > 0 && layer.height > 0);
    let ideal = if (demand.width > 0 || demand.height > 0) && sizes_known {
        layers.iter().position(|layer| covers(layer, demand)).unwrap_or(top)
    } else {
        match demand.quality {
            LayerQuality::Low => 0,
            LayerQuality::Medium => 1.min(top),
            LayerQuality::High => top,
        }
    };
    Some(Layer(ideal as u8))
}

/// Compares long sides with long sides: a phone held upright shows the same layer as one held flat.
fn covers(layer: &LayerInfo, demand: &TrackDemand) -> bool {
    let sorted = |a: u32, b: u32| (a.max(b), a.min(b));
    let (long, short) = sorted(layer.width, layer.height);
    let (wide, narrow) = sorted(demand.width, demand.height);
    let stretched = |side: u32| u64::from(side) * u64::from(100 + SLACK_PERCENT) / 100;
    stretched(long) >= u64::from(wide) && stretched(short) >= u64::from(narrow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media_packet::test_packet;
    use crate::units::test_epoch;

    fn packet(layer: u8, key: bool) -> MediaPacket {
        let mut packet = test_packet(0, test_epoch());
        packet.layer = Layer(layer);
        packet.facts.key_frame = key;
        packet.facts.frame_start = true;
        packet
    }

    fn layers(active: [bool; 3]) -> Vec<LayerInfo> {
        let sizes = [(320, 180), (640, 360), (1280, 720)];
        let layers = sizes.iter().zip(active);
        layers.map(|((width, height), active)| LayerInfo { width: *width, height: *height, active }).collect()
    }

    #[test]
    fn the_first_picture_comes_from_any_layer_up_to_the_target_and_then_climbs() {
        let mut select = LayerSelect::new(MediaKind::Video);
        select.set_target(Some(Layer(2)));
        assert_eq!(select.wants_key_frame(), Some(Layer(2)));
        assert_eq!(select.on_packet(&packet(0, false)), Select::Skip);
        assert_eq!(select.on_packet(&packet(0, true)), Select::Switch);
        assert_eq!(select.on_packet(&packet(0, false)), Select::Forward);
        assert_eq!(select.wants_key_frame(), Some(Layer(2)), "still");
        assert_eq!(select.on_packet(&packet(2, false)), Select::Skip);
        assert_eq!(select.on_packet(&packet(2, true)), Select::Switch);
        assert_eq!(select.on_packet(&packet(0, true)), Select::Skip, "no way back");
        assert_eq!(select.wants_key_frame(), None);
    }

    #[test]
    fn a_switch_down_keeps_the_old_layer_until_the_new_one_can_be_decoded() {
        let mut select = LayerSelect::new(MediaKind::Video);
        select.set_target(Some(Layer(2)));
        select.on_packet(&packet(2, true));
        select.set_target(Some(Layer(0)));
        assert_eq!(select.on_packet(&packet(0, false)), Select::Skip);
        assert_eq!(select.on_packet(&packet(2, false)), Select::Forward);
        assert_eq!(select.on_packet(&packet(1, true)), Select::Switch, "a step on the way");
        assert_eq!(select.on_packet(&packet(0, true)), Select::Switch);
        assert_eq!(select.current(), Some(Layer(0)));
    }

    #[test]
    fn a_layer_may_be_left_before_the_next_is_there() {
        let mut select = LayerSelect::new(MediaKind::Video);
        select.set_target(Some(Layer(2)));
        select.on_packet(&packet(2, true));
        assert_eq!(select.stepping_down(), None);
        select.set_target(Some(Layer(0)));
        assert_eq!(select.stepping_down(), Some(Layer(2)));
        select.restart();
        assert_eq!((select.stepping_down(), select.wants_key_frame()), (None, Some(Layer(0))));
        assert_eq!(select.on_packet(&packet(2, false)), Select::Skip);
        assert_eq!(select.on_packet(&packet(0, true)), Select::Switch);
    }

    #[test]
    fn a_pause_sends_nothing_and_resumes_at_a_key_frame() {
        let mut select = LayerSelect::new(MediaKind::Video);
        select.set_target(Some(Layer(0)));
        select.on_packet(&packet(0, true));
        select.set_target(None);
        assert_eq!(select.on_packet(&packet(0, true)), Select::Skip);
        select.set_target(Some(Layer(0)));
        assert_eq!(select.on_packet(&packet(0, false)), Select::Skip);
        assert_eq!(select.on_packet(&packet(0, true)), Select::Switch);
    }

    #[test]
    fn sound_begins_with_its_first_packet() {
        let mut select = LayerSelect::new(MediaKind::Audio);
        select.set_target(Some(Layer(0)));
        assert_eq!(select.wants_key_frame(), None);
        assert_eq!(select.on_packet(&packet(0, false)), Select::Switch);
        assert_eq!(select.on_packet(&packet(0, false)), Select::Forward);
    }

    #[test]
    fn wishes_become_layers() {
        let all = [true; 3];
        let size = |width, height| TrackDemand { width, height, ..TrackDemand::default() };
        let quality = |quality| TrackDemand { quality, ..TrackDemand::default() };
        let table = [
            (TrackDemand::default(), all, Some(2)),
            (quality(LayerQuality::Low), all, Some(0)),
            (quality(LayerQuality::Medium), all, Some(1)),
            (size(200, 112), all, Some(0)),
            (size(340, 190), all, Some(0)),
            (size(640, 360), all, Some(1)),
            (size(360, 640), all, Some(1)),
            (size(641, 361), all, Some(1)),
            (size(1920, 1080), all, Some(2)),
            (size(1920, 1080), [true, true, false], Some(2)),
            (size(200, 112), [false, true, true], Some(0)),
            (TrackDemand { enabled: false, ..TrackDemand::default() }, all, None),
        ];
        for (demand, active, expected) in table {
            assert_eq!(ideal_layer(&demand, &layers(active)), expected.map(Layer), "{demand:?} {active:?}");
        }
    }
}
