//! The command line: every subcommand of `amends`.
//!
//! One file per noun. A noun's commands are clients of a running server: they ask, show the answer and end; nothing in
//! `cli/` may open a database (`audit` and `bench` have the auditor do it). Read next: `cli/server.rs` and `cli/output.rs`, which all
//! nouns share.

mod audit;
mod balance;
mod bench;
mod demo;
mod failure;
mod furnish;
mod order;
mod output;
mod price;
mod review;
mod saga;
mod server;
mod stock;
mod stores;
mod value;

use std::{future::Future, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use failure::Failure;
use server::Server;

pub(crate) use output::remark;

use crate::{alone, health::Health, host, owner::Provision, postgres::Postgres, up::Up};

/// Every order completes, or amends are made.
#[derive(Debug, Parser)]
#[command(
    name = "amends",
    version,
    propagate_version = true,
    after_help = "Start here:
  amends up                                                  everything, in one process, on this machine
  amends order create P1001:2 --customer c_1 --merchant m_1 --currency EUR --card tok_approve --wait 10s
  amends saga show <ord_…>                                   what happened, and what happens next"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything in one process on this machine, over a private Postgres
    Up(Box<Up>),
    /// Orders: create, get, list, cancel, watch; without any of these, order-svc in a process of its own
    Order(Box<OrderNoun>),
    /// Sagas: show, list, watch, journal, retry, compensate, resolve
    Saga(Noun<saga::Command>),
    /// Stock: get, list, restock
    Stock(Noun<stock::Command>),
    /// Prices: list, set
    Price(Noun<price::Command>),
    /// The books: balances and entries
    Balance(BalanceNoun),
    /// Reviews: list, decide
    Review(Noun<review::Command>),
    /// Play four orders against a running server and show their timelines
    Demo(Alone<demo::Demo>),
    /// Put orders in great number on a running server, and say how fast it is
    Bench(Box<Alone<bench::Bench>>),
    /// Judge the invariants over all databases and the provider's book
    Audit(Box<audit::Audit>),
    /// Audit every few minutes, with metrics, in a process of its own
    Auditor(Box<alone::AuditorAlone>),
    /// Make or migrate the schemas of services, as the owner of their databases
    Provision(Box<Provision>),
    /// Fill an empty store with a small catalogue to try things on
    Furnish(Alone<furnish::Furnish>),
    /// Ask a server process whether it can do its work
    Health(Health),
    /// The private Postgres alone
    Postgres(Postgres),
    /// The orchestrator in a process of its own
    Orchestrator(Box<alone::Orchestrator>),
    /// inventory-svc in a process of its own
    Inventory(Box<alone::Inventory>),
    /// risk-svc in a process of its own
    Risk(Box<alone::Risk>),
    /// payment-svc in a process of its own
    Payment(Box<alone::Payment>),
    /// ledger-svc in a process of its own
    Ledger(Box<alone::Ledger>),
    /// notification-svc in a process of its own
    Notification(Box<alone::Notification>),
}

/// A noun's commands, and where to ask.
#[derive(Debug, Args)]
struct Noun<C: Subcommand> {
    #[command(subcommand)]
    command: C,
    #[command(flatten)]
    server: Server,
}

/// A command that is no noun's, and where to ask.
#[derive(Debug, Args)]
struct Alone<C: Args> {
    #[command(flatten)]
    command: C,
    #[command(flatten)]
    server: Server,
}

/// One word for two things: a noun with its commands, and the service of that name.
#[derive(Debug, Args)]
struct OrderNoun {
    #[command(subcommand)]
    command: Option<order::Command>,
    #[command(flatten)]
    server: Server,
    #[command(flatten, next_help_heading = "Without a command: order-svc in a process of its own")]
    alone: alone::Order,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  amends balance merchant:m_1:EUR
  amends balance list --prefix merchant:
  amends balance entries --account merchant:m_1:EUR")]
struct BalanceNoun {
    #[command(flatten)]
    balance: balance::Balance,
    #[command(flatten)]
    server: Server,
}

impl Cli {
    /// Does what was asked.
    pub(crate) fn run(self) -> ExitCode {
        match self.command {
            Command::Up(up) => host::run(&up.telemetry(), async |stops| up.run(stops).await),
            Command::Order(noun) => {
                let OrderNoun { command, server, alone } = *noun;
                match command {
                    Some(command) => ask(&server, command.run(&server)),
                    None => host::run(&alone.telemetry(), async |stops| alone.run(stops).await),
                }
            }
            Command::Saga(Noun { command, server }) => ask(&server, command.run(&server)),
            Command::Stock(Noun { command, server }) => ask(&server, command.run(&server)),
            Command::Price(Noun { command, server }) => ask(&server, command.run(&server)),
            Command::Balance(BalanceNoun { balance, server }) => ask(&server, balance.run(&server)),
            Command::Review(Noun { command, server }) => ask(&server, command.run(&server)),
            Command::Demo(Alone { command, server }) => ask(&server, command.run(&server)),
            Command::Bench(alone) => {
                let Alone { command, server } = *alone;
                ask(&server, command.run(&server))
            }
            Command::Audit(audit) => audit.run(),
            Command::Auditor(alone) => host::run(&alone.telemetry(), async |stops| alone.run(stops).await),
            Command::Provision(provision) => {
                host::run(&provision.telemetry(), async |stops| provision.run(stops).await)
            }
            Command::Furnish(Alone { command, server }) => ask(&server, command.run(&server)),
            Command::Health(health) => health.run(),
            Command::Postgres(postgres) => {
                host::run(&postgres.telemetry(), async |stops| postgres.run(stops).await)
            }
            Command::Orchestrator(alone) => {
                host::run(&alone.telemetry(), async |stops| alone.run(stops).await)
            }
            Command::Inventory(alone) => host::run(&alone.telemetry(), async |stops| alone.run(stops).await),
            Command::Risk(alone) => host::run(&alone.telemetry(), async |stops| alone.run(stops).await),
            Command::Payment(alone) => host::run(&alone.telemetry(), async |stops| alone.run(stops).await),
            Command::Ledger(alone) => host::run(&alone.telemetry(), async |stops| alone.run(stops).await),
            Command::Notification(alone) => {
                host::run(&alone.telemetry(), async |stops| alone.run(stops).await)
            }
        }
    }
}

/// Runs one client command to its end.
fn ask(server: &Server, command: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return ExitCode::from(Failure::Output(error).tell(server.screen())),
    };
    match runtime.block_on(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(failure.tell(server.screen())),
    }
}

#[cfg(test)]
mod tests;
