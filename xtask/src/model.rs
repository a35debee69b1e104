//! `cargo xtask model`: everything that one saga and two orchestrators can do, within the published bounds.
//!
//! The model is a test of the orchestrator (`saga/tests/model.rs`), which takes quick bounds in a debug build. Only that
//! crate is optimized here, so nothing below it is built again. It needs no services.

use std::process::ExitCode;

use anyhow::Result;

use crate::cargo;
use crate::stop::Stop;

const OPTIMIZED: [&str; 4] = [
    "--config",
    "profile.dev.package.orchestrator.opt-level=3",
    "--config",
    "profile.dev.package.orchestrator.debug-assertions=false",
];

/// `arguments` are names of its tests, as in `order`.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let mut command = cargo::command(&["test"]);
    command.args(OPTIMIZED).args(["-p", "orchestrator", "--lib", "--"]);
    if arguments.is_empty() {
        command.arg("saga::tests::model");
    }
    // One after another, each with all cores.
    command.args(arguments).args(["--nocapture", "--test-threads", "1"]);
    Ok(cargo::exit_code(cargo::run(command, &Stop::listen()?)?))
}
