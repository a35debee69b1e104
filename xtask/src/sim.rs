//! `cargo xtask sim`: the simulator. It needs no services: all of it is one process.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cargo;
use crate::stop::Stop;

/// Builds it, and becomes it.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let mut build = cargo::command(&["build", "-p", "sim"]);
    let is_release = arguments.iter().any(|word| word == "--release");
    if is_release {
        build.arg("--release");
    }
    let status = cargo::run(build, &Stop::listen()?)?;
    if !status.success() {
        return Ok(cargo::exit_code(status));
    }
    let debug = cargo::amends_binary()?;
    let folder = debug.parent().and_then(|debug| debug.parent()).context("no target folder")?;
    let binary = folder.join(if is_release { "release" } else { "debug" }).join("sim");
    let mut sim = Command::new(binary);
    sim.args(arguments).args(["--code", &code()]);
    // `exec` returns only if it failed.
    Err(sim.exec()).context("cannot start the program that was just built")
}

/// Which code is simulated, for the report; empty where git does not know.
fn code() -> String {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty"]).current_dir(cargo::workspace_root());
    let described = git.output();
    described.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
