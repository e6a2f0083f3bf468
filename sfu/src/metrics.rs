//! Statistics of the workers, summed, as Prometheus metric families. No label names a participant.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use sfu_engine::stats::{DelayHistogram, Drop as DropReason, Stats, Volume, Volumes};

use crate::worker::Report;

/// All metric families. `workers` is the number of workers that were asked; `stale` is the number of commands that the
/// node itself dropped as stale.
pub(crate) fn families(reports: &[Report], workers: usize, stale: u64) -> Vec<MetricFamily> {
    let sum = |field: fn(&Stats) -> u64| reports.iter().map(|report| field(&report.stats)).sum::<u64>();
    let mut all = vec![
        counter("anytime_joins_total", "Participants that ever joined.", sum(|s| s.joins)),
        gauge("anytime_participants", "Participants connected now.", sum(|s| s.participants)),
        gauge(
            "anytime_rooms",
            "Rooms with members now; one that spans workers counts on each.",
            sum(|s| s.rooms),
        ),
        family(
            "anytime_tracks",
            "Published tracks now.",
            MetricType::GAUGE,
            vec![
                gauge_of(&[("kind", "audio")], sum(|s| s.tracks_audio) as f64),
                gauge_of(&[("kind", "video")], sum(|s| s.tracks_video) as f64),
            ],
        ),
        gauge("anytime_subscriptions", "Bound subscriptions now.", sum(|s| s.subscriptions)),
        gauge(
            "anytime_media_sections",
            "Media sections of connections now, those out of use included.",
            sum(|s| s.media_sections),
        ),
        gauge(
            "anytime_sources",
            "Sources of RTP that are remembered of connections now.",
            sum(|s| s.sources),
        ),
        counter(
            "anytime_subscriptions_refused_total",
            "Subscriptions without a media section, because their subscriber has as many as it may have.",
            sum(|s| s.subscriptions_refused),
        ),
    ];
    all.extend(traffic(reports));
    all.push(drops(reports, stale));
    all.extend(feedback(&sum));
    all.push(forwarding_delay(reports));
    all.extend(work(reports, workers));
    all
}

/// Value of a counter or a gauge.
#[cfg(test)]
pub(crate) fn value(metric: &Metric) -> f64 {
    metric.get_counter().get_value() + metric.get_gauge().get_value()
}

fn traffic(reports: &[Report]) -> [MetricFamily; 2] {
    let mut packets = Vec::new();
    let mut bytes = Vec::new();
    for (direction, volumes) in [("in", (|s| &s.received) as fn(&Stats) -> &Volumes), ("out", |s| &s.sent)] {
        for (kind, volume) in KINDS {
            let labels = [("direction", direction), ("kind", kind)];
            let each = || reports.iter().map(|report| volume(volumes(&report.stats)));
            packets.push(counter_of(&labels, each().map(|volume| volume.packets).sum()));
            bytes.push(counter_of(&labels, each().map(|volume| volume.bytes).sum()));
        }
    }
    [
        family(
            "anytime_packets_total",
            "UDP datagrams by direction and kind; other is ICE, DTLS and data channels.",
            MetricType::COUNTER,
            packets,
        ),
        family("anytime_bytes_total", "UDP payload bytes by direction and kind.", MetricType::COUNTER, bytes),
    ]
}

fn drops(reports: &[Report], stale: u64) -> MetricFamily {
    let metrics = DropReason::ALL.into_iter().map(|reason| {
        let node = if reason == DropReason::StaleMessage { stale } else { 0 };
        let shards: u64 = reports.iter().map(|report| report.stats.dropped(reason)).sum();
        counter_of(&[("reason", reason.label())], shards + node)
    });
    family(
        "anytime_drops_total",
        "Packets and messages discarded, by reason.",
        MetricType::COUNTER,
        metrics.collect(),
    )
}

fn feedback(sum: &dyn Fn(fn(&Stats) -> u64) -> u64) -> Vec<MetricFamily> {
    let both = |name, help, received: u64, sent: u64| {
        let metrics =
            vec![counter_of(&[("direction", "in")], received), counter_of(&[("direction", "out")], sent)];
        family(name, help, MetricType::COUNTER, metrics)
    };
    vec![
        both(
            "anytime_nacks_total",
            "Sequence numbers asked for again: in, by subscribers; out, of publishers.",
            sum(|s| s.nacks_received),
            sum(|s| s.nacks_sent),
        ),
        both(
            "anytime_plis_total",
            "Key-frame requests: in, by subscribers; out, to publishers.",
            sum(|s| s.plis_received),
            sum(|s| s.plis_sent),
        ),
        both(
            "anytime_retransmitted_packets_total",
            "Retransmissions: in, from publishers; out, to subscribers.",
            sum(|s| s.received.retransmitted.packets),
            sum(|s| s.sent.retransmitted.packets),
        ),
        counter(
            "anytime_audio_unheard_total",
            "Published packets of sound not forwarded by choice: others were louder.",
            sum(|s| s.audio_unheard),
        ),
        counter("anytime_data_messages_total", "User data messages forwarded.", sum(|s| s.data_messages)),
        counter(
            "anytime_data_receivers_ended_total",
            "Participants whose sessions were made anew because they were too far behind with reliable user data.",
            sum(|s| s.data_receivers_ended),
        ),
        counter(
            "anytime_panics_total",
            "Panics that were caught: participants ended because their code path panicked, and a few in nobody's path.",
            sum(|s| s.panics),
        ),
        counter(
            "anytime_transport_failures_total",
            "Participants ended because ICE, DTLS or consent failed.",
            sum(|s| s.transport_failures),
        ),
    ]
}

fn forwarding_delay(reports: &[Report]) -> MetricFamily {
    let mut cumulative = 0;
    let mut buckets = Vec::with_capacity(DelayHistogram::BOUNDS.len());
    let count_of = |place: usize| -> u64 {
        reports.iter().filter_map(|report| report.stats.forwarding_delay.buckets.get(place)).sum()
    };
    for (place, bound) in DelayHistogram::BOUNDS.iter().enumerate() {
        cumulative += count_of(place);
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound.as_secs_f64());
        bucket.set_cumulative_count(cumulative);
        buckets.push(bucket);
    }
    let sum_us: u64 = reports.iter().map(|report| report.stats.forwarding_delay.sum_us).sum();
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(cumulative + count_of(DelayHistogram::BOUNDS.len()));
    histogram.set_sample_sum(sum_us as f64 / 1e6);
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    family(
        "anytime_forwarding_delay_seconds",
        "From a media packet's arrival in the process to its leaving, per forwarded packet.",
        MetricType::HISTOGRAM,
        vec![metric],
    )
}

fn work(reports: &[Report], workers: usize) -> Vec<MetricFamily> {
    let each = |value: fn(&Report) -> f64, make: fn(&[(&str, &str)], f64) -> Metric| {
        let labelled = reports.iter().map(|report| (report.worker.0.to_string(), value(report)));
        labelled.map(|(worker, value)| make(&[("worker", &worker)], value)).collect::<Vec<_>>()
    };
    vec![
        family(
            "anytime_worker_busy_ratio",
            "Share of the last second that a worker worked, 0 to 1.",
            MetricType::GAUGE,
            each(|r| r.busy_ratio, gauge_of),
        ),
        family(
            "anytime_worker_busy_seconds_total",
            "Time that a worker worked since it started.",
            MetricType::COUNTER,
            each(|r| r.busy.as_secs_f64(), counter_of_f64),
        ),
        family(
            "anytime_worker_turns_total",
            "Turns of a worker's loop.",
            MetricType::COUNTER,
            each(|r| r.turns as f64, counter_of_f64),
        ),
        family(
            "anytime_mailbox_depth",
            "Messages waiting for a worker.",
            MetricType::GAUGE,
            each(|r| r.mailbox_depth as f64, gauge_of),
        ),
        family(
            "anytime_send_queue_datagrams",
            "Datagrams waiting for a writable socket.",
            MetricType::GAUGE,
            each(|r| r.send_pending as f64, gauge_of),
        ),
        family(
            "anytime_pacer_queue_packets",
            "Packets waiting in pacers.",
            MetricType::GAUGE,
            each(|r| r.stats.pacer_queued as f64, gauge_of),
        ),
        family(
            "anytime_data_waiting_bytes",
            "Reliable user data waiting for receivers that are behind, beside what their associations have buffered.",
            MetricType::GAUGE,
            each(|r| r.stats.data_waiting as f64, gauge_of),
        ),
        gauge("anytime_workers", "Worker threads of this node.", workers as u64),
        gauge(
            "anytime_scrape_missed_workers",
            "Workers that did not answer this scrape and are missing from its sums.",
            workers.saturating_sub(reports.len()) as u64,
        ),
    ]
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn counter(name: &str, help: &str, value: u64) -> MetricFamily {
    family(name, help, MetricType::COUNTER, vec![counter_of(&[], value)])
}

fn gauge(name: &str, help: &str, value: u64) -> MetricFamily {
    family(name, help, MetricType::GAUGE, vec![gauge_of(&[], value as f64)])
}

fn counter_of(labels: &[(&str, &str)], value: u64) -> Metric {
    counter_of_f64(labels, value as f64)
}

fn counter_of_f64(labels: &[(&str, &str)], value: f64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value);
    let mut metric = labelled(labels);
    metric.set_counter(counter);
    metric
}

fn gauge_of(labels: &[(&str, &str)], value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = labelled(labels);
    metric.set_gauge(gauge);
    metric
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    let mut metric = Metric::default();
    metric.set_label(pairs.collect());
    metric
}

/// Value of the `kind` label, and the counter that it selects.
type Kind = (&'static str, fn(&Volumes) -> Volume);

const KINDS: [Kind; 6] = [
    ("audio", |v| v.audio),
    ("video", |v| v.video),
    ("retransmitted", |v| v.retransmitted),
    ("padding", |v| v.padding),
    ("rtcp", |v| v.rtcp),
    ("other", |v| v.other),
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::{Encoder, TextEncoder};
    use sfu_engine::shard::ShardId;

    use super::*;

    fn report(worker: u16, stats: Stats) -> Report {
        Report {
            worker: ShardId(worker),
            stats,
            busy_ratio: 0.5,
            busy: Duration::from_secs(3),
            mailbox_depth: 4,
            send_pending: 0,
            turns: 10,
        }
    }

    fn text(reports: &[Report]) -> String {
        let mut text = Vec::new();
        TextEncoder::new().encode(&families(reports, 2, 1), &mut text).expect("encodes");
        String::from_utf8(text).expect("UTF-8")
    }

    #[test]
    fn workers_are_summed_and_every_reason_and_kind_is_there() {
        let mut one = Stats { joins: 2, tracks_video: 1, ..Stats::default() };
        one.received.video.add(1000);
        one.drop(DropReason::StaleMessage);
        one.forwarding_delay.add(Duration::from_micros(200), 3);
        let mut two = Stats { joins: 3, ..Stats::default() };
        two.received.video.add(500);
        two.forwarding_delay.add(Duration::from_secs(1), 1);
        let text = text(&[report(0, one), report(1, two)]);
        for line in [
            "anytime_joins_total 5",
            "anytime_tracks{kind=\"video\"} 1",
            "anytime_packets_total{direction=\"in\",kind=\"video\"} 2",
            "anytime_bytes_total{direction=\"in\",kind=\"video\"} 1500",
            "anytime_drops_total{reason=\"stale_message\"} 2",
            "anytime_forwarding_delay_seconds_bucket{le=\"0.0001\"} 0",
            "anytime_forwarding_delay_seconds_bucket{le=\"0.00025\"} 3",
            "anytime_forwarding_delay_seconds_bucket{le=\"+Inf\"} 4",
            "anytime_forwarding_delay_seconds_count 4",
            "anytime_worker_busy_ratio{worker=\"1\"} 0.5",
            "anytime_mailbox_depth{worker=\"0\"} 4",
            "anytime_scrape_missed_workers 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        for reason in DropReason::ALL {
            assert!(text.contains(&format!("reason=\"{}\"", reason.label())));
        }
    }

    #[test]
    fn every_family_has_a_help_text_and_a_worker_that_is_silent_shows() {
        let families = families(&[report(0, Stats::default())], 2, 0);
        assert!(
            families.iter().all(|family| !family.help().is_empty() && family.name().starts_with("anytime_"))
        );
        let missed = families.iter().find(|family| family.name() == "anytime_scrape_missed_workers");
        assert_eq!(missed.and_then(|family| family.get_metric().first()).map(value), Some(1.0));
    }
}
