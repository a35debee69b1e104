//! The goals, measured one after the other: what `bench compare` prints.
//!
//! Each run starts an `amends up` of its own on an empty folder, ends with the auditor, and is void if it finds anything.
//! Rates are said in multiples of the hand-written baseline that ran in turn with Amends.

use std::path::Path;

use load::{
    Load, Pace,
    mix::{Mix, Spread},
};
use serde::Serialize;

use crate::{
    plan,
    report::{Comparison, Figures},
    subject::Embedded,
};

/// How a figure stands to its goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The goal is met.
    Met,
    /// Not the goal, but what is asked at least.
    AtLeast,
    Missed,
    /// There is no goal.
    Reported,
}

impl Verdict {
    /// Of a figure that should be small.
    fn below(measured: f64, goal: f64, least: f64) -> Self {
        match measured {
            measured if measured <= goal => Self::Met,
            measured if measured <= least => Self::AtLeast,
            _ => Self::Missed,
        }
    }

    /// Of a figure that should be large.
    fn above(measured: f64, goal: f64, least: f64) -> Self {
        Self::below(-measured, -goal, -least)
    }

    fn worse(self, other: Self) -> Self {
        let rank = |verdict| match verdict {
            Self::Reported => 0,
            Self::Met => 1,
            Self::AtLeast => 2,
            Self::Missed => 3,
        };
        if rank(other) > rank(self) { other } else { self }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::AtLeast => "at least",
            Self::Missed => "MISSED",
            Self::Reported => "",
        }
    }
}

/// A line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub measure: &'static str,
    pub goal: &'static str,
    pub measured: String,
    pub verdict: Verdict,
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { measure, goal, measured, verdict } = self;
        write!(f, "{measure:<44} {goal:<34} {measured:<58} {}", verdict.as_str())
    }
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Table {
    pub comparison: Comparison,
    pub rows: Vec<Row>,
    /// By what was measured.
    pub runs: Vec<(&'static str, Figures)>,
}

/// What is measured, and how.
pub struct Plan<'a> {
    pub program: &'a Path,
    /// For `amends up`.
    pub flags: &'a [String],
    /// How often the baseline and Amends take turns.
    pub times: usize,
    /// Of the first line: everything else follows from it.
    pub load: Load,
    pub baseline_in_flight: usize,
}

/// Measures it all; `say` hears of every run.
///
/// # Errors
/// When a run is void.
pub async fn measure(plan: Plan<'_>, say: impl Fn(&str)) -> anyhow::Result<Table> {
    let Plan { program, flags, times, load, baseline_in_flight } = plan;
    let of_baseline = Load { pace: Pace::Closed(baseline_in_flight), ..load };
    let (baseline, amends) = plan::compare(program, (of_baseline, load), flags, times, &say).await?;
    let comparison = Comparison::of(baseline, amends);
    let (base, rate) = (comparison.baseline.per_second.1, comparison.amends.per_second.1);
    let happy = Load { mix: Mix::Happy, ..load };
    let loads = [
        ("one order alone", Load { pace: Pace::Closed(1), ..happy }),
        ("open loop, half the rate", Load { pace: Pace::Open(rate / 2.0), ..load }),
        ("all declined", Load { mix: Mix::Declined, ..load }),
        ("hot", Load { spread: Spread::Hot, ..load }),
        ("Zipf 1.0", Load { spread: Spread::Zipf(1.0), ..load }),
        ("Zipf 2.0", Load { spread: Spread::Zipf(2.0), ..load }),
        ("happy, 512 in flight", Load { pace: Pace::Closed(512), ..happy }),
        ("happy, 256 in flight", Load { pace: Pace::Closed(256), ..happy }),
    ];
    let mut runs = Vec::new();
    for (name, load) in loads {
        let figures = plan::embedded(program, load, flags, plan::Look::default()).await?;
        say(&format!("{name}  {}", figures.line()));
        runs.push((name, figures));
    }
    let start = start_again(program, flags).await?;
    say(&format!("start on an existing folder  {start:.2} s"));
    let rows = rows(&comparison, (base, rate), &runs, start);
    Ok(Table { comparison, rows, runs })
}

/// Seconds until a second start on the same folder says that it is ready.
async fn start_again(program: &Path, flags: &[String]) -> anyhow::Result<f64> {
    let data = Embedded::start(program, flags).await?.stop().await?;
    let began = std::time::Instant::now();
    let again = Embedded::start_in(data, program, flags).await?;
    let took = began.elapsed();
    again.stop().await?;
    Ok(took.as_secs_f64())
}

fn rows(
    comparison: &Comparison,
    (base, rate): (f64, f64),
    runs: &[(&'static str, Figures)],
    start: f64,
) -> Vec<Row> {
    let of = |name: &str| runs.iter().find(|(known, _)| *known == name).map(|(_, figures)| figures);
    let ratio = comparison.ratio;
    let mut rows = vec![
        Row {
            measure: "hand-written baseline, 64 in flight",
            goal: "",
            measured: format!("{base:.0}/s"),
            verdict: Verdict::Reported,
        },
        Row {
            measure: "embedded, 512 in flight, 2 % declined",
            goal: "4 × the baseline (2.5 ×)",
            measured: format!("{rate:.0}/s, {ratio:.2} ×"),
            verdict: Verdict::above(ratio, 4.0, 2.5),
        },
    ];
    if let Some(alone) = of("one order alone") {
        rows.push(Row {
            measure: "one order alone, embedded",
            goal: "p50 3 ms (4), p99 10 ms",
            measured: format!("p50 {:.1} ms, p99 {:.1} ms", alone.answers.p50_ms, alone.answers.p99_ms),
            verdict: Verdict::below(alone.answers.p50_ms, 3.0, 4.0).worse(Verdict::below(
                alone.answers.p99_ms,
                10.0,
                10.0,
            )),
        });
    }
    if let Some(half) = of("open loop, half the rate") {
        rows.push(Row {
            measure: "half the rate, open loop",
            goal: "p99 50 ms, p99.9 150 ms",
            measured: format!(
                "{:.0}/s: p99 {:.1} ms, p99.9 {:.1} ms, {} dropped",
                half.answers.per_second, half.answers.p99_ms, half.answers.p999_ms, half.answers.dropped
            ),
            verdict: Verdict::below(half.answers.p99_ms, 50.0, 50.0).worse(Verdict::below(
                half.answers.p999_ms,
                150.0,
                150.0,
            )),
        });
    }
    if let Some(declined) = of("all declined") {
        let ratio = declined.answers.per_second / base.max(f64::EPSILON);
        rows.push(Row {
            measure: "all declined: every saga compensates",
            goal: "1 × the baseline completing",
            measured: format!("{:.0}/s, {ratio:.2} ×", declined.answers.per_second),
            verdict: Verdict::above(ratio, 1.0, 1.0),
        });
    }
    rows.extend(spreads(rate, of));
    rows.extend(costs(of("happy, 512 in flight"), of("happy, 256 in flight")));
    rows.push(Row {
        measure: "start of `amends up` on an existing folder",
        goal: "1.5 s",
        measured: format!("{start:.2} s"),
        verdict: Verdict::below(start, 1.5, 1.5),
    });
    rows
}

fn spreads<'a>(rate: f64, of: impl Fn(&str) -> Option<&'a Figures>) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, measure, goal) in [
        ("hot", "one good, one merchant", "0.8 × the uniform rate"),
        ("Zipf 1.0", "goods and merchants by Zipf 1.0", ""),
        ("Zipf 2.0", "goods and merchants by Zipf 2.0", ""),
    ] {
        let Some(figures) = of(name) else { continue };
        let share = figures.answers.per_second / rate.max(f64::EPSILON);
        let verdict = if goal.is_empty() { Verdict::Reported } else { Verdict::above(share, 0.8, 0.8) };
        rows.push(Row {
            measure,
            goal,
            measured: format!("{:.0}/s, {share:.2} ×", figures.answers.per_second),
            verdict,
        });
    }
    rows
}

fn costs(at_512: Option<&Figures>, at_256: Option<&Figures>) -> Vec<Row> {
    let mut rows = Vec::new();
    if let Some(figures) = at_512 {
        let cost = &figures.cost;
        let written = cost.rows_inserted + cost.rows_updated;
        rows.push(Row {
            measure: "rows written for a happy order",
            goal: "22",
            measured: format!(
                "{written:.1} ({:.1} inserted, {:.1} updated), {:.1} deleted",
                cost.rows_inserted, cost.rows_updated, cost.rows_deleted
            ),
            verdict: Verdict::below(written, 22.0, 22.0),
        });
        rows.push(Row {
            measure: "durable commits for a happy order, 512",
            goal: "0.3",
            measured: format!("{:.2} ({:.2} with what only reads)", cost.durable_commits, cost.commits),
            verdict: Verdict::below(cost.durable_commits, 0.3, 0.3),
        });
        rows.push(Row {
            measure: "CPU, WAL, memory",
            goal: "",
            measured: format!(
                "{:.0} + {:.0} + {:.0} µs (load, Amends, Postgres), {:.1} KB, {:.0} MiB",
                cost.load_us,
                cost.subject_us,
                cost.postgres_us,
                cost.wal_bytes / 1024.0,
                cost.subject_mib
            ),
            verdict: Verdict::Reported,
        });
    }
    if let Some(figures) = at_256 {
        rows.push(Row {
            measure: "durable commits for a happy order, 256",
            goal: "0.6",
            measured: format!(
                "{:.2} ({:.2} with what only reads)",
                figures.cost.durable_commits, figures.cost.commits
            ),
            verdict: Verdict::below(figures.cost.durable_commits, 0.6, 0.6),
        });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_meets_its_goal_or_what_is_asked_at_least_or_misses_it() {
        assert_eq!(Verdict::above(4.0, 4.0, 2.5), Verdict::Met);
        assert_eq!(Verdict::above(3.9, 4.0, 2.5), Verdict::AtLeast);
        assert_eq!(Verdict::above(2.4, 4.0, 2.5), Verdict::Missed);
        assert_eq!(Verdict::below(3.5, 3.0, 4.0), Verdict::AtLeast);
        assert_eq!(Verdict::below(f64::NAN, 3.0, 4.0), Verdict::Missed);
        assert_eq!(Verdict::Met.worse(Verdict::Missed), Verdict::Missed);
        assert_eq!(Verdict::AtLeast.worse(Verdict::Met), Verdict::AtLeast);
    }
}
