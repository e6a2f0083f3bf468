//! Backup codecs: further codecs of a track, beside its first. The client learns that somebody needs one, announces
//! it with a request that names the track, and publishes it in a media section of its own. Alternatively it names
//! that section in the track's first request. To all clients it is one track, whose information lists its codecs. The
//! media plane identifies each section by a sid that only it and the session use.

use std::time::Instant;

use livekit_protocol as proto;
use livekit_protocol::request_response::{Reason, Request};
use sfu_protocol::{AddTrack, Command, PlayoutDelay, PublishedTrack, TrackSid};

use super::publish::{OwnTrack, published_response};
use super::{Discard, Session, track};

/// A backup codec of one of this participant's tracks.
#[derive(Debug)]
pub(super) struct Backup {
    /// Sid of the codec's media section, as used with the media plane.
    pub(super) section: TrackSid,
    /// Cid under which the client sends the codec.
    pub(super) cid: String,
    mime_type: String,
    /// Whether the codec's media has arrived.
    pub(super) published: bool,
}

impl OwnTrack {
    /// Whether `mime_type` is a backup codec of the track for which the client has sent no request yet.
    pub(super) fn lacks(&self, mime_type: &str) -> bool {
        let announced = self.info.codecs.iter().any(|codec| codec.mime_type == mime_type);
        let is_backup = announced && self.info.mime_type != mime_type;
        is_backup && self.backups.iter().all(|backup| backup.mime_type != mime_type)
    }

    /// Records that the client will publish the track in another codec, too. Returns the announcement for the media
    /// plane.
    fn expect_backup(&mut self, mime_type: &str, delay: Option<PlayoutDelay>) -> Option<AddTrack> {
        let codec = self.info.codecs.iter().find(|codec| codec.mime_type == mime_type)?;
        let section = TrackSid::new(format!("{}/{}", self.sid, track::subtype(mime_type)));
        let announced = track::add_backup(section.clone(), &self.info, codec, delay);
        let (cid, mime_type) = (codec.cid.clone(), mime_type.to_owned());
        self.backups.push(Backup { section, cid, mime_type, published: false });
        Some(announced)
    }
}

impl Session {
    /// The client announces a backup codec of a track.
    pub(super) fn on_add_backup(&mut self, request: proto::AddTrackRequest) {
        let checked =
            self.known_backup(&request).map_or_else(|| self.check_backup(&request).map(Some), |_| Ok(None));
        let mime_type = match checked {
            Ok(mime_type) => mime_type,
            Err((reason, text)) => {
                let request = Some(Request::AddTrack(request));
                return self.refuse(Discard::Refused, reason, text, request);
            }
        };
        let track = self.tracks.published.iter_mut().find(|track| track.sid.as_str() == request.sid);
        let Some(track) = track else { return };
        let mut announced = None;
        if let Some(mime_type) = mime_type {
            let codec = track.info.codecs.iter_mut().find(|codec| codec.mime_type == mime_type);
            let Some(codec) = codec else { return };
            describe(codec, &request);
            announced = track.expect_backup(&mime_type, self.config.room.playout_delay);
        }
        let told = published_response(&request.cid, &track.info);
        self.signal(told);
        if let Some(track) = announced {
            let participant = self.config.sid.clone();
            self.command(Command::AddTrack { participant, track: Box::new(track) });
        }
    }

    /// Announces the backup codecs whose media sections the track's request named already. Its client publishes them
    /// without being asked and sends no further request, so the media plane must know them when it answers the offer
    /// of all sections.
    pub(super) fn expect_named_backups(&mut self, sid: &TrackSid) {
        let track = self.tracks.pending.iter().find(|track| track.sid == *sid);
        let named = track.map(|track| track::named_backups(&track.cid, &track.info)).unwrap_or_default();
        for (mime_type, cid) in named {
            let (tracks, limits) = (&self.tracks, &self.config.limits);
            let fits =
                tracks.waiting() < limits.pending_tracks && tracks.sections() < limits.published_tracks;
            if !fits || self.is_cid_taken(&cid) {
                self.discard(Discard::Refused);
                continue;
            }
            let track = self.tracks.pending.iter_mut().find(|track| track.sid == *sid);
            let delay = self.config.room.playout_delay;
            if let Some(track) = track.and_then(|track| track.expect_backup(&mime_type, delay)) {
                let participant = self.config.sid.clone();
                self.command(Command::AddTrack { participant, track: Box::new(track) });
            }
        }
    }

    /// The media of an announced backup codec has arrived.
    pub(super) fn on_backup_published(&mut self, now: Instant, published: &PublishedTrack) {
        let now_ms = self.config.clock.unix_ms(now);
        let Some((track, place)) = self.backup_of(&published.track) else {
            return self.discard(Discard::StaleTrackEvent);
        };
        if let Some(backup) = track.backups.get_mut(place) {
            backup.published = true;
        }
        track::backup_negotiated(&mut track.info, published, now_ms);
        self.announce();
    }

    /// A backup codec ended or was refused. The track continues, and the client may announce the codec again.
    pub(super) fn on_backup_unpublished(&mut self, now: Instant, section: &TrackSid) {
        let Some((track, place)) = self.backup_of(section) else {
            return self.discard(Discard::StaleTrackEvent);
        };
        let ended = track.backups.remove(place);
        let told =
            (!ended.published).then(|| format!("{} of track {} cannot be taken", ended.mime_type, track.sid));
        for codec in track.info.codecs.iter_mut().filter(|codec| codec.mime_type == ended.mime_type) {
            codec.cid.clear();
            codec.mid.clear();
            codec.sdp_cid.clear();
        }
        let track = track.sid.clone();
        if ended.published {
            self.announce();
        }
        if let Some(text) = told {
            self.refuse(Discard::Refused, Reason::UnsupportedType, text, None);
        }
        self.on_backup_ended(now, &track, ended.published);
    }

    fn backup_of(&mut self, section: &TrackSid) -> Option<(&mut OwnTrack, usize)> {
        self.tracks.published.iter_mut().chain(&mut self.tracks.pending).find_map(|track| {
            let place = track.backups.iter().position(|backup| backup.section == *section)?;
            Some((track, place))
        })
    }

    /// The backup codec that a request announces, if the same request was accepted before.
    fn known_backup(&self, request: &proto::AddTrackRequest) -> Option<&Backup> {
        let track = self.tracks.published.iter().find(|track| track.sid.as_str() == request.sid)?;
        track.backups.iter().find(|backup| backup.cid == request.cid)
    }

    /// MIME type of the backup codec that a request announces, or why the request is refused.
    fn check_backup(&self, request: &proto::AddTrackRequest) -> Result<String, (Reason, String)> {
        self.check_add_track(request)?;
        let track = self.tracks.published.iter().find(|track| track.sid.as_str() == request.sid);
        let track = track.ok_or_else(|| {
            (Reason::NotFound, "add_track.sid is not a published track of this participant".to_owned())
        })?;
        if request.r#type != track.info.r#type || track.info.r#type() != proto::TrackType::Video {
            return Err((Reason::UnsupportedType, "only pictures come in several codecs".to_owned()));
        }
        let named = request.simulcast_codecs.iter().find(|codec| !codec.codec.is_empty());
        let named = named.ok_or_else(|| {
            (Reason::InvalidRequest, "add_track.simulcast_codecs names no codec".to_owned())
        })?;
        let mime_type = track::mime_type(&named.codec, "video/");
        let announced = track.info.codecs.iter().any(|codec| codec.mime_type == mime_type);
        if !announced || track.info.mime_type == mime_type {
            return Err((
                Reason::UnsupportedType,
                "the track was not announced with this backup codec".to_owned(),
            ));
        }
        if track.backups.iter().any(|backup| backup.mime_type == mime_type) {
            return Err((Reason::InvalidRequest, "the track has this codec already".to_owned()));
        }
        if self.is_cid_taken(&request.cid) {
            return Err((Reason::InvalidRequest, "add_track.cid is that of another track".to_owned()));
        }
        Ok(mime_type)
    }

    fn is_cid_taken(&self, cid: &str) -> bool {
        let tracks = self.tracks.published.iter().chain(&self.tracks.pending);
        let mut cids = tracks.flat_map(|track| {
            std::iter::once(&track.cid).chain(track.backups.iter().map(|backup| &backup.cid))
        });
        cids.any(|known| known == cid)
    }
}

/// Copies the request's cid and layers into the codec's information.
fn describe(codec: &mut proto::SimulcastCodecInfo, request: &proto::AddTrackRequest) {
    let named = request.simulcast_codecs.iter().find(|named| !named.codec.is_empty());
    let layers = named.map(|named| &named.layers).filter(|layers| !layers.is_empty());
    codec.cid.clone_from(&request.cid);
    codec.layers.clone_from(layers.unwrap_or(&request.layers));
    codec.video_layer_mode = named.map(|named| named.video_layer_mode).unwrap_or_default();
}
