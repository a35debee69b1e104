//! What was measured, in numbers.

use load::Answers;
use serde::Serialize;

use crate::{
    meter::Cost,
    store::{reads::Read, statements::StatementCost},
};

/// One run.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    #[serde(flatten)]
    pub answers: Answers,
    /// Per order.
    pub cost: Cost,
    /// Per order, the dearest first; only where they were counted.
    pub statements: Vec<StatementCost>,
    /// Indexes of which much was read for little; only where statements were counted.
    pub reads: Vec<Read>,
    pub server: String,
}

impl Figures {
    /// In one line, for people.
    #[must_use]
    pub fn line(&self) -> String {
        let Cost {
            load_us,
            subject_us,
            postgres_us,
            durable_commits,
            rows_inserted,
            rows_updated,
            rows_deleted,
            ..
        } = self.cost;
        format!(
            "{}  CPU/order: load {load_us:.0}, subject {subject_us:.0}, Postgres {postgres_us:.0} µs  commits \
             {durable_commits:.2}  rows +{rows_inserted:.1} ~{rows_updated:.1} -{rows_deleted:.1}",
            self.answers
        )
    }
}

/// Several runs of the same.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Orders per second: least, median, most.
    pub per_second: (f64, f64, f64),
    pub p50_ms: (f64, f64, f64),
    pub p99_ms: (f64, f64, f64),
    pub runs: Vec<Figures>,
}

impl Summary {
    #[must_use]
    pub fn of(runs: Vec<Figures>) -> Self {
        let range = |what: fn(&Figures) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(what).collect();
            values.sort_by(f64::total_cmp);
            let at = |n: usize| values.get(n).copied().unwrap_or_default();
            // Of an even number the middle is between two.
            let middle = f64::midpoint(at(values.len().saturating_sub(1) / 2), at(values.len() / 2));
            (at(0), middle, at(values.len().saturating_sub(1)))
        };
        Self {
            per_second: range(|f| f.answers.per_second),
            p50_ms: range(|f| f.answers.p50_ms),
            p99_ms: range(|f| f.answers.p99_ms),
            runs,
        }
    }
}

/// Amends beside the baseline.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    pub machine: String,
    pub baseline: Summary,
    pub amends: Summary,
    /// Of the medians of orders per second.
    pub ratio: f64,
}

impl Comparison {
    #[must_use]
    pub fn of(baseline: Summary, amends: Summary) -> Self {
        let ratio = amends.per_second.1 / baseline.per_second.1.max(f64::EPSILON);
        Self { machine: machine(), baseline, amends, ratio }
    }
}

/// Which machine, as far as it says so.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let of = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
        line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let (processor, memory) =
        (of(&read("/proc/cpuinfo"), "model name"), of(&read("/proc/meminfo"), "MemTotal"));
    format!("{cores} cores ({processor}), {memory} of memory")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use load::{
        Load, Measured, Pace,
        mix::{Mix, Spread},
    };

    use super::*;

    #[test]
    fn a_summary_has_the_middle_between_the_least_and_the_most() {
        let load = Load {
            pace: Pace::Closed(1),
            mix: Mix::Happy,
            spread: Spread::Uniform,
            warm_up: Duration::ZERO,
            time: Duration::ZERO,
            seed: 1,
        };
        let run = |per_second| Figures {
            answers: Answers { per_second, ..Answers::of(&load, &Measured::new()) },
            cost: Cost::default(),
            statements: Vec::new(),
            reads: Vec::new(),
            server: String::new(),
        };
        let amends = Summary::of(vec![run(30.0), run(10.0), run(20.0)]);
        assert_eq!(amends.per_second, (10.0, 20.0, 30.0));
        assert_eq!(Summary::of(vec![run(30.0), run(10.0)]).per_second, (10.0, 20.0, 30.0));
        let comparison = Comparison::of(Summary::of(vec![run(10.0)]), amends);
        assert!((comparison.ratio - 2.0).abs() < 1e-9);
        assert!(comparison.machine.contains("cores"));
    }
}
