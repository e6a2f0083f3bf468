//! What was measured, over seeds, against what must be shown, as rows of a table.

/// What is required of a quantity under every seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// For information: more is better.
    More,
    /// For information: less is better.
    Less,
}

/// One case under all its seeds.
#[derive(Debug, Default)]
pub struct Report {
    lines: Vec<Line>,
}

/// One quantity, with what is required of it and its value under each seed.
type Line = (&'static str, Bound, Vec<(u64, f64)>);

impl Report {
    /// Measures under as many seeds as the environment says in `RECOVERY_SEEDS`, two if it does not; nothing if it names
    /// another case in `RECOVERY_CASE`.
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

    /// Notes what was measured under a seed.
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
