//! A room as one shard sees it: the tracks published in it, who here receives them, which other shards do.
//! It knows ids and handles, never peers.

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

/// Memories of a track of sound: of its packets as published, and of those that repeat earlier ones in three ways.
const SOUND_MEMORIES: usize = 4;

/// A replica of one room.
#[derive(Debug)]
pub struct Room {
    /// Its sid.
    pub sid: RoomSid,
    /// Participants on this shard.
    pub members: Vec<ParticipantIndex>,
    /// Tracks published anywhere in the room, each of their codecs by itself.
    pub tracks: Slab<Track>,
    /// The codecs of each track, the main one first.
    by_sid: HashMap<TrackSid, SmallVec<[usize; 2]>>,
    /// Other shards with members, as the home shard last told.
    pub other_shards: Vec<u16>,
    /// The roster of record; only on the home shard.
    pub roster: Option<Roster>,
    /// Tracks of sound among all.
    pub sounds: usize,
    /// Which sound is sent, as far as it passes here; `None`: all of it.
    pub loudest: Option<Loudest>,
    /// Who speaks; only on the home shard.
    pub speakers: Option<Speakers<ParticipantSid>>,
    /// Who speaks, or spoke last, as the home shard last told.
    pub dominant: Option<ParticipantSid>,
    /// When somebody last came, who does not know yet how well others are connected.
    pub newcomer: Option<Instant>,
    /// The deadline that stands in the shard's timers for it.
    pub scheduled: Option<Instant>,
}

/// One published track, or one codec of it, as known on this shard.
#[derive(Debug)]
pub struct Track {
    /// What every shard knows of it.
    pub facts: TrackFacts,
    /// Where its packets come from.
    pub origin: Origin,
    /// Who receives it here.
    pub subscribers: Vec<Subscriber>,
    /// Which other shards receive it (only where it originates), with the highest layer wanted there.
    pub routes: Vec<Route>,
    /// The highest layer that was asked of its publisher, or of its origin on another shard.
    pub asked: Option<Layer>,
    /// Recent packets per stream, for retransmission and for late joiners.
    pub memory: Vec<PacketMemory>,
    /// What its streams cost, as far as they flow here.
    pub rates: Vec<EncodingRate>,
    /// The publisher's last sender report per stream.
    pub reports: Vec<Option<SenderClock>>,
    /// Sound that is not sent because others are louder: since this packet.
    pub unheard_since: Option<ExtendedSequence>,
    /// Whether the publisher was told of its first subscriber.
    pub subscribed_told: bool,
}

/// What is the same for a track on every shard.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackFacts {
    /// Its number in this process.
    pub id: TrackId,
    /// Its sid, which its codecs have in common.
    pub sid: TrackSid,
    /// Who publishes it.
    pub publisher: ParticipantSid,
    /// Audio or video.
    pub kind: MediaKind,
    /// `video/vp8` and so on; empty if it is of no codec that is known here.
    pub mime_type: &'static str,
    /// Profile of the codec that `mime_type` names.
    pub profile: Profile,
    /// Its sound has two channels.
    pub stereo: bool,
    /// Which of the track's codecs that is.
    pub rendition: Rendition,
    /// Who gets which of them.
    pub policy: BackupPolicy,
    /// Its layers, lowest first.
    pub layers: Vec<LayerInfo>,
    /// What those are.
    pub arrangement: Arrangement,
    /// Nothing is forwarded.
    pub muted: bool,
    /// It shows a screen, or is the sound of one.
    pub screen_share: bool,
    /// Its payload is encrypted end to end, and forwarded as it is.
    pub encrypted: bool,
}

/// Where a track's packets enter this shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From a peer here.
    Here(PeerIndex),
    /// From another shard of this process.
    Shard(u16),
}

/// One receiver here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscriber {
    /// The peer.
    pub peer: PeerIndex,
    /// The subscription's place in the peer's egress.
    pub slot: usize,
}

/// One receiving shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Which.
    pub shard: u16,
    /// The highest layer wanted there.
    pub highest: Layer,
}

impl TrackFacts {
    /// How many streams it comes in. Packets, their memory, rates and reports are told apart by stream.
    pub fn streams(&self) -> usize {
        match self.arrangement {
            Arrangement::Encodings => self.layers.len().max(1),
            Arrangement::Spatial => 1,
        }
    }
}

impl Track {
    /// A track that nobody receives yet.
    fn new(facts: TrackFacts, origin: Origin) -> Self {
        let streams = facts.streams();
        // Sound has one stream, and a memory for each depth of redundancy.
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

    /// The rates of a layer's stream, and how much of that stream the layer is.
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
    /// An empty replica; `home` on the shard that keeps the roster. At most `loudest` tracks of sound are sent at a time,
    /// 0: all.
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

    /// Adds a track, or a codec of one. If it is there, it stays and its place is returned.
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

    /// Removes a track, or a codec of one.
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

    /// The places of a track in all its codecs, as far as they are known here.
    pub fn places_of(&self, sid: &TrackSid) -> SmallVec<[usize; 2]> {
        self.by_sid.get(sid).cloned().unwrap_or_default()
    }

    /// Whether a track is of sound and not sent, because others are louder. Pictures are never compared: they have no
    /// loudness.
    pub fn is_unheard(&self, place: usize) -> bool {
        let is_sound = self.tracks.get(place).is_some_and(|track| track.facts.kind == MediaKind::Audio);
        is_sound && self.loudest.as_ref().is_some_and(|loudest| loudest.is_unheard(place, self.sounds))
    }

    /// Begins anew to listen to who speaks.
    pub fn forget_speakers(&mut self) {
        self.speakers = self.roster.is_some().then(|| Speakers::new(SpeakerConfig::default()));
        self.scheduled = None;
    }

    /// Whether nothing keeps the replica here.
    pub fn is_idle(&self) -> bool {
        self.members.is_empty() && self.roster.as_ref().is_none_or(Roster::is_idle)
    }
}
