//! Tracks in several codecs. Each codec is a [`Track`] of its own, with its own streams, packet memory, subscribers and
//! demand, so that packets and demand are handled as for any other track. The codecs of one track share its sid.
//!
//! A backup codec exists from the moment its publisher promises it. A client that can decode no other codec subscribes
//! to it at once. The demand of that subscription requests the codec from the publisher. When its packets arrive, the
//! subscription is already in place.

use sfu_protocol::{BackupPolicy, TrackSid};

use super::{Room, Track, TrackFacts};
use crate::rtp::codec::Codec;
use crate::rtp::codec::format::Format;

/// Role and state of a codec among the codecs of its track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rendition {
    /// The main codec. The track exists as long as its main codec.
    Main,
    /// A backup codec that is promised, but not published.
    Promised,
    /// A backup codec that has a media section, but has not sent packets yet.
    Negotiated,
    /// A backup codec that has sent packets. Stays so while muted or paused.
    Backup,
}

impl Rendition {
    /// Whether media after the change is unrelated to media before, so that the stored packets and rates are discarded.
    pub fn begins_anew_as(self, next: Self) -> bool {
        self != next && (self, next) != (Self::Negotiated, Self::Backup)
    }
}

/// Codec of a track that a subscriber can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Best {
    /// The track is unknown on this shard.
    Unknown,
    /// The codec at this index of the room's `tracks`.
    Rendition(usize),
    /// The subscriber can decode none of the codecs.
    Nothing,
}

impl TrackFacts {
    /// Codec of the payload; `None` if unknown here.
    pub fn codec(&self) -> Option<Codec> {
        Codec::from_mime(self.mime_type)
    }

    /// Codec with its profile and channels; `None` if the codec is unknown here.
    pub fn format(&self) -> Option<Format> {
        let (profile, stereo) = (self.profile, self.stereo);
        self.codec().map(|codec| Format { codec, profile, stereo })
    }

    /// Preference among codecs that a subscriber can decode: the lowest rank is given.
    fn rank(&self) -> u8 {
        match (self.rendition, self.policy) {
            (Rendition::Main, BackupPolicy::SideBySide) | (Rendition::Backup, BackupPolicy::Instead) => 0,
            (Rendition::Main, BackupPolicy::Instead) | (Rendition::Backup, BackupPolicy::SideBySide) => 1,
            (Rendition::Negotiated, _) => 2,
            (Rendition::Promised, _) => 3,
        }
    }
}

impl Room {
    /// The codecs of a track with their indexes, the main codec first. Empty if the main codec is unknown here: backup
    /// codecs are announced before it, so a shard that knows the main codec knows all.
    pub fn renditions(&self, sid: &TrackSid) -> impl Iterator<Item = (usize, &Track)> {
        let places = self.by_sid.get(sid).map(|places| &places[..]).unwrap_or_default();
        let is_main = |place: &usize| {
            self.tracks.get(*place).is_some_and(|track| track.facts.rendition == Rendition::Main)
        };
        let known = if places.first().is_some_and(is_main) { places } else { &[] };
        known.iter().filter_map(|place| Some((*place, self.tracks.get(*place)?)))
    }

    /// The codec to give to a subscriber that can decode the formats for which `takes` is true. A codec unknown here
    /// counts as decodable.
    pub fn best_for(&self, sid: &TrackSid, takes: impl Fn(Format) -> bool) -> Best {
        let mut known = false;
        let usable = self.renditions(sid).filter(|(_, track)| {
            known = true;
            track.facts.format().is_none_or(&takes)
        });
        match usable.min_by_key(|(_, track)| track.facts.rank()) {
            Some((place, _)) => Best::Rendition(place),
            None if known => Best::Nothing,
            None => Best::Unknown,
        }
    }
}

impl Track {
    /// Replaces the facts and discards stored packets, rates and reports, because the media that follows is unrelated
    /// to the media before. Subscribers stay.
    pub fn renew(&mut self, facts: TrackFacts) {
        let fresh = Self::new(facts, self.origin);
        self.facts = fresh.facts;
        self.memory = fresh.memory;
        self.rates = fresh.rates;
        self.reports = fresh.reports;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handles::PeerIndex;
    use crate::media_packet::{Arrangement, TrackId};
    use crate::room::Origin;
    use crate::rtp::codec::format::Profile;
    use sfu_protocol::{MediaKind, ParticipantSid, RoomSid};

    fn facts(id: u64, mime_type: &'static str, rendition: Rendition, policy: BackupPolicy) -> TrackFacts {
        TrackFacts {
            id: TrackId(id),
            sid: TrackSid::new("TR_1"),
            publisher: ParticipantSid::new("PA_1"),
            kind: MediaKind::Video,
            mime_type,
            profile: Codec::from_mime(mime_type).map_or(Profile::Only, |codec| Format::from(codec).profile),
            stereo: false,
            rendition,
            policy,
            layers: Vec::new(),
            arrangement: Arrangement::Encodings,
            muted: false,
            screen_share: false,
            encrypted: false,
        }
    }

    #[test]
    fn the_first_codec_that_can_be_decoded_is_given() {
        use BackupPolicy::{Instead, SideBySide};
        use Codec::{Av1, H264, Vp8, Vp9};
        use Rendition::{Backup, Negotiated, Promised};
        let cases: [(&[Codec], Rendition, BackupPolicy, Option<&str>); 10] = [
            (&[Vp9, Vp8], Promised, SideBySide, Some("video/vp9")),
            (&[Vp9, Vp8], Backup, SideBySide, Some("video/vp9")),
            (&[Vp8, H264], Promised, SideBySide, Some("video/vp8")),
            (&[Vp8, H264], Backup, SideBySide, Some("video/vp8")),
            (&[Vp9, Vp8], Promised, Instead, Some("video/vp9")),
            (&[Vp9, Vp8], Negotiated, Instead, Some("video/vp9")),
            (&[Vp9, Vp8], Backup, Instead, Some("video/vp8")),
            (&[Vp9, H264], Backup, Instead, Some("video/vp9")),
            (&[Av1, H264], Backup, SideBySide, None),
            (&[], Promised, SideBySide, None),
        ];
        for (takes, backup, policy, expected) in cases {
            let mut room = Room::new(RoomSid::new("RM_1"), false, 0);
            let here = Origin::Here(PeerIndex(0));
            let sid = TrackSid::new("TR_1");
            let best = |room: &Room| room.best_for(&sid, |format| takes.contains(&format.codec));
            room.add_track(facts(2, "video/vp8", backup, policy), here);
            assert_eq!(best(&room), Best::Unknown, "what the main one is, is not known");
            let main = room.add_track(facts(1, "video/vp9", Rendition::Main, policy), here);
            let mime = match best(&room) {
                Best::Rendition(place) => Some(room.tracks[place].facts.mime_type),
                Best::Nothing => None,
                Best::Unknown => panic!("it is known"),
            };
            assert_eq!(mime, expected, "{takes:?} {backup:?} {policy:?}");
            room.remove_track(main);
            assert_eq!(best(&room), Best::Unknown);
        }
    }
}
