//! Chooses the layer that serves a subscriber's demand best.

use sfu_protocol::{Layer, LayerQuality, TrackDemand};

use crate::media_packet::LayerInfo;

/// Percentage by which a tile may exceed a layer that still covers it: nobody sees the difference, and the next layer
/// costs three times as much.
const SLACK_PERCENT: u32 = 10;

/// The layer that serves a demand best, whether or not it is active: the smallest that covers the requested size, or
/// the one of the requested quality. `None` if nothing is wanted.
pub fn ideal_layer(demand: &TrackDemand, layers: &[LayerInfo]) -> Option<Layer> {
    if !demand.enabled || layers.is_empty() {
        return None;
    }
    let top = layers.len() - 1;
    let sizes_known = layers.iter().all(|layer| layer.width > 0 && layer.height > 0);
    let ideal = match demand.quality {
        // A client that sends a size omits the quality, which then has its default, the lowest. Some publishers do not
        // describe the sizes of their layers; then the highest layer is chosen.
        _ if demand.width > 0 || demand.height > 0 => {
            let smallest = layers.iter().position(|layer| covers(layer, demand));
            smallest.filter(|_| sizes_known).unwrap_or(top)
        }
        LayerQuality::Low => 0,
        LayerQuality::Medium => 1.min(top),
        LayerQuality::High => top,
    };
    Some(Layer(ideal as u8))
}

/// Compares long sides with long sides, so that a phone held upright gets the same layer as one held flat.
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

    fn layers(active: [bool; 3]) -> Vec<LayerInfo> {
        let sizes = [(320, 180), (640, 360), (1280, 720)];
        let layers = sizes.iter().zip(active);
        layers.map(|((width, height), active)| LayerInfo { width: *width, height: *height, active }).collect()
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
        let unknown = vec![LayerInfo { width: 0, height: 0, active: true }; 3];
        let wish = |width, quality| TrackDemand { width, quality, ..TrackDemand::default() };
        assert_eq!(ideal_layer(&wish(800, LayerQuality::Low), &unknown), Some(Layer(2)));
        assert_eq!(ideal_layer(&wish(0, LayerQuality::Low), &unknown), Some(Layer(0)));
    }
}
