//! Decides packet by packet which of a track's layers are sent to one subscriber.
//!
//! Between encodings (simulcast), a change waits for a key frame of the new encoding. Within a stream, a change of
//! spatial or temporal layer waits for a frame at which that change is possible and whose references were all sent.
//! Dropping temporal layers needs neither. Until then the old layer continues, so the video does not freeze. A frame
//! that depends on a frame that was left out is never sent.
//!
//! Frame dependencies are parsed once, where the packets are received ([`ingress::frames`](crate::ingress::frames)).
//! Here a packet costs a few comparisons.

mod history;
mod ideal;

use sfu_protocol::{Layer, MediaKind};

use crate::media_packet::{Arrangement, MediaPacket};
use crate::rtp::codec::frame::{FrameFacts, OperatingPoint};
use history::{History, Seen};
pub use ideal::ideal_layer;

/// The part of a track that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The layer: an encoding, or a spatial layer with those below it.
    pub layer: Layer,
    /// Highest temporal layer of it.
    pub temporal: u8,
}

impl Target {
    /// A layer with all its temporal layers.
    pub fn whole(layer: Layer) -> Self {
        Self { layer, temporal: OperatingPoint::ALL.temporal() }
    }
}

/// A stream, and the part of it that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    stream: Layer,
    point: OperatingPoint,
}

/// State of one subscription's layer selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is wanted.
    Paused,
    /// Nothing is sent yet. A key frame of the target, or of any layer below it, starts the video.
    Waiting { target: Place },
    /// The wanted layer is sent.
    Steady { current: Place },
    /// One layer is sent and another one is wanted.
    Switching { current: Place, target: Place },
}

/// Layer selection of one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerSelect {
    state: State,
    kind: MediaKind,
    arrangement: Arrangement,
    /// Whether only a key frame lets the selection continue, because a frame that is needed was not sent.
    blocked: bool,
    history: History,
}

/// Decision about one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Select {
    /// The packet is sent.
    Forward,
    /// The packet is sent and is the first of another encoding, or the first after a pause.
    Switch,
    /// The packet is not sent.
    Skip,
}

/// Decision about one packet, with its marker bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    /// Whether the packet is sent.
    pub select: Select,
    /// Marker bit: whether the packet is the last of its picture that this subscriber gets.
    pub marker: bool,
}

impl LayerSelect {
    /// A selection with nothing wanted yet.
    pub fn new(kind: MediaKind) -> Self {
        Self {
            state: State::Paused,
            kind,
            arrangement: Arrangement::Encodings,
            blocked: false,
            history: History::default(),
        }
    }

    /// Sets what the track's layers are: encodings or spatial layers. Call before [`aim`](Self::aim).
    pub fn arrange(&mut self, arrangement: Arrangement) {
        self.arrangement = arrangement;
    }

    /// Sets the target; `None` pauses.
    pub fn aim(&mut self, target: Option<Target>) {
        let target = target.map(|target| self.place_of(target));
        self.blocked = false;
        self.state = match (target, self.sent()) {
            (None, _) => State::Paused,
            (Some(target), None) => State::Waiting { target },
            (Some(target), Some(current)) => between(current, target),
        };
    }

    /// Layer that is sent now.
    pub fn current(&self) -> Option<Layer> {
        self.sent().map(|place| self.layer_of(place))
    }

    /// The current target; `None` while paused.
    pub fn target(&self) -> Option<Target> {
        let place = self.wanted()?;
        Some(Target { layer: self.layer_of(place), temporal: place.point.temporal() })
    }

    /// Stream that is sent now. Its layer number identifies the stream's packets, packet memory and reports.
    pub fn stream(&self) -> Option<Layer> {
        self.sent().map(|place| place.stream)
    }

    /// Stream of the target.
    pub fn target_stream(&self) -> Option<Layer> {
        self.wanted().map(|place| place.stream)
    }

    /// Whether the target is sent, or nothing is wanted.
    #[cfg(any(test, feature = "internals"))]
    pub fn is_settled(&self) -> bool {
        matches!(self.state, State::Steady { .. } | State::Paused) && !self.blocked
    }

    /// Layer that is sent now, if a lower one is to replace it.
    pub fn stepping_down(&self) -> Option<Layer> {
        match self.state {
            State::Switching { current, target } if self.layer_of(target) < self.layer_of(current) => {
                Some(self.layer_of(current))
            }
            _ => None,
        }
    }

    /// Starts over at the next key frame because what was sent so far is useless.
    pub fn restart(&mut self) {
        if let Some(target) = self.wanted() {
            self.state = State::Waiting { target };
            self.blocked = false;
        }
    }

    /// Stream of which a key frame is awaited; always `None` for audio.
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

    /// Decides about a packet. The state changes if the packet allows a change.
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

    /// Decides about a packet of a stream that is not sent now.
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

    /// Decides about a packet of the stream that is sent, if data about its frame is known.
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

    /// Handles the first packet of a frame newer than all before. Returns whether the frame is sent.
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

    /// Changes to another operating point of the same stream if this frame allows it. Returns what is sent from this
    /// frame on.
    fn move_towards(&mut self, frame: &FrameFacts, current: Place, target: Place) -> Place {
        let Some(point) = self.next_point(frame, current.point, target.point) else { return current };
        self.history.change(frame.number, current.point);
        let current = Place { point, ..current };
        self.state = between(current, target);
        self.blocked &= current != target;
        current
    }

    /// The operating point nearest to `target` to which this frame allows a change.
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
            // This frame would allow the change, but frames that it references were not sent. Only a key frame helps.
            self.blocked = true;
            break;
        }
        let wanted = OperatingPoint::new(from, target.temporal());
        if target.temporal() < current.temporal() {
            // Frames that are sent do not depend on the temporal layers that are dropped.
            return frame.part_of.has(wanted).then_some(wanted);
        }
        let temporal = frame.climbs.highest_temporal(from, target.temporal())?;
        let up = temporal > current.temporal() && self.history.has_all(frame.references);
        up.then(|| OperatingPoint::new(from, temporal))
    }

    /// Whether a packet is the last one sent of a picture with several spatial layers: the end of the highest layer
    /// that the subscriber gets.
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

/// Whether `layer` is nearer to `target` than `current` is, and not beyond `target`.
fn is_nearer(layer: Layer, current: Layer, target: Layer) -> bool {
    if current < target { current < layer && layer <= target } else { target <= layer && layer < current }
}

#[cfg(test)]
mod tests;
