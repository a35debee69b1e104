//! `cargo run --release -p bench -- …`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for people")]

mod flags;

use std::{path::PathBuf, process::ExitCode};

use bench::{
    compare, growth, ordeal, page, plan,
    report::{Figures, Report},
    table::Table,
};
use clap::{Parser, Subcommand};
use flags::{Compare, One, Place, What, checked};
use tokio::signal::unix::{SignalKind, signal};

/// How fast Amends is, beside code that has no orchestrator.
#[derive(Debug, Parser)]
#[command(
    name = "bench",
    after_help = "Examples:
  cargo build --release -p amends && cargo run --release -p bench -- compare
  cargo run --release -p bench -- embedded --in-flight 1 --seconds 10
  cargo run --release -p bench -- embedded --rate 500 --mix declined
  cargo run --release -p bench -- embedded --spread hot -- --lease 5s
  cargo run --release -p bench -- embedded --statements
  cargo run --release -p bench -- embedded --flame target/flame.svg
  cargo run --release -p bench -- outage --orders 20000
  cargo xtask stack -- --release --measured --no-demo        and, in another terminal:
  . .amends/stack.env; cargo run --release -p bench -- there

Exit codes: 0 measured, 1 void or not to be measured, 2 wrongly used."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every goal: Amends and the baseline in turn, under one load after the other; some 20 minutes, nine with --quick
    #[command(after_help = flags::COMPARE)]
    Compare(Compare),
    /// `amends up` alone
    Embedded {
        #[command(flatten)]
        one: One,
        /// Also what each statement costs in Postgres (which is somewhat slower with it), and of which indexes much was read
        /// for little: a plan made for a small table
        #[arg(long)]
        statements: bool,
        /// Draws a flame graph of the process and its Postgres into this file (SVG); needs `perf`, which costs something
        #[arg(long, value_name = "FILE", conflicts_with = "statements")]
        flame: Option<PathBuf>,
    },
    /// The ledger is away until many orders wait for it, and comes back
    Outage {
        /// How many wait
        #[arg(long, default_value_t = 100_000, value_name = "N")]
        orders: usize,
        /// For how long it is away at least, in seconds
        #[arg(long, default_value_t = 600.0, value_name = "S")]
        away: f64,
        #[command(flatten)]
        what: What,
    },
    /// The same load on empty tables and on full ones, in turn
    Growth {
        /// Finished orders with which the full ones are filled
        #[arg(long, default_value_t = 1_000_000, value_name = "N")]
        orders: i64,
        /// Measurements on each, of which the middle counts
        #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=20))]
        times: u8,
        #[command(flatten)]
        one: One,
    },
    /// It is killed with many sagas in hand, and started again
    TakeOver {
        /// How many
        #[arg(long, default_value_t = 10_000, value_name = "N")]
        orders: usize,
        #[command(flatten)]
        what: What,
    },
    /// What serves already: a stack (`cargo xtask stack -- --measured`) whose addresses are in the environment. Its CPU is
    /// whatever the machine does beside the load
    There {
        #[command(flatten)]
        one: One,
        #[command(flatten)]
        place: Place,
    },
    /// One of several orchestrators that serve already stands still with many sagas in hand, and the others take them over
    TakeOverThere {
        /// How many
        #[arg(long, default_value_t = 10_000, value_name = "N")]
        orders: usize,
        /// The process that stands still until all is done (--server is its address)
        #[arg(long, value_name = "PID")]
        still: u32,
        /// The ledger's process, paused until then
        #[arg(long, value_name = "PID")]
        pause: u32,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        what: What,
    },
    /// The hand-written baseline alone
    Baseline {
        #[command(flatten)]
        one: One,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // What was started ends with whoever holds it, so nothing may end us but this.
    let outcome = tokio::select! {
        outcome = run(cli) => outcome,
        signal = signalled() => signal.and_then(|name| Err(anyhow::anyhow!("stopped by {name}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The name of the first signal that asks us to end. Who waits for the end of what was started hears of the next.
async fn signalled() -> anyhow::Result<&'static str> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut hang_up =
        if chassis::stop::ignores_hang_up() { None } else { Some(signal(SignalKind::hangup())?) };
    let mut next = async move || {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
            _ = quit.recv() => "SIGQUIT",
            Some(_) = async { hang_up.as_mut()?.recv().await } => "SIGHUP",
        }
    };
    let name = next().await;
    eprintln!("{name}: what was started is stopped; once more to stop it without waiting");
    #[expect(clippy::disallowed_methods, reason = "it ends with us")]
    tokio::spawn(async move {
        loop {
            next().await;
            bench::running::hurry();
        }
    });
    Ok(name)
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: its figures say nothing (cargo run --release -p bench)");
    }
    let say = |line: &str| eprintln!("{line}");
    match cli.command {
        Command::Compare(flags) => {
            let (what, page) = (flags.what.clone(), flags.page.clone());
            let plan = flags.plan()?;
            page.as_deref().map_or(Ok(()), flags::ensure_writable)?;
            let flame = plan.flame.clone();
            let report = what.report(compare::measure(plan, say).await?);
            print(&report);
            what.write(&report)?;
            page.map_or(Ok(()), |file| flags::write(&file, &page::of(&report, flame.as_deref())))
        }
        Command::Embedded { one, statements, flame } => {
            let program = one.what.program()?;
            let look = plan::Look { statements, flame: flame.as_deref(), name: "embedded" };
            let figures = plan::embedded(&program, one.load.load()?, &one.what.flags, look).await?;
            show(&one.what, figures)
        }
        Command::There { one, place } => {
            let program = one.what.program()?;
            anyhow::ensure!(one.what.flags.is_empty(), "it runs already: flags are for what is started here");
            let figures = plan::there(&program, &place.there()?, one.load.load()?, "there").await?;
            show(&one.what, figures)
        }
        Command::Growth { orders, times, one } => {
            let (program, load, flags) = (one.what.program()?, one.load.load()?, &one.what.flags);
            let size = growth::Size { orders, times: usize::from(times) };
            let growth = growth::measure(&program, size, load, flags, say).await?;
            told(&one.what, growth.line(), growth)
        }
        Command::Outage { orders, away, what } => {
            let (program, away) = (what.program()?, checked("--away", away, 0.0..=7200.0)?);
            let outage = ordeal::outage(&program, orders, away, &what.flags, say).await?;
            told(&what, outage.line(), outage)
        }
        Command::TakeOver { orders, what } => {
            let taken = ordeal::take_over(&what.program()?, orders, &what.flags, say).await?;
            told(&what, taken.line(), taken)
        }
        Command::TakeOverThere { orders, still, pause, place, what } => {
            let (program, there) = (what.program()?, place.there()?);
            let taken = ordeal::take_over_there(&program, orders, &there, (still, pause), say).await?;
            told(&what, taken.line(), taken)
        }
        Command::Baseline { one } => {
            let figures = plan::baseline(&one.what.program()?, one.load.load()?).await?;
            show(&one.what, figures)
        }
    }
}

fn print(report: &Report<Table>) {
    println!("{}", report.provenance.machine);
    report.of.rows.iter().for_each(|row| println!("{row}"));
    println!("the auditor found 0 violations after each of them");
}

/// A line for people, and the figures for the file.
fn told(what: &What, line: String, figures: impl serde::Serialize) -> anyhow::Result<()> {
    println!("{line}; auditor: 0 violations");
    what.write(&what.report(figures))
}

/// A run in full.
fn show(what: &What, figures: Figures) -> anyhow::Result<()> {
    println!("{}\n{}; auditor: 0 violations", figures.server, figures.line());
    for statement in &figures.statements {
        println!(
            "{:>7.1} µs  {:>6.3} calls  {:>6.0} B WAL  {}",
            statement.microseconds, statement.calls, statement.wal_bytes, statement.sql
        );
    }
    for read in &figures.reads {
        println!("{:>7.0} entries read of {} for each of {:.4} looks", read.entries, read.index, read.looks);
    }
    what.write(&what.report(figures))
}
