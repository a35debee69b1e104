//! The one binary people run.
//!
//! Where to look: `cli` (the command line and the operator's commands), `up` (everything in one process) over
//! [`data_dir`], [`cluster`], [`provision`] and [`stack`]; `alone` (one service in a process of its own); `process`,
//! `host` and `signals` (what every server process shares); `owner` (schemas, made by those who may); `health` (is it
//! ready?); [`demo`] (a store to try things on); [`audit`] (what must always hold) and
//! [`auditor`] (looks at it every few minutes).

mod alone;
pub mod audit;
pub mod auditor;
mod cli;
pub mod cluster;
pub mod data_dir;
mod database_urls;
pub mod demo;
#[doc(hidden)]
pub mod doors;
mod health;
mod host;
mod owner;
mod postgres;
mod process;
pub mod provision;
mod signals;
pub mod stack;
mod token_keys;
mod up;

use std::process::ExitCode;

use clap::Parser as _;

/// Reads the command line and does what it says; the exit code: 0 done, 1 refused or failed, 2 wrongly used.
#[must_use]
pub fn run() -> ExitCode {
    match cli::Cli::try_parse() {
        Ok(cli) => cli.run(),
        Err(error) => {
            // Help goes to standard output, a mistake to standard error; if that is closed nobody reads it.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}
