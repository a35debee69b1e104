//! What the commands share: where it serves, which program, where figures go.

use std::{
    fs::OpenOptions,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use bench::{
    compare,
    plan::There,
    report::{Provenance, Report},
    subject,
};
use clap::{Args, value_parser};
use load::{
    Load, Pace,
    mix::{Mix, Spread},
};

/// What `compare` does, and what it needs.
pub(crate) const COMPARE: &str = "In this order:
  a stack        `cargo xtask stack -- --amends FILE --measured --no-demo --orchestrators 2`, a new one in each round, with
                 private Postgres, RabbitMQ and Redis: what is missing of them is installed, or named; the hand-written
                 baseline beside it, orders by one of its orchestrators, one order alone, orders by both
  rounds         the hand-written baseline, then `amends up` under one load after the other
  a death        `kill -9` with 10,000 sagas in hand
  an outage      the ledger is away until --waiting sagas wait
  growth         the first load on new tables and on those of --growth orders, in turn
Each run ends with the auditor. What is started here is set by flags alone: no AMENDS_* of the shell reaches it but
AMENDS_POSTGRES_BIN, and all of it is stopped in the end.";

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// Rounds, each of which has every load once
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = value_parser!(u8).range(1..=20))]
    times: u8,
    /// How long each run is measured, in seconds
    #[arg(long, default_value_t = 6.0, value_name = "S")]
    seconds: f64,
    /// How long it warms up before, in seconds
    #[arg(long, default_value_t = 4.0, value_name = "S")]
    warm_up: f64,
    /// Draws the orders
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Orders of the baseline in flight; 64 is where it is at its best
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = value_parser!(u16).range(1..=1000))]
    baseline_in_flight: u16,
    /// Only the rounds of one `amends up`: no stack, outage, death or growth
    #[arg(long, conflicts_with_all = ["waiting", "away", "growth"])]
    quick: bool,
    /// No stack: for a machine without RabbitMQ or Redis, and for flags of `amends up`
    #[arg(long)]
    no_stack: bool,
    /// How many sagas wait at the end of the outage
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    waiting: usize,
    /// For how long the ledger is away at least, in seconds
    #[arg(long, default_value_t = 60.0, value_name = "S")]
    away: f64,
    /// With how many finished orders tables are filled; 10 KB of disk for each
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = value_parser!(i64).range(1..=100_000_000))]
    growth: i64,
    /// Draws a flame graph in one more run, into this file (SVG); needs `perf`
    #[arg(long, value_name = "FILE")]
    flame: Option<PathBuf>,
    /// Where a page with the table, its costs and plots goes (HTML)
    #[arg(long, value_name = "FILE")]
    pub(crate) page: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) what: What,
}

impl Compare {
    /// As it is measured.
    ///
    /// # Errors
    /// When a flag is out of its range, or of something that a stack would not have.
    pub(crate) fn plan(self) -> anyhow::Result<compare::Plan> {
        ensure!((1..=1_000_000).contains(&self.waiting), "--waiting: 1 to 1000000");
        let stack = !self.quick && !self.no_stack;
        ensure!(
            !stack || self.what.flags.is_empty(),
            "flags for `amends up` go with --no-stack or --quick: a stack would not have them"
        );
        self.flame.as_deref().map_or(Ok(()), ensure_writable)?;
        let away = checked("--away", self.away, 0.0..=7200.0)?;
        let load = Load {
            pace: Pace::Closed(512),
            mix: Mix::Standard,
            spread: Spread::Uniform,
            warm_up: checked("--warm-up", self.warm_up, 1.0..=600.0)?,
            time: checked("--seconds", self.seconds, 0.5..=3600.0)?,
            seed: self.seed,
        };
        Ok(compare::Plan {
            program: self.what.program()?,
            flags: self.what.flags,
            times: usize::from(self.times),
            load,
            baseline_in_flight: usize::from(self.baseline_in_flight),
            ordeals: (!self.quick).then_some((self.waiting, away)),
            stack,
            growth: (!self.quick).then_some(self.growth),
            flame: self.flame,
        })
    }
}

/// Seconds within a range.
///
/// # Errors
/// When they are not, with the flag's name.
pub(crate) fn checked(flag: &str, seconds: f64, range: RangeInclusive<f64>) -> anyhow::Result<Duration> {
    ensure!(range.contains(&seconds), "{flag}: {} to {} seconds", range.start(), range.end());
    Ok(Duration::from_secs_f64(seconds))
}

/// Where something serves already.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Orchestrators, separated by commas
    #[arg(long, env = "AMENDS_SERVER", value_name = "URL", value_delimiter = ',')]
    server: Vec<String>,
    /// order-svc
    #[arg(long, env = "AMENDS_ORDER_URL", value_name = "URL")]
    order: Option<String>,
    /// inventory-svc
    #[arg(long, env = "AMENDS_INVENTORY_URL", value_name = "URL")]
    inventory: Option<String>,
    /// risk-svc
    #[arg(long, env = "AMENDS_RISK_URL", value_name = "URL")]
    risk: Option<String>,
    /// The orchestrator's database
    #[arg(long, env = "AMENDS_ORCHESTRATOR_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    postgres: Option<String>,
}

impl Place {
    /// # Errors
    /// When an address is missing, with what names it.
    pub(crate) fn there(&self) -> anyhow::Result<There> {
        let named = |value: &Option<String>, flag: &str, variable: &str| {
            value.clone().with_context(|| {
                format!("{flag} or {variable} is needed; after `cargo xtask stack`, `. .amends/stack.env` sets all of them")
            })
        };
        Ok(There {
            servers: self.server.clone(),
            services: [
                named(&self.order, "--order", "AMENDS_ORDER_URL")?,
                named(&self.inventory, "--inventory", "AMENDS_INVENTORY_URL")?,
                named(&self.risk, "--risk", "AMENDS_RISK_URL")?,
            ],
            postgres: named(&self.postgres, "--postgres", "AMENDS_ORCHESTRATOR_DATABASE_URL")?,
            books: std::env::vars().filter(|(name, _)| subject::is_book(name)).collect(),
        })
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct What {
    /// The program [default: `amends` beside this one]
    #[arg(long, value_name = "FILE")]
    amends: Option<PathBuf>,
    /// Where the figures go, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Flags for `amends up`, behind `--`
    #[arg(last = true)]
    pub(crate) flags: Vec<String>,
}

impl What {
    /// The program that is measured.
    ///
    /// # Errors
    /// When it is not there, or the figures could not be written in the end.
    pub(crate) fn program(&self) -> anyhow::Result<PathBuf> {
        self.json.as_deref().map_or(Ok(()), ensure_writable)?;
        subject::program(self.amends.clone())
    }

    /// With where they are from.
    pub(crate) fn report<T>(&self, of: T) -> Report<T> {
        Report { provenance: Provenance::now(), of }
    }

    pub(crate) fn write(&self, figures: &impl serde::Serialize) -> anyhow::Result<()> {
        match &self.json {
            Some(file) => write(file, &serde_json::to_string_pretty(figures)?),
            None => Ok(()),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct One {
    #[command(flatten)]
    pub(crate) load: load::Flags,
    #[command(flatten)]
    pub(crate) what: What,
}

/// Before minutes are spent on what would go there.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn ensure_writable(file: &Path) -> anyhow::Result<()> {
    let opened = OpenOptions::new().append(true).create(true).open(file);
    opened.map(|_| ()).with_context(|| format!("{} cannot be written", file.display()))
}

/// # Errors
/// When it cannot be written.
pub(crate) fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))
}
