//! `cargo xtask up`: from a clean clone to a running Amends.
//!
//! It only makes sure that Postgres' binaries exist and that `amends` is built, then becomes `amends up`, so signals
//! and the exit code are that program's own. It must never start a database itself: the private cluster belongs to
//! `amends`. Read next: `machine.rs`.
#![expect(clippy::print_stderr, reason = "a tool for people: its progress goes to standard error")]

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cargo;
use crate::machine;
use crate::stop::Stop;

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let stop = Stop::listen()?;
    let postgres = machine::prepare_postgres(&stop)?;
    let status = cargo::run(cargo::command(&["build", "-p", "amends"]), &stop)?;
    if !status.success() {
        return Ok(cargo::exit_code(status));
    }

    let mut amends = Command::new(cargo::amends_binary()?);
    amends.arg("up");
    if !is_given("--data-dir", arguments) {
        amends.arg("--data-dir").arg(cargo::workspace_root().join(".amends"));
    }
    if !is_given("--postgres-bin", arguments) {
        amends.arg("--postgres-bin").arg(postgres.folder);
    }
    amends.args(arguments);
    eprintln!("+ {}", shown(&amends));
    // `exec` returns only if it failed.
    Err(amends.exec()).context("cannot start the program that was just built")
}

fn is_given(flag: &str, arguments: &[String]) -> bool {
    arguments
        .iter()
        .any(|word| word.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('=')))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::is_given;

    #[test]
    fn a_flag_of_the_caller_wins_in_both_spellings() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert!(is_given("--data-dir", &words("--log debug --data-dir /x")));
        assert!(is_given("--data-dir", &words("--data-dir=/x")));
        assert!(!is_given("--data-dir", &words("--data-dirt /x")));
    }
}
