//! A stack of our own: `cargo xtask stack`, started here, with two orchestrators.
//!
//! Its addresses go to a folder of ours, so that a stack that somebody else runs stays where he finds it. Read next:
//! `e2e/src/bin/rig/stack.rs`.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tokio::process::Command;

use crate::{
    plan::There,
    running::{Reach, Running, Said},
    subject,
};

/// Eight processes and three servers, one after another.
const GRACE: Duration = Duration::from_secs(120);
const NAME: &str = "the stack";

pub(crate) struct Stack {
    running: Running,
    _folder: tempfile::TempDir,
    /// Both orchestrators.
    pub(crate) both: There,
    fallen: Fallen,
}

/// What it said when one of its processes or servers ended by itself.
type Fallen = Arc<Mutex<Option<String>>>;

impl Stack {
    /// Starts it, with this program in all its processes. `say` hears what is built and installed meanwhile, unless all is
    /// there already.
    ///
    /// # Errors
    /// When it does not start, with what it said.
    pub(crate) async fn start(program: &Path, say: impl Fn(&str)) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("amends-bench-").tempdir()?;
        let addresses = folder.path().join("stack.env");
        let mut command = cargo();
        command.args(["xtask", "stack", "--amends"]).arg(std::path::absolute(program)?);
        command.args(["--measured", "--no-demo", "--orchestrators", "2", "--environment-file"]);
        command.arg(&addresses).arg("--traces").arg(folder.path().join("traces.jsonl"));
        let (running, said) = Running::start(command, NAME, GRACE, Reach::Group)?;
        let fallen = wait_until_ready(said, say).await?;
        let text = std::fs::read_to_string(&addresses).with_context(|| format!("{}", addresses.display()))?;
        Ok(Self { running, _folder: folder, both: there(&text)?, fallen })
    }

    /// The first orchestrator alone takes orders.
    pub(crate) fn one(&self) -> There {
        There { servers: self.both.servers.iter().take(1).cloned().collect(), ..self.both.clone() }
    }

    /// # Errors
    /// When something of it has ended by itself: what is started again in the middle of a run is no figure.
    pub(crate) fn ensure_whole(&self) -> anyhow::Result<()> {
        let fallen = self.fallen.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(fallen.is_none(), "the run is void: {}", fallen.as_deref().unwrap_or_default());
        Ok(())
    }

    /// # Errors
    /// When it does not end well.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.running.stop().await
    }
}

/// The cargo that runs us, in the workspace.
fn cargo() -> Command {
    #[expect(
        clippy::disallowed_methods,
        reason = "cargo tells what it runs which cargo it is, in this variable"
    )]
    let ourselves = std::env::var_os("CARGO");
    let mut command = Command::new(ourselves.unwrap_or_else(|| "cargo".into()));
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or(PathBuf::new(), PathBuf::from));
    // Of our own package: a build script that watches them would run again, and much would be compiled anew.
    let of_ours =
        |name: &str| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_ours)) {
        command.env_remove(name);
    }
    command
}

async fn wait_until_ready(mut said: Said, say: impl Fn(&str)) -> anyhow::Result<Fallen> {
    let mut lines = Vec::new();
    while let Some(line) = said.recv().await {
        if line.starts_with("ready; ") {
            return Ok(watched(said));
        }
        if is_work(&line) {
            say(&format!("  {line}"));
        }
        lines.push(line);
    }
    let end = lines.split_off(lines.len().saturating_sub(20));
    bail!("{NAME} does not start; --no-stack measures the rest; the last that was said:\n{}", end.join("\n"))
}

/// What takes its time.
fn is_work(line: &str) -> bool {
    ["Compiling ", "Downloading ", "installing ", "error"]
        .iter()
        .any(|work| line.trim_start().starts_with(work))
}

/// Passes on what goes wrong in it.
#[expect(clippy::disallowed_methods, clippy::print_stderr, reason = "it ends with the process that it hears")]
fn watched(mut said: Said) -> Fallen {
    let fallen = Fallen::default();
    let told = Arc::clone(&fallen);
    tokio::spawn(async move {
        let mut shown = 0;
        while let Some(line) = said.recv().await {
            let fell = has_fallen(&line);
            if fell {
                told.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| line.clone());
            }
            let is_bad = fell || ["WARN", "ERROR", "panicked"].iter().any(|bad| line.contains(bad));
            if is_bad && shown < 10 {
                shown += 1;
                eprintln!("{NAME}: {line}");
            }
        }
    });
    fallen
}

/// Whether it is told, not by one of its processes (`name | …`), that something ended by itself.
fn has_fallen(line: &str) -> bool {
    !line.contains("| ") && (line.contains("; starting it again") || line.contains("ended by itself"))
}

/// Where everything is, by what a stack writes down.
fn there(text: &str) -> anyhow::Result<There> {
    let variables: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
        .collect();
    let named = |wanted: &str| {
        let found = variables.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.clone()).with_context(|| format!("{NAME} names no {wanted}"))
    };
    Ok(There {
        servers: vec![named("AMENDS_SERVER")?, named("AMENDS_SERVER_2")?],
        services: [named("AMENDS_ORDER_URL")?, named("AMENDS_INVENTORY_URL")?, named("AMENDS_RISK_URL")?],
        postgres: named("AMENDS_ORCHESTRATOR_DATABASE_URL")?,
        books: variables.iter().filter(|(name, _)| subject::is_book(name)).cloned().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::{has_fallen, is_work, there};

    #[test]
    fn it_is_told_when_something_falls_and_what_takes_time() {
        assert!(has_fallen("payment ended (signal: 9 (SIGKILL)); starting it again"));
        assert!(has_fallen("xtask: RabbitMQ ended by itself; the end of its log:"));
        assert!(!has_fallen("payment       | WARN the simulator ended by itself"));
        assert!(!has_fallen("stopping"));
        assert!(is_work("   Compiling types v0.1.0") && is_work("installing rabbitmq-server"));
        assert!(!is_work("order         | ready grpc=127.0.0.1:1"));
    }

    #[test]
    fn a_stack_is_where_it_says() {
        let lines = [
            "export AMENDS_SERVER='http://127.0.0.1:1'",
            "export AMENDS_SERVER_2='http://127.0.0.1:2'",
            "export AMENDS_ORDER_URL='http://127.0.0.1:3'",
            "export AMENDS_INVENTORY_URL='http://127.0.0.1:4'",
            "export AMENDS_RISK_URL='http://127.0.0.1:5'",
            "export AMENDS_ORDER_DATABASE_URL='postgres://a'",
            "export AMENDS_ORCHESTRATOR_DATABASE_URL='postgres://b?c=d'",
        ];
        let place = there(&lines.join("\n")).unwrap();
        assert_eq!(place.servers, ["http://127.0.0.1:1", "http://127.0.0.1:2"]);
        assert_eq!(place.services[2], "http://127.0.0.1:5");
        assert_eq!(place.postgres, "postgres://b?c=d");
        assert_eq!(place.books.len(), 2);
        let error = there(&lines[..3].join("\n")).unwrap_err().to_string();
        assert!(error.contains("AMENDS_INVENTORY_URL"), "{error}");
    }
}
