//! Formats results as Markdown tables for `docs/performance.md`.

use crate::floor::Cost;
use crate::scenario::{Forwarded, Resident};

/// Required upper limit of [`Row::ratio`].
pub const TARGET: f64 = 1.6;

/// Repeated runs of one scenario: its part of the forwarding table.
#[derive(Debug, Clone)]
pub struct Row {
    /// Description of the scenario.
    pub name: String,
    /// The runs, each with the floor measured before it and the floor measured after it.
    pub runs: Vec<(Cost, Forwarded, Cost)>,
}

impl Row {
    /// CPU time per forwarded packet divided by CPU time per packet of the floor, in the median run.
    pub fn ratio(&self) -> f64 {
        let mut ratios: Vec<f64> = self.runs.iter().map(ratio).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// Table of the floor measurements.
pub fn floor(rows: &[(String, Cost)]) -> String {
    let mut text = "| floor | packets | lost | CPU us/packet |\n|---|---|---|---|\n".to_owned();
    for (name, cost) in rows {
        let lost = cost.sent.saturating_sub(cost.packets);
        text += &format!("| {name} | {} | {lost} | {:.2} |\n", cost.packets, cost.per_packet_us());
    }
    text
}

/// Forwarding table: a line per run, then the ratio of the median run.
pub fn forward(rows: &[Row]) -> String {
    let mut text = "| scenario | forwarded | lost | server says | bytes | CPU us/packet | floor before / after | ratio |\n\
                    |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for row in rows {
        for run @ (before, forwarded, after) in &row.runs {
            text += &format!(
                "| {} | {} | {} | {:.0} | {:.0} | {:.2} | {:.2} / {:.2} | {:.2} |\n",
                row.name,
                forwarded.cost.packets,
                forwarded.expected.saturating_sub(forwarded.cost.packets),
                forwarded.server_says,
                forwarded.packet_bytes,
                forwarded.cost.per_packet_us(),
                before.per_packet_us(),
                after.per_packet_us(),
                ratio(run),
            );
        }
        let median = row.ratio();
        let verdict = if median <= TARGET { "within" } else { "above" };
        text +=
            &format!("| **{}** | | | | | | **median** | **{median:.2}**, {verdict} {TARGET} |\n", row.name);
    }
    text
}

/// Memory table.
pub fn memory(participants: Resident, subscriptions: Resident) -> String {
    let each = |what: &str, resident: Resident| {
        let one = resident.bytes as f64 / resident.count.max(1) as f64 / 1024.0;
        format!("| {what} | {} | {one:.1} |\n", resident.count)
    };
    "| resident memory | count | KiB each |\n|---|---|---|\n".to_owned()
        + &each("idle participant", participants)
        + &each("subscription", subscriptions)
}

fn ratio((before, forwarded, after): &(Cost, Forwarded, Cost)) -> f64 {
    let floor = f64::midpoint(before.per_packet_us(), after.per_packet_us());
    forwarded.cost.per_packet_us() / floor
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn cost(us: u64) -> Cost {
        Cost { packets: 1000, sent: 1000, cpu: Duration::from_micros(us * 1000) }
    }

    fn run(us: u64) -> (Cost, Forwarded, Cost) {
        let cost_of = cost(us);
        let forwarded = Forwarded {
            cost: cost_of,
            expected: 1010,
            server_says: 1000.0,
            packet_bytes: 1200.0,
            undecrypted: 0,
        };
        (cost(1), forwarded, cost(3))
    }

    #[test]
    fn the_ratio_is_of_the_median_run_to_the_mean_of_its_floors() {
        let row = Row { name: "1 to 100".to_owned(), runs: vec![run(8), run(2), run(3)] };
        assert!((row.ratio() - 1.5).abs() < 1e-9);
        let text = forward(&[row]);
        assert!(text.contains("| 10 | 1000 |") && text.contains("**1.50**, within 1.6"), "{text}");
    }

    #[test]
    fn memory_is_divided_by_the_count() {
        let text = memory(Resident { count: 10, bytes: 10 * 2048 }, Resident { count: 0, bytes: 0 });
        assert!(text.contains("| idle participant | 10 | 2.0 |"), "{text}");
    }
}
