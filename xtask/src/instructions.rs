//! `cargo xtask instructions`: how many instructions the pure part of an order takes, against the committed figures.
//!
//! Counted by valgrind (callgrind), so that it is the same each time and on a busy machine. Cases are in
//! `bench/src/pure.rs`, figures of both builds in `bench/instructions.txt`; more than a tenth above one fails. People count what
//! they ship; CI counts the build that its tests have just used, since a release takes it seven minutes more.
#![expect(clippy::print_stderr, reason = "a tool for people: its progress goes to standard error")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::cargo;
use crate::machine;
use crate::stop::Stop;

/// What may come on top of a committed figure, in percent.
const TOLERANCE: u64 = 10;

const HEADER: &str = "\
# Instructions for one time, as `cargo xtask instructions` counts them with valgrind: release build, dev build (`--dev`, in CI).
";

/// Which program is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    Release,
    /// As the tests of the whole workspace are built, so that after them nothing is compiled twice.
    Dev,
}

impl Build {
    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Release => &["build", "--release", "-p", "bench", "--bin", "instructions"],
            Self::Dev => &["build", "--workspace", "--tests", "--bin", "instructions"],
        }
    }

    const fn folder(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dev => "debug",
        }
    }

    /// How often a case is done in a run.
    const fn times(self) -> u64 {
        match self {
            Self::Release => 100,
            Self::Dev => 4,
        }
    }
}

/// Counts all, and compares or writes.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let (mut build, mut write) = (Build::Release, false);
    for word in arguments {
        match word.as_str() {
            "--dev" => build = Build::Dev,
            "--write" => write = true,
            _ => bail!(
                "cargo xtask instructions [--dev] [--write]: compares the release (or dev) build with {}, or writes it",
                figures().display()
            ),
        }
    }
    run_with(build, write, &Stop::listen()?)
}

pub(crate) fn run_with(build: Build, write: bool, stop: &Stop) -> Result<ExitCode> {
    let status = cargo::run(cargo::command(build.arguments()), stop)?;
    if !status.success() {
        return Ok(cargo::exit_code(status));
    }
    machine::valgrind(stop)?;
    let binary = cargo::built(build.folder(), "instructions")?;
    let list = Command::new(&binary).output().context("the program that was just built")?;
    let mut text = HEADER.to_owned();
    let mut failed = false;
    let committed = fs::read_to_string(figures()).unwrap_or_default();
    for name in String::from_utf8_lossy(&list.stdout).lines() {
        let counted = count(&binary, name, build.times())? / build.times();
        let known = Known::of(&committed, name);
        let (was, now) = match build {
            Build::Release => (known.release, Known { release: Some(counted), ..known }),
            Build::Dev => (known.dev, Known { dev: Some(counted), ..known }),
        };
        writeln!(text, "{:>9}  {:>9}  {name}", shown(now.release), shown(now.dev))?;
        let verdict = match was {
            None => "new",
            Some(was) if counted * 100 > was * (100 + TOLERANCE) => {
                failed = true;
                "SLOWER"
            }
            Some(was) if counted * (100 + TOLERANCE) < was * 100 => "faster: --write keeps it",
            Some(_) => "",
        };
        eprintln!("{counted:>9}  {name}  (was {}) {verdict}", shown(was));
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

/// The committed figures of a case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Known {
    release: Option<u64>,
    dev: Option<u64>,
}

impl Known {
    fn of(committed: &str, case: &str) -> Self {
        let mut rows = committed.lines().filter_map(|line| {
            let (release, rest) = line.trim_start().split_once("  ")?;
            let (dev, name) = rest.trim_start().split_once("  ")?;
            (name == case).then(|| Self { release: release.parse().ok(), dev: dev.parse().ok() })
        });
        rows.next_back().unwrap_or_default()
    }
}

fn shown(figure: Option<u64>) -> String {
    figure.map_or("-".into(), |figure| figure.to_string())
}

/// What is executed within `measured`.
fn count(binary: &Path, case: &str, times: u64) -> Result<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args([
            "--tool=callgrind",
            "--toggle-collect=*bench::pure::measured*",
            "--callgrind-out-file=/dev/null",
        ])
        .arg(binary)
        .args([case, &times.to_string()]);
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

#[cfg(test)]
mod tests {
    use super::Known;

    #[test]
    fn a_case_has_a_figure_of_each_build_or_none_yet() {
        let committed = "# a title\n       12        340  fold a journal\n        7          -  decide\n";
        let known = |release, dev| Known { release, dev };
        assert_eq!(Known::of(committed, "fold a journal"), known(Some(12), Some(340)));
        assert_eq!(Known::of(committed, "decide"), known(Some(7), None));
        assert_eq!(Known::of(committed, "a journal"), known(None, None));
    }
}
