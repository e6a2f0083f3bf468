//! Results of measurements over several seeds, checked against bounds.

/// One line of the table: values of one quantity under all seeds.
#[derive(Debug)]
pub struct Line {
    name: &'static str,
    bound: Bound,
    /// Pairs of seed and value.
    values: Vec<(u64, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// Required minimum that some seeds miss, and the minimum that is reached today and enforced.
    Short(f64, f64),
    /// For information only; the lowest value is the worst.
    None,
    /// For information only; the highest value is the worst.
    Less,
}

/// All lines of one test case.
#[derive(Debug, Default)]
pub struct Report {
    lines: Vec<Line>,
    seed: u64,
}

impl Report {
    /// Sets the seed of the values that are added from now on.
    pub fn seed(&mut self, seed: u64) {
        self.seed = seed;
    }

    pub fn add(&mut self, name: &'static str, bound: Bound, value: f64) {
        let value = (self.seed, value);
        match self.lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.values.push(value),
            None => self.lines.push(Line { name, bound, values: vec![value] }),
        }
    }

    /// Prints the lines as table rows. Panics if one violates its bound under any seed.
    pub fn finish(self, case: &str) {
        let wrong = self.print(case);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Prints the lines as table rows. Returns a message for each line that violates its bound under any seed.
    pub fn print(mut self, case: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut text = String::new();
        for line in &mut self.lines {
            let all = line.values.clone();
            line.values.sort_by(|a, b| a.1.total_cmp(&b.1));
            let (_, median) = line.values[line.values.len() / 2];
            let (first, last) = (line.values[0].1, line.values[line.values.len() - 1].1);
            let (required, worst, met) = match line.bound {
                Bound::AtLeast(bound) => (format!(">= {bound}"), first, first >= bound),
                Bound::Short(bound, kept) => (format!(">= {bound}"), first, first >= kept),
                Bound::AtMost(bound) => (format!("<= {bound}"), last, last <= bound),
                Bound::None => ("-".to_owned(), first, true),
                Bound::Less => ("-".to_owned(), last, true),
            };
            text += &format!("| {case} | {} | {required} | {median:.2} | {worst:.2} |\n", line.name);
            if !met {
                wrong.push(format!(
                    "{case}: {}: {worst:.3}, required {required}; by seed {all:.2?}",
                    line.name
                ));
            }
        }
        print!("\n{text}");
        wrong
    }
}

/// Jain's fairness index: 1 if all rates are equal, 1/n if one of n flows has everything.
pub fn jain(rates: &[f64]) -> f64 {
    let sum: f64 = rates.iter().sum();
    let squares: f64 = rates.iter().map(|rate| rate * rate).sum();
    if squares == 0.0 { 0.0 } else { sum * sum / (rates.len() as f64 * squares) }
}

/// Longest time in seconds for which `holds` is true at every step of 100 ms.
pub fn longest(from: f64, to: f64, holds: impl Fn(f64) -> bool) -> f64 {
    let (mut longest, mut run) = (0, 0);
    for step in (from * 10.0) as u32..(to * 10.0) as u32 {
        run = if holds(f64::from(step) / 10.0) { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    f64::from(longest) / 10.0
}
