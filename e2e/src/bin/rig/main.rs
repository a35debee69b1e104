//! The stack by hand: started by `cargo xtask stack`, `crash` and `soak`, which bring the databases and brokers.
//!
//! Read next: `stack.rs` here, and `e2e::stack`.

#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a tool for people; it fails by panicking"
)]

mod bugs;
mod crash;
mod golden;
mod soak;
mod stack;
mod trace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

/// Every service as a process of its own, on this machine.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts the stack, shows what its processes say, and stops it in order on Ctrl-C
    Stack(stack::Stack),
    /// Sends orders of every kind over a stack of its own while everything breaks that can; the auditor has the last word
    Soak(soak::Soak),
    /// Aborts the process at one crash point after the other, in orders of every kind; the auditor has the last word
    Crash(crash::Crash),
    /// Plants one bug after the other and provokes it; the auditor has to name what each breaks
    Bugs(bugs::Bugs),
    /// One trial of these, in a process of its own
    #[command(hide = true)]
    Bug(bugs::Bug),
    /// Records golden journals of every kind of order for each definition that has none
    Golden(golden::Golden),
    /// Shows an order's trace as the file collector of the stack has it
    Trace(trace::Trace),
}

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Stack(stack) => stack.run().await,
        Command::Soak(soak) => until_stopped(soak.run()).await,
        Command::Crash(crash) => until_stopped(crash.run()).await,
        Command::Bugs(bugs) => until_stopped(bugs.run()).await,
        Command::Bug(bug) => until_stopped(bug.run()).await,
        Command::Golden(golden) => until_stopped(golden.run()).await,
        Command::Trace(trace) => trace.run(),
    }
}

/// Runs it, or ends it when a signal comes: what it started goes with it.
async fn until_stopped(run: impl Future<Output = ExitCode>) -> ExitCode {
    let mut interrupt = signal(SignalKind::interrupt()).unwrap();
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    tokio::select! {
        code = run => code,
        _ = interrupt.recv() => ExitCode::FAILURE,
        _ = terminate.recv() => ExitCode::FAILURE,
    }
}
