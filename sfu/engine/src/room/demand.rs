//! Demand: the highest layer of a track that anyone behind a hop wants. It flows up, towards the publisher,
//! and is merged at every hop.

use sfu_protocol::{Layer, LayerQuality};

use super::{Route, Track};

/// The highest of the layers that subscribers here want, `None` if nobody wants anything.
pub fn merge(wanted: impl Iterator<Item = Option<Layer>>) -> Option<Layer> {
    wanted.flatten().max()
}

/// How the protocol calls a layer of so many: the highest is the best there is, whatever its place.
pub fn quality(layer: Layer, layers: usize) -> LayerQuality {
    match layer.0 {
        place if usize::from(place) + 1 >= layers => LayerQuality::High,
        0 => LayerQuality::Low,
        1 => LayerQuality::Medium,
        _ => LayerQuality::High,
    }
}

/// Notes what another shard wants of a track that originates here.
pub fn set_route(track: &mut Track, shard: u16, highest: Option<Layer>) {
    track.routes.retain(|route| route.shard != shard);
    if let Some(highest) = highest {
        track.routes.push(Route { shard, highest });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_wish_wins_and_no_wish_is_none() {
        assert_eq!(merge([Some(Layer(0)), None, Some(Layer(2)), Some(Layer(1))].into_iter()), Some(Layer(2)));
        assert_eq!(merge([None, None].into_iter()), None);
    }
}
