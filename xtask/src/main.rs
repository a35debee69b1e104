//! `cargo xtask …`: what a person types while working on the house.
//!
//! It must never depend on a crate of ours (it has to work while they do not compile), and never stop a process that
//! it did not start. Arguments are read by hand because this is the first thing a newcomer compiles. Read next:
//! `services.rs` (the private Postgres, RabbitMQ and Redis of a test run), then `test.rs`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for people")]

mod account;
mod cargo;
mod child;
mod ci;
mod compose_test;
mod containers;
mod fuzz;
mod image;
mod instructions;
mod machine;
mod model;
mod port;
mod postgres;
mod rabbitmq;
mod redis;
mod rig;
mod service;
mod services;
mod sim;
mod stop;
mod test;
mod up;
mod upgrade;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask: what a person types while working on Amends

Usage: cargo xtask <command> [-- args]

Commands:
  up [-- args]    make sure Postgres is installed, build `amends`, and become `amends up` (everything in one process,
                  its data in .amends/)
  stack [-- args] every service a process of its own over private Postgres, RabbitMQ and Redis, until Ctrl-C (--amends FILE:
                  of that program, of which nothing is built)
  demo [-- args]  four orders against what runs (`stack` or `up`), and their timelines as they happen
  crash [-- args] `amends up` aborts at one crash point after the other, in orders of every kind
  bugs [-- args]  plants one bug after the other, and the auditor has to name what each breaks
  sim [-- args]   all of it in one process, from seeds: simulated time, network, disks and crashes (--help: its options)
  golden          what orders of every kind store under each definition, for those that have none recorded (-- --all, --release)
  model           everything that one saga and two orchestrators can do within the published bounds
  upgrade --from REV
                  that revision and this one side by side on one stack under load, and back again
  trace ord_…     an order's trace over all processes, from the file that the stack's collector writes
  soak [-- args]  orders of every kind over a stack of its own while all breaks that can; the auditor has the last word
                  (stack, soak and crash take `--release`: built as people run it, for long runs)
  test [-- args]  private Postgres, RabbitMQ and Redis, then `cargo test` with these arguments
  fuzz [TARGET …] libFuzzer at the decoders of every door, from the committed corpus (--help: its options)
  instructions    instructions of the pure part of an order, counted by valgrind, against the committed figures (--dev, --write)
  compose-test    docker-compose.yml in containers: up, used from outside, judged, torn down (-- --help: its options)
  services        the same three services, until Ctrl-C; their `export` lines go to standard output
  tidy [-- args]  the rules of the house that a test can see: crate arrows, purity, where SQL may be, sizes, …
  ci              format, tidy, clippy, all tests, short crash and soak runs, as .ci/run does

Options:
  -h, --help      this text

Examples:
  cargo xtask up                                   see it run; Ctrl-C stops it, the data stays
  cargo xtask up -- --help                         what `amends up` can be told
  cargo xtask soak -- --minutes 10 --release       every kind of fault; the report is in target/soak/
  cargo xtask sim --seed 4711 --trace              one simulated run, step by step
  cargo xtask test                                 every test of the workspace
  cargo xtask test -- -p inventory-svc             the tests of one crate
  cargo xtask test -- a_declined_card -- --nocapture
  cargo xtask services > /tmp/services.env &       then, in any shell: . /tmp/services.env
                                                   and run `cargo test -p …` as often as you like

What is missing on the machine (postgresql, rabbitmq-server, redis-server, valgrind) is installed when run as root on Debian or
Ubuntu; elsewhere the command says what to install.";

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args.is_empty() {
        eprintln!("{HELP}");
        return ExitCode::from(2);
    }
    let command = args.remove(0);
    // `cargo xtask test -- -p types` and `cargo xtask test -p types` mean the same.
    if args.first().is_some_and(|first| first == "--") {
        args.remove(0);
    }
    let asks = args.first().is_some_and(|first| first == "-h" || first == "--help");
    if asks && ["test", "services", "tidy", "ci"].contains(&command.as_str()) {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let outcome = match command.as_str() {
        "test" => test::run(&args),
        "up" => up::run(&args),
        "stack" | "crash" | "bugs" | "golden" | "soak" => rig::run(&command, &args),
        "demo" => rig::demo(&args),
        "sim" => sim::run(&args),
        "trace" => rig::trace(&args),
        "fuzz" => fuzz::run(&args),
        "instructions" => instructions::run(&args),
        "model" => model::run(&args),
        "upgrade" => upgrade::run(&args),
        "compose-test" => compose_test::run(&args),
        "tidy" => ci::tidy(&args),
        "ci" => ci::run(),
        "services" => services::stay(),
        "-h" | "--help" | "help" => {
            println!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        other => {
            eprintln!("xtask: there is no command `{other}`\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
