//! `cargo xtask compose-test`: `docker-compose.yml` brought up for real, used from outside, judged and torn down.
//!
//! It takes a project name and ports of its own, so it runs beside a stack that is in use, and leaves nothing behind,
//! whatever happens. The scenarios are in `e2e/src/bin/outside`. Read next: `compose_test/stack.rs`, `compose_test/checks.rs`.
#![expect(clippy::print_stderr, reason = "a tool for people: its progress goes to standard error")]

mod checks;
mod options;
mod stack;

use std::fs::Permissions;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cargo;
use crate::child;
use crate::containers::Compose;
use crate::image::Image;
use crate::stop::Stop;
use options::Options;
use stack::Stack;

const HELP: &str = "\
cargo xtask compose-test: docker-compose.yml brought up for real, used from outside, judged by the auditor, torn down

Usage: cargo xtask compose-test [-- options]

Options:
  --full             build the image as its users do, everything in a container; otherwise the program that cargo builds
                     here is put into the Dockerfile's base, if it runs there
  --image NAME       take an image that is there
  --compose PROGRAM  this compose, instead of `docker compose` or `docker-compose`
  --keep             leave the stack running at the end
  --only TEXT        only scenarios with this in their name
  -h, --help         this text
  anything else      goes to `docker build`, as in --build-arg PROFILE=dev --network=host";

/// How long a scenario may take to end after a signal.
const GRACE: Duration = Duration::from_secs(3);

/// How long the auditor is asked again: what has just ended may have a receipt on its way.
const AUDIT_PATIENCE: Duration = Duration::from_secs(90);

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    if arguments.iter().any(|word| word == "-h" || word == "--help") {
        eprintln!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::of(arguments)?;
    let stop = Stop::listen()?;
    let compose = Compose::find(options.compose.as_deref())?;
    eprintln!("{}", compose.version()?);
    let build = ["build", "-p", "amends", "-p", "e2e", "--bin", "amends", "--bin", "outside"];
    let status = cargo::run(cargo::command(&build), &stop)?;
    if !status.success() {
        return Ok(cargo::exit_code(status));
    }
    let folder = tempfile::Builder::new().prefix("amends-compose-").tempdir();
    let folder = folder.context("cannot make a temporary folder")?;
    // Read by a container's user, by way of a mount.
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).context("cannot open a folder")?;

    let begin = Instant::now();
    let tag = format!("test-{:08x}", drawn() & 0xffff_ffff);
    let image = image(&options, &tag, folder.path(), &stop)?;
    eprintln!("image {} is there after {:.0} s", image.name, begin.elapsed().as_secs_f64());
    // Dropped before its image.
    let mut stack = Stack::new(compose, &format!("amends-{tag}"), &image.name, folder.path())?;
    let outcome = try_out(&mut stack, &options, folder.path(), &stop);
    if let Err(error) = &outcome {
        if !stop.asked() {
            stack.explain();
        }
        eprintln!("\nxtask: {error:#}");
    }
    if options.keep {
        stack.keep();
    } else {
        stack.down()?;
    }
    Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn image(options: &Options, tag: &str, folder: &Path, stop: &Stop) -> Result<Image> {
    if let Some(name) = &options.image {
        return Image::given(name);
    }
    if !options.full
        && let Some(image) = Image::prebuilt(tag, &cargo::amends_binary()?, folder, &options.for_build, stop)?
    {
        return Ok(image);
    }
    Image::full(&options.for_build, stop)
}

fn try_out(stack: &mut Stack, options: &Options, folder: &Path, stop: &Stop) -> Result<()> {
    phase("up and healthy", || stack.up(stop))?;
    phase("nobody is root, only the documented ports are published, logs are rotated, UTC", || {
        checks::all(stack)
    })?;
    let acknowledged = folder.join("acknowledged.jsonl");
    phase("the scenarios, from outside", || outside(stack, options, &acknowledged, stop))?;
    phase("the auditor", || audit(stack, &acknowledged, stop))?;
    if !options.keep {
        phase("every service stops by itself when it is asked", || stack.stop(stop))?;
    }
    Ok(())
}

fn phase(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("\n== {name}");
    let begin = Instant::now();
    work().with_context(|| format!("{name}: no"))?;
    eprintln!("ok, {:.0} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Runs the scenarios against the published ports.
fn outside(stack: &Stack, options: &Options, acknowledged: &Path, stop: &Stop) -> Result<()> {
    let mut command = Command::new(cargo::amends_binary()?.with_file_name("outside"));
    for (flag, url) in stack.doors() {
        command.args([flag, &url]);
    }
    command.args(["--project", &stack.project.name]).arg("--acknowledged").arg(acknowledged);
    command.args(&options.only);
    let status = child::run(command, stop, GRACE)?;
    if !status.success() {
        bail!("a scenario failed");
    }
    Ok(())
}

/// `amends audit`, in a container beside the databases, until it finds nothing.
fn audit(stack: &Stack, acknowledged: &Path, stop: &Stop) -> Result<()> {
    let begin = Instant::now();
    loop {
        let mount = format!("{}:/acknowledged.jsonl:ro", acknowledged.display());
        let words = ["run", "--rm", "-T", "-v", &mount, "audit"];
        let flags = ["--quiescent", "--acknowledged", "/acknowledged.jsonl"];
        let verdict = stack.say("audit.log", &[&words[..], &flags[..]].concat(), stop);
        match verdict {
            Ok(()) => {
                let text = stack.log("audit.log");
                let report = text.lines().skip_while(|line| !line.contains("INVARIANT"));
                report.for_each(|line| eprintln!("{line}"));
                return Ok(());
            }
            Err(error) if stop.asked() || begin.elapsed() > AUDIT_PATIENCE => return Err(error),
            Err(_) => stop.pause(Duration::from_secs(1))?,
        }
    }
}

/// A number that nobody else has drawn.
pub(crate) fn drawn() -> u64 {
    RandomState::new().build_hasher().finish()
}
