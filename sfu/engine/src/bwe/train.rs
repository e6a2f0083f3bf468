//! Whether what passed at the beginning of a long burst goes on passing. A token bucket lets a short burst through at once,
//! whatever it carries for good; only a burst that is longer than any bucket is deep shows that.

/// The burst, in slices of equal time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Train {
    began: Option<i64>,
    /// Of one slice, in microseconds.
    length: i64,
    /// The share that was lost before.
    chance: f64,
    slices: [Slice; SLICES],
}

#[derive(Debug, Clone, Copy, Default)]
struct Slice {
    /// The lowest one-way delay, in microseconds.
    least: Option<i64>,
    /// When the last packet of it arrived.
    arrived: i64,
    bytes: f64,
    received: u32,
    lost: u32,
}

/// What came in the way of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Hindrance {
    /// What arrived from then on, in bits per second.
    pub rate: f64,
    /// What passed before, beyond that rate, in bytes.
    pub depth: f64,
    /// Packets were dropped rather than queued.
    pub dropped: bool,
}

impl Train {
    /// One that takes so many seconds; `chance`: the share that was lost before it.
    pub fn new(seconds: f64, chance: f64) -> Self {
        let length = (seconds * 1e6 / SLICES as f64).max(1000.0) as i64;
        Self { began: None, length, chance, slices: [Slice::default(); SLICES] }
    }

    /// What became of a packet; microseconds. `late`: it was told of as lost before.
    pub fn on_packet(&mut self, sent: i64, arrival: Option<i64>, bytes: f64, late: bool) {
        let began = *self.began.get_or_insert(sent);
        let place = sent.saturating_sub(began) / self.length;
        let place = usize::try_from(place).unwrap_or(0).min(SLICES - 1);
        let Some(slice) = self.slices.get_mut(place) else { return };
        let Some(arrival) = arrival else {
            slice.lost = slice.lost.saturating_add(1);
            return;
        };
        slice.lost = slice.lost.saturating_sub(u32::from(late));
        let delay = arrival.saturating_sub(sent);
        slice.least = Some(slice.least.map_or(delay, |least| least.min(delay)));
        slice.arrived = if slice.received == 0 { arrival } else { slice.arrived.max(arrival) };
        slice.bytes += bytes;
        slice.received = slice.received.saturating_add(1);
    }

    /// What is in its way, as far as it was told of. `inherent`: the share that the path loses by itself.
    pub fn hindrance(&self, inherent: f64) -> Option<Hindrance> {
        let inherent = inherent.max(self.chance);
        let told = self.slices.iter().rposition(|slice| slice.received > 0)?;
        let slices = self.slices.get(..=told)?;
        let base = slices.iter().filter_map(|slice| slice.least).min()?;
        let wait = |slice: &Slice| slice.least.map(|least| least.saturating_sub(base));
        let queued = slices.last().and_then(wait).is_some_and(|wait| wait > QUEUED);
        let lately = slices.get(told.saturating_sub(LATELY - 1)..)?;
        let packets = |slices: &[Slice]| slices.iter().map(|slice| slice.received + slice.lost).sum::<u32>();
        let losses = |slices: &[Slice]| slices.iter().map(|slice| slice.lost).sum::<u32>();
        let share = |slices: &[Slice]| f64::from(losses(slices)) / f64::from(packets(slices).max(1));
        let limit = inherent + LOST;
        // What chance loses in a row is in one slice, or two.
        let hit = lately.iter().filter(|slice| share(std::slice::from_ref(slice)) > limit / 2.0).count();
        let dropped = packets(lately) >= FEWEST && share(lately) > limit && hit + 1 >= LATELY;
        if !queued && !dropped {
            return None;
        }
        // The last that was not hindered.
        let free = slices.iter().rposition(|slice| {
            let waited = wait(slice).is_some_and(|wait| wait > FREE);
            !waited && share(std::slice::from_ref(slice)) <= limit / 2.0 && slice.received > 0
        });
        if !queued
            && free.is_some_and(|last| share(slices.get(..=last).unwrap_or_default()) > inherent + CHANCE)
        {
            return None;
        }
        let split = free.unwrap_or(0);
        let (head, tail) = slices.split_at_checked(split + 1)?;
        let first = self.began?.saturating_add(base);
        let last = head.last()?.arrived;
        let end = tail.iter().map(|slice| slice.arrived).max().unwrap_or(last);
        let (passed, bytes) = (sum(head), sum(tail));
        let seconds = end.saturating_sub(last) as f64 / 1e6;
        let rate = if tail.iter().map(|slice| slice.received).sum::<u32>() >= 3 && seconds > 0.01 {
            bytes * 8.0 / seconds
        } else {
            (passed + bytes) * 8.0 / (end.saturating_sub(first) as f64 / 1e6).max(0.01)
        };
        let before = last.saturating_sub(first).max(0) as f64 / 1e6;
        let depth = if free.is_some() { (passed - rate * before / 8.0).max(0.0) } else { 0.0 };
        Some(Hindrance { rate, depth, dropped: !queued })
    }
}

fn sum(slices: &[Slice]) -> f64 {
    slices.iter().map(|slice| slice.bytes).sum()
}

const SLICES: usize = 16;
/// In microseconds. Every packet of a slice waits longer than this: a queue stands,
const QUEUED: i64 = 10_000;
/// and with less than this none does.
const FREE: i64 = 5_000;
/// More of so many slices is lost than the path loses by itself: what exceeds a rate is dropped.
const LOST: f64 = 0.2;
/// What exceeds a rate is dropped once tokens run out, not before: more than this is chance.
const CHANCE: f64 = 0.04;
const LATELY: usize = 4;
const FEWEST: u32 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends 150 packets of 1,000 bytes at 3 Mbit/s over 400 kbit/s behind a bucket, until something is seen in the way and
    /// for 100 ms more. How many were sent before it was seen, and what it was in the end.
    fn over_bucket(depth: f64, queue: f64) -> (usize, Option<Hindrance>) {
        let mut train = Train::new(0.4, 0.0);
        let (mut free, rate) = (-depth * 8.0 / 4e5, 4e5);
        let mut seen = 150;
        for n in 0..150 {
            let now = n as f64 * 8e3 / 3e6;
            free = f64::max(free, now - depth * 8.0 / rate);
            let ends = free + 8e3 / rate;
            let wait = (ends - now).max(0.0);
            let arrival = (wait <= queue).then_some(((now + wait) * 1e6) as i64 - 7_000_000);
            if arrival.is_some() {
                free = ends;
            }
            train.on_packet((now * 1e6) as i64, arrival, 1000.0, false);
            if train.hindrance(0.0).is_some() {
                seen = n.min(seen);
            }
            if n > seen + 37 {
                break;
            }
        }
        (seen, train.hindrance(0.0))
    }

    #[test]
    fn a_bucket_is_told_from_what_the_link_carries() {
        for (depth, queue) in [(15e3, 0.25), (40e3, 0.25), (100e3, 0.25), (15e3, 0.0), (100e3, 0.0)] {
            let (n, hindrance) = over_bucket(depth, queue);
            let hindrance = hindrance.expect("the bucket is too small");
            assert!(n as f64 * 1000.0 < depth * 1.2 + 60e3, "{depth}: {n}");
            assert!((hindrance.depth / depth - 1.0).abs() < 0.5, "{depth}: {hindrance:?}");
            assert_eq!(hindrance.dropped, queue == 0.0);
        }
        assert_eq!(over_bucket(200e3, 0.25), (150, None));
    }
}
