//! Changes of a participant's permissions during the session.

use std::time::Instant;

use livekit_protocol as proto;
use livekit_protocol::request_response::{Reason, Request};
use sfu_protocol::Command;

use super::join::media_permissions;
use super::{Discard, Session};

impl Session {
    /// Applies new permissions at once: tracks and subscriptions that they no longer allow end, those that they now
    /// allow start. `hidden` keeps the value that it had at the join.
    pub(super) fn on_permission(&mut self, now: Instant, mut permission: proto::ParticipantPermission) {
        let before = self.own.rights();
        permission.hidden = before.hidden;
        if permission == before {
            return;
        }
        let participant = self.config.sid.clone();
        let permissions = media_permissions(&permission);
        self.own.change().permission = Some(permission);
        // Sent before the commands that depend on it, so that the media plane accepts them.
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
            // The media plane does not report the end of tracks without media.
            self.tell_unpublished(track);
        }
        for track in forbidden.pending.into_iter().chain(forbidden.published) {
            let participant = self.config.sid.clone();
            self.command(Command::RemoveTrack { participant, track });
        }
    }
}

/// Whether the permissions allow publishing from a source, given as its protobuf number.
pub(super) fn may_publish(rights: &proto::ParticipantPermission, source: i32) -> bool {
    let sources = &rights.can_publish_sources;
    // In the list, "unknown" stands for a source that this server does not know, so it allows nothing.
    let named = source != proto::TrackSource::Unknown as i32 && sources.contains(&source);
    rights.can_publish && (sources.is_empty() || named)
}
