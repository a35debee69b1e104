//! `cargo xtask test`: build, start the private services, run the tests, stop the services.
//!
//! It must never leave anything running. Everything is compiled before a service starts, so that a typing error costs
//! no boot of RabbitMQ. Read next: `services.rs`.

use std::ffi::OsStr;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::cargo;
use crate::machine::Machine;
use crate::services::Services;
use crate::stop::Stop;

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    run_with(arguments, &Stop::listen()?)
}

pub(crate) fn run_with(arguments: &[String], stop: &Stop) -> Result<ExitCode> {
    run_told(arguments, stop, &[])
}

/// With more variables for the tests.
pub(crate) fn run_told(arguments: &[String], stop: &Stop, told: &[(&str, &OsStr)]) -> Result<ExitCode> {
    let machine = Machine::prepare(stop)?;

    let selection = Selection::of(arguments);
    let build = if selection.wants_binary {
        selection.build()
    } else {
        cargo_test(&selection, arguments, &["--no-run"])
    };
    let status = cargo::run(build, stop)?;
    if !status.success() {
        return Ok(cargo::exit_code(status));
    }

    let services = Services::start(&machine, stop)?;
    let mut command = cargo_test(&selection, arguments, &[]);
    command.envs(services.environment()).env("TMPDIR", services.scratch()?).envs(told.iter().copied());
    if selection.wants_binary {
        command.env("AMENDS_TEST_BINARY", cargo::amends_binary()?);
    }
    let status = cargo::run(command, stop)?;
    Ok(cargo::exit_code(status))
}

fn cargo_test(selection: &Selection, arguments: &[String], extra: &[&str]) -> Command {
    let mut command = cargo::command(&["test"]);
    if selection.is_everything {
        command.arg("--workspace");
    }
    command.args(extra).args(arguments);
    command
}

/// Which packages are tested, as cargo's own words.
struct Selection {
    packages: Vec<String>,
    is_everything: bool,
    /// Whether these tests may start the real `amends` program.
    wants_binary: bool,
}

impl Selection {
    /// The program and the tests in one call: dev-dependencies add features to crates that both need, and apart from
    /// each other they would have everything of ours compiled twice.
    fn build(&self) -> Command {
        let mut build = cargo::command(&["build"]);
        build.args(&self.packages);
        if !self.is_everything {
            build.args(["-p", "amends"]);
        }
        build.args(["--tests", "--bin", "amends"]);
        build
    }

    fn of(arguments: &[String]) -> Self {
        let mut names = Vec::new();
        let mut words = arguments.iter().take_while(|word| *word != "--");
        while let Some(word) = words.next() {
            if word == "-p" || word == "--package" {
                names.extend(words.next().cloned());
            } else if let Some(name) = word.strip_prefix("--package=").or_else(|| word.strip_prefix("-p")) {
                names.push(name.to_owned());
            }
        }
        if names.is_empty() {
            return Self {
                packages: vec!["--workspace".to_owned()],
                is_everything: true,
                wants_binary: true,
            };
        }
        let wants_binary = names.iter().any(|name| name == "amends" || name == "e2e");
        let packages = names.into_iter().flat_map(|name| ["-p".to_owned(), name]).collect();
        Self { packages, is_everything: false, wants_binary }
    }
}

#[cfg(test)]
mod tests {
    use super::Selection;

    fn selection(line: &str) -> Selection {
        Selection::of(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn without_a_package_everything_is_tested() {
        let everything = selection("a_name --no-fail-fast -- -p types");
        assert!(everything.is_everything && everything.wants_binary);
        assert_eq!(everything.packages, ["--workspace"]);
    }

    #[test]
    fn a_package_that_cannot_start_the_program_does_not_wait_for_it() {
        let one = selection("-p types --package=chassis");
        assert!(!one.is_everything && !one.wants_binary);
        assert_eq!(one.packages, ["-p", "types", "-p", "chassis"]);
    }

    #[test]
    fn the_scenarios_want_the_program() {
        assert!(selection("--package e2e").wants_binary);
    }
}
