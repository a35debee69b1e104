//! Running cargo from xtask, and where it puts what it builds.
//!
//! A cargo that xtask waits for runs in a process group of its own and is ended with everything it started (test
//! binaries, and what they started) when a signal comes, before the services go. Read next: `child.rs`, `test.rs`.
#![expect(clippy::print_stderr, reason = "a tool for people: its progress goes to standard error")]

use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::child;
use crate::stop::Stop;

/// How long test binaries may take to end after a signal before they are killed.
const GRACE: Duration = Duration::from_secs(3);

pub(crate) fn workspace_root() -> PathBuf {
    let mut folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    folder.pop();
    folder
}

/// The `amends` binary that `cargo build` makes. xtask itself lies in `<target folder>/<profile>/`, which is right for
/// `CARGO_TARGET_DIR` and any configuration file.
pub(crate) fn amends_binary() -> Result<PathBuf> {
    built("debug", "amends")
}

/// A binary that cargo builds, of the profile whose folder that is.
pub(crate) fn built(profile: &str, binary: &str) -> Result<PathBuf> {
    let ourselves = std::env::current_exe().context("cannot find xtask's own file")?;
    let target = ourselves.ancestors().nth(2).context("xtask does not lie in a target folder")?;
    Ok(target.join(profile).join(binary))
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    #[expect(
        clippy::disallowed_methods,
        reason = "cargo tells its children which cargo it is, in this variable"
    )]
    let ourselves = std::env::var_os("CARGO");
    let mut command = Command::new(ourselves.unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(workspace_root());
    // cargo told us about our own package. A build script that watches these (ring's) would run again, and with it half the
    // workspace, whenever cargo is called by hand after us, or by us after a hand.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|of_ours| name.to_string_lossy().starts_with(of_ours))
        {
            command.env_remove(name);
        }
    }
    command
}

/// Runs cargo to its end, or ends it when a signal comes. What a test left running in cargo's group ends with it: a
/// forgotten program would hold our output open, and whoever reads it would wait for ever.
pub(crate) fn run(command: Command, stop: &Stop) -> Result<ExitStatus> {
    let shown: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    eprintln!("+ cargo {}", shown.join(" "));
    child::run(command, stop, GRACE)
}

/// Cargo's own exit code, so that a script sees what it would see without xtask.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
