//! Which of a track's layers go to one subscriber, packet by packet.
//!
//! Between encodings (simulcast) a change waits for a key frame of the new one. Within a stream, between its spatial
//! and temporal layers, it waits for a frame that says that one can change with it, and all of whose references were
//! sent; fewer temporal layers need neither. Until then the old choice goes on: no freeze. And nothing is sent that is
//! predicted from a frame that was left out.
//!
//! What frames are to each other was read where they were received
//! ([`ingress::frames`](crate::ingress::frames)); here a packet costs a few comparisons.

mod history;
mod ideal;

use sfu_protocol::{Layer, MediaKind};

use crate::media_packet::{Arrangement, MediaPacket};
use crate::rtp::codec::frame::{FrameFacts, OperatingPoint};
use history::{History, Seen};
pub use ideal::ideal_layer;

/// What is wanted of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The layer: an encoding, or a spatial layer with those below it.
    pub layer: Layer,
    /// The highest temporal layer of it.
    pub temporal: u8,
}

impl Target {
    /// A layer at its full frame rate.
    pub fn whole(layer: Layer) -> Self {
        Self { layer, temporal: OperatingPoint::ALL.temporal() }
    }
}

/// Something to send: a stream, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    stream: Layer,
    point: OperatingPoint,
}

/// Where one subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is wanted.
    Paused,
    /// Nothing is sent yet: a key frame of the target, or of anything below it, begins.
    Waiting { target: Place },
    /// What is wanted is sent.
    Steady { current: Place },
    /// One thing is sent, another is wanted.
    Switching { current: Place, target: Place },
}

/// The choice for one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerSelect {
    state: State,
    kind: MediaKind,
    arrangement: Arrangement,
    /// A key frame of the stream that is sent is the only way on.
    blocked: bool,
    history: History,
}

/// What happens to one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Select {
    /// It is sent.
    Forward,
    /// It is sent, and is the first of another encoding, or the first after a pause.
    Switch,
    /// It is not sent.
    Skip,
}

/// What happens to one packet, and how it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    /// Whether it is sent.
    pub select: Select,
    /// Its marker bit: it is the last of what this subscriber gets of the picture.
    pub marker: bool,
}

impl LayerSelect {
    /// Nothing is wanted yet.
    pub fn new(kind: MediaKind) -> Self {
        Self {
            state: State::Paused,
            kind,
            arrangement: Arrangement::Encodings,
            blocked: false,
            history: History::default(),
        }
    }

    /// What the track's layers are. Comes before anything is wanted of it.
    pub fn arrange(&mut self, arrangement: Arrangement) {
        self.arrangement = arrangement;
    }

    /// What is wanted from now on.
    pub fn aim(&mut self, target: Option<Target>) {
        let target = target.map(|target| self.place_of(target));
        self.blocked = false;
        self.state = match (target, self.sent()) {
            (None, _) => State::Paused,
            (Some(target), None) => State::Waiting { target },
            (Some(target), Some(current)) => between(current, target),
        };
    }

    /// The layer that is sent.
    pub fn current(&self) -> Option<Layer> {
        self.sent().map(|place| self.layer_of(place))
    }

    /// What is wanted.
    pub fn target(&self) -> Option<Target> {
        let place = self.wanted()?;
        Some(Target { layer: self.layer_of(place), temporal: place.point.temporal() })
    }

    /// The stream that is sent: the layer by which its packets, its memory and its reports are known.
    pub fn stream(&self) -> Option<Layer> {
        self.sent().map(|place| place.stream)
    }

    /// The stream that is wanted.
    pub fn target_stream(&self) -> Option<Layer> {
        self.wanted().map(|place| place.stream)
    }

    /// Whether what is sent is what is wanted.
    pub fn is_settled(&self) -> bool {
        matches!(self.state, State::Steady { .. } | State::Paused) && !self.blocked
    }

    /// The layer that is sent, if a lower one is to replace it.
    pub fn stepping_down(&self) -> Option<Layer> {
        match self.state {
            State::Switching { current, target } if self.layer_of(target) < self.layer_of(current) => {
                Some(self.layer_of(current))
            }
            _ => None,
        }
    }

    /// What was sent is of no use any more: begins again at the next key frame.
    pub fn restart(&mut self) {
        if let Some(target) = self.wanted() {
            self.state = State::Waiting { target };
            self.blocked = false;
        }
    }

    /// The stream whose key frame is waited for.
    pub fn wants_key_frame(&self) -> Option<Layer> {
        let stream = match self.state {
            State::Paused => None,
            State::Waiting { target } => Some(target.stream),
            State::Steady { current } => self.blocked.then_some(current.stream),
            State::Switching { current, target } => {
                (self.blocked || current.stream != target.stream).then_some(target.stream)
            }
        };
        stream.filter(|_| self.kind == MediaKind::Video)
    }

    /// Decides about a packet, and moves on if it is one to move on at.
    #[inline]
    pub fn on_packet(&mut self, packet: &MediaPacket) -> Selection {
        let select = match self.state {
            State::Steady { current } | State::Switching { current, .. }
                if current.stream == packet.layer =>
            {
                match &packet.facts.frame {
                    None => Select::Forward,
                    Some(frame) => self.within_stream(frame, current),
                }
            }
            State::Steady { .. } | State::Paused => Select::Skip,
            State::Waiting { .. } | State::Switching { .. } => self.between_streams(packet),
        };
        Selection { select, marker: packet.marker || self.ends_picture(packet) }
    }

    /// A packet of a stream that is not sent.
    fn between_streams(&mut self, packet: &MediaPacket) -> Select {
        let begins = match self.kind {
            MediaKind::Audio => !packet.payload.is_empty(),
            MediaKind::Video => packet.facts.starts_key_frame(),
        };
        let (target, nearer) = match self.state {
            State::Waiting { target } => (target, packet.layer <= target.stream),
            State::Switching { current, target } => {
                (target, is_nearer(packet.layer, current.stream, target.stream))
            }
            State::Paused | State::Steady { .. } => return Select::Skip,
        };
        if !begins || !nearer {
            return Select::Skip;
        }
        self.state = between(Place { stream: packet.layer, point: target.point }, target);
        self.blocked = false;
        self.history = packet.facts.frame.map(|frame| History::beginning(frame.number)).unwrap_or_default();
        Select::Switch
    }

    /// A packet of the stream that is sent, of whose frame something is known.
    #[inline]
    fn within_stream(&mut self, frame: &FrameFacts, current: Place) -> Select {
        let sent = match self.history.look_up(frame.number, current.point) {
            Seen::Sent => true,
            Seen::LeftOut => false,
            Seen::New => self.begin_frame(frame, current),
            Seen::Late(point) => {
                let sent = point.is_some_and(|point| frame.part_of.has(point))
                    && !self.history.missed(frame.number, frame.references);
                self.history.note_late(frame.number, sent);
                sent
            }
        };
        if sent { Select::Forward } else { Select::Skip }
    }

    /// The first packet of a frame that is newer than all before. Whether it is sent.
    fn begin_frame(&mut self, frame: &FrameFacts, mut current: Place) -> bool {
        self.history.advance(frame.number);
        if let State::Switching { target, .. } = self.state
            && target.stream == current.stream
        {
            current = self.move_towards(frame, current, target);
        }
        let wanted = frame.part_of.has(current.point);
        let broken = wanted && self.history.misses(frame.references);
        if broken {
            self.blocked = true;
        } else if wanted && self.blocked && frame.switches.has(current.point) {
            self.blocked = !matches!(self.state, State::Steady { .. });
        }
        let sent = wanted && !broken;
        self.history.note(sent);
        sent
    }

    /// Changes to another operating point of the same stream, if it can be done with this frame. Returns what is sent
    /// from this frame on.
    fn move_towards(&mut self, frame: &FrameFacts, current: Place, target: Place) -> Place {
        let Some(point) = self.next_point(frame, current.point, target.point) else { return current };
        self.history.change(frame.number, current.point);
        let current = Place { point, ..current };
        self.state = between(current, target);
        self.blocked &= current != target;
        current
    }

    /// The operating point nearest to `target` that can be had with this frame.
    fn next_point(
        &mut self,
        frame: &FrameFacts,
        current: OperatingPoint,
        target: OperatingPoint,
    ) -> Option<OperatingPoint> {
        let (from, to) = (current.spatial(), target.spatial());
        let steps = from.abs_diff(to);
        for step in 0..steps {
            let spatial = if to > from { to - step } else { to + step };
            let Some(temporal) = frame.switches.highest_temporal(spatial, target.temporal()) else {
                continue;
            };
            if self.history.has_all(frame.references) {
                return Some(OperatingPoint::new(spatial, temporal));
            }
            // One could change here, had more been sent before. Only a key frame helps.
            self.blocked = true;
            break;
        }
        let wanted = OperatingPoint::new(from, target.temporal());
        if target.temporal() < current.temporal() {
            // What is left out is needed by nothing that is sent.
            return frame.part_of.has(wanted).then_some(wanted);
        }
        let temporal = frame.climbs.highest_temporal(from, target.temporal())?;
        let up = temporal > current.temporal() && self.history.has_all(frame.references);
        up.then(|| OperatingPoint::new(from, temporal))
    }

    /// Of a picture in several spatial layers the subscriber gets some, and the last packet of the highest is the
    /// picture's last.
    #[inline]
    fn ends_picture(&self, packet: &MediaPacket) -> bool {
        packet.facts.frame_end
            && self.arrangement == Arrangement::Spatial
            && self.sent().is_some_and(|place| place.point.spatial() == packet.facts.spatial)
    }

    fn sent(&self) -> Option<Place> {
        match self.state {
            State::Paused | State::Waiting { .. } => None,
            State::Steady { current } | State::Switching { current, .. } => Some(current),
        }
    }

    fn wanted(&self) -> Option<Place> {
        match self.state {
            State::Paused => None,
            State::Waiting { target } | State::Switching { target, .. } => Some(target),
            State::Steady { current } => Some(current),
        }
    }

    fn place_of(&self, target: Target) -> Place {
        match self.arrangement {
            Arrangement::Encodings => Place {
                stream: target.layer,
                point: OperatingPoint::new(OperatingPoint::ALL.spatial(), target.temporal),
            },
            Arrangement::Spatial => {
                Place { stream: Layer(0), point: OperatingPoint::new(target.layer.0, target.temporal) }
            }
        }
    }

    fn layer_of(&self, place: Place) -> Layer {
        match self.arrangement {
            Arrangement::Encodings => place.stream,
            Arrangement::Spatial => Layer(place.point.spatial()),
        }
    }
}

fn between(current: Place, target: Place) -> State {
    if current == target { State::Steady { current } } else { State::Switching { current, target } }
}

/// Whether `layer` lies on the way from `current` to `target`, and not where we are.
fn is_nearer(layer: Layer, current: Layer, target: Layer) -> bool {
    if current < target { current < layer && layer <= target } else { target <= layer && layer < current }
}

#[cfg(test)]
mod tests;
