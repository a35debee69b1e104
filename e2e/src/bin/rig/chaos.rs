//! `cargo xtask chaos`.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use e2e::chaos::{self, Plan};

#[derive(Debug, Args)]
pub(crate) struct Chaos {
    /// How long orders are sent, in minutes
    #[arg(long, default_value_t = 5.0, value_name = "N")]
    minutes: f64,
    /// How many orders are sent in that time
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    orders: usize,
    /// How often each process is killed
    #[arg(long, default_value_t = 3, value_name = "N")]
    kills: usize,
    /// How many orchestrators share the sagas
    #[arg(long, default_value_t = 2, value_name = "N")]
    orchestrators: usize,
    /// Draws who is killed when [default: drawn, and told]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Show what the processes say
    #[arg(long)]
    tail: bool,
    /// Where the report goes, as JSON
    #[arg(long, value_name = "FILE", default_value = "target/chaos.json")]
    report: PathBuf,
}

impl Chaos {
    pub(crate) async fn run(self) -> ExitCode {
        let seed = self.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
        eprintln!("seed {seed}");
        let plan = Plan {
            orders: self.orders,
            time: Duration::from_secs_f64(self.minutes * 60.0),
            kills: self.kills,
            orchestrators: self.orchestrators.max(1),
            seed,
            tail: self.tail,
            folder: e2e::process::folder("chaos"),
        };
        let report = chaos::run(plan, |line| eprintln!("{line}")).await;
        chaos::write(&report, &self.report);
        println!("{}", serde_json::to_string_pretty(&report).unwrap());
        match &report.violations {
            None => {
                eprintln!("every order came to one end, and the auditor found nothing");
                ExitCode::SUCCESS
            }
            Some(violations) => {
                eprintln!("the auditor found:\n{violations}");
                ExitCode::FAILURE
            }
        }
    }
}
