//! Video frames that identify themselves, and a receiver of them that behaves like a browser's: it requests missing
//! packets at once and again after each round trip, up to ten times, and then requests a key frame.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sfu_engine::rtp::extension::HeaderExtensions;
use sfu_engine::rtp::packet::RtpHeader;
use sfu_engine::rtp::rtcp;
use sfu_engine::units::{ExtendedSequence, Ssrc};
use sfu_protocol::TrackSid;

use super::reports::{Reports, SenderReport};

/// Round-trip time that the receiver assumes.
const ROUND_TRIP: Duration = Duration::from_millis(80);

/// Interval at which pending requests are checked.
const LOOK: Duration = Duration::from_millis(20);

const TRIES: u8 = 10;

/// A key frame is requested if no frame was shown for longer than this.
const PATIENCE: Duration = Duration::from_millis(1000);

const REPORTS: Duration = Duration::from_secs(1);

/// Maximum bytes of a packet's payload.
const PACKET: usize = 1100;

/// Packets of one video frame. Each states the number and capture time of the frame.
pub fn make(number: u32, capture_us: u64, layer: u8, key: bool, bytes: usize) -> Vec<Vec<u8>> {
    let count = bytes.div_ceil(PACKET).clamp(1, 255);
    let packet = |index: usize| {
        let picture = (number & 0x7fff) as u16 | 0x8000;
        let mut body = vec![0x80 | if index == 0 { 0x10 } else { 0 }, 0x80];
        body.extend(picture.to_be_bytes());
        body.push(u8::from(!key));
        body.extend(number.to_be_bytes());
        body.extend(capture_us.to_be_bytes());
        body.extend([index as u8, count as u8, layer]);
        body.resize(bytes / count + 4, number as u8);
        body
    };
    (0..count).map(packet).collect()
}

/// Frame that was complete and decodable.
#[derive(Debug, Clone, Copy)]
pub struct Shown {
    pub at: Instant,
    pub number: u32,
    pub timestamp: u32,
    pub capture_us: u64,
    pub layer: u8,
    pub key: bool,
}

struct Packet {
    timestamp: u32,
    number: u32,
    capture_us: u64,
    index: u8,
    count: u8,
    layer: u8,
    key: bool,
}

/// Receiving state of one video track.
pub struct PictureReceiver {
    pub track: TrackSid,
    pub ssrc: Ssrc,
    pub repair: Ssrc,
    pub reported: Option<SenderReport>,
    /// Frames in the order in which they became decodable.
    pub shown: Vec<Shown>,
    /// Number of key frames requested.
    pub asked: u64,
    pub packets: u64,
    /// Bytes of payload, retransmissions excluded.
    pub bytes: u64,
    pub repaired: u64,
    /// Number of sequence numbers requested, repeated requests included.
    pub nacked: u64,
    pub playout_delay: Option<[u8; 3]>,
    pub capture_time: Option<Vec<u8>>,
    /// Whether each tick requests a key frame, needed or not.
    pub storm: bool,
    waiting: BTreeMap<u64, Packet>,
    /// Sequence number after the last frame shown.
    next: Option<u64>,
    highest: Option<ExtendedSequence>,
    seen: BTreeMap<u64, ()>,
    missing: BTreeMap<u64, (Option<Instant>, u8)>,
    next_look: Option<Instant>,
    reports: Reports,
    asked_at: Option<Instant>,
}

impl PictureReceiver {
    pub fn new(track: TrackSid, ssrc: Ssrc, repair: Ssrc) -> Self {
        Self {
            track,
            ssrc,
            repair,
            reported: None,
            shown: Vec::new(),
            asked: 0,
            packets: 0,
            bytes: 0,
            repaired: 0,
            nacked: 0,
            playout_delay: None,
            capture_time: None,
            storm: false,
            waiting: BTreeMap::new(),
            next: None,
            highest: None,
            seen: BTreeMap::new(),
            missing: BTreeMap::new(),
            next_look: None,
            reports: Reports::new(REPORTS),
            asked_at: None,
        }
    }

    pub fn receive(
        &mut self,
        now: Instant,
        header: &RtpHeader,
        extensions: &HeaderExtensions<'_>,
        body: &[u8],
        out: &mut Vec<u8>,
    ) {
        if extensions.playout_delay.is_some() {
            self.playout_delay = extensions.playout_delay;
        }
        if extensions.absolute_capture_time.is_some() {
            self.capture_time = extensions.absolute_capture_time.map(<[u8]>::to_vec);
        }
        self.next_look.get_or_insert(now);
        self.reports.begin(now);
        let repaired = header.ssrc == self.repair;
        let (wire, body) = match repaired {
            true if body.len() > 2 => (u16::from_be_bytes([body[0], body[1]]), &body[2..]),
            true => return,
            false => (header.sequence, body),
        };
        if body.is_empty() {
            return;
        }
        self.packets += 1;
        self.repaired += u64::from(repaired);
        self.bytes += if repaired { 0 } else { body.len() as u64 };
        let sequence = match self.highest {
            None if repaired => return,
            None => ExtendedSequence::first(wire),
            Some(highest) => highest.extend(wire),
        };
        if self.highest.is_none() {
            self.reports.begin_with(sequence);
        }
        if let Some(highest) = self.highest {
            for number in highest.0 + 1..sequence.0 {
                self.missing.insert(number, (None, 0));
            }
        }
        self.highest = Some(self.highest.map_or(sequence, |highest| highest.max(sequence)));
        self.missing.remove(&sequence.0);
        if self.seen.insert(sequence.0, ()).is_some() {
            return;
        }
        if !repaired {
            self.reports.count();
        }
        let word = |at: usize| u32::from_be_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]]);
        let packet = Packet {
            timestamp: header.timestamp,
            number: word(5),
            capture_us: u64::from(word(9)) << 32 | u64::from(word(13)),
            index: body[17],
            count: body[18],
            layer: body[19],
            key: body[4] & 1 == 0,
        };
        self.waiting.insert(sequence.0, packet);
        self.show(now);
        self.ask(now, true, out);
    }

    /// Shows every frame that is complete and either follows the last frame shown or is a key frame.
    fn show(&mut self, now: Instant) {
        while let Some(place) = self.next_picture() {
            let packet = &self.waiting[&place];
            let (count, shown) = (
                u64::from(packet.count),
                Shown {
                    at: now,
                    number: packet.number,
                    timestamp: packet.timestamp,
                    capture_us: packet.capture_us,
                    layer: packet.layer,
                    key: packet.key,
                },
            );
            self.shown.push(shown);
            self.next = Some(place + count);
            let behind = self.waiting.split_off(&(place + count));
            self.waiting = behind;
            let missing = self.missing.split_off(&(place + count));
            self.missing = missing;
        }
    }

    fn next_picture(&self) -> Option<u64> {
        let complete = |place: u64| {
            let Some(first) = self.waiting.get(&place).filter(|packet| packet.index == 0) else {
                return false;
            };
            (0..u64::from(first.count)).all(|index| {
                self.waiting.get(&(place + index)).is_some_and(|packet| packet.number == first.number)
            })
        };
        if let Some(next) = self.next.filter(|next| complete(*next)) {
            return Some(next);
        }
        let keys = self.waiting.iter().filter(|(_, packet)| packet.key && packet.index == 0);
        keys.map(|(place, _)| *place).find(|place| complete(*place))
    }

    fn ask(&mut self, now: Instant, only_new: bool, out: &mut Vec<u8>) {
        let mut lost = Vec::new();
        let mut hopeless = false;
        for (number, (asked, tries)) in &mut self.missing {
            let due = asked.is_none_or(|asked| !only_new && now - asked >= ROUND_TRIP);
            if !due {
                continue;
            }
            if *tries >= TRIES {
                hopeless = true;
                continue;
            }
            (*asked, *tries) = (Some(now), *tries + 1);
            lost.push(*number as u16);
        }
        self.nacked += lost.len() as u64;
        rtcp::write_nack(out, Ssrc(1), self.ssrc, &lost);
        let last = self.shown.last().map(|shown| shown.at);
        let stuck = last.is_some_and(|last| now - last > PATIENCE);
        let lately = self.asked_at.is_some_and(|at| now - at < Duration::from_millis(500));
        if self.storm || ((hopeless || stuck || last.is_none()) && !lately) {
            self.asked_at = Some(now);
            self.asked += 1;
            rtcp::write_pli(out, Ssrc(1), self.ssrc);
        }
    }

    /// Requests a key frame, and the last 100 packets again.
    pub fn ask_for_everything(&self, out: &mut Vec<u8>) {
        let Some(highest) = self.highest else { return };
        let all: Vec<u16> = (0..100).rev().map(|back| (highest.0 as u16).wrapping_sub(back)).collect();
        rtcp::write_nack(out, Ssrc(1), self.ssrc, &all);
        rtcp::write_pli(out, Ssrc(1), self.ssrc);
    }

    pub fn advance(&mut self, now: Instant, out: &mut Vec<u8>) {
        if self.next_look.is_some_and(|due| due <= now) || self.storm {
            self.next_look = Some(now + LOOK);
            self.ask(now, false, out);
        }
        self.reports.poll(now, self.ssrc, self.highest, self.reported, out);
    }
}
