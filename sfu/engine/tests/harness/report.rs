//! Prints measurements over several seeds as table rows, and checks them against required bounds.

/// Requirement on a quantity, to be met under every seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// No requirement; larger values are better.
    More,
    /// No requirement; smaller values are better.
    Less,
}

/// Measurements of one case under all its seeds.
#[derive(Debug, Default)]
pub struct Report {
    lines: Vec<Line>,
}

/// Name of a quantity, its requirement, and its value under each seed.
type Line = (&'static str, Bound, Vec<(u64, f64)>);

impl Report {
    /// Runs `measure` with each seed from 1 to `RECOVERY_SEEDS` (environment; 2 by default). Does nothing if `case`
    /// does not contain the value of `RECOVERY_CASE`.
    pub fn over_seeds(case: &str, mut measure: impl FnMut(u64, &mut Self)) {
        let seeds = std::env::var("RECOVERY_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(2);
        if std::env::var("RECOVERY_CASE").is_ok_and(|wanted| !case.contains(&wanted)) {
            return;
        }
        let mut report = Self::default();
        for seed in 1..=seeds {
            measure(seed, &mut report);
        }
        report.finish(case);
    }

    /// Records a value measured under a seed.
    pub fn add(&mut self, seed: u64, name: &'static str, bound: Bound, value: f64) {
        match self.lines.iter_mut().find(|(known, ..)| *known == name) {
            Some((.., values)) => values.push((seed, value)),
            None => self.lines.push((name, bound, vec![(seed, value)])),
        }
    }

    fn finish(mut self, case: &str) {
        let mut wrong = Vec::new();
        for (name, bound, values) in &mut self.lines {
            let all = values.clone();
            values.sort_by(|a, b| a.1.total_cmp(&b.1));
            let median = values[values.len() / 2].1;
            let (least, most) = (values[0].1, values[values.len() - 1].1);
            let (required, worst, met) = match bound {
                Bound::AtLeast(bound) => (format!(">= {bound}"), least, least >= *bound),
                Bound::AtMost(bound) => (format!("<= {bound}"), most, most <= *bound),
                Bound::More => ("-".to_owned(), least, true),
                Bound::Less => ("-".to_owned(), most, true),
            };
            println!("| {case} | {name} | {required} | {median:.2} | {worst:.2} |");
            if !met {
                wrong.push(format!("{name}: {worst:.3}, required {required}; by seed {all:.2?}"));
            }
        }
        assert!(wrong.is_empty(), "{case}: {}", wrong.join("\n"));
    }
}
