//! A shard's replica of a room: the tracks published in it, their subscribers on this shard, and the other shards that
//! receive them. It stores ids and handles, and never accesses peers.

pub mod data;
pub mod demand;
pub mod rate;
pub mod rendition;
pub mod roster;
pub mod speaker;

use std::collections::HashMap;
use std::time::Instant;

use sfu_protocol::{BackupPolicy, Layer, MediaKind, ParticipantSid, RoomSid, TrackSid};
use slab::Slab;
use smallvec::SmallVec;

use crate::handles::{ParticipantIndex, PeerIndex};
use crate::media_packet::{Arrangement, LayerInfo, TrackId};
use crate::packet_memory::PacketMemory;
use crate::rtp::codec::format::Profile;
use crate::units::{ExtendedSequence, SenderClock};
use rate::{EncodingRate, Sublayer};
use rendition::Rendition;
use roster::Roster;
use speaker::{Loudest, SpeakerConfig, Speakers};

/// Packet memories of an audio track: one for packets as published, and one for each of three depths of redundancy.
const SOUND_MEMORIES: usize = 4;

/// Replica of one room on this shard.
#[derive(Debug)]
pub struct Room {
    /// Sid of the room.
    pub sid: RoomSid,
    /// Participants on this shard.
    pub members: Vec<ParticipantIndex>,
    /// Tracks published anywhere in the room; each codec of a track is an entry of its own.
    pub tracks: Slab<Track>,
    /// Indexes into `tracks` of all codecs of a track, the main codec first.
    by_sid: HashMap<TrackSid, SmallVec<[usize; 2]>>,
    /// Other shards with members, as last reported by the home shard.
    pub other_shards: Vec<u16>,
    /// Authoritative roster; present only on the home shard.
    pub roster: Option<Roster>,
    /// Number of audio entries in `tracks`.
    pub sounds: usize,
    /// Selects which audio tracks are forwarded in a very large room; `None`: all.
    pub loudest: Option<Loudest>,
    /// Speaker detection; present only on the home shard.
    pub speakers: Option<Speakers<ParticipantSid>>,
    /// Dominant speaker, or the last one, as last reported by the home shard.
    pub dominant: Option<ParticipantSid>,
    /// Time when a participant last joined, so that the connection quality of the others is reported again for it.
    pub newcomer: Option<Instant>,
    /// Deadline of the room in the shard's timers.
    pub scheduled: Option<Instant>,
}

/// One codec of a published track, as known on this shard.
#[derive(Debug)]
pub struct Track {
    /// Properties that are the same on every shard.
    pub facts: TrackFacts,
    /// Source of its packets.
    pub origin: Origin,
    /// Subscribers on this shard.
    pub subscribers: Vec<Subscriber>,
    /// Other shards that receive the track; used only on the shard where it originates.
    pub routes: Vec<Route>,
    /// Highest layer requested from the publisher, or from the originating shard; `None` if no layer is.
    pub asked: Option<Layer>,
    /// Recent packets for retransmission and for late joiners: per stream for video, per depth of redundancy for audio.
    pub memory: Vec<PacketMemory>,
    /// Measured rate of each stream, as far as its packets reach this shard.
    pub rates: Vec<EncodingRate>,
    /// Last sender report of the publisher for each stream.
    pub reports: Vec<Option<SenderClock>>,
    /// First packet that was withheld because other audio tracks are louder; `None` while the track is forwarded.
    pub unheard_since: Option<ExtendedSequence>,
    /// Whether the publisher was notified of its first subscriber.
    pub subscribed_told: bool,
}

/// Properties of a track's codec that are the same on every shard.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackFacts {
    /// Id of this entry in this process. Each codec of a track has its own.
    pub id: TrackId,
    /// Sid of the track, shared by its codecs.
    pub sid: TrackSid,
    /// Participant that publishes the track.
    pub publisher: ParticipantSid,
    /// Audio or video.
    pub kind: MediaKind,
    /// MIME type such as `video/vp8`; empty if the codec is unknown here.
    pub mime_type: &'static str,
    /// Profile of the codec in `mime_type`.
    pub profile: Profile,
    /// Whether the audio has two channels.
    pub stereo: bool,
    /// Role of this codec among the track's codecs.
    pub rendition: Rendition,
    /// Which subscribers get which codec of the track.
    pub policy: BackupPolicy,
    /// Layers, lowest first.
    pub layers: Vec<LayerInfo>,
    /// Whether the layers are simulcast encodings or spatial layers of one stream.
    pub arrangement: Arrangement,
    /// Whether the track is muted, so that its media is not forwarded.
    pub muted: bool,
    /// Whether the track is the video or audio of a screen share.
    pub screen_share: bool,
    /// Whether the payload is encrypted end to end, and forwarded unread.
    pub encrypted: bool,
}

/// Source of a track's packets on this shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A publisher on this shard.
    Here(PeerIndex),
    /// Another shard of this process, by its number.
    Shard(u16),
}

/// A subscription of a track by a peer on this shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscriber {
    /// Receiving peer.
    pub peer: PeerIndex,
    /// Index of the subscription in the peer's egress.
    pub slot: usize,
}

/// Another shard that receives a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Number of the shard.
    pub shard: u16,
    /// Highest layer wanted on that shard.
    pub highest: Layer,
}

impl TrackFacts {
    /// Number of RTP streams. Packet memory, rates and reports are kept per stream.
    pub fn streams(&self) -> usize {
        match self.arrangement {
            Arrangement::Encodings => self.layers.len().max(1),
            Arrangement::Spatial => 1,
        }
    }
}

impl Track {
    /// A track without subscribers.
    fn new(facts: TrackFacts, origin: Origin) -> Self {
        let streams = facts.streams();
        // Audio has one stream, and one memory for each depth of redundancy.
        let memories = if facts.kind == MediaKind::Audio { streams.max(SOUND_MEMORIES) } else { streams };
        let memory = (0..memories).map(|_| PacketMemory::new(facts.kind)).collect();
        Self {
            facts,
            origin,
            subscribers: Vec::new(),
            routes: Vec::new(),
            asked: None,
            memory,
            rates: vec![EncodingRate::default(); streams],
            reports: vec![None; streams],
            unheard_since: None,
            subscribed_told: false,
        }
    }

    /// Rates of the stream that carries a layer, and the layer's place in that stream. `None` if there is no such
    /// stream.
    pub fn rate_of(&self, layer: usize) -> Option<(&EncodingRate, Sublayer)> {
        match self.facts.arrangement {
            Arrangement::Encodings => Some((self.rates.get(layer)?, Sublayer::TOP)),
            Arrangement::Spatial => {
                let spatial = u8::try_from(layer).unwrap_or(u8::MAX);
                Some((self.rates.first()?, Sublayer { spatial, ..Sublayer::TOP }))
            }
        }
    }
}

impl Room {
    /// An empty replica. `home` is true on the shard that keeps the roster. At most `loudest` audio tracks are
    /// forwarded at a time; 0: all.
    pub fn new(sid: RoomSid, home: bool, loudest: usize) -> Self {
        Self {
            sid,
            members: Vec::new(),
            tracks: Slab::new(),
            by_sid: HashMap::new(),
            other_shards: Vec::new(),
            roster: home.then(Roster::default),
            sounds: 0,
            loudest: (loudest > 0).then(|| Loudest::new(loudest)),
            speakers: home.then(|| Speakers::new(SpeakerConfig::default())),
            dominant: None,
            newcomer: None,
            scheduled: None,
        }
    }

    /// Adds a codec of a track and returns its index in `tracks`. If it is there already, it stays unchanged.
    pub fn add_track(&mut self, facts: TrackFacts, origin: Origin) -> usize {
        let is_main = facts.rendition == Rendition::Main;
        let places = self.by_sid.entry(facts.sid.clone()).or_default();
        let known = |place: &&usize| {
            self.tracks
                .get(**place)
                .map(|track| &track.facts)
                .is_some_and(|known| known.id == facts.id || (is_main && known.rendition == Rendition::Main))
        };
        if let Some(&place) = places.iter().find(known) {
            return place;
        }
        self.sounds += usize::from(facts.kind == MediaKind::Audio);
        let place = self.tracks.insert(Track::new(facts, origin));
        places.insert(if is_main { 0 } else { places.len() }, place);
        place
    }

    /// Removes a codec of a track. `None` if there is none at that index.
    pub fn remove_track(&mut self, place: usize) -> Option<Track> {
        let track = self.tracks.try_remove(place)?;
        if let Some(places) = self.by_sid.get_mut(&track.facts.sid) {
            places.retain(|known| *known != place);
            if places.is_empty() {
                self.by_sid.remove(&track.facts.sid);
            }
        }
        self.sounds -= usize::from(track.facts.kind == MediaKind::Audio);
        if let Some(loudest) = &mut self.loudest {
            loudest.remove(place);
        }
        Some(track)
    }

    /// Indexes in `tracks` of all codecs of a track, as far as they are known here; the main codec first.
    pub fn places_of(&self, sid: &TrackSid) -> SmallVec<[usize; 2]> {
        self.by_sid.get(sid).cloned().unwrap_or_default()
    }

    /// Whether an audio track is withheld because others are louder. Always false for video, which has no loudness.
    pub fn is_unheard(&self, place: usize) -> bool {
        let is_sound = self.tracks.get(place).is_some_and(|track| track.facts.kind == MediaKind::Audio);
        is_sound && self.loudest.as_ref().is_some_and(|loudest| loudest.is_unheard(place, self.sounds))
    }

    /// Restarts speaker detection.
    pub fn forget_speakers(&mut self) {
        self.speakers = self.roster.is_some().then(|| Speakers::new(SpeakerConfig::default()));
        self.scheduled = None;
    }

    /// Whether the replica can be removed: no members here and, on the home shard, none anywhere.
    pub fn is_idle(&self) -> bool {
        self.members.is_empty() && self.roster.as_ref().is_none_or(Roster::is_idle)
    }
}
