//! Handles the client's requests.

use std::collections::HashMap;
use std::time::Instant;

use livekit_protocol as proto;
use livekit_protocol::request_response::{Reason, Request};
use livekit_protocol::signal_request::Message as Ask;
use livekit_protocol::signal_response::Message;
use prost::Message as _;

use super::{Discard, Phase, Session, SessionLimits};

/// Largest request, in bytes, that is echoed in the response to it.
const ECHO_LIMIT: usize = 4096;
/// From this protocol number on, clients expect a response to a successful request.
const PROTOCOL_REQUEST_OK: i32 = 15;

impl Session {
    pub(super) fn on_request(&mut self, now: Instant, request: proto::SignalRequest) {
        match self.phase {
            Phase::Joined => {}
            Phase::Joining => return self.discard(Discard::EarlyRequest),
            Phase::Lingering | Phase::Ended => return self.discard(Discard::AfterEnd),
        }
        let Some(ask) = request.message else {
            return self.discard(Discard::UnknownRequest);
        };
        #[cfg(test)]
        super::tests::panic_if_asked(&ask);
        match ask {
            Ask::Offer(offer) => self.on_offer(offer),
            Ask::Answer(answer) => self.on_answer(answer),
            Ask::Trickle(trickle) => self.on_trickle(trickle),
            Ask::AddTrack(add) => self.on_add_track(add),
            Ask::Mute(mute) => self.on_mute(mute),
            Ask::Subscription(wish) => self.on_subscription(now, wish),
            Ask::TrackSetting(setting) => self.on_track_setting(&setting),
            Ask::Leave(leave) => self.on_client_leave(&leave),
            Ask::SubscriptionPermission(permission) => self.on_subscription_permission(permission),
            Ask::Ping(_) => self.signal(Message::Pong(self.config.clock.unix_ms(now))),
            Ask::PingReq(ping) => {
                let timestamp = self.config.clock.unix_ms(now);
                let pong = proto::Pong { last_ping_timestamp: ping.timestamp, timestamp };
                self.signal(Message::PongResp(pong));
            }
            Ask::UpdateMetadata(update) => self.on_update_metadata(now, update),
            Ask::UpdateAudioTrack(update) => self.on_update_audio_track(update),
            Ask::UpdateVideoTrack(update) => self.on_update_video_track(update),
            Ask::SyncState(state) => self.on_sync_state(now, state),
            Ask::Simulate(simulate) => self.on_simulate(now, &simulate),
            ask => self.on_unsupported(ask),
        }
    }

    /// Handles a frame that is not a valid message: the client is told, nothing else changes.
    pub(super) fn on_malformed(&mut self, error: String) {
        match self.phase {
            Phase::Joined => self.refuse(Discard::Malformed, Reason::InvalidRequest, error, None),
            Phase::Joining | Phase::Lingering | Phase::Ended => self.discard(Discard::Malformed),
        }
    }

    /// Handles requests for features that are not supported. Requests that need a response get one.
    fn on_unsupported(&mut self, ask: Ask) {
        let (reason, text, request, id) = match ask {
            Ask::PublishDataTrackRequest(request) => (
                Reason::UnsupportedType,
                "data tracks are not supported by this server",
                Some(Request::PublishDataTrack(request)),
                0,
            ),
            Ask::UnpublishDataTrackRequest(request) => {
                (Reason::NotFound, "no such data track", Some(Request::UnpublishDataTrack(request)), 0)
            }
            Ask::StoreDataBlobRequest(request) => {
                (Reason::NotAllowed, "data blobs are not supported by this server", None, request.request_id)
            }
            Ask::GetDataBlobRequest(request) => {
                (Reason::NotFound, "no such data blob", None, request.request_id)
            }
            _ => return self.discard(Discard::UnsupportedRequest),
        };
        self.respond(id, reason, text.to_owned(), request);
        self.discard(Discard::UnsupportedRequest);
    }

    /// Changes the participant's own name, metadata and attributes.
    fn on_update_metadata(&mut self, now: Instant, update: proto::UpdateParticipantMetadata) {
        if let Err((reason, text)) = self.check_metadata(&update) {
            let id = update.request_id;
            self.respond(id, reason, text.to_owned(), Some(Request::UpdateMetadata(update)));
            return self.discard(Discard::Refused);
        }
        let id = update.request_id;
        let own = self.own.change();
        // An empty name or metadata means "unchanged". An attribute with an empty value is removed.
        if !update.name.is_empty() {
            own.name.clone_from(&update.name);
        }
        if !update.metadata.is_empty() {
            own.metadata.clone_from(&update.metadata);
        }
        own.attributes = merge_attributes(&own.attributes, &update.attributes);
        if self.config.client.protocol >= PROTOCOL_REQUEST_OK {
            self.respond(id, Reason::Ok, String::new(), Some(Request::UpdateMetadata(update)));
        }
        self.announce();
        self.refresh_token(now);
    }

    fn check_metadata(
        &self,
        update: &proto::UpdateParticipantMetadata,
    ) -> Result<(), (Reason, &'static str)> {
        let limits = &self.config.limits;
        if !self.own.rights().can_update_metadata {
            return Err((Reason::NotAllowed, "the token does not grant canUpdateOwnMetadata"));
        }
        if update.name.len() > limits.name {
            return Err((Reason::LimitExceeded, "update_metadata.name is too long"));
        }
        if update.metadata.len() > limits.metadata {
            return Err((Reason::LimitExceeded, "update_metadata.metadata is too long"));
        }
        let merged = merge_attributes(&self.own.info().attributes, &update.attributes);
        if SessionLimits::attribute_bytes(&merged) > limits.attributes {
            return Err((Reason::LimitExceeded, "update_metadata.attributes are too long"));
        }
        Ok(())
    }

    /// Sets who may subscribe to this participant's tracks. The other sessions enforce it.
    fn on_subscription_permission(&mut self, permission: proto::SubscriptionPermission) {
        if permission.encoded_len() > self.config.limits.subscription_permission {
            let text = "subscription_permission is too long".to_owned();
            return self.refuse(Discard::Refused, Reason::LimitExceeded, text, None);
        }
        let unchanged = match &self.own.permission {
            None => permission.all_participants && permission.track_permissions.is_empty(),
            Some(known) => *known == permission,
        };
        if !unchanged {
            self.own.permission = Some(permission);
            self.announce();
        }
    }

    /// Responds to a request that cannot be carried out, and counts it as discarded.
    pub(super) fn refuse(
        &mut self,
        discard: Discard,
        reason: Reason,
        message: String,
        request: Option<Request>,
    ) {
        self.respond(0, reason, message, request);
        self.discard(discard);
    }

    fn respond(&mut self, request_id: u32, reason: Reason, message: String, request: Option<Request>) {
        let request = request.filter(|request| request.encoded_len() <= ECHO_LIMIT);
        let response = proto::RequestResponse { request_id, reason: reason as i32, message, request };
        self.signal(Message::RequestResponse(response));
    }
}

fn merge_attributes(
    known: &HashMap<String, String>,
    changes: &HashMap<String, String>,
) -> HashMap<String, String> {
    let mut merged = known.clone();
    for (key, value) in changes {
        if value.is_empty() {
            merged.remove(key);
        } else {
            merged.insert(key.clone(), value.clone());
        }
    }
    merged
}
