//! A change of what the participant may do, while it is there.

use std::time::Instant;

use livekit_protocol as proto;
use livekit_protocol::request_response::{Reason, Request};
use sfu_protocol::Command;

use super::join::media_permissions;
use super::{Discard, Session};

impl Session {
    /// Takes new rights at once: what they no longer allow ends, what they allow now begins. Whether the participant
    /// is hidden was decided when it joined.
    pub(super) fn on_permission(&mut self, now: Instant, mut permission: proto::ParticipantPermission) {
        let before = self.own.rights();
        permission.hidden = before.hidden;
        if permission == before {
            return;
        }
        let participant = self.config.sid.clone();
        let permissions = media_permissions(&permission);
        self.own.change().permission = Some(permission);
        // Before what follows from it, so that the media plane agrees.
        self.command(Command::SetPermissions { participant, permissions });
        self.end_forbidden_tracks();
        self.reconcile_all();
        self.announce();
        self.refresh_token(now);
    }

    fn end_forbidden_tracks(&mut self) {
        let rights = self.own.rights();
        let forbidden = self.tracks.take_forbidden(|source| may_publish(&rights, source));
        for request in forbidden.requests {
            let text = "no longer allowed to publish from this source".to_owned();
            self.refuse(Discard::Refused, Reason::NotAllowed, text, Some(Request::AddTrack(request)));
        }
        for track in &forbidden.pending {
            // The media plane says nothing of tracks without media.
            self.tell_unpublished(track);
        }
        for track in forbidden.pending.into_iter().chain(forbidden.published) {
            let participant = self.config.sid.clone();
            self.command(Command::RemoveTrack { participant, track });
        }
    }
}

/// Whether `rights` allow to publish from a source, given as its number on the wire.
pub(super) fn may_publish(rights: &proto::ParticipantPermission, source: i32) -> bool {
    let sources = &rights.can_publish_sources;
    // In the list, unknown stands for a name of which we do not know what it allows.
    let named = source != proto::TrackSource::Unknown as i32 && sources.contains(&source);
    rights.can_publish && (sources.is_empty() || named)
}
