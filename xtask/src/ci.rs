//! `cargo xtask ci`: everything that must hold before a change lands, and `cargo xtask tidy`, the quickest part of it.
//!
//! Every phase runs even if one before it failed, so that one run names all that is wrong. It must never change a
//! file. Read next: `test.rs`; the rules of `tidy` are in `tests/tidy/`.
#![expect(clippy::print_stderr, reason = "a tool for people: its progress goes to standard error")]

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cargo;
use crate::child;
use crate::instructions::{self, Build};
use crate::rig;
use crate::stop::Stop;
use crate::test;

const TIDY: &[&str] = &["test", "-p", "xtask", "--test", "tidy"];
const FORMAT: &[&str] = &["fmt", "--all", "--check"];
const CLIPPY: &[&str] = &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];

/// With the features that the tests have been built with, so that nothing is compiled again.
const SIM: &[&str] = &["build", "--workspace", "--tests", "--bin", "sim"];
const SEEDS: &[&str] = &["--seeds", "2000"];
const SOAK: &[&str] = &["--minutes", "2"];

/// `.ci/run` stops what takes longer than 44 minutes. What can be short on a slow machine ends before.
const LIMIT: Duration = Duration::from_mins(42);
/// The soak, with the start of its servers and the audit at its end.
const SOAK_TAKES: Duration = Duration::from_mins(3);
/// Less would not be worth starting the services for.
const CRASH_TAKES_AT_LEAST: Duration = Duration::from_mins(4);

struct Phase {
    name: &'static str,
    passed: bool,
    time: Duration,
}

/// `cargo xtask tidy`.
pub(crate) fn tidy(arguments: &[String]) -> Result<ExitCode> {
    let mut command = cargo::command(TIDY);
    command.args(arguments);
    Ok(cargo::exit_code(cargo::run(command, &Stop::listen()?)?))
}

/// `cargo xtask ci`. The quick phases come first. clippy shares nothing with the tests (it writes no machine code), and
/// the `amends` binary and all tests are built with the same features, so no crate is compiled twice for them.
pub(crate) fn run() -> Result<ExitCode> {
    let began = Instant::now();
    let stop = Stop::listen()?;
    let mut phases = Vec::new();
    for (name, arguments) in [("format", FORMAT), ("tidy", TIDY), ("clippy", CLIPPY)] {
        phases.push(phase(name, &stop, || Ok(cargo::run(cargo::command(arguments), &stop)?.success()))?);
    }
    // One failing test binary must not hide the others.
    let arguments = ["--no-fail-fast".to_owned()];
    phases.push(phase("test", &stop, || Ok(test::run_with(&arguments, &stop)? == ExitCode::SUCCESS))?);

    // The same commands that a person gives, in a short form and with nothing else running.
    phases.push(phase("sim", &stop, || {
        // It needs no services.
        Ok(cargo::run(cargo::command(SIM), &stop)?.success() && simulate(&stop)?)
    })?);
    phases.push(phase("instructions", &stop, || {
        Ok(instructions::run_with(Build::Dev, false, &stop)? == ExitCode::SUCCESS)
    })?);
    // Every crash point in orders of every kind; on a slow machine as many as there is time for.
    let left = LIMIT.saturating_sub(began.elapsed() + SOAK_TAKES).max(CRASH_TAKES_AT_LEAST);
    let crash = ["--minutes".to_owned(), format!("{:.1}", left.as_secs_f64() / 60.0)];
    let soak = SOAK.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    for (name, arguments) in [("crash", &crash[..]), ("soak", &soak)] {
        phases.push(phase(name, &stop, || Ok(rig::run_with(name, arguments, &stop)? == ExitCode::SUCCESS))?);
    }

    eprintln!();
    for Phase { name, passed, time } in &phases {
        eprintln!("{name:<12} {}  {:>5} s", if *passed { "ok    " } else { "FAILED" }, time.as_secs());
    }
    Ok(if phases.iter().all(|phase| phase.passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn simulate(stop: &Stop) -> Result<bool> {
    let mut sim = Command::new(cargo::built("debug", "sim")?);
    sim.args(SEEDS);
    Ok(child::run(sim, stop, Duration::from_secs(1))?.success())
}

fn phase(name: &'static str, stop: &Stop, work: impl FnOnce() -> Result<bool>) -> Result<Phase> {
    eprintln!("\n== {name}");
    let begin = Instant::now();
    let passed = match work() {
        Ok(passed) => passed,
        Err(error) if stop.asked() => return Err(error),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            false
        }
    };
    Ok(Phase { name, passed, time: begin.elapsed() })
}
