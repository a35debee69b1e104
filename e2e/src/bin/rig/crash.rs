//! `cargo xtask crash`.

use std::{collections::BTreeMap, process::ExitCode};

use clap::Args;
use e2e::{
    crash::{self, Run},
    load::Kind,
};

#[derive(Debug, Args)]
pub(crate) struct Crash {
    /// Only every N-th point
    #[arg(long, default_value_t = 1, value_name = "N")]
    every: u64,
    /// Begin at this point
    #[arg(long, default_value_t = 1, value_name = "N")]
    from: u64,
    /// Only these kinds of orders, as in `plain,declined` [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND")]
    kinds: Vec<Kind>,
}

impl Crash {
    pub(crate) async fn run(self) -> ExitCode {
        let kinds = if self.kinds.is_empty() { Kind::ALL.to_vec() } else { self.kinds };
        let run = Run { every: self.every.max(1), from: self.from.max(1), kinds };
        let died = crash::run(&run, |line| eprintln!("{line}")).await;
        let mut points: BTreeMap<&str, usize> = BTreeMap::new();
        for death in &died {
            *points.entry(death.as_str()).or_default() += 1;
        }
        println!("{} deaths, every order at its end after each, the auditor found nothing", died.len());
        for (point, count) in points {
            println!("{count:>6}  {point}");
        }
        ExitCode::SUCCESS
    }
}
