use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[expect(clippy::disallowed_methods, reason = "virtual time needs an origin")]
fn start() -> Instant {
    Instant::now()
}

fn limits() -> Limits {
    Limits { data_buffered_bytes: 100_000, data_backlog_bytes: 1_000_000, ..Limits::default() }
}

/// A backlog of `messages` messages, each counted as 10,000 bytes.
fn with(now: Instant, messages: usize) -> Backlog {
    let mut backlog = Backlog::new(now);
    fill(&mut backlog, now, messages);
    backlog
}

fn fill(backlog: &mut Backlog, now: Instant, messages: usize) {
    for _ in 0..messages {
        backlog.push(now, Bytes::from(vec![0; 10_000 - MESSAGE]), &limits());
    }
}

#[test]
fn who_was_behind_or_full_has_to_get_rid_of_a_part_before_it_counts_as_less() {
    let now = start();
    let mut backlog = with(now, 10);
    let level = |backlog: &mut Backlog| backlog.update_level(now, true, &limits());
    assert_eq!(level(&mut backlog), BacklogLevel::Ready);
    fill(&mut backlog, now, 1);
    assert_eq!(level(&mut backlog), BacklogLevel::Behind);
    fill(&mut backlog, now, 90);
    assert_eq!(level(&mut backlog), BacklogLevel::Full);
    let mut seen = Vec::new();
    while !backlog.is_empty() {
        backlog.taken(now, &limits());
        let now = level(&mut backlog);
        if seen.last().map(|(last, _)| *last) != Some(now) {
            seen.push((now, backlog.bytes()));
        }
    }
    use BacklogLevel::{Behind, Full, Ready};
    assert_eq!(seen, [(Full, 1_000_000), (Behind, 870_000), (Ready, 50_000)]);
}

#[test]
fn of_several_the_fastest_sets_the_pace_unless_one_is_full() {
    use BacklogLevel::{Behind, Full, Nobody, Ready};
    let all = |list: &[BacklogLevel]| list.iter().fold(Nobody, |all, level| all.with(*level));
    assert_eq!(all(&[]), Nobody);
    assert_eq!(all(&[Nobody, Behind]), Behind);
    assert_eq!(all(&[Behind, Ready, Behind]), Ready);
    assert_eq!(all(&[Ready, Full, Nobody]), Full);
}

#[test]
fn whoever_is_full_and_slow_is_given_up_and_whoever_is_full_and_fast_is_waited_for() {
    for (per_second, overdue) in [(0, true), (12, true), (13, false), (50, false)] {
        let now = start();
        let mut backlog = with(now, 101 + per_second);
        for _ in 0..per_second {
            backlog.taken(now, &limits());
        }
        assert!(!backlog.is_overdue(now, Some(0), &limits()), "nothing is known of its pace");
        assert_eq!(backlog.is_overdue(now + SECOND, Some(0), &limits()), overdue, "{per_second} a second");
    }
    // A receiver that was full, and is not yet far enough below the limit, still counts as full.
    let mut slow = with(start(), 101);
    let now = start();
    slow.update_level(now, true, &limits());
    slow.taken(now, &limits());
    assert!(slow.is_overdue(now + SECOND, Some(0), &limits()));
    let now = start();
    assert!(with(now, 201).is_overdue(now, Some(0), &limits()), "twice as much as may");
}

#[test]
fn whoever_takes_nothing_or_is_late_is_given_up() {
    let (now, limits) = (start(), limits());
    let mut still = with(now, 5);
    assert!(!still.is_overdue(now + limits.data_stall, Some(1000), &limits));
    assert!(still.is_overdue(now + limits.data_stall + SECOND, Some(1000), &limits));
    // A receiver whose association drains slowly is not stalled, but becomes overdue in the end.
    let mut late = with(now, 5);
    let mut buffered = 1_000_000;
    let end = (1..1000).find(|second| {
        buffered -= 1;
        late.is_overdue(now + SECOND * *second, Some(buffered), &limits)
    });
    assert_eq!(end, Some(limits.data_lag.as_secs() as u32 + 1));
    assert!(!Backlog::new(now).is_overdue(now + limits.data_lag * 2, None, &limits), "nothing waits");
}

#[test]
fn without_a_channel_the_oldest_are_dropped_and_after_a_while_nobody_waits() {
    let (now, limits) = (start(), limits());
    let mut backlog = with(now, 120);
    assert_eq!(backlog.forget(now, &limits), 20);
    fill(&mut backlog, now + HELD / 2, 3);
    assert_eq!(backlog.update_level(now + HELD, false, &limits), BacklogLevel::Full);
    assert_eq!(backlog.forget(now + HELD + SECOND, &limits), 100);
    assert_eq!(backlog.len(), 3);
    assert_eq!(backlog.update_level(now + HELD + SECOND, false, &limits), BacklogLevel::Nobody);
    assert_eq!(backlog.update_level(now + HELD + SECOND, true, &limits), BacklogLevel::Ready);
    // A receiver that has had a channel does not lose messages silently.
    assert_eq!(backlog.forget(now + HELD * 3, &limits), 0);
    assert!(backlog.is_overdue(now + HELD * 3, None, &limits));
}
