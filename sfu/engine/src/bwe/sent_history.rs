//! Record of sent packets, to match feedback against: a ring indexed by the transport-wide sequence number. Both forms
//! of feedback result in the same [`PacketResult`]s.

use crate::units::ExtendedSequence;

use super::probe::ClusterId;

/// Feedback about one packet. Times are microseconds: `sent` by our clock since the estimator was created, `arrival` by
/// the receiver's clock, whose zero is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PacketResult {
    pub sent: i64,
    pub bytes: u16,
    pub cluster: Option<ClusterId>,
    /// Arrival time; `None` if the packet was reported as lost.
    pub arrival: Option<i64>,
    /// The packet was reported as lost before, and arrived after all.
    pub late: bool,
}

/// One sent packet. 16 bytes, so that four entries share a cache line.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    sent: i64,
    /// Low bits of the packet's number, to recognise that its place was overwritten by another packet.
    sequence: u32,
    bytes: u16,
    /// [`ClusterId`] of the probe that the packet belongs to; 0: none.
    cluster: u8,
    state: State,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Empty,
    InFlight,
    /// The feedback message about the packet was lost, or did not say when it arrived.
    Unknown,
    Lost,
    Received,
}

/// Ring of the last packets sent.
#[derive(Debug)]
pub(super) struct SentHistory {
    entries: Vec<Entry>,
    highest: Option<ExtendedSequence>,
    /// Packets with numbers below this are not expected in further feedback: they were reported, or their feedback was
    /// lost.
    told: u64,
    in_flight: u64,
}

impl SentHistory {
    /// An empty history.
    pub fn new() -> Self {
        Self { entries: vec![Entry::default(); FEWEST], highest: None, told: 0, in_flight: 0 }
    }

    /// Records a sent packet. Numbers must ascend; a packet whose number does not is ignored.
    pub fn insert(
        &mut self,
        sequence: ExtendedSequence,
        sent: i64,
        bytes: usize,
        cluster: Option<ClusterId>,
    ) {
        match self.highest {
            Some(highest) if sequence <= highest => return,
            Some(highest) if sequence.0 - highest.0 > MOST as u64 => self.clear(),
            Some(_) => {}
            None => self.told = sequence.0,
        }
        let occupant = self.at(sequence);
        // The ring grows while the packet that would be overwritten may still get feedback.
        if occupant.state == State::InFlight
            && sent.saturating_sub(occupant.sent) < KEEP
            && self.entries.len() < MOST
        {
            self.grow();
        }
        let place = self.place(sequence);
        let entry = Entry {
            sent,
            sequence: sequence.0 as u32,
            bytes: u16::try_from(bytes).unwrap_or(u16::MAX),
            cluster: cluster.map_or(0, ClusterId::get),
            state: State::InFlight,
        };
        self.highest = Some(sequence);
        if let Some(slot) = self.entries.get_mut(place) {
            if slot.state == State::InFlight {
                self.in_flight = self.in_flight.saturating_sub(u64::from(slot.bytes));
            }
            self.in_flight = self.in_flight.saturating_add(u64::from(entry.bytes));
            *slot = entry;
        }
    }

    /// Prefetch of the places of the next packets; see [`Estimator::touch`](super::Estimator::touch).
    pub fn touch(&self) -> usize {
        let next = self.highest.map_or(0, |highest| highest.0 + 1);
        // Four entries share a cache line, and a video frame is about ten.
        let places = [0, 4, 8].map(|ahead| self.place(ExtendedSequence(next + ahead)));
        places
            .iter()
            .filter_map(|place| self.entries.get(*place))
            .fold(0, |sum, entry| sum ^ entry.sent as usize)
    }

    /// Bytes whose feedback is pending.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Extends a number from a feedback message. `None` if no such packet can have been sent.
    pub fn extend(&self, wire: u16) -> Option<ExtendedSequence> {
        let highest = self.highest?;
        let behind = highest.wire().wrapping_sub(wire);
        let sequence = highest.0.checked_sub(u64::from(behind))?;
        Some(ExtendedSequence(sequence))
    }

    /// Appends the results of a message that covers the packets from `from` up to but not including `to`: `arrivals`,
    /// by ascending number, were received, all others lost. Each packet is reported as lost at most once. The work is
    /// bounded by the number of packets sent. Returns the bytes before `from` whose feedback message was lost.
    pub fn resolve(
        &mut self,
        from: ExtendedSequence,
        to: ExtendedSequence,
        arrivals: impl Iterator<Item = (ExtendedSequence, i64)>,
        results: &mut Vec<PacketResult>,
    ) -> u64 {
        let Some(highest) = self.highest else { return 0 };
        let to = to.0.min(highest.0.saturating_add(1));
        let unknown = if self.told < from.0 { self.skip(from.0.min(to)) } else { 0 };
        for (sequence, arrival) in arrivals {
            if sequence.0 < from.0 || sequence.0 >= to {
                continue;
            }
            self.lose_until(sequence.0, results);
            self.receive(sequence, arrival, results);
        }
        self.lose_until(to, results);
        unknown
    }

    /// Reports all packets before `end` that have no feedback yet as lost.
    pub fn lose_before(&mut self, end: ExtendedSequence, results: &mut Vec<PacketResult>) {
        let highest = self.highest.map_or(0, |highest| highest.0.saturating_add(1));
        self.lose_until(end.0.min(highest), results);
    }

    /// Appends the result of a packet that arrived, whether or not earlier packets have feedback.
    pub fn receive(&mut self, sequence: ExtendedSequence, arrival: i64, results: &mut Vec<PacketResult>) {
        let Some(entry) = self.entry_mut(sequence) else { return };
        let (state, bytes) = (entry.state, entry.bytes);
        if state == State::Received || state == State::Empty {
            return;
        }
        entry.state = State::Received;
        let result = entry.result(Some(arrival), state == State::Lost);
        results.push(result);
        if state == State::InFlight {
            self.in_flight = self.in_flight.saturating_sub(u64::from(bytes));
        }
        self.told = self.told.max(sequence.0 + 1);
    }

    /// Appends the result of a packet that was lost.
    pub fn lose(&mut self, sequence: ExtendedSequence, results: &mut Vec<PacketResult>) {
        let Some(entry) = self.entry_mut(sequence) else { return };
        if entry.state != State::InFlight {
            return;
        }
        entry.state = State::Lost;
        let (result, bytes) = (entry.result(None, false), entry.bytes);
        results.push(result);
        self.in_flight = self.in_flight.saturating_sub(u64::from(bytes));
    }

    /// Ends the wait for feedback about a packet, without a result.
    pub fn dismiss(&mut self, sequence: ExtendedSequence) {
        let Some(entry) = self.entry_mut(sequence) else { return };
        if entry.state == State::InFlight {
            entry.state = State::Unknown;
            let bytes = u64::from(entry.bytes);
            self.in_flight = self.in_flight.saturating_sub(bytes);
        }
    }

    fn lose_until(&mut self, end: u64, results: &mut Vec<PacketResult>) {
        let first = self.told.max(end.saturating_sub(self.entries.len() as u64));
        for sequence in first..end {
            self.lose(ExtendedSequence(sequence), results);
        }
        self.told = self.told.max(end);
    }

    /// Marks the packets before `end` without feedback as unknown, because the message about them was lost. Returns
    /// their bytes.
    fn skip(&mut self, end: u64) -> u64 {
        let mut unknown = 0;
        let first = self.told.max(end.saturating_sub(self.entries.len() as u64));
        for sequence in first..end {
            let Some(entry) = self.entry_mut(ExtendedSequence(sequence)) else { continue };
            if entry.state == State::InFlight {
                entry.state = State::Unknown;
                let bytes = u64::from(entry.bytes);
                self.in_flight = self.in_flight.saturating_sub(bytes);
                unknown += bytes;
            }
        }
        self.told = self.told.max(end);
        unknown
    }

    fn clear(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.state = State::Empty);
        self.in_flight = 0;
    }

    fn grow(&mut self) {
        let old = std::mem::take(&mut self.entries);
        self.entries = vec![Entry::default(); (old.len() * 2).min(MOST)];
        for entry in old.into_iter().filter(|entry| entry.state != State::Empty) {
            let place = entry.sequence as usize & (self.entries.len() - 1);
            if let Some(slot) = self.entries.get_mut(place) {
                *slot = entry;
            }
        }
    }

    fn place(&self, sequence: ExtendedSequence) -> usize {
        sequence.0 as usize & (self.entries.len() - 1)
    }

    fn at(&self, sequence: ExtendedSequence) -> Entry {
        self.entries.get(self.place(sequence)).copied().unwrap_or_default()
    }

    fn entry_mut(&mut self, sequence: ExtendedSequence) -> Option<&mut Entry> {
        let place = self.place(sequence);
        self.entries.get_mut(place).filter(|entry| entry.sequence == sequence.0 as u32)
    }
}

impl Entry {
    fn result(&self, arrival: Option<i64>, late: bool) -> PacketResult {
        PacketResult {
            sent: self.sent,
            bytes: self.bytes,
            cluster: ClusterId::new(self.cluster),
            arrival,
            late,
        }
    }
}

/// Extends the receiver's 32-bit clock ticks to 64 bits.
#[derive(Debug, Default)]
pub(super) struct RemoteClock {
    last: Option<i64>,
}

impl RemoteClock {
    /// The extended value nearest to the last one.
    pub fn extend(&mut self, ticks: u32) -> i64 {
        let last = self.last.unwrap_or(i64::from(ticks));
        let distance = ticks.wrapping_sub(last as u32) as i32;
        let extended = last.saturating_add(i64::from(distance));
        self.last = Some(extended);
        extended
    }
}

/// Initial number of entries: a second of one video at 1 Mbit/s. A power of two, as is [`MOST`].
const FEWEST: usize = 256;
/// Maximum number of entries: two seconds at 40 Mbit/s.
const MOST: usize = 8192;
/// Age in microseconds above which a packet without feedback may be overwritten instead of growing the ring.
const KEEP: i64 = 2_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(n: u64) -> ExtendedSequence {
        ExtendedSequence::first(65_000).plus(n)
    }

    fn filled(count: u64) -> SentHistory {
        let mut history = SentHistory::new();
        for n in 0..count {
            history.insert(sequence(n), n as i64 * 1000, 1000, None);
        }
        history
    }

    #[test]
    fn an_entry_has_sixteen_bytes() {
        assert_eq!(size_of::<Entry>(), 16);
    }

    #[test]
    fn every_packet_is_told_of_once_and_late_arrivals_once_more() {
        let mut history = filled(1000);
        assert_eq!(history.in_flight(), 1_000_000);
        let mut results = Vec::new();
        let arrivals = [(sequence(1), 10), (sequence(3), 20)];
        history.resolve(sequence(0), sequence(5), arrivals.into_iter(), &mut results);
        let told: Vec<_> = results.iter().map(|result| result.arrival).collect();
        assert_eq!(told, [None, Some(10), None, Some(20), None]);
        results.clear();
        let again = [(sequence(1), 10), (sequence(2), 15)];
        history.resolve(sequence(0), sequence(5), again.into_iter(), &mut results);
        assert_eq!(results.len(), 1);
        assert!(results[0].late && results[0].arrival == Some(15) && results[0].sent == 2000);
        assert_eq!(history.in_flight(), 995_000);
    }

    #[test]
    fn packets_whose_feedback_was_lost_are_neither_received_nor_lost() {
        let mut history = filled(100);
        let mut results = Vec::new();
        history.resolve(sequence(50), sequence(52), [(sequence(51), 7)].into_iter(), &mut results);
        assert_eq!(results.len(), 2);
        assert_eq!(history.in_flight(), 48_000);
    }

    #[test]
    fn the_ring_grows_for_what_waits_and_no_further_than_its_bound() {
        let mut history = SentHistory::new();
        for n in 0..100_000 {
            history.insert(sequence(n), n as i64, 100, None);
        }
        assert_eq!(history.entries.len(), MOST);
        assert_eq!(history.in_flight(), MOST as u64 * 100);
        let mut results = Vec::new();
        history.resolve(sequence(0), sequence(200_000), [(sequence(99_000), 5)].into_iter(), &mut results);
        assert!(results.len() <= MOST && results.iter().any(|result| result.arrival == Some(5)));
        assert_eq!(history.in_flight(), 0);
    }
}
