//! What was measured, in numbers.

use std::{collections::BTreeMap, process::Command};

use chrono::SecondsFormat;
use load::Answers;
use serde::Serialize;

use crate::{
    meter::Cost,
    store::{reads::Read, statements::StatementCost},
    subject::INHERITED,
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
            wal_bytes,
            messages,
            exchanges,
            ..
        } = self.cost;
        let exchanges = exchanges.map_or(String::new(), |exchanges| format!("  exchanges {exchanges:.2}"));
        format!(
            "{}  CPU/order: load {load_us:.0}, subject {subject_us:.0}, Postgres {postgres_us:.0} µs  commits \
             {durable_commits:.2}  rows +{rows_inserted:.1} ~{rows_updated:.1} -{rows_deleted:.1}  WAL {:.1} KB  messages \
             {messages:.2}{exchanges}",
            self.answers,
            wal_bytes / 1024.0
        )
    }
}

/// Several runs of the same: least, middle and most of each figure.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Orders per second.
    pub per_second: (f64, f64, f64),
    pub p50_ms: (f64, f64, f64),
    pub p99_ms: (f64, f64, f64),
    pub p999_ms: (f64, f64, f64),
    pub runs: Vec<Figures>,
}

impl Summary {
    #[must_use]
    pub fn of(runs: Vec<Figures>) -> Self {
        let range = |what: fn(&Figures) -> f64| range(&runs, what);
        Self {
            per_second: range(|f| f.answers.per_second),
            p50_ms: range(|f| f.answers.p50_ms),
            p99_ms: range(|f| f.answers.p99_ms),
            p999_ms: range(|f| f.answers.p999_ms),
            runs,
        }
    }

    /// Least, middle and most of any other figure.
    #[must_use]
    pub fn range(&self, what: impl Fn(&Figures) -> f64) -> (f64, f64, f64) {
        range(&self.runs, what)
    }
}

/// Least, middle and most of something in some runs.
pub(crate) fn range<R>(runs: &[R], what: impl Fn(&R) -> f64) -> (f64, f64, f64) {
    let mut values: Vec<f64> = runs.iter().map(what).collect();
    values.sort_by(f64::total_cmp);
    let at = |n: usize| values.get(n).copied().unwrap_or_default();
    // Of an even number the middle is between two.
    let middle = f64::midpoint(at(values.len().saturating_sub(1) / 2), at(values.len() / 2));
    (at(0), middle, at(values.len().saturating_sub(1)))
}

/// Figures with where they are from.
#[derive(Debug, Serialize)]
pub struct Report<T> {
    pub provenance: Provenance,
    #[serde(flatten)]
    pub of: T,
}

/// Where figures are from: without it they say little later on.
#[derive(Debug, Clone, Serialize)]
pub struct Provenance {
    /// UTC.
    pub date: String,
    pub machine: String,
    /// Of the sources beside the benchmark; empty where there is no repository.
    pub commit: String,
    /// The command line.
    pub command: Vec<String>,
    /// Variables that a started Amends inherits.
    pub environment: BTreeMap<String, String>,
}

impl Provenance {
    /// Of what runs now.
    #[must_use]
    pub fn now() -> Self {
        let git = Command::new("git")
            .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=12"])
            .output();
        let commit = git.ok().filter(|git| git.status.success()).map(|git| git.stdout).unwrap_or_default();
        Self {
            date: chassis::clock::now().to_rfc3339_opts(SecondsFormat::Secs, true),
            machine: machine(),
            commit: String::from_utf8_lossy(&commit).trim().to_owned(),
            command: std::env::args().skip(1).collect(),
            environment: std::env::vars().filter(|(name, _)| name == INHERITED).collect(),
        }
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
pub(crate) mod tests {
    use std::time::Duration;

    use load::{
        Load, Measured, Pace,
        mix::{Mix, Spread},
    };

    use super::*;

    /// A run that answered so many a second, with such a p99.
    pub(crate) fn figures(per_second: f64, p99_ms: f64) -> Figures {
        let load = Load {
            pace: Pace::Closed(1),
            mix: Mix::Happy,
            spread: Spread::Uniform,
            warm_up: Duration::ZERO,
            time: Duration::ZERO,
            seed: 1,
        };
        Figures {
            answers: Answers { per_second, p99_ms, ..Answers::of(&load, &Measured::new()) },
            cost: Cost::default(),
            statements: Vec::new(),
            reads: Vec::new(),
            server: String::new(),
        }
    }

    #[test]
    fn a_summary_has_the_middle_between_the_least_and_the_most() {
        let run = |per_second| figures(per_second, 1.0);
        let amends = Summary::of(vec![run(30.0), run(10.0), run(20.0)]);
        assert_eq!(amends.per_second, (10.0, 20.0, 30.0));
        assert_eq!(Summary::of(vec![run(30.0), run(10.0)]).per_second, (10.0, 20.0, 30.0));
        assert_eq!(amends.range(|figures| figures.answers.per_second * 2.0), (20.0, 40.0, 60.0));
    }

    #[test]
    fn figures_say_where_they_are_from_and_no_secret() {
        let provenance = Provenance::now();
        assert!(provenance.machine.contains("cores") && provenance.date.ends_with('Z'), "{provenance:?}");
        assert!(provenance.environment.keys().all(|name| name == INHERITED), "{provenance:?}");
    }
}
