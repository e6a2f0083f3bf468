//! Active speakers: the list that clients show, the dominant speaker, whose video matters most, and, in very large
//! rooms, which audio tracks are loud enough to be forwarded at all.
//!
//! [`Speakers`] takes the speech levels from `ingress/level.rs`, which excludes noise and music on hold. [`Loudest`]
//! reads the audio level of every packet itself, since it must decide within 60 ms.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Thresholds of speaker detection, and how often the list is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpeakerConfig {
    /// Minimum time between two lists.
    pub interval: Duration,
    /// Time for which a participant must speak to be listed.
    pub least: Duration,
    /// Time for which a participant stays listed after falling silent, so that pauses for breath do not end speech.
    pub hold: Duration,
    /// Time for which another participant must be clearly louder to become the dominant speaker. It does not apply
    /// while the dominant speaker is silent.
    pub challenge: Duration,
}

impl Default for SpeakerConfig {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { interval: ms(400), least: ms(200), hold: ms(500), challenge: ms(800) }
    }
}

/// One entry in a list of speakers.
#[derive(Debug, Clone, PartialEq)]
pub struct Speaker<K> {
    /// Participant that the entry is about.
    pub who: K,
    /// 0 to 1, linear, in steps of 1/8, rounded up; 0 if not active.
    pub level: f32,
    /// Whether the participant speaks; false if it has stopped.
    pub active: bool,
}

/// Speaker detection of a room. `K` identifies a participant.
#[derive(Debug)]
pub struct Speakers<K> {
    config: SpeakerConfig,
    voices: HashMap<K, Voice>,
    dominant: Option<K>,
    /// Participant louder than the dominant speaker, and since when.
    challenger: Option<(K, Instant)>,
    listed: Option<Instant>,
    polled: Option<Instant>,
    next_poll: Option<Instant>,
}

/// State of one participant that speaks or has just spoken.
#[derive(Debug, Clone, Copy)]
struct Voice {
    /// Last reported level; 0 if silent.
    level: f32,
    told: Instant,
    state: VoiceState,
    /// Level averaged over about a second.
    score: f32,
    /// Level that clients last got, in eighths; 0 if not active.
    listed: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VoiceState {
    Silent,
    /// Speaking, but not yet for `SpeakerConfig::least`.
    Beginning {
        since: Instant,
    },
    Speaking,
    /// Silent, but not yet for `SpeakerConfig::hold`.
    Pausing {
        since: Instant,
    },
}

impl<K: Clone + Ord + Hash> Speakers<K> {
    /// Speaker detection in a silent room.
    pub fn new(config: SpeakerConfig) -> Self {
        Self {
            config,
            voices: HashMap::new(),
            dominant: None,
            challenger: None,
            listed: None,
            polled: None,
            next_poll: None,
        }
    }

    /// Takes the speech level of a participant, 0 to 1, linear; `None` for silence. Call more than once a second while
    /// the participant speaks, since one without an update for a second counts as silent, and once when speech ends. Of
    /// several tracks of a participant, only the microphone counts.
    pub fn on_level(&mut self, who: &K, level: Option<f32>, now: Instant) {
        let level = level.filter(|level| level.is_finite()).unwrap_or(0.0).clamp(0.0, 1.0);
        if let Some(voice) = self.voices.get_mut(who) {
            (voice.level, voice.told) = (level, now);
            // Done here and not at the next poll, so that measured durations do not depend on when that is.
            voice.state = voice.state.next(level > 0.0, &self.config, now);
        } else if level > 0.0 {
            let state = VoiceState::Beginning { since: now };
            self.voices.insert(who.clone(), Voice { level, told: now, state, score: 0.0, listed: 0 });
            self.next_poll.get_or_insert(now);
        }
    }

    /// Removes a participant that left or stopped publishing. True if it was listed.
    pub fn remove(&mut self, who: &K) -> bool {
        let voice = self.voices.remove(who);
        self.dominant.take_if(|dominant| dominant == who);
        self.challenger.take_if(|(challenger, _)| challenger == who);
        voice.is_some_and(|voice| voice.listed > 0)
    }

    /// The dominant speaker, or the last one while nobody speaks. `None` before the first, and after it left.
    pub fn dominant(&self) -> Option<&K> {
        self.dominant.as_ref()
    }

    /// The current list as clients have it, loudest first, for a client that has just joined.
    pub fn listed(&self) -> Vec<Speaker<K>> {
        let active = self.voices.iter().filter(|(_, voice)| voice.listed > 0);
        sorted(active.map(|(who, voice)| voice.speaker(who)).collect())
    }

    /// Changes of the list, loudest first, at most once per interval; `None` if there are none. Also updates the
    /// dominant speaker.
    pub fn poll(&mut self, now: Instant) -> Option<Vec<Speaker<K>>> {
        self.next_poll.filter(|next| *next <= now)?;
        let passed = self.polled.map_or(TICK, |polled| now.saturating_duration_since(polled));
        let weight = (passed.as_secs_f32() / SCORE_TIME.as_secs_f32()).min(1.0);
        self.polled = Some(now);
        for voice in self.voices.values_mut() {
            if now.saturating_duration_since(voice.told) >= STALE {
                voice.level = 0.0;
            }
            voice.state = voice.state.next(voice.level > 0.0, &self.config, now);
            voice.score += (voice.level - voice.score) * weight;
        }
        self.move_dominant(now);
        let due =
            self.listed.is_none_or(|listed| now.saturating_duration_since(listed) >= self.config.interval);
        let changes = if due { self.list_changes() } else { Vec::new() };
        self.voices.retain(|_, voice| voice.state != VoiceState::Silent || voice.listed > 0);
        self.next_poll = (!self.voices.is_empty()).then(|| now + TICK);
        if changes.is_empty() {
            return None;
        }
        self.listed = Some(now);
        Some(sorted(changes))
    }

    /// Time of the next call to `poll`; `None` while everybody is silent.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_poll
    }

    fn list_changes(&mut self) -> Vec<Speaker<K>> {
        let mut changes = Vec::new();
        for (who, voice) in &mut self.voices {
            let eighths = voice.eighths();
            if eighths != voice.listed {
                voice.listed = eighths;
                changes.push(voice.speaker(who));
            }
        }
        changes
    }

    fn move_dominant(&mut self, now: Instant) {
        let active = self.voices.iter().filter(|(_, voice)| voice.state.is_active());
        let loudest =
            active.max_by(|(a, left), (b, right)| left.score.total_cmp(&right.score).then(b.cmp(a)));
        let Some((who, louder)) = loudest.filter(|(who, _)| self.dominant.as_ref() != Some(*who)) else {
            self.challenger = None;
            return;
        };
        let dominant = self.dominant.as_ref().and_then(|dominant| self.voices.get(dominant));
        let since = match (dominant.filter(|voice| voice.state.is_active()), &self.challenger) {
            (None, _) => None,
            (Some(dominant), _) if louder.score < dominant.score * CLEARLY => {
                self.challenger = None;
                return;
            }
            (Some(_), Some((challenger, since))) if challenger == who => Some(*since),
            (Some(_), _) => Some(now),
        };
        match since {
            // A challenger that only interjected is silent by the end of the challenge.
            Some(since)
                if now.saturating_duration_since(since) < self.config.challenge
                    || louder.state != VoiceState::Speaking =>
            {
                self.challenger = Some((who.clone(), since));
            }
            _ => {
                self.dominant = Some(who.clone());
                self.challenger = None;
            }
        }
    }
}

impl Voice {
    /// Level for clients in eighths, with hysteresis: a level that fluctuates around a border stays on its side.
    fn eighths(&self) -> u8 {
        if !self.state.is_active() {
            return 0;
        }
        let exact = self.level * 8.0;
        let stays = self.listed > 0 && (exact - (f32::from(self.listed) - 0.5)).abs() < 0.75;
        if stays || self.level == 0.0 { self.listed.max(1) } else { (exact.ceil() as u8).clamp(1, 8) }
    }

    fn speaker<K: Clone>(&self, who: &K) -> Speaker<K> {
        Speaker { who: who.clone(), level: f32::from(self.listed) / 8.0, active: self.listed > 0 }
    }
}

impl VoiceState {
    fn next(self, heard: bool, config: &SpeakerConfig, now: Instant) -> Self {
        let over = |since: Instant, least: Duration| now.saturating_duration_since(since) >= least;
        match (self, heard) {
            (Self::Silent, true) => Self::Beginning { since: now },
            (Self::Beginning { since }, true) if over(since, config.least) => Self::Speaking,
            (Self::Beginning { .. }, false) => Self::Silent,
            (Self::Speaking, false) => Self::Pausing { since: now },
            (Self::Pausing { .. }, true) => Self::Speaking,
            (Self::Pausing { since }, false) if over(since, config.hold) => Self::Silent,
            (unchanged, _) => unchanged,
        }
    }

    fn is_active(self) -> bool {
        matches!(self, Self::Speaking | Self::Pausing { .. })
    }
}

fn sorted<K: Ord>(mut speakers: Vec<Speaker<K>>) -> Vec<Speaker<K>> {
    speakers.sort_by(|a, b| b.level.total_cmp(&a.level).then_with(|| a.who.cmp(&b.who)));
    speakers
}

/// Selects the loudest few audio tracks of a very large room, which alone are forwarded. Tracks are identified by their
/// index in the room's table. Every shard that receives a track's packets selects for itself: a track among the loudest
/// of the whole room is also among the loudest of its publisher's shard.
#[derive(Debug)]
pub struct Loudest {
    most: usize,
    tracks: Vec<Option<Sound>>,
    count: usize,
    /// Indexes of the selected tracks, at most `most`, unordered.
    chosen: Vec<usize>,
}

/// What to do with a packet of an audio track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Forward the packet.
    Forward,
    /// Forward the packet; the track was withheld before. Packets of the last 60 ms may be forwarded ahead of it.
    Begin,
    /// Withhold the packet.
    Skip,
}

/// Loudness of one track, in 1/256 dB above digital silence (-127 dBov).
#[derive(Debug, Clone, Copy)]
struct Sound {
    /// Loudness of the last three packets, in dB. A syllable fills all of them, a click does not.
    packets: [u8; 3],
    /// Highest mean of three packets; falls slowly.
    held: u32,
    /// Average over some seconds.
    average: u32,
    at: Instant,
    /// Time when the track was last as loud as speech; `None` if never.
    audible: Option<Instant>,
    chosen: bool,
}

impl Loudest {
    /// A selection of at most `most` tracks, at least one.
    pub fn new(most: usize) -> Self {
        Self { most: most.max(1), tracks: Vec::new(), count: 0, chosen: Vec::new() }
    }

    /// Processes a packet of a track with its audio level (RFC 6464), if it states one.
    pub fn on_packet(&mut self, track: usize, level: Option<u8>, now: Instant) -> Heard {
        let loudness = SILENCE - level.map_or(UNSTATED, |level| level & SILENCE);
        let Some(sound) = self.sound(track, now) else { return Heard::Skip };
        sound.hear(loudness, now);
        let sound = *sound;
        // A silent track stays selected while there is room for all tracks, otherwise for `HOLD`.
        let is_full = self.count > self.most;
        if sound.chosen {
            let silent = sound.audible.is_none_or(|at| now.saturating_duration_since(at) >= HOLD);
            if is_full && silent {
                self.drop_out(track);
                return Heard::Skip;
            }
            return Heard::Forward;
        }
        if is_full && sound.mean() < AUDIBLE || !self.make_room(&sound, now) {
            return Heard::Skip;
        }
        self.chosen.push(track);
        if let Some(Some(sound)) = self.tracks.get_mut(track) {
            sound.chosen = true;
        }
        Heard::Begin
    }

    /// Removes a track.
    pub fn remove(&mut self, track: usize) {
        if let Some(place) = self.tracks.get_mut(track)
            && place.take().is_some()
        {
            self.count -= 1;
            self.chosen.retain(|other| *other != track);
        }
    }

    /// Whether a track's packets are forwarded.
    pub fn is_chosen(&self, track: usize) -> bool {
        matches!(self.tracks.get(track), Some(Some(sound)) if sound.chosen)
    }

    /// Whether an audio track is withheld because others are louder, in a room with `sounds` audio tracks. True too for
    /// tracks that another shard withholds, since none of their packets has been seen here.
    pub(super) fn is_unheard(&self, track: usize, sounds: usize) -> bool {
        sounds > self.most && !self.is_chosen(track)
    }

    fn sound(&mut self, track: usize, now: Instant) -> Option<&mut Sound> {
        if track >= MOST_TRACKS {
            return None;
        }
        if track >= self.tracks.len() {
            self.tracks.resize(track + 1, None);
        }
        let place = self.tracks.get_mut(track)?;
        if place.is_none() {
            self.count += 1;
        }
        Some(place.get_or_insert(Sound {
            packets: [0; 3],
            held: 0,
            average: 0,
            at: now,
            audible: None,
            chosen: false,
        }))
    }

    /// Whether a track can be selected. If necessary, drops a selected track that is silent now, or that was less loud
    /// over the last seconds.
    fn make_room(&mut self, sound: &Sound, now: Instant) -> bool {
        if self.chosen.len() < self.most {
            return true;
        }
        let silent = self.least(|other| other.held_at(now)).filter(|(held, _)| sound.mean() >= held + ONSET);
        let quieter = || {
            let least = self.least(|other| other.average_at(now));
            least.filter(|(average, _)| sound.average >= average + CLEARLY_LOUDER)
        };
        let Some((_, track)) = silent.or_else(quieter) else { return false };
        self.drop_out(track);
        true
    }

    fn least(&self, value: impl Fn(&Sound) -> u32) -> Option<(u32, usize)> {
        let sounds = self.chosen.iter().filter_map(|track| {
            let sound = self.tracks.get(*track)?.as_ref()?;
            Some((value(sound), *track))
        });
        sounds.min()
    }

    fn drop_out(&mut self, track: usize) {
        self.chosen.retain(|other| *other != track);
        if let Some(Some(sound)) = self.tracks.get_mut(track) {
            sound.chosen = false;
        }
    }
}

impl Sound {
    fn hear(&mut self, loudness: u8, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_millis().min(100) as i64;
        let (held, average) = (self.held_at(now), self.average_at(now));
        self.packets = [self.packets[1], self.packets[2], loudness];
        self.held = held.max(self.mean());
        let rise = (i64::from(loudness) * 256 - i64::from(average)) * passed / AVERAGE_MS;
        self.average = u32::try_from(i64::from(average) + rise).unwrap_or(0);
        self.at = self.at.max(now);
        if self.mean() >= AUDIBLE {
            self.audible = Some(self.at);
        }
    }

    fn mean(&self) -> u32 {
        self.packets.iter().map(|loudness| u32::from(*loudness)).sum::<u32>() * 256 / 3
    }

    fn held_at(&self, now: Instant) -> u32 {
        self.held.saturating_sub(fallen(now.saturating_duration_since(self.at)))
    }

    /// Average at `now`. A track that sends no packets counts as silent, not as unknown.
    fn average_at(&self, now: Instant) -> u32 {
        let gap = now.saturating_duration_since(self.at).saturating_sub(GAP);
        self.average.saturating_sub(fallen(gap))
    }
}

fn fallen(time: Duration) -> u32 {
    // Every value reaches 0 within a minute.
    time.as_millis().min(60_000) as u32 * FALL_PER_SECOND / 1000
}

/// Interval between two polls while anybody speaks.
const TICK: Duration = Duration::from_millis(100);
/// Time without an update after which a participant counts as silent.
const STALE: Duration = Duration::from_secs(1);
/// Time over which levels are averaged to compare speakers.
const SCORE_TIME: Duration = Duration::from_secs(1);
/// Factor by which another participant must be louder than the dominant speaker.
const CLEARLY: f32 = 1.25;
/// Level assumed for a packet that states none, in -dBov: quieter than somebody who speaks.
const UNSTATED: u8 = 45;
/// Quietest level that the seven bits can state; also the mask that removes the voice flag.
const SILENCE: u8 = 127;
/// -60 dBov. In a quiet room speech is audible from there.
const AUDIBLE: u32 = 67 * 256;
/// Loudness margin for a beginning speaker: 15 dB. A track on which speech begins replaces one that has been silent for
/// half a second.
const ONSET: u32 = 15 * 256;
/// 5 dB. Averages of equally loud speakers differ by less.
const CLEARLY_LOUDER: u32 = 5 * 256;
/// 30 dB. During a pause for breath a speaker falls by less than `ONSET`.
const FALL_PER_SECOND: u32 = 30 * 256;
const AVERAGE_MS: i64 = 2500;
/// Longer than the usual time between two packets, even if some are lost.
const GAP: Duration = Duration::from_millis(100);
/// Time for which a silent track stays selected, unless another one needs its place.
const HOLD: Duration = Duration::from_secs(2);
/// Bound on the size of the table against a wrong index. Indexes are reused, so real ones stay small.
const MOST_TRACKS: usize = 1 << 16;

#[cfg(test)]
mod tests;
