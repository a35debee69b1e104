//! `cargo xtask stack`, `crash`, `bugs`, `golden` and `soak`: private Postgres, RabbitMQ and Redis, then the program of
//! `e2e` that starts every service as a process of its own. The soak brings its own servers, because it breaks them.
//!
//! Only that program is told to stop; it stops its processes in order. Read next: `e2e/src/stack.rs`.
#![expect(clippy::print_stderr, reason = "a tool for people: its progress goes to standard error")]

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::cargo;
use crate::machine::Machine;
use crate::service::has_ended;
use crate::services::{self, Services};
use crate::stop::Stop;

/// Eight processes may take their grace of 20 s, one after another only in the worst case.
const GRACE: Duration = Duration::from_secs(90);

pub(crate) fn run(command: &str, arguments: &[String]) -> Result<ExitCode> {
    run_with(command, arguments, &Stop::listen()?)
}

pub(crate) fn run_with(command: &str, arguments: &[String], stop: &Stop) -> Result<ExitCode> {
    let Told { builds, amends, rig, rest } = told(command, arguments)?;
    let asks = rest.iter().any(|word| word == "-h" || word == "--help");
    // Before the builds: what is missing is known at once.
    let machine = if asks { None } else { Some(Machine::prepare(stop)?) };
    for build in builds {
        let status = cargo::run(cargo::command(build), stop)?;
        if !status.success() {
            return Ok(cargo::exit_code(status));
        }
    }
    let amends = match amends {
        Amends::Built(profile) => cargo::built(profile, "amends")?,
        Amends::Named(file) => file,
    };
    let mut rig = Command::new(cargo::built(rig, "rig")?);
    rig.arg(command).args(&rest);
    let Some(machine) = machine else {
        // `exec` returns only if it failed.
        return Err(rig.exec()).context("cannot start the program that was just built");
    };
    rig.current_dir(cargo::workspace_root()).env("AMENDS_TEST_BINARY", amends);
    if command == "soak" {
        let home = services::folder()?;
        rig.env("TMPDIR", home.path()).env("AMENDS_TEST_POSTGRES_BIN", &machine.postgres.folder);
        return supervise(rig, None, stop);
    }
    let services = match command {
        "stack" => Services::start_as_up(&machine, stop)?,
        _ => Services::start(&machine, stop)?,
    };
    rig.envs(services.environment()).env("TMPDIR", services.scratch()?);
    supervise(rig, Some(&services), stop)
}

/// As `test` builds everything, so that after it nothing is compiled twice.
const BUILD: &[&str] = &["build", "--workspace", "--tests", "--bin", "amends", "--bin", "rig"];
/// As people run them: for long runs, which are worth the wait for the compiler.
const BUILD_RELEASE: &[&str] =
    &["build", "--release", "-p", "amends", "-p", "e2e", "--bin", "amends", "--bin", "rig"];
/// Exactly what people run, without what tests can switch on in it: what is measured.
const BUILD_PLAIN: &[&str] = &["build", "--release", "-p", "amends", "--bin", "amends"];
/// What starts that; how fast it is itself matters to nobody.
const BUILD_RIG: &[&str] = &["build", "-p", "e2e", "--bin", "rig"];

/// The program whose processes are started.
#[derive(Debug, PartialEq, Eq)]
enum Amends {
    /// Of the profile whose folder that is.
    Built(&'static str),
    /// What is there already; nothing of it is built.
    Named(PathBuf),
}

/// How to build, the folder of the rig, and what the rig itself is told: `--release` and `--amends` are for us.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    builds: Vec<&'static [&'static str]>,
    amends: Amends,
    rig: &'static str,
    rest: Vec<String>,
}

fn told(command: &str, arguments: &[String]) -> Result<Told> {
    let mut rest: Vec<String> = arguments.iter().filter(|word| *word != "--release").cloned().collect();
    let is_release = rest.len() < arguments.len();
    if command != "stack" {
        return Ok(match is_release {
            false => Told { builds: vec![BUILD], amends: Amends::Built("debug"), rig: "debug", rest },
            true => {
                Told { builds: vec![BUILD_RELEASE], amends: Amends::Built("release"), rig: "release", rest }
            }
        });
    }
    if let Some(at) = rest.iter().position(|word| word == "--amends") {
        ensure!(at + 1 < rest.len(), "--amends: which program?");
        let file = PathBuf::from(rest.drain(at..at + 2).nth(1).unwrap_or_default());
        let file = file.canonicalize().with_context(|| format!("--amends: {}", file.display()))?;
        return Ok(Told { builds: vec![BUILD_RIG], amends: Amends::Named(file), rig: "debug", rest });
    }
    let (builds, profile) = match is_release {
        false => (vec![BUILD], "debug"),
        true => (vec![BUILD_PLAIN, BUILD_RIG], "release"),
    };
    Ok(Told { builds, amends: Amends::Built(profile), rig: "debug", rest })
}

/// Waits for its end; passes a signal on to it alone, and after its grace ends what is left of its group.
fn supervise(mut rig: Command, services: Option<&Services>, stop: &Stop) -> Result<ExitCode> {
    let mut child = rig.process_group(0).spawn().context("cannot start the program that was just built")?;
    let group = Pid::from_child(&child);
    let mut asked_at: Option<Instant> = None;
    let mut outcome = Ok(());
    while !has_ended(group) && asked_at.is_none_or(|since| since.elapsed() < GRACE) {
        if asked_at.is_none() {
            outcome = services.map_or(Ok(()), Services::check);
            if stop.asked() || outcome.is_err() {
                let _ = kill_process(group, Signal::TERM);
                asked_at = Some(Instant::now());
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = kill_process_group(group, Signal::KILL);
    let status = child.wait().context("cannot wait for it")?;
    outcome?;
    if asked_at.is_some() {
        eprintln!("stopped");
    }
    Ok(cargo::exit_code(status))
}

/// `cargo xtask trace`: reads what a stack's file collector wrote.
pub(crate) fn trace(arguments: &[String]) -> Result<ExitCode> {
    let stop = Stop::listen()?;
    let status = cargo::run(cargo::command(&["build", "-p", "e2e", "--bin", "rig"]), &stop)?;
    if !status.success() {
        return Ok(cargo::exit_code(status));
    }
    let mut rig = Command::new(cargo::amends_binary()?.with_file_name("rig"));
    rig.arg("trace").args(arguments).current_dir(cargo::workspace_root());
    Err(rig.exec()).context("cannot start the program that was just built")
}

/// `cargo xtask demo`: becomes `amends demo`, which asks a running server.
pub(crate) fn demo(arguments: &[String]) -> Result<ExitCode> {
    let stop = Stop::listen()?;
    let status = cargo::run(cargo::command(&["build", "-p", "amends"]), &stop)?;
    if !status.success() {
        return Ok(cargo::exit_code(status));
    }
    let mut amends = Command::new(cargo::amends_binary()?);
    amends.arg("demo").args(arguments).current_dir(cargo::workspace_root());
    let file = cargo::workspace_root().join(".amends").join("stack.env");
    if let Ok(text) = std::fs::read_to_string(&file) {
        amends.envs(exports(&text));
    }
    Err(amends.exec()).context("cannot start the program that was just built")
}

/// The variables of a file of `export NAME='value'` lines.
fn exports(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Amends, BUILD, BUILD_PLAIN, BUILD_RELEASE, BUILD_RIG, Told, exports, told};

    #[test]
    fn release_is_for_the_build_and_the_rest_for_the_program() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let told = |command, line| told(command, &words(line)).unwrap();
        let built = |builds, profile, rig, rest| Told {
            builds,
            amends: Amends::Built(profile),
            rig,
            rest: words(rest),
        };
        let soak = built(vec![BUILD_RELEASE], "release", "release", "--minutes 2");
        assert_eq!(told("soak", "--minutes 2 --release"), soak);
        let stack = built(vec![BUILD_PLAIN, BUILD_RIG], "release", "debug", "--measured");
        assert_eq!(told("stack", "--release --measured"), stack);
        assert_eq!(told("stack", "--minutes 2"), built(vec![BUILD], "debug", "debug", "--minutes 2"));
    }

    #[test]
    fn a_program_that_is_named_is_not_built() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let there = std::env::current_exe().unwrap().canonicalize().unwrap();
        let named = told("stack", &words(&format!("--measured --amends {} --no-demo", there.display())));
        let expected = Told {
            builds: vec![BUILD_RIG],
            amends: Amends::Named(there),
            rig: "debug",
            rest: words("--measured --no-demo"),
        };
        assert_eq!(named.unwrap(), expected);
        assert!(told("stack", &words("--amends")).unwrap_err().to_string().contains("which program"));
        assert!(told("stack", &words("--amends /nowhere/amends")).is_err());
    }

    #[test]
    fn what_a_stack_wrote_is_read() {
        let text = "export AMENDS_SERVER='http://127.0.0.1:50051'\n# no\nexport A='b=c'\n";
        let expected = [("AMENDS_SERVER", "http://127.0.0.1:50051"), ("A", "b=c")];
        assert_eq!(exports(text), expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }
}
