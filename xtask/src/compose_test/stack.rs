//! The stack of one compose test: a project, ports and passwords of its own.
//!
//! The guard tears it down with its volumes, also on failure and on a signal. It must never touch another project.
#![expect(clippy::print_stderr, reason = "a tool for people: its progress goes to standard error")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::drawn;
use crate::cargo;
use crate::containers::{Compose, Container, Project, run_quietly};
use crate::port;
use crate::stop::Stop;

/// On two busy cores RabbitMQ alone takes half a minute.
const PATIENCE: Duration = Duration::from_secs(300);
/// A free port can be taken before docker binds it.
const ATTEMPTS: u32 = 3;

/// A published port: the scenarios' flag, the variable, the service and its port inside.
pub(super) struct Door {
    flag: &'static str,
    variable: &'static str,
    pub(super) service: &'static str,
    pub(super) inside: u16,
}

const fn door(flag: &'static str, variable: &'static str, service: &'static str, inside: u16) -> Door {
    Door { flag, variable, service, inside }
}

/// Every port that the README says is published.
pub(super) const DOORS: [Door; 8] = [
    door("--orchestrator", "AMENDS_ORCHESTRATOR_PORT", "orchestrator-1", 50_051),
    door("--orchestrator", "AMENDS_ORCHESTRATOR_2_PORT", "orchestrator-2", 50_051),
    door("--order", "AMENDS_ORDER_PORT", "order", 50_052),
    door("--inventory", "AMENDS_INVENTORY_PORT", "inventory", 50_053),
    door("--risk", "AMENDS_RISK_PORT", "risk", 50_054),
    door("--payment", "AMENDS_PAYMENT_PORT", "payment", 50_055),
    door("--ledger", "AMENDS_LEDGER_PORT", "ledger", 50_056),
    door("--notification", "AMENDS_NOTIFICATION_PORT", "notification", 50_057),
];

/// Every password of `docker-compose.yml`: each drawn, so that none can be written down anywhere.
const PASSWORDS: [&str; 13] = [
    "POSTGRES_PASSWORD",
    "AMENDS_OWNER_DATABASE_PASSWORD",
    "AMENDS_AUDITOR_DATABASE_PASSWORD",
    "AMENDS_ORCHESTRATOR_DATABASE_PASSWORD",
    "AMENDS_ORDER_DATABASE_PASSWORD",
    "AMENDS_INVENTORY_DATABASE_PASSWORD",
    "AMENDS_RISK_DATABASE_PASSWORD",
    "AMENDS_PAYMENT_DATABASE_PASSWORD",
    "AMENDS_SIMULATOR_DATABASE_PASSWORD",
    "AMENDS_LEDGER_DATABASE_PASSWORD",
    "AMENDS_NOTIFICATION_DATABASE_PASSWORD",
    "AMENDS_AMQP_PASSWORD",
    "AMENDS_REDIS_PASSWORD",
];

/// A provider that is slow for seconds, not minutes, and that a busy machine does not take for dead.
const SETTINGS: [(&str, &str); 7] = [
    ("AMENDS_PAYMENT_HORIZON", "10s"),
    ("AMENDS_PAYMENT_CALL_TIMEOUT", "3s"),
    ("AMENDS_PAYMENT_LOOK", "300ms"),
    ("AMENDS_PAYMENT_SENDS", "10"),
    ("AMENDS_SIMULATOR_SLOW", "3s"),
    ("AMENDS_ANSWER_AFTER", "5s"),
    ("AMENDS_RISK_REVIEW_DEADLINE", "20s"),
];

pub(super) struct Stack {
    pub(super) project: Project,
    compose: Compose,
    folder: PathBuf,
    image: String,
    ports: [u16; DOORS.len()],
    passwords: Vec<(&'static str, String)>,
    is_up: bool,
}

impl Stack {
    pub(super) fn new(compose: Compose, name: &str, image: &str, folder: &Path) -> Result<Self> {
        // The file `.env` of whoever works here is not this stack's.
        fs::write(folder.join("empty.env"), "").context("cannot write to a temporary folder")?;
        Ok(Self {
            project: Project { name: name.to_owned() },
            compose,
            folder: folder.to_owned(),
            image: image.to_owned(),
            ports: port::free()?,
            passwords: PASSWORDS.map(|name| (name, format!("{:016x}", drawn()))).into(),
            is_up: false,
        })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.compose.command();
        // Nor are the variables of a shell.
        for (name, _) in std::env::vars_os() {
            let is_setting = ["AMENDS_", "OTEL_", "COMPOSE_"]
                .iter()
                .any(|start| name.to_string_lossy().starts_with(start));
            if is_setting {
                command.env_remove(name);
            }
        }
        command.env("AMENDS_IMAGE", &self.image).envs(SETTINGS);
        command.envs(self.passwords.iter().map(|(name, password)| (name, password)));
        for (door, port) in DOORS.iter().zip(self.ports) {
            command.env(door.variable, port.to_string());
        }
        let root = cargo::workspace_root();
        command.current_dir(&root).arg("-f").arg(root.join("docker-compose.yml"));
        command.arg("--env-file").arg(self.folder.join("empty.env"));
        command.args(["-p", &self.project.name]).args(words);
        command
    }

    /// Runs compose to its end; what it says goes to a file of the test's folder.
    pub(super) fn say(&self, log: &str, words: &[&str], stop: &Stop) -> Result<()> {
        run_quietly(self.command(words), &self.folder.join(log), stop)
    }

    pub(super) fn log(&self, log: &str) -> String {
        fs::read_to_string(self.folder.join(log)).unwrap_or_default()
    }

    /// Where the services are, seen from outside.
    pub(super) fn doors(&self) -> impl Iterator<Item = (&'static str, String)> {
        DOORS.iter().zip(self.ports).map(|(door, port)| (door.flag, format!("http://127.0.0.1:{port}")))
    }

    /// What should be published: service, port inside, address outside.
    pub(super) fn published(&self) -> Vec<(String, String)> {
        let doors = DOORS.iter().zip(self.ports);
        doors
            .map(|(door, port)| (door.service.to_owned(), format!("{}/tcp 127.0.0.1:{port}", door.inside)))
            .collect()
    }

    pub(super) fn up(&mut self, stop: &Stop) -> Result<()> {
        self.is_up = true;
        let mut attempt = 1;
        while let Err(error) = self.say("up.log", &["up", "-d", "--no-build"], stop) {
            let text = self.log("up.log");
            let clashed = text.contains("already allocated") || text.contains("already in use");
            if !clashed || attempt == ATTEMPTS || stop.asked() {
                return Err(error);
            }
            eprintln!("again, on other ports");
            self.down()?;
            self.ports = port::free()?;
            self.is_up = true;
            attempt += 1;
        }
        self.wait(stop)
    }

    /// Waits until every service is healthy, and says for whom.
    fn wait(&self, stop: &Stop) -> Result<()> {
        let begin = Instant::now();
        let mut said = String::new();
        loop {
            let containers = self.project.containers()?;
            let ended: Vec<_> =
                containers.iter().filter(|c| c.state == "exited" && !c.is_done()).map(name).collect();
            if !ended.is_empty() {
                bail!("ended before it was healthy: {}", ended.join(", "));
            }
            let waiting: Vec<_> =
                containers.iter().filter(|c| !c.is_healthy() && !c.is_done()).map(name).collect();
            if waiting.is_empty() {
                eprintln!("{} containers, all as they should be", containers.len());
                return Ok(());
            }
            let waiting = waiting.join(", ");
            if begin.elapsed() > PATIENCE {
                bail!("not healthy after {PATIENCE:?}: {waiting}");
            }
            if waiting != said {
                eprintln!("{:>4.0} s  waiting for {waiting}", begin.elapsed().as_secs_f64());
                said = waiting;
            }
            stop.pause(Duration::from_millis(500))?;
        }
    }

    /// Asks everything to stop, and looks whether the services did so by themselves.
    pub(super) fn stop(&self, stop: &Stop) -> Result<()> {
        self.say("stop.log", &["stop"], stop)?;
        let ours = |container: &Container| DOORS.iter().any(|door| door.service == container.service);
        let containers = self.project.containers()?;
        let bad: Vec<_> = containers.iter().filter(|c| ours(c) && !c.is_done()).map(name).collect();
        if !bad.is_empty() {
            bail!("killed, or ended with an error: {}", bad.join(", "));
        }
        Ok(())
    }

    /// What helps to find out: the last words of whoever is not well; of everybody, if all seem so.
    pub(super) fn explain(&self) {
        let Ok(containers) = self.project.containers() else { return };
        let (well, ill): (Vec<_>, Vec<_>) =
            containers.into_iter().partition(|c| c.is_healthy() || c.is_done());
        for container in if ill.is_empty() { well } else { ill } {
            let Container { service, state, health, exit_code, .. } = &container;
            eprintln!("\n-- {service}: {state}, {health}, exit code {exit_code}; the end of its log:");
            eprintln!("{}", container.last_words().trim_end());
        }
    }

    /// Leaves it running.
    pub(super) fn keep(&mut self) {
        self.is_up = false;
        eprintln!("\nthe stack is left running:");
        for (door, port) in DOORS.iter().zip(self.ports) {
            eprintln!("  {:<15} 127.0.0.1:{port}", door.service);
        }
        eprintln!(
            "to remove it: docker-compose (or docker compose) -p {} down -v (the image {} stays)",
            self.project.name, self.image
        );
    }

    /// Removes it with its volumes. Another signal does not stop this.
    pub(super) fn down(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_up) {
            return Ok(());
        }
        let words = ["down", "-v", "--remove-orphans", "--timeout", "20"];
        run_quietly(self.command(&words), &self.folder.join("down.log"), &Stop::never())?;
        let remains = self.project.remains()?;
        if !remains.is_empty() {
            bail!("left behind by {}: {remains}", self.project.name);
        }
        eprintln!("\n{} is gone, with its volumes", self.project.name);
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Err(error) = self.down() {
            eprintln!("xtask: {error:#}");
        }
    }
}

fn name(container: &Container) -> &str {
    &container.service
}
