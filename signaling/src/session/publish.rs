//! The participant's own tracks, from announcement to end.

use std::collections::VecDeque;
use std::time::Instant;

use livekit_protocol as proto;
use livekit_protocol::request_response::{Reason, Request};
use livekit_protocol::signal_response::Message;
use sfu_protocol::{Command, MediaKind, PublicationFailure, PublishedTrack, TrackSid};

use super::backup::Backup;
use super::permission::may_publish;
use super::{Discard, Session, track};

/// A track that this participant publishes.
#[derive(Debug)]
pub(super) struct OwnTrack {
    pub(super) sid: TrackSid,
    pub(super) cid: String,
    pub(super) info: proto::TrackInfo,
    /// Backup codecs of the track that the client has announced.
    pub(super) backups: Vec<Backup>,
}

/// Tracks of this participant. A cid appears at most once in `pending` and `published` together.
#[derive(Debug, Default)]
pub(super) struct OwnTracks {
    /// Announced tracks whose media has not arrived.
    pub(super) pending: Vec<OwnTrack>,
    /// Tracks with media; the other participants know of them.
    pub(super) published: Vec<OwnTrack>,
    /// `AddTrack` requests whose cid is published at the moment. Each is handled when that track ends.
    queued: VecDeque<proto::AddTrackRequest>,
}

/// Tracks and queued requests that the participant's permissions no longer allow.
#[derive(Debug)]
pub(super) struct Forbidden {
    pub(super) requests: Vec<proto::AddTrackRequest>,
    pub(super) pending: Vec<TrackSid>,
    pub(super) published: Vec<TrackSid>,
}

impl OwnTracks {
    pub(super) fn published_infos(&self) -> Vec<proto::TrackInfo> {
        self.published.iter().map(|track| track.info.clone()).collect()
    }

    /// Removes queued requests and pending tracks that are no longer allowed, and returns them together with the
    /// published tracks that are no longer allowed. Published tracks stay until the media plane reports that they
    /// have ended.
    pub(super) fn take_forbidden(&mut self, allowed: impl Fn(i32) -> bool) -> Forbidden {
        let sids = |tracks: &[OwnTrack]| -> Vec<TrackSid> {
            tracks.iter().filter(|track| !allowed(track.info.source)).map(|track| track.sid.clone()).collect()
        };
        let (pending, published) = (sids(&self.pending), sids(&self.published));
        self.pending.retain(|track| allowed(track.info.source));
        let queued = std::mem::take(&mut self.queued);
        let (requests, kept): (Vec<_>, Vec<_>) =
            queued.into_iter().partition(|request| !allowed(request.source));
        self.queued = kept.into();
        Forbidden { requests, pending, published }
    }

    pub(super) fn knows(&self, sid: &TrackSid) -> bool {
        self.published.iter().chain(&self.pending).any(|track| track.sid == *sid)
    }

    /// Number of pending tracks, queued requests and backup codecs without media.
    pub(super) fn waiting(&self) -> usize {
        let backups = self.published.iter().chain(&self.pending).flat_map(|track| &track.backups);
        let backups = backups.filter(|backup| !backup.published).count();
        self.pending.len().saturating_add(self.queued.len()).saturating_add(backups)
    }

    /// Number of media sections that are in use or will be.
    pub(super) fn sections(&self) -> usize {
        let published = self.published.iter().map(|track| {
            1_usize.saturating_add(track.backups.iter().filter(|backup| backup.published).count())
        });
        published.fold(self.waiting(), usize::saturating_add)
    }

    fn find(&mut self, sid: &str) -> Option<(&mut OwnTrack, bool)> {
        let published = self.published.iter_mut().map(|track| (track, true));
        published
            .chain(self.pending.iter_mut().map(|track| (track, false)))
            .find(|(track, _)| track.sid.as_str() == sid)
    }
}

impl Session {
    /// The client announces a track. Its media section may have been offered before.
    pub(super) fn on_add_track(&mut self, request: proto::AddTrackRequest) {
        if !request.sid.is_empty() {
            return self.on_add_backup(request);
        }
        let known = self.tracks.pending.iter().find(|track| track.cid == request.cid);
        if let Some(track) = known {
            let again = published_response(&request.cid, &track.info);
            return self.signal(again);
        }
        let kind = match self.check_add_track(&request) {
            Ok(kind) => kind,
            Err((reason, text)) => {
                let request = Some(Request::AddTrack(request));
                return self.refuse(Discard::Refused, reason, text, request);
            }
        };
        if self.tracks.published.iter().any(|track| track.cid == request.cid) {
            let response = proto::RequestResponse {
                reason: Reason::Queued as i32,
                message: "this cid is published; the request waits for its end".to_owned(),
                request: Some(Request::AddTrack(request.clone())),
                ..Default::default()
            };
            self.tracks.queued.push_back(request);
            return self.signal(Message::RequestResponse(response));
        }
        let sid = track::new_sid(kind, request.source(), &mut self.rng);
        let info = track::track_info(&sid, &request, &self.config.server.publish_codecs);
        self.signal(published_response(&request.cid, &info));
        let announced = track::add_track(sid.clone(), kind, &info, &request, self.config.room.playout_delay);
        let participant = self.config.sid.clone();
        self.command(Command::AddTrack { participant, track: Box::new(announced) });
        self.tracks.pending.push(OwnTrack { sid: sid.clone(), cid: request.cid, info, backups: Vec::new() });
        self.expect_named_backups(&sid);
    }

    /// Checks that apply to every `AddTrack` request, for a track or for a backup codec.
    pub(super) fn check_add_track(
        &self,
        request: &proto::AddTrackRequest,
    ) -> Result<MediaKind, (Reason, String)> {
        let limits = &self.config.limits;
        if request.cid.is_empty() {
            return Err((Reason::InvalidRequest, "add_track.cid is empty".to_owned()));
        }
        let kind =
            proto::TrackType::try_from(request.r#type).ok().and_then(track::media_kind).ok_or_else(|| {
                (Reason::UnsupportedType, "add_track.type is neither audio nor video".to_owned())
            })?;
        // An unknown source, for example of a newer client, is treated like an unset one.
        if !may_publish(&self.own.rights(), request.source) {
            return Err((Reason::NotAllowed, "not allowed to publish from this source".to_owned()));
        }
        track::check_sizes(request, limits)
            .map_err(|field| (Reason::LimitExceeded, format!("{field} is too large")))?;
        if self.tracks.waiting() >= limits.pending_tracks {
            return Err((Reason::LimitExceeded, "too many tracks are waiting for their media".to_owned()));
        }
        if self.tracks.sections() >= limits.published_tracks {
            return Err((Reason::LimitExceeded, "too many tracks".to_owned()));
        }
        Ok(kind)
    }

    /// The media of an announced track has arrived.
    pub(super) fn on_track_published(&mut self, now: Instant, published: &PublishedTrack) {
        let place = self.tracks.pending.iter().position(|track| track.sid == published.track);
        let Some(place) = place else {
            return self.on_backup_published(now, published);
        };
        let mut track = self.tracks.pending.remove(place);
        track::negotiated(&mut track.info, &track.cid, published, self.config.clock.unix_ms(now));
        self.tracks.published.push(track);
        self.announce();
        self.await_subscriber(now, &published.track);
        self.note_counts(now);
    }

    /// A track of this participant has ended, because of the client's description or of our command.
    pub(super) fn on_track_unpublished(&mut self, now: Instant, sid: &TrackSid) {
        let tracks = &mut self.tracks;
        let ended = if let Some(place) = tracks.published.iter().position(|track| track.sid == *sid) {
            Some((tracks.published.remove(place), true))
        } else if let Some(place) = tracks.pending.iter().position(|track| track.sid == *sid) {
            Some((tracks.pending.remove(place), false))
        } else {
            None
        };
        let Some((ended, visible)) = ended else {
            return self.on_backup_unpublished(now, sid);
        };
        if visible {
            self.announce();
        }
        self.dynacast.forget(sid);
        self.tell_unpublished(sid);
        self.add_queued(&ended.cid);
    }

    /// An announced track cannot be published, although its client was told that it would be.
    pub(super) fn on_publication_failed(&mut self, now: Instant, sid: &TrackSid, reason: PublicationFailure) {
        let place = self.tracks.pending.iter().position(|track| track.sid == *sid);
        let Some(place) = place else {
            return self.on_backup_unpublished(now, sid);
        };
        let failed = self.tracks.pending.remove(place);
        let (reason, text) = match reason {
            PublicationFailure::CodecUnsupported => {
                (Reason::UnsupportedType, "the offer has no codec for this track that this server forwards")
            }
            PublicationFailure::TooManyTracks => (Reason::LimitExceeded, "too many tracks"),
        };
        let request = proto::AddTrackRequest {
            cid: failed.cid.clone(),
            name: failed.info.name,
            r#type: failed.info.r#type,
            source: failed.info.source,
            ..Default::default()
        };
        self.refuse(Discard::Refused, reason, text.to_owned(), Some(Request::AddTrack(request)));
        self.tell_unpublished(sid);
        self.add_queued(&failed.cid);
    }

    /// A cid is free again: handles the next queued request for it.
    fn add_queued(&mut self, cid: &str) {
        let next = self.tracks.queued.iter().position(|request| request.cid == cid);
        if let Some(request) = next.and_then(|place| self.tracks.queued.remove(place)) {
            self.on_add_track(request);
        }
    }

    /// Repeats the responses for tracks and backup codecs without media; the client may have missed them.
    pub(super) fn tell_pending_again(&mut self) {
        let pending = self.tracks.pending.iter();
        let pending = pending.map(|track| published_response(&track.cid, &track.info));
        let backups = self.tracks.published.iter().flat_map(|track| {
            let waiting = track.backups.iter().filter(|backup| !backup.published);
            waiting.map(|backup| published_response(&backup.cid, &track.info))
        });
        let told: Vec<_> = pending.chain(backups).collect();
        for message in told {
            self.signal(message);
        }
    }

    pub(super) fn tell_unpublished(&mut self, sid: &TrackSid) {
        let told = proto::TrackUnpublishedResponse { track_sid: sid.to_string() };
        self.signal(Message::TrackUnpublished(told));
    }

    pub(super) fn on_track_subscribed(&mut self, sid: &TrackSid) {
        if self.tracks.find(sid.as_str()).is_none() {
            return self.discard(Discard::StaleTrackEvent);
        }
        self.signal(Message::TrackSubscribed(proto::TrackSubscribed { track_sid: sid.to_string() }));
    }

    pub(super) fn on_mute(&mut self, mute: proto::MuteTrackRequest) {
        let muted = mute.muted;
        let Some((track, visible)) = self.tracks.find(&mute.sid) else {
            return self.refuse_track(Request::Mute(mute));
        };
        if track.info.muted == muted {
            return;
        }
        track.info.muted = muted;
        let track = track.sid.clone();
        let participant = self.config.sid.clone();
        self.command(Command::SetMuted { participant, track, muted });
        if visible {
            self.announce();
        }
    }

    pub(super) fn on_update_audio_track(&mut self, update: proto::UpdateLocalAudioTrack) {
        let valid = |&feature: &i32| proto::AudioTrackFeature::try_from(feature).is_ok();
        let mut features: Vec<i32> = update.features.iter().copied().filter(valid).collect();
        features.sort_unstable();
        features.dedup();
        let Some((track, visible)) = self.tracks.find(&update.track_sid) else {
            return self.refuse_track(Request::UpdateAudioTrack(update));
        };
        let has = |feature: proto::AudioTrackFeature| features.contains(&(feature as i32));
        #[expect(deprecated, reason = "older clients read these")]
        {
            track.info.stereo = has(proto::AudioTrackFeature::TfStereo);
            track.info.disable_dtx = has(proto::AudioTrackFeature::TfNoDtx);
        }
        track.info.audio_features = features;
        if visible {
            self.announce();
        }
    }

    pub(super) fn on_update_video_track(&mut self, update: proto::UpdateLocalVideoTrack) {
        let Some((track, visible)) = self.tracks.find(&update.track_sid) else {
            return self.refuse_track(Request::UpdateVideoTrack(update));
        };
        track.info.width = update.width;
        track.info.height = update.height;
        if visible {
            self.announce();
        }
    }

    fn refuse_track(&mut self, request: Request) {
        let text = "no such track of this participant".to_owned();
        self.refuse(Discard::Refused, Reason::NotFound, text, Some(request));
    }
}

pub(super) fn published_response(cid: &str, info: &proto::TrackInfo) -> Message {
    Message::TrackPublished(proto::TrackPublishedResponse { cid: cid.to_owned(), track: Some(info.clone()) })
}
