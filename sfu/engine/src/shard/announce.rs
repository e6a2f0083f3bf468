//! Announcements of tracks: stored until they are matched with their media sections, or given up.

use std::time::{Duration, Instant};

use sfu_protocol::{AddTrack, Event, PublicationFailure, TrackPart};

use super::Shard;
use super::participant::Pending;
use super::publish::is_published_by;
use crate::handles::ParticipantIndex;
use crate::sdp::PublishedSection;
use crate::stats::Drop;

impl Shard {
    /// Handles an announcement: matches it with a parked media section, or stores it until its section arrives.
    pub(super) fn on_add_track(&mut self, now: Instant, participant: ParticipantIndex, track: &AddTrack) {
        let Some(entry) = self.participants.get_mut(participant.0) else { return };
        let index = entry.publisher;
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let limits = &self.config.limits;
        let too_many = entry.pending.len() >= limits.pending_tracks
            || peer.ingress.tracks().len() >= limits.published_tracks;
        // The track may have ended while its backup codec was being announced. The backup's section may then never
        // come.
        let lacks_track = matches!(&track.part, TrackPart::Backup { of }
            if !entry.pending.iter().any(|pending| pending.track.track == *of)
                && !is_published_by(self.rooms.get(entry.room.0), index, of));
        if too_many {
            self.stats.drop(Drop::TooManyStreams);
            return self.fail_publication(participant, &track.track, PublicationFailure::TooManyTracks);
        }
        if lacks_track {
            self.stats.drop(Drop::StaleMessage);
            let (participant, track) = (entry.sid.clone(), track.track.clone());
            self.events.push_back(Event::TrackUnpublished { participant, track });
            return;
        }
        let expires = matches!(track.part, TrackPart::Main { .. }).then(|| now + SECTION_WAIT);
        entry.pending.push(Pending { track: track.clone(), expires });
        let matched = peer.negotiation.match_parked(&entry.announced());
        let is_matched = |section: &PublishedSection| section.track.as_ref() == Some(&track.track);
        if !matched.iter().any(is_matched) && peer.negotiation.match_refused(track) {
            self.fail_publication(participant, &track.track, PublicationFailure::CodecUnsupported);
        }
        for section in matched {
            self.publish(now, participant, index, &section);
        }
        self.await_match(now, participant);
    }

    /// Called after announcements or media sections have changed. Schedules matching by kind for those that no id
    /// connects, late enough for counterparts with a matching id to arrive first.
    pub(super) fn await_match(&mut self, now: Instant, participant: ParticipantIndex) {
        let Some(entry) = self.participants.get_mut(participant.0) else { return };
        let Some(peer) = self.peers.get(entry.publisher.0) else { return };
        let waits = !entry.pending.is_empty() && peer.negotiation.has_leftovers(&entry.announced());
        entry.unmatched_since = waits.then(|| entry.unmatched_since.unwrap_or(now));
        entry.match_at = entry.unmatched_since.map(|since| (now + MATCH_WAIT).min(since + MATCH_PATIENCE));
        if let Some(due) = entry.announcements_due()
            && entry.scheduled.is_none_or(|scheduled| due < scheduled)
        {
            self.schedule_participant(participant, due);
        }
    }

    /// Matches by kind and expires a participant's announcements, if one of these deadlines has come.
    pub(super) fn serve_announcements(&mut self, now: Instant, participant: ParticipantIndex) {
        let Some(entry) = self.participants.get_mut(participant.0) else { return };
        if entry.announcements_due().is_none_or(|due| now < due) {
            return;
        }
        let index = entry.publisher;
        if entry.match_at.is_some_and(|due| due <= now) {
            (entry.match_at, entry.unmatched_since) = (None, None);
            let announced = entry.announced();
            let peer = self.peers.get_mut(index.0);
            let matched = peer.map(|peer| peer.negotiation.match_leftovers(&announced)).unwrap_or_default();
            for section in matched {
                self.publish(now, participant, index, &section);
            }
        }
        let Some(entry) = self.participants.get_mut(participant.0) else { return };
        let is_over = |pending: &Pending| pending.expires.is_some_and(|expires| expires <= now);
        let over: Vec<_> = entry.pending.iter().filter(|pending| is_over(pending)).cloned().collect();
        for Pending { track: AddTrack { track, .. }, .. } in over {
            self.stats.drop(Drop::StaleMessage);
            self.unpublish(now, participant, &track);
            let Some(entry) = self.participants.get(participant.0) else { return };
            self.events.push_back(Event::TrackUnpublished { participant: entry.sid.clone(), track });
        }
    }
}

/// Time that an announcement or section that no id connects waits for its counterpart. The client sends both at the
/// same time.
const MATCH_WAIT: Duration = Duration::from_millis(500);
/// Maximum total wait while further announcements arrive, each of which could be the counterpart.
const MATCH_PATIENCE: Duration = Duration::from_secs(2);
/// Time that an announcement waits for its media section. It is long because a client may lose its connection
/// meanwhile.
const SECTION_WAIT: Duration = Duration::from_secs(60);
