//! What a person says on the command line.

use std::path::PathBuf;

use crate::bug::Bug;

/// All of Amends in one process, from a seed: simulated time, network, disks and crashes.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "cargo xtask sim",
    after_help = "\
Examples:
  cargo xtask sim --seeds 2000                     as CI runs it
  cargo xtask sim --release --seeds 1000000 --report sim.json
  cargo xtask sim --seed 4711 --trace              one run, step by step
  cargo xtask sim --seeds 2000 --bug no-fence      it must fail: a bug was put in

Exit: 0 all is well; 1 an invariant was violated, the seed is printed; 2 a fault or a state never occurred, the campaign
is void (only judged from 2000 seeds on)."
)]
pub struct Options {
    /// How many seeds to run
    #[arg(long, default_value_t = 2000, conflicts_with = "seed")]
    pub seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1, conflicts_with = "seed")]
    pub from: u64,
    /// This one alone
    #[arg(long)]
    pub seed: Option<u64>,
    /// Print a run step by step
    #[arg(long, requires = "seed")]
    pub trace: bool,
    /// Side by side [default: as many as the machine has cores]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Optimised: for many seeds
    #[arg(long)]
    pub release: bool,
    /// Write a report there, as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Which code it is, for the report
    #[arg(long, hide = true, default_value = "")]
    pub code: String,
    /// Put a bug in, to see that it is found
    #[arg(long, value_name = "NAME")]
    pub bug: Option<Bug>,
}
