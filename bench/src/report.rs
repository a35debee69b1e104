//! What was measured, in numbers.

use serde::Serialize;

use crate::{
    meter::Cost,
    mix::{Mix, Spread},
    store::statements::StatementCost,
};

/// One run.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    pub pace: String,
    pub mix: Mix,
    pub spread: Spread,
    pub seconds: f64,
    pub orders: u64,
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub longest_ms: f64,
    /// Share of orders, and within how many milliseconds it was answered.
    pub curve: Vec<(f64, f64)>,
    /// Turned away because the subject was full.
    pub shed: u64,
    /// Due and never sent.
    pub dropped: u64,
    /// Per order.
    pub cost: Cost,
    /// Per order, the dearest first; only where they were counted.
    pub statements: Vec<StatementCost>,
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
            "{:>7.0}/s  p50 {:>6.1}  p99 {:>7.1}  p99.9 {:>7.1} ms  CPU/order: load {load_us:.0}, subject {subject_us:.0}, \
             Postgres {postgres_us:.0} µs  commits {durable_commits:.2}  rows +{rows_inserted:.1} ~{rows_updated:.1} -{rows_deleted:.1}{}{}",
            self.per_second,
            self.p50_ms,
            self.p99_ms,
            self.p999_ms,
            if self.shed > 0 { format!("  shed {}", self.shed) } else { String::new() },
            if self.dropped > 0 { format!("  dropped {}", self.dropped) } else { String::new() },
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
            (at(0), at(values.len() / 2), at(values.len().saturating_sub(1)))
        };
        Self {
            per_second: range(|f| f.per_second),
            p50_ms: range(|f| f.p50_ms),
            p99_ms: range(|f| f.p99_ms),
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
    use super::*;

    #[test]
    fn a_summary_has_the_middle_between_the_least_and_the_most() {
        let run = |per_second| Figures {
            pace: String::new(),
            mix: Mix::Happy,
            spread: Spread::Uniform,
            seconds: 1.0,
            orders: 1,
            per_second,
            p50_ms: 1.0,
            p99_ms: 2.0,
            p999_ms: 3.0,
            longest_ms: 4.0,
            curve: Vec::new(),
            shed: 0,
            dropped: 0,
            cost: Cost::default(),
            statements: Vec::new(),
            server: String::new(),
        };
        let amends = Summary::of(vec![run(30.0), run(10.0), run(20.0)]);
        assert_eq!(amends.per_second, (10.0, 20.0, 30.0));
        let comparison = Comparison::of(Summary::of(vec![run(10.0)]), amends);
        assert!((comparison.ratio - 2.0).abs() < 1e-9);
        assert!(comparison.machine.contains("cores"));
    }
}
