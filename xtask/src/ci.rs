//! `cargo xtask ci`: everything that must hold before a change lands, and `cargo xtask tidy`, the quickest part of it.
//!
//! Every phase runs even if one before it failed, so that one run names all that is wrong. It must never change a
//! file. Read next: `test.rs`; the rules of `tidy` are in `tests/tidy/`.
#![expect(clippy::print_stderr, reason = "a tool for people: its progress goes to standard error")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cargo;
use crate::instructions;
use crate::rig;
use crate::stop::Stop;
use crate::test;

const TIDY: &[&str] = &["test", "-p", "xtask", "--test", "tidy"];
const FORMAT: &[&str] = &["fmt", "--all", "--check"];
const CLIPPY: &[&str] = &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];

/// The simulator needs no services. Every crash point in orders of every kind is what `crash` does when nothing is said.
const SIM: &[&str] = &["run", "-p", "sim", "--", "--seeds", "500"];
const CRASH: &[&str] = &[];
const SOAK: &[&str] = &["--minutes", "2"];

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
    let stop = Stop::listen()?;
    let mut phases = Vec::new();
    for (name, arguments) in [("format", FORMAT), ("tidy", TIDY), ("clippy", CLIPPY)] {
        phases.push(phase(name, &stop, || Ok(cargo::run(cargo::command(arguments), &stop)?.success()))?);
    }
    // One failing test binary must not hide the others.
    let arguments = ["--no-fail-fast".to_owned()];
    phases.push(phase("test", &stop, || Ok(test::run_with(&arguments, &stop)? == ExitCode::SUCCESS))?);

    // The same commands that a person gives, in a short form and with nothing else running.
    phases.push(phase("sim", &stop, || Ok(cargo::run(cargo::command(SIM), &stop)?.success()))?);
    phases.push(phase("instructions", &stop, || {
        Ok(instructions::run_with(false, &stop)? == ExitCode::SUCCESS)
    })?);
    for (name, arguments) in [("crash", CRASH), ("soak", SOAK)] {
        let arguments: Vec<_> = arguments.iter().map(|&word| word.to_owned()).collect();
        phases.push(phase(name, &stop, || Ok(rig::run_with(name, &arguments, &stop)? == ExitCode::SUCCESS))?);
    }

    eprintln!();
    for Phase { name, passed, time } in &phases {
        eprintln!("{name:<12} {}  {:>5} s", if *passed { "ok    " } else { "FAILED" }, time.as_secs());
    }
    Ok(if phases.iter().all(|phase| phase.passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
