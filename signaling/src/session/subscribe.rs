//! Decides which tracks of other participants the client receives, and at which quality.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use livekit_protocol as proto;
use livekit_protocol::request_response::Reason;
use livekit_protocol::signal_response::Message;
use sfu_protocol::{
    Command, LayerQuality, MediaKind, ParticipantSid, SubscriptionFailure, TrackDemand, TrackSid,
};

use super::roster::Other;
use super::timers::Timer;
use super::{Discard, Session, track};

/// From this protocol number on, clients accept media in the first offer. Older clients must be connected first.
const PROTOCOL_FAST_START: i32 = 8;

/// A subscription that was requested from the media plane.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Subscription {
    kind: MediaKind,
    demand: TrackDemand,
    /// The client cannot decode the track. Only a new request of the client retries it.
    failed: bool,
}

/// What the client wants to receive, and what it receives.
#[derive(Debug)]
pub(super) struct Subscriptions {
    /// Subscribe to every published track.
    auto: bool,
    /// Start video with the lowest layer until the client reports the size of its tiles.
    adaptive: bool,
    /// Explicit choices of the client, which override `auto`.
    choices: BTreeMap<TrackSid, bool>,
    /// Tracks that the client chose but nobody publishes, each with the time when the session gives up on it.
    unknown: BTreeMap<TrackSid, Instant>,
    /// Size, quality and priority that the client set for a track.
    settings: BTreeMap<TrackSid, TrackDemand>,
    active: BTreeMap<TrackSid, Subscription>,
    /// Tracks that the publisher does not allow us to receive, as last told to the client.
    denied: BTreeSet<TrackSid>,
}

impl Subscriptions {
    pub(super) fn new(auto: bool, adaptive: bool) -> Self {
        Self {
            auto,
            adaptive,
            choices: BTreeMap::new(),
            unknown: BTreeMap::new(),
            settings: BTreeMap::new(),
            active: BTreeMap::new(),
            denied: BTreeSet::new(),
        }
    }

    fn demand(&self, track: &TrackSid, kind: MediaKind) -> TrackDemand {
        let quality =
            if self.adaptive && kind == MediaKind::Video { LayerQuality::Low } else { LayerQuality::High };
        self.settings.get(track).copied().unwrap_or(TrackDemand { quality, ..TrackDemand::default() })
    }

    /// Demand for a track that has settings or is subscribed to.
    pub(super) fn demand_of(&self, track: &TrackSid) -> Option<TrackDemand> {
        let setting = self.settings.get(track).copied();
        setting.or_else(|| self.active.get(track).map(|subscription| subscription.demand))
    }

    /// Whether a track is received, as far as the session knows.
    fn receives(&self, track: &TrackSid) -> bool {
        self.active.get(track).is_some_and(|subscription| !subscription.failed)
    }

    fn forget(&mut self, track: &TrackSid) {
        self.choices.remove(track);
        self.unknown.remove(track);
        self.settings.remove(track);
        self.denied.remove(track);
    }
}

impl Session {
    /// The client subscribes to tracks, or unsubscribes from them.
    pub(super) fn on_subscription(&mut self, now: Instant, wish: proto::UpdateSubscription) {
        let of_participants = wish.participant_tracks.into_iter().flat_map(|tracks| tracks.track_sids);
        let sids: Vec<String> = wish.track_sids.into_iter().chain(of_participants).collect();
        if self.check_sids("subscription", &sids) {
            for sid in sids {
                self.choose(now, TrackSid::new(sid), wish.subscribe);
            }
        }
    }

    /// Whether a list of track sids is within its limits. If not, the client is told, and the caller must ignore the
    /// entire request.
    pub(super) fn check_sids(&mut self, field: &str, sids: &[String]) -> bool {
        let limits = &self.config.limits;
        let fits = sids.len() <= limits.sids && sids.iter().all(|sid| sid.len() <= limits.sid);
        if !fits {
            let text = format!("{field}.track_sids: too many, or one of them too long");
            self.refuse(Discard::Refused, Reason::LimitExceeded, text, None);
        }
        fits
    }

    fn choose(&mut self, now: Instant, track: TrackSid, subscribe: bool) {
        let publisher = self.roster.publisher(&track).cloned();
        if publisher.is_none() && !subscribe && !self.subscriptions.choices.contains_key(&track) {
            return self.discard(Discard::UnknownTrack);
        }
        let unknown = &self.subscriptions.unknown;
        let one_more = publisher.is_none() && subscribe && !unknown.contains_key(&track);
        if one_more && unknown.len() >= self.config.limits.track_wishes {
            self.subscription_error(&track, proto::SubscriptionError::SeUnknown);
            return self.discard(Discard::UnknownTrack);
        }
        self.subscriptions.choices.insert(track.clone(), subscribe);
        match publisher {
            Some(publisher) => {
                if self.subscriptions.active.get(&track).is_some_and(|known| known.failed) {
                    self.subscriptions.active.remove(&track);
                }
                self.reconcile_publisher(&publisher, None);
            }
            None if subscribe => {
                let due = now + self.config.limits.track_wait;
                self.subscriptions.unknown.insert(track, due);
                self.timers.set_earliest(Timer::UnknownTracks, due);
            }
            None => self.subscriptions.forget(&track),
        }
    }

    /// Gives up on tracks that nobody has published in time.
    pub(super) fn on_unknown_tracks_due(&mut self, now: Instant) {
        let unknown = &self.subscriptions.unknown;
        let due: Vec<_> =
            unknown.iter().filter(|(_, due)| **due <= now).map(|(track, _)| track.clone()).collect();
        for track in due {
            self.subscriptions.forget(&track);
            self.subscription_error(&track, proto::SubscriptionError::SeTrackNotfound);
        }
        if let Some(next) = self.subscriptions.unknown.values().min().copied() {
            self.timers.set(Timer::UnknownTracks, next);
        }
    }

    /// The client reports the size or quality at which it shows tracks.
    pub(super) fn on_track_setting(&mut self, setting: &proto::UpdateTrackSettings) {
        let quality = track::layer_quality(setting.quality());
        let demand = TrackDemand {
            enabled: !setting.disabled && quality.is_some(),
            quality: quality.unwrap_or(LayerQuality::Low),
            width: setting.width,
            height: setting.height,
            fps: setting.fps,
            priority: setting.priority,
        };
        if self.check_sids("track_setting", &setting.track_sids) {
            for sid in &setting.track_sids {
                self.set_demand(&TrackSid::new(sid.as_str()), demand);
            }
        }
    }

    pub(super) fn set_demand(&mut self, track: &TrackSid, demand: TrackDemand) {
        let known = self.roster.publisher(track).is_some() || self.subscriptions.unknown.contains_key(track);
        if !known {
            return self.discard(Discard::UnknownTrack);
        }
        self.subscriptions.settings.insert(track.clone(), demand);
        let Some(subscription) = self.subscriptions.active.get_mut(track) else { return };
        let demand = for_kind(demand, subscription.kind);
        if subscription.demand != demand {
            subscription.demand = demand;
            let participant = self.config.sid.clone();
            self.command(Command::SetDemand { participant, track: track.clone(), demand });
        }
    }

    pub(super) fn reconcile_all(&mut self) {
        for sid in self.roster.sids() {
            self.reconcile_publisher(&sid, None);
        }
    }

    /// Brings the subscriptions to one publisher's tracks in line with what is wanted. `before` is the publisher as
    /// it was known before a change; subscriptions to tracks that have disappeared since then are ended.
    pub(super) fn reconcile_publisher(&mut self, publisher: &ParticipantSid, before: Option<&Other>) {
        let Some(other) = self.roster.get(publisher) else { return };
        let tracks: Vec<_> = other
            .tracks
            .iter()
            .map(|(sid, kind)| (sid.clone(), *kind, self.may_receive(other, sid)))
            .collect();
        for (sid, _) in before.iter().flat_map(|before| &before.tracks) {
            if !tracks.iter().any(|(known, ..)| known == sid) {
                self.end_subscription(sid);
                self.subscriptions.forget(sid);
            }
        }
        for (sid, kind, allowed) in tracks {
            self.reconcile_track(publisher, &sid, kind, allowed);
        }
    }

    fn reconcile_track(
        &mut self,
        publisher: &ParticipantSid,
        track: &TrackSid,
        kind: MediaKind,
        allowed: bool,
    ) {
        let subscriptions = &mut self.subscriptions;
        subscriptions.unknown.remove(track);
        let wanted = subscriptions.choices.get(track).copied().unwrap_or(subscriptions.auto);
        let news = if allowed {
            subscriptions.denied.remove(track)
        } else {
            wanted && subscriptions.denied.insert(track.clone())
        };
        if news {
            self.signal(Message::SubscriptionPermissionUpdate(proto::SubscriptionPermissionUpdate {
                participant_sid: publisher.to_string(),
                track_sid: track.to_string(),
                allowed,
            }));
        }
        let receives = self.own.rights().can_subscribe && self.may_subscribe_yet();
        if !(wanted && allowed && receives) {
            return self.end_subscription(track);
        }
        if self.subscriptions.active.contains_key(track) {
            return;
        }
        let demand = for_kind(self.subscriptions.demand(track, kind), kind);
        self.subscriptions.active.insert(track.clone(), Subscription { kind, demand, failed: false });
        self.measured.note_change();
        let participant = self.config.sid.clone();
        let (track, publisher) = (track.clone(), publisher.clone());
        self.command(Command::Subscribe { participant, track, publisher, kind, demand });
    }

    /// Whether the client accepts media in the first offer.
    pub(super) fn takes_media_at_once(&self) -> bool {
        self.config.client.protocol >= PROTOCOL_FAST_START
    }

    fn may_subscribe_yet(&self) -> bool {
        self.takes_media_at_once() || self.own.is_active()
    }

    /// Repeats, for every publisher that restricts its subscribers, whether this participant may receive each of its
    /// tracks.
    pub(super) fn tell_permissions_again(&mut self) {
        let mut updates = Vec::new();
        for publisher in self.roster.sids() {
            let Some(other) = self.roster.get(&publisher).filter(|other| other.permission.is_some()) else {
                continue;
            };
            updates.extend(other.tracks.iter().map(|(track, _)| proto::SubscriptionPermissionUpdate {
                participant_sid: publisher.to_string(),
                track_sid: track.to_string(),
                allowed: self.may_receive(other, track),
            }));
        }
        for update in updates {
            self.signal(Message::SubscriptionPermissionUpdate(update));
        }
    }

    fn end_subscription(&mut self, track: &TrackSid) {
        if self.subscriptions.active.remove(track).is_some() {
            self.measured.note_change();
            let participant = self.config.sid.clone();
            self.command(Command::Unsubscribe { participant, track: track.clone() });
        }
    }

    /// A publisher has gone. Ends the subscriptions to its tracks and drops their settings.
    pub(super) fn forget_publisher(&mut self, old: &Other) {
        for (sid, _) in &old.tracks {
            self.end_subscription(sid);
            self.subscriptions.forget(sid);
        }
    }

    /// The media plane cannot carry out a subscription.
    pub(super) fn on_subscription_failed(&mut self, track: &TrackSid, reason: SubscriptionFailure) {
        let Some(subscription) = self.subscriptions.active.get_mut(track) else {
            return self.discard(Discard::StaleTrackEvent);
        };
        let error = match reason {
            SubscriptionFailure::CodecUnsupported => {
                subscription.failed = true;
                proto::SubscriptionError::SeCodecUnsupported
            }
            // The media plane subscribes as soon as there is room.
            SubscriptionFailure::TooManyTracks => proto::SubscriptionError::SeUnknown,
        };
        self.measured.note_change();
        self.subscription_error(track, error);
    }

    /// A subscription was paused for lack of bandwidth, or resumed.
    pub(super) fn on_stream_state(&mut self, track: &TrackSid, paused: bool) {
        let publisher = self.roster.publisher(track);
        let Some(publisher) = publisher.filter(|_| self.subscriptions.receives(track)) else {
            return self.discard(Discard::StaleTrackEvent);
        };
        let state = if paused { proto::StreamState::Paused } else { proto::StreamState::Active };
        let info = proto::StreamStateInfo {
            participant_sid: publisher.to_string(),
            track_sid: track.to_string(),
            state: state as i32,
        };
        self.signal(Message::StreamStateUpdate(proto::StreamStateUpdate { stream_states: vec![info] }));
    }

    /// Whether the client receives any track of a participant.
    pub(super) fn receives_from(&self, publisher: &ParticipantSid) -> bool {
        let other = self.roster.get(publisher);
        other.is_some_and(|other| other.tracks.iter().any(|(track, _)| self.subscriptions.receives(track)))
    }

    fn subscription_error(&mut self, track: &TrackSid, error: proto::SubscriptionError) {
        let response = proto::SubscriptionResponse { track_sid: track.to_string(), err: error as i32 };
        self.signal(Message::SubscriptionResponse(response));
    }

    /// Whether the publisher allows us to receive this track. Recorders may receive everything.
    fn may_receive(&self, publisher: &Other, track: &TrackSid) -> bool {
        let Some(permission) = &publisher.permission else { return true };
        #[expect(deprecated, reason = "tokens still mark recorders so")]
        if permission.all_participants || self.own.rights().recorder {
            return true;
        }
        let me = &self.config.participant;
        permission
            .track_permissions
            .iter()
            .filter(|grant| {
                grant.participant_identity == me.identity || grant.participant_sid == self.config.sid.as_str()
            })
            .any(|grant| grant.all_tracks || grant.track_sids.iter().any(|sid| sid == track.as_str()))
    }
}

/// Demand reduced to what applies to the kind: audio has no size and no quality.
fn for_kind(demand: TrackDemand, kind: MediaKind) -> TrackDemand {
    match kind {
        MediaKind::Video => demand,
        MediaKind::Audio => {
            TrackDemand { enabled: demand.enabled, priority: demand.priority, ..TrackDemand::default() }
        }
    }
}
