//! What choosing among the layers of one stream has to know of a frame. It is worked out once, where the packet is
//! received; to choose for a subscriber then takes a few comparisons and no look into a descriptor.

/// An operating point of a stream: what a receiver decodes of it, up to a spatial and a temporal layer. The points of
/// all streams are laid out alike, so that a subscriber's choice holds whatever structure a stream has: one that a
/// stream does not have stands for the nearest below that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperatingPoint(u8);

impl OperatingPoint {
    /// Everything that a stream has.
    pub const ALL: Self = Self::new(MOST_SPATIAL, MOST_TEMPORAL);

    /// Up to these layers. Layers above the highest that are told apart count as that.
    pub const fn new(spatial: u8, temporal: u8) -> Self {
        let spatial = if spatial > MOST_SPATIAL { MOST_SPATIAL } else { spatial };
        let temporal = if temporal > MOST_TEMPORAL { MOST_TEMPORAL } else { temporal };
        Self(spatial << 3 | temporal)
    }

    /// Its highest spatial layer.
    pub const fn spatial(self) -> u8 {
        self.0 >> 3
    }

    /// Its highest temporal layer.
    pub const fn temporal(self) -> u8 {
        self.0 & MOST_TEMPORAL
    }

    /// All of them.
    pub fn every() -> impl Iterator<Item = Self> {
        (0..32).map(Self)
    }
}

/// A set of operating points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OperatingPoints(u32);

impl OperatingPoints {
    /// All of them.
    pub const ALL: Self = Self(u32::MAX);

    /// Those of spatial layers `from` to `to` whose temporal layer is at least `temporal`.
    pub fn block(from: u8, to: u8, temporal: u8) -> Self {
        let row = 0xff_u32 << temporal.min(MOST_TEMPORAL) & 0xff;
        let rows = (from.min(MOST_SPATIAL)..=to.min(MOST_SPATIAL)).map(|spatial| row << (8 * spatial));
        Self(rows.fold(0, |points, row| points | row))
    }

    /// Whether a point is among them.
    #[inline]
    pub const fn has(self, point: OperatingPoint) -> bool {
        self.0 >> point.0 & 1 != 0
    }

    /// The highest temporal layer, up to `most`, with which a spatial layer is among them.
    pub fn highest_temporal(self, spatial: u8, most: u8) -> Option<u8> {
        let row = self.0 >> (8 * u32::from(spatial.min(MOST_SPATIAL))) & 0xff;
        let row = row & ((2 << most.min(MOST_TEMPORAL)) - 1);
        // Below 8.
        row.checked_ilog2().map(|temporal| temporal as u8)
    }

    /// These and those.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These but not those.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl FromIterator<OperatingPoint> for OperatingPoints {
    fn from_iter<T: IntoIterator<Item = OperatingPoint>>(points: T) -> Self {
        Self(points.into_iter().fold(0, |all, point| all | 1 << point.0))
    }
}

/// The frames that a frame is predicted from, by how far back they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct References(u32);

/// Frames that lie further back than this are not told apart.
pub const FARTHEST: u32 = 31;

impl References {
    /// One more, that many frames back. One that is too far back, or 0, stands for frames of which nothing is known.
    #[must_use]
    pub const fn and(self, back: u32) -> Self {
        Self(self.0 | 1 << if back > FARTHEST { 0 } else { back })
    }

    /// There are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Bit n: the frame n back; bit 0: one of which nothing is known.
    #[inline]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// One frame of one layer, among the frames of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameFacts {
    /// Counts up through the stream, and may wrap. [`References`] count in it.
    pub number: u32,
    /// What it is predicted from, as far as choosing depends on it.
    pub references: References,
    /// The operating points that it is part of.
    pub part_of: OperatingPoints,
    /// The operating points to which a receiver that can decode this frame can change with it: all that follows of
    /// such a point can be decoded then.
    pub switches: OperatingPoints,
    /// The same for one that has their spatial layers already, and fewer temporal layers.
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
