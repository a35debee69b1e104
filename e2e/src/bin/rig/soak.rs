//! `cargo xtask soak`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use e2e::soak::{self, Plan, Report, outage};

#[derive(Debug, Args)]
pub(crate) struct Soak {
    /// How long things break, in minutes
    #[arg(long, default_value_t = 2.0, value_name = "N")]
    minutes: f64,
    /// Orders a second, whatever becomes of those before
    #[arg(long, default_value_t = 20, value_name = "R")]
    orders_per_second: u32,
    /// Draws what breaks when [default: drawn, and told]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Instead of all that: payment-svc is away for so many minutes while orders pile up, and comes back
    #[arg(long, value_name = "MINUTES")]
    outage: Option<f64>,
    /// With --outage: how many orders wait when it comes back
    #[arg(long, value_name = "N", default_value_t = 10_000, requires = "outage")]
    waiting: usize,
    /// Folder of the report (soak.json, soak.html) and of what the processes said (logs/)
    #[arg(long, value_name = "DIR", default_value = "target/soak")]
    report: PathBuf,
}

impl Soak {
    pub(crate) async fn run(self) -> ExitCode {
        let seed = self.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
        eprintln!("seed {seed}");
        let logs = self.report.join("logs");
        let _ = std::fs::remove_dir_all(&logs);
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        if let Some(minutes) = self.outage {
            let away = Duration::from_secs_f64(minutes * 60.0);
            let plan = outage::Plan { away, waiting: self.waiting, logs, build };
            return outage(&plan, &self.report).await;
        }
        let plan = Plan {
            time: Duration::from_secs_f64(self.minutes * 60.0),
            per_second: self.orders_per_second.max(1),
            seed,
            logs,
            build,
        };
        let report = soak::run(&plan, |line| eprintln!("{line}")).await;
        soak::write(&report, &self.report);
        tell(&report);
        eprintln!("the report is in {}", self.report.display());
        if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

async fn outage(plan: &outage::Plan, folder: &Path) -> ExitCode {
    let report = outage::run(plan, |line| eprintln!("{line}")).await;
    outage::write(&report, folder);
    println!("{}", serde_json::to_string_pretty(&report).unwrap());
    if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(report: &Report) {
    for faults in &report.faults {
        println!("{:>5} of {:<5} {}", faults.occurred, faults.planned, faults.words);
    }
    for (end, orders) in &report.ends {
        println!("{orders:>7}  {end}");
    }
    for promise in &report.promises {
        println!(
            "{:<10} {}: {} ({})",
            format!("{:?}", promise.verdict),
            promise.promise,
            promise.measured,
            promise.target
        );
    }
    for failure in &report.failures {
        println!("FAILED  {failure}");
    }
    let (held, planned) = (report.orders_per_second_held, report.orders_per_second_planned);
    println!(
        "seed {}: {} orders acknowledged, {held} a second of {planned}; {}",
        report.seed,
        report.acknowledged,
        if report.passed() {
            "nothing lost, nothing doubled, every promise that was measured kept"
        } else {
            "FAILED"
        }
    );
}
