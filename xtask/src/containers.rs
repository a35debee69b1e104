//! Docker and compose, as programs: found, run, and asked what they made.
//!
//! Both compose 1.29 (`docker-compose`) and version 2 (`docker compose`) are spoken to in the words that they share.
//! Containers are found by the labels that compose gives them. Read next: `compose_test.rs`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::child;
use crate::machine;
use crate::stop::Stop;

/// How long docker may take to end after a signal.
const GRACE: Duration = Duration::from_secs(20);

const ADVICE: &str = "install docker.io and docker-compose (Debian, Ubuntu), or Docker Engine with its compose plugin \
    (https://docs.docker.com/engine/install/)";

/// The compose of this machine.
#[derive(Debug, Clone)]
pub(crate) struct Compose {
    words: Vec<String>,
}

impl Compose {
    /// `docker compose` if it is there, else `docker-compose`; a program that is named wins.
    pub(crate) fn find(named: Option<&str>) -> Result<Self> {
        if machine::on_path("docker").is_none() {
            bail!("docker is not on the PATH: {ADVICE}");
        }
        let reached = said(Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]));
        reached.context(
            "docker is installed, but its server does not answer: start it, or ask for the right to use it",
        )?;
        let words = match named {
            Some(program) => vec![program.to_owned()],
            None if said(Command::new("docker").args(["compose", "version"])).is_ok() => {
                vec!["docker".to_owned(), "compose".to_owned()]
            }
            None if machine::on_path("docker-compose").is_some() => vec!["docker-compose".to_owned()],
            None => bail!("docker has no compose: {ADVICE}"),
        };
        Ok(Self { words })
    }

    /// A command of compose; what it is told comes after.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]);
        command
    }

    /// What it calls itself.
    pub(crate) fn version(&self) -> Result<String> {
        let text = said(self.command().arg("version"))?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }
}

/// The containers of a compose project.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    pub(crate) name: String,
}

/// A container, as docker describes it.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) service: String,
    pub(crate) id: String,
    /// `running`, `exited`, …
    pub(crate) state: String,
    /// `healthy`, `unhealthy`, `starting`, or `none` where nobody looks.
    pub(crate) health: String,
    pub(crate) exit_code: i32,
}

impl Container {
    pub(crate) fn is_healthy(&self) -> bool {
        self.state == "running" && matches!(self.health.as_str(), "healthy" | "none")
    }

    /// A one-shot that did what it is for.
    pub(crate) fn is_done(&self) -> bool {
        self.state == "exited" && self.exit_code == 0
    }

    pub(crate) fn inspect(&self, format: &str) -> Result<String> {
        docker(["inspect", "--format", format, &self.id])
    }

    pub(crate) fn exec(&self, words: &[&str]) -> Result<String> {
        docker([&["exec", &self.id], words].concat())
    }

    pub(crate) fn last_words(&self) -> String {
        let output = Command::new("docker").args(["logs", "--tail", "30", &self.id]).output();
        output.map_or_else(
            |error| error.to_string(),
            |output| {
                String::from_utf8_lossy(&output.stdout).into_owned()
                    + &String::from_utf8_lossy(&output.stderr)
            },
        )
    }
}

impl Project {
    fn label(&self) -> String {
        format!("label=com.docker.compose.project={}", self.name)
    }

    /// All of them, ended ones too, without those that `compose run` makes.
    pub(crate) fn containers(&self) -> Result<Vec<Container>> {
        let once = "label=com.docker.compose.oneoff=False";
        let ids = docker(["ps", "--all", "--quiet", "--filter", &self.label(), "--filter", once])?;
        ids.lines().map(container).collect()
    }

    /// By service.
    pub(crate) fn by_service(&self) -> Result<BTreeMap<String, Container>> {
        Ok(self.containers()?.into_iter().map(|container| (container.service.clone(), container)).collect())
    }

    /// What is left of it: containers, volumes, networks.
    pub(crate) fn remains(&self) -> Result<String> {
        let label = self.label();
        let mut left = docker(["ps", "--all", "--quiet", "--filter", &label])?;
        left += &docker(["volume", "ls", "--quiet", "--filter", &label])?;
        left += &docker(["network", "ls", "--quiet", "--filter", &label])?;
        Ok(left.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

fn container(id: &str) -> Result<Container> {
    let format = "{{index .Config.Labels \"com.docker.compose.service\"}} {{.State.Status}} {{.State.ExitCode}} \
        {{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}";
    let text = docker(["inspect", "--format", format, id])?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let [service, state, exit_code, health] = words[..] else { bail!("docker described {id} as `{text}`") };
    Ok(Container {
        service: service.to_owned(),
        id: id.to_owned(),
        state: state.to_owned(),
        health: health.to_owned(),
        exit_code: exit_code.parse().context("an exit code is a number")?,
    })
}

/// What docker says to a question.
pub(crate) fn docker<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Result<String> {
    said(Command::new("docker").args(words))
}

fn said(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    // In a group of its own: a Ctrl-C must not make the answer a wrong one.
    let output = std::os::unix::process::CommandExt::process_group(command, 0).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {shown}"))?;
    if !output.status.success() {
        bail!("{shown} failed:\n{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs docker or compose to its end with what it says in `log`; the end of that is the error.
pub(crate) fn run_quietly(mut command: Command, log: &PathBuf, stop: &Stop) -> Result<()> {
    let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let errors = output.try_clone().context("cannot share a log file")?;
    let shown = shown(&command);
    command.stdout(output).stderr(errors);
    let status = child::run(command, stop, GRACE)?;
    if !status.success() {
        let text = fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        bail!("{shown} failed ({status}):\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
    }
    Ok(())
}

/// Runs docker or compose to its end, in sight.
pub(crate) fn run_in_sight(command: Command, stop: &Stop) -> Result<ExitStatus> {
    child::run(command, stop, GRACE)
}
