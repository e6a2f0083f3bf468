//! Detects whether a long probe is slowed down or dropped after it has passed at first. A token bucket lets a short
//! probe through at once, whatever its sustained rate. Only a probe that is larger than any bucket shows that rate.

/// Record of a long probe, in slices of equal time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Train {
    began: Option<i64>,
    /// Duration of one slice, in microseconds. It doubles whenever all slices are used up.
    length: usize,
    /// Share of packets that was lost before the probe.
    chance: f64,
    /// A policer of known rate is on the path, so few losses are enough evidence.
    policed: bool,
    slices: [Slice; SLICES],
}

#[derive(Debug, Clone, Copy, Default)]
struct Slice {
    /// The lowest one-way delay, in microseconds.
    least: Option<i64>,
    /// Arrival of the slice's last packet, in microseconds of the receiver's clock; `None` if none arrived.
    arrived: Option<i64>,
    bytes: f64,
    lost_bytes: f64,
    received: u32,
    lost: u32,
}

/// Queueing or drops that a long probe met.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Hindrance {
    /// Rate that arrived once the queueing or the drops had begun, in bits per second.
    pub rate: f64,
    /// Bytes beyond `rate` that passed before: the depth of the token bucket, if there is one.
    pub depth: f64,
    /// Whether packets were dropped rather than queued.
    pub dropped: bool,
    /// Whether it lasted long enough to measure `rate`.
    pub lasted: bool,
}

impl Train {
    /// `chance`: the share of packets lost before the probe. `policed`: a policer of known rate is on the path.
    pub fn new(chance: f64, policed: bool) -> Self {
        Self { began: None, length: SHORTEST, chance, policed, slices: [Slice::default(); SLICES] }
    }

    /// Whether a policer of known rate is on the path.
    pub fn is_policed(&self) -> bool {
        self.policed
    }

    /// Records the feedback about a packet; times in microseconds. `late`: the packet was reported as lost before.
    pub fn on_packet(&mut self, sent: i64, arrival: Option<i64>, bytes: f64, late: bool) {
        let began = *self.began.get_or_insert(sent);
        let age = usize::try_from(sent.saturating_sub(began)).unwrap_or(0);
        while age / self.length >= SLICES {
            self.merge();
        }
        let place = age / self.length;
        let Some(slice) = self.slices.get_mut(place) else { return };
        let Some(arrival) = arrival else {
            slice.lost = slice.lost.saturating_add(1);
            slice.lost_bytes += bytes;
            return;
        };
        if late {
            slice.lost = slice.lost.saturating_sub(1);
            slice.lost_bytes = (slice.lost_bytes - bytes).max(0.0);
        }
        let delay = arrival.saturating_sub(sent);
        slice.least = Some(slice.least.map_or(delay, |least| least.min(delay)));
        slice.arrived = slice.arrived.max(Some(arrival));
        slice.bytes += bytes;
        slice.received = slice.received.saturating_add(1);
    }

    /// Merges each two slices into one.
    fn merge(&mut self) {
        for place in 0..SLICES {
            let two = self.slices.get(2 * place..2 * place + 2).unwrap_or_default();
            let one = two.iter().fold(Slice::default(), |one, other| one.and(other));
            if let Some(slice) = self.slices.get_mut(place) {
                *slice = one;
            }
        }
        self.length *= 2;
    }

    /// Queueing or drops that the probe has met, as far as reported. `inherent`: the share of packets that the path
    /// loses whatever the rate.
    pub fn hindrance(&self, inherent: f64) -> Option<Hindrance> {
        let inherent = inherent.max(self.chance);
        let told = self.slices.iter().rposition(|slice| slice.received > 0)?;
        let slices = self.slices.get(..=told)?;
        let base = slices.iter().filter_map(|slice| slice.least).min()?;
        let wait = |slice: &Slice| slice.least.map(|least| least.saturating_sub(base));
        // Jitter delays some packets, a queue delays all.
        let mut newest = 0;
        let newest = slices.iter().rev().take_while(|slice| {
            let more = newest < FEWEST;
            newest += slice.received;
            more
        });
        let queued = newest.filter_map(wait).min().is_some_and(|wait| wait > QUEUED);
        // After a short stall of the link, packets arrive together, each having waited less than the one before.
        let mut last = slices.iter().rev().filter_map(wait);
        let filling = last
            .next()
            .zip(last.next())
            .is_some_and(|(last, before)| before > QUEUED && last > FILLING && last >= before);
        let queued = queued || filling;
        let lately = slices.get(told.saturating_sub(LATELY - 1)..)?;
        let packets = |slices: &[Slice]| slices.iter().map(|slice| slice.received + slice.lost).sum::<u32>();
        let losses = |slices: &[Slice]| slices.iter().map(|slice| slice.lost).sum::<u32>();
        // The share is of bytes, because small packets still pass where a policer has little credit left.
        let lost_bytes = |slices: &[Slice]| slices.iter().map(|slice| slice.lost_bytes).sum::<f64>();
        let share = |slices: &[Slice]| lost_bytes(slices) / (lost_bytes(slices) + sum(slices)).max(1.0);
        let limit = inherent + LOST;
        let is_hit = |slice: &Slice| share(std::slice::from_ref(slice)) > limit / 2.0;
        // Consecutive losses by chance lie in one or two slices.
        let hit = lately.iter().filter(|slice| is_hit(slice)).count();
        let dropped = packets(lately) >= FEWEST && share(lately) > limit && hit + 1 >= LATELY
            || self.policed && inherent < CHANCE / 2.0 && losses(slices) >= FEW && share(lately) > CHANCE;
        if !queued && !dropped {
            return None;
        }
        // The last slice that was not hindered; where packets are dropped, the last one before the drops begin.
        let begins = |place: &usize| {
            slices.get(*place..).is_some_and(|rest| rest.first().is_some_and(is_hit) && share(rest) > limit)
        };
        let begun = (0..slices.len()).find(begins).filter(|_| !queued).unwrap_or(slices.len());
        let free = slices.get(..begun)?.iter().rposition(|slice| {
            let waited = wait(slice).is_some_and(|wait| wait > FREE);
            !waited && !is_hit(slice) && slice.received > 0
        });
        let heavy = packets(lately) >= MANY && share(lately) > HEAVY;
        if !queued
            && !self.policed
            && !heavy
            && free.is_some_and(|last| share(slices.get(..=last).unwrap_or_default()) > inherent + CHANCE)
        {
            return None;
        }
        let split = free.unwrap_or(0);
        let (head, tail) = slices.split_at_checked(split + 1)?;
        let first = self.began?.saturating_add(base);
        let last = head.iter().filter_map(|slice| slice.arrived).max();
        let end = slices.iter().filter_map(|slice| slice.arrived).max()?;
        // If the whole head was lost, it is unknown when the tail began to arrive.
        let (last, measured) = last.map_or((first, false), |last| (last, true));
        let (passed, bytes) = (sum(head), sum(tail));
        let seconds = end.saturating_sub(last) as f64 / 1e6;
        let rate = if measured && tail.iter().map(|slice| slice.received).sum::<u32>() >= 3 && seconds > 0.01
        {
            bytes * 8.0 / seconds
        } else {
            (passed + bytes) * 8.0 / (end.saturating_sub(first) as f64 / 1e6).max(0.01)
        };
        let before = last.saturating_sub(first).max(0) as f64 / 1e6;
        let depth = if free.is_some() { (passed - rate * before / 8.0).max(0.0) } else { 0.0 };
        Some(Hindrance { rate, depth, dropped: !queued, lasted: measured && seconds > LASTING })
    }
}

impl Slice {
    fn and(self, later: &Self) -> Self {
        Self {
            least: self.least.into_iter().chain(later.least).min(),
            arrived: later.arrived.or(self.arrived),
            bytes: self.bytes + later.bytes,
            lost_bytes: self.lost_bytes + later.lost_bytes,
            received: self.received.saturating_add(later.received),
            lost: self.lost.saturating_add(later.lost),
        }
    }
}

fn sum(slices: &[Slice]) -> f64 {
    slices.iter().map(|slice| slice.bytes).sum()
}

/// Number of slices. When they are used up, each two are merged.
const SLICES: usize = 32;
/// Initial duration of a slice, in microseconds.
const SHORTEST: usize = 10_000;
/// Wait in microseconds that all of the newest packets exceed where a queue stands.
const QUEUED: i64 = 8_000;
/// Wait in microseconds that shows a queue which grows so fast that few packets were reported yet.
const FILLING: i64 = 40_000;
/// Wait in microseconds that the fastest packet of a slice does not exceed where no queue stands.
const FREE: i64 = 5_000;
/// Share of the newest slices' bytes, beyond what the path loses by itself, whose loss shows a policer.
const LOST: f64 = 0.2;
/// Share of bytes above which losses are not chance where a policer is known. Elsewhere, such loss before the drops
/// began shows that they are chance: a policer does not drop that much before its tokens run out.
const CHANCE: f64 = 0.04;
/// Seconds over which a rate must be measured to be reliable.
const LASTING: f64 = 0.1;
/// Share of the newest bytes that is never lost by chance, whatever was lost before.
const HEAVY: f64 = 0.4;
/// Minimum number of newest packets for [`HEAVY`] to apply.
const MANY: u32 = 20;
/// Number of newest slices that are checked for losses.
const LATELY: usize = 4;
/// Minimum number of losses as evidence where a policer's rate is known.
const FEW: u32 = 3;
/// Minimum number of packets as evidence of a queue, or of a policer that is not known.
const FEWEST: u32 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends up to 150 packets of 1,000 bytes at 3 Mbit/s over a link of 400 kbit/s with a token bucket of `depth`
    /// bytes and a queue of `queue` seconds, until 100 ms after the first detection. Returns the number of packets sent
    /// before the detection, and the final result.
    fn over_bucket(depth: f64, queue: f64) -> (usize, Option<Hindrance>) {
        let mut train = Train::new(0.0, false);
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

    #[test]
    fn a_queue_that_grows_fast_is_known_by_nine_packets_and_a_stall_is_none() {
        let mut train = Train::new(0.0, false);
        // 3 Mbit/s into 400 kbit/s: each packet waits 17 ms longer than the one before.
        for n in 0..9 {
            assert_eq!(train.hindrance(0.0), None, "{n} packets");
            train.on_packet(n * 2_667, Some(n * 20_000 - 7_000_000), 1000.0, false);
        }
        assert!(train.hindrance(0.0).is_some_and(|seen| !seen.dropped));
        // Nothing arrives for 80 ms, then all that was sent meanwhile.
        let mut train = Train::new(0.0, false);
        for sent in (0..40_000).step_by(2667) {
            let arrival = if sent < 10_000 { sent } else { 90_000 + sent / 100 };
            train.on_packet(sent, Some(arrival - 7_000_000), 1000.0, false);
            assert_eq!(train.hindrance(0.0), None, "at {sent} us");
        }
    }

    #[test]
    fn a_head_that_was_lost_whole_tells_no_rate_that_lasts() {
        let mut train = Train::new(0.0, false);
        // 3 Mbit/s; the receiver's clock is a day ahead, and the first 70 ms of the probe are lost.
        for sent in (0..80_000).step_by(2667) {
            train.on_packet(sent, (sent > 70_000).then_some(sent + 86_400_000_000), 1000.0, false);
        }
        let seen = train.hindrance(0.0);
        assert!(seen.is_some_and(|seen| !seen.lasted && seen.rate > 1e5), "{seen:?}");
    }
}
