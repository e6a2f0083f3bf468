//! What layer selection must know about a frame. It is computed once, where the packet is received. Selecting for a
//! subscriber then takes only a few comparisons, and no parsing of descriptors.

/// An operating point of a stream: the layers that a receiver decodes, up to a spatial and a temporal layer. All
/// streams use the same range of points, so that a subscriber's choice stays valid whatever layers a stream has. A
/// point that a stream does not have stands for the nearest lower point that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperatingPoint(u8);

impl OperatingPoint {
    /// The highest operating point: all layers of a stream.
    pub const ALL: Self = Self::new(MOST_SPATIAL, MOST_TEMPORAL);

    /// The operating point with these highest layers. Layers above the supported maximum are treated as the maximum.
    pub const fn new(spatial: u8, temporal: u8) -> Self {
        let spatial = if spatial > MOST_SPATIAL { MOST_SPATIAL } else { spatial };
        let temporal = if temporal > MOST_TEMPORAL { MOST_TEMPORAL } else { temporal };
        Self(spatial << 3 | temporal)
    }

    /// Highest spatial layer of the point, 0 to 3.
    pub const fn spatial(self) -> u8 {
        self.0 >> 3
    }

    /// Highest temporal layer of the point, 0 to 7.
    pub const fn temporal(self) -> u8 {
        self.0 & MOST_TEMPORAL
    }

    /// All operating points.
    pub fn every() -> impl Iterator<Item = Self> {
        (0..32).map(Self)
    }
}

/// A set of operating points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OperatingPoints(u32);

impl OperatingPoints {
    /// The set of all operating points.
    pub const ALL: Self = Self(u32::MAX);

    /// The points of spatial layers `from` to `to` whose temporal layer is at least `temporal`.
    pub fn block(from: u8, to: u8, temporal: u8) -> Self {
        let row = 0xff_u32 << temporal.min(MOST_TEMPORAL) & 0xff;
        let rows = (from.min(MOST_SPATIAL)..=to.min(MOST_SPATIAL)).map(|spatial| row << (8 * spatial));
        Self(rows.fold(0, |points, row| points | row))
    }

    /// Whether a point is in the set.
    #[inline]
    pub const fn has(self, point: OperatingPoint) -> bool {
        self.0 >> point.0 & 1 != 0
    }

    /// The highest temporal layer, at most `most`, of the points with this spatial layer; `None` if the set has none.
    pub fn highest_temporal(self, spatial: u8, most: u8) -> Option<u8> {
        let row = self.0 >> (8 * u32::from(spatial.min(MOST_SPATIAL))) & 0xff;
        let row = row & ((2 << most.min(MOST_TEMPORAL)) - 1);
        // Below 8.
        row.checked_ilog2().map(|temporal| temporal as u8)
    }

    /// Union of two sets.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The points of this set that are not in `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl FromIterator<OperatingPoint> for OperatingPoints {
    fn from_iter<T: IntoIterator<Item = OperatingPoint>>(points: T) -> Self {
        Self(points.into_iter().fold(0, |all, point| all | 1 << point.0))
    }
}

/// The frames that a frame is predicted from, by their distance in frame numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct References(u32);

/// Largest distance that can be represented.
pub const FARTHEST: u32 = 31;

impl References {
    /// Adds a reference to the frame at distance `back`. A distance of 0 or above [`FARTHEST`] stands for an unknown
    /// frame.
    #[must_use]
    pub const fn and(self, back: u32) -> Self {
        Self(self.0 | 1 << if back > FARTHEST { 0 } else { back })
    }

    /// Whether there are no references.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set as bits: bit n is the frame at distance n, bit 0 an unknown frame.
    #[inline]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// Relation of one layer frame to the other frames of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameFacts {
    /// Frame number, increasing through the stream; may wrap. [`References`] count distances in this number.
    pub number: u32,
    /// Frames that this frame is predicted from, as far as layer selection depends on them.
    pub references: References,
    /// Operating points that include this frame.
    pub part_of: OperatingPoints,
    /// Operating points that a receiver can switch to at this frame, if it can decode the frame: everything after it
    /// that belongs to the point is then decodable.
    pub switches: OperatingPoints,
    /// Operating points that a receiver can switch to at this frame, if it can decode the frame, already receives the
    /// point's spatial layers, and only lacks temporal layers.
    pub climbs: OperatingPoints,
}

const MOST_SPATIAL: u8 = 3;
const MOST_TEMPORAL: u8 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_found_in_the_sets_that_they_are_in() {
        let points = OperatingPoints::block(1, 2, 1);
        for point in OperatingPoint::every() {
            let expected = (1..=2).contains(&point.spatial()) && point.temporal() >= 1;
            assert_eq!(points.has(point), expected, "{point:?}");
        }
        assert_eq!(points.highest_temporal(1, 2), Some(2));
        assert_eq!(points.highest_temporal(1, 9), Some(7));
        assert_eq!((points.highest_temporal(1, 0), points.highest_temporal(0, 7)), (None, None));
        assert_eq!(OperatingPoint::every().collect::<OperatingPoints>(), OperatingPoints::ALL);
        assert_eq!(OperatingPoint::new(9, 9), OperatingPoint::ALL);
    }
}
