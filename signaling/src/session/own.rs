//! This participant's information as other participants see it.

use livekit_protocol as proto;
use livekit_protocol::participant_info::State;
use sfu_protocol::Command;

use super::timers::Timer;
use super::{RefreshClaims, Session, SessionConfig, info};

/// Information about this participant. Its version increases with every announcement.
#[derive(Debug)]
pub(super) struct Own {
    info: proto::ParticipantInfo,
    /// Who may subscribe to the participant's tracks; `None` allows everybody.
    pub(super) permission: Option<proto::SubscriptionPermission>,
}

impl Own {
    pub(super) fn new(config: &SessionConfig, now_ms: i64) -> Self {
        let who = &config.participant;
        let info = proto::ParticipantInfo {
            sid: config.sid.to_string(),
            identity: who.identity.clone(),
            state: State::Joining as i32,
            metadata: who.metadata.clone(),
            joined_at: now_ms / 1000,
            joined_at_ms: now_ms,
            name: who.name.clone(),
            version: 1,
            permission: Some(who.permission.clone()),
            region: config.server.region.clone(),
            kind: who.kind as i32,
            kind_details: who.kind_details.iter().map(|&detail| detail as i32).collect(),
            attributes: who.attributes.clone().into_iter().collect(),
            client_protocol: config.client.client_protocol,
            capabilities: config.client.capabilities.iter().copied().take(MAX_CAPABILITIES).collect(),
            ..Default::default()
        };
        Self { info, permission: None }
    }

    pub(super) fn info(&self) -> &proto::ParticipantInfo {
        &self.info
    }

    /// Mutable access, for changes that are announced right afterwards.
    pub(super) fn change(&mut self) -> &mut proto::ParticipantInfo {
        &mut self.info
    }

    pub(super) fn set_state(&mut self, state: State) {
        self.info.state = state as i32;
    }

    pub(super) fn is_active(&self) -> bool {
        self.info.state() == State::Active
    }

    pub(super) fn rights(&self) -> proto::ParticipantPermission {
        self.info.permission.clone().unwrap_or_default()
    }

    pub(super) fn refresh_claims(&self) -> RefreshClaims {
        RefreshClaims {
            name: self.info.name.clone(),
            metadata: self.info.metadata.clone(),
            attributes: self.info.attributes.clone().into_iter().collect(),
            permission: self.rights(),
        }
    }
}

impl Session {
    /// Sends the current information to the other participants and to our own client, which learns the changes from
    /// it.
    pub(super) fn announce(&mut self) {
        self.timers.stop(Timer::Announce);
        let tracks = self.tracks.published_infos();
        let own = self.own.change();
        own.version = own.version.saturating_add(1);
        own.is_publisher |= !tracks.is_empty();
        own.tracks = tracks;
        let info = info::encode(self.own.info(), self.own.permission.as_ref());
        self.command(Command::Announce { participant: self.config.sid.clone(), info });
        self.update(self.own.info().clone());
    }
}

/// Most client capabilities stored; more than the protocol defines.
const MAX_CAPABILITIES: usize = 16;
