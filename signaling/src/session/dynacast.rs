//! Dynacast: tells the client which layers and codecs of its tracks others want, so that it encodes nothing else.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use livekit_protocol as proto;
use livekit_protocol::signal_response::Message;
use sfu_protocol::{CodecDemand, LayerQuality, TrackSid};

use super::timers::Timer;
use super::{Discard, Session, SessionLimits, track};

/// Demand for this participant's tracks.
#[derive(Debug, Default)]
pub(super) struct Dynacast {
    /// Demand as last told to the client.
    told: BTreeMap<TrackSid, Vec<CodecDemand>>,
    /// Reductions of demand not yet told to the client. They are relative to `told`, or to everything if the client
    /// was told nothing yet.
    less: BTreeMap<TrackSid, Less>,
    /// Tracks with a backup codec that was requested but not announced: when to ask the client again, and how many
    /// times to ask.
    unheeded: BTreeMap<TrackSid, (Instant, u8)>,
}

/// A demand for a track that is lower than what its client sends.
#[derive(Debug)]
struct Less {
    /// When the demand became lower.
    since: Instant,
    codecs: Vec<CodecDemand>,
}

impl Less {
    /// When to tell the client.
    fn due(&self, limits: &SessionLimits) -> Instant {
        self.since + if is_nothing(&self.codecs) { limits.dynacast_pause_delay } else { limits.less_wanted }
    }
}

/// Interval between requests for a backup codec. A client ignores a request that arrives before it has finished
/// publishing the track; after this time it has finished.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// Most repeated requests. Some clients never publish a backup codec.
const MOST_TIMES: u8 = 4;

impl Dynacast {
    pub(super) fn forget(&mut self, track: &TrackSid) {
        self.told.remove(track);
        self.less.remove(track);
        self.unheeded.remove(track);
    }
}

impl Session {
    /// A track was published. Its client sends all layers. If nobody wants any of them, the client is told after the
    /// usual delay.
    pub(super) fn await_subscriber(&mut self, now: Instant, track: &TrackSid) {
        let own = self.tracks.published.iter().find(|own| own.sid == *track);
        let Some(own) = own.filter(|own| own.info.r#type() == proto::TrackType::Video) else { return };
        let codecs = own.info.codecs.iter();
        let codecs = codecs.map(|codec| CodecDemand { mime_type: codec.mime_type.clone(), highest: None });
        let less = Less { since: now, codecs: codecs.collect() };
        self.timers.set_earliest(Timer::LessWanted, less.due(&self.config.limits));
        self.dynacast.less.insert(track.clone(), less);
    }

    /// Handles the demand for a track. An increase is told at once, a decrease only after a delay.
    pub(super) fn on_subscribed_quality(&mut self, now: Instant, track: TrackSid, codecs: Vec<CodecDemand>) {
        if !self.tracks.knows(&track) {
            return self.discard(Discard::StaleTrackEvent);
        }
        let told = self.dynacast.told.get(&track);
        let at_once = match told {
            Some(told) => Some(no_less_than(told, &codecs)),
            None if is_nothing(&codecs) => None,
            None => Some(codecs.clone()),
        };
        let earlier = self.dynacast.less.remove(&track);
        if let Some(at_once) = at_once.as_ref().filter(|at_once| told != Some(*at_once)) {
            self.tell_wanted(track.clone(), at_once.clone());
        }
        if at_once.as_ref() != Some(&codecs) {
            // A further decrease does not restart the delay.
            let less = Less { since: earlier.map_or(now, |earlier| earlier.since), codecs };
            self.timers.set_earliest(Timer::LessWanted, less.due(&self.config.limits));
            self.dynacast.less.insert(track.clone(), less);
        }
        if self.lacks_backup(&track) {
            let (due, _) = *self.dynacast.unheeded.entry(track).or_insert((now + ASK_AGAIN, MOST_TIMES));
            self.timers.set_earliest(Timer::Unheeded, due);
        }
    }

    /// Whether the client was told that a backup codec of a track is wanted, and has not announced that codec.
    fn lacks_backup(&self, track: &TrackSid) -> bool {
        let told = self.dynacast.told.get(track).map(Vec::as_slice).unwrap_or_default();
        let Some(own) = self.tracks.published.iter().find(|own| own.sid == *track) else { return false };
        told.iter().any(|codec| codec.highest.is_some() && own.lacks(&codec.mime_type))
    }

    /// A backup codec of a track ended or was refused. If it is still wanted, the media plane reports no change, so
    /// the session must repeat the request: the client needs it to publish the codec again.
    pub(super) fn on_backup_ended(&mut self, now: Instant, track: &TrackSid, had_media: bool) {
        // A codec that was refused would hardly be accepted a moment later.
        if had_media && self.lacks_backup(track) {
            self.tell_wanted_once_more(track);
        }
        self.await_backup(now, track);
    }

    /// Starts repeating the request for a backup codec if the client lacks one.
    fn await_backup(&mut self, now: Instant, track: &TrackSid) {
        if self.lacks_backup(track) {
            let due = now + ASK_AGAIN;
            self.dynacast.unheeded.insert(track.clone(), (due, MOST_TIMES));
            self.timers.set_earliest(Timer::Unheeded, due);
        }
    }

    pub(super) fn on_unheeded_due(&mut self, now: Instant) {
        for (track, (due, times)) in std::mem::take(&mut self.dynacast.unheeded) {
            if !self.lacks_backup(&track) {
                continue;
            }
            let (mut due, mut times) = (due, times);
            if due <= now {
                self.tell_wanted_once_more(&track);
                (due, times) = (now + ASK_AGAIN, times.saturating_sub(1));
            }
            if times > 0 {
                self.dynacast.unheeded.insert(track, (due, times));
                self.timers.set_earliest(Timer::Unheeded, due);
            }
        }
    }

    pub(super) fn on_less_wanted_due(&mut self, now: Instant) {
        let less = std::mem::take(&mut self.dynacast.less);
        let limits = &self.config.limits;
        let (due, waiting): (Vec<_>, Vec<_>) =
            less.into_iter().partition(|(_, less)| less.due(limits) <= now);
        if let Some(next) = waiting.iter().map(|(_, less)| less.due(limits)).min() {
            self.timers.set(Timer::LessWanted, next);
        }
        self.dynacast.less = waiting.into_iter().collect();
        for (track, less) in due {
            self.tell_wanted(track, less.codecs);
        }
    }

    /// The client has resumed. Repeats the demand, which it may not know any more, and requests for backup codecs
    /// that it may have missed.
    pub(super) fn tell_wanted_again(&mut self, now: Instant) {
        for (track, codecs) in std::mem::take(&mut self.dynacast.told) {
            let codecs = self.dynacast.less.remove(&track).map_or(codecs, |less| less.codecs);
            self.tell_wanted(track.clone(), codecs);
            self.await_backup(now, &track);
        }
    }

    fn tell_wanted_once_more(&mut self, track: &TrackSid) {
        if let Some(codecs) = self.dynacast.told.get(track) {
            let update = quality_update(track, codecs);
            self.signal(update);
        }
    }

    fn tell_wanted(&mut self, track: TrackSid, codecs: Vec<CodecDemand>) {
        let update = quality_update(&track, &codecs);
        self.dynacast.less.remove(&track);
        self.dynacast.told.insert(track, codecs);
        self.signal(update);
    }
}

fn quality_update(track: &TrackSid, codecs: &[CodecDemand]) -> Message {
    let subscribed_codecs: Vec<_> = codecs.iter().map(subscribed_codec).collect();
    #[expect(deprecated, reason = "older clients read only these")]
    let update = proto::SubscribedQualityUpdate {
        track_sid: track.to_string(),
        subscribed_qualities: subscribed_codecs.first().map(|c| c.qualities.clone()).unwrap_or_default(),
        subscribed_codecs,
    };
    Message::SubscribedQualityUpdate(update)
}

fn is_nothing(codecs: &[CodecDemand]) -> bool {
    codecs.iter().all(|codec| codec.highest.is_none())
}

/// Current demand, but for each codec at least the demand before.
fn no_less_than(before: &[CodecDemand], now: &[CodecDemand]) -> Vec<CodecDemand> {
    let wanted_before = |mime_type: &str| before.iter().find(|codec| codec.mime_type == mime_type)?.highest;
    let codecs = now.iter().map(|codec| CodecDemand {
        highest: codec.highest.max(wanted_before(&codec.mime_type)),
        mime_type: codec.mime_type.clone(),
    });
    codecs.collect()
}

fn subscribed_codec(demand: &CodecDemand) -> proto::SubscribedCodec {
    let name = track::subtype(&demand.mime_type);
    let qualities = [LayerQuality::Low, LayerQuality::Medium, LayerQuality::High].map(|quality| {
        let enabled = demand.highest.is_some_and(|highest| quality <= highest);
        proto::SubscribedQuality { quality: track::video_quality(quality) as i32, enabled }
    });
    proto::SubscribedCodec { codec: name.to_ascii_lowercase(), qualities: qualities.to_vec() }
}
