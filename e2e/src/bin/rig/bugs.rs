//! `cargo xtask bugs`.

use std::process::ExitCode;

use clap::Args;
use e2e::seeded::{self, Trial};

#[derive(Debug, Args)]
pub(crate) struct Bugs {
    /// Only those whose name, or whose provocation, contains this
    #[arg(value_name = "TEXT")]
    only: Option<String>,
    /// Trials side by side
    #[arg(long, default_value_t = 4, value_name = "N")]
    side_by_side: usize,
}

impl Bugs {
    pub(crate) async fn run(self) -> ExitCode {
        let only = self.only.unwrap_or_default();
        let is_wanted = |trial: &Trial| {
            let bug = trial.bug.map(|bug| bug.to_string()).unwrap_or_default();
            bug.contains(&only) || trial.provocation.text().contains(&only)
        };
        let trials: Vec<Trial> = Trial::all().into_iter().filter(is_wanted).collect();
        let rig = std::env::current_exe().unwrap();
        let verdicts = seeded::run(&rig, trials, self.side_by_side, |verdict| eprintln!("{verdict}")).await;
        println!("{}", seeded::table(&verdicts));
        let wrong = verdicts.iter().filter(|verdict| !verdict.is_as_it_should()).count();
        println!("{} trials, {wrong} of them not as they should be", verdicts.len());
        if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Bug {
    /// Which provocation, by its place
    provocation: usize,
    /// Which bug; none if there is none
    bug: Option<chassis::seeded::Bug>,
}

impl Bug {
    pub(crate) async fn run(self) -> ExitCode {
        println!("{}", seeded::trial(self.provocation, self.bug).await);
        ExitCode::SUCCESS
    }
}
