//! Event-driven simulation of flows over a forward and a return link.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::rtp::rtcp::TransportFeedback;
use crate::units::test_epoch;

use super::link::{Link, LinkSpec, Offered};
use super::media::{Kind, Media, MediaSpec, Outgoing};
use super::tcp::{Growth, SEGMENT, Tcp};

#[derive(Debug)]
pub struct Packet {
    pub flow: usize,
    pub bytes: usize,
    pub body: Body,
}

#[derive(Debug)]
pub enum Body {
    Media(u64, Kind),
    Feedback(Box<TransportFeedback>),
    Segment(u64),
    Ack(u64),
}

#[derive(Debug, Clone)]
pub enum FlowKind {
    Media(MediaSpec),
    Tcp(Growth, Option<u64>),
    /// Short transfers of 100 to 1000 kB with pauses of 10 s on average.
    ShortTcp,
}

#[derive(Debug, Clone)]
pub struct FlowSpec {
    pub kind: FlowKind,
    /// Start of the flow, in seconds.
    pub start: f64,
    /// One-way delay in each direction, in milliseconds.
    pub delay: f64,
    /// Whether the flow's data goes over the return link, and its feedback over the forward link.
    pub back: bool,
}

impl FlowSpec {
    pub fn media() -> Self {
        Self { kind: FlowKind::Media(MediaSpec::default()), start: 0.0, delay: 50.0, back: false }
    }

    pub fn with(spec: MediaSpec) -> Self {
        Self { kind: FlowKind::Media(spec), ..Self::media() }
    }

    pub fn at(self, start: f64) -> Self {
        Self { start, ..self }
    }

    pub fn delay(self, delay: f64) -> Self {
        Self { delay, ..self }
    }
}

#[derive(Debug, Clone)]
pub struct Scenario {
    pub seconds: f64,
    pub there: LinkSpec,
    pub back: LinkSpec,
    pub flows: Vec<FlowSpec>,
    pub seed: u64,
}

impl Scenario {
    pub fn new(seconds: f64, rates: &[(f64, f64)]) -> Self {
        let there = LinkSpec { rates: rates.to_vec(), ..LinkSpec::constant(0.0) };
        Self { seconds, there, back: LinkSpec::constant(1e8), flows: vec![FlowSpec::media()], seed: 1 }
    }
}

/// Measurements of one flow, in bins of 100 ms.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    pub sent: Vec<u32>,
    pub received: Vec<u32>,
    pub estimate: Vec<f32>,
    pub packets: Vec<u32>,
    pub lost: Vec<u32>,
    pub audio: Vec<u32>,
    pub audio_lost: Vec<u32>,
    /// Times at which video frames were complete, in seconds.
    pub pictures: Vec<f64>,
}

impl Seen {
    fn add(bins: &mut Vec<u32>, now: u64, n: u32) {
        let bin = (now / 100_000) as usize;
        if bins.len() <= bin {
            bins.resize(bin + 1, 0);
        }
        bins[bin] += n;
    }

    fn sum(bins: &[u32], from: f64, to: f64) -> f64 {
        let (from, to) = ((from * 10.0).round() as usize, (to * 10.0).round() as usize);
        (from..to).map(|bin| f64::from(bins.get(bin).copied().unwrap_or(0))).sum()
    }

    /// Received bits per second.
    pub fn rate(&self, from: f64, to: f64) -> f64 {
        Self::sum(&self.received, from, to) * 8.0 / (to - from)
    }

    /// Sent bits per second.
    pub fn sent_rate(&self, from: f64, to: f64) -> f64 {
        Self::sum(&self.sent, from, to) * 8.0 / (to - from)
    }

    pub fn loss(&self, from: f64, to: f64) -> f64 {
        Self::sum(&self.lost, from, to) / Self::sum(&self.packets, from, to).max(1.0)
    }

    pub fn audio_loss(&self, from: f64, to: f64) -> f64 {
        Self::sum(&self.audio_lost, from, to) / Self::sum(&self.audio, from, to).max(1.0)
    }

    pub fn estimate_at(&self, seconds: f64) -> f64 {
        f64::from(self.estimate.get((seconds * 10.0).round() as usize).copied().unwrap_or(0.0))
    }

    /// Total of all gaps between video frames that exceed 200 ms, in seconds. Each gap counts entirely.
    pub fn frozen(&self, from: f64, to: f64) -> f64 {
        let inside = self.pictures.iter().copied().filter(|at| (from..to).contains(at));
        let times: Vec<f64> = [from].into_iter().chain(inside).chain([to]).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 0.2).sum()
    }

    pub fn least_estimate(&self, from: f64, to: f64) -> f64 {
        let (from, to) = ((from * 10.0).round() as usize, (to * 10.0).round() as usize);
        self.estimate
            .get(from..to.min(self.estimate.len()))
            .unwrap_or_default()
            .iter()
            .fold(f64::MAX, |least, rate| least.min(f64::from(*rate)))
    }
}

enum Sender {
    Media(Box<Media>),
    Tcp(Tcp),
    Short { tcp: Tcp, resume: u64 },
}

#[derive(Debug)]
enum Event {
    Start(usize),
    Frame(usize),
    Audio(usize),
    Send(usize),
    Report(usize),
    Transmitted(bool),
    Arrived(Packet),
    Sample,
}

struct Timed(u64, u64, Event);

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Timed {}
impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

pub struct Network {
    scenario: Scenario,
    pub links: [Link; 2],
    senders: Vec<Option<Sender>>,
    pub seen: Vec<Seen>,
    events: BinaryHeap<Reverse<Timed>>,
    count: u64,
    now: u64,
    random: SmallRng,
    epoch: std::time::Instant,
    /// Last arrival of each flow on each link, in microseconds. Later packets arrive later, so that jitter does not
    /// reorder.
    arrivals: Vec<[u64; 2]>,
    next_send: Vec<u64>,
}

impl Network {
    pub fn run(scenario: Scenario) -> Self {
        let count = scenario.flows.len();
        let mut network = Self {
            links: [Link::new(scenario.there.clone()), Link::new(scenario.back.clone())],
            senders: (0..count).map(|_| None).collect(),
            seen: vec![Seen::default(); count],
            events: BinaryHeap::new(),
            count: 0,
            now: 0,
            random: SmallRng::seed_from_u64(scenario.seed),
            epoch: test_epoch(),
            arrivals: vec![[0; 2]; count],
            next_send: vec![0; count],
            scenario,
        };
        for flow in 0..count {
            // Real flows do not start in lockstep.
            let start = network.scenario.flows[flow].start * 1e6 + network.random.random_range(0.0..20_000.0);
            network.schedule(start as u64, Event::Start(flow));
        }
        network.schedule(0, Event::Sample);
        let end = (network.scenario.seconds * 1e6) as u64;
        while let Some(Reverse(Timed(at, _, event))) = network.events.pop() {
            if at > end {
                break;
            }
            network.now = at;
            network.handle(event);
        }
        network
    }

    pub fn media(&self, flow: usize) -> Option<&Media> {
        match self.senders[flow].as_ref()? {
            Sender::Media(media) => Some(media),
            _ => None,
        }
    }

    /// 95th percentile of the forward link's queueing delay, in milliseconds.
    pub fn queue_p95(&self, from: f64, to: f64) -> f64 {
        let mut delays: Vec<f32> = self.links[0]
            .delays
            .iter()
            .filter(|(at, _)| (from * 1000.0..to * 1000.0).contains(&f64::from(*at)))
            .map(|(_, delay)| *delay)
            .collect();
        delays.sort_by(f32::total_cmp);
        delays.get(delays.len() * 95 / 100).copied().map_or(0.0, f64::from)
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.count += 1;
        self.events.push(Reverse(Timed(at, self.count, event)));
    }

    fn handle(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Start(flow) => self.start(flow),
            Event::Frame(flow) => {
                if let Some(Sender::Media(media)) = &mut self.senders[flow] {
                    media.on_frame(now, &mut self.random);
                    self.schedule(now + 33_333, Event::Frame(flow));
                    self.send(flow);
                }
            }
            Event::Audio(flow) => {
                if let Some(Sender::Media(media)) = &mut self.senders[flow] {
                    media.on_audio();
                    self.schedule(now + 20_000, Event::Audio(flow));
                    self.send(flow);
                }
            }
            Event::Send(flow) => {
                if self.next_send[flow] <= now {
                    self.next_send[flow] = u64::MAX;
                    self.send(flow);
                }
            }
            Event::Report(flow) => self.report(flow),
            Event::Transmitted(back) => self.transmitted(back),
            Event::Arrived(packet) => self.arrived(packet),
            Event::Sample => {
                for (sender, seen) in self.senders.iter().zip(&mut self.seen) {
                    let estimate = match sender {
                        Some(Sender::Media(media)) => media.estimate() as f32,
                        _ => 0.0,
                    };
                    seen.estimate.push(estimate);
                }
                self.schedule(now + 100_000, Event::Sample);
            }
        }
    }

    fn start(&mut self, flow: usize) {
        let now = self.now;
        let sender = match self.scenario.flows[flow].kind.clone() {
            FlowKind::Media(spec) => {
                self.schedule(now, Event::Frame(flow));
                self.schedule(now, Event::Audio(flow));
                self.schedule(now + 50_000, Event::Report(flow));
                Sender::Media(Box::new(Media::new(spec, self.epoch, now, &mut self.random)))
            }
            FlowKind::Tcp(growth, bytes) => Sender::Tcp(Tcp::new(growth, bytes)),
            FlowKind::ShortTcp => {
                let bytes = self.random.random_range(100_000..1_000_000);
                Sender::Short { tcp: Tcp::new(Growth::Reno, Some(bytes)), resume: 0 }
            }
        };
        self.senders[flow] = Some(sender);
        self.next_send[flow] = u64::MAX;
        self.send(flow);
    }

    fn send(&mut self, flow: usize) {
        let now = self.now;
        let Some(sender) = &mut self.senders[flow] else { return };
        let again = match sender {
            Sender::Media(media) => {
                let mut out: Vec<Outgoing> = Vec::new();
                let again = media.send(now, &mut out);
                for packet in out {
                    self.offer(flow, packet.bytes, Body::Media(packet.sequence, packet.kind));
                }
                again
            }
            Sender::Tcp(tcp) => {
                tcp.on_timer(now);
                let numbers: Vec<u64> = std::iter::from_fn(|| tcp.send(now)).collect();
                numbers.into_iter().for_each(|number| self.offer(flow, SEGMENT, Body::Segment(number)));
                now + 100_000
            }
            Sender::Short { tcp, resume } => {
                if tcp.left == 0 && *resume == 0 {
                    let pause = -self.random.random_range(0.001_f64..1.0).ln() * 10.0;
                    *resume = now + (pause * 1e6) as u64;
                } else if *resume != 0 && now >= *resume {
                    let bytes = self.random.random_range(100_000..1_000_000);
                    (*tcp, *resume) = (Tcp::new(Growth::Reno, Some(bytes)), 0);
                }
                tcp.on_timer(now);
                let numbers: Vec<u64> = std::iter::from_fn(|| tcp.send(now)).collect();
                numbers.into_iter().for_each(|number| self.offer(flow, SEGMENT, Body::Segment(number)));
                now + 100_000
            }
        };
        if again < self.next_send[flow] || self.next_send[flow] <= now {
            self.next_send[flow] = again;
            self.schedule(again, Event::Send(flow));
        }
    }

    fn report(&mut self, flow: usize) {
        if let Some(Sender::Media(media)) = &mut self.senders[flow] {
            let lost = media.spec.feedback_loss;
            let feedback = media.receiver.feedback();
            if let Some(feedback) = feedback
                && (lost == 0.0 || !self.random.random_bool(lost))
            {
                let bytes = 70 + feedback.received.len() * 2;
                self.offer(flow, bytes, Body::Feedback(Box::new(feedback)));
            }
            self.schedule(self.now + 50_000, Event::Report(flow));
        }
    }

    fn offer(&mut self, flow: usize, bytes: usize, body: Body) {
        let now = self.now;
        let forward = matches!(body, Body::Media(..) | Body::Segment(_));
        if forward {
            Seen::add(&mut self.seen[flow].sent, now, bytes as u32);
        }
        if let Body::Media(_, kind) = body {
            Seen::add(&mut self.seen[flow].packets, now, 1);
            if kind == Kind::Audio {
                Seen::add(&mut self.seen[flow].audio, now, 1);
            }
        }
        let back = self.scenario.flows[flow].back == forward;
        match self.links[usize::from(back)].offer(now, Packet { flow, bytes, body }) {
            Offered::Begin => {
                let at = self.links[usize::from(back)].transmission(now);
                self.schedule(at, Event::Transmitted(back));
            }
            Offered::Queued => {}
            Offered::Dropped(packet) => self.lost(&packet),
        }
    }

    fn lost(&mut self, packet: &Packet) {
        if let Body::Media(_, kind) = packet.body {
            Seen::add(&mut self.seen[packet.flow].lost, self.now, 1);
            if kind == Kind::Audio {
                Seen::add(&mut self.seen[packet.flow].audio_lost, self.now, 1);
            }
        }
    }

    fn transmitted(&mut self, back: bool) {
        let now = self.now;
        let link = &mut self.links[usize::from(back)];
        if let Some(packet) = link.finish(now) {
            if link.loses(&mut self.random) {
                self.lost(&packet);
            } else {
                let delay = (self.scenario.flows[packet.flow].delay * 1000.0) as u64;
                let at = now + delay + self.links[usize::from(back)].jitter(&mut self.random);
                let last = &mut self.arrivals[packet.flow][usize::from(back)];
                *last = at.max(*last + 1);
                let at = *last;
                self.schedule(at, Event::Arrived(packet));
            }
        }
        let link = &mut self.links[usize::from(back)];
        if link.goes_on() {
            let at = link.transmission(now);
            self.schedule(at, Event::Transmitted(back));
        }
    }

    fn arrived(&mut self, packet: Packet) {
        let now = self.now;
        let flow = packet.flow;
        if matches!(packet.body, Body::Media(..) | Body::Segment(_)) {
            Seen::add(&mut self.seen[flow].received, now, packet.bytes as u32);
        }
        match (&mut self.senders[flow], packet.body) {
            (Some(Sender::Media(media)), Body::Media(sequence, kind)) => {
                media.receiver.on_packet(now, sequence);
                if media.receiver.has_picture(kind) {
                    self.seen[flow].pictures.push(now as f64 / 1e6);
                }
            }
            (Some(Sender::Media(media)), Body::Feedback(feedback)) => {
                media.on_feedback(now, &feedback);
                self.send(flow);
            }
            (_, Body::Segment(number)) => self.offer(flow, 60, Body::Ack(number)),
            (Some(Sender::Tcp(tcp) | Sender::Short { tcp, .. }), Body::Ack(number)) => {
                tcp.on_ack(now, number);
                self.send(flow);
            }
            _ => {}
        }
    }
}
