//! `cargo xtask upgrade --from REV`: that revision and this one side by side on one stack under load, and back again.
//!
//! The old program is built from a copy of its own sources, in a target folder of its own; nothing in the working copy is
//! touched. What then happens is a scenario (`e2e/tests/it/versions.rs`).

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo;
use crate::stop::Stop;
use crate::test;

/// The scenario.
const SCENARIO: &str = "two_builds_side_by_side_under_load_and_back_again";

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let [flag, revision] = arguments else { bail!("which revision? cargo xtask upgrade --from REV") };
    ensure!(flag == "--from", "which revision? cargo xtask upgrade --from REV");
    let stop = Stop::listen()?;
    let revision = commit(revision)?;
    let place = cargo::workspace_root().join("target").join("upgrade");
    let sources = place.join(&revision);
    if !sources.join("Cargo.toml").exists() {
        unpack(&revision, &sources)?;
    }
    let target = place.join("target");
    let mut build = cargo::command(&["build", "-p", "amends", "--bin", "amends"]);
    build.current_dir(&sources).env("CARGO_TARGET_DIR", &target);
    let status = cargo::run(build, &stop)?;
    if !status.success() {
        return Ok(cargo::exit_code(status));
    }
    // The next revision is built in the same folder.
    let old: PathBuf = place.join(format!("amends-{revision}"));
    std::fs::copy(target.join("debug").join("amends"), &old).context("cannot keep the old program")?;
    let scenario = ["-p", "e2e", "--test", "it", "--", SCENARIO, "--nocapture"].map(str::to_owned);
    test::run_told(&scenario, &stop, &[("AMENDS_TEST_OLD_BINARY", old.as_os_str())])
}

/// The full name of a revision.
fn commit(revision: &str) -> Result<String> {
    let mut git = Command::new("git");
    git.args(["rev-parse", "--verify", &format!("{revision}^{{commit}}")])
        .current_dir(cargo::workspace_root());
    let output = git.output().context("cannot run git")?;
    ensure!(output.status.success(), "git knows no revision {revision}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Its sources, as they were.
fn unpack(revision: &str, sources: &Path) -> Result<()> {
    std::fs::create_dir_all(sources)?;
    let mut git = Command::new("git");
    git.args(["archive", revision]).current_dir(cargo::workspace_root()).stdout(Stdio::piped());
    let mut archive = git.spawn().context("cannot run git")?;
    let tar = archive.stdout.take().context("git says nothing")?;
    let status =
        Command::new("tar").args(["-x", "-C"]).arg(sources).stdin(tar).status().context("cannot run tar")?;
    ensure!(archive.wait()?.success() && status.success(), "cannot unpack {revision}");
    Ok(())
}
