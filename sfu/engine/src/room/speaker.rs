//! Who speaks: the list that clients show, the one person whose picture matters most, and, in very large rooms, which
//! audio tracks are loud enough to be sent at all.
//!
//! [`Speakers`] is fed with what `ingress/level.rs` makes of a track's packets: how loud it speaks, noise and held music
//! taken out. [`Loudest`] sees every packet's level itself, since it has less than 60 ms to decide.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// How speakers are told apart from noises, and how often clients hear of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpeakerConfig {
    /// Least time between two lists.
    pub interval: Duration,
    /// Whoever speaks for less is not listed.
    pub least: Duration,
    /// Whoever falls silent stays listed for this long: people breathe.
    pub hold: Duration,
    /// Somebody else becomes the dominant speaker only after being clearly louder for this long, unless the dominant
    /// one is silent.
    pub challenge: Duration,
}

impl Default for SpeakerConfig {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { interval: ms(400), least: ms(200), hold: ms(500), challenge: ms(800) }
    }
}

/// One entry of a list of speakers.
#[derive(Debug, Clone, PartialEq)]
pub struct Speaker<K> {
    /// Who.
    pub who: K,
    /// 0 to 1, linear, rounded up to eighths; 0 if not active.
    pub level: f32,
    /// False: no longer.
    pub active: bool,
}

/// The speakers of a room. `K` names a participant.
#[derive(Debug)]
pub struct Speakers<K> {
    config: SpeakerConfig,
    voices: HashMap<K, Voice>,
    dominant: Option<K>,
    /// Who is louder than the dominant speaker, and since when.
    challenger: Option<(K, Instant)>,
    listed: Option<Instant>,
    polled: Option<Instant>,
    next_poll: Option<Instant>,
}

/// What is known of one participant.
#[derive(Debug, Clone, Copy)]
struct Voice {
    /// As last told, 0 if silent.
    level: f32,
    told: Instant,
    state: VoiceState,
    /// The level over about a second.
    score: f32,
    /// In eighths, as clients know it; 0 not active.
    listed: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VoiceState {
    Silent,
    /// Heard, but not for long enough.
    Beginning {
        since: Instant,
    },
    Speaking,
    /// Silent, but perhaps only breathing.
    Pausing {
        since: Instant,
    },
}

impl<K: Clone + Ord + Hash> Speakers<K> {
    /// Nobody speaks.
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

    /// How loud somebody speaks, 0 to 1, linear; `None`: not at all. To be told every 100 ms or so of whoever speaks,
    /// and once when that ends; whoever is not heard of for a second counts as silent. Of several tracks of one
    /// participant, only the microphone's.
    pub fn on_level(&mut self, who: &K, level: Option<f32>, now: Instant) {
        let level = level.filter(|level| level.is_finite()).unwrap_or(0.0).clamp(0.0, 1.0);
        if let Some(voice) = self.voices.get_mut(who) {
            (voice.level, voice.told) = (level, now);
            // Not left to the next poll, so that how long somebody speaks does not depend on when that is.
            voice.state = voice.state.next(level > 0.0, &self.config, now);
        } else if level > 0.0 {
            let state = VoiceState::Beginning { since: now };
            self.voices.insert(who.clone(), Voice { level, told: now, state, score: 0.0, listed: 0 });
            self.next_poll.get_or_insert(now);
        }
    }

    /// Somebody left or stopped publishing. Tells whether that was one of those listed.
    pub fn remove(&mut self, who: &K) -> bool {
        let voice = self.voices.remove(who);
        self.dominant.take_if(|dominant| dominant == who);
        self.challenger.take_if(|(challenger, _)| challenger == who);
        voice.is_some_and(|voice| voice.listed > 0)
    }

    /// Who matters most: the one who speaks, or spoke last.
    pub fn dominant(&self) -> Option<&K> {
        self.dominant.as_ref()
    }

    /// The list as clients know it, loudest first: for somebody who has only just subscribed.
    pub fn listed(&self) -> Vec<Speaker<K>> {
        let active = self.voices.iter().filter(|(_, voice)| voice.listed > 0);
        sorted(active.map(|(who, voice)| voice.speaker(who)).collect())
    }

    /// What changed in the list, loudest first; at most once per interval. Also moves the dominant speaker on.
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

    /// When to poll next; `None` while everybody is silent.
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
            // Whoever only threw in a word is silent by then.
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
    /// What clients are to know, in eighths. A level that trembles around a border stays on its side.
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

/// Which audio tracks of a very large room are sent: the loudest few. Tracks are named by their place in the room's
/// table. It works the same on every shard that sees a track's packets: whoever is among the loudest of the whole
/// room is among the loudest of the publisher's shard too.
#[derive(Debug)]
pub struct Loudest {
    most: usize,
    tracks: Vec<Option<Sound>>,
    count: usize,
    /// At most `most`, in no order.
    chosen: Vec<usize>,
}

/// What becomes of a packet of an audio track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It is sent.
    Forward,
    /// It is sent, and is the first after a silence. What came in the 60 ms before may be sent ahead of it.
    Begin,
    /// It is not sent.
    Skip,
}

/// The loudness of one track, in 1/256 dB above digital silence.
#[derive(Debug, Clone, Copy)]
struct Sound {
    /// Its last packets, in dB: a syllable fills them, a click does not.
    packets: [u8; 3],
    /// The mean of those where it was highest; falls slowly.
    held: u32,
    /// Over some seconds.
    average: u32,
    at: Instant,
    /// When it was last as loud as speech.
    audible: Option<Instant>,
    chosen: bool,
}

impl Loudest {
    /// At most `most` tracks are sent at a time, at least one.
    pub fn new(most: usize) -> Self {
        Self { most: most.max(1), tracks: Vec::new(), count: 0, chosen: Vec::new() }
    }

    /// A packet of a track came, with the audio level that it states (RFC 6464), if it states one.
    pub fn on_packet(&mut self, track: usize, level: Option<u8>, now: Instant) -> Heard {
        let loudness = SILENCE - level.map_or(UNSTATED, |level| level & SILENCE);
        let Some(sound) = self.sound(track, now) else { return Heard::Skip };
        sound.hear(loudness, now);
        let sound = *sound;
        // Silence is sent on while there is room for everyone, and a little longer otherwise.
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

    /// A track is gone.
    pub fn remove(&mut self, track: usize) {
        if let Some(place) = self.tracks.get_mut(track)
            && place.take().is_some()
        {
            self.count -= 1;
            self.chosen.retain(|other| *other != track);
        }
    }

    /// Whether a track's packets are sent.
    pub fn is_chosen(&self, track: usize) -> bool {
        matches!(self.tracks.get(track), Some(Some(sound)) if sound.chosen)
    }

    /// Whether a track of sound is not sent because others are louder, in a room with that many tracks of sound. Those that
    /// another shard keeps back have never been seen here.
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

    /// Whether there is room for a track, if need be at the cost of one that is silent now, or that was less loud for
    /// some seconds.
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

    /// A track that sends nothing is silent, not unknown.
    fn average_at(&self, now: Instant) -> u32 {
        let gap = now.saturating_duration_since(self.at).saturating_sub(GAP);
        self.average.saturating_sub(fallen(gap))
    }
}

fn fallen(time: Duration) -> u32 {
    // In a minute everything has fallen to nothing.
    time.as_millis().min(60_000) as u32 * FALL_PER_SECOND / 1000
}

/// How often voices are looked at while anybody is heard.
const TICK: Duration = Duration::from_millis(100);
/// Whoever is not heard of for this long is silent.
const STALE: Duration = Duration::from_secs(1);
/// Over what time the levels of speakers are compared.
const SCORE_TIME: Duration = Duration::from_secs(1);
/// How many times as loud as the dominant speaker another one has to be.
const CLEARLY: f32 = 1.25;
/// What a packet without a level counts as, in -dBov: less than somebody who speaks.
const UNSTATED: u8 = 45;
/// The lowest level that the seven bits tell, and what masks the voice flag off.
const SILENCE: u8 = 127;
/// -60 dBov. In a quiet room people are heard from there.
const AUDIBLE: u32 = 67 * 256;
/// 15 dB. Whoever begins to speak takes the place of one who was silent for half a second.
const ONSET: u32 = 15 * 256;
/// 5 dB. Averages of equal talkers wander by less.
const CLEARLY_LOUDER: u32 = 5 * 256;
/// 30 dB. In a pause for breath a talker loses less than an onset needs.
const FALL_PER_SECOND: u32 = 30 * 256;
const AVERAGE_MS: i64 = 2500;
/// Longer than what is usually between two packets, lost ones included.
const GAP: Duration = Duration::from_millis(100);
/// How long a track that fell silent is sent on, if nobody else needs its room.
const HOLD: Duration = Duration::from_secs(2);
/// Places in a room's table are few, as they are used again; this only keeps a mistake from costing memory.
const MOST_TRACKS: usize = 1 << 16;

#[cfg(test)]
mod tests;
