//! Measurements of the media plane: who speaks, and how good each participant's connection is. The client is told
//! only about itself and the participants that it receives, and only about changes.

use std::collections::BTreeMap;

use livekit_protocol as proto;
use livekit_protocol::signal_response::Message;
use sfu_protocol::{ConnectionQuality, ParticipantQuality, ParticipantSid, Speaker};

use super::{Phase, Session};

/// From this protocol number on, clients understand the quality "lost".
const PROTOCOL_QUALITY_LOST: i32 = 11;

/// Latest measurements, and those that the client was told.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// Level of every participant who speaks.
    speakers: BTreeMap<ParticipantSid, f32>,
    told_speakers: BTreeMap<ParticipantSid, f32>,
    qualities: BTreeMap<ParticipantSid, Quality>,
    told_qualities: BTreeMap<ParticipantSid, Quality>,
    /// Whether there may be something that the client has not been told.
    changed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Quality {
    quality: ConnectionQuality,
    score: f32,
}

impl Measured {
    pub(super) fn on_speakers(&mut self, speakers: Vec<Speaker>) {
        let loud = speakers.into_iter().map(|speaker| (speaker.participant, in_eighths(speaker.level)));
        self.speakers = loud.filter(|(_, level)| *level > 0.0).collect();
        self.changed = true;
    }

    fn on_quality(&mut self, change: ParticipantQuality, is_shown: bool) {
        let ParticipantQuality { participant, quality, score } = change;
        self.qualities.insert(participant, Quality { quality, score });
        self.changed |= is_shown;
    }

    /// Drops the quality of a participant that has left.
    pub(super) fn forget(&mut self, participant: &ParticipantSid) {
        self.qualities.remove(participant);
    }

    /// The set of participants that the client receives has changed.
    pub(super) fn note_change(&mut self) {
        self.changed = true;
    }

    /// Forgets what the client was told, so that everything is told again.
    pub(super) fn tell_all_again(&mut self) {
        self.told_speakers.clear();
        self.told_qualities.clear();
        self.changed = true;
    }
}

impl Session {
    /// Stores changed connection qualities. In a large room most of them are about participants that the client does
    /// not receive; those are stored without telling the client.
    pub(super) fn measure_qualities(&mut self, changes: Vec<ParticipantQuality>) {
        for change in changes {
            let is_me = change.participant == self.config.sid;
            if is_me || self.roster.get(&change.participant).is_some() {
                let is_shown = is_me || self.receives_from(&change.participant);
                self.measured.on_quality(change, is_shown);
            }
        }
    }

    /// Tells the client what has changed.
    pub(super) fn tell_measured(&mut self) {
        if self.phase != Phase::Joined || !std::mem::take(&mut self.measured.changed) {
            return;
        }
        let mut measured = std::mem::take(&mut self.measured);
        let me = self.config.sid.clone();
        let shown = |sid: &ParticipantSid| *sid == me || self.receives_from(sid);
        let speakers = only(&measured.speakers, &shown);
        let qualities = only(&measured.qualities, &shown);
        self.tell_speakers(&measured.told_speakers, &speakers);
        self.tell_qualities(&measured.told_qualities, &qualities);
        measured.told_speakers = speakers;
        measured.told_qualities = qualities;
        self.measured = measured;
    }

    fn tell_speakers(&mut self, told: &BTreeMap<ParticipantSid, f32>, now: &BTreeMap<ParticipantSid, f32>) {
        let info = |sid: &ParticipantSid, level: f32| proto::SpeakerInfo {
            sid: sid.to_string(),
            level,
            active: level > 0.0,
        };
        let speaking = now.iter().filter(|(sid, level)| told.get(*sid) != Some(*level));
        let silent = told.keys().filter(|sid| !now.contains_key(*sid));
        let speakers: Vec<_> =
            speaking.map(|(sid, level)| info(sid, *level)).chain(silent.map(|sid| info(sid, 0.0))).collect();
        if !speakers.is_empty() {
            self.signal(Message::SpeakersChanged(proto::SpeakersChanged { speakers }));
        }
    }

    fn tell_qualities(
        &mut self,
        told: &BTreeMap<ParticipantSid, Quality>,
        now: &BTreeMap<ParticipantSid, Quality>,
    ) {
        let knows_lost = self.config.client.protocol >= PROTOCOL_QUALITY_LOST;
        let changed = now.iter().filter(|(sid, quality)| told.get(*sid) != Some(*quality));
        let updates: Vec<_> = changed
            .map(|(sid, quality)| proto::ConnectionQualityInfo {
                participant_sid: sid.to_string(),
                quality: on_the_wire(quality.quality, knows_lost) as i32,
                score: quality.score,
            })
            .collect();
        if !updates.is_empty() {
            self.signal(Message::ConnectionQuality(proto::ConnectionQualityUpdate { updates }));
        }
    }
}

fn only<T: Copy>(
    all: &BTreeMap<ParticipantSid, T>,
    shown: &impl Fn(&ParticipantSid) -> bool,
) -> BTreeMap<ParticipantSid, T> {
    all.iter().filter(|(sid, _)| shown(sid)).map(|(sid, value)| (sid.clone(), *value)).collect()
}

/// Level rounded up to eighths, so that small changes are not reported and every speaker is above 0. NaN becomes 0.
fn in_eighths(level: f32) -> f32 {
    (level.clamp(0.0, 1.0) * 8.0).ceil().max(0.0) / 8.0
}

fn on_the_wire(quality: ConnectionQuality, knows_lost: bool) -> proto::ConnectionQuality {
    match quality {
        ConnectionQuality::Lost if knows_lost => proto::ConnectionQuality::Lost,
        ConnectionQuality::Lost | ConnectionQuality::Poor => proto::ConnectionQuality::Poor,
        ConnectionQuality::Good => proto::ConnectionQuality::Good,
        ConnectionQuality::Excellent => proto::ConnectionQuality::Excellent,
    }
}
