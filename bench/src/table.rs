//! The goals, and how far each is met: what `bench compare` prints.
//!
//! Rates are said in multiples of the hand-written baseline that ran in turn with Amends. Read next: `table/rows.rs`.

mod rows;

use serde::Serialize;

use crate::{
    growth::Growth,
    ordeal::{Outage, TakeOver},
    report::Summary,
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
    /// There is no goal, or nothing was measured.
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

    /// In a word, for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
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

impl Row {
    fn new(measure: &'static str, goal: &'static str, measured: String, verdict: Verdict) -> Self {
        Self { measure, goal, measured, verdict }
    }

    /// A figure without a goal.
    fn reported(measure: &'static str, measured: String) -> Self {
        Self::new(measure, "", measured, Verdict::Reported)
    }

    /// What would measure it.
    fn not_measured(measure: &'static str, goal: &'static str, by: &str) -> Self {
        Self::new(measure, goal, format!("not measured: {by}"), Verdict::Reported)
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { measure, goal, measured, verdict } = self;
        write!(f, "{measure:<43} {goal:<32} {measured:<82} {}", verdict.as_str())
    }
}

/// What is loaded in each round; the names of the runs.
pub(crate) mod run {
    pub(crate) const BASELINE: &str = "baseline";
    pub(crate) const BASELINE_ALONE: &str = "baseline, one order alone";
    pub(crate) const EMBEDDED: &str = "embedded";
    pub(crate) const ALONE: &str = "one order alone";
    pub(crate) const HALF: &str = "open loop, half the rate";
    pub(crate) const DECLINED: &str = "all declined";
    pub(crate) const HOT: &str = "hot";
    pub(crate) const ZIPF_1: &str = "Zipf 1.0";
    pub(crate) const ZIPF_2: &str = "Zipf 2.0";
    pub(crate) const HAPPY_512: &str = "happy, 512 in flight";
    pub(crate) const HAPPY_256: &str = "happy, 256 in flight";
    pub(crate) const STACK_BASELINE: &str = "baseline, beside a stack";
    pub(crate) const STACK: &str = "stack";
    pub(crate) const STACK_ALONE: &str = "stack, one order alone";
    pub(crate) const STACK_TWO: &str = "stack, by two orchestrators";
}

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// By the name of what was loaded, in the order in which they ran.
    pub runs: Vec<(&'static str, Summary)>,
    /// Seconds until a second start on a folder of finished orders says that it is ready.
    pub start_s: f64,
    pub outage: Option<Outage>,
    pub take_over: Option<TakeOver>,
    pub growth: Option<Growth>,
}

impl Measured {
    /// The runs of one name.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<&Summary> {
        self.runs.iter().find(|(known, _)| *known == name).map(|(_, summary)| summary)
    }

    fn rate(&self, name: &str) -> Option<f64> {
        self.of(name).map(|summary| summary.per_second.1)
    }

    /// Rates of two, as a ratio; none when one of them was not measured.
    fn ratio(&self, of: &str, to: &str) -> Option<f64> {
        Some(self.rate(of)? / self.rate(to)?.max(f64::EPSILON))
    }
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Table {
    pub rows: Vec<Row>,
    #[serde(flatten)]
    pub measured: Measured,
}

impl Table {
    #[must_use]
    pub fn of(measured: Measured) -> Self {
        Self { rows: rows::of(&measured), measured }
    }
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
