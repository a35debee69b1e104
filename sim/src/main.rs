//! `cargo xtask sim`: a campaign of seeds, or one seed step by step.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for people")]

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use anyhow::Context as _;
use clap::Parser as _;
use sim::{campaign, options::Options, run};

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    match options.seed {
        Some(seed) => Ok(one(seed, &options)),
        None => many(&options),
    }
}

fn one(seed: u64, options: &Options) -> ExitCode {
    let outcome = run(seed, options.bug, options.trace);
    outcome.trace.iter().for_each(|line| println!("{line}"));
    let seconds = outcome.lasted / 1000;
    match outcome.violation {
        None => {
            let settled = outcome.settled / 1000;
            println!(
                "seed {seed}: all is well after {} deeds and {seconds} s, settled in {settled} s",
                outcome.deeds
            );
            ExitCode::SUCCESS
        }
        Some(violation) => {
            println!("seed {seed}: {violation}");
            ExitCode::FAILURE
        }
    }
}

fn many(options: &Options) -> anyhow::Result<ExitCode> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = options.threads.unwrap_or(cores);
    let (began, told) = (Instant::now(), AtomicU64::new(0));
    let progress = |done: u64| {
        let seconds = began.elapsed().as_secs();
        // Once in ten seconds, and not at all for what is over before.
        if seconds / 10 > told.load(Ordering::Relaxed) {
            told.store(seconds / 10, Ordering::Relaxed);
            eprintln!("{done} of {} seeds after {seconds} s", options.seeds);
        }
    };
    let campaign = campaign::run(options.from, options.seeds, threads, options.bug, progress);
    for failure in &campaign.failures {
        let bug = options.bug.map(|bug| format!(" --bug {}", bug.as_str())).unwrap_or_default();
        println!("seed {}: {}", failure.seed, failure.violation);
        println!("  step by step: cargo xtask sim --seed {}{bug} --trace", failure.seed);
    }
    if let Some(file) = &options.report {
        let report = serde_json::to_string_pretty(&campaign.report(options.from, &options.code))?;
        std::fs::write(file, report).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let missing = campaign.missing();
    for mark in &missing {
        println!("never occurred: {}", mark.as_str());
    }
    let milliseconds = campaign.took.as_secs_f64() * 1000.0 / (campaign.seeds.max(1) as f64);
    println!(
        "{} seeds from {}, {} failed, {} deeds, {} simulated hours, in {:.1} s ({milliseconds:.2} ms a seed)",
        campaign.seeds,
        options.from,
        campaign.failures.len(),
        campaign.deeds,
        campaign.lasted / 3_600_000,
        campaign.took.as_secs_f64(),
    );
    Ok(match (campaign.failures.is_empty(), missing.is_empty() || options.bug.is_some()) {
        (false, _) => ExitCode::FAILURE,
        (true, false) => ExitCode::from(2),
        (true, true) => ExitCode::SUCCESS,
    })
}
