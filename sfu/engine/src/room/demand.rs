//! Demand: the highest layer of a track that any subscriber beyond a hop wants. It is sent towards the publisher and
//! merged at every hop.

use sfu_protocol::{Layer, LayerQuality};

use super::{Route, Track};

/// Highest layer that any subscriber wants; `None` if none is wanted.
pub fn merge(wanted: impl Iterator<Item = Option<Layer>>) -> Option<Layer> {
    wanted.flatten().max()
}

/// Protocol name of a layer, given the number of layers: the highest layer is always `High`.
pub fn quality(layer: Layer, layers: usize) -> LayerQuality {
    match layer.0 {
        place if usize::from(place) + 1 >= layers => LayerQuality::High,
        0 => LayerQuality::Low,
        1 => LayerQuality::Medium,
        _ => LayerQuality::High,
    }
}

/// Sets the demand of another shard for a track that originates here; `None` removes its route.
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
