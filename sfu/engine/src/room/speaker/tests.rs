use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::ingress::level::AudioLevel;
use crate::units::test_epoch;

/// Level byte of a microphone's `n`-th packet of 20 ms.
type Trace = fn(u64) -> u8;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Syllables of 180 ms with 60 ms between, and a pause of 300 ms every two seconds. Without voice flags.
fn talker(n: u64) -> u8 {
    if n % 100 >= 85 || n % 12 >= 9 { 65 } else { 20 + (n % 3) as u8 * 2 }
}

fn loud_talker(n: u64) -> u8 {
    talker(n + 31).saturating_sub(9)
}

fn silence(_: u64) -> u8 {
    127
}

/// Very loud for 40 ms of every 240.
fn keyboard(n: u64) -> u8 {
    if n % 12 < 2 { 8 } else { 62 }
}

/// Louder than the talker, and swelling by 6 dB.
fn music(n: u64) -> u8 {
    16 + (n / 10 * 5 % 7) as u8
}

/// Changes of the speaker list and of the dominant speaker, with their times.
struct Told {
    lists: Vec<(Duration, Vec<Speaker<usize>>)>,
    dominant: Vec<(Duration, Option<usize>)>,
}

impl Told {
    /// Time between `from` and `to` for which a participant was listed.
    fn active(&self, who: usize, from: Duration, to: Duration) -> Duration {
        let (mut sum, mut since) = (Duration::ZERO, None);
        let changes = self.lists.iter().flat_map(|(at, list)| list.iter().map(move |speaker| (*at, speaker)));
        for (at, speaker) in changes.filter(|(_, speaker)| speaker.who == who) {
            match (speaker.active, since) {
                (true, None) => since = Some(at),
                (false, Some(began)) => {
                    sum += at.min(to).saturating_sub(began.max(from));
                    since = None;
                }
                _ => {}
            }
        }
        sum + since.map_or(Duration::ZERO, |began| to.saturating_sub(began.max(from)))
    }
}

/// Runs a room whose members' microphones follow the traces.
fn listen(microphones: &[Trace], time: Duration) -> Told {
    let start = test_epoch();
    let mut speakers = Speakers::new(SpeakerConfig::default());
    let mut levels: Vec<_> = microphones.iter().map(|_| AudioLevel::new(start)).collect();
    let mut told = Told { lists: Vec::new(), dominant: Vec::new() };
    for n in 0..time.as_millis() as u64 / 20 {
        let now = start + ms(20 * n);
        for (who, (trace, level)) in microphones.iter().zip(&mut levels).enumerate() {
            level.on_level(trace(n), now);
            if n % 5 == 0 {
                speakers.on_level(&who, level.poll(now), now);
            }
        }
        if speakers.poll_timeout().is_some_and(|at| at <= now) {
            told.lists.extend(speakers.poll(now).map(|list| (now - start, list)));
        }
        if told.dominant.last().map(|(_, who)| *who) != Some(speakers.dominant().copied()) {
            told.dominant.push((now - start, speakers.dominant().copied()));
        }
    }
    for (pair, (at, list)) in told.lists.windows(2).zip(&told.lists) {
        assert!(pair[1].0 - pair[0].0 >= ms(400), "lists too close");
        assert!(!list.is_empty(), "nothing new at {at:?}");
        assert!(list.iter().all(|speaker| speaker.active == (speaker.level > 0.0) && speaker.level <= 1.0));
    }
    told
}

#[test]
fn a_talker_is_listed_within_a_second_and_until_silent() {
    let told = listen(&[silence, |n| if (100..600).contains(&n) { talker(n) } else { 127 }], ms(20_000));
    assert!(told.lists.iter().flat_map(|(_, list)| list).all(|speaker| speaker.who == 1));
    let (first, last) = (told.lists[0].0, told.lists[told.lists.len() - 1].0);
    assert!(first >= ms(2300) && first <= ms(2900), "listed at {first:?}");
    assert!(last >= ms(12_000) && last <= ms(13_600), "no longer at {last:?}");
    assert_eq!(told.lists.last().map(|(_, list)| (list[0].active, list[0].level)), Some((false, 0.0)));
    assert_eq!(told.active(1, first, last), last - first, "without a gap");
    assert_eq!(told.lists.len(), 2, "and nothing is told in between: {:?}", told.lists);
    let dominant: Vec<_> = told.dominant.iter().map(|(_, who)| *who).collect();
    assert_eq!(dominant, [None, Some(1)], "and stays the one who spoke last");
}

#[test]
fn noises_do_not_speak() {
    let told = listen(&[keyboard, silence], ms(60_000));
    assert!(told.lists.is_empty(), "{:?}", told.lists);
    // Somebody says only "hm".
    let told = listen(&[|n| if n % 250 < 7 { 25 } else { 65 }], ms(60_000));
    assert!(told.lists.is_empty(), "{:?}", told.lists);
}

#[test]
fn a_music_bed_gives_way_to_a_talker() {
    let told = listen(&[music, |n| if n > 500 { talker(n) } else { 127 }, keyboard], ms(60_000));
    assert!(told.active(0, ms(0), ms(60_000)) < ms(10_000), "{:?}", told.active(0, ms(0), ms(60_000)));
    assert_eq!(told.active(0, ms(12_000), ms(60_000)), ms(0));
    assert!(told.active(1, ms(11_000), ms(60_000)) >= ms(48_900));
    let dominant = told.dominant.last().map(|(at, who)| (*who, *at <= ms(11_500)));
    assert_eq!(dominant, Some((Some(1), true)), "{:?}", told.dominant);
}

#[test]
fn cross_talk_lists_both_and_one_stays_dominant() {
    let told = listen(&[talker, |n| talker(n + 17)], ms(60_000));
    assert!(told.active(0, ms(1000), ms(60_000)) >= ms(58_000));
    assert!(told.active(1, ms(1000), ms(60_000)) >= ms(58_000));
    assert!(told.dominant.len() <= 2, "{:?}", told.dominant);
    // Somebody clearly louder becomes dominant after a while, and only once.
    let told = listen(&[talker, |n| if n > 250 { loud_talker(n) } else { 127 }], ms(60_000));
    let dominant: Vec<_> = told.dominant.iter().map(|(_, who)| *who).collect();
    assert_eq!(dominant, [None, Some(0), Some(1)]);
    assert!((ms(5800)..ms(8000)).contains(&told.dominant[2].0), "{:?}", told.dominant);
    // Two participants alternate every four seconds.
    let told = listen(
        &[
            |n| if n / 200 % 2 == 0 { talker(n) } else { 127 },
            |n| if n / 200 % 2 == 1 { talker(n) } else { 127 },
        ],
        ms(40_000),
    );
    assert_eq!(told.dominant.len(), 11, "{:?}", told.dominant);
}

#[test]
fn five_hundred_participants_of_whom_three_speak() {
    let mut microphones: Vec<Trace> = (0..500).map(|n| if n % 7 == 0 { keyboard } else { silence }).collect();
    (microphones[20], microphones[300], microphones[499]) = (talker, loud_talker, |n| talker(n + 50));
    let told = listen(&microphones, ms(20_000));
    let mut listed: Vec<_> = told.lists.iter().flat_map(|(_, list)| list.iter().map(|who| who.who)).collect();
    listed.sort_unstable();
    listed.dedup();
    assert_eq!(listed, [20, 300, 499]);
    assert_eq!(told.dominant.last().and_then(|(_, who)| *who), Some(300));
}

#[test]
fn whoever_leaves_or_is_not_heard_of_is_forgotten() {
    let start = test_epoch();
    let mut speakers = Speakers::new(SpeakerConfig::default());
    for n in 0..10 {
        for who in ["a", "b"] {
            speakers.on_level(&who, Some(if who == "a" { 0.5 } else { 0.3 }), start + ms(100 * n));
        }
        speakers.poll(start + ms(100 * n));
    }
    let speaker = |who, level| Speaker { who, level, active: level > 0.0 };
    assert_eq!(speakers.listed(), [speaker("a", 0.5), speaker("b", 0.375)]);
    assert_eq!(speakers.dominant(), Some(&"a"));
    speakers.remove(&"a");
    assert_eq!((speakers.listed(), speakers.dominant()), (vec![speaker("b", 0.375)], None));
    let mut lists = Vec::new();
    let mut now = start + ms(900);
    while let Some(next) = speakers.poll_timeout() {
        now = next;
        lists.extend(speakers.poll(now));
    }
    assert_eq!(lists, [[speaker("b", 0.0)]]);
    assert!(now - start < ms(3000), "and then nothing is left to do");
    assert_eq!(speakers.dominant(), Some(&"b"));
    speakers.on_level(&"c", Some(f32::NAN), now);
    assert_eq!(speakers.poll_timeout(), None, "that is no level");
}

/// Reports two levels to `Speakers` every 100 ms, in per cent. Returns all lists, and the dominant speaker over time.
fn tell(levels: &[(u8, u8)]) -> (Vec<Vec<Speaker<u8>>>, Vec<Option<u8>>) {
    let start = test_epoch();
    let mut speakers = Speakers::new(SpeakerConfig::default());
    let (mut lists, mut dominant) = (Vec::new(), Vec::new());
    for (n, (first, second)) in (0..).zip(levels) {
        let now = start + ms(100 * n);
        for (who, level) in [(1, first), (2, second)] {
            speakers.on_level(&who, (*level > 0).then(|| f32::from(*level) / 100.0), now);
        }
        lists.extend(speakers.poll(now));
        dominant.push(speakers.dominant().copied());
    }
    (lists, dominant)
}

#[test]
fn a_breath_ends_no_speech_and_an_interjection_takes_no_floor() {
    let breath = [[(30, 0); 10], [(0, 0); 10], [(30, 0); 10]].map(|part| part[..4].to_vec()).concat();
    let (lists, dominant) = tell(&breath);
    assert_eq!((lists.len(), dominant.last()), (1, Some(&Some(1))), "{lists:?}");
    let (lists, _) = tell(&[vec![(30, 0); 10], vec![(0, 0); 10], vec![(30, 0); 10]].concat());
    assert_eq!(lists.len(), 3, "a second of silence ends it: {lists:?}");
    let interjection = [vec![(20, 0); 20], vec![(20, 90); 8], vec![(20, 0); 20]].concat();
    let (lists, dominant) = tell(&interjection);
    assert!(lists.iter().flatten().any(|speaker| speaker.who == 2), "listed, though");
    assert!(dominant[5..].iter().all(|who| *who == Some(1)), "{dominant:?}");
    let (_, dominant) = tell(&[vec![(20, 0); 20], vec![(20, 90); 20]].concat());
    assert_eq!(dominant.last(), Some(&Some(2)));
}

#[test]
fn levels_are_told_in_eighths_and_do_not_tremble() {
    let start = test_epoch();
    let mut speakers = Speakers::new(SpeakerConfig::default());
    let mut lists = Vec::new();
    for n in 0..100 {
        let level = match n {
            0..40 => 0.1,
            // Around the border between two and three eighths.
            40..80 => 0.25 + if n % 2 == 0 { 0.02 } else { -0.02 },
            _ => 1.0,
        };
        speakers.on_level(&1, Some(level), start + ms(100 * n));
        lists.extend(speakers.poll(start + ms(100 * n)).map(|list| list[0].level));
    }
    assert_eq!(lists.len(), 3, "{lists:?}");
    assert_eq!((lists[0], lists[2]), (0.125, 1.0));
}

/// Runs a large room whose tracks follow the traces. Returns what happened to each track's packets.
fn select(loudest: &mut Loudest, microphones: &[Trace], packets: std::ops::Range<u64>) -> Vec<Vec<Heard>> {
    let start = test_epoch();
    let mut heard = vec![Vec::new(); microphones.len()];
    for n in packets {
        for (track, trace) in microphones.iter().enumerate() {
            // Each track has its own phase.
            let now = start + ms(20 * n) + Duration::from_micros(track as u64 * 37);
            heard[track].push(loudest.on_packet(track, Some(trace(n)), now));
        }
        let chosen = (0..microphones.len()).filter(|track| loudest.is_chosen(*track)).count();
        assert!(chosen <= loudest.most, "{chosen} chosen");
    }
    heard
}

fn first_sent(heard: &[Heard]) -> Option<usize> {
    heard.iter().position(|heard| *heard != Heard::Skip)
}

#[test]
fn in_a_small_room_everybody_is_sent() {
    let heard = select(&mut Loudest::new(3), &[silence, talker, keyboard], 0..500);
    for track in heard {
        assert_eq!(track[0], Heard::Begin);
        assert!(track[1..].iter().all(|heard| *heard == Heard::Forward));
    }
}

#[test]
fn of_five_hundred_those_who_speak_are_sent_from_the_first_syllable_on() {
    fn late(n: u64) -> u8 {
        if n >= 300 { talker(n - 300) } else { 70 }
    }
    fn until(n: u64) -> u8 {
        if n < 250 { talker(n) } else { 72 }
    }
    let mut microphones: Vec<Trace> = vec![silence; 500];
    (microphones[10], microphones[20], microphones[30]) = (talker, until, |n| talker(n + 40));
    microphones[400] = late;
    let heard = select(&mut Loudest::new(3), &microphones, 0..600);
    for track in [10, 30] {
        assert!(first_sent(&heard[track]).is_some_and(|first| first <= 2));
        let skipped = heard[track].iter().filter(|heard| **heard == Heard::Skip).count();
        assert!(skipped <= 2, "{track}: {skipped}");
    }
    let first = first_sent(&heard[400]).unwrap_or(usize::MAX);
    assert!((300..303).contains(&first), "within 60 ms, not at packet {first}");
    assert_eq!(heard[400][first], Heard::Begin);
    assert!(heard[400][first + 1..].iter().all(|heard| *heard == Heard::Forward));
    let last = heard[20].iter().rposition(|heard| *heard != Heard::Skip).map(|last| last as u64 * 20);
    assert!(last.is_some_and(|last| (5500..=6060).contains(&last)), "held until needed: {last:?}");
    let silent = (0..500).filter(|track| ![10, 20, 30, 400].contains(track));
    // Except for the very first packets, before the number of tracks was known.
    let sent = silent.flat_map(|track| &heard[track][1..]).filter(|heard| **heard != Heard::Skip).count();
    assert_eq!(sent, 0);
}

#[test]
fn a_silent_track_is_sent_on_for_a_while() {
    let microphones: [Trace; 3] = [|n| if n < 100 { talker(n) } else { 127 }, silence, silence];
    let heard = select(&mut Loudest::new(2), &microphones, 0..500);
    let last = heard[0].iter().rposition(|heard| *heard == Heard::Forward).unwrap_or(0) * 20;
    assert!((3700..5000).contains(&last), "until {last} ms");
    assert!(heard[1][1..].iter().all(|heard| *heard == Heard::Skip));
}

#[test]
fn a_click_does_not_displace_somebody_who_speaks() {
    let microphones: [Trace; 4] = [talker, |n| talker(n + 6), keyboard, keyboard];
    let heard = select(&mut Loudest::new(2), &microphones, 10..2000);
    for track in &heard[..2] {
        // None is withheld in pauses of 300 ms either. The first packets establish each track's loudness.
        let skipped = track[3..].iter().filter(|heard| **heard == Heard::Skip).count();
        assert_eq!(skipped, 0, "of {}", track.len());
    }
}

#[test]
fn more_than_there_is_room_for_are_sent_by_loudness_and_do_not_swap_all_the_time() {
    let mut rng = SmallRng::seed_from_u64(5);
    let start = test_epoch();
    let mut loudest = Loudest::new(4);
    // Twelve speak at once, four of them 6 dB louder than the rest.
    let (mut sent, mut begun) = ([0; 12], 0);
    for n in 0..1500 {
        for (track, sent) in sent.iter_mut().enumerate() {
            let louder = if track % 3 == 0 { 6 } else { 0 };
            let level = talker(n + track as u64 * 29) - louder + rng.random_range(0..2);
            let heard = loudest.on_packet(track, Some(level), start + ms(20 * n));
            *sent += u32::from(heard != Heard::Skip);
            begun += u32::from(heard == Heard::Begin);
        }
    }
    assert_eq!(sent.iter().sum::<u32>() / 1500, 4, "always four: {sent:?}");
    for (track, sent) in sent.into_iter().enumerate() {
        assert!(track % 3 == 0 && sent > 1000 || sent < 500, "{track}: {sent}");
    }
    assert!(begun < 30 * 8, "{begun} changes in 30 s");
}

#[test]
fn tracks_come_and_go_and_levels_may_be_missing() {
    let now = test_epoch();
    let mut loudest = Loudest::new(0);
    assert_eq!(loudest.on_packet(7, None, now), Heard::Begin, "alone, so even without a level");
    let speech = [1, 2, 3].map(|n| loudest.on_packet(3, Some(0x80 | 10), now + ms(20 * n)));
    assert_eq!(speech, [Heard::Skip, Heard::Begin, Heard::Forward], "louder than the unknown");
    assert_eq!(loudest.on_packet(7, None, now), Heard::Skip);
    loudest.remove(3);
    loudest.remove(3);
    loudest.remove(99);
    assert_eq!(loudest.on_packet(7, None, now), Heard::Begin);
    assert_eq!(loudest.on_packet(usize::MAX, Some(0), now), Heard::Skip);
}
