//! The scenarios from outside: against a stack that runs in containers, through its published doors alone.
//!
//! `cargo xtask compose-test` starts the stack, runs this and has the auditor judge. Each scenario has customers, merchants
//! and goods of its own, so the run may be repeated on the same stack; those that kill containers come last, one by one.
//! Read next: `stand.rs`, `scenarios.rs`, `kills.rs`.

#![expect(
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a tool for people; a scenario fails by panicking"
)]

mod containers;
mod kills;
mod scenarios;
mod stand;

use std::{path::PathBuf, pin::Pin, process::ExitCode, sync::Arc, time::Duration};

use chassis::grpc::{self, Callee};
use clap::Parser;
use e2e::load::{Doors, Line, Shop};
use tokio::{task::JoinSet, time::Instant};

use containers::Containers;

/// Nothing takes longer, on a busy machine and with everything killed once.
const LONGEST: Duration = Duration::from_secs(900);

/// Runs scenarios against a stack of containers.
#[derive(Debug, Parser)]
struct Cli {
    /// The public door of an orchestrator; two are needed
    #[arg(long, required = true, num_args = 1, value_name = "URL")]
    orchestrator: Vec<String>,
    #[arg(long, value_name = "URL")]
    order: String,
    #[arg(long, value_name = "URL")]
    inventory: String,
    #[arg(long, value_name = "URL")]
    risk: String,
    #[arg(long, value_name = "URL")]
    payment: String,
    #[arg(long, value_name = "URL")]
    ledger: String,
    #[arg(long, value_name = "URL")]
    notification: String,
    /// The project's name, by which its containers are found to be killed
    #[arg(long, value_name = "NAME")]
    project: String,
    /// How many orders of the mix are sent while containers are killed
    #[arg(long, value_name = "N", default_value_t = 520)]
    orders: usize,
    /// Where the acknowledged orders of the mix are written, for the auditor
    #[arg(long, value_name = "FILE")]
    acknowledged: Option<PathBuf>,
    /// Only scenarios whose names contain one of these
    names: Vec<String>,
}

/// A running stack, as its users see it.
pub(crate) struct Outside {
    pub(crate) doors: Doors,
    pub(crate) payment: Callee,
    pub(crate) notification: Callee,
    pub(crate) containers: Containers,
    /// Sends the mix.
    pub(crate) shop: Shop,
    pub(crate) line: Line,
    pub(crate) orders: usize,
}

impl Outside {
    fn of(cli: &Cli) -> Result<Self, String> {
        let callee = |url: &String| grpc::remote(url).map_err(|_| format!("`{url}` is not a URL"));
        let doors = Doors {
            orchestrators: cli.orchestrator.iter().map(callee).collect::<Result<_, _>>()?,
            order: callee(&cli.order)?,
            inventory: callee(&cli.inventory)?,
            risk: callee(&cli.risk)?,
            ledger: callee(&cli.ledger)?,
        };
        if doors.orchestrators.len() < 2 {
            return Err("two orchestrators are needed: give --orchestrator twice".into());
        }
        let line = Line::to(doors.clone());
        Ok(Self {
            doors,
            payment: callee(&cli.payment)?,
            notification: callee(&cli.notification)?,
            containers: Containers::of(&cli.project),
            shop: Shop::at(&line),
            line,
            orders: cli.orders,
        })
    }
}

type Run = fn(Arc<Outside>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// A scenario by its name.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) run: Run,
}

/// Names the functions of a module as scenarios.
macro_rules! named {
    ($($name:ident),+ $(,)?) => {
        pub(crate) const ALL: &[crate::Scenario] = &[$(crate::Scenario {
            name: stringify!($name),
            run: |outside| Box::pin($name(outside)),
        }),+];
    };
}
pub(crate) use named;

/// Runs one to its end; whether it went well. What went wrong was said by its panic.
async fn run(scenario: Scenario, outside: Arc<Outside>) -> bool {
    let began = Instant::now();
    let ended = tokio::time::timeout(LONGEST, tokio::spawn((scenario.run)(outside))).await;
    let seconds = began.elapsed().as_secs_f64();
    let (well, mark) = match ended {
        Ok(Ok(())) => (true, "ok    "),
        Ok(Err(_)) => (false, "FAILED"),
        Err(_) => (false, "HANGS "),
    };
    eprintln!("{mark} {seconds:>6.1} s  {}", scenario.name);
    well
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let outside = match Outside::of(&cli) {
        Ok(outside) => Arc::new(outside),
        Err(text) => {
            eprintln!("error: {text}");
            return ExitCode::from(2);
        }
    };
    let wanted = |scenario: &&Scenario| {
        cli.names.is_empty() || cli.names.iter().any(|name| scenario.name.contains(name.as_str()))
    };
    let (mut good, mut bad) = (0, 0);
    let mut count = |well: bool| if well { good += 1 } else { bad += 1 };
    let mut side_by_side = JoinSet::new();
    for scenario in scenarios::ALL.iter().filter(wanted) {
        side_by_side.spawn(run(*scenario, Arc::clone(&outside)));
    }
    while let Some(ended) = side_by_side.join_next().await {
        count(ended.unwrap());
    }
    for scenario in kills::ALL.iter().filter(wanted) {
        count(run(*scenario, Arc::clone(&outside)).await);
    }
    if let Some(file) = &cli.acknowledged {
        outside.shop.write_acknowledged(file);
    }
    eprintln!("{good} scenarios passed, {bad} failed");
    // To have run nothing is no success either.
    if bad == 0 && good > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
