//! `cargo run --release -p bench -- …`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for people")]

use std::{path::PathBuf, process::ExitCode};

use bench::{growth, ordeal, page, plan, subject, table};
use clap::{Args, Parser, Subcommand};

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
  . .amends/stack.env; cargo run --release -p bench -- there"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every goal: Amends and the baseline in turn, and then one load after the other; some five minutes
    Compare {
        #[command(flatten)]
        one: One,
        /// How often each
        #[arg(long, default_value_t = 3, value_name = "N")]
        times: usize,
        /// Orders of the baseline in flight, where it is at its best
        #[arg(long, default_value_t = 64, value_name = "N")]
        baseline_in_flight: usize,
        /// Where a page with the table and its plots goes (HTML)
        #[arg(long, value_name = "FILE")]
        page: Option<PathBuf>,
    },
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
        #[command(flatten)]
        what: What,
    },
    /// The same load on empty tables and on full ones
    Growth {
        /// Finished orders to fill them with
        #[arg(long, default_value_t = 1_000_000, value_name = "N")]
        orders: i64,
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

/// Where something serves already.
#[derive(Debug, Args)]
struct Place {
    /// Orchestrators, separated by commas
    #[arg(long, env = "AMENDS_SERVER", value_name = "URL", value_delimiter = ',')]
    server: Vec<String>,
    /// order-svc
    #[arg(long, env = "AMENDS_ORDER_URL", value_name = "URL")]
    order: String,
    /// inventory-svc
    #[arg(long, env = "AMENDS_INVENTORY_URL", value_name = "URL")]
    inventory: String,
    /// A database of its server
    #[arg(long, env = "AMENDS_ORCHESTRATOR_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    postgres: String,
}

impl From<Place> for plan::There {
    fn from(place: Place) -> Self {
        let Place { server, order, inventory, postgres } = place;
        Self { servers: server, services: (order, inventory), postgres }
    }
}

#[derive(Debug, Args)]
struct What {
    /// The program [default: `amends` beside this one]
    #[arg(long, value_name = "FILE")]
    amends: Option<PathBuf>,
    /// Where the figures go, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Flags for `amends up`, behind `--`
    #[arg(last = true)]
    flags: Vec<String>,
}

impl What {
    fn write(&self, figures: &impl serde::Serialize) -> anyhow::Result<()> {
        if let Some(file) = &self.json {
            std::fs::write(file, serde_json::to_string_pretty(figures)?)?;
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
struct One {
    #[command(flatten)]
    load: load::Flags,
    #[command(flatten)]
    what: What,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: its figures say nothing (cargo run --release -p bench)");
    }
    match cli.command {
        Command::Compare { one, times, baseline_in_flight, page } => {
            let (program, load) = (subject::program(one.what.amends.clone())?, one.load.load()?);
            let plan =
                table::Plan { program: &program, flags: &one.what.flags, times, load, baseline_in_flight };
            let table = table::measure(plan, |line| eprintln!("{line}")).await?;
            println!("{}", table.comparison.machine);
            table.rows.iter().for_each(|row| println!("{row}"));
            println!("the auditor found nothing after any run");
            if let Some(page) = page {
                std::fs::write(page, page::of(&table))?;
            }
            one.what.write(&table)
        }
        Command::Embedded { one, statements, flame } => {
            let program = subject::program(one.what.amends.clone())?;
            let look = plan::Look { statements, flame: flame.as_deref() };
            let figures = plan::embedded(&program, one.load.load()?, &one.what.flags, look).await?;
            show(&figures);
            one.what.write(&figures)
        }
        Command::There { one, place } => {
            let program = subject::program(one.what.amends.clone())?;
            anyhow::ensure!(one.what.flags.is_empty(), "it runs already: flags are for what is started here");
            let figures = plan::there(&program, &place.into(), one.load.load()?).await?;
            show(&figures);
            one.what.write(&figures)
        }
        Command::Growth { orders, one } => {
            let program = subject::program(one.what.amends.clone())?;
            let (load, flags) = (one.load.load()?, &one.what.flags);
            let growth = growth::measure(&program, orders, load, flags, |line| eprintln!("{line}")).await?;
            println!("{}", growth.line());
            one.what.write(&growth)
        }
        Command::Outage { orders, what } => {
            let program = subject::program(what.amends.clone())?;
            let outage = ordeal::outage(&program, orders, &what.flags, |line| eprintln!("{line}")).await?;
            println!("{}", outage.line());
            what.write(&outage)
        }
        Command::TakeOver { orders, what } => {
            let program = subject::program(what.amends.clone())?;
            let taken = ordeal::take_over(&program, orders, &what.flags, |line| eprintln!("{line}")).await?;
            println!("{}", taken.line());
            what.write(&taken)
        }
        Command::TakeOverThere { orders, still, pause, place, what } => {
            let program = subject::program(what.amends.clone())?;
            let taken = ordeal::take_over_there(&program, orders, &place.into(), (still, pause), |line| {
                eprintln!("{line}")
            })
            .await?;
            println!("{}", taken.line());
            what.write(&taken)
        }
        Command::Baseline { one } => {
            let figures =
                plan::baseline(&subject::program(one.what.amends.clone())?, one.load.load()?).await?;
            show(&figures);
            one.what.write(&figures)
        }
    }
}

fn show(figures: &bench::report::Figures) {
    println!("{}\n{}", figures.server, figures.line());
    for statement in &figures.statements {
        println!(
            "{:>7.1} µs  {:>6.3} calls  {:>6.0} B WAL  {}",
            statement.microseconds, statement.calls, statement.wal_bytes, statement.sql
        );
    }
    for read in &figures.reads {
        println!("{:>7.0} entries read of {} for each of {:.4} looks", read.entries, read.index, read.looks);
    }
}
