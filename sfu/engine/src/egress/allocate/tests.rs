use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::units::test_epoch;

/// Three layers of 100, 400 and 1500 kbit/s.
const VIDEO: [LayerCost; 3] = [layer(100), layer(400), layer(1500)];
const AUDIO: [LayerCost; 1] = [layer(50)];
const SECOND: Duration = Duration::from_secs(1);

const fn layer(kbps: u64) -> LayerCost {
    LayerCost { active: true, bitrate: Bitrate::from_kbps(kbps), slower: [None, None] }
}

const fn inactive(kbps: u64) -> LayerCost {
    LayerCost { active: false, ..layer(kbps) }
}

/// A camera track of which the highest layer is wanted. It was subscribed at `now`.
fn camera(current: Option<u8>, now: Instant) -> Candidate<'static> {
    let mut standing = Standing::new(now);
    standing.current = current.map(Layer);
    Candidate {
        kind: MediaKind::Video,
        muted: false,
        screen_share: false,
        speaker: false,
        priority: 0,
        never_pause: false,
        ideal: Some(Layer(2)),
        layers: &VIDEO,
        standing,
    }
}

fn voice(now: Instant) -> Candidate<'static> {
    Candidate { kind: MediaKind::Audio, ideal: Some(Layer(0)), layers: &AUDIO, ..camera(None, now) }
}

/// A link of which only the estimate is known, in kbit/s.
fn link(kbps: u64) -> Capacity {
    Capacity {
        estimate: Bitrate::from_kbps(kbps),
        settled: Bitrate::ZERO,
        delivered: Bitrate::ZERO,
        confirmed: Bitrate::ZERO,
        probed: Bitrate::ZERO,
        headroom: HEADROOM_PERCENT,
        climbs_until: None,
    }
}

fn run(kbps: u64, candidates: &[Candidate<'_>], now: Instant) -> (Vec<Decision>, Outcome) {
    let capacity = link(kbps);
    let mut decisions = Vec::new();
    let outcome = allocate(capacity, candidates, now, &mut Scratch::default(), &mut decisions);
    (decisions, outcome)
}

fn targets(kbps: u64, candidates: &[Candidate<'_>], now: Instant) -> Vec<Option<u8>> {
    run(kbps, candidates, now).0.iter().map(|decision| decision.target.map(|layer| layer.0)).collect()
}

#[test]
fn a_lowest_layer_that_does_not_fit_comes_at_a_lower_frame_rate() {
    let now = test_epoch();
    let slower = [Some(Bitrate::from_kbps(40)), Some(Bitrate::from_kbps(60))];
    let layers = [LayerCost { slower, ..layer(100) }, layer(400), layer(1500)];
    // (estimate in kbit/s) and (target, temporal layer, allocated)
    let table = [
        (43, None, None, 0),
        (44, Some(0), Some(0), 40),
        (66, Some(0), Some(1), 60),
        (109, Some(0), Some(1), 60),
        (110, Some(0), None, 100),
        (440, Some(1), None, 400),
    ];
    for (kbps, target, temporal, allocated) in table {
        let (decisions, outcome) = run(kbps, &[Candidate { layers: &layers, ..camera(None, now) }], now);
        let found = (decisions[0].target, decisions[0].temporal, outcome.allocated);
        assert_eq!(found, (target.map(Layer), temporal, Bitrate::from_kbps(allocated)), "{kbps}");
        assert_eq!(decisions[0].paused, target.is_none());
    }
}

#[test]
fn a_second_layer_that_does_not_fit_any_more_stays_at_a_lower_frame_rate() {
    let start = test_epoch();
    let now = start + SECOND * 60;
    let slower = [None, Some(Bitrate::from_kbps(240))];
    let layers = [layer(100), LayerCost { slower, ..layer(400) }, LayerCost { slower, ..layer(1500) }];
    // (layer sent now, whether at a lower frame rate, estimate) and (target, temporal layer)
    let table = [
        (Some(0), false, 439, Some(0), None),
        (Some(0), false, 440, Some(1), None),
        // The layer stays while it fits. Its full frame rate needs headroom, so that the rate does not flap.
        (Some(1), true, 240, Some(1), Some(1)),
        (Some(1), true, 239, Some(0), None),
        (Some(1), true, 439, Some(1), Some(1)),
        (Some(1), true, 440, Some(1), None),
        // Lowering the frame rate avoids another layer, which would need a key frame.
        (Some(1), false, 400, Some(1), None),
        (Some(1), false, 399, Some(1), Some(1)),
        // A higher layer at a lower frame rate is no better than the layer below it at full rate.
        (Some(1), false, 1640, Some(1), None),
        (Some(2), false, 1499, Some(1), None),
        (Some(2), false, 399, Some(0), None),
    ];
    for (current, slow, kbps, target, temporal) in table {
        let mut track = Candidate { layers: &layers, ..camera(current, start) };
        track.standing.slow = slow;
        // Restoring the frame rate does not wait for the interval between steps up.
        track.standing.last_up = slow.then(|| now - SECOND * 3);
        let (decisions, _) = run(kbps, &[track], now);
        let found = (decisions[0].target, decisions[0].temporal);
        assert_eq!(found, (target.map(Layer), temporal), "{current:?}, slow: {slow}, {kbps}");
    }
}

#[test]
fn what_may_not_be_paused_is_sent_at_its_lowest_layer_whatever_the_link() {
    let now = test_epoch();
    let kept = Candidate { never_pause: true, ..camera(None, now) };
    let (decisions, outcome) = run(50, &[kept, kept, camera(None, now)], now);
    let targets: Vec<_> = decisions.iter().map(|decision| (decision.target, decision.paused)).collect();
    assert_eq!(targets, [(Some(Layer(0)), false), (Some(Layer(0)), false), (None, true)]);
    assert_eq!(outcome.allocated, Bitrate::from_kbps(2 * VIDEO[0].bitrate.bps() / 1000));
    // A track that must not be paused exceeds the estimate with as few temporal layers as possible.
    let layers = [LayerCost { slower: [Some(Bitrate::from_kbps(60)), None], ..layer(100) }, layer(400)];
    let (decisions, outcome) = run(50, &[Candidate { layers: &layers, ..kept }], now);
    assert_eq!((decisions[0].target, decisions[0].temporal), (Some(Layer(0)), Some(0)));
    assert_eq!(outcome.allocated, Bitrate::from_kbps(60));
}

#[test]
fn while_bursts_show_more_and_more_only_what_is_wanted_in_the_end_is_worth_a_key_frame() {
    let now = test_epoch();
    let until = now + SECOND / 3;
    // (layer sent now, estimate, target)
    for (current, kbps, target) in [(None, 700, 0), (Some(0), 700, 0), (Some(1), 700, 1), (Some(0), 1650, 2)]
    {
        let capacity = Capacity { climbs_until: Some(until), ..link(kbps) };
        let (decisions, outcome) = decide_for(&[camera(current, now)], capacity, now);
        assert_eq!(decisions[0].target, Some(Layer(target)), "{current:?} at {kbps}");
        let waits = decisions[0].reason == Reason::Climbing;
        assert_eq!(waits, target == 0);
        assert_eq!(outcome.next_upgrade_at, waits.then_some(until));
        assert!(!waits || decisions[0].demand == Some(Layer(1)), "its publisher may begin with it");
    }
}

#[test]
fn where_much_is_lost_a_step_up_needs_more_but_a_lowest_layer_does_not() {
    let now = test_epoch();
    // (layer sent now, estimate, target)
    for (current, kbps, target) in [(1, 2999, 1), (1, 3000, 2), (2, 1500, 2)] {
        let capacity = Capacity { headroom: 100, ..link(kbps) };
        let (decisions, _) = decide_for(&[camera(Some(current), now)], capacity, now);
        assert_eq!(decisions[0].target, Some(Layer(target)), "{current} at {kbps}");
    }
    let (decisions, _) = decide_for(&[camera(None, now)], Capacity { headroom: 100, ..link(110) }, now);
    assert_eq!(decisions[0].target, Some(Layer(0)));
}

#[test]
fn one_track_gets_what_fits() {
    use Reason::{Ideal, NoBandwidth, NoHeadroom};
    let now = test_epoch();
    // (layer sent now, estimate in kbit/s) and (target, reason, estimate for the next step)
    let table = [
        (None, 0, None, NoBandwidth, Some(110)),
        (None, 99, None, NoBandwidth, Some(110)),
        (None, 109, None, NoHeadroom, Some(110)),
        (None, 110, Some(0), NoBandwidth, Some(440)),
        (None, 439, Some(0), NoHeadroom, Some(440)),
        (None, 440, Some(1), NoBandwidth, Some(1650)),
        (None, 1650, Some(2), Ideal, None),
        (None, u64::MAX, Some(2), Ideal, None),
        // A layer that is already sent needs no headroom.
        (Some(1), 400, Some(1), NoBandwidth, Some(1650)),
        (Some(1), 399, Some(0), NoBandwidth, Some(400)),
        (Some(2), 1500, Some(2), Ideal, None),
        (Some(2), 1499, Some(1), NoBandwidth, Some(1500)),
        (Some(0), 99, None, NoBandwidth, Some(100)),
    ];
    for (current, kbps, target, reason, next) in table {
        let (decisions, outcome) = run(kbps, &[camera(current, now)], now);
        let expected = Decision {
            target: target.map(Layer),
            temporal: None,
            demand: target.map(Layer),
            paused: target.is_none(),
            reason,
        };
        assert_eq!(decisions, [expected], "{current:?} at {kbps}");
        assert_eq!(outcome.next_step, next.map(Bitrate::from_kbps), "{current:?} at {kbps}");
        assert_eq!(outcome.wanted, Bitrate::from_kbps(1500));
        assert_eq!(outcome.next_upgrade_at, None);
    }
}

#[test]
fn sound_is_never_paused_and_comes_out_of_what_video_gets() {
    let now = test_epoch();
    let tracks = [camera(None, now), voice(now), voice(now)];
    assert_eq!(targets(0, &tracks, now), [None, Some(0), Some(0)]);
    assert_eq!(targets(219, &tracks, now), [None, Some(0), Some(0)]);
    assert_eq!(targets(220, &tracks, now), [Some(0), Some(0), Some(0)]);
    let (_, outcome) = run(220, &tracks, now);
    assert_eq!(outcome.allocated, Bitrate::from_kbps(200));
    assert_eq!(outcome.wanted, Bitrate::from_kbps(1600));
    let muted = [Candidate { muted: true, ..voice(now) }, Candidate { ideal: None, ..voice(now) }];
    let (decisions, outcome) = run(1000, &muted, now);
    assert_eq!(decisions.map_reasons(), [Reason::Muted, Reason::Demand]);
    assert_eq!((outcome.allocated, outcome.wanted), (Bitrate::ZERO, Bitrate::ZERO));
}

trait MapReasons {
    fn map_reasons(&self) -> Vec<Reason>;
}

impl MapReasons for Vec<Decision> {
    fn map_reasons(&self) -> Vec<Reason> {
        self.iter().map(|decision| decision.reason).collect()
    }
}

#[test]
fn more_important_tracks_lose_last() {
    let now = test_epoch();
    let thumbnail = camera(None, now);
    let pinned = Candidate { priority: 1, ..thumbnail };
    let second = Candidate { priority: 2, ..thumbnail };
    let speaker = Candidate { speaker: true, ..thumbnail };
    let screen = Candidate { screen_share: true, ..thumbnail };
    let tracks = [thumbnail, second, pinned, speaker, screen];
    // (estimate in kbit/s) and the layers of thumbnail, second, pinned, speaker, screen.
    let table = [
        (100, [None, None, None, None, None]),
        (110, [None, None, None, None, Some(0)]),
        (220, [None, None, None, Some(0), Some(0)]),
        (330, [None, None, Some(0), Some(0), Some(0)]),
        (440, [None, Some(0), Some(0), Some(0), Some(0)]),
        (550, [Some(0); 5]),
        (880, [Some(0), Some(0), Some(0), Some(0), Some(1)]),
        (2090, [Some(0), Some(0), Some(0), Some(0), Some(2)]),
        (2420, [Some(0), Some(0), Some(0), Some(1), Some(2)]),
        (3630, [Some(0), Some(0), Some(0), Some(2), Some(2)]),
        (3960, [Some(0), Some(0), Some(1), Some(2), Some(2)]),
        (8250, [Some(2); 5]),
    ];
    for (kbps, expected) in table {
        assert_eq!(targets(kbps, &tracks, now), expected, "at {kbps}");
    }
}

#[test]
fn equals_share_layer_by_layer_and_what_is_sent_stays() {
    let now = test_epoch();
    assert_eq!(targets(660, &[camera(None, now), camera(None, now)], now), [Some(1), Some(0)]);
    assert_eq!(targets(880, &[camera(None, now), camera(None, now)], now), [Some(1), Some(1)]);
    // The second track is already sent: the first does not displace it.
    assert_eq!(targets(660, &[camera(Some(0), now), camera(Some(1), now)], now), [Some(0), Some(1)]);
    assert_eq!(targets(110, &[camera(None, now), camera(Some(0), now)], now), [None, Some(0)]);
    // This also holds if the second track costs a little more than the first.
    let dearer = [layer(102), layer(410), layer(1520)];
    let tracks = [camera(Some(0), now), Candidate { layers: &dearer, ..camera(Some(1), now) }];
    assert_eq!(targets(660, &tracks, now), [Some(0), Some(1)]);
    // A second layer for one track comes before a third for the other.
    assert_eq!(targets(1700, &[camera(Some(0), now), camera(Some(2), now)], now), [Some(1), Some(1)]);
    // A new speaker takes the bandwidth of the previous one at once.
    let tracks = [Candidate { speaker: true, ..camera(Some(0), now) }, camera(Some(2), now)];
    assert_eq!(targets(1800, &tracks, now), [Some(2), Some(0)]);
}

#[test]
fn a_probe_replaces_headroom_but_not_bandwidth() {
    let now = test_epoch();
    let tracks = [camera(Some(1), now)];
    // (estimate, probed, target)
    for (estimate, probed, target) in
        [(1600, 0, 1), (1600, 1499, 1), (1600, 1500, 2), (1400, 1500, 1), (1650, 0, 2), (1500, 9000, 2)]
    {
        let probed = Bitrate::from_kbps(probed);
        for capacity in
            [Capacity { probed, ..link(estimate) }, Capacity { confirmed: probed, ..link(estimate) }]
        {
            let (decisions, _) = decide_for(&tracks, capacity, now);
            assert_eq!(decisions[0].target, Some(Layer(target)), "{capacity:?}");
        }
    }
}

#[test]
fn what_a_probe_has_shown_some_time_ago_needs_patience() {
    let start = test_epoch();
    let now = start + SECOND * 60;
    let mut track = camera(Some(1), start);
    track.standing.last_up = Some(now - SECOND);
    let capacity = Capacity { confirmed: Bitrate::from_kbps(1500), ..link(1600) };
    let (decisions, _) = decide_for(&[track], capacity, now);
    assert_eq!((decisions[0].target, decisions[0].reason), (Some(Layer(1)), Reason::Hysteresis));
    let (decisions, _) = decide_for(&[track], capacity, now + SECOND * 4);
    assert_eq!(decisions[0].target, Some(Layer(2)));
}

#[test]
fn the_queue_of_its_own_key_frame_takes_no_step_back() {
    let start = test_epoch();
    let now = start + SECOND * 60;
    // (seconds since the step up, delivered rate, target)
    for (since, delivered, target) in [(1, 1500, 2), (1, 1499, 1), (2, 1500, 1)] {
        let mut track = camera(Some(2), start);
        track.standing.last_up = Some(now - SECOND * since);
        let capacity = Capacity { delivered: Bitrate::from_kbps(delivered), ..link(1100) };
        let (decisions, _) = decide_for(&[track], capacity, now);
        assert_eq!(decisions[0].target, Some(Layer(target)), "{since} s, {delivered}");
    }
}

#[test]
fn what_a_probe_has_shown_may_be_taken_at_once_unless_that_went_wrong_before() {
    let start = test_epoch();
    let second = Duration::from_secs(1);
    let capacity = |estimate, probed| Capacity {
        estimate: Bitrate::from_kbps(estimate),
        probed: Bitrate::from_kbps(probed),
        ..link(estimate)
    };
    for (failures, straight) in [(0, true), (1, true), (2, false)] {
        let mut standing = Standing::new(start);
        let mut now = start + UPGRADE_INTERVAL;
        let step = |standing: &mut Standing, capacity, now| {
            let mut decisions = Vec::new();
            let track = Candidate { standing: *standing, ..camera(None, now) };
            allocate(capacity, &[track], now, &mut Scratch::default(), &mut decisions);
            standing.apply(&decisions[0], now);
            decisions[0].target.map(|layer| layer.0)
        };
        assert_eq!(step(&mut standing, capacity(130, 0), now), Some(0));
        now += UPGRADE_INTERVAL * 9;
        assert_eq!(step(&mut standing, capacity(500, 0), now), Some(1));
        for _ in 0..failures {
            now += UPGRADE_INTERVAL * 9;
            assert_eq!(step(&mut standing, capacity(1700, 0), now), Some(2));
            now += second;
            assert_eq!(step(&mut standing, capacity(500, 0), now), Some(1), "taken back");
        }
        now += second;
        assert_eq!(step(&mut standing, capacity(3000, 0), now), Some(1), "too soon, and not shown");
        let target = step(&mut standing, capacity(3000, 2000), now);
        assert_eq!(target == Some(2), straight, "after {failures} failures: {target:?}");
        assert_eq!(step(&mut standing, capacity(3000, 3000), now), Some(2), "shown with half to spare");
    }
}

#[test]
fn what_failed_on_a_narrow_link_holds_back_only_the_same_again() {
    let start = test_epoch();
    let mut standing = Standing::new(start);
    let mut now = start + UPGRADE_INTERVAL;
    assert_eq!(step(&mut standing, 130, now).0, Some(0));
    for _ in 0..2 {
        now += UPGRADE_INTERVAL * 9;
        assert_eq!(step(&mut standing, 500, now).0, Some(1));
        now += SECOND;
        assert_eq!(step(&mut standing, 130, now).0, Some(0), "taken back");
    }
    now += UPGRADE_INTERVAL;
    assert_eq!(step(&mut standing, 500, now).1, Reason::Hysteresis, "twice in vain");
    assert_eq!(step(&mut standing, 2000, now).0, Some(2));
}

#[test]
fn a_picture_of_one_layer_that_was_paused_comes_back_soon_where_there_is_ample_room() {
    let start = test_epoch();
    let mut standing = Standing::new(start);
    let only = [layer(100)];
    let mut step = |kbps, now| {
        let track = Candidate { standing, layers: &only, ..camera(None, now) };
        let (decisions, _) = run(kbps, &[track], now);
        standing.apply(&decisions[0], now);
        (decisions[0].target.map(|layer| layer.0), decisions[0].reason)
    };
    let mut now = start + UPGRADE_INTERVAL;
    for _ in 0..3 {
        now += UPGRADE_INTERVAL * 9;
        assert_eq!(step(130, now).0, Some(0));
        now += SECOND;
        assert_eq!(step(50, now).0, None, "taken back");
    }
    now += UPGRADE_INTERVAL - SECOND * 2;
    assert_eq!(step(2000, now), (None, Reason::Hysteresis), "too soon for any");
    now += SECOND;
    assert_eq!(step(130, now), (None, Reason::Hysteresis), "with little to spare");
    assert_eq!(step(2000, now), (Some(0), Reason::Ideal));
}

#[test]
fn a_queue_that_drains_takes_no_layer_and_brings_only_a_lowest_one() {
    let now = test_epoch();
    // (estimate, settled, layer sent now, target)
    for (estimate, settled, current, target) in [
        (80, 130, Some(0), Some(0)),
        (80, 95, Some(0), None),
        (80, 400, Some(1), Some(1)),
        (80, 399, Some(1), Some(0)),
        (80, 500, Some(0), Some(0)),
        (80, 105, None, None),
        (80, 115, None, Some(0)),
    ] {
        let capacity = Capacity { settled: Bitrate::from_kbps(settled), ..link(estimate) };
        let mut decisions = Vec::new();
        allocate(capacity, &[camera(current, now)], now, &mut Scratch::default(), &mut decisions);
        let found = decisions[0].target.map(|layer| layer.0);
        assert_eq!(found, target, "{estimate}, {settled}, {current:?}");
    }
}

#[test]
fn layers_that_do_not_flow_are_asked_for_and_not_sent() {
    use Reason::{Ideal, LayerInactive, NoBandwidth};
    let now = test_epoch();
    let (l, i) = (layer, inactive);
    // (layers, layer sent now, ideal, estimate) and (target, demand, reason)
    let table = [
        ([l(100), l(400), i(1500)], Some(2), 2, 5000, Some(1), Some(2), LayerInactive),
        ([l(100), l(400), i(1500)], Some(1), 2, 1000, Some(1), Some(1), NoBandwidth),
        ([l(100), l(400), i(0)], Some(1), 2, 500, Some(1), Some(2), LayerInactive),
        ([l(100), i(400), l(1500)], Some(0), 2, 5000, Some(2), Some(2), Ideal),
        ([l(100), i(400), l(1500)], Some(0), 1, 5000, Some(0), Some(1), LayerInactive),
        // A higher layer costs less than the one below it.
        ([l(100), l(900), l(500)], Some(0), 2, 600, Some(2), Some(2), Ideal),
        ([l(100), l(900), l(500)], Some(0), 2, 400, Some(0), Some(0), NoBandwidth),
        // No layer up to the ideal is active: the next active one stands in if it fits, and the ideal is requested.
        ([i(100), i(400), l(1500)], None, 1, 5000, Some(2), Some(1), LayerInactive),
        ([i(100), i(400), l(1500)], None, 1, 1000, None, Some(1), NoBandwidth),
        ([i(100), l(400), l(1500)], None, 0, 5000, Some(1), Some(0), LayerInactive),
        // No layer is active at all: all are treated as active.
        ([i(100), i(400), i(1500)], None, 2, 5000, Some(2), Some(2), Ideal),
        ([i(100), i(400), i(1500)], None, 2, 1000, Some(1), Some(1), NoBandwidth),
        ([i(0), i(0), i(0)], None, 2, 0, Some(2), Some(2), Ideal),
    ];
    for (layers, current, ideal, kbps, target, demand, reason) in table {
        let track = Candidate { layers: &layers, ideal: Some(Layer(ideal)), ..camera(current, now) };
        let expected = Decision {
            target: target.map(Layer),
            temporal: None,
            demand: demand.map(Layer),
            paused: target.is_none(),
            reason,
        };
        assert_eq!(run(kbps, &[track], now).0, [expected], "{layers:?} {current:?} {ideal} at {kbps}");
    }
    // Without any known layer the track is not paused. With fewer layers than expected, the highest existing one is the
    // ideal.
    let (decisions, _) = run(1000, &[Candidate { layers: &[], ..camera(None, now) }], now);
    assert_eq!((decisions[0].paused, decisions[0].reason), (false, LayerInactive));
    let (decisions, outcome) = run(1000, &[Candidate { layers: &VIDEO[..1], ..camera(None, now) }], now);
    assert_eq!((decisions[0].target, decisions[0].reason), (Some(Layer(0)), Ideal));
    assert_eq!(outcome.wanted, Bitrate::from_kbps(100));
}

/// Decides for one camera and applies the decision.
fn step(standing: &mut Standing, kbps: u64, now: Instant) -> (Option<u8>, Reason, Option<Instant>) {
    let track = Candidate { standing: *standing, ..camera(None, now) };
    let (decisions, outcome) = run(kbps, &[track], now);
    standing.apply(&decisions[0], now);
    (decisions[0].target.map(|layer| layer.0), decisions[0].reason, outcome.next_upgrade_at)
}

#[test]
fn steps_up_are_rare_and_steps_down_immediate() {
    use Reason::{Hysteresis, Ideal, NoBandwidth};
    let start = test_epoch();
    let mut standing = Standing::new(start);
    let at = |seconds: u64| start + SECOND * seconds as u32;
    assert_eq!(step(&mut standing, 500, at(0)), (Some(1), NoBandwidth, None));
    assert_eq!(step(&mut standing, 2000, at(4)), (Some(2), Ideal, None), "young");
    assert_eq!(step(&mut standing, 500, at(30)), (Some(1), NoBandwidth, None), "at once");
    assert_eq!(step(&mut standing, 150, at(30)), (Some(0), NoBandwidth, None), "and again");
    assert_eq!(
        step(&mut standing, 500, at(31)),
        (Some(1), NoBandwidth, None),
        "the last step up is long ago"
    );
    assert_eq!(step(&mut standing, 2000, at(32)), (Some(1), Hysteresis, Some(at(36))));
    assert_eq!(step(&mut standing, 2000, at(36)), (Some(2), Ideal, None));
    // Each failure doubles the wait, up to 40 s.
    assert_eq!(step(&mut standing, 500, at(37)), (Some(1), NoBandwidth, None));
    assert_eq!(step(&mut standing, 2000, at(38)), (Some(1), Hysteresis, Some(at(46))));
    let mut now = at(46);
    for wait in [20, 40, 40, 40] {
        assert_eq!(step(&mut standing, 2000, now), (Some(2), Ideal, None), "before {wait}");
        assert_eq!(step(&mut standing, 500, now + SECOND), (Some(1), NoBandwidth, None));
        let allowed = now + SECOND * wait;
        assert_eq!(step(&mut standing, 2000, now + SECOND * 2), (Some(1), Hysteresis, Some(allowed)));
        now = allowed;
    }
    // A change of demand lets one step up skip the wait.
    standing.on_demand_changed();
    assert_eq!(step(&mut standing, 2000, now - SECOND), (Some(2), Ideal, None));
    // Dropping a layer that lasted is no failure.
    assert_eq!(step(&mut standing, 500, now + SECOND * 30), (Some(1), NoBandwidth, None));
    assert_eq!(step(&mut standing, 2000, now + SECOND * 31), (Some(2), Ideal, None));
}

#[test]
fn what_waits_for_its_time_keeps_its_room() {
    let start = test_epoch();
    let now = start + SECOND * 60;
    let mut speaker = Candidate { speaker: true, ..camera(Some(1), start) };
    speaker.standing.last_up = Some(now - SECOND);
    let thumbnail = camera(Some(0), start);
    let (decisions, outcome) = run(1800, &[thumbnail, speaker], now);
    assert_eq!(decisions[0].target, Some(Layer(0)), "it would have to come down in four seconds");
    assert_eq!((decisions[1].target, decisions[1].demand), (Some(Layer(1)), Some(Layer(2))));
    assert_eq!(decisions[1].reason, Reason::Hysteresis);
    assert_eq!(outcome.next_upgrade_at, Some(now + SECOND * 4));
    // A layer that is already sent does not make room before the more important step may be taken.
    let sent = camera(Some(1), start);
    assert_eq!(targets(1800, &[sent, speaker], now), [Some(1), Some(1)]);
    assert_eq!(targets(1800, &[sent, speaker], now + SECOND * 4), [Some(0), Some(2)]);
}

/// A room of random tracks with random costs.
struct Walk {
    rng: SmallRng,
    tracks: Vec<Candidate<'static>>,
    costs: Vec<[LayerCost; 3]>,
}

impl Walk {
    fn new(seed: u64, now: Instant) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let count = rng.random_range(1..30);
        let mut tracks = Vec::new();
        for _ in 0..count {
            let kind = if rng.random_bool(0.3) { MediaKind::Audio } else { MediaKind::Video };
            tracks.push(Candidate {
                kind,
                screen_share: rng.random_bool(0.1),
                speaker: rng.random_bool(0.1),
                priority: rng.random_range(0..3),
                ideal: Some(Layer(rng.random_range(0..3))),
                standing: Standing::new(now),
                ..camera(None, now)
            });
        }
        let costs = tracks.iter().map(|_| VIDEO).collect();
        Self { rng, tracks, costs }
    }

    /// Varies the costs by some per cent and sometimes changes something else. Returns the track whose demand changed,
    /// if any.
    fn change(&mut self) -> Option<usize> {
        for (costs, track) in self.costs.iter_mut().zip(&self.tracks) {
            for (cost, base) in costs.iter_mut().zip([100_000, 400_000, 1_500_000]) {
                let base = if track.kind == MediaKind::Audio { 40_000 } else { base };
                cost.bitrate = Bitrate::from_bps(base * self.rng.random_range(80..120) / 100);
                if self.rng.random_bool(0.005) {
                    cost.active = !cost.active;
                }
            }
        }
        let chosen = self.rng.random_range(0..self.tracks.len());
        let track = &mut self.tracks[chosen];
        match self.rng.random_range(0..100) {
            0 => track.speaker = !track.speaker,
            1 => track.muted = !track.muted,
            2 => {
                track.ideal =
                    [None, Some(Layer(0)), Some(Layer(1)), Some(Layer(2))][self.rng.random_range(0..4)];
                track.standing.on_demand_changed();
                return Some(chosen);
            }
            _ => {}
        }
        None
    }

    fn candidates(&self) -> Vec<Candidate<'_>> {
        let both = self.tracks.iter().zip(&self.costs);
        both.map(|(track, costs)| Candidate { layers: costs, ..*track }).collect()
    }
}

fn decide_for(candidates: &[Candidate<'_>], capacity: Capacity, now: Instant) -> (Vec<Decision>, Outcome) {
    let mut decisions = Vec::new();
    let outcome = allocate(capacity, candidates, now, &mut Scratch::default(), &mut decisions);
    (decisions, outcome)
}

fn cost_of(candidate: &Candidate<'_>, layer: Option<Layer>) -> u64 {
    layer.map_or(0, |layer| candidate.layers[usize::from(layer.0)].bitrate.bps())
}

/// Checks that everything sent fits, is active and adds up to the outcome, and that audio is never paused.
fn check_fit(candidates: &[Candidate<'_>], capacity: Capacity, decided: &(Vec<Decision>, Outcome)) {
    let (decisions, outcome) = decided;
    let (mut audio, mut video) = (0, 0);
    for (candidate, decision) in candidates.iter().zip(decisions) {
        let cost = cost_of(candidate, decision.target);
        if candidate.kind == MediaKind::Audio {
            audio += cost;
            assert_eq!(decision.target.is_some(), candidate.ideal.is_some() && !candidate.muted);
            assert!(!decision.paused);
        } else {
            video += cost;
            let asleep = candidate.layers.iter().all(|layer| !layer.active);
            let flows = decision.target.is_none_or(|to| candidate.layers[usize::from(to.0)].active);
            assert!(flows || asleep, "{candidate:?}: {decision:?}");
        }
    }
    assert!(video == 0 || video + audio <= capacity.estimate.bps(), "{video} + {audio} > {capacity:?}");
    assert_eq!(outcome.allocated.bps(), video + audio);
}

/// Checks that more bandwidth is an advantage: the most important step that differs is taken with more, not with less.
fn check_monotone(candidates: &[Candidate<'_>], capacity: Capacity, more: Capacity, now: Instant) {
    let (less, more) = (decide_for(candidates, capacity, now).0, decide_for(candidates, more, now).0);
    let mut steps = Vec::new();
    for (track, candidate) in candidates.iter().enumerate() {
        if let (MediaKind::Video, Some(ideal)) = (candidate.kind, wish(candidate)) {
            push_steps(track, candidate, ideal, now, &mut steps);
        }
    }
    steps.sort_unstable();
    let stand_in =
        |track| steps.iter().find(|step| step.track == track && step.stands_in).map(|step| step.layer);
    let reached = |decisions: &[Decision], step: &Step| {
        let decision = decisions[step.track];
        match stand_in(step.track) {
            None => decision.demand >= Some(step.layer),
            Some(above) if step.layer == above => decision.target == Some(above),
            Some(above) => decision.demand.is_some_and(|to| (step.layer..above).contains(&to)),
        }
    };
    let differs = steps.iter().find(|step| reached(&less, step) != reached(&more, step));
    assert!(differs.is_none_or(|step| reached(&more, step)), "{differs:?}, {capacity:?}");
    let alone = candidates.iter().filter(|candidate| candidate.kind == MediaKind::Video).count() == 1;
    if alone {
        let worse = less.iter().zip(&more).find(|(less, more)| less.target > more.target);
        assert_eq!(worse, None);
    }
}

#[test]
fn a_random_walk_breaks_no_rule() {
    let mut ups = 0;
    for seed in 0..60 {
        let start = test_epoch();
        let mut walk = Walk::new(seed, start);
        let mut estimate = 3_000_000_f64;
        // Time of each track's last step up; `None` if the next one need not wait.
        let mut last_up = vec![None; walk.tracks.len()];
        for tick in 0..600_u32 {
            let now = start + Duration::from_millis(200) * tick;
            if let Some(changed) = walk.change() {
                last_up[changed] = None;
            }
            estimate = (estimate * walk.rng.random_range(0.8..1.25)).clamp(30_000.0, 20_000_000.0);
            let probed = if walk.rng.random_bool(0.2) { estimate * 0.97 } else { 0.0 };
            let bps = |value: f64| Bitrate::from_bps(value as u64);
            let capacity = Capacity { estimate: bps(estimate), probed: bps(probed), ..link(0) };
            let candidates = walk.candidates();
            let decided = decide_for(&candidates, capacity, now);
            check_fit(&candidates, capacity, &decided);
            if tick % 10 == 0 {
                let more = Capacity { estimate: bps(estimate * 1.15), ..capacity };
                check_monotone(&candidates, capacity, more, now);
            }
            let each = candidates.iter().zip(&decided.0);
            let cost = |(candidate, decision): (&Candidate<'_>, &Decision)| {
                let layer = decision.target.and_then(|layer| candidate.layers.get(usize::from(layer.0)));
                layer.map_or(Bitrate::ZERO, |layer| layer.bitrate)
            };
            let costs: Vec<Bitrate> = each.map(cost).collect();
            for (track, decision) in decided.0.iter().enumerate() {
                let before = walk.tracks[track].standing.current();
                if matches!(decision.reason, Reason::Muted | Reason::Demand) {
                    last_up[track] = None;
                } else if decision.target > before && walk.tracks[track].kind == MediaKind::Video {
                    let young = now - start < UPGRADE_INTERVAL;
                    let rested = last_up[track].is_none_or(|last| now - last >= UPGRADE_INTERVAL);
                    // Tracks that are at least as important cost at least as much as the track's own layer, so this is
                    // a lower bound.
                    let shown = costs[track] <= capacity.probed;
                    assert!(young || rested || shown, "seed {seed}, {now:?}: {track} stepped up too soon");
                    last_up[track] = Some(now);
                    ups += 1;
                }
                walk.tracks[track].standing.apply(decision, now);
            }
        }
    }
    assert!(ups > 1000, "hardly anything ever stepped up: {ups}");
}

#[test]
fn an_estimate_that_trembles_changes_nothing() {
    let start = test_epoch();
    let mut rng = SmallRng::seed_from_u64(1);
    let mut standings = [Standing::new(start); 6];
    let mut changes = 0;
    for tick in 0..3000_u32 {
        let now = start + Duration::from_millis(200) * tick;
        let costs: [_; 6] = std::array::from_fn(|_| {
            [100, 400, 1500].map(|kbps| layer(kbps * rng.random_range(97..103) / 100))
        });
        let both = standings.iter().zip(&costs);
        let tracks: Vec<_> = both
            .map(|(standing, costs)| Candidate { standing: *standing, layers: costs, ..camera(None, now) })
            .collect();
        let (decisions, _) = run(rng.random_range(2900..3100), &tracks, now);
        for (standing, decision) in standings.iter_mut().zip(&decisions) {
            changes += u32::from(standing.apply(decision, now)) * u32::from(tick > 50);
        }
    }
    assert_eq!(changes, 0, "in ten minutes");
}
