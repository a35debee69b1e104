//! `cargo xtask instructions`: how many instructions the pure part of an order takes, against the committed figures.
//!
//! Counted by valgrind (callgrind), so that it is the same each time and on a busy machine. Cases are in
//! `bench/src/pure.rs`, figures in `bench/instructions.txt`; more than a tenth above one fails.
#![expect(clippy::print_stderr, reason = "a tool for people: its progress goes to standard error")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::cargo;
use crate::machine;
use crate::stop::Stop;

/// Times that a case is done in a run, as in `bench/src/pure.rs`.
const TIMES: u64 = 100;
/// What may come on top of a committed figure, in percent.
const TOLERANCE: u64 = 10;

const HEADER: &str =
    "# Instructions for one time, as `cargo xtask instructions` counts them (release build, valgrind).\n";

/// Counts all, and compares or writes.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let write = match arguments {
        [] => false,
        [word] if word == "--write" => true,
        _ => bail!("cargo xtask instructions [--write]: compares with {}, or writes it", figures().display()),
    };
    run_with(write, &Stop::listen()?)
}

pub(crate) fn run_with(write: bool, stop: &Stop) -> Result<ExitCode> {
    let status =
        cargo::run(cargo::command(&["build", "--release", "-p", "bench", "--bin", "instructions"]), stop)?;
    if !status.success() {
        return Ok(cargo::exit_code(status));
    }
    machine::valgrind(stop)?;
    let debug = cargo::amends_binary()?;
    let folder = debug.parent().and_then(Path::parent).context("no target folder")?;
    let binary = folder.join("release").join("instructions");
    let list = Command::new(&binary).output().context("the program that was just built")?;
    let mut text = HEADER.to_owned();
    let mut failed = false;
    let committed = fs::read_to_string(figures()).unwrap_or_default();
    for name in String::from_utf8_lossy(&list.stdout).lines() {
        let counted = count(&binary, name)? / TIMES;
        writeln!(text, "{counted:>9}  {name}")?;
        let known = known(&committed, name);
        let verdict = match known {
            None => "new",
            Some(known) if counted * 100 > known * (100 + TOLERANCE) => {
                failed = true;
                "SLOWER"
            }
            Some(known) if counted * (100 + TOLERANCE) < known * 100 => "faster: --write keeps it",
            Some(_) => "",
        };
        eprintln!(
            "{counted:>9}  {name}  (was {}) {verdict}",
            known.map_or("-".into(), |known| known.to_string())
        );
    }
    if write {
        fs::write(figures(), text).context("bench/instructions.txt")?;
    } else if failed {
        eprintln!(
            "more than {TOLERANCE} % above the committed figures: make it cheaper, or say why with --write"
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn figures() -> PathBuf {
    cargo::workspace_root().join("bench/instructions.txt")
}

/// The committed figure of a case.
fn known(committed: &str, case: &str) -> Option<u64> {
    let lines = committed.lines().filter_map(|line| line.trim_start().split_once("  "));
    lines.filter(|(_, name)| *name == case).find_map(|(number, _)| number.parse().ok())
}

/// What is executed within `measured`.
fn count(binary: &Path, case: &str) -> Result<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args([
            "--tool=callgrind",
            "--toggle-collect=*bench::pure::measured*",
            "--callgrind-out-file=/dev/null",
        ])
        .arg(binary)
        .arg(case);
    let output = valgrind.output().context("valgrind cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{case}: {said}");
    }
    let collected =
        said.lines().find_map(|line| line.split_once("Collected : ").map(|(_, number)| number.trim()));
    let collected = collected.with_context(|| format!("valgrind counted nothing:\n{said}"))?;
    let number = collected.parse().with_context(|| format!("valgrind counted `{collected}`"))?;
    if number == 0 {
        bail!("{case}: nothing was counted: is `measured` still a function of its own?");
    }
    Ok(number)
}
